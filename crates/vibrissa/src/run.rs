//! A run: training into a folder, with all that is made from the model.

mod folder;
mod log;
mod rows;
pub(crate) mod saving;
pub(crate) mod training;

pub use folder::{Folder, Lock};
pub use rows::{RunRows, monitored_rows};
pub use training::{CheckpointOptions, Start, Training, TrainingEvent, TrainingOutcome, on_target};
