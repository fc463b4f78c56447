//! One training step, which exploits sparsity: one dense product (select), everything else O(B·k·D) (decode, update).
//! No dense `[B, H]` gradient, no `[B, k, D]` buffer, no allocation after the first step.
//!
//! The three phases meet in two places only, the candidates after `select` and the reconstruction after `decode`: a
//! machine that owns a share of the latents could take part by exchanging these two.

mod dead;
mod decode;
mod reinforce;
mod state;
mod update;

use super::encode::Rule;
use super::screen::Kept;
use super::{Sae, Workspace};
use crate::activation::Activation;
use crate::error::{Error, Overflow, Result};
use crate::kernels::{Isa, Left, PerThread, large_pages};
use crate::loss::{AuxK, Losses, Penalties};
use crate::matrix::{ByLatent, Latents, Mat, MatMut, MatRef};
use crate::optim::{AdamOptions, Optimizer, normalise};
use dead::Dead;
use decode::Sums;
use rayon::prelude::*;
pub use state::{Activity, Moments, State, Times};
use std::time::Instant;
use update::{Context, Rows, Scratch, Segments};

/// How a step moves the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Dense or sparse Adam.
    pub optimizer: Optimizer,
    /// Its numbers.
    pub adam: AdamOptions,
    /// Loss for dead latents.
    pub auxk: AuxK,
    /// What makes latents sparse.
    pub penalties: Penalties,
    /// The effect of every latent is summed up, for [`Engine::reinforce`].
    pub reinforce: bool,
}

impl Default for StepOptions {
    /// Adam, and nothing else.
    fn default() -> Self {
        StepOptions {
            optimizer: Optimizer::Adam,
            adam: AdamOptions::default(),
            auxk: AuxK { coef: 0.0, k_aux: 0, dead_after: u64::MAX },
            penalties: Penalties::default(),
            reinforce: false,
        }
    }
}

/// A term of the loss of each row beside its error: takes the row and its reconstruction, writes its gradient to the
/// reconstruction, gives its value.
pub type RowTerm<'a> = dyn Fn(&[f32], &[f32], &mut [f32]) -> f64 + Sync + 'a;

/// One batch, and what changes from step to step.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// What is encoded `[B, D]`.
    pub x: MatRef<'a>,
    /// What is to be reconstructed `[B, D]`; differs from `x` where the input is corrupted.
    pub target: MatRef<'a>,
    /// Learning rate.
    pub lr: f64,
    /// Active latents a row, in place of the model's own number.
    pub k: Option<usize>,
    /// Matryoshka (Bussmann et al. 2025, arXiv 2503.17547): the reconstruction loss is the mean over prefixes of the
    /// latents, of these lengths, ascending and below H, and over all latents.
    pub prefixes: &'a [usize],
    /// A gradient to the decoder directions `[H, D]` from outside (consistency), with its loss.
    pub extra: Option<(&'a Mat, f64)>,
    /// λ and a perceptual distance: adds `λ V` times its mean over rows, V = Σ‖x - mean(x)‖²/B of the batch, detached, so
    /// that λ has no units. Needs a linear output.
    pub perceptual: Option<(f64, &'a RowTerm<'a>)>,
}

impl<'a> Step<'a> {
    /// A plain step.
    pub fn new(x: MatRef<'a>, lr: f64) -> Step<'a> {
        Step { x, target: x, lr, k: None, prefixes: &[], extra: None, perceptual: None }
    }
}

/// How much one batch weighs in the moving mean of batchtopk's threshold: 1 - this.
const THRESHOLD_MEMORY: f64 = 0.99;

/// Latents updated by one worker in one go, as a share of H: the chunks are the same whatever the thread count.
const CHUNKS: usize = 32;

/// Latents of a chunk.
fn chunk(latents: usize) -> usize {
    latents.div_ceil(CHUNKS)
}

/// Where two workers that share so many latents part them, a whole number of chunks.
fn middle(latents: usize, chunk: usize) -> usize {
    latents.div_ceil(chunk) / 2 * chunk
}

/// What the rows of a batch add to its loss.
#[derive(Clone, Copy, Debug, Default)]
struct RowLoss {
    /// `Σ latent`: no loss, but what each row knows.
    activity: f64,
    recon: f64,
    gate: f64,
    /// `Σ latent ‖W_dec‖`
    l1: f64,
    auxk: f64,
    perceptual: f64,
}

/// A model in training.
#[derive(Debug)]
pub struct Engine {
    sae: Sae,
    state: State,
    options: StepOptions,
    isa: Isa,
    work: Workspace,
    latents: Latents,
    /// Gated: `π` where the latents are.
    gate: Latents,
    by_latent: ByLatent,
    /// For each row of the batch the residual of every prefix and of the gate, D values each; then, for each, `e - ê`.
    residual: Mat,
    sums: Sums,
    segments: Segments,
    /// In which segment a latent finds its residual; empty: the first.
    segment_of: Vec<u32>,
    /// Lengths of the decoder rows, where they are free and L1 asks.
    norms: Vec<f32>,
    /// Derivatives of the KL penalty to each latent.
    d_kl: Vec<f32>,
    /// KL of each latent and its derivative.
    kl: Vec<(f64, f64)>,
    /// Derivative of the L0 penalty to the count of one row.
    d_l0: f32,
    activity: Activity,
    times: Times,
    row_loss: Vec<RowLoss>,
    column_sums: Vec<f64>,
    dead: Dead,
    scratch: PerThread<Scratch>,
    /// `Σ (Σ_b d_pre[b, h]) W_enc[h]` over the latents of each chunk `[CHUNKS, D]`.
    through_input: Mat,
    d_b_dec: Vec<f32>,
}

impl Engine {
    /// A model ready to be trained, from its weights and state.
    ///
    /// # Panics
    /// If the state is of another shape than the model.
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
            large_pages(moments.m.pages());
            large_pages(moments.v.pages());
        }
        state.effect.resize(if options.reinforce { config.latents } else { 0 }, 0.0);
        Engine {
            isa,
            state,
            options,
            work: Workspace::new(isa),
            latents: Latents::default(),
            gate: Latents::default(),
            by_latent: ByLatent::default(),
            residual: Mat::default(),
            sums: Sums::default(),
            segments: Segments::default(),
            segment_of: Vec::new(),
            norms: Vec::new(),
            d_kl: Vec::new(),
            kl: Vec::new(),
            d_l0: 0.0,
            activity: Activity { counts: vec![0; config.latents], ..Activity::default() },
            times: Times::default(),
            row_loss: Vec::new(),
            column_sums: vec![0.0; dim],
            dead: Dead::new(),
            scratch: PerThread::default(),
            through_input: Mat::zeros(if config.decoder_bias { CHUNKS } else { 0 }, dim),
            d_b_dec: vec![0.0; if config.decoder_bias { dim } else { 0 }],
            sae,
        }
    }

    /// The model as it stands.
    pub fn sae(&self) -> &Sae {
        &self.sae
    }

    /// The state as it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The model and its state.
    pub fn into_parts(self) -> (Sae, State) {
        (self.sae, self.state)
    }

    /// Puts other weights in place of the model's.
    pub fn replace(&mut self, sae: Sae) {
        self.sae = sae;
    }

    /// Frees the moments where no step follows.
    pub fn drop_moments(&mut self) {
        self.state.moments_mut().for_each(|(_, moments)| *moments = Moments::default());
    }

    /// Mean active latents of a batch by the rule of training, which ends here: batchtopk's threshold has moved.
    pub fn l0_in_training(&mut self, x: MatRef) -> Result<f64> {
        self.select(x, self.sae.config.k)?;
        Ok(self.latents.active() as f64 / x.rows() as f64)
    }

    /// See [`Sae::calibrate`].
    pub fn calibrate(&mut self, rows: usize, size: usize, fill: impl FnMut(std::ops::Range<usize>, MatMut)) {
        let k = self.sae.config.k;
        self.sae.calibrate(k, rows, size, fill);
    }

    /// The latents of the last batch.
    pub fn latents(&self) -> &Latents {
        &self.latents
    }

    /// Latents that were silent for at least `dead_after` rows.
    pub fn dead(&self) -> usize {
        self.state.silent.iter().filter(|&&s| s >= self.options.auxk.dead_after).count()
    }

    /// Where the time went since this was last called.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// What the latents were like since this was last called.
    pub fn take_activity(&mut self) -> Activity {
        let empty = Activity { counts: vec![0; self.activity.counts.len()], ..Activity::default() };
        std::mem::replace(&mut self.activity, empty)
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
        self.watch(step.x.rows(), k);
        self.state.steps += 1;
        self.times.add(
            self.work.product,
            selected - started - self.work.product,
            decoded - selected,
            decoded.elapsed(),
        );
        Ok(losses)
    }

    /// Phase 1: `x` → candidates, that is latents with their global index.
    fn select(&mut self, x: MatRef, k: usize) -> Result<()> {
        let Engine { sae, work, latents, gate, options, state, .. } = self;
        let rule = match sae.config.activation {
            Activation::TopK => Rule::TopK { k, relu_after: sae.config.relu_after },
            Activation::BatchTopK => Rule::BatchTopK { k },
            Activation::Relu | Activation::Gated => Rule::Above { margin: 0.0 },
            Activation::JumpRelu => Rule::Above { margin: (0.5 * options.penalties.bandwidth) as f32 },
            Activation::Sigmoid => Rule::All,
        };
        let term = "pre-activation";
        let broken = |_: Overflow| Error::Diverged { step: state.steps, term, value: f64::NAN };
        sae.encode_by(rule, x, work, latents).map_err(broken)?;
        match sae.config.activation {
            Activation::Gated => {
                gate.copy_from(latents);
                sae.magnitudes(latents, false);
            }
            Activation::BatchTopK => {
                let least = f64::from(work.least_kept());
                state.threshold_sum = THRESHOLD_MEMORY * state.threshold_sum + (1.0 - THRESHOLD_MEMORY) * least;
                let weight = 1.0 - THRESHOLD_MEMORY.powf((state.steps + 1) as f64);
                sae.threshold[0] = (state.threshold_sum / weight) as f32;
            }
            _ => {}
        }
        Ok(())
    }

    /// Phase 3: gradient and Adam of every latent, its rows gathered once while they are in cache.
    fn update(&mut self, step: &Step) {
        let (x, rows, lr) = (step.x, step.x.rows(), step.lr);
        let config = *self.sae.config();
        let (dim, isa) = (config.d_in, self.isa);
        let segments = self.segments.count();
        let (weight_step, bias_step) = self.options.adam.at(self.options.optimizer, self.state.steps + 1, lr);
        let input = if config.decoder_bias { &self.work.centred.data()[..rows * dim] } else { x.data() };
        let (sae, state) = (&mut self.sae, &mut self.state);
        sae.kept = Kept::default();
        let context = Context {
            isa,
            config: &config,
            optimizer: self.options.optimizer,
            segments: self.segments,
            scale: -2.0 / rows as f32,
            input,
            residual: self.residual.data(),
            missing: &self.residual.data()[segments * rows * dim..],
            dead: self.dead.learn().then_some(&self.dead),
            by_latent: &self.by_latent,
            extra: step.extra.map(|e| e.0),
            l1: (state.l1 / rows as f64) as f32,
            norms: &self.norms,
            d_kl: &self.d_kl,
            d_l0: self.d_l0,
            bandwidth: self.options.penalties.bandwidth as f32,
            sink: self.options.penalties.sink as f32,
            silent: &state.silent,
            dead_after: self.options.auxk.dead_after,
            weight_step,
            bias_step,
            adam: self.options.adam,
            rests_after: self.options.adam.rests_after(),
            scratch: &self.scratch,
        };
        let jump = config.activation == Activation::JumpRelu;
        let all = Rows {
            first: 0,
            chunk: chunk(config.latents),
            dim,
            enc: [sae.W_enc.data_mut(), &mut state.W_enc.m, &mut state.W_enc.v],
            dec: match &mut sae.W_dec {
                Some(w) => [w.data_mut(), &mut state.W_dec.m, &mut state.W_dec.v],
                None => Default::default(),
            },
            bias: [&mut sae.b_enc, &mut state.b_enc.m, &mut state.b_enc.v],
            second: if jump {
                [&mut sae.threshold, &mut state.threshold.m, &mut state.threshold.v]
            } else {
                [&mut sae.b_gate, &mut state.b_gate.m, &mut state.b_gate.v]
            },
            gain: [&mut sae.r_mag, &mut state.r_mag.m, &mut state.r_mag.v],
            inv_norm: &mut sae.inv_norm,
            idle: &mut state.idle,
            effect: &mut state.effect,
            through_input: self.through_input.data_mut(),
        };
        all.for_each_chunk(&context);
        if let Some(b_dec) = &mut sae.b_dec {
            // -2/B Σ_b residual - Σ_h (Σ_b d_pre) W_enc[h], in a fixed order of columns, rows, chunks.
            let (residual, through) = (&self.residual, &self.through_input);
            self.d_b_dec.par_chunks_mut(512).enumerate().for_each(|(c, out)| {
                let columns = c * 512..c * 512 + out.len();
                out.fill(0.0);
                for b in 0..rows {
                    isa.add_scaled(out, context.scale, &residual.row(b * segments)[columns.clone()]);
                }
                for chunk in 0..CHUNKS {
                    isa.add_scaled(out, -1.0, &through.row(chunk)[columns.clone()]);
                }
            });
            let plain = AdamOptions { weight_decay: 0.0, ..self.options.adam };
            let (step, _) = plain.at(Optimizer::Adam, state.steps + 1, lr);
            isa.adam([b_dec, &mut state.b_dec.m, &mut state.b_dec.v], &self.d_b_dec, Left::ALL, &step, [&[]; 3]);
        }
    }

    /// Counts what was active; steers λ of L1 towards k active latents.
    fn watch(&mut self, rows: usize, k: usize) {
        let each = self.state.silent.iter_mut().zip(&mut self.activity.counts).zip(self.by_latent.active());
        for ((silent, count), &active) in each {
            *silent = if active > 0 { 0 } else { *silent + rows as u64 };
            *count += active;
        }
        self.activity.sum += self.row_loss.iter().map(|l| l.activity).sum::<f64>();
        self.activity.rows += rows as u64;
        let steer = self.options.penalties.steer;
        if steer > 0.0 {
            let off = (f64::from(self.by_latent.total_active()) / (rows as f64 * k as f64)).ln().clamp(-2.0, 2.0);
            self.state.l1 *= (steer * off + off - self.state.l0_off).exp();
            self.state.l0_off = off;
        }
    }
}
