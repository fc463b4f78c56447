//! Activations: the functions that turn pre-activations into latents. Each has a file with its equation, its
//! parameters, its selection in training and in inference, its backward pass and its default penalty. This file holds
//! the closed enum over them and the one place that dispatches. No weights live here.
//!
//! To add one: a file that defines its [`Properties`] and `backward`, a variant of [`Activation`] with its two lines of
//! dispatch below, and a golden case (CONTRIBUTING.md, "Adding an activation").

pub(crate) mod batchtopk;
pub(crate) mod gated;
pub(crate) mod jumprelu;
pub(crate) mod relu;
pub mod select;
pub(crate) mod sigmoid;
pub(crate) mod topk;

use serde::{Deserialize, Serialize};

/// The function that turns pre-activations into latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The k largest pre-activations of each row (Makhzani & Frey 2013, arXiv 1312.5663; Gao et al. 2024, arXiv
    /// 2406.04093). See `activation/topk.rs`.
    #[default]
    TopK,
    /// The B·k largest positive pre-activations of a batch (Bussmann et al. 2024, arXiv 2412.06410). See
    /// `activation/batchtopk.rs`.
    BatchTopK,
    /// `max(p, 0)` (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600). See `activation/relu.rs`.
    Relu,
    /// `p · [p > θ_h]` (Rajamanoharan et al. 2024, arXiv 2407.14435). See `activation/jumprelu.rs`.
    JumpRelu,
    /// `[π > 0] · max(m, 0)` (Rajamanoharan et al. 2024, arXiv 2404.16014). See `activation/gated.rs`.
    Gated,
    /// `1/(1 + e⁻ᵖ)` (Ng 2011). See `activation/sigmoid.rs`.
    Sigmoid,
}

/// The quantity that determines how many latents of a row are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparsityControl {
    /// The selection itself: k latents a row, or k in the mean of a batch.
    K,
    /// An L1 penalty. Unless its λ is given, training steers λ until k latents are active in the mean.
    L1,
    /// An L0 penalty on the mean number of active latents, which reaches learned thresholds.
    L0,
    /// A KL penalty that draws the mean of every latent to k/H.
    Kl,
}

/// The threshold that pre-activations must exceed to become latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    /// None.
    Absent,
    /// One for all latents, `[1]`: estimated while training, used by inference only.
    Calibrated,
    /// One a latent, `[H]`, moved by its gradient.
    Learned,
}

/// The parameter that is set before the first step so that about k latents are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitialSparsity {
    /// None: the selection fixes k.
    Fixed,
    /// The bias of the pre-activations that select (`b_gate` of a gated model, else `b_enc`) is lowered.
    Bias,
    /// The threshold is raised.
    Threshold,
    /// `b_enc` is set so that the mean of every latent is about k/H.
    Mean,
}

/// The rule by which pre-activations become latents. Some activations have another one in training than in inference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Selection {
    /// The k largest of each row; with `relu_after` those above 0 among them.
    TopK { k: usize, relu_after: bool },
    /// The B·k largest of the batch, above 0.
    BatchTopK { k: usize },
    /// All above `threshold - margin`. Those not above the threshold itself get the value 0.
    AboveThreshold { margin: f32 },
    /// All, through the sigmoid.
    All,
}

/// The settings that a selection depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SelectionOptions {
    /// Active latents a row.
    pub k: usize,
    /// False if topk keeps negative values.
    pub relu_after: bool,
    /// Bandwidth ε of jumprelu's straight-through estimates.
    pub bandwidth: f64,
}

/// Everything that the library asks of an activation, apart from its backward pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Properties {
    /// The name in options and files.
    pub name: &'static str,
    pub sparsity: SparsityControl,
    pub threshold: Threshold,
    /// True if a gate with a bias `b_gate [H]` selects, and magnitudes have a gain `r_mag [H]`.
    pub has_gate: bool,
    /// True if every latent is active in every row.
    pub is_dense: bool,
    /// True if scaling rows, biases and thresholds by one factor scales the latents by it.
    pub is_homogeneous: bool,
    /// True if a latent can be resampled: encoder row, bias and direction are all that it has.
    pub can_resample: bool,
    /// True if the gradient of an active latent reaches its pre-activation unchanged and nothing else learns from it. A
    /// kernel then computes the backward pass of all rows.
    pub plain_backward: bool,
    pub initial_sparsity: InitialSparsity,
    pub selection_in_training: fn(SelectionOptions) -> Selection,
    pub selection_in_inference: fn(SelectionOptions) -> Selection,
    /// Default penalties for rows of this spread (see [`Activation::default_penalties`]) and this k.
    pub default_penalties: fn(spread: f64, k: usize) -> DefaultPenalties,
}

/// Coefficients that an activation's penalty has by default; `None` where the activation has no such coefficient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DefaultPenalties {
    /// λ of the L0 penalty.
    pub l0: Option<f64>,
    /// ε, the bandwidth of straight-through estimates.
    pub bandwidth: Option<f64>,
    /// β of the KL penalty.
    pub kl: Option<f64>,
}

/// Lengths of the parameters that only some activations have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterLengths {
    /// Length of `threshold`.
    pub threshold: usize,
    /// Length of `b_gate`.
    pub b_gate: usize,
    /// Length of `r_mag`.
    pub r_mag: usize,
}

impl Activation {
    /// All activations.
    pub const ALL: [Activation; 6] = [
        Activation::TopK,
        Activation::BatchTopK,
        Activation::Relu,
        Activation::JumpRelu,
        Activation::Gated,
        Activation::Sigmoid,
    ];

    pub(crate) fn properties(self) -> &'static Properties {
        match self {
            Activation::TopK => &topk::PROPERTIES,
            Activation::BatchTopK => &batchtopk::PROPERTIES,
            Activation::Relu => &relu::PROPERTIES,
            Activation::JumpRelu => &jumprelu::PROPERTIES,
            Activation::Gated => &gated::PROPERTIES,
            Activation::Sigmoid => &sigmoid::PROPERTIES,
        }
    }

    /// Backward pass of one active latent of one row: takes its value and the gradient that reaches it from the
    /// reconstruction, adds to the gradients of the latent's parameters, and returns the gradient of its
    /// pre-activation.
    #[inline(always)]
    pub(crate) fn backward(
        self,
        value: f32,
        gradient: f32,
        parameters: &LatentParameters,
        penalty: &LatentPenalty,
        sums: &mut LatentGradients,
    ) -> f32 {
        match self {
            Activation::TopK | Activation::BatchTopK | Activation::Relu => {
                topk::backward(value, gradient, penalty, sums)
            }
            Activation::JumpRelu => jumprelu::backward(value, gradient, parameters, penalty, sums),
            Activation::Gated => gated::backward_magnitude(value, gradient, parameters, sums),
            Activation::Sigmoid => sigmoid::backward(value, gradient, penalty, sums),
        }
    }

    /// Returns the name that options and files have for it.
    pub fn name(self) -> &'static str {
        self.properties().name
    }

    /// Returns the quantity that determines how many latents of a row are active.
    pub fn sparsity(self) -> SparsityControl {
        self.properties().sparsity
    }

    /// True if k fixes the number of active latents per row; otherwise k is a target for the mean.
    pub fn keeps_k(self) -> bool {
        self.sparsity() == SparsityControl::K
    }

    /// True if an L1 penalty alone makes latents sparse, so that its λ can be steered until k are active.
    pub fn steered_by_l1(self) -> bool {
        self.sparsity() == SparsityControl::L1
    }

    /// True if every latent is active in every row: AuxK, resampling and the annealing of k have no meaning then.
    pub fn is_dense(self) -> bool {
        self.properties().is_dense
    }

    /// True if a gate selects; it learns from an auxiliary squared error.
    pub fn has_gate(self) -> bool {
        self.properties().has_gate
    }

    /// True if every latent has a threshold that learns by straight-through estimates of a given bandwidth.
    pub fn learns_threshold(self) -> bool {
        self.properties().threshold == Threshold::Learned
    }

    /// True if inference compares pre-activations with one threshold that is set after training.
    pub fn calibrates_threshold(self) -> bool {
        self.properties().threshold == Threshold::Calibrated
    }

    /// True if scaling the rows, biases and thresholds of a model by one factor scales its latents by that factor.
    pub fn is_homogeneous(self) -> bool {
        self.properties().is_homogeneous
    }

    /// True if dead-latent resampling is possible: a resampled latent would otherwise need a gate or a threshold, too.
    pub fn can_resample(self) -> bool {
        self.properties().can_resample
    }

    /// True if decoder directions have any length by default: latents below 1 need directions of other lengths.
    pub fn has_free_decoder_by_default(self) -> bool {
        self.is_dense()
    }

    /// True if biases or thresholds are set from training rows before the first step; see `Sae::set_initial_sparsity`.
    pub fn is_initialised_from_rows(self) -> bool {
        self.properties().initial_sparsity != InitialSparsity::Fixed
    }

    /// Returns the default coefficients of the activation's penalty.
    ///
    /// `spread` is the variance of the training rows, summed over their columns; `k` the number of active latents.
    pub fn default_penalties(self, spread: f64, k: usize) -> DefaultPenalties {
        (self.properties().default_penalties)(spread, k)
    }

    /// Returns the lengths of the parameters that only some activations have, for a model of this many latents.
    pub fn parameter_lengths(self, latents: usize) -> ParameterLengths {
        let Properties { threshold, has_gate, .. } = self.properties();
        let threshold = match threshold {
            Threshold::Absent => 0,
            Threshold::Calibrated => 1,
            Threshold::Learned => latents,
        };
        let gate = if *has_gate { latents } else { 0 };
        ParameterLengths { threshold, b_gate: gate, r_mag: gate }
    }
}

/// The parameters of one latent that its backward pass reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatentParameters {
    pub b_enc: f32,
    /// θ of jumprelu, else 0.
    pub threshold: f32,
    /// `exp(r_mag)` of a gated model, else 1.
    pub gain: f32,
}

/// Derivatives of the penalties at one latent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatentPenalty {
    /// Derivative of L1 to the value: `λ ‖W_dec[h]‖ / B`.
    pub l1: f32,
    /// Derivative of L0 to the number of active latents of one row.
    pub l0: f32,
    /// Derivative of KL to the value.
    pub kl: f32,
    /// ε of straight-through estimates.
    pub bandwidth: f32,
}

/// The gradients of one latent's parameters, summed over the rows of a batch, and other sums over these rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LatentGradients {
    /// (Gradient of the decoder direction) · (decoder direction).
    pub along_direction: f32,
    /// Sum of the gradients of its pre-activations.
    pub pre_act: f32,
    pub b_enc: f32,
    pub threshold: f32,
    pub b_gate: f32,
    pub r_mag: f32,
    /// Sum of its values.
    pub values: f32,
    /// Increase of the squared error if the latent were removed.
    pub effect: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        for activation in Activation::ALL {
            let written = serde_json::to_value(activation).expect("a word");
            assert_eq!(written, activation.name());
        }
    }

    /// Two parameters never stand for the same thing, and a kernel replaces no backward pass that does more than it.
    #[test]
    fn properties_are_consistent() {
        for activation in Activation::ALL {
            let p = activation.properties();
            assert!(!(p.has_gate && p.threshold != Threshold::Absent), "{}", p.name);
            assert!(
                !(p.plain_backward && (p.has_gate || p.is_dense || p.threshold == Threshold::Learned)),
                "{}",
                p.name
            );
            assert_eq!(
                p.initial_sparsity == InitialSparsity::Threshold,
                p.threshold != Threshold::Absent,
                "{}",
                p.name
            );
            let defaults = activation.default_penalties(2.0, 8);
            assert_eq!(defaults.l0.is_some(), p.sparsity == SparsityControl::L0, "{}", p.name);
            assert_eq!(defaults.kl.is_some(), p.sparsity == SparsityControl::Kl, "{}", p.name);
            assert_eq!(defaults.bandwidth.is_some(), activation.learns_threshold(), "{}", p.name);
        }
    }
}
