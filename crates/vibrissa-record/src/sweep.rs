//! Results of a sweep: a record for each cell of the grid, and their comparison.

use super::{Number, Ordered, Reconstruction, Recovery, Scores};
use crate::values::finite;
use serde::{Deserialize, Serialize};

/// Schema of [`SweepRecord`].
pub const SWEEP_SCHEMA: &str = "vibrissa.sweep/1";
/// Schema of [`CellRecord`].
pub const CELL_SCHEMA: &str = "vibrissa.cell/1";

/// The end of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Trained to its last step.
    #[default]
    Finished,
    /// Stopped early by successive halving: others of the same k were better.
    Stopped,
    /// Stopped by an error, such as a loss that is not finite.
    Failed,
}

impl Ended {
    /// The name in files.
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
    /// Its values in the order of the grid, such as `k=16 lr=0.001`; also the name of its folder under `cells/`.
    pub name: String,
    /// Its values without the seed: cells of one configuration differ in the seed alone.
    pub configuration: String,
    /// Its values by option.
    pub values: Ordered<String>,
    /// Hash of the options and data that determine its result.
    pub hash: String,
    /// Name of the activation.
    pub activation: String,
    /// Latents (H).
    pub latents: u64,
    /// Active latents per row of the configuration.
    pub k: u64,
    /// Its end.
    pub ended: Ended,
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// Seconds spent in its steps; other cells are trained at the same time.
    #[serde(with = "finite")]
    pub seconds: Option<f64>,
    /// Mean squared error of the validation rows / variance of the training rows: the criterion of selection.
    #[serde(with = "finite")]
    pub validation_fvu: Option<f64>,
    /// Scores on the test rows; `None` for a cell that did not finish.
    pub scores: Option<Scores>,
    /// On synthetic rows: recovery of the true features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// The error that stopped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Reason why a configuration takes no part in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Apart {
    /// All its latents are active in every row, unlike those of the others.
    Dense,
    /// Its fvu is no better than that of the mean of the rows.
    NoBetter,
}

/// A configuration: means over its seeds, on the test rows unless stated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigurationRecord {
    /// The name, [`CellRecord::configuration`].
    pub name: String,
    /// Its values by option, without the seed.
    pub values: Ordered<String>,
    /// Name of the activation.
    pub activation: String,
    /// Latents (H).
    pub latents: u64,
    /// Active latents per row of the configuration.
    pub k: u64,
    /// Number of finished cells.
    pub seeds: u64,
    /// Mean L0.
    pub l0: Number,
    /// Mean L0 of the training rows, by the selection rule of training.
    pub l0_train: Number,
    /// True if `l0` differs from `k` by more than a tenth.
    pub l0_far: bool,
    /// Mean fraction of variance unexplained.
    pub fvu: Number,
    /// Half of the 95 % confidence interval of that mean (Student's t over seeds); undefined for one seed.
    pub fvu_band: Number,
    /// Mean Pearson r.
    pub pearson: Number,
    /// Half of the 95 % confidence interval of the mean Pearson r, as `fvu_band`.
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
    /// On synthetic rows: mean MCC of the true features.
    pub mcc: Number,
    /// On synthetic rows: mean F1 of latents and true features.
    pub f1: Number,
    /// Mean number of dead latents (active in no row).
    pub dead_latents: Number,
    /// Mean share of dead latents.
    pub dead_share: Number,
    /// Mean share of rare latents (active in fewer than 1 row of 1,000), dead ones included.
    pub rare_share: Number,
    /// Mean fvu of the validation rows.
    pub validation_fvu: Number,
    /// Mean seconds per cell.
    pub seconds: Number,
    /// True if no other configuration has both a smaller L0 and a smaller fvu (the Pareto front).
    pub front: bool,
    /// Reason why it takes no part in front, best and knee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
}

/// The effect of one option: means over all finished cells that share one of its values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectRecord {
    /// The option.
    pub key: String,
    /// Largest − smallest mean validation fvu over its values, mean over `lines`; undefined if each line has one value.
    pub spread: Number,
    /// One line for each k if several were swept and the option is another, else one line.
    pub lines: Vec<EffectLine>,
}

/// Means by value of an option.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectLine {
    /// The k of its cells, if it is of one k.
    pub k: Option<u64>,
    /// In the order of the grid.
    pub points: Vec<EffectPoint>,
}

/// The cells that share one value of an option.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EffectPoint {
    /// The value.
    pub value: String,
    /// Number of finished cells.
    pub cells: u64,
    /// Their mean validation fvu.
    pub validation_fvu: Number,
    /// Their mean fvu on the test rows.
    pub fvu: Number,
}

/// The results of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepRecord {
    /// [`SWEEP_SCHEMA`].
    pub schema: String,
    /// The data set as the user named it.
    pub data: String,
    /// Options of the grid, in its order.
    pub keys: Vec<String>,
    /// Training rows; where rows are patches, images.
    pub training_rows: u64,
    /// Validation rows, which configurations are selected on; where rows are patches, images.
    pub validation_rows: u64,
    /// Test rows; where rows are patches, images.
    pub test_rows: u64,
    /// Patches per image, where rows are patches; L0 and latents are then of patches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patches_per_image: Option<u64>,
    /// True if successive halving stopped the worse cells early.
    pub halving: bool,
    /// All cells, in the order of the grid.
    pub cells: Vec<CellRecord>,
    /// The configurations, in the order of the grid.
    pub configurations: Vec<ConfigurationRecord>,
    /// The effect of each option with several values.
    pub effects: Vec<EffectRecord>,
    /// The configuration with the smallest validation fvu.
    pub best: Option<String>,
    /// The knee of the front: the configuration furthest below the line between the ends of the front, fvu against log
    /// L0. Beyond it, more active latents lower the fvu less.
    pub knee: Option<String>,
    /// The mean of the training rows as every reconstruction: the trivial baseline.
    pub mean_image: Reconstruction,
    /// Seconds of the sweep, over all sessions.
    #[serde(with = "finite")]
    pub seconds: Option<f64>,
    /// Version of the program that wrote this.
    pub tool_version: String,
}

impl SweepRecord {
    /// True if a configuration is the best one, and true if it is the knee.
    pub fn best_and_knee(&self, c: &ConfigurationRecord) -> (bool, bool) {
        let is = |name: &Option<String>| name.as_ref() == Some(&c.name);
        (is(&self.best), is(&self.knee))
    }

    /// True if a configuration is the best one or the knee.
    pub fn is_named(&self, c: &ConfigurationRecord) -> bool {
        self.best_and_knee(c) != (false, false)
    }

    /// The cell whose images represent a configuration: the first that finished.
    pub fn cell_of(&self, c: &ConfigurationRecord) -> Option<&CellRecord> {
        self.cells.iter().find(|cell| cell.configuration == c.name && cell.ended == Ended::Finished)
    }
}
