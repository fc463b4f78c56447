"""Recomputes the figures of a run from its model file and its rows, in NumPy alone, and prints them as JSON.

usage: recompute.py RUN DATA.npy

RUN       a run folder or a model.safetensors
DATA.npy  [N, D], in the units of the rows as vibrissa loads them. For a model of patches, [N, C * H * W]: whole images, channel
          after channel, 0 to 1.

RUN/model.safetensors holds, for each SAE I, sae.I.W_enc [H, D], sae.I.W_dec [H, D] (absent if tied: the decoder is then W_enc with its
rows normalised to length 1), sae.I.b_enc [H], sae.I.b_dec [D] (absent without decoder bias), and the parameters of some activations:
threshold, b_gate, r_mag. The metadata key `config` is JSON. docs/formats.md describes the file.

    x'       = x - b_dec
    pre_acts = x' W_enc^T + b_enc
    topk       the k largest pre_acts of each row, the lower index first among equals; relu_after clips them at 0
    batchtopk  pre_acts where pre_acts > threshold [1]
    relu       pre_acts where pre_acts > 0
    jumprelu   pre_acts where pre_acts > threshold [H]
    gated      max(x' W_enc^T * exp(r_mag) + b_enc, 0) where x' W_enc^T + b_gate > 0
    sigmoid    1 / (1 + exp(-pre_acts))
    recon    = latents W_dec + b_dec, then 1 / (1 + exp(-recon)) if `output` is sigmoid

A Matryoshka model is evaluated with all its latents. For a model of patches, recon of an image is the mean, pixel by pixel, over the
patches that cover the pixel; l0 is per patch, all other figures are of whole images.

Figures per row, then averaged, in f64: pearson (0 where x or recon is constant), cosine (0 where either is 0), mse per element,
l0 (latents != 0), cross_entropy (only of images and of models with a sigmoid output). fvu = sum |x - recon|^2 / sum |x - mean(x)|^2 with the column means of
these rows. `ensemble` evaluates the mean of the SAEs' reconstructions; its l0 is the mean of their l0.
"""
import argparse
import json
import pathlib

import numpy as np
from safetensors import safe_open

SCHEMA = "vibrissa.model/1"
KEYS = {"d_in", "latents", "activation", "k", "relu_after", "tied", "decoder_bias", "output", "free_decoder", "saes", "pictures", "patches"}
PARAMETERS = {"topk": [], "batchtopk": ["threshold"], "relu": [], "jumprelu": ["threshold"], "gated": ["b_gate", "r_mag"], "sigmoid": []}
BLOCK = 512  # rows evaluated at a time
CONSTANT = 1e-7  # a row is constant if its standard deviation is at most this share of its largest absolute value
CLIP = 1e-6  # distance from 0 and 1 that reconstructions are clipped to for the cross-entropy


def refuse(path, what):
    raise SystemExit(f"{path}: {what}")


def load(run):
    """Returns the configuration and the parameters of each SAE, in f64, with the decoder written out and b_dec 0 if absent."""
    path = pathlib.Path(run)
    path = path / "model.safetensors" if path.is_dir() else path
    with safe_open(path, "numpy") as f:
        meta = f.metadata() or {}
        if meta.get("schema") != SCHEMA:
            refuse(path, f"schema {meta.get('schema')!r}; this script reads {SCHEMA} (a checkpoint is not a model)")
        config, tensors = json.loads(meta["config"]), {n: f.get_tensor(n) for n in f.keys() if n.startswith("sae.")}
    for key in config.keys() - KEYS:
        refuse(path, f"config key {key!r} is unknown to this script, and may change the figures")
    activation, output = config["activation"], config.get("output", "linear")
    if activation not in PARAMETERS:
        refuse(path, f"activation {activation!r}; this script computes {', '.join(PARAMETERS)}")
    if output not in ("linear", "sigmoid"):
        refuse(path, f"output {output!r}; this script computes linear and sigmoid")
    saes = []
    for i in range(config["saes"]):
        p = {n.split(".", 2)[2]: t.astype(np.float64) for n, t in tensors.items() if n.startswith(f"sae.{i}.")}
        needed = {"W_enc", "b_enc", *PARAMETERS[activation]}
        needed |= set() if config["tied"] else {"W_dec"}
        needed |= {"b_dec"} if config["decoder_bias"] else set()
        if p.keys() != needed:
            refuse(path, f"tensors of SAE {i} are {sorted(p)}, a {activation} model needs {sorted(needed)}")
        if config["tied"]:
            norm = np.sqrt((p["W_enc"] ** 2).sum(1, keepdims=True))
            p["W_dec"] = np.divide(p["W_enc"], norm, out=np.zeros_like(p["W_enc"]), where=norm > 0)
        p.setdefault("b_dec", np.zeros(config["d_in"]))
        saes.append(p)
    return config, saes


def sigmoid(y):
    """1 / (1 + exp(-y)) in f32, as vibrissa computes it: it is 0, and the latent not active, below about -88."""
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-y.astype(np.float32)))).astype(np.float64)


def encode(x, p, config):
    """Latents [n, H] of rows [n, D]."""
    products, activation = (x - p["b_dec"]) @ p["W_enc"].T, config["activation"]
    pre_acts = products + p["b_enc"]
    if activation == "topk":
        index = np.argsort(-pre_acts, axis=1, kind="stable")[:, : config["k"]]
        latents = np.zeros_like(pre_acts)
        np.put_along_axis(latents, index, np.take_along_axis(pre_acts, index, 1), 1)
        return np.maximum(latents, 0) if config["relu_after"] else latents
    if activation in ("batchtopk", "jumprelu"):
        return np.where(pre_acts > p["threshold"], pre_acts, 0)
    if activation == "relu":
        return np.maximum(pre_acts, 0)
    if activation == "gated":
        return np.where(products + p["b_gate"] > 0, np.maximum(products * np.exp(p["r_mag"]) + p["b_enc"], 0), 0)
    return sigmoid(pre_acts)


def reconstruct(x, p, config):
    """The reconstruction [n, D] and the number of active latents [n] of rows [n, D]."""
    latents = encode(x, p, config)
    recon = latents @ p["W_dec"] + p["b_dec"]
    return sigmoid(recon) if config.get("output") == "sigmoid" else recon, (latents != 0).sum(1)


def starts(length, side, stride):
    """First pixels of patches of `side` pixels every `stride` pixels; the last patch ends at the border."""
    out = list(range(0, length - side + 1, stride))
    return out if out[-1] == length - side else [*out, length - side]


def reconstruct_images(images, p, config):
    """As reconstruct, of whole images [n, C * H * W] by way of their patches; the number of active latents is the mean over patches."""
    grid, pictures = config["patches"], config["pictures"]
    (h, w), (down, across) = (grid["height"], grid["width"]), grid["stride"]
    channels, height, width = pictures["channels"], pictures["height"], pictures["width"]
    x = images.reshape(-1, channels, height, width)
    total, count, active, places = np.zeros_like(x), np.zeros((height, width)), np.zeros(len(x)), 0
    for top in starts(height, h, down):
        for left in starts(width, w, across):
            patch = np.s_[..., top : top + h, left : left + w]
            recon, n = reconstruct(x[patch].reshape(len(x), -1), p, config)
            total[patch] += recon.reshape(-1, channels, h, w)
            count[patch[1:]] += 1
            active, places = active + n, places + 1
    return (total / count).reshape(images.shape), active / places


class Tally:
    """Sums in f64 over blocks of rows."""

    def __init__(self, column_mean, entropy):
        self.mean, self.entropy = column_mean, entropy
        self.rows = self.constant = 0
        self.pearson = self.cosine = self.mse = self.residual = self.total = self.l0 = self.cross_entropy = 0.0

    def add(self, x, recon, l0):
        xc, rc = x - x.mean(1, keepdims=True), recon - recon.mean(1, keepdims=True)
        flat = constant(x, xc) | constant(recon, rc)
        error = ((x - recon) ** 2).sum(1)
        self.rows += len(x)
        self.constant += int(flat.sum())
        self.pearson += np.where(flat, 0, ratio((xc * rc).sum(1), np.sqrt((xc**2).sum(1) * (rc**2).sum(1)))).sum()
        self.cosine += ratio((x * recon).sum(1), np.sqrt((x**2).sum(1) * (recon**2).sum(1))).sum()
        self.mse += (error / x.shape[1]).sum()
        self.residual += error.sum()
        self.total += ((x - self.mean) ** 2).sum()
        self.l0 += l0.sum()
        if self.entropy:
            y = np.clip(recon, CLIP, 1 - CLIP)
            self.cross_entropy += (-x * np.log(y) - (1 - x) * np.log(1 - y)).mean(1).sum()

    def figures(self):
        n = self.rows
        fvu = self.residual / self.total if self.total > 0 else None
        out = dict(pearson=self.pearson / n, mse=self.mse / n, fvu=fvu, l0=self.l0 / n, cosine=self.cosine / n, constant_rows=self.constant)
        return out | (dict(cross_entropy=self.cross_entropy / n) if self.entropy else {})


def constant(rows, centred):
    return (centred**2).mean(1) <= (CONSTANT * np.abs(rows).max(1)) ** 2


def ratio(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("run")
    ap.add_argument("data")
    a = ap.parse_args()
    config, saes = load(a.run)
    rows = np.load(a.data, mmap_mode="r")
    columns, patches = config["d_in"], config.get("patches")
    if patches:
        columns = config["pictures"]["channels"] * config["pictures"]["height"] * config["pictures"]["width"]
    if rows.ndim != 2 or rows.shape[1] != columns or len(rows) == 0:
        refuse(a.data, f"shape {list(rows.shape)}, the model needs [N, {columns}] with N > 0")
    blocks = range(0, len(rows), BLOCK)
    column_mean = sum(rows[s : s + BLOCK].astype(np.float64).sum(0) for s in blocks) / len(rows)
    bad = np.argwhere(~np.isfinite(column_mean))
    if len(bad):
        column = int(bad[0, 0])
        row = int(np.argwhere(~np.isfinite(rows[:, column]))[0, 0])
        refuse(a.data, f"row {row}, column {column} is not finite")
    entropy = config.get("output") == "sigmoid" or config.get("pictures") is not None
    each, together = [Tally(column_mean, entropy) for _ in saes], Tally(column_mean, entropy)
    for s in blocks:
        x = rows[s : s + BLOCK].astype(np.float64)
        done = [(reconstruct_images if patches else reconstruct)(x, p, config) for p in saes]
        for tally, (recon, l0) in zip(each, done):
            tally.add(x, recon, l0)
        together.add(x, np.mean([r for r, _ in done], axis=0), np.mean([n for _, n in done], axis=0))
    print(json.dumps(dict(rows=len(rows), saes=[t.figures() for t in each], ensemble=together.figures()), indent=1))


if __name__ == "__main__":
    main()
