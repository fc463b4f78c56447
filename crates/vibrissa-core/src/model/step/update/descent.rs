//! Adam of one row of weights, piece by piece, so that the gradient of a piece is computed and used while it is in the
//! first cache.

use super::WithMoments;
use crate::kernels::{AdamStep, GradientTerms, Isa, LANES, MomentDecay, scalar::fold};
use std::ops::Range;

/// Rows of at least this many values are updated piece by piece.
pub const LONG: usize = 2048;

/// Values of a piece: its weights, moments and gradient, four bytes each, fit in the first cache.
const PIECE: usize = 512;

/// `Σ_j coef[j] · rows[index[j]]`.
#[derive(Clone, Copy, Default)]
pub struct WeightedRows<'a> {
    pub coef: &'a [f32],
    pub index: &'a [u32],
    pub rows: &'a [f32],
}

/// The gradient of a row of weights: the sum of these terms, in this order.
#[derive(Clone, Copy)]
pub struct RowGradient<'a> {
    /// True if the buffer holds the first terms, up to `residuals`, already.
    pub in_buffer: bool,
    /// The initial value of the sum; else 0.
    pub initial: Option<&'a [f32]>,
    pub residuals: Option<WeightedRows<'a>>,
    /// A row from outside, and its coefficient.
    pub extra: Option<(f32, &'a [f32])>,
    /// Coefficient of the row itself.
    pub weight_coef: f32,
    pub input: Option<WeightedRows<'a>>,
    /// Decay of the moments since they were written.
    pub decay: MomentDecay,
}

impl RowGradient<'_> {
    /// Moves the row `[w, m, v]`; `next` is the row that will be moved after it, which is prefetched. Returns the row's
    /// new squared length.
    pub fn descend(
        &self,
        isa: Isa,
        [w, m, v]: WithMoments,
        buffer: &mut [f32],
        step: &AdamStep,
        next: [&[f32]; 3],
    ) -> f32 {
        let (dim, mut square) = (w.len(), [0.0; LANES]);
        let piece = if dim < LONG { dim } else { PIECE };
        for from in (0..dim).step_by(piece) {
            let columns = from..dim.min(from + piece);
            let g = &mut buffer[..columns.len()];
            if !self.in_buffer {
                match self.initial {
                    Some(initial) => g.copy_from_slice(&initial[columns.clone()]),
                    None => g.fill(0.0),
                }
            }
            if let Some(WeightedRows { coef, index, rows }) = self.residuals {
                isa.add_columns(g, from, coef, index, rows, dim);
            }
            if let Some((c, extra)) = self.extra {
                isa.add_scaled(g, c, &extra[columns.clone()]);
            }
            let ((m, m_next), (v, v_next)) =
                (piece_and_next(m, next[1], &columns), piece_and_next(v, next[2], &columns));
            let ahead = [next[0].get(columns.clone()).unwrap_or(&[]), m_next, v_next];
            let WeightedRows { coef, index, rows } = self.input.unwrap_or_default();
            let terms = GradientTerms { weight_coef: self.weight_coef, coef, index, rows, first: from, dim };
            isa.adam_with_terms([&mut w[columns], m, v], g, &terms, self.decay, step, ahead, &mut square);
        }
        fold(square)
    }
}

/// Some columns of a row, and as many of those that come after them, in this row or else in the next.
fn piece_and_next<'a>(row: &'a mut [f32], next: &'a [f32], columns: &Range<usize>) -> (&'a mut [f32], &'a [f32]) {
    let (piece, rest) = row[columns.start..].split_at_mut(columns.len());
    let later = if rest.is_empty() { next } else { rest };
    (piece, &later[..later.len().min(columns.len())])
}
