//! Training into the folder of a run: log, checkpoints, early stopping, resume.

use super::folder::Folder;
use super::log::Interval;
use super::rows::{RunRows, monitored_rows};
use super::saving::{CHECKPOINT_INTERVAL, Saving};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::facts::DataFacts;
use crate::metrics::mean;
use crate::model::Sae;
use crate::options::TrainOptions;
use crate::record::MetricsLine;
use crate::train::evaluate::evaluate_in_training;
use crate::train::{Checkpoint, StepReport, Trainer, TrainingSet};
use std::ops::ControlFlow;
use std::time::Instant;

/// Checkpoints: how often, and how many are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Steps between full checkpoints. `None`: one a minute, fewer if writing takes long; with a history, ten a run, at
    /// least 100 steps apart.
    pub every: Option<u64>,
    /// Number of weights-only checkpoints kept in addition to the full one, newest first.
    pub history: usize,
}

/// The weights that a run starts from.
#[derive(Debug)]
pub enum Start {
    /// Weights initialised by the options.
    Initialise,
    /// Weights of another run, with a new optimiser.
    From(Vec<Sae>),
    /// The last checkpoint; without one, weights initialised by the options.
    Resume,
}

/// Events of [`Training::run`].
#[derive(Debug)]
pub enum TrainingEvent<'a> {
    /// Weights are being initialised or read, which may take a while.
    Preparing,
    /// Training starts.
    Started {
        /// Index of the first step.
        step: u64,
        /// Total number of steps.
        steps: u64,
        /// Description of the initial weights; `None` if they came from a file.
        initialised_with: Option<&'static str>,
        /// Mean Pearson correlation of all SAEs on monitored test rows before the first step, if there are test rows.
        pearson_before: Option<f64>,
    },
    /// A step was taken.
    Step(&'a StepReport),
    /// A line was added to the log.
    Logged(&'a MetricsLine),
    /// Early stopping ended the run; the best weights are kept.
    StoppedEarly {
        /// Epoch with the best validation fvu.
        best_epoch: u64,
        /// Best validation fvu.
        fvu: f64,
    },
}

/// The result of [`Training::run`].
#[derive(Debug)]
pub enum TrainingOutcome {
    /// The trained models, in units of the rows as loaded.
    Finished(Vec<Sae>),
    /// The caller stopped training; a checkpoint was written at this step.
    Interrupted(u64),
}

/// Hash of data, options and rows. A checkpoint is accepted only if its hash is the same.
pub(crate) fn run_hash(options: &TrainOptions, data: &Dataset, facts: &DataFacts, rows: &RunRows) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(data.load_description().as_bytes());
    hash.update(serde_json::to_string(options).expect("plain data").as_bytes());
    for part in [&rows.train, &rows.test, &rows.validation] {
        hash.update(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|&r| {
            hash.update(&(r as u64).to_le_bytes());
        });
    }
    facts.mean.iter().for_each(|m| {
        hash.update(&m.to_le_bytes());
    });
    hash.update(&facts.spread.to_le_bytes());
    hash.finalize().to_hex().to_string()
}

/// The best validation fvu so far, and its epoch.
type Best = (f64, u64);

/// A training session that writes into the folder of a run.
#[derive(Debug)]
pub struct Training<'a> {
    /// The folder of the run, which exists.
    pub folder: &'a Folder,
    /// The data set.
    pub data: &'a Dataset,
    /// The rows of the run.
    pub rows: &'a RunRows,
    /// Facts about the training rows.
    pub facts: &'a DataFacts,
    /// Training options.
    pub options: &'a TrainOptions,
    /// Checkpoints.
    pub checkpoints: CheckpointOptions,
}

impl<'a> Training<'a> {
    /// Trains to the end. `on_event` receives every step and can stop training; a checkpoint is then written.
    ///
    /// # Errors
    /// Options that do not fit, a damaged checkpoint or one of another run, divergence, a full disk (the last checkpoint stays).
    pub fn run(
        &self,
        start: Start,
        on_event: &mut dyn FnMut(TrainingEvent) -> ControlFlow<()>,
    ) -> Result<TrainingOutcome> {
        let _ = on_event(TrainingEvent::Preparing);
        let (trainer, best, wall_s) = self.trainer(start)?;
        let folder = self.folder;
        folder.remove_temporary_files();
        folder.trim_metrics(trainer.step())?;
        let mut running = Running::new(self, trainer, best, wall_s);
        running.record_initial_best()?;
        let pearson_before = match running.trainer.step() {
            0 => mean(test_figures(&running.trainer, &running.monitored).into_iter().filter_map(|f| f.0)),
            _ => None,
        };
        let (step, steps) = (running.trainer.step(), running.trainer.steps());
        let initialised_with = running.trainer.initialised_with();
        let started = TrainingEvent::Started { step, steps, initialised_with, pearson_before };
        if on_event(started).is_break() || !running.train(on_event)? {
            let wall_s = running.wall_s();
            running.trainer.checkpoint(&folder.last(), &running.hash, wall_s, running.best)?;
            return Ok(TrainingOutcome::Interrupted(running.trainer.step()));
        }
        running.finish().map(TrainingOutcome::Finished)
    }

    /// The trainer, the best validation fvu so far, and the seconds of earlier sessions.
    fn trainer(&self, start: Start) -> Result<(Trainer<'a>, Option<Best>, f64)> {
        let set = TrainingSet { data: self.data, rows: self.rows.train.clone(), facts: self.facts.clone() };
        let options = self.options.clone();
        let from = match start {
            Start::Resume if self.folder.last().exists() => {
                let checkpoint = Checkpoint::read(&self.folder.last())?;
                if checkpoint.progress.run_hash != run_hash(self.options, self.data, self.facts, self.rows) {
                    return Err(Error::file(
                        self.folder.last(),
                        "was made with other options or other data",
                        "use the options in RUN/config.toml, or choose another `out`",
                    ));
                }
                let (best, wall_s) = (checkpoint.progress.best, checkpoint.progress.wall_s);
                return Ok((Trainer::resume(set, options, checkpoint), best, wall_s));
            }
            Start::From(saes) => Some(saes),
            Start::Initialise | Start::Resume => None,
        };
        Ok((Trainer::new(set, options, from)?, None, 0.0))
    }
}

/// State of a training in progress.
struct Running<'a> {
    training: &'a Training<'a>,
    trainer: Trainer<'a>,
    hash: String,
    /// The test rows that are evaluated during training.
    monitored: Vec<usize>,
    /// Best validation fvu so far, and its epoch.
    best: Option<Best>,
    interval: Interval,
    started: Instant,
    /// Training time of earlier sessions in seconds.
    wall_before: f64,
}

impl<'a> Running<'a> {
    fn new(training: &'a Training<'a>, trainer: Trainer<'a>, best: Option<Best>, wall_before: f64) -> Running<'a> {
        let Training { data, rows, facts, options, .. } = training;
        Running {
            training,
            trainer,
            hash: run_hash(options, data, facts, rows),
            monitored: monitored_rows(data, &rows.test),
            best,
            interval: Interval::default(),
            started: Instant::now(),
            wall_before,
        }
    }

    /// Seconds of training, earlier sessions included.
    fn wall_s(&self) -> f64 {
        self.wall_before + self.started.elapsed().as_secs_f64()
    }

    /// For early stopping, records the initial weights as the best so far.
    fn record_initial_best(&mut self) -> Result<()> {
        let stops_early = self.training.options.early_stop.is_some() && !self.training.rows.validation.is_empty();
        if stops_early
            && self.trainer.step() == 0
            && let Some(fvu) = settled_fvu(&mut self.trainer, &self.training.rows.validation)
        {
            self.best = Some((fvu, 0));
            self.trainer.write_model(&self.training.folder.best())?;
        }
        Ok(())
    }

    /// Takes all remaining steps. Returns false if the caller stopped training.
    fn train(&mut self, on_event: &mut dyn FnMut(TrainingEvent) -> ControlFlow<()>) -> Result<bool> {
        let (folder, steps) = (self.training.folder, self.trainer.steps());
        let CheckpointOptions { every, history } = self.training.checkpoints;
        // Evaluation of the monitored rows is limited to about 1 % of the training time.
        let least = (32 * self.monitored.len()).div_ceil(self.training.options.batch) as u64;
        let line_every = steps.div_ceil(50).max(least).max(1);
        let with_history = (history > 0).then_some((steps / 10).max(100));
        let checkpoint_every = every.or(with_history).map(|every| every.max(1));
        let mut saving = Saving::every(CHECKPOINT_INTERVAL);
        let mut control = ControlFlow::Continue(());
        while control.is_continue() {
            // Advance at most to the next step that logs or saves.
            let until = |every: u64| every - self.trainer.step() % every;
            let at_most = checkpoint_every.map_or(u64::MAX, until).min(until(line_every));
            let reports = self.trainer.advance(at_most)?;
            if reports.is_empty() {
                return Ok(true);
            }
            for report in &reports {
                self.interval.add(report);
                if control.is_continue() {
                    control = on_event(TrainingEvent::Step(report));
                }
            }
            let step = self.trainer.step();
            if step.is_multiple_of(line_every) || step == steps {
                let line = self.log_line()?;
                if on_event(TrainingEvent::Logged(&line)).is_break() {
                    control = ControlFlow::Break(());
                }
            }
            if self.stops_early(on_event)? {
                return Ok(true);
            }
            let due = checkpoint_every.map_or_else(|| saving.due(), |every| step.is_multiple_of(every));
            if due && step < steps {
                let wall_s = self.wall_s();
                saving.time(|| self.trainer.checkpoint(&folder.last(), &self.hash, wall_s, self.best))?;
                if history > 0 {
                    self.trainer.write_model(&folder.0.join(format!("checkpoints/step-{step}.safetensors")))?;
                    folder.prune_history(history);
                }
            }
        }
        Ok(false)
    }

    /// Appends a line to the log and starts a new interval.
    fn log_line(&mut self) -> Result<MetricsLine> {
        let wall_s = self.wall_s();
        let line = std::mem::take(&mut self.interval).line(&mut self.trainer, &self.monitored, wall_s);
        self.training.folder.append(&line)?;
        Ok(line)
    }

    /// Compares the validation fvu with the best, at the end of an epoch and after the last step (which may lie within an
    /// epoch). Returns true if it has not improved for `early_stop` epochs.
    fn stops_early(&mut self, on_event: &mut dyn FnMut(TrainingEvent) -> ControlFlow<()>) -> Result<bool> {
        let (step, validation) = (self.trainer.step(), &self.training.rows.validation);
        let due =
            (step.is_multiple_of(self.trainer.per_epoch()) || step == self.trainer.steps()) && !validation.is_empty();
        let Some(patience) = self.training.options.early_stop.filter(|_| due) else { return Ok(false) };
        let epoch = self.trainer.epoch();
        let fvu = settled_fvu(&mut self.trainer, validation);
        if let Some(fvu) = fvu.filter(|&fvu| self.best.is_none_or(|(best, _)| fvu < best)) {
            self.best = Some((fvu, epoch));
            self.trainer.write_model(&self.training.folder.best())?;
        } else if let Some((fvu, best_epoch)) = self.best.filter(|&(_, e)| epoch >= e + patience) {
            if self.interval.steps > 0 {
                self.log_line()?;
            }
            let _ = on_event(TrainingEvent::StoppedEarly { best_epoch, fvu });
            return Ok(true);
        }
        Ok(false)
    }

    /// Writes the final model, the best one if early stopping is on, and removes the checkpoints.
    fn finish(mut self) -> Result<Vec<Sae>> {
        let folder = self.training.folder;
        if self.trainer.step() == 0 {
            folder.append(&Interval::default().line(&mut self.trainer, &self.monitored, 0.0))?;
        }
        if self.best.is_some() && folder.best().exists() {
            self.trainer.restore(&folder.best())?;
        }
        self.trainer.calibrate(self.training.rows.for_calibration());
        self.trainer.write_model(&folder.model())?;
        let saes = self.trainer.into_saes();
        folder.clear();
        Ok(saes)
    }
}

/// Returns the mean squared error of the validation rows (of their whole images, where rows are patches) divided by the
/// variance of the training rows, averaged over the SAEs; `None` if it is not finite.
///
/// Division by the variance of the training rows keeps the value defined for a single validation row.
pub(crate) fn validation_fvu(trainer: &Trainer, rows: &[usize]) -> Option<f64> {
    let all = evaluate_in_training(trainer, rows).mse();
    let mse = all.iter().sum::<f64>() / all.len() as f64;
    let variance = trainer.facts().image_spread / trainer.data().image_dim() as f64;
    Some(if variance > 0.0 { mse / variance } else { mse }).filter(|v| v.is_finite())
}

/// True if a measure of sparsity, such as L0, is within a factor of 1.2 of its target.
pub fn on_target(found: f64, target: f64) -> bool {
    const FACTOR: f64 = 1.2;
    (target / FACTOR..=target * FACTOR).contains(&found)
}

/// Returns [`validation_fvu`], or `None` while L0 on training rows has not reached its target: a higher L0 lowers fvu and
/// would make early weights look better.
fn settled_fvu(trainer: &mut Trainer, rows: &[usize]) -> Option<f64> {
    let (k, aims, k_anneal) = (trainer.options().k as f64, trainer.options().aims(), trainer.options().k_anneal);
    let near = |l0: Option<f64>| l0.is_some_and(|l0| on_target(l0, k));
    if trainer.step() < k_anneal || (aims && !trainer.l0_in_training().into_iter().all(near)) {
        return None;
    }
    validation_fvu(trainer, rows)
}

/// Pearson correlation and fvu of each SAE on test rows, with the current weights; `None` without rows.
pub(super) fn test_figures(trainer: &Trainer, rows: &[usize]) -> Vec<(Option<f64>, Option<f64>)> {
    if rows.is_empty() {
        return vec![(None, None); trainer.saes().len()];
    }
    evaluate_in_training(trainer, rows).brief()
}
