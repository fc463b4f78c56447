//! Whole runs of the built program on small data, seconds long: what is the same bit for bit, what a RUN holds, what is
//! printed. How a stopped run goes on is the business of resume.rs, how good the figures are that of real_data.rs.

mod common;

use common::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A tensor of a model, as numbers.
fn tensor(run: &Path, name: &str) -> Vec<f32> {
    let bytes = model(run);
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a model");
    let data = file.tensor(name).unwrap_or_else(|_| panic!("no {name}")).data().to_vec();
    data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn names(run: &Path) -> BTreeSet<String> {
    let bytes = model(run);
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a model");
    file.names().into_iter().map(str::to_owned).collect()
}

/// A number that a run's config.toml tells.
fn about(run: &Path, key: &str) -> u64 {
    let number = |l: &str| l.strip_prefix(key)?.strip_prefix(" = ")?.parse().ok();
    config(run).lines().find_map(number).unwrap_or_else(|| panic!("no {key} in {}", config(run)))
}

fn has(config: &str, line: &str) {
    assert!(config.lines().any(|l| l == line), "no line {line:?} in\n{config}");
}

/// The same command with one thread, with two, and on the plain loops instead of this machine's instructions.
fn same_bits(data: &str, options: &[&str]) -> TempDir {
    let dir = tempdir();
    let one = dir.path().join("one");
    train(data, &one, &[options, &["--threads", "1"]].concat()).ok();
    let two = dir.path().join("two");
    train(data, &two, &[options, &["--threads", "2"]].concat()).ok();
    assert!(model(&one) == model(&two), "two threads give another model than one: {options:?}");
    let plain = dir.path().join("plain");
    let mut command = command(&[&["train", data, "--out", s(&plain), "--threads", "2"], options].concat());
    command.env("VIBRISSA_KERNELS", "scalar");
    finish(command).ok();
    assert!(model(&one) == model(&plain), "plain loops give another model: {options:?}");
    dir
}

#[test]
fn threads_change_nothing_tied() {
    let dir = tempdir();
    let options = ["--steps", "60", "--tied", "--raw-topk", "--no-decoder-bias", "--init", "orthogonal"];
    same_bits(&small(&dir), &[&SMALL[..], &options].concat());
}

#[test]
fn threads_change_nothing_untied_with_auxk() {
    let dir = tempdir();
    let options = ["--steps", "60", "--auxk", "0.1", "--k-aux", "8", "--dead-after", "64", "--init", "kaiming"];
    let runs = same_bits(&small(&dir), &[&SMALL[..], &options].concat());
    let worked = metrics(&runs.path().join("one")).iter().any(|l| l["saes"][0]["loss"]["auxk"].as_f64() > Some(0.0));
    assert!(worked, "AuxK never had a dead latent to work on");
}

#[test]
fn threads_change_nothing_in_an_ensemble() {
    let dir = tempdir();
    let options = ["--epochs", "4", "--saes", "2", "--consistency", "0.1", "--init", "data"];
    let runs = same_bits(&small(&dir), &[&SMALL[..], &options].concat());
    let one = runs.path().join("one");
    assert!(tensor(&one, "sae.0.W_enc") != tensor(&one, "sae.1.W_enc"), "each member has its own seed");
}

/// Rows wide enough that sums over columns are cut in pieces, and that decompositions work in blocks.
#[test]
fn threads_change_nothing_for_wide_rows() {
    let dir = tempdir();
    let data = npy(dir.path(), "wide.npy", 600, &numbers(300 * 600, 3));
    for init in ["pca", "orthogonal"] {
        same_bits(&data, &["--latents", "640", "-k", "12", "--batch", "32", "--steps", "6", "--init", init]);
    }
}

#[test]
fn threads_change_nothing_by_the_rule() {
    let dir = tempdir();
    same_bits(&small(&dir), &["--epochs", "3"]);
    let data = image_folder(&dir.path().join("images"), 40, 16, &["a", "b"]);
    same_bits(&data, &["--epochs", "3"]);
}

#[test]
fn threads_change_nothing_with_augmentation() {
    let dir = tempdir();
    let folder = image_folder(&dir.path().join("images"), 40, 20, &["a", "b"]);
    let idx = idx_folder(&dir.path().join("idx"), 40, 10, 10);
    for data in [&folder, &idx] {
        let options = [&SMALL[..], &["--size", "10", "--augment", "3", "--epochs", "3", "--init", "data"]].concat();
        let once = same_bits(data, &options);
        let anew = same_bits(data, &[&options[..], &["--augment-each-epoch"]].concat());
        let models = [once, anew].map(|d| model(&d.path().join("one")));
        assert!(models[0] != models[1], "--augment-each-epoch draws nothing anew");
    }
}

#[test]
fn seeds_change_the_model() {
    let dir = tempdir();
    let data = small(&dir);
    let run = |name: &str, seed: &str| {
        let out = dir.path().join(name);
        train(&data, &out, &[&SMALL[..], &["--steps", "5", "--init", "kaiming", "--seed", seed]].concat()).ok();
        model(&out)
    };
    assert!(run("a", "1") != run("b", "2"));
    assert!(run("c", "1") == run("a2", "1"));
}

#[test]
fn metrics_have_every_key_and_a_last_line() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    let more = ["--steps", "130", "--saes", "2", "--consistency", "0.1", "--auxk", "0.1"];
    let ran = train(&data, &out, &[&SMALL[..], &more].concat()).ok();
    assert_eq!(ran.stdout, "", "results of train go to RUN, not to stdout");
    steps_are_whole(&out, 130);
    let lines = metrics(&out);
    for line in &lines {
        assert!(line["epoch"].is_u64() && line["rows_per_s"].as_f64() > Some(0.0) && line["wall_s"].is_f64(), "{line}");
        let saes = line["saes"].as_array().expect("by SAE");
        assert_eq!(saes.len(), 2);
        for sae in saes {
            for term in ["recon", "auxk", "consistency", "total"] {
                assert!(sae["loss"][term].is_f64(), "no {term} in {line}");
            }
            for key in ["pearson", "fvu", "l0"] {
                assert!(sae[key].is_f64(), "no {key} in {line}");
            }
            assert!(sae["dead_latents"].is_u64());
        }
    }
    let fvu = |l: &Value| l["saes"][0]["fvu"].as_f64().expect("a number");
    assert!(fvu(&lines[lines.len() - 1]) < fvu(&lines[0]), "it learned nothing");
}

#[test]
fn a_run_holds_everything() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 40, 16, &["a", "b"]);
    let out = dir.path().join("run");
    let more = ["--steps", "10", "--saes", "2", "--size", "12x8", "--seed", "9"];
    train(&data, &out, &[&SMALL[..], &more].concat()).ok();
    for file in ["config.toml", "model.safetensors", "metrics.jsonl", "eval.json"] {
        assert!(out.join(file).is_file(), "no {file}");
    }
    assert!(out.join("checkpoints").is_dir());
    for file in ["features.png", "reconstructions.png"] {
        let image = image::load_from_memory(&read(&out.join(file))).expect("an image");
        assert!(image.width() > 12 && image.height() > 8, "{file}");
    }
    let text = config(&out);
    for line in
        ["latents = 48", "k = 6", "size = \"12x8\"", "gray = true", "seed = 9", "saes = 2", "classes = [\"a\", \"b\"]"]
    {
        has(&text, line);
    }
    for key in ["tool-version", "threads", "isa", "training-rows", "test-rows", "lr", "beta2", "schedule", "init"] {
        assert!(text.lines().any(|l| l.starts_with(&format!("{key} = "))), "no {key} in\n{text}");
    }
    let want =
        ["sae.0.W_enc", "sae.0.W_dec", "sae.0.b_enc", "sae.0.b_dec", "sae.1.W_enc", "sae.1.W_dec", "sae.1.b_enc"];
    assert!(want.iter().all(|n| names(&out).contains(*n)), "{:?}", names(&out));
    assert_eq!(tensor(&out, "sae.0.W_enc").len(), 48 * 96);
    let bytes = model(&out);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a model");
    let meta = header.metadata().clone().expect("metadata");
    assert_eq!(meta["schema"], "vibrissa.model/1");
    assert_eq!(meta["config_hash"].len(), 64);
    let eval: Value = serde_json::from_slice(&read(&out.join("eval.json"))).expect("JSON");
    assert_eq!(eval["schema"], "vibrissa.eval/1");
}

#[test]
fn tied_models_have_no_decoder_and_no_bias_where_none_is_wanted() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    train(&data, &out, &[&SMALL[..], &["--steps", "3", "--tied", "--no-decoder-bias"]].concat()).ok();
    assert_eq!(names(&out), ["data.mean", "sae.0.W_enc", "sae.0.b_enc"].map(str::to_owned).into());
}

#[test]
fn steps_0_writes_the_initial_model() {
    let dir = tempdir();
    let (data, out, one) = (small(&dir), dir.path().join("zero"), dir.path().join("one"));
    let options = [&SMALL[..], &["--init", "orthogonal", "--tied"]].concat();
    train(&data, &out, &[&options[..], &["--steps", "0"]].concat()).ok();
    train(&data, &one, &[&options[..], &["--steps", "1"]].concat()).ok();
    steps_are_whole(&out, 0);
    // 48 rows of 24: orthonormal columns.
    let w = tensor(&out, "sae.0.W_enc");
    for (i, j) in [(0, 0), (3, 3), (0, 1), (5, 9)] {
        let dot: f32 = (0..48).map(|h| w[h * 24 + i] * w[h * 24 + j]).sum();
        assert!((dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5, "{dot}");
    }
    assert!(w != tensor(&one, "sae.0.W_enc"), "a step changes it");
}

#[test]
fn from_inherits_model_size_and_channels() {
    let dir = tempdir();
    let idx = idx_folder(&dir.path().join("idx"), 60, 20, 10);
    let first = dir.path().join("first");
    let options = ["--tied", "--raw-topk", "--saes", "2", "--size", "12", "--steps", "10"];
    train(&idx, &first, &[&SMALL[..], &options].concat()).ok();
    let folder = image_folder(&dir.path().join("images"), 30, 20, &["a", "b"]);
    let same = dir.path().join("same");
    train(&folder, &same, &["--from", s(&first), "--steps", "0"]).ok();
    for name in ["sae.0.W_enc", "sae.0.b_enc", "sae.0.b_dec", "sae.1.W_enc"] {
        assert!(tensor(&same, name) == tensor(&first, name), "{name}");
    }
    let text = config(&same);
    for line in
        ["latents = 48", "k = 6", "tied = true", "raw-topk = true", "saes = 2", "size = \"12x12\"", "gray = true"]
    {
        has(&text, line);
    }
    let tuned = dir.path().join("tuned");
    train(&folder, &tuned, &["--from", s(&first), "--steps", "40", "--augment", "2", "--lr", "1e-3"]).ok();
    assert!(tensor(&tuned, "sae.0.W_enc") != tensor(&first, "sae.0.W_enc"));
    let fvu = |run: &Path| {
        vibrissa(&["eval", s(run), &folder, "--split", "train", "--json"]).ok().json()["saes"][0]["fvu"]
            .as_f64()
            .expect("a number")
    };
    assert!(fvu(&tuned) < fvu(&first));
    let out = dir.path().join("out");
    for wish in [["--latents", "49"], ["-k", "7"], ["--saes", "3"], ["--size", "13"]] {
        let more = [&["--from", s(&first)], &wish[..]].concat();
        train(&folder, &out, &more).refused(&[wish[0], "as in the model of --from", "leave it out"]);
    }
    train(&folder, &out, &["--from", s(&first), "--rgb"]).refused(&["as in the model of --from"]);
    assert!(!out.exists());
}

#[test]
fn config_of_a_run_repeats_it_and_flags_win() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 40, 16, &["a", "b"]);
    let run = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        train(&data, &out, more).ok();
        out
    };
    let more = [
        "--size",
        "9x7",
        "--fit",
        "pad",
        "--augment",
        "1",
        "--epochs",
        "2",
        "--tied",
        "--seed",
        "5",
        "--test-fraction",
        "0.3",
        "--weight-decay",
        "0.01",
        "--optimizer",
        "sparse-adam",
        "--init",
        "data",
    ];
    let first = run("first", &[&SMALL[..], &more].concat());
    let file = first.join("config.toml");
    let again = run("again", &["--config", s(&file)]);
    assert!(model(&again) == model(&first));
    assert_eq!(config(&again), config(&first));
    // Chosen values are repeated, too.
    let chosen = run("chosen", &["--epochs", "2", "--latents", "32", "-k", "4"]);
    assert!(model(&run("chosen-again", &["--config", s(&chosen.join("config.toml"))])) == model(&chosen));
    let other = run("other", &["--config", s(&file), "--latents", "32", "--tied=false", "--rgb", "--steps", "3"]);
    let text = config(&other);
    for line in ["latents = 32", "tied = false", "rgb = true", "steps = 3", "k = 6", "seed = 5", "size = \"9x7\""] {
        has(&text, line);
    }
    assert!(!text.contains("epochs = ") && !text.contains("gray = "), "{text}");
}

/// One JSON object with the keys that others rely on.
#[test]
fn eval_json_has_the_schema_it_says() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 40, 16, &["1", "2"]);
    let out = dir.path().join("run");
    train(&data, &out, &[&SMALL[..], &["--steps", "10", "--saes", "2", "--test-fraction", "0.4"]].concat()).ok();
    let json = vibrissa(&["eval", s(&out), &data, "--json"]).ok().json();
    assert_eq!(json["schema"], "vibrissa.eval/1");
    let rows = json["rows"].as_u64().expect("a number");
    let saes = json["saes"].as_array().expect("a list");
    assert_eq!(saes.len(), 2);
    for sae in saes {
        for key in ["pearson", "mse", "fvu", "cosine", "ssim", "perceptual", "psnr", "l0"] {
            assert!(sae[key].is_f64(), "{key}: {sae}");
        }
        for key in ["dead_latents", "rare_latents"] {
            assert!(sae[key].is_u64(), "{key}: {sae}");
        }
        assert_eq!(sae["latents"], 48);
    }
    for key in ["pearson", "mse", "fvu", "cosine", "ssim", "perceptual", "psnr"] {
        assert!(json["ensemble"][key].is_f64() && json["mean_image"][key].is_number(), "{key}: {json}");
    }
    assert_eq!(json["ensemble"].get("l0"), Some(&Value::Null), "the mean of several has no L0 of its own");
    for part in [&saes[0], &saes[1], &json["ensemble"], &json["mean_image"]] {
        let classes = part["by_class"].as_object().expect("by class");
        assert_eq!(classes.keys().map(String::as_str).collect::<Vec<_>>(), ["1", "2"]);
        assert!(classes.values().all(|c| c["mse"].is_f64() && c.get("pearson").is_some()));
        assert_eq!(classes.values().map(|c| c["rows"].as_u64().expect("a number")).sum::<u64>(), rows);
    }
    let by = |threads: &str| {
        let mut json =
            vibrissa(&["eval", s(&out), &data, "--json", "--augment", "3", "--threads", threads]).ok().json();
        json.as_object_mut().expect("an object").remove("seconds");
        json
    };
    assert_eq!(by("1"), by("2"), "threads change no figure either");
    let text = vibrissa(&["eval", s(&out), &data]).ok().stdout;
    assert!(text.contains("Pearson") && text.contains("mean image") && text.contains("class 2"), "{text}");
}

#[test]
fn eval_without_classes_or_images() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    train(&data, &out, &[&SMALL[..], &["--steps", "10"]].concat()).ok();
    let count = |split: &str| {
        let json = vibrissa(&["eval", s(&out), &data, "--split", split, "--json"]).ok().json();
        assert_eq!(json["saes"][0]["by_class"], serde_json::json!({}));
        assert_eq!(json["mean_image"]["by_class"], serde_json::json!({}));
        assert_eq!(json["saes"][0]["ssim"], Value::Null, "rows of numbers have no SSIM");
        assert_eq!(json["saes"][0]["perceptual"], Value::Null);
        json["rows"].as_u64().expect("a number")
    };
    assert_eq!(count("all"), 200);
    assert!(count("test") > 0);
    assert_eq!(count("train") + count("test"), 200);
    let json = vibrissa(&["eval", s(&out), &data, "--json"]).ok().json();
    assert_eq!(json["rows"], count("test"), "test is the default");
    // Values that are not defined are null, and it is JSON all the same: rows that are all equal have no variance.
    let flat = npy(dir.path(), "flat.npy", 24, &[0.5; 24 * 30]);
    let json = vibrissa(&["eval", s(&out), &flat, "--split", "all", "--json"]).ok().json();
    assert_eq!(json["saes"][0]["fvu"], Value::Null, "{json}");
}

#[test]
fn several_runs_are_one_ensemble() {
    let dir = tempdir();
    let data = small(&dir);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    train(&data, &a, &[&SMALL[..], &["--steps", "60", "--init", "kaiming"]].concat()).ok();
    let more = ["--steps", "60", "--latents", "40", "-k", "5", "--saes", "2", "--tied", "--init", "kaiming"];
    train(&data, &b, &more).ok();
    let of = |runs: &[&str]| vibrissa(&[&["eval"], runs, &[&data, "--split", "all", "--json"]].concat()).ok().json();
    let (one, other, both) = (of(&[s(&a)]), of(&[s(&b)]), of(&[s(&a), s(&b)]));
    let saes = both["saes"].as_array().expect("a list");
    assert_eq!(saes.iter().map(|v| v["latents"].as_u64()).collect::<Vec<_>>(), [Some(48), Some(40), Some(40)]);
    assert_eq!(saes[0], one["saes"][0]);
    assert_eq!(saes[2], other["saes"][1]);
    let mse = |v: &Value| v["mse"].as_f64().expect("a number");
    let worst = saes.iter().map(mse).fold(0.0, f64::max);
    assert!(mse(&both["ensemble"]) < worst);
    // Models of rows of another width make no ensemble.
    let narrow = npy(dir.path(), "narrow.npy", 12, &rows(50, 12, 1));
    let c = dir.path().join("c");
    train(&narrow, &c, &["--latents", "16", "-k", "4", "--steps", "1"]).ok();
    vibrissa(&["eval", s(&a), s(&c), &data]).refused(&[s(&c), "another shape", "evaluate it by itself"]);
}

#[test]
fn a_model_of_idx_files_looks_at_images_of_another_size() {
    let dir = tempdir();
    let idx = idx_folder(&dir.path().join("idx"), 60, 20, 10);
    let out = dir.path().join("run");
    train(&idx, &out, &[&SMALL[..], &["--steps", "20"]].concat()).ok();
    has(&config(&out), "test-rows = 20");
    let json = vibrissa(&["eval", s(&out), &idx, "--json"]).ok().json();
    assert_eq!(json["rows"], 20, "the test files are the test set");
    assert_eq!(json["saes"][0]["by_class"].as_object().expect("classes").keys().collect::<Vec<_>>(), ["3", "8"]);
    let folder = image_folder(&dir.path().join("images"), 13, 30, &["1", "2"]);
    let all = |more: &[&str]| {
        let base = ["eval", s(&out), &folder, "--split", "all", "--json"];
        vibrissa(&[&base[..], more].concat()).ok().json()
    };
    let json = all(&[]);
    assert_eq!(json["rows"], 13);
    assert_eq!(json["saes"][0]["by_class"]["1"]["rows"], 7);
    assert!(json["saes"][0]["ssim"].is_null() || json["saes"][0]["ssim"].is_f64());
    assert_eq!(all(&["--augment", "5"])["rows"], 13 * 6);
}

#[test]
fn folds_hold_out_every_row_once() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 23, 12, &["a", "b"]);
    let out = dir.path().join("run");
    let options = [&SMALL[..], &["--steps", "12", "--folds", "3", "--init", "data"]].concat();
    train(&data, &out, &options).ok();
    let pooled: Value = serde_json::from_slice(&read(&out.join("eval-folds.json"))).expect("JSON");
    assert_eq!(pooled["rows"], 23);
    assert_eq!(pooled["saes"][0]["by_class"]["a"]["rows"], 12);
    assert_eq!(pooled["saes"][0]["by_class"]["b"]["rows"], 11);
    assert!(out.join("model.safetensors").exists(), "and a model of all rows");
    has(&config(&out), "training-rows = 23");
}

#[test]
fn early_stop_keeps_the_best_weights() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    // A step much too large gets worse sooner or later.
    let more = ["--epochs", "400", "--early-stop", "2", "--lr", "0.05", "--schedule", "constant", "--warmup", "0"];
    let ran = train(&data, &out, &[&SMALL[..6], &more].concat()).ok();
    assert!(ran.stderr.contains("stopped early"), "{}", ran.stderr);
    assert!(ran.stderr.contains("for early stopping"), "{}", ran.stderr);
    // However soon it stops, the log has a line of the last step, the end of an epoch.
    let last = metrics(&out).last().expect("a line")["step"].as_u64().expect("a step");
    let training: u64 = about(&out, "training-rows");
    assert!(
        last < 400 * training.div_ceil(16) && last.is_multiple_of(training.div_ceil(16)),
        "{last} of {training} rows"
    );
    assert!(!out.join("checkpoints/best.safetensors").exists());
    // The test rows are those that would be held out without it.
    let plain = dir.path().join("plain");
    train(&data, &plain, &[&SMALL[..], &["--steps", "1"]].concat()).ok();
    assert_eq!(about(&out, "test-rows"), about(&plain, "test-rows"));
}

/// Weights of a last, incomplete epoch are judged too, and not thrown away for those of the beginning.
/// While λ is steered more latents are active than asked for, and the error is small for that reason: those weights are not
/// the best.
#[test]
fn early_stop_waits_for_the_sparsity_asked_for() {
    let dir = tempdir();
    for activation in ["relu", "gated"] {
        let run = dir.path().join(activation);
        let data = "synthetic:kind=images,rows=400";
        let ran =
            train(data, &run, &["--activation", activation, "-k", "24", "--epochs", "60", "--early-stop", "5"]).ok();
        assert!(ran.stderr.contains("stopped early"), "{}", ran.stderr);
        let eval = vibrissa(&["eval", s(&run), data, "--split", "train", "--json"]).ok().json();
        let l0 = eval["saes"][0]["l0"].as_f64().expect("L0");
        // Validation rows are among them, and these have more.
        assert!((20.0..33.0).contains(&l0), "{activation} {l0}");
    }
}

#[test]
fn early_stop_judges_the_last_step() {
    let dir = tempdir();
    let (data, zero, out) = (small(&dir), dir.path().join("zero"), dir.path().join("run"));
    let options = [&SMALL[..], &["--early-stop", "3", "--init", "kaiming", "--warmup", "0"]].concat();
    train(&data, &zero, &[&options[..], &["--steps", "0"]].concat()).ok();
    train(&data, &out, &[&options[..], &["--steps", "8"]].concat()).ok();
    assert!(about(&out, "training-rows") > 8 * 16, "less than an epoch");
    assert!(tensor(&out, "sae.0.W_enc") != tensor(&zero, "sae.0.W_enc"), "the steps were thrown away");
}

#[test]
fn a_test_list_names_the_test_rows() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 30, 12, &["a", "b"]);
    let list = dir.path().join("list.txt");
    write(&list, "a/p000.png\nb/p003.png\n\na/p010.png\n");
    let out = dir.path().join("run");
    let ran = train(&data, &out, &[&SMALL[..], &["--steps", "5", "--test-list", s(&list)]].concat()).ok();
    assert!(ran.stderr.contains("warning: class b has only 1 test row;"), "{}", ran.stderr);
    has(&config(&out), "training-rows = 27");
    // The list belongs to the run from now on.
    std::fs::remove_file(&list).expect("removed");
    let json = vibrissa(&["eval", s(&out), &data, "--json"]).ok().json();
    assert_eq!(json["rows"], 3);
    assert_eq!(json["saes"][0]["by_class"]["a"]["rows"], 2);
}

#[test]
fn groups_stay_together() {
    let dir = tempdir();
    let data = dir.path().join("frames");
    for i in 0..60 {
        let bytes = encoded(&synthetic_image(10, 10, i), image::ImageFormat::Png);
        write(&data.join(format!("mouse{}_{i}.png", i / 5)), bytes);
    }
    let out = dir.path().join("run");
    let more = ["--steps", "2", "--group", r"mouse(\d+)_", "--test-fraction", "0.4"];
    train(s(&data), &out, &[&SMALL[..], &more].concat()).ok();
    let test = about(&out, "test-rows");
    assert!(test > 0 && test < 60 && test.is_multiple_of(5), "{test} rows of animals with 5 each");
}

#[test]
fn sixteen_bit_tiffs_and_their_range() {
    let dir = tempdir();
    let data = dir.path().join("scope");
    for i in 0..20u32 {
        // 12 of 16 bits, as microscopes write them; one pixel reaches the top.
        let values = numbers(64, u64::from(i) + 5);
        let image = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(8, 8, |x, y| {
            image::Luma([if (x, y, i) == (0, 0, 0) { 4095 } else { (values[(y * 8 + x) as usize] * 4000.0) as u16 }])
        });
        let mut out = std::io::Cursor::new(Vec::new());
        image.write_to(&mut out, image::ImageFormat::Tiff).expect("encoded");
        write(&data.join(format!("p{i:02}.tif")), out.into_inner());
    }
    let mean = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        train(s(&data), &out, &[&SMALL[..], &["--steps", "1"], more].concat()).ok();
        tensor(&out, "data.mean")
    };
    let (auto, full) = (mean("auto", &[]), mean("full", &["--range", "full"]));
    assert!(auto.iter().any(|&m| m > 0.3) && full.iter().all(|&m| m < 0.07), "{auto:?} {full:?}");
    for (a, f) in auto.iter().zip(&full) {
        assert!((a * 4095.0 / 65535.0 - f).abs() < 1e-6, "{a} {f}");
    }
}

/// Python with NumPy and safetensors, and the script; `None` (with a note) where they are missing.
fn recompute(test: &str, args: &[&str]) -> Option<std::process::Output> {
    let python = std::env::var("VIBRISSA_PYTHON").unwrap_or_else(|_| "python3".into());
    let available =
        Command::new(&python).args(["-c", "import numpy, safetensors"]).output().is_ok_and(|o| o.status.success());
    if !available {
        skip(test, "python3 with numpy and safetensors is not there");
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/recompute.py");
    Some(Command::new(&python).arg(script).args(args).output().expect("python runs"))
}

/// Weights act on rows as loaded: data of any magnitude trains, and the figures of every kind of model can be recomputed from
/// the model file and the rows alone.
#[test]
fn numpy_recomputes_the_figures() {
    const ACTIVATIONS: [&str; 6] = ["topk", "batchtopk", "relu", "jumprelu", "gated", "sigmoid"];
    let dir = tempdir();
    let plain = small(&dir);
    let huge: Vec<f32> = rows(200, 24, 1).iter().map(|v| v * 3000.0).collect();
    let huge = npy(dir.path(), "huge.npy", 24, &huge);
    let unit: Vec<f32> = rows(200, 24, 1).iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
    let unit = npy(dir.path(), "unit.npy", 24, &unit);
    let images = image_folder(&dir.path().join("images"), 30, 12, &[]);
    let pixels =
        (0..30).flat_map(|i| synthetic_image(12, 12, i).into_raw()).map(|p| f32::from(p) / 255.0).collect::<Vec<_>>();
    let pixels = npy(dir.path(), "pixels.npy", 144, &pixels);

    // The data of train and eval, the same rows for NumPy, the options.
    let mut cases: Vec<(&str, &str, Vec<&str>)> = vec![
        (&plain, &plain, vec!["--tied", "--raw-topk", "--no-decoder-bias"]),
        (&plain, &plain, vec!["--saes", "2", "--init", "kaiming"]),
        (&huge, &huge, vec!["--saes", "2"]),
        (&plain, &plain, vec!["--matryoshka", "12,24"]),
        (&plain, &plain, vec!["--matryoshka", "12,24", "--activation", "jumprelu", "--tied"]),
        (&unit, &unit, vec!["--loss", "cross-entropy", "--activation", "relu"]),
    ];
    for activation in ACTIVATIONS {
        cases.push((&plain, &plain, vec!["--activation", activation]));
        cases.push((&plain, &plain, vec!["--activation", activation, "--tied"]));
        cases.push((&images, &pixels, vec!["--activation", activation, "--patch", "5x4", "--stride", "3x4"]));
    }
    for (i, (data, numpy, more)) in cases.iter().enumerate() {
        let out = dir.path().join(format!("run{i}"));
        train(data, &out, &[&SMALL[..], &["--steps", "50"], &more[..]].concat()).ok();
        let ours = vibrissa(&["eval", s(&out), data, "--split", "all", "--json"]).ok().json();
        let Some(ran) = recompute("numpy_recomputes_the_figures", &[s(&out), numpy]) else { return };
        assert!(ran.status.success(), "{more:?}: {}", String::from_utf8_lossy(&ran.stderr));
        let theirs: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        assert_eq!(ours["rows"], theirs["rows"]);
        let pairs = ours["saes"].as_array().into_iter().flatten().zip(theirs["saes"].as_array().into_iter().flatten());
        let mut compared = BTreeSet::new();
        for (ours, theirs) in pairs.chain([(&ours["ensemble"], &theirs["ensemble"])]) {
            for key in ["pearson", "mse", "fvu", "cosine", "l0", "cross_entropy"] {
                let Some(a) = ours[key].as_f64() else { continue };
                let b = theirs[key].as_f64().unwrap_or_else(|| panic!("no {key} in {theirs} ({more:?})"));
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1e-3), "{key}: {a} here, {b} by NumPy ({more:?})");
                compared.insert(key);
            }
        }
        let entropy = *data == unit || *data == images;
        assert_eq!(compared.len(), if entropy { 6 } else { 5 }, "{compared:?} ({more:?})");
    }
}

/// Figures of a model that the script does not know would be wrong without a sign of it.
#[test]
fn numpy_refuses_unknown_models() {
    let dir = tempdir();
    let data = small(&dir);
    let out = dir.path().join("run");
    train(&data, &out, &[&SMALL[..], &["--steps", "2"]].concat()).ok();
    let file = out.join("model.safetensors");
    let before = model(&out);
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = before.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
        let mut bytes = before.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    for (from, to) in [("topk", "tops"), ("relu_after", "relu_befor"), ("vibrissa.model/1", "vibrissa.model/9")] {
        write(&file, replaced(from, to));
        let Some(ran) = recompute("numpy_refuses_unknown_models", &[s(&out), &data]) else { return };
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && said.contains(to) && !said.contains("Traceback"), "{to}: {said}");
    }
}

// ---- what a review found ---------------------------------------------------------------------------------------------

#[test]
fn demo_touches_no_folder_but_its_own() {
    let dir = tempdir();
    let out = dir.path().join("precious");
    write(&out.join("config.toml"), "");
    write(&out.join("model.safetensors"), "mine");
    write(&out.join("thesis.txt"), "mine");
    let before = snapshot(&out);
    let ran = vibrissa(&["demo", "--out", s(&out)]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert_eq!(snapshot(&out), before);
}

#[test]
fn demo_replaces_an_earlier_one_and_nothing_else() {
    let dir = tempdir();
    let out = dir.path().join("demo");
    vibrissa(&["demo", "--out", s(&out)]).ok();
    let files = |left: &[&str]| {
        let made = snapshot(&out).into_iter().filter(|f| f.0.is_file());
        made.map(|f| f.0).filter(|p| !left.iter().any(|l| p.ends_with(l))).collect::<Vec<_>>()
    };
    let first = (files(&[]), model(&out));
    assert!(first.0.contains(&out.join("report-figures/report.md")), "{:?}", first.0);
    let mine = ["thesis.txt", "report-figures/notes.txt"];
    mine.iter().for_each(|name| write(&out.join(name), "mine"));
    vibrissa(&["demo", "--out", s(&out)]).ok();
    assert!(mine.iter().all(|name| read(&out.join(name)) == b"mine"));
    assert!((files(&mine), model(&out)) == first);
}

#[test]
fn early_stopping_with_one_validation_row_keeps_what_was_learned() {
    let dir = tempdir();
    // All rows alike: whatever is learned from some helps the others.
    let alike: Vec<f32> = (0..14 * 8).map(|i| ((i % 8) as f32).sin() * (1.0 + (i / 8) as f32 * 0.05)).collect();
    let data = npy(dir.path(), "few.npy", 8, &alike);
    let (run, start) = (dir.path().join("run"), dir.path().join("start"));
    let options = ["--init", "kaiming", "--latents", "16", "-k", "2", "--early-stop", "40", "--lr", "0.01"];
    let ran = train(&data, &run, &[&options[..], &["--epochs", "60"]].concat()).ok();
    assert!(!ran.stderr.contains("NaN"), "{}", ran.stderr);
    train(&data, &start, &[&options[..], &["--steps", "0"]].concat()).ok();
    assert!(model(&run) != model(&start), "training was thrown away");
}

#[test]
fn one_row_trains_without_validation_rows() {
    let dir = tempdir();
    for n in 1..5 {
        let data = npy(dir.path(), &format!("{n}.npy"), 8, &rows(n, 8, 5));
        let run = dir.path().join(n.to_string());
        train(&data, &run, &["--latents", "8", "-k", "2", "--epochs", "2", "--test-fraction", "0"]).ok();
    }
}

#[test]
fn early_stop_0_is_off_and_stays_off_on_resume() {
    let dir = tempdir();
    let (data, run) = (npy(dir.path(), "few.npy", 8, &rows(40, 8, 3)), dir.path().join("run"));
    train(&data, &run, &["--latents", "16", "-k", "2", "--epochs", "3", "--early-stop", "0"]).ok();
    has(&config(&run), "early-stop = 0");
    assert_eq!(about(&run, "training-rows") + about(&run, "test-rows"), 40);
}

#[test]
fn folds_have_no_test_rows_to_evaluate() {
    let dir = tempdir();
    let (data, run, list) = (small(&dir), dir.path().join("run"), dir.path().join("list.txt"));
    write(&list, "x.npy:3\n");
    let both = train(&data, &run, &[&SMALL[..], &["--steps", "5", "--folds", "2", "--test-list", s(&list)]].concat());
    assert_eq!(both.code, Some(2));
    assert!(both.stderr.contains("--folds") && !run.exists(), "{}", both.stderr);
    train(&data, &run, &[&SMALL[..], &["--steps", "5", "--folds", "2"]].concat()).ok();
    let ran = vibrissa(&["eval", s(&run), &data]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("eval-folds.json"), "{}", ran.stderr);
    vibrissa(&["eval", s(&run), &data, "--split", "all"]).ok();
}

#[test]
fn several_runs_are_tested_on_rows_that_none_was_trained_on() {
    let dir = tempdir();
    let data = small(&dir);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (one, two) = (dir.path().join("one.txt"), dir.path().join("two.txt"));
    write(&one, "x.npy:3\nx.npy:4\nx.npy:5\n");
    write(&two, "x.npy:5\nx.npy:6\n");
    for (run, list) in [(&a, &one), (&b, &two)] {
        train(&data, run, &[&SMALL[..], &["--steps", "5", "--test-list", s(list)]].concat()).ok();
    }
    let ran = vibrissa(&["eval", s(&a), s(&b), &data, "--json"]).ok();
    let record: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(record["rows"], 1);
}

#[test]
fn a_grouped_run_is_evaluated_on_other_data() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("mouse"), 30, 16, &["a", "b"]);
    let other = image_folder(&dir.path().join("other"), 40, 16, &["q"]);
    let run = dir.path().join("run");
    train(&data, &run, &["--latents", "16", "-k", "2", "--epochs", "2", "--group", "^(a/.)"]).ok();
    vibrissa(&["eval", s(&run), &other]).ok();
}

#[test]
fn held_out_figures_while_training_are_of_all_classes() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 1400, 8, &["a", "b"]);
    let run = dir.path().join("run");
    train(&data, &run, &["--latents", "32", "-k", "4", "--steps", "30", "--test-fraction", "0.9"]).ok();
    let eval: Value = serde_json::from_slice(&read(&run.join("eval.json"))).expect("JSON");
    let whole = eval["saes"][0]["pearson"].as_f64().expect("a figure");
    let last = metrics(&run).last().expect("a line")["saes"][0]["pearson"].as_f64().expect("a figure");
    assert!((whole - last).abs() < 0.02, "{whole} {last}");
}

#[test]
fn known_features_are_recovered_and_counted() {
    let dir = tempdir();
    let run = dir.path().join("run");
    let spec = "synthetic:kind=directions,dim=64,features=48,active=2,rows=20000";
    let said = train(spec, &run, &["--latents", "64", "-k", "2", "--epochs", "4"]).ok().stderr;
    assert!(said.contains("48 features are known, 48 of which fire in these rows:"), "{said}");
    let own: Value = serde_json::from_slice(&read(&run.join("eval.json"))).expect("JSON");
    let again = vibrissa(&["eval", s(&run), spec, "--json"]).ok().json();
    assert_eq!(own["recovery"], again["recovery"]);
    let found = |key: &str| again["recovery"][0][key].as_f64().unwrap_or_else(|| panic!("no {key} in {again}"));
    assert!(found("mcc") > 0.95 && found("mmcs") >= found("mcc") && found("found") > 0.95, "{again}");
    assert!(found("f1") > 0.75 && found("precision") > 0.85 && found("recall") > 0.65, "{again}");
    assert!(found("mcc_chance") < found("mmcs_chance") && found("mmcs_chance") < 0.4, "{again}");
    assert_eq!((found("features"), found("fired"), found("rows")), (48.0, 48.0, again["rows"].as_f64().expect("rows")));
    // Other features than those it was trained on.
    let other = format!("{spec},seed=1");
    let json = vibrissa(&["eval", s(&run), &other, "--json"]).ok().json();
    let strange = &json["recovery"][0];
    assert!(
        strange["mcc"].as_f64().expect("a figure") < 0.45 && strange["f1"].as_f64().expect("a figure") < 0.3,
        "{json}"
    );
}

#[test]
fn only_the_features_of_synthetic_rows_as_drawn_are_known() {
    let dir = tempdir();
    let (images, smaller) = (dir.path().join("images"), dir.path().join("smaller"));
    let spec = "synthetic:size=8,rows=300,features=20,active=3";
    train(spec, &images, &["--steps", "2", "--latents", "64", "--augment", "1"]).ok();
    let json = vibrissa(&["eval", s(&images), spec, "--augment", "1", "--json"]).ok().json();
    assert_eq!(json["rows"].as_u64().map(|n| n / 2), json["recovery"][0]["rows"].as_u64(), "variants are passed over");
    train(spec, &smaller, &["--steps", "2", "--latents", "64", "--size", "7"]).ok();
    let json = vibrissa(&["eval", s(&smaller), spec, "--json"]).ok().json();
    assert!(json.get("recovery").is_none(), "{json}");
}
