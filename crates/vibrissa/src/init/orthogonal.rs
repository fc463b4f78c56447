//! Orthonormal rows in place, by block Gram–Schmidt; a projection that takes half of a row or more is done twice
//! (Giraud et al. 2005: twice is enough). A Gaussian matrix becomes a uniformly random orthonormal basis: the Q of a QR
//! decomposition whose R has a positive diagonal (Mezzadri 2006, arXiv math-ph/0609050). The order of sums does not
//! depend on the threads.

use crate::kernels::{Isa, dots_scratch_len};
use crate::matrix::{Mat, Panels};
use crate::optim::normalise;
use rayon::prelude::*;

/// Rows made orthonormal together.
const BLOCK: usize = Panels::WIDTH;
/// Columns of a tile, a multiple of the kernels' width: `BLOCK` rows of it fill the L1 cache.
const COLUMNS: usize = 192;
/// Least share of a row's squared length that must be orthogonal to the rows before it for the Cholesky root to be
/// accurate.
const LEAST_NEW: f64 = 1e-2;

/// Makes the rows of `x [n, D]`, `n ≤ D`, orthonormal; each keeps the direction of its part that is orthogonal to those
/// before it. Needs memory for a few blocks.
pub fn orthonormalise(x: &mut Mat) {
    let (n, dim) = (x.rows(), x.cols());
    let mut scratch = Scratch::default();
    for first in (0..n).step_by(BLOCK) {
        let m = BLOCK.min(n - first);
        let (done, rest) = x.data_mut().split_at_mut(first * dim);
        let block = &mut rest[..m * dim];
        let before = squares(block, dim);
        scratch.project_out(done, block, dim);
        let cancelled = before.iter().zip(squares(block, dim)).any(|(b, a)| a < 0.5 * b);
        let similar = scratch.orthonormalise_block(block, dim);
        if cancelled || similar {
            scratch.project_out(done, block, dim);
        }
        scratch.orthonormalise_block(block, dim);
    }
}

fn squares(block: &[f32], dim: usize) -> Vec<f32> {
    block.chunks_exact(dim).map(|row| Isa::current().dot(row, row)).collect()
}

/// Gram–Schmidt among the rows of one block, one by one.
fn one_by_one(block: &mut [f32], dim: usize) {
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

/// Returns `L⁻¹` of the lower triangular L with `gram = L Lᵀ` `[m, m]`; `None` if a row is nearly a combination of
/// those before it.
fn inverse_of_root(gram: &[f32], m: usize) -> Option<Vec<f32>> {
    let (mut root, mut inverse) = (vec![0.0f64; m * m], vec![0.0f64; m * m]);
    for i in 0..m {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| root[i * m + k] * root[j * m + k]).sum();
            let left = f64::from(gram[i * m + j]) - sum;
            if i > j {
                root[i * m + j] = left / root[j * m + j];
            } else if left > LEAST_NEW * f64::from(gram[i * m + i]) {
                root[i * m + i] = left.sqrt();
            } else {
                return None;
            }
        }
    }
    for j in 0..m {
        inverse[j * m + j] = 1.0 / root[j * m + j];
        for i in j + 1..m {
            let sum: f64 = (j..i).map(|k| root[i * m + k] * inverse[k * m + j]).sum();
            inverse[i * m + j] = -sum / root[i * m + i];
        }
    }
    Some(inverse.into_iter().map(|v| v as f32).collect())
}

/// Scratch of the projections.
#[derive(Default)]
struct Scratch {
    /// Minus the coordinates of the block along the rows before it, panel by panel of these rows `[m, width]`.
    coords: Vec<f32>,
    /// The block, tile by tile of columns `[m, COLUMNS]`.
    tiles: Vec<f32>,
}

impl Scratch {
    /// `block -= (block · doneᵀ) done`.
    fn project_out(&mut self, done: &[f32], block: &mut [f32], dim: usize) {
        let (isa, index) = (Isa::current(), index());
        let m = block.len() / dim;
        let mut coords = std::mem::take(&mut self.coords);
        coords.resize(done.len() / dim * m, 0.0);
        products(block, done, BLOCK, dim, &mut coords);
        coords.iter_mut().for_each(|c| *c = -*c);
        self.by_tiles(block, dim, |from, width, tile| {
            let mut panel = [0.0; BLOCK * COLUMNS];
            for (rows, coords) in done.chunks(BLOCK * dim).zip(coords.chunks(m * BLOCK)) {
                let n = rows.len() / dim;
                for (out, row) in panel.chunks_exact_mut(width).zip(rows.chunks_exact(dim)) {
                    out.copy_from_slice(&row[from..][..width]);
                }
                isa.add_combinations(tile, coords, &index[..n], &panel[..n * width], width);
            }
        });
        self.coords = coords;
    }

    /// Gram–Schmidt among the rows of one block, all at once by the Cholesky root of their products (Stathopoulos & Wu
    /// 2002); its error is that of the products times the square of the block's condition, so a second pass has none.
    /// Returns true if rows were so similar that they were made orthonormal one by one: they may need a second
    /// projection.
    fn orthonormalise_block(&mut self, block: &mut [f32], dim: usize) -> bool {
        const TOGETHER: usize = 12;
        let (isa, index, m) = (Isa::current(), index(), block.len() / dim);
        let (mut parts, mut gram) = (vec![0.0; m * m], vec![0.0; m * m]);
        products(block, block, TOGETHER, dim, &mut parts);
        for (p, part) in parts.chunks(m * TOGETHER).enumerate() {
            let n = part.len() / m;
            for (i, row) in part.chunks_exact(n).enumerate() {
                gram[i * m + p * TOGETHER..][..n].copy_from_slice(row);
            }
        }
        let Some(coef) = inverse_of_root(&gram, m) else {
            one_by_one(block, dim);
            return true;
        };
        self.by_tiles(block, dim, |_, width, tile| {
            let mut before = [0.0; BLOCK * COLUMNS];
            let before = &mut before[..tile.len()];
            before.copy_from_slice(tile);
            tile.fill(0.0);
            isa.add_combinations(tile, &coef, &index[..m], before, width);
        });
        false
    }

    /// Changes the block `[m, D]` by tiles of its columns: `change(first column, columns, tile)`.
    fn by_tiles(&mut self, block: &mut [f32], dim: usize, change: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let m = block.len() / dim;
        self.tiles.resize(dim.div_ceil(COLUMNS) * m * COLUMNS, 0.0);
        let x = &*block;
        self.tiles.par_chunks_mut(m * COLUMNS).enumerate().for_each(|(t, tile)| {
            let from = t * COLUMNS;
            let width = COLUMNS.min(dim - from);
            for (out, row) in tile.chunks_exact_mut(width).zip(x.chunks_exact(dim)) {
                out.copy_from_slice(&row[from..][..width]);
            }
            change(from, width, &mut tile[..m * width]);
        });
        let tiles = &self.tiles;
        block.par_chunks_mut(dim).enumerate().for_each(|(i, row)| {
            for (out, tile) in row.chunks_mut(COLUMNS).zip(tiles.chunks_exact(m * COLUMNS)) {
                let width = out.len();
                out.copy_from_slice(&tile[i * width..][..width]);
            }
        });
    }
}

fn index() -> [u32; BLOCK] {
    std::array::from_fn(|i| i as u32)
}

/// Computes `x wᵀ` of `x [m, D]` and `w [n, D]`, in panels of `width` rows of w `[m, width]`, one after the other.
fn products(x: &[f32], w: &[f32], width: usize, dim: usize, out: &mut [f32]) {
    let (isa, m, zeros) = (Isa::current(), x.len() / dim, [0.0; BLOCK]);
    out.par_chunks_mut(m * width).zip(w.par_chunks(width * dim)).for_each_init(
        || vec![0.0; dots_scratch_len(m, dim)],
        |spill, (out, w)| isa.dots(x, w, &zeros[..w.len() / dim], dim, out, spill),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    fn assert_orthonormal(x: &Mat) {
        for i in 0..x.rows() {
            for j in 0..=i {
                let want = f64::from(u8::from(i == j));
                assert!((dot(x.row(i), x.row(j)) - want).abs() < 3e-6, "{}×{}: rows {i}, {j}", x.rows(), x.cols());
            }
        }
    }

    /// Rows that are hardly new beside those before them are taken one by one.
    #[test]
    fn rows_that_are_nearly_alike_become_orthonormal() {
        let (n, dim) = (60, 500);
        let mut s = Stream::new(2, "test", &[]);
        let mut x = Mat::from_vec(n, dim, (0..n * dim).map(|_| s.normal() as f32).collect());
        for i in (1..n).step_by(3) {
            let before = x.row(i - 1).to_vec();
            x.row_mut(i).iter_mut().zip(before).for_each(|(v, b)| *v = b + 0.003 * *v);
        }
        orthonormalise(&mut x);
        assert_orthonormal(&x);
    }

    #[test]
    fn rows_become_orthonormal_and_keep_what_is_new_in_them() {
        for (n, dim) in [(1, 1), (3, 7), (48, 48), (50, 50), (130, 300), (97, 1025)] {
            let mut s = Stream::new(1, "test", &[]);
            let before = Mat::from_vec(n, dim, (0..n * dim).map(|_| s.normal() as f32).collect());
            let mut x = before.clone();
            orthonormalise(&mut x);
            assert_orthonormal(&x);
            for i in 0..n {
                for j in 0..=i {
                    // R = X Qᵀ is lower triangular here, with a positive diagonal: later rows have no part in a row.
                    assert!(i == j || dot(before.row(j), x.row(i)).abs() < 1e-3, "{n}×{dim}: row {j} needs row {i}");
                }
                assert!(dot(before.row(i), x.row(i)) > 0.0, "{n}×{dim}: the sign of row {i}");
            }
        }
    }
}
