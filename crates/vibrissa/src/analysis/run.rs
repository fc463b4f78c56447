//! The front door of the analysis: from a run and its rows to the files of an analysis.

use super::finish::{add_metadata, finish};
use super::history::add_history;
use super::options::{AnalyzeOptions, Shard};
use super::pass::{PassSums, accumulate};
use super::shard::{self, SHARD_SCHEMA};
use super::table::write_tables;
use crate::data::Dataset;
use crate::data::metadata::MetadataTable;
use crate::error::{Error, Result};
use crate::format::{self, Model};
use crate::model::Sae;
use crate::record::analysis::{ANALYSIS_SCHEMA, Analysis, AnalysisRecord, PruneRecord};
use crate::record::columns::StoredColumns;
use crate::record::{self, Number};
use crate::run::names_hash;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run and the rows that it is analysed on.
#[derive(Debug)]
pub struct AnalysisInput {
    /// The folder of the run, or its model file.
    pub run: PathBuf,
    /// The model of the run.
    pub model: Model,
    /// The data set.
    pub data: Dataset,
    /// The data set as the user named it.
    pub spec: String,
    /// The part of the data set that `originals` are: `train`, `test` or `all`.
    pub split: String,
    /// The rows, by number of the original.
    pub originals: Vec<usize>,
}

/// An event of an analysis.
#[derive(Clone, Copy, Debug)]
pub enum AnalyzeEvent<'a> {
    /// The metadata table was matched with the rows.
    Metadata {
        /// Its file.
        path: &'a Path,
        /// The table.
        table: &'a MetadataTable,
        /// Number of rows of the analysis.
        rows: usize,
    },
    /// So many rows of the pass are done.
    Passing {
        /// Rows done.
        done: usize,
        /// All rows.
        total: usize,
    },
    /// The pass is over, and figures are computed from its sums.
    Finishing,
    /// Latents are related to the metadata.
    RelatingMetadata,
    /// The folder holds an analysis of another data set, which is replaced.
    Replacing {
        /// The folder.
        folder: &'a Path,
        /// The other data set.
        data: &'a str,
    },
}

/// What is told of events; a break stops the analysis before anything is written.
pub type OnAnalyzeEvent<'a> = &'a mut dyn FnMut(AnalyzeEvent) -> ControlFlow<()>;

/// An analysis that was written.
#[derive(Clone, Debug)]
pub struct Analyzed {
    /// The folder that it was written into.
    pub folder: PathBuf,
    /// The analysis.
    pub analysis: Analysis,
}

/// A shard that was written.
#[derive(Clone, Debug)]
pub struct AnalyzedShard {
    /// Its file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: usize,
}

/// Analyses a run and writes `analysis.json`, `analysis.safetensors` and the tables of features. `None` if `on_event`
/// broke off.
///
/// # Errors
/// Options out of range, a metadata table that does not fit the rows, a row that a model cannot encode, files that
/// cannot be read or written.
pub fn analyze(input: &AnalysisInput, options: &AnalyzeOptions, on_event: OnAnalyzeEvent) -> Result<Option<Analyzed>> {
    let session = Session::new(input, options, on_event)?;
    let began = Instant::now();
    let Some(sums) = session.pass(&session.rows, on_event)? else { return Ok(None) };
    let rows_per_s = session.rows.len() as f64 / began.elapsed().as_secs_f64();
    session.finish(&sums, Some(rows_per_s), on_event)
}

/// Analyses one part of the rows and writes `shard-I-of-N.safetensors` for [`merge`]. `None` if `on_event` broke off.
///
/// # Errors
/// As [`analyze`]; a metadata table, which belongs to the merge.
pub fn analyze_shard(
    input: &AnalysisInput,
    options: &AnalyzeOptions,
    shard: Shard,
    on_event: OnAnalyzeEvent,
) -> Result<Option<AnalyzedShard>> {
    if options.metadata.is_some() {
        return Err(Error::option("metadata", "all rows", "a shard of them", "give it to vibrissa merge"));
    }
    let session = Session::new(input, options, on_event)?;
    let rows = shard.rows(&session.rows, input.data.rows_per_image())?;
    let Some(sums) = session.pass(rows, on_event)? else { return Ok(None) };
    let folder = options.folder(&input.run);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "make the folder", "choose another `out`"))?;
    let path = folder.join(format!("shard-{}-of-{}.safetensors", shard.number, shard.of));
    shard::to_columns(&sums, &session.hash()?).write(&path, SHARD_SCHEMA)?;
    Ok(Some(AnalyzedShard { path, rows: rows.len() }))
}

/// Merges all shards of an analysis and writes what [`analyze`] writes, the same bytes. `None` if `on_event` broke off.
///
/// # Errors
/// As [`analyze`]; shards that are damaged, of another analysis, or do not have every row once.
pub fn merge(
    input: &AnalysisInput,
    shards: &[PathBuf],
    options: &AnalyzeOptions,
    on_event: OnAnalyzeEvent,
) -> Result<Option<Analyzed>> {
    const AGAIN: &str = "make it again with vibrissa analyze --shard";
    let session = Session::new(input, options, on_event)?;
    let hash = session.hash()?;
    let mut whole: Option<PassSums> = None;
    for path in shards {
        let columns = StoredColumns::read(path, SHARD_SCHEMA, AGAIN)?;
        let (sums, hash_of_shard) = shard::from_columns(&columns).map_err(|e| e.in_file(path, AGAIN))?;
        if hash_of_shard != hash {
            let remedy = "merge shards of one analysis, with its run, data and `split`";
            return Err(Error::file(path, "is of another model or of other rows", remedy));
        }
        match &mut whole {
            Some(whole) => whole.merge(sums),
            None => whole = Some(sums),
        }
    }
    let expected = input.data.first_rows(&session.rows);
    let found: Vec<usize> = whole.iter().flat_map(|sums| &sums.saes[0].rows).map(|r| r.row as usize).collect();
    match whole {
        Some(sums) if found == expected => session.finish(&sums, None, on_event),
        _ => {
            let found = format!("{} of {} rows, some twice or not at all", found.len(), expected.len());
            Err(Error::option("shards", "every row once", found, "give each of the N shards once"))
        }
    }
}

/// Writes the files of an analysis into a folder, the record last. Records of pruning there, which are of another
/// analysis, are removed.
///
/// # Errors
/// [`Error::Io`].
pub fn write_analysis(folder: &Path, analysis: &mut Analysis) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "make the folder", "choose another `out`"))?;
    let stale = PruneRecord::paths(folder).into_iter().chain([Analysis::record_path(folder)]);
    stale.for_each(|path| drop(std::fs::remove_file(path)));
    write_tables(folder, analysis)?;
    analysis.write(folder)
}

/// An analysis under way.
struct Session<'a> {
    input: &'a AnalysisInput,
    options: &'a AnalyzeOptions,
    saes: Vec<&'a Sae>,
    /// The rows without augmented variants; where rows are patches, all of each image.
    rows: Vec<usize>,
    metadata: Option<MetadataTable>,
    started: Instant,
}

impl<'a> Session<'a> {
    fn new(input: &'a AnalysisInput, options: &'a AnalyzeOptions, on_event: OnAnalyzeEvent) -> Result<Session<'a>> {
        let started = Instant::now();
        options.check()?;
        let rows = input.data.without_variants(&input.originals);
        let metadata = match &options.metadata {
            Some(path) => {
                let table = MetadataTable::read(path, &input.data, &input.originals)?;
                let _ = on_event(AnalyzeEvent::Metadata { path, table: &table, rows: input.originals.len() });
                Some(table)
            }
            None => None,
        };
        Ok(Session { input, options, saes: input.model.saes.iter().collect(), rows, metadata, started })
    }

    fn pass(&self, rows: &[usize], on_event: OnAnalyzeEvent) -> Result<Option<PassSums>> {
        let on_progress = &mut |done, total| on_event(AnalyzeEvent::Passing { done, total });
        accumulate(&self.saes, &self.input.data, rows, on_progress)
    }

    /// A hash of models and rows, which the shards of one analysis have in common.
    fn hash(&self) -> Result<[u8; 32]> {
        let mut hash = blake3::Hasher::new();
        let path = format::model_file(&self.input.run)?;
        let io = Error::io(&path, "read the model", "give a run folder or a model.safetensors that exists");
        hash.update_mmap(&path).map_err(io)?;
        hash.update(names_hash(&self.input.data).as_bytes());
        self.rows.iter().for_each(|r| {
            hash.update(&(*r as u64).to_le_bytes());
        });
        Ok(*hash.finalize().as_bytes())
    }

    /// Computes the figures and writes the files.
    fn finish(&self, sums: &PassSums, rows_per_s: Option<f64>, on_event: OnAnalyzeEvent) -> Result<Option<Analyzed>> {
        if on_event(AnalyzeEvent::Finishing).is_break() {
            return Ok(None);
        }
        let AnalysisInput { run, model, data, spec, split, .. } = self.input;
        let mut analysis = finish(&self.saes, data, sums, self.options);
        add_history(&mut analysis, run, model, data, &self.rows)?;
        if let Some(table) = &self.metadata {
            if on_event(AnalyzeEvent::RelatingMetadata).is_break() {
                return Ok(None);
            }
            add_metadata(&mut analysis, &self.saes, data, &self.rows, table);
        }
        let folder = self.options.folder(run);
        let record = &mut analysis.record;
        (record.run, record.data, record.split) = (run.display().to_string(), spec.clone(), split.clone());
        record.rows_per_s = Number(rows_per_s);
        record.seconds = Number::from(self.started.elapsed().as_secs_f64());
        let before = record::read_if_valid::<AnalysisRecord>(&Analysis::record_path(&folder), ANALYSIS_SCHEMA);
        if let Some(before) = before.filter(|before| before.data != record.data)
            && on_event(AnalyzeEvent::Replacing { folder: &folder, data: &before.data }).is_break()
        {
            return Ok(None);
        }
        write_analysis(&folder, &mut analysis)?;
        Ok(Some(Analyzed { folder, analysis }))
    }
}
