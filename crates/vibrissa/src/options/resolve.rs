//! Defaults of training: a rule from the shape and size of the data (docs/defaults.md has the measurements).

use super::{Matryoshka, PartialTrainOptions, TrainOptions};
use crate::activation::Activation;
use crate::facts::DataFacts;
use crate::init::Init;
use crate::loss::Loss;
use crate::optim::{Optimizer, Schedule};

/// Most latents that the rule chooses.
pub const MOST_LATENTS: usize = 16384;

/// Patience of early stopping in epochs, for small data sets.
const EARLY_STOP: u64 = 10;

/// Most steps over patches, unless steps or epochs are given.
const PATCH_STEPS: u64 = 10_000;

/// Rounds to a multiple of `unit`, at least one.
fn round_to(value: f64, unit: f64) -> usize {
    ((value / unit).round().max(1.0) * unit) as usize
}

/// Rounds to significant digits, so that a chosen value is short to read; 0 and below give 1.
fn round_digits(value: f64, digits: usize) -> f64 {
    if value > 0.0 { format!("{value:.*e}", digits - 1).parse().unwrap_or(value) } else { 1.0 }
}

impl PartialTrainOptions {
    /// The activation: topk, with Matryoshka prefixes batchtopk.
    pub fn activation(&self) -> Activation {
        let nested = self.matryoshka.as_ref().is_some_and(|m| *m != Matryoshka::Off);
        self.activation.unwrap_or(if nested { Activation::BatchTopK } else { Activation::TopK })
    }

    /// True if training may multiply all rows by a factor: models with a sigmoid are not homogeneous.
    pub fn may_scale(&self) -> bool {
        self.activation().is_homogeneous() && self.loss.unwrap_or_default() == Loss::SquaredError
    }

    /// The seed of all random numbers, 42 by default.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(42)
    }
}

/// The size of a model, of its batches and of its training.
struct Size {
    latents: usize,
    k: usize,
    batch: usize,
    epochs: u64,
    /// Set in place of epochs.
    steps: Option<u64>,
    /// Steps in all.
    all_steps: u64,
}

impl Size {
    fn new(given: &PartialTrainOptions, facts: &DataFacts) -> Size {
        let (rows, dim) = (facts.rows as f64, facts.dim as f64);
        let whole = facts.places == 1;
        let most = if whole { MOST_LATENTS } else { round_to(2.0 * dim, 64.0).max(256) };
        let latents =
            given.latents.unwrap_or_else(|| round_to((rows * dim).sqrt(), 64.0).clamp(64, MOST_LATENTS).min(most));
        let usual = if whole { round_to(1.5 * (latents as f64).sqrt(), 8.0) } else { round_to(dim / 16.0, 4.0).max(8) };
        let k = given.k.unwrap_or_else(|| usual.min((latents / 4).max(1)));
        let batch = given
            .batch
            .unwrap_or_else(|| (1 << ((rows / 256.0).log2().floor() as i64).clamp(5, 10)).min(facts.rows.max(1)));
        let (row_visits, least) = if whole { (300_000.0, 5.0) } else { (1e6, 1.0) };
        let epochs = given.epochs.unwrap_or_else(|| (row_visits / rows).round().clamp(least, 100.0) as u64);
        let of_epochs = epochs * facts.rows.div_ceil(batch.max(1)) as u64;
        let too_many = !whole && given.epochs.is_none() && of_epochs > PATCH_STEPS;
        let steps = given.steps.or(too_many.then_some(PATCH_STEPS));
        Size { latents, k, batch, epochs, steps, all_steps: steps.unwrap_or(of_epochs) }
    }
}

/// Fills in all options that were not given.
///
/// A data set is *small* if share < 1, share = rows / (8 min(H/2, D)): fewer than eight rows for each direction that the
/// latents span.
///
/// | option | default | reason |
/// | --- | --- | --- |
/// | latents | √(rows · columns), a multiple of 64, 64 to 16384 | as many weights per latent as there are rows |
/// | k | 1.5 √H, a multiple of 8, at most H/4 | between the usual 32 of 6144 and the baseline recipe's 50 of 1024 |
/// | batch | rows/256 as a power of two, 32 to 1024 | some 256 steps an epoch, limited by the cost of small batches |
/// | epochs | 300,000 / rows, 5 to 100 | at least some thousand steps |
/// | lr | 0.11/√D; small data sets 0.028 · share/√D | Adam moves a row of unit length by about lr √D a step |
/// | init | orthogonal; small data sets auto | few rows determine no better directions than their spectrum |
/// | early stopping | small data sets: 10 epochs | the weights with the best validation fvu are kept, initial ones included |
/// | dead after | 50 H/k rows | fifty times the mean interval between activations of a latent |
/// | activation | topk; batchtopk with prefixes | the number of active latents is exactly k |
/// | L1 | steered until k latents are active (relu, gated) | models can be compared at equal L0 |
/// | k_start | 8 k where L1 is steered; falls to k within a fifth of the steps | rare features are learned before the penalty reaches its full size |
/// | L0 | the variance of the rows (jumprelu) | at L0 = 2k the penalty equals the squared error of the mean |
/// | bandwidth | 0.1 √(variance/k) (jumprelu) | a tenth of a typical latent value |
/// | KL | variance/3k (sigmoid) | twice the mean activation costs a tenth of the variance |
/// | free decoder | sigmoid | values below 1 need directions longer than 1 |
/// | k_aux | D/2, at most H/4 and 256 | as published (Gao et al. 2024), limited by its cost |
/// | of patches: latents | 2 D, a multiple of 64, at least 256, at most as above | patches are many and similar; of 4 D on photographs most stay dead |
/// | of patches: k | D/16, a multiple of 4, at least 8, at most H/4 | several patches reconstruct each pixel |
/// | of patches: epochs | 1,000,000 / rows, 1 to 100, at most 10,000 steps | a data set of any size takes minutes; of a very large one not every patch is visited |
pub fn resolve(given: &PartialTrainOptions, facts: &DataFacts) -> TrainOptions {
    let (rows, dim) = (facts.rows as f64, facts.dim as f64);
    let Size { latents, k, batch, epochs, steps, all_steps } = Size::new(given, facts);
    let share = rows / (8.0 * (latents as f64 / 2.0).min(dim));
    let few = share < 1.0;
    let rate = if few { 0.028 * share } else { 0.11 };
    let activation = given.activation();
    let steered = activation.steered_by_l1() && given.l1.is_none();
    let k_start = given.k_start.or(steered.then(|| (8 * k).min(latents)));
    let tied = given.tied.unwrap_or(false);
    let loss = given.loss.unwrap_or_default();
    // In units of the rows as loaded.
    let spread = facts.spread / f64::from(facts.scale).powi(2);
    let penalties = activation.default_penalties(spread, k);
    let penalty = |value: Option<f64>| value.map_or(0.0, |v| round_digits(v, 3));
    TrainOptions {
        activation,
        free_decoder: given.free_decoder.unwrap_or(activation.has_free_decoder_by_default() && !tied),
        loss,
        l1: given.l1,
        l0: given.l0.unwrap_or(penalty(penalties.l0)),
        kl: given.kl.unwrap_or(penalty(penalties.kl)),
        bandwidth: given.bandwidth.unwrap_or(penalty(penalties.bandwidth)),
        matryoshka: given.matryoshka.clone().unwrap_or_default(),
        k_start,
        k_anneal: given.k_anneal.unwrap_or(if k_start.is_some() { all_steps / 5 } else { 0 }),
        perceptual: given.perceptual.unwrap_or(0.0),
        noise: given.noise.unwrap_or(0.0),
        dropout: given.dropout.unwrap_or(0.0),
        latents,
        k,
        tied,
        raw_topk: given.raw_topk.unwrap_or(false),
        no_decoder_bias: given.no_decoder_bias.unwrap_or(false),
        saes: given.saes.unwrap_or(1),
        consistency: given.consistency.unwrap_or(0.0),
        reinforce: given.reinforce.unwrap_or(false),
        init: given.init.unwrap_or(if few { Init::Auto } else { Init::Orthogonal }),
        lr: given.lr.unwrap_or_else(|| round_digits(rate / dim.sqrt(), 2)),
        schedule: given.schedule.unwrap_or(Schedule::LinearDecay),
        warmup: given.warmup.unwrap_or((all_steps / 20).min(1000)),
        batch,
        epochs,
        steps,
        optimizer: given.optimizer.unwrap_or(Optimizer::Adam),
        // With a named optimiser, PyTorch's default for it.
        beta2: given.beta2.unwrap_or(if given.optimizer.is_some() { 0.999 } else { 0.99 }),
        weight_decay: given.weight_decay.unwrap_or(0.0),
        auxk: given.auxk.unwrap_or(if activation.is_dense() || loss == Loss::CrossEntropy { 0.0 } else { 1.0 / 32.0 }),
        k_aux: given.k_aux.unwrap_or((facts.dim / 2).min(latents / 4).clamp(1, 256)),
        dead_after: given.dead_after.unwrap_or((50 * latents).div_ceil(k.max(1)) as u64),
        no_shuffle: given.no_shuffle.unwrap_or(false),
        seed: given.seed(),
        early_stop: match given.early_stop {
            Some(patience) => Some(patience).filter(|&p| p > 0),
            None => (few && given.lr.is_none()).then_some(EARLY_STOP),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(rows: usize, dim: usize, places: usize) -> DataFacts {
        DataFacts {
            rows,
            dim,
            mean: Vec::new(),
            baseline: Vec::new(),
            places,
            spread: 1.0,
            image_spread: 1.0,
            scale: 1.0,
        }
    }

    #[test]
    fn rounding_keeps_significant_digits() {
        for (value, want) in [(0.034_567, 0.0346), (3.4567e-15, 3.46e-15), (98_765.0, 98_800.0), (0.0, 1.0)] {
            assert_eq!(round_digits(value, 3), want);
        }
    }

    #[test]
    fn defaults_of_patches_bound_the_steps() {
        let none = PartialTrainOptions::default();
        let mnist = resolve(&none, &facts(2_160_000, 64, 36));
        assert_eq!((mnist.latents, mnist.k, mnist.batch, mnist.epochs, mnist.steps), (256, 8, 1024, 1, None));
        let photos = resolve(&none, &facts(203_850, 192, 225));
        assert_eq!((photos.latents, photos.k, photos.batch, photos.epochs, photos.steps), (384, 12, 512, 5, None));
        let many = facts(300_000_000, 192, 3025);
        assert_eq!(resolve(&none, &many).steps, Some(10_000));
        // Given values are kept.
        let given = resolve(&PartialTrainOptions { epochs: Some(2), ..PartialTrainOptions::default() }, &many);
        assert_eq!((given.epochs, given.steps), (2, None));
        assert_eq!(
            resolve(&PartialTrainOptions { steps: Some(20_000), ..PartialTrainOptions::default() }, &many).steps,
            Some(20_000)
        );
        let few = resolve(&none, &facts(40, 12, 4));
        assert!(few.k <= few.latents / 4 && few.batch <= 40);
        let whole = resolve(&none, &facts(60_000, 784, 1));
        assert_eq!((whole.latents, whole.k, whole.epochs), (6848, 128, 5));
    }

    #[test]
    fn a_steered_penalty_starts_with_more_active_latents() {
        let facts = facts(1 << 20, 64, 1);
        let of = |activation, l1, k_start| {
            let (latents, k) = (Some(100), Some(20));
            let given = PartialTrainOptions {
                activation: Some(activation),
                latents,
                k,
                l1,
                k_start,
                steps: Some(50),
                ..PartialTrainOptions::default()
            };
            let options = resolve(&given, &facts);
            options.check().expect("valid options");
            (options.k_start, options.k_anneal)
        };
        for activation in [Activation::Relu, Activation::Gated] {
            assert_eq!(of(activation, None, None), (Some(100), 10));
            assert_eq!(of(activation, Some(0.1), None), (None, 0));
            assert_eq!(of(activation, None, Some(20)).0, Some(20));
        }
        for activation in [Activation::TopK, Activation::BatchTopK, Activation::JumpRelu] {
            assert_eq!(of(activation, None, None), (None, 0));
        }
    }
}
