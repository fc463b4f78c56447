//! Which rows a command looks at: those that a run held out, those it was trained on, or all.

use crate::train;
use clap::ValueEnum;
use std::path::PathBuf;
use vibrissa::data::Dataset;
use vibrissa::data::split::Split;
use vibrissa::{Error, Result};

/// Which rows are looked at.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Part {
    /// Those held out in the run
    Test,
    /// Those it was trained on
    Train,
    /// Every row
    All,
}

impl Part {
    /// As the user writes it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Test => "test",
            Part::Train => "train",
            Part::All => "all",
        }
    }

    /// The originals of this part: of several runs those that lie in it for every run that knows the data.
    ///
    /// # Errors
    /// When there is none, or a run was trained on every row and test rows are asked for.
    pub fn originals(self, runs: &[PathBuf], spec: &str, data: &Dataset) -> Result<Vec<usize>> {
        if self == Part::All {
            return Ok((0..data.originals()).collect());
        }
        let mut found: Option<Vec<usize>> = None;
        for run in runs {
            let Some(split) = divide(run, spec, data, self)? else { continue };
            let part = if self == Part::Test { split.test } else { split.train };
            found = Some(match found {
                Some(before) => before.into_iter().filter(|o| part.binary_search(o).is_ok()).collect(),
                None => part,
            });
        }
        let found = match found {
            Some(found) => found,
            None => {
                let split = train::SplitArgs::default().divide(data)?;
                if self == Part::Test { split.test } else { split.train }
            }
        };
        if found.is_empty() {
            return Err(Error::option(
                "--split",
                format!("{} rows to look at", self.name()),
                "none",
                "use --split all",
            ));
        }
        Ok(found)
    }
}

/// A hash of the names of all rows.
pub fn names_hash(data: &Dataset) -> String {
    let mut hash = blake3::Hasher::new();
    for i in 0..data.originals() {
        hash.update(data.name(i).as_bytes());
        hash.update(b"\n");
    }
    hash.finalize().to_hex()[..32].to_owned()
}

/// How a run divides this data; `None` for a bare model file.
fn divide(run: &std::path::Path, spec: &str, data: &Dataset, part: Part) -> Result<Option<Split>> {
    let Some(mut settings) = train::settings(run)? else { return Ok(None) };
    let own = settings.about.as_ref().is_some_and(|a| a.data == spec || a.names == names_hash(data));
    if own {
        let split = settings.split.divide(data)?;
        if part == Part::Test && split.test.is_empty() && settings.split.folds.is_some() {
            let remedy = format!("held-out figures are in {}/eval-folds.json", run.display());
            return Err(Error::option("--split", "train or all: the run was trained on every row", "test", remedy));
        }
        return Ok(Some(split));
    }
    eprintln!(
        "note: {} was trained on other data, or on these rows by other names: none of them counts as held out by it; \
         --split all looks at every row",
        run.display()
    );
    // What names rows of other data says nothing about these.
    settings.split.folds = None;
    if let Some(list) = settings.split.options()?.test_list
        && !(0..data.originals()).any(|i| list.names.contains(&data.name(i)))
    {
        settings.split.test_list = None;
    }
    match settings.split.divide(data) {
        Err(_) if settings.split.group.is_some() => {
            settings.split.group = None;
            settings.split.divide(data).map(Some)
        }
        divided => divided.map(Some),
    }
}
