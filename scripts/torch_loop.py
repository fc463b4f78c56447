"""Ranks features in PyTorch, for comparison with `vibrissa analyze`, and prints rows per second as JSON. Frequency and strength are
summed in a loop over batches. The contribution of each active latent is measured by setting it to 0 and decoding again.

usage: torch_loop.py MODEL.safetensors ROWS.npy [--rows N] [--ablate N]
"""
import argparse
import json
import time

import numpy as np
import torch
from safetensors.torch import load_file

ap = argparse.ArgumentParser()
ap.add_argument("model")
ap.add_argument("rows")
ap.add_argument("--rows", dest="n", type=int, default=20000)
ap.add_argument("--ablate", type=int, default=40, help="rows whose latents are ablated one by one")
a = ap.parse_args()
m = load_file(a.model)
W, b = m["sae.0.W_enc"], m["sae.0.b_enc"]
k = 50
D = torch.nn.functional.normalize(W, dim=1)
x = torch.from_numpy(np.load(a.rows)[: a.n].astype(np.float32))


def latents(x):
    v, i = torch.topk(x @ W.T + b, k, dim=1)
    return torch.zeros(len(x), len(W)).scatter(1, i, v)


def pearson(x, y):
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x.norm() * y.norm())


with torch.no_grad():
    count, total = torch.zeros(len(W)), torch.zeros(len(W))
    start = time.perf_counter()
    for part in x.split(128):
        z = latents(part)
        count += (z != 0).sum(0)
        total += z.sum(0)
    frequency, strength = count / len(x), total / count.clamp(min=1)
    score = 0.7 * frequency + 0.3 * strength
    ranked = time.perf_counter() - start
    start = time.perf_counter()
    for row in x[: a.ablate]:
        z = latents(row[None])
        y = (z @ D)[0]
        base, r = ((row - y) ** 2).sum(), pearson(row, y)
        for h in z[0].nonzero()[:, 0]:
            without = z.clone()
            without[0, h] = 0
            y = (without @ D)[0]
            _ = ((row - y) ** 2).sum() - base, r - pearson(row, y)
    ablated = time.perf_counter() - start
print(json.dumps({"ranking_rows_per_s": len(x) / ranked, "ablation_rows_per_s": a.ablate / ablated, "torch": torch.__version__}))
