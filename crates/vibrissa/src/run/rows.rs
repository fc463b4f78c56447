//! The rows of a run: trained on, held out, and used to choose.

use crate::data::Dataset;
use crate::data::split::{self, Split};
use crate::error::Result;

/// The rows of a run, as row numbers of its data set.
#[derive(Clone, Debug, Default)]
pub struct RunRows {
    /// Training rows, augmented variants included.
    pub train: Vec<usize>,
    /// Test rows (held out): never used but to measure.
    pub test: Vec<usize>,
    /// Validation rows, taken from the training side, for early stopping, thresholds and choosing between models.
    pub validation: Vec<usize>,
}

impl RunRows {
    /// Returns the rows of a split. `validation_share` of the training side become validation rows, none without it.
    ///
    /// # Errors
    /// A `group` that is not a regular expression, or matches no row.
    pub fn new(data: &Dataset, split: &Split, validation_share: Option<f64>, group: Option<&str>) -> Result<RunRows> {
        let (train, validation) = match validation_share {
            Some(share) => split::validation(data, split, share, group)?,
            None => (split.train.clone(), Vec::new()),
        };
        Ok(RunRows {
            train: data.with_variants(&train),
            test: data.without_variants(&split.test),
            validation: data.without_variants(&validation),
        })
    }

    /// The rows that thresholds are calibrated on: the validation rows, or without any the training rows.
    pub fn for_calibration(&self) -> &[usize] {
        if self.validation.is_empty() { &self.train } else { &self.validation }
    }

    /// The rows that models are compared on: the test rows, or without any the validation rows.
    pub fn for_comparison(&self) -> &[usize] {
        if self.test.is_empty() { &self.validation } else { &self.test }
    }
}

/// Most test rows that are evaluated during training.
const MONITORED_ROWS: usize = 256;
/// Most test patches that are evaluated during training, but those of [`MONITORED_IMAGES`] whole images in any case.
const MONITORED_PATCHES: usize = 4096;
const MONITORED_IMAGES: usize = 16;

/// Returns the test rows that are evaluated during training, spread evenly over all of them and so over all classes. Where
/// rows are patches, all patches of an image or none.
pub fn monitored_rows(data: &Dataset, test: &[usize]) -> Vec<usize> {
    let most = match data.patches() {
        Some(p) => (MONITORED_PATCHES / p.patches_per_image()).max(MONITORED_IMAGES),
        None => MONITORED_ROWS,
    };
    data.evenly_spaced_images(test, most.min(MONITORED_ROWS))
}
