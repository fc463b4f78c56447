//! The columns of an analysis: arrays too long for `analysis.json`, in `analysis.safetensors` beside it. Every column
//! is defined here, once: name on disk, type, shape, unit and meaning. What is written and what is read go through
//! these definitions, so a missing or wrongly typed column is an error and never an empty one.
//!
//! Letters of shapes: H latents, C classes (1 without classes), P latents with example rows, E examples of a kind, N of
//! whatever the column counts, T checkpoints, D values a row.
//!
//! ```
//! use vibrissa_record::analysis::columns::{ColumnGroup, LatentColumns};
//! let score = LatentColumns::DEFINITIONS.iter().find(|d| d.name == "score").unwrap();
//! assert_eq!((score.element, score.shape), ("f64", &["H"][..]));
//! ```

mod assembled;

pub use assembled::{AnalysisColumns, Reconstructions, SaeColumns};

use crate::columns::{Array, ColumnError, Element, StoredColumns};
use serde::{Deserialize, Serialize};

/// The value that stands for "no row" in columns of places in [`super::AnalysisRecord::cited`].
pub const NO_ROW: u32 = u32::MAX;

/// The definition of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Name on disk, after the prefix of its group.
    pub name: &'static str,
    /// Type of its values.
    pub element: &'static str,
    /// Letters of its dimensions, the slowest first.
    pub shape: &'static [&'static str],
    /// Unit of its values.
    pub unit: &'static str,
    /// Meaning of its values.
    pub meaning: &'static str,
}

/// The lengths that the record fixes, by letter.
type Lengths<'a> = &'a [(&'a str, usize)];

/// Columns that are written and read together.
pub trait ColumnGroup: Sized {
    /// The definitions of its columns, in the order of its fields.
    const DEFINITIONS: &'static [ColumnDefinition];

    /// Moves the columns into a store, each name after `prefix`.
    fn store(self, prefix: &str, stored: &mut StoredColumns);

    /// Takes the columns from a store.
    ///
    /// # Errors
    /// A column that is missing, of another type, or of another shape than its definition and `lengths` say.
    fn load(prefix: &str, stored: &mut StoredColumns, lengths: Lengths) -> Result<Self, ColumnError>;
}

/// Defines groups: for each column a field, its name on disk, type, shape and unit; the doc comment is its meaning.
macro_rules! column_groups {
    ($(
        $(#[$attribute:meta])*
        $group:ident {
            $( $(#[doc = $meaning:literal])+ $field:ident = $name:literal: $type:ident [$($letter:ident),+] $unit:literal, )+
        }
    )+) => { $(
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $group {
            $(
                $(#[doc = $meaning])+
                #[doc = concat!("Unit: ", $unit, ".")]
                pub $field: Array<$type>,
            )+
        }

        impl ColumnGroup for $group {
            const DEFINITIONS: &'static [ColumnDefinition] = &[$(
                ColumnDefinition {
                    name: $name,
                    element: <$type as Element>::NAME,
                    shape: &[$(stringify!($letter)),+],
                    unit: $unit,
                    meaning: concat!($($meaning),+),
                },
            )+];

            fn store(self, prefix: &str, stored: &mut StoredColumns) {
                $( stored.insert(format!("{prefix}{}", $name), self.$field); )+
            }

            fn load(prefix: &str, stored: &mut StoredColumns, lengths: Lengths) -> Result<$group, ColumnError> {
                let mut definitions = Self::DEFINITIONS.iter();
                let mut next = || definitions.next().expect("a definition for each field");
                Ok($group { $( $field: take::<$type>(prefix, next(), stored, lengths)?, )+ })
            }
        }
    )+ };
}

/// Takes one column from a store.
fn take<T: Element>(
    prefix: &str,
    definition: &ColumnDefinition,
    stored: &mut StoredColumns,
    lengths: Lengths,
) -> Result<Array<T>, ColumnError> {
    let length = |letter: &str| lengths.iter().find(|l| l.0 == letter).map(|l| l.1);
    let array = stored.take::<T>(&format!("{prefix}{}", definition.name))?;
    let fits = array.shape.len() == definition.shape.len()
        && array.shape.iter().zip(definition.shape).all(|(&n, letter)| length(letter).is_none_or(|want| n == want));
    if fits {
        return Ok(array);
    }
    let letters = definition.shape.iter().map(|l| length(l).map_or_else(|| (*l).into(), |n| n.to_string()));
    Err(ColumnError {
        column: format!("{prefix}{}", definition.name),
        expected: format!("{} [{}]", T::NAME, letters.collect::<Vec<String>>().join(", ")),
        found: format!("{} {:?}", T::NAME, array.shape),
    })
}

column_groups! {
    /// One value per latent: prefix `S.`, S the number of the SAE. N is the number of rows looked at, z the value of
    /// the latent in a row, w its decoder direction (the row of `W_dec` times its scale).
    LatentColumns {
        /// Place in the order by score, from 1; of equal scores the lower index comes first.
        rank = "rank": u32 [H] "rank",
        /// Rows in which the latent is active (z ≠ 0).
        count = "count": u32 [H] "rows",
        /// count / N.
        frequency = "frequency": f64 [H] "share of rows",
        /// Mean of z over the rows in which the latent is active; 0 if there is none.
        strength = "strength": f64 [H] "activation",
        /// a · frequency + b · strength, with (a, b) the weights of the record.
        score = "score": f64 [H] "none",
        /// As score, with strength divided by the largest |strength| of the SAE, so that both terms are at most 1.
        score_scaled = "score_scaled": f64 [H] "none",
        /// Exact ablation: (1/N) Σ over rows of ‖x − (recon − z w)‖² − ‖x − recon‖², the squared error that removing
        /// the latent adds to a row. Below 0, the reconstructions are better without it.
        delta_sse = "delta_sse": f64 [H] "squared error per row",
        /// Exact ablation: (1/N) Σ over rows of r(x, recon) − r(x, recon − z w), the Pearson r that removing the latent
        /// takes from a row.
        delta_pearson = "delta_pearson": f64 [H] "Pearson r",
        /// max(delta_sse, 0) / Σ over latents of max(delta_sse, 0).
        share = "share": f64 [H] "share of the sum",
        /// ‖row of W_enc‖.
        encoder_norm = "encoder_norm": f64 [H] "none",
        /// ‖w‖.
        decoder_norm = "decoder_norm": f64 [H] "none",
        /// Cosine of the rows of W_enc and W_dec.
        cosine = "cosine": f64 [H] "none",
        /// Largest z; −∞ if the latent is never active.
        largest = "largest": f64 [H] "activation",
    }

    /// Histogram of the activations: prefix `S.`. Its bins are [`super::ActivationBins`].
    HistogramColumns {
        /// Rows by the value of z, rows in which z = 0 left out.
        histogram = "histogram": u32 [H, bins] "rows",
    }

    /// Reconstruction quality: prefix `S.`. Its bins are [`super::UniformBins`].
    QualityColumns {
        /// Rows of each class by the Pearson r of row and reconstruction.
        pearson_histogram = "pearson_histogram": u32 [C, bins] "rows",
    }

    /// Each latent against the classes, where there are two or more: prefix `S.`. Of patches one value an image, the
    /// largest of its patches.
    ClassColumns {
        /// Mean of z over all rows of the class, rows in which z = 0 included.
        mean = "class_mean": f64 [H, C] "activation",
        /// mean − the mean of z over the rows of all other classes.
        difference = "class_difference": f64 [H, C] "activation",
        /// Share of the rows of the class in which the latent is active.
        frequency = "class_frequency": f64 [H, C] "share of rows",
        /// Area under the ROC curve of z as a classifier of this class against all others: P(z of a row of the class >
        /// z of another row) + ½ P(equal).
        auc = "class_auc": f64 [H, C] "none",
        /// Mutual information between the class and z in five states: inactive, and the quartiles of the active values.
        information = "information": f64 [H] "bits",
        /// p of the Kruskal–Wallis test with ties (of two classes the Mann–Whitney test); NaN if the latent is never
        /// active.
        p = "p": f64 [H] "probability",
        /// p adjusted over the latents by Benjamini and Hochberg (1995): the smallest false discovery rate at which the
        /// latent is a discovery.
        q = "q": f64 [H] "probability",
    }

    /// Example rows of the first latents by score: prefix `S.`. Rows are places in [`super::AnalysisRecord::cited`],
    /// [`NO_ROW`] (with a value of NaN) where there are fewer than E.
    ExampleColumns {
        /// Latents with examples, by ascending rank.
        latent = "pictured": u32 [P] "latent",
        /// Rows with the largest z, the largest first.
        top_row = "top_row": u32 [P, E] "place in cited",
        /// z of top_row.
        top_value = "top_value": f64 [P, E] "activation",
        /// Active rows sampled uniformly.
        random_row = "random_row": u32 [P, E] "place in cited",
        /// z of random_row.
        random_value = "random_value": f64 [P, E] "activation",
        /// Active rows with the smallest |z|, the smallest first.
        near_row = "near_row": u32 [P, E] "place in cited",
        /// z of near_row.
        near_value = "near_value": f64 [P, E] "activation",
    }

    /// The sampled rows of the heat map, up to 40 of each class: prefix `sample.`.
    SampledRows {
        /// The rows.
        row = "row": u32 [N] "place in cited",
    }

    /// Latents of the sampled rows as compressed sparse rows: prefix `S.`.
    SampleColumns {
        /// Where the latents of each row start in the two columns below; one more entry than there are rows.
        start = "sample_start": u32 [N] "index",
        /// Active latents.
        latent = "sample_latent": u32 [N] "latent",
        /// Their values z.
        value = "sample_value": f64 [N] "activation",
    }

    /// Images of [`super::SaeAnalysis::reconstructions`]: prefix `S.`. 0 is black, 255 is 1.
    ReconstructedImages {
        /// The rows.
        original = "recon_original": u8 [N, channels, height, width] "1/255",
        /// Their reconstructions.
        recon = "recon": u8 [N, channels, height, width] "1/255",
    }

    /// Values of [`super::SaeAnalysis::reconstructions`] where rows are no images: prefix `S.`.
    ReconstructedRows {
        /// The rows.
        original = "recon_original": f64 [N, D] "value of the data",
        /// Their reconstructions.
        recon = "recon": f64 [N, D] "value of the data",
    }

    /// Decoder directions as small images, the first latents by score: prefix `S.`.
    TileColumns {
        /// The latents.
        latent = "wall_of": u32 [N] "latent",
        /// Decoder directions, 128 for 0 and 128 ± 127 for the largest |value| of the latent; longest side at most 32.
        tile = "wall": u8 [N, channels, height, width] "1/127 of the largest",
    }

    /// Decoder directions at twice the size, where the tiles are smaller than the rows: prefix `S.`.
    LargeTileColumns {
        /// As `tile`, of the first latents of `TileColumns`.
        tile = "large": u8 [N, channels, height, width] "1/127 of the largest",
    }

    /// Activations by place, where rows are patches: prefix `S.`.
    MapColumns {
        /// For each of the first latents with examples and each of its top rows, z at every place of that row's image:
        /// 255 for the `largest` of the latent, 0 for 0 and less.
        map = "map": u8 [N, channels, rows, columns] "1/255 of the largest",
    }

    /// Activation frequencies at the checkpoints of the run: prefix `S.`.
    HistoryColumns {
        /// Steps done.
        step = "history_step": u32 [T] "steps",
        /// Share of the rows (at most 2,000) in which the latent is active.
        frequency = "history_frequency": f64 [T, H] "share of rows",
    }

    /// Between the SAEs of an ensemble: prefix `S.`.
    EnsembleColumns {
        /// Largest cosine of the decoder direction with that of a latent of another SAE; NaN if the latent is never
        /// active.
        best_partner = "best_partner": f64 [H] "none",
    }

    /// Each latent against one column of the metadata: prefix `S.metadata.J.`, J its place in
    /// [`super::AnalysisRecord::metadata`].
    MetadataColumns {
        /// Of numbers Spearman's ρ; of two levels the rank-biserial correlation towards the second; of more levels
        /// ε² = (statistic of Kruskal and Wallis) / (n − 1). NaN if the latent is never active.
        effect = "effect": f64 [H] "none",
        /// Two-sided p of that effect.
        p = "p": f64 [H] "probability",
        /// p adjusted over the latents by Benjamini and Hochberg (1995).
        q = "q": f64 [H] "probability",
    }

    /// Small images of [`super::AnalysisRecord::cited`]: no prefix. 0 is black, 255 is 1.
    CitedImages {
        /// The rows, longest side at most 32; where rows are patches, the patches.
        image = "cited": u8 [N, channels, height, width] "1/255",
    }

    /// The images that cited patches are of: no prefix. 0 is black, 255 is 1.
    PatchedImages {
        /// For each of [`super::AnalysisRecord::cited`] its place in `image`.
        place = "cited_picture": u32 [N] "place in picture",
        /// The whole images.
        image = "picture": u8 [N, channels, height, width] "1/255",
    }
}

/// The measures that latents can be ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`LatentColumns::score`].
    Score,
    /// [`LatentColumns::score_scaled`].
    ScoreScaled,
    /// [`LatentColumns::frequency`].
    Frequency,
    /// [`LatentColumns::strength`].
    Strength,
    /// [`LatentColumns::delta_sse`].
    #[default]
    DeltaSse,
    /// [`LatentColumns::delta_pearson`].
    DeltaPearson,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 6] = [
        Measure::Score,
        Measure::ScoreScaled,
        Measure::Frequency,
        Measure::Strength,
        Measure::DeltaSse,
        Measure::DeltaPearson,
    ];

    /// The name of its column.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Score => "score",
            Measure::ScoreScaled => "score_scaled",
            Measure::Frequency => "frequency",
            Measure::Strength => "strength",
            Measure::DeltaSse => "delta_sse",
            Measure::DeltaPearson => "delta_pearson",
        }
    }

    /// The measure of this name.
    pub fn named(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|m| m.name() == name)
    }

    /// Its values, by latent.
    pub fn values(self, latents: &LatentColumns) -> &[f64] {
        match self {
            Measure::Score => &latents.score,
            Measure::ScoreScaled => &latents.score_scaled,
            Measure::Frequency => &latents.frequency,
            Measure::Strength => &latents.strength,
            Measure::DeltaSse => &latents.delta_sse,
            Measure::DeltaPearson => &latents.delta_pearson,
        }
    }
}
