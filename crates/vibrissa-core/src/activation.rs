//! What becomes of the pre-activations: forward, and what reaches them backward. No weights here. Selection by rank is in
//! this file, by thresholds in `activation/above.rs`.
//!
//! Ties: the lower index wins. A row with fewer than k comparable (non-NaN) values is reported by the length of its
//! result.

pub mod above;

use crate::kernels::prefilter::Hits;
use crate::kernels::{Isa, LANES, PerThread, prefetch};
use crate::matrix::{Latents, Panels};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Which pre-activations p become latents, and what of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The k largest of each row (Makhzani & Frey 2013, arXiv 1312.5663; Gao et al. 2024, arXiv 2406.04093).
    /// Backward: the gradient reaches the kept (and unclipped) entries.
    #[default]
    TopK,
    /// The B·k largest of the batch, clipped at 0 (Bussmann et al. 2024, arXiv 2412.06410); the lower row, then the
    /// lower index wins a tie. Inference: `p > θ`, one θ for all.
    BatchTopK,
    /// `max(p, 0)` (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600). Backward: where p > 0.
    Relu,
    /// `p · [p > θ_h]`, θ ≥ 0 (Rajamanoharan et al. 2024, arXiv 2407.14435, eq. 1). Backward: p where p > θ;
    /// θ by straight-through estimates (their eqs. 11 and 12), `-(θ/ε) rect((p - θ)/ε)` times what reaches the latent and
    /// `-(1/ε) rect((p - θ)/ε)` times what reaches the count, rect = 1 on (-½, ½).
    JumpRelu,
    /// `[π > 0] · max(m, 0)`, π = x̃·w + b_gate, m = (x̃·w) exp(r_mag) + b_enc (Rajamanoharan et al. 2024, arXiv 2404.16014).
    /// Backward: m where it is used; π learns from the auxiliary loss alone.
    Gated,
    /// `1/(1 + e⁻ᵖ)`, dense: the classic autoencoder that a KL penalty makes sparse (Ng 2011). Backward: a(1 - a).
    Sigmoid,
}

impl Activation {
    /// The name that options and files have for it.
    pub fn name(self) -> &'static str {
        match self {
            Activation::TopK => "topk",
            Activation::BatchTopK => "batchtopk",
            Activation::Relu => "relu",
            Activation::JumpRelu => "jumprelu",
            Activation::Gated => "gated",
            Activation::Sigmoid => "sigmoid",
        }
    }

    /// Whether k says how many are kept; else k is what the mean number of active latents is steered to.
    pub fn keeps_k(self) -> bool {
        matches!(self, Activation::TopK | Activation::BatchTopK)
    }

    /// Whether L1 alone makes latents sparse.
    pub fn by_l1(self) -> bool {
        matches!(self, Activation::Relu | Activation::Gated)
    }
}

/// Scratch of [`top_k`], one a thread.
#[derive(Debug)]
pub struct Candidates {
    index: Vec<u32>,
    value: Vec<f32>,
    lower: Vec<f32>,
    /// Below the k-th largest of the last row by a margin: a guess where the next row's k-th largest lies. It decides how
    /// much is looked at, never what is found.
    guess: f32,
}

impl Default for Candidates {
    fn default() -> Self {
        Candidates { index: Vec::new(), value: Vec::new(), lower: Vec::new(), guess: f32::NEG_INFINITY }
    }
}

impl Candidates {
    /// Room for `n` latents, and a panel more; allocates only when it grows.
    pub(crate) fn prepare(&mut self, n: usize) {
        let room = n + Panels::WIDTH + LANES;
        if self.index.len() < room {
            self.index.resize(room, 0);
            self.value.resize(room, 0.0);
            self.lower.resize(room, 0.0);
        }
    }

    /// The first `n`: indices and values.
    pub(crate) fn found(&mut self, n: usize) -> (&[u32], &mut [f32]) {
        (&self.index[..n], &mut self.value[..n])
    }
}

/// The `k` largest of a row that comes in pieces `(first index, values)`: indices ascending into `index`, values into
/// `value`; returns how many there are (fewer than `k` only where the row has NaN or -∞).
///
/// Values stream past a threshold, at first a guess, then the k-th largest seen so far, that rejects most with one
/// compare; the survivors, always by ascending index, are cut back to k whenever their buffer is full. Where the guess
/// left fewer than k, the row is looked at again without it.
pub fn top_k<'a, P: Iterator<Item = (usize, &'a [f32])> + Clone>(
    isa: Isa,
    k: usize,
    pieces: impl Fn() -> P,
    scratch: &mut Candidates,
    index: &mut [u32],
    value: &mut [f32],
) -> usize {
    scratch.prepare(full(k));
    let guess = scratch.guess;
    let mut len = candidates(isa, k, pieces(), guess, scratch);
    if len < k && guess > f32::NEG_INFINITY {
        len = candidates(isa, k, pieces(), f32::NEG_INFINITY, scratch);
    }
    let len = hand_out(isa, k, scratch, len, index, value);
    let least = value[..len].iter().fold(f32::INFINITY, |m, &v| m.min(v));
    scratch.guess = if len == k && least > 0.0 { 0.8 * least } else { f32::NEG_INFINITY };
    len
}

/// The `k` best of the first `len` candidates.
fn hand_out(
    isa: Isa,
    k: usize,
    scratch: &mut Candidates,
    mut len: usize,
    index: &mut [u32],
    value: &mut [f32],
) -> usize {
    if len > k {
        cut(isa, k, scratch, len);
        len = k;
    }
    index[..len].copy_from_slice(&scratch.index[..len]);
    value[..len].copy_from_slice(&scratch.value[..len]);
    len
}

/// A row of which a screen found what may reach a limit, in parts.
#[derive(Clone, Copy, Debug)]
pub struct Screened<'a> {
    /// By range of latents.
    pub found: &'a [Hits],
    /// The row.
    pub row: usize,
}

impl<'a> Screened<'a> {
    /// All entries, by ascending index.
    pub fn entries(self) -> impl Iterator<Item = (u32, f32)> + 'a {
        let of = move |found: &'a Hits| found.row(self.row).unwrap_or(&[]).iter().map(|&e| (found.latent(e), e.p));
        self.found.iter().flat_map(of)
    }

    /// Leaves them in the scratch; returns how many.
    fn copy(self, scratch: &mut Candidates) -> usize {
        let mut len = 0;
        for found in self.found {
            let Some((n, blocks)) = found.row_blocks(self.row) else { continue };
            scratch.prepare(len + n);
            let (index, value) = (scratch.index[len..].as_chunks_mut().0, scratch.value[len..].as_chunks_mut().0);
            for (entries, (index, value)) in blocks.iter().zip(index.iter_mut().zip(value)) {
                *index = entries.map(|e| found.latent(e));
                *value = entries.map(|e| e.p);
            }
            len += n;
        }
        len
    }

    /// Whether the screen had room for all.
    pub fn whole(self) -> bool {
        self.found.iter().all(|found| found.row(self.row).is_some())
    }

    /// Where the values are approximate: the k-th largest of (value - its error), which k exact values reach for sure. None where the
    /// screen had no room for all, or where fewer than `k` reach the limit for sure.
    pub fn reached(self, isa: Isa, k: usize, limit: f32, scratch: &mut Candidates) -> Option<f32> {
        let mut n = 0;
        self.found.iter().for_each(|found| found.prefetch_row(self.row + 1));
        for found in self.found {
            let (more, blocks) = found.row_blocks(self.row)?;
            scratch.prepare(n + more);
            for (entries, lower) in blocks.iter().zip(scratch.lower[n..].as_chunks_mut().0) {
                *lower = entries.map(|e| e.p - e.error());
            }
            n += more;
        }
        (n >= k).then(|| isa.kth_largest(&scratch.lower[..n], k)).filter(|&reached| reached >= limit)
    }
}

/// The `k` largest of what a screen found, whose values are exact by now, as [`top_k`] gives those of a row.
pub fn top_k_of(
    isa: Isa,
    k: usize,
    row: Screened,
    scratch: &mut Candidates,
    index: &mut [u32],
    value: &mut [f32],
) -> usize {
    let len = row.copy(scratch);
    hand_out(isa, k, scratch, len, index, value)
}

/// Pieces that memory is asked for in advance: those of a row lie far apart.
const AHEAD: usize = 8;

/// The same pieces, memory asked for those that come later.
fn ahead<'a, P: Iterator<Item = (usize, &'a [f32])> + Clone>(pieces: P) -> impl Iterator<Item = P::Item> {
    let mut later = pieces.clone().skip(AHEAD);
    pieces.inspect(move |_| {
        if let Some((_, part)) = later.next() {
            prefetch(part);
        }
    })
}

/// Candidates that are kept before they are cut back to k.
pub(crate) fn full(k: usize) -> usize {
    4 * k + 256
}

/// Leaves those above the threshold, at least the k largest of these, in the scratch; returns how many.
fn candidates<'a>(
    isa: Isa,
    k: usize,
    pieces: impl Iterator<Item = (usize, &'a [f32])> + Clone,
    mut threshold: f32,
    scratch: &mut Candidates,
) -> usize {
    let full = full(k);
    let mut len = 0;
    for (first, values) in ahead(pieces) {
        for (i, part) in values.chunks(Panels::WIDTH).enumerate() {
            let base = (first + i * Panels::WIDTH) as u32;
            len = isa.append_above(part, base, threshold, &mut scratch.index, &mut scratch.value, len);
            if len > full {
                // Of equals the lower index stays, and it came first.
                threshold = threshold.max(cut(isa, k, scratch, len));
                len = k;
            }
        }
    }
    len
}

/// Keeps the `k` best of the first `len` candidates, in their order; gives the least value that stays.
fn cut(isa: Isa, k: usize, scratch: &mut Candidates, len: usize) -> f32 {
    let (index, value) = (&mut scratch.index[..len], &mut scratch.value[..len]);
    let least = isa.kth_largest(value, k);
    // Of those that equal it the first ones stay.
    let mut ties = k - value.iter().filter(|&&v| v > least).count();
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

/// Selects latents of every row by `top_k(row, scratch, index, value)`, which says how many of the k largest there are.
/// With `relu_after` those ≤ 0 are dropped. Returns the first row that has fewer than `k` comparable values, if any (its
/// pre-activations are not finite).
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
            let mut own = scratch.lock();
            let n = top_k(b, &mut own, index, value);
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
        let n = top_k(isa, k, || [(0, row)].into_iter(), &mut Candidates::default(), &mut i, &mut v);
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

    /// The guess of one row must not show in the next, whatever follows what.
    #[test]
    fn rows_do_not_depend_on_those_before() {
        let mut s = Stream::new(9, "test", &[]);
        for isa in Isa::available() {
            let (mut scratch, k) = (Candidates::default(), 20);
            let (mut i, mut v) = (vec![0; k], vec![0.0; k]);
            for r in 0..200 {
                let (size, shift) = ([1.0, 1e3, 1e-3, 0.0][r % 4], [0.0, -5.0, 5.0][r % 3]);
                let row: Vec<f32> = (0..300).map(|_| (s.normal() * size + shift).round() as f32).collect();
                let n = top_k(isa, k, || [(0, &row[..])].into_iter(), &mut scratch, &mut i, &mut v);
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
