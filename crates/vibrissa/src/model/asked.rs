//! Exact pre-activations of some entries of a batch, latent by latent: a row of weights is read once for all rows of the
//! batch that ask for it, and these, far fewer than the weights, stay in cache.

use super::{Sae, reserve};
use crate::activation::{Candidates, above::select_any};
use crate::kernels::Isa;
use crate::kernels::workers::Own;
use crate::matrix::{Latents, put_by_latent};
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

    /// Regroups by latent, and keeps the place of each entry there.
    fn group(&mut self, latents: usize) {
        let Asked { entries, start, row, exact, place, .. } = self;
        let (total, capacity) = (entries.count(), entries.capacity());
        reserve(row, entries.rows() * capacity);
        reserve(exact, entries.rows() * capacity);
        row.resize(total, 0);
        exact.resize(total, 0.0);
        place.resize_with(entries.rows() * capacity, AtomicU32::default);
        let place = &*place;
        put_by_latent(latents, &[(0, 1, entries)], &[], start, row, exact, &|b, j, approximate, at| {
            place[b * capacity + j].store(at, Relaxed);
            approximate
        });
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
