//! One training step, which exploits sparsity: one dense product (select), everything else O(B·k·D) (decode, update).
//! No dense `[B, H]` gradient, no `[B, k, D]` buffer, no allocation after the first step.
//!
//! The three phases meet in two places only, the candidates after `select` and the reconstruction after `decode`: a
//! machine that owns a share of the latents could take part by exchanging these two.

mod reinforce;
mod update;

use super::{Config, Sae, Work, thread};
use crate::activation::{self, Candidates};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::loss::{AuxK, Losses, spread};
use crate::matrix::{ByLatent, Latents, Mat, MatRef, Panels};
use crate::optim::{AdamOptions, Optimizer, normalise};
use rayon::prelude::*;
use std::sync::Mutex;
use update::{Context, Rows, Scratch};

/// How a step moves the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Dense or sparse Adam.
    pub optimizer: Optimizer,
    /// Its numbers.
    pub adam: AdamOptions,
    /// Loss for dead latents.
    pub auxk: AuxK,
    /// The effect of every latent is summed up, for [`Engine::reinforce`].
    pub reinforce: bool,
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
    /// Rows since each latent was last active.
    pub silent: Vec<u64>,
    /// Whether a latent was ever moved: one that was not has zero moments, and dense Adam leaves it where it is.
    pub moved: Vec<bool>,
    /// Effect of each latent since [`Engine::reinforce`] was last called; empty where nobody asks.
    pub effect: Vec<f64>,
}

impl State {
    /// The state before the first step.
    pub fn new(config: &Config) -> State {
        let weights = config.latents * config.d_in;
        State {
            steps: 0,
            W_enc: Moments::zeros(weights),
            W_dec: Moments::zeros(if config.tied { 0 } else { weights }),
            b_enc: Moments::zeros(config.latents),
            b_dec: Moments::zeros(if config.decoder_bias { config.d_in } else { 0 }),
            silent: vec![0; config.latents],
            moved: vec![false; config.latents],
            effect: Vec::new(),
        }
    }
}

/// Latents updated by one worker in one go, as a share of H: the chunks are the same whatever the thread count.
const CHUNKS: usize = 32;

/// A model in training.
#[derive(Debug)]
pub struct Engine {
    sae: Sae,
    state: State,
    options: StepOptions,
    isa: Isa,
    work: Work,
    latents: Latents,
    aux: Latents,
    by_latent: ByLatent,
    /// Residuals `[B, D]`, and below them, with AuxK, `e - ê`.
    residual: Mat,
    row_loss: Vec<f64>,
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
        if let (Some(w), 0) = (&mut sae.W_dec, state.steps) {
            w.data_mut().par_chunks_mut(dim).for_each(|row| normalise(isa, row));
        }
        state.effect.resize(if options.reinforce { config.latents } else { 0 }, 0.0);
        Engine {
            isa,
            state,
            options,
            work: Work::default(),
            latents: Latents::default(),
            aux: Latents::default(),
            by_latent: ByLatent::default(),
            residual: Mat::default(),
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

    /// The latents of the last batch.
    pub fn latents(&self) -> &Latents {
        &self.latents
    }

    /// Latents that were silent for at least `dead_after` rows.
    pub fn dead(&self) -> usize {
        self.state.silent.iter().filter(|&&s| s >= self.options.auxk.dead_after).count()
    }

    /// One step on a batch `x [B, D]`. `extra` is a gradient to the decoder directions `[H, D]` from outside
    /// (consistency), with its loss.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a pre-activation or the loss is not finite.
    pub fn step(&mut self, x: MatRef, lr: f64, extra: Option<(&Mat, f64)>) -> Result<Losses> {
        let step = self.state.steps;
        self.select(x)?;
        let mut losses = self.decode(x);
        losses.consistency = extra.map_or(0.0, |(_, loss)| loss);
        let total = losses.recon + losses.auxk + losses.consistency;
        if !total.is_finite() {
            return Err(Error::Diverged { step, term: "loss", value: total });
        }
        self.update(x, lr, extra.map(|(g, _)| g));
        self.count_silence(x.rows() as u64);
        self.state.steps += 1;
        Ok(losses)
    }

    /// Phase 1: `x` → candidates, that is latents with their global index.
    fn select(&mut self, x: MatRef) -> Result<()> {
        let Engine { sae, work, latents, isa, .. } = self;
        sae.encode(*isa, x, work, latents).map_err(|_| Error::Diverged {
            step: self.state.steps,
            term: "pre-activation",
            value: f64::NAN,
        })
    }

    /// Phase 2: residuals and losses, also those of the dead latents.
    fn decode(&mut self, x: MatRef) -> Losses {
        let (rows, dim, isa) = (x.rows(), x.cols(), self.isa);
        let with_aux = self.options.auxk.coef > 0.0;
        let need = if with_aux { 2 * rows } else { rows };
        if self.residual.rows() < need {
            self.residual = Mat::zeros(need, dim);
            self.row_loss.resize(rows, 0.0);
        }
        let (sae, work, latents) = (&self.sae, &self.work, &self.latents);
        let residual = &mut self.residual.data_mut()[..rows * dim];
        residual.par_chunks_mut(dim).zip(&mut self.row_loss[..rows]).enumerate().for_each(|(b, (r, loss))| {
            sae.decode_row(isa, latents, b, work, r);
            isa.residual(x.row(b), r);
            *loss = f64::from(isa.dot(r, r));
        });
        let recon = self.row_loss[..rows].iter().sum::<f64>() / rows as f64;
        let auxk = if with_aux { self.decode_dead(x) } else { 0.0 };
        Losses { recon, auxk, consistency: 0.0 }
    }

    /// AuxK: the dead latents explain the residual; leaves `(e - ê)·B·coef V/‖e - mean e‖²` below the residuals, so
    /// that one scale serves both halves. Returns the loss, 0 where there is nothing dead or it is not finite.
    fn decode_dead(&mut self, x: MatRef) -> f64 {
        let (rows, dim, isa) = (x.rows(), x.cols(), self.isa);
        let AuxK { coef, k_aux, dead_after } = self.options.auxk;
        self.dead.clear();
        self.dead.extend((0..self.state.silent.len() as u32).filter(|&h| self.state.silent[h as usize] >= dead_after));
        let k = k_aux.min(self.dead.len());
        if k == 0 {
            self.aux.resize(rows, 0);
            return 0.0;
        }
        let e_spread = spread(self.residual.top(rows), &mut self.column_sums);
        let v = spread(x, &mut self.column_sums) / rows as f64;
        let weight = coef * v / e_spread;
        if !weight.is_finite() {
            self.aux.resize(rows, 0);
            return 0.0;
        }
        if self.scratch.is_empty() {
            self.scratch.resize_with(rayon::current_num_threads().max(1), Mutex::default);
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
        let capacity = k;
        let (residual, below) = self.residual.data_mut().split_at_mut(rows * dim);
        let (sae, aux) = (&self.sae, &self.aux);
        let decoder = sae.decoder_rows().data();
        below[..rows * dim].par_chunks_mut(dim).zip(&mut self.row_loss[..rows]).enumerate().for_each(
            |(b, (out, loss))| {
                let mut own = scratch[thread()].lock().expect("no panic while held");
                if own.coef.len() < capacity {
                    own.coef.resize(capacity, 0.0);
                }
                let (index, value) = aux.row(b);
                out.fill(0.0);
                sae.add_features(isa, out, index, value, &mut own.coef, decoder);
                isa.residual(&residual[b * dim..][..dim], out);
                *loss = f64::from(isa.dot(out, out));
                // d loss/d ê = -2·weight·(e - ê); the main rows carry -2/B, so this half is scaled by weight·B.
                isa.scale(out, (weight * rows as f64) as f32);
            },
        );
        weight * self.row_loss[..rows].iter().sum::<f64>()
    }

    /// Phase 3: gradient and Adam of every latent, its rows gathered once while they are in cache.
    fn update(&mut self, x: MatRef, lr: f64, extra: Option<&Mat>) {
        let rows = x.rows();
        let config = *self.sae.config();
        let (dim, isa) = (config.d_in, self.isa);
        let with_aux = self.options.auxk.coef > 0.0 && self.aux.rows() == rows;
        self.by_latent.group(config.latents, &self.latents, with_aux.then_some(&self.aux));
        if self.scratch.is_empty() {
            self.scratch.resize_with(rayon::current_num_threads().max(1), Mutex::default);
        }
        for own in &mut self.scratch {
            let own = own.get_mut().expect("no panic while held");
            own.enc.resize(dim, 0.0);
            own.dec.resize(dim, 0.0);
            own.rows.reserve(2 * rows);
            own.d_pre.reserve(2 * rows);
            if own.coef.len() < 2 * rows {
                own.coef.resize(2 * rows, 0.0);
            }
        }
        let (weight_step, bias_step) = self.options.adam.at(self.options.optimizer, self.state.steps + 1, lr);
        let input = if config.decoder_bias { &self.work.centred.data()[..rows * dim] } else { x.data() };
        let context = Context {
            isa,
            config: &config,
            optimizer: self.options.optimizer,
            rows,
            scale: -2.0 / rows as f32,
            input,
            residual: self.residual.data(),
            by_latent: &self.by_latent,
            extra,
            weight_step,
            bias_step,
            scratch: &self.scratch,
        };
        let state = &mut self.state;
        let all = Rows {
            first: 0,
            chunk: config.latents.div_ceil(CHUNKS),
            dim,
            enc: [self.sae.W_enc.data_mut(), &mut state.W_enc.m, &mut state.W_enc.v],
            dec: match &mut self.sae.W_dec {
                Some(w) => [w.data_mut(), &mut state.W_dec.m, &mut state.W_dec.v],
                None => Default::default(),
            },
            bias: [&mut self.sae.b_enc, &mut state.b_enc.m, &mut state.b_enc.v],
            inv_norm: &mut self.sae.inv_norm,
            moved: &mut state.moved,
            effect: &mut state.effect,
            through_input: self.through_input.data_mut(),
        };
        all.for_each_chunk(&context);
        if let Some(b_dec) = &mut self.sae.b_dec {
            // -2/B Σ_b residual - Σ_h (Σ_b d_pre) W_enc[h], in a fixed order of columns, rows, chunks.
            let (residual, through) = (&self.residual, &self.through_input);
            self.d_b_dec.par_chunks_mut(512).enumerate().for_each(|(c, out)| {
                let columns = c * 512..c * 512 + out.len();
                out.fill(0.0);
                for b in 0..rows {
                    isa.add_scaled(out, context.scale, &residual.row(b)[columns.clone()]);
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

    fn count_silence(&mut self, rows: u64) {
        self.state.silent.iter_mut().for_each(|s| *s += rows);
        for b in 0..self.latents.rows() {
            let (index, value) = self.latents.row(b);
            for (&h, &v) in index.iter().zip(value) {
                if v != 0.0 {
                    self.state.silent[h as usize] = 0;
                }
            }
        }
    }
}
