//! What `vibrissa analyze` found: a small JSON; the columns by latent and the pictures are in `analysis.safetensors` beside
//! it (docs/formats.md).

use super::{Number, Ordered};
use serde::{Deserialize, Serialize};

/// Version of [`AnalysisRecord`].
pub const ANALYSIS_SCHEMA: &str = "vibrissa.analysis/1";

/// A model on given rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnalysisRecord {
    /// [`ANALYSIS_SCHEMA`].
    pub schema: String,
    /// Version of the program that wrote this.
    pub tool_version: String,
    /// The run.
    pub run: String,
    /// The data set as the user named it.
    pub data: String,
    /// Which part of it: `train`, `test`, `all`.
    pub split: String,
    /// Rows looked at.
    pub rows: u64,
    /// Class name → its rows; empty without classes.
    pub classes: Ordered<u64>,
    /// Channels, height and width of the pictures, whole.
    pub pictures: Option<[usize; 3]>,
    /// Where rows are patches of the pictures; `classes`, `metadata`, `cited` and Pearson r are then of pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patches: Option<PatchesRecord>,
    /// Weights of frequency and strength in the score.
    pub weights: [f64; 2],
    /// k.
    pub k: usize,
    /// By SAE.
    pub saes: Vec<SaeAnalysis>,
    /// Between SAEs; none with a single one.
    pub ensemble: Option<EnsembleAnalysis>,
    /// Columns of `--metadata`.
    #[serde(default)]
    pub metadata: Vec<MetadataRecord>,
    /// Rows that are cited, in the order of the pictures.
    pub cited: Vec<Cited>,
    /// BLAKE3 of the columns beside it, hex.
    #[serde(default)]
    pub columns_hash: String,
    /// Wall time, seconds.
    pub seconds: Number,
    /// Rows per second of the pass over the rows alone.
    #[serde(default)]
    pub rows_per_s: Number,
}

/// The patches that rows are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PatchesRecord {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Pixels from one to the next, down and across.
    pub stride: [usize; 2],
    /// First line of pixels of each row of patches.
    pub tops: Vec<usize>,
    /// First column of pixels of each column of patches.
    pub lefts: Vec<usize>,
}

/// A row whose picture is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cited {
    /// Its number in the data set.
    pub row: u64,
    /// Its name.
    pub name: String,
    /// Number of its class.
    pub class: Option<u16>,
    /// Of a patch: its top and left pixel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<[usize; 2]>,
}

/// One SAE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaeAnalysis {
    /// H.
    pub latents: u64,
    /// Never active.
    pub dead: u64,
    /// Active in fewer than 1 row of 1,000, dead ones not counted.
    pub rare: u64,
    /// Active in more than half of the rows.
    pub dense: u64,
    /// Mean latents ≠ 0 a row.
    pub l0: Number,
    /// Mean Pearson r.
    pub pearson: Number,
    /// By class: mean Pearson r.
    pub class_pearson: Vec<Number>,
    /// Mean squared error per element.
    pub mse: Number,
    /// How unequally the latents contribute.
    pub usage: UsageRecord,
    /// Latents by log10 frequency: lower edge of each bucket and how many.
    pub density: Vec<(f64, u64)>,
    /// Order by score against order by index.
    pub order: OrderRecord,
    /// With classes.
    pub classes: Option<ClassesRecord>,
    /// Pairs, where they were kept.
    pub pairs: Option<PairsRecord>,
    /// Over training, where the run kept checkpoints.
    pub history: Vec<MomentRecord>,
    /// Rows of the examples: reconstructions worst, median and best of each class.
    pub reconstructions: Vec<ReconstructionRecord>,
}

/// The latents at one step of training, on at most 2,000 rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MomentRecord {
    /// Steps done.
    pub step: u64,
    /// Latents active in some row.
    pub alive: u64,
    /// Of these, never active before.
    pub born: u64,
    /// Latents active here for the last time.
    pub died: u64,
    /// Spearman correlation of the scores with those of the moment before.
    pub stability: Number,
}

/// Inequality of contributions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRecord {
    /// Share of Σ contribution carried by the top 0, 1, … 100 % of the latents.
    pub curve: Vec<f64>,
    /// Gini coefficient.
    pub gini: Number,
    /// Share of the latents that carry 80 %.
    pub carry_80: Number,
    /// Latents whose removal helps.
    pub negative: u64,
    /// Exponent of the tail, contribution ∝ rank^-α.
    pub tail: Number,
    /// R² of that fit.
    pub tail_r2: Number,
}

/// What the order by score brings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderRecord {
    /// Latents compared: 100, or all where there are fewer.
    pub top: u64,
    /// Mean contribution (share of Σ) of the top ones by score, and of the first ones by index.
    pub share: [Number; 2],
    /// Mean sharpness of their pictures (gradient energy over energy), likewise.
    pub sharpness: [Number; 2],
    /// Highest frequency of a latent.
    pub top_frequency: Number,
    /// Lowest frequency among the top ones by score.
    pub top_least_frequency: Number,
    /// Spearman correlation of rank by score and index.
    pub rank_index: Number,
}

/// The classes in latent space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassesRecord {
    /// Latents with q < 0.05.
    pub significant: u64,
    /// By class: latents with q < 0.05 and the class's AUC ≥ 0.7, the best first, at most ten.
    pub selective: Vec<Vec<u64>>,
    /// Latents active in every class at least half as often as in the class where they are most active.
    pub shared: u64,
    /// Mean silhouette of the rows by class in latent space (cosine distance), of at most 2,000 rows.
    pub silhouette: Number,
    /// Cross-validated accuracy of a linear probe on the latents.
    pub probe: Number,
    /// Accuracy of always naming the largest class.
    pub majority: Number,
}

/// Company of latents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairsRecord {
    /// Pairs that were ever active together.
    pub pairs: u64,
    /// Largest synergies: what removing both adds beyond what each adds, mean over all rows.
    pub overlap: Vec<PairRecord>,
    /// Smallest.
    pub correct: Vec<PairRecord>,
    /// Largest pointwise mutual information, of pairs active together in at least ten rows.
    pub together: Vec<PairRecord>,
    /// Largest cosines of decoder rows.
    pub redundant: Vec<PairRecord>,
    /// Groups of latents that act in the same rows, the largest first, of the 1,000 first by score.
    pub groups: Vec<GroupRecord>,
}

/// Latents that act in the same rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRecord {
    /// Its latents, the most frequent first.
    pub latents: Vec<u64>,
    /// Mean normalised pointwise mutual information of its pairs, in [-1, 1].
    pub npmi: Number,
    /// Mean |cosine| of the decoder rows of its pairs: near 0 they complete each other, near 1 they repeat each other.
    pub cosine: Number,
    /// Σ of their shares of the effect.
    pub share: Number,
}

/// What is known of the rows beside the latents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataRecord {
    /// Heading of the column.
    pub column: String,
    /// `number`, `levels`, or empty for a column that tells nothing.
    pub kind: String,
    /// Names of the levels.
    pub levels: Vec<String>,
    /// Why it was left out.
    pub left_out: String,
    /// Rows that have a value.
    pub rows: u64,
    /// How far it says the same as the classes: Cramér's V, or √ε² of numbers.
    pub with_classes: Number,
    /// By SAE.
    pub saes: Vec<MetadataOf>,
}

/// One column and the latents of one SAE; effects and q of all are in the columns `S.metadata.J.effect` and `.q`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataOf {
    /// Latents with q < 0.05.
    pub significant: u64,
    /// The ten with the largest |effect| of these: `(latent, effect, q)`.
    pub top: Vec<(u64, f64, f64)>,
}

/// Two latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairRecord {
    /// The one with the smaller number.
    pub a: u64,
    /// The other.
    pub b: u64,
    /// Rows in which both are active.
    pub count: u64,
    /// Pointwise mutual information, bits.
    pub pmi: Number,
    /// `2 E[latent_a latent_b] (w_a · w_b)`, squared error a row.
    pub synergy: Number,
    /// Cosine of their decoder rows.
    pub cosine: Number,
}

/// One row beside what was made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReconstructionRecord {
    /// Into [`AnalysisRecord::cited`], and into the pictures of reconstructions.
    pub cited: u64,
    /// `worst`, `median` or `best` of its class.
    pub rank: String,
    /// Pearson r.
    pub pearson: Number,
    /// Its strongest latents and their values.
    pub active: Vec<(u64, f64)>,
}

/// Between the SAEs of an ensemble.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnsembleAnalysis {
    /// `[i][j]`: mean over the live latents of i of the best cosine with a live latent of j.
    pub mmcs: Vec<Vec<Number>>,
    /// Mean cosine of latents matched one to one, by pairs of SAEs i < j.
    pub mcc: Vec<(usize, usize, Number)>,
    /// By SAE: latents with a partner of cosine ≥ 0.7 in every other SAE.
    pub shared: Vec<u64>,
    /// By SAE: live latents with no partner of cosine ≥ 0.7 in any other.
    pub own: Vec<u64>,
}

/// Version of [`PruneRecord`].
pub const PRUNE_SCHEMA: &str = "vibrissa.prune/1";

/// How fidelity falls as a model keeps fewer features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PruneRecord {
    /// [`PRUNE_SCHEMA`].
    pub schema: String,
    /// The measure that features were ordered by.
    pub by: String,
    /// Features of the model that was written.
    pub top: u64,
    /// The rows it was measured on.
    pub data: String,
    /// Which of them.
    pub rows: String,
    /// The most features first.
    pub curve: Vec<PrunePoint>,
    /// By SAE: the latents that were kept, by their old numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Vec<usize>>,
}

/// Fidelity with so many features, mean over the SAEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrunePoint {
    /// Features kept.
    pub features: u64,
    /// Mean Pearson r.
    pub pearson: Number,
    /// Fraction of variance unexplained.
    pub fvu: Number,
}
