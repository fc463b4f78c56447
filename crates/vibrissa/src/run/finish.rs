//! The last stages of a run: training, evaluation, and the files that are made from the model.

use super::folds::FoldsOutcome;
use super::{
    CheckpointOptions, Event, OnEvent, Outcome, Prepared, Start, Training, TrainingEvent, TrainingOutcome,
    monitored_rows, sheets, warnings,
};
use crate::error::Result;
use crate::format;
use crate::io::write_json;
use crate::metrics::mean;
use crate::model::Sae;
use crate::record::EvalRecord;
use crate::recovery::recover;
use crate::train::evaluate::evaluate;

/// Mean Pearson correlation on test rows before and after training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InitialFigures {
    /// The initial weights in words.
    pub initialised_with: &'static str,
    /// Before the first step, on the monitored rows.
    pub pearson_before: Option<f64>,
    /// After the last step: on all test rows if all are monitored, else on the monitored rows; `None` if they are not those
    /// of the weights that are kept.
    pub pearson_after: Option<f64>,
    /// Monitored test rows, or images where rows are patches.
    pub monitored: usize,
    /// Test rows, or images where rows are patches.
    pub test: usize,
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// The run as prepared: data, rows, options and folder.
    pub prepared: Prepared,
    /// The trained models, in units of the rows as loaded.
    pub saes: Vec<Sae>,
    /// Figures of the model: on test rows, or on training rows if none is held out.
    pub eval: EvalRecord,
    /// Test figures pooled over folds.
    pub folds: Option<EvalRecord>,
    /// Before and after training; `None` if weights came from a file or a checkpoint.
    pub initial: Option<InitialFigures>,
}

impl Finished {
    /// True if `eval` is of test rows, false if it is of training rows.
    pub fn is_held_out(&self) -> bool {
        !self.prepared.rows.test.is_empty()
    }
}

impl Prepared {
    /// Trains, evaluates and writes all files.
    ///
    /// # Errors
    /// As [`run`](super::run).
    pub fn run(mut self, on_event: OnEvent) -> Result<Outcome> {
        if self.stopped {
            return Ok(Outcome::Interrupted { step: 0 });
        }
        self.folder.create()?;
        let _lock = self.folder.lock()?;
        self.write_config()?;
        let session = &self.given.session;
        let checkpoints = CheckpointOptions { every: session.checkpoint_every, history: session.keep.unwrap_or(0) };
        let folds = match &self.folds {
            None => None,
            Some(folds) => match self.run_folds(folds, checkpoints, &mut *on_event)? {
                FoldsOutcome::Finished(record) => Some(*record),
                FoldsOutcome::Interrupted(step) => return Ok(Outcome::Interrupted { step }),
            },
        };
        let mut initial = None;
        let saes = if self.trained {
            let _ = on_event(Event::Trained { step: self.folder.last_step() });
            self.folder.clear();
            format::read_model(&self.folder.0)?.saes
        } else {
            match self.train(checkpoints, &mut initial, &mut *on_event)? {
                TrainingOutcome::Finished(saes) => saes,
                TrainingOutcome::Interrupted(step) => return Ok(Outcome::Interrupted { step }),
            }
        };
        let eval = self.evaluate(&saes, &mut *on_event)?;
        let initial = initial.map(|initial| self.initial_figures(initial, &eval));
        let folds = folds.map(|record| self.write_folds(record)).transpose()?;
        warnings::initial_figures(initial.as_ref(), on_event);
        sheets::write(&self.folder.0, &saes, &self.data, &self.rows, self.folder.last_step() > 0)?;
        Ok(Outcome::Finished(Box::new(Finished { prepared: self, saes, eval, folds, initial })))
    }

    /// Trains the model of the run. `initial` gets what is known of the weights before the first step.
    fn train(
        &mut self,
        checkpoints: CheckpointOptions,
        initial: &mut Option<InitialFigures>,
        on_event: OnEvent,
    ) -> Result<TrainingOutcome> {
        let start = match (self.resume, self.from.take()) {
            (true, _) if self.folder.last().exists() => Start::Resume,
            (_, Some(model)) => Start::From(model.saes),
            (true, None) => Start::Resume,
            _ => Start::Initialise,
        };
        let Prepared { folder, data, rows, facts, options, .. } = &*self;
        let mut last_step = 0;
        Training { folder, data, rows, facts, options, checkpoints }.run(start, &mut |event| {
            match &event {
                TrainingEvent::Started { steps, initialised_with, pearson_before, .. } => {
                    last_step = *steps;
                    *initial = initialised_with.map(|with| InitialFigures {
                        initialised_with: with,
                        pearson_before: *pearson_before,
                        pearson_after: None,
                        monitored: 0,
                        test: 0,
                    });
                }
                TrainingEvent::Logged(line) if line.step == last_step => {
                    let pearson = mean(line.saes.iter().filter_map(|s| s.pearson));
                    initial.iter_mut().for_each(|initial| initial.pearson_after = pearson);
                }
                // The figures of the last step are not those of the weights that are kept.
                TrainingEvent::StoppedEarly { .. } => {
                    initial.iter_mut().for_each(|initial| initial.pearson_after = None);
                }
                _ => (),
            }
            on_event(Event::Training { fold: None, event })
        })
    }

    /// Evaluates the models on test rows, or on training rows if none is held out, and writes `eval.json`.
    fn evaluate(&self, saes: &[Sae], on_event: OnEvent) -> Result<EvalRecord> {
        let saes: Vec<&Sae> = saes.iter().collect();
        let held_out = !self.rows.test.is_empty();
        let rows = if held_out { &self.rows.test } else { &self.rows.train };
        let mean = self.facts.unscaled_baseline();
        let mut progress = |done, total| {
            let _ = on_event(Event::Evaluating { done, total });
        };
        let mut record = evaluate(&saes, Some(&mean), &self.data, rows, true, &mut progress).record();
        // With early stopping, the last line of the log is of other weights.
        if let Some(line) = self.folder.last_line().filter(|_| self.options.early_stop.is_none()) {
            record.saes.iter_mut().zip(&line.saes).for_each(|(sae, line)| sae.scores.l0_train = line.l0);
        }
        warnings::sparsity(&self.options, &record, self.folder.last_line().as_ref(), on_event);
        record.data = Some(self.spec.clone());
        record.recovery = recover(&saes, &self.spec, &self.data, rows);
        record.split = Some(if held_out { "test" } else { "train" }.into());
        write_json(&self.folder.0.join("eval.json"), &record)?;
        Ok(record)
    }

    /// Where all test rows are monitored, the figures after training are those of the evaluation.
    fn initial_figures(&self, mut initial: InitialFigures, eval: &EvalRecord) -> InitialFigures {
        initial.monitored = self.data.images(&monitored_rows(&self.data, &self.rows.test)).len();
        initial.test = self.data.images(&self.rows.test).len();
        if initial.monitored == initial.test {
            initial.pearson_after = mean(eval.saes.iter().filter_map(|s| s.scores.reconstruction.pearson));
        }
        initial
    }

    fn write_folds(&self, mut record: EvalRecord) -> Result<EvalRecord> {
        record.data = Some(self.spec.clone());
        record.split = Some("folds".into());
        write_json(&self.folder.0.join("eval-folds.json"), &record)?;
        Ok(record)
    }
}
