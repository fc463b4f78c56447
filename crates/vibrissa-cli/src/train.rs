//! `vibrissa train`.

use crate::data::{DataArgs, open, parse_named};
use crate::{eval, memory, pictures, show};
use clap::Args;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use vibrissa::activation::Activation;
use vibrissa::data::Dataset;
use vibrissa::data::split::{self, Split, SplitOptions};
use vibrissa::format::{self, Model, write_atomically};
use vibrissa::kernels::Isa;
use vibrissa::model::init::Init;
use vibrissa::optim::{Optimizer, Schedule};
use vibrissa::record::EvalRecord;
use vibrissa::train::defaults::{Wishes, resolve};
use vibrissa::train::evaluate::{Pool, evaluate};
use vibrissa::train::run::{Begin, Event, Folder, Keep, Outcome, RunRows, train};
use vibrissa::train::{DataFacts, TrainOptions, check_width};
use vibrissa::{Error, Result};

/// Train a sparse autoencoder, or an ensemble of them.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// A folder of images (class = sub-folder), a folder with MNIST's idx files, a .npy, a .safetensors[:tensor], a
    /// folder of such arrays, or synthetic:...
    #[arg(value_name = "DATA")]
    data: String,
    /// Folder for everything this run makes; it must not exist yet, or be empty
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Continue a run that was stopped; starts at 0 where there is nothing to continue
    #[arg(long)]
    resume: bool,
    /// Options from a file (the same keys as the flags, as in RUN/config.toml); flags win
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: FileOptions,
}

/// All options that a configuration file may hold.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct FileOptions {
    #[command(flatten)]
    #[serde(flatten)]
    data: DataArgs,
    #[command(flatten)]
    #[serde(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    #[serde(flatten)]
    train: ModelArgs,
    /// What made the file; ignored when read.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<About>,
}

/// What a run was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct About {
    tool_version: String,
    data: String,
    rows: usize,
    columns: usize,
    classes: Vec<String>,
    training_rows: usize,
    test_rows: usize,
    threads: usize,
    isa: String,
    /// Width, height and channels of the pictures.
    pictures: Option<[usize; 3]>,
}

/// Which rows are held out.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SplitArgs {
    /// Share of the rows held out for testing, by a hash of each row's name [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    test_fraction: Option<f64>,
    /// Test rows by name, one relative path a line
    #[arg(long, value_name = "FILE", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    test_list: Option<PathBuf>,
    /// Rows whose names have the same captured group stay on one side, e.g. '(mouse\d+)_'
    #[arg(long, value_name = "REGEX", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Also train on each of N folds and pool their held-out figures (for small sets)
    #[arg(long, value_name = "N", help_heading = "Test rows")]
    #[serde(skip_serializing_if = "Option::is_none")]
    folds: Option<usize>,
}

impl SplitArgs {
    fn or(self, other: SplitArgs) -> SplitArgs {
        SplitArgs {
            test_fraction: self.test_fraction.or(other.test_fraction),
            test_list: self.test_list.or(other.test_list),
            group: self.group.or(other.group),
            folds: self.folds.or(other.folds),
        }
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
struct ModelArgs {
    /// Activation: topk [default: topk]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Activation>, help_heading = "Model")]
    activation: Option<Activation>,
    /// H, features to learn [default: from rows and columns]
    #[arg(long, value_name = "H", help_heading = "Model")]
    latents: Option<usize>,
    /// Features a row may use [default: from H]
    #[arg(short, value_name = "K", help_heading = "Model")]
    k: Option<usize>,
    /// Decoder = encoder with rows of unit length (else one of its own)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    tied: Option<bool>,
    /// No ReLU after the selection
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    raw_topk: Option<bool>,
    /// No decoder bias, and nothing subtracted from the input
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Model", hide_possible_values = true)]
    no_decoder_bias: Option<bool>,
    /// Members of an ensemble, all trained in one pass over the data [default: 1]
    #[arg(long, value_name = "N", help_heading = "Model")]
    saes: Option<usize>,
    /// Pull the members' features together, with this weight [default: 0]
    #[arg(long, value_name = "LAMBDA", help_heading = "Model")]
    consistency: Option<f64>,
    /// Where weights begin: auto, orthogonal, kaiming, pca or data [default: orthogonal, or auto where rows are few]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Init>, help_heading = "Model")]
    init: Option<Init>,
    /// Begin with the weights of a trained run (fine-tuning, transfer); model, size and channels are its own
    #[arg(long, value_name = "RUN", help_heading = "Model")]
    from: Option<PathBuf>,
    /// Learning rate [default: from rows, columns and H]
    #[arg(long, help_heading = "Training", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Course of the learning rate: constant, linear-decay or cosine [default: linear-decay]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Schedule>, help_heading = "Training")]
    schedule: Option<Schedule>,
    /// Steps in which the learning rate rises from 0 [default: a twentieth, at most 1000]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    warmup: Option<u64>,
    /// Rows a step [default: from the number of rows]
    #[arg(long, value_name = "ROWS", help_heading = "Training")]
    batch: Option<usize>,
    /// Passes over the data [default: from the number of rows]
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<u64>,
    /// Steps instead of epochs; 0 writes the model before training
    #[arg(long, value_name = "N", help_heading = "Training", conflicts_with = "epochs")]
    steps: Option<u64>,
    /// adam, or sparse-adam (moves only features that were used) [default: adam]
    #[arg(long, value_name = "NAME", value_parser = parse_named::<Optimizer>, help_heading = "Training")]
    optimizer: Option<Optimizer>,
    /// Adam's beta2 [default: 0.99]
    #[arg(long, help_heading = "Training")]
    beta2: Option<f64>,
    /// Decoupled weight decay [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    weight_decay: Option<f64>,
    /// Weight of the loss that revives dead features, 0 = off [default: 0.03125]
    #[arg(long, value_name = "COEF", help_heading = "Training")]
    auxk: Option<f64>,
    /// Dead features a row that take part in it [default: half the columns, at most H/4 and 256]
    #[arg(long, value_name = "N", help_heading = "Training")]
    k_aux: Option<usize>,
    /// Rows of silence after which a feature counts as dead [default: 50 H/k]
    #[arg(long, value_name = "ROWS", help_heading = "Training")]
    dead_after: Option<u64>,
    /// Stop when validation fvu has not improved for so many epochs; the best weights are kept [default: 10 where rows are few]
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    early_stop: Option<u64>,
    /// Draw the augmented variants anew in each epoch
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Training", hide_possible_values = true)]
    augment_each_epoch: Option<bool>,
    /// Take the rows in file order
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = switch!(), value_name = "BOOL", help_heading = "Training", hide_possible_values = true)]
    no_shuffle: Option<bool>,
    /// Seed of everything that is drawn [default: 42]
    #[arg(long, help_heading = "Training")]
    seed: Option<u64>,
    /// Steps between checkpoints [default: a tenth of the run, at least 100]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    checkpoint_every: Option<u64>,
    /// Weights of so many earlier checkpoints are kept beside the last [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    keep: Option<usize>,
}

impl ModelArgs {
    fn or(self, o: ModelArgs) -> ModelArgs {
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
            saes: self.saes.or(o.saes),
            consistency: self.consistency.or(o.consistency),
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
    fn wishes(&self, from: Option<&Model>) -> Result<Wishes> {
        let mut wishes = Wishes {
            latents: self.latents,
            k: self.k,
            tied: self.tied,
            raw_topk: self.raw_topk,
            no_decoder_bias: self.no_decoder_bias,
            saes: self.saes,
            consistency: self.consistency,
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
            same("--latents", text(self.latents), own.sae.latents.to_string())?;
            same("-k", text(self.k), own.sae.k.to_string())?;
            same("--saes", text(self.saes), own.saes.to_string())?;
            same("--tied", flag(self.tied), own.sae.tied.to_string())?;
            same("--raw-topk", flag(self.raw_topk), (!own.sae.relu_after).to_string())?;
            same("--no-decoder-bias", flag(self.no_decoder_bias), (!own.sae.decoder_bias).to_string())?;
            wishes.latents = Some(own.sae.latents);
            wishes.k = Some(own.sae.k);
            wishes.saes = Some(own.saes);
            wishes.tied = Some(own.sae.tied);
            wishes.raw_topk = Some(!own.sae.relu_after);
            wishes.no_decoder_bias = Some(!own.sae.decoder_bias);
        }
        Ok(wishes)
    }

    fn resolved(&self, o: &TrainOptions) -> ModelArgs {
        ModelArgs {
            activation: Some(o.activation),
            latents: Some(o.latents),
            k: Some(o.k),
            tied: Some(o.tied),
            raw_topk: Some(o.raw_topk),
            no_decoder_bias: Some(o.no_decoder_bias),
            saes: Some(o.saes),
            consistency: Some(o.consistency),
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
            early_stop: o.early_stop,
            augment_each_epoch: Some(self.augment_each_epoch.unwrap_or(false)),
            no_shuffle: Some(o.no_shuffle),
            seed: Some(o.seed),
            checkpoint_every: self.checkpoint_every,
            keep: self.keep,
        }
    }
}

impl FileOptions {
    fn or(self, other: FileOptions) -> FileOptions {
        FileOptions {
            data: self.data.or(other.data),
            split: self.split.or(other.split),
            train: self.train.or(other.train),
            about: None,
        }
    }

    fn read(path: &Path) -> Result<FileOptions> {
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
    pub trained_on: Option<String>,
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
        trained_on: options.about.map(|a| a.data),
        seed: options.train.seed.unwrap_or(42),
    }))
}

/// Ctrl-C sets the flag; a second one ends the program at once.
fn interrupt() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let _ = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
    flag
}

/// Trains.
pub fn run(args: TrainArgs) -> Result<ExitCode> {
    let stop = interrupt();
    let folder = Folder(args.out.clone());
    let mut options = args.options;
    if let Some(path) = &args.config {
        options = options.or(FileOptions::read(path)?);
    }
    if args.resume {
        if folder.model().exists() {
            eprintln!("{} has ended: nothing to resume", folder.0.display());
            return Ok(ExitCode::SUCCESS);
        }
        let config = folder.0.join("config.toml");
        if config.exists() {
            options = options.or(FileOptions::read(&config)?);
        }
    } else if folder.in_use() {
        return Err(Error::file(&folder.0, "exists already and is kept as it is", "choose another --out, or --resume"));
    }
    let from = options.train.from.as_deref().map(format::read_model).transpose()?;
    if let Some(pictures) = from.as_ref().and_then(|m| m.config.pictures) {
        let size = format!("{}x{}", pictures.width, pictures.height);
        if let Some(wish) = options.data.size.as_ref().filter(|&s| *s != size && format!("{s}x{s}") != size) {
            return Err(Error::option("--size", format!("{size}, as in the model of --from"), wish, "leave it out"));
        }
        let gray = pictures.channels == 1;
        if (gray && options.data.rgb) || (!gray && options.data.gray) {
            let has = if gray { "--gray" } else { "--rgb" };
            return Err(Error::option(
                "colour",
                format!("{has}, as in the model of --from"),
                "the other",
                "leave it out",
            ));
        }
        options.data.size = Some(size);
        (options.data.gray, options.data.rgb) = (gray, !gray);
    }
    let wishes = options.train.wishes(from.as_ref())?;
    early_check(&wishes)?;
    let mut load = options.data.options(wishes.seed.unwrap_or(42))?;
    load.augment_each_epoch = options.train.augment_each_epoch.unwrap_or(false);
    let mut data = open(&args.data, &load)?;
    let split_options = options.split.options()?;
    let split = match options.split.folds {
        Some(_) => Split { train: (0..data.originals()).collect(), test: Vec::new() },
        None => split::split(&data, &split_options)?,
    };
    let mut rows = run_rows(&data, &split, wishes.early_stop.is_some());
    let mut facts = DataFacts::gather(&mut data, &rows.train);
    let resolved = resolve(&wishes, &facts);
    if resolved.early_stop.is_some() && wishes.early_stop.is_none() {
        data.set_scale(1.0);
        rows = run_rows(&data, &split, true);
        facts = DataFacts::gather(&mut data, &rows.train);
    }
    resolved.check()?;
    resolved.model(facts.dim).check()?;
    if let (Some(model), Some(path)) = (&from, &options.train.from) {
        check_width(path, model, facts.dim)?;
    }
    describe(&args.data, &data, &rows, &resolved, &wishes);
    warn_small(&data, &split, options.split.folds);

    // Whatever can still be refused is refused before anything is written.
    let folds_of = |n| split::folds(&data, n, options.split.group.as_deref());
    let each_fold = options.split.folds.map(folds_of).transpose()?;
    memory::check(&resolved, facts.dim)?;
    let config_path = folder.0.join("config.toml");
    let begun = args.resume && config_path.exists() && (folder.last().exists() || folder.0.join("folds").exists());
    folder.create()?;
    let about = About {
        tool_version: env!("CARGO_PKG_VERSION").into(),
        data: args.data.clone(),
        rows: data.originals(),
        columns: data.dim(),
        classes: data.classes().to_vec(),
        training_rows: rows.train.len(),
        test_rows: rows.test.len(),
        threads: rayon::current_num_threads(),
        isa: Isa::current().name().into(),
        pictures: data.shape().map(|s| [s.width, s.height, s.channels]),
    };
    let config = FileOptions {
        data: picture_settings(&options.data, &data),
        split: options.split.clone(),
        train: options.train.resolved(&resolved),
        about: Some(about),
    };
    let text = toml::to_string(&config).expect("plain data");
    // A run that has begun keeps its config.toml: with other options its checkpoint is refused, and they are needed then.
    if !begun {
        write_atomically(&config_path, |out| out.write_all(text.as_bytes()))?;
    }
    if let Some(list) = split_options.test_list.as_ref().filter(|_| !begun) {
        write_atomically(&folder.0.join("test-list.txt"), |out| list.iter().try_for_each(|l| writeln!(out, "{l}")))?;
    }

    let keep = Keep { checkpoint_every: options.train.checkpoint_every, history: options.train.keep.unwrap_or(0) };
    let mut folds = None;
    if let Some(each) = each_fold {
        let Some(pool) = train_folds(&folder, &data, each, &resolved, from.as_ref(), keep, &stop)? else {
            return Ok(interrupted());
        };
        folds = Some(pool);
    }
    let begin = match (args.resume, from) {
        (true, _) if folder.last().exists() => Begin::Resume,
        (_, Some(model)) => Begin::From(model.saes),
        (true, None) => Begin::Resume,
        _ => Begin::Fresh,
    };
    let mut screen = Screen::new("training", args.resume, stop.clone());
    let scale = facts.scale;
    let mean: Vec<f32> = facts.mean.iter().map(|m| m / scale).collect();
    let outcome = train(&folder, &data, rows.clone(), facts, resolved, keep, begin, &mut |e| screen.hear(e));
    screen.finish();
    let saes = match outcome? {
        Outcome::Finished(saes) => saes,
        Outcome::Interrupted(step) => {
            eprintln!("stopped at step {step}; continue with the same command and --resume");
            return Ok(interrupted());
        }
    };

    data.set_scale(1.0);
    let refs: Vec<&_> = saes.iter().collect();
    let bar = show::Bar::new("evaluating");
    let figures = |rows: &[usize]| evaluate(&refs, &mean, &data, rows, true, &mut |d, t| bar.set(d, t)).record();
    let held_out = !rows.test.is_empty();
    let looked_at = if held_out { &rows.test } else { &rows.train };
    let mut record = figures(looked_at);
    bar.finish();
    record.data = Some(args.data.clone());
    record.split = Some(if held_out { "test" } else { "train" }.into());
    write_record(&folder, "eval.json", &record)?;
    eprint!("{}", eval::report(&record));
    if let Some(mut pooled) = folds {
        pooled.data = Some(args.data.clone());
        pooled.split = Some("folds".into());
        write_record(&folder, "eval-folds.json", &pooled)?;
        eprintln!("\npooled over the held-out rows of {} folds:", options.split.folds.unwrap_or(0));
        eprint!("{}", eval::report(&pooled));
    }
    pictures::write(&folder.0, &saes, &data, looked_at)?;
    eprintln!("\n{}", folder.0.display());
    Ok(ExitCode::SUCCESS)
}

fn interrupted() -> ExitCode {
    ExitCode::from(130)
}

fn write_record(folder: &Folder, name: &str, record: &EvalRecord) -> Result<()> {
    let json = serde_json::to_string_pretty(record).expect("plain data");
    write_atomically(&folder.0.join(name), |out| writeln!(out, "{json}"))
}

/// Options that are wrong whatever the data, before it is read.
fn early_check(wishes: &Wishes) -> Result<()> {
    let nothing = DataFacts { rows: 1 << 20, dim: 64, mean: vec![0.0; 64], spread: 1.0, scale: 1.0 };
    let options = resolve(wishes, &nothing);
    options.check()?;
    options.model(nothing.dim).check()
}

fn run_rows(data: &Dataset, split: &Split, early_stop: bool) -> RunRows {
    let (train, validation) =
        if early_stop { split::validation(data, split, 0.1) } else { (split.train.clone(), Vec::new()) };
    RunRows {
        train: data.with_variants(&train),
        test: data.without_variants(&split.test),
        validation: data.without_variants(&validation),
    }
}

/// Size and colour as they came out, so that an evaluation reads data in the same way.
fn picture_settings(args: &DataArgs, data: &Dataset) -> DataArgs {
    let mut out = args.clone();
    if let Some(shape) = data.shape() {
        out.size = Some(format!("{}x{}", shape.width, shape.height));
        (out.gray, out.rgb) = (shape.channels == 1, shape.channels == 3);
    }
    out
}

/// Trains on each fold and pools the held-out figures; `None` when interrupted.
fn train_folds(
    folder: &Folder,
    data: &Dataset,
    folds: Vec<Split>,
    options: &TrainOptions,
    from: Option<&Model>,
    keep: Keep,
    stop: &Arc<AtomicBool>,
) -> Result<Option<EvalRecord>> {
    let mut pool: Option<Pool> = None;
    for (f, split) in folds.iter().enumerate() {
        let mut own = data.clone();
        own.set_scale(1.0);
        let rows = run_rows(&own, split, options.early_stop.is_some());
        let facts = DataFacts::gather(&mut own, &rows.train);
        let mean: Vec<f32> = facts.mean.iter().map(|m| m / facts.scale).collect();
        let sub = Folder(folder.0.join(format!("folds/{f}")));
        sub.create()?;
        let begin = match from {
            _ if sub.last().exists() => Begin::Resume,
            Some(model) => Begin::From(model.saes.clone()),
            None => Begin::Fresh,
        };
        let saes = if sub.model().exists() {
            format::read_model(&sub.0)?.saes
        } else {
            let mut screen = Screen::new("fold", false, stop.clone());
            let outcome = train(&sub, &own, rows.clone(), facts, options.clone(), keep, begin, &mut |e| screen.hear(e));
            screen.finish();
            match outcome? {
                Outcome::Finished(saes) => saes,
                Outcome::Interrupted(_) => return Ok(None),
            }
        };
        own.set_scale(1.0);
        let refs: Vec<&_> = saes.iter().collect();
        let part = evaluate(&refs, &mean, &own, &rows.test, true, &mut |_, _| ());
        match &mut pool {
            Some(pool) => pool.merge(&part),
            None => pool = Some(part),
        }
    }
    Ok(pool.map(|p| {
        let mut record = p.record();
        for sae in &mut record.saes {
            // Each fold has latents of its own: counts over all of them mean nothing.
            (sae.scores.dead_latents, sae.scores.rare_latents, sae.scores.density) = (None, None, None);
            for (_, class) in &mut sae.by_class.0 {
                (class.scores.dead_latents, class.scores.rare_latents, class.scores.density) = (None, None, None);
            }
        }
        record
    }))
}

fn describe(spec: &str, data: &Dataset, rows: &RunRows, o: &TrainOptions, wishes: &Wishes) {
    let what = match data.shape() {
        Some(s) => format!("{}×{} {} pictures", s.width, s.height, if s.channels == 1 { "grey" } else { "colour" }),
        None => format!("rows of {} values", show::count(data.dim())),
    };
    let classes = match data.classes().len() {
        0 => String::new(),
        n => format!(", {n} classes"),
    };
    let copies = if data.copies() > 1 { format!(" with {} variants each", data.copies() - 1) } else { String::new() };
    eprintln!("{spec}: {} {what}{copies}{classes}", show::count(data.originals()));
    let mut parts =
        format!("{} rows to train on, {} held out", show::count(rows.train.len()), show::count(rows.test.len()));
    if !rows.validation.is_empty() {
        parts += &format!(", {} for early stopping", show::count(rows.validation.len()));
    }
    eprintln!("{parts}");
    let chosen = |wish: bool| if wish { "" } else { " (chosen)" };
    eprintln!(
        "{} TopK SAE{} · {} latents{} · k {}{} · lr {}{} · batch {}{} · {}",
        o.saes,
        if o.saes == 1 { "" } else { "s" },
        show::count(o.latents),
        chosen(wishes.latents.is_some()),
        o.k,
        chosen(wishes.k.is_some()),
        o.lr,
        chosen(wishes.lr.is_some()),
        o.batch,
        chosen(wishes.batch.is_some()),
        match o.steps {
            Some(steps) => format!("{} steps", show::count(steps as usize)),
            None => format!("{} epochs{}", o.epochs, chosen(wishes.epochs.is_some())),
        }
    );
}

/// Fewer test rows in a class than this are warned of.
const FEW: usize = 5;

fn warn_small(data: &Dataset, split: &Split, folds: Option<usize>) {
    if folds.is_some() {
        return;
    }
    if split.test.is_empty() {
        eprintln!("warning: no row is held out; figures are of the training rows (use --test-fraction or --folds 5)");
        return;
    }
    for (c, name) in data.classes().iter().enumerate() {
        let n = split.test.iter().filter(|&&i| data.label(i * data.copies()) == Some(c as u16)).count();
        if n < FEW {
            eprintln!("warning: class {name} has only {n} test rows; --folds 5 gives figures over all rows");
        }
    }
    if data.classes().is_empty() && split.test.len() < FEW {
        eprintln!("warning: only {} test rows; --folds 5 gives figures over all rows", split.test.len());
    }
}

/// The progress of a training run on the terminal.
struct Screen {
    what: &'static str,
    resume: bool,
    stop: Arc<AtomicBool>,
    started: Instant,
    bar: Option<ProgressBar>,
    loss: f64,
    rows_per_s: f64,
    pearson: Option<f64>,
}

impl Screen {
    fn new(what: &'static str, resume: bool, stop: Arc<AtomicBool>) -> Screen {
        let started = Instant::now();
        Screen { what, resume, stop, started, bar: None, loss: 0.0, rows_per_s: 0.0, pearson: None }
    }

    fn hear(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Started { step, steps } => {
                if self.resume {
                    eprintln!("resumed at step {step}");
                }
                let bar = show::styled(steps, self.what);
                bar.set_position(step);
                bar.reset_eta();
                self.bar = Some(bar);
            }
            Event::Step(report) => {
                self.loss = report.losses.iter().map(|l| l.recon).sum::<f64>() / report.losses.len() as f64;
                self.rows_per_s = report.rows as f64 / report.step_s;
                if let Some(bar) = &self.bar {
                    bar.set_position(report.step + 1);
                    if bar.elapsed().as_millis() > 100 {
                        bar.set_message(self.message());
                    }
                }
            }
            Event::Line(line) => {
                let all: Vec<f64> = line.saes.iter().filter_map(|s| s.pearson).collect();
                self.pearson = (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64);
            }
            Event::Stopped { best_epoch, fvu } => {
                let text = format!("stopped early: the best validation fvu, {fvu:.4}, was that of epoch {best_epoch}");
                match &self.bar {
                    Some(bar) => bar.suspend(|| eprintln!("{text}")),
                    None => eprintln!("{text}"),
                }
            }
        }
        if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn message(&self) -> String {
        let rate = show::count(self.rows_per_s as usize);
        let pearson = self.pearson.map_or(String::new(), |p| format!(" · held-out r {p:.4}"));
        format!("{rate} rows/s · loss {:.4}{pearson}", self.loss)
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        eprintln!("{} took {}", self.what, show::seconds(self.started.elapsed().as_secs_f64()));
    }
}
