"""Recomputes the figures of a run from its model and its rows, with NumPy alone, and prints them as JSON.

usage: recompute.py RUN DATA.npy

RUN/model.safetensors holds `sae.I.W_enc` [H, D], `sae.I.W_dec` [H, D] (absent when tied: the decoder is then W_enc with
its rows brought to unit norm), `sae.I.b_enc` [H], `sae.I.b_dec` [D] (may be absent), and the metadata key `config`, JSON with
k, relu_after, tied. DATA.npy is [N, D], in the units the model was trained in; nothing is scaled here.

Selection: the k largest pre-activations of a row in f32, the lower index wins a tie; relu_after then clips at 0.
Metrics per row, then averaged, in f64: pearson (0 where x or recon is constant), cosine (0 where either is 0), mse per
element, l0 = latents != 0; fvu = sum |residual|^2 / sum |x - mean(x)|^2 with the column means of these rows.
`ensemble` judges the mean of the SAEs' reconstructions; its l0 is the mean of theirs.
"""
import argparse
import json
import pathlib

import numpy as np
from safetensors import safe_open

BLOCK = 512  # rows at a time


def load(run):
    """(config, [{W_enc, W_dec, b_enc, b_dec}]) with the decoder spelled out and b_dec zero where there is none."""
    path = pathlib.Path(run) / "model.safetensors"
    with safe_open(path, "numpy") as f:
        meta = f.metadata() or {}
        if "config" not in meta:
            raise SystemExit(f"{path}: no metadata key `config`; is this a model that vibrissa wrote?")
        config, tensors = json.loads(meta["config"]), {n: f.get_tensor(n) for n in f.keys() if n.startswith("sae.")}
    saes = []
    for i in sorted({int(n.split(".")[1]) for n in tensors}):
        p = {n.split(".", 2)[2]: t.astype(np.float32) for n, t in tensors.items() if n.startswith(f"sae.{i}.")}
        if config["tied"]:
            norm = np.sqrt((p["W_enc"].astype(np.float64) ** 2).sum(1, keepdims=True))
            p["W_dec"] = (p["W_enc"] / np.maximum(norm, 1e-12)).astype(np.float32)
        if "b_dec" not in p:
            p["b_dec"] = np.zeros(p["W_enc"].shape[1], np.float32)
        saes.append(p)
    if not saes:
        raise SystemExit(f"{path}: no tensor named sae.I.W_enc")
    return config, saes


def reconstruct(x, p, config):
    """recon [n, D] and the number of latents != 0 of each row."""
    pre_acts = (x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"]
    indices = np.argsort(-pre_acts, axis=1, kind="stable")[:, : config["k"]]
    values = np.take_along_axis(pre_acts, indices, 1)
    if config["relu_after"]:
        values = np.maximum(values, 0)
    latents = np.zeros_like(pre_acts)
    np.put_along_axis(latents, indices, values, 1)
    return latents @ p["W_dec"] + p["b_dec"], (values != 0).sum(1)


class Tally:
    """Sums in f64 over blocks of rows."""

    def __init__(self, column_mean):
        self.mean = column_mean
        self.rows = self.constant = 0
        self.pearson = self.cosine = self.mse = self.residual = self.total = self.l0 = 0.0

    def add(self, x, recon, l0):
        x, recon = x.astype(np.float64), recon.astype(np.float64)
        xc, rc = x - x.mean(1, keepdims=True), recon - recon.mean(1, keepdims=True)
        flat = (x == x[:, :1]).all(1) | (recon == recon[:, :1]).all(1)
        error = ((x - recon) ** 2).sum(1)
        self.rows += len(x)
        self.constant += int(flat.sum())
        self.pearson += np.where(flat, 0, ratio((xc * rc).sum(1), np.sqrt((xc**2).sum(1) * (rc**2).sum(1)))).sum()
        self.cosine += ratio((x * recon).sum(1), np.sqrt((x**2).sum(1) * (recon**2).sum(1))).sum()
        self.mse += (error / x.shape[1]).sum()
        self.residual += error.sum()
        self.total += ((x - self.mean) ** 2).sum()
        self.l0 += l0.sum()

    def figures(self):
        n = self.rows
        fvu = self.residual / self.total if self.total > 0 else None
        return dict(pearson=self.pearson / n, mse=self.mse / n, fvu=fvu, l0=self.l0 / n, cosine=self.cosine / n, constant_rows=self.constant)


def ratio(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("run")
    ap.add_argument("data")
    a = ap.parse_args()
    config, saes = load(a.run)
    rows = np.load(a.data, mmap_mode="r")
    D = saes[0]["W_enc"].shape[1]
    if rows.ndim != 2 or rows.shape[1] != D or len(rows) == 0:
        raise SystemExit(f"{a.data}: shape {list(rows.shape)}, the model needs [N, {D}] with N > 0")
    blocks = range(0, len(rows), BLOCK)
    column_mean = sum(rows[s : s + BLOCK].astype(np.float64).sum(0) for s in blocks) / len(rows)
    bad = np.argwhere(~np.isfinite(column_mean))
    if len(bad):
        column = int(bad[0, 0])
        row = int(np.argwhere(~np.isfinite(rows[:, column]))[0, 0])
        raise SystemExit(f"{a.data}: row {row}, column {column} is not finite")
    each, together = [Tally(column_mean) for _ in saes], Tally(column_mean)
    for s in blocks:
        x = rows[s : s + BLOCK].astype(np.float32)
        done = [reconstruct(x, p, config) for p in saes]
        for tally, (recon, l0) in zip(each, done):
            tally.add(x, recon, l0)
        together.add(x, np.mean([r for r, _ in done], axis=0, dtype=np.float64), np.mean([n for _, n in done], axis=0))
    print(json.dumps(dict(rows=len(rows), saes=[t.figures() for t in each], ensemble=together.figures()), indent=1))


if __name__ == "__main__":
    main()
