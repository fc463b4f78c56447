"""Measures the figures of README.md and docs/, one JSON file for each measurement in docs/measured/. scripts/docs.py formats them.

usage: measure.py --data DATA --peers PEERS --python PYTHON [--only NAME ...] [--work DIR] [--out DIR] [--quick]

DATA    the folder with mnist/, photos/, digits-jpg/, mice/, activations/ and the lists of test files
PEERS   the folder with seed_torch.py and sae_libs.py (speed, folder, memory)
PYTHON  a Python with torch, numpy, pillow, and for speed sparsify and safetensors (default: this one)
--quick a few steps of every measurement, to check that the script works; the figures are meaningless and go to the work folder

Each file has the name, date, CPU, threads, instruction set, commit, the commands as run (DATA, PEERS and RUNS stand for folders)
and the figures. Nothing else should run on the machine during a measurement.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = "--tied --raw-topk --no-decoder-bias --init orthogonal --optimizer adam --auxk 0 --warmup 0 --schedule constant".split()
PHOTO_MODEL = "--size 64 --rgb --latents 3072 -k 128".split()
OTHER_KERNELS = ("avx512bf16", "avx512", "avx2")
MIB = 1 << 20


class Bench:
    """Runs commands and records them."""

    def __init__(self, args):
        self.data, self.peers, self.python, self.quick = args.data, args.peers, args.python, args.quick
        self.work = pathlib.Path(args.work or tempfile.mkdtemp(prefix="vibrissa-measure-")).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.out = self.work / "measured" if args.quick else pathlib.Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
        meta = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True)
        self.binary = pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "release" / "vibrissa"
        self.commands, self.isa, self.threads = [], None, None

    def readable(self, words):
        text = " ".join(str(w) for w in words)
        for path, name in [(self.work, "RUNS"), (self.data, "DATA"), (self.peers, "PEERS"), (self.binary, "vibrissa"), (self.python, "python"), (ROOT, ".")]:
            text = text.replace(str(path), name) if path else text
        return text

    def run(self, *words, env=None, ok=(0,)):
        """Runs a command. Returns its stdout, wall seconds and peak bytes."""
        words = [str(w) for w in words]
        self.commands.append(" ".join(f"{k}={v}" for k, v in (env or {}).items()) + (" " if env else "") + self.readable(words))
        print("  " + self.commands[-1], file=sys.stderr, flush=True)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            started = time.perf_counter()
            child = subprocess.Popen(words, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=os.environ | (env or {}), cwd=ROOT)
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.perf_counter() - started
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            if child.returncode not in ok:
                raise SystemExit(f"{self.readable(words)}: exit code {child.returncode}\n{err.read().decode(errors='replace')[-2000:]}")
            return out.read().decode(), wall, usage.ru_maxrss * 1024

    def train(self, name, data, *options, env=None):
        """Clears RUNS/name and trains into it. Returns the folder, wall seconds and peak bytes."""
        run = self.work / name
        shutil.rmtree(run, ignore_errors=True)
        if self.quick:
            options = quick_steps(options)
        _, wall, peak = self.run(self.binary, "train", data, "--out", run, *options, env=env)
        about = tomllib_about(run)
        self.isa, self.threads = about.get("isa"), about.get("threads")
        return run, wall, peak

    def eval(self, *words):
        return json.loads(self.run(self.binary, "eval", *words, "--json")[0])

    def write(self, name, figures):
        record = {
            "schema": "vibrissa.measured/1",
            "name": name,
            "date": datetime.date.today().isoformat(),
            "cpu": cpu_model(),
            "threads": self.threads or os.cpu_count(),
            "isa": self.isa,
            "commit": git("rev-parse", "--short=10", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno", "--", "crates", "Cargo.toml") else ""),
            "quick": self.quick,
            "commands": self.commands,
            "figures": figures,
        }
        path = self.out / f"{name}.json"
        path.write_text(json.dumps(rounded(record), indent=1) + "\n")
        print(f"{name}: {path}", file=sys.stderr)


def quick_steps(options):
    options = list(options)
    for flag in ("--epochs", "--steps", "--folds"):
        if flag in options:
            at = options.index(flag)
            kept = ["--steps", str(min(int(options[at + 1]), 4))] if flag == "--steps" else []
            options[at : at + 2] = kept
            if flag == "--folds":
                options += ["--folds", "2"]
                break
    return options if "--steps" in options else options + ["--steps", "2"]


def rounded(value):
    """Rounds every float to six significant digits, more than the measurements resolve."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def cpu_model():
    try:
        lines = open("/proc/cpuinfo").read().splitlines()
    except OSError:
        import platform

        return platform.processor() or platform.machine()
    pick = lambda key: next((l.split(":", 1)[1].strip() for l in lines if l.startswith(key)), "?")
    return f"{pick('model name')} (family {pick('cpu family')}, model {pick('model	')}), {os.cpu_count()} cores"


def tomllib_about(run):
    import tomllib

    return tomllib.loads((run / "config.toml").read_text()).get("about", {})


def resolved(run, *keys):
    import tomllib

    config = tomllib.loads((run / "config.toml").read_text())
    return {k: config[k] for k in keys if k in config}


def scores(record):
    """The part of an evaluation record that is kept in docs/measured/."""
    keep = ("pearson", "mse", "fvu", "cosine", "ssim", "perceptual", "psnr", "l0", "dead_latents", "rare_latents", "latents")
    brief = lambda s: {k: s[k] for k in keep if k in s} | {"by_class": {n: {k: c[k] for k in ("rows", "pearson", "mse") if k in c} for n, c in s.get("by_class", {}).items()}}
    return {"rows": record["rows"], "saes": [brief(s) for s in record["saes"]], "ensemble": brief(record["ensemble"]), "mean_image": brief(record["mean_image"])}


def held_out(b, run, data):
    return scores(b.eval(run, data, "--split", "test"))


CHOSEN = ("latents", "k", "lr", "batch", "epochs", "steps", "init", "schedule", "auxk", "early-stop", "beta2")


def mnist_baseline(b):
    run, wall, peak = b.train("mnist-baseline", b.data / "mnist", *BASELINE, *"--latents 1024 -k 50 --batch 128 --lr 1e-3 --epochs 5".split())
    b.write("mnist_baseline", {"test": held_out(b, run, b.data / "mnist"), "wall_s": wall, "peak_bytes": peak})


def mnist_default(b):
    run, wall, peak = b.train("mnist-default", b.data / "mnist", *"--latents 1024 -k 50 --batch 128 --epochs 5".split())
    b.write("mnist_default", {"test": held_out(b, run, b.data / "mnist"), "wall_s": wall, "peak_bytes": peak, "chosen": resolved(run, *CHOSEN)})
    if not b.quick:
        images = ROOT / "docs" / "images"
        images.mkdir(parents=True, exist_ok=True)
        for name in ("features.png", "reconstructions.png"):
            shutil.copyfile(run / name, images / name)
            if (size := (images / name).stat().st_size) > 300 * 1024:
                raise SystemExit(f"docs/images/{name}: {size} bytes, more than 300 KiB; make a smaller sheet")


def mnist_free(b):
    """Training without any option."""
    run, wall, _ = b.train("mnist-free", b.data / "mnist")
    b.write("mnist_free", {"test": held_out(b, run, b.data / "mnist"), "wall_s": wall, "chosen": resolved(run, *CHOSEN)})


def stretched(b, name):
    return ["--fit", "stretch", "--test-list", b.data / f"{name}.test.txt"]


def untrained(b, *words):
    return json.loads(b.run(b.python, ROOT / "scripts" / "untrained.py", *words)[0])


def digits(b):
    data = b.data / "digits-jpg"
    baseline, baseline_wall, _ = b.train("digits-baseline", data, *BASELINE, *stretched(b, "digits-jpg"), *PHOTO_MODEL, *"--batch 32 --lr 5e-4 --epochs 10 --saes 3".split())
    default, default_wall, _ = b.train("digits-default", data, *stretched(b, "digits-jpg"), *PHOTO_MODEL)
    figures = {
        "baseline": held_out(b, baseline, data),
        "baseline_wall_s": baseline_wall,
        "default": held_out(b, default, data),
        "default_wall_s": default_wall,
        "default_chosen": resolved(default, *CHOSEN),
        "untrained": untrained(b, "images", data, b.data / "digits-jpg.test.txt"),
    }
    b.write("digits", figures)


def photos(b):
    data = b.data / "photos"
    default, wall, peak = b.train("photos-default", data, *stretched(b, "photos"), *PHOTO_MODEL)
    zero, _, _ = b.train("photos-zero", data, *stretched(b, "photos"), *PHOTO_MODEL, "--steps", 0)
    figures = {
        "default": held_out(b, default, data),
        "default_on_training_rows": scores(b.eval(default, data, "--split", "train")),
        "steps_0": held_out(b, zero, data),
        "wall_s": wall,
        "peak_bytes": peak,
        "chosen": resolved(default, *CHOSEN),
        "untrained": untrained(b, "images", data, b.data / "photos.test.txt"),
    }
    b.write("photos", figures)


def patches(b):
    """Convolutional models, with the patch options alone."""
    figures = {}
    for name, more in [("mnist", []), ("photos", ["--size", 64])]:
        run, wall, peak = b.train(f"patches-{name}", b.data / name, "--patch", 8, "--stride", 4, *more)
        test = held_out(b, run, b.data / name)
        figures[name] = {"test": test, "wall_s": wall, "peak_bytes": peak, "chosen": resolved(run, *CHOSEN)}
    b.write("patches", figures)


def activations(b):
    """Rows that are not images. The defaults were not tuned on them."""
    data = b.data / "activations"
    given, wall, _ = b.train("activations", data, *"--latents 6144 -k 32 --batch 1024 --steps 40".split())
    free, free_wall, _ = b.train("activations-free", data)
    figures = {"steps_40": held_out(b, given, data), "steps_40_wall_s": wall, "steps_40_chosen": resolved(given, *CHOSEN)}
    figures |= {"free": held_out(b, free, data), "free_wall_s": free_wall, "free_chosen": resolved(free, *CHOSEN)}
    b.write("activations", figures)


def mice(b):
    data = b.data / "mice"
    mnist, _, _ = b.train("mnist-for-mice", b.data / "mnist", *BASELINE, *"--latents 1024 -k 50 --batch 128 --lr 1e-3 --epochs 5".split())
    seen = lambda run, *more: scores(b.eval(run, data, *more))
    tuned, wall, _ = b.train("mice-tuned", data, "--from", mnist, "--augment", 5)
    folds, _, _ = b.train("mice-folds", data, "--from", mnist, "--augment", 5, "--folds", 5)
    figures = {
        "all_before": seen(mnist, "--augment", 5, "--split", "all"),
        "all_after": seen(tuned, "--augment", 5, "--split", "all"),
        "test_before": seen(mnist, "--split", "test"),
        "test_after": seen(tuned, "--split", "test"),
        "originals_before": seen(mnist, "--split", "all"),
        "originals_held_out_by_folds": scores(json.loads((folds / "eval-folds.json").read_text())),
        "wall_s": wall,
        "chosen": resolved(tuned, *CHOSEN),
    }
    b.write("mice", figures)


# shape: D, H, k, B. The peer is the fastest library known to us at this shape.
SPEED = {
    "mnist": dict(shape=(784, 1024, 50, 128), peer="torch_compile", steps=2400, peer_steps=600, rounds=7),
    "photos": dict(shape=(12288, 3072, 128, 32), peer="torch_compile", steps=240, peer_steps=30, rounds=5),
    "mice64": dict(shape=(4096, 8192, 100, 16), peer="torch_compile", steps=300, peer_steps=40, rounds=5),
    "activations": dict(shape=(384, 6144, 32, 1024), peer="sparsify", steps=240, peer_steps=80, rounds=5),
    "wide": dict(shape=(768, 24576, 32, 2048), peer="sparsify", steps=60, peer_steps=15, rounds=5),
}
# Milliseconds of encoding a batch of random rows: D, H, k, B.
ENCODE_TORCH = (
    "import sys, torch; from torch.utils.benchmark import Timer; torch.set_grad_enabled(False); "
    "D, H, k, B = map(int, sys.argv[1:]); "
    "x, W, b = 2 * torch.rand(B, D) - 1, torch.randn(H, D) / D**0.5, torch.zeros(H); "
    "encode, n = 'torch.topk(torch.nn.functional.linear(x, W, b), k)', torch.get_num_threads(); "
    "timer = Timer(encode, globals=globals(), num_threads=n); "
    "print(1e3 * timer.blocked_autorange(min_run_time=3).median)"
)
# The rows of a folder of arrays as two files for sae_libs.py: folder, training rows, test rows (a tenth).
ACTIVATION_ROWS = """
import glob, numpy, safetensors.numpy, sys
folder, train, test = sys.argv[1:]
shards = [safetensors.numpy.load_file(p).values() for p in sorted(glob.glob(folder + '/*.safetensors'))]
rows = [a for s in shards for a in s] + [numpy.load(p) for p in sorted(glob.glob(folder + '/*.npy'))]
rows = numpy.concatenate(rows).astype('f4')
numpy.save(train, rows[: len(rows) * 9 // 10])
numpy.save(test, rows[len(rows) * 9 // 10 :])
""".strip()


def rows_file(b, name, rows):
    """RUNS/name.npy of an expression of numpy; g is a generator of random numbers."""
    path = b.work / f"{name}.npy"
    b.run(b.python, "-c", f"import numpy; g = numpy.random.default_rng(0); numpy.save('{path}', {rows})")
    return path


def speed_rows(b, name):
    """The data, the options of `vibrissa train` for it, and the files of training and test rows for sae_libs.py."""
    if name == "mnist":
        return b.data / name, [*BASELINE, "--lr", "1e-3"], []
    if name == "photos":
        return b.data / name, [*BASELINE, *stretched(b, name), *"--size 64 --rgb --lr 5e-4".split()], []
    if name == "mice64":  # the rows that seed_torch.py generates; without test rows, so that the log has more than one line
        rows = rows_file(b, name, "g.random((2048, 4096), dtype=numpy.float32)")
        return rows, [*BASELINE, "--lr", "1e-3", "--test-fraction", 0], []
    if name == "wide":  # without AuxK, as sparsify trains
        test = rows_file(b, "wide-test", "g.standard_normal((256, 768), dtype=numpy.float32)")
        train = rows_file(b, name, "g.standard_normal((16384, 768), dtype=numpy.float32)")
        return train, ["--auxk", 0, "--test-fraction", 0], [train, test]
    files = [b.work / f"{name}-{part}.npy" for part in ("train", "test")]
    b.run(b.python, "-c", ACTIVATION_ROWS, b.data / name, *files)
    return b.data / name, [], files


def log_of(run):
    return [json.loads(l) for l in (run / "metrics.jsonl").read_text().splitlines()]


def inside(run):
    """Milliseconds of one step without reading rows: the median over the second half of the log."""
    lines = log_of(run)
    batch = resolved(run, "batch")["batch"]
    return statistics.median(1e3 * batch / l["rows_per_s"] for l in lines[len(lines) // 2 :])


def medians(each):
    """Medians, with the single values under NAME_each."""
    return {k: statistics.median(v) for k, v in each.items() if v} | {f"{k}_each": v for k, v in each.items() if v}


def in_turns(slow, fast):
    """Median of the ratios slow / fast of each round. Ratios are taken within a round because the machine's speed drifts."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def speed(b):
    """Training step (wall(2n) - wall(n), and the step alone) and encoding beside the fastest peers: medians of alternating runs."""
    figures = {}
    for name, s in SPEED.items():
        D, H, k, B = s["shape"]
        data, options, files = speed_rows(b, name)
        n, n_peer = (2, 2) if b.quick else (s["steps"], s["peer_steps"])
        options = [*options, "--latents", H, "-k", k, "--batch", B, "--checkpoint-every", 10**9]
        peer = f"{s['peer']}_ms"
        each = {"ms_per_step": [], "ms_inside_step": [], peer: [], "encode_ms": [], "torch_encode_ms": []}
        for _ in range(1 if b.quick else s["rounds"]):
            walls = {}
            for steps in (n, 2 * n):
                run, walls[steps], _ = b.train(f"speed-{name}", data, *options, "--steps", steps)
            each["ms_per_step"].append((walls[2 * n] - walls[n]) / n * 1e3)
            each["ms_inside_step"].append(inside(run))
            if b.peers and files:
                each[peer].append(sparsify(b, files, s["shape"], n_peer)["ms_per_step"])
            elif b.peers:
                each[peer].append(torch(b, name, "compile", n_peer)[0]["each"][0]["ms_per_step"])
            path = b.work / "bench-encode.json"
            more = ["--smoke"] if b.quick else []
            b.run("cargo", "bench", "--bench", "step", "--", "--json", path, "--only", name, *more)
            each["encode_ms"].append(json.loads(path.read_text())["shapes"][0]["encode_ms"])
            if b.peers:
                each["torch_encode_ms"].append(float(b.run(b.python, "-c", ENCODE_TORCH, *s["shape"])[0]))
        figures[name] = f = {"shape": s["shape"]} | medians(each)
        if b.peers:
            f["times_faster"] = in_turns(each[peer], each["ms_per_step"])
            f["times_faster_inside"] = in_turns(each[peer], each["ms_inside_step"])
            f["times_faster_encode"] = in_turns(each["torch_encode_ms"], each["encode_ms"])
    if b.peers:
        figures["torch_version"] = b.run(b.python, "-c", "import torch; print(torch.__version__)")[0].strip()
    b.write("speed", figures)


def sparsify(b, files, shape, steps):
    """The record of sparsify by sae_libs.py, where it trains without AuxK."""
    _, H, k, B = shape
    words = [b.peers / "sae_libs.py", *files, "--lib", "sparsify", "--H", H, "--k", k, "--B", B, "--lr", "3e-4"]
    out, _, _ = b.run(b.python, *words, "--steps", steps, env={"SPARSIFY_DISABLE_TRITON": "1"})
    record = json.loads(out.splitlines()[-1])
    if "error" in record:
        raise SystemExit(f"sparsify: {record['error']}")
    return record


def ensemble(b):
    """Five SAEs in one run beside five runs: one step of MNIST's shape, and whole commands on a folder of JPEG files."""
    mnist = [*BASELINE, *"--latents 1024 -k 50 --batch 128 --lr 1e-3 --steps 800".split()]
    each = {"one_ms": [], "five_ms": []}
    for _ in range(1 if b.quick else 21):  # rounds differ by up to a fifth
        for key, saes in (("one_ms", 1), ("five_ms", 5)):
            each[key].append(inside(b.train("ensemble-step", b.data / "mnist", *mnist, "--saes", saes)[0]))
    step = medians(each)
    step["ratio"] = step["five_ms"] / (5 * step["one_ms"])
    folders = {}
    for name, more in FOLDERS.items():
        photos = [*BASELINE, *stretched(b, "photos"), *PHOTO_MODEL, *"--batch 32 --lr 5e-4".split(), *more.split()]
        each = {"together_s": [], "one_by_one_s": []}
        for _ in range(1 if b.quick else 3):
            each["together_s"].append(b.train("ensemble-five", b.data / "photos", *photos, "--saes", 5)[1])
            alone = [b.train("ensemble-one", b.data / "photos", *photos, "--seed", seed)[1] for seed in range(42, 47)]
            each["one_by_one_s"].append(sum(alone))
        whole = medians(each)
        folders[name] = whole | {"options": more, "ratio": whole["together_s"] / whole["one_by_one_s"]}
    b.write("ensemble", {"step": step, "folders": folders})


# Both settings train on the same number of rows.
FOLDERS = {"plain": "--epochs 5", "augmented": "--augment 5 --epochs 1"}


def folder(b):
    """Whole command on 1,000 JPEG files with five variants each, ten epochs, beside scripts/folder_torch.py."""
    data, options = b.data / "photos", "--augment 5 --batch 32 --lr 5e-4 --epochs 10".split()
    each, figures = {"wall_s": [], "train_s": []}, {}
    for _ in range(1 if b.quick else 3):
        run, wall, _ = b.train("folder", data, *BASELINE, *stretched(b, "photos"), *PHOTO_MODEL, *options)
        last = log_of(run)[-1]
        each["wall_s"].append(wall)
        each["train_s"].append(last["wall_s"])  # includes the log and its held-out figures
        if b.peers and "torch" not in figures:  # one run only: it takes many minutes
            words = [ROOT / "scripts" / "folder_torch.py", data, b.data / "photos.test.txt", b.peers]
            words += ["--max-steps", 2] if b.quick else []
            out, torch_wall, _ = b.run(b.python, *words)
            figures["torch"] = json.loads(out) | {"wall_s": torch_wall}
    about = tomllib_about(run)
    figures |= medians(each) | {"rows": about["training-rows"], "test_rows": about["test-rows"], "steps": last["step"]}
    figures["pearson"] = json.loads((run / "eval.json").read_text())["saes"][0]["pearson"]
    if "torch" in figures:
        figures["times_faster"] = figures["torch"]["wall_s"] / figures["wall_s"]
    b.write("folder", figures)


# On noise nearly every latent is active. On rows that span 128 dimensions many latents are dead at every size, so AuxK is exercised.
# Batch sizes divide the number of rows, so that every step has a full batch.
NOISE = "g.standard_normal(({}, {}), dtype=numpy.float32)"
FLAT = "(g.standard_normal(({}, 128)) @ g.standard_normal((128, {}))).astype(numpy.float32)"
# The defaults depend on the width and change the share of dead latents, so the same options are used for all widths.
SAME = "--init auto --lr 3e-4".split()
GROWTH = {
    "untied": dict(shape=(1024, 4096, 32, 256), options=["--auxk", 0], rows=8192, values=NOISE),
    "untied, AuxK": dict(shape=(1024, 4096, 32, 256), options=SAME, rows=8192, values=FLAT),
    "tied": dict(shape=(3072, 3072, 64, 32), options=BASELINE, rows=2048, values=NOISE),
}


def growth(b):
    """One step with one dimension doubled, beside the base shape, in alternating runs."""
    figures = {}
    for name, base in GROWTH.items():
        D, H, k, B = base["shape"]
        shapes = {"base": (D, H, k, B), "H": (D, 2 * H, k, B), "D": (2 * D, H, k, B)}
        shapes |= {"B": (D, H, k, 2 * B), "k": (D, H, 2 * k, B)}
        values = lambda width: base["values"].format(base["rows"], width)
        files = {width: rows_file(b, f"growth-{width}", values(width)) for width in (D, 2 * D)}
        each, dead = {key: [] for key in shapes}, {}
        for _ in range(1 if b.quick else 5):
            for key, (d, h, k, batch) in shapes.items():
                options = [*base["options"], "--test-fraction", 0, "--latents", h, "-k", k, "--batch", batch]
                run, _, _ = b.train("growth", files[d], *options, "--steps", 200)
                each[key].append(inside(run))
                dead[key] = log_of(run)[-1]["saes"][0]["dead_latents"]
        ms = medians(each)
        ratio = {key: ms[key] / ms["base"] for key in "HDBk"}
        figures[name] = {"shape": base["shape"], "ms": ms, "ratio": ratio, "dead": dead}
    b.write("growth", figures)


def torch(b, task, variant, steps):
    words = [b.peers / "seed_torch.py", task, "--saes", 1, "--epochs", 1000, "--variant", variant, "--max-steps", steps, "--data", b.data]
    out, _, peak = b.run(b.python, *words)
    return json.loads(out), peak


def analysis(b):
    """`vibrissa analyze` on MNIST beside a loop in PyTorch (scripts/torch_loop.py)."""
    mnist, _, _ = b.train("mnist-for-analysis", b.data / "mnist", *BASELINE, *"--latents 1024 -k 50 --batch 128 --lr 1e-3 --epochs 5".split())
    rates, walls = [], []
    for _ in range(1 if b.quick else 5):
        out = b.work / "analysis"
        record = json.loads(b.run(b.binary, "analyze", mnist, b.data / "mnist", "--out", out, "--json")[0])
        rates.append(record["rows_per_s"])
        walls.append(record["seconds"])
    sae = record["saes"][0]
    figures = {"rows": record["rows"], "rows_per_s": statistics.median(rates), "rows_per_s_each": rates, "wall_s": statistics.median(walls), "order": sae["order"], "gini": sae["usage"]["gini"], "carry_80": sae["usage"]["carry_80"], "probe": sae["classes"]["probe"]}
    b.run(b.binary, "report", out)
    figures["report_bytes"] = (out / "report.html").stat().st_size
    rows = b.work / "mnist-rows.npy"
    b.run(b.python, "-c", f"import gzip, numpy; numpy.save('{rows}', numpy.frombuffer(gzip.open('{b.data}/mnist/train-images-idx3-ubyte.gz').read(), numpy.uint8, offset=16).reshape(-1, 784)[:20000] / numpy.float32(255))")
    figures["torch_loop"] = json.loads(b.run(b.python, ROOT / "scripts" / "torch_loop.py", mnist / "model.safetensors", rows)[0])
    b.write("analysis", figures)


def features_of_mice(b):
    """Five SAEs of the baseline recipe on the mouse images, 4,096 to 8,192, k 100: train, analyze and report."""
    data, options = b.data / "mice", "--size 64 --gray --augment 5 --latents 8192 -k 100 --saes 5 --batch 16 --lr 1e-3 --epochs 5".split()
    run, train_s, _ = b.train("mice-features", data, *BASELINE, *options)
    out, analyze_s, _ = b.run(b.binary, "analyze", run, data, "--json")
    _, report_s, _ = b.run(b.binary, "report", run)
    record = json.loads(out)
    figures = {"train_s": train_s, "analyze_s": analyze_s, "report_s": report_s, "report_bytes": (run / "report.html").stat().st_size, "rows": record["rows"]}
    figures["saes"] = [{k: s[k] for k in ("latents", "dead", "pearson", "class_pearson", "order")} | {"gini": s["usage"]["gini"]} for s in record["saes"]]
    figures["ensemble"] = {k: record["ensemble"][k] for k in ("mmcs", "mcc", "shared", "own")}
    b.write("features_of_mice", figures)


def page(b):
    """A report on 8,192 features and 60,000 rows; opened in Chromium where NODE_PATH knows playwright-core."""
    data = b.data / "mnist"
    run, _, _ = b.train("page", data, *"--latents 8192 -k 50 --epochs 1".split())
    _, analyze_s, _ = b.run(b.binary, "analyze", run, data, "--split", "train")
    _, report_s, _ = b.run(b.binary, "report", run)
    figures = {"latents": 8192, "rows": 60000, "bytes": (run / "report.html").stat().st_size, "analyze_s": analyze_s, "report_s": report_s}
    if "NODE_PATH" in os.environ:
        opened = [b.run("node", ROOT / "scripts" / "check_report.js", run / "report.html")[0] for _ in range(1 if b.quick else 5)]
        figures["opens_ms_each"] = [int(re.search(r"opens in (\d+) ms", o)[1]) for o in opened]
        figures["opens_ms"] = statistics.median(figures["opens_ms_each"])
    b.write("page", figures)


def reinforce(b):
    """Training with and without --reinforce at equal steps, three seeds each."""
    mnist, activations = b.data / "mnist", b.data / "activations"
    digits = "--latents 1024 -k 50 --batch 128 --epochs 5".split()
    rows = "--latents 6144 -k 32 --batch 1024 --steps 200".split()
    settings = {
        "MNIST, baseline recipe": (mnist, [*BASELINE, *digits, "--lr", "1e-3"]),
        "MNIST, defaults": (mnist, digits),
        "MNIST, defaults without AuxK": (mnist, [*digits, "--auxk", 0]),
        "activations, defaults": (activations, rows),
        "activations, defaults without AuxK": (activations, [*rows, "--auxk", 0]),
    }
    figures = {}
    for name, (data, options) in settings.items():
        for kind, more in (("without", []), ("with", ["--reinforce"])):
            for seed in (42,) if b.quick else (42, 43, 44):
                run, _, _ = b.train("reinforce", data, *options, *more, "--seed", seed)
                log = log_of(run)
                sae = held_out(b, run, data)["saes"][0]
                resampled = sum(l["saes"][0].get("reborn") or 0 for l in log)
                one = {k: sae[k] for k in ("pearson", "fvu", "dead_latents")} | {"resampled": resampled}
                figures.setdefault(name, {}).setdefault(kind, []).append(one)
    b.write("reinforce", figures)


TRUTH = {
    "z = 0.5": "z=0.5",
    "z = 1": "z=1",
    "z = 0.5, correlation": "z=0.5,correlation=0.3",
    "z = 0.5, hierarchy": "z=0.5,parents=64",
}
TRUTH_COMMON = "--latents 1024 -k 8 --epochs 1 --test-fraction 0.01"
TRUTH_OPTIONS = {
    "topk": "",
    "batchtopk": "--activation batchtopk",
    "relu": "--activation relu",
    "jumprelu": "--activation jumprelu",
    "gated": "--activation gated",
    "matryoshka (batchtopk)": "--matryoshka 64,256",
}
# Half of the 1,934 steps.
TRUTH_FALLING = "--k-start 64 --k-anneal 967"


def truth(b):
    """Recovery of known directions by every activation. Each of three seeds has its own features, rows and initial weights."""
    rows, seeds = (20_000, (1,)) if b.quick else (2_000_000, (1, 2, 3))
    kinds = dict(TRUTH_OPTIONS)
    kinds |= {f"{name}, k falling": f"{options} {TRUTH_FALLING}".strip() for name, options in TRUTH_OPTIONS.items()}
    settings = {}
    for title, law in TRUTH.items():
        for name, options in kinds.items():
            if "," in law and not name.endswith("falling"):
                continue
            for seed in seeds:
                data = f"synthetic:kind=directions,dim=256,features=1024,active=8,{law},rows={rows},seed={seed}"
                run, wall, peak = b.train("truth", data, *TRUTH_COMMON.split(), *options.split(), "--seed", seed)
                record = json.loads((run / "eval.json").read_text())
                one = {k: record["recovery"][0][k] for k in ("mcc", "mcc_chance", "mmcs", "found", "f1", "precision", "recall")}
                one |= {k: record["saes"][0][k] for k in ("fvu", "l0", "dead_latents")} | {"wall_s": wall, "peak_bytes": peak}
                settings.setdefault(title, {}).setdefault(name, []).append(one)
    b.write("truth", {"settings": settings, "common": TRUTH_COMMON, "options": kinds})


def bench(b):
    """One step beside the floor of the machine, by its best kernels, then by those of other machines."""
    path, records = b.work / "bench.json", {}
    for isa in (None, *OTHER_KERNELS):
        if isa in records:
            continue
        env = {"VIBRISSA_KERNELS": isa} if isa else None
        b.run("cargo", "bench", "--bench", "step", "--", "--json", path, *(["--smoke"] if b.quick else []), env=env)
        record = json.loads(path.read_text())
        # On a CPU without these kernels the best available ones run instead.
        if record["isa"] not in records:
            records[record["isa"]] = record
    record = records.pop(next(iter(records)))
    b.isa, b.threads = record["isa"], record["threads"]
    b.write("bench", record | {"other_kernels": records})


def memory(b):
    """Peak memory of training one SAE of the photographs' shape, beside the size of parameters, moments and images."""
    data, steps = b.data / "photos", 2 if b.quick else 60
    options = [*stretched(b, "photos"), *PHOTO_MODEL, "--batch", 32, "--steps", steps]
    _, _, baseline = b.train("memory-baseline", data, *BASELINE, *options, "--lr", 5e-4)
    _, _, default = b.train("memory-default", data, *options)
    H, D, rows = 3072, 3 * 64 * 64, 1000
    images = rows * D  # one byte per value
    tied, untied = 3 * 4 * (H * D + H), 3 * 4 * (2 * H * D + H + D)
    figures = {
        "baseline_peak_bytes": baseline,
        "baseline_must_hold_bytes": tied + images,
        "baseline_ratio": baseline / (tied + images),
        "default_peak_bytes": default,
        "default_must_hold_bytes": untied + images,
        "default_ratio": default / (untied + images),
    }
    if b.peers:
        for variant in ("eager", "compile"):
            figures[f"torch_{variant}_peak_bytes"] = torch(b, "photos", variant, 2 if b.quick else 20)[1]
    b.write("memory", figures)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def determinism(b):
    """Hashes of the weights by number of threads, by instruction set (prefilter included), and after a kill."""
    data, options = b.data / "mnist", "--latents 1024 -k 50 --batch 128 --steps 500".split()
    hashes = {}
    for threads in (1, 2):
        run, _, _ = b.train(f"threads-{threads}", data, *options, "--threads", threads)
        hashes[f"{threads} thread{'s' * (threads > 1)}"] = sha256(run / "model.safetensors")
    # The scalar kernels are too slow for this run; unit tests compare the others with them.
    for isa in OTHER_KERNELS:
        run, _, _ = b.train(f"isa-{isa}", data, *options, env={"VIBRISSA_KERNELS": isa})
        # On a CPU without these kernels the best available ones run instead.
        if b.isa == isa:
            hashes[isa] = sha256(run / "model.safetensors")
    b.isa = b.threads = None
    run, killed_at = b.work / "killed", None
    shutil.rmtree(run, ignore_errors=True)
    words = [b.binary, "train", data, "--out", run, *(quick_steps(options) if b.quick else options), "--checkpoint-every", 50]
    b.commands.append(b.readable(words) + "   (killed after step 250)")
    child = subprocess.Popen([str(w) for w in words], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=ROOT)
    while child.poll() is None:
        try:
            killed_at = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        except (OSError, ValueError, IndexError):
            killed_at = None
        if killed_at is not None and killed_at >= (2 if b.quick else 250):
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    child.wait()
    ended = (run / "model.safetensors").exists()
    b.run(*words, "--resume")
    hashes["killed and resumed"] = sha256(run / "model.safetensors")
    figures = {"sha256": hashes, "identical": len(set(hashes.values())) == 1, "killed_at_step": killed_at, "ended_before_the_kill": ended}
    b.write("determinism", figures)


def demo(b):
    out = b.work / "demo"
    shutil.rmtree(out, ignore_errors=True)
    text, wall, peak = b.run(b.binary, "demo", "--out", out, "--json")
    b.write("demo", json.loads(text) | {"wall_s": wall, "peak_bytes": peak})


# All cells are trained for the same number of steps.
KINDS = "topk,batchtopk,relu,jumprelu,gated"
LEVELS = "8,16,32,64,128"


def swept(b, name, data, grid, *options):
    """Clears RUNS/name and sweeps into it. Returns sweep.json and wall seconds."""
    out = b.work / name
    shutil.rmtree(out, ignore_errors=True)
    if b.quick:
        options = quick_steps(options)
    _, wall, _ = b.run(b.binary, "sweep", data, "--out", out, "--grid", *grid, *options)
    about = tomllib_about(next((out / "cells").iterdir()))
    b.isa, b.threads = about.get("isa"), about.get("threads")
    return json.loads((out / "sweep.json").read_text()), wall


def frontier(b):
    """Every activation at several k on real data, with H and the number of steps of the public libraries' figures."""
    settings = {
        "mnist": (b.data / "mnist", "--latents 1024 --batch 128 --steps 468".split()),
        "mnist_tied": (b.data / "mnist", "--latents 1024 --batch 128 --steps 468 --tied".split()),
        "photos": (b.data / "photos", [*stretched(b, "photos"), *"--size 64 --rgb --latents 3072 --batch 32 --steps 280".split()]),
        "activations": (b.data / "activations", "--latents 6144 --batch 1024 --steps 40".split()),
        "activations_tied": (b.data / "activations", "--latents 6144 --batch 1024 --steps 40 --tied --init kaiming --lr 0.003".split()),
    }
    figures = {}
    for name, (data, options) in settings.items():
        levels = {"mnist": LEVELS + ",50"}.get(name.split("_")[0], LEVELS)
        record, wall = swept(b, f"frontier-{name}", data, [f"activation={KINDS}", f"k={levels}"], *options)
        keep = ("l0", "l0_train", "fvu", "pearson", "ssim", "psnr", "cosine", "mse", "perceptual", "dead_latents", "rare_latents", "latents")
        cells = []
        for c in record["cells"]:
            cell = {k: c[k] for k in ("activation", "k", "seconds")} | {k: c["scores"].get(k) for k in keep}
            cell["front"] = any(f["name"] == c["configuration"] and f["front"] for f in record["configurations"])
            cells.append(cell)
        figures[name] = {"cells": cells, "wall_s": wall, "options": " ".join(str(o) for o in options if not isinstance(o, pathlib.Path))}
    b.write("frontier", figures)


def sweep_time(b):
    """A grid of 24 cells beside 24 single runs, and the same grid with halving."""
    data, options = b.data / "mnist", ["--epochs", 1, "--batch", 128]
    axes = {"latents": ["512", "1024"], "k": ["16", "32", "64"], "lr": ["0.0005", "0.001", "0.002", "0.004"]}
    grid = [f"{key}={','.join(values)}" for key, values in axes.items()]
    alone = 0.0
    for h in axes["latents"]:
        for k in axes["k"]:
            for lr in axes["lr"]:
                alone += b.train("alone", data, *options, "--latents", h, "-k", k, "--lr", lr)[1]
    whole, whole_s = swept(b, "sweep-24", data, grid, *options)
    halved, halved_s = swept(b, "sweep-24-halving", data, grid, *options, "--halving")
    figures = {"cells": len(whole["cells"]), "alone_s": alone, "sweep_s": whole_s, "halving_s": halved_s, "best": whole["best"], "halving_best": halved["best"]}
    b.write("sweep_time", figures | {"sweep_ratio": whole_s / alone, "halving_ratio": halved_s / alone})


def activation_speed(b):
    """One step of every activation at the same target L0, over the second half of the run: medians of alternating runs."""
    settings = {
        "mnist": (b.data / "mnist", "--latents 1024 -k 50 --batch 128 --steps 600".split()),
        "activations": (b.data / "activations", "--latents 6144 -k 32 --batch 1024 --steps 160".split()),
    }
    figures = {}
    for name, (data, options) in settings.items():
        each = {}
        for _ in range(1 if b.quick else 5):
            for kind in KINDS.split(","):
                run, _, _ = b.train("activation-speed", data, *options, "--activation", kind)
                lines = log_of(run)
                late = lines[len(lines) // 2 :]
                each.setdefault(kind, []).append((inside(run), statistics.mean(l["saes"][0]["l0"] for l in late)))
        median = {kind: statistics.median(ms for ms, _ in all_) for kind, all_ in each.items()}
        figures[name] = {
            kind: {"ms": median[kind], "each_ms": [ms for ms, _ in each[kind]], "l0": each[kind][-1][1], "ratio": median[kind] / median["topk"]}
            for kind in each
        }
    b.write("activation_speed", figures)


def adaptive(b):
    """`vibrissa eval --adaptive-k`: the number of active latents chosen for each row."""
    figures = {}
    for name, data, options in [("mnist", b.data / "mnist", "--latents 1024 -k 50".split()), ("photos", b.data / "photos", [*stretched(b, "photos"), *PHOTO_MODEL])]:
        run, _, _ = b.train(f"adaptive-{name}", data, *options)
        figures[name] = b.eval(run, data, "--adaptive-k")["adaptive"][0]
    b.write("adaptive", figures)


ALL = [demo, mnist_baseline, mnist_default, mnist_free, digits, photos, patches, activations, mice, determinism, memory]
ALL += [speed, ensemble, folder, growth, bench, analysis, features_of_mice, page, reinforce, truth, frontier]
ALL += [sweep_time, activation_speed, adaptive]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = lambda p: pathlib.Path(p).resolve()
    ap.add_argument("--data", type=folder, required=True)
    ap.add_argument("--peers", type=folder, help="without it, there are no figures of PyTorch")
    ap.add_argument("--python", default=sys.executable)
    ap.add_argument("--only", nargs="+", choices=[m.__name__ for m in ALL], metavar="NAME", help=", ".join(m.__name__ for m in ALL))
    ap.add_argument("--work", help="folder for the runs (default: a new temporary folder, which is not removed)")
    ap.add_argument("--out", default=ROOT / "docs" / "measured")
    ap.add_argument("--quick", action="store_true")
    a = ap.parse_args()
    b = Bench(a)
    for measurement in ALL:
        if not a.only or measurement.__name__ in a.only:
            b.commands, b.isa, b.threads = [], None, None
            measurement(b)


if __name__ == "__main__":
    main()
