//! Cross-validation: a model for each fold, and their test figures pooled.

use super::prepare::validation_share;
use super::{CheckpointOptions, Event, Folder, OnEvent, Prepared, RunRows, Start, Training, TrainingOutcome};
use crate::data::split::Split;
use crate::error::Result;
use crate::facts::DataFacts;
use crate::format;
use crate::model::Sae;
use crate::record::EvalRecord;
use crate::train::evaluate::{Pool, evaluate};

/// End of the training of all folds.
pub(super) enum FoldsOutcome {
    /// Test figures of all folds together.
    Finished(Box<EvalRecord>),
    /// The caller stopped at this step of a fold.
    Interrupted(u64),
}

impl Prepared {
    /// Trains on each fold that has no model yet, and pools the test figures.
    pub(super) fn run_folds(
        &self,
        folds: &[Split],
        checkpoints: CheckpointOptions,
        on_event: OnEvent,
    ) -> Result<FoldsOutcome> {
        let mut pool: Option<Pool> = None;
        for (f, split) in folds.iter().enumerate() {
            let share = validation_share(self.options.activation, self.options.early_stop.is_some(), split.train.len());
            let rows = RunRows::new(&self.data, split, share, self.given.split.group.as_deref())?;
            let facts = DataFacts::gather(&self.data, &rows.train, self.options.may_scale());
            let folder = Folder(self.folder.0.join(format!("folds/{f}")));
            folder.create()?;
            let start = match &self.from {
                _ if folder.last().exists() => Start::Resume,
                Some(model) => Start::From(model.saes.clone()),
                None => Start::Initialise,
            };
            let saes = if folder.model().exists() {
                format::read_model(&folder.0)?.saes
            } else {
                let (data, options) = (&self.data, &self.options);
                let training = Training { folder: &folder, data, rows: &rows, facts: &facts, options, checkpoints };
                let fold = Some((f + 1, folds.len()));
                match training.run(start, &mut |event| on_event(Event::Training { fold, event }))? {
                    TrainingOutcome::Finished(saes) => saes,
                    TrainingOutcome::Interrupted(step) => return Ok(FoldsOutcome::Interrupted(step)),
                }
            };
            let saes: Vec<&Sae> = saes.iter().collect();
            let mean = facts.unscaled_baseline();
            let part = evaluate(&saes, Some(&mean), &self.data, &rows.test, true, &mut |_, _| ());
            match &mut pool {
                Some(pool) => pool.merge(&part),
                None => pool = Some(part),
            }
        }
        Ok(FoldsOutcome::Finished(Box::new(without_latents(pool.expect("at least two folds").record()))))
    }
}

/// Removes counts of latents: each fold has other latents, so a sum over folds has no meaning.
fn without_latents(mut record: EvalRecord) -> EvalRecord {
    for sae in &mut record.saes {
        let classes = sae.by_class.0.iter_mut().map(|(_, class)| &mut class.scores);
        for scores in classes.chain([&mut sae.scores]) {
            (scores.dead_latents, scores.rare_latents, scores.density) = (None, None, None);
        }
    }
    record
}
