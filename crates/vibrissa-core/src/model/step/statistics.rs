//! Statistics of the steps since they were last taken: how active the latents were, where the time went.

use std::time::Duration;

/// Activity of the latents over some batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// Number of rows.
    pub rows: u64,
    /// Sum of all latents.
    pub sum: f64,
    /// Number of rows in which each latent was active `[H]`.
    pub counts: Vec<u32>,
}

impl Activity {
    /// No rows yet, for a model of this many latents.
    pub(super) fn new(latents: usize) -> Activity {
        Activity { counts: vec![0; latents], ..Activity::default() }
    }

    /// Returns L0, the mean number of active latents a row.
    pub fn l0(&self) -> f64 {
        self.counts.iter().map(|&c| f64::from(c)).sum::<f64>() / (self.rows as f64).max(1.0)
    }

    /// Returns the mean of all latents, zeros included: a KL penalty compares it with k/H.
    pub fn mean(&self) -> f64 {
        self.sum / (self.rows as f64 * self.counts.len() as f64).max(1.0)
    }
}

/// Wall time of some steps, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Number of steps.
    pub steps: u32,
    /// The product of rows and encoder, exact or by the prefilter.
    pub encode: Duration,
    /// From pre-activations to latents.
    pub select: Duration,
    /// Residuals and losses, those of dead latents included.
    pub decode: Duration,
    /// Gradients and Adam.
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
