//! Evaluations: measures of reconstructions, figures of latents and recovery of known features.

use crate::adaptive::AdaptiveRecord;
use crate::values::{Ordered, finite};
use serde::{Deserialize, Serialize};

/// Schema of [`EvalRecord`].
pub const EVAL_SCHEMA: &str = "vibrissa.eval/1";

/// Histogram of the latents by log10 of their frequency (share of the rows in which they are active).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Density {
    /// Lower edge of the first bin, log10 of the frequency; lower frequencies are counted in it.
    pub log10_from: i32,
    /// Bins per decade.
    pub per_decade: u32,
    /// Latents by bin.
    pub counts: Vec<u64>,
    /// Latents never active.
    pub never: u64,
}

/// Measures of reconstructions, means over rows unless stated otherwise. Other records embed this list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconstruction {
    /// Pearson r of row and reconstruction; 0 where either is constant.
    #[serde(with = "finite")]
    pub pearson: Option<f64>,
    /// Squared error per element, ‖x − recon‖² / D.
    #[serde(with = "finite")]
    pub mse: Option<f64>,
    /// Fraction of variance unexplained, Σ ‖x − recon‖² / Σ ‖x − mean x‖² over all rows, with the mean of each column
    /// over these rows.
    #[serde(with = "finite")]
    pub fvu: Option<f64>,
    /// Cosine of row and reconstruction.
    #[serde(with = "finite")]
    pub cosine: Option<f64>,
    /// Structural similarity of images (SSIM, Wang et al. 2004).
    #[serde(with = "finite")]
    pub ssim: Option<f64>,
    /// Perceptual distance of images, 0 to 1; lower is better.
    #[serde(with = "finite")]
    pub perceptual: Option<f64>,
    /// Binary cross-entropy per element, nats; lower is better.
    #[serde(with = "finite")]
    pub cross_entropy: Option<f64>,
    /// Peak signal-to-noise ratio of images, dB.
    #[serde(with = "finite")]
    pub psnr: Option<f64>,
}

/// Scores of one SAE, or of an ensemble, for which the figures of latents are `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scores {
    /// The measures of its reconstructions.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
    /// L0: mean number of active latents per row.
    #[serde(with = "finite")]
    pub l0: Option<f64>,
    /// Where rows are patches: mean number of active latents per image, Σ over its patches.
    #[serde(with = "finite", skip_serializing_if = "Option::is_none")]
    pub l0_image: Option<f64>,
    /// k of the configuration.
    #[serde(with = "finite")]
    pub l0_target: Option<f64>,
    /// `l0 - l0_target`.
    #[serde(with = "finite")]
    pub l0_distance: Option<f64>,
    /// Mean number of active latents per training row at the end of training, by the selection rule of training.
    #[serde(with = "finite", skip_serializing_if = "Option::is_none")]
    pub l0_train: Option<f64>,
    /// Latents never active on these rows.
    pub dead_latents: Option<u64>,
    /// Latents active in fewer than 1 of 1,000 of these rows, dead ones included.
    pub rare_latents: Option<u64>,
    /// Latents (H).
    pub latents: Option<u64>,
    /// Rows that are constant, or whose reconstruction is.
    pub constant_rows: Option<u64>,
    /// Histogram of activation frequencies.
    pub density: Option<Density>,
}

/// The scores of the rows of one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de> + Default"))]
pub struct OfClass<T> {
    /// Rows of the class.
    pub rows: u64,
    /// Their scores.
    #[serde(flatten)]
    pub scores: T,
}

/// Scores overall and by class; without classes `by_class` is `{}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, bound(deserialize = "T: Deserialize<'de> + Default"))]
pub struct ByClass<T> {
    /// Over all rows.
    #[serde(flatten)]
    pub scores: T,
    /// Class name → its rows and scores, in the data set's order.
    pub by_class: Ordered<OfClass<T>>,
}

impl<T: Default> Default for ByClass<T> {
    fn default() -> Self {
        ByClass { scores: T::default(), by_class: Ordered::default() }
    }
}

/// Recovery of the true features of synthetic rows by one SAE. Features and latents are partners in the one-to-one
/// matching of features and decoder directions with the largest Σ |cosine|.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// True features.
    pub features: u64,
    /// Rows in which features and latents were compared.
    pub rows: u64,
    /// Features that fire in some of them.
    pub fired: Option<u64>,
    /// MCC: mean |cosine| of partners over all true features; features without a partner count as 0.
    #[serde(with = "finite")]
    pub mcc: Option<f64>,
    /// MCC of as many random directions as there are latents.
    #[serde(with = "finite")]
    pub mcc_chance: Option<f64>,
    /// MMCS: mean over the true features of the largest |cosine| with a decoder direction (Sharkey et al. 2022).
    #[serde(with = "finite")]
    pub mmcs: Option<f64>,
    /// MMCS of as many random directions as there are latents.
    #[serde(with = "finite")]
    pub mmcs_chance: Option<f64>,
    /// Share of the true features with a largest |cosine| of at least 0.9.
    #[serde(with = "finite")]
    pub found: Option<f64>,
    /// Mean F1 of "the partner is active" as a prediction of "the feature fires", over the features that fire.
    #[serde(with = "finite")]
    pub f1: Option<f64>,
    /// Mean precision of that prediction; 0 for a partner that is never active.
    #[serde(with = "finite")]
    pub precision: Option<f64>,
    /// Mean recall of that prediction.
    #[serde(with = "finite")]
    pub recall: Option<f64>,
}

/// The evaluation of models on given rows ([`EVAL_SCHEMA`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// [`EVAL_SCHEMA`].
    pub schema: String,
    /// Rows evaluated; where rows are patches, images.
    pub rows: u64,
    /// Where rows are patches: patches per image. `l0`, `dead_latents`, `rare_latents` and `density` are then of
    /// patches, all else of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches_per_image: Option<u64>,
    /// By SAE.
    #[serde(default)]
    pub saes: Vec<ByClass<Scores>>,
    /// The mean of the reconstructions of all SAEs.
    #[serde(default)]
    pub ensemble: ByClass<Scores>,
    /// The mean of the training rows as the reconstruction of every row: the trivial baseline.
    #[serde(default)]
    pub mean_image: ByClass<Reconstruction>,
    /// On synthetic rows, by SAE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<Recovery>,
    /// The data set as the user named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The part of it: `test`, `train`, `all` or `folds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The runs or model files of the SAEs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<String>,
    /// Version of the program that wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_version: Option<String>,
    /// Wall time of the evaluation, seconds.
    #[serde(default, with = "finite", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Adaptive numbers of active latents, by SAE, if requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adaptive: Vec<AdaptiveRecord>,
}

impl Default for EvalRecord {
    fn default() -> Self {
        EvalRecord {
            schema: EVAL_SCHEMA.into(),
            rows: 0,
            patches_per_image: None,
            saes: Vec::new(),
            ensemble: ByClass::default(),
            mean_image: ByClass::default(),
            recovery: Vec::new(),
            data: None,
            split: None,
            runs: Vec::new(),
            tool_version: None,
            adaptive: Vec::new(),
            seconds: None,
        }
    }
}
