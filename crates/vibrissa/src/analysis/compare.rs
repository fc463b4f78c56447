//! Directions against directions: the best partner of each latent within a model or in another one.

use crate::kernels::{Isa, spill_len};
use crate::matrix::{Mat, MatRef, Panels};
use crate::model::Sae;
use rayon::prelude::*;

/// Directions of some latents.
#[derive(Clone, Debug)]
pub struct Directions {
    /// Numbers of the latents, ascending.
    pub latents: Vec<u32>,
    /// Their decoder rows brought to unit length `[n, D]`; zero rows stay zero.
    pub rows: Mat,
}

/// Directions of the latents that some row uses, by their counts: the others would only cost time.
pub fn live_directions(sae: &Sae, count: &[u64]) -> Directions {
    let all = sae.decoder_rows();
    let latents: Vec<u32> = (0..count.len() as u32).filter(|&h| count[h as usize] > 0).collect();
    let mut rows = Mat::zeros(latents.len(), all.cols());
    let isa = Isa::current();
    rows.data_mut().par_chunks_mut(all.cols()).zip(&latents).for_each(|(row, &h)| {
        row.copy_from_slice(all.row(h as usize));
        let norm = isa.dot(row, row).sqrt();
        if norm > 0.0 {
            isa.scale(row, 1.0 / norm);
        }
    });
    Directions { latents, rows }
}

/// Rows of `a` handled together.
const ROWS: usize = 64;

/// Calls `see(i, j, a_i · b_j)` for all pairs, block by block of rows of `a`, and gives what each block made, in order.
pub fn products<T: Send>(
    a: MatRef,
    b: MatRef,
    begin: impl Fn(usize) -> T + Sync,
    see: impl Fn(&mut T, usize, usize, f32) + Sync,
) -> Vec<T> {
    let (isa, dim) = (Isa::current(), a.cols());
    let zeros = [0.0f32; Panels::WIDTH];
    (0..a.rows().div_ceil(ROWS))
        .into_par_iter()
        .map_init(
            || (vec![0.0f32; spill_len(ROWS, dim)], vec![0.0f32; ROWS * Panels::WIDTH]),
            |(spill, tile), block| {
                let first = block * ROWS;
                let m = ROWS.min(a.rows() - first);
                let x = &a.data()[first * dim..][..m * dim];
                let mut own = begin(first);
                for panel in (0..b.rows()).step_by(Panels::WIDTH) {
                    let n = Panels::WIDTH.min(b.rows() - panel);
                    let tile = &mut tile[..m * n];
                    isa.dots(x, &b.data()[panel * dim..][..n * dim], &zeros[..n], dim, tile, spill);
                    for (i, row) in tile.chunks_exact(n).enumerate() {
                        row.iter().enumerate().for_each(|(j, &v)| see(&mut own, first + i, panel + j, v));
                    }
                }
                own
            },
        )
        .collect()
}

/// For each row of `a` its best partner among the rows of `b`: `(row, product)`; `None` without any.
pub fn best_partners(a: MatRef, b: MatRef) -> Vec<Option<(u32, f32)>> {
    let blocks = products(
        a,
        b,
        |first| vec![None; ROWS.min(a.rows() - first)],
        |own: &mut Vec<Option<(u32, f32)>>, i, j, v| {
            let best = &mut own[i % ROWS];
            if best.is_none_or(|(_, b)| v > b) {
                *best = Some((j as u32, v));
            }
        },
    );
    blocks.into_iter().flatten().collect()
}

/// The `n` pairs of rows `i < j` with the largest product, largest first.
pub fn most_alike(a: MatRef, n: usize) -> Vec<(u32, u32, f32)> {
    let keep = |list: &mut Vec<(u32, u32, f32)>| {
        list.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
        list.truncate(n);
    };
    let blocks = products(
        a,
        a,
        |_| Vec::new(),
        |own: &mut Vec<(u32, u32, f32)>, i, j, v| {
            if i < j && (own.len() < n || v > own[n - 1].2) {
                own.push((i as u32, j as u32, v));
                if own.len() >= 4 * n || own.len() == n {
                    keep(own);
                }
            }
        },
    );
    let mut all: Vec<_> = blocks.into_iter().flatten().collect();
    keep(&mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn noise(rows: usize, cols: usize) -> Mat {
        let mut s = Stream::new(4, "test", &[]);
        Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect())
    }

    #[test]
    fn partners_and_pairs_equal_all_pairs() {
        let (a, b) = (noise(131, 20), noise(77, 20));
        let dot = |a: &[f32], b: &[f32]| crate::kernels::scalar::dot(a, b);
        for (i, got) in best_partners(a.view(), b.view()).iter().enumerate() {
            let want = (0..77)
                .map(|j| (j, dot(a.row(i), b.row(j))))
                .fold(None, |best, (j, v)| if best.is_none_or(|(_, b)| v > b) { Some((j as u32, v)) } else { best });
            assert_eq!(*got, want);
        }
        let mut all: Vec<(u32, u32, f32)> = (0..131usize)
            .flat_map(|i| (i + 1..131).map(move |j| (i, j)))
            .map(|(i, j)| (i as u32, j as u32, dot(a.row(i), a.row(j))))
            .collect();
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        assert_eq!(most_alike(a.view(), 10), all[..10]);
    }
}
