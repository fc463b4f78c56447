//! All options of a run: reading data, dividing rows, model and training. Each is defined once, here, with its
//! documentation, default and range; `config.toml`, flags, `--help` and docs/options.md are derived from it.
//!
//! A partial struct ([`PartialTrainOptions`]) has a value where one was given; [`resolve`] fills in the rest from
//! [`DataFacts`](crate::facts::DataFacts). Sources merge as tables: [`RunOptions::over`].

mod check;
mod data;
mod define;
mod document;
mod inherit;
mod matryoshka;
mod resolve;
mod values;

pub use define::{Kind, OptionInfo};
pub use document::markdown;
pub use matryoshka::Matryoshka;
pub use resolve::{MOST_LATENTS, resolve};

use crate::activation::Activation;
use crate::data::rows::{Fit, ValueRange};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::Loss;
use crate::optim::{Optimizer, Schedule};
use define::{is_default, options, resolved_options};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

options! {
    /// Options of reading a data set.
    pub struct PartialDataOptions;
    "Data" {
        /// Image size in pixels, such as 28, or 96x64 (width x height).
        #[default = "the size of the images up to 64x64, else 64"] #[range = "1 to 16384 pixels a side"]
        size: String = "PIXELS", common;
        /// Read images as grey.
        #[default = "grey if all images are"] #[range = "a flag; not with `rgb`"]
        gray: bool = "BOOL";
        /// Read images as colour.
        #[default = "colour if any image is"] #[range = "a flag; not with `gray`"]
        rgb: bool = "BOOL";
        /// Fit of images with another aspect ratio: crop (the largest centred part), pad (with the mean edge colour) or
        /// stretch.
        #[default = "crop"] #[range = "crop, pad, stretch"]
        fit: Fit = "HOW";
        /// Divisor of 16-bit values: the largest value in the data (auto) or 65535 (full).
        #[default = "auto"] #[range = "auto, full"]
        range: ValueRange = "RANGE";
        /// Augmented variants of each image (rotated, flipped, shifted, …).
        #[default = "0"] #[range = "0 to 10000"]
        augment: usize = "N", common;
        /// Generate new augmented variants in every epoch.
        #[default = "false"] #[range = "a flag"]
        augment_each_epoch: bool = "BOOL";
        /// Leave out files that cannot be read, and list them.
        #[default = "false"] #[range = "a flag"]
        skip_bad: bool = "BOOL";
        /// Learn features of patches of this size in pixels, such as 8, or 8x6 (width x height). Features are shared by all
        /// positions of an image (a convolutional model).
        #[default = "whole images"] #[range = "1 to 16384 pixels a side"]
        patch: String = "PIXELS", common;
        /// Pixels from one patch to the next, such as 4, or 4x3 (across x down). Overlapping patches are averaged.
        #[default = "half the patch"] #[range = "1 pixel to the size of the patch"]
        stride: String = "PIXELS";
    }
}

options! {
    /// Options of dividing rows into training and test rows.
    pub struct PartialSplitOptions;
    "Test rows" {
        /// Fraction of rows that are test rows, selected by a hash of the row name.
        #[default = "0.1"] #[range = "0 to below 1"]
        test_fraction: f64 = "FRACTION", common;
        /// File with the names of the test rows, one relative path a line.
        #[default = "none; `test_fraction` is used"] #[range = "a text file"]
        test_list: PathBuf = "FILE";
        /// Regular expression with one capture group, such as '(mouse\d+)_': rows whose captured text is equal are never split
        /// between training and test rows.
        #[default = "each row by itself"] #[range = "a regular expression that matches row names"]
        group: String = "REGEX", common;
        /// Number of folds for cross-validation. One model is also trained for each fold and evaluated on it; the results are
        /// pooled.
        #[default = "none"] #[range = "2 to the number of rows or groups"]
        folds: usize = "N";
    }
}

options! {
    /// The initial model, and checkpoints.
    pub struct SessionOptions;
    "Run" {
        /// Run or model file with the initial weights (fine-tuning, transfer). Architecture, image size and channels are
        /// taken from it.
        #[default = "none"] #[range = "a run folder or model file"]
        from: PathBuf = "RUN";
        /// Steps between full checkpoints.
        #[default = "about one a minute, fewer if writing is slow; with `keep`, every tenth of the run, but at least 100 steps apart"] #[range = "1 or more"]
        checkpoint_every: u64 = "STEPS";
        /// Number of earlier checkpoints whose weights are kept in addition to the last.
        #[default = "0"] #[range = "0 or more"]
        keep: usize = "N";
    }
}

resolved_options! {
    /// Options of model and training, where given; [`resolve`] chooses the rest.
    pub struct PartialTrainOptions;
    /// Options of model and training, resolved: every value that decides what is learned.
    pub struct TrainOptions;
    "Model" {
        /// Function that selects the active latents of a row: topk, batchtopk, relu, jumprelu, gated or sigmoid.
        #[default = "topk; with `matryoshka` batchtopk"] #[range = "topk, batchtopk, relu, jumprelu, gated, sigmoid"]
        activation: Activation => Activation = "NAME", common;
        /// Number of latents, H.
        #[default = "√(rows · columns), 64 to 16384; of patches 2 · columns, at least 256"] #[range = "1 or more"]
        latents: usize => usize = "H", common;
        /// Active latents per row: exactly (topk), on average (batchtopk), or as the target of a penalty (all others).
        #[default = "1.5 √H, at most H/4; of patches columns/16"] #[range = "1 to H"]
        k: usize => usize = "K", common;
        /// Use the encoder rows, scaled to unit length, as the decoder.
        #[default = "false"] #[range = "a flag"]
        tied: bool => bool = "BOOL", common;
        /// Apply no ReLU after topk: selected values may be negative.
        #[default = "false"] #[range = "a flag"]
        raw_topk: bool => bool = "BOOL";
        /// Train without a decoder bias (b_dec = 0).
        #[default = "false"] #[range = "a flag"]
        no_decoder_bias: bool => bool = "BOOL";
        /// Do not constrain decoder directions to unit length.
        #[default = "true for sigmoid, else false"] #[range = "a flag"]
        #[serde(default, skip_serializing_if = "is_default")]
        free_decoder: bool => bool = "BOOL";
        /// Lengths of Matryoshka prefixes, such as 64,256; random:10 for 10 random prefixes; or off.
        #[default = "off"] #[range = "off, ascending lengths up to H, or random:2 to random:H"]
        #[serde(default, skip_serializing_if = "is_default")]
        matryoshka: Matryoshka => Matryoshka = "LENGTHS";
        /// Initial weights: auto, orthogonal, kaiming, pca or data.
        #[default = "orthogonal; auto for small data sets"] #[range = "auto, orthogonal, kaiming, pca, data"]
        init: Init => Init = "NAME";
    }
    "Ensemble" {
        /// Number of SAEs in the ensemble; all are trained in one pass over the data.
        #[default = "1"] #[range = "1 or more"]
        saes: usize => usize = "N", common;
        /// Weight of the consistency loss, which makes the members learn similar features.
        #[default = "0"] #[range = "0 or more"]
        consistency: f64 => f64 = "LAMBDA";
    }
    "Schedule" {
        /// Passes over the data.
        #[default = "300,000 / rows, 5 to 100; of patches 1,000,000 / rows, 1 to 100, at most 10,000 steps"] #[range = "1 or more"]
        epochs: u64 => u64 = "N", common;
        /// Number of steps, in place of `epochs`; 0 writes the initial model.
        #[default = "none; `epochs` is used"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        steps: u64 => Option<u64> = "N", common;
        /// Rows per step.
        #[default = "rows/256 as a power of two, 32 to 1024"] #[range = "1 to 1048576"]
        batch: usize => usize = "ROWS", common;
        /// Learning rate.
        #[default = "0.11/√columns; scaled down for small data sets (docs/defaults.md)"] #[range = "above 0"]
        lr: f64 => f64 = "RATE", common;
        /// Course of the learning rate: constant, linear-decay or cosine.
        #[default = "linear-decay"] #[range = "constant, linear-decay, cosine"]
        schedule: Schedule => Schedule = "NAME";
        /// Warm-up steps, over which the learning rate rises linearly from 0.
        #[default = "a twentieth of all steps, at most 1000"] #[range = "0 or more"]
        warmup: u64 => u64 = "STEPS";
        /// Number of active latents at the first step; it falls to `k` linearly within `k_anneal` steps.
        #[default = "8 k where the L1 weight is adjusted, else k"] #[range = "k to H"]
        #[serde(default, skip_serializing_if = "is_default")]
        k_start: usize => Option<usize> = "K";
        /// Steps in which the number of active latents falls from `k_start` to `k`.
        #[default = "a fifth of all steps"] #[range = "1 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        k_anneal: u64 => u64 = "STEPS";
        /// Stop after this many epochs without a better validation fvu, and keep the best weights; 0 turns it off.
        #[default = "10 for small data sets if `lr` is not given, else off"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        early_stop: u64 => Option<u64> = "EPOCHS";
        /// Take the rows in file order.
        #[default = "false"] #[range = "a flag"]
        no_shuffle: bool => bool = "BOOL";
        /// Random seed.
        #[default = "42"] #[range = "0 to 9223372036854775807"]
        seed: u64 => u64 = "SEED", common;
    }
    "Optimiser" {
        /// Optimiser: adam, or sparse-adam (updates only latents that are active in the batch).
        #[default = "adam"] #[range = "adam, sparse-adam"]
        optimizer: Optimizer => Optimizer = "NAME";
        /// Adam's β2, the decay of the second moment.
        #[default = "0.99; 0.999, as in PyTorch, if `optimizer` is given"] #[range = "0 to below 1"]
        beta2: f64 => f64 = "BETA2";
        /// Decoupled weight decay.
        #[default = "0"] #[range = "0 or more"]
        weight_decay: f64 => f64 = "RATE";
    }
    "Loss and penalties" {
        /// Reconstruction loss: squared-error, or cross-entropy (for values from 0 to 1).
        #[default = "squared-error"] #[range = "squared-error, cross-entropy"]
        #[serde(default, skip_serializing_if = "is_default")]
        loss: Loss => Loss = "NAME";
        /// Weight λ of the L1 penalty.
        #[default = "relu and gated: adjusted until k latents are active; else 0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        l1: f64 => Option<f64> = "LAMBDA";
        /// Weight λ of jumprelu's penalty (L0/k - 1)², in units of a squared error.
        #[default = "jumprelu: the variance of a row; else 0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        l0: f64 => f64 = "LAMBDA";
        /// Weight β of sigmoid's KL penalty towards a mean activation of k/H, in units of a squared error.
        #[default = "sigmoid: variance/(3k); else 0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        kl: f64 => f64 = "BETA";
        /// Width ε of the window around each jumprelu threshold in which its straight-through gradient is not zero, in units
        /// of the data.
        #[default = "jumprelu: 0.1 √(variance/k)"] #[range = "above 0"]
        #[serde(default, skip_serializing_if = "is_default")]
        bandwidth: f64 => f64 = "WIDTH";
        /// Images: weight λ of a perceptual distance (edges and shades) added to the squared error, such as 0.1.
        #[default = "0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        perceptual: f64 => f64 = "LAMBDA";
    }
    "Dead latents" {
        /// Weight of the AuxK loss, in which dead latents reconstruct the residual; 0 turns it off.
        #[default = "1/32; sigmoid and cross-entropy 0"] #[range = "0 or more"]
        auxk: f64 => f64 = "COEF";
        /// Number of dead latents per row in the AuxK loss.
        #[default = "half the columns, at most H/4 and 256"] #[range = "1 to H"]
        k_aux: usize => usize = "N";
        /// Number of rows after which a latent that was active for none of them counts as dead in training.
        #[default = "50 H/k"] #[range = "0 or more"]
        dead_after: u64 => u64 = "ROWS";
        /// Resample latents that contribute nothing, from the rows with the largest residual, after every 5 % of training up
        /// to 75 %.
        #[default = "false"] #[range = "a flag"]
        #[serde(default, skip_serializing_if = "is_default")]
        reinforce: bool => bool = "BOOL";
    }
    "Denoising" {
        /// Standard deviation of Gaussian noise on the input, in standard deviations of the data.
        #[default = "0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        noise: f64 => f64 = "SIGMA";
        /// Probability of setting an input value to 0; the other values are scaled by 1/(1 - p).
        #[default = "0"] #[range = "0 to below 1"]
        #[serde(default, skip_serializing_if = "is_default")]
        dropout: f64 => f64 = "P";
    }
}

/// All options of a run that a file or a caller can give: the keys of `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunOptions {
    /// Reading data.
    #[serde(flatten)]
    pub data: PartialDataOptions,
    /// Dividing rows.
    #[serde(flatten)]
    pub split: PartialSplitOptions,
    /// Model and training.
    #[serde(flatten)]
    pub train: PartialTrainOptions,
    /// Start and checkpoints.
    #[serde(flatten)]
    pub session: SessionOptions,
}

/// Alternatives: when options merge, a value for one of a pair discards the other.
const ALTERNATIVES: [[&str; 2]; 2] = [["steps", "epochs"], ["gray", "rgb"]];

impl RunOptions {
    /// Every option, in order of groups.
    pub fn options() -> impl Iterator<Item = &'static OptionInfo> {
        let split = PartialSplitOptions::OPTIONS.iter().chain(SessionOptions::OPTIONS);
        PartialTrainOptions::OPTIONS.iter().chain(PartialDataOptions::OPTIONS).chain(split)
    }

    /// The option of this field name, such as `k_aux`.
    pub fn option(name: &str) -> Option<&'static OptionInfo> {
        RunOptions::options().find(|o| o.name == name)
    }

    /// The given options as a table with the keys of `config.toml`.
    pub fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("plain data")
    }

    /// Returns these options, with missing values taken from `other`.
    pub fn over(&self, other: &RunOptions) -> RunOptions {
        let (own, mut merged) = (self.to_table(), other.to_table());
        for pair in ALTERNATIVES.iter().filter(|pair| pair.iter().any(|key| own.contains_key(*key))) {
            pair.iter().for_each(|key| drop(merged.remove(*key)));
        }
        merged.extend(own);
        merged.try_into().expect("options as they were")
    }

    /// Sets an option from the text of its value, and discards its alternative.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown name or an invalid value.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let Some(option) = RunOptions::option(name) else {
            let names: Vec<&str> = RunOptions::options().map(|o| o.name).collect();
            return Err(Error::option(
                name,
                "the name of an option",
                "an unknown name",
                format!("use one of {}", names.join(", ")),
            ));
        };
        let table = toml::Table::from_iter([(option.key(), option.parse(text)?)]);
        let one: RunOptions = table.try_into().map_err(|_| option.refuse(text))?;
        *self = one.over(self);
        Ok(())
    }

    /// Reads options from a TOML file. Returns them with the table `about`, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or a value of another type, with its line.
    pub fn read(path: &Path) -> Result<(RunOptions, Option<toml::Table>)> {
        let text = std::fs::read_to_string(path).map_err(Error::io(
            path,
            "read the options",
            "give a file such as the config.toml of a run",
        ))?;
        let remedy = "its keys are the options of docs/options.md";
        let failed = |e: toml::de::Error| {
            let line = e.span().map_or(String::new(), |s| format!("line {}: ", text[..s.start].lines().count().max(1)));
            Error::file(path, format!("{line}{}", e.message().replace('\n', " ")), remedy)
        };
        let table: toml::Table = toml::from_str(&text).map_err(failed)?;
        let known = |key: &str| key == "about" || RunOptions::options().any(|o| o.key() == key);
        if let Some(key) = table.keys().find(|k| !known(k)) {
            return Err(Error::file(path, format!("unknown key {key}"), remedy));
        }
        let about = table.get("about").and_then(|v| v.as_table().cloned());
        Ok((toml::from_str(&text).map_err(failed)?, about))
    }
}

impl TrainOptions {
    /// Returns all options as given, so that a run with them repeats this one.
    pub fn to_partial(&self) -> PartialTrainOptions {
        let table = toml::Table::try_from(self).expect("plain data");
        let mut partial: PartialTrainOptions = table.try_into().expect("the same options");
        partial.epochs = partial.epochs.filter(|_| self.steps.is_none());
        partial.early_stop = Some(self.early_stop.unwrap_or(0));
        partial
    }
}
