//! Selection of latents from pre-activations: by rank (`select/rank.rs`) or by threshold (`select/threshold.rs`). No
//! weights here.
//!
//! Ties go to the lower index.

pub mod rank;
pub mod threshold;

use crate::kernels::prefetch;
use crate::kernels::prefilter::Hits;
use crate::kernels::{Isa, LANES};
use crate::matrix::Panels;

/// Scratch of a selection, one a thread: the candidates of a row by ascending index.
#[derive(Debug)]
pub struct Candidates {
    index: Vec<u32>,
    value: Vec<f32>,
    /// Lower bounds of approximate values.
    lower: Vec<f32>,
    /// A guess of the next row's k-th largest value, below that of the last row by a margin. It affects the time only,
    /// never the result.
    guess: f32,
}

impl Default for Candidates {
    fn default() -> Self {
        Candidates { index: Vec::new(), value: Vec::new(), lower: Vec::new(), guess: f32::NEG_INFINITY }
    }
}

impl Candidates {
    /// Reserves memory for `n` latents and one panel more; allocates only when it grows.
    pub(crate) fn prepare(&mut self, n: usize) {
        let len = n + Panels::WIDTH + LANES;
        if self.index.len() < len {
            self.index.resize(len, 0);
            self.value.resize(len, 0.0);
            self.lower.resize(len, 0.0);
        }
    }

    /// Returns the indices and values of the first `n` candidates.
    pub(crate) fn first(&mut self, n: usize) -> (&[u32], &mut [f32]) {
        (&self.index[..n], &mut self.value[..n])
    }
}

/// The entries of one row that a prefilter found, in several ranges of latents.
#[derive(Clone, Copy, Debug)]
pub struct PrefilteredRow<'a> {
    /// The entries of all rows, by range of latents.
    pub found: &'a [Hits],
    /// The number of the row in the batch.
    pub row: usize,
}

impl<'a> PrefilteredRow<'a> {
    /// Iterates over all entries `(index, value)` by ascending index.
    pub fn entries(self) -> impl Iterator<Item = (u32, f32)> + 'a {
        let of = move |found: &'a Hits| found.row(self.row).unwrap_or(&[]).iter().map(|&e| (found.latent(e), e.p));
        self.found.iter().flat_map(of)
    }

    /// Copies all entries to the scratch; returns their number.
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

    /// True if no range had more entries than memory for them.
    pub fn is_complete(self) -> bool {
        self.found.iter().all(|found| found.row(self.row).is_some())
    }

    /// Returns a lower bound of the k-th largest exact value, from approximate ones: the k-th largest of (value -
    /// error). `None` if the row is not complete or if fewer than `k` values certainly reach the limit.
    pub fn kth_lower_bound(self, isa: Isa, k: usize, limit: f32, scratch: &mut Candidates) -> Option<f32> {
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

/// Number of pieces by which memory is prefetched: the pieces of a row lie far apart.
const PREFETCH_DISTANCE: usize = 8;

/// The same pieces; prefetches those that come later.
fn with_prefetch<'a, P: Iterator<Item = (usize, &'a [f32])> + Clone>(pieces: P) -> impl Iterator<Item = P::Item> {
    let mut later = pieces.clone().skip(PREFETCH_DISTANCE);
    pieces.inspect(move |_| {
        if let Some((_, part)) = later.next() {
            prefetch(part);
        }
    })
}
