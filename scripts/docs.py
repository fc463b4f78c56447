"""Writes the figures of README.md and docs/*.md from docs/measured/*.json; no figure there is typed.

usage: docs.py [--check]        --check changes nothing and exits 1 if a section is stale

A section is everything between <!-- figures:NAME --> and <!-- /figures -->, NAME one of the functions in SECTIONS;
NAME@MACHINE has the figures of docs/measured/MACHINE/*.json (measure.py --out).
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured"
PAGES = ["README.md", "docs/performance.md", "docs/defaults.md", "docs/mice.md", "docs/truth.md", "docs/sparsity.md"]
SECTION = re.compile(r"(<!-- figures:([a-z_]+(?:@[^ ]+)?) -->\n)(.*?)(<!-- /figures -->)", re.S)
NOT_YET = "not measured yet"


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
    """Where the figures come from, one line a machine and commit."""
    lines = {}
    for name in names:
        try:
            r = load(name)
        except Missing:
            continue
        where = f"{r['cpu']}, {r['threads']} threads, {r['isa'] or 'its best instruction set'}, commit {r['commit']}, {r['date']}"
        lines.setdefault(where, []).append(f"`{name}`")
    return "".join(f"\nMeasured on {where} ({', '.join(names)}).\n" for where, names in lines.items())


def seconds(s):
    return f"{s:.1f} s" if s < 120 else f"{int(s // 60)} min {int(s % 60)} s"


def percent(value, digits=1):
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def mib(n):
    return f"{n / (1 << 20):,.0f} MiB"


def rows_of(*makers):
    """Rows of makers that have their figures; a maker without them gives its name and a note."""
    out = []
    for name, make in makers:
        try:
            out.append(make())
        except Missing:
            out.append([name, NOT_YET, ""])
    return out


def summary():
    def mnist_seeds():
        s = figures("mnist_seeds")["test"]["saes"][0]
        return ["MNIST, the seeds' recipe, 5 epochs", f"Pearson {text(s['pearson'])}, fvu {text(s['fvu'])}", "PyTorch: Pearson 0.9733, fvu 0.0728"]

    def mnist_default():
        f = figures("mnist_default")
        s = f["test"]["saes"][0]
        return ["MNIST, H 1,024 and k 50 given, the rest chosen, 5 epochs", f"fvu {text(s['fvu'])}, {s['dead_latents']} of {text(s['latents'])} latents dead, {s['rare_latents']} rare, {seconds(f['wall_s'])}", "aim: fvu ≤ 0.065, ≤ 10 dead, < 60 s"]

    def digits():
        f = figures("digits")
        best, mean = max(s["pearson"] for s in f["seeds"]["saes"]), f["seeds"]["ensemble"]["pearson"]
        return ["1,000 digits as 64×64 RGB", f"seeds' recipe: best of three {text(best)}, their mean {text(mean)}; the same H and k, the rest chosen: {text(f['rule']['saes'][0]['pearson'])}", "PyTorch: Pearson 0.924"]

    def photos():
        f = figures("photos")
        dead = f["rule_on_training_rows"]["saes"][0]
        return ["1,000 photographs, 64×64 RGB, H 3,072 and k 128 given", f"Pearson {text(f['rule']['saes'][0]['pearson'])} (before training {text(f['steps_0']['saes'][0]['pearson'])}), {100 * dead['dead_latents'] / dead['latents']:.1f} % of latents dead on the training rows, {seconds(f['wall_s'])}", f"PyTorch, seeds' recipe: 0.770; PCA with 128: {text(f['baselines']['pca_k']['pearson'])}"]

    def mice():
        f = figures("mice")
        at = lambda key: f[key]["saes"][0]["pearson"]
        return ["39 mice, fine-tuned from MNIST", f"Pearson {text(at('originals_before'))} → {text(at('originals_held_out_by_folds'))}, held out by five folds", "before → after"]

    def faster(name, label):
        def make():
            s = figures("speed")[name]
            if "times_faster" not in s:
                raise Missing(name)
            return [label, f"{s['ms_per_step']:.2f} ms, {s['times_faster']:.1f} times as fast", f"torch.compile: {s['torch_compile_ms']:.1f} ms"]

        return make

    def memory():
        f = figures("memory")
        beside = f"PyTorch: {mib(f['torch_eager_peak_bytes'])}" if "torch_eager_peak_bytes" in f else ""
        return ["Peak memory, photographs, one SAE", f"{mib(f['seeds_peak_bytes'])}, {f['seeds_ratio']:.2f} × what must be held", beside]

    def determinism():
        f = figures("determinism")
        return ["Same seed: " + ", ".join(f["sha256"]), "identical weights" if f["identical"] else "weights DIFFER", "bit for bit"]

    def demo():
        f = figures("demo")
        return ["`vibrissa demo`", f"Pearson {text(f['pearson'])}, {100 * f['recovery']:.1f} % recovery (mean best \\|cos\\|), {seconds(f['wall_s'])}", f"random directions: {100 * f['recovery_chance']:.1f} %"]

    def mnist_free():
        f = figures("mnist_free")
        s = f["test"]["saes"][0]
        return [f"MNIST, everything chosen ({text(s['latents'])} latents)", f"Pearson {text(s['pearson'])}, fvu {text(s['fvu'])}, {s['dead_latents']} dead, {s['rare_latents']} rare, {seconds(f['wall_s'])}", ""]

    def activations():
        f = figures("activations")
        s = f["steps_40"]["saes"][0]
        return ["24,000 activations of a network, H 6,144 and k 32 given, 40 steps", f"fvu {text(s['fvu'])}, {text(s['dead_latents'])} of {text(s['latents'])} unused", "sparsify: fvu 0.424, 136 unused"]

    makers = [("MNIST, the seeds' recipe", mnist_seeds), ("MNIST, the rest chosen", mnist_default), ("MNIST, everything chosen", mnist_free), ("activations", activations), ("1,000 digits", digits), ("1,000 photographs", photos), ("39 mice", mice)]
    makers += [(label, faster(name, label)) for name, label in [("mnist", "A step, 784 → 1,024, batch 128"), ("photos", "A step, 12,288 → 3,072, batch 32"), ("mice64", "A step, 4,096 → 8,192, batch 16")]]
    makers += [("Peak memory", memory), ("Determinism", determinism), ("`vibrissa demo`", demo)]
    names = ["mnist_seeds", "mnist_default", "mnist_free", "activations", "digits", "photos", "mice", "speed", "memory", "determinism", "demo"]
    return table(["on held-out rows", "vibrissa", "beside"], rows_of(*makers)) + made(*names)


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
    head = ["shape", "ms a step, whole run", "ms inside the step", "peer, ms a step", "whole run: times faster"]
    out = table([*head, "inside the step: times faster"], steps)
    out += "\n" + table(["shape", "encoding a batch, ms", "PyTorch, linear and topk, ms", "times faster"], encoding)
    note = f"\nPyTorch {f['torch_version']}.\n" if "torch_version" in f else ""
    return out + note + made("speed")


def ensemble():
    f = figures("ensemble")
    step = f["step"]
    ms, s = (lambda v: f"{v:.2f} ms"), seconds
    rows = [["inside a step of MNIST", ms(step["five_ms"]), ms(5 * step["one_ms"]), text(step["ratio"], 2)]]
    for whole in f["folders"].values():
        what = f"photographs, `{whole['options']}`, from start to end"
        rows.append([what, s(whole["together_s"]), s(whole["one_by_one_s"]), text(whole["ratio"], 2)])
    return table(["", "five SAEs in one run", "five runs", "ratio"], rows) + made("ensemble")


def folder():
    f = figures("folder")
    if "torch" not in f:
        raise Missing("folder")
    own, torch = f, f["torch"]
    row = lambda what, of: [what, of(own), of(torch)]
    rows = [row("from start to end", lambda r: seconds(r["wall_s"]))]
    rows.append(row("of it training", lambda r: seconds(r["train_s"])))
    rows.append(row("of it everything else", lambda r: seconds(r["wall_s"] - r["train_s"])))
    rows += [row(key, lambda r: text(r[key])) for key in ("rows", "steps")]
    rows.append(row("held-out Pearson", lambda r: text(r["pearson"])))
    faster = f"\nFrom start to end vibrissa is {f['times_faster']:.1f} times as fast.\n"
    return table(["", "vibrissa train", "PyTorch"], rows) + faster + made("folder")


def growth():
    f, rows = figures("growth"), []
    for name, own in f.items():
        D, H, k, B = own["shape"]
        ms, ratio = own["ms"], own["ratio"]
        # Of few dead latents AuxK has little to learn: how many there were belongs to its times.
        dead = {key: f", {n:,} dead" if "AuxK" in name else "" for key, n in own["dead"].items()}
        cells = [f"{ms[key]:.2f} ms ({ratio[key]:.2f}){dead[key]}" for key in "HDBk"]
        rows.append([f"{name}, {D:,} → {H:,}, k {k}, B {B:,}", f"{ms['base']:.2f} ms{dead['base']}", *cells])
    head = ["inside the step (times the base)", "base", "H × 2", "D × 2", "B × 2", "k × 2"]
    return table(head, rows) + made("growth")


def analysis():
    f = figures("analysis")
    loop = f["seeds_loop"]
    rows = [["vibrissa analyze (importance, ablation of every active latent, classes, company)", f"{f['rows_per_s']:,.0f}", "1"],
            ["the seeds' loop in PyTorch: frequency and strength only", f"{loop['ranking_rows_per_s']:,.0f}", f"{f['rows_per_s'] / loop['ranking_rows_per_s']:,.1f}"],
            ["the seeds' loop in PyTorch: ablation, latent by latent", f"{loop['ablation_rows_per_s']:,.1f}", f"{f['rows_per_s'] / loop['ablation_rows_per_s']:,.0f}"]]
    o = f["order"]
    words = f"\n{f['rows']:,} rows of MNIST, H 1,024, k 50; whole command {seconds(f['wall_s'])}; the page has {f['report_bytes'] / 1e6:.1f} MB. The {o['top']} first by score carry {100 * o['share'][0]:.3f} % of the effect each, the {o['top']} first by index {100 * o['share'][1]:.3f} %; rank and index correlate with {o['rank_index']:+.3f}. Gradient energy over energy of their pictures (lower: smoother, less like noise): {text(o['sharpness'][0], 2)} against {text(o['sharpness'][1], 2)}.\n"
    return table(["what", "rows/s", "vibrissa is faster by"], rows) + words + made("analysis")


def bench():
    f = figures("bench")
    rows = []
    for s in f["shapes"]:
        layout = ("tied" if s["tied"] else "untied") + (", AuxK" if s["auxk"] else "")
        cells = [s["name"], f"{s['d_in']:,} → {s['latents']:,}", s["k"], f"{s['batch']:,}", layout]
        rows.append(cells + [text(s[k], 2) for k in ("step_ms", "encode_ms", "floor_ms")] + [s["floor_set_by"], text(s["step_over_floor"], 2)])
    head = ["shape", "D → H", "k", "B", "layout", "step ms", "encode ms", "floor ms", "set by", "step ÷ floor"]
    machine = f"\nThis machine: {f['gemm_gflops']:.0f} GFLOP/s in dense products, {f['read_gb_per_s']:.1f} GB/s read, {f['update_gb_per_s']:.1f} GB/s in and out when updating in place.\n"
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
    rows = [["seeds' recipe (tied)", mib(f["seeds_peak_bytes"]), mib(f["seeds_must_hold_bytes"]), text(f["seeds_ratio"], 2)]]
    rows.append(["own defaults (untied)", mib(f["rule_peak_bytes"]), mib(f["rule_must_hold_bytes"]), text(f["rule_ratio"], 2)])
    for variant in ("eager", "compile"):
        if (peak := f.get(f"torch_{variant}_peak_bytes")) is not None:
            rows.append([f"PyTorch {variant}, seeds' recipe", mib(peak), mib(f["seeds_must_hold_bytes"]), text(peak / f["seeds_must_hold_bytes"], 2)])
    return table(["run", "peak memory", "parameters + moments + pictures", "ratio"], rows) + made("memory")


def determinism():
    f = figures("determinism")
    rows = [[name, f"`{h[:16]}…`"] for name, h in f["sha256"].items()]
    killed = f"\nKilled at step {f['killed_at_step']} of 500.\n"
    return table(["run", "SHA-256 of model.safetensors"], rows) + killed + made("determinism")


def chosen(c):
    return ", ".join(f"{k} {v}" for k, v in c.items())


def rules():
    """The table above `resolve`, as the code has it."""
    source = (ROOT / "crates/vibrissa/src/train/defaults.rs").read_text()
    return "".join(line[4:] + "\n" for line in source.splitlines() if line.startswith("/// |"))


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
    attempt("mnist_free", lambda f: add("MNIST, no option", one(f["test"]), f["wall_s"], f["chosen"]))
    attempt("mnist_seeds", lambda f: add("MNIST, the seeds' recipe", one(f["test"]), f["wall_s"], None))
    attempt("digits", lambda f: (add("digits, H 3072, k 128", one(f["rule"]), f["rule_wall_s"], f["rule_chosen"]), add("digits, the seeds' recipe (first of three)", one(f["seeds"]), f["seeds_wall_s"], None)))
    attempt("photos", lambda f: (add("photographs, H 3072, k 128", one(f["rule"]), f["wall_s"], f["chosen"]), add("photographs, the same before training", one(f["steps_0"]), None, None)))
    attempt("activations", lambda f: (add("activations, H 6144, k 32, B 1024, 40 steps", one(f["steps_40"]), f["steps_40_wall_s"], f["steps_40_chosen"]), add("activations, no option", one(f["free"]), f["free_wall_s"], f["free_chosen"])))
    out = table(["data and options", "Pearson", "fvu", "dead", "rare", "time", "chosen"], rows)
    beside = []
    for name in ("photos", "digits"):
        try:
            b = figures(name)["baselines"]
        except Missing:
            continue
        for key, label in [("pca_k", f"PCA with {b['k']} components"), ("pca_atoms", "± principal directions, the k largest"), ("dct_atoms", "± cosines, the k largest")]:
            beside.append([name, label, text(b[key]["pearson"]), text(b[key]["fvu"])])
    if beside:
        out += "\nWithout any training, on the same rows:\n\n" + table(["data", "dictionary", "Pearson", "fvu"], beside)
    return out + made("mnist_default", "mnist_free", "mnist_seeds", "digits", "photos", "activations")


def patches():
    f, rows = figures("patches"), []
    for name, what in [("mnist", "MNIST"), ("photos", "1,000 photographs, 64×64 RGB")]:
        own = f[name]
        s, c = own["test"]["saes"][0], own["chosen"]
        dead = f"{s['dead_latents']} of {s['latents']:,}"
        rows.append([what, text(s["pearson"]), text(s["fvu"]), text(s["l0"], 1), dead, seconds(own["wall_s"]), mib(own["peak_bytes"]), chosen(c)])
    head = ["patches of 8×8, one every 4 pixels", "Pearson", "fvu", "L0 of a patch", "dead", "time", "memory", "chosen"]
    return table(head, rows) + made("patches")


def mice():
    f = figures("mice")
    rows = []
    steps = [("all_before", "234 rows, before"), ("all_after", "234 rows, after"), ("test_before", "held-out split, before"), ("test_after", "held-out split, after")]
    steps += [("originals_before", "39 originals, before"), ("originals_held_out_by_folds", "39 originals, each held out by one of five folds, after")]
    for key, label in steps:
        s, base = f[key]["saes"][0], f[key]["mean_image"]
        by = s["by_class"]
        of = lambda c: text(by[c]["pearson"]) + f" ({by[c]['rows']})" if c in by else "–"
        rows.append([label, f[key]["rows"], text(s["pearson"]), of("1"), of("2"), text(s["mse"], 5), text(s["fvu"]), text(base["pearson"])])
    head = ["rows looked at", "rows", "Pearson", "class 1 (rows)", "class 2 (rows)", "mse", "fvu", "mean image's Pearson"]
    return table(head, rows) + f"\nChosen for fine-tuning: {chosen(f['chosen'])}.\n" + made("mice")


def features_of_mice():
    f = figures("features_of_mice")
    rows = []
    for i, s in enumerate(f["saes"]):
        o = s["order"]
        rows.append([i, text(s["pearson"]), f"{s['latents'] - s['dead']:,}", percent(o["top_frequency"]), percent(o["top_least_frequency"]), f"{o['rank_index']:+.3f}", percent(o["share"][0], 3), percent(o["share"][1], 3), text(o["sharpness"][0], 2), text(o["sharpness"][1], 2)])
    head = ["SAE", "Pearson", "features in use", "frequency of the top feature", "least frequency of the top 100", "rank and index (Spearman)", "share of the effect: top 100 by score, mean", "first 100 by index", "sharpness: top 100", "first 100"]
    pairs = [m[2] for m in f["ensemble"]["mcc"]]
    words = f"\nTrain {seconds(f['train_s'])}, analyze {seconds(f['analyze_s'])}, report {seconds(f['report_s'])} ({f['report_bytes'] / 1e6:.1f} MB). Between the SAEs: MCC {min(pairs):.3f} to {max(pairs):.3f}; {sum(f['ensemble']['shared'])} features have a partner of cosine 0.7 in every other SAE.\n"
    return table(head, rows) + words + made("features_of_mice")


def page():
    f = figures("page")
    opens = f"opens in {f['opens_ms'] / 1e3:.2f} s in headless Chromium (median of {len(f['opens_ms_each'])}), " if "opens_ms" in f else ""
    return f"A report on {f['latents']:,} features and {f['rows']:,} rows of MNIST has {f['bytes'] / 1e6:.1f} MB, {opens}and is written in {seconds(f['report_s'])} after {seconds(f['analyze_s'])} of analyze.\n" + made("page")


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
        rows.append([name, *fvu, *(f"{mean(k, 'dead_latents'):,.0f}" for k in ("without", "with")), f"{mean('with', 'reborn'):,.0f}"])
    seeds = len(kinds["with"])
    head = ["training", "fvu without", "with", "difference by seed", "dead without", "with", "began again"]
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
        head = ["", "MCC (each seed's)", "mean best \\|cos\\|", "found", "F1", "precision", "recall", "fvu", "L0", "unused"]
        out.append(f"{title}:\n\n" + table(head, rows))
    seeds = len(next(iter(next(iter(f["settings"].values())).values())))
    options = "".join(f"- {name}: `{words}`\n" for name, words in f["options"].items() if words)
    return "\n".join(out) + f"\nMeans over {seeds} seeds; besides `{f['common']}`:\n\n{options}" + made("truth")


def frontier():
    f, out = figures("frontier"), []
    titles = {
        "mnist": "MNIST, H 1,024, B 128, 468 steps",
        "mnist_tied": "the same, tied",
        "photos": "1,000 photographs, 64×64 RGB, H 3,072, B 32, 280 steps",
        "activations": "activations, H 6,144, B 1,024, 40 steps",
        "activations_tied": "the same, tied",
    }
    for name, own in f.items():
        levels = sorted({c["k"] for c in own["cells"]})
        kinds = list(dict.fromkeys(c["activation"] for c in own["cells"]))
        at = {(c["activation"], c["k"]): c for c in own["cells"]}
        cell = lambda c: f"{text(c['fvu'])} ({text(c['l0'], 0)}; {c['dead_latents']})"
        rows = [[kind, *(cell(at[kind, k]) for k in levels)] for kind in kinds]
        out.append(f"{titles[name]} (`{own['options']}`); fvu (L0; unused latents) on held-out rows:\n\n" + table(["k asked for", *map(str, levels)], rows))
    return "\n".join(out) + made("frontier")


def sweep_time():
    f = figures("sweep_time")
    rows = [[f"{f['cells']} runs, one after the other", seconds(f["alone_s"]), "1"],
            ["one sweep", seconds(f["sweep_s"]), text(f["sweep_ratio"], 2)],
            ["one sweep, `--halving`", seconds(f["halving_s"]), text(f["halving_ratio"], 2)]]
    same = "the same best configuration" if f["best"] == f["halving_best"] else "another best configuration"
    return table(["MNIST, 1 epoch, latents × k × lr", "time", "ratio"], rows) + f"\nHalving finds {same}: {f['halving_best']}.\n" + made("sweep_time")


def activation_speed():
    f, rows = figures("activation_speed"), []
    for name, kinds in f.items():
        for kind, own in kinds.items():
            rows.append([name, kind, text(own["ms"], 2), text(own["ratio"], 2), text(own["l0"], 1)])
    return table(["shape", "activation", "step ms", "÷ topk", "L0"], rows) + made("activation_speed")


def adaptive():
    f, out = figures("adaptive"), []
    names = {"fixed": "the k largest", "threshold": "all above θ", "residual": "until the error is τ", "gain": "while each explains λ"}
    for name, own in f.items():
        rows = []
        for r in own["rules"]:
            spread = " – ".join(text(q, 0) for q in (r["l0_quantiles"][0], r["l0_quantiles"][2], r["l0_quantiles"][4]))
            by = " – ".join(text(r["l0_by_complexity"][i], 0) for i in (0, 9))
            rows.append([names[r["name"]], text(r["l0"], 1), spread, percent(r["at_reach"]), by, text(r["with_complexity"], 2), text(r["fvu"]), text(r["pearson"])])
        head = [f"{name}, k {own['budget']}", "mean L0", "5 % – median – 95 %", f"rows cut at {own['reach']}", "simplest tenth – hardest", "ρ with complexity", "fvu", "Pearson"]
        out.append(table(head, rows))
    return "\n".join(out) + made("adaptive")


ALL = [summary, speed, ensemble, folder, growth, bench, memory, determinism, analysis, rules, defaults, patches, mice]
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


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        raise SystemExit(__doc__)
    stale = []
    for page in PAGES:
        path = ROOT / page
        old = path.read_text()
        if old.count("<!-- figures:") != len(SECTION.findall(old)):
            raise SystemExit(f"{page}: a section of figures has no end")
        new = SECTION.sub(fill, old)
        if new != old:
            stale.append(page)
            if not sys.argv[1:]:
                path.write_text(new)
                print(f"{page}: figures updated")
    if sys.argv[1:] and stale:
        raise SystemExit(f"stale figures in {', '.join(stale)}: run scripts/docs.py and commit")


if __name__ == "__main__":
    main()
