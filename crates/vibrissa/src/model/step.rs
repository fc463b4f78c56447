//! One training step, which exploits sparsity: one dense product (select), everything else O(B·k·D) (decode, update).
//! No dense `[B, H]` gradient, no `[B, k, D]` buffer, no allocation after the first step.
//!
//! The three phases meet in two places only, the candidates after `select` and the reconstruction after `decode`: a
//! machine that owns a share of the latents could take part by exchanging these two.

mod reinforce;
mod update;

use super::encode::Rule;
use super::{Config, Output, Sae, Work, sigmoid, thread};
use crate::activation::{self, Activation, Candidates};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::loss::{AuxK, Losses, Penalties, cross_entropy, kl, spread};
use crate::matrix::{ByLatent, Latents, Mat, MatMut, MatRef, Panels};
use crate::optim::{AdamOptions, Optimizer, normalise};
use rayon::prelude::*;
use std::sync::Mutex;
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

/// First and second moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// First.
    pub m: Vec<f32>,
    /// Second.
    pub v: Vec<f32>,
}

impl Moments {
    fn zeros(n: usize) -> Moments {
        Moments { m: vec![0.0; n], v: vec![0.0; n] }
    }
}

/// All that a step changes besides the weights: what a checkpoint must keep.
#[derive(Clone, Debug, PartialEq)]
#[allow(non_snake_case)]
pub struct State {
    /// Steps done.
    pub steps: u64,
    /// Of the encoder (and decoder, when tied).
    pub W_enc: Moments,
    /// Of the decoder; empty when tied.
    pub W_dec: Moments,
    /// Of the encoder bias.
    pub b_enc: Moments,
    /// Of the decoder bias; empty without.
    pub b_dec: Moments,
    /// Of jumprelu's thresholds; else empty.
    pub threshold: Moments,
    /// Of the gate's biases; else empty.
    pub b_gate: Moments,
    /// Of the gains; else empty.
    pub r_mag: Moments,
    /// λ of L1 as it stands, where it is steered.
    pub l1: f64,
    /// `ln(L0 / k)` of the last batch, where λ is steered.
    pub l0_off: f64,
    /// batchtopk: moving sum of the smallest kept values.
    pub threshold_sum: f64,
    /// Rows since each latent was last active.
    pub silent: Vec<u64>,
    /// Whether a latent was ever moved: one that was not has zero moments, and dense Adam leaves it where it is.
    pub moved: Vec<bool>,
    /// Effect of each latent since [`Engine::reinforce`] was last called; empty where nobody asks.
    pub effect: Vec<f64>,
}

/// How much one batch weighs in the moving mean of batchtopk's threshold: 1 - this.
const THRESHOLD_MEMORY: f64 = 0.99;

/// What the latents of some batches were like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// Rows seen.
    pub rows: u64,
    /// Sum of all latents.
    pub sum: f64,
    /// Rows in which each latent was active.
    pub counts: Vec<u32>,
}

impl Activity {
    /// Mean active latents a row.
    pub fn l0(&self) -> f64 {
        self.counts.iter().map(|&c| f64::from(c)).sum::<f64>() / (self.rows as f64).max(1.0)
    }

    /// Mean of all latents, zeros included: what a KL penalty compares with its target.
    pub fn mean(&self) -> f64 {
        self.sum / (self.rows as f64 * self.counts.len() as f64).max(1.0)
    }
}

#[allow(non_snake_case)]
impl State {
    /// The state before the first step.
    pub fn new(config: &Config) -> State {
        let weights = config.latents * config.d_in;
        let [threshold, b_gate, r_mag] = config.own_lengths();
        let learned = if config.activation == Activation::JumpRelu { threshold } else { 0 };
        State {
            steps: 0,
            W_enc: Moments::zeros(weights),
            W_dec: Moments::zeros(if config.tied { 0 } else { weights }),
            b_enc: Moments::zeros(config.latents),
            b_dec: Moments::zeros(if config.decoder_bias { config.d_in } else { 0 }),
            threshold: Moments::zeros(learned),
            b_gate: Moments::zeros(b_gate),
            r_mag: Moments::zeros(r_mag),
            l1: 0.0,
            l0_off: 0.0,
            threshold_sum: 0.0,
            silent: vec![0; config.latents],
            moved: vec![false; config.latents],
            effect: Vec::new(),
        }
    }

    /// The moments that there are, by the name of their parameter.
    pub fn moments(&self) -> impl Iterator<Item = (&'static str, &Moments)> {
        let State { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag, .. } = self;
        let all = [W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag];
        PARAMETERS.into_iter().zip(all).filter(|p| !p.1.m.is_empty())
    }

    /// [`State::moments`], to be filled.
    pub fn moments_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Moments)> {
        let State { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag, .. } = self;
        let all = [W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag];
        PARAMETERS.into_iter().zip(all).filter(|p| !p.1.m.is_empty())
    }
}

/// What a step moves.
const PARAMETERS: [&str; 7] = ["W_enc", "W_dec", "b_enc", "b_dec", "threshold", "b_gate", "r_mag"];

/// Latents updated by one worker in one go, as a share of H: the chunks are the same whatever the thread count.
const CHUNKS: usize = 32;

/// What the rows of a batch add to its loss.
#[derive(Clone, Copy, Debug, Default)]
struct RowLoss {
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
    work: Work,
    latents: Latents,
    /// Gated: `π` where the latents are.
    gate: Latents,
    aux: Latents,
    by_latent: ByLatent,
    /// For each row of the batch its segments, D values each: the residual of every prefix, of the gate, and `e - ê`.
    residual: Mat,
    segments: Segments,
    /// In which segment a latent finds its residual; empty: the first.
    segment_of: Vec<u32>,
    /// Lengths of the decoder rows, where they are free and L1 asks.
    norms: Vec<f32>,
    /// Derivatives of the KL penalty to each latent.
    d_kl: Vec<f32>,
    /// Derivative of the L0 penalty to the count of one row.
    d_l0: f32,
    activity: Activity,
    row_loss: Vec<RowLoss>,
    column_sums: Vec<f64>,
    dead: Vec<u32>,
    /// Pre-activations of the dead latents `[B, dead]`.
    dead_acts: Panels,
    scratch: Vec<Mutex<Scratch>>,
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
        state.effect.resize(if options.reinforce { config.latents } else { 0 }, 0.0);
        Engine {
            isa,
            state,
            options,
            work: Work::default(),
            latents: Latents::default(),
            gate: Latents::default(),
            aux: Latents::default(),
            by_latent: ByLatent::default(),
            residual: Mat::default(),
            segments: Segments::default(),
            segment_of: Vec::new(),
            norms: Vec::new(),
            d_kl: Vec::new(),
            d_l0: 0.0,
            activity: Activity { counts: vec![0; config.latents], ..Activity::default() },
            row_loss: Vec::new(),
            column_sums: vec![0.0; dim],
            dead: Vec::with_capacity(config.latents),
            dead_acts: Panels::default(),
            scratch: Vec::new(),
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

    /// Mean active latents of a batch by the rule of training, which ends here: batchtopk's threshold has moved.
    pub fn l0_in_training(&mut self, x: MatRef) -> Result<f64> {
        self.select(x, self.sae.config.k)?;
        let active = |b: usize| self.latents.row(b).1.iter().filter(|v| **v != 0.0).count();
        Ok((0..x.rows()).map(active).sum::<usize>() as f64 / x.rows() as f64)
    }

    /// See [`Sae::calibrate`].
    pub fn calibrate(&mut self, rows: usize, size: usize, fill: impl FnMut(std::ops::Range<usize>, MatMut)) {
        let (isa, k) = (self.isa, self.sae.config.k);
        self.sae.calibrate(isa, k, rows, size, fill);
    }

    /// The latents of the last batch.
    pub fn latents(&self) -> &Latents {
        &self.latents
    }

    /// Latents that were silent for at least `dead_after` rows.
    pub fn dead(&self) -> usize {
        self.state.silent.iter().filter(|&&s| s >= self.options.auxk.dead_after).count()
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
        self.select(step.x, k)?;
        let mut losses = self.decode(step, k);
        losses.consistency = step.extra.map_or(0.0, |(_, loss)| loss);
        if !losses.total().is_finite() {
            return Err(Error::Diverged { step: self.state.steps, term: "loss", value: losses.total() });
        }
        self.update(step);
        self.watch(step.x.rows() as u64, k);
        self.state.steps += 1;
        Ok(losses)
    }

    /// Phase 1: `x` → candidates, that is latents with their global index.
    fn select(&mut self, x: MatRef, k: usize) -> Result<()> {
        let Engine { sae, work, latents, gate, isa, options, state, .. } = self;
        let rule = match sae.config.activation {
            Activation::TopK => Rule::TopK { k, relu_after: sae.config.relu_after },
            Activation::BatchTopK => Rule::BatchTopK { k },
            Activation::Relu | Activation::Gated => Rule::Above { margin: 0.0 },
            Activation::JumpRelu => Rule::Above { margin: (0.5 * options.penalties.bandwidth) as f32 },
            Activation::Sigmoid => Rule::All,
        };
        let term = "pre-activation";
        let broken = |_| Error::Diverged { step: state.steps, term, value: f64::NAN };
        sae.encode_by(rule, *isa, x, work, latents).map_err(broken)?;
        match sae.config.activation {
            Activation::Gated => {
                gate.clone_from(latents);
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

    /// Phase 2: residuals and losses, also those of the gate and of the dead latents; regroups all by latent.
    fn decode(&mut self, step: &Step, k: usize) -> Losses {
        let (rows, dim, isa) = (step.x.rows(), step.x.cols(), self.isa);
        let config = *self.sae.config();
        let gated = config.activation == Activation::Gated;
        let prefixes = step.prefixes.len() + 1;
        self.segments = Segments { prefixes, gated, aux: self.options.auxk.coef > 0.0 };
        let segments = self.segments.count();
        if self.residual.rows() < segments * rows || self.residual.cols() != dim {
            self.residual = Mat::zeros(segments * rows, dim);
        }
        self.row_loss.resize(rows, RowLoss::default());
        if self.scratch.is_empty() {
            self.scratch.resize_with(rayon::current_num_threads().max(1), Mutex::default);
        }
        let l1 = self.state.l1;
        self.norms.clear();
        if config.free_decoder && l1 > 0.0 {
            let decoder = self.sae.decoder_rows();
            decoder.data().par_chunks(dim).map(|row| isa.dot(row, row).sqrt()).collect_into_vec(&mut self.norms);
        }
        let (sae, work, latents, gate, norms) = (&self.sae, &self.work, &self.latents, &self.gate, &self.norms);
        let scratch = &self.scratch;
        let decoder = sae.decoder_rows().data();
        let share = 1.0 / prefixes as f32;
        let residual = &mut self.residual.data_mut()[..segments * rows * dim];
        residual.par_chunks_mut(segments * dim).zip(&mut self.row_loss).enumerate().for_each(|(b, (all, loss))| {
            let mut coefs = work.coefs[thread()].lock().expect("no panic while held");
            let begin = |out: &mut [f32]| match &sae.b_dec {
                Some(b_dec) => out.copy_from_slice(b_dec),
                None => out.fill(0.0),
            };
            let x = step.target.row(b);
            let (index, value) = latents.row(b);
            // Entries below a threshold are there for the threshold alone.
            let mut own = scratch[thread()].lock().expect("no panic while held");
            let (kept, values) = &mut own.active;
            let (index, value) = if value.contains(&0.0) {
                kept.clear();
                values.clear();
                for (&h, &v) in index.iter().zip(value).filter(|e| *e.1 != 0.0) {
                    kept.push(h);
                    values.push(v);
                }
                (&kept[..], &values[..])
            } else {
                (index, value)
            };
            *loss = RowLoss::default();
            let mut from = 0;
            for j in 0..prefixes {
                let to = step.prefixes.get(j).map_or(index.len(), |&m| index.partition_point(|&h| (h as usize) < m));
                let (done, out) = all.split_at_mut(j * dim);
                let out = &mut out[..dim];
                match done.len().checked_sub(dim) {
                    Some(last) => out.copy_from_slice(&done[last..]),
                    None => begin(out),
                }
                sae.add_features(isa, out, &index[from..to], &value[from..to], &mut coefs, decoder);
                from = to;
            }
            for out in all[..prefixes * dim].chunks_exact_mut(dim) {
                loss.recon += match config.output {
                    Output::Linear => {
                        isa.residual(x, out);
                        f64::from(isa.dot(out, out))
                    }
                    // Half of what is missing: -2/B times it is the gradient.
                    Output::Sigmoid => out.iter_mut().zip(x).fold(0.0, |sum, (y, &x)| {
                        let of = cross_entropy(x, *y);
                        *y = 0.5 * (x - sigmoid(*y));
                        sum + of
                    }),
                };
            }
            // The latents of a prefix serve it and all longer ones: they learn from the sum of these residuals.
            if prefixes > 1 {
                isa.scale(&mut all[(prefixes - 1) * dim..][..dim], share);
                for j in (0..prefixes - 1).rev() {
                    let (own, next) = all.split_at_mut((j + 1) * dim);
                    isa.scale(&mut own[j * dim..], share);
                    isa.add_scaled(&mut own[j * dim..], 1.0, &next[..dim]);
                }
            }
            if gated {
                let (index, value) = gate.row(b);
                let out = &mut all[prefixes * dim..][..dim];
                begin(out);
                sae.add_features(isa, out, index, value, &mut coefs, decoder);
                isa.residual(x, out);
                loss.gate = f64::from(isa.dot(out, out));
            }
            if l1 > 0.0 {
                let (index, value) = if gated { gate.row(b) } else { (index, value) };
                let length = |h: u32| norms.get(h as usize).map_or(1.0, |&n| f64::from(n));
                loss.l1 = index.iter().zip(value).map(|(&h, &a)| f64::from(a) * length(h)).sum();
            }
        });
        let mean = |of: fn(&RowLoss) -> f64, all: &[RowLoss]| all.iter().map(of).sum::<f64>() / rows as f64;
        let mut losses = Losses {
            recon: mean(|l| l.recon, &self.row_loss) / prefixes as f64,
            gate: mean(|l| l.gate, &self.row_loss),
            l1: l1 * mean(|l| l.l1, &self.row_loss),
            ..Losses::default()
        };
        if self.segments.aux {
            losses.auxk = self.decode_dead(step);
        }
        if let Some((lambda, term)) = step.perceptual {
            losses.perceptual = self.perceive(step, lambda, term);
        }
        self.regroup(step);
        let Penalties { l0, kl: beta, .. } = self.options.penalties;
        self.d_l0 = 0.0;
        if l0 > 0.0 {
            let active = (0..rows).map(|b| self.latents.row(b).1.iter().filter(|v| **v != 0.0).count()).sum::<usize>();
            let off = active as f64 / (rows * k) as f64 - 1.0;
            losses.l0 = l0 * off * off;
            self.d_l0 = (2.0 * l0 * off / (rows * k) as f64) as f32;
        }
        self.d_kl.clear();
        if beta > 0.0 {
            let (by_latent, target) = (&self.by_latent, k as f64 / config.latents as f64);
            let mut each: Vec<(f64, f64)> = Vec::with_capacity(config.latents);
            let of = |h: usize| {
                let sum: f64 = by_latent.latent(h).1.iter().map(|&a| f64::from(a)).sum();
                kl(target, sum / rows as f64)
            };
            (0..config.latents).into_par_iter().map(of).collect_into_vec(&mut each);
            losses.kl = beta * each.iter().map(|e| e.0).sum::<f64>();
            self.d_kl.extend(each.iter().map(|e| (beta * e.1 / rows as f64) as f32));
        }
        losses
    }

    /// Adds a perceptual term to the residuals of all prefixes: every latent serves the whole reconstruction.
    fn perceive(&mut self, step: &Step, lambda: f64, term: &RowTerm) -> f64 {
        let (rows, dim, isa) = (step.target.rows(), step.target.cols(), self.isa);
        let weight = lambda * spread(step.target, 0, 1, &mut self.column_sums) / rows as f64;
        let (prefixes, segments) = (self.segments.prefixes, self.segments.count());
        let scratch = &self.scratch;
        let residual = &mut self.residual.data_mut()[..segments * rows * dim];
        residual.par_chunks_mut(segments * dim).zip(&mut self.row_loss).enumerate().for_each(|(b, (all, loss))| {
            let mut own = scratch[thread()].lock().expect("no panic while held");
            let Scratch { enc: recon, dec: gradient, .. } = &mut *own;
            recon.resize(dim, 0.0);
            gradient.resize(dim, 0.0);
            let x = step.target.row(b);
            recon.copy_from_slice(x);
            isa.add_scaled(recon, -(prefixes as f32), &all[(prefixes - 1) * dim..][..dim]);
            loss.perceptual = term(x, recon, gradient);
            // -2/B times what is added is λ V/B times the gradient.
            for out in all[..prefixes * dim].chunks_exact_mut(dim) {
                isa.add_scaled(out, (-0.5 * weight) as f32, gradient);
            }
        });
        weight * self.row_loss.iter().map(|l| l.perceptual).sum::<f64>() / rows as f64
    }

    /// Entries by latent, with the row of `residual` that each learns from.
    fn regroup(&mut self, step: &Step) {
        let latents = self.sae.config().latents;
        self.segment_of.clear();
        if !step.prefixes.is_empty() {
            let of = |h: usize| step.prefixes.partition_point(|&m| m <= h) as u32;
            self.segment_of.extend((0..latents).map(of));
        }
        let Segments { prefixes, gated, aux } = self.segments;
        let mut parts = [(0, &self.latents), (0, &self.latents), (0, &self.latents)];
        let mut n = 1;
        for (_, latents) in [(gated, &self.gate), (aux, &self.aux)].iter().filter(|p| p.0) {
            parts[n] = ((prefixes + n - 1) as u32, *latents);
            n += 1;
        }
        self.by_latent.group(latents, self.segments.count() as u32, &parts[..n], &self.segment_of);
    }

    /// AuxK: the dead latents explain the residual; leaves `(e - ê)·B·coef V/‖e - mean e‖²` in the last segment, so
    /// that one scale serves all. Returns the loss, 0 where there is nothing dead or it is not finite.
    fn decode_dead(&mut self, step: &Step) -> f64 {
        let (x, rows, dim, isa) = (step.x, step.x.rows(), step.x.cols(), self.isa);
        let AuxK { coef, k_aux, dead_after } = self.options.auxk;
        self.dead.clear();
        self.dead.extend((0..self.state.silent.len() as u32).filter(|&h| self.state.silent[h as usize] >= dead_after));
        let k = k_aux.min(self.dead.len());
        if k == 0 {
            self.aux.resize(rows, 0);
            return 0.0;
        }
        let Segments { prefixes, .. } = self.segments;
        let segments = self.segments.count();
        let parts = prefixes as f32;
        // Where prefixes share the loss, the last of them has its share of the residual.
        let e_spread = f64::from(parts * parts)
            * spread(self.residual.top(segments * rows), prefixes - 1, segments, &mut self.column_sums);
        let v = spread(step.target, 0, 1, &mut self.column_sums) / rows as f64;
        let weight = coef * v / e_spread;
        if !weight.is_finite() {
            self.aux.resize(rows, 0);
            return 0.0;
        }
        self.sae.pre_acts_of(isa, x, &self.dead, &mut self.work, &mut self.dead_acts);
        let (dead, dead_acts, candidates, scratch) =
            (&self.dead, &self.dead_acts, &self.work.candidates, &self.scratch);
        let find = |b: usize, own: &mut Candidates, index: &mut [u32], value: &mut [f32]| {
            let n = activation::top_k(isa, k, || dead_acts.row(b), own, index, value);
            index[..n].iter_mut().for_each(|i| *i = dead[*i as usize]);
            n
        };
        activation::select(k, false, rows, candidates, &mut self.aux, find);
        let (sae, aux) = (&self.sae, &self.aux);
        let decoder = sae.decoder_rows().data();
        let residual = &mut self.residual.data_mut()[..segments * rows * dim];
        residual.par_chunks_mut(segments * dim).zip(&mut self.row_loss).enumerate().for_each(|(b, (all, loss))| {
            let mut own = scratch[thread()].lock().expect("no panic while held");
            let (index, value) = aux.row(b);
            let (before, out) = all.split_at_mut((segments - 1) * dim);
            out.fill(0.0);
            sae.add_features(isa, out, index, value, &mut own.coef, decoder);
            if prefixes > 1 {
                isa.scale(out, 1.0 / parts);
            }
            isa.residual(&before[(prefixes - 1) * dim..][..dim], out);
            if prefixes > 1 {
                isa.scale(out, parts);
            }
            loss.auxk = f64::from(isa.dot(out, out));
            // d loss/d ê = -2·weight·(e - ê); the main rows carry -2/B, so this segment is scaled by weight·B.
            isa.scale(out, (weight * rows as f64) as f32);
        });
        weight * self.row_loss.iter().map(|l| l.auxk).sum::<f64>()
    }

    /// Phase 3: gradient and Adam of every latent, its rows gathered once while they are in cache.
    fn update(&mut self, step: &Step) {
        let (x, rows, lr) = (step.x, step.x.rows(), step.lr);
        let config = *self.sae.config();
        let (dim, isa) = (config.d_in, self.isa);
        let segments = self.segments.count();
        for own in &mut self.scratch {
            let own = own.get_mut().expect("no panic while held");
            own.enc.resize(dim, 0.0);
            own.dec.resize(dim, 0.0);
            own.rows.reserve(3 * rows);
            own.d_pre.reserve(3 * rows);
            if own.coef.len() < 3 * rows {
                own.coef.resize(3 * rows, 0.0);
            }
        }
        let (weight_step, bias_step) = self.options.adam.at(self.options.optimizer, self.state.steps + 1, lr);
        let input = if config.decoder_bias { &self.work.centred.data()[..rows * dim] } else { x.data() };
        let (sae, state) = (&mut self.sae, &mut self.state);
        let context = Context {
            isa,
            config: &config,
            optimizer: self.options.optimizer,
            segments: self.segments,
            scale: -2.0 / rows as f32,
            input,
            residual: self.residual.data(),
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
            scratch: &self.scratch,
        };
        let jump = config.activation == Activation::JumpRelu;
        let all = Rows {
            first: 0,
            chunk: config.latents.div_ceil(CHUNKS),
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
            moved: &mut state.moved,
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
            isa.adam(b_dec, &mut state.b_dec.m, &mut state.b_dec.v, &self.d_b_dec, &step);
        }
    }

    /// Counts what was active; steers λ of L1 towards k active latents.
    fn watch(&mut self, rows: u64, k: usize) {
        self.state.silent.iter_mut().for_each(|s| *s += rows);
        let mut active = 0u64;
        for b in 0..self.latents.rows() {
            let (index, value) = self.latents.row(b);
            for (&h, &v) in index.iter().zip(value) {
                if v != 0.0 {
                    self.state.silent[h as usize] = 0;
                    self.activity.counts[h as usize] += 1;
                    self.activity.sum += f64::from(v);
                    active += 1;
                }
            }
        }
        self.activity.rows += rows;
        let steer = self.options.penalties.steer;
        if steer > 0.0 {
            let off = (active as f64 / (rows as f64 * k as f64)).ln().clamp(-2.0, 2.0);
            self.state.l1 *= (steer * off + off - self.state.l0_off).exp();
            self.state.l0_off = off;
        }
    }
}
