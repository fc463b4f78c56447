//! Sweeps: a grid of configurations, trained together over shared passes of the data and compared with each other.
//!
//! [`run`] is the front door: grid (`sweep/grid.rs`), training of all cells (`sweep/runner.rs`), comparison (`sweep/compare.rs`),
//! and the files of the folder: `cells/NAME/`, `sweep.json`, `sweep.csv`.

mod compare;
mod grid;
mod runner;
mod table;

pub use compare::{band, best, configurations, effects, knee};
pub use grid::{Axis, GridCell, cells};
pub use runner::{Cell, Progress, RUNGS, Runner, RunnerOptions};

use crate::data::Dataset;
use crate::data::rows::SkippedFile;
use crate::error::{Error, Result};
use crate::facts::DataFacts;
use crate::format;
use crate::io::{write_atomically, write_json};
use crate::loss::Loss;
use crate::options::{RunOptions, TrainOptions, resolve};
use crate::record::sweep::{CellRecord, Ended, SWEEP_SCHEMA, SweepRecord};
use crate::record::{self, EVAL_SCHEMA, EvalRecord, Reconstruction};
use crate::recovery::{recovery, truth_of};
use crate::report::sweep::RECONSTRUCTIONS_FILE;
use crate::run::prepare::{check_unit_interval, open};
use crate::run::settings::ConfigFile;
use crate::run::{self, About, Folder, RunRows, check_memory, sheets, total_memory};
use crate::train::evaluate::evaluate;
use crate::train::{TrainingSet, check};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A sweep to be done.
#[derive(Clone, Debug, Default)]
pub struct SweepRequest {
    /// A folder of images, a file or folder of arrays, or `synthetic:…`.
    pub data: String,
    /// Folder for all that the sweep makes; it must not exist, or be empty, unless `resume`.
    pub out: PathBuf,
    /// Axes of the grid, each `OPTION=VALUES`, such as `k=16,32,64`.
    pub grid: Vec<String>,
    /// Options that all cells share.
    pub options: RunOptions,
    /// Stop the worse half of the configurations of each k and activation at [`RUNGS`] of their steps.
    pub halving: bool,
    /// Continue a sweep that was stopped; the grid may have grown.
    pub resume: bool,
}

/// Events of [`run`]. Names in backquotes in texts are options.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Rows or files of the data set were read: number read and number in all.
    Reading(usize, usize),
    /// A file was left out (`skip_bad`).
    Skipped(&'a SkippedFile),
    /// Data and cells are known, and nothing was written yet.
    Prepared(&'a PreparedSweep),
    /// Steps of all cells that are done, and steps that are planned.
    Progress(u64, u64),
    /// A cell has ended.
    CellEnded(&'a CellRecord),
    /// A text that says what happened, what it means and what to do.
    Warning(String),
}

/// A caller's function that hears of events.
pub type OnEvent<'a> = &'a mut (dyn FnMut(Event) -> ControlFlow<()> + Send);

/// End of [`run`].
#[derive(Debug)]
pub enum Outcome {
    /// Every cell has ended, and `sweep.json` was written.
    Finished(Box<SweepRecord>),
    /// The caller stopped the sweep; all cells are on disk to be continued.
    Interrupted,
}

/// A sweep whose data was read and whose cells are resolved.
#[derive(Debug)]
pub struct PreparedSweep {
    /// The data as given.
    pub spec: String,
    /// The data set.
    pub data: Dataset,
    /// Training rows, validation rows to choose by, test rows.
    pub rows: RunRows,
    /// Facts about the training rows.
    pub facts: DataFacts,
    /// The cells of the grid.
    pub cells: Vec<Cell>,
    /// True if the worse half of the cells is stopped at each rung.
    pub halving: bool,
    options: RunOptions,
    folder: Folder,
    keys: Vec<String>,
}

/// The seconds of earlier sessions of a sweep that was stopped.
const SECONDS_FILE: &str = "seconds.json";

/// Most validation rows, by which configurations are chosen.
const VALIDATION_ROWS: usize = 4096;

/// Trains all cells of a grid, compares them and writes the folder of the sweep.
///
/// # Errors
/// Grid, options or data that do not fit, a folder that holds something else, a full disk. A cell that diverges fails alone.
pub fn run(request: &SweepRequest, on_event: OnEvent) -> Result<Outcome> {
    let started = Instant::now();
    let folder = Folder(request.out.clone());
    if folder.in_use() && !request.resume {
        let remedy = "choose another `out`, or `resume`";
        return Err(Error::file(&folder.0, "exists already and is kept as it is", remedy));
    }
    if request.resume && folder.in_use() && !folder.0.join("cells").exists() {
        return Err(Error::file(&folder.0, "is not empty and holds no sweep to resume", "choose another `out`"));
    }
    let Some(prepared) = PreparedSweep::new(request, folder, &mut *on_event)? else { return Ok(Outcome::Interrupted) };
    let folder = &prepared.folder;
    folder.create_bare()?;
    let _lock = folder.lock()?;
    let runner = prepared.runner();
    runner.check_folder()?;
    prepared.write_configs(&runner)?;
    let ended = runner.run(&mut |event| {
        on_event(match event {
            Progress::Steps(done, planned) => Event::Progress(done, planned),
            Progress::Ended(cell) => Event::CellEnded(cell),
        })
    })?;
    let session = started.elapsed().as_secs_f64();
    let seconds_file = folder.0.join(SECONDS_FILE);
    let earlier = std::fs::read_to_string(&seconds_file).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let Some(ended) = ended else {
        let seconds = session + earlier.unwrap_or(0.0);
        write_atomically(&seconds_file, |out| writeln!(out, "{seconds}"))?;
        return Ok(Outcome::Interrupted);
    };
    let path = folder.0.join("sweep.json");
    let whole = record::read_if_valid::<SweepRecord>(&path, SWEEP_SCHEMA).and_then(|r| r.seconds);
    let mut record = prepared.compare(ended)?;
    record.seconds = Some(started.elapsed().as_secs_f64() + earlier.or(whole).unwrap_or(0.0));
    prepared.write_images(&record)?;
    write_atomically(&folder.0.join("sweep.csv"), |out| out.write_all(table::csv(&record).as_bytes()))?;
    write_json(&path, &record)?;
    let _ = std::fs::remove_file(&seconds_file);
    Ok(Outcome::Finished(Box::new(record)))
}

/// True if a folder is that of a sweep.
pub fn is_sweep(folder: &Path) -> bool {
    folder.join("sweep.json").exists() || folder.join("cells").is_dir()
}

impl PreparedSweep {
    /// `None` if the caller asked to stop while data was read.
    fn new(request: &SweepRequest, folder: Folder, on_event: OnEvent) -> Result<Option<PreparedSweep>> {
        let options = &request.options;
        grid::check_given(options)?;
        let grid = Axis::parse_all(&request.grid, options)?;
        let cells = cells(&grid, options)?;
        let mut on_run_event = |event: run::Event| match event {
            run::Event::Reading { done, total } => on_event(Event::Reading(done, total)),
            run::Event::Skipped(file) => on_event(Event::Skipped(file)),
            _ => ControlFlow::Continue(()),
        };
        let (data, stopped) = open(&request.data, options, &mut on_run_event)?;
        if stopped {
            return Ok(None);
        }
        let split = options.split.divide(&data)?;
        let share = (VALIDATION_ROWS as f64 / split.train.len().max(1) as f64).min(0.1);
        let rows = RunRows::new(&data, &split, Some(share), options.split.group.as_deref())?;
        let facts = facts_for_all(&data, &rows, &cells)?;
        if rows.validation.is_empty() {
            if request.halving {
                let remedy = "leave it out, or hold out less: the groups are too few to choose by some of them";
                return Err(Error::option("halving", "rows to choose by", "none", remedy));
            }
            let text = "no row is left to choose by; the best configuration is not named";
            let _ = on_event(Event::Warning(text.into()));
        }
        let resolved = resolve_cells(&data, &rows, &facts, &cells)?;
        let prepared = PreparedSweep {
            spec: request.data.clone(),
            data,
            rows,
            facts,
            cells: resolved,
            halving: request.halving,
            options: options.clone(),
            folder,
            keys: grid.into_iter().map(|g| g.key).collect(),
        };
        let _ = on_event(Event::Prepared(&prepared));
        Ok(Some(prepared))
    }

    fn runner(&self) -> Runner<'_> {
        Runner {
            folder: self.folder.0.clone(),
            data: &self.data,
            rows: &self.rows,
            facts: &self.facts,
            cells: &self.cells,
            options: RunnerOptions { halving: self.halving, memory: total_memory().map_or(4e9, |t| 0.5 * t) },
        }
    }

    /// Writes the `config.toml` of each cell that has not begun. One that has is compared with these options by the runner.
    fn write_configs(&self, runner: &Runner) -> Result<()> {
        for (i, cell) in self.cells.iter().enumerate() {
            let folder = runner.cell_folder(i);
            let path = folder.config();
            if path.exists() && (folder.0.join("cell.json").exists() || folder.last().exists()) {
                continue;
            }
            folder.create()?;
            let file = ConfigFile {
                options: RunOptions {
                    data: self.options.data.as_read(&self.data),
                    train: cell.options.to_partial(),
                    ..self.options.clone()
                },
                about: About::new(&self.spec, &self.data, &self.rows),
            };
            let text = toml::to_string(&file).expect("plain data");
            write_atomically(&path, |out| out.write_all(text.as_bytes()))?;
        }
        Ok(())
    }

    /// Compares the cells with each other; of synthetic data also with the known features.
    fn compare(&self, mut cells: Vec<CellRecord>) -> Result<SweepRecord> {
        let rows = self.rows.for_comparison();
        let truth = truth_of(&self.spec, &self.data);
        let mut mean_image = None;
        for cell in cells.iter_mut().filter(|c| c.ended == Ended::Finished) {
            let folder = self.folder.0.join("cells").join(&cell.name);
            let path = folder.join("eval.json");
            let Some(mut eval) = record::read_if_valid::<EvalRecord>(&path, EVAL_SCHEMA) else { continue };
            if let Some(truth) = truth.as_ref().filter(|_| eval.recovery.is_empty()) {
                let saes = format::read_model(&folder)?.saes;
                eval.recovery = saes.iter().map(|sae| recovery(sae, truth, &self.data, rows)).collect();
                write_json(&path, &eval)?;
            }
            cell.recovery = eval.recovery.into_iter().next();
            mean_image.get_or_insert(eval.mean_image.scores);
        }
        let configurations = configurations(&cells);
        let images = |rows: &[usize]| self.data.images(rows).len() as u64;
        Ok(SweepRecord {
            schema: SWEEP_SCHEMA.into(),
            data: self.spec.clone(),
            keys: self.keys.clone(),
            training_rows: images(&self.rows.train),
            validation_rows: images(&self.rows.validation),
            test_rows: images(&self.rows.test),
            patches_per_image: self.data.patches().map(|p| p.patches_per_image() as u64),
            halving: self.halving,
            effects: effects(&cells, &self.keys),
            best: best(&configurations),
            knee: knee(&configurations),
            configurations,
            cells,
            mean_image: mean_image.unwrap_or_else(|| self.mean_image(rows)),
            seconds: None,
            tool_version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    fn mean_image(&self, rows: &[usize]) -> Reconstruction {
        let mean = self.facts.unscaled_baseline();
        evaluate(&[], Some(&mean), &self.data, rows, true, &mut |_, _| ()).record().mean_image.scores
    }

    /// Writes the images that the report shows side by side: of one cell of each configuration on the front, and of the best.
    fn write_images(&self, record: &SweepRecord) -> Result<()> {
        for c in record.configurations.iter().filter(|c| c.front || record.best_and_knee(c).0) {
            let Some(cell) = record.cell_of(c) else { continue };
            let folder = self.folder.0.join("cells").join(&cell.name);
            let exists = |name: &str| folder.join(name).exists();
            let (large, small) =
                (exists("features.png") && exists("reconstructions.png"), exists(RECONSTRUCTIONS_FILE));
            if large && small {
                continue;
            }
            let saes = format::read_model(&folder)?.saes;
            if !large {
                sheets::write(&folder, &saes, &self.data, &self.rows, true)?;
            }
            sheets::write_for_sweep(&self.folder.0, &folder, &saes, &self.data, &self.rows)?;
        }
        Ok(())
    }
}

/// Facts about the training rows. A cell must learn what it would learn alone: all cells see rows in one scale, or no cell is
/// scaled.
fn facts_for_all(data: &Dataset, rows: &RunRows, cells: &[GridCell]) -> Result<DataFacts> {
    let may_scale = cells.iter().any(|c| c.1.may_scale());
    let facts = DataFacts::gather(data, &rows.train, may_scale);
    if facts.scale != 1.0 && !cells.iter().all(|c| c.1.may_scale()) {
        let remedy = "sweep sigmoid and cross-entropy by themselves, or bring the data near a standard deviation of 1";
        let found =
            "some that may not beside others that are, since the standard deviation of these rows is far from 1";
        return Err(Error::option("grid", "cells that may all be scaled", found, remedy));
    }
    Ok(facts)
}

/// Returns the text of an error within another error: the name of an option in backquotes, as texts name options.
fn nested(error: &Error) -> String {
    let text = error.to_string();
    match error {
        Error::Option { option, .. } => format!("`{option}`{}", &text[option.len()..]),
        _ => text,
    }
}

/// Resolves and checks the options of all cells.
fn resolve_cells(data: &Dataset, rows: &RunRows, facts: &DataFacts, cells: &[GridCell]) -> Result<Vec<Cell>> {
    let set = TrainingSet { data, rows: rows.train.clone(), facts: facts.clone() };
    let mut resolved: Vec<Cell> = Vec::with_capacity(cells.len());
    for (values, given) in cells {
        // Cells are compared at equal steps, so few rows do not lead to early stopping.
        let options = TrainOptions { early_stop: None, ..resolve(given, facts) };
        let cell = Cell { values: values.clone(), options };
        check(&set, &cell.options).map_err(|e| {
            Error::option("grid", "valid cells", format!("{} ({})", cell.name(), nested(&e)), "change it")
        })?;
        check_memory(&cell.options, facts.dim)?;
        if let Some(other) = resolved.iter().find(|other| other.options == cell.options) {
            let found = format!("{} and {}, which are the same training", other.name(), cell.name());
            return Err(Error::option("grid", "cells that differ", found, "name each value once"));
        }
        resolved.push(cell);
    }
    if resolved.iter().any(|c| c.options.loss == Loss::CrossEntropy) {
        check_unit_interval(data, &rows.train)?;
    }
    Ok(resolved)
}
