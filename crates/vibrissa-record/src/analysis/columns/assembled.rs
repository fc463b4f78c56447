//! The groups of columns put together: those of one SAE, and those of an analysis.

use super::*;
use crate::analysis::AnalysisRecord;
use crate::columns::{ColumnError, StoredColumns};

/// Rows beside their reconstructions.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconstructions {
    /// Where rows are images.
    Images(ReconstructedImages),
    /// Where rows are other numbers.
    Rows(ReconstructedRows),
}

impl Default for Reconstructions {
    fn default() -> Self {
        Reconstructions::Rows(ReconstructedRows::default())
    }
}

/// The columns of one SAE.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SaeColumns {
    /// One value per latent.
    pub latents: LatentColumns,
    /// Histogram of the activations.
    pub histogram: HistogramColumns,
    /// Reconstruction quality.
    pub quality: QualityColumns,
    /// Latents against classes, with two or more.
    pub classes: Option<ClassColumns>,
    /// Example rows.
    pub examples: ExampleColumns,
    /// Latents of the sampled rows.
    pub sample: SampleColumns,
    /// Rows beside their reconstructions.
    pub reconstructions: Reconstructions,
    /// Decoder directions, where rows are images.
    pub tiles: Option<TileColumns>,
    /// Larger decoder directions, where the tiles are smaller than the rows.
    pub large_tiles: Option<LargeTileColumns>,
    /// Activations by place, where rows are patches.
    pub maps: Option<MapColumns>,
    /// Frequencies over training, where the run kept checkpoints.
    pub history: Option<HistoryColumns>,
    /// Partners in other SAEs, of an ensemble.
    pub ensemble: Option<EnsembleColumns>,
    /// By column of the metadata; `None` for one that was left out.
    pub metadata: Vec<Option<MetadataColumns>>,
}

/// All columns of an analysis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnalysisColumns {
    /// By SAE.
    pub saes: Vec<SaeColumns>,
    /// The sampled rows.
    pub sampled: SampledRows,
    /// Images of the cited rows, where rows are images.
    pub cited: Option<CitedImages>,
    /// The images that cited patches are of, where rows are patches.
    pub patched: Option<PatchedImages>,
}

impl AnalysisColumns {
    /// The columns under their names on disk.
    pub fn into_stored(self) -> StoredColumns {
        fn store<G: ColumnGroup>(group: Option<G>, prefix: &str, stored: &mut StoredColumns) {
            if let Some(group) = group {
                group.store(prefix, stored);
            }
        }
        let mut out = StoredColumns::default();
        self.sampled.store("sample.", &mut out);
        store(self.cited, "", &mut out);
        store(self.patched, "", &mut out);
        for (s, sae) in self.saes.into_iter().enumerate() {
            let prefix = &format!("{s}.");
            sae.latents.store(prefix, &mut out);
            sae.histogram.store(prefix, &mut out);
            sae.quality.store(prefix, &mut out);
            store(sae.classes, prefix, &mut out);
            sae.examples.store(prefix, &mut out);
            sae.sample.store(prefix, &mut out);
            match sae.reconstructions {
                Reconstructions::Images(images) => images.store(prefix, &mut out),
                Reconstructions::Rows(rows) => rows.store(prefix, &mut out),
            }
            store(sae.tiles, prefix, &mut out);
            store(sae.large_tiles, prefix, &mut out);
            store(sae.maps, prefix, &mut out);
            store(sae.history, prefix, &mut out);
            store(sae.ensemble, prefix, &mut out);
            for (j, relation) in sae.metadata.into_iter().enumerate() {
                store(relation, &metadata_prefix(s, j), &mut out);
            }
        }
        out
    }

    /// The columns that belong to a record.
    ///
    /// # Errors
    /// A column that is missing, or of another type or shape than its definition and the record say.
    pub fn from_stored(mut stored: StoredColumns, record: &AnalysisRecord) -> Result<AnalysisColumns, ColumnError> {
        let stored = &mut stored;
        let images = record.images.is_some();
        let n = [("N", record.cited.len())];
        Ok(AnalysisColumns {
            sampled: SampledRows::load("sample.", stored, &[])?,
            cited: images.then(|| CitedImages::load("", stored, &n)).transpose()?,
            patched: record.patches.is_some().then(|| PatchedImages::load("", stored, &[])).transpose()?,
            saes: (0..record.saes.len()).map(|s| SaeColumns::load(s, stored, record)).collect::<Result<_, _>>()?,
        })
    }
}

impl SaeColumns {
    /// Takes the columns of SAE `s` from a store.
    fn load(s: usize, stored: &mut StoredColumns, record: &AnalysisRecord) -> Result<SaeColumns, ColumnError> {
        let (sae, prefix) = (&record.saes[s], &format!("{s}.")[..]);
        let lengths = &[("H", sae.latents as usize), ("C", record.classes.len().max(1))];
        let images = record.images.is_some();
        Ok(SaeColumns {
            latents: LatentColumns::load(prefix, stored, lengths)?,
            histogram: HistogramColumns::load(prefix, stored, lengths)?,
            quality: QualityColumns::load(prefix, stored, lengths)?,
            classes: sae.classes.is_some().then(|| ClassColumns::load(prefix, stored, lengths)).transpose()?,
            examples: ExampleColumns::load(prefix, stored, lengths)?,
            sample: SampleColumns::load(prefix, stored, lengths)?,
            reconstructions: match images {
                true => Reconstructions::Images(ReconstructedImages::load(prefix, stored, lengths)?),
                false => Reconstructions::Rows(ReconstructedRows::load(prefix, stored, lengths)?),
            },
            tiles: images.then(|| TileColumns::load(prefix, stored, lengths)).transpose()?,
            large_tiles: stored
                .contains(&format!("{prefix}large"))
                .then(|| LargeTileColumns::load(prefix, stored, lengths))
                .transpose()?,
            maps: record.patches.is_some().then(|| MapColumns::load(prefix, stored, lengths)).transpose()?,
            history: (!sae.history.is_empty()).then(|| HistoryColumns::load(prefix, stored, lengths)).transpose()?,
            ensemble: record.ensemble.is_some().then(|| EnsembleColumns::load(prefix, stored, lengths)).transpose()?,
            metadata: record
                .metadata
                .iter()
                .enumerate()
                .map(|(j, column)| {
                    let load = || MetadataColumns::load(&metadata_prefix(s, j), stored, lengths);
                    (!column.kind.is_empty()).then(load).transpose()
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

fn metadata_prefix(s: usize, j: usize) -> String {
    format!("{s}.metadata.{j}.")
}
