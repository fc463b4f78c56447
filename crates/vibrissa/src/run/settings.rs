//! The settings of a run that exists: how it read and divided its data.

use super::folder::Folder;
use crate::data::Dataset;
use crate::error::Result;
use crate::format::Model;
use crate::kernels::Isa;
use crate::options::{PartialDataOptions, PartialSplitOptions, RunOptions};
use crate::run::RunRows;
use crate::train::check_width;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Facts about a run that `config.toml` holds in the table `[about]`. They are not read as options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct About {
    /// Version of vibrissa.
    pub tool_version: String,
    /// The data as given.
    pub data: String,
    /// Rows, without augmented variants.
    pub rows: usize,
    /// Values a row.
    pub columns: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Training rows, augmented variants included.
    pub training_rows: usize,
    /// Test rows.
    pub test_rows: usize,
    /// Worker threads.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Hash of the names of all rows: other names are other data.
    #[serde(default)]
    pub names: String,
    /// Width, height and channels of the images.
    pub pictures: Option<[usize; 3]>,
}

impl About {
    /// The facts of a run on this data.
    pub fn new(spec: &str, data: &Dataset, rows: &RunRows) -> About {
        About {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            data: spec.to_owned(),
            rows: data.originals(),
            columns: data.dim(),
            classes: data.classes().to_vec(),
            names: names_hash(data),
            training_rows: rows.train.len(),
            test_rows: rows.test.len(),
            threads: rayon::current_num_threads(),
            isa: Isa::current().name().into(),
            pictures: data.image_shape().map(|s| [s.width, s.height, s.channels]),
        }
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

/// The content of `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ConfigFile {
    #[serde(flatten)]
    pub options: RunOptions,
    pub about: About,
}

/// The settings by which a run read and divided its data.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// Reading.
    pub data: PartialDataOptions,
    /// Dividing.
    pub split: PartialSplitOptions,
    /// Facts about its data.
    pub about: Option<About>,
    /// Its seed.
    pub seed: u64,
}

impl RunSettings {
    /// Reads `RUN/config.toml`; `None` for a bare model file, which has none.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(run: &Path) -> Result<Option<RunSettings>> {
        let Some((options, about)) = Folder(run.to_path_buf()).options()? else { return Ok(None) };
        let about = about.and_then(|table| table.try_into().ok());
        Ok(Some(RunSettings { seed: options.train.seed(), data: options.data, split: options.split, about }))
    }
}

impl Folder {
    /// The options of the run, `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The copy of the list of test rows, `test-list.txt`.
    pub fn test_list(&self) -> PathBuf {
        self.0.join("test-list.txt")
    }

    /// Reads `config.toml`, with the copy of the list of test rows in place of the original. `None` if there is no such
    /// file.
    ///
    /// # Errors
    /// A damaged file.
    pub fn options(&self) -> Result<Option<(RunOptions, Option<toml::Table>)>> {
        if !self.config().exists() {
            return Ok(None);
        }
        let (mut options, about) = RunOptions::read(&self.config())?;
        if options.split.test_list.is_some() && self.test_list().exists() {
            options.split.test_list = Some(self.test_list());
        }
        Ok(Some((options, about)))
    }
}

/// Opens data in the shape that a model takes, read as its run read it, but with `fit`, `augment` and `skip_bad` of
/// `options`. `on_progress(done, total)` counts rows or files.
///
/// # Errors
/// Data that cannot be read, or has rows of another width.
pub fn read_data(
    run: &Path,
    model: &Model,
    spec: &str,
    options: &PartialDataOptions,
    on_progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Dataset> {
    let settings = RunSettings::read(run)?;
    let seed = settings.as_ref().map_or(42, |s| s.seed);
    let mut all = settings.map(|s| s.data).unwrap_or_default();
    if let Some(image) = model.config.image {
        all.size = Some(format!("{}x{}", image.width, image.height));
        all.set_colour(image.channels);
    }
    (all.patch, all.stride) = (None, None);
    if let Some(patches) = model.config.patches {
        all.set_patches(patches);
    }
    all.fit = options.fit.or(all.fit);
    (all.augment, all.skip_bad) = (options.augment, options.skip_bad);
    // Variants of an evaluation do not depend on an epoch.
    all.augment_each_epoch = None;
    let data = Dataset::open(spec, &all.load_options(seed)?, on_progress)?;
    check_width(run, model, data.dim())?;
    Ok(data)
}
