//! `vibrissa train`: what it can be told is in `train/options.rs`, what it says in `train/screen.rs`.

mod options;
mod screen;

pub use options::{FileOptions, ModelArgs, SplitArgs, TrainArgs, settings};

use crate::data::{DataArgs, open, patch_size};
use crate::{eval, memory, part, pictures, show};
use options::About;
use screen::{Screen, describe, warn_small, warn_sparsity};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vibrissa::activation::Activation;
use vibrissa::data::Dataset;
use vibrissa::data::split::{self, Split};
use vibrissa::format::{self, Model};
use vibrissa::io::{write_atomically, write_json};
use vibrissa::kernels::Isa;
use vibrissa::loss::Loss;
use vibrissa::metrics;
use vibrissa::record::EvalRecord;
use vibrissa::run::{CheckpointOptions, Folder, RunRows, Start, Training, TrainingOutcome, monitored_rows};
use vibrissa::train::defaults::{MOST_LATENTS, Wishes, resolve};
use vibrissa::train::evaluate::{Pool, evaluate};
use vibrissa::train::{DataFacts, TrainOptions, TrainingSet, check_width};
use vibrissa::{Error, Result};

/// Ctrl-C sets the flag; a second one ends the program at once.
pub fn interrupt() -> Arc<AtomicBool> {
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
    // A run that was killed after its last step still lacks what is made from the model.
    let trained = args.resume && folder.model().exists();
    if args.resume {
        let config = folder.0.join("config.toml");
        if config.exists() {
            options = options.or(FileOptions::read(&config)?);
            let list = folder.0.join("test-list.txt");
            if options.split.test_list.is_some() && list.exists() {
                options.split.test_list = Some(list);
            }
        } else if folder.in_use() {
            let remedy = "choose another --out; a run has a config.toml";
            return Err(Error::file(&folder.0, "is not empty and holds no run to resume", remedy));
        }
        if trained && made_last(&folder, options.split.folds.is_some()).iter().all(|p| p.exists()) {
            refuse_changes(&FileOptions::read(&config)?, &options, &folder)?;
            eprintln!("{} has ended: nothing to resume", folder.0.display());
            return Ok(ExitCode::SUCCESS);
        }
    } else if folder.in_use() {
        return Err(Error::file(&folder.0, "exists already and is kept as it is", "choose another --out, or --resume"));
    }
    // A checkpoint has all that came from the model that training began with.
    let from = match &options.train.from {
        Some(_) if args.resume && (trained || folder.last().exists()) => None,
        path => path.as_deref().map(format::read_model).transpose()?,
    };
    if let Some(model) = &from {
        inherit_pictures(model, &mut options.data)?;
    }
    let wishes = options.train.wishes(from.as_ref())?;
    early_check(&wishes)?;
    let mut load = options.data.options(wishes.seed.unwrap_or(42))?;
    load.augment_each_epoch = options.train.augment_each_epoch.unwrap_or(false);
    let data = open(&args.data, &load)?;
    let split = options.split.divide(&data)?;
    let group = options.split.group.as_deref();
    let early_stop = wishes.early_stop.is_some_and(|p| p > 0);
    let share = |early_stop| held(wishes.activation(), early_stop, split.train.len());
    let mut rows = RunRows::new(&data, &split, share(early_stop), group)?;
    let mut facts = DataFacts::gather(&data, &rows.train, wishes.may_scale());
    let resolved = resolve(&wishes, &facts);
    if resolved.early_stop.is_some() && wishes.early_stop.is_none() {
        rows = RunRows::new(&data, &split, share(true), group)?;
        facts = DataFacts::gather(&data, &rows.train, wishes.may_scale());
    }
    if let (Some(model), Some(path)) = (&from, &options.train.from) {
        check_width(path, model, facts.dim)?;
    }
    describe(&args.data, &data, &rows, &resolved, &wishes);
    warn_small(&data, &split, options.split.folds);

    // Whatever can still be refused is refused before anything is written.
    let folds_of = |n| split::folds(&data, &split.train, n, group);
    let each_fold = options.split.folds.map(folds_of).transpose()?;
    memory::check(&resolved, facts.dim)?;
    let set = TrainingSet { data: &data, rows: rows.train.clone(), facts: facts.clone() };
    vibrissa::train::check(&set, &resolved)?;
    if resolved.loss == Loss::CrossEntropy {
        check_unit(&data, &rows.train)?;
    }
    let config_path = folder.0.join("config.toml");
    let begun =
        args.resume && config_path.exists() && (trained || folder.last().exists() || folder.0.join("folds").exists());
    folder.create()?;
    let _alone = folder.lock()?;
    let config = FileOptions {
        data: picture_settings(&options.data, &data),
        split: options.split.clone(),
        train: options.train.resolved(&resolved),
        about: Some(about(&args.data, &data, &rows)),
    };
    if begun && !trained {
        refuse_changes(&FileOptions::read(&config_path)?, &config, &folder)?;
    }
    let text = toml::to_string(&config).expect("plain data");
    // A run that has begun keeps its config.toml: with other options its checkpoint is refused, and they are needed then.
    if !begun {
        write_atomically(&config_path, |out| out.write_all(text.as_bytes()))?;
    }
    if let Some(list) = options.split.options()?.test_list.filter(|_| !begun) {
        let path = folder.0.join("test-list.txt");
        write_atomically(&path, |out| list.names.iter().try_for_each(|l| writeln!(out, "{l}")))?;
    }

    let keep = CheckpointOptions { every: options.train.checkpoint_every, history: options.train.keep.unwrap_or(0) };
    let mut folds = None;
    if let Some(each) = each_fold {
        let Some(pool) = train_folds(&folder, &data, each, group, &resolved, from.as_ref(), keep, &stop)? else {
            return Ok(interrupted());
        };
        folds = Some(pool);
    }
    let mean: Vec<f32> = facts.unscaled_baseline();
    let mut began = None;
    let saes = if trained {
        eprintln!("resumed at step {}", folder.last_step());
        eprintln!("training had ended; its figures and pictures are made now");
        folder.clear();
        format::read_model(&folder.0)?.saes
    } else {
        let begin = match (args.resume, from) {
            (true, _) if folder.last().exists() => Start::Resume,
            (_, Some(model)) => Start::From(model.saes),
            (true, None) => Start::Resume,
            _ => Start::Initialise,
        };
        let mut screen = Screen::new("training".into(), args.resume, stop.clone());
        let training = Training {
            folder: &folder,
            data: &data,
            rows: &rows,
            facts: &facts,
            options: &resolved,
            checkpoints: keep,
        };
        let outcome = training.run(begin, &mut |e| screen.hear(e));
        let outcome = screen.finish(outcome)?;
        began = screen.began;
        match outcome {
            TrainingOutcome::Finished(saes) => saes,
            TrainingOutcome::Interrupted(_) => return Ok(interrupted()),
        }
    };

    let refs: Vec<&_> = saes.iter().collect();
    let bar = show::Bar::new("evaluating");
    let figures = |rows: &[usize]| evaluate(&refs, Some(&mean), &data, rows, true, &mut |d, t| bar.set(d, t)).record();
    let held_out = !rows.test.is_empty();
    let looked_at = if held_out { &rows.test } else { &rows.train };
    let mut record = figures(looked_at);
    bar.finish();
    // Where the best weights were kept, the last line of the log is of others.
    let line = folder.last_line().filter(|_| resolved.early_stop.is_none());
    if let Some(line) = &line {
        record.saes.iter_mut().zip(&line.saes).for_each(|(sae, line)| sae.scores.l0_train = line.l0);
    }
    warn_sparsity(&resolved, &record, folder.last_line().as_ref());
    record.data = Some(args.data.clone());
    record.recovery = eval::recovered(&refs, &args.data, &data, looked_at);
    record.split = Some(if held_out { "test" } else { "train" }.into());
    write_json(&folder.0.join("eval.json"), &record)?;
    // The rows looked at while training are all of the test rows, or a part of them that only the log knows.
    let (probed, pictures) = (data.images(&monitored_rows(&data, &rows.test)).len(), data.images(&rows.test).len());
    if let Some(began) = began.as_mut().filter(|_| probed == pictures) {
        began.2 = metrics::mean(record.saes.iter().filter_map(|s| s.scores.reconstruction.pearson));
    }
    if let Some((with, Some(before), Some(after))) = began {
        let of = |n: usize| format!(" (of {probed} of {} {}s)", show::count(n), screen::unit(&data));
        let on = if probed < pictures { of(pictures) } else { String::new() };
        eprintln!("began with {with}: held-out Pearson{on} {before:.4} before training, {after:.4} after");
        if after < before - 0.01 {
            eprintln!("warning: training made it worse; try a smaller --lr");
        } else if after - before < 0.1 * (1.0 - before) {
            eprintln!("note: training changed little; most of what the features show was there at the beginning");
        }
    }
    if let Some(mut pooled) = folds {
        pooled.data = Some(args.data.clone());
        pooled.split = Some("folds".into());
        write_json(&folder.0.join("eval-folds.json"), &pooled)?;
        eprintln!("\nheld-out rows of {} folds, pooled:", options.split.folds.unwrap_or(0));
        eprint!("{}", eval::report(&pooled));
        eprintln!("\nthe model of the run, on rows it was trained on:");
    } else {
        let what = screen::unit(&data);
        eprintln!("\n{}:", if held_out { format!("held-out {what}s") } else { format!("{what}s it was trained on") });
    }
    eprint!("{}", eval::report(&record));
    pictures::write(&folder.0, &saes, &data, &rows, folder.last_step() > 0)?;
    eprintln!("\nlook at {0}/features.png and {0}/reconstructions.png; figures: {0}/eval.json", folder.0.display());
    Ok(ExitCode::SUCCESS)
}

/// What a run is made with.
pub fn about(spec: &str, data: &Dataset, rows: &RunRows) -> About {
    About {
        tool_version: env!("CARGO_PKG_VERSION").into(),
        data: spec.to_owned(),
        rows: data.originals(),
        columns: data.dim(),
        classes: data.classes().to_vec(),
        names: part::names_hash(data),
        training_rows: rows.train.len(),
        test_rows: rows.test.len(),
        threads: rayon::current_num_threads(),
        isa: Isa::current().name().into(),
        pictures: data.image_shape().map(|s| [s.width, s.height, s.channels]),
    }
}

/// Cross-entropy needs values between 0 and 1: names the first that is not.
pub fn check_unit(data: &Dataset, rows: &[usize]) -> Result<()> {
    let Some((row, column, value)) = data.first_outside_unit(rows) else { return Ok(()) };
    let found = format!("{value} in column {column} of {row}");
    let remedy = "scale the data to 0 to 1, or use the squared error";
    Err(Error::option("--loss cross-entropy", "values between 0 and 1", found, remedy))
}

/// What is made from the model after the last step, in this order.
fn made_last(folder: &Folder, folds: bool) -> Vec<PathBuf> {
    let figures = ["eval.json", "eval-folds.json"].into_iter().take(if folds { 2 } else { 1 });
    figures.chain(["features.png", "reconstructions.png"]).map(|name| folder.0.join(name)).collect()
}

/// Pictures are brought to the shape of the model that training begins with, and cut into patches as its own; those may
/// be of pictures of any size, any distance apart.
fn inherit_pictures(model: &Model, data: &mut DataArgs) -> Result<()> {
    let given = (data.patch.take(), data.stride.take());
    if let Some(own) = patch_size(model) {
        data.set_patches(own);
        data.stride = given.1.or(data.stride.take());
    }
    let square = |own: &String| format!("{own}x{own}");
    if let Some(wish) = given.0.filter(|w| data.patch.as_ref().is_none_or(|own| w != own && *w != square(own))) {
        let has = data.patch.as_deref().unwrap_or("whole pictures");
        return Err(Error::option("--patch", format!("{has}, as in the model of --from"), wish, "leave it out"));
    }
    let Some(pictures) = model.config.image else { return Ok(()) };
    let size = format!("{}x{}", pictures.width, pictures.height);
    let other = |s: &&String| **s != size && format!("{s}x{s}") != size && data.patch.is_none();
    if let Some(wish) = data.size.as_ref().filter(other) {
        return Err(Error::option("--size", format!("{size}, as in the model of --from"), wish, "leave it out"));
    }
    let gray = pictures.channels == 1;
    if (gray && data.rgb) || (!gray && data.gray) {
        let has = if gray { "--gray, as in the model of --from" } else { "--rgb, as in the model of --from" };
        return Err(Error::option("colour", has, "the other", "leave it out"));
    }
    data.size = data.size.take().or(Some(size));
    (data.gray, data.rgb) = (gray, !gray);
    Ok(())
}

/// A run that has begun keeps its options: names the first that is another now.
fn refuse_changes(before: &FileOptions, now: &FileOptions, folder: &Folder) -> Result<()> {
    let table = |o: &FileOptions| toml::Table::try_from(FileOptions { about: None, ..o.clone() }).expect("plain data");
    let (before, now) = (table(before), table(now));
    let text = |v: Option<&toml::Value>| v.map_or("not given".to_owned(), toml::Value::to_string);
    // These change nothing in what is trained; a list is compared by the rows that it names.
    let free = ["checkpoint-every", "keep", "from", "test-list", "skip-bad"];
    let keys = before.keys().chain(now.keys()).filter(|k| !free.contains(&k.as_str()));
    for key in keys {
        let (old, new) = (before.get(key), now.get(key));
        if old != new {
            let found = format!("{key} is {} in the run, {} now", text(old), text(new));
            let remedy = "leave it out to resume, or train anew into another --out (--from begins with this model)";
            return Err(Error::file(&folder.0, found, remedy));
        }
    }
    Ok(())
}

fn interrupted() -> ExitCode {
    ExitCode::from(130)
}

/// Rows that a threshold is calibrated on, at most; with fewer than so many in ten parts, training rows serve.
const CALIBRATED: usize = 2048;
const FEW: usize = 1000;

/// The share of `n` training rows that early stopping, or a threshold of this activation, needs.
fn held(activation: Activation, early_stop: bool, n: usize) -> Option<f64> {
    let calibrated = activation == Activation::BatchTopK && n >= FEW;
    if early_stop { Some(0.1) } else { calibrated.then(|| (CALIBRATED as f64 / n as f64).min(0.1)) }
}

/// Trains on each fold and pools the held-out figures; `None` when interrupted.
fn train_folds(
    folder: &Folder,
    data: &Dataset,
    folds: Vec<Split>,
    group: Option<&str>,
    options: &TrainOptions,
    from: Option<&Model>,
    keep: CheckpointOptions,
    stop: &Arc<AtomicBool>,
) -> Result<Option<EvalRecord>> {
    let mut pool: Option<Pool> = None;
    for (f, split) in folds.iter().enumerate() {
        let own = data.clone();
        let share = held(options.activation, options.early_stop.is_some(), split.train.len());
        let rows = RunRows::new(&own, split, share, group)?;
        let facts = DataFacts::gather(&own, &rows.train, options.may_scale());
        let mean: Vec<f32> = facts.unscaled_baseline();
        let sub = Folder(folder.0.join(format!("folds/{f}")));
        sub.create()?;
        let begin = match from {
            _ if sub.last().exists() => Start::Resume,
            Some(model) => Start::From(model.saes.clone()),
            None => Start::Initialise,
        };
        let saes = if sub.model().exists() {
            format::read_model(&sub.0)?.saes
        } else {
            let what = format!("fold {} of {}", f + 1, folds.len());
            let mut screen = Screen::new(what, false, stop.clone());
            let training =
                Training { folder: &sub, data: &own, rows: &rows, facts: &facts, options, checkpoints: keep };
            let outcome = training.run(begin, &mut |e| screen.hear(e));
            match screen.finish(outcome)? {
                TrainingOutcome::Finished(saes) => saes,
                TrainingOutcome::Interrupted(_) => return Ok(None),
            }
        };
        let refs: Vec<&_> = saes.iter().collect();
        let part = evaluate(&refs, Some(&mean), &own, &rows.test, true, &mut |_, _| ());
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

/// Options that are wrong whatever the data, before it is read.
fn early_check(wishes: &Wishes) -> Result<()> {
    let mean = vec![0.0; 64];
    let nothing = DataFacts {
        rows: 1 << 20,
        dim: 64,
        baseline: mean.clone(),
        mean,
        places: 1,
        spread: 1.0,
        image_spread: 1.0,
        scale: 1.0,
    };
    // As many latents as a rule could choose: whether k and prefixes fit is known once the data are.
    let latents = wishes.latents.or(Some(MOST_LATENTS));
    let options = resolve(&Wishes { latents, ..wishes.clone() }, &nothing);
    options.check()?;
    options.model(nothing.dim).check()
}

/// Size and colour as they came out, so that an evaluation reads data in the same way.
pub fn picture_settings(args: &DataArgs, data: &Dataset) -> DataArgs {
    let mut out = args.clone();
    if let Some(shape) = data.image_shape() {
        out.size = Some(format!("{}x{}", shape.width, shape.height));
        (out.gray, out.rgb) = (shape.channels == 1, shape.channels == 3);
    }
    if let Some(patches) = data.patches() {
        out.set_patches(patches.grid());
    }
    out
}
