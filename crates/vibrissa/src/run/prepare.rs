//! The second stage of a run: data, rows and resolved options. Whatever can be refused is refused here, before anything is
//! written.

use super::rows::RunRows;
use super::settings::{About, ConfigFile};
use super::{Event, OnEvent, Plan, check_memory, warnings};
use crate::activation::Activation;
use crate::data::Dataset;
use crate::data::split::{self, Split};
use crate::error::{Error, Result};
use crate::facts::DataFacts;
use crate::format::Model;
use crate::io::write_atomically;
use crate::loss::Loss;
use crate::options::{RunOptions, TrainOptions, resolve};
use crate::run::Folder;
use crate::train::{self, TrainingSet, check_width};
use std::ops::ControlFlow;
use std::sync::Mutex;

/// A run whose data was read and whose options are resolved; nothing was written yet.
#[derive(Debug)]
pub struct Prepared {
    /// The data as given.
    pub spec: String,
    /// The data set.
    pub data: Dataset,
    /// The rows of the run.
    pub rows: RunRows,
    /// Facts about the training rows.
    pub facts: DataFacts,
    /// Options as given: an option that is `None` here was chosen.
    pub given: RunOptions,
    /// Model and training options, resolved.
    pub options: TrainOptions,
    /// The folder of the run.
    pub folder: Folder,
    /// True if a run is to be continued.
    pub resume: bool,
    pub(super) split: Split,
    pub(super) folds: Option<Vec<Split>>,
    pub(super) from: Option<Model>,
    pub(super) trained: bool,
    /// True if the caller asked to stop while data was read, or at [`Event::Prepared`].
    pub(super) stopped: bool,
}

impl Prepared {
    pub(super) fn new(plan: Plan, on_event: OnEvent) -> Result<Prepared> {
        let Plan { data: spec, folder, options: given, from, resume, trained } = plan;
        let (data, stopped) = open(&spec, &given, on_event)?;
        let split = given.split.divide(&data)?;
        let group = given.split.group.as_deref();
        let gathered = |early_stop: bool| -> Result<_> {
            let share = validation_share(given.train.activation(), early_stop, split.train.len());
            let rows = RunRows::new(&data, &split, share, group)?;
            let facts = DataFacts::gather(&data, &rows.train, given.train.may_scale());
            Ok((rows, facts))
        };
        let (mut rows, mut facts) = gathered(given.train.early_stop.is_some_and(|p| p > 0))?;
        let options = resolve(&given.train, &facts);
        if options.early_stop.is_some() && given.train.early_stop.is_none() {
            // Early stopping was chosen and needs validation rows. The options stay those of all training rows.
            (rows, facts) = gathered(true)?;
        }
        if let (Some(model), Some(path)) = (&from, &given.session.from) {
            check_width(path, model, facts.dim)?;
        }
        let folds = |n| split::folds(&data, &split.train, n, group);
        let folds = given.split.folds.map(folds).transpose()?;
        let mut prepared =
            Prepared { spec, data, rows, facts, given, options, folder, resume, split, folds, from, trained, stopped };
        prepared.stopped |= on_event(Event::Prepared(&prepared)).is_break();
        warnings::few_test_rows(&prepared, on_event);
        prepared.check()?;
        Ok(prepared)
    }

    /// Refuses what cannot be trained.
    fn check(&self) -> Result<()> {
        check_memory(&self.options, self.facts.dim)?;
        train::check(&self.training_set(), &self.options)?;
        if self.options.loss == Loss::CrossEntropy {
            check_unit_interval(&self.data, &self.rows.train)?;
        }
        Ok(())
    }

    /// The training rows with their facts.
    pub fn training_set(&self) -> TrainingSet<'_> {
        TrainingSet { data: &self.data, rows: self.rows.train.clone(), facts: self.facts.clone() }
    }

    /// Creates the folder and writes `config.toml`, or compares it with that of a run that has begun.
    pub(super) fn write_config(&self) -> Result<()> {
        let path = self.folder.config();
        let started = self.trained || self.folder.last().exists() || self.folder.0.join("folds").exists();
        let started = self.resume && path.exists() && started;
        let file = ConfigFile {
            options: RunOptions {
                data: self.given.data.as_read(&self.data),
                train: self.options.to_partial(),
                ..self.given.clone()
            },
            about: About::new(&self.spec, &self.data, &self.rows),
        };
        if started {
            // The file stays: with other options its checkpoint is refused, and the run's own are needed then.
            return if self.trained { Ok(()) } else { self.folder.refuse_changes(&file.options) };
        }
        let text = toml::to_string(&file).expect("plain data");
        write_atomically(&path, |out| out.write_all(text.as_bytes()))?;
        let Some(list) = self.given.split.split_options()?.test_list else { return Ok(()) };
        write_atomically(&self.folder.test_list(), |out| list.names.iter().try_for_each(|l| writeln!(out, "{l}")))
    }
}

/// Opens a data set. The second value is true if the caller asked to stop meanwhile.
pub(crate) fn open(spec: &str, options: &RunOptions, on_event: OnEvent) -> Result<(Dataset, bool)> {
    let load = options.data.load_options(options.train.seed())?;
    let events = Mutex::new((on_event, ControlFlow::Continue(())));
    let data = Dataset::open(spec, &load, &|done, total| {
        let mut events = events.lock().expect("no panic while held");
        if (events.0)(Event::Reading { done, total }).is_break() {
            events.1 = ControlFlow::Break(());
        }
    })?;
    let (on_event, control) = events.into_inner().expect("no panic while held");
    for skipped in data.skipped() {
        let _ = on_event(Event::Skipped(skipped));
    }
    Ok((data, control.is_break()))
}

/// Checks that all values of these rows are in [0, 1], as cross-entropy needs.
///
/// # Errors
/// [`Error::Option`] naming the first row and column outside.
pub(crate) fn check_unit_interval(data: &Dataset, rows: &[usize]) -> Result<()> {
    let Some((row, column, value)) = data.first_outside_unit(rows) else { return Ok(()) };
    let found = format!("{value} in column {column} of {row}");
    let remedy = "scale the data to 0 to 1, or use the squared error";
    Err(Error::option("loss cross-entropy", "values between 0 and 1", found, remedy))
}

/// Most rows that a threshold is calibrated on.
const CALIBRATION_ROWS: usize = 2048;
/// Training rows below which a threshold is calibrated on training rows.
const FEW_ROWS: usize = 1000;

/// Returns the share of `n` training rows that early stopping or a calibrated threshold needs as validation rows.
pub(super) fn validation_share(activation: Activation, early_stop: bool, n: usize) -> Option<f64> {
    let calibrated = activation.calibrates_threshold() && n >= FEW_ROWS;
    if early_stop { Some(0.1) } else { calibrated.then(|| (CALIBRATION_ROWS as f64 / n as f64).min(0.1)) }
}
