//! The backward pass of one latent over its entries: from products of residuals and direction to gradients of
//! pre-activations and of the latent's scalar parameters.

use super::super::super::reserve;
use super::super::forward::ResidualKind;
use super::UpdateContext;
use crate::activation::{LatentGradients, LatentParameters, LatentPenalty, gated};

/// The entries of a latent: rows of the residuals, and the latent's values there.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    pub rows: &'a [u32],
    pub values: &'a [f32],
}

/// The entries of a row or a latent, cut into those above the threshold and those below it, whose value is 0:
/// jumprelu's thresholds learn from the latter, nothing else does.
#[derive(Debug, Default)]
pub struct ActivePartition {
    index: Vec<u32>,
    values: Vec<f32>,
    below: Vec<u32>,
}

impl ActivePartition {
    pub fn reserve(&mut self, most: usize) {
        reserve(&mut self.index, most);
        reserve(&mut self.values, most);
        reserve(&mut self.below, most);
    }

    /// Cuts entries in two by their values.
    pub fn fill(&mut self, index: &[u32], values: &[f32]) {
        self.index.clear();
        self.values.clear();
        self.below.clear();
        for (&i, &a) in index.iter().zip(values) {
            if a == 0.0 {
                self.below.push(i);
            } else {
                self.index.push(i);
                self.values.push(a);
            }
        }
    }

    /// Returns the indices and values of those above the threshold.
    pub fn active(&self) -> (&[u32], &[f32]) {
        (&self.index, &self.values)
    }

    /// Returns the indices of those below the threshold.
    pub fn below(&self) -> &[u32] {
        &self.below
    }
}

/// The backward pass of one latent.
pub struct LatentBackward {
    pub parameters: LatentParameters,
    pub penalty: LatentPenalty,
    /// The gradient of a value is this times the product of residual and decoder row.
    pub factor: f32,
    /// True if the effect of removing the latent is summed, too.
    pub measures_effect: bool,
}

impl LatentBackward {
    /// Sums the gradients of all entries. `d_pre` holds the products of residuals and decoder row, and becomes the
    /// gradients of the pre-activations; `batch_rows` becomes the rows of the batch that these belong to.
    #[inline(never)]
    pub fn sum(
        &self,
        context: &UpdateContext,
        entries: Entries,
        d_pre: &mut [f32],
        batch_rows: &mut Vec<u32>,
    ) -> LatentGradients {
        let LatentBackward { parameters, penalty, factor, measures_effect } = self;
        let (activation, layout, scale) = (context.config.activation, context.batch.layout, context.batch.scale);
        let mut sums = LatentGradients::default();
        batch_rows.clear();
        for ((&r, &a), d_pre) in entries.rows.iter().zip(entries.values).zip(d_pre) {
            let d = factor * *d_pre;
            let (b, kind) = layout.place(r);
            batch_rows.push(b);
            let d = match kind {
                ResidualKind::Reconstruction => {
                    if *measures_effect {
                        // Removing the latent adds 2 a (r·w) + a² to a row's squared error; d is scale · r·w.
                        sums.effect += 2.0 * f64::from(a) * f64::from(d / scale) + f64::from(a) * f64::from(a);
                    }
                    sums.along_direction = a.mul_add(d, sums.along_direction);
                    activation.backward(a, d, parameters, penalty, &mut sums)
                }
                ResidualKind::Gate => gated::backward_gate(a, d, penalty, &mut sums),
            };
            *d_pre = d;
            sums.pre_act += d;
        }
        sums
    }
}
