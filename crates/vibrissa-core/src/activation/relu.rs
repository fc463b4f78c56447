//! ReLU (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600):
//!
//! ```text
//! latents = max(p, 0)
//! ```
//!
//! Parameters: none besides the encoder's. Training and inference select alike. Backward: the gradient of a latent
//! reaches its pre-activation where p > 0 (`topk::backward`). Penalty: L1; unless λ is given, training steers it until
//! k latents are active. `b_enc` is initialised so that k are.

use super::{DefaultPenalties, InitialSparsity, Properties, Selection, SparsityControl, Threshold};

pub(crate) const PROPERTIES: Properties = Properties {
    name: "relu",
    sparsity: SparsityControl::L1,
    threshold: Threshold::Absent,
    has_gate: false,
    is_dense: false,
    is_homogeneous: true,
    can_resample: true,
    plain_backward: true,
    initial_sparsity: InitialSparsity::Bias,
    selection_in_training: |_| Selection::AboveThreshold { margin: 0.0 },
    selection_in_inference: |_| Selection::AboveThreshold { margin: 0.0 },
    default_penalties: |_, _| DefaultPenalties::default(),
};
