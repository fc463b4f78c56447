//! Selection by threshold: all pre-activations above one.

use super::{Candidates, PrefilteredRow, with_prefetch};
use crate::kernels::{Isa, PerThread};
use crate::matrix::{Latents, Panels};
use rayon::prelude::*;

/// Values that pre-activations must exceed: `each[h] - margin`. One value serves all latents; none stands for 0.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds<'a> {
    /// `[H]`, `[1]` or empty.
    pub each: &'a [f32],
    /// Subtracted from all.
    pub margin: f32,
}

impl Thresholds<'_> {
    /// Returns the threshold of one latent.
    #[inline]
    pub fn at(&self, h: usize) -> f32 {
        match self.each {
            [] => -self.margin,
            [one] => one - self.margin,
            each => each[h] - self.margin,
        }
    }

    /// Returns the smallest threshold of latents `first .. first + n`.
    fn least(&self, first: usize, n: usize) -> f32 {
        match self.each {
            [] | [_] => self.at(0),
            each => each[first..first + n].iter().fold(f32::INFINITY, |m, &t| m.min(t)) - self.margin,
        }
    }
}

/// Leaves the values of a row that exceed their thresholds in the scratch, by ascending index; returns their number.
/// The row comes in pieces `(first index, values)`.
pub fn above<'a>(
    isa: Isa,
    thresholds: &Thresholds,
    pieces: impl Iterator<Item = (usize, &'a [f32])> + Clone,
    scratch: &mut Candidates,
) -> usize {
    let mut len = 0;
    for (first, values) in with_prefetch(pieces) {
        for (i, part) in values.chunks(Panels::WIDTH).enumerate() {
            scratch.prepare(len);
            let base = first + i * Panels::WIDTH;
            let least = thresholds.least(base, part.len());
            let end = isa.append_above(part, base as u32, least, &mut scratch.index, &mut scratch.value, len);
            if thresholds.each.len() > 1 {
                let mut kept = len;
                for j in len..end {
                    let (h, p) = (scratch.index[j], scratch.value[j]);
                    (scratch.index[kept], scratch.value[kept]) = (h, p);
                    kept += usize::from(p > thresholds.at(h as usize));
                }
                len = kept;
            } else {
                len = end;
            }
        }
    }
    len
}

/// [`above`] of the entries that a prefilter found, once their values are exact.
pub fn above_of_prefiltered(thresholds: &Thresholds, row: PrefilteredRow, scratch: &mut Candidates) -> usize {
    let len = row.copy(scratch);
    let Candidates { index, value, .. } = scratch;
    let mut kept = 0;
    for j in 0..len {
        let (h, v) = (index[j], value[j]);
        (index[kept], value[kept]) = (h, v);
        kept += usize::from(v > thresholds.at(h as usize));
    }
    kept
}

/// Selects the latents of every row by `find(row, scratch)`, which leaves them in the scratch and returns their number.
/// Rows may have any number of them; `capacity_hint` is a guess of the largest number, from the batch before, and grows
/// if it is too small.
///
/// # Shapes
/// `latents [B, H]`.
pub fn select_any(
    rows: usize,
    capacity_hint: &mut usize,
    scratch: &PerThread<Candidates>,
    latents: &mut Latents,
    find: impl Fn(usize, &mut Candidates) -> usize + Sync,
) {
    loop {
        latents.resize(rows, (*capacity_hint).max(1));
        let (len, index, value, capacity) = latents.parts_mut();
        let most = len
            .par_iter_mut()
            .zip(index.par_chunks_mut(capacity))
            .zip(value.par_chunks_mut(capacity))
            .enumerate()
            .map(|(b, ((len, index), value))| {
                let mut candidates = scratch.lock();
                let n = find(b, &mut candidates);
                let fits = n.min(capacity);
                index[..fits].copy_from_slice(&candidates.index[..fits]);
                value[..fits].copy_from_slice(&candidates.value[..fits]);
                *len = fits as u32;
                n
            })
            .max()
            .unwrap_or(0);
        if most <= capacity {
            // A margin is kept, so that memory is allocated now and then rather than with every batch that has more
            // latents.
            if most + most / 8 > *capacity_hint {
                *capacity_hint = most + most / 4 + 8;
            }
            return;
        }
        *capacity_hint = most;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn row(n: usize, seed: u64) -> Vec<f32> {
        let mut s = Stream::new(seed, "above", &[]);
        (0..n).map(|_| (s.normal() * 8.0).round() as f32 / 8.0).collect()
    }

    #[test]
    fn what_exceeds_its_threshold_is_found() {
        for isa in Isa::available() {
            for n in [1, 47, 48, 49, 500] {
                let (values, each) = (row(n, 1), row(n, 2));
                for (each, margin) in [(&each[..], 0.0), (&each[..], 0.25), (&each[..1], 0.0), (&[][..], 0.0)] {
                    let t = Thresholds { each, margin };
                    let mut scratch = Candidates::default();
                    let len = above(isa, &t, [(0, &values[..])].into_iter(), &mut scratch);
                    let got: Vec<(u32, f32)> =
                        scratch.index[..len].iter().copied().zip(scratch.value[..len].iter().copied()).collect();
                    let limit = |h: usize| if each.is_empty() { 0.0 } else { each[h.min(each.len() - 1)] };
                    let want: Vec<(u32, f32)> =
                        (0..n).filter(|&h| values[h] > limit(h) - margin).map(|h| (h as u32, values[h])).collect();
                    assert_eq!(got, want, "{} n {n}", isa.name());
                }
            }
        }
    }
}
