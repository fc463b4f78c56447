//! Phase 3 of a step: gradient and Adam of every latent, its rows gathered once while they are in cache. The latents
//! are cut into chunks that workers take: `update/range.rs` walks over them, `update/latent.rs` moves one latent,
//! `update/backward.rs` sums the gradients of its entries, `update/descent.rs` moves one row of weights.

mod backward;
mod descent;
mod latent;
mod range;

use super::super::{Config, reserve};
use super::auxk::DeadLatents;
use super::forward::ResidualLayout;
use crate::kernels::PerThread;
use crate::kernels::{AdamStep, Isa};
use crate::matrix::{Aligned, ByLatent, Mat};
use crate::optim::{AdamOptions, Optimizer};
pub use backward::ActivePartition;
pub use range::LatentRange;

/// A parameter of some latents with its first and second moments `[w, m, v]`; empty slices if the model does not have
/// it.
pub type WithMoments<'a> = [&'a mut [f32]; 3];

/// One thing for each of the parameters with one value a latent.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScalarParameters<T> {
    pub b_enc: T,
    pub threshold: T,
    pub b_gate: T,
    pub r_mag: T,
}

impl<T> ScalarParameters<T> {
    fn each_ref(&self) -> [&T; 4] {
        let ScalarParameters { b_enc, threshold, b_gate, r_mag } = self;
        [b_enc, threshold, b_gate, r_mag]
    }

    fn each_mut(&mut self) -> [&mut T; 4] {
        let ScalarParameters { b_enc, threshold, b_gate, r_mag } = self;
        [b_enc, threshold, b_gate, r_mag]
    }

    fn map<U>(self, mut f: impl FnMut(T) -> U) -> ScalarParameters<U> {
        let ScalarParameters { b_enc, threshold, b_gate, r_mag } = self;
        ScalarParameters { b_enc: f(b_enc), threshold: f(threshold), b_gate: f(b_gate), r_mag: f(r_mag) }
    }
}

/// Scratch of the gradients of one latent.
#[derive(Debug, Default)]
pub struct GradientScratch {
    /// Gradient of an encoder row, or a piece of it.
    pub enc: Aligned,
    /// Gradient of a decoder row, or a piece of it.
    pub dec: Aligned,
    /// Products of residuals and decoder row, then the gradients of the pre-activations.
    pub d_pre: Vec<f32>,
    /// Coefficients of the residuals in the gradient of the direction.
    pub coef: Vec<f32>,
    /// Rows of the batch that the entries belong to.
    pub rows: Vec<u32>,
}

/// Scratch of one worker.
#[derive(Debug, Default)]
pub struct UpdateScratch {
    pub gradient: GradientScratch,
    /// jumprelu's entries above and below the threshold.
    pub partition: ActivePartition,
    /// Products of residuals and decoder row for the entries below the threshold.
    pub below_dots: Vec<f32>,
    /// Gradients of the scalar parameters of a chunk's latents.
    pub scalars: ScalarParameters<Vec<f32>>,
}

impl UpdateScratch {
    /// Reserves memory for latents of `most` entries and rows of `dim` values; allocates only when it grows.
    pub fn prepare(&mut self, dim: usize, most: usize) {
        let UpdateScratch { gradient, partition, below_dots, scalars } = self;
        let GradientScratch { enc, dec, d_pre, coef, rows } = gradient;
        enc.resize(dim);
        dec.resize(dim);
        if coef.len() < most {
            coef.resize(most, 0.0);
        }
        partition.reserve(most);
        [d_pre, below_dots].into_iter().chain(scalars.each_mut()).for_each(|v| reserve(v, most));
        reserve(rows, most);
    }
}

/// The optimiser at one step.
#[derive(Clone, Copy, Debug)]
pub struct OptimizerStep {
    pub optimizer: Optimizer,
    pub adam: AdamOptions,
    /// Coefficients of weights (with decay) and of biases (without).
    pub weights: AdamStep,
    pub biases: AdamStep,
    /// Steps without gradient after which dense Adam leaves a latent where it is.
    pub rests_after: u32,
}

impl OptimizerStep {
    /// The optimiser at step `t` (from 1).
    pub fn new(optimizer: Optimizer, adam: AdamOptions, t: u64, lr: f64) -> OptimizerStep {
        let (weights, biases) = adam.at(optimizer, t, lr);
        OptimizerStep { optimizer, adam, weights, biases, rests_after: adam.rests_after() }
    }
}

/// The forward pass of the batch.
#[derive(Clone, Copy)]
pub struct BatchContext<'a> {
    /// `-2/B`: the derivative of the mean squared error to a reconstruction is this times its residual.
    pub scale: f32,
    /// `x - b_dec`, or `x` without decoder bias `[B, D]`.
    pub input: &'a [f32],
    /// `[B · layout.per_row(), D]`
    pub residuals: &'a [f32],
    pub layout: ResidualLayout,
    /// Entries by latent; their rows are those of `residuals`.
    pub by_latent: &'a ByLatent,
}

/// AuxK: the dead latents and the residuals `e - ê` that they learn from.
#[derive(Clone, Copy)]
pub struct AuxContext<'a> {
    pub dead: &'a DeadLatents,
    /// `[B, D]`, scaled so that `-2/B` applies to them, too.
    pub residuals: &'a [f32],
}

/// Derivatives of the penalties.
#[derive(Clone, Copy)]
pub struct PenaltyContext<'a> {
    /// λ/B of L1.
    pub l1: f32,
    /// Lengths of the decoder rows `[H]` if they are free and L1 is on, else empty: 1.
    pub norms: &'a [f32],
    /// β/B times the derivative of KL to the mean of each latent `[H]`; empty if KL is off.
    pub d_kl: &'a [f32],
    /// Derivative of L0 to one more active latent in one row.
    pub d_l0: f32,
    /// ε of straight-through estimates.
    pub bandwidth: f32,
}

/// The decay of dead latents' thresholds, which no gradient reaches.
#[derive(Clone, Copy)]
pub struct ThresholdDecay<'a> {
    /// Share that a dead latent's threshold loses in a step.
    pub share: f32,
    /// Rows since each latent was last active.
    pub silent: &'a [u64],
    /// Rows of silence after which a latent is dead.
    pub dead_after: u64,
}

/// Everything that the workers of an update read.
pub struct UpdateContext<'a> {
    pub isa: Isa,
    pub config: &'a Config,
    pub batch: BatchContext<'a>,
    pub optimizer: OptimizerStep,
    pub penalties: PenaltyContext<'a>,
    pub threshold_decay: ThresholdDecay<'a>,
    /// The dead latents, if they learn in this step.
    pub aux: Option<AuxContext<'a>>,
    /// A gradient to the decoder directions from outside `[H, D]`.
    pub direction_gradient: Option<&'a Mat>,
    /// By worker.
    pub scratch: &'a PerThread<UpdateScratch>,
}

impl UpdateContext<'_> {
    /// True if a step leaves a latent where it is: it has no gradient, and its moments have decayed to nothing or the
    /// optimiser moves no latent without gradient.
    fn rests(&self, h: usize, idle: u32) -> bool {
        let still = self.optimizer.weights.keep == 1.0 && idle >= self.optimizer.rests_after;
        let in_auxk = || self.aux.is_some_and(|aux| aux.dead.position(h).is_some());
        let without_gradient =
            self.direction_gradient.is_none() && self.batch.by_latent.latent(h).0.is_empty() && !in_auxk();
        without_gradient && (still || self.optimizer.optimizer == Optimizer::SparseAdam)
    }
}

#[cfg(test)]
mod tests;
