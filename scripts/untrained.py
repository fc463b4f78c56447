"""Reconstruction by dictionaries that need no training (PCA, ± principal directions, ± cosines), as JSON.

usage: untrained.py images DIR TEST_LIST [--size 64] [--k 128] [--H 3072]
       untrained.py idx TRAIN-images-idx3-ubyte.gz TEST-images-idx3-ubyte.gz [--k 50] [--H 1024]
       untrained.py npy TRAIN.npy TEST.npy [--k 32] [--H 6144]

Images are stretched to size x size, RGB, planar, / 255. TEST_LIST names the test files, one path relative to DIR on each line;
all other files of DIR are training images. The mean of the training rows is subtracted from every row. A dictionary of H atoms that
contains each of H/2 orthonormal directions with both signs reconstructs a row from its k largest |projections|.
  pca_k           projection on the k leading principal directions
  pca_atoms       the k largest of ± the H/2 leading principal directions (fewer if the rank is lower)
  dct_atoms       the k largest of ± the H/2 cosines of largest training variance (images: in an opponent colour space)
"""
import argparse
import gzip
import json
import pathlib

import numpy as np


def read_images(folder, test_list, size):
    from PIL import Image

    folder = pathlib.Path(folder)
    test = {line.strip() for line in open(test_list) if line.strip()}
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    missing = test - set(names)
    if missing:
        raise SystemExit(f"{test_list}: {sorted(missing)[0]} is not in {folder}")

    def row(name):
        image = Image.open(folder / name).convert("RGB").resize((size, size), Image.BILINEAR)
        return (np.asarray(image, np.float32) / 255).transpose(2, 0, 1).ravel()

    rows = [[row(n) for n in names if (n in test) == wanted] for wanted in (False, True)]
    return np.stack(rows[0]), np.stack(rows[1]), (3, size, size)


def read_idx(path):
    raw = (gzip.open if str(path).endswith(".gz") else open)(path, "rb").read()
    if raw[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an idx file of bytes (starts with {raw[:3].hex(' ')})")
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape[0], -1) / np.float32(255), (1, *shape[1:])


def principal_directions(x, count):
    """Principal directions [min(count, rank), D] of centred rows, leading first, from the smaller Gram matrix."""
    n, d = x.shape
    if d <= n:
        values, vectors = np.linalg.eigh((x.T @ x).astype(np.float64))
        kept = np.flatnonzero(values[::-1] > values[-1] * 1e-7)[:count]
        return vectors[:, ::-1].T[kept].astype(np.float32)
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = np.flatnonzero(values > values[0] * 1e-7)[:count]
    return ((vectors[:, kept] / np.sqrt(values[kept])).T @ x).astype(np.float32)


def cosines(n):
    c = np.sqrt(2 / n) * np.cos(np.pi * (np.arange(n) + 0.5)[None] * np.arange(n)[:, None] / n)
    c[0] /= np.sqrt(2)
    return c.astype(np.float32)


OPPONENT = (np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([3, 2, 6])[:, None]).astype(np.float32)


def dct(x, shape, inverse=False):
    """The orthonormal cosine transform of planar images. A row of numbers is treated as an image of one line."""
    c, h, w = shape
    colour = OPPONENT if c == 3 else np.eye(c, dtype=np.float32)
    a, b = cosines(h), cosines(w)
    if inverse:
        a, b, colour = a.T, b.T, colour.T
    x = np.einsum("cd,ndij->ncij", colour, x.reshape(-1, c, h, w))
    return (a @ x @ b.T).reshape(len(x), -1)


def largest(z, k):
    """z with all but the k largest |z| of each row set to 0. Ties keep the lower index."""
    out = np.zeros_like(z)
    kept = np.argsort(-np.abs(z), axis=1, kind="stable")[:, :k]
    np.put_along_axis(out, kept, np.take_along_axis(z, kept, 1), 1)
    return out


def figures(x, recon):
    x, recon = x.astype(np.float64), recon.astype(np.float64)
    a, b = x - x.mean(1, keepdims=True), recon - recon.mean(1, keepdims=True)
    norms = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    pearson = np.divide((a * b).sum(1), norms, out=np.zeros_like(norms), where=norms > 0).mean()
    error = ((x - recon) ** 2).sum()
    return dict(pearson=round(pearson, 4), fvu=round(error / ((x - x.mean(0)) ** 2).sum(), 4), mse=round(error / x.size, 6))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("kind", choices=["images", "idx", "npy"])
    ap.add_argument("train", help="the folder (images) or the training rows")
    ap.add_argument("test", help="the list of test files (images) or the test rows")
    ap.add_argument("--size", type=int, default=64)
    ap.add_argument("--k", type=int)
    ap.add_argument("--H", type=int)
    a = ap.parse_args()
    k, H = a.k or dict(images=128, idx=50, npy=32)[a.kind], a.H or dict(images=3072, idx=1024, npy=6144)[a.kind]
    if a.kind == "images":
        train, test, shape = read_images(a.train, a.test, a.size)
    elif a.kind == "idx":
        (train, shape), (test, _) = read_idx(a.train), read_idx(a.test)
    else:
        train, test = (np.load(p).astype(np.float32) for p in (a.train, a.test))
        shape = (1, 1, train.shape[1])
    mean = train.mean(0)
    directions = principal_directions(train - mean, H // 2)
    z = (test - mean) @ directions.T
    out = dict(train_rows=len(train), test_rows=len(test), D=train.shape[1], k=k, H=H, rank=len(directions))
    out["mean_row"] = figures(test, np.broadcast_to(mean, test.shape))
    out["pca_k"] = figures(test, z[:, :k] @ directions[:k] + mean)
    out["pca_atoms"] = figures(test, largest(z, k) @ directions + mean)
    order = np.argsort(-dct(train - mean, shape).var(0), kind="stable")[: H // 2]
    spectrum = dct(test - mean, shape)
    kept = np.zeros_like(spectrum)
    kept[:, order] = largest(spectrum[:, order], k)
    out["dct_atoms"] = figures(test, dct(kept, shape, inverse=True) + mean)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
