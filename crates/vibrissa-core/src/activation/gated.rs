//! Gated (Rajamanoharan et al. 2024, arXiv 2404.16014):
//!
//! ```text
//! latents = [π > 0] · max(m, 0),   π = x̃·w + b_gate,   m = (x̃·w) exp(r_mag) + b_enc,   x̃ = x - b_dec
//! ```
//!
//! Parameters: `b_gate [H]` and `r_mag [H]`. Selection: π > 0 in training and inference. Inference drops latents with m
//! ≤ 0; training keeps them with the value 0, since their gates still learn.
//!
//! Backward: the reconstruction's gradient reaches m, and through it `b_enc`, `r_mag` and w, where m > 0. The gate has
//! no gradient from there; π learns from the auxiliary loss `‖x - x̂(max(π, 0))‖²` (decoder held constant) and from the
//! L1 penalty on max(π, 0) alone. Penalty: L1; unless λ is given, training steers it until k latents are active.

use super::{
    DefaultPenalties, InitialSparsity, LatentGradients, LatentParameters, LatentPenalty, Properties, Selection,
    SparsityControl, Threshold,
};
use crate::matrix::Latents;
use rayon::prelude::*;

pub(crate) const PROPERTIES: Properties = Properties {
    name: "gated",
    sparsity: SparsityControl::L1,
    threshold: Threshold::Absent,
    has_gate: true,
    is_dense: false,
    is_homogeneous: true,
    can_resample: false,
    plain_backward: false,
    initial_sparsity: InitialSparsity::Bias,
    selection_in_training: |_| Selection::AboveThreshold { margin: 0.0 },
    selection_in_inference: |_| Selection::AboveThreshold { margin: 0.0 },
    default_penalties: |_, _| DefaultPenalties::default(),
};

/// The parameters that turn gates into magnitudes, `[H]` each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MagnitudeParameters<'a> {
    pub b_gate: &'a [f32],
    pub r_mag: &'a [f32],
    pub b_enc: &'a [f32],
}

/// Replaces π > 0 by `max((π - b_gate) exp(r_mag) + b_enc, 0)`. Zeros are dropped if `drop_zeros`.
pub(crate) fn magnitudes(p: MagnitudeParameters, latents: &mut Latents, drop_zeros: bool) {
    let (len, index, value, capacity) = latents.parts_mut();
    let rows = len.par_iter_mut().zip(index.par_chunks_mut(capacity)).zip(value.par_chunks_mut(capacity));
    rows.for_each(|((len, index), value)| {
        let mut kept = 0;
        for j in 0..*len as usize {
            let h = index[j] as usize;
            let m = (value[j] - p.b_gate[h]).mul_add(p.r_mag[h].exp(), p.b_enc[h]).max(0.0);
            (index[kept], value[kept]) = (index[j], m);
            kept += usize::from(!drop_zeros || m > 0.0);
        }
        *len = kept as u32;
    });
}

/// Backward pass of the magnitude of a latent whose gate is open.
#[inline(always)]
pub(crate) fn backward_magnitude(
    value: f32,
    gradient: f32,
    parameters: &LatentParameters,
    sums: &mut LatentGradients,
) -> f32 {
    if value > 0.0 {
        sums.b_enc += gradient;
        sums.r_mag += gradient * (value - parameters.b_enc);
        gradient * parameters.gain
    } else {
        0.0
    }
}

/// Backward pass of an open gate, from the auxiliary loss.
#[inline(always)]
pub(crate) fn backward_gate(value: f32, gradient: f32, penalty: &LatentPenalty, sums: &mut LatentGradients) -> f32 {
    sums.values += value;
    sums.b_gate += gradient + penalty.l1;
    gradient + penalty.l1
}
