//! Selection by rank: the k largest values of a row. A row with fewer than k comparable (non-NaN) values is reported by
//! the length of its result.

use super::{Candidates, PrefilteredRow, with_prefetch};
use crate::kernels::{Isa, PerThread};
use crate::matrix::{Latents, Panels};
use rayon::prelude::*;

/// The selection of the `k` largest values of a row.
#[derive(Clone, Copy, Debug)]
pub struct TopK {
    /// The instruction set.
    pub isa: Isa,
    /// The number of values.
    pub k: usize,
}

impl TopK {
    /// Selects from a row that comes in pieces `(first index, values)`: indices ascending into `index`, values into
    /// `value`. Returns their number, fewer than `k` only if the row has NaN or -∞.
    ///
    /// Values stream past a threshold that rejects most with one comparison: first a guess, then the k-th largest seen
    /// so far. Survivors, always by ascending index, are cut back to k when their buffer is full. If the guess left
    /// fewer than k, the row is looked at again without it.
    pub fn of_row<'a, P: Iterator<Item = (usize, &'a [f32])> + Clone>(
        self,
        pieces: impl Fn() -> P,
        scratch: &mut Candidates,
        index: &mut [u32],
        value: &mut [f32],
    ) -> usize {
        scratch.prepare(buffer_len(self.k));
        let guess = scratch.guess;
        let mut len = self.collect(pieces(), guess, scratch);
        if len < self.k && guess > f32::NEG_INFINITY {
            len = self.collect(pieces(), f32::NEG_INFINITY, scratch);
        }
        let len = self.copy_largest(scratch, len, index, value);
        let least = value[..len].iter().fold(f32::INFINITY, |m, &v| m.min(v));
        scratch.guess = if len == self.k && least > 0.0 { 0.8 * least } else { f32::NEG_INFINITY };
        len
    }

    /// [`TopK::of_row`] of the entries that a prefilter found, once their values are exact.
    pub fn of_prefiltered(
        self,
        row: PrefilteredRow,
        scratch: &mut Candidates,
        index: &mut [u32],
        value: &mut [f32],
    ) -> usize {
        let len = row.copy(scratch);
        self.copy_largest(scratch, len, index, value)
    }

    /// Leaves the values above the threshold, or at least the k largest of them, in the scratch; returns their number.
    fn collect<'a>(
        self,
        pieces: impl Iterator<Item = (usize, &'a [f32])> + Clone,
        mut threshold: f32,
        scratch: &mut Candidates,
    ) -> usize {
        let most = buffer_len(self.k);
        let mut len = 0;
        for (first, values) in with_prefetch(pieces) {
            for (i, part) in values.chunks(Panels::WIDTH).enumerate() {
                let base = (first + i * Panels::WIDTH) as u32;
                len = self.isa.append_above(part, base, threshold, &mut scratch.index, &mut scratch.value, len);
                if len > most {
                    // Among equals the lower index stays, and it came first.
                    threshold = threshold.max(self.cut(scratch, len));
                    len = self.k;
                }
            }
        }
        len
    }

    /// Copies the `k` largest of the first `len` candidates; returns their number.
    fn copy_largest(self, scratch: &mut Candidates, mut len: usize, index: &mut [u32], value: &mut [f32]) -> usize {
        if len > self.k {
            self.cut(scratch, len);
            len = self.k;
        }
        index[..len].copy_from_slice(&scratch.index[..len]);
        value[..len].copy_from_slice(&scratch.value[..len]);
        len
    }

    /// Keeps the `k` largest of the first `len` candidates, in their order; returns the smallest value kept.
    fn cut(self, scratch: &mut Candidates, len: usize) -> f32 {
        let (index, value) = (&mut scratch.index[..len], &mut scratch.value[..len]);
        let least = self.isa.kth_largest(value, self.k);
        // Among those that equal it the first ones stay.
        let mut ties = self.k - value.iter().filter(|&&v| v > least).count();
        let mut kept = 0;
        for j in 0..len {
            let (i, v) = (index[j], value[j]);
            let tie = v == least && ties > 0;
            (index[kept], value[kept]) = (i, v);
            ties -= usize::from(tie);
            kept += usize::from(v > least || tie);
        }
        least
    }
}

/// Number of candidates that are collected before they are cut back to k.
pub(crate) fn buffer_len(k: usize) -> usize {
    4 * k + 256
}

/// Selects the latents of every row by `top_k(row, scratch, index, value)`, which returns how many of the k largest
/// there are. With `relu_after` those ≤ 0 are dropped. Returns the number of a row that has fewer than `k` comparable
/// values, the lowest one, if any: its pre-activations are not finite.
///
/// # Shapes
/// `latents [B, H]`, at most `k` a row.
pub fn select(
    k: usize,
    relu_after: bool,
    rows: usize,
    scratch: &PerThread<Candidates>,
    latents: &mut Latents,
    top_k: impl Fn(usize, &mut Candidates, &mut [u32], &mut [f32]) -> usize + Sync,
) -> Option<usize> {
    latents.resize(rows, k);
    let (len, index, value, capacity) = latents.parts_mut();
    len.par_iter_mut()
        .zip(index.par_chunks_mut(capacity))
        .zip(value.par_chunks_mut(capacity))
        .enumerate()
        .map(|(b, ((len, index), value))| {
            let mut candidates = scratch.lock();
            let n = top_k(b, &mut candidates, index, value);
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
        let n = TopK { isa, k }.of_row(|| [(0, row)].into_iter(), &mut Candidates::default(), &mut i, &mut v);
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

    /// The guess from one row does not affect the next, in any order.
    #[test]
    fn rows_do_not_depend_on_those_before() {
        let mut s = Stream::new(9, "test", &[]);
        for isa in Isa::available() {
            let (mut scratch, k) = (Candidates::default(), 20);
            let (mut i, mut v) = (vec![0; k], vec![0.0; k]);
            for r in 0..200 {
                let (size, shift) = ([1.0, 1e3, 1e-3, 0.0][r % 4], [0.0, -5.0, 5.0][r % 3]);
                let row: Vec<f32> = (0..300).map(|_| (s.normal() * size + shift).round() as f32).collect();
                let n = TopK { isa, k }.of_row(|| [(0, &row[..])].into_iter(), &mut scratch, &mut i, &mut v);
                let got: Vec<(u32, f32)> = i[..n].iter().copied().zip(v[..n].iter().copied()).collect();
                assert_eq!(got, naive(k, &row), "row {r}");
            }
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
