//! Versioned results as plain data, the only input of reports. Nothing is computed here. A value that is undefined, NaN
//! or infinite is written as `null`, so that every record is valid JSON.
//!
//! In the definitions of figures, x is a row, recon its reconstruction, D the number of values of a row, N the number
//! of rows, z the value of a latent in a row and w its decoder direction.

pub mod adaptive;
pub mod analysis;
pub mod columns;
mod demo;
mod eval;
mod log;
pub mod sweep;
mod values;

pub use demo::{DEMO_SCHEMA, DemoRecord};
pub use eval::{ByClass, Density, EVAL_SCHEMA, EvalRecord, OfClass, Reconstruction, Recovery, Scores};
pub use log::{MetricsLine, SaeLine};
pub use values::{Number, Ordered};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use vibrissa_core::Error;
use vibrissa_core::io::version_of;

/// Checks that a record of schema `found` can be read as `known` (`"vibrissa.eval/1"`): it has the same name and no
/// newer version.
///
/// # Errors
/// The finding and the remedy, to follow the name of the file.
///
/// ```
/// use vibrissa_record::{EVAL_SCHEMA, check};
/// assert!(check("vibrissa.eval/1", EVAL_SCHEMA).is_ok());
/// assert!(check("vibrissa.eval/2", EVAL_SCHEMA).unwrap_err().contains("newer"));
/// ```
pub fn check(found: &str, known: &str) -> Result<(), String> {
    let (name, version) = version_of(known).expect("the known schema is one of this file's constants");
    match version_of(found) {
        Some((found_name, found_version)) if found_name == name => {
            if found_version <= version {
                Ok(())
            } else {
                Err(format!("schema {found} is newer than {known}, the newest this version reads; update vibrissa"))
            }
        }
        _ => Err(format!("schema is {found:?}, expected {known}; this is not a {name} record")),
    }
}

/// Parses a record. The schema is checked before the fields, so that the error about a newer record names its version
/// and not an unknown field.
///
/// # Errors
/// As [`check`]; for text that is not JSON, or not this record, the error of serde.
pub fn parse<T: DeserializeOwned>(json: &str, known: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        schema: String,
    }
    let head: Head = serde_json::from_str(json).map_err(|e| format!("not a {known} record: {e}"))?;
    check(&head.schema, known)?;
    serde_json::from_str(json).map_err(|e| format!("not a valid {known} record: {e}"))
}

/// Reads the record in a file; `None` if there is no such file.
///
/// # Errors
/// A file that cannot be read or holds anything else; `remedy` says what to do about it.
pub fn read<T: DeserializeOwned>(path: &Path, known: &str, remedy: &str) -> vibrissa_core::Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read", "check its permissions"))?;
    parse(&text, known).map(Some).map_err(|e| Error::file(path, e, remedy))
}

/// Reads the record in a file; `None` if there is no such file or it does not hold this record.
pub fn read_if_valid<T: DeserializeOwned>(path: &Path, known: &str) -> Option<T> {
    parse(&std::fs::read_to_string(path).ok()?, known).ok()
}

#[cfg(test)]
mod tests;
