//! What a run is trained with, and what does not go together.

use super::matryoshka::Matryoshka;
use crate::activation::Activation;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::{AuxK, Loss, Losses, Penalties};
use crate::model::step::StepOptions;
use crate::model::{Config, Output};
use crate::optim::{AdamOptions, Optimizer, Schedule};
use serde::{Deserialize, Serialize};

/// Everything that decides what is trained and how, resolved: the keys of `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainOptions {
    /// What becomes of pre-activations.
    pub activation: Activation,
    /// H, number of latents.
    pub latents: usize,
    /// Active latents a row.
    pub k: usize,
    /// Decoder = row-normalised encoder.
    pub tied: bool,
    /// No ReLU after the selection.
    pub raw_topk: bool,
    /// No `b_dec`.
    pub no_decoder_bias: bool,
    /// Rows of an own decoder may have any length.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub free_decoder: bool,
    /// What the reconstruction is compared by.
    #[serde(skip_serializing_if = "is_default", default)]
    pub loss: Loss,
    /// λ of L1; relu and gated without one have theirs steered until k latents are active.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub l1: Option<f64>,
    /// λ of L0 (jumprelu), in units of a squared error.
    #[serde(skip_serializing_if = "is_default", default)]
    pub l0: f64,
    /// β of KL (sigmoid), in units of a squared error.
    #[serde(skip_serializing_if = "is_default", default)]
    pub kl: f64,
    /// ε of jumprelu's straight-through estimates, in units of the data.
    #[serde(skip_serializing_if = "is_default", default)]
    pub bandwidth: f64,
    /// Prefixes of the latents that reconstruct by themselves.
    #[serde(skip_serializing_if = "is_default", default)]
    pub matryoshka: Matryoshka,
    /// Active latents at the beginning; falls to k in a straight line within `k_anneal` steps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub k_start: Option<usize>,
    /// Steps of that.
    #[serde(skip_serializing_if = "is_default", default)]
    pub k_anneal: u64,
    /// λ of the perceptual distance of pictures, beside the squared error.
    #[serde(skip_serializing_if = "is_default", default)]
    pub perceptual: f64,
    /// Denoising: the input gets Gaussian noise of so many standard deviations of the data.
    #[serde(skip_serializing_if = "is_default", default)]
    pub noise: f64,
    /// Denoising: each value of the input is 0 with this probability, the others grow to make up for it.
    #[serde(skip_serializing_if = "is_default", default)]
    pub dropout: f64,
    /// Members of the ensemble.
    pub saes: usize,
    /// λ of the ensemble's consistency, 0 = off.
    pub consistency: f64,
    /// Latents that contribute nothing begin again where the residual is largest.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub reinforce: bool,
    /// How the weights begin.
    pub init: Init,
    /// Learning rate.
    pub lr: f64,
    /// Its course.
    pub schedule: Schedule,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Rows a batch.
    pub batch: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Number of steps; overrides `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Adam or SparseAdam.
    pub optimizer: Optimizer,
    /// β2.
    pub beta2: f64,
    /// Decoupled decay of the weights.
    pub weight_decay: f64,
    /// AuxK coefficient, 0 = off.
    pub auxk: f64,
    /// Dead latents a row that explain its residual.
    pub k_aux: usize,
    /// Rows of silence after which a latent counts as dead.
    pub dead_after: u64,
    /// Rows in file order.
    pub no_shuffle: bool,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Stop when validation fvu has not improved for so many epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether rows may be scaled while training: a model with a sigmoid is not homogeneous.
pub fn may_scale(activation: Activation, loss: Loss) -> bool {
    activation != Activation::Sigmoid && loss == Loss::SquaredError
}

impl TrainOptions {
    /// Checks every value by itself; what depends on the data is checked by [`Trainer::new`].
    ///
    /// # Errors
    /// [`Error::Option`] naming the option.
    pub fn check(&self) -> Result<()> {
        let number = |option: &str, value: f64, ok: bool, expected: &str| {
            if ok && value.is_finite() {
                Ok(())
            } else {
                Err(Error::option(option, expected, value, "see vibrissa train --help"))
            }
        };
        number("--lr", self.lr, self.lr > 0.0, "a number above 0")?;
        number("--beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "0 to below 1")?;
        number("--weight-decay", self.weight_decay, self.weight_decay >= 0.0, "0 or more")?;
        number("--auxk", self.auxk, self.auxk >= 0.0, "0 or more")?;
        number("--consistency", self.consistency, self.consistency >= 0.0, "0 or more")?;
        number("--l1", self.l1.unwrap_or(0.0), self.l1.is_none_or(|l| l >= 0.0), "0 or more")?;
        number("--l0", self.l0, self.l0 >= 0.0, "0 or more")?;
        number("--kl", self.kl, self.kl >= 0.0, "0 or more")?;
        number("--bandwidth", self.bandwidth, self.bandwidth >= 0.0, "above 0")?;
        number("--perceptual", self.perceptual, self.perceptual >= 0.0, "0 or more")?;
        number("--noise", self.noise, self.noise >= 0.0, "0 or more")?;
        number("--dropout", self.dropout, (0.0..1.0).contains(&self.dropout), "0 to below 1")?;
        self.check_together()?;
        for (option, value) in [("--batch", self.batch), ("--saes", self.saes)] {
            if value == 0 {
                return Err(Error::option(option, "at least 1", value, "see vibrissa train --help"));
            }
        }
        if self.batch > 1 << 20 {
            return Err(Error::option("--batch", "at most 1048576", self.batch, "use a smaller batch"));
        }
        if self.consistency > 0.0 && self.saes < 2 {
            return Err(Error::option("--consistency", "an ensemble", "one SAE", "add --saes 2 or more"));
        }
        Ok(())
    }

    /// Refuses what does not go together, with the reason.
    fn check_together(&self) -> Result<()> {
        let name = self.activation.name();
        let refuse = |option: &str, expected: &str, remedy: &str| {
            Err(Error::option(option, expected, format!("--activation {name}"), remedy))
        };
        let (jump, sigmoid) = (self.activation == Activation::JumpRelu, self.activation == Activation::Sigmoid);
        let gated = self.activation == Activation::Gated;
        if self.l0 > 0.0 && !jump {
            return refuse(
                "--l0",
                "jumprelu",
                "leave it out: only jumprelu has thresholds through which a count can learn",
            );
        }
        if self.bandwidth > 0.0 && !jump {
            return refuse("--bandwidth", "jumprelu", "leave it out: only jumprelu has thresholds that learn");
        }
        if jump && self.bandwidth <= 0.0 {
            return Err(Error::option("--bandwidth", "above 0", self.bandwidth, "leave it out for the default"));
        }
        if self.kl > 0.0 && !sigmoid {
            return refuse(
                "--kl",
                "sigmoid",
                "leave it out: KL compares mean activations between 0 and 1 with a target",
            );
        }
        if self.auxk > 0.0 && sigmoid {
            return refuse("--auxk", "another activation", "leave it out: latents of a sigmoid are never silent");
        }
        if self.reinforce && sigmoid {
            return refuse(
                "--reinforce",
                "another activation",
                "leave it out: its effects are those of sparse latents",
            );
        }
        if self.reinforce && (gated || jump) {
            return refuse(
                "--reinforce",
                "topk, batchtopk or relu",
                "leave it out: a feature that begins again would need a gate or a threshold from nowhere",
            );
        }
        if self.l1.is_some_and(|l| l > 0.0) && self.raw_topk {
            let remedy = "leave one of them out: raw values may be negative, and L1 would make them more so";
            return Err(Error::option("--l1", "no --raw-topk beside it", "both", remedy));
        }
        if self.k_start.is_some() && sigmoid {
            return refuse("--k-start", "another activation", "leave it out: all latents of a sigmoid are active");
        }
        if self.k_start.is_some_and(|k| k < self.k || k > self.latents) {
            let expected = format!("{} (k) to {} (the number of latents)", self.k, self.latents);
            return Err(Error::option("--k-start", expected, self.k_start.unwrap_or(0), "leave it out to keep k"));
        }
        if self.k_start.is_some() && self.activation.steered_by_l1() && self.l1.is_some() {
            let remedy = "leave one of them out: with λ fixed nothing brings the number of active latents to k";
            return Err(Error::option("--k-start", "no --l1 beside it", "both", remedy));
        }
        if self.k_start.is_none() && self.k_anneal > 0 {
            let remedy = "add --k-start, or leave it out";
            return Err(Error::option("--k-anneal", "--k-start beside it", "no --k-start", remedy));
        }
        self.matryoshka.check(self.latents)?;
        let entropy = self.loss == Loss::CrossEntropy;
        let both = |option: &str, other: &str, why: &str| {
            Err(Error::option(option, format!("no {other} beside it"), "both", format!("leave one of them out: {why}")))
        };
        if entropy && self.auxk > 0.0 {
            return both("--auxk", "--loss cross-entropy", "dead latents explain the residual of a squared error");
        }
        if entropy && gated {
            return both("--activation gated", "--loss cross-entropy", "the loss of the gate is a squared error");
        }
        if entropy && self.perceptual > 0.0 {
            return both("--perceptual", "--loss cross-entropy", "it stands beside a squared error");
        }
        if self.reinforce && self.perceptual > 0.0 {
            return both("--reinforce", "--perceptual", "effects are measured on the squared error alone");
        }
        if self.reinforce && (entropy || self.matryoshka != Matryoshka::Off) {
            let other = if entropy { "--loss cross-entropy" } else { "--matryoshka" };
            return both("--reinforce", other, "effects are measured on the squared error of the whole");
        }
        if self.free_decoder && (self.reinforce || self.consistency > 0.0) {
            let option = if self.reinforce { "--reinforce" } else { "--consistency" };
            return both(option, "--free-decoder", "it compares directions of unit length");
        }
        Ok(())
    }

    /// Steps as the engine takes them; `scale` is that of the rows while training.
    pub(super) fn step_options(&self, scale: f32, spread: f64, steps: u64) -> StepOptions {
        let scale = f64::from(scale);
        let steered = self.steered();
        // The soft threshold that rows of this spread, written with k latents, begin with.
        let guess = 0.1 * (spread / self.k as f64).sqrt();
        StepOptions {
            optimizer: self.optimizer,
            adam: AdamOptions { beta2: self.beta2, weight_decay: self.weight_decay, ..AdamOptions::default() },
            auxk: AuxK { coef: self.auxk, k_aux: self.k_aux, dead_after: self.dead_after },
            penalties: Penalties {
                l1: if steered { guess } else { self.l1.unwrap_or(0.0) * scale },
                steer: if steered { (STEER / steps as f64).clamp(STEER_LEAST, STEER_MOST) } else { 0.0 },
                l0: self.l0 * scale * scale,
                bandwidth: self.bandwidth * scale,
                kl: self.kl * scale * scale,
                sink: if self.auxk > 0.0 { SINK } else { 0.0 },
            },
            measure_effects: self.reinforce,
        }
    }

    /// See [`may_scale`].
    pub fn may_scale(&self) -> bool {
        may_scale(self.activation, self.loss)
    }

    /// Whether λ of L1 is steered until k latents are active.
    pub fn steered(&self) -> bool {
        self.activation.steered_by_l1() && self.l1.is_none()
    }

    /// Whether training brings the number of active latents near k, which takes a while.
    pub fn aims(&self) -> bool {
        self.steered() || self.activation == Activation::JumpRelu
    }

    /// Steps in all, for so many training rows.
    pub fn steps_over(&self, rows: usize) -> u64 {
        self.steps.unwrap_or(self.epochs * rows.div_ceil(self.batch) as u64)
    }

    /// Active latents a row at a step.
    pub(super) fn k_at(&self, step: u64) -> usize {
        let Some(start) = self.k_start.filter(|_| step < self.k_anneal) else { return self.k };
        let left = 1.0 - step as f64 / self.k_anneal as f64;
        self.k + ((start - self.k) as f64 * left).round() as usize
    }

    /// The architecture for rows of `d_in` values.
    pub fn model(&self, d_in: usize) -> Config {
        Config {
            d_in,
            latents: self.latents,
            activation: self.activation,
            k: self.k,
            relu_after: !self.raw_topk,
            tied: self.tied,
            decoder_bias: !self.no_decoder_bias,
            output: if self.loss == Loss::CrossEntropy { Output::Sigmoid } else { Output::Linear },
            free_decoder: self.free_decoder,
        }
    }

    /// Names of the terms of the loss that are in use.
    pub fn terms(&self) -> Vec<&'static str> {
        let on = [
            true,
            self.steered() || self.l1.is_some_and(|l| l > 0.0),
            self.l0 > 0.0,
            self.kl > 0.0,
            self.activation == Activation::Gated,
            self.perceptual > 0.0,
            self.auxk > 0.0,
            self.consistency > 0.0,
        ];
        Losses::NAMES.into_iter().zip(on).filter(|n| n.1).map(|n| n.0).collect()
    }
}

/// Share of a dead latent's threshold that a step takes.
const SINK: f64 = 0.01;

/// How fast λ of L1 follows, over a whole run and a step: short runs must steer harder.
const STEER: f64 = 10.0;
const STEER_LEAST: f64 = 0.02;
const STEER_MOST: f64 = 0.3;
