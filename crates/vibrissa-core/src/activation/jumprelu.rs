//! JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435, eq. 1):
//!
//! ```text
//! latents = p · [p > θ_h],   θ_h ≥ 0
//! ```
//!
//! Parameters: `threshold` θ `[H]`. Inference: this equation. Training also keeps pre-activations up to ε/2 below θ, with the
//! value 0, since they contribute to the gradient of θ.
//!
//! Backward: the gradient d of a latent reaches its pre-activation where p > θ. θ has no derivative; it learns by
//! straight-through estimates (eqs. 11 and 12) with bandwidth ε and rect = 1 on (-½, ½):
//!
//! ```text
//! -(θ/ε) rect((p - θ)/ε) · d   and   -(1/ε) rect((p - θ)/ε) · (derivative of the L0 penalty to the count)
//! ```
//!
//! Penalty: L0, `λ (L0/k - 1)²`. Default λ: the variance of the rows, so that at L0 = 2k the penalty equals the squared error of
//! the mean. Default ε: 0.1 √(variance/k), a tenth of a typical latent value.

use super::{
    DefaultPenalties, InitialSparsity, LatentGradients, LatentParameters, LatentPenalty, Properties, Selection,
    SelectionOptions, SparsityControl, Threshold,
};

pub(crate) const PROPERTIES: Properties = Properties {
    name: "jumprelu",
    sparsity: SparsityControl::L0,
    threshold: Threshold::Learned,
    has_gate: false,
    is_dense: false,
    is_homogeneous: true,
    can_resample: false,
    plain_backward: false,
    initial_sparsity: InitialSparsity::Threshold,
    selection_in_training,
    selection_in_inference: |_| Selection::AboveThreshold { margin: 0.0 },
    default_penalties,
};

fn selection_in_training(options: SelectionOptions) -> Selection {
    Selection::AboveThreshold { margin: (0.5 * options.bandwidth) as f32 }
}

fn default_penalties(spread: f64, k: usize) -> DefaultPenalties {
    let bandwidth = 0.1 * (spread / k as f64).sqrt();
    DefaultPenalties { l0: Some(spread), bandwidth: Some(bandwidth), kl: None }
}

/// Backward pass of a latent above its threshold. Below it only the threshold learns, by [`backward_threshold`]; both are
/// called in `model/step/update/latent.rs`.
#[inline(always)]
pub(crate) fn backward(
    value: f32,
    gradient: f32,
    parameters: &LatentParameters,
    penalty: &LatentPenalty,
    sums: &mut LatentGradients,
) -> f32 {
    sums.values += value;
    let d = gradient + penalty.l1;
    if value - parameters.threshold < 0.5 * penalty.bandwidth {
        backward_threshold(d, parameters.threshold, penalty, sums);
    }
    sums.b_enc += d;
    d
}

/// Adds the straight-through estimate of the threshold's gradient from a pre-activation within ε/2 of it, on either side.
/// `d` is the gradient to the latent's value.
#[inline(always)]
pub(crate) fn backward_threshold(d: f32, threshold: f32, penalty: &LatentPenalty, sums: &mut LatentGradients) {
    sums.threshold -= (threshold * d + penalty.l0) / penalty.bandwidth;
}

/// Limits a threshold to 0 or more after a step. That of a dead latent, which no gradient reaches any more, loses the
/// share `decay`.
#[inline]
pub(crate) fn limit_threshold(threshold: &mut f32, dead: bool, decay: f32) {
    let share = if dead { 1.0 - decay } else { 1.0 };
    *threshold = share * threshold.max(0.0);
}
