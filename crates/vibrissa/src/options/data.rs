//! Options of reading and dividing data, in the form that `vibrissa-data` takes.

use super::values::{SIDES, format_sides, parse_sides};
use super::{PartialDataOptions, PartialSplitOptions};
use crate::data::Dataset;
use crate::data::rows::{Channels, LoadOptions};
use crate::data::split::{self, Split, SplitOptions};
use crate::error::{Error, Result};
use crate::shape::PatchGrid;

/// Most augmented variants of one image.
const MOST_VARIANTS: usize = 10_000;

impl PartialDataOptions {
    /// Returns the options of a loader. `seed` is that of the augmentation.
    ///
    /// # Errors
    /// [`Error::Option`] for a value out of range.
    pub fn load_options(&self, seed: u64) -> Result<LoadOptions> {
        let augment = self.augment.unwrap_or(0);
        if augment > MOST_VARIANTS {
            return Err(Error::option("augment", format!("0 to {MOST_VARIANTS}"), augment, "5 is usual"));
        }
        let (gray, rgb) = (self.gray == Some(true), self.rgb == Some(true));
        if gray && rgb {
            return Err(Error::option("gray", "no `rgb` beside it", "both", "leave one of them out"));
        }
        let size = |text: &str| {
            parse_sides(text, 1).ok_or_else(|| Error::option("size", SIDES, text, "e.g. `size 28` or `size 96x64`"))
        };
        Ok(LoadOptions {
            size: self.size.as_deref().map(size).transpose()?,
            channels: if gray { Some(Channels::Gray) } else { rgb.then_some(Channels::Rgb) },
            fit: self.fit.unwrap_or_default(),
            range: self.range.unwrap_or_default(),
            augment,
            augment_each_epoch: self.augment_each_epoch.unwrap_or(false),
            seed,
            skip_bad: self.skip_bad.unwrap_or(false),
            patches: self.patches()?,
        })
    }

    /// The patches as given; whether they fit is known only with the images.
    fn patches(&self) -> Result<Option<PatchGrid>> {
        let parse = |option: &str, text: &str| {
            let remedy = format!("e.g. `{option} 8` or `{option} 8x6`");
            parse_sides(text, 0).ok_or_else(|| Error::option(option, SIDES, text, remedy))
        };
        let Some(patch) = &self.patch else {
            return match &self.stride {
                Some(stride) => Err(Error::option("stride", "patches to space out", stride, "add `patch 8`")),
                None => Ok(None),
            };
        };
        let (width, height) = parse("patch", patch)?;
        let half = PatchGrid::half_overlapping(height, width);
        let Some(stride) = &self.stride else { return Ok(Some(half)) };
        let (across, down) = parse("stride", stride)?;
        Ok(Some(PatchGrid { stride: [down, across], ..half }))
    }

    /// Sets size and spacing of patches.
    pub fn set_patches(&mut self, patches: PatchGrid) {
        let PatchGrid { height, width, stride: [down, across] } = patches;
        (self.patch, self.stride) = (Some(format_sides(width, height)), Some(format_sides(across, down)));
    }

    /// Sets the colour of images: 1 channel is grey, 3 are colour.
    pub fn set_colour(&mut self, channels: usize) {
        (self.gray, self.rgb) = ((channels == 1).then_some(true), (channels == 3).then_some(true));
    }

    /// These options with the image size, colour and patches that a data set has, so that other data is read in the same
    /// way, and with the default of what a resumed run must not change.
    pub fn as_read(&self, data: &Dataset) -> PartialDataOptions {
        let mut out = self.clone();
        out.augment_each_epoch.get_or_insert(false);
        if let Some(shape) = data.image_shape() {
            out.size = Some(format!("{}x{}", shape.width, shape.height));
            out.set_colour(shape.channels);
        }
        if let Some(patches) = data.patches() {
            out.set_patches(patches.grid());
        }
        out
    }
}

impl PartialSplitOptions {
    /// Divides a data set. With folds, every row that no file holds out is a training row, and there are no test rows.
    ///
    /// # Errors
    /// Those of [`split::split`]; folds together with a list of test rows.
    pub fn divide(&self, data: &Dataset) -> Result<Split> {
        if self.folds.is_some() && self.test_list.is_some() {
            let remedy = "leave one of them out: folds hold out every row once";
            return Err(Error::option("folds", "no `test_list` beside it", "both", remedy));
        }
        if self.folds.is_some() && data.test_from().is_none() {
            return Ok(Split { train: (0..data.originals()).collect(), test: Vec::new() });
        }
        split::split(data, &self.split_options()?)
    }

    /// Returns the options of a split, with the list of test rows read.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub fn split_options(&self) -> Result<SplitOptions> {
        Ok(SplitOptions {
            test_fraction: self.test_fraction.unwrap_or(0.1),
            test_list: self.test_list.as_deref().map(split::read_list).transpose()?,
            group: self.group.clone(),
        })
    }
}
