//! Models of patches, from data to report, and what is refused of them.

mod common;

use common::*;
use serde_json::Value;
use std::path::Path;

const DATA: &str = "synthetic:kind=images,rows=400,seed=3";
const PATCHES: [&str; 4] = ["--patch", "6x5", "--stride", "3x4"];
const SMALL: [&str; 7] = ["--latents", "48", "-k", "4", "--steps", "60", "--batch=64"];

fn trained(out: &Path, more: &[&str]) -> Ran {
    train(DATA, out, &[&PATCHES[..], &SMALL, more].concat()).ok()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).expect("JSON")
}

/// The number behind a key of one of the scores.
fn figure(of: &Value, key: &str) -> f64 {
    of[key].as_f64().unwrap_or_else(|| panic!("no {key} in {of}"))
}

#[test]
fn from_data_to_report() {
    let dir = tempdir();
    let run = dir.path().join("run");
    let said = trained(&run, &[]).stderr;
    assert!(said.contains("patches of 6×5, one every 3×4 pixels"), "{said}");
    let config = String::from_utf8(read(&run.join("config.toml"))).expect("UTF-8");
    assert!(config.contains("patch = \"6x5\"") && config.contains("stride = \"3x4\""), "{config}");

    // Figures are of images, and those of the run are those of eval, which knows nothing but the run.
    let own = json(&run.join("eval.json"));
    let again = vibrissa(&["eval", s(&run), DATA, "--json"]).ok().json();
    assert_eq!(own["saes"], again["saes"]);
    assert_eq!(own["mean_image"], again["mean_image"]);
    let sae = &own["saes"][0];
    let (rows, each) = (figure(&own, "rows"), figure(&own, "patches_per_image"));
    assert!(rows > 10.0 && rows < 100.0, "{rows} images of 400 are held out");
    assert!((figure(sae, "l0_image") - each * figure(sae, "l0")).abs() < 1e-9 && figure(sae, "l0") <= 4.0);
    assert!(figure(sae, "pearson") > figure(&own["mean_image"], "pearson"));
    assert!(sae["ssim"].is_f64() && sae["psnr"].is_f64());
    let said = vibrissa(&["eval", s(&run), DATA]).ok().stdout;
    assert!(said.contains("held-out images") && said.contains("active latents in total"), "{said}");
    for name in ["features.png", "reconstructions.png"] {
        assert!(read(&run.join(name)).starts_with(b"\x89PNG"));
    }

    // Rows of encode are patches, named by image and position.
    let out = dir.path().join("latents.npz");
    vibrissa(&["encode", s(&run), DATA, "--split", "test", "--out", s(&out)]).ok();
    let names = String::from_utf8(read(&out.with_extension("rows.txt"))).expect("UTF-8");
    assert_eq!(names.lines().count() as f64, rows * each);
    let first: Vec<&str> = names.lines().take(2).collect();
    let name = first[0].strip_suffix("@0,0").expect("the first place");
    assert_eq!(first[1], format!("{name}@3,0"));

    let found = vibrissa(&["analyze", s(&run), DATA, "--split", "test", "--json"]).ok().json();
    assert_eq!(figure(&found, "rows"), rows * each);
    assert_eq!(found["classes"].as_object().expect("classes").values().filter_map(Value::as_f64).sum::<f64>(), rows);
    let patches = &found["patches"];
    assert_eq!((figure(patches, "width"), figure(patches, "height")), (6.0, 5.0));
    let places = |key: &str| patches[key].as_array().expect("places").len() as f64;
    assert_eq!(places("tops") * places("lefts"), each);
    // The pass measures the same figures as eval.
    let difference = figure(&found["saes"][0], "pearson") - figure(sae, "pearson");
    assert!(difference.abs() < 1e-6, "{difference}");
    assert!((figure(&found["saes"][0], "mse") / figure(sae, "mse") - 1.0).abs() < 1e-5);
    let cited = found["cited"].as_array().expect("rows");
    assert!(cited.iter().all(|c| c["place"].as_array().is_some_and(|p| p.len() == 2)));
    vibrissa(&["prune", s(&run), "--top", "24", "--out", s(&dir.path().join("small"))]).ok();
    for language in ["en", "zh"] {
        vibrissa(&["report", s(&run), "--lang", language]).ok();
        let page = String::from_utf8(read(&run.join("report.html"))).expect("UTF-8");
        assert!(page.contains("\"0.map\"") && page.contains("\"cited_picture\"") && !page.contains("{{"));
    }
}

#[test]
fn shards_merge_to_one_pass_and_never_cut_an_image() {
    let dir = tempdir();
    let run = dir.path().join("run");
    trained(&run, &[]);
    let whole = dir.path().join("whole");
    vibrissa(&["analyze", s(&run), DATA, "--out", s(&whole)]).ok();
    let parts = dir.path().join("parts");
    let shards: Vec<_> = (1..=3)
        .map(|i| {
            let shard = format!("{i}/3");
            vibrissa(&["analyze", s(&run), DATA, "--out", s(&parts), "--shard", &shard]).ok();
            parts.join(format!("shard-{i}-of-3.safetensors"))
        })
        .collect();
    let merged = dir.path().join("merged");
    let shards: Vec<&str> = shards.iter().map(|p| s(p)).collect();
    vibrissa(&[&["merge", s(&run), DATA][..], &shards, &["--out", s(&merged)]].concat()).ok();
    let columns = |folder: &Path| read(&folder.join("analysis.safetensors"));
    assert!(columns(&whole) == columns(&merged), "merged shards give the bytes of one pass");
}

#[test]
fn threads_and_interruptions_change_nothing() {
    let dir = tempdir();
    let runs: Vec<_> = ["1", "2"]
        .iter()
        .map(|n| {
            let out = dir.path().join(n);
            trained(&out, &["--augment", "2", "--threads", n]);
            out
        })
        .collect();
    let model = |run: &Path| read(&run.join("model.safetensors"));
    assert!(model(&runs[0]) == model(&runs[1]), "one and two threads give one model");
    assert_eq!(read(&runs[0].join("eval.json")), read(&runs[1].join("eval.json")));
    let stopped = dir.path().join("stopped");
    let more = [&PATCHES[..], &SMALL[..4], &["--steps", "3000", "--batch", "32", "--checkpoint-every", "20"]].concat();
    kill_after_checkpoint(DATA, &stopped, &more);
    train(DATA, &stopped, &[&more[..], &["--resume"]].concat()).ok();
    let through = dir.path().join("through");
    train(DATA, &through, &more).ok();
    assert!(model(&stopped) == model(&through), "killed and resumed, it is the same model");
}

#[test]
fn a_model_of_patches_is_fine_tuned_on_images_of_another_size() {
    let dir = tempdir();
    let run = dir.path().join("run");
    trained(&run, &[]);
    let on = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        (train(DATA, &out, &[&["--from", s(&run), "--steps", "5"][..], more].concat()), out)
    };
    let (same, out) = on("same", &[]);
    same.ok();
    assert_eq!(json(&out.join("eval.json"))["patches_per_image"], json(&run.join("eval.json"))["patches_per_image"]);
    let (larger, out) = on("larger", &["--size", "24x20", "--stride", "2"]);
    larger.ok();
    // (24 - 6) / 2 + 1 across, and down the last of 5 every 2 of 20 ends at the border.
    assert_eq!(figure(&json(&out.join("eval.json")), "patches_per_image"), 10.0 * 9.0);
    on("other", &["--patch", "8"]).0.refused(&["--patch", "6x5", "leave it out"]);
    let plain = dir.path().join("plain");
    train(DATA, &plain, &SMALL).ok();
    let out = dir.path().join("mixed");
    train(DATA, &out, &["--from", s(&plain), "--patch", "6"]).refused(&["--patch", "whole images"]);
}

#[test]
fn folds_and_early_stopping_work_on_patches() {
    let dir = tempdir();
    let run = dir.path().join("run");
    trained(&run, &["--folds", "2", "--early-stop", "3", "--group", "([0-9])$"]);
    let folds = json(&run.join("eval-folds.json"));
    assert_eq!(figure(&folds, "rows"), 400.0);
}

#[test]
fn patches_that_cannot_be_are_refused() {
    let dir = tempdir();
    let out = dir.path().join("run");
    let refused = |data: &str, options: &[&str], parts: &[&str]| {
        train(data, &out, options).refused(parts);
        assert!(!out.exists(), "nothing is written");
    };
    refused(DATA, &["--patch", "400"], &["--patch", "400x400", "smaller patch"]);
    refused(DATA, &["--patch", "0"], &["--patch", "0x0"]);
    refused(DATA, &["--patch", "six"], &["--patch", "six", "e.g. --patch 8"]);
    refused(DATA, &["--patch", "6", "--stride", "0"], &["--stride", "0x0"]);
    refused(DATA, &["--patch", "6", "--stride", "7"], &["--stride", "7x7", "would be left out"]);
    refused(DATA, &["--stride", "4"], &["--stride", "add --patch"]);
    let rows = "synthetic:kind=directions,rows=200";
    refused(rows, &["--patch", "4"], &["--patch", "rows of numbers", "only images have patches"]);
}

#[test]
fn a_model_whose_patches_do_not_fit_is_refused() {
    let dir = tempdir();
    let run = dir.path().join("run");
    trained(&run, &[]);
    let file = run.join("model.safetensors");
    let bytes = read(&file);
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    let at = text.find("\\\"patches\\\":{\\\"height\\\":5").expect("the model says its patches");
    let mut broken = bytes.clone();
    let from = 8 + at + "\\\"patches\\\":{\\\"height\\\":".len();
    broken[from] = b'7';
    write(&file, &broken);
    // The hash guards the configuration; whoever writes both is stopped by the shapes (unit test of the format).
    vibrissa(&["eval", s(&run), DATA]).refused(&["model.safetensors", "does not match its hash"]);
}
