"""The start of a dictionary, found without gradients: reference for the default initialisation, in NumPy.

usage: sparse_start.py {images,idx,npy} TRAIN TEST [--k K] [--H H] [--iterations 24]     (TRAIN and TEST as in baselines.py)

A tenth of the training rows (at most 2,048) is held out and decides everything; the test rows are only reported on.
  1. Candidate orthonormal bases B [m, D], m <= H/2: the principal directions and, where rows are images, the cosines.
  2. Each is rotated inside its span towards k-sparse codes, y = (x - mean) B^T: Z = the k largest |y R|, R <- the
     orthogonal polar factor of Y^T Z, taken at polar(2 R - R_before) so that it arrives in half the iterations. The
     rotation with the least held-out fvu is kept; none, where rotating only fits the training rows.
  3. Atoms are +B and -B. Left-over latents get the unit residuals r of training rows, W_dec = r, W_enc = s r, with the
     s in 0, 0.25, 0.35, 0.5 of least held-out fvu (0: they start silent).
"""
import argparse
import json

import numpy as np

from baselines import dct, figures, principal_directions, read_idx, read_images


def fvu(x, recon):
    return float(((x - recon) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())


def kept_only(z, k):
    """As `largest`, without the sort (a tie at the k-th value keeps both: nothing here hangs on that)."""
    if k >= z.shape[1]:
        return z
    size = np.abs(z)
    return np.where(size >= np.partition(size, -k, axis=1)[:, -k, None], z, 0)


def polar(a):
    u, _, vh = np.linalg.svd(a)
    return u @ vh


def cosine_directions(x, shape, count):
    order = np.argsort(-dct(x, shape).var(0), kind="stable")[:count]
    picked = np.zeros((len(order), x.shape[1]), np.float32)
    picked[np.arange(len(order)), order] = 1
    return dct(picked, shape, inverse=True)


def rotate(basis, fit, held, k, iterations):
    """(the best rotation of the basis, its held-out fvu, the fvu before, the iteration it came from); rows are centred."""
    y, h = fit @ basis.T, held @ basis.T
    outside = float((held**2).sum() - (h**2).sum())
    total = float(((held - held.mean(0)) ** 2).sum())
    score = lambda r: (float(((h - kept_only(h @ r, k) @ r.T) ** 2).sum()) + outside) / total
    r = before = np.eye(len(basis), dtype=np.float32)
    best = first = (score(r), 0, r)
    for i in range(1, iterations + 1):
        x = polar(2 * r - before)
        r, before = polar(y.T @ kept_only(y @ x, k)), r
        best = min(best, (score(r), i, r), key=lambda b: b[0])
        if i - best[1] >= 4:
            break
    return best[2].T @ basis, best[0], first[0], best[1]


def encode(x, W_enc, k):
    """Top-k of x W_enc^T with ReLU after it; the lower index wins a tie."""
    p = x @ W_enc.T
    kept = np.argsort(-p, axis=1, kind="stable")[:, :k]
    latents = np.zeros_like(p)
    np.put_along_axis(latents, kept, np.maximum(np.take_along_axis(p, kept, 1), 0), 1)
    return latents


def start(train, shape, k, H, iterations=24, seed=0):
    """(mean [D], W_enc [H, D], W_dec [H, D], what was decided)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(train))
    n_held = min(len(train) // 10, 2048)
    mean = train[order[n_held:]].mean(0)
    held, fit = train[order[:n_held]] - mean, train[order[n_held:]] - mean
    candidates = {"principal": principal_directions(fit, H // 2)}
    if shape[1] > 1:
        candidates["cosine"] = cosine_directions(fit, shape, H // 2)
    found = {name: rotate(basis, fit, held, k, iterations) for name, basis in candidates.items()}
    chosen = min(found, key=lambda name: found[name][1])
    basis = found[chosen][0]
    decided = dict(chosen=chosen, candidates={n: dict(held_fvu=f[1], unrotated=f[2], iterations=f[3]) for n, f in found.items()})
    W_dec = W_enc = np.concatenate([basis, -basis])
    spare = H - len(W_dec)
    if spare:
        rows = fit[rng.choice(len(fit), spare, replace=spare > len(fit))]
        residual = rows - kept_only(rows @ basis.T, k) @ basis
        residual /= np.maximum(np.linalg.norm(residual, axis=1, keepdims=True), 1e-12)
        W_dec = np.concatenate([W_dec, residual])
        scores = {s: fvu(held, encode(held, np.concatenate([W_enc, s * residual]), k) @ W_dec) for s in (0.0, 0.25, 0.35, 0.5)}
        s = min(scores, key=scores.get)
        W_enc = np.concatenate([W_enc, s * residual])
        decided |= dict(spare=spare, residual_scale=s, held_fvu_by_scale=scores)
    return mean, W_enc.astype(np.float32), W_dec.astype(np.float32), decided


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("kind", choices=["images", "idx", "npy"])
    ap.add_argument("train")
    ap.add_argument("test")
    ap.add_argument("--size", type=int, default=64)
    ap.add_argument("--k", type=int)
    ap.add_argument("--H", type=int)
    ap.add_argument("--iterations", type=int, default=24)
    a = ap.parse_args()
    k, H = a.k or dict(images=128, idx=50, npy=32)[a.kind], a.H or dict(images=3072, idx=1024, npy=6144)[a.kind]
    if a.kind == "images":
        train, test, shape = read_images(a.train, a.test, a.size)
    elif a.kind == "idx":
        (train, shape), (test, _) = read_idx(a.train), read_idx(a.test)
    else:
        train, test = (np.load(p).astype(np.float32) for p in (a.train, a.test))
        shape = (1, 1, train.shape[1])
    mean, W_enc, W_dec, decided = start(train, shape, k, H, a.iterations)
    recon = np.concatenate([encode(test[s : s + 512] - mean, W_enc, k) @ W_dec + mean for s in range(0, len(test), 512)])
    print(json.dumps(decided | dict(test=figures(test, recon)), indent=1))


if __name__ == "__main__":
    main()
