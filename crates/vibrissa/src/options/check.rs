//! Checks of resolved options, and values derived from them.

use super::{Matryoshka, PartialTrainOptions, RunOptions, TrainOptions, resolve};
use crate::activation::SparsityControl;
use crate::error::{Error, Result};
use crate::facts::DataFacts;
use crate::loss::{AuxK, Loss, Losses, Penalties};
use crate::model::step::StepOptions;
use crate::model::{Config, Output};
use crate::optim::AdamOptions;

/// The error for a combination of two options.
fn not_both(option: &str, other: &str, why: &str) -> Error {
    Error::option(option, format!("no `{other}` beside it"), "both", format!("leave one of them out: {why}"))
}

impl PartialTrainOptions {
    /// Finds values that are out of range whatever the data, before any data is read.
    ///
    /// # Errors
    /// [`Error::Option`] naming the option.
    pub fn check_early(&self) -> Result<()> {
        let mean = vec![0.0; 64];
        let facts = DataFacts {
            rows: 1 << 20,
            dim: 64,
            baseline: mean.clone(),
            mean,
            places: 1,
            spread: 1.0,
            image_spread: 1.0,
            scale: 1.0,
        };
        // The largest number that the rule can choose: whether k and prefixes fit is known only with the data.
        let latents = self.latents.or(Some(resolve::MOST_LATENTS));
        let options = resolve(&PartialTrainOptions { latents, ..self.clone() }, &facts);
        options.check()?;
        options.model(facts.dim).check()
    }
}

impl TrainOptions {
    /// Checks each value by itself, and combinations of values. `train::check` adds what depends on the data.
    ///
    /// # Errors
    /// [`Error::Option`] naming the option.
    pub fn check(&self) -> Result<()> {
        self.check_ranges()?;
        self.check_activation()?;
        self.check_together()
    }

    fn check_ranges(&self) -> Result<()> {
        let within = |name: &str, value: f64, ok: bool| {
            if ok && value.is_finite() {
                return Ok(());
            }
            let info = RunOptions::option(name).expect("the name of an option");
            Err(info.refuse(&value.to_string()))
        };
        within("lr", self.lr, self.lr > 0.0)?;
        within("beta2", self.beta2, (0.0..1.0).contains(&self.beta2))?;
        within("dropout", self.dropout, (0.0..1.0).contains(&self.dropout))?;
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("auxk", self.auxk),
            ("consistency", self.consistency),
            ("l1", self.l1.unwrap_or(0.0)),
            ("l0", self.l0),
            ("kl", self.kl),
            ("bandwidth", self.bandwidth),
            ("perceptual", self.perceptual),
            ("noise", self.noise),
        ] {
            within(name, value, value >= 0.0)?;
        }
        within("batch", self.batch as f64, (1..=1 << 20).contains(&self.batch))?;
        within("saes", self.saes as f64, self.saes > 0)
    }

    /// Refuses penalties and methods that the activation does not have, with the reason.
    fn check_activation(&self) -> Result<()> {
        let activation = self.activation;
        let found = format!("`activation {}`", activation.name());
        let refuse = |option: &str, expected: &str, remedy: &str| Err(Error::option(option, expected, &found, remedy));
        if self.l0 > 0.0 && activation.sparsity() != SparsityControl::L0 {
            return refuse("l0", "jumprelu", "leave it out: a count has a gradient only where thresholds are learned");
        }
        if self.bandwidth > 0.0 && !activation.learns_threshold() {
            return refuse("bandwidth", "jumprelu", "leave it out: only jumprelu has thresholds that learn");
        }
        if activation.learns_threshold() && self.bandwidth <= 0.0 {
            return Err(Error::option("bandwidth", "above 0", self.bandwidth, "leave it out for the default"));
        }
        if self.kl > 0.0 && !activation.is_dense() {
            return refuse("kl", "sigmoid", "leave it out: KL compares mean activations between 0 and 1 with a target");
        }
        if self.auxk > 0.0 && activation.is_dense() {
            return refuse("auxk", "another activation", "leave it out: latents of a sigmoid are never dead");
        }
        if self.reinforce && !activation.can_resample() {
            let remedy =
                "leave it out: a resampled latent has no gate or threshold, and every latent of a sigmoid is active";
            return refuse("reinforce", "topk, batchtopk or relu", remedy);
        }
        if self.k_start.is_some() && activation.is_dense() {
            return refuse("k_start", "another activation", "leave it out: all latents of a sigmoid are active");
        }
        Ok(())
    }

    /// Refuses combinations of options, with the reason.
    fn check_together(&self) -> Result<()> {
        if self.consistency > 0.0 && self.saes < 2 {
            return Err(Error::option("consistency", "an ensemble", "one SAE", "add `saes 2` or more"));
        }
        if self.l1.is_some_and(|l| l > 0.0) && self.raw_topk {
            return Err(not_both("l1", "raw_topk", "the L1 penalty would make negative latents more negative"));
        }
        if self.k_start.is_some_and(|k| k < self.k || k > self.latents) {
            let expected = format!("{} (k) to {} (the number of latents)", self.k, self.latents);
            return Err(Error::option("k_start", expected, self.k_start.unwrap_or(0), "leave it out to keep k"));
        }
        if self.k_start.is_some() && self.activation.steered_by_l1() && self.l1.is_some() {
            return Err(not_both("k_start", "l1", "with a fixed λ nothing brings the number of active latents to k"));
        }
        if self.k_start.is_none() && self.k_anneal > 0 {
            let remedy = "add `k_start`, or leave it out";
            return Err(Error::option("k_anneal", "`k_start` beside it", "no `k_start`", remedy));
        }
        self.matryoshka.check(self.latents)?;
        let entropy = self.loss == Loss::CrossEntropy;
        let with_entropy = |option: &str, why: &str| Err(not_both(option, "loss cross-entropy", why));
        if entropy && self.auxk > 0.0 {
            return with_entropy("auxk", "dead latents explain the residual of a squared error");
        }
        if entropy && self.activation.has_gate() {
            return with_entropy("activation gated", "the loss of the gate is a squared error");
        }
        if entropy && self.perceptual > 0.0 {
            return with_entropy("perceptual", "it is added to a squared error");
        }
        if self.reinforce && self.perceptual > 0.0 {
            return Err(not_both("reinforce", "perceptual", "effects are measured on the squared error alone"));
        }
        if self.reinforce && (entropy || self.matryoshka != Matryoshka::Off) {
            let other = if entropy { "loss cross-entropy" } else { "matryoshka" };
            return Err(not_both("reinforce", other, "effects are measured on the squared error of all latents"));
        }
        if self.free_decoder && (self.reinforce || self.consistency > 0.0) {
            let option = if self.reinforce { "reinforce" } else { "consistency" };
            return Err(not_both(option, "free_decoder", "it compares directions of unit length"));
        }
        Ok(())
    }

    /// The options of a step. `scale` is the factor of all rows in training, `spread` their variance in that scale, `steps`
    /// the length of training.
    pub(crate) fn step_options(&self, scale: f32, spread: f64, steps: u64) -> StepOptions {
        let scale = f64::from(scale);
        let steered = self.steered();
        // First λ: the soft threshold for k latents that share the variance of the rows.
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

    /// True if training may multiply all rows by a factor: models with a sigmoid are not homogeneous.
    pub fn may_scale(&self) -> bool {
        self.activation.is_homogeneous() && self.loss == Loss::SquaredError
    }

    /// True if λ of the L1 penalty is steered until k latents are active.
    pub fn steered(&self) -> bool {
        self.activation.steered_by_l1() && self.l1.is_none()
    }

    /// True if training brings the number of active latents near k gradually.
    pub fn aims(&self) -> bool {
        self.steered() || self.activation.learns_threshold()
    }

    /// Number of steps for this number of training rows.
    pub fn steps_over(&self, rows: usize) -> u64 {
        self.steps.unwrap_or(self.epochs * rows.div_ceil(self.batch) as u64)
    }

    /// Target for the number of active latents a row at a step.
    pub(crate) fn k_at(&self, step: u64) -> usize {
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

    /// Names of the loss terms in use.
    pub fn terms(&self) -> Vec<&'static str> {
        let on = [
            true,
            self.steered() || self.l1.is_some_and(|l| l > 0.0),
            self.l0 > 0.0,
            self.kl > 0.0,
            self.activation.has_gate(),
            self.perceptual > 0.0,
            self.auxk > 0.0,
            self.consistency > 0.0,
        ];
        Losses::NAMES.into_iter().zip(on).filter(|n| n.1).map(|n| n.0).collect()
    }
}

/// Share by which a step lowers the threshold of a dead latent.
const SINK: f64 = 0.01;

/// Gain of the steering of λ over a whole run, and its limits per step: short runs steer harder.
const STEER: f64 = 10.0;
const STEER_LEAST: f64 = 0.02;
const STEER_MOST: f64 = 0.3;
