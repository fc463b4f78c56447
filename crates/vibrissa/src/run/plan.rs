//! The first stage of a run: options and folder, before any data is read.

use super::folder::Folder;
use super::{OnEvent, Prepared, RunRequest};
use crate::error::{Error, Result};
use crate::format::{self, Model};
use crate::options::RunOptions;
use std::path::PathBuf;

/// A run whose options were merged and checked as far as that needs no data.
#[derive(Debug)]
pub struct Plan {
    /// The data as given.
    pub data: String,
    /// The folder of the run.
    pub folder: Folder,
    /// Options as given, by the folder's `config.toml` and by the model to start from.
    pub options: RunOptions,
    /// The model that training starts from, if it does not continue a checkpoint.
    pub from: Option<Model>,
    /// True if a run is to be continued.
    pub resume: bool,
    /// True if training has ended and only files made from the model are missing.
    pub trained: bool,
}

impl Plan {
    /// Merges and checks the options of a request. `None` if the run to be resumed has ended.
    ///
    /// # Errors
    /// A folder that holds something else, an ended run with other options, options that are out of range whatever the data.
    pub fn new(request: &RunRequest) -> Result<Option<Plan>> {
        let folder = Folder(request.out.clone());
        let mut options = request.options.clone();
        // A run that was killed after its last step still lacks the files made from the model.
        let trained = request.resume && folder.model().exists();
        if !request.resume && !request.other_files && folder.in_use() {
            let remedy = "choose another `out`, or `resume`";
            return Err(Error::file(&folder.0, "exists already and is kept as it is", remedy));
        }
        if request.resume {
            match folder.options()? {
                Some((before, _)) => options = options.over(&before),
                None if folder.in_use() => {
                    let remedy = "choose another `out`; a run has a config.toml";
                    return Err(Error::file(&folder.0, "is not empty and holds no run to resume", remedy));
                }
                None => (),
            }
            if trained && folder.files_from_model(options.split.folds.is_some()).iter().all(|p| p.exists()) {
                folder.refuse_changes(&options)?;
                return Ok(None);
            }
        }
        // A checkpoint includes all that came from the model that training started from.
        let from = match &options.session.from {
            Some(_) if request.resume && (trained || folder.last().exists()) => None,
            path => path.as_deref().map(format::read_model).transpose()?,
        };
        if let Some(model) = &from {
            options.inherit(&model.config)?;
        }
        options.train.check_early()?;
        Ok(Some(Plan { data: request.data.clone(), folder, options, from, resume: request.resume, trained }))
    }

    /// Reads the data, divides it, and resolves all options.
    ///
    /// # Errors
    /// Data that cannot be read, or options that do not fit it.
    pub fn prepare(self, on_event: OnEvent) -> Result<Prepared> {
        Prepared::new(self, on_event)
    }
}

impl Folder {
    /// The files that are made from the model after the last step, in this order.
    fn files_from_model(&self, folds: bool) -> Vec<PathBuf> {
        let figures = ["eval.json", "eval-folds.json"].into_iter().take(if folds { 2 } else { 1 });
        figures.chain(["features.png", "reconstructions.png"]).map(|name| self.0.join(name)).collect()
    }

    /// Refuses options that differ from those of the run, naming the first that does.
    pub(super) fn refuse_changes(&self, now: &RunOptions) -> Result<()> {
        let before = RunOptions::read(&self.config())?.0.to_table();
        let now = now.to_table();
        let text = |v: Option<&toml::Value>| v.map_or("not given".to_owned(), toml::Value::to_string);
        // These do not change what is trained; a list of test rows is compared by the rows that it names.
        let free = ["checkpoint-every", "keep", "from", "test-list", "skip-bad"];
        for key in before.keys().chain(now.keys()).filter(|k| !free.contains(&k.as_str())) {
            let (old, new) = (before.get(key), now.get(key));
            if old != new {
                let found = format!("{key} is {} in the run, {} now", text(old), text(new));
                let remedy = "leave it out to resume, or train anew into another `out` (`from` starts with this model)";
                return Err(Error::file(&self.0, found, remedy));
            }
        }
        Ok(())
    }
}
