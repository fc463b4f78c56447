//! The state of training besides the weights: what a checkpoint must hold.

use super::super::Config;
use crate::activation::ParameterLengths;
use crate::matrix::Aligned;

/// First and second moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// First moment.
    pub m: Aligned,
    /// Second moment.
    pub v: Aligned,
}

impl Moments {
    fn zeros(n: usize) -> Moments {
        Moments { m: Aligned::zeros(n), v: Aligned::zeros(n) }
    }
}

/// Everything that a step changes besides the weights: what a checkpoint must hold.
#[derive(Clone, Debug, PartialEq)]
#[allow(non_snake_case)]
pub struct State {
    /// Number of steps done.
    pub steps: u64,
    /// Moments of the encoder (and decoder, when tied).
    pub W_enc: Moments,
    /// Moments of the decoder; empty when tied.
    pub W_dec: Moments,
    /// Moments of the encoder bias.
    pub b_enc: Moments,
    /// Moments of the decoder bias; empty without one.
    pub b_dec: Moments,
    /// Moments of learned thresholds; else empty.
    pub threshold: Moments,
    /// Moments of the gate's biases; else empty.
    pub b_gate: Moments,
    /// Moments of the gains; else empty.
    pub r_mag: Moments,
    /// λ of L1 now, if it is steered.
    pub l1: f64,
    /// `ln(L0 / k)` of the last batch, if λ is steered.
    pub l0_off: f64,
    /// batchtopk: moving sum of the smallest selected value of a batch.
    pub threshold_sum: f64,
    /// Rows since each latent was last active.
    pub silent: Vec<u64>,
    /// Steps of dense Adam without gradient since the moments of a latent were written; [`State::NEVER`] if it never
    /// moved.
    pub idle: Vec<u32>,
    /// Effect of each latent since [`Engine::resample`](super::Engine::resample) was last called; empty if it is not
    /// summed.
    pub effect: Vec<f64>,
}

#[allow(non_snake_case)]
impl State {
    /// [`State::idle`] of a latent without moments.
    pub const NEVER: u32 = u32::MAX;

    /// The state before the first step.
    pub fn new(config: &Config) -> State {
        let weights = config.latents * config.d_in;
        let ParameterLengths { threshold, b_gate, r_mag } = config.parameter_lengths();
        let learned = if config.activation.learns_threshold() { threshold } else { 0 };
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

    /// Iterates over the moments that this model has, by the name of their parameter.
    pub fn moments(&self) -> impl Iterator<Item = (&'static str, &Moments)> {
        let State { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag, .. } = self;
        let all = [W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag];
        PARAMETERS.into_iter().zip(all).filter(|p| !p.1.m.is_empty())
    }

    /// [`State::moments`], mutable.
    pub fn moments_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Moments)> {
        let State { W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag, .. } = self;
        let all = [W_enc, W_dec, b_enc, b_dec, threshold, b_gate, r_mag];
        PARAMETERS.into_iter().zip(all).filter(|p| !p.1.m.is_empty())
    }
}

/// Names of the parameters that a step moves.
const PARAMETERS: [&str; 7] = ["W_enc", "W_dec", "b_enc", "b_dec", "threshold", "b_gate", "r_mag"];
