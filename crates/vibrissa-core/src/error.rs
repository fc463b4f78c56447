//! One error enum for the whole library: each variant names the place, what was expected, what was found and the
//! remedy, on one line. Nothing here prints or exits.
//!
//! The library knows no flags: an option is named by its field (`k_aux`), and so are fields within a text, in backquotes,
//! perhaps with a value (`` `patch 8` ``). The command turns both into flags.

use std::path::{Path, PathBuf};

/// A path on one line: control characters in file names are written as escapes.
fn line(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The result of a fallible function of the library.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can be wrong with input, each case with its remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}; {remedy}", line(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The action that failed, as a verb phrase ("read", "write the checkpoint").
        action: &'static str,
        /// The error of the system.
        source: std::io::Error,
        /// The remedy.
        remedy: &'static str,
    },
    /// A file or folder does not hold what it should.
    #[error("{}: {found}; {remedy}", line(path))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The finding, and where needed the expectation.
        found: String,
        /// The remedy.
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
        /// The remedy.
        remedy: String,
    },
    /// A value that is NaN or infinite.
    #[error("{origin}: {value} at row {row}, column {column}; every value must be finite: remove or replace such rows")]
    NotFinite {
        /// The file or generator of the row.
        origin: String,
        /// Row within that file.
        row: usize,
        /// Column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// An option out of range, or options that exclude each other.
    #[error("{option}: expected {expected}, got {got}; {remedy}")]
    Option {
        /// The name of the field in snake_case, such as `k_aux`.
        option: String,
        /// The accepted values.
        expected: String,
        /// The given value.
        got: String,
        /// The remedy.
        remedy: String,
    },
    /// A row that a model cannot encode.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// A loss or weight is no longer finite.
    #[error("training diverged at step {step}: the {term} is {value}; try a smaller `lr`")]
    Diverged {
        /// The step, from 0.
        step: u64,
        /// The quantity that is not finite.
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
