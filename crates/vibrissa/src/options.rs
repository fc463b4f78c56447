//! All options of a run: reading data, dividing rows, model and training. Each is defined once, here, with its
//! documentation, default and range; `config.toml`, flags, Python arguments, `--help` and docs/options.md are derived from it.
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
        /// Change of images of another aspect ratio: crop (the largest centred part), pad (with the mean edge colour) or
        /// stretch.
        #[default = "crop"] #[range = "crop, pad, stretch"]
        fit: Fit = "HOW";
        /// Divisor of 16-bit values: the largest value found (auto) or 65535 (full).
        #[default = "auto"] #[range = "auto, full"]
        range: ValueRange = "RANGE";
        /// Augmented variants of each image (rotated, flipped, shifted, …).
        #[default = "0"] #[range = "0 to 10000"]
        augment: usize = "N", common;
        /// Generate the augmented variants anew in each epoch.
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
        /// Share of rows that are test rows, by a hash of each row's name.
        #[default = "0.1"] #[range = "0 to below 1"]
        test_fraction: f64 = "SHARE", common;
        /// File with the names of the test rows, one relative path a line.
        #[default = "none: test_fraction decides"] #[range = "a text file"]
        test_list: PathBuf = "FILE";
        /// Regular expression: rows whose names have the same captured group are on one side, such as '(mouse\d+)_'.
        #[default = "each row by itself"] #[range = "a regular expression that matches row names"]
        group: String = "REGEX", common;
        /// Number of folds for cross-validation: a model is also trained for each fold, and their test figures are pooled.
        #[default = "none"] #[range = "2 to the number of rows or groups"]
        folds: usize = "N";
    }
}

options! {
    /// Options of a run that do not change what is learned, and the model that training starts from.
    pub struct SessionOptions;
    "Run" {
        /// Run or model file with the initial weights (fine-tuning, transfer). Architecture, image size and channels are
        /// taken from it.
        #[default = "none"] #[range = "a run folder or model file"]
        from: PathBuf = "RUN";
        /// Steps between full checkpoints.
        #[default = "one a minute, fewer if writing takes long; with `keep` a tenth of the run, at least 100"] #[range = "1 or more"]
        checkpoint_every: u64 = "STEPS";
        /// Number of earlier checkpoints whose weights are kept beside the last.
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
        /// Tie the decoder to the encoder: its rows are the encoder's, scaled to unit length.
        #[default = "false"] #[range = "a flag"]
        tied: bool => bool = "BOOL", common;
        /// Keep negative values among the k largest (topk without ReLU).
        #[default = "false"] #[range = "a flag"]
        raw_topk: bool => bool = "BOOL";
        /// Train without decoder bias; nothing is subtracted from the input either.
        #[default = "false"] #[range = "a flag"]
        no_decoder_bias: bool => bool = "BOOL";
        /// Let decoder directions have any length, not only 1.
        #[default = "true for sigmoid, else false"] #[range = "a flag"]
        #[serde(default, skip_serializing_if = "is_default")]
        free_decoder: bool => bool = "BOOL";
        /// Matryoshka prefixes: lengths of groups of leading latents that reconstruct by themselves, such as 64,256, or
        /// random:10, or off.
        #[default = "off"] #[range = "off, ascending lengths up to H, or random:2 to random:H"]
        #[serde(default, skip_serializing_if = "is_default")]
        matryoshka: Matryoshka => Matryoshka = "LENGTHS";
        /// Initial weights: auto, orthogonal, kaiming, pca or data.
        #[default = "orthogonal; auto where rows are few"] #[range = "auto, orthogonal, kaiming, pca, data"]
        init: Init => Init = "NAME";
    }
    "Ensemble" {
        /// Number of SAEs in the ensemble; all are trained in one pass over the data.
        #[default = "1"] #[range = "1 or more"]
        saes: usize => usize = "N", common;
        /// Weight of the consistency loss, which draws the features of the members together.
        #[default = "0"] #[range = "0 or more"]
        consistency: f64 => f64 = "LAMBDA";
    }
    "Schedule" {
        /// Passes over the data.
        #[default = "300,000 / rows, 5 to 100; of patches 1,000,000 / rows, 1 to 100, at most 10,000 steps"] #[range = "1 or more"]
        epochs: u64 => u64 = "N", common;
        /// Number of steps, in place of `epochs`; 0 writes the initial model.
        #[default = "none: `epochs` decides"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        steps: u64 => Option<u64> = "N", common;
        /// Rows per step.
        #[default = "rows/256 as a power of two, 32 to 1024"] #[range = "1 to 1048576"]
        batch: usize => usize = "ROWS", common;
        /// Learning rate.
        #[default = "0.11/√columns; where rows are few 0.028 · share/√columns"] #[range = "above 0"]
        lr: f64 => f64 = "RATE", common;
        /// Course of the learning rate: constant, linear-decay or cosine.
        #[default = "linear-decay"] #[range = "constant, linear-decay, cosine"]
        schedule: Schedule => Schedule = "NAME";
        /// Steps in which the learning rate rises from 0.
        #[default = "a twentieth of all steps, at most 1000"] #[range = "0 or more"]
        warmup: u64 => u64 = "STEPS";
        /// Number of active latents at the first step; it falls to `k` linearly within `k_anneal` steps.
        #[default = "k; where the L1 penalty is steered 8 k"] #[range = "k to H"]
        #[serde(default, skip_serializing_if = "is_default")]
        k_start: usize => Option<usize> = "K";
        /// Steps in which the number of active latents falls from `k_start` to `k`.
        #[default = "a fifth of all steps"] #[range = "1 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        k_anneal: u64 => u64 = "STEPS";
        /// Epochs without a better validation fvu after which training stops; the best weights are kept. 0 turns it off.
        #[default = "10 where rows are few and `lr` is not given, else off"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        early_stop: u64 => Option<u64> = "EPOCHS";
        /// Take the rows in file order.
        #[default = "false"] #[range = "a flag"]
        no_shuffle: bool => bool = "BOOL";
        /// Seed of all random numbers.
        #[default = "42"] #[range = "0 to 9223372036854775807"]
        seed: u64 => u64 = "SEED", common;
    }
    "Optimiser" {
        /// Optimiser: adam, or sparse-adam (moves only latents that were active).
        #[default = "adam"] #[range = "adam, sparse-adam"]
        optimizer: Optimizer => Optimizer = "NAME";
        /// Adam's β2, the decay of the second moment.
        #[default = "0.99; 0.999 where `optimizer` is given"] #[range = "0 to below 1"]
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
        #[default = "relu and gated: steered until k latents are active; else 0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        l1: f64 => Option<f64> = "LAMBDA";
        /// Weight λ of jumprelu's penalty (L0/k - 1)², in units of a squared error.
        #[default = "jumprelu: the variance of a row; else 0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        l0: f64 => f64 = "LAMBDA";
        /// Weight β of sigmoid's KL penalty towards a mean activation of k/H, in units of a squared error.
        #[default = "sigmoid: variance/3k; else 0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        kl: f64 => f64 = "BETA";
        /// Width ε around jumprelu's thresholds in which they learn (straight-through estimates), in units of the data.
        #[default = "jumprelu: 0.1 √(variance/k)"] #[range = "above 0"]
        #[serde(default, skip_serializing_if = "is_default")]
        bandwidth: f64 => f64 = "WIDTH";
        /// Images: weight λ of a perceptual distance (edges and shades) beside the squared error, such as 0.1.
        #[default = "0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        perceptual: f64 => f64 = "LAMBDA";
    }
    "Dead latents" {
        /// Weight of the AuxK loss, by which dead latents explain the residual. 0 turns it off.
        #[default = "1/32; sigmoid and cross-entropy 0"] #[range = "0 or more"]
        auxk: f64 => f64 = "COEF";
        /// Number of dead latents per row in the AuxK loss.
        #[default = "half the columns, at most H/4 and 256"] #[range = "1 to H"]
        k_aux: usize => usize = "N";
        /// Rows without activation after which a latent counts as dead in training.
        #[default = "50 H/k"] #[range = "0 or more"]
        dead_after: u64 => u64 = "ROWS";
        /// Resample latents that contribute nothing, where the residual is largest, every twentieth part of training.
        #[default = "false"] #[range = "a flag"]
        #[serde(default, skip_serializing_if = "is_default")]
        reinforce: bool => bool = "BOOL";
    }
    "Denoising" {
        /// Standard deviation of Gaussian noise on the input, in standard deviations of the data.
        #[default = "0"] #[range = "0 or more"]
        #[serde(default, skip_serializing_if = "is_default")]
        noise: f64 => f64 = "SIGMA";
        /// Probability that a value of the input is set to 0; the others grow to make up for it.
        #[default = "0"] #[range = "0 to below 1"]
        #[serde(default, skip_serializing_if = "is_default")]
        dropout: f64 => f64 = "SHARE";
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

/// Options of which one replaces the other when tables merge: a flag for one hides the file's other.
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

    /// These options, and where they are silent those of `other`.
    pub fn over(&self, other: &RunOptions) -> RunOptions {
        let (own, mut merged) = (self.to_table(), other.to_table());
        for pair in ALTERNATIVES.iter().filter(|pair| pair.iter().any(|key| own.contains_key(*key))) {
            pair.iter().for_each(|key| drop(merged.remove(*key)));
        }
        merged.extend(own);
        merged.try_into().expect("options as they were")
    }

    /// Sets an option from the text of its value. An alternative of it that was given is dropped.
    ///
    /// # Errors
    /// [`Error::Option`] for a name that is no option, or a value that it does not take.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let Some(option) = RunOptions::option(name) else {
            let names: Vec<&str> = RunOptions::options().map(|o| o.name).collect();
            return Err(Error::option(
                name,
                "an option",
                "no option of that name",
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
    /// All options as given ones, so that a run with them repeats this one.
    pub fn to_partial(&self) -> PartialTrainOptions {
        let table = toml::Table::try_from(self).expect("plain data");
        let mut partial: PartialTrainOptions = table.try_into().expect("the same options");
        partial.epochs = partial.epochs.filter(|_| self.steps.is_none());
        partial.early_stop = Some(self.early_stop.unwrap_or(0));
        partial
    }
}
