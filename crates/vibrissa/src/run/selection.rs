//! Selection of rows relative to runs: those that a run held out, those it was trained on, or all.

use super::settings::{RunSettings, names_hash};
use crate::data::Dataset;
use crate::data::split::Split;
use crate::error::{Error, Result};
use crate::options::PartialSplitOptions;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A selection of rows relative to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowSelection {
    /// The rows that the run held out.
    Test,
    /// The rows that the run was trained on.
    Train,
    /// Every row.
    All,
}

impl RowSelection {
    /// The name, as in options and records.
    pub fn name(self) -> &'static str {
        match self {
            RowSelection::Test => "test",
            RowSelection::Train => "train",
            RowSelection::All => "all",
        }
    }

    /// Returns the selected originals. Of several runs, those that are selected for every run. `on_note` gets a text if a
    /// run was trained on other data.
    ///
    /// # Errors
    /// If no row is selected, or test rows are requested of a run that was trained on every row.
    pub fn originals(
        self,
        runs: &[PathBuf],
        spec: &str,
        data: &Dataset,
        on_note: &mut dyn FnMut(String),
    ) -> Result<Vec<usize>> {
        if self == RowSelection::All {
            return Ok((0..data.originals()).collect());
        }
        let of = |split: Split| if self == RowSelection::Test { split.test } else { split.train };
        let mut found: Option<Vec<usize>> = None;
        for run in runs {
            let Some(split) = self.divide(run, spec, data, on_note)? else { continue };
            let rows = of(split);
            found = Some(match found {
                Some(before) => before.into_iter().filter(|o| rows.binary_search(o).is_ok()).collect(),
                None => rows,
            });
        }
        let found = match found {
            Some(found) => found,
            None => of(PartialSplitOptions::default().divide(data)?),
        };
        if found.is_empty() {
            let expected = format!("at least one {} row", self.name());
            return Err(Error::option("split", expected, "none", "use `split all`"));
        }
        Ok(found)
    }

    /// Divides data as a run divided its own; `None` for a bare model file.
    fn divide(self, run: &Path, spec: &str, data: &Dataset, on_note: &mut dyn FnMut(String)) -> Result<Option<Split>> {
        let Some(mut settings) = RunSettings::read(run)? else { return Ok(None) };
        let same_data = settings.about.as_ref().is_some_and(|a| a.data == spec || a.names == names_hash(data));
        if same_data {
            let split = settings.split.divide(data)?;
            if self == RowSelection::Test && split.test.is_empty() && settings.split.folds.is_some() {
                let remedy = format!("test figures are in {}/eval-folds.json", run.display());
                let expected = "train or all: the run was trained on every row";
                return Err(Error::option("split", expected, "test", remedy));
            }
            return Ok(Some(split));
        }
        on_note(format!(
            "{} was trained on other data, or on these rows by other names: none of them counts as held out by it; \
             `split all` selects every row",
            run.display()
        ));
        // Options that name rows of other data say nothing about these rows.
        settings.split.folds = None;
        if let Some(list) = settings.split.split_options()?.test_list
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
}
