//! Exact pre-activations of what a screen found, latent by latent: a row of weights is read once for all rows of the batch that ask for it,
//! and these, far fewer than the weights, stay in cache.

use super::{Sae, reserve};
use crate::kernels::Isa;
use crate::kernels::prefilter::Hits;
use std::ops::Range;

/// What is asked for in a range of latents, and the answers.
#[derive(Debug, Default)]
pub struct Asked {
    /// Where the entries of each latent begin, and the last end.
    start: Vec<u32>,
    /// Where the next entry of each latent is.
    next: Vec<u32>,
    /// Latent by latent: the rows of the batch that ask for it, ascending, and the answers.
    row: Vec<u32>,
    exact: Vec<f32>,
}

/// Latents that one worker answers for in one go.
const CHUNK: usize = 16;

impl Asked {
    /// Asks for those entries that may reach `reached` of their row, the others are dropped: NaN where none is to stay.
    pub fn ask(&mut self, found: &mut Hits, reached: &[f32]) {
        let Asked { start, next, row, exact } = self;
        let (latents, rows, room) = (found.latents().len(), found.rows(), found.capacity());
        start.clear();
        start.resize(latents + 1, 0);
        found.retain_reaching(reached, &mut start[1..]);
        for h in 0..latents {
            start[h + 1] += start[h];
        }
        let total = start[latents] as usize;
        reserve(row, rows * room);
        reserve(exact, rows * room);
        row.resize(total, 0);
        exact.resize(total, 0.0);
        next.clear();
        next.extend_from_slice(start);
        found.for_each(|b, e| {
            let next = &mut next[e.offset() as usize];
            row[*next as usize] = b;
            e.set_request(*next);
            *next += 1;
        });
    }

    /// Answers, in place of the approximate values.
    ///
    /// # Shapes
    /// `input [B, D]`.
    pub fn answer(&mut self, found: &mut Hits, sae: &Sae, isa: Isa, input: &[f32]) {
        let Asked { start, row, exact, .. } = self;
        let (first, bias) = (found.latents().start, sae.bias());
        let answer = |h: usize, rows: &[u32], out: &mut [f32]| {
            isa.gather_dots(sae.W_enc.row(first + h), rows, input, out);
            out.iter_mut().for_each(|v| *v += bias[first + h]);
        };
        each_latent(0..start.len() - 1, start, row, exact, &answer);
        found.for_each(|_, e| e.p = exact[e.request() as usize]);
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
