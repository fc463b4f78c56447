//! Exact pre-activations of a prefilter's hits, latent by latent: a row of weights is read once for all rows of the
//! batch that request it, and these rows, far less memory than the weights, stay in cache.

use super::super::{Sae, reserve};
use crate::kernels::Isa;
use crate::kernels::prefilter::Hits;
use std::ops::Range;

/// The requested exact values of a range of latents.
#[derive(Debug, Default)]
pub struct ExactProducts {
    /// The first request of each latent, and the end of the last.
    start: Vec<u32>,
    /// The next free request of each latent.
    next: Vec<u32>,
    /// Latent by latent: the rows of the batch that request it, ascending.
    row: Vec<u32>,
    /// The values.
    exact: Vec<f32>,
}

/// Latents that one worker computes in one go.
const CHUNK: usize = 16;

impl ExactProducts {
    /// Requests the exact values of those hits that may reach the lower bound of their row, and drops the others; all
    /// if it is NaN.
    pub fn request(&mut self, hits: &mut Hits, lower_bounds: &[f32]) {
        let ExactProducts { start, next, row, exact } = self;
        let (latents, rows, capacity) = (hits.latents().len(), hits.rows(), hits.capacity());
        start.clear();
        start.resize(latents + 1, 0);
        hits.retain_reaching(lower_bounds, &mut start[1..]);
        for h in 0..latents {
            start[h + 1] += start[h];
        }
        let total = start[latents] as usize;
        reserve(row, rows * capacity);
        reserve(exact, rows * capacity);
        row.resize(total, 0);
        exact.resize(total, 0.0);
        next.clear();
        next.extend_from_slice(start);
        hits.for_each(|b, hit| {
            let next = &mut next[hit.offset() as usize];
            row[*next as usize] = b;
            hit.set_request(*next);
            *next += 1;
        });
    }

    /// Computes the values and puts them in place of the approximate ones.
    ///
    /// # Shapes
    /// `input [B, D]`.
    pub fn compute(&mut self, hits: &mut Hits, sae: &Sae, isa: Isa, input: &[f32]) {
        let ExactProducts { start, row, exact, .. } = self;
        let (first, bias) = (hits.latents().start, sae.bias());
        let compute = |h: usize, rows: &[u32], out: &mut [f32]| {
            isa.gather_dots(sae.W_enc.row(first + h), rows, input, out);
            out.iter_mut().for_each(|v| *v += bias[first + h]);
        };
        for_each_latent(0..start.len() - 1, start, row, exact, &compute);
        hits.for_each(|_, hit| hit.p = exact[hit.request() as usize]);
    }

    /// Returns the number of requests, and of latents that have any.
    pub fn count(&self) -> (usize, usize) {
        (self.row.len(), self.start.windows(2).filter(|w| w[0] < w[1]).count())
    }
}

/// Calls `compute(latent, rows, out)` for all latents of a range, in parallel; `rows` and `out` are those of its
/// requests.
fn for_each_latent(
    latents: Range<usize>,
    start: &[u32],
    rows: &[u32],
    out: &mut [f32],
    compute: &(impl Fn(usize, &[u32], &mut [f32]) + Sync),
) {
    let position = |h: usize| (start[h] - start[latents.start]) as usize;
    if latents.len() > CHUNK {
        let middle = latents.start + latents.len() / 2;
        let ((a, b), (x, y)) = (rows.split_at(position(middle)), out.split_at_mut(position(middle)));
        let (first, second) = (latents.start..middle, middle..latents.end);
        rayon::join(|| for_each_latent(first, start, a, x, compute), || for_each_latent(second, start, b, y, compute));
    } else {
        for h in latents.clone() {
            let requests = position(h)..position(h + 1);
            compute(h, &rows[requests.clone()], &mut out[requests]);
        }
    }
}
