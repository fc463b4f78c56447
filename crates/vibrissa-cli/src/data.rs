//! Opening data for the commands that look at a trained model.

use crate::progress::{say, say_skipped};
use crate::show;
use std::path::{Path, PathBuf};
use vibrissa::Result;
use vibrissa::data::Dataset;
use vibrissa::format::Model;
use vibrissa::options::PartialDataOptions;
use vibrissa::run::RowSelection;

/// Opens data in the shape that a model takes, with a progress bar, and lists the files that were left out.
///
/// # Errors
/// Those of [`vibrissa::run::read_data`].
pub fn read_data(run: &Path, model: &Model, spec: &str, options: &PartialDataOptions) -> Result<Dataset> {
    let bar = show::Bar::new("reading");
    let data = vibrissa::run::read_data(run, model, spec, options, &|done, total| bar.set(done, total));
    bar.finish();
    let data = data?;
    say_skipped(&data);
    Ok(data)
}

/// Returns the selected originals, and prints a note if a run was trained on other data.
///
/// # Errors
/// Those of [`RowSelection::originals`].
pub fn select_rows(selection: RowSelection, runs: &[PathBuf], spec: &str, data: &Dataset) -> Result<Vec<usize>> {
    selection.originals(runs, spec, data, &mut |note| say("note", &note))
}
