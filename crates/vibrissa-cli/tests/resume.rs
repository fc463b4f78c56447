//! Runs that are killed or stopped, and go on: to the same bits, or with the reason why not.

mod common;

use common::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Long enough to be killed, with everything on that a checkpoint has to keep.
const LONG: [&str; 27] = [
    "--lr",
    "0.001",
    "--latents",
    "128",
    "-k",
    "8",
    "--batch",
    "16",
    "--steps",
    "3000",
    "--checkpoint-every",
    "70",
    "--saes",
    "2",
    "--consistency",
    "0.1",
    "--auxk",
    "0.1",
    "--dead-after",
    "200",
    "--init",
    "kaiming",
    "--warmup",
    "100",
    "--keep",
    "2",
    "--reinforce",
];

fn long(dir: &TempDir) -> String {
    npy(dir.path(), "x.npy", 64, &rows(210, 64, 1))
}

fn resumed_at(stderr: &str) -> u64 {
    let lines: Vec<&str> = stderr.lines().filter_map(|l| l.strip_prefix("resumed at step ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    lines[0].parse().expect("a number")
}

#[test]
fn killed_and_resumed_equals_not_killed() {
    let dir = tempdir();
    let (data, whole, killed) = (long(&dir), dir.path().join("whole"), dir.path().join("killed"));
    kill_after_checkpoint(&data, &killed, &LONG);
    // Twice, and with another number of threads.
    let again = [&LONG[..], &["--resume", "--threads", "1"]].concat();
    let before = read(&killed.join("checkpoints/last.safetensors"));
    let mut child = start(&data, &killed, &again);
    while child.try_wait().expect("a child").is_none() && read(&killed.join("checkpoints/last.safetensors")) == before {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("it still runs");
    child.wait().expect("it ended");
    assert!(!killed.join("model.safetensors").exists());

    let ran = train(&data, &killed, &[&LONG[..], &["--resume"]].concat()).ok();
    let step = resumed_at(&ran.stderr);
    assert!(step >= 140 && step.is_multiple_of(70) && step < 3000, "{step}");
    train(&data, &whole, &LONG).ok();
    assert!(model(&whole) == model(&killed), "another model than that of the run that was not killed");
    steps_are_whole(&killed, 3000);
    steps_are_whole(&whole, 3000);
    assert_eq!(leftovers(&killed), [] as [std::path::PathBuf; 0]);
    let history: Vec<_> =
        ["step-2870", "step-2940"].map(|n| killed.join(format!("checkpoints/{n}.safetensors"))).into();
    let kept: BTreeSet<_> = snapshot(&killed.join("checkpoints")).into_keys().collect();
    assert_eq!(kept, history.into_iter().collect());
}

/// SAEs of an ensemble do several steps each before the next one comes, but no further than to a checkpoint: with one
/// after every step they go step by step. Small SAEs step side by side, large ones one after the other.
#[test]
fn checkpoints_change_nothing_in_an_ensemble() {
    let dir = tempdir();
    let small =
        "--latents 128 --steps 150 --warmup 30 --k-start 20 --noise 0.1 --dropout 0.1 --auxk 0.1 --dead-after 200";
    let large = "--latents 2048 --steps 6".to_owned();
    let all = [(61, format!("{small} --reinforce")), (61, format!("{small} --matryoshka random:3")), (2048, large)];
    for (i, (dim, options)) in all.iter().enumerate() {
        let data = npy(dir.path(), &format!("{dim}.npy"), *dim, &rows(210, *dim, 1));
        let options = format!("{options} --saes 3 -k 8 --batch 16 --lr 0.001 --init kaiming");
        let options: Vec<&str> = options.split_whitespace().collect();
        let (few, many) = (dir.path().join(format!("few-{i}")), dir.path().join(format!("many-{i}")));
        train(&data, &few, &options).ok();
        train(&data, &many, &[&options[..], &["--checkpoint-every", "1"]].concat()).ok();
        assert!(model(&few) == model(&many), "{options:?}: another model where checkpoints are written");
        let saes = |run: &Path| -> Vec<serde_json::Value> { metrics(run).iter().map(|l| l["saes"].clone()).collect() };
        assert_eq!(saes(&few), saes(&many), "{options:?}");
    }
}

/// Checkpoints fall on the steps at which latents begin again, whose lengths a file does not keep.
#[test]
fn killed_while_latents_begin_again_and_resumed() {
    let dir = tempdir();
    let (data, whole, killed) = (long(&dir), dir.path().join("whole"), dir.path().join("killed"));
    let options = [
        "--tied",
        "--raw-topk",
        "--no-decoder-bias",
        "--latents",
        "128",
        "-k",
        "8",
        "--batch",
        "16",
        "--steps",
        "2000",
        "--checkpoint-every",
        "100",
        "--init",
        "kaiming",
        "--reinforce",
        "--lr",
        "0.001",
    ];
    kill_after_checkpoint(&data, &killed, &options);
    train(&data, &killed, &[&options[..], &["--resume"]].concat()).ok();
    train(&data, &whole, &options).ok();
    assert!(model(&whole) == model(&killed));
    assert!(metrics(&whole).iter().any(|l| l["saes"][0]["reborn"].as_u64() > Some(0)));
}

#[test]
fn killed_with_augmentation_and_early_stop_and_resumed() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("images"), 60, 16, &["a", "b"]);
    let options = [
        "--latents",
        "64",
        "-k",
        "6",
        "--batch",
        "8",
        "--epochs",
        "60",
        "--checkpoint-every",
        "25",
        "--augment",
        "1",
        "--augment-each-epoch",
        "--early-stop",
        "1000",
        "--init",
        "kaiming",
    ];
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    kill_after_checkpoint(&data, &killed, &options);
    let ran = train(&data, &killed, &[&options[..], &["--resume"]].concat()).ok();
    assert!(resumed_at(&ran.stderr) >= 25);
    train(&data, &whole, &options).ok();
    assert!(model(&whole) == model(&killed));
}

#[test]
fn killed_between_folds_and_resumed() {
    let dir = tempdir();
    let (data, whole, killed) = (long(&dir), dir.path().join("whole"), dir.path().join("killed"));
    let options =
        ["--latents", "64", "-k", "6", "--batch", "16", "--steps", "400", "--folds", "3", "--init", "kaiming"];
    let mut child = start(&data, &killed, &options);
    wait_for(&mut child, &killed.join("folds/0/model.safetensors"));
    child.kill().expect("it still runs");
    child.wait().expect("it ended");
    assert!(!killed.join("model.safetensors").exists());
    train(&data, &killed, &["--resume"]).ok();
    train(&data, &whole, &options).ok();
    assert!(model(&whole) == model(&killed));
    let pooled = |run: &Path| read(&run.join("eval-folds.json"));
    assert!(pooled(&whole) == pooled(&killed));
}

#[test]
fn fine_tuning_killed_and_resumed() {
    let dir = tempdir();
    let (data, base) = (long(&dir), dir.path().join("base"));
    train(&data, &base, &["--latents", "128", "-k", "8", "--steps", "20", "--lr", "1e-3"]).ok();
    let options = ["--from", s(&base), "--steps", "3000", "--batch", "16", "--checkpoint-every", "50", "--lr", "1e-4"];
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    kill_after_checkpoint(&data, &killed, &options);
    let ran = train(&data, &killed, &["--resume"]).ok();
    assert!(resumed_at(&ran.stderr) >= 50);
    train(&data, &whole, &options).ok();
    assert!(model(&whole) == model(&killed));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_exits_cleanly() {
    let dir = tempdir();
    let (data, whole, out) = (long(&dir), dir.path().join("whole"), dir.path().join("run"));
    let mut child = start(&data, &out, &LONG);
    wait_for(&mut child, &out.join("checkpoints/last.safetensors"));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
    let ended = child.wait_with_output().expect("it ended");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    let at = stderr.lines().find_map(|l| l.strip_prefix("stopped at step ")).expect("it says where");
    let at: u64 = at.split(';').next().expect("a part").parse().expect("a number");
    assert!(stderr.contains("--resume"));
    assert!(out.join("checkpoints/last.safetensors").exists() && !out.join("model.safetensors").exists());

    // RUN knows its own options.
    let ran = train(&data, &out, &["--resume"]).ok();
    assert_eq!(resumed_at(&ran.stderr), at, "it goes on exactly where it stopped");
    train(&data, &whole, &LONG).ok();
    assert!(model(&whole) == model(&out));
    steps_are_whole(&out, 3000);
}

#[test]
fn resume_with_nothing_to_resume_starts_at_0() {
    let dir = tempdir();
    let (data, fresh, out) = (small(&dir), dir.path().join("fresh"), dir.path().join("run"));
    let options = [&SMALL[..], &["--steps", "20"]].concat();
    train(&data, &fresh, &options).ok();
    let ran = train(&data, &out, &[&options[..], &["--resume"]].concat()).ok();
    assert_eq!(resumed_at(&ran.stderr), 0);
    assert!(model(&out) == model(&fresh));
    // A run that was killed before its first checkpoint: a RUN without one. Its own options are taken up again.
    let begun = dir.path().join("begun");
    write(&begun.join("config.toml"), config(&out));
    let ran = train(&data, &begun, &["--resume"]).ok();
    assert_eq!(resumed_at(&ran.stderr), 0);
    assert!(model(&begun) == model(&fresh));
}

#[test]
fn an_ended_run_takes_no_other_options() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    train(&data, &out, &[&SMALL[..], &["--steps", "20"]].concat()).ok();
    let ran = train(&data, &out, &["--resume", "--steps", "30"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("steps is 20 in the run, 30 now") && ran.stderr.contains("--from"), "{}", ran.stderr);
}

#[test]
fn two_processes_do_not_share_a_run() {
    let dir = tempdir();
    let (data, out) = (long(&dir), dir.path().join("run"));
    let mut child = start(&data, &out, &LONG);
    wait_for(&mut child, &out.join("checkpoints/last.safetensors"));
    let ran = train(&data, &out, &["--resume"]);
    child.kill().expect("it still runs");
    child.wait().expect("it ended");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("another process"), "{}", ran.stderr);
}

#[test]
fn resume_of_a_finished_run_changes_nothing() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    train(&data, &out, &[&SMALL[..], &["--steps", "20"]].concat()).ok();
    let before = snapshot(&out);
    let ran = train(&data, &out, &["--resume"]).ok();
    assert!(ran.stderr.contains("has ended"), "{}", ran.stderr);
    assert_eq!(snapshot(&out), before);
}

#[test]
fn killed_between_the_model_and_its_figures() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("run"));
    for more in [&["--steps", "20"][..], &["--steps", "20", "--folds", "2"]] {
        let _ = std::fs::remove_dir_all(&out);
        train(&data, &out, &[&SMALL[..], more].concat()).ok();
        let before = snapshot(&out);
        for gone in ["eval.json", "eval-folds.json", "features.png", "reconstructions.png"] {
            let _ = std::fs::remove_file(out.join(gone));
        }
        write(&out.join("checkpoints/last.safetensors"), "half");
        let ran = train(&data, &out, &["--resume"]).ok();
        assert_eq!(resumed_at(&ran.stderr), 20);
        assert_eq!(snapshot(&out), before);
    }
}

#[test]
fn a_checkpoint_is_no_model() {
    let dir = tempdir();
    let (data, run) = (long(&dir), dir.path().join("run"));
    kill_after_checkpoint(&data, &run, &LONG);
    let last = run.join("checkpoints/last.safetensors");
    let ran = vibrissa(&["eval", s(&last), &data]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--resume"), "{}", ran.stderr);
}

#[test]
fn resume_takes_no_folder_that_is_no_run() {
    let dir = tempdir();
    let (data, out) = (small(&dir), dir.path().join("mine"));
    write(&out.join("features.png"), "mine");
    write(&out.join("metrics.jsonl"), "mine");
    let before = snapshot(&out);
    let ran = train(&data, &out, &["--resume"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert_eq!(snapshot(&out), before);
}

#[test]
fn resume_needs_neither_the_test_list_nor_the_first_model() {
    let dir = tempdir();
    let (data, base, run) = (long(&dir), dir.path().join("base"), dir.path().join("run"));
    let list = dir.path().join("list.txt");
    write(&list, "x.npy:3\nx.npy:4\n");
    train(&data, &base, &["--latents", "128", "-k", "8", "--steps", "5", "--lr", "1e-3"]).ok();
    let options = ["--from", s(&base), "--steps", "3000", "--batch", "16", "--checkpoint-every", "50", "--lr", "1e-4"];
    kill_after_checkpoint(&data, &run, &[&options[..], &["--test-list", s(&list)]].concat());
    std::fs::remove_dir_all(&base).expect("removed");
    std::fs::remove_file(&list).expect("removed");
    train(&data, &run, &["--resume"]).ok();
}

#[test]
fn other_augmentation_is_another_run() {
    let dir = tempdir();
    let (data, run) = (image_folder(&dir.path().join("images"), 60, 16, &["a", "b"]), dir.path().join("run"));
    let options = ["--latents", "64", "-k", "6", "--batch", "8", "--epochs", "90", "--augment", "1", "--lr", "1e-3"];
    kill_after_checkpoint(&data, &run, &[&options[..], &["--checkpoint-every", "25"]].concat());
    let ran = train(&data, &run, &["--resume", "--augment-each-epoch"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("augment-each-epoch is false in the run, true now"), "{}", ran.stderr);
}
