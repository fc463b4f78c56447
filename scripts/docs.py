"""Writes the figures of README.md and docs/**/*.md from docs/measured/*.json. No figure in those pages is typed by hand.

usage: docs.py [--check]        --check changes nothing and exits with 1 if a section is stale or a link is broken

A section is the text between <!-- figures:NAME --> and <!-- /figures -->. NAME is one of the functions in SECTIONS.
NAME@MACHINE takes the figures from docs/measured/MACHINE/*.json (written by measure.py --out).
"""
import itertools
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured"
SECTION = re.compile(r"(<!-- figures:([a-z_]+(?:@[^ ]+)?) -->\n)(.*?)(<!-- /figures -->)", re.S)
NOT_YET = "not measured yet"


def pages():
    """README.md and every Markdown file below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Missing(Exception):
    pass


def load(name):
    path = MEASURED / f"{name}.json"
    if not path.exists():
        raise Missing(name)
    record = json.loads(path.read_text())
    if record.get("schema") != "vibrissa.measured/1" or record.get("quick"):
        raise SystemExit(f"{path}: not a full measurement; run scripts/measure.py without --quick")
    return record


def figures(name):
    return load(name)["figures"]


def text(value, digits=4):
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def table(head, rows):
    line = lambda cells: "| " + " | ".join(str(c) for c in cells) + " |"
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)]) + "\n"


def made(*names):
    """The source of the figures, one line for each machine and commit."""
    lines = {}
    for name in names:
        try:
            r = load(name)
        except Missing:
            continue
        where = f"{r['cpu']}, {r['threads']} thread{'s' * (r['threads'] > 1)}"
        if r["commit"]:
            where += f", {r['isa'] or 'the fastest instruction set of the CPU (name not recorded)'}, commit {r['commit']}"
        lines.setdefault(f"{where}, {r['date']}", []).append(f"`{name}`")
    return "".join(f"\nMeasured on {where} ({', '.join(names)}).\n" for where, names in lines.items())


def seconds(s):
    return f"{s:.1f} s" if s < 120 else f"{int(s // 60)} min {int(s % 60)} s"


def percent(value, digits=1):
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def mib(n):
    return f"{n / (1 << 20):,.0f} MiB"


def rows_of(*makers):
    """One row for each maker; a maker whose figures are missing gives its name and a note."""
    out = []
    for name, make in makers:
        try:
            out.append(make())
        except Missing:
            out.append([name, NOT_YET, ""])
    return out


def summary():
    def mnist_baseline():
        s, peer = figures("mnist_baseline")["test"]["saes"][0], figures("peers")["mnist_torch_baseline"]
        scores = lambda r: f"Pearson {text(r['pearson'])}, fvu {text(r['fvu'])}"
        return ["MNIST, [baseline recipe](docs/baseline.md), 5 epochs", scores(s), f"PyTorch: {scores(peer)}"]

    def mnist_default():
        f = figures("mnist_default")
        s = f["test"]["saes"][0]
        own = f"fvu {text(s['fvu'])}, {s['dead_latents']} of {text(s['latents'])} latents dead, {s['rare_latents']} rare, {seconds(f['wall_s'])}"
        return ["MNIST, 1,024 latents (H) and k = 50 given, all other options at their defaults", own, ""]

    def mnist_free():
        f = figures("mnist_free")
        s = f["test"]["saes"][0]
        own = f"Pearson {text(s['pearson'])}, fvu {text(s['fvu'])}, {s['dead_latents']} of {text(s['latents'])} latents dead, {s['rare_latents']} rare, {seconds(f['wall_s'])}"
        return ["MNIST, all options at their defaults", own, ""]

    def activations():
        f, tuned = figures("activations"), figures("peers_tuned")["activations"]["rows"]
        s = f["steps_40"]["saes"][0]
        beside = [f"{r['library']}: fvu {r['40']['fvu']}, {text(r['40']['dead_latents'])} dead" for r in tuned[:2]]
        return ["24,000 activations of MiniLM-L6, H = 6,144, k = 32 and batch 1,024 given, 40 steps", f"fvu {text(s['fvu'])}, {text(s['dead_latents'])} latents dead", "; ".join(beside) + " (each at the best of several learning rates)"]

    def photos():
        f, peer = figures("photos"), figures("peers")["photos_torch_baseline"]
        dead = f["default_on_training_rows"]["saes"][0]
        own = f"Pearson {text(f['default']['saes'][0]['pearson'])} (before training {text(f['steps_0']['saes'][0]['pearson'])}), {100 * dead['dead_latents'] / dead['latents']:.1f} % of latents dead on the training rows, {seconds(f['wall_s'])}"
        return ["1,000 photographs, 64×64 RGB, H = 3,072 and k = 128 given", own, f"PyTorch, baseline recipe: {peer['pearson']:.3f}; PCA with 128 components: {text(f['untrained']['pca_k']['pearson'])}"]

    def mice():
        f = figures("mice")
        at = lambda key: f[key]["saes"][0]["pearson"]
        return ["39 mouse images, fine-tuned from an MNIST model, five folds", f"Pearson {text(at('originals_held_out_by_folds'))}", f"before fine-tuning: {text(at('originals_before'))}"]

    def faster(name, label):
        def make():
            s = figures("speed")[name]
            if "times_faster" not in s:
                raise Missing(name)
            return [label, f"{s['ms_per_step']:.2f} ms", f"torch.compile: {s['torch_compile_ms']:.1f} ms (vibrissa is {s['times_faster']:.1f} times as fast)"]

        return make

    def memory():
        f = figures("memory")
        beside = f"PyTorch: {mib(f['torch_eager_peak_bytes'])}" if "torch_eager_peak_bytes" in f else ""
        return ["Peak memory, 1,000 photographs, one SAE", mib(f["baseline_peak_bytes"]), beside]

    def demo():
        f = figures("demo")
        own = f"Pearson {text(f['pearson'])}; mean best \\|cos\\| with the known features {f['recovery']:.3f}; {seconds(f['wall_s'])}"
        return ["`vibrissa demo`", own, f"mean best \\|cos\\| of random directions: {f['recovery_chance']:.3f}"]

    makers = [("MNIST, baseline recipe", mnist_baseline), ("MNIST, H and k given", mnist_default), ("MNIST, all options at their defaults", mnist_free), ("activations", activations), ("1,000 photographs", photos), ("39 mouse images", mice)]
    makers += [(label, faster(name, label)) for name, label in [("mnist", "One training step, 784 → 1,024, batch 128"), ("photos", "One training step, 12,288 → 3,072, batch 32")]]
    makers += [("Peak memory", memory), ("`vibrissa demo`", demo)]
    names = ["mnist_baseline", "mnist_default", "mnist_free", "activations", "photos", "mice", "speed", "memory", "demo", "peers", "peers_tuned"]
    note = "\nThe names in parentheses are benchmarks of scripts/measure.py (see [reproducibility](docs/reproducibility.md)); `peers` and `peers_tuned` are figures of other programs, measured without that script.\n"
    return table(["", "vibrissa", "for comparison"], rows_of(*makers)) + note + made(*names)


def activations_tuned():
    """fvu and dead latents beside libraries at tuned learning rates, after 40 and 200 steps."""
    tuned = figures("peers_tuned")["activations"]
    pair = lambda fvu, dead: f"{fvu:.3f} / {dead:,.0f}"
    rows = []
    for r in tuned["rows"]:
        lr = r["lr"] if isinstance(r["lr"], list) else [r["lr"]]
        of = [pair(r[steps]["fvu"], r[steps]["dead_latents"]) for steps in ("40", "200")]
        rows.append([r["library"], ", ".join(f"{v:g}" for v in lr), *of])
    short = figures("activations")["steps_40"]["saes"][0]
    for name, key in [("vibrissa, default learning rate", "without"), ("vibrissa, `--reinforce`", "with")]:
        long = figures("reinforce")["activations, defaults"][key]
        mean = lambda k: sum(s[k] for s in long) / len(long)
        first = pair(short["fvu"], short["dead_latents"]) if key == "without" else "–"
        rows.append([name, f"{figures('activations')['steps_40_chosen']['lr']:g}", first, pair(mean("fvu"), mean("dead_latents"))])
    head = ["", "learning rate", "40 steps: fvu / dead", "200 steps: fvu / dead"]
    return table(head, rows) + made("peers_tuned", "activations", "reinforce")


PEER_NAMES = {"torch_compile": "torch.compile", "sparsify": "sparsify"}


def speed():
    f = figures("speed")
    shapes = {name: s for name, s in f.items() if isinstance(s, dict)}
    steps, encoding = [], []
    for name, s in shapes.items():
        D, H, k, B = s["shape"]
        what = f"{name}, {D:,} → {H:,}, k {k}, B {B:,}"
        peer = next((p for p in PEER_NAMES if f"{p}_ms" in s), None)
        beside = f"{PEER_NAMES[peer]} {text(s[f'{peer}_ms'], 1)}" if peer else "–"
        faster = [text(s.get(key), 1) for key in ("times_faster", "times_faster_inside")]
        own = [text(s[key], 2) for key in ("ms_per_step", "ms_inside_step")]
        steps.append([what, *own, beside, *faster])
        cells = [text(s.get(key), 2) for key in ("encode_ms", "torch_encode_ms", "times_faster_encode")]
        encoding.append([what, *cells])
    head = ["shape", "whole run, ms per step", "step alone, ms", "other program, ms per step", "its ratio to the whole run"]
    out = table([*head, "its ratio to the step alone"], steps)
    out += "\n" + table(["shape", "encoding one batch, ms", "PyTorch (linear, topk), ms", "ratio"], encoding)
    note = f"\nPyTorch {f['torch_version']}.\n" if "torch_version" in f else ""
    return out + note + made("speed")


def ensemble():
    f = figures("ensemble")
    step = f["step"]
    ms, s = (lambda v: f"{v:.2f} ms"), seconds
    rows = [["one step, MNIST", ms(step["five_ms"]), ms(5 * step["one_ms"]), text(step["ratio"], 2)]]
    for whole in f["folders"].values():
        what = f"photographs, `{whole['options']}`, whole command"
        rows.append([what, s(whole["together_s"]), s(whole["one_by_one_s"]), text(whole["ratio"], 2)])
    return table(["", "`--saes 5`", "five runs", "ratio"], rows) + made("ensemble")


def folder():
    f = figures("folder")
    if "torch" not in f:
        raise Missing("folder")
    own, torch = f, f["torch"]
    row = lambda what, of: [what, of(own), of(torch)]
    rows = [row("whole command", lambda r: seconds(r["wall_s"]))]
    rows.append(row("training", lambda r: seconds(r["train_s"])))
    rows.append(row("everything else", lambda r: seconds(r["wall_s"] - r["train_s"])))
    rows += [row(key, lambda r: text(r[key])) for key in ("rows", "steps")]
    rows.append(row("held-out Pearson", lambda r: text(r["pearson"])))
    faster = f"\nPyTorch takes {f['times_faster']:.1f} times as long.\n"
    return table(["", "vibrissa train", "PyTorch"], rows) + faster + made("folder")


def growth():
    f, rows = figures("growth"), []
    for name, own in f.items():
        D, H, k, B = own["shape"]
        ms, ratio = own["ms"], own["ratio"]
        # The cost of AuxK depends on the number of dead latents, so it is shown beside the times.
        dead = {key: f", {n:,} dead" if "AuxK" in name else "" for key, n in own["dead"].items()}
        cells = [f"{ms[key]:.2f} ms ({ratio[key]:.2f}){dead[key]}" for key in "HDBk"]
        rows.append([f"{name}, {D:,} → {H:,}, k {k}, B {B:,}", f"{ms['base']:.2f} ms{dead['base']}", *cells])
    head = ["one step (ratio to the base)", "base", "H × 2", "D × 2", "B × 2", "k × 2"]
    return table(head, rows) + made("growth")


def analysis():
    f = figures("analysis")
    loop, o = f["torch_loop"], f["order"]
    rows = [["`vibrissa analyze`: importance, ablation of every active latent, classes, co-activation", f"{f['rows_per_s']:,.0f}", "1"],
            ["PyTorch loop: frequency and strength only", f"{loop['ranking_rows_per_s']:,.0f}", f"{f['rows_per_s'] / loop['ranking_rows_per_s']:,.1f}"],
            ["PyTorch loop: ablation, one latent at a time", f"{loop['ablation_rows_per_s']:,.1f}", f"{f['rows_per_s'] / loop['ablation_rows_per_s']:,.0f}"]]
    words = f"\n{f['rows']:,} rows of MNIST, H 1,024, k 50. The whole command takes {seconds(f['wall_s'])}; the report has {f['report_bytes'] / 1e6:.1f} MB. The {o['top']} features with the highest score carry {100 * o['share'][0]:.3f} % of the contribution each, the {o['top']} features with the lowest index {100 * o['share'][1]:.3f} %. The rank correlation of score and index is {o['rank_index']:+.3f}. Gradient energy divided by energy of the decoder directions (lower means smoother, less like noise) is {text(o['sharpness'][0], 2)} for the former and {text(o['sharpness'][1], 2)} for the latter.\n"
    return table(["", "rows/s", "time relative to vibrissa"], rows) + words + made("analysis")


def bench():
    f = figures("bench")
    rows = []
    for s in f["shapes"]:
        layout = ("tied" if s["tied"] else "untied") + (", AuxK" if s["auxk"] else "")
        cells = [s["name"], f"{s['d_in']:,} → {s['latents']:,}", s["k"], f"{s['batch']:,}", layout]
        rows.append(cells + [text(s[k], 2) for k in ("step_ms", "encode_ms", "floor_ms")] + [s["floor_set_by"], text(s["step_over_floor"], 2)])
    head = ["shape", "D → H", "k", "B", "layout", "step ms", "encode ms", "floor ms", "limited by", "step ÷ floor"]
    machine = f"\nThis machine: {f['gemm_gflops']:.0f} GFLOP/s in dense products, {f['read_gb_per_s']:.1f} GB/s reading, {f['update_gb_per_s']:.1f} GB/s (read plus write) updating in place.\n"
    whole = table(head, rows) + machine
    others = {f["isa"]: f} | f.get("other_kernels", {})
    if len(others) > 1:
        rows = []
        for i, s in enumerate(f["shapes"]):
            of = [o["shapes"][i] for o in others.values()]
            rows.append([s["name"]] + [f"{text(o['step_ms'], 2)} ({text(o['step_over_floor'], 2)})" for o in of] + [text(o["encode_ms"], 2) for o in of])
        head = ["shape"] + [f"{isa}: step ms (÷ floor)" for isa in others] + [f"{isa}: encode ms" for isa in others]
        whole += "\n" + table(head, rows)
    return whole + made("bench")


def memory():
    f = figures("memory")
    of = lambda name, peak, hold: [name, mib(peak), mib(hold), text(peak / hold, 2)]
    rows = [of("baseline recipe (tied)", f["baseline_peak_bytes"], f["baseline_must_hold_bytes"])]
    rows.append(of("defaults (untied)", f["default_peak_bytes"], f["default_must_hold_bytes"]))
    for variant in ("eager", "compile"):
        if (peak := f.get(f"torch_{variant}_peak_bytes")) is not None:
            rows.append(of(f"PyTorch {variant}, baseline recipe", peak, f["baseline_must_hold_bytes"]))
    return table(["run", "peak memory", "parameters + moments + images", "ratio"], rows) + made("memory")


def determinism():
    f = figures("determinism")
    rows = [[name, f"`{h[:16]}…`"] for name, h in f["sha256"].items()]
    killed = f"\nKilled at step {f['killed_at_step']} of 500.\n"
    return table(["run", "SHA-256 of model.safetensors"], rows) + killed + made("determinism")


def chosen(c):
    return ", ".join(f"{k} {v}" for k, v in c.items())


def rules():
    """The table of defaults, copied from the doc comment in the source code."""
    head = "/// | option | default | reason |"
    sources = [text for path in sorted(ROOT.glob("crates/*/src/**/*.rs")) if head in (text := path.read_text())]
    if len(sources) != 1:
        raise SystemExit(f"{len(sources)} source files have a line {head!r}; expected one")
    lines = sources[0][sources[0].index(head) :].splitlines()
    return "".join(line[4:] + "\n" for line in itertools.takewhile(lambda line: line.startswith("/// |"), lines))


def defaults():
    rows = []

    def add(what, s, wall, choice):
        rows.append([what, text(s["pearson"]), text(s["fvu"]), f"{s['dead_latents']} of {s['latents']:,}", text(s["rare_latents"]), seconds(wall) if wall else "–", chosen(choice) if choice else ""])

    def attempt(name, fill):
        try:
            fill(figures(name))
        except Missing:
            rows.append([name, NOT_YET, "", "", "", "", ""])

    one = lambda record: record["saes"][0]
    attempt("mnist_default", lambda f: add("MNIST, H 1024, k 50, B 128, 5 epochs", one(f["test"]), f["wall_s"], f["chosen"]))
    attempt("mnist_free", lambda f: add("MNIST, no options", one(f["test"]), f["wall_s"], f["chosen"]))
    attempt("mnist_baseline", lambda f: add("MNIST, baseline recipe", one(f["test"]), f["wall_s"], None))
    attempt("digits", lambda f: (add("digits, H 3072, k 128", one(f["default"]), f["default_wall_s"], f["default_chosen"]), add("digits, baseline recipe (first of three)", one(f["baseline"]), f["baseline_wall_s"], None)))
    attempt("photos", lambda f: (add("photographs, H 3072, k 128", one(f["default"]), f["wall_s"], f["chosen"]), add("photographs, the same before training", one(f["steps_0"]), None, None)))
    attempt("activations", lambda f: (add("activations, H 6144, k 32, B 1024, 40 steps", one(f["steps_40"]), f["steps_40_wall_s"], f["steps_40_chosen"]), add("activations, no options", one(f["free"]), f["free_wall_s"], f["free_chosen"])))
    out = table(["data and options", "Pearson", "fvu", "dead", "rare", "time", "chosen"], rows)
    beside = []
    for name in ("photos", "digits"):
        try:
            b = figures(name)["untrained"]
        except Missing:
            continue
        for key, label in [("pca_k", f"PCA with {b['k']} components"), ("pca_atoms", "± principal directions, k largest"), ("dct_atoms", "± cosines, k largest")]:
            beside.append([name, label, text(b[key]["pearson"]), text(b[key]["fvu"])])
    if beside:
        out += "\nDictionaries that need no training, on the same rows:\n\n" + table(["data", "dictionary", "Pearson", "fvu"], beside)
    return out + made("mnist_default", "mnist_free", "mnist_baseline", "digits", "photos", "activations")


def patches():
    f, rows = figures("patches"), []
    for name, what in [("mnist", "MNIST"), ("photos", "1,000 photographs, 64×64 RGB")]:
        own = f[name]
        s, c = own["test"]["saes"][0], own["chosen"]
        dead = f"{s['dead_latents']} of {s['latents']:,}"
        rows.append([what, text(s["pearson"]), text(s["fvu"]), text(s["l0"], 1), dead, seconds(own["wall_s"]), mib(own["peak_bytes"]), chosen(c)])
    head = ["8×8 patches, stride 4", "Pearson", "fvu", "L0 per patch", "dead", "time", "memory", "chosen"]
    return table(head, rows) + made("patches")


def mice():
    f = figures("mice")
    rows = []
    steps = [("all_before", "234 rows, before"), ("all_after", "234 rows, after"), ("test_before", "test rows, before"), ("test_after", "test rows, after")]
    steps += [("originals_before", "39 images, before"), ("originals_held_out_by_folds", "39 images, each in the test fold of five folds once, after")]
    for key, label in steps:
        s, base = f[key]["saes"][0], f[key]["mean_image"]
        by = s["by_class"]
        of = lambda c: text(by[c]["pearson"]) + f" ({by[c]['rows']})" if c in by else "–"
        rows.append([label, f[key]["rows"], text(s["pearson"]), of("1"), of("2"), text(s["mse"], 5), text(s["fvu"]), text(base["pearson"])])
    head = ["evaluated on", "rows", "Pearson", "class 1 (rows)", "class 2 (rows)", "mse", "fvu", "Pearson of the mean image"]
    return table(head, rows) + f"\nDefaults chosen for fine-tuning: {chosen(f['chosen'])}.\n" + made("mice")


def features_of_mice():
    f = figures("features_of_mice")
    rows = []
    for i, s in enumerate(f["saes"]):
        o = s["order"]
        rows.append([i, text(s["pearson"]), f"{s['latents'] - s['dead']:,}", percent(o["top_frequency"]), percent(o["top_least_frequency"]), f"{o['rank_index']:+.3f}", percent(o["share"][0], 3), percent(o["share"][1], 3), text(o["sharpness"][0], 2), text(o["sharpness"][1], 2)])
    head = ["SAE", "Pearson", "features in use", "highest frequency", "lowest frequency among the top 100", "Spearman correlation of rank and index", "mean share of the contribution: top 100 by score", "first 100 by index", "sharpness: top 100 by score", "first 100 by index"]
    pairs = [m[2] for m in f["ensemble"]["mcc"]]
    words = f"\n`train` takes {seconds(f['train_s'])}, `analyze` {seconds(f['analyze_s'])}, `report` {seconds(f['report_s'])}; the report has {f['report_bytes'] / 1e6:.1f} MB. MCC between pairs of SAEs: {min(pairs):.3f} to {max(pairs):.3f}. {sum(f['ensemble']['shared'])} features have a counterpart of cosine ≥ 0.7 in every other SAE.\n"
    return table(head, rows) + words + made("features_of_mice")


def page():
    f = figures("page")
    opens = f"opens in {f['opens_ms'] / 1e3:.2f} s in headless Chromium (median of {len(f['opens_ms_each'])}), " if "opens_ms" in f else ""
    return f"A report on {f['latents']:,} features and {f['rows']:,} rows of MNIST has {f['bytes'] / 1e6:.1f} MB, {opens}and is written in {seconds(f['report_s'])} after {seconds(f['analyze_s'])} of `analyze`.\n" + made("page")


def reinforce():
    f = figures("reinforce")
    rows = []
    for name, kinds in f.items():
        def each(kind, key):
            return [one[key] for one in kinds[kind]]

        def mean(kind, key):
            return sum(each(kind, key)) / len(kinds[kind])

        differences = [w - o for o, w in zip(each("without", "fvu"), each("with", "fvu"))]
        fvu = [text(mean(k, "fvu")) for k in ("without", "with")] + [f"{min(differences):+.4f} to {max(differences):+.4f}"]
        rows.append([name, *fvu, *(f"{mean(k, 'dead_latents'):,.0f}" for k in ("without", "with")), f"{mean('with', 'resampled'):,.0f}"])
    seeds = len(kinds["with"])
    head = ["training", "fvu without", "fvu with", "difference, each seed", "dead without", "dead with", "resampled"]
    return table(head, rows) + f"\nMeans of {seeds} seeds.\n" + made("reinforce")


def truth():
    f = figures("truth")
    out = []
    for title, kinds in f["settings"].items():
        rows = []
        for name, runs in sorted(kinds.items(), key=lambda item: -sum(r["mcc"] for r in item[1])):
            each = lambda key: [r[key] for r in runs]
            mean = lambda key: sum(each(key)) / len(runs)
            mcc = f"{text(mean('mcc'))} ({text(min(each('mcc')))} to {text(max(each('mcc')))})"
            rows.append([name, mcc, text(mean("mmcs")), percent(mean("found")), *(text(mean(k)) for k in ("f1", "precision", "recall", "fvu")), text(mean("l0"), 2), f"{mean('dead_latents'):,.0f}"])
        chance = sum(r["mcc_chance"] for runs in kinds.values() for r in runs) / sum(map(len, kinds.values()))
        rows.append(["random directions", text(chance), *[""] * 8])
        head = ["", "MCC, mean (range over seeds)", "mean best \\|cos\\|", "found", "F1", "precision", "recall", "fvu", "L0", "dead"]
        out.append(f"{title}:\n\n" + table(head, rows))
    seeds = len(next(iter(next(iter(f["settings"].values())).values())))
    options = "".join(f"- {name}: `{words}`\n" for name, words in f["options"].items() if words)
    return "\n".join(out) + f"\nMeans over {seeds} seeds. Options in addition to `{f['common']}`:\n\n{options}" + made("truth")


def frontier():
    f, out = figures("frontier"), []
    titles = {
        "mnist": "MNIST, H 1,024, B 128, 468 steps",
        "mnist_tied": "MNIST, tied",
        "photos": "1,000 photographs, 64×64 RGB, H 3,072, B 32, 280 steps",
        "activations": "Activations, H 6,144, B 1,024, 40 steps",
        "activations_tied": "Activations, tied",
    }
    for name, own in f.items():
        levels = sorted({c["k"] for c in own["cells"]})
        kinds = list(dict.fromkeys(c["activation"] for c in own["cells"]))
        at = {(c["activation"], c["k"]): c for c in own["cells"]}
        cell = lambda c: f"{text(c['fvu'])} ({text(c['l0'], 0)}; {c['dead_latents']})"
        rows = [[kind, *(cell(at[kind, k]) for k in levels)] for kind in kinds]
        out.append(f"{titles[name]} (`{own['options']}`); fvu (L0; dead latents) on held-out rows:\n\n" + table(["k", *map(str, levels)], rows))
    return "\n".join(out) + made("frontier")


def sweep_time():
    f = figures("sweep_time")
    rows = [[f"{f['cells']} runs, one after the other", seconds(f["alone_s"]), "1"],
            ["one sweep", seconds(f["sweep_s"]), text(f["sweep_ratio"], 2)],
            ["one sweep, `--halving`", seconds(f["halving_s"]), text(f["halving_ratio"], 2)]]
    same = "the same best configuration" if f["best"] == f["halving_best"] else "a different best configuration"
    return table(["MNIST, 1 epoch, latents × k × lr", "time", "ratio"], rows) + f"\nHalving finds {same}: {f['halving_best']}.\n" + made("sweep_time")


def activation_speed():
    f, rows = figures("activation_speed"), []
    for name, kinds in f.items():
        for kind, own in kinds.items():
            rows.append([name, kind, text(own["ms"], 2), text(own["ratio"], 2), text(own["l0"], 1)])
    return table(["shape", "activation", "step ms", "÷ topk", "L0"], rows) + made("activation_speed")


def adaptive():
    f, out = figures("adaptive"), []
    names = {"fixed": "k largest", "threshold": "all above θ", "residual": "until the error is τ", "gain": "while each reduces the error by λ"}
    for name, own in f.items():
        rows = []
        for r in own["rules"]:
            spread = " – ".join(text(q, 0) for q in (r["l0_quantiles"][0], r["l0_quantiles"][2], r["l0_quantiles"][4]))
            by = " – ".join(text(r["l0_by_complexity"][i], 0) for i in (0, 9))
            rows.append([names[r["name"]], text(r["l0"], 1), spread, percent(r["at_reach"]), by, text(r["with_complexity"], 2), text(r["fvu"]), text(r["pearson"])])
        head = [f"{name}, k {own['budget']}", "mean L0", "L0: 5 % – median – 95 %", f"rows cut off at {own['reach']}", "mean L0 of the simplest – most complex tenth", "Spearman ρ with complexity", "fvu", "Pearson"]
        out.append(table(head, rows))
    return "\n".join(out) + made("adaptive")


def commands(name):
    """A section with the commands of a measurement: one of each kind, programs alone, without the preparation of rows."""

    def make():
        seen = {}
        for command in load(name)["commands"]:
            if "python -c" not in command:
                # Repetitions differ in their last option (steps, seed).
                seen.setdefault(command[:70], command.replace(" --checkpoint-every 1000000000", ""))
        return "".join(f"    {command}\n" for command in seen.values())

    make.__name__ = f"{name}_commands"
    return make


ALL = [*map(commands, ("speed", "folder", "ensemble", "analysis"))]
ALL += [summary, activations_tuned, speed, ensemble, folder, growth, bench, memory, determinism, analysis, rules, defaults, patches, mice]
ALL += [features_of_mice, page, reinforce, truth, frontier, sweep_time, activation_speed, adaptive]
SECTIONS = {f.__name__: f for f in ALL}


def fill(match):
    global MEASURED
    begin, name, _, end = match.groups()
    name, _, machine = name.partition("@")
    if name not in SECTIONS:
        raise SystemExit(f"figures:{name}: no such section; scripts/docs.py knows {', '.join(SECTIONS)}")
    all_machines, MEASURED = MEASURED, MEASURED / machine
    try:
        body = SECTIONS[name]()
    except Missing as missing:
        there = f" --out docs/measured/{machine}" if machine else ""
        body = f"*{missing}: {NOT_YET} (scripts/measure.py --only {missing}{there}).*\n"
    finally:
        MEASURED = all_machines
    return f"{begin}{body}{end}"


def broken_links():
    """Relative links of the pages whose file or heading does not exist, as "PAGE: LINK"."""
    heading = lambda line: re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
    broken = []
    for page in [*pages(), *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))]:
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            headings = lambda: {heading(l) for l in target.read_text().splitlines() if l.startswith("#")}
            if not target.exists() or (anchor and anchor not in headings()):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    return broken


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    stale = []
    for path in pages():
        page, old = path.relative_to(ROOT).as_posix(), path.read_text()
        if old.count("<!-- figures:") != len(SECTION.findall(old)):
            raise SystemExit(f"{page}: a figures section has no end marker")
        new = SECTION.sub(fill, old)
        if new != old:
            stale.append(page)
            if not sys.argv[1:]:
                path.write_text(new)
                print(f"{page}: figures updated")
    if sys.argv[1:] and (broken := broken_links()):
        raise SystemExit("broken links:\n" + "\n".join(broken))
    if sys.argv[1:] and stale:
        raise SystemExit(f"stale figures in {', '.join(stale)}: run scripts/docs.py and commit")


if __name__ == "__main__":
    main()
