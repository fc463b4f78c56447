//! The front door of the analysis: from a run and a data set to the files of an analysis.

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
use crate::options::PartialDataOptions;
use crate::record::analysis::{ANALYSIS_SCHEMA, Analysis, AnalysisRecord, PruneRecord};
use crate::record::columns::StoredColumns;
use crate::record::{self, Number};
use crate::run::{names_hash, read_data};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// An analysis to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnalyzeRequest {
    /// The folder of the run, or a model file.
    pub run: PathBuf,
    /// The data set to analyse it on, as for [`Dataset::open`].
    pub data: String,
    /// Options.
    pub options: AnalyzeOptions,
}

/// An event of an analysis.
///
/// In texts, names in backquotes are options (`` `split all` ``); a caller may write them as flags or arguments.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AnalyzeEvent<'a> {
    /// Rows or files of the data set were read.
    Reading {
        /// Number read.
        done: usize,
        /// Number in all.
        total: usize,
    },
    /// The data set is open; it may have left out files ([`Dataset::skipped`]).
    Opened(&'a Dataset),
    /// A text worth knowing.
    Note(&'a str),
    /// The metadata table was matched with the rows.
    Metadata {
        /// Its file.
        path: &'a Path,
        /// The table.
        table: &'a MetadataTable,
        /// Number of rows of the analysis.
        rows: usize,
    },
    /// Rows of the pass are done.
    Passing {
        /// Number done.
        done: usize,
        /// Number in all.
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

/// A caller's function that receives events and can stop the analysis before anything is written.
pub type OnAnalyzeEvent<'a> = &'a mut (dyn FnMut(AnalyzeEvent) -> ControlFlow<()> + Send);

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
/// stopped it.
///
/// # Errors
/// Options out of range, data that does not fit the run, a metadata table that does not fit the rows, a row that a model
/// cannot encode, files that cannot be read or written.
///
/// ```
/// use std::ops::ControlFlow;
/// use vibrissa::analysis::{AnalyzeRequest, analyze};
/// use vibrissa::options::RunOptions;
/// use vibrissa::report::{self, ReportOptions};
/// use vibrissa::run::{RunRequest, run};
///
/// let folder = tempfile::tempdir()?;
/// let (out, data) = (folder.path().join("run"), "synthetic:rows=200".to_owned());
/// let mut options = RunOptions::default();
/// for (name, value) in [("latents", "32"), ("k", "4"), ("steps", "20")] {
///     options.set(name, value)?;
/// }
/// let request = RunRequest { data: data.clone(), out: out.clone(), options, ..RunRequest::default() };
/// run(&request, &mut |_| ControlFlow::Continue(()))?;
///
/// let request = AnalyzeRequest { run: out.clone(), data, ..AnalyzeRequest::default() };
/// let done = analyze(&request, &mut |_| ControlFlow::Continue(()))?.expect("nothing stops it");
/// assert_eq!((done.analysis.record.rows, done.analysis.columns.saes[0].latents.score.len()), (200, 32));
/// report::write(&out, &ReportOptions::default())?;
/// assert!(out.join("report.html").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn analyze(request: &AnalyzeRequest, on_event: OnAnalyzeEvent) -> Result<Option<Analyzed>> {
    let Some(session) = Session::open(request, on_event)? else { return Ok(None) };
    let began = Instant::now();
    let Some(sums) = session.pass(&session.rows, on_event)? else { return Ok(None) };
    let rows_per_s = session.rows.len() as f64 / began.elapsed().as_secs_f64();
    session.finish(&sums, Some(rows_per_s), on_event)
}

/// Analyses one part of the rows and writes `shard-I-of-N.safetensors` for [`merge`]. `None` if `on_event` stopped it.
///
/// # Errors
/// As [`analyze`]; a metadata table, which belongs to the merge.
pub fn analyze_shard(
    request: &AnalyzeRequest,
    shard: Shard,
    on_event: OnAnalyzeEvent,
) -> Result<Option<AnalyzedShard>> {
    if request.options.metadata.is_some() {
        return Err(Error::option("metadata", "all rows", "a shard of them", "give it to vibrissa merge"));
    }
    let Some(session) = Session::open(request, on_event)? else { return Ok(None) };
    let rows = shard.rows(&session.rows, session.data.rows_per_image())?;
    let Some(sums) = session.pass(rows, on_event)? else { return Ok(None) };
    let folder = request.options.folder(&request.run);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "make the folder", "choose another `out`"))?;
    let path = folder.join(format!("shard-{}-of-{}.safetensors", shard.number, shard.of));
    shard::to_columns(&sums, &session.hash()?).write(&path, SHARD_SCHEMA)?;
    Ok(Some(AnalyzedShard { path, rows: rows.len() }))
}

/// Merges all shards of an analysis and writes the files of [`analyze`], the same bytes. `None` if `on_event` stopped it.
///
/// # Errors
/// As [`analyze`]; shards that are damaged, of another analysis, or do not have every row once.
pub fn merge(request: &AnalyzeRequest, shards: &[PathBuf], on_event: OnAnalyzeEvent) -> Result<Option<Analyzed>> {
    let Some(session) = Session::open(request, on_event)? else { return Ok(None) };
    let sums = merged_sums(shards, &session.hash()?)?;
    let expected = session.data.first_rows(&session.rows);
    let found: Vec<usize> = sums.iter().flat_map(|sums| &sums.saes[0].rows).map(|r| r.row as usize).collect();
    match sums {
        Some(sums) if found == expected => session.finish(&sums, None, on_event),
        _ => {
            let found = format!("{} of {} rows, some twice or not at all", found.len(), expected.len());
            Err(Error::option("shards", "every row once", found, "give each of the N shards once"))
        }
    }
}

/// The sums of all shards, `None` without any. `hash` is that of their analysis.
fn merged_sums(shards: &[PathBuf], hash: &[u8; 32]) -> Result<Option<PassSums>> {
    const AGAIN: &str = "make it again with vibrissa analyze --shard";
    let mut merged: Option<PassSums> = None;
    for path in shards {
        let columns = StoredColumns::read(path, SHARD_SCHEMA, AGAIN)?;
        let (sums, hash_of_shard) = shard::from_columns(&columns).map_err(|e| e.in_file(path, AGAIN))?;
        if hash_of_shard != *hash {
            let remedy = "merge shards of one analysis, with its run, data and `split`";
            return Err(Error::file(path, "is of another model or of other rows", remedy));
        }
        match &mut merged {
            Some(merged) => merged.merge(sums),
            None => merged = Some(sums),
        }
    }
    Ok(merged)
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

/// A run, its data and rows during an analysis.
struct Session<'a> {
    request: &'a AnalyzeRequest,
    model: Model,
    data: Dataset,
    /// The rows without augmented variants; where rows are patches, all of each image.
    rows: Vec<usize>,
    metadata: Option<MetadataTable>,
    started: Instant,
}

impl<'a> Session<'a> {
    fn open(request: &'a AnalyzeRequest, on_event: OnAnalyzeEvent) -> Result<Option<Session<'a>>> {
        let started = Instant::now();
        let AnalyzeRequest { run, data: spec, options } = request;
        options.check()?;
        let model = format::read_model(run)?;
        let reading = PartialDataOptions { skip_bad: Some(options.skip_bad), ..PartialDataOptions::default() };
        let events = Mutex::new((on_event, ControlFlow::Continue(())));
        let data = read_data(run, &model, spec, &reading, &|done, total| {
            let mut events = events.lock().expect("no panic while held");
            if (events.0)(AnalyzeEvent::Reading { done, total }).is_break() {
                events.1 = ControlFlow::Break(());
            }
        })?;
        let (on_event, control) = events.into_inner().expect("no panic while held");
        if control.is_break() || on_event(AnalyzeEvent::Opened(&data)).is_break() {
            return Ok(None);
        }
        let on_note = &mut |note: String| {
            let _ = on_event(AnalyzeEvent::Note(&note));
        };
        let originals = options.split.originals(std::slice::from_ref(run), spec, &data, on_note)?;
        let rows = data.without_variants(&originals);
        let metadata = match &options.metadata {
            Some(path) => Some(MetadataTable::read(path, &data, &originals)?),
            None => None,
        };
        if let (Some(path), Some(table)) = (&options.metadata, &metadata)
            && on_event(AnalyzeEvent::Metadata { path, table, rows: originals.len() }).is_break()
        {
            return Ok(None);
        }
        Ok(Some(Session { request, model, data, rows, metadata, started }))
    }

    fn saes(&self) -> Vec<&Sae> {
        self.model.saes.iter().collect()
    }

    fn pass(&self, rows: &[usize], on_event: OnAnalyzeEvent) -> Result<Option<PassSums>> {
        let on_progress = &mut |done, total| on_event(AnalyzeEvent::Passing { done, total });
        accumulate(&self.saes(), &self.data, rows, on_progress)
    }

    /// A hash of models and rows, which the shards of one analysis have in common.
    fn hash(&self) -> Result<[u8; 32]> {
        let mut hash = blake3::Hasher::new();
        let path = format::model_file(&self.request.run)?;
        let io = Error::io(&path, "read the model", "give a run folder or a model.safetensors that exists");
        hash.update_mmap(&path).map_err(io)?;
        hash.update(names_hash(&self.data).as_bytes());
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
        let (AnalyzeRequest { run, data: spec, options }, saes) = (self.request, self.saes());
        let mut analysis = finish(&saes, &self.data, sums, options);
        add_history(&mut analysis, run, &self.model, &self.data, &self.rows)?;
        if let Some(table) = &self.metadata {
            if on_event(AnalyzeEvent::RelatingMetadata).is_break() {
                return Ok(None);
            }
            add_metadata(&mut analysis, &saes, &self.data, &self.rows, table);
        }
        let folder = options.folder(run);
        let record = &mut analysis.record;
        (record.run, record.data) = (run.display().to_string(), spec.clone());
        record.split = options.split.name().into();
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
