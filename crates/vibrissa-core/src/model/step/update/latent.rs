//! One latent: its gradients, and Adam of its rows.

use super::super::super::inverse_root;
use super::super::auxk::AuxGradient;
use super::super::forward::ResidualKind;
use super::backward::{Entries, LatentBackward};
use super::descent::{LONG, RowGradient, WeightedRows};
use super::{GradientScratch, ScalarParameters, UpdateContext, UpdateScratch, WithMoments};
use crate::activation::jumprelu::backward_threshold;
use crate::activation::{LatentGradients, LatentParameters, LatentPenalty};
use crate::kernels::MomentDecay;
use crate::optim::to_unit;

/// The weights, moments and state of one latent.
pub struct LatentUpdate<'a> {
    /// Its number.
    pub h: usize,
    /// `[D]`
    pub enc: WithMoments<'a>,
    /// `[D]`; empty when tied.
    pub dec: WithMoments<'a>,
    /// The rows of the latent that is moved after it, which are prefetched.
    pub next_enc: [&'a [f32]; 3],
    pub next_dec: [&'a [f32]; 3],
    pub b_enc: f32,
    /// θ of jumprelu, else 0.
    pub threshold: f32,
    pub r_mag: f32,
    /// Decay of its moments since they were written.
    pub decay: MomentDecay,
    /// The gradient of a dead latent from AuxK, to which all else is added.
    pub aux: Option<AuxGradient<'a>>,
    pub inv_norm: Option<&'a mut f32>,
    pub idle: &'a mut u32,
    pub effect: Option<&'a mut f64>,
}

impl LatentUpdate<'_> {
    /// Adam of its rows. Returns the gradients of its scalar parameters; `None` if the latent has no gradient.
    pub fn update(
        mut self,
        context: &UpdateContext,
        scratch: &mut UpdateScratch,
        through_input: &mut [f32],
    ) -> Option<ScalarParameters<f32>> {
        let isa = context.isa;
        let (rows, values) = context.batch.by_latent.latent(self.h);
        if rows.is_empty() && context.direction_gradient.is_none() && self.aux.is_none() {
            self.descend_without_gradient(context);
            return None;
        }
        *self.idle = 0;
        let UpdateScratch { gradient: scratch, partition, below_dots, .. } = scratch;
        let learns_threshold = context.config.activation.learns_threshold();
        if learns_threshold {
            partition.fill(rows, values);
        }
        let (rows, values) = if learns_threshold { partition.active() } else { (rows, values) };
        let entries = Entries { rows, values };
        let backward = self.backward(context);
        self.multiply_residuals(context, entries, scratch);
        let mut sums = self.sum_entries(context, &backward, entries, scratch);
        if let Some(aux) = &self.aux {
            aux.add_to(&mut sums, context.config.activation);
        }
        if learns_threshold {
            self.learn_below_threshold(context, &backward, partition.below(), below_dots, &mut sums);
        }
        if let Some(total) = &mut self.effect {
            **total += sums.effect;
        }
        if let Some(extra) = context.direction_gradient {
            sums.along_direction += isa.dot(extra.row(self.h), self.direction(context)) * self.inv_norm();
        }
        if !through_input.is_empty() {
            isa.add_scaled(through_input, sums.pre_act, self.enc[0]);
        }
        self.descend(context, entries, &sums, scratch);
        Some(ScalarParameters { b_enc: sums.b_enc, threshold: sums.threshold, b_gate: sums.b_gate, r_mag: sums.r_mag })
    }

    /// `1/‖W_enc[h]‖` when tied, else 1.
    fn inv_norm(&self) -> f32 {
        self.inv_norm.as_ref().map_or(1.0, |inv| **inv)
    }

    /// The decoder row.
    fn direction(&self, context: &UpdateContext) -> &[f32] {
        if context.config.tied { self.enc[0] } else { self.dec[0] }
    }

    /// Length of the decoder row.
    fn norm(&self, context: &UpdateContext) -> f32 {
        context.penalties.norms.get(self.h).copied().unwrap_or(1.0)
    }

    /// True if the kernel [`crate::kernels::Isa::pre_act_gradients`] computes the backward pass of all entries.
    fn has_plain_backward(&self, context: &UpdateContext) -> bool {
        let plain = context.config.activation.properties().plain_backward;
        plain && context.batch.layout.per_row() == 1 && self.effect.is_none()
    }

    fn backward(&self, context: &UpdateContext) -> LatentBackward {
        let penalties = &context.penalties;
        LatentBackward {
            parameters: LatentParameters {
                b_enc: self.b_enc,
                threshold: self.threshold,
                gain: if context.config.activation.has_gate() { self.r_mag.exp() } else { 1.0 },
            },
            penalty: LatentPenalty {
                l1: penalties.l1 * self.norm(context),
                l0: penalties.d_l0,
                kl: penalties.d_kl.get(self.h).copied().unwrap_or(0.0),
                bandwidth: penalties.bandwidth,
            },
            factor: context.batch.scale * self.inv_norm(),
            measures_effect: self.effect.is_some(),
        }
    }

    /// Computes `residual_b · decoder row` into `d_pre`, and the gradient to the direction, `-2/B Σ_b a_b residual_b`,
    /// into a buffer; of long rows its coefficients only, since the sum is taken piece by piece in
    /// [`RowGradient::descend`]. Rows that fit the first cache are read once for both. The gate's loss holds the
    /// direction constant.
    fn multiply_residuals(&self, context: &UpdateContext, entries: Entries, scratch: &mut GradientScratch) {
        let (isa, batch, tied) = (context.isa, &context.batch, context.config.tied);
        let GradientScratch { enc, dec, d_pre, coef, .. } = scratch;
        let (Entries { rows, values }, direction, inv_norm) = (entries, self.direction(context), self.inv_norm());
        let coef = &mut coef[..rows.len()];
        for ((c, &a), &r) in coef.iter_mut().zip(values).zip(rows) {
            *c = if batch.layout.place(r).1 == ResidualKind::Gate { 0.0 } else { a * batch.scale * inv_norm };
        }
        d_pre.resize(rows.len(), 0.0);
        if direction.len() >= LONG {
            isa.gather_dots(direction, rows, batch.residuals, d_pre);
        } else {
            let (buffer, aux) = (if tied { enc } else { dec }, self.aux.as_ref());
            if let Some(aux) = aux {
                buffer.copy_from_slice(aux.direction(tied));
            }
            isa.dots_and_add(direction, coef, rows, batch.residuals, d_pre, buffer, aux.is_some());
        }
    }

    /// Backward pass of all entries; most often the kernel computes the same sums in the same order.
    fn sum_entries(
        &self,
        context: &UpdateContext,
        backward: &LatentBackward,
        entries: Entries,
        scratch: &mut GradientScratch,
    ) -> LatentGradients {
        let GradientScratch { d_pre, rows, .. } = scratch;
        if !self.has_plain_backward(context) {
            return backward.sum(context, entries, d_pre, rows);
        }
        let [along_direction, pre_act] =
            context.isa.pre_act_gradients(entries.values, backward.factor, backward.penalty.l1, d_pre);
        let values = if context.config.free_decoder { entries.values.iter().sum() } else { 0.0 };
        LatentGradients { along_direction, pre_act, b_enc: pre_act, values, ..LatentGradients::default() }
    }

    /// Straight-through estimates from the entries below the threshold.
    fn learn_below_threshold(
        &self,
        context: &UpdateContext,
        backward: &LatentBackward,
        below: &[u32],
        dots: &mut Vec<f32>,
        sums: &mut LatentGradients,
    ) {
        if below.is_empty() {
            return;
        }
        dots.resize(below.len(), 0.0);
        context.isa.gather_dots(self.direction(context), below, context.batch.residuals, dots);
        for dot in dots {
            let d = backward.factor * *dot + backward.penalty.l1;
            backward_threshold(d, self.threshold, &backward.penalty, sums);
        }
    }

    /// Adam of the encoder row and of an untied decoder row.
    fn descend(self, context: &UpdateContext, entries: Entries, sums: &LatentGradients, scratch: &mut GradientScratch) {
        let UpdateContext { isa, config, batch, .. } = *context;
        let (inv_norm, norm, plain) = (self.inv_norm(), self.norm(context), self.has_plain_backward(context));
        let GradientScratch { enc: enc_buffer, dec: dec_buffer, d_pre, coef, rows } = scratch;
        let weight_coef = match config.free_decoder {
            // ‖w‖ of the L1 penalty.
            true if context.penalties.l1 * norm > 0.0 && norm > 0.0 => context.penalties.l1 * sums.values / norm,
            true => 0.0,
            // The direction has unit length: the part of its gradient along it is removed.
            false => -sums.along_direction * inv_norm * inv_norm,
        };
        let (index, long) = (entries.rows, self.direction(context).len() >= LONG);
        let to_direction = RowGradient {
            in_buffer: !long,
            initial: self.aux.as_ref().map(|aux| aux.direction(config.tied)),
            residuals: long.then_some(WeightedRows { coef: &coef[..index.len()], index, rows: batch.residuals }),
            extra: context.direction_gradient.map(|extra| (inv_norm, extra.row(self.h))),
            weight_coef,
            input: None,
            decay: self.decay,
        };
        let input = Some(WeightedRows { coef: d_pre, index: if plain { index } else { rows }, rows: batch.input });
        let to_encoder = if config.tied {
            RowGradient { input, ..to_direction }
        } else {
            let initial = self.aux.as_ref().map(|aux| aux.enc);
            RowGradient {
                in_buffer: false,
                initial,
                residuals: None,
                extra: None,
                weight_coef: 0.0,
                input,
                decay: self.decay,
            }
        };
        let step = &context.optimizer.weights;
        let square = to_encoder.descend(isa, self.enc, enc_buffer, step, self.next_enc);
        match self.inv_norm {
            Some(inv_norm) => *inv_norm = inverse_root(square),
            None => {
                let [w, m, v] = self.dec;
                let square = to_direction.descend(isa, [&mut *w, m, v], dec_buffer, step, self.next_dec);
                if !config.free_decoder {
                    to_unit(isa, w, square);
                }
            }
        }
    }

    /// Adam of a latent without gradient: its moments stay in memory as they are, one idle step more decays them.
    fn descend_without_gradient(self, context: &UpdateContext) {
        let (isa, step) = (context.isa, &context.optimizer.weights);
        *self.idle = self.idle.saturating_add(1);
        let square = isa.adam(self.enc, &[], self.decay, step, self.next_enc);
        match self.inv_norm {
            Some(inv_norm) => *inv_norm = inverse_root(square),
            None => {
                let [w, m, v] = self.dec;
                let square = isa.adam([&mut *w, m, v], &[], self.decay, step, self.next_dec);
                if !context.config.free_decoder {
                    to_unit(isa, w, square);
                }
            }
        }
    }
}
