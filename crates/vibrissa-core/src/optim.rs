//! Optimisers, learning-rate schedules and the unit norm of decoder rows, for rows of numbers. No models here.
//!
//! Adam (Kingma & Ba 2014, arXiv 1412.6980), as PyTorch computes it, at step t = 1, 2, …:
//!
//! ```text
//! w ← (1 - lr·weight_decay) w                                 (decoupled: Loshchilov & Hutter 2017)
//! m ← m + (1 - β1)(g - m)          v ← β2 v + (1 - β2) g²
//! w ← w - lr/(1 - β1^t) · m / (√v / √(1 - β2^t) + ε)
//! ```
//!
//! SparseAdam (PyTorch's) moves only the rows that the batch touched, by `lr √(1 - β2^t)/(1 - β1^t) · m / (√v + ε)`
//! with the global step count t.

use crate::kernels::{AdamStep, Isa, MomentDecay};
use serde::{Deserialize, Serialize};

/// The optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Moves every weight at every step, as PyTorch's dense Adam.
    #[default]
    Adam,
    /// Moves only the latents that are active in the batch, as PyTorch's SparseAdam. The decoder bias moves as in Adam.
    SparseAdam,
}

/// The course of the learning rate over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Stays the same.
    #[default]
    Constant,
    /// Falls to 0 in a straight line from the end of the warm-up to the last step.
    LinearDecay,
    /// Falls to 0 along half a cosine.
    Cosine,
}

impl Schedule {
    /// Returns the factor of the learning rate at `step` (from 0) of `steps`: `(step+1)/warmup` in the warm-up, then
    /// that of the schedule.
    pub fn factor(self, step: u64, steps: u64, warmup: u64) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::LinearDecay => (1.0 - done).max(0.0),
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
        }
    }
}

/// Coefficients of Adam.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamOptions {
    /// β1, default 0.9.
    pub beta1: f64,
    /// β2, default 0.999.
    pub beta2: f64,
    /// ε, default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay of the weight matrices (never of biases), default 0.
    pub weight_decay: f64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        AdamOptions { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamOptions {
    /// Returns the coefficients at step `t` (from 1): for weights (with decay) and for biases (without).
    pub fn at(&self, optimizer: Optimizer, t: u64, lr: f64) -> (AdamStep, AdamStep) {
        let bias1 = 1.0 - self.beta1.powf(t as f64);
        let root2 = (1.0 - self.beta2.powf(t as f64)).sqrt();
        let bias = AdamStep {
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            step_size: (lr / bias1) as f32,
            inv_sqrt_bias2: (1.0 / root2) as f32,
            eps: self.eps as f32,
            keep: 1.0,
        };
        let mut weight = bias;
        if optimizer == Optimizer::SparseAdam {
            weight.step_size = (lr * root2 / bias1) as f32;
            weight.inv_sqrt_bias2 = 1.0;
        }
        weight.keep = (1.0 - lr * self.weight_decay) as f32;
        (weight, bias)
    }

    /// Returns the decay of moments over `idle` steps without gradient: `β^idle`, or 0 below [`SMALLEST_DECAY`].
    pub fn moment_decay(&self, idle: u32) -> MomentDecay {
        if idle == 0 {
            return MomentDecay::NONE;
        }
        let of =
            |beta: f64| Some(beta.powf(f64::from(idle))).filter(|&decay| decay >= SMALLEST_DECAY).unwrap_or(0.0) as f32;
        MomentDecay { m: of(self.beta1), v: of(self.beta2) }
    }

    /// Returns the number of steps without gradient after which the first moment has decayed to 0: the row then rests,
    /// no step moves it.
    pub fn rests_after(&self) -> u32 {
        // The power falls: bisect the range in which it passes the bound.
        let (mut above, mut below) = (0, u32::MAX);
        while below - above > 1 {
            let middle = above + (below - above) / 2;
            if self.moment_decay(middle).m == 0.0 {
                below = middle;
            } else {
                above = middle;
            }
        }
        below
    }
}

/// Moments that steps without gradient have decayed to less than this share count as 0: f32 would hardly show what they
/// still add to the row, a few millionths of one step of `lr` in all.
pub const SMALLEST_DECAY: f64 = 1.0 / (1 << 24) as f64;

/// Scales a row to unit length; a zero row stays the same.
pub fn normalise(isa: Isa, row: &mut [f32]) {
    let square = isa.dot(row, row);
    to_unit(isa, row, square);
}

/// [`normalise`] if the row's squared length is known.
pub fn to_unit(isa: Isa, row: &mut [f32], square: f32) {
    let norm = square.sqrt();
    if norm > 0.0 {
        isa.scale(row, 1.0 / norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_begin_and_end_where_they_should() {
        assert_eq!(Schedule::Constant.factor(999, 1000, 0), 1.0);
        assert_eq!(Schedule::LinearDecay.factor(0, 4, 4), 0.25);
        assert_eq!(Schedule::LinearDecay.factor(4, 10, 4), 1.0);
        assert!((Schedule::LinearDecay.factor(9, 10, 4) - 1.0 / 6.0).abs() < 1e-12);
        assert!((Schedule::Cosine.factor(50, 100, 0) - 0.5).abs() < 1e-12);
        assert_eq!(Schedule::Cosine.factor(0, 100, 0), 1.0);
    }

    #[test]
    fn first_step_of_adam_is_lr_times_the_sign() {
        for isa in Isa::available() {
            let (s, _) = AdamOptions::default().at(Optimizer::Adam, 1, 0.01);
            let (mut w, mut m, mut v) = (vec![1.0f32; 3], vec![0.0; 3], vec![0.0; 3]);
            isa.adam([&mut w, &mut m, &mut v], &[5.0, -0.3, 0.0], MomentDecay::NONE, &s, [&[]; 3]);
            for (w, want) in w.iter().zip([0.99, 1.01, 1.0]) {
                assert!((w - want).abs() < 1e-6, "{w} {want}");
            }
        }
    }

    /// Moments that are written once and decayed later move the row as those that every step writes.
    #[test]
    fn idle_steps_decay_moments_later() {
        let options = AdamOptions::default();
        let isa = Isa::current();
        let (mut w, mut m, mut v) = ([1.0f32, -1.0, 0.5], [1e-3f32, -2.0, 0.0], [1e-4f32, 9.0, 0.0]);
        let (mut lazy, mut rests) = (w, false);
        let (mut lazy_m, mut lazy_v) = (m, v);
        for idle in 0..400 {
            let (s, _) = options.at(Optimizer::Adam, 1000 + u64::from(idle), 1e-3);
            isa.adam([&mut w, &mut m, &mut v], &[0.0; 3], MomentDecay::NONE, &s, [&[]; 3]);
            rests = idle >= options.rests_after();
            if !rests {
                isa.adam([&mut lazy, &mut lazy_m, &mut lazy_v], &[], options.moment_decay(idle), &s, [&[]; 3]);
            }
            assert!(w.iter().zip(&lazy).all(|(a, b)| (a - b).abs() <= 3e-7), "{idle} {w:?} {lazy:?}");
        }
        assert!(rests && (lazy_m, lazy_v) == ([1e-3, -2.0, 0.0], [1e-4, 9.0, 0.0]), "nothing was written");
        assert_eq!(options.moment_decay(0), MomentDecay::NONE);
        assert_eq!(options.moment_decay(u32::MAX), MomentDecay { m: 0.0, v: 0.0 });
        let (s, _) = options.at(Optimizer::Adam, 1400, 1e-3);
        for (row, left) in [
            ([&mut w, &mut m, &mut v], MomentDecay::NONE),
            ([&mut lazy, &mut lazy_m, &mut lazy_v], options.moment_decay(400)),
        ] {
            isa.adam(row.map(|r| &mut r[..]), &[0.1, 0.0, 3.0], left, &s, [&[]; 3]);
        }
        for (now, lazily) in [(w, lazy), (m, lazy_m), (v, lazy_v)] {
            assert!(
                now.iter().zip(&lazily).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs().max(1e-9)),
                "{now:?} {lazily:?}"
            );
        }
    }

    #[test]
    fn weight_decay_spares_biases() {
        let o = AdamOptions { weight_decay: 0.1, ..AdamOptions::default() };
        let (w, b) = o.at(Optimizer::Adam, 3, 0.5);
        assert_eq!((w.keep, b.keep), (0.95, 1.0));
    }
}
