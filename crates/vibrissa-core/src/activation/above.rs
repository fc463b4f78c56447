//! Latents by threshold: all pre-activations above one, and the B·k largest of a batch. No weights here.

use super::{Candidates, Screened, ahead};
use crate::kernels::{Isa, PerThread};
use crate::matrix::{Latents, Panels};
use rayon::prelude::*;

/// What a pre-activation must exceed: `each[h] - margin`; one value serves all latents, none is 0.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds<'a> {
    /// `[H]`, `[1]` or empty.
    pub each: &'a [f32],
    /// Subtracted from all.
    pub margin: f32,
}

impl Thresholds<'_> {
    /// That of one latent.
    #[inline]
    pub fn at(&self, h: usize) -> f32 {
        match self.each {
            [] => -self.margin,
            [one] => one - self.margin,
            each => each[h] - self.margin,
        }
    }

    /// The least of latents `first .. first + n`.
    fn least(&self, first: usize, n: usize) -> f32 {
        match self.each {
            [] | [_] => self.at(0),
            each => each[first..first + n].iter().fold(f32::INFINITY, |m, &t| m.min(t)) - self.margin,
        }
    }
}

/// Leaves the values of a row `(first index, values)` that exceed their thresholds in the scratch, by ascending index;
/// returns how many.
pub fn above<'a>(
    isa: Isa,
    thresholds: &Thresholds,
    pieces: impl Iterator<Item = (usize, &'a [f32])> + Clone,
    scratch: &mut Candidates,
) -> usize {
    let mut len = 0;
    for (first, values) in ahead(pieces) {
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

/// [`above`] of what a screen found, whose values are exact by now.
pub fn above_of(thresholds: &Thresholds, row: Screened, scratch: &mut Candidates) -> usize {
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

/// Selects latents of every row by `find(row, scratch)`, which leaves them in the scratch and says how many they are. Rows
/// may have any number; `room` is a guess of the largest one, from the batch before, and grows where it is too small.
///
/// # Shapes
/// `latents [B, H]`.
pub fn select_any(
    rows: usize,
    room: &mut usize,
    scratch: &PerThread<Candidates>,
    latents: &mut Latents,
    find: impl Fn(usize, &mut Candidates) -> usize + Sync,
) {
    loop {
        latents.resize(rows, (*room).max(1));
        let (len, index, value, capacity) = latents.parts_mut();
        let most = len
            .par_iter_mut()
            .zip(index.par_chunks_mut(capacity))
            .zip(value.par_chunks_mut(capacity))
            .enumerate()
            .map(|(b, ((len, index), value))| {
                let mut own = scratch.lock();
                let n = find(b, &mut own);
                let fits = n.min(capacity);
                index[..fits].copy_from_slice(&own.index[..fits]);
                value[..fits].copy_from_slice(&own.value[..fits]);
                *len = fits as u32;
                n
            })
            .max()
            .unwrap_or(0);
        if most <= capacity {
            // Kept where there is some to spare, so that memory is asked for now and then, not with every fuller batch.
            if most + most / 8 > *room {
                *room = most + most / 4 + 8;
            }
            return;
        }
        *room = most;
    }
}

/// Keeps the `n` (1 or more) largest of all entries, which are > 0; the lower row, then the lower index wins a tie. Returns the
/// smallest value that stays (0 where nothing does). `scratch` keeps its memory.
pub fn cut_batch(n: usize, latents: &mut Latents, scratch: &mut Vec<u32>) -> f32 {
    let (rows, total) = (latents.rows(), latents.count());
    scratch.clear();
    (0..rows).for_each(|b| scratch.extend(latents.row(b).1.iter().map(|v| v.to_bits())));
    // Positive floats are in the order of their bits.
    if total <= n {
        return scratch.iter().min().map_or(0.0, |&b| f32::from_bits(b));
    }
    let least = *scratch.select_nth_unstable_by(n - 1, |a, b| b.cmp(a)).1;
    let larger = scratch[..n].iter().filter(|&&b| b > least).count();
    let mut ties = n - larger;
    let (len, index, value, capacity) = latents.parts_mut();
    for (b, len) in len.iter_mut().enumerate() {
        let (index, value) = (&mut index[b * capacity..][..capacity], &mut value[b * capacity..][..capacity]);
        let mut kept = 0;
        for j in 0..*len as usize {
            let bits = value[j].to_bits();
            let tie = bits == least && ties > 0;
            ties -= usize::from(tie);
            (index[kept], value[kept]) = (index[j], value[j]);
            kept += usize::from(bits > least || tie);
        }
        *len = kept as u32;
    }
    f32::from_bits(least)
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

    #[test]
    fn the_largest_of_a_batch_stay() {
        let scratch = PerThread::<Candidates>::new();
        let rows: Vec<Vec<f32>> = (0..9).map(|b| row(200, 10 + b)).collect();
        let find = |b: usize, own: &mut Candidates| {
            above(Isa::current(), &Thresholds { each: &[], margin: 0.0 }, [(0, &rows[b][..])].into_iter(), own)
        };
        for n in [1, 50, 333, 5000] {
            let (mut latents, mut room) = (Latents::default(), 3);
            select_any(9, &mut room, &scratch, &mut latents, find);
            let least = cut_batch(n, &mut latents, &mut Vec::new());
            let mut all: Vec<(f32, usize, u32)> = Vec::new();
            for (b, row) in rows.iter().enumerate() {
                all.extend(row.iter().enumerate().filter(|v| *v.1 > 0.0).map(|(h, &v)| (v, b, h as u32)));
            }
            all.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)).then(x.2.cmp(&y.2)));
            all.truncate(n);
            assert_eq!(least, all.last().map_or(0.0, |v| v.0));
            all.sort_by_key(|v| (v.1, v.2));
            let got: Vec<(f32, usize, u32)> = (0..9)
                .flat_map(|b| latents.row(b).0.iter().zip(latents.row(b).1).map(move |(&h, &v)| (v, b, h)))
                .collect();
            assert_eq!(got, all, "n {n}");
        }
    }
}
