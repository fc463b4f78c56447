//! The folder of a run and its files; none of them is ever half-written.

use crate::error::{Error, Result};
use crate::io::{TEMPORARY_PREFIX, write_atomically};
use crate::record::MetricsLine;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a run, which names its files.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

/// A lock on a folder: no other process trains into it while this value lives.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: std::fs::File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Folder {
    /// The newest full checkpoint, `checkpoints/last.safetensors`.
    pub fn last(&self) -> PathBuf {
        self.0.join("checkpoints/last.safetensors")
    }

    /// The weights with the best validation fvu, while early stopping runs.
    pub fn best(&self) -> PathBuf {
        self.0.join("checkpoints/best.safetensors")
    }

    /// The trained model, `model.safetensors`; written when training has ended.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// The training log, `metrics.jsonl`: one [`MetricsLine`] an interval.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// True if the folder holds anything that a new run would overwrite.
    pub fn in_use(&self) -> bool {
        self.0.exists() && std::fs::read_dir(&self.0).is_ok_and(|mut d| d.next().is_some())
    }

    /// Locks the folder against other processes until the returned value is dropped.
    ///
    /// # Errors
    /// If another process trains into this folder.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.0.join(".lock");
        let failed = || Error::io(&path, "write", "choose a writable `out`");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed())?;
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => {
                let remedy = "wait for it, or choose another `out`";
                Err(Error::file(&self.0, "another process is training into this folder", remedy))
            }
            // Some file systems have no locks; there other processes are not kept out.
            _ => Ok(Lock { path, _file: file }),
        }
    }

    /// Creates the folder and its `checkpoints/`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(&self) -> Result<()> {
        self.make(&self.0.join("checkpoints"))
    }

    /// Creates the folder alone, without `checkpoints/`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_bare(&self) -> Result<()> {
        self.make(&self.0)
    }

    fn make(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path).map_err(Error::io(&self.0, "make the run folder", "choose a writable `out`"))
    }

    /// The last line of the training log.
    pub fn last_line(&self) -> Option<MetricsLine> {
        let text = std::fs::read_to_string(self.metrics()).unwrap_or_default();
        text.lines().rev().find_map(|l| serde_json::from_str(l).ok())
    }

    /// The step of the last line of the training log, 0 without one.
    pub fn last_step(&self) -> u64 {
        self.last_line().map_or(0, |m| m.step)
    }

    /// Removes checkpoints and temporary files, which are not needed once the model is written.
    pub fn clear(&self) {
        self.remove_temporary_files();
        for path in [self.last(), self.best()] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes temporary files that a killed process left.
    pub(super) fn remove_temporary_files(&self) {
        for folder in [self.0.clone(), self.0.join("checkpoints")] {
            for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
                if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(TEMPORARY_PREFIX)) {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }

    /// Removes the lines of the log after `step`: a killed process may have written them after its last checkpoint.
    pub(super) fn trim_metrics(&self, step: u64) -> Result<()> {
        let Ok(text) = std::fs::read_to_string(self.metrics()) else { return Ok(()) };
        let kept: Vec<&str> =
            text.lines().filter(|l| serde_json::from_str::<MetricsLine>(l).is_ok_and(|m| m.step <= step)).collect();
        write_atomically(&self.metrics(), |out| kept.iter().try_for_each(|l| writeln!(out, "{l}")))
    }

    /// Appends a line to the log.
    pub(super) fn append(&self, line: &MetricsLine) -> Result<()> {
        let failed = || Error::io(self.metrics(), "write", "free some space; continue with `resume`");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.metrics()).map_err(failed())?;
        file.write_all(line.to_line().as_bytes()).map_err(failed())
    }

    /// The weights-only checkpoints `checkpoints/step-N.safetensors` with their steps, the oldest first.
    pub fn history(&self) -> Vec<(u64, PathBuf)> {
        let step = |p: &Path| -> Option<u64> { p.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok() };
        let entries = std::fs::read_dir(self.0.join("checkpoints")).into_iter().flatten().flatten();
        let mut all: Vec<(u64, PathBuf)> = entries.map(|e| e.path()).filter_map(|p| Some((step(&p)?, p))).collect();
        all.sort();
        all
    }

    /// Removes all but the newest `n` weights-only checkpoints.
    pub(super) fn prune_history(&self, n: usize) {
        for (_, path) in self.history().iter().rev().skip(n) {
            let _ = std::fs::remove_file(path);
        }
    }
}
