//! What `vibrissa sweep` found: a record a cell, and what the cells say together.

use super::{Number, Ordered, Reconstruction, Recovery, Scores, finite};
use serde::{Deserialize, Serialize};

/// Schema of [`SweepRecord`].
pub const SWEEP_SCHEMA: &str = "vibrissa.sweep/1";
/// Schema of [`CellRecord`].
pub const CELL_SCHEMA: &str = "vibrissa.cell/1";

/// How a cell ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Trained to its last step.
    #[default]
    Finished,
    /// Stopped by halving: others of the same k were better.
    Stopped,
    /// Its numbers left the finite.
    Failed,
}

impl Ended {
    /// The name that files have for it.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Finished => "finished",
            Ended::Stopped => "stopped",
            Ended::Failed => "failed",
        }
    }
}

/// One cell of the grid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CellRecord {
    /// [`CELL_SCHEMA`].
    pub schema: String,
    /// Its values in the order of the grid, such as `k=16 lr=0.001`; the name of its folder under `cells/`.
    pub name: String,
    /// The same without the seed: cells of one configuration differ by their seed alone.
    pub configuration: String,
    /// Values by the name of the option.
    pub values: Ordered<String>,
    /// Hash of what decides its result.
    pub hash: String,
    /// Activation.
    pub activation: String,
    /// H.
    pub latents: u64,
    /// Active latents a row that were asked for.
    pub k: u64,
    /// How it ended.
    pub ended: Ended,
    /// Steps done, and steps planned.
    pub step: u64,
    /// See `step`.
    pub steps: u64,
    /// Seconds in its steps alone, beside others that were trained at the same time.
    #[serde(with = "finite")]
    pub seconds: Option<f64>,
    /// Squared error of the validation rows against the spread of the training rows: what cells are chosen by.
    #[serde(with = "finite")]
    pub validation_fvu: Option<f64>,
    /// On the held-out rows; of cells that were stopped nothing.
    pub scores: Option<Scores>,
    /// On synthetic rows: what it found of the features that they are made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why a configuration is not compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Apart {
    /// All its latents are active in every row, which those of the others are not.
    Dense,
    /// Its reconstructions are no better than the mean of the rows.
    NoBetter,
}

/// A configuration: the mean of its seeds, and how far they are apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigurationRecord {
    /// See [`CellRecord::configuration`].
    pub name: String,
    /// Its values by the name of the option, without the seed.
    pub values: Ordered<String>,
    /// Activation.
    pub activation: String,
    /// H.
    pub latents: u64,
    /// Active latents a row that were asked for.
    pub k: u64,
    /// Finished cells.
    pub seeds: u64,
    /// Mean L0 of the held-out rows.
    pub l0: Number,
    /// Mean L0 of the training rows by the rule of training.
    pub l0_train: Number,
    /// Whether `l0` is more than a tenth away from `k`.
    pub l0_far: bool,
    /// Mean fvu of the held-out rows.
    pub fvu: Number,
    /// Half of the 95 % confidence interval of that mean (Student's t over seeds); nothing for one seed.
    pub fvu_band: Number,
    /// Mean Pearson r.
    pub pearson: Number,
    /// As `fvu_band`, of Pearson r.
    pub pearson_band: Number,
    /// Mean squared error.
    pub mse: Number,
    /// Mean cosine.
    pub cosine: Number,
    /// Mean SSIM.
    pub ssim: Number,
    /// Mean PSNR, dB.
    pub psnr: Number,
    /// Mean perceptual distance.
    pub perceptual: Number,
    /// Mean cross-entropy of an element, nats.
    pub cross_entropy: Number,
    /// Mean MCC and F1 with the true features, of synthetic rows.
    pub mcc: Number,
    /// See `mcc`.
    pub f1: Number,
    /// Mean number of latents that no held-out row used.
    pub dead_latents: Number,
    /// The same as a share of all.
    pub dead_share: Number,
    /// Mean share of latents that fewer than 1 in 1,000 held-out rows used, dead ones included.
    pub rare_share: Number,
    /// Mean validation fvu.
    pub validation_fvu: Number,
    /// Mean seconds of a cell.
    pub seconds: Number,
    /// Whether no other configuration has both a smaller L0 and a smaller fvu.
    pub front: bool,
    /// Why it takes no part in front, best and knee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
}

/// What an option does: means over all finished cells that have one of its values, whatever else they have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectRecord {
    /// The option.
    pub key: String,
    /// Largest less smallest mean validation fvu over its values, mean over `lines`; nothing where each has one value.
    pub spread: Number,
    /// One for each k, where several were swept and the option is another.
    pub lines: Vec<EffectLine>,
}

/// Means by value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectLine {
    /// The k of its cells, where it is of one.
    pub k: Option<u64>,
    /// In the order of the grid.
    pub points: Vec<EffectPoint>,
}

/// Cells that have one value of an option.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectPoint {
    /// The value.
    pub value: String,
    /// Finished cells that have it.
    pub cells: u64,
    /// Their mean validation fvu.
    pub validation_fvu: Number,
    /// Their mean fvu on the held-out rows.
    pub fvu: Number,
}

/// A sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepRecord {
    /// [`SWEEP_SCHEMA`].
    pub schema: String,
    /// What was trained on.
    pub data: String,
    /// Options that the grid varies, in its order.
    pub keys: Vec<String>,
    /// Rows trained on, chosen by, and held out; whole pictures where rows are patches.
    pub training_rows: u64,
    /// See `training_rows`.
    pub validation_rows: u64,
    /// See `training_rows`.
    pub test_rows: u64,
    /// Patches a picture, where rows are patches: L0 and latents are then of patches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches_per_image: Option<u64>,
    /// Whether hopeless cells were stopped early.
    pub halving: bool,
    /// All cells, in the order of the grid.
    pub cells: Vec<CellRecord>,
    /// What seeds have in common.
    pub configurations: Vec<ConfigurationRecord>,
    /// What each option that has several values does.
    pub effects: Vec<EffectRecord>,
    /// The configuration with the smallest validation fvu.
    pub best: Option<String>,
    /// The configuration of the front beyond which more active latents pay least: furthest below the line between the
    /// ends of the front, fvu against log L0.
    pub knee: Option<String>,
    /// The mean of the training rows, as the baseline.
    pub mean_image: Reconstruction,
    /// Seconds of the whole sweep, all sessions.
    #[serde(with = "finite")]
    pub seconds: Option<f64>,
    /// Version that wrote it.
    pub tool_version: String,
}

impl SweepRecord {
    /// Whether a configuration is the best one, and whether it is the knee.
    pub fn best_and_knee(&self, c: &ConfigurationRecord) -> (bool, bool) {
        let is = |name: &Option<String>| name.as_ref() == Some(&c.name);
        (is(&self.best), is(&self.knee))
    }

    /// Whether a configuration is the best one or the knee.
    pub fn is_named(&self, c: &ConfigurationRecord) -> bool {
        self.best_and_knee(c) != (false, false)
    }

    /// The cell whose pictures stand for a configuration: the first that finished.
    pub fn cell_of(&self, c: &ConfigurationRecord) -> Option<&CellRecord> {
        self.cells.iter().find(|cell| cell.configuration == c.name && cell.ended == Ended::Finished)
    }
}
