"""Trains and evaluates the baseline recipe in PyTorch on a folder of images with augmented variants. Prints the seconds of each phase as JSON.

usage: folder_torch.py DIR TEST_LIST PEERS [--augment 5] [--epochs 10] [--max-steps N]

Pillow stretches the images to 64 x 64 RGB. Every training image gets the five kinds of variants of `vibrissa train --augment`.
Model and step are those of PEERS/seed_torch.py with torch.compile: tied, H 3072, k 128, batch 32, Adam, lr 5e-4.
TEST_LIST names the held-out files, one path relative to DIR on each line.
"""
import argparse
import json
import pathlib
import random
import sys
import time

started = time.perf_counter()  # before the slow imports

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageOps

SIZE, LATENTS, K, BATCH, LR = 64, 3072, 128, 32, 5e-4


def read(path):
    return Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.BILINEAR)


def row(image):
    return (np.asarray(image, np.float32) / 255).transpose(2, 0, 1).ravel()


def turned(image):
    """A rotated crop with changed brightness and contrast."""
    image = image.rotate(random.uniform(-15, 15), Image.BILINEAR)
    area, ratio = random.uniform(0.8, 1), random.uniform(0.9, 1.1)
    w, h = (min(SIZE, round(SIZE * (area * r) ** 0.5)) for r in (ratio, 1 / ratio))
    left, top = random.randint(0, SIZE - w), random.randint(0, SIZE - h)
    image = image.resize((SIZE, SIZE), Image.BILINEAR, (left, top, left + w, top + h))
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.8, 1.2))
    return ImageEnhance.Contrast(image).enhance(random.uniform(0.8, 1.2))


def shifted(image):
    most = SIZE // 10
    return ImageChops.offset(image, random.randint(-most, most), random.randint(-most, most))


def tilted(image):
    """A perspective warp: each corner moves inwards by up to a tenth of the side."""
    inwards = lambda: random.uniform(0, SIZE / 10)
    corners = [(inwards(), inwards()), (SIZE - inwards(), inwards())]
    corners += [(SIZE - inwards(), SIZE - inwards()), (inwards(), SIZE - inwards())]
    lines, goals = [], []
    for (x, y), (u, v) in zip(corners, [(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)]):
        lines += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        goals += [u, v]
    map_ = np.linalg.solve(np.array(lines), np.array(goals))
    return image.transform((SIZE, SIZE), Image.PERSPECTIVE, map_.tolist(), Image.BILINEAR)


KINDS = [turned, ImageOps.mirror, ImageOps.flip, shifted, tilted]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder", type=pathlib.Path)
    ap.add_argument("test_list")
    ap.add_argument("peers")
    ap.add_argument("--augment", type=int, default=5)
    ap.add_argument("--epochs", type=int, default=10)
    ap.add_argument("--max-steps", type=int, default=10**9)
    a = ap.parse_args()
    sys.path.insert(0, a.peers)
    from seed_torch import SAE, pearson

    random.seed(42)
    torch.manual_seed(42)
    phases, last = {}, started

    def phase(name):
        nonlocal last
        phases[name], last = time.perf_counter() - last, time.perf_counter()

    phase("imports_s")
    held_out = {line.strip() for line in open(a.test_list) if line.strip()}
    files = sorted(p for p in a.folder.rglob("*") if p.is_file())
    is_test = [p.relative_to(a.folder).as_posix() in held_out for p in files]
    images = [read(p) for p in files]
    phase("decode_s")
    train, test = [], [row(image) for image, t in zip(images, is_test) if t]
    for image in (image for image, t in zip(images, is_test) if not t):
        train.append(row(image))
        train += [row(KINDS[i % len(KINDS)](image)) for i in range(a.augment)]
    x, test = torch.from_numpy(np.stack(train)), np.stack(test)
    del images, train
    phase("augment_s")

    model = SAE(x.shape[1], LATENTS, K, "compile")
    compiled = torch.compile(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    phase("model_s")
    steps = 0
    for _ in range(a.epochs):
        order = torch.randperm(len(x))
        # The incomplete batch at the end of an epoch is skipped, since torch.compile would compile for its shape again.
        for at in range(0, len(x) - BATCH + 1, BATCH):
            if steps == a.max_steps:
                break
            batch = x[order[at : at + BATCH]]
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(compiled(batch), batch).backward()
            optimizer.step()
            steps += 1
    phase("train_s")  # includes compilation
    with torch.no_grad():
        recon = torch.cat([model(part) for part in torch.from_numpy(test).split(256)]).numpy()
    score = float(pearson(test, recon).mean())
    phase("evaluate_s")
    print(json.dumps({"rows": len(x), "test_rows": len(test), "steps": steps, "pearson": score, **phases}))


if __name__ == "__main__":
    main()
