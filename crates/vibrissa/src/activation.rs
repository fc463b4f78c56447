//! What becomes of the pre-activations: forward, and what reaches them backward. No weights here.
//!
//! Ties: the lower index wins. A row with fewer than k comparable (non-NaN) values is reported by the length of its
//! result.

use crate::kernels::{Isa, LANES};
use crate::matrix::{Latents, Panels};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

/// Which pre-activations become latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The k largest of each row (Makhzani & Frey 2013, arXiv 1312.5663; Gao et al. 2024, arXiv 2406.04093).
    /// Backward: the gradient reaches the kept (and unclipped) entries.
    #[default]
    TopK,
}

/// Scratch of [`top_k`], one a thread.
#[derive(Debug, Default)]
pub struct Candidates {
    index: Vec<u32>,
    value: Vec<f32>,
    keys: Vec<u64>,
}

/// A key whose order is that of (value descending → larger key, then lower index → larger key).
#[inline]
fn key(value: f32, index: u32) -> u64 {
    let bits = (value + 0.0).to_bits(); // -0 and +0 tie
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    u64::from(ordered) << 32 | u64::from(!index)
}

#[inline]
fn unkey(key: u64) -> (u32, f32) {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & 0x7fff_ffff } else { !ordered };
    (!(key as u32), f32::from_bits(bits))
}

/// The `k` largest of a row that comes in pieces `(first index, values)`: indices ascending into `index`, values into
/// `value`; returns how many there are (fewer than `k` only where the row has NaN or -∞).
///
/// Values stream past a threshold, the k-th largest seen so far, that rejects most with one compare; the survivors are
/// cut back to k whenever their buffer is full.
pub fn top_k<'a>(
    isa: Isa,
    k: usize,
    pieces: impl Iterator<Item = (usize, &'a [f32])>,
    scratch: &mut Candidates,
    index: &mut [u32],
    value: &mut [f32],
) -> usize {
    let Candidates { index: ci, value: cv, keys } = scratch;
    let full = 2 * k + 64;
    let room = full + Panels::WIDTH + LANES;
    if ci.len() < room {
        ci.resize(room, 0);
        cv.resize(room, 0.0);
        keys.reserve(room);
    }
    let mut len = 0;
    let mut threshold = f32::NEG_INFINITY;
    for (first, values) in pieces {
        for (i, part) in values.chunks(Panels::WIDTH).enumerate() {
            len = isa.append_above(part, (first + i * Panels::WIDTH) as u32, threshold, ci, cv, len);
            if len > full {
                cut(k, ci, cv, keys, len);
                len = k;
                threshold = keys[..k].iter().min().map_or(threshold, |&least| unkey(least).1);
            }
        }
    }
    if len > k {
        cut(k, ci, cv, keys, len);
        len = k;
    }
    keys.clear();
    keys.extend((0..len).map(|j| u64::from(ci[j]) << 32 | u64::from(cv[j].to_bits())));
    keys.sort_unstable();
    for (j, &pair) in keys.iter().enumerate() {
        index[j] = (pair >> 32) as u32;
        value[j] = f32::from_bits(pair as u32);
    }
    len
}

/// Keeps the `k` best of the first `len` candidates, in any order.
fn cut(k: usize, index: &mut [u32], value: &mut [f32], keys: &mut Vec<u64>, len: usize) {
    keys.clear();
    keys.extend((0..len).map(|j| key(value[j], index[j])));
    keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
    for (j, &kept) in keys[..k].iter().enumerate() {
        (index[j], value[j]) = unkey(kept);
    }
}

/// Selects the `k` largest pre-activations of every row. With `relu_after` those ≤ 0 are dropped.
/// Returns the first row that has fewer than `k` comparable values, if any (its pre-activations are not finite).
///
/// # Shapes
/// `pre_acts [B, H]` → `latents [B, H]`, at most `k` a row.
pub fn select(
    isa: Isa,
    k: usize,
    relu_after: bool,
    pre_acts: &Panels,
    rows: usize,
    scratch: &[Mutex<Candidates>],
    latents: &mut Latents,
) -> Option<usize> {
    latents.resize(rows, k);
    let (len, index, value, capacity) = latents.parts_mut();
    len.par_iter_mut()
        .zip(index.par_chunks_mut(capacity))
        .zip(value.par_chunks_mut(capacity))
        .enumerate()
        .map(|(b, ((len, index), value))| {
            let mut own = scratch[rayon::current_thread_index().unwrap_or(0)].lock().expect("no panic while held");
            let n = top_k(isa, k, pre_acts.row(b), &mut own, index, value);
            let mut kept = n;
            if relu_after {
                kept = 0;
                for j in 0..n {
                    if value[j] > 0.0 {
                        (index[kept], value[kept]) = (index[j], value[j]);
                        kept += 1;
                    }
                }
            }
            *len = kept as u32;
            (n < k).then_some(b)
        })
        .reduce(|| None, |a, b| a.or(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// The definition: sort by value descending, then index ascending.
    fn naive(k: usize, row: &[f32]) -> Vec<(u32, f32)> {
        let mut all: Vec<(u32, f32)> = row.iter().enumerate().map(|(i, &v)| (i as u32, v)).collect();
        all.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no NaN here").then(a.0.cmp(&b.0)));
        all.truncate(k);
        all.sort_by_key(|p| p.0);
        all
    }

    fn run(isa: Isa, k: usize, row: &[f32]) -> Vec<(u32, f32)> {
        let (mut i, mut v) = (vec![0; k], vec![0.0; k]);
        let n = top_k(isa, k, [(0, row)].into_iter(), &mut Candidates::default(), &mut i, &mut v);
        i.into_iter().zip(v).take(n).collect()
    }

    #[test]
    fn top_k_equals_the_sort() {
        let mut s = Stream::new(3, "test", &[]);
        for isa in Isa::available() {
            for (n, k) in [(1, 1), (2, 1), (48, 48), (49, 5), (1000, 50), (3072, 128), (5000, 1)] {
                for levels in [3u64, 40, 1 << 40] {
                    let half = levels as f64 / 2.0;
                    let row: Vec<f32> = (0..n).map(|_| ((s.below(levels) as f64 - half) / half) as f32).collect();
                    assert_eq!(run(isa, k, &row), naive(k, &row), "{} n {n} k {k} levels {levels}", isa.name());
                }
            }
            let rising: Vec<f32> = (0..2000).map(|i| i as f32).collect();
            let falling: Vec<f32> = (0..2000).map(|i| -(i as f32)).collect();
            assert_eq!(run(isa, 9, &rising), naive(9, &rising));
            assert_eq!(run(isa, 9, &falling), naive(9, &falling));
        }
    }

    #[test]
    fn zeros_of_both_signs_tie_by_index() {
        for isa in Isa::available() {
            let got: Vec<u32> = run(isa, 2, &[-0.0, 0.0, -0.0, -1.0]).iter().map(|p| p.0).collect();
            assert_eq!(got, [0, 1]);
        }
    }

    #[test]
    fn nan_rows_are_reported() {
        for isa in Isa::available() {
            assert_eq!(run(isa, 3, &[f32::NAN, 1.0, f32::NAN, 2.0]).len(), 2);
        }
    }
}
