//! What `vibrissa train` can be told: flags, `config.toml` with the same keys, and a model to begin with.

use crate::data::{DataArgs, parse_named};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use vibrissa::activation::Activation;
use vibrissa::data::Dataset;
use vibrissa::data::split::{self, Split, SplitOptions};
use vibrissa::format::Model;
use vibrissa::init::Init;
use vibrissa::loss::Loss;
use vibrissa::model::Output;
use vibrissa::optim::{Optimizer, Schedule};
use vibrissa::train::TrainOptions;
use vibrissa::train::defaults::Wishes;
use vibrissa::train::matryoshka::Matryoshka;
use vibrissa::{Error, Result};

/// Train a sparse autoencoder, or an ensemble of them.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// A folder of images (class = sub-folder), a folder with MNIST's idx files, a .npy, a .safetensors[:tensor], a
    /// folder of such arrays, or synthetic:...
    #[arg(value_name = "DATA")]
    pub data: String,
    /// Folder for everything this run makes; it must not exist yet, or be empty
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Continue a run that was stopped; starts at 0 where there is nothing to continue
    #[arg(long)]
    pub resume: bool,
    /// Options from a file (the same keys as the flags, as in RUN/config.toml); flags win
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub options: FileOptions,
}

/// All options that a configuration file may hold.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FileOptions {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub split: SplitArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub train: ModelArgs,
    /// What made the file; ignored when read.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
}

/// What a run was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct About {
    pub tool_version: String,
    pub data: String,
    pub rows: usize,
    pub columns: usize,
    pub classes: Vec<String>,
    pub training_rows: usize,
    pub test_rows: usize,
    pub threads: usize,
    pub isa: String,
    /// Hash of the names of all rows: other names are other data.
    #[serde(default)]
    pub names: String,
    /// Width, height and channels of the pictures.
    pub pictures: Option<[usize; 3]>,
}

/// Which rows are held out.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SplitArgs {
    /// Share of the rows held out for testing, by a hash of each row's name [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_fraction: Option<f64>,
    /// Test rows by name, one relative path a line
    #[arg(long, value_name = "FILE", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_list: Option<PathBuf>,
    /// Rows whose names have the same captured group stay on one side, e.g. '(mouse\d+)_'
    #[arg(long, value_name = "REGEX", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Also train on each of N folds and pool their held-out figures (for small sets)
    #[arg(long, value_name = "N", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<usize>,
}

impl SplitArgs {
    pub fn or(self, other: SplitArgs) -> SplitArgs {
        SplitArgs {
            test_fraction: self.test_fraction.or(other.test_fraction),
            test_list: self.test_list.or(other.test_list),
            group: self.group.or(other.group),
            folds: self.folds.or(other.folds),
        }
    }

    /// Divides a data set. With folds every row that no file holds out is trained on, and none is left to test.
    pub fn divide(&self, data: &Dataset) -> Result<Split> {
        if self.folds.is_some() && self.test_list.is_some() {
            let remedy = "leave one of them out: folds hold out every row once";
            return Err(Error::option("--folds", "no --test-list beside it", "both", remedy));
        }
        if self.folds.is_some() && data.test_from().is_none() {
            return Ok(Split { train: (0..data.originals()).collect(), test: Vec::new() });
        }
        split::split(data, &self.options()?)
    }

    /// For the library.
    pub fn options(&self) -> Result<SplitOptions> {
        Ok(SplitOptions {
            test_fraction: self.test_fraction.unwrap_or(0.1),
            test_list: self.test_list.as_deref().map(split::read_list).transpose()?,
            group: self.group.clone(),
        })
    }
}

macro_rules! switch {
    () => {
        "true"
    };
}

/// The model and its training.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ModelArgs {
    /// Which features a row uses: topk, batchtopk, relu, jumprelu, gated or sigmoid [default: topk]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Activation>, help_heading = "Model")]
    pub activation: Option<Activation>,
    /// H, features to learn [default: from rows and columns]
    #[arg(long, value_name = "H", help_heading = "Model")]
    pub latents: Option<usize>,
    /// Features a row uses: exactly (topk), in the mean (batchtopk), or what training steers to [default: from H]
    #[arg(short, value_name = "K", help_heading = "Model")]
    pub k: Option<usize>,
    /// Decoder = encoder with rows of unit length (else one of its own)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    pub tied: Option<bool>,
    /// No ReLU after the selection
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    pub raw_topk: Option<bool>,
    /// No decoder bias, and nothing subtracted from the input
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    pub no_decoder_bias: Option<bool>,
    /// Rows of the decoder may have any length (else 1) [default: of sigmoid only]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    pub free_decoder: Option<bool>,
    /// Lengths of groups of features that reconstruct by themselves, such as 64,256, or random:10, or off [default: off]
    #[arg(long, value_name = "LENGTHS", value_parser = parse_named::<Matryoshka>, help_heading = "Model")]
    pub matryoshka: Option<Matryoshka>,
    /// Members of an ensemble, all trained in one pass over the data [default: 1]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub saes: Option<usize>,
    /// Pull the members' features together, with this weight [default: 0]
    #[arg(long, value_name = "LAMBDA", help_heading = "Model")]
    pub consistency: Option<f64>,
    /// Features that contribute nothing begin again where the residual is largest, every twentieth part of training
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    pub reinforce: Option<bool>,
    /// Where weights begin: auto, orthogonal, kaiming, pca or data [default: orthogonal, or auto where rows are few]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Init>, help_heading = "Model")]
    pub init: Option<Init>,
    /// Begin with the weights of a trained run (fine-tuning, transfer); model, size and channels are its own
    #[arg(long, value_name = "RUN", help_heading = "Model")]
    pub from: Option<PathBuf>,
    /// Learning rate [default: from rows, columns and H]
    #[arg(long, help_heading = "Training", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Course of the learning rate: constant, linear-decay or cosine [default: linear-decay]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Schedule>, help_heading = "Training")]
    pub schedule: Option<Schedule>,
    /// Steps in which the learning rate rises from 0 [default: a twentieth, at most 1000]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub warmup: Option<u64>,
    /// Rows a step [default: from the number of rows]
    #[arg(long, value_name = "ROWS", help_heading = "Training")]
    pub batch: Option<usize>,
    /// Passes over the data [default: from the number of rows]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub epochs: Option<u64>,
    /// Steps instead of epochs; 0 writes the model before training
    #[arg(long, value_name = "N", help_heading = "Training", conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// adam, or sparse-adam (moves only features that were used) [default: adam]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Optimizer>, help_heading = "Training")]
    pub optimizer: Option<Optimizer>,
    /// Adam's beta2 [default: 0.99]
    #[arg(long, help_heading = "Training")]
    pub beta2: Option<f64>,
    /// Decoupled weight decay [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    pub weight_decay: Option<f64>,
    /// squared-error, or cross-entropy (values from 0 to 1) [default: squared-error]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Loss>, help_heading = "Training")]
    pub loss: Option<Loss>,
    /// Weight of the L1 penalty [default: relu and gated: steered until -k features are active; else 0]
    #[arg(long, value_name = "LAMBDA", help_heading = "Training", allow_negative_numbers = true)]
    pub l1: Option<f64>,
    /// Weight of the L0 penalty (L0/k - 1)^2 of jumprelu [default: the variance of a row]
    #[arg(long, value_name = "LAMBDA", help_heading = "Training", allow_negative_numbers = true)]
    pub l0: Option<f64>,
    /// Weight of the KL penalty of sigmoid towards a mean activation of k/H [default: variance/3k]
    #[arg(long, value_name = "BETA", help_heading = "Training", allow_negative_numbers = true)]
    pub kl: Option<f64>,
    /// Width around jumprelu's thresholds in which they learn [default: 0.1 sqrt(variance/k)]
    #[arg(long, value_name = "WIDTH", help_heading = "Training", allow_negative_numbers = true)]
    pub bandwidth: Option<f64>,
    /// Begin with so many active features a row, fall to -k [default: k; where the L1 penalty is steered 8 k]
    #[arg(long, value_name = "K", help_heading = "Training")]
    pub k_start: Option<usize>,
    /// Steps of that [default: a fifth]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub k_anneal: Option<u64>,
    /// Pictures: weight of a perceptual distance (edges and shades) beside the squared error, such as 0.1 [default: 0]
    #[arg(long, value_name = "LAMBDA", help_heading = "Training", allow_negative_numbers = true)]
    pub perceptual: Option<f64>,
    /// Denoising: Gaussian noise on the input, in standard deviations of the data [default: 0]
    #[arg(long, value_name = "SIGMA", help_heading = "Training", allow_negative_numbers = true)]
    pub noise: Option<f64>,
    /// Denoising: share of the input's values that are set to 0 [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = "Training", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// Weight of the loss that revives dead features, 0 = off [default: 0.03125]
    #[arg(long, value_name = "COEF", help_heading = "Training")]
    pub auxk: Option<f64>,
    /// Dead features a row that take part in it [default: half the columns, at most H/4 and 256]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub k_aux: Option<usize>,
    /// Rows of silence after which a feature counts as dead [default: 50 H/k]
    #[arg(long, value_name = "ROWS", help_heading = "Training")]
    pub dead_after: Option<u64>,
    /// Stop when validation fvu has not improved for so many epochs; the best weights are kept; 0 = off [default: 10 where rows are few and --lr is not given]
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    pub early_stop: Option<u64>,
    /// Draw the augmented variants anew in each epoch
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Training", hide_possible_values = true)]
    pub augment_each_epoch: Option<bool>,
    /// Take the rows in file order
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Training", hide_possible_values = true)]
    pub no_shuffle: Option<bool>,
    /// Seed of everything that is drawn [default: 42]
    #[arg(long, help_heading = "Training")]
    pub seed: Option<u64>,
    /// Steps between checkpoints [default: one a minute, fewer where writing takes long; with --keep a tenth of the run,
    /// at least 100]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub checkpoint_every: Option<u64>,
    /// Weights of so many earlier checkpoints are kept beside the last [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub keep: Option<usize>,
}

impl ModelArgs {
    pub fn or(self, o: ModelArgs) -> ModelArgs {
        // Steps and epochs are two ways to say one thing: a flag for one hides the file's other.
        let (epochs, steps) = match (self.epochs, self.steps) {
            (None, None) => (o.epochs, o.steps),
            own => own,
        };
        ModelArgs {
            activation: self.activation.or(o.activation),
            latents: self.latents.or(o.latents),
            k: self.k.or(o.k),
            tied: self.tied.or(o.tied),
            raw_topk: self.raw_topk.or(o.raw_topk),
            no_decoder_bias: self.no_decoder_bias.or(o.no_decoder_bias),
            free_decoder: self.free_decoder.or(o.free_decoder),
            loss: self.loss.or(o.loss),
            l1: self.l1.or(o.l1),
            l0: self.l0.or(o.l0),
            kl: self.kl.or(o.kl),
            bandwidth: self.bandwidth.or(o.bandwidth),
            matryoshka: self.matryoshka.or(o.matryoshka),
            k_start: self.k_start.or(o.k_start),
            k_anneal: self.k_anneal.or(o.k_anneal),
            perceptual: self.perceptual.or(o.perceptual),
            noise: self.noise.or(o.noise),
            dropout: self.dropout.or(o.dropout),
            saes: self.saes.or(o.saes),
            consistency: self.consistency.or(o.consistency),
            reinforce: self.reinforce.or(o.reinforce),
            init: self.init.or(o.init),
            from: self.from.or(o.from),
            lr: self.lr.or(o.lr),
            schedule: self.schedule.or(o.schedule),
            warmup: self.warmup.or(o.warmup),
            batch: self.batch.or(o.batch),
            epochs,
            steps,
            optimizer: self.optimizer.or(o.optimizer),
            beta2: self.beta2.or(o.beta2),
            weight_decay: self.weight_decay.or(o.weight_decay),
            auxk: self.auxk.or(o.auxk),
            k_aux: self.k_aux.or(o.k_aux),
            dead_after: self.dead_after.or(o.dead_after),
            early_stop: self.early_stop.or(o.early_stop),
            augment_each_epoch: self.augment_each_epoch.or(o.augment_each_epoch),
            no_shuffle: self.no_shuffle.or(o.no_shuffle),
            seed: self.seed.or(o.seed),
            checkpoint_every: self.checkpoint_every.or(o.checkpoint_every),
            keep: self.keep.or(o.keep),
        }
    }

    /// A model that training starts from decides its own architecture.
    pub fn wishes(&self, from: Option<&Model>) -> Result<Wishes> {
        let mut wishes = Wishes {
            latents: self.latents,
            k: self.k,
            tied: self.tied,
            raw_topk: self.raw_topk,
            no_decoder_bias: self.no_decoder_bias,
            activation: self.activation,
            free_decoder: self.free_decoder,
            loss: self.loss,
            l1: self.l1,
            l0: self.l0,
            kl: self.kl,
            bandwidth: self.bandwidth,
            matryoshka: self.matryoshka.clone(),
            k_start: self.k_start,
            k_anneal: self.k_anneal,
            perceptual: self.perceptual,
            noise: self.noise,
            dropout: self.dropout,
            saes: self.saes,
            consistency: self.consistency,
            reinforce: self.reinforce,
            init: self.init,
            lr: self.lr,
            schedule: self.schedule,
            warmup: self.warmup,
            batch: self.batch,
            epochs: self.epochs,
            steps: self.steps,
            optimizer: self.optimizer,
            beta2: self.beta2,
            weight_decay: self.weight_decay,
            auxk: self.auxk,
            k_aux: self.k_aux,
            dead_after: self.dead_after,
            no_shuffle: self.no_shuffle,
            seed: self.seed,
            early_stop: self.early_stop,
        };
        if let Some(model) = from {
            let own = &model.config;
            let same = |option: &str, wish: Option<String>, has: String| match wish {
                Some(wish) if wish != has => {
                    Err(Error::option(option, format!("{has}, as in the model of --from"), wish, "leave it out"))
                }
                _ => Ok(()),
            };
            let text = |v: Option<usize>| v.map(|v| v.to_string());
            let flag = |v: Option<bool>| v.map(|v| v.to_string());
            same("--activation", self.activation.map(|a| a.name().into()), own.sae.activation.name().into())?;
            same("--free-decoder", flag(self.free_decoder), own.sae.free_decoder.to_string())?;
            let entropy = |l: Loss| if l == Loss::CrossEntropy { "cross-entropy" } else { "squared-error" }.to_owned();
            let has = if own.sae.output == Output::Sigmoid { Loss::CrossEntropy } else { Loss::SquaredError };
            same("--loss", self.loss.map(entropy), entropy(has))?;
            wishes.activation = Some(own.sae.activation);
            wishes.free_decoder = Some(own.sae.free_decoder);
            wishes.loss = Some(has);
            same("--latents", text(self.latents), own.sae.latents.to_string())?;
            same("-k", text(self.k), own.sae.k.to_string())?;
            same("--saes", text(self.saes), own.saes.to_string())?;
            same("--tied", flag(self.tied), own.sae.tied.to_string())?;
            same("--raw-topk", flag(self.raw_topk), (!own.sae.relu_after).to_string())?;
            same("--no-decoder-bias", flag(self.no_decoder_bias), (!own.sae.decoder_bias).to_string())?;
            wishes.latents = Some(own.sae.latents);
            wishes.k = Some(own.sae.k);
            // What it has learnt stays: no beginning with more features.
            let steered = own.sae.activation.steered_by_l1() && self.l1.is_none();
            wishes.k_start = self.k_start.or(steered.then_some(own.sae.k));
            wishes.saes = Some(own.saes);
            wishes.tied = Some(own.sae.tied);
            wishes.raw_topk = Some(!own.sae.relu_after);
            wishes.no_decoder_bias = Some(!own.sae.decoder_bias);
        }
        Ok(wishes)
    }

    pub fn resolved(&self, o: &TrainOptions) -> ModelArgs {
        ModelArgs {
            activation: Some(o.activation),
            latents: Some(o.latents),
            k: Some(o.k),
            tied: Some(o.tied),
            raw_topk: Some(o.raw_topk),
            no_decoder_bias: Some(o.no_decoder_bias),
            free_decoder: Some(o.free_decoder).filter(|f| *f),
            loss: Some(o.loss).filter(|l| *l != Loss::default()),
            l1: o.l1,
            l0: Some(o.l0).filter(|l| *l > 0.0),
            kl: Some(o.kl).filter(|l| *l > 0.0),
            bandwidth: Some(o.bandwidth).filter(|b| *b > 0.0),
            matryoshka: Some(o.matryoshka.clone()).filter(|m| *m != Matryoshka::Off),
            k_start: o.k_start,
            k_anneal: o.k_start.map(|_| o.k_anneal),
            perceptual: Some(o.perceptual).filter(|v| *v > 0.0),
            noise: Some(o.noise).filter(|v| *v > 0.0),
            dropout: Some(o.dropout).filter(|v| *v > 0.0),
            saes: Some(o.saes),
            consistency: Some(o.consistency),
            reinforce: Some(o.reinforce),
            init: Some(o.init),
            from: self.from.clone(),
            lr: Some(o.lr),
            schedule: Some(o.schedule),
            warmup: Some(o.warmup),
            batch: Some(o.batch),
            epochs: o.steps.is_none().then_some(o.epochs),
            steps: o.steps,
            optimizer: Some(o.optimizer),
            beta2: Some(o.beta2),
            weight_decay: Some(o.weight_decay),
            auxk: Some(o.auxk),
            k_aux: Some(o.k_aux),
            dead_after: Some(o.dead_after),
            early_stop: Some(o.early_stop.unwrap_or(0)),
            augment_each_epoch: Some(self.augment_each_epoch.unwrap_or(false)),
            no_shuffle: Some(o.no_shuffle),
            seed: Some(o.seed),
            checkpoint_every: self.checkpoint_every,
            keep: self.keep,
        }
    }
}

impl FileOptions {
    pub fn or(self, other: FileOptions) -> FileOptions {
        FileOptions {
            data: self.data.or(other.data),
            split: self.split.or(other.split),
            train: self.train.or(other.train),
            about: None,
        }
    }

    pub fn read(path: &Path) -> Result<FileOptions> {
        let text = std::fs::read_to_string(path).map_err(Error::io(
            path,
            "read the configuration",
            "give a file such as the config.toml of a run",
        ))?;
        let remedy = "the keys are those of vibrissa train --help, without the dashes";
        let failed = |e: toml::de::Error| {
            let line = e.span().map_or(String::new(), |s| format!("line {}: ", text[..s.start].lines().count().max(1)));
            Error::file(path, format!("{line}{}", e.message().replace('\n', " ")), remedy)
        };
        let table: toml::Table = toml::from_str(&text).map_err(failed)?;
        // serde cannot refuse unknown keys of flattened parts: the flags themselves are the list.
        let flags = FileOptions::augment_args(clap::Command::new("train"));
        let known = |key: &str| {
            key == "about" || flags.get_arguments().any(|a| a.get_long() == Some(key) || a.get_id().as_str() == key)
        };
        if let Some(key) = table.keys().find(|k| !known(k)) {
            return Err(Error::file(path, format!("unknown key {key}"), remedy));
        }
        toml::from_str(&text).map_err(failed)
    }
}

/// How the run of a folder read and divided its data.
pub struct RunSettings {
    /// Reading.
    pub data: DataArgs,
    /// Dividing.
    pub split: SplitArgs,
    /// What it was trained on.
    pub about: Option<About>,
    /// Its seed.
    pub seed: u64,
}

/// Reads `RUN/config.toml`; a bare model file has none.
pub fn settings(run: &Path) -> Result<Option<RunSettings>> {
    let path = run.join("config.toml");
    if !path.exists() {
        return Ok(None);
    }
    let mut options = FileOptions::read(&path)?;
    let list = run.join("test-list.txt");
    if options.split.test_list.is_some() && list.exists() {
        options.split.test_list = Some(list);
    }
    Ok(Some(RunSettings {
        data: options.data,
        split: options.split,
        about: options.about,
        seed: options.train.seed.unwrap_or(42),
    }))
}
