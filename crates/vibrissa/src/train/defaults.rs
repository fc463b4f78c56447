//! Every default of training, and its reason: one rule from the data's shape and size (docs/defaults.md has the
//! measurements).

use super::matryoshka::Matryoshka;
use super::options::may_scale;
use super::{DataFacts, TrainOptions};
use crate::activation::Activation;
use crate::init::Init;
use crate::loss::Loss;
use crate::optim::{Optimizer, Schedule};

/// What the user asked for; `None` is left to the rule.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Wishes {
    pub latents: Option<usize>,
    pub k: Option<usize>,
    pub tied: Option<bool>,
    pub raw_topk: Option<bool>,
    pub no_decoder_bias: Option<bool>,
    pub activation: Option<Activation>,
    pub free_decoder: Option<bool>,
    pub loss: Option<Loss>,
    pub l1: Option<f64>,
    pub l0: Option<f64>,
    pub kl: Option<f64>,
    pub bandwidth: Option<f64>,
    pub matryoshka: Option<Matryoshka>,
    pub k_start: Option<usize>,
    pub k_anneal: Option<u64>,
    pub perceptual: Option<f64>,
    pub noise: Option<f64>,
    pub dropout: Option<f64>,
    pub saes: Option<usize>,
    pub consistency: Option<f64>,
    pub reinforce: Option<bool>,
    pub init: Option<Init>,
    pub lr: Option<f64>,
    pub schedule: Option<Schedule>,
    pub warmup: Option<u64>,
    pub batch: Option<usize>,
    pub epochs: Option<u64>,
    pub steps: Option<u64>,
    pub optimizer: Option<Optimizer>,
    pub beta2: Option<f64>,
    pub weight_decay: Option<f64>,
    pub auxk: Option<f64>,
    pub k_aux: Option<usize>,
    pub dead_after: Option<u64>,
    pub no_shuffle: Option<bool>,
    pub seed: Option<u64>,
    pub early_stop: Option<u64>,
}

impl Wishes {
    /// The activation: topk, with prefixes batchtopk.
    pub fn activation(&self) -> Activation {
        let nested = self.matryoshka.as_ref().is_some_and(|m| *m != Matryoshka::Off);
        self.activation.unwrap_or(if nested { Activation::BatchTopK } else { Activation::TopK })
    }

    /// See [`may_scale`].
    pub fn may_scale(&self) -> bool {
        may_scale(self.activation(), self.loss.unwrap_or_default())
    }
}

/// Rounds to a multiple of `unit`, at least one.
fn round_to(value: f64, unit: f64) -> usize {
    ((value / unit).round().max(1.0) * unit) as usize
}

/// Latents that the rule chooses, at most.
pub const MOST_LATENTS: usize = 16384;

/// Patience, in epochs, where rows are few.
const EARLY_STOP: u64 = 10;

/// Steps over patches, at most, where nothing is said of steps or epochs.
const PATCH_STEPS: u64 = 10_000;

/// So many significant digits, for people to read.
fn round_digits(value: f64, digits: usize) -> f64 {
    if value > 0.0 { format!("{value:.*e}", digits - 1).parse().unwrap_or(value) } else { 1.0 }
}

/// The rule. `share` = rows for each direction that H latents span, over eight: below 1 rows are few.
///
/// | option | default | reason |
/// | --- | --- | --- |
/// | latents | √(rows · columns), a multiple of 64, 64 to 16384 | as many weights a latent as rows can teach |
/// | k | 1.5 √H, a multiple of 8, at most H/4 | between the field's 32 of 6144 and the seeds' 50 of 1024 |
/// | batch | rows/256 as a power of two, 32 to 1024 | some 256 steps an epoch, limited by the cost of small batches |
/// | epochs | 300,000 / rows, 5 to 100 | at least some thousand steps |
/// | lr | 0.11/√D; few rows 0.028 · share/√D | Adam moves a row of unit length by about lr √D a step |
/// | init | orthogonal; few rows auto | few rows cannot teach better directions than their own spectrum |
/// | early stop | few rows: patience 10 | the best weights by validation are kept, the first ones included |
/// | dead after | 50 H/k rows | fifty times the silence of an average latent |
/// | activation | topk; batchtopk with prefixes | exactly k, nothing to steer |
/// | L1 | steered until k latents are active (relu, gated) | models of one L0 can be compared |
/// | k at the beginning | 8 k where L1 is steered, to k within a fifth | rare features are learnt before the penalty is as large as k asks for |
/// | L0 | the variance of the rows (jumprelu) | twice k costs as much as explaining nothing |
/// | bandwidth | 0.1 √(variance/k) (jumprelu) | a tenth of what k latents that share the variance are like |
/// | KL | variance/3k (sigmoid) | twice the mean activation costs a tenth of the variance |
/// | free decoder | sigmoid | values below 1 need directions of other lengths |
/// | k_aux | D/2, at most H/4 and 256 | as published, limited by its cost |
/// | of patches: latents | 2 D, a multiple of 64, at least 256, at most as above | patches are many and much alike; of 4 D on photographs most stay unused |
/// | of patches: k | D/16, a multiple of 4, at least 8, at most H/4 | several patches draw each pixel |
/// | of patches: epochs | 1,000,000 / rows, 1 to 100, at most 10,000 steps | a set of any size takes minutes; of a very large one not every patch is seen |
pub fn resolve(wishes: &Wishes, facts: &DataFacts) -> TrainOptions {
    let (rows, dim) = (facts.rows as f64, facts.dim as f64);
    let whole = facts.places == 1;
    let most = if whole { MOST_LATENTS } else { round_to(2.0 * dim, 64.0).max(256) };
    let latents =
        wishes.latents.unwrap_or_else(|| round_to((rows * dim).sqrt(), 64.0).clamp(64, MOST_LATENTS).min(most));
    let usual = if whole { round_to(1.5 * (latents as f64).sqrt(), 8.0) } else { round_to(dim / 16.0, 4.0).max(8) };
    let k = wishes.k.unwrap_or_else(|| usual.min((latents / 4).max(1)));
    let batch = wishes
        .batch
        .unwrap_or_else(|| (1 << ((rows / 256.0).log2().floor() as i64).clamp(5, 10)).min(facts.rows.max(1)));
    let (seen, least) = if whole { (300_000.0, 5.0) } else { (1e6, 1.0) };
    let epochs = wishes.epochs.unwrap_or_else(|| (seen / rows).round().clamp(least, 100.0) as u64);
    let all = epochs * facts.rows.div_ceil(batch.max(1)) as u64;
    let too_many = !whole && wishes.epochs.is_none() && all > PATCH_STEPS;
    let wished = wishes.steps.or(too_many.then_some(PATCH_STEPS));
    let steps = wished.unwrap_or(all);
    let share = rows / (8.0 * (latents as f64 / 2.0).min(dim));
    let few = share < 1.0;
    let reach = if few { 0.028 * share } else { 0.11 };
    let activation = wishes.activation();
    let steered = activation.steered_by_l1() && wishes.l1.is_none();
    let k_start = wishes.k_start.or(steered.then(|| (8 * k).min(latents)));
    let (sigmoid, jump) = (activation == Activation::Sigmoid, activation == Activation::JumpRelu);
    let tied = wishes.tied.unwrap_or(false);
    let loss = wishes.loss.unwrap_or_default();
    // In units of the rows as loaded.
    let spread = facts.spread / f64::from(facts.scale).powi(2);
    TrainOptions {
        activation,
        free_decoder: wishes.free_decoder.unwrap_or(sigmoid && !tied),
        loss,
        l1: wishes.l1,
        l0: wishes.l0.unwrap_or(if jump { round_digits(spread, 3) } else { 0.0 }),
        kl: wishes.kl.unwrap_or(if sigmoid { round_digits(spread / (3.0 * k as f64), 3) } else { 0.0 }),
        bandwidth: wishes.bandwidth.unwrap_or(if jump {
            round_digits(0.1 * (spread / k as f64).sqrt(), 3)
        } else {
            0.0
        }),
        matryoshka: wishes.matryoshka.clone().unwrap_or_default(),
        k_start,
        k_anneal: wishes.k_anneal.unwrap_or(if k_start.is_some() { steps / 5 } else { 0 }),
        perceptual: wishes.perceptual.unwrap_or(0.0),
        noise: wishes.noise.unwrap_or(0.0),
        dropout: wishes.dropout.unwrap_or(0.0),
        latents,
        k,
        tied,
        raw_topk: wishes.raw_topk.unwrap_or(false),
        no_decoder_bias: wishes.no_decoder_bias.unwrap_or(false),
        saes: wishes.saes.unwrap_or(1),
        consistency: wishes.consistency.unwrap_or(0.0),
        reinforce: wishes.reinforce.unwrap_or(false),
        init: wishes.init.unwrap_or(if few { Init::Auto } else { Init::Orthogonal }),
        lr: wishes.lr.unwrap_or_else(|| round_digits(reach / dim.sqrt(), 2)),
        schedule: wishes.schedule.unwrap_or(Schedule::LinearDecay),
        warmup: wishes.warmup.unwrap_or((steps / 20).min(1000)),
        batch,
        epochs,
        steps: wished,
        optimizer: wishes.optimizer.unwrap_or(Optimizer::Adam),
        // Who names an optimiser gets PyTorch's numbers for it.
        beta2: wishes.beta2.unwrap_or(if wishes.optimizer.is_some() { 0.999 } else { 0.99 }),
        weight_decay: wishes.weight_decay.unwrap_or(0.0),
        auxk: wishes.auxk.unwrap_or(if sigmoid || loss == Loss::CrossEntropy { 0.0 } else { 1.0 / 32.0 }),
        k_aux: wishes.k_aux.unwrap_or((facts.dim / 2).min(latents / 4).clamp(1, 256)),
        dead_after: wishes.dead_after.unwrap_or((50 * latents).div_ceil(k.max(1)) as u64),
        no_shuffle: wishes.no_shuffle.unwrap_or(false),
        seed: wishes.seed.unwrap_or(42),
        early_stop: match wishes.early_stop {
            Some(patience) => Some(patience).filter(|&p| p > 0),
            None => (few && wishes.lr.is_none()).then_some(EARLY_STOP),
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
    fn digits_are_significant_whatever_the_units() {
        for (value, want) in [(0.034_567, 0.0346), (3.4567e-15, 3.46e-15), (98_765.0, 98_800.0), (0.0, 1.0)] {
            assert_eq!(round_digits(value, 3), want);
        }
    }

    #[test]
    fn patches_have_a_rule_of_their_own_and_bounded_steps() {
        let none = Wishes::default();
        let mnist = resolve(&none, &facts(2_160_000, 64, 36));
        assert_eq!((mnist.latents, mnist.k, mnist.batch, mnist.epochs, mnist.steps), (256, 8, 1024, 1, None));
        let photos = resolve(&none, &facts(203_850, 192, 225));
        assert_eq!((photos.latents, photos.k, photos.batch, photos.epochs, photos.steps), (384, 12, 512, 5, None));
        let many = facts(300_000_000, 192, 3025);
        assert_eq!(resolve(&none, &many).steps, Some(10_000));
        // What is asked for is done.
        let asked = resolve(&Wishes { epochs: Some(2), ..Wishes::default() }, &many);
        assert_eq!((asked.epochs, asked.steps), (2, None));
        assert_eq!(resolve(&Wishes { steps: Some(20_000), ..Wishes::default() }, &many).steps, Some(20_000));
        let few = resolve(&none, &facts(40, 12, 4));
        assert!(few.k <= few.latents / 4 && few.batch <= 40);
        // Whole pictures are as before.
        let whole = resolve(&none, &facts(60_000, 784, 1));
        assert_eq!((whole.latents, whole.k, whole.epochs), (6848, 128, 5));
    }

    #[test]
    fn a_steered_penalty_begins_with_more_features() {
        let facts = facts(1 << 20, 64, 1);
        let of = |activation, l1, k_start| {
            let (latents, k) = (Some(100), Some(20));
            let wishes =
                Wishes { activation: Some(activation), latents, k, l1, k_start, steps: Some(50), ..Wishes::default() };
            let options = resolve(&wishes, &facts);
            options.check().expect("options that can be");
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
