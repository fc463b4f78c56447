//! Runs the built program, and makes small files of every kind it reads. No assertion about results lives here, except
//! what every failure, and every log, has in common.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The result of a finished program.
#[derive(Debug)]
pub struct Ran {
    /// None when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Exit code 2, nothing on stdout, and one line that begins with `error: ` and holds all of `parts` (the file or
    /// option, what was found, the remedy).
    pub fn refused(self, parts: &[&str]) -> Ran {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        let errors: Vec<&str> = self.stderr.lines().filter(|l| l.contains("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].starts_with("error: "), "not one line of error:\n{}", self.stderr);
        assert_eq!(self.stderr.lines().last(), Some(errors[0]), "something follows the error:\n{}", self.stderr);
        for part in parts {
            assert!(errors[0].contains(part), "no {part:?} in: {}", errors[0]);
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line of JSON: {}", self.stdout);
        serde_json::from_str(&self.stdout).expect("JSON")
    }
}

pub const BIN: &str = env!("CARGO_BIN_EXE_vibrissa");

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command.args(args).stdin(Stdio::null());
    command
}

pub fn finish(mut command: Command) -> Ran {
    let out = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let ran = Ran { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) };
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran
}

pub fn vibrissa(args: &[&str]) -> Ran {
    finish(command(args))
}

/// `train DATA --out OUT …`, with one thread where nothing else is said.
pub fn train(data: &str, out: &Path, more: &[&str]) -> Ran {
    let mut args = vec!["train", data, "--out", s(out)];
    args.extend_from_slice(more);
    vibrissa(&args)
}

/// Starts a training run and kills it (SIGKILL) as soon as it has written a checkpoint.
pub fn kill_after_checkpoint(data: &str, out: &Path, more: &[&str]) {
    let mut child = start(data, out, more);
    wait_for(&mut child, &out.join("checkpoints/last.safetensors"));
    child.kill().expect("it still runs");
    child.wait().expect("it ended");
    assert!(!out.join("model.safetensors").exists(), "it ended before it could be killed: train longer");
}

pub fn start(data: &str, out: &Path, more: &[&str]) -> Child {
    let mut args = vec!["train", data, "--out", s(out)];
    args.extend_from_slice(more);
    command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

pub fn wait_for(child: &mut Child, path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        let status = child.try_wait().expect("a child");
        assert!(status.is_none(), "ended ({status:?}) without making {}", path.display());
        assert!(started.elapsed() < Duration::from_secs(120), "no {}", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn s(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

/// Every file below a folder with its bytes; folders with none.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            out.extend(snapshot(&path));
            out.insert(path, Vec::new());
        } else {
            out.insert(path.clone(), read(&path));
        }
    }
    out
}

/// Temporary files of a write that did not end.
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let hidden = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    snapshot(dir).into_keys().filter(hidden).collect()
}

/// Numbers from a fixed generator, in [0, 1).
pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Rows with structure: each a sum of two of `cols` fixed patterns, and a little noise.
pub fn rows(n: usize, cols: usize, seed: u64) -> Vec<f32> {
    let patterns = numbers(cols * cols, 7);
    let picks = numbers(2 * n, seed + 1);
    let noise = numbers(n * cols, seed + 2);
    (0..n * cols)
        .map(|i| {
            let pick = |j: usize| (picks[2 * (i / cols) + j] * cols as f32) as usize;
            patterns[pick(0) * cols + i % cols] + patterns[pick(1) * cols + i % cols] + 0.05 * noise[i]
        })
        .collect()
}

/// An npy file of any type and shape.
pub fn npy_bytes(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

pub fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes values `[n, cols]` as npy and returns its path.
pub fn npy(dir: &Path, name: &str, cols: usize, values: &[f32]) -> String {
    let path = dir.join(name);
    write(&path, npy_bytes("<f4", &format!("({}, {cols})", values.len() / cols), &le(values)));
    s(&path).to_owned()
}

/// An idx file: `[n, height, width]` bytes, or `[n]` labels.
pub fn idx_bytes(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|n| out.extend(n.to_be_bytes()));
    out.extend(data);
    out
}

/// A folder like MNIST's: `train` and `test` images of `side` pixels in two classes, 3 and 8.
pub fn idx_folder(dir: &Path, train: usize, test: usize, side: usize) -> String {
    for (name, n, seed) in [("train", train, 1), ("t10k", test, 2)] {
        let values = rows(n, side * side, seed);
        let pixels: Vec<u8> = values.iter().map(|v| (v * 100.0) as u8).collect();
        let labels: Vec<u8> = (0..n).map(|i| if i % 2 == 0 { 3 } else { 8 }).collect();
        let sizes = [n as u32, side as u32, side as u32];
        write(&dir.join(format!("{name}-images-idx3-ubyte")), idx_bytes(&sizes, &pixels));
        write(&dir.join(format!("{name}-labels-idx1-ubyte")), idx_bytes(&[n as u32], &labels));
    }
    s(dir).to_owned()
}

/// A safetensors file from its header (as JSON) and data.
pub fn safetensors_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// An image of a bright bar, at a position and slant given by `i`, on noise.
pub fn synthetic_image(width: u32, height: u32, i: usize) -> image::GrayImage {
    let noise = numbers((width * height) as usize, i as u64 + 1);
    let (slant, place) = ((i % 5) as f32 - 2.0, (i * 7 % width as usize) as f32);
    image::GrayImage::from_fn(width, height, |x, y| {
        let bar = (x as f32 - place - slant * y as f32 / 4.0).abs() < 2.0;
        image::Luma([(40.0 * noise[(y * width + x) as usize]) as u8 + if bar { 200 } else { 0 }])
    })
}

pub fn encoded(image: &image::GrayImage, format: image::ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, format).expect("encoded");
    out.into_inner()
}

/// `n` PNG files, in sub-folders of these names by turns, or in the folder itself where there are none.
pub fn image_folder(dir: &Path, n: usize, side: u32, classes: &[&str]) -> String {
    for i in 0..n {
        let class = if classes.is_empty() { "." } else { classes[i % classes.len()] };
        let bytes = encoded(&synthetic_image(side, side, i), image::ImageFormat::Png);
        write(&dir.join(class).join(format!("p{i:03}.png")), bytes);
    }
    s(dir).to_owned()
}

/// With a learning rate, the rule for few rows (early stopping with validation rows) stays out of the way.
pub const SMALL: [&str; 8] = ["--latents", "48", "-k", "6", "--batch", "16", "--lr", "0.001"];

pub fn small(dir: &tempfile::TempDir) -> String {
    npy(dir.path(), "x.npy", 24, &rows(200, 24, 1))
}

pub fn model(run: &Path) -> Vec<u8> {
    read(&run.join("model.safetensors"))
}

pub fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = String::from_utf8(read(&run.join("metrics.jsonl"))).expect("UTF-8");
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

pub fn config(run: &Path) -> String {
    String::from_utf8(read(&run.join("config.toml"))).expect("UTF-8")
}

/// Steps ascend without repetition up to the last one.
pub fn steps_are_whole(run: &Path, last: u64) {
    let steps: Vec<u64> = metrics(run).iter().map(|l| l["step"].as_u64().expect("a step")).collect();
    assert!(steps.windows(2).all(|w| w[0] < w[1]), "{steps:?}");
    assert_eq!(steps.last(), Some(&last));
}

/// The skip that a person, and a test's output, can see. `VIBRISSA_NO_SKIPS=1` makes it a failure.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("VIBRISSA_NO_SKIPS").is_none(), "{test} would be skipped: {why}");
    eprintln!("SKIPPED {test}: {why}");
}
