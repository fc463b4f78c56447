//! One error enum for the whole library: each variant names the place, what was expected, what was found and the
//! remedy, on one line. Nothing here prints or exits.
//!
//! The library knows no flags: an option is named by its field (`k_aux`), and so are fields within a text, in backquotes,
//! perhaps with a value (`` `patch 8` ``). The command turns both into flags, Python into arguments.

use std::path::{Path, PathBuf};

/// A path on one line: control characters in file names are written as escapes.
fn line(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// What the library returns instead of panicking.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong with what a user hands in, each with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}; {remedy}", line(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase ("read", "write the checkpoint").
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A file or folder holds something else than it should.
    #[error("{}: {found}; {remedy}", line(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what was expected.
        found: String,
        /// What the user can do.
        remedy: String,
    },
    /// A tensor of a model or data file has the wrong shape or type.
    #[error("{}: tensor {tensor}: expected {expected}, got {got}; {remedy}", line(path))]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape or type that was expected.
        expected: String,
        /// The shape or type that is there.
        got: String,
        /// What the user can do.
        remedy: String,
    },
    /// A value that cannot be trained on (NaN or infinite).
    #[error("{origin}: {value} at row {row}, column {column}; every value must be finite: remove or replace such rows")]
    NotFinite {
        /// The file, or what else the row came from.
        origin: String,
        /// Row within that file.
        row: usize,
        /// Column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// An option, or a combination of options, that cannot be.
    #[error("{option}: expected {expected}, got {got}; {remedy}")]
    Option {
        /// The name of the field in snake_case, such as `k_aux`.
        option: String,
        /// What it accepts here.
        expected: String,
        /// What was given.
        got: String,
        /// What the user can do.
        remedy: String,
    },
    /// A row that a model cannot encode.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// Training left the finite numbers.
    #[error("training diverged at step {step}: the {term} is {value}; try a smaller `lr`")]
    Diverged {
        /// Step (from 0) at which it was seen.
        step: u64,
        /// Which quantity.
        term: &'static str,
        /// Its value.
        value: f64,
    },
}

/// A row of a batch whose pre-activations are not finite: its values are too large for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the batch: its pre-activations are not finite; its values are too large for this model")]
pub struct Overflow {
    /// Number of the row, from 0.
    pub row: usize,
}

impl Error {
    /// An [`Error::Io`].
    pub fn io(
        path: impl AsRef<Path>,
        action: &'static str,
        remedy: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, action, source, remedy }
    }

    /// An [`Error::File`].
    pub fn file(path: impl AsRef<Path>, found: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::File { path: path.as_ref().to_path_buf(), found: found.into(), remedy: remedy.into() }
    }

    /// An [`Error::Option`].
    pub fn option(
        option: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Option { option: option.into(), expected: expected.into(), got: got.to_string(), remedy: remedy.into() }
    }
}
