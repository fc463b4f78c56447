//! Sigmoid, the classic sparse autoencoder (Ng 2011, CS294A lecture notes):
//!
//! ```text
//! latents = 1/(1 + e⁻ᵖ)
//! ```
//!
//! All latents are active in every row. Parameters: none besides the encoder's. Backward: the gradient of a latent a
//! reaches its pre-activation times a(1 - a). Penalty: KL between k/H and the mean of every latent in the batch.
//! Default β: twice the wanted mean costs a tenth of the variance of the rows. `b_enc` is initialised to the logit of
//! k/H.

use super::{
    DefaultPenalties, InitialSparsity, LatentGradients, LatentPenalty, Properties, Selection, SparsityControl,
    Threshold,
};

pub(crate) const PROPERTIES: Properties = Properties {
    name: "sigmoid",
    sparsity: SparsityControl::Kl,
    threshold: Threshold::Absent,
    has_gate: false,
    is_dense: true,
    is_homogeneous: false,
    can_resample: false,
    plain_backward: false,
    initial_sparsity: InitialSparsity::Mean,
    selection_in_training: |_| Selection::All,
    selection_in_inference: |_| Selection::All,
    default_penalties,
};

fn default_penalties(spread: f64, k: usize) -> DefaultPenalties {
    DefaultPenalties { kl: Some(spread / (3.0 * k as f64)), ..DefaultPenalties::default() }
}

/// Returns `1/(1 + e⁻ʸ)`.
#[inline]
pub fn sigmoid(y: f32) -> f32 {
    1.0 / (1.0 + (-y).exp())
}

/// Returns the encoder bias at which the mean of a latent is about k/H, clipped to [0.001, 0.5].
pub(crate) fn initial_bias(k: usize, latents: usize) -> f32 {
    let target = (k as f64 / latents as f64).clamp(1e-3, 0.5);
    (target / (1.0 - target)).ln() as f32
}

/// Backward pass of a latent.
#[inline(always)]
pub(crate) fn backward(value: f32, gradient: f32, penalty: &LatentPenalty, sums: &mut LatentGradients) -> f32 {
    sums.values += value;
    let d = (gradient + penalty.l1 + penalty.kl) * value * (1.0 - value);
    sums.b_enc += d;
    d
}
