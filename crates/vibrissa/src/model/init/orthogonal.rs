//! Orthonormal rows in place, by block Gram–Schmidt; a projection that takes half of a row or more is done twice
//! (Giraud et al. 2005: twice is enough). Of a Gaussian matrix this gives a uniformly random orthonormal basis: it is the Q of a QR decomposition
//! whose R has a positive diagonal (Mezzadri 2006, arXiv math-ph/0609050). Sums run in one order whatever the threads.

use crate::kernels::{Isa, spill_len};
use crate::matrix::{Mat, Panels};
use crate::optim::normalise;
use rayon::prelude::*;

/// Rows made orthonormal together.
const BLOCK: usize = Panels::WIDTH;
/// Columns of a tile: with `BLOCK` rows of it the L1 cache is full.
const COLUMNS: usize = 256;

/// Makes the rows of `x [n, D]`, `n ≤ D`, orthonormal, each keeping what is new in it. Needs memory for a few blocks.
pub fn orthonormalise(x: &mut Mat) {
    let (n, dim) = (x.rows(), x.cols());
    let mut work = Work::default();
    for first in (0..n).step_by(BLOCK) {
        let m = BLOCK.min(n - first);
        let (done, rest) = x.data_mut().split_at_mut(first * dim);
        let block = &mut rest[..m * dim];
        let before = squares(block, dim);
        work.remove(done, block, dim);
        let cancelled = before.iter().zip(squares(block, dim)).any(|(b, a)| a < 0.5 * b);
        within(block, dim);
        if cancelled {
            work.remove(done, block, dim);
        }
        within(block, dim);
    }
}

fn squares(block: &[f32], dim: usize) -> Vec<f32> {
    block.chunks_exact(dim).map(|row| Isa::current().dot(row, row)).collect()
}

/// Gram–Schmidt among the rows of one block.
fn within(block: &mut [f32], dim: usize) {
    let isa = Isa::current();
    let index: Vec<u32> = (0..BLOCK as u32).collect();
    let mut coef = [0.0; BLOCK];
    for i in 0..block.len() / dim {
        let (before, row) = block.split_at_mut(i * dim);
        let (row, index, coef) = (&mut row[..dim], &index[..i], &mut coef[..i]);
        isa.gather_dots(row, index, before, coef);
        coef.iter_mut().for_each(|c| *c = -*c);
        isa.add_rows(row, coef, index, before);
        normalise(isa, row);
    }
}

#[derive(Default)]
struct Work {
    /// Minus the coordinates of the block along the rows before it, a panel of these after the other `[m, width]`.
    coords: Vec<f32>,
    /// The block, tile by tile `[m, COLUMNS]`.
    tiles: Vec<f32>,
}

impl Work {
    /// `block -= (block · doneᵀ) done`.
    fn remove(&mut self, done: &[f32], block: &mut [f32], dim: usize) {
        let isa = Isa::current();
        let (m, zeros) = (block.len() / dim, [0.0; BLOCK]);
        self.coords.resize(done.len() / dim * m, 0.0);
        let x = &*block;
        self.coords.par_chunks_mut(m * BLOCK).zip(done.par_chunks(BLOCK * dim)).for_each_init(
            || vec![0.0; spill_len(m, dim)],
            |spill, (out, w)| {
                isa.dots(x, w, &zeros[..w.len() / dim], dim, out, spill);
                out.iter_mut().for_each(|c| *c = -*c);
            },
        );
        self.tiles.resize(dim.div_ceil(COLUMNS) * m * COLUMNS, 0.0);
        let coords = &self.coords;
        self.tiles.par_chunks_mut(m * COLUMNS).enumerate().for_each(|(t, tile)| {
            let from = t * COLUMNS;
            let width = COLUMNS.min(dim - from);
            for (own, row) in tile.chunks_exact_mut(width).zip(x.chunks_exact(dim)) {
                own.copy_from_slice(&row[from..][..width]);
            }
            let (mut panel, index) = ([0.0; BLOCK * COLUMNS], std::array::from_fn::<u32, BLOCK, _>(|i| i as u32));
            for (rows, coords) in done.chunks(BLOCK * dim).zip(coords.chunks(m * BLOCK)) {
                let n = rows.len() / dim;
                for (own, row) in panel.chunks_exact_mut(width).zip(rows.chunks_exact(dim)) {
                    own.copy_from_slice(&row[from..][..width]);
                }
                isa.add_combinations(&mut tile[..m * width], coords, &index[..n], &panel[..n * width], width);
            }
        });
        let tiles = &self.tiles;
        block.par_chunks_mut(dim).enumerate().for_each(|(i, row)| {
            for (own, tile) in row.chunks_mut(COLUMNS).zip(tiles.chunks_exact(m * COLUMNS)) {
                let width = own.len();
                own.copy_from_slice(&tile[i * width..][..width]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn rows_become_orthonormal_and_keep_what_is_new_in_them() {
        for (n, dim) in [(1, 1), (3, 7), (48, 48), (50, 50), (130, 300), (97, 1025)] {
            let mut s = Stream::new(1, "test", &[]);
            let before = Mat::from_vec(n, dim, (0..n * dim).map(|_| s.normal() as f32).collect());
            let mut x = before.clone();
            orthonormalise(&mut x);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
            for i in 0..n {
                for j in 0..=i {
                    let want = f64::from(u8::from(i == j));
                    assert!((dot(x.row(i), x.row(j)) - want).abs() < 3e-6, "{n}×{dim}: rows {i}, {j}");
                    // R = X Qᵀ is lower triangular here, with a positive diagonal: later rows have no part in a row.
                    assert!(i == j || dot(before.row(j), x.row(i)).abs() < 1e-3, "{n}×{dim}: row {j} needs row {i}");
                }
                assert!(dot(before.row(i), x.row(i)) > 0.0, "{n}×{dim}: the sign of row {i}");
            }
        }
    }
}
