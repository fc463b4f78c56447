//! `vibrissa eval`.

use crate::data::{read_data, select_rows};
use crate::options::parse_named;
use crate::show;
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use vibrissa::analysis::adaptive::{AdaptiveOptions, compare_rules};
use vibrissa::data::Dataset;
use vibrissa::format::{self, Model};
use vibrissa::model::Output;
use vibrissa::options::PartialDataOptions;
use vibrissa::record::adaptive::{AdaptiveRecord, RuleRecord};
use vibrissa::record::{ByClass, EvalRecord, Number, Reconstruction, Recovery, Scores};
use vibrissa::recovery::recover;
use vibrissa::run::{Folder, RowSelection};
use vibrissa::train::check_width;
use vibrissa::train::evaluate::evaluate;
use vibrissa::{Error, Result};

/// Measure reconstructions, overall and by class: of each SAE, of the mean of all SAEs, and of the mean image.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// One or more runs (or model files), then the data
    #[arg(value_name = "RUN... DATA", required = true, num_args = 1..)]
    paths: Vec<String>,
    /// Rows to evaluate: test (held out by the run), train or all
    #[arg(long, value_name = "ROWS", value_parser = parse_named::<RowSelection>, default_value = "test")]
    split: RowSelection,
    /// Augmented variants for each image
    #[arg(long, value_name = "N", default_value_t = 0)]
    augment: usize,
    /// Change of images of another aspect ratio: crop, pad or stretch [default: as in the run]
    #[arg(long, value_name = "HOW", value_parser = parse_named::<vibrissa::data::rows::Fit>)]
    fit: Option<vibrissa::data::rows::Fit>,
    /// Leave out files that cannot be read, and list them
    #[arg(long)]
    skip_bad: bool,
    /// Also adapt the number of active latents to each row, BUDGET on average, and compare with a fixed number (written
    /// with =, such as --adaptive-k=12; without a number, the k of the model)
    #[arg(long, value_name = "BUDGET", num_args = 0..=1, require_equals = true)]
    adaptive_k: Option<Option<NonZeroUsize>>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: EvalArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let (data_spec, runs) = match &args.paths[..] {
        [only] => {
            let found = format!("{only} alone");
            let remedy =
                "write vibrissa eval RUN DATA; a number of --adaptive-k follows a =, as in --adaptive-k=8; see --help";
            return Err(Error::option("RUN... DATA", "one or more runs and then the data", found, remedy));
        }
        paths => paths.split_last().expect("clap saw one"),
    };
    let runs: Vec<PathBuf> = runs.iter().map(PathBuf::from).collect();
    let models: Vec<Model> = runs.iter().map(|r| format::read_model(r)).collect::<Result<_>>()?;
    let first = &models[0].config;
    for (run, model) in runs.iter().zip(&models) {
        if model.config.image != first.image
            || model.config.patches != first.patches
            || model.config.sae.d_in != first.sae.d_in
        {
            let found = "its rows have another shape than those of the first run";
            return Err(Error::file(run, found, "only models of one shape make an ensemble: evaluate it by itself"));
        }
    }
    let options = PartialDataOptions {
        fit: args.fit,
        augment: Some(args.augment),
        skip_bad: Some(args.skip_bad),
        ..PartialDataOptions::default()
    };
    let data = read_data(&runs[0], &models[0], data_spec, &options)?;
    for (run, model) in runs.iter().zip(&models).skip(1) {
        check_width(run, model, data.dim())?;
    }
    let selected = select_rows(args.split, &runs, data_spec, &data)?;
    let rows = data.with_variants(&selected);
    let saes: Vec<_> = models.iter().flat_map(|m| &m.saes).collect();
    let bar = show::Bar::new("evaluating");
    let pool = evaluate(&saes, Some(&models[0].mean), &data, &rows, true, &mut |d, t| bar.set(d, t));
    bar.finish();
    let mut record = pool.record();
    // L0 in training, by the selection rule of training, from the log of each run.
    let logs = runs.iter().zip(&models).flat_map(|(run, model)| {
        let line = Folder(run.clone()).last_line();
        (0..model.saes.len()).map(move |s| line.as_ref().and_then(|l| l.saes.get(s)?.l0))
    });
    record.saes.iter_mut().zip(logs).for_each(|(sae, l0)| sae.scores.l0_train = l0);
    if let Some(wish) = args.adaptive_k {
        record.adaptive = adapt(&runs, data_spec, &data, &models, &rows, wish)?;
    }
    record.data = Some(data_spec.clone());
    record.split = Some(args.split.name().into());
    record.runs = runs.iter().map(|r| r.display().to_string()).collect();
    record.recovery = recover(&saes, data_spec, &data, &rows);
    record.seconds = Some(started.elapsed().as_secs_f64());
    if args.json {
        println!("{}", serde_json::to_string(&record).expect("plain data"));
    } else {
        let what = match args.split {
            RowSelection::All => "all rows",
            RowSelection::Train => "training rows",
            RowSelection::Test => "held-out rows",
        };
        let (what, unit) = match data.patches() {
            Some(_) => (what.replace("rows", "images"), "image"),
            None => (what.to_owned(), "row"),
        };
        println!("{} of {data_spec}: {what}", show::plural(record.rows as usize, unit));
        print!("{}", report(&record));
        print!("{}", adaptive_table(&record));
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules of `--adaptive-k`, for every SAE.
fn adapt(
    runs: &[PathBuf],
    spec: &str,
    data: &Dataset,
    models: &[Model],
    rows: &[usize],
    wish: Option<NonZeroUsize>,
) -> Result<Vec<AdaptiveRecord>> {
    let option = "--adaptive-k";
    for (run, model) in runs.iter().zip(models) {
        let own = &model.config.sae;
        let found = match (own.output, own.activation.keeps_k(), own.relu_after) {
            (Output::Sigmoid, ..) => "cross-entropy",
            (_, false, _) => own.activation.name(),
            (.., false) => "raw selection, where values may be negative",
            _ => continue,
        };
        let remedy = format!("leave {} out: its features cannot be added one by one, the largest first", run.display());
        return Err(Error::option(option, "models with topk or batchtopk and a squared error", found, remedy));
    }
    let tuning_rows = data.without_variants(&select_rows(RowSelection::Train, runs, spec, data)?);
    let bar = show::Bar::new("choosing the number of features");
    let mut all = Vec::new();
    for model in models {
        for sae in &model.saes {
            let budget = wish.map_or(sae.config().k, NonZeroUsize::get);
            if budget > sae.config().latents {
                let expected = format!("at most {} (the number of features)", sae.config().latents);
                return Err(Error::option(option, expected, budget, "choose a smaller budget"));
            }
            let mean = if model.mean.len() == data.dim() { model.mean.clone() } else { vec![0.0; data.dim()] };
            let options = AdaptiveOptions { mean: &mean, tuning_rows: &tuning_rows, rows, budget };
            all.push(compare_rules(sae, data, options, &mut |d, t| bar.set(d, t)));
        }
    }
    bar.finish();
    Ok(all)
}

fn adaptive_table(record: &EvalRecord) -> String {
    let mut out = String::new();
    for (s, a) in record.adaptive.iter().enumerate() {
        let which = if record.adaptive.len() > 1 { format!("SAE {s}: ") } else { String::new() };
        let row = if record.patches_per_image.is_some() { "patch" } else { "row" };
        out += &format!(
            "\n{which}features a {row} by how hard it is, {} in the mean (θ, τ, λ from training rows):\n",
            a.budget
        );
        let cut = format!("cut at {}", a.reach);
        let spread = ["", "mean", "5 %", "median", "95 %", &cut];
        let figures = ["fvu", "Pearson", "ρ with complexity", "simplest tenth", "hardest"];
        let mut rows = vec![spread.into_iter().chain(figures).map(str::to_owned).collect::<Vec<_>>()];
        let one = |n: Number| n.get().map_or("–".into(), |v| format!("{v:.1}"));
        for r in &a.rules {
            let name = match r.name.as_str() {
                "fixed" => "the k largest",
                "threshold" => "all above θ",
                "residual" => "until the error is τ",
                _ => "while each explains λ",
            };
            rows.push(vec![
                name.into(),
                one(r.l0),
                one(r.l0_quantiles[0]),
                one(r.l0_quantiles[2]),
                one(r.l0_quantiles[4]),
                r.at_reach.get().map_or("–".into(), |v| format!("{:.0} %", 100.0 * v)),
                show::figure(r.fvu.get()),
                show::figure(r.pearson.get()),
                r.with_complexity.get().map_or("–".into(), |v| format!("{v:.2}")),
                one(r.l0_by_complexity[0]),
                one(r.l0_by_complexity[9]),
            ]);
        }
        out += &show::table(&rows);
        let off = |r: &RuleRecord| r.l0.get().is_some_and(|l0| (l0 / a.budget as f64 - 1.0).abs() > 0.1);
        if a.rules.iter().any(off) {
            out += "warning: on these rows a mean is more than a tenth off: compare its fvu with care\n";
        }
    }
    if !record.adaptive.is_empty() && record.patches_per_image.is_some() {
        out += "fvu and Pearson here are of patches, before overlapping ones are averaged; one of a single grey counts as Pearson 0\n";
    }
    out
}

/// `each` is the number of patches of an image, where rows are patches.
fn line(name: &str, rows: u64, each: Option<u64>, s: &Scores) -> Vec<String> {
    let whole = |v: Option<u64>| v.map_or("–".into(), |v| show::count(v as usize));
    let l0 = match (s.l0, s.l0_target) {
        (Some(l0), Some(target)) => {
            // Where training kept another number than inference, that is said too.
            let gap = s.l0_train.filter(|t| (t - l0).abs() >= 0.05 * l0);
            format!("{l0:.1} of {target}") + &gap.map_or(String::new(), |t| format!(" ({t:.1} in training)"))
        }
        _ => "–".into(),
    };
    let r = &s.reconstruction;
    vec![
        name.into(),
        show::count(rows as usize),
        show::figure(r.pearson),
        show::error(r.mse),
        show::figure(r.fvu),
        show::figure(r.cosine),
        show::figure(r.ssim),
        show::figure(r.perceptual),
        r.psnr.map_or("–".into(), |v| format!("{v:.2}")),
        l0,
        whole(s.dead_latents),
        // Fewer than 1 row of 1,000 needs 1,000 rows to be more than never.
        whole(s.rare_latents.filter(|_| rows * each.unwrap_or(1) >= 1000)),
    ]
}

/// The scores of a reconstruction that has no latents.
fn without_latents(reconstruction: &Reconstruction) -> Scores {
    Scores { reconstruction: reconstruction.clone(), ..Scores::default() }
}

/// The recovery of known features, compared with random directions.
fn known(all: &[Recovery]) -> String {
    let Some(first) = all.first() else { return String::new() };
    let head = ["", "MCC", "mean best |cos|", "|cos| ≥ 0.9", "F1", "precision", "recall"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (i, r) in all.iter().enumerate() {
        let figures = [r.mcc, r.mmcs, r.found, r.f1, r.precision, r.recall].map(show::figure);
        rows.push([&[format!("SAE {i}")], &figures[..]].concat());
    }
    let chance = [first.mcc_chance, first.mmcs_chance].map(show::figure);
    rows.push([&["random directions".to_owned()], &chance[..]].concat());
    let fired =
        first.fired.map_or(String::new(), |n| format!(", {} of which fire in these rows", show::count(n as usize)));
    format!("{} are known{fired}:\n{}", show::plural(first.features as usize, "feature"), show::table(&rows))
}

/// The figures as a table: every SAE, the ensemble, the mean image; then the ensemble (or the one SAE) by class.
pub fn report(record: &EvalRecord) -> String {
    let each = record.patches_per_image;
    let head = [
        "",
        if each.is_some() { "images" } else { "rows" },
        "Pearson",
        "mse",
        "fvu",
        "cosine",
        "SSIM",
        "perceptual",
        "PSNR dB",
        "L0",
        "dead",
        "rare",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (i, sae) in record.saes.iter().enumerate() {
        rows.push(line(&format!("SAE {i}"), record.rows, each, &sae.scores));
    }
    if record.saes.len() > 1 {
        rows.push(line("mean of all", record.rows, each, &record.ensemble.scores));
    }
    let best: &ByClass<Scores> = match record.saes.as_slice() {
        [one] => one,
        _ => &record.ensemble,
    };
    for (name, class) in &best.by_class.0 {
        // A latent that one class never uses is used by another.
        let scores = Scores { dead_latents: None, rare_latents: None, ..class.scores.clone() };
        rows.push(line(&format!("  class {name}"), class.rows, each, &scores));
    }
    let images = record.mean_image.scores.psnr.is_some();
    rows.push(line(
        if images { "mean image" } else { "mean row" },
        record.rows,
        each,
        &without_latents(&record.mean_image.scores),
    ));
    for (name, class) in &record.mean_image.by_class.0 {
        rows.push(line(&format!("  class {name}"), class.rows, each, &without_latents(&class.scores)));
    }
    let mut out = show::table(&rows);
    if let (Some(each), Some(l0)) = (each, record.saes.first().and_then(|s| s.scores.l0_image)) {
        out += &format!(
            "L0, dead and rare are per patch; an image has {} patches and {} active latents in total\n",
            show::count(each as usize),
            show::count(l0.round() as usize)
        );
    }
    out += &known(&record.recovery);
    let (own, mean) = (best.scores.reconstruction.pearson, record.mean_image.scores.pearson);
    if own.zip(mean).is_some_and(|(own, mean)| own <= mean) {
        out += "warning: no better than the mean of the training rows; train longer, or give more rows\n";
    }
    out
}
