//! What every loader hands over: rows with names and classes, and the options it was asked with. No model, no split.

use super::block::Block;
use super::patches::PatchSize;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The picture behind a row: values are channel-planar, `row[(c * height + y) * width + x]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
}

impl ImageShape {
    /// Values a row: channels × height × width.
    pub fn dim(&self) -> usize {
        self.channels * self.height * self.width
    }
}

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
    /// 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::Rgb => 3,
        }
    }
}

/// How a picture of another aspect ratio is brought to the wanted size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The largest centred part of the right aspect ratio.
    #[default]
    Crop,
    /// All of it, centred on a border of its mean edge colour.
    Pad,
    /// All of it, distorted.
    Stretch,
}

/// What a 16-bit (or floating-point) value of 1 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// The largest value found in the whole data set becomes 1 (microscopes often use 12 of 16 bits).
    #[default]
    Auto,
    /// The format's largest value (65535) becomes 1.
    Full,
}

/// What a loader is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// Width and height in pixels; `None`: chosen from the pictures.
    pub size: Option<(usize, usize)>,
    /// `None`: grey if every picture is grey.
    pub channels: Option<Channels>,
    /// Aspect ratio.
    pub fit: Fit,
    /// Scale of 16-bit values.
    pub range: Range,
    /// Augmented variants a picture (0 = none).
    pub augment: usize,
    /// Draw the variants anew in each epoch instead of once.
    pub augment_each_epoch: bool,
    /// Seed of the augmentation.
    pub seed: u64,
    /// Leave out files that cannot be read, instead of failing, and list them.
    pub skip_bad: bool,
    /// Rows are patches of the pictures.
    pub patches: Option<PatchSize>,
}

/// A file that was left out (`--skip-bad`), and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The one-line error it would have been.
    pub reason: String,
}

/// A picture kept in memory at working size, for augmentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Channels and size.
    pub shape: ImageShape,
    /// Channel-planar values in [0, 1].
    pub data: Vec<f32>,
}

/// How the rows are named: the name is the row's identity, by which it is split into training and test.
#[derive(Clone, Debug)]
pub enum Names {
    /// One name a row (images: the path relative to the folder, with `/`; pages of a stack: `path#page`, from 0).
    Listed(Vec<String>),
    /// `block.origin` + `:` + row within the block (arrays).
    ByBlock,
}

/// Rows as loaded, originals only.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The rows, in order; all blocks have the same `dim`.
    pub blocks: Vec<Block>,
    /// Set where rows are pictures.
    pub shape: Option<ImageShape>,
    /// Names.
    pub names: Names,
    /// Class names, sorted (numbers by value); empty = no classes.
    pub classes: Vec<String>,
    /// One a row, into `classes`; empty = no classes.
    pub labels: Vec<u16>,
    /// idx folders: rows from this one on are the test set, the others the training set, nothing else is withheld.
    pub test_from: Option<usize>,
    /// What `skip_bad` left out.
    pub skipped: Vec<Skipped>,
    /// `augment > 0` and not each epoch: the variants, `augment` rows for each original, in order.
    pub variants: Option<Block>,
    /// `augment_each_epoch`: one working picture for each original.
    pub pictures: Vec<Picture>,
}

/// Progress of a load: rows (or files) done, and of how many.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);
