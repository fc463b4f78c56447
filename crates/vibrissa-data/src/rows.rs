//! The result of every loader, rows with names and classes, and the options that it takes. No model, no split.

use crate::block::Block;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use vibrissa_core::shape::{ImageShape, PatchGrid};

/// Colour of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// One channel, ITU-R 601-2 luma.
    Gray,
    /// Three channels.
    Rgb,
}

impl Channels {
    /// Returns the number of channels, 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::Rgb => 3,
        }
    }
}

/// The change of an image of another aspect ratio to the size of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Keeps the largest centred part of the right aspect ratio.
    #[default]
    Crop,
    /// Keeps all of it, centred on a border of its mean edge colour.
    Pad,
    /// Keeps all of it, distorted.
    Stretch,
}

/// The scale of 16-bit and floating-point samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueRange {
    /// The largest value of the whole data set becomes 1 (microscopes often use 12 of 16 bits).
    #[default]
    Auto,
    /// The format's largest value (65535) becomes 1.
    Full,
}

/// Options of a loader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// Width and height in pixels; `None`: chosen from the images.
    pub size: Option<(usize, usize)>,
    /// Colour of the rows; `None`: grey if every image is grey.
    pub channels: Option<Channels>,
    /// Treatment of other aspect ratios.
    pub fit: Fit,
    /// Scale of 16-bit and floating-point samples.
    pub range: ValueRange,
    /// Augmented variants of each image (0 = none).
    pub augment: usize,
    /// True if every epoch makes new variants; otherwise they are made once.
    pub augment_each_epoch: bool,
    /// Seed of the augmentation.
    pub seed: u64,
    /// True if files that cannot be read are left out and listed; otherwise the first one is an error.
    pub skip_bad: bool,
    /// Patches that the images are cut into; `None`: rows are whole images.
    pub patches: Option<PatchGrid>,
}

/// A file that was left out because of [`LoadOptions::skip_bad`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFile {
    /// The file.
    pub path: PathBuf,
    /// The one-line error that it would have been.
    pub reason: String,
}

/// An image in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Channels and size.
    pub shape: ImageShape,
    /// Channel-planar values in [0, 1].
    pub data: Vec<f32>,
}

/// Names of the rows. The name is the identity of a row, by which it is assigned to training or test rows.
#[derive(Clone, Debug)]
pub enum RowNames {
    /// One name for each row: the path of an image relative to the folder, with `/`; pages of a stack are `path#page`,
    /// from 0.
    Listed(Vec<String>),
    /// `block.origin`, `:` and the row within the block (arrays).
    ByBlock,
}

/// Rows as loaded: originals, and the variants of images that were made with them.
#[derive(Clone, Debug)]
pub struct LoadedRows {
    /// The rows, in order; all blocks have the same `dim`.
    pub blocks: Vec<Block>,
    /// Shape of the rows where they are images.
    pub shape: Option<ImageShape>,
    /// Names of the rows.
    pub names: RowNames,
    /// Class names, sorted (numbers by value); empty = no classes.
    pub classes: Vec<String>,
    /// Class of each row, as an index into `classes`; empty = no classes.
    pub labels: Vec<u16>,
    /// First test row where the files themselves are divided into training and test rows (idx folders).
    pub test_from: Option<usize>,
    /// Files that were left out.
    pub skipped: Vec<SkippedFile>,
    /// Variants that are made once: `augment` rows for each original, in order.
    pub variants: Option<Block>,
    /// With [`LoadOptions::augment_each_epoch`]: the image of each original at the size at which variants are made.
    pub working_images: Vec<Image>,
}

/// A callback for the progress of a load: rows or files done, and their total. It is called from any thread.
pub type OnProgress<'a> = &'a (dyn Fn(usize, usize) + Sync);
