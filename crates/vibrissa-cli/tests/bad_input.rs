//! Bad input: one line that names the file or option and the remedy, exit code 2, nothing half-written. Every test is
//! named after what is wrong.

mod common;

use common::*;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Trains on bad data: refused with all of `parts`, and no RUN.
fn bad_data(dir: &TempDir, data: &str, parts: &[&str]) {
    let out = dir.path().join("run");
    let before = snapshot(dir.path());
    train(data, &out, &["--steps", "1"]).refused(parts);
    assert_eq!(snapshot(dir.path()), before, "something was written");
}

/// Three good images and a bad one: refused by name; with `--skip-bad` it goes on and says what it left out.
fn bad_image(name: &str, bytes: &[u8], found: &str) {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("data"), 24, 12, &[]);
    write(&dir.path().join("data").join(name), bytes);
    bad_data(&dir, &data, &[name, found, "remove it or set --skip-bad"]);

    let out = dir.path().join("run");
    let ran = train(&data, &out, &["--skip-bad", "--steps", "1"]).ok();
    assert!(ran.stderr.contains("24 grey") || ran.stderr.contains(": 24 "), "{}", ran.stderr);
    let skipped: Vec<&str> = ran.stderr.lines().filter(|l| l.starts_with("skipped: ")).collect();
    assert!(skipped.len() == 1 && skipped[0].contains(name) && skipped[0].contains(found), "{}", ran.stderr);
    assert!(out.join("model.safetensors").exists());
    let eval = ["eval", s(&out), &data, "--split", "all", "--json"];
    vibrissa(&eval).refused(&[name, found]);
    let ran = vibrissa(&[&eval[..], &["--skip-bad"]].concat()).ok();
    assert_eq!(ran.json()["rows"], 24);
    assert!(ran.stderr.contains("skipped: ") && ran.stderr.contains(name), "{}", ran.stderr);
}

#[test]
fn truncated_jpeg() {
    let whole = encoded(&synthetic_image(64, 64, 1), image::ImageFormat::Jpeg);
    bad_image("cut.jpg", &whole[..whole.len() / 2], "cut.jpg: ");
}

#[test]
fn text_file_named_png() {
    bad_image("notes.png", b"these are my notes", "not an image (starts with 74 68 65 73");
}

#[test]
fn zero_byte_file() {
    bad_image("empty.png", b"", "empty (0 bytes)");
}

#[test]
fn skip_bad_with_nothing_left() {
    let dir = tempdir();
    let data = dir.path().join("data");
    write(&data.join("a.png"), b"no image");
    write(&data.join("b.png"), b"");
    train(s(&data), &dir.path().join("run"), &["--skip-bad"]).refused(&[s(&data), "2"]);
    assert!(!dir.path().join("run").exists());
}

#[test]
fn empty_folder() {
    let dir = tempdir();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("made");
    bad_data(&dir, s(&data), &[s(&data), "no images", "check the path"]);
}

#[test]
fn missing_folder() {
    let dir = tempdir();
    let data = dir.path().join("nowhere");
    bad_data(&dir, s(&data), &[s(&data), "no such file or folder", "give a folder of images"]);
}

#[test]
fn missing_npy() {
    let dir = tempdir();
    let data = dir.path().join("nowhere.npy");
    bad_data(&dir, s(&data), &[s(&data), "; "]);
}

#[test]
fn nan_or_infinity_in_an_npy() {
    let dir = tempdir();
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut values = rows(20, 8, 1);
        values[13 * 8 + 5] = value;
        let data = npy(dir.path(), "x.npy", 8, &values);
        bad_data(&dir, &data, &["x.npy", name, "row 13, column 5", "remove or replace"]);
    }
}

fn bad_npy(bytes: Vec<u8>, found: &str) {
    let dir = tempdir();
    let path = dir.path().join("x.npy");
    write(&path, bytes);
    bad_data(&dir, s(&path), &["x.npy", found, "; "]);
}

#[test]
fn object_npy() {
    bad_npy(npy_bytes("|O", "(2, 2)", b"\x80\x04]\x94."), "O");
}

#[test]
fn one_dimensional_npy() {
    bad_npy(npy_bytes("<f4", "(6,)", &le(&[0.5; 6])), "6");
}

#[test]
fn npy_header_promising_more_than_the_file_holds() {
    bad_npy(npy_bytes("<f4", "(100, 4)", &le(&[0.5; 40])), "160");
}

#[test]
fn npy_header_promising_more_than_memory_can_hold() {
    bad_npy(npy_bytes("<f4", "(4611686018427387904, 4611686018427387904)", &le(&[0.5; 40])), "4611686018427387904");
}

#[test]
fn npy_without_rows() {
    bad_npy(npy_bytes("<f4", "(0, 4)", &[]), "0");
}

#[test]
fn npy_that_is_text() {
    bad_npy(b"1,2,3\n4,5,6\n".to_vec(), "31 2c 32");
}

#[test]
fn idx_header_lying_about_its_size() {
    for (sizes, held) in [([30, 6, 6], 20 * 36), ([10, 6, 6], 20 * 36), ([u32::MAX, u32::MAX, u32::MAX], 20 * 36)] {
        let dir = tempdir();
        let data = idx_folder(&dir.path().join("data"), 20, 10, 6);
        let name = "train-images-idx3-ubyte";
        write(&dir.path().join("data").join(name), idx_bytes(&sizes, &vec![9; held]));
        bad_data(&dir, &data, &[name, "its header promises", "download it again"]);
    }
}

#[test]
fn idx_labels_of_another_number() {
    let dir = tempdir();
    let data = idx_folder(&dir.path().join("data"), 20, 10, 6);
    write(&dir.path().join("data/train-labels-idx1-ubyte"), idx_bytes(&[19], &[3; 19]));
    bad_data(&dir, &data, &["train-labels-idx1-ubyte", "19 labels", "20 images"]);
}

#[test]
fn overlapping_safetensors() {
    let dir = tempdir();
    let path = dir.path().join("x.safetensors");
    let tensor = |from: usize| format!(r#"{{"dtype":"F32","shape":[2,4],"data_offsets":[{from},{}]}}"#, from + 32);
    let header = format!(r#"{{"a":{},"b":{}}}"#, tensor(0), tensor(16));
    write(&path, safetensors_bytes(&header, &[0; 48]));
    bad_data(&dir, s(&path), &["x.safetensors", "; "]);
}

#[test]
fn safetensors_header_promising_more_than_the_file_holds() {
    let dir = tempdir();
    let path = dir.path().join("x.safetensors");
    let header = r#"{"a":{"dtype":"F32","shape":[100,4],"data_offsets":[0,1600]}}"#;
    write(&path, safetensors_bytes(header, &[0; 48]));
    bad_data(&dir, s(&path), &["x.safetensors", "; "]);
}

#[test]
fn safetensors_without_the_tensor_asked_for() {
    let dir = tempdir();
    let path = dir.path().join("x.safetensors");
    write(&path, safetensors_bytes(r#"{"acts":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}"#, &[0; 48]));
    bad_data(&dir, &format!("{}:other", s(&path)), &["x.safetensors", "other", "acts"]);
}

/// Trains on good data with bad options: refused with all of `parts`, and no RUN.
fn bad_option(options: &[&str], parts: &[&str]) {
    let dir = tempdir();
    let data = npy(dir.path(), "x.npy", 8, &rows(40, 8, 1));
    let before = snapshot(dir.path());
    train(&data, &dir.path().join("run"), options).refused(parts);
    assert_eq!(snapshot(dir.path()), before, "something was written with {options:?}");
}

#[test]
fn k_above_h() {
    bad_option(&["--latents", "16", "-k", "17"], &["-k: expected 1 to 16", "got 17", "; "]);
}

#[test]
fn k_zero() {
    bad_option(&["--latents", "16", "-k", "0"], &["-k: expected 1 to 16", "got 0", "; "]);
}

#[test]
fn latents_zero() {
    bad_option(&["--latents", "0"], &["--latents: expected at least 1", "got 0", "; "]);
}

#[test]
fn size_zero() {
    for size in ["0", "0x8", "8x0", "-3", "x", "99999999999999999999"] {
        bad_option(&[&format!("--size={size}")], &["--size: expected 1 to 16384", size, "e.g. --size 28"]);
    }
}

#[test]
fn lr_nan() {
    for (lr, got) in [("nan", "NaN"), ("inf", "inf"), ("0", "0"), ("-1", "-1")] {
        bad_option(
            &["--lr", lr],
            &["--lr: expected a number, above 0", &format!("got {got}"), "leave it out for the default"],
        );
    }
}

/// From more than an address space down to more than any machine that runs tests has: never an abort.
#[test]
fn absurd_h() {
    for latents in ["99999999999999999999999", "18446744073709551615", "1000000000000", "100000000000", "4000000000"] {
        bad_option(&["--latents", latents, "-k", "4"], &["--latents", latents]);
    }
}

#[test]
fn absurd_ensemble() {
    bad_option(&["--latents", "64", "--saes", "1000000000000"], &["--saes"]);
}

#[test]
fn other_numbers_out_of_range() {
    for (options, name) in [
        (["--batch", "0"], "--batch"),
        (["--saes", "0"], "--saes"),
        (["--beta2", "1"], "--beta2"),
        (["--weight-decay", "nan"], "--weight-decay"),
        (["--auxk", "inf"], "--auxk"),
        (["--consistency", "nan"], "--consistency"),
        (["--consistency", "0.1"], "--consistency"),
        (["--test-fraction", "1"], "--test-fraction"),
        (["--test-fraction", "nan"], "--test-fraction"),
        (["--threads", "0"], "--threads"),
        (["--augment", "5"], "--augment"),
    ] {
        bad_option(&options, &[name, "; "]);
    }
}

/// Errors of the command line are one line, too.
#[test]
fn option_that_is_no_number() {
    bad_option(&["--latents", "many"], &["--latents: expected a whole number", "many", "leave it out"]);
    bad_option(&["--activation", "relu6"], &["--activation: expected one of topk", "relu6", "leave it out"]);
    bad_option(&["--no-such-option"], &["--no-such-option", "--help"]);
    vibrissa(&["train", "x.npy"]).refused(&["--out", "--help"]);
    vibrissa(&["eval", "x.npy"]).refused(&["--help"]);
}

#[test]
fn folds_that_cannot_be() {
    for folds in ["0", "1", "41"] {
        bad_option(&["--folds", folds, "--steps", "1"], &["--folds: expected 2 to 40", &format!("got {folds}")]);
    }
}

#[test]
fn group_that_is_no_expression_or_matches_nothing() {
    bad_option(&["--group", "("], &["--group", "; "]);
    bad_option(&["--group", "zebra"], &["--group", "matches no row name"]);
}

#[test]
fn test_list_that_is_missing_or_names_other_rows() {
    let dir = tempdir();
    let list = dir.path().join("list.txt");
    bad_option(&["--test-list", s(&list)], &[s(&list), "; "]);
    write(&list, "x.npy:3\nx.npy:77\n");
    bad_option(&["--test-list", s(&list)], &[s(&list), "such as x.npy:77", "1 of its 2 names", "; "]);
}

#[test]
fn skipped_files_may_be_on_the_list() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("p"), 30, 8, &["a", "b"]);
    let list = dir.path().join("list.txt");
    write(&dir.path().join("p/a/bad.png"), "");
    write(&list, "a/bad.png\n");
    let run = dir.path().join("run");
    let options = ["--latents", "8", "-k", "2", "--steps", "2", "--test-list", s(&list), "--skip-bad"];
    train(&data, &run, &options).ok();
}

#[test]
fn an_array_among_images() {
    let dir = tempdir();
    let data = image_folder(&dir.path().join("p"), 30, 8, &["a", "b"]);
    npy(&dir.path().join("p"), "stray.npy", 8, &rows(2, 8, 1));
    let run = dir.path().join("run");
    train(&data, &run, &[]).refused(&["stray.npy", "among 30 images", "move it"]);
    assert!(!run.exists());
}

#[cfg(unix)]
#[test]
fn a_line_break_in_a_name_stays_on_one_line() {
    let dir = tempdir();
    write(&dir.path().join("p/a\nb.png"), "");
    let run = dir.path().join("run");
    train(s(&dir.path().join("p")), &run, &[]).refused(&["a\\nb.png", "; "]);
}

#[test]
fn config_file_that_is_missing_or_broken() {
    let dir = tempdir();
    let path = dir.path().join("c.toml");
    bad_option(&["--config", s(&path)], &[s(&path), "; "]);
    for (text, found) in
        [("latents = ", "line 1"), ("latents = 8\nlatent = 9\n", "unknown key latent"), ("k = \"x\"\n", "c.toml")]
    {
        write(&path, text);
        bad_option(&["--config", s(&path)], &[s(&path), found, "; "]);
    }
}

fn good(dir: &TempDir) -> String {
    npy(dir.path(), "x.npy", 8, &rows(40, 8, 1))
}

#[test]
fn unwritable_run() {
    let dir = tempdir();
    let data = good(&dir);
    let file = dir.path().join("file");
    write(&file, "I am no folder");
    let mut places = vec![file.join("run"), file.join("deeper/run")];
    if cfg!(target_os = "linux") {
        places.push(PathBuf::from("/proc/vibrissa-run"));
    }
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).expect("made");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).expect("locked");
        // The administrator may write everywhere.
        if std::fs::write(locked.join("probe"), "").is_err() {
            places.push(locked.join("run"));
        } else {
            std::fs::remove_file(locked.join("probe")).expect("removed");
            skip("unwritable_run (a folder without permission)", "running as root");
        }
    }
    let before = snapshot(dir.path());
    for out in places {
        train(&data, &out, &["--steps", "1"]).refused(&[
            s(&out),
            "cannot make the run folder",
            "choose a writable --out",
        ]);
        assert!(!out.exists());
    }
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn run_that_is_a_file() {
    let dir = tempdir();
    let data = good(&dir);
    let file = dir.path().join("file");
    write(&file, "keep me");
    for more in [&[][..], &["--resume"]] {
        train(&data, &file, more).refused(&[s(&file), "; "]);
        assert_eq!(read(&file), b"keep me");
    }
}

#[test]
fn run_that_exists() {
    let dir = tempdir();
    let data = good(&dir);
    let (done, foreign, empty) = (dir.path().join("done"), dir.path().join("foreign"), dir.path().join("empty"));
    train(&data, &done, &["--steps", "2"]).ok();
    write(&foreign.join("thesis.txt"), "the only copy");
    std::fs::create_dir(&empty).expect("made");
    let before = snapshot(dir.path());
    for out in [&done, &foreign] {
        train(&data, out, &["--steps", "3"]).refused(&[
            s(out),
            "exists already and is kept as it is",
            "choose another",
        ]);
        assert_eq!(snapshot(dir.path()), before);
    }
    train(&data, &empty, &["--steps", "1"]).ok();
}

/// Big enough for a checkpoint of some 400 kB; the weights alone are 131 kB.
const BIG: [&str; 12] =
    ["--latents", "256", "-k", "8", "--batch", "16", "--steps", "2000", "--checkpoint-every", "20", "--threads", "1"];

fn wide(dir: &TempDir) -> String {
    npy(dir.path(), "x.npy", 64, &rows(200, 64, 1))
}

/// The program under a limit on the size of a file: the system then refuses to write on, as on a full disk. Works
/// without privileges, unlike a small file system.
fn limited(kib: usize, args: &[&str]) -> Ran {
    let mut command = std::process::Command::new("bash");
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"")).arg(BIN).args(args);
    finish(command)
}

#[cfg(unix)]
#[test]
fn disk_full_at_the_first_checkpoint() {
    let dir = tempdir();
    let (data, out) = (wide(&dir), dir.path().join("run"));
    let ran = limited(250, &[&["train", &data, "--out", s(&out)], &BIG[..]].concat());
    ran.refused(&["checkpoints/last.safetensors", "cannot write", "free some space"]);
    assert_eq!(leftovers(dir.path()), [] as [PathBuf; 0]);
    assert!(!out.join("checkpoints/last.safetensors").exists() && !out.join("model.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn disk_full_at_a_later_checkpoint_keeps_the_one_before() {
    let dir = tempdir();
    let (data, out) = (wide(&dir), dir.path().join("run"));
    kill_after_checkpoint(&data, &out, &BIG);
    let last = out.join("checkpoints/last.safetensors");
    let before = read(&last);
    let ran = limited(250, &[&["train", &data, "--out", s(&out), "--resume"], &BIG[..]].concat());
    ran.refused(&["checkpoints/last.safetensors", "cannot write", "free some space"]);
    assert_eq!(read(&last), before, "the checkpoint was touched");
    assert_eq!(leftovers(dir.path()), [] as [PathBuf; 0]);
    // With space again it goes on, and nothing was lost.
    let whole = dir.path().join("whole");
    train(&data, &out, &[&["--resume"], &BIG[..]].concat()).ok();
    train(&data, &whole, &BIG).ok();
    assert_eq!(read(&out.join("model.safetensors")), read(&whole.join("model.safetensors")));
}

/// The same on a file system that is really full, where one can be mounted.
#[cfg(target_os = "linux")]
#[test]
fn disk_full_on_a_small_file_system() {
    let dir = tempdir();
    let (data, disk) = (wide(&dir), dir.path().join("disk"));
    std::fs::create_dir(&disk).expect("made");
    let script = r#"
        mount -t tmpfs -o size=400k tmpfs "$1" || exit 99
        "$0" train "$2" --out "$1/run" "${@:3}"
        code=$?
        find "$1" -type f -printf '%f\n' >&3
        exit $code"#;
    let listing = dir.path().join("listing");
    let run = |user: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(user).args(["--mount", "bash", "-c"]);
        command.arg(format!("exec 3>'{}'; {script}", s(&listing))).arg(BIN).args([s(&disk), &data]).args(BIG);
        command
            .output()
            .ok()
            .filter(|o| o.status.code() != Some(99) && !String::from_utf8_lossy(&o.stderr).contains("unshare"))
    };
    let Some(out) = run(&[]).or_else(|| run(&["--user", "--map-root-user"])) else {
        return skip("disk_full_on_a_small_file_system", "no file system may be mounted here");
    };
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Ran { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) }.refused(&[
        "last.safetensors",
        "No space left on device",
        "free some space",
    ]);
    let listing = text(&read(&listing));
    assert!(listing.contains("config.toml"), "{listing}");
    let half = |l: &str| l.starts_with('.') || l == "last.safetensors" || l == "model.safetensors";
    assert!(!listing.lines().any(half), "{listing}");
}

/// A run of its own for every test that damages one; made once.
fn trained() -> &'static (TempDir, String, PathBuf) {
    static RUN: OnceLock<(TempDir, String, PathBuf)> = OnceLock::new();
    RUN.get_or_init(|| {
        let dir = tempdir();
        let (data, out) = (good(&dir), dir.path().join("run"));
        train(&data, &out, &["--latents", "16", "-k", "4", "--steps", "0"]).ok();
        (dir, data, out)
    })
}

/// A model with damaged bytes is refused by `eval` and by `train --from`.
fn broken_model(damage: impl Fn(&mut Vec<u8>), parts: &[&str]) {
    let (_, data, run) = trained();
    let dir = tempdir();
    let copy = dir.path().join("broken");
    let mut bytes = read(&run.join("model.safetensors"));
    damage(&mut bytes);
    write(&copy.join("model.safetensors"), bytes);
    write(&copy.join("config.toml"), read(&run.join("config.toml")));
    let before = snapshot(dir.path());
    let parts = [&["broken/model.safetensors"], parts].concat();
    vibrissa(&["eval", s(&copy), data]).refused(&parts);
    vibrissa(&["eval", s(&copy.join("model.safetensors")), data, "--json"]).refused(&parts);
    train(data, &dir.path().join("out"), &["--from", s(&copy)]).refused(&parts);
    assert_eq!(snapshot(dir.path()), before);
}

fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("no {from}"));
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

const DAMAGED: &str = "copy it again or train anew";

#[test]
fn truncated_model() {
    broken_model(|b| b.truncate(b.len() - 1), &["tensor data.mean: expected bytes within", DAMAGED]);
    broken_model(|b| b.truncate(300), &[DAMAGED]);
    broken_model(|b| b.truncate(5), &["5 bytes, too short for a header", DAMAGED]);
    broken_model(|b| b.clear(), &["0 bytes, too short for a header", DAMAGED]);
}

#[test]
fn model_followed_by_something_else() {
    broken_model(|b| b.extend([0; 3]), &["its header promises", DAMAGED]);
}

#[test]
fn model_with_a_flipped_header() {
    broken_model(|b| b[7] ^= 0x80, &["its header claims", DAMAGED]);
    broken_model(|b| b[0] ^= 0x01, &[DAMAGED]);
    broken_model(|b| b[8] ^= 0x01, &[DAMAGED]);
    broken_model(|b| replace(b, "sae.0.W_enc", "sae.0.W_abc"), &["sae.0.W_enc", DAMAGED]);
}

#[test]
fn model_with_another_configuration() {
    broken_model(|b| replace(b, r#"\"k\":4"#, r#"\"k\":5"#), &["does not match its hash", DAMAGED]);
}

#[test]
fn model_with_nan_weights() {
    broken_model(
        |b| {
            let end = b.len();
            // The last tensors are the biases and the mean of the rows: 8 values of it, and the bias before.
            b[end - 64..end - 60].copy_from_slice(&f32::NAN.to_le_bytes());
        },
        &["NaN or infinity", "; "],
    );
}

#[test]
fn model_from_a_newer_schema() {
    broken_model(|b| replace(b, "vibrissa.model/1", "vibrissa.model/2"), &["vibrissa.model/2", "update vibrissa"]);
}

#[test]
fn model_of_somebody_else() {
    let header = r#"{"W_enc":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}}"#;
    broken_model(|b| *b = safetensors_bytes(header, &[0; 32]), &["schema", "give a model that vibrissa wrote"]);
}

#[test]
fn model_that_is_missing_or_unfinished() {
    let (_, data, _) = trained();
    let dir = tempdir();
    let run = dir.path().join("run");
    vibrissa(&["eval", s(&run), data]).refused(&[s(&run), "; "]);
    std::fs::create_dir_all(run.join("checkpoints")).expect("made");
    vibrissa(&["eval", s(&run), data]).refused(&[s(&run), "has not ended", "--resume"]);
}

#[test]
fn model_of_another_width() {
    let (_, _, run) = trained();
    let dir = tempdir();
    let data = npy(dir.path(), "narrow.npy", 5, &rows(40, 5, 1));
    vibrissa(&["eval", s(run), &data]).refused(&["sae.0.W_enc", "rows of 8 values", "rows of 5"]);
    let out = dir.path().join("out");
    train(&data, &out, &["--from", s(run)]).refused(&["sae.0.W_enc", "rows of 8 values", "rows of 5"]);
    assert!(!out.exists());
}

/// A checkpoint that cannot be continued leaves the whole RUN as it was: its config.toml above all, which is needed to
/// repeat the run's own options.
fn refused_resume(change: impl Fn(&Path), more: &[&str], parts: &[&str]) {
    let dir = tempdir();
    let (data, out) = (wide(&dir), dir.path().join("run"));
    kill_after_checkpoint(&data, &out, &BIG);
    change(&out.join("checkpoints/last.safetensors"));
    let before = snapshot(&out);
    train(&data, &out, &[&["--resume"], more].concat()).refused(parts);
    let mut after = snapshot(&out);
    // Temporary files of a killed process may be removed.
    let mut before = before;
    for all in [&mut before, &mut after] {
        all.retain(|p, _| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
    }
    assert!(before == after, "RUN was changed");
}

#[test]
fn checkpoint_of_other_options() {
    refused_resume(|_| (), &["--lr", "0.5"], &["run: lr is 0.0012 in the run, 0.5 now", "--out"]);
}

#[test]
fn truncated_checkpoint() {
    let cut = |p: &Path| {
        let bytes = read(p);
        write(p, &bytes[..bytes.len() / 2]);
    };
    refused_resume(cut, &[], &["checkpoints/last.safetensors", "expected bytes within", "that the file holds"]);
}

/// Options of the activations and their losses that cannot be together: each is refused with the reason, before data is read.
#[test]
fn losses_that_do_not_go_together() {
    let dir = tempdir();
    for (options, parts) in [
        (&["--activation", "relu", "--l0", "1"][..], &["--l0", "jumprelu", "thresholds"][..]),
        (&["--kl", "1"], &["--kl", "sigmoid"]),
        (&["--activation", "sigmoid", "--auxk", "0.1"], &["--auxk", "never dead"]),
        (&["--activation", "sigmoid", "--reinforce"], &["--reinforce"]),
        (&["--activation", "gated", "--reinforce"], &["--reinforce", "relu"]),
        (&["--activation", "jumprelu", "--reinforce"], &["--reinforce", "relu"]),
        (&["--bandwidth", "0.3"], &["--bandwidth", "jumprelu"]),
        (&["--activation", "relu", "--l1", "0.1", "--k-start", "9"], &["--k-start", "--l1"]),
        (&["--k-anneal", "9"], &["--k-anneal", "--k-start"]),
        (&["--activation", "relu", "--raw-topk"], &["--raw-topk", "topk"]),
        (&["--raw-topk", "--l1", "1"], &["--l1", "negative"]),
        (&["--tied", "--free-decoder"], &["--free-decoder", "tied"]),
        (&["--loss", "cross-entropy", "--auxk", "0.1"], &["--auxk", "squared error"]),
        (&["--loss", "cross-entropy", "--activation", "gated"], &["gated", "squared error"]),
        (&["--loss", "cross-entropy", "--perceptual", "0.1"], &["--perceptual"]),
        (&["--matryoshka", "8,4"], &["--matryoshka", "ascending"]),
        (&["--matryoshka", "4", "--reinforce"], &["--reinforce", "--matryoshka"]),
        (&["--free-decoder", "--reinforce"], &["--reinforce", "--free-decoder"]),
        (&["--k-start", "2", "-k", "4"], &["--k-start"]),
        (&["--dropout", "1"], &["--dropout", "below 1"]),
        (&["--noise", "-1"], &["--noise"]),
        (&["--activation", "swish"], &["swish", "topk"]),
        (&["--loss", "hinge"], &["hinge"]),
        (&["--matryoshka", "few"], &["few"]),
    ] {
        let out = dir.path().join("run");
        let own = [&["--latents", "16", "--steps", "1"], options].concat();
        train("no-such-data.npy", &out, &own).refused(parts);
        assert!(!out.exists());
    }
}

/// Options that rows of numbers do not have are refused before a folder is created.
#[test]
fn losses_that_do_not_go_with_the_rows() {
    let dir = tempdir();
    let out = dir.path().join("run");
    for (options, parts) in [
        (["--loss", "cross-entropy"], &["cross-entropy", "between 0 and 1", "squared error", "column"][..]),
        (["--perceptual", "0.1"], &["--perceptual", "images"]),
    ] {
        train("synthetic:kind=directions,rows=200", &out, &[&options[..], &["--steps", "2"]].concat()).refused(parts);
        assert!(!out.exists());
    }
}

#[test]
fn eval_of_one_path() {
    vibrissa(&["eval", "run", "--json"]).refused(&["RUN... DATA", "run alone", "--adaptive-k=8"]);
}
