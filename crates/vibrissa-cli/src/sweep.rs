//! `vibrissa sweep`: a grid of configurations, trained together, and what they say together.

use crate::data::open;
use crate::train::{FileOptions, ModelArgs, about, check_unit, interrupt, picture_settings};
use crate::{memory, pictures, show};
use clap::Args;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;
use vibrissa::analysis::recovery::{recovery, truth_of};
use vibrissa::data::Dataset;
use vibrissa::format;
use vibrissa::io::{write_atomically, write_json};
use vibrissa::loss::Loss;
use vibrissa::record::sweep::{Apart, Ended, SWEEP_SCHEMA, SweepRecord};
use vibrissa::record::{self, EVAL_SCHEMA, EvalRecord, Scores};
use vibrissa::run::{Folder, RunRows};
use vibrissa::sweep::judge::{best, configurations, effects, knee};
use vibrissa::sweep::{Cell, Event, Sweep, SweepOptions};
use vibrissa::train::defaults::resolve;
use vibrissa::train::evaluate::evaluate;
use vibrissa::train::{DataFacts, TrainOptions, TrainingSet, check};
use vibrissa::{Error, Result};

/// Train a grid of configurations and compare them on one frontier of sparsity and fidelity.
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// What to train on, as in vibrissa train
    #[arg(value_name = "DATA")]
    pub data: String,
    /// Folder for everything the sweep makes; it must not exist yet, or be empty
    #[arg(long, value_name = "SWEEP")]
    pub out: PathBuf,
    /// Options and their values, such as: latents=512,1024 k=16,32,64 lr=0.001,0.003 seed=1,2,3 activation=topk,relu
    /// (any option of vibrissa train; ; in place of , where values have commas)
    #[arg(long, value_name = "OPTION=VALUES", num_args = 1.., required = true)]
    pub grid: Vec<String>,
    /// Stop hopeless configurations early: at 1/8, 1/4 and 1/2 of the steps the better half of each k and activation
    /// goes on
    #[arg(long)]
    pub halving: bool,
    /// Go on where a sweep was stopped; cells that are there stay, the grid may have grown
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub options: FileOptions,
}

/// Options that a grid cannot vary, and why.
const NOT_HERE: [(&str, &str); 8] = [
    ("from", "cells begin alike"),
    ("saes", "a cell is one SAE; vary the seed"),
    ("consistency", "a cell is one SAE"),
    ("early-stop", "halving stops what is hopeless"),
    ("augment-each-epoch", "all cells see the same rows"),
    ("no-shuffle", "all cells see the rows in one order"),
    ("checkpoint-every", "cells are saved every minute"),
    ("keep", "cells keep their last weights"),
];

/// Seconds of the sessions so far, where the last one was broken off.
const SECONDS: &str = "seconds.json";

/// `key=a,b` as the key and its values.
fn axis(text: &str) -> Result<(String, Vec<String>)> {
    let example = "write for example k=16,32,64";
    let Some((key, values)) = text.split_once('=') else {
        return Err(Error::option("--grid", "OPTION=VALUES", text, example));
    };
    let key = key.trim().trim_start_matches('-').replace('_', "-");
    let separator = if values.contains(';') { ';' } else { ',' };
    let values: Vec<String> = values.split(separator).map(|v| v.trim().to_owned()).collect();
    if values.iter().any(String::is_empty) {
        return Err(Error::option("--grid", "a value after each comma", text, example));
    }
    for (i, value) in values.iter().enumerate() {
        if values[..i].contains(value) {
            return Err(Error::option("--grid", "each value once", format!("{key}={value} twice"), "leave one out"));
        }
    }
    if let Some((_, why)) = NOT_HERE.iter().find(|n| n.0 == key) {
        return Err(Error::option("--grid", "an option that cells may differ in", key, why.to_string()));
    }
    let flags = ModelArgs::augment_args(clap::Command::new("sweep"));
    let names: Vec<String> =
        flags.get_arguments().map(|a| a.get_long().unwrap_or(a.get_id().as_str()).to_owned()).collect();
    if !names.contains(&key) {
        let known: Vec<&str> =
            names.iter().map(String::as_str).filter(|n| NOT_HERE.iter().all(|(not, _)| not != n)).collect();
        return Err(Error::option("--grid", format!("one of {}", known.join(", ")), key, "see vibrissa train --help"));
    }
    Ok((key, values))
}

/// Options with one value put in.
fn with(options: &ModelArgs, key: &str, value: &str) -> Result<ModelArgs> {
    let mut table = toml::Table::try_from(options).expect("plain data");
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    table.insert(key.to_owned(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
    // Steps and epochs are two ways to say one thing.
    match key {
        "steps" => table.remove("epochs"),
        "epochs" => table.remove("steps"),
        _ => None,
    };
    table.try_into().map_err(|e: toml::de::Error| {
        let why = e.message().replace('\n', " ");
        Error::option("--grid", format!("a value of --{key} ({why})"), value, "see vibrissa train --help")
    })
}

/// What a cell has of the grid: options and their values.
type Values = Vec<(String, String)>;

/// All cells of a grid: the last option varies fastest.
fn cells(grid: &[(String, Vec<String>)], base: &ModelArgs) -> Result<Vec<(Values, ModelArgs)>> {
    let mut all = vec![(Vec::new(), base.clone())];
    for (key, values) in grid {
        let mut next = Vec::with_capacity(all.len() * values.len());
        for (own, options) in &all {
            for value in values {
                let mut own: Vec<(String, String)> = own.clone();
                own.push((key.clone(), value.clone()));
                next.push((own, with(options, key, value)?));
            }
        }
        all = next;
    }
    Ok(all)
}

/// Rows that cells are chosen by, at most.
const JUDGES: usize = 4096;

/// Sweeps.
pub fn run(args: SweepArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let stop = interrupt();
    let (folder, options) = (Folder(args.out.clone()), args.options);
    if folder.in_use() && !args.resume {
        return Err(Error::file(&folder.0, "exists already and is kept as it is", "choose another --out, or --resume"));
    }
    if args.resume && folder.in_use() && !folder.0.join("cells").exists() {
        return Err(Error::file(&folder.0, "is not empty and holds no sweep to resume", "choose another --out"));
    }
    let grid: Vec<(String, Vec<String>)> = args.grid.iter().map(|g| axis(g)).collect::<Result<_>>()?;
    for (i, (key, _)) in grid.iter().enumerate() {
        if grid[..i].iter().any(|g| g.0 == *key) {
            return Err(Error::option("--grid", "each option once", format!("{key} twice"), "put its values together"));
        }
    }
    for (option, given) in [
        ("--saes", options.train.saes.is_some_and(|n| n > 1)),
        ("--from", options.train.from.is_some()),
        ("--folds", options.split.folds.is_some()),
        ("--augment-each-epoch", options.train.augment_each_epoch == Some(true)),
        ("--early-stop", options.train.early_stop.is_some_and(|p| p > 0)),
        ("--checkpoint-every", options.train.checkpoint_every.is_some()),
        ("--keep", options.train.keep.is_some()),
    ] {
        if given {
            let why = NOT_HERE.iter().find(|n| option[2..] == *n.0).map_or("a cell is one SAE", |n| n.1);
            return Err(Error::option(option, "no such option in a sweep", "it", format!("leave it out: {why}")));
        }
    }
    let base = toml::Table::try_from(&options.train).expect("plain data");
    if let Some((key, _)) = grid.iter().find(|g| base.contains_key(&g.0)) {
        let found = format!("{key} in --grid and beside it");
        return Err(Error::option("--grid", "each option once", found, "leave out one of them"));
    }
    let cells = cells(&grid, &options.train)?;
    let wishes = options.train.wishes(None)?;
    let load = options.data.options(wishes.seed.unwrap_or(42))?;
    let data = open(&args.data, &load)?;
    let split = options.split.divide(&data)?;
    let group = options.split.group.as_deref();
    let share = (JUDGES as f64 / split.train.len().max(1) as f64).min(0.1);
    let rows = RunRows::new(&data, &split, Some(share), group)?;
    let wishes: Vec<_> = cells.iter().map(|c| c.1.wishes(None)).collect::<Result<_>>()?;
    // A cell must be what it is alone: all cells see rows in one scale, or none is scaled.
    let may_scale = wishes.iter().any(|w| w.may_scale());
    let facts = DataFacts::gather(&data, &rows.train, may_scale);
    if facts.scale != 1.0 && !wishes.iter().all(|w| w.may_scale()) {
        let remedy = "sweep sigmoid and cross-entropy by themselves, or bring the data near a spread of 1";
        let found = "some that may not beside others that are, since these rows are far from a spread of 1";
        return Err(Error::option("--grid", "cells that may all be scaled", found, remedy));
    }
    if rows.validation.is_empty() {
        if args.halving {
            let remedy = "leave it out, or hold out less: the groups are too few to choose by some of them";
            return Err(Error::option("--halving", "rows to choose by", "none", remedy));
        }
        eprintln!("warning: no row is left to choose by; the best configuration is not named");
    }
    let mut resolved: Vec<Cell> = Vec::with_capacity(cells.len());
    for ((values, _), wishes) in cells.iter().zip(&wishes) {
        // Few rows would stop early by themselves: cells are compared by the same steps.
        let own = TrainOptions { early_stop: None, ..resolve(wishes, &facts) };
        let cell = Cell { values: values.clone(), options: own };
        let named =
            |e: Error| Error::option("--grid", "cells that can be", format!("{} ({e})", cell.name()), "change it");
        let set = TrainingSet { data: &data, rows: rows.train.clone(), facts: facts.clone() };
        check(&set, &cell.options).map_err(named)?;
        memory::check(&cell.options, facts.dim)?;
        resolved.push(cell);
    }
    for (i, cell) in resolved.iter().enumerate() {
        if let Some(other) = resolved[..i].iter().find(|other| other.options == cell.options) {
            let found = format!("{} and {}, which are the same training", other.name(), cell.name());
            return Err(Error::option("--grid", "cells that differ", found, "name each value once"));
        }
    }
    if resolved.iter().any(|c| c.options.loss == Loss::CrossEntropy) {
        check_unit(&data, &rows.train)?;
    }
    describe(&args.data, &data, &rows, &resolved, args.halving);
    folder.create_bare()?;
    let _alone = folder.lock()?;
    let sweep = Sweep {
        folder: folder.0.clone(),
        data: &data,
        rows: &rows,
        facts: &facts,
        cells: resolved,
        options: SweepOptions { halving: args.halving, memory: memory::total().map_or(4e9, |t| 0.5 * t) },
    };
    sweep.check_folder()?;
    for (i, (_, own)) in cells.iter().enumerate() {
        let cell = sweep.cell_folder(i);
        let path = cell.0.join("config.toml");
        // What has begun is checked against these options, and is refused where they are others.
        if path.exists() && (cell.0.join("cell.json").exists() || cell.last().exists()) {
            continue;
        }
        cell.create()?;
        let config = FileOptions {
            data: picture_settings(&options.data, &data),
            split: options.split.clone(),
            train: own.resolved(&sweep.cells[i].options),
            about: Some(about(&args.data, &data, &rows)),
        };
        let text = toml::to_string(&config).expect("plain data");
        write_atomically(&path, |out| out.write_all(text.as_bytes()))?;
    }
    let bar = show::styled(1, "sweeping");
    let total = sweep.cells.len();
    let mut told = Told { bar: &bar, ended: 0, total, said: Instant::now() };
    let ended = sweep.run(&mut |event| {
        told.hear(event);
        if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let session = started.elapsed().as_secs_f64();
    let before = std::fs::read_to_string(folder.0.join(SECONDS)).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let Some(ended) = ended? else {
        let seconds = session + before.unwrap_or(0.0);
        write_atomically(&folder.0.join(SECONDS), |out| writeln!(out, "{seconds}"))?;
        eprintln!("stopped; continue with the same command and --resume");
        return Ok(ExitCode::from(130));
    };
    let path = folder.0.join("sweep.json");
    let whole = record::read_if_valid::<SweepRecord>(&path, SWEEP_SCHEMA).and_then(|r| r.seconds);
    let (looked_at, mut ended) = (rows.for_comparison(), ended);
    let plain = &data;
    let mut baseline = None;
    let truth = truth_of(&args.data, plain);
    for cell in ended.iter_mut().filter(|c| c.ended == Ended::Finished) {
        let own = folder.0.join("cells").join(&cell.name);
        let Some(mut eval) = read_eval(&own) else { continue };
        if let Some(truth) = truth.as_ref().filter(|_| eval.recovery.is_empty()) {
            let saes = format::read_model(&own)?.saes;
            eval.recovery = saes.iter().map(|sae| recovery(sae, truth, plain, looked_at)).collect();
            write_json(&own.join("eval.json"), &eval)?;
        }
        cell.recovery = eval.recovery.into_iter().next();
        baseline.get_or_insert(eval.mean_image.scores);
    }
    let all = configurations(&ended);
    let baseline = baseline.unwrap_or_else(|| {
        let mean: Vec<f32> = facts.unscaled_baseline();
        evaluate(&[], Some(&mean), plain, looked_at, true, &mut |_, _| ()).record().mean_image.scores
    });
    let keys: Vec<String> = grid.iter().map(|g| g.0.clone()).collect();
    let effects = effects(&ended, &keys);
    let pictures = |rows: &[usize]| data.images(rows).len() as u64;
    let record = SweepRecord {
        schema: SWEEP_SCHEMA.into(),
        data: args.data.clone(),
        keys,
        training_rows: pictures(&rows.train),
        validation_rows: pictures(&rows.validation),
        test_rows: pictures(&rows.test),
        patches_per_image: data.patches().map(|p| p.patches_per_image() as u64),
        halving: args.halving,
        effects,
        best: best(&all),
        knee: knee(&all),
        configurations: all,
        cells: ended,
        mean_image: baseline,
        seconds: Some(started.elapsed().as_secs_f64() + before.or(whole).unwrap_or(0.0)),
        tool_version: env!("CARGO_PKG_VERSION").into(),
    };
    // What is shown side by side: a cell of each configuration of the front, and of the best.
    for c in record.configurations.iter().filter(|c| c.front || record.best_and_knee(c).0) {
        let Some(cell) = record.cell_of(c) else { continue };
        let own = folder.0.join("cells").join(&cell.name);
        let there = |name: &str| own.join(name).exists();
        let (large, small) = (there("features.png") && there("reconstructions.png"), there(pictures::STRIP));
        if large && small {
            continue;
        }
        let saes = format::read_model(&own)?.saes;
        if !large {
            pictures::write(&own, &saes, plain, &rows, true)?;
        }
        pictures::beside(&folder.0, &own, &saes, plain, &rows)?;
    }
    write_atomically(&folder.0.join("sweep.csv"), |out| write_csv(&record, out))?;
    write_json(&path, &record)?;
    let _ = std::fs::remove_file(folder.0.join(SECONDS));
    print!("{}", report(&record));
    eprintln!("\nwrote {0}/sweep.json and sweep.csv; next: vibrissa report {0}", folder.0.display());
    Ok(ExitCode::SUCCESS)
}

/// The figures of a cell.
fn read_eval(cell: &Path) -> Option<EvalRecord> {
    record::read_if_valid(&cell.join("eval.json"), EVAL_SCHEMA)
}

fn describe(spec: &str, data: &Dataset, rows: &RunRows, cells: &[Cell], halving: bool) {
    let n = |rows: &[usize]| show::count(data.images(rows).len());
    let (unit, patches) = match data.patches() {
        Some(p) => ("pictures", format!(", each as {} patches (L0 is of patches)", show::count(p.patches_per_image()))),
        None => ("rows", String::new()),
    };
    eprintln!(
        "{spec}: {} {unit} to train on, {} to choose by, {} held out{patches}",
        n(&rows.train),
        n(&rows.validation),
        n(&rows.test)
    );
    let halved = if halving {
        ", the better half of each k and activation goes on at 1/8, 1/4 and 1/2 of the steps"
    } else {
        ""
    };
    eprintln!("{}{halved}", show::plural(cells.len(), "cell"));
}

/// The progress on the terminal; without one, a line every half minute.
struct Told<'a> {
    bar: &'a ProgressBar,
    ended: usize,
    total: usize,
    said: Instant,
}

impl Told<'_> {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Progress(done, planned) => {
                self.bar.set_length(planned);
                self.bar.set_position(done);
                self.bar.set_message(format!("{} of {} cells", self.ended, self.total));
                if self.bar.is_hidden() && self.said.elapsed().as_secs() >= 30 {
                    self.said = Instant::now();
                    let (ended, total) = (self.ended, self.total);
                    eprintln!("sweeping: step {done} of {planned}, {ended} of {total} cells ended");
                }
            }
            Event::Ended(cell) => {
                self.ended += 1;
                if let Some(error) = &cell.error {
                    self.bar.suspend(|| eprintln!("warning: {} failed: {error}", cell.name));
                }
            }
        }
    }
}

/// Writes one row for each cell: its options, and its figures on the test rows.
fn write_csv(record: &SweepRecord, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    const HEAD: [&str; 5] = ["name", "configuration", "activation", "latents", "k"];
    const FIGURES: [&str; 20] = [
        "ended",
        "step",
        "steps",
        "seconds",
        "validation_fvu",
        "l0",
        "l0_train",
        "pearson",
        "mse",
        "fvu",
        "cosine",
        "ssim",
        "psnr",
        "perceptual",
        "cross_entropy",
        "dead_latents",
        "rare_latents",
        "mcc",
        "f1",
        "error",
    ];
    // The options of HEAD have a column of their own, swept or not.
    let keys: Vec<&str> = record.keys.iter().map(String::as_str).filter(|key| !HEAD[2..].contains(key)).collect();
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(HEAD.iter().chain(&keys).chain(&FIGURES))?;
    let number = |v: Option<f64>| v.filter(|v| v.is_finite()).map_or(String::new(), |v| v.to_string());
    let none = Scores::default();
    for c in &record.cells {
        let s = c.scores.as_ref().unwrap_or(&none);
        let whole = |v: Option<u64>| v.map(|v| v as f64);
        let figures = [
            c.seconds,
            c.validation_fvu,
            s.l0,
            s.l0_train,
            s.reconstruction.pearson,
            s.reconstruction.mse,
            s.reconstruction.fvu,
            s.reconstruction.cosine,
            s.reconstruction.ssim,
            s.reconstruction.psnr,
            s.reconstruction.perceptual,
            s.reconstruction.cross_entropy,
            whole(s.dead_latents),
            whole(s.rare_latents),
            c.recovery.as_ref().and_then(|r| r.mcc),
            c.recovery.as_ref().and_then(|r| r.f1),
        ];
        let mut row = vec![c.name.clone(), c.configuration.clone(), c.activation.to_string()];
        row.extend([c.latents.to_string(), c.k.to_string()]);
        row.extend(keys.iter().map(|&key| c.values.get(key).map_or(String::new(), |v| v.to_string())));
        row.extend([c.ended.name().to_string(), c.step.to_string(), c.steps.to_string()]);
        row.extend(figures.map(number));
        row.push(c.error.clone().unwrap_or_default());
        writer.write_record(row)?;
    }
    writer.flush()
}

/// The configurations as a table, the front marked.
fn report(record: &SweepRecord) -> String {
    let seeds = record.configurations.iter().any(|c| c.seeds > 1);
    let mut head = vec!["", "configuration", "L0", "fvu"];
    if seeds {
        head.extend(["±", "seeds"]);
    }
    head.extend(["Pearson", "unused", "fvu to choose by"]);
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for c in &record.configurations {
        let (best, knee) = record.best_and_knee(c);
        let apart = |a: Apart| c.apart == Some(a);
        let marks = [
            (best, "best"),
            (knee, "knee"),
            (c.front, "front"),
            (apart(Apart::Dense), "dense"),
            (apart(Apart::NoBetter), "no better than a mean"),
        ];
        let mark = marks.iter().filter(|m| m.0).map(|m| m.1).collect::<Vec<_>>().join(", ");
        let mut row =
            vec![mark, c.name.clone(), c.l0.get().map_or("–".into(), |v| format!("{v:.1}")), show::figure(c.fvu.get())];
        if seeds {
            row.extend([show::figure(c.fvu_band.get()), c.seeds.to_string()]);
        }
        row.push(show::figure(c.pearson.get()));
        row.push(c.dead_latents.get().map_or("–".into(), |v| show::count(v.round() as usize)));
        row.push(show::figure(c.validation_fvu.get()));
        rows.push(row);
    }
    let mut out = show::table(&rows);
    let stopped = record.cells.iter().filter(|c| c.ended == Ended::Stopped).count();
    if stopped > 0 {
        out += &format!("{} stopped early\n", show::plural(stopped, "cell"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination_in_order() {
        let grid = vec![axis("k=4,8").expect("a key"), axis("--activation=topk,relu").expect("a key")];
        let all = cells(&grid, &ModelArgs { lr: Some(0.5), ..ModelArgs::default() }).expect("cells");
        let names: Vec<String> =
            all.iter().map(|(v, _)| v.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(names, ["k=4 activation=topk", "k=4 activation=relu", "k=8 activation=topk", "k=8 activation=relu"]);
        assert_eq!((all[2].1.k, all[2].1.lr), (Some(8), Some(0.5)));
        let nested = axis("matryoshka=off;4,8").expect("a key");
        assert_eq!(nested.1, ["off", "4,8"]);
        for wrong in ["k", "k=", "k=4,,8", "k=4,4", "colour=red", "saes=2"] {
            assert!(axis(wrong).is_err(), "{wrong}");
        }
        assert!(with(&ModelArgs::default(), "k", "many").is_err());
    }
}
