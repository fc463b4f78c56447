//! Results of `vibrissa analyze`: a small JSON. Arrays by latent and images are in `analysis.safetensors` beside it
//! ([`columns`], docs/formats.md).

pub mod columns;
mod files;
mod histograms;

pub use files::Analysis;
pub use histograms::{ActivationBins, HistogramsRecord, UniformBins};

use super::{Number, Ordered};
use columns::Measure;
use serde::{Deserialize, Serialize};

/// Schema of [`AnalysisRecord`].
pub const ANALYSIS_SCHEMA: &str = "vibrissa.analysis/1";

/// The analysis of a run on given rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnalysisRecord {
    /// [`ANALYSIS_SCHEMA`].
    pub schema: String,
    /// Version of the program that wrote this.
    pub tool_version: String,
    /// Path of the run.
    pub run: String,
    /// The data set as the user named it.
    pub data: String,
    /// The part of it: `train`, `test` or `all`.
    pub split: String,
    /// Rows looked at (N in the definitions below).
    pub rows: u64,
    /// Class name → its rows, of patches its images; empty without classes.
    pub classes: Ordered<u64>,
    /// Channels, height and width of the whole images; `None` where rows are other numbers.
    #[serde(rename = "pictures")]
    pub images: Option<[usize; 3]>,
    /// The patches, where rows are patches of images. `classes`, `metadata`, `cited` and Pearson r are then per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<PatchesRecord>,
    /// Weights of frequency and strength in the score ([`columns::LatentColumns::score`]).
    pub weights: [f64; 2],
    /// Active latents per row of the configuration.
    pub k: usize,
    /// By SAE.
    pub saes: Vec<SaeAnalysis>,
    /// Agreement of the SAEs of an ensemble; `None` for a single one.
    pub ensemble: Option<EnsembleAnalysis>,
    /// Columns of the metadata table.
    #[serde(default)]
    pub metadata: Vec<MetadataRecord>,
    /// Rows that examples, reconstructions and samples refer to, in the order of [`columns::CitedImages`].
    pub cited: Vec<CitedRow>,
    /// Bins of the histograms.
    #[serde(default)]
    pub histograms: HistogramsRecord,
    /// BLAKE3 of `analysis.safetensors`, hexadecimal.
    #[serde(default)]
    pub columns_hash: String,
    /// Wall time of the analysis, seconds.
    pub seconds: Number,
    /// Rows per second of the pass over the rows; undefined for merged shards.
    #[serde(default)]
    pub rows_per_s: Number,
}

/// The geometry of patches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PatchesRecord {
    /// Height of a patch, pixels.
    pub height: usize,
    /// Width of a patch, pixels.
    pub width: usize,
    /// Distance from one patch to the next, down and across, pixels.
    pub stride: [usize; 2],
    /// First line of pixels of each row of patches.
    pub tops: Vec<usize>,
    /// First column of pixels of each column of patches.
    pub lefts: Vec<usize>,
}

/// A row that the analysis refers to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CitedRow {
    /// Its number in the data set.
    pub row: u64,
    /// Its name.
    pub name: String,
    /// Number of its class.
    pub class: Option<u16>,
    /// Top and left pixel of a patch within its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<[usize; 2]>,
}

/// The analysis of one SAE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaeAnalysis {
    /// Latents (H).
    pub latents: u64,
    /// Latents never active.
    pub dead: u64,
    /// Latents active in fewer than 1 row of 1,000, dead ones not counted.
    pub rare: u64,
    /// Latents active in more than half of the rows.
    pub dense: u64,
    /// Mean number of active latents per row.
    pub l0: Number,
    /// Mean Pearson r of row and reconstruction; of a constant row or reconstruction r is 0.
    pub pearson: Number,
    /// Mean Pearson r by class.
    pub class_pearson: Vec<Number>,
    /// Mean squared error per element, (1/(N D)) Σ ‖x − recon‖².
    pub mse: Number,
    /// Inequality of the contributions.
    pub usage: UsageRecord,
    /// Histogram of log10 frequency, latents never active left out: lower edge of each bin and its latents. The bins
    /// are [`HistogramsRecord::log10_frequency`].
    pub density: Vec<(f64, u64)>,
    /// The order by score compared with the order by index.
    pub order: OrderRecord,
    /// Classes in latent space, with two or more classes.
    pub classes: Option<ClassesRecord>,
    /// Co-activation of latents; `None` if there were too many pairs to keep.
    pub pairs: Option<CoactivationRecord>,
    /// The latents at each checkpoint of the run, where it kept any.
    pub history: Vec<CheckpointRecord>,
    /// The worst, median and best reconstruction of each class, of at most 20 classes.
    pub reconstructions: Vec<ReconstructionRecord>,
}

/// The latents at one checkpoint, on at most 2,000 rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointRecord {
    /// Steps done.
    pub step: u64,
    /// Latents active in some row.
    pub alive: u64,
    /// Latents active here and at no earlier checkpoint.
    pub born: u64,
    /// Latents active here and at no later checkpoint; 0 at the last one.
    pub died: u64,
    /// Spearman's ρ of the scores with those of the checkpoint before; undefined at the first.
    pub stability: Number,
}

/// Inequality of the contributions. The contribution of a latent is max(`delta_sse`, 0).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRecord {
    /// Share of the total that the top 0, 1, … 100 % of the latents contribute, the largest first; linear between
    /// latents.
    pub curve: Vec<f64>,
    /// Gini coefficient, Σ (2i − n − 1) xᵢ / (n Σ x) of the contributions in ascending order: 0 if all are equal,
    /// towards 1 if one latent contributes everything.
    pub gini: Number,
    /// Smallest share of the latents that contributes 80 % of the total.
    pub carry_80: Number,
    /// Latents with `delta_sse` < 0: removing them lowers the squared error.
    pub negative: u64,
    /// Exponent α of contribution ∝ rank^−α: least squares on logarithms over the upper half of the positive ones;
    /// undefined for fewer than eight.
    pub tail: Number,
    /// R² of that fit.
    pub tail_r2: Number,
}

/// The order by score compared with the order by index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderRecord {
    /// Latents compared: 100, or all where there are fewer.
    pub top: u64,
    /// Mean [`columns::LatentColumns::share`] of the first latents by score, and of the first by index.
    pub share: [Number; 2],
    /// Mean sharpness of their decoder directions as images, likewise: Σ of squared differences of neighbouring pixels
    /// / Σ of squared pixels. Undefined where rows are no images.
    pub sharpness: [Number; 2],
    /// Highest frequency of a latent.
    pub top_frequency: Number,
    /// Lowest frequency among the first latents by score.
    pub top_least_frequency: Number,
    /// Spearman's ρ of rank by score and index.
    pub rank_index: Number,
}

/// The classes in latent space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassesRecord {
    /// Latents with q < 0.05 ([`columns::ClassColumns::q`]).
    pub significant: u64,
    /// By class: latents with q < 0.05 and an AUC of the class of at least 0.7, the largest AUC first, at most ten.
    pub selective: Vec<Vec<u64>>,
    /// Latents whose frequency in every class is at least half of their highest frequency in a class.
    pub shared: u64,
    /// Mean silhouette (Rousseeuw 1987) of the rows by class in latent space, by cosine distance, of at most 2,000
    /// rows.
    pub silhouette: Number,
    /// Five-fold cross-validated accuracy of a linear probe (ridge regression on one-hot classes) on the latents of the
    /// same rows.
    pub probe: Number,
    /// Accuracy of always naming the largest class.
    pub majority: Number,
}

/// Co-activation of latents. Two latents are co-active in a row in which both are active.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoactivationRecord {
    /// Pairs that are co-active in some row.
    pub pairs: u64,
    /// Pairs with the largest positive synergy, at most 20.
    pub overlap: Vec<PairRecord>,
    /// Pairs with the largest negative synergy, at most 20.
    pub correct: Vec<PairRecord>,
    /// Pairs with the largest pointwise mutual information among those co-active in at least ten rows, at most 20.
    pub together: Vec<PairRecord>,
    /// Pairs with the largest cosine of their decoder directions, at most 20.
    pub redundant: Vec<PairRecord>,
    /// Groups of co-active latents among the first 1,000 by score, the largest first, at most 20.
    pub groups: Vec<GroupRecord>,
}

/// A group of co-active latents: average linkage over 1 − NPMI, cut at a mean NPMI of 0.3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRecord {
    /// Its latents, the most frequent first.
    pub latents: Vec<u64>,
    /// Mean normalised pointwise mutual information of its pairs, log(p_ab / (p_a p_b)) / −log p_ab (Bouma 2009): 1 if
    /// always co-active, 0 if independent, −1 if never co-active.
    pub npmi: Number,
    /// Mean |cosine| of the decoder directions of its pairs: near 0 they are complementary, near 1 redundant.
    pub cosine: Number,
    /// Σ of their [`columns::LatentColumns::share`].
    pub share: Number,
}

/// One column of the metadata table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataRecord {
    /// Heading of the column.
    pub column: String,
    /// `number`, `levels`, or empty for a column that was left out.
    pub kind: String,
    /// Names of the levels.
    pub levels: Vec<String>,
    /// Reason why it was left out; empty for the others.
    pub left_out: String,
    /// Rows that have a value.
    pub rows: u64,
    /// Association with the classes, 0 to 1, corrected for chance: Cramér's V of levels (Bergsma 2013), √ε² of numbers
    /// (Kelley 1935).
    pub with_classes: Number,
    /// By SAE; the effects and q of all latents are in [`columns::MetadataColumns`].
    pub saes: Vec<MetadataAssociation>,
}

/// The association of one column of the metadata with the latents of one SAE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataAssociation {
    /// Latents with q < 0.05.
    pub significant: u64,
    /// The ten of these with the largest |effect|: `(latent, effect, q)`.
    pub top: Vec<(u64, f64, f64)>,
}

/// Two latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairRecord {
    /// The lower of their numbers.
    pub a: u64,
    /// The higher of their numbers.
    pub b: u64,
    /// Rows in which both are active.
    pub count: u64,
    /// Pointwise mutual information log2(p_ab / (p_a p_b)), bits.
    pub pmi: Number,
    /// What removing both adds to the squared error of a row beyond what removing each adds, mean over all rows:
    /// 2 E[z_a z_b] (w_a · w_b). Above 0 the two overlap, below 0 one corrects the other.
    pub synergy: Number,
    /// Cosine of their decoder directions.
    pub cosine: Number,
}

/// One row and its reconstruction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReconstructionRecord {
    /// Place in [`AnalysisRecord::cited`].
    pub cited: u64,
    /// `worst`, `median` or `best` of its class.
    pub rank: String,
    /// Pearson r of row and reconstruction.
    pub pearson: Number,
    /// Its latents of the largest |value| and their values, at most eight.
    pub active: Vec<(u64, f64)>,
}

/// Agreement of the SAEs of an ensemble, over the latents that are active in some row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnsembleAnalysis {
    /// `[i][j]`: mean over the latents of SAE i of the largest cosine of their decoder direction with one of SAE j
    /// (MMCS, Sharkey et al. 2022).
    pub mmcs: Vec<Vec<Number>>,
    /// Mean |cosine| of the decoder directions of latents matched one to one (MCC), by pairs of SAEs i < j; undefined
    /// for more than 4,096 latents.
    pub mcc: Vec<(usize, usize, Number)>,
    /// By SAE: latents with a cosine of at least 0.7 with a latent of every other SAE.
    pub shared: Vec<u64>,
    /// By SAE: latents with a cosine of at least 0.7 with no latent of any other SAE.
    #[serde(rename = "own")]
    pub unshared: Vec<u64>,
}

/// Schema of [`PruneRecord`].
pub const PRUNE_SCHEMA: &str = "vibrissa.prune/1";

/// Fidelity of a model by the number of features that it keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PruneRecord {
    /// [`PRUNE_SCHEMA`].
    pub schema: String,
    /// The measure that features were ordered by.
    pub by: Measure,
    /// Features of the model that was written.
    pub top: u64,
    /// The data set it was measured on, as the user named it.
    pub data: String,
    /// The part of it.
    pub rows: String,
    /// The most features first.
    pub curve: Vec<PrunePoint>,
    /// By SAE: the latents that were kept, by their numbers before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Vec<usize>>,
}

/// Fidelity with a number of features, mean over the SAEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrunePoint {
    /// Features kept.
    pub features: u64,
    /// Mean Pearson r.
    pub pearson: Number,
    /// Fraction of variance unexplained.
    pub fvu: Number,
}

#[cfg(test)]
mod tests;
