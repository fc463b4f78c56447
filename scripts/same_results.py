"""Checks that a change of the code leaves every result the same, bit for bit.

usage: same_results.py --write FILE [options]     runs all cases and records their results
       same_results.py --check FILE [options]     runs all cases again and compares them with the record

Runs the command `vibrissa` on small synthetic data with fixed seeds. Of each case the record has the commands and two hashes:
weights  SHA-256 of all tensors of model.safetensors, sorted by name: name, dtype, shape, bytes. The metadata of the file is left out.
         A folder with several models (folds, the cells of a sweep) has one hash over those of its models, sorted by path. An
         analysis has that of the columns in analysis.safetensors.
figures  SHA-256 of the figures of eval.json, eval-folds.json, sweep.json, analysis.json, prune.json and the tables features*.csv:
         every key path with its value, without times, rates, versions, paths, hashes of options, and prose.
The figures themselves are stored, too, so that a failed check can name the first key paths that differ. A list of more than 8
entries is stored as a hash.

--binary PATH   the command to run (default: target/release/vibrissa)
--only NAME     these cases, and those that they depend on (--check only)
--threads N     worker threads of every command (--check only; the record says which thread counts were verified)
--rename A=B    a key of JSON that was A in the record is now B; A= is no longer compared, =B is new (--check only; may be repeated)
--work DIR      folder for the runs (default: a temporary one, removed at the end)
--kernels NAME  values of VIBRISSA_KERNELS to verify (--write only; default: avx2)
--commit HASH   the commit that the command was built from (--write only; default: HEAD)

--write runs all cases with all processors, again with --threads 1, and again with each of --kernels. It refuses to write results
that differ. The exit code is 1 if a result differs, or if a case does not do what its name says.
"""
import argparse
import contextlib
import csv
import datetime
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
import zlib

from measure import ROOT, cpu_model, git

SCHEMA = "vibrissa.same_results/1"
# Keys that differ between two runs of one binary, name its version or its options, or hold text for people.
NO_FIGURES = {"schema", "tool_version", "data", "run", "runs", "seconds", "wall_s", "rows_per_s", "hash", "columns_hash", "left_out", "error"}
RECORDS = ("eval.json", "eval-folds.json", "sweep.json", "analysis.json", "prune.json")
LONGEST_LIST = 8
SHORT_HASH = 12
DIFFERENCES_SHOWN = 10
KILL_ATTEMPTS = 5

# Odd widths, so that every vector loop has a remainder.
IMAGES = "synthetic:size=13,rows=1200,features=48,active=5,seed=1"
OTHER_IMAGES = "synthetic:size=13,rows=400,features=48,active=5,seed=2"
ROWS = "synthetic:kind=directions,dim=51,rows=3000,features=128,active=5,noise=0.02,seed=3"
LARGE_ROWS = "synthetic:kind=directions,dim=201,rows=6000,features=1024,active=8,z=1,seed=4"
FOLDER, RGB_FOLDER = "images", "rgb"

IMAGE_MODEL = "--latents 160 -k 9 --batch 32 --steps 600 --lr 0.004"
ROW_MODEL = "--latents 192 -k 6 --batch 64 --steps 600 --lr 0.006"
# Enough latents and rows for the bf16 prefilter, on CPUs that have it.
LARGE_MODEL = "--latents 2048 -k 16 --batch 512 --steps 60"
BASELINE = "--tied --raw-topk --no-decoder-bias --init orthogonal --optimizer adam --auxk 0 --warmup 0 --schedule constant"


class Failed(Exception):
    """Raised where a case cannot be run, or does not do what its name says."""


class Session:
    """Runs cases in a folder of its own."""

    def __init__(self, binary, work, threads=None, kernels=None, renamed=None):
        self.binary, self.work, self.renamed = binary, work, renamed or {}
        self.options = ["--threads", str(threads)] if threads else []
        self.env = os.environ | ({"VIBRISSA_KERNELS": kernels} if kernels else {})
        self.commands = []
        work.mkdir(parents=True)
        write_images(work / FOLDER, 140, 14, 14, 1)
        write_images(work / RGB_FOLDER, 60, 20, 17, 3)
        write_metadata(work / "images.csv", sorted(p.relative_to(work / FOLDER).as_posix() for p in (work / FOLDER).glob("*/*.png")))
        write_metadata(work / "rows.csv", [f"synthetic:{i}" for i in range(3000)])

    def command_line(self, words):
        self.commands.append("vibrissa " + " ".join(words))
        return [str(self.binary), *self.options, *words]

    def run(self, *words):
        done = subprocess.run(self.command_line(words), cwd=self.work, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(f"{self.commands[-1]}: exit code {done.returncode}\n{done.stderr[-2000:]}")

    def train(self, name, data, options):
        self.run("train", data, "--out", name, *options.split())
        return Run(self, name)

    def killed(self, name, data, options):
        """Starts training, and kills it as soon as it has written a checkpoint."""
        run = Run(self, name)
        for _ in range(KILL_ATTEMPTS):
            shutil.rmtree(run.folder, ignore_errors=True)
            words = self.command_line(["train", data, "--out", name, *options.split()])
            child = subprocess.Popen(words, cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while child.poll() is None and not (run.folder / "checkpoints" / "last.safetensors").exists():
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
            child.wait()
            if not (run.folder / "model.safetensors").exists():
                return run
            self.commands.pop()
        raise Failed(f"{name}: training ended before it could be killed")


class Run:
    """The folder that a command wrote."""

    def __init__(self, session, name):
        self.name, self.folder, self.renamed = name, session.work / name, session.renamed

    def json(self, name):
        return self.renaming(json.loads((self.folder / name).read_text()))

    def renaming(self, value):
        """The value with the key names of the record; a key that is not compared is left out."""
        if isinstance(value, list):
            return [self.renaming(v) for v in value]
        if isinstance(value, dict):
            named = {self.renamed.get(k, k): v for k, v in value.items()}
            return {k: self.renaming(v) for k, v in named.items() if k is not None}
        return value

    def log(self):
        return [self.renaming(json.loads(line)) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def config(self):
        return tomllib.loads((self.folder / "config.toml").read_text())

    def tensors(self, name="model.safetensors"):
        return tensors(self.folder / name)

    def weights(self):
        """The hash of the model, of all models below this folder, or of the columns of an analysis."""
        columns = self.folder / "analysis.safetensors"
        models = [columns] if columns.exists() else sorted(self.folder.rglob("model.safetensors"))
        if len(models) == 1:
            return tensors_hash(models[0])
        lines = [f"{path.relative_to(self.folder).as_posix()} {tensors_hash(path)}\n" for path in models]
        return sha256("".join(lines).encode())

    def figures(self):
        """The figures of all records, by file name, and a hash of each column of the tables."""
        figures = {name: compacted(self.json(name)) for name in RECORDS if (self.folder / name).exists()}
        for path in sorted(self.folder.glob("features*.csv")):
            with open(path, newline="") as lines:
                figures[path.name] = {heading: short_hash(column) for heading, *column in zip(*csv.reader(lines), strict=True)}
        return figures


# ---- hashes --------------------------------------------------------------------------------------------------------


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value):
    return f"{len(value)} entries {sha256(canonical(value).encode())[:SHORT_HASH]}"


def tensors(path):
    """Name → (dtype, shape, bytes) of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], bytes(body[slice(*t["data_offsets"])])) for name, t in header.items()}


def tensors_hash(path):
    whole = hashlib.sha256()
    for name, (dtype, shape, data) in sorted(tensors(path).items()):
        whole.update(f"{name} {dtype} {shape}\n".encode())
        whole.update(data)
    return whole.hexdigest()


def figures_of(value):
    """A JSON value without what is no figure. Whole numbers lose their fraction, so that 3 and 3.0 are the same."""
    if isinstance(value, dict):
        return {k: figures_of(v) for k, v in value.items() if k not in NO_FIGURES}
    if isinstance(value, list):
        return [figures_of(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def compacted(value):
    """Figures with long lists replaced by hashes."""
    if isinstance(value, dict):
        return {k: compacted(v) for k, v in figures_of(value).items()}
    if isinstance(value, list):
        value = figures_of(value)
        return short_hash(value) if len(value) > LONGEST_LIST else [compacted(v) for v in value]
    return figures_of(value)


def by_path(figures, path=""):
    """Pairs of a key path and its value; an empty object or list has a path as well."""
    items = figures.items() if isinstance(figures, dict) else enumerate(figures) if isinstance(figures, list) else None
    if not items:
        yield path, figures
        return
    for key, value in items:
        yield from by_path(value, f"{path}.{key}" if path else str(key))


# ---- data ----------------------------------------------------------------------------------------------------------


def png(width, height, channels, pixels):
    """An 8-bit PNG of grey or RGB pixels."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + pixels[y * width * channels : (y + 1) * width * channels] for y in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def write_images(folder, count, width, height, channels):
    """Bright bars on noise, upright in class a and lying in class b, of ten animals each."""
    for i in range(count):
        random_of, name = random.Random(i), "ab"[i % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        bars = [(int(random_of.random() * (width if name == "a" else height)), 60 + int(random_of.random() * 140)) for _ in range(2)]
        pixels = bytearray()
        for y in range(height):
            for x in range(width):
                light = sum(value for place, value in bars if abs((x if name == "a" else y) - place) < 1.5)
                pixels += bytes(min(255, int(light * (1 + c) / channels + 30 * random_of.random())) for c in range(channels))
        (folder / name / f"animal{i // 2 % 10}_{i:03}.png").write_bytes(png(width, height, channels, bytes(pixels)))


def write_metadata(path, names):
    """A number, two levels and three levels of each row; some cells and some rows are missing."""
    with open(path, "w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["file", "weight", "sex", "batch"])
        for i, name in enumerate(names):
            if i % 17 != 3:
                table.writerow([name, "" if i % 11 == 5 else i * 37 % 101 / 4, "fm"[i * i % 5 % 2], f"batch {i % 3}"])


# ---- checks that a case does what its name says --------------------------------------------------------------------


def require(ok, what):
    if not ok:
        raise Failed(f"the case does not do what its name says: {what}")


def trained(run, steps=None):
    """The model was trained, and is better than the mean of the training rows."""
    line, record = run.log()[-1], run.json("eval.json")
    require(line["step"] > 0 and (steps is None or line["step"] == steps), f"{line['step']} steps")
    for sae in record["saes"]:
        require(sae["fvu"] < record["mean_image"]["fvu"], f"fvu {sae['fvu']} of an SAE, {record['mean_image']['fvu']} of the mean")


def has_loss(run, *terms):
    losses = run.log()[-1]["saes"][0]["loss"]
    require(all(losses.get(term, 0) > 0 for term in terms), f"terms {terms} in {losses}")


def has_tensors(run, *names):
    require(all(f"sae.0.{name}" in run.tensors() for name in names), f"tensors {names} in {sorted(run.tensors())}")


def configured(run, **options):
    config = run.config()
    require(all(config.get(k) == v for k, v in options.items()), f"{options} in config.toml")


def resampled(run):
    latents = sum(sae.get("reborn", 0) for line in run.log() for sae in line["saes"])
    require(latents > 0, f"{latents} latents resampled")


def check_rows_of_epoch(run, rows):
    """An epoch has this number of rows."""
    line, config = run.log()[-1], run.config()
    steps = -(-rows // config["batch"])
    require(line["epoch"] == line["step"] // steps, f"epoch {line['epoch']} at step {line['step']} of {rows} rows")


# ---- cases ---------------------------------------------------------------------------------------------------------


def topk(s):
    run = s.train("topk", IMAGES, IMAGE_MODEL)
    trained(run, 600)
    configured(run, activation="topk", tied=False)
    has_tensors(run, "W_enc", "W_dec", "b_enc", "b_dec")
    return run


def batchtopk(s):
    run = s.train("batchtopk", ROWS, f"--activation batchtopk {ROW_MODEL}")
    trained(run, 600)
    configured(run, activation="batchtopk")
    has_tensors(run, "threshold")
    return run


def relu(s):
    run = s.train("relu", ROWS, f"--activation relu {ROW_MODEL}")
    trained(run, 600)
    configured(run, activation="relu")
    has_loss(run, "l1")
    return run


def jumprelu(s):
    run = s.train("jumprelu", IMAGES, f"--activation jumprelu {IMAGE_MODEL}")
    trained(run, 600)
    configured(run, activation="jumprelu")
    thresholds = run.tensors()["sae.0.threshold"]
    require(len(set(struct.iter_unpack("<f", thresholds[2]))) > 1, "every latent learns a threshold of its own")
    require(run.config()["l0"] > 0, "a penalty of L0")
    return run


def gated(s):
    run = s.train("gated", ROWS, f"--activation gated {ROW_MODEL}")
    trained(run, 600)
    configured(run, activation="gated")
    has_tensors(run, "b_gate", "r_mag")
    has_loss(run, "gate")
    return run


def sigmoid(s):
    run = s.train("sigmoid", IMAGES, f"--activation sigmoid {IMAGE_MODEL}")
    trained(run, 600)
    configured(run, activation="sigmoid")
    has_loss(run, "kl")
    return run


def tied(s):
    run = s.train("tied", IMAGES, f"{BASELINE} {IMAGE_MODEL}")
    trained(run, 600)
    require("sae.0.W_dec" not in run.tensors() and "sae.0.b_dec" not in run.tensors(), "no decoder of its own")
    return run


def matryoshka(s):
    run = s.train("matryoshka", ROWS, f"--matryoshka 32,96 {ROW_MODEL}")
    trained(run, 600)
    configured(run, activation="batchtopk")
    require(run.config()["matryoshka"] not in ("off", None), "prefixes")
    return run


def ensemble(s):
    run = s.train("ensemble", IMAGES, f"--saes 3 --consistency 0.1 {IMAGE_MODEL}")
    trained(run, 600)
    require(len(run.json("eval.json")["saes"]) == 3, "three SAEs")
    has_loss(run, "consistency")
    return run


def patches(s):
    run = s.train("patches", RGB_FOLDER, "--rgb --patch 8x6 --stride 4x3 --latents 200 -k 8 --batch 64 --steps 300")
    trained(run, 300)
    require(run.json("eval.json")["patches_per_image"] == 4 * 5, "patches")
    require(set(run.json("eval.json")["mean_image"]["by_class"]) == {"a", "b"}, "classes")
    return run


def augmented(s):
    """Variants of images, made once, and rows that are held out by group."""
    run = s.train("augmented", FOLDER, rf"--augment 4 --group (animal\d+)_ --latents 128 -k 8 --batch 32 --steps 400 --lr 0.004")
    trained(run, 400)
    check_rows_of_epoch(run, 5 * originals(run))
    return run


def augmented_anew(s):
    """Other variants in every epoch."""
    run = s.train("augmented_anew", FOLDER, "--augment 2 --augment-each-epoch --latents 128 -k 8 --batch 32 --steps 400 --lr 0.004")
    trained(run, 400)
    check_rows_of_epoch(run, 3 * originals(run))
    return run


def originals(run):
    """Training images of a folder of 140, without their variants."""
    return 140 - run.json("eval.json")["rows"]


def resumed(s):
    """A run that was killed after a checkpoint equals an uninterrupted one."""
    model = "--activation relu --reinforce --auxk 0 --saes 2 --latents 400 -k 6 --batch 64 --steps 3000 --lr 0.006 --checkpoint-every 250"
    whole = s.train("uninterrupted", ROWS, model)
    trained(whole, 3000)
    resampled(whole)
    killed = s.killed("resumed", ROWS, model)
    checkpoint = killed.folder / "checkpoints" / "last.safetensors"
    require(checkpoint.exists() and not (killed.folder / "model.safetensors").exists(), "a checkpoint and no model after the kill")
    s.run("train", ROWS, "--out", "resumed", *model.split(), "--resume")
    steps = [line["step"] for line in killed.log()]
    require(steps == [line["step"] for line in whole.log()], f"the same lines in the log, found {steps}")
    require(killed.weights() == whole.weights(), "the weights of the uninterrupted run")
    require(killed.figures() == whole.figures(), "the figures of the uninterrupted run")
    return killed


def fine_tuned(s):
    run = s.train("fine_tuned", OTHER_IMAGES, "--from topk --batch 32 --steps 100 --lr 0.001")
    trained(run, 100)
    start = Run(s, "topk")
    before, after = start.tensors()["sae.0.W_enc"], run.tensors()["sae.0.W_enc"]
    require(before[1] == after[1] and before[2] != after[2], "weights that differ from those it started from")
    return run


def sweep(s):
    model = "--latents 96 --batch 64 --steps 300"
    s.run("sweep", ROWS, "--out", "sweep", "--grid", "k=4,8", "lr=0.002,0.006", *model.split())
    run = Run(s, "sweep")
    cells = run.json("sweep.json")["cells"]
    require([c["ended"] for c in cells] == ["finished"] * 4 and all(c["step"] == 300 for c in cells), "four finished cells")
    require(len(list(run.folder.rglob("model.safetensors"))) == 4, "four models")
    return run


def reinforce(s):
    run = s.train("reinforce", ROWS, "--reinforce --auxk 0 --latents 800 -k 6 --batch 64 --steps 600 --lr 0.006")
    trained(run, 600)
    resampled(run)
    return run


def perceptual(s):
    run = s.train("perceptual", IMAGES, f"--perceptual 0.2 {IMAGE_MODEL}")
    trained(run, 600)
    has_loss(run, "perceptual")
    return run


def cross_entropy(s):
    run = s.train("cross_entropy", IMAGES, f"--loss cross-entropy {IMAGE_MODEL}")
    trained(run, 600)
    configured(run, loss="cross-entropy")
    require(run.json("eval.json")["saes"][0]["cross_entropy"] > 0, "the cross-entropy of the held-out rows")
    return run


def large(s):
    """More latents and rows than fit in a cache; the AuxK loss of dead latents; initialised from the data."""
    run = s.train("large", LARGE_ROWS, f"{LARGE_MODEL} --init data --dead-after 5000")
    trained(run, 60)
    has_loss(run, "auxk")
    return run


def options(s):
    """Options that no other case has: sparse Adam, weight decay, denoising, a falling k, cosine schedule, PCA directions."""
    given = "--optimizer sparse-adam --weight-decay 0.01 --noise 0.1 --dropout 0.1 --k-start 20 --k-anneal 200 --schedule cosine --init pca --no-shuffle --seed 7"
    run = s.train("options", ROWS, f"{given} {ROW_MODEL}")
    trained(run, 600)
    configured(run, noise=0.1, dropout=0.1, init="pca", schedule="cosine", optimizer="sparse-adam", seed=7)
    return run


def defaults(s):
    """No option at all: few rows, so that training stops early by a rule."""
    run = s.train("defaults", OTHER_IMAGES, "")
    trained(run)
    require(run.config()["early-stop"] > 0, "early stopping")
    return run


def folds(s):
    run = s.train("folds", FOLDER, "--folds 3 --latents 128 -k 8 --batch 32 --epochs 20 --lr 0.004")
    trained(run)
    require(run.json("eval-folds.json")["rows"] == 140, "every image held out once")
    require(len(list(run.folder.rglob("model.safetensors"))) == 4, "a model of each fold and one of all images")
    return run


def analysed_images(s):
    s.train("analysed_images", FOLDER, "--saes 2 --latents 96 -k 8 --batch 32 --steps 400 --lr 0.004 --keep 3 --checkpoint-every 100")
    run = analysis(s, "analysed_images", FOLDER, "images.csv", {"a", "b"})
    require(len(run.json("analysis.json")["saes"][0]["history"]) > 1, "a history of checkpoints")
    return run


def analysed_rows(s):
    s.train("analysed_rows", ROWS, f"--activation batchtopk {ROW_MODEL}")
    return analysis(s, "analysed_rows", ROWS, "rows.csv", set())


def analysis(s, name, data, metadata, classes):
    """Only the files of analyze are looked at."""
    out = f"{name}/analysis"
    s.run("analyze", name, data, "--metadata", metadata, "--out", out)
    run = Run(s, out)
    record = run.json("analysis.json")
    require(set(record["classes"]) == classes, f"classes {classes}")
    require([m["kind"] for m in record["metadata"]] == ["number", "levels", "levels"], "three columns of metadata")
    require((run.folder / "features-metadata.csv").exists(), "a table of features and metadata")
    require(record["saes"][0]["pairs"]["pairs"] > 0, "co-active pairs")
    return run


def analysed_patches(s):
    s.run("analyze", "patches", RGB_FOLDER, "--out", "patches/analysis", "--pictured", "20")
    run = Run(s, "patches/analysis")
    require(run.json("analysis.json")["patches"]["stride"] == [3, 4], "patches")
    return run


def pruned(s):
    s.run("prune", "analysed_images", "--analysis", "analysed_images/analysis", "--top", "24", "--out", "pruned")
    run = Run(s, "pruned")
    require([len(kept) for kept in run.json("prune.json")["kept"]] == [24, 24], "24 latents kept of each SAE")
    require(run.tensors()["sae.0.W_enc"][1][0] == 24, "24 latents in the model")
    return run


CASES = [topk, batchtopk, relu, jumprelu, gated, sigmoid, tied, matryoshka, ensemble, patches, augmented, augmented_anew, resumed, fine_tuned, sweep]
CASES += [reinforce, perceptual, cross_entropy, large, options, defaults, folds, analysed_images, analysed_rows, analysed_patches, pruned]
DEPENDS_ON = {"fine_tuned": "topk", "analysed_patches": "patches", "pruned": "analysed_images"}


# ---- writing and checking ------------------------------------------------------------------------------------------


def run_cases(session, names=None):
    """Name → commands, hashes, figures, seconds, and why it failed."""
    results = {}
    for case in CASES:
        name = case.__name__
        if names is not None and name not in names:
            continue
        session.commands, started = [], time.perf_counter()
        try:
            run = case(session)
            figures = run.figures()
            results[name] = {"commands": session.commands, "weights": run.weights(), "figures": sha256(canonical(figures).encode()), "values": figures}
        except Failed as error:
            results[name] = {"commands": session.commands, "failed": str(error)}
        except KeyError as error:
            results[name] = {"commands": session.commands, "failed": f"a file has no key {error}; if it was renamed, see --rename"}
        except (OSError, ValueError) as error:
            results[name] = {"commands": session.commands, "failed": f"{type(error).__name__}: {error}"}
        results[name]["seconds"] = time.perf_counter() - started
    return results


def differing(old, new):
    """Key paths whose values differ, as lines."""
    old, new = dict(by_path(old)), dict(by_path(new))
    paths = [p for p in sorted(old.keys() | new.keys()) if p not in old or p not in new or old[p] != new[p]]
    text = lambda figures, path: canonical(figures[path]) if path in figures else "(none)"
    return [f"{path}: {text(old, path)} → {text(new, path)}" for path in paths]


def compared(old, new):
    """The state of weights and of figures of a case, and lines that explain them."""
    if new is None or "failed" in new:
        return "failed", "failed", ["was not run" if new is None else new["failed"]]
    if old is None:
        return "new", "new", ["the record does not have this case: write it again"]
    weights = "same" if old["weights"] == new["weights"] else "DIFFERENT"
    lines = differing(old["values"], new["values"])
    more = [f"and {len(lines) - DIFFERENCES_SHOWN} more"] if len(lines) > DIFFERENCES_SHOWN else []
    return weights, "DIFFERENT" if lines else "same", lines[:DIFFERENCES_SHOWN] + more


def report(old, new):
    """Prints a line for each case; True if all results are the same."""
    all_same = True
    print(f"{'case':18} {'weights':10} {'figures':10} seconds")
    for name in dict.fromkeys([*new, *old]):
        weights, figures, lines = compared(old.get(name), new.get(name))
        all_same &= weights == figures == "same"
        print(f"{name:18} {weights:10} {figures:10} {new.get(name, {}).get('seconds', 0):7.1f}")
        for line in lines:
            print(f"    {line}")
    return all_same


def without(figures, keys):
    """The figures without some keys, at any depth."""
    if isinstance(figures, dict):
        return {k: without(v, keys) for k, v in figures.items() if k not in keys}
    return [without(v, keys) for v in figures] if isinstance(figures, list) else figures


# Fields that records have since docs/measured/same_results.json was written, for --rename.
ADDED = ["=histograms"]


def check(args):
    record = json.loads(pathlib.Path(args.check).read_text())
    if record.get("schema") != SCHEMA:
        raise SystemExit(f"{args.check}: not a record of {SCHEMA}")
    pairs = [pair.partition("=")[::2] for pair in [*ADDED, *args.rename]]
    gone = {old for old, new in pairs if not new}
    renamed = {new: old or None for old, new in pairs if new} | dict.fromkeys(gone)
    known = [case.__name__ for case in CASES]
    for name in args.only or []:
        if name not in known:
            raise SystemExit(f"--only {name}: no such case; there are {', '.join(known)}")
    names = set(args.only or known)
    names |= {DEPENDS_ON[name] for name in names if name in DEPENDS_ON}
    started = time.perf_counter()
    with folder_for_runs(args) as work:
        new = run_cases(Session(args.binary, work / "runs", args.threads, renamed=renamed), names)
    old = {name: case | {"values": without(case["values"], gone)} for name, case in record["cases"].items() if args.only is None or name in names}
    same = report(old, new)
    print(f"\n{'All results are those' if same else 'Some results are not those'} of commit {record['commit']} ({time.perf_counter() - started:.0f} s).")
    return same


def write(args):
    with folder_for_runs(args) as work:
        session = Session(args.binary, work / "runs")
        cases = run_cases(session)
        failed = [f"{name}: {case['failed']}" for name, case in cases.items() if "failed" in case]
        if failed:
            raise SystemExit("\n".join(failed))
        first, verified = Run(session, "topk").config()["about"], []
        for words, how in [("--threads 1", {"threads": 1}), *((f"VIBRISSA_KERNELS={name}", {"kernels": name}) for name in args.kernels)]:
            session = Session(args.binary, work / words.replace(" ", "_"), **how)
            again = run_cases(session)
            about = Run(session, "topk").config()["about"]
            if about["isa" if "kernels" in how else "threads"] not in (how.get("threads"), how.get("kernels")):
                print(f"{words} cannot be verified on this machine", file=sys.stderr)
            elif report(cases, again):
                verified.append(words)
            else:
                raise SystemExit(f"results differ with {words}: nothing is written")
    record = {
        "schema": SCHEMA,
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "threads": first["threads"],
        "isa": first["isa"],
        "commit": args.commit or git("rev-parse", "--short=10", "HEAD"),
        "same_with": verified,
        "cases": {name: {k: v for k, v in case.items() if k != "seconds"} for name, case in cases.items()},
    }
    pathlib.Path(args.write).write_text(compact(record))
    print(f"{args.write}: {len(cases)} cases; the same results with {', '.join(verified) or 'nothing else'}")
    return True


def compact(record):
    """JSON with the figures of a case on one line."""
    place = "figures of "
    lines = json.dumps(record | {"cases": {n: c | {"values": place + n} for n, c in record["cases"].items()}}, indent=1, ensure_ascii=False)
    for name, case in record["cases"].items():
        lines = lines.replace(f'"{place}{name}"', canonical(case["values"]))
    return lines + "\n"


@contextlib.contextmanager
def folder_for_runs(args):
    """The folder for the runs."""
    if not args.work:
        with tempfile.TemporaryDirectory(prefix="vibrissa-same-results-") as path:
            yield pathlib.Path(path)
        return
    path = pathlib.Path(args.work).resolve()
    if path.exists() and any(path.iterdir()):
        raise SystemExit(f"--work {path}: is not empty")
    yield path


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = ap.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", metavar="FILE")
    mode.add_argument("--check", metavar="FILE")
    ap.add_argument("--binary", type=lambda p: pathlib.Path(p).resolve(), default=ROOT / "target" / "release" / "vibrissa")
    ap.add_argument("--only", nargs="+", metavar="NAME")
    ap.add_argument("--threads", type=int)
    ap.add_argument("--rename", action="append", default=[], metavar="A=B")
    ap.add_argument("--work")
    ap.add_argument("--kernels", nargs="+", default=["avx2"], metavar="NAME")
    ap.add_argument("--commit")
    args = ap.parse_args()
    if not args.binary.exists():
        raise SystemExit(f"{args.binary}: no such command; build it (cargo build --release), or name it with --binary")
    if args.write and (args.only or args.threads or args.rename):
        raise SystemExit("--only, --threads and --rename belong to --check")
    if not all("=" in pair for pair in args.rename):
        raise SystemExit("--rename: write OLD=NEW")
    sys.exit(0 if (write if args.write else check)(args) else 1)


if __name__ == "__main__":
    main()
