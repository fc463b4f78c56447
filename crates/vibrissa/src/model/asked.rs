//! Exact pre-activations of some entries of a batch, latent by latent: a row of weights is read once for all rows of the
//! batch that ask for it, and these, far fewer than the weights, stay in cache.

use super::{Sae, reserve};
use crate::activation::{Candidates, above::select_any};
use crate::kernels::Isa;
use crate::kernels::workers::Own;
use crate::matrix::{Latents, begin_by_latent};
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// What was asked for, and the answers.
#[derive(Debug, Default)]
pub struct Asked {
    /// By row of the batch; the values are approximate.
    entries: Latents,
    /// Entries of the fullest row of the batch before, and some more.
    room: usize,
    /// Where the entries of each latent begin, and the last end.
    start: Vec<u32>,
    /// Latent by latent: the rows of the batch that ask for it, ascending, and the answers.
    row: Vec<u32>,
    exact: Vec<f32>,
    /// For each of `entries` its place in `exact`.
    place: Vec<AtomicU32>,
}

/// Latents that one worker answers for in one go.
const CHUNK: usize = 16;

impl Asked {
    /// Asks for the entries of each of so many rows that `find(row, scratch)` leaves in the scratch, by ascending index.
    pub fn ask(
        &mut self,
        rows: usize,
        latents: usize,
        candidates: &[Own<Candidates>],
        find: impl Fn(usize, &mut Candidates) -> usize + Sync,
    ) {
        select_any(rows, &mut self.room, candidates, &mut self.entries, find);
        self.group(latents);
    }

    /// Answers.
    ///
    /// # Shapes
    /// `input [B, D]`.
    pub fn answer(&mut self, sae: &Sae, isa: Isa, input: &[f32]) {
        let latents = sae.config.latents;
        let (Asked { start, row, exact, .. }, bias) = (self, sae.bias());
        let answer = |h: usize, rows: &[u32], out: &mut [f32]| {
            isa.gather_dots(sae.W_enc.row(h), rows, input, out);
            out.iter_mut().for_each(|v| *v += bias[h]);
        };
        each_latent(0..latents, start, row, exact, &answer);
    }

    /// A counting sort by latent, by several workers where there are many, each of some latents.
    fn group(&mut self, latents: usize) {
        let Asked { entries, start, row, exact, place, .. } = self;
        let (total, capacity) = (entries.count(), entries.capacity());
        begin_by_latent(latents, std::iter::once(&*entries), start);
        reserve(row, entries.rows() * capacity);
        reserve(exact, entries.rows() * capacity);
        row.resize(total, 0);
        exact.resize(total, 0.0);
        place.resize_with(entries.rows() * capacity, AtomicU32::default);
        let most = latents.div_ceil((total / 4096).clamp(1, 16));
        put(0, &mut start[1..=latents], row, entries, place, most);
    }

    /// The entries of a row of the batch, by ascending index, with their exact values.
    pub fn row(&self, b: usize) -> impl ExactSizeIterator<Item = (u32, f32)> + '_ {
        let place = &self.place[b * self.entries.capacity()..];
        self.entries.row(b).0.iter().zip(place).map(|(&h, at)| (h, self.exact[at.load(Relaxed) as usize]))
    }

    /// How many entries there are, and latents that have any.
    pub fn count(&self) -> (usize, usize) {
        (self.row.len(), self.start.windows(2).filter(|w| w[0] < w[1]).count())
    }
}

/// Puts the entries of latents from `first` on, which begin at `start`, in their places among `row`; at most `most` latents a worker.
fn put(first: usize, start: &mut [u32], row: &mut [u32], entries: &Latents, place: &[AtomicU32], most: usize) {
    let Some(&begin) = start.first() else { return };
    if start.len() > most {
        let half = start.len() / 2;
        let (low, high) = start.split_at_mut(half);
        let (row0, row1) = row.split_at_mut((high[0] - begin) as usize);
        rayon::join(
            || put(first, low, row0, entries, place, most),
            || put(first + half, high, row1, entries, place, most),
        );
        return;
    }
    for b in 0..entries.rows() {
        let index = entries.row(b).0;
        // Indices ascend.
        let from = if first == 0 { 0 } else { index.partition_point(|&h| (h as usize) < first) };
        for (&h, place) in index[from..].iter().zip(&place[b * entries.capacity() + from..]) {
            let Some(next) = start.get_mut(h as usize - first) else { break };
            row[(*next - begin) as usize] = b as u32;
            place.store(*next, Relaxed);
            *next += 1;
        }
    }
}

/// Calls `answer(latent, rows, out)` for all latents of a range, whose entries `rows` and `out` are.
fn each_latent(
    latents: Range<usize>,
    start: &[u32],
    rows: &[u32],
    out: &mut [f32],
    answer: &(impl Fn(usize, &[u32], &mut [f32]) + Sync),
) {
    let place = |h: usize| (start[h] - start[latents.start]) as usize;
    if latents.len() > CHUNK {
        let middle = latents.start + latents.len() / 2;
        let ((a, b), (x, y)) = (rows.split_at(place(middle)), out.split_at_mut(place(middle)));
        let (first, second) = (latents.start..middle, middle..latents.end);
        rayon::join(|| each_latent(first, start, a, x, answer), || each_latent(second, start, b, y, answer));
    } else {
        for h in latents.clone() {
            let own = place(h)..place(h + 1);
            answer(h, &rows[own.clone()], &mut out[own]);
        }
    }
}
