//! The files of an analysis, `analysis.json` and `analysis.safetensors`, which belong together.

use super::columns::AnalysisColumns;
use super::columns::Measure;
use super::{ANALYSIS_SCHEMA, AnalysisRecord, PruneRecord};
use crate::columns::StoredColumns;
use std::path::{Path, PathBuf};
use vibrissa_core::io::write_json;
use vibrissa_core::{Error, Result};

const AGAIN: &str = "make it again with vibrissa analyze RUN DATA";

/// An analysis: its record and its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// The figures of the whole.
    pub record: AnalysisRecord,
    /// The arrays by latent and the images.
    pub columns: AnalysisColumns,
}

impl Analysis {
    /// The record of the analysis in a folder.
    pub fn record_path(folder: &Path) -> PathBuf {
        folder.join("analysis.json")
    }

    /// The columns of the analysis in a folder.
    pub fn columns_path(folder: &Path) -> PathBuf {
        folder.join("analysis.safetensors")
    }

    /// Reads the analysis in a folder.
    ///
    /// # Errors
    /// A folder without one; a file that is damaged, of another version or of another analysis; a column that is
    /// missing or wrongly typed.
    pub fn read(folder: &Path) -> Result<Analysis> {
        let (record, path) = (Self::record_path(folder), Self::columns_path(folder));
        let Some(record) = crate::read::<AnalysisRecord>(&record, ANALYSIS_SCHEMA, AGAIN)? else {
            return Err(Error::file(record, "no such file", "run vibrissa analyze RUN DATA first"));
        };
        let stored = StoredColumns::read(&path, ANALYSIS_SCHEMA, AGAIN)?;
        // Early records have no hash.
        if !record.columns_hash.is_empty() && record.columns_hash != hash(&path)? {
            return Err(Error::file(path, "is not what was written with the analysis.json beside it", AGAIN));
        }
        let columns = AnalysisColumns::from_stored(stored, &record).map_err(|e| e.in_file(&path, AGAIN))?;
        Ok(Analysis { record, columns })
    }

    /// Writes the analysis into a folder and sets [`AnalysisRecord::columns_hash`]. The record is removed first and
    /// written last: where there is one, the columns belong to it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, folder: &Path) -> Result<()> {
        let (record, path) = (Self::record_path(folder), Self::columns_path(folder));
        let _ = std::fs::remove_file(&record);
        let stored = std::mem::take(&mut self.columns).into_stored();
        stored.write(&path, ANALYSIS_SCHEMA)?;
        self.columns = AnalysisColumns::from_stored(stored, &self.record).map_err(|e| e.in_file(&path, AGAIN))?;
        self.record.columns_hash = hash(&path)?;
        write_json(&record, &self.record)
    }
}

impl PruneRecord {
    /// The record of pruning by a measure that belongs to the analysis in a folder.
    pub fn path(folder: &Path, by: Measure) -> PathBuf {
        folder.join(format!("prune-{}.json", by.name()))
    }

    /// The records of pruning in a folder, by name; none if it cannot be read.
    pub fn paths(folder: &Path) -> Vec<PathBuf> {
        let is_record = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("prune-") && name.ends_with(".json")
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        let mut all: Vec<PathBuf> = entries.filter(is_record).collect();
        all.sort();
        all
    }
}

/// BLAKE3 of a file, hexadecimal.
fn hash(path: &Path) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    hash.update_mmap(path).map_err(Error::io(path, "read", AGAIN))?;
    Ok(hash.finalize().to_hex().to_string())
}
