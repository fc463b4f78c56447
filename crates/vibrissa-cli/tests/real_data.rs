//! Figures on real data, which is no part of the repository: found at `VIBRISSA_DATA`, else in `../shared/data` beside
//! it. Where it is absent each test counts as ignored, so that the closing line of `cargo test` says how many did not
//! run. A harness of its own, because the usual one cannot ignore a test at run time.
//!
//! Everything together takes about two minutes on two cores; the rows of the README that take longer are measured by
//! hand, and what they rest on is tested here with few steps.

mod common;

use common::*;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use vibrissa::data::Dataset;
use vibrissa::data::rows::LoadOptions;
use vibrissa::format;
use vibrissa::matrix::{Latents, Mat};
use vibrissa::model::Workspace;
use vibrissa::record::analysis::Analysis;

/// "The seeds' recipe": what the figures of the first project were made with.
const SEEDS: [&str; 13] = [
    "--tied",
    "--raw-topk",
    "--no-decoder-bias",
    "--init",
    "orthogonal",
    "--optimizer",
    "adam",
    "--auxk",
    "0",
    "--warmup",
    "0",
    "--schedule",
    "constant",
];
const MNIST: [&str; 8] = ["--latents", "1024", "-k", "50", "--batch", "128", "--epochs", "5"];
const COLOUR: [&str; 7] = ["--size", "64", "--rgb", "--latents", "3072", "-k", "128"];

fn folder() -> PathBuf {
    match std::env::var_os("VIBRISSA_DATA") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

fn data(name: &str) -> String {
    s(&folder().join(name)).to_owned()
}

/// Where runs go until all tests have ended.
fn runs() -> &'static Path {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    DIR.get_or_init(tempdir).path()
}

fn trained(name: &str, data: &str, options: &[&str]) -> PathBuf {
    let out = runs().join(name);
    train(data, &out, options).ok();
    out
}

fn eval(run: &Path, data: &str, more: &[&str]) -> Value {
    vibrissa(&[&["eval", s(run), data, "--json"], more].concat()).ok().json()
}

fn number(json: &Value, key: &str) -> f64 {
    json[key].as_f64().unwrap_or_else(|| panic!("no {key} in {json}"))
}

fn of_test(run: &Path) -> Value {
    let record: Value = serde_json::from_slice(&read(&run.join("eval.json"))).expect("JSON");
    assert_eq!(record["split"], "test");
    record
}

fn at_least(what: &str, got: f64, bar: f64) -> Result<(), Failed> {
    println!("\n    {what}: {got:.4} (at least {bar})");
    if got >= bar { Ok(()) } else { Err(format!("{what}: {got:.4} is below {bar}").into()) }
}

fn at_most(what: &str, got: f64, bar: f64) -> Result<(), Failed> {
    println!("\n    {what}: {got:.4} (at most {bar})");
    if got <= bar { Ok(()) } else { Err(format!("{what}: {got:.4} is above {bar}").into()) }
}

/// The model of the seeds' recipe on MNIST, which several tests need.
fn seeds_mnist() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| trained("mnist", &data("mnist"), &[&SEEDS[..], &MNIST, &["--lr", "1e-3"]].concat()))
}

fn mnist_with_the_seeds_recipe() -> Result<(), Failed> {
    let record = of_test(seeds_mnist());
    assert_eq!(record["rows"], 10_000, "t10k is the test set");
    at_least("Pearson", number(&record["saes"][0], "pearson"), 0.973)
}

fn mnist_with_the_own_rule() -> Result<(), Failed> {
    let record = of_test(&trained("mnist-own", &data("mnist"), &MNIST));
    at_most("fvu", number(&record["saes"][0], "fvu"), 0.065)?;
    at_most("dead latents", number(&record["saes"][0], "dead_latents"), 10.0)
}

fn colour(name: &str, set: &str, more: &[&str]) -> f64 {
    let list = data(&format!("{set}.test.txt"));
    let options = [&COLOUR[..], &["--fit", "stretch", "--test-list", &list], more].concat();
    let record = of_test(&trained(name, &data(set), &options));
    assert_eq!(record["rows"], 100, "the list names the test rows");
    number(&record["saes"][0], "pearson")
}

/// Training for a moment must not lose what the start already has.
fn photographs_start_well_and_do_not_get_worse() -> Result<(), Failed> {
    let start = colour("photos-0", "photos", &["--steps", "0"]);
    at_least("Pearson before training", start, 0.90)?;
    at_least("Pearson after 40 steps", colour("photos-40", "photos", &["--steps", "40"]), start - 5e-4)
}

/// One epoch; the whole training only gets better.
fn digits_with_the_own_rule() -> Result<(), Failed> {
    at_least("Pearson after one epoch", colour("digits", "digits-jpg", &["--epochs", "1"]), 0.99)
}

fn mice_have_234_rows_and_two_classes() -> Result<(), Failed> {
    let json = eval(seeds_mnist(), &data("mice"), &["--augment", "5", "--split", "all"]);
    assert_eq!(json["rows"], 234);
    let classes = json["saes"][0]["by_class"].as_object().expect("classes");
    assert_eq!(classes.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((&classes["1"]["rows"], &classes["2"]["rows"]), (&120.into(), &114.into()));
    at_least("Pearson of a model that never saw a mouse", number(&json["saes"][0], "pearson"), 0.5)
}

fn fine_tuning_raises_both_classes_of_mice() -> Result<(), Failed> {
    let (mice, base) = (data("mice"), s(seeds_mnist()));
    let options = ["--from", base, "--augment", "5", "--test-fraction", "0.3"];
    // No step: the model as it was, with the split of the other run.
    let before = trained("mice-before", &mice, &[&options[..], &["--steps", "0"]].concat());
    let after = trained("mice-after", &mice, &[&options[..], &["--epochs", "30"]].concat());
    for (what, split) in
        [("all rows", ["--augment", "5", "--split", "all"]), ("held out", ["--augment", "5", "--split", "test"])]
    {
        let (before, after) = (eval(&before, &mice, &split), eval(&after, &mice, &split));
        assert_eq!(before["rows"], after["rows"]);
        for class in ["1", "2"] {
            let of = |json: &Value| number(&json["saes"][0]["by_class"][class], "pearson");
            at_least(&format!("Pearson of class {class}, {what}, after"), of(&after), of(&before) + 0.01)?;
        }
    }
    Ok(())
}

fn activations_load_from_both_shards() -> Result<(), Failed> {
    let set = data("activations");
    let run = trained("activations", &set, &["--latents", "768", "-k", "32", "--steps", "20", "--batch", "256"]);
    let config = String::from_utf8(read(&run.join("config.toml"))).expect("UTF-8");
    for line in ["rows = 24000", "columns = 384"] {
        assert!(config.lines().any(|l| l == line), "no {line} in\n{config}");
    }
    let json = eval(&run, &set, &["--split", "all"]);
    assert_eq!(json["rows"], 24_000);
    assert_eq!(json["saes"][0]["by_class"], serde_json::json!({}));
    at_most("fvu", number(&json["saes"][0], "fvu"), 0.9)
}

/// `zero the latent, decode again, measure` for some latents and pairs on all test rows, in f64.
fn importance_equals_brute_force() -> Result<(), Failed> {
    let (run, out) = (seeds_mnist(), runs().join("importance"));
    let record =
        vibrissa(&["analyze", s(run), &data("mnist"), "--split", "test", "--out", s(&out), "--json"]).ok().json();
    let columns = Analysis::read(&out).expect("an analysis").columns.saes.remove(0);
    let sae = format::read_model(run).expect("a model").saes.remove(0);
    let set = Dataset::open(&data("mnist"), &LoadOptions::default(), &|_, _| ()).expect("MNIST");
    let rows: Vec<usize> = (60_000..70_000).collect();
    let (mut work, mut latents, mut x) = (Workspace::default(), Latents::default(), Mat::zeros(rows.len(), 784));
    set.fill(&rows, 0, x.view_mut());
    sae.encode(x.view(), &mut work, &mut latents).expect("finite rows");
    let features: Vec<Vec<f64>> = (0..1024).map(|h| sae.feature(h).into_iter().map(f64::from).collect()).collect();
    // (squared error, Pearson r) of a row whose active latents are all but these.
    let measured = |r: usize, without: &[u64]| -> (f64, f64) {
        let mut recon = vec![0.0f64; 784];
        let (index, value) = latents.row(r);
        for (&h, &v) in index.iter().zip(value).filter(|l| !without.contains(&u64::from(*l.0))) {
            recon.iter_mut().zip(&features[h as usize]).for_each(|(y, w)| *y += f64::from(v) * w);
        }
        let row: Vec<f64> = x.row(r).iter().map(|&v| f64::from(v)).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / 784.0;
        let (mx, my) = (mean(&row), mean(&recon));
        let sum = |f: &dyn Fn(f64, f64) -> f64| row.iter().zip(&recon).map(|(&x, &y)| f(x, y)).sum::<f64>();
        let (xx, yy) = (sum(&|x, _| (x - mx).powi(2)), sum(&|_, y| (y - my).powi(2)));
        (sum(&|x, y| (x - y).powi(2)), sum(&|x, y| (x - mx) * (y - my)) / (xx * yy).sqrt())
    };
    let active = |r: usize, h: u64| latents.row(r).0.binary_search(&(h as u32)).is_ok();
    let order = &columns.examples.latent;
    let some: Vec<u64> = (0..12).map(|i| u64::from(order[i * (order.len() - 1) / 11])).collect();
    let mut worst = [0.0f64; 2];
    for &h in &some {
        let (mut sse, mut pearson, mut times) = (0.0, 0.0, 0);
        for r in (0..rows.len()).filter(|&r| active(r, h)) {
            let (with, less) = (measured(r, &[]), measured(r, &[h]));
            sse += less.0 - with.0;
            pearson += with.1 - less.1;
            times += 1;
        }
        let n = rows.len() as f64;
        let error =
            |figures: &[f64], want: f64, least: f64| (figures[h as usize] - want / n).abs() * n / want.abs().max(least);
        // Dot products of f32 tell a correlation to some 1e-9: what a latent does to it in a row of its own may be 1e-6.
        let least = 1e-4 * f64::from(times);
        worst[0] = worst[0].max(error(&columns.latents.delta_sse, sse, 0.0)).max(error(
            &columns.latents.delta_pearson,
            pearson,
            least,
        ));
    }
    let pairs: Vec<&Value> = ["overlap", "correct"]
        .iter()
        .flat_map(|kind| record["saes"][0]["pairs"][kind].as_array().expect("pairs").iter().take(4))
        .collect();
    for pair in &pairs {
        let (a, b) = (pair["a"].as_u64().expect("a latent"), pair["b"].as_u64().expect("a latent"));
        let (mut brute, mut together) = (0.0, 0);
        for r in (0..rows.len()).filter(|&r| active(r, a) && active(r, b)) {
            let sse = |without: &[u64]| measured(r, without).0;
            brute += sse(&[a, b]) - sse(&[a]) - sse(&[b]) + sse(&[]);
            together += 1;
        }
        assert_eq!(number(pair, "count"), f64::from(together));
        worst[1] =
            worst[1].max((number(pair, "synergy") - brute / rows.len() as f64).abs() / brute.abs() * rows.len() as f64);
    }
    println!(
        "\n    {} latents, {} pairs; relative errors up to {:.1e} and {:.1e}",
        some.len(),
        pairs.len(),
        worst[0],
        worst[1]
    );
    at_most("largest relative error of an ablation", worst[0], 1e-5)?;
    at_most("largest relative error of a synergy", worst[1], 1e-5)
}

type Test = (&'static str, &'static [&'static str], fn() -> Result<(), Failed>);

/// Each with the data it needs.
const TESTS: [Test; 8] = [
    ("mnist_with_the_seeds_recipe", &["mnist"], mnist_with_the_seeds_recipe),
    ("mnist_with_the_own_rule", &["mnist"], mnist_with_the_own_rule),
    ("importance_equals_brute_force", &["mnist"], importance_equals_brute_force),
    (
        "photographs_start_well_and_do_not_get_worse",
        &["photos", "photos.test.txt"],
        photographs_start_well_and_do_not_get_worse,
    ),
    ("digits_with_the_own_rule", &["digits-jpg", "digits-jpg.test.txt"], digits_with_the_own_rule),
    ("mice_have_234_rows_and_two_classes", &["mnist", "mice"], mice_have_234_rows_and_two_classes),
    ("fine_tuning_raises_both_classes_of_mice", &["mnist", "mice"], fine_tuning_raises_both_classes_of_mice),
    ("activations_load_from_both_shards", &["activations"], activations_load_from_both_shards),
];

fn main() {
    let mut args = Arguments::from_args();
    // One after the other: each uses all cores, and runs share nothing but the MNIST model.
    args.test_threads.get_or_insert(1);
    let absent = |needs: &[&str]| needs.iter().any(|name| !folder().join(name).exists());
    let trials: Vec<Trial> =
        TESTS.iter().map(|&(name, needs, test)| Trial::test(name, test).with_ignored_flag(absent(needs))).collect();
    let skipped = TESTS.iter().filter(|t| absent(t.1)).count();
    let conclusion = libtest_mimic::run(&args, trials);
    if skipped > 0 && !args.list {
        println!("{skipped} real-data tests skipped: no data (set VIBRISSA_DATA)");
    }
    let _ = std::fs::remove_dir_all(runs());
    conclusion.exit();
}
