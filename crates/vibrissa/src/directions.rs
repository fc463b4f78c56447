//! Decoder directions compared: nearest directions, largest cosines, and a one-to-one matching.

use crate::kernels::{Isa, dots_scratch_len};
use crate::matrix::{Mat, MatRef, Panels};
use crate::model::Sae;
use lapjv::{Matrix, lapjv};
use rayon::prelude::*;

/// Unit decoder directions of some latents.
#[derive(Clone, Debug)]
pub struct UnitDirections {
    /// Numbers of the latents, ascending.
    pub latents: Vec<u32>,
    /// Their decoder rows brought to unit length `[n, D]`; rows of zeros stay zero.
    pub rows: Mat,
}

/// Directions of the latents that are active in some row; `count` are the rows of each latent.
pub fn active_directions(sae: &Sae, count: &[u64]) -> UnitDirections {
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
    UnitDirections { latents, rows }
}

/// Rows of `a` in a block.
const ROWS: usize = 64;

/// Computes the products of all rows of `a` and `b`, block by block of rows of `a`. Each block starts as `begin(its
/// first row)` and `see(block, i, j, a_i · b_j)` changes it. Returns the blocks in order.
pub fn for_all_products<T: Send>(
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
            || (vec![0.0f32; dots_scratch_len(ROWS, dim)], vec![0.0f32; ROWS * Panels::WIDTH]),
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

/// For each row of `a`, the row of `b` with the largest product, and the product; `None` without rows of `b`.
pub fn nearest_directions(a: MatRef, b: MatRef) -> Vec<Option<(u32, f32)>> {
    let blocks = for_all_products(
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

/// The `n` pairs of rows `i < j` with the largest product, the largest first.
pub fn largest_cosines(a: MatRef, n: usize) -> Vec<(u32, u32, f32)> {
    let keep = |list: &mut Vec<(u32, u32, f32)>| {
        list.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
        list.truncate(n);
    };
    let blocks = for_all_products(
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

/// Most rows that [`match_one_to_one`] takes: its time grows with their cube.
pub const MAX_MATCHED: usize = 4096;

/// For each row of `a`, its partner in `b` and their |product|, matched one to one so that the sum is largest (Jonker
/// and Volgenant 1987); where `a` is longer, some rows have no partner. `None` for more rows than [`MAX_MATCHED`].
pub fn match_one_to_one(a: MatRef, b: MatRef) -> Option<Vec<Option<(u32, f64)>>> {
    let n = a.rows().max(b.rows());
    if a.rows().min(b.rows()) == 0 {
        return Some(vec![None; a.rows()]);
    }
    if n > MAX_MATCHED {
        return None;
    }
    // Costs are whole multiples of 2⁻³⁰, so that the method's sums and differences are exact and it always ends.
    const UNIT: f64 = 1_073_741_824.0;
    let cost = |v: f32| ((1.0 - f64::from(v.abs()).min(1.0)) * UNIT).round() / UNIT;
    let mut costs = Matrix::<f64>::ones((n, n));
    let blocks = for_all_products(
        a,
        b,
        |first| vec![0.0f64; ROWS.min(a.rows() - first) * b.rows()],
        |own: &mut Vec<f64>, i, j, v| own[i % ROWS * b.rows() + j] = cost(v),
    );
    for (i, row) in blocks.iter().flat_map(|block| block.chunks_exact(b.rows())).enumerate() {
        row.iter().enumerate().for_each(|(j, &v)| costs[[i, j]] = v);
    }
    drop(blocks);
    let (of, _) = lapjv(&costs).ok()?;
    let partner = |i: usize| (of[i] < b.rows()).then(|| (of[i] as u32, 1.0 - costs[[i, of[i]]]));
    Some((0..a.rows()).map(partner).collect())
}

/// Mean |product| of the partners of [`match_one_to_one`] (MCC), over the rows of the shorter of the two; NaN without
/// rows, or with more than [`MAX_MATCHED`].
pub fn mean_matched_cosine(a: MatRef, b: MatRef) -> f64 {
    let least = a.rows().min(b.rows()) as f64;
    match_one_to_one(a, b).map_or(f64::NAN, |all| all.iter().flatten().map(|p| p.1).sum::<f64>() / least)
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
    fn nearest_directions_and_largest_cosines_equal_those_of_all_pairs() {
        let (a, b) = (noise(131, 20), noise(77, 20));
        let dot = |a: &[f32], b: &[f32]| crate::kernels::scalar::dot(a, b);
        for (i, got) in nearest_directions(a.view(), b.view()).iter().enumerate() {
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
        assert_eq!(largest_cosines(a.view(), 10), all[..10]);
    }

    #[test]
    fn the_matching_is_the_best_of_all_orders() {
        let (a, b) = (noise(5, 3), noise(6, 3));
        let unit = |m: Mat| {
            let rows = m.data().chunks(3).flat_map(|r| {
                let norm = r.iter().map(|v| v * v).sum::<f32>().sqrt();
                r.iter().map(move |v| v / norm).collect::<Vec<_>>()
            });
            Mat::from_vec(m.rows(), 3, rows.collect())
        };
        let (a, b) = (unit(a), unit(b));
        fn best(a: &Mat, b: &Mat, row: usize, free: &mut Vec<usize>) -> f64 {
            if row == a.rows() {
                return 0.0;
            }
            (0..free.len())
                .map(|f| {
                    let j = free.remove(f);
                    let own = f64::from(crate::kernels::scalar::dot(a.row(row), b.row(j)).abs());
                    let all = own + best(a, b, row + 1, free);
                    free.insert(f, j);
                    all
                })
                .fold(f64::NEG_INFINITY, f64::max)
        }
        let want = best(&a, &b, 0, &mut (0..6).collect()) / 5.0;
        assert!((mean_matched_cosine(a.view(), b.view()) - want).abs() < 1e-6);
        assert!((mean_matched_cosine(b.view(), a.view()) - want).abs() < 1e-6);
        assert!((mean_matched_cosine(a.view(), a.view()) - 1.0).abs() < 1e-6);
        assert!(mean_matched_cosine(a.view(), Mat::zeros(0, 3).view()).is_nan());
    }
}
