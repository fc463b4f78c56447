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
    println!("{what}: {got:.4} (at least {bar})");
    if got >= bar { Ok(()) } else { Err(format!("{what}: {got:.4} is below {bar}").into()) }
}

fn at_most(what: &str, got: f64, bar: f64) -> Result<(), Failed> {
    println!("{what}: {got:.4} (at most {bar})");
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

type Test = (&'static str, &'static [&'static str], fn() -> Result<(), Failed>);

/// Each with the data it needs.
const TESTS: [Test; 7] = [
    ("mnist_with_the_seeds_recipe", &["mnist"], mnist_with_the_seeds_recipe),
    ("mnist_with_the_own_rule", &["mnist"], mnist_with_the_own_rule),
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
