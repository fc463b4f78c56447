//! TopK (Makhzani & Frey 2013, arXiv 1312.5663; Gao et al. 2024, arXiv 2406.04093):
//!
//! ```text
//! latents = the k largest pre-activations of a row, in full (`relu_after` off) or those above 0 among them
//! ```
//!
//! Ties go to the lower index. Parameters: none besides the encoder's. Training and inference select alike. Backward:
//! the gradient of a selected latent reaches its pre-activation unchanged. Penalty: none by default, k fixes the
//! sparsity.

use super::{
    DefaultPenalties, InitialSparsity, LatentGradients, LatentPenalty, Properties, Selection, SelectionOptions,
    SparsityControl, Threshold,
};

pub(crate) const PROPERTIES: Properties = Properties {
    name: "topk",
    sparsity: SparsityControl::K,
    threshold: Threshold::Absent,
    has_gate: false,
    is_dense: false,
    is_homogeneous: true,
    can_resample: true,
    plain_backward: true,
    initial_sparsity: InitialSparsity::Fixed,
    selection_in_training: selection,
    selection_in_inference: selection,
    default_penalties: |_, _| DefaultPenalties::default(),
};

fn selection(options: SelectionOptions) -> Selection {
    Selection::TopK { k: options.k, relu_after: options.relu_after }
}

/// Backward pass of an active latent: the gradient reaches the pre-activation unchanged. batchtopk and relu have the
/// same. `Isa::pre_act_gradients` computes the same sums, in the same order, of all rows.
#[inline(always)]
pub(crate) fn backward(value: f32, gradient: f32, penalty: &LatentPenalty, sums: &mut LatentGradients) -> f32 {
    sums.values += value;
    let d = gradient + penalty.l1;
    sums.b_enc += d;
    d
}
