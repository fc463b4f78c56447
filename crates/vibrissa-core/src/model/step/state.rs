//! What a step changes besides the weights.

use super::super::Config;
use crate::activation::Activation;
use crate::matrix::Aligned;
use std::time::Duration;

/// First and second moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// First.
    pub m: Aligned,
    /// Second.
    pub v: Aligned,
}

impl Moments {
    fn zeros(n: usize) -> Moments {
        Moments { m: Aligned::zeros(n), v: Aligned::zeros(n) }
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
    /// Steps of dense Adam without gradient since the moments of a latent were written; [`State::NEVER`]: it was never moved.
    pub idle: Vec<u32>,
    /// Effect of each latent since [`Engine::reinforce`] was last called; empty where nobody asks.
    pub effect: Vec<f64>,
}

#[allow(non_snake_case)]
impl State {
    /// [`State::idle`] of a latent without moments.
    pub const NEVER: u32 = u32::MAX;

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
            idle: vec![State::NEVER; config.latents],
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

/// Where the time of some steps went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Steps.
    pub steps: u32,
    /// The product of rows and encoder, exact or screened.
    pub encode: Duration,
    /// From pre-activations to latents.
    pub select: Duration,
    /// Residuals and losses, also those of dead latents.
    pub decode: Duration,
    /// Gradients and Adam, row by row.
    pub update: Duration,
}

impl Times {
    pub(super) fn add(&mut self, encode: Duration, select: Duration, decode: Duration, update: Duration) {
        self.steps += 1;
        self.encode += encode;
        self.select += select;
        self.decode += decode;
        self.update += update;
    }
}
