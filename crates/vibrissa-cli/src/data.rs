//! Options that say how data is read, shared by the commands.

use crate::{show, train};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::Path;
use vibrissa::data::Dataset;
use vibrissa::data::rows::{Channels, Fit, LoadOptions, ValueRange};
use vibrissa::format::Model;
use vibrissa::shape::PatchGrid;
use vibrissa::train::check_width;
use vibrissa::{Error, Result};

/// How data is read; the keys of `config.toml` are the same.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DataArgs {
    /// Picture size, e.g. 28 or 96x64 (width x height) [default: as they are up to 64x64, else 64]
    #[arg(long, value_name = "PIXELS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Grey pictures [default: grey if all are]
    #[arg(long, conflicts_with = "rgb")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gray: bool,
    /// Colour pictures
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rgb: bool,
    /// Bring other aspect ratios to the size by: crop, pad or stretch [default: crop]
    #[arg(long, value_name = "HOW", value_parser = parse_named::<Fit>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// 16-bit values are divided by the largest one found (auto) or by 65535 (full) [default: auto]
    #[arg(long, value_name = "RANGE", value_parser = parse_named::<ValueRange>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<ValueRange>,
    /// Augmented variants for each picture (rotated, flipped, shifted, ...) [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<usize>,
    /// Leave out files that cannot be read, and list them
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad: bool,
    /// Learn features of patches of so many pixels, e.g. 8 or 8x6 (width x height), the same ones everywhere in a picture
    /// (convolutional) [default: whole pictures]
    #[arg(long, value_name = "PIXELS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// Pixels from one patch to the next, e.g. 4 or 4x3 (across x down); where patches overlap, their mean is taken
    /// [default: half the patch]
    #[arg(long, value_name = "PIXELS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<String>,
}

/// Most augmented variants of one picture.
const MOST_VARIANTS: usize = 10_000;

impl DataArgs {
    /// These, and where they say nothing, `other`.
    pub fn or(self, other: DataArgs) -> DataArgs {
        let colour = self.gray || self.rgb;
        DataArgs {
            size: self.size.or(other.size),
            gray: self.gray || (!colour && other.gray),
            rgb: self.rgb || (!colour && other.rgb),
            fit: self.fit.or(other.fit),
            range: self.range.or(other.range),
            augment: self.augment.or(other.augment),
            skip_bad: self.skip_bad || other.skip_bad,
            patch: self.patch.or(other.patch),
            stride: self.stride.or(other.stride),
        }
    }

    /// Patches as asked for; whether they fit is known when the pictures are.
    fn patches(&self) -> Result<Option<PatchGrid>> {
        let example = |option: &'static str| {
            move |e: &str| Error::option(option, SIDES, e, format!("e.g. {option} 8 or {option} 8x6"))
        };
        let Some(patch) = &self.patch else {
            return match &self.stride {
                Some(stride) => Err(Error::option("--stride", "patches to be so far apart", stride, "add --patch 8")),
                None => Ok(None),
            };
        };
        let (width, height) = sides(patch, 0).ok_or_else(|| example("--patch")(patch))?;
        let half = PatchGrid::half_overlapping(height, width);
        Ok(Some(match &self.stride {
            Some(stride) => {
                let (across, down) = sides(stride, 0).ok_or_else(|| example("--stride")(stride))?;
                PatchGrid { stride: [down, across], ..half }
            }
            None => half,
        }))
    }

    /// Says these patches.
    pub fn set_patches(&mut self, size: PatchGrid) {
        let PatchGrid { height, width, stride: [down, across] } = size;
        (self.patch, self.stride) = (Some(spelled(width, height)), Some(spelled(across, down)));
    }

    /// For the library.
    pub fn options(&self, seed: u64) -> Result<LoadOptions> {
        let augment = self.augment.unwrap_or(0);
        if augment > MOST_VARIANTS {
            return Err(Error::option("--augment", format!("0 to {MOST_VARIANTS}"), augment, "5 is usual"));
        }
        Ok(LoadOptions {
            size: self.size.as_deref().map(parse_size).transpose()?,
            channels: match (self.gray, self.rgb) {
                (true, _) => Some(Channels::Gray),
                (_, true) => Some(Channels::Rgb),
                _ => None,
            },
            fit: self.fit.unwrap_or_default(),
            range: self.range.unwrap_or_default(),
            augment,
            augment_each_epoch: false,
            seed,
            skip_bad: self.skip_bad,
            patches: self.patches()?,
        })
    }
}

/// A lower-case name of an enum, as serde knows it.
pub fn parse_named<T: for<'de> Deserialize<'de>>(text: &str) -> std::result::Result<T, String> {
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text)).map_err(|e| e.to_string())
}

const SIDES: &str = "1 to 16384 pixels a side";

/// `8` or `8x6` as (8, 8) or (8, 6), each from `least` to 16384.
fn sides(text: &str, least: usize) -> Option<(usize, usize)> {
    let parse = |s: &str| s.trim().parse::<usize>().ok().filter(|n| (least..=16384).contains(n));
    match text.split_once(['x', 'X', '×']) {
        Some((w, h)) => parse(w).zip(parse(h)),
        None => parse(text).map(|n| (n, n)),
    }
}

/// The reverse of [`sides`].
fn spelled(width: usize, height: usize) -> String {
    if width == height { width.to_string() } else { format!("{width}x{height}") }
}

fn parse_size(text: &str) -> Result<(usize, usize)> {
    sides(text, 1).ok_or_else(|| Error::option("--size", SIDES, text, "e.g. --size 28 or --size 96x64"))
}

/// Opens data in the shape that a model takes, read as its run read it but for `--fit`, `--augment` and `--skip-bad`,
/// which are the caller's.
pub fn read_data(run: &Path, model: &Model, spec: &str, how: DataArgs) -> Result<Dataset> {
    let settings = train::settings(run)?;
    let mut args = settings.as_ref().map(|s| s.data.clone()).unwrap_or_default();
    if let Some(p) = model.config.image {
        args.size = Some(format!("{}x{}", p.width, p.height));
        (args.gray, args.rgb) = (p.channels == 1, p.channels == 3);
    }
    (args.patch, args.stride) = (None, None);
    if let Some(size) = patch_size(model) {
        args.set_patches(size);
    }
    let args = DataArgs { fit: how.fit.or(args.fit), augment: how.augment, skip_bad: how.skip_bad, ..args };
    let data = open(spec, &args.options(settings.as_ref().map_or(42, |s| s.seed))?)?;
    check_width(run, model, data.dim())?;
    Ok(data)
}

/// The patches that a model was trained on.
pub fn patch_size(model: &Model) -> Option<PatchGrid> {
    model.config.patches
}

/// Opens a data set, with a progress bar, and lists what was skipped.
pub fn open(spec: &str, options: &LoadOptions) -> Result<Dataset> {
    let bar = show::Bar::new("reading");
    let data = Dataset::open(spec, options, &|done, total| bar.set(done, total));
    bar.finish();
    let data = data?;
    for skipped in data.skipped() {
        eprintln!("skipped: {}", skipped.reason.trim_end_matches("; remove it or set `skip_bad`"));
    }
    if !data.skipped().is_empty() {
        eprintln!("{} skipped", show::plural(data.skipped().len(), "file"));
    }
    Ok(data)
}
