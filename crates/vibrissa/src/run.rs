//! Runs: from a data set to a folder with the trained model, its figures and images.
//!
//! [`run`] goes through the stages [`Plan`] (options and folder, before any data is read), [`Prepared`] (data, rows, resolved
//! options; all checks are made here), training, evaluation and files. Nothing is printed: a caller receives
//! progress, notes and warnings through [`Event`]. A break stops the run once the data is read, before anything is written, and at
//! every step of training, with a checkpoint; the evaluation and the files after training are made to the end.
//!
//! ```
//! use std::ops::ControlFlow;
//! use vibrissa::options::RunOptions;
//! use vibrissa::run::{Outcome, RunRequest, run};
//!
//! let folder = tempfile::tempdir()?;
//! let mut options = RunOptions::default();
//! for (name, value) in [("latents", "32"), ("k", "4"), ("steps", "20")] {
//!     options.set(name, value)?;
//! }
//! let request =
//!     RunRequest { data: "synthetic:rows=200".into(), out: folder.path().join("run"), options, ..RunRequest::default() };
//! let Outcome::Finished(finished) = run(&request, &mut |_| ControlFlow::Continue(()))? else { unreachable!() };
//! assert_eq!(finished.eval.saes[0].scores.latents, Some(32));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod finish;
mod folder;
mod folds;
mod log;
pub(crate) mod memory;
mod plan;
pub(crate) mod prepare;
mod rows;
pub(crate) mod saving;
mod selection;
pub(crate) mod settings;
pub mod sheets;
pub(crate) mod training;
mod warnings;

pub use finish::{Finished, InitialFigures};
pub use folder::{Folder, Lock};
pub(crate) use memory::check as check_memory;
pub use memory::total as total_memory;
pub use plan::Plan;
pub use prepare::Prepared;
pub use rows::{RunRows, monitored_rows};
pub use selection::RowSelection;
pub use settings::{About, RunSettings, names_hash, read_data};
pub use training::{CheckpointOptions, Start, Training, TrainingEvent, TrainingOutcome, on_target};

use crate::data::rows::SkippedFile;
use crate::error::Result;
use crate::options::RunOptions;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A request for a run.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// A folder of images, a file or folder of arrays, or `synthetic:…`.
    pub data: String,
    /// Folder for the files of the run; new or empty unless `resume` is set.
    pub out: PathBuf,
    /// Options, where given.
    pub options: RunOptions,
    /// Continue a run that was stopped. Starts at step 0 if there is nothing to continue.
    pub resume: bool,
    /// Accept a folder that holds other files. Files with the names of run files are overwritten.
    pub other_files: bool,
}

/// Events of [`run`].
///
/// Texts have names of options in backquotes (`` `early_stop` ``, `` `lr 0.001` ``); a caller may write them as flags or arguments.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Rows or files of the data set were read.
    Reading {
        /// Number read.
        done: usize,
        /// Number in all.
        total: usize,
    },
    /// A file was left out (`skip_bad`).
    Skipped(&'a SkippedFile),
    /// Data and options are known, and nothing was written yet.
    Prepared(&'a Prepared),
    /// Training of the model or of a fold.
    Training {
        /// The fold and the number of folds, from 1; `None` for the model of the run.
        fold: Option<(usize, usize)>,
        /// The event.
        event: TrainingEvent<'a>,
    },
    /// Training was completed in an earlier session; only evaluation and files made from the model are missing.
    Trained {
        /// The last step.
        step: u64,
    },
    /// Rows or images were evaluated.
    Evaluating {
        /// Number evaluated.
        done: usize,
        /// Number in all.
        total: usize,
    },
    /// An informational text.
    Note(String),
    /// A warning: the event, its consequence and the remedy.
    Warning(String),
}

/// A caller's function that receives events. A break takes effect once the data is read and at every step of training.
pub type OnEvent<'a> = &'a mut (dyn FnMut(Event) -> ControlFlow<()> + Send);

/// The result of [`run`].
#[derive(Debug)]
pub enum Outcome {
    /// All files were written.
    Finished(Box<Finished>),
    /// The run was complete already; nothing was done.
    AlreadyFinished,
    /// The caller stopped the run; the same request with `resume` continues it.
    Interrupted {
        /// Steps done, of the model or fold in training.
        step: u64,
    },
}

/// Trains on a data set and writes the folder of a run: `config.toml`, `metrics.jsonl`, `model.safetensors`, `eval.json`,
/// `features.png`, `reconstructions.png`, and with folds `eval-folds.json`.
///
/// # Errors
/// Options, data or files that do not fit, each with its remedy; nothing is half-written.
pub fn run(request: &RunRequest, on_event: OnEvent) -> Result<Outcome> {
    let Some(plan) = Plan::new(request)? else { return Ok(Outcome::AlreadyFinished) };
    let prepared = plan.prepare(&mut *on_event)?;
    prepared.run(on_event)
}
