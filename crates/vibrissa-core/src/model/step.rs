//! One training step, which exploits sparsity: one dense product (select), all else is O(B·k·D) (decode, update). No
//! dense `[B, H]` gradient, no `[B, k, D]` buffer, no allocation after the first step.
//!
//! | phase | file | result |
//! | --- | --- | --- |
//! | 1. select | `step.rs`, `model/encode.rs` | latents with their global index |
//! | 2. decode | `forward.rs`, `panel_sums.rs`, `penalties.rs`, `auxk.rs` | residuals and losses, entries by latent |
//! | 3. update | `update.rs` and below | gradients and Adam, latent by latent |
//!
//! `state.rs` is what a checkpoint holds, `resample.rs` is dead-latent resampling between steps. The phases meet in two
//! places only, the latents after `select` and the reconstruction after `decode`: a machine that owns a share of the
//! latents could take part by exchanging these two.

mod auxk;
mod forward;
mod panel_sums;
mod penalties;
mod resample;
mod state;
mod statistics;
mod update;

use super::prefilter::RoundedEncoder;
use super::{Sae, Workspace};
use crate::activation::SelectionOptions;
use crate::activation::batchtopk::moving_threshold;
use crate::error::{Error, Overflow, Result};
use crate::kernels::{Isa, MomentDecay, PerThread, advise_large_pages};
use crate::loss::{AuxK, Losses, Penalties};
use crate::matrix::{Latents, Mat, MatMut, MatRef};
use crate::optim::{AdamOptions, Optimizer, normalise};
use auxk::DeadLatents;
use forward::ForwardPass;
use penalties::PenaltyDerivatives;
use rayon::prelude::*;
pub use state::{Moments, State};
pub use statistics::{Activity, Times};
use std::time::Instant;
use update::{
    BatchContext, LatentRange, OptimizerStep, ScalarParameters, ThresholdDecay, UpdateContext, UpdateScratch,
    WithMoments,
};

/// The options of a training step that stay the same from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Dense or sparse Adam.
    pub optimizer: Optimizer,
    /// Its coefficients.
    pub adam: AdamOptions,
    /// Auxiliary loss for dead latents.
    pub auxk: AuxK,
    /// Sparsity penalties.
    pub penalties: Penalties,
    /// True if the effect of every latent is summed, for [`Engine::resample`].
    pub measure_effects: bool,
}

impl Default for StepOptions {
    /// Adam, without penalties and auxiliary losses.
    fn default() -> Self {
        StepOptions {
            optimizer: Optimizer::Adam,
            adam: AdamOptions::default(),
            auxk: AuxK { coef: 0.0, k_aux: 0, dead_after: u64::MAX },
            penalties: Penalties::default(),
            measure_effects: false,
        }
    }
}

/// A term of the loss of each row besides its error: takes the row and its reconstruction, writes the gradient to the
/// reconstruction, returns the value.
pub type RowTerm<'a> = dyn Fn(&[f32], &[f32], &mut [f32]) -> f64 + Sync + 'a;

/// One batch, and the options that change from step to step.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The rows that are encoded `[B, D]`.
    pub x: MatRef<'a>,
    /// The rows that are to be reconstructed `[B, D]`; they differ from `x` if the input is corrupted (denoising).
    pub target: MatRef<'a>,
    /// Learning rate.
    pub lr: f64,
    /// Active latents a row, in place of the model's k.
    pub k: Option<usize>,
    /// Matryoshka (Bussmann et al. 2025, arXiv 2503.17547): the reconstruction loss is the mean over prefixes of the
    /// latents of these lengths, ascending and below H, and over all latents.
    pub prefixes: &'a [usize],
    /// A gradient to the decoder directions `[H, D]` from outside (consistency), and its loss.
    pub extra: Option<(&'a Mat, f64)>,
    /// λ and a perceptual distance: adds `λ V` times its mean over rows, V = Σ‖x - mean(x)‖²/B of the batch, detached,
    /// so that λ has no units. Needs a linear output.
    pub perceptual: Option<(f64, &'a RowTerm<'a>)>,
}

impl<'a> Step<'a> {
    /// A step on `x` with this learning rate and nothing else.
    pub fn new(x: MatRef<'a>, lr: f64) -> Step<'a> {
        Step { x, target: x, lr, k: None, prefixes: &[], extra: None, perceptual: None }
    }
}

/// Number of chunks of latents that workers take in an update; the same whatever the number of threads.
const LATENT_CHUNKS: usize = 32;

/// Columns of `b_dec` that one worker sums.
const BIAS_COLUMNS: usize = 512;

/// Returns the number of latents in a chunk.
fn chunk_len(latents: usize) -> usize {
    latents.div_ceil(LATENT_CHUNKS)
}

/// Returns the number of latents, a whole number of chunks, after which two workers split them.
fn middle(latents: usize, chunk: usize) -> usize {
    latents.div_ceil(chunk) / 2 * chunk
}

/// A model in training.
#[derive(Debug)]
pub struct Engine {
    sae: Sae,
    state: State,
    options: StepOptions,
    /// The instruction set, and scratch of encoding.
    work: Workspace,
    forward: ForwardPass,
    penalties: PenaltyDerivatives,
    dead: DeadLatents,
    update: UpdateBuffers,
    activity: Activity,
    times: Times,
}

/// Memory of the update that is kept between steps.
#[derive(Debug)]
struct UpdateBuffers {
    scratch: PerThread<UpdateScratch>,
    /// `Σ (Σ_b d_pre[b, h]) W_enc[h]` over the latents of each chunk `[LATENT_CHUNKS, D]`; empty without decoder bias.
    through_input: Mat,
    /// Gradient of the decoder bias.
    d_b_dec: Vec<f32>,
}

impl Engine {
    /// A model in training, from its weights and state. `isa` changes speed only, never a result.
    ///
    /// # Panics
    /// If the state is that of a model of another shape.
    pub fn new(isa: Isa, mut sae: Sae, mut state: State, options: StepOptions) -> Engine {
        let config = *sae.config();
        let dim = config.d_in;
        assert_eq!(state.W_enc.m.len(), config.latents * dim, "a state of this model");
        if let (Some(w), 0, false) = (&mut sae.W_dec, state.steps, config.free_decoder) {
            w.data_mut().par_chunks_mut(dim).for_each(|row| normalise(isa, row));
        }
        if state.steps == 0 {
            state.l1 = options.penalties.l1;
        }
        for (_, moments) in state.moments_mut() {
            advise_large_pages(moments.m.page_range());
            advise_large_pages(moments.v.page_range());
        }
        state.effect.resize(if options.measure_effects { config.latents } else { 0 }, 0.0);
        Engine {
            state,
            options,
            work: Workspace::new(isa),
            forward: ForwardPass::default(),
            penalties: PenaltyDerivatives::default(),
            dead: DeadLatents::new(),
            update: UpdateBuffers {
                scratch: PerThread::default(),
                through_input: Mat::zeros(if config.decoder_bias { LATENT_CHUNKS } else { 0 }, dim),
                d_b_dec: vec![0.0; if config.decoder_bias { dim } else { 0 }],
            },
            activity: Activity::new(config.latents),
            times: Times::default(),
            sae,
        }
    }

    /// Returns the model as it is now.
    pub fn sae(&self) -> &Sae {
        &self.sae
    }

    /// Returns the state as it is now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the model and its state.
    pub fn into_parts(self) -> (Sae, State) {
        (self.sae, self.state)
    }

    /// Replaces the model's weights.
    pub fn replace(&mut self, sae: Sae) {
        self.sae = sae;
    }

    /// Frees the moments after the last step.
    pub fn drop_moments(&mut self) {
        self.state.moments_mut().for_each(|(_, moments)| *moments = Moments::default());
    }

    /// Returns the mean number of active latents of a batch by the selection of training. Call it after the last step:
    /// it moves batchtopk's threshold.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a pre-activation is not finite.
    pub fn l0_in_training(&mut self, x: MatRef) -> Result<f64> {
        self.select(x, self.sae.config.k)?;
        Ok(self.forward.latents.active() as f64 / x.rows() as f64)
    }

    /// See [`Sae::calibrate`].
    pub fn calibrate(&mut self, rows: usize, size: usize, fill: impl FnMut(std::ops::Range<usize>, MatMut)) {
        let k = self.sae.config.k;
        self.sae.calibrate(k, rows, size, fill);
    }

    /// Returns the latents of the last batch.
    pub fn latents(&self) -> &Latents {
        &self.forward.latents
    }

    /// Returns the number of latents that were silent for at least `dead_after` rows.
    pub fn dead(&self) -> usize {
        self.state.silent.iter().filter(|&&s| s >= self.options.auxk.dead_after).count()
    }

    /// Returns the times of the steps since the last call.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// Returns the latents' activity since the last call.
    pub fn take_activity(&mut self) -> Activity {
        std::mem::replace(&mut self.activity, Activity::new(self.sae.config.latents))
    }

    /// A plain step on a batch `x [B, D]`, with a gradient to the decoder directions from outside.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a pre-activation or the loss is not finite.
    pub fn step(&mut self, x: MatRef, lr: f64, extra: Option<(&Mat, f64)>) -> Result<Losses> {
        self.step_on(&Step { extra, ..Step::new(x, lr) })
    }

    /// One step.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a pre-activation or the loss is not finite.
    pub fn step_on(&mut self, step: &Step) -> Result<Losses> {
        let k = step.k.unwrap_or(self.sae.config.k);
        let started = Instant::now();
        self.select(step.x, k)?;
        let selected = Instant::now();
        let mut losses = self.decode(step, k);
        let decoded = Instant::now();
        losses.consistency = step.extra.map_or(0.0, |(_, loss)| loss);
        if !losses.total().is_finite() {
            return Err(Error::Diverged { step: self.state.steps, term: "loss", value: losses.total() });
        }
        self.update(step);
        self.count_activity(step.x.rows());
        self.steer_l1(step.x.rows(), k);
        self.state.steps += 1;
        let encode = self.work.product_time;
        self.times.add(encode, selected - started - encode, decoded - selected, decoded.elapsed());
        Ok(losses)
    }

    /// Phase 1: `x` → latents by the selection of training.
    fn select(&mut self, x: MatRef, k: usize) -> Result<()> {
        let Engine { sae, work, forward: ForwardPass { latents, gates, .. }, options, state, .. } = self;
        let (activation, relu_after) = (sae.config.activation, sae.config.relu_after);
        let selection_options = SelectionOptions { k, relu_after, bandwidth: options.penalties.bandwidth };
        let selection = (activation.properties().selection_in_training)(selection_options);
        let diverged = |_: Overflow| Error::Diverged { step: state.steps, term: "pre-activation", value: f64::NAN };
        sae.encode_by(selection, x, work, latents).map_err(diverged)?;
        if activation.has_gate() {
            gates.copy_from(latents);
            sae.magnitudes(latents, false);
        }
        if activation.calibrates_threshold() {
            sae.threshold[0] = moving_threshold(&mut state.threshold_sum, work.smallest_selected, state.steps);
        }
        Ok(())
    }

    /// Phase 2: residuals and losses, those of the gate and of the dead latents included; regroups entries by latent.
    fn decode(&mut self, step: &Step, k: usize) -> Losses {
        let Engine { sae, state, options, work, forward, penalties, dead, update, .. } = self;
        let (rows, dim, isa, latents) = (step.x.rows(), sae.config.d_in, work.isa(), sae.config.latents);
        let with_auxk = options.auxk.coef > 0.0;
        forward.prepare(&sae.config, step, with_auxk);
        // Every worker has memory for all that a row or a latent may need, whichever it gets.
        update.scratch.grow();
        let most = latents.max(forward.layout.per_row() * rows);
        update.scratch.iter_mut().for_each(|scratch| scratch.prepare(dim, most));
        penalties.measure_norms(isa, sae, state.l1);
        let mut losses = forward.decode(sae, work, step, (state.l1, penalties.norms()), &update.scratch);
        if with_auxk {
            losses.auxk = dead.decode(sae, work, step, forward, (options.auxk, &state.silent));
        }
        if let Some(term) = step.perceptual {
            losses.perceptual = forward.add_perceptual(isa, step, term, &update.scratch);
        }
        penalties.compute(&options.penalties, &forward.by_latent, [rows, k, latents], &mut losses);
        losses
    }

    /// Phase 3: gradient and Adam of every latent, then of the decoder bias.
    fn update(&mut self, step: &Step) {
        let (rows, config) = (step.x.rows(), *self.sae.config());
        let Engine { sae, state, options, work, forward, penalties, dead, update, .. } = self;
        sae.rounded = RoundedEncoder::default();
        let context = UpdateContext {
            isa: work.isa(),
            config: &config,
            batch: BatchContext {
                scale: -2.0 / rows as f32,
                input: work.input(&config, step.x),
                residuals: forward.residuals.data(),
                layout: forward.layout,
                by_latent: &forward.by_latent,
            },
            optimizer: OptimizerStep::new(options.optimizer, options.adam, state.steps + 1, step.lr),
            penalties: penalties.context(state.l1, rows, options.penalties.bandwidth),
            threshold_decay: ThresholdDecay {
                share: options.penalties.sink as f32,
                silent: &state.silent,
                dead_after: options.auxk.dead_after,
            },
            aux: dead.context(forward, rows, config.d_in),
            direction_gradient: step.extra.map(|e| e.0),
            scratch: &update.scratch,
        };
        fn with<'a>(w: &'a mut [f32], moments: &'a mut Moments) -> WithMoments<'a> {
            [w, &mut moments.m, &mut moments.v]
        }
        let learns_threshold = config.activation.learns_threshold();
        let all = LatentRange {
            first: 0,
            chunk: chunk_len(config.latents),
            dim: config.d_in,
            encoder: with(sae.W_enc.data_mut(), &mut state.W_enc),
            decoder: sae.W_dec.as_mut().map(|w| with(w.data_mut(), &mut state.W_dec)).unwrap_or_default(),
            scalars: ScalarParameters {
                b_enc: with(&mut sae.b_enc, &mut state.b_enc),
                threshold: if learns_threshold {
                    with(&mut sae.threshold, &mut state.threshold)
                } else {
                    Default::default()
                },
                b_gate: with(&mut sae.b_gate, &mut state.b_gate),
                r_mag: with(&mut sae.r_mag, &mut state.r_mag),
            },
            inv_norm: &mut sae.inv_norm,
            idle: &mut state.idle,
            effect: &mut state.effect,
            through_input: update.through_input.data_mut(),
        };
        all.update(&context);
        self.update_decoder_bias(step);
    }

    /// Adam of the decoder bias, whose gradient is `-2/B Σ_b residual_b - Σ_h (Σ_b d_pre[b, h]) W_enc[h]`, summed in a
    /// fixed order of columns, rows, chunks.
    fn update_decoder_bias(&mut self, step: &Step) {
        let Engine { sae, state, options, work, forward, update, .. } = self;
        let Some(b_dec) = &mut sae.b_dec else { return };
        let (rows, isa, per_row) = (step.x.rows(), work.isa(), forward.layout.per_row());
        let (scale, residuals) = (-2.0 / rows as f32, &forward.residuals);
        let UpdateBuffers { through_input, d_b_dec, .. } = update;
        d_b_dec.par_chunks_mut(BIAS_COLUMNS).enumerate().for_each(|(c, out)| {
            let columns = c * BIAS_COLUMNS..c * BIAS_COLUMNS + out.len();
            out.fill(0.0);
            for b in 0..rows {
                isa.add_scaled(out, scale, &residuals.row(b * per_row)[columns.clone()]);
            }
            for chunk in 0..LATENT_CHUNKS {
                isa.add_scaled(out, -1.0, &through_input.row(chunk)[columns.clone()]);
            }
        });
        let without_decay = AdamOptions { weight_decay: 0.0, ..options.adam };
        let (adam, _) = without_decay.at(Optimizer::Adam, state.steps + 1, step.lr);
        isa.adam([b_dec, &mut state.b_dec.m, &mut state.b_dec.v], d_b_dec, MomentDecay::NONE, &adam, [&[]; 3]);
    }

    /// Counts the rows in which each latent was active, and those since it last was.
    fn count_activity(&mut self, rows: usize) {
        let Engine { state, forward, activity, .. } = self;
        let each = state.silent.iter_mut().zip(&mut activity.counts).zip(forward.by_latent.active());
        for ((silent, count), &active) in each {
            *silent = if active > 0 { 0 } else { *silent + rows as u64 };
            *count += active;
        }
        activity.sum += forward.row_losses.iter().map(|l| l.activity).sum::<f64>();
        activity.rows += rows as u64;
    }

    /// Steers λ of L1 towards `k` active latents; see [`Penalties::steer`].
    fn steer_l1(&mut self, rows: usize, k: usize) {
        let steer = self.options.penalties.steer;
        if steer > 0.0 {
            let active = f64::from(self.forward.by_latent.total_active());
            let off = (active / (rows as f64 * k as f64)).ln().clamp(-2.0, 2.0);
            self.state.l1 *= (steer * off + off - self.state.l0_off).exp();
            self.state.l0_off = off;
        }
    }
}
