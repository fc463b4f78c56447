//! `vibrissa sweep`: what it writes, that company, kills and halving change no cell, and what it refuses.

mod common;

use common::*;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const DATA: &str = "synthetic:kind=images,rows=600";

fn sweep(out: &Path, grid: &[&str], more: &[&str]) -> Ran {
    vibrissa(&[&["sweep", DATA, "--out", s(out), "--latents", "48", "--batch", "32", "--grid"], grid, more].concat())
}

fn start(out: &Path, grid: &[&str], more: &[&str]) -> Child {
    let args = [&["sweep", DATA, "--out", s(out), "--latents", "48", "--batch", "32", "--grid"], grid, more].concat();
    command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn record(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(&out.join("sweep.json"))).expect("JSON")
}

fn model(out: &Path, cell: &str) -> Vec<u8> {
    read(&out.join("cells").join(cell).join("model.safetensors"))
}

fn cells(out: &Path) -> Vec<String> {
    let of = |c: &serde_json::Value| c["name"].as_str().expect("a name").to_owned();
    record(out)["cells"].as_array().expect("cells").iter().map(of).collect()
}

/// Two seeds and two batch sizes: three orders of rows. Every cell equals the one that was trained alone.
#[test]
fn a_cell_in_company_equals_a_cell_alone() {
    let dir = tempdir();
    let (all, alone) = (dir.path().join("all"), dir.path().join("alone"));
    let ran = sweep(&all, &["k=3,6", "activation=topk,jumprelu,relu", "seed=1,2"], &["--steps", "60"]).ok();
    assert_eq!(cells(&all).len(), 12);
    assert!(ran.stdout.contains("best") && ran.stdout.contains("activation=jumprelu"), "{}", ran.stdout);
    sweep(&alone, &["k=6", "activation=relu", "seed=2"], &["--steps", "60", "--threads", "1"]).ok();
    assert!(model(&all, "k=6 activation=relu seed=2") == model(&alone, "k=6 activation=relu seed=2"));

    let record = record(&all);
    assert_eq!(record["schema"], "vibrissa.sweep/1");
    assert_eq!(record["configurations"].as_array().expect("six").len(), 6);
    for cell in record["cells"].as_array().expect("cells") {
        assert_eq!((cell["ended"].as_str(), cell["step"].as_u64()), (Some("finished"), Some(60)));
        assert!(cell["scores"]["fvu"].as_f64() > Some(0.0) && cell["scores"]["ssim"].is_number());
        let k = cell["k"].as_u64().expect("k") as f64;
        if cell["activation"] == "topk" {
            assert!((cell["scores"]["l0"].as_f64().expect("L0") - k).abs() < 0.5);
        }
    }
    let csv = String::from_utf8(read(&all.join("sweep.csv"))).expect("UTF-8");
    assert_eq!(csv.lines().count(), 13);
    let columns = csv.lines().next().expect("a head").split(',').count();
    assert!(csv.lines().all(|l| l.split(',').count() == columns), "{csv}");
    // A cell is a run like any other.
    let cell = all.join("cells/k=3 activation=topk seed=1");
    assert_eq!(vibrissa(&["eval", s(&cell), DATA, "--json"]).ok().json()["saes"][0]["latents"], 48);
}

#[test]
fn interrupted_and_resumed_equals_not_interrupted_and_no_cell_is_trained_twice() {
    let dir = tempdir();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let (grid, more) = (["k=3,6", "lr=0.001,0.01", "seed=1,2"], ["--steps", "4000"]);
    for signal in ["-INT", "-KILL"] {
        let resume: &[&str] = if broken.exists() { &["--resume"] } else { &[] };
        let mut child = start(&broken, &grid, &[&more[..], resume].concat());
        // The cells of the first seed have ended, those of the second have not.
        if signal == "-KILL" {
            wait_for(&mut child, &broken.join("cells/k=3 lr=0.001 seed=1/cell.json"));
        } else {
            wait_for(&mut child, &broken.join("cells/k=3 lr=0.001 seed=1/config.toml"));
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        child.wait().expect("it ended");
        assert!(!broken.join("sweep.json").exists(), "it ended before it could be killed: train longer");
    }
    let first = broken.join("cells/k=3 lr=0.001 seed=1");
    let before = std::fs::metadata(first.join("model.safetensors")).expect("there").modified().expect("a time");
    sweep(&broken, &grid, &[&more[..], &["--resume"]].concat()).ok();
    assert_eq!(std::fs::metadata(first.join("model.safetensors")).expect("there").modified().expect("a time"), before);
    sweep(&whole, &grid, &more).ok();
    for cell in cells(&whole) {
        assert!(model(&whole, &cell) == model(&broken, &cell), "{cell}");
    }
    let timeless = |out: &Path| {
        let mut record = record(out);
        record["configurations"].as_array_mut().expect("some").iter_mut().for_each(|c| c["seconds"] = 0.into());
        record
    };
    let (a, b) = (timeless(&whole), timeless(&broken));
    for key in ["configurations", "best", "knee"] {
        assert_eq!(a[key], b[key], "{key}");
    }
    assert_eq!(leftovers(&broken), [] as [std::path::PathBuf; 0]);
}

#[test]
fn halving_stops_what_is_worse_and_finds_the_same_best() {
    let dir = tempdir();
    let (whole, halved) = (dir.path().join("whole"), dir.path().join("halved"));
    // Each plainly better than the one before, from the first rung on.
    let grid = ["k=4", "lr=0.00001,0.00003,0.0001,0.0003,0.001,0.003,0.006,0.01"];
    sweep(&whole, &grid, &["--steps", "400"]).ok();
    sweep(&halved, &grid, &["--steps", "400", "--halving"]).ok();
    let (whole, halved_record) = (record(&whole), record(&halved));
    assert_eq!(whole["best"], halved_record["best"]);
    let steps: Vec<u64> =
        halved_record["cells"].as_array().expect("cells").iter().map(|c| c["step"].as_u64().expect("steps")).collect();
    let count = |n: u64| steps.iter().filter(|&&s| s == n).count();
    assert_eq!([count(50), count(100), count(200), count(400)], [4, 2, 1, 1]);
    // The winner is the same model as without halving.
    let best = whole["best"].as_str().expect("a name");
    assert!(model(&dir.path().join("whole"), best) == model(&halved, best));
}

/// Penalised activations begin with more latents than k: at the first rung they would be ahead of all others.
#[test]
fn halving_compares_activations_only_at_the_end() {
    let dir = tempdir();
    let (whole, halved) = (dir.path().join("whole"), dir.path().join("halved"));
    let grid = ["k=4", "activation=topk,batchtopk,relu,gated", "lr=0.00001,0.01"];
    sweep(&whole, &grid, &["--steps", "300"]).ok();
    sweep(&halved, &grid, &["--steps", "300", "--halving"]).ok();
    assert_eq!(record(&whole)["best"], record(&halved)["best"]);
    let ended = |c: &serde_json::Value| c["ended"] == "finished";
    let finished = record(&halved)["cells"].as_array().expect("cells").iter().filter(|c| ended(c)).count();
    assert_eq!(finished, 4, "one of each activation");
}

/// Without halving what it stopped is trained on, to the same bits; what a halved sweep never compared is refused.
#[test]
fn a_halved_sweep_goes_on_without_halving_and_does_not_grow() {
    let dir = tempdir();
    let (whole, halved) = (dir.path().join("whole"), dir.path().join("halved"));
    let (grid, steps) = (["k=4", "lr=0.0001,0.001,0.01"], ["--steps", "60"]);
    sweep(&halved, &grid, &[&steps[..], &["--halving"]].concat()).ok();
    let more = ["k=4", "lr=0.0001,0.001,0.01,0.02"];
    sweep(&halved, &more, &[&steps[..], &["--halving", "--resume"]].concat())
        .refused(&["halved", "leave out --halving"]);
    sweep(&halved, &grid, &["--steps", "70", "--resume"]).refused(&["cell.json", "other options"]);
    sweep(&halved, &grid, &[&steps[..], &["--resume"]].concat()).ok();
    sweep(&whole, &grid, &steps).ok();
    for cell in cells(&whole) {
        assert!(model(&whole, &cell) == model(&halved, &cell), "{cell}");
    }
    sweep(&halved, &["k=4", "lr=0.001"], &[&steps[..], &["--resume"]].concat())
        .refused(&["lr=0.0001", "not in --grid"]);
}

/// Groups may be too few for rows to choose by: thresholds then come from training rows, and nothing is chosen.
#[test]
fn without_rows_to_choose_by() {
    let dir = tempdir();
    let folder = dir.path().join("images");
    std::fs::create_dir(&folder).expect("a folder");
    for i in 0..40 {
        let pixels: Vec<u8> = (0..64).map(|p| (p * (i + 3) % 251) as u8).collect();
        let file = folder.join(format!("{i}_{}.png", i % 2));
        image::save_buffer(file, &pixels, 8, 8, image::ExtendedColorType::L8).expect("an image");
    }
    let out = dir.path().join("sweep");
    let run = |more: &[&str]| {
        let args = [
            "sweep",
            s(&folder),
            "--out",
            s(&out),
            "--latents",
            "24",
            "--group",
            r"_(\d)\.",
            "--steps",
            "40",
            "--grid",
        ];
        vibrissa(&[&args[..], &["k=4", "activation=batchtopk,topk"], more].concat())
    };
    run(&["--halving"]).refused(&["--halving", "rows to choose by"]);
    let ran = run(&[]).ok();
    assert!(ran.stderr.contains("0 for validation") && ran.stderr.contains("warning"), "{}", ran.stderr);
    assert_eq!(record(&out)["best"], serde_json::Value::Null);
    let l0 = record(&out)["cells"][0]["scores"]["l0"].as_f64().expect("L0");
    assert!((2.0..7.0).contains(&l0), "{l0}");
}

/// Configurations that are dense, or no better than a mean, are not compared with the others; synthetic rows have a
/// recovery.
#[test]
fn what_cannot_be_compared_stands_apart() {
    let dir = tempdir();
    let out = dir.path().join("sweep");
    let ran = sweep(&out, &["k=4", "activation=topk,sigmoid", "lr=0.01,20"], &["--steps", "60"]).ok();
    let record = record(&out);
    let all = record["configurations"].as_array().expect("some");
    let named = |name: &str| all.iter().find(|c| c["name"] == name).expect("there");
    assert_eq!(record["best"], "k=4 activation=topk lr=0.01");
    assert_eq!(named("k=4 activation=sigmoid lr=0.01")["apart"], "dense");
    assert_eq!(named("k=4 activation=topk lr=20")["apart"], "no-better");
    assert!(all.iter().filter(|c| c["front"] == true).count() == 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("dense") && ran.stdout.contains("no better than a mean"), "{}", ran.stdout);

    let known = dir.path().join("known");
    let data = "synthetic:kind=directions,dim=16,features=32,active=3,rows=400";
    let args = ["--latents", "32", "--steps", "40", "--grid", "k=3"];
    vibrissa(&[&["sweep", data, "--out", s(&known)], &args[..]].concat()).ok();
    let eval: serde_json::Value = serde_json::from_slice(&read(&known.join("cells/k=3/eval.json"))).expect("JSON");
    let mcc = &eval["recovery"][0]["mcc"];
    assert!(mcc.as_f64() > Some(0.3), "{mcc}");
    let csv = String::from_utf8(read(&known.join("sweep.csv"))).expect("UTF-8");
    let place = csv.lines().next().expect("a head").split(',').position(|h| h == "mcc").expect("a column");
    assert_eq!(csv.lines().nth(1).expect("a cell").split(',').nth(place), Some(mcc.to_string().as_str()));
    let again = vibrissa(&["eval", s(&known.join("cells/k=3")), data, "--json"]).ok().json();
    assert_eq!(&again["recovery"][0]["mcc"], mcc);
}

#[test]
fn folders_that_are_no_sweep() {
    let dir = tempdir();
    let run = dir.path().join("run");
    vibrissa(&["train", DATA, "--out", s(&run), "--latents", "16", "--steps", "5"]).ok();
    sweep(&run, &["k=4"], &["--resume"]).refused(&["holds no sweep to resume"]);
    let out = dir.path().join("sweep");
    let mut child = start(&out, &["k=3"], &["--steps", "2000000"]);
    wait_for(&mut child, &out.join("cells/k=3/config.toml"));
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    vibrissa(&["report", s(&out)]).refused(&["sweep.json", "vibrissa sweep and --resume"]);
    vibrissa(&["eval", s(&out), DATA]).refused(&["is a sweep", "cells"]);
}

/// Options may change where nothing was trained yet; the folder then says the new ones.
#[test]
fn a_cell_that_has_not_begun_takes_new_options() {
    let dir = tempdir();
    let out = dir.path().join("sweep");
    let mut child = start(&out, &["k=3"], &["--steps", "2000000"]);
    wait_for(&mut child, &out.join("cells/k=3/config.toml"));
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    sweep(&out, &["k=3"], &["--steps", "20", "--test-fraction", "0.5", "--resume"]).ok();
    let config = String::from_utf8(read(&out.join("cells/k=3/config.toml"))).expect("UTF-8");
    assert!(config.contains("steps = 20\n") && config.contains("test-fraction = 0.5"), "{config}");
    let eval: serde_json::Value = serde_json::from_slice(&read(&out.join("cells/k=3/eval.json"))).expect("JSON");
    let again = vibrissa(&["eval", s(&out.join("cells/k=3")), DATA, "--json"]).ok().json();
    assert_eq!((&eval["rows"], &eval["saes"][0]["fvu"]), (&again["rows"], &again["saes"][0]["fvu"]));
}

#[test]
fn a_grid_may_grow() {
    let dir = tempdir();
    let out = dir.path().join("sweep");
    sweep(&out, &["k=3"], &["--steps", "20"]).ok();
    sweep(&out, &["k=3,5"], &["--steps", "20"]).refused(&["--resume"]);
    let ran = sweep(&out, &["k=3,5"], &["--steps", "20", "--resume"]).ok();
    assert!(ran.stdout.contains("k=5"));
    assert_eq!(cells(&out), ["k=3", "k=5"]);
    // Another number of steps is another cell.
    sweep(&out, &["k=3,5"], &["--steps", "30", "--resume"]).refused(&["cell.json", "other options", "another --out"]);
}

fn refused(dir: &TempDir, grid: &[&str], more: &[&str], parts: &[&str]) {
    let out = dir.path().join("sweep");
    sweep(&out, grid, more).refused(parts);
    assert!(!out.exists(), "something was written");
}

#[test]
fn grids_that_cannot_be() {
    let dir = tempdir();
    refused(&dir, &["k"], &[], &["--grid", "OPTION=VALUES"]);
    refused(&dir, &["colour=red"], &[], &["--grid", "colour"]);
    refused(&dir, &["k=4,many"], &[], &["--grid", "many"]);
    refused(&dir, &["k=4,4"], &[], &["--grid", "twice"]);
    refused(&dir, &["k=4", "k=5"], &[], &["--grid", "twice"]);
    refused(&dir, &["saes=1,2"], &[], &["--grid", "saes"]);
    refused(&dir, &["k=4,400"], &[], &["k=400"]);
    refused(&dir, &["activation=topk,sigmoid"], &["--auxk", "0.1"], &["sigmoid", "--auxk"]);
    refused(&dir, &["k=4"], &["--saes", "2"], &["--saes"]);
    refused(&dir, &["k=4"], &["--folds", "3"], &["--folds"]);
    refused(&dir, &["k=4"], &["--early-stop", "3"], &["--early-stop", "halving"]);
    refused(&dir, &["k=4"], &["--keep", "2"], &["--keep"]);
    let numbers = dir.path().join("numbers");
    let args =
        ["sweep", "synthetic:kind=directions,rows=200", "--out", s(&numbers), "--perceptual", "0.1", "--grid", "k=4"];
    vibrissa(&args).refused(&["--grid", "--perceptual", "images"]);
    assert!(!numbers.exists());
    refused(&dir, &["lr=0.001,1e-3"], &[], &["--grid", "the same training"]);
    refused(&dir, &["k-anneal=5,50"], &[], &["--k-anneal", "--k-start"]);
    refused(&dir, &["k=4,8"], &["-k", "9"], &["--grid", "k in --grid and beside it"]);
}
