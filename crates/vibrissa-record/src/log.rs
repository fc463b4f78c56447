//! The training log: a line of JSON per interval.

use crate::eval::Density;
use crate::values::{Number, Ordered, finite};
use serde::{Deserialize, Serialize};

/// The figures of one SAE in a [`MetricsLine`], over the training rows of the interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaeLine {
    /// Each term of the loss, and their sum as `total`.
    pub loss: Ordered<Number>,
    /// Mean Pearson r of row and reconstruction.
    #[serde(with = "finite")]
    pub pearson: Option<f64>,
    /// Fraction of variance unexplained.
    #[serde(with = "finite")]
    pub fvu: Option<f64>,
    /// Mean number of active latents per row.
    #[serde(with = "finite")]
    pub l0: Option<f64>,
    /// k at this step.
    #[serde(with = "finite")]
    pub l0_target: Option<f64>,
    /// Weight λ of the L1 penalty at this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l1_lambda: Option<f64>,
    /// Mean value of all latents, zeros included (ρ̂; a KL penalty has the target k/H).
    #[serde(with = "finite")]
    pub mean_activation: Option<f64>,
    /// Latents by frequency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<Density>,
    /// Latents counted as dead at this step.
    pub dead_latents: Option<u64>,
    /// Latents resampled in the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reborn: Option<u64>,
}

/// One line of the training log (JSON lines).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsLine {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Rows per second over the interval.
    #[serde(with = "finite")]
    pub rows_per_s: Option<f64>,
    /// Seconds since training began.
    #[serde(with = "finite")]
    pub wall_s: Option<f64>,
    /// By SAE.
    pub saes: Vec<SaeLine>,
}

impl MetricsLine {
    /// The line, with its newline.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data always serialises");
        line.push('\n');
        line
    }
}
