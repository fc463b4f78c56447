#!/usr/bin/env python3
"""Writes crates/vibrissa-data/tests/golden/pillow_resize.safetensors: images resized by Pillow. The test generates
the same source image (see `source` in images/resample.rs). Needs pillow, numpy and safetensors; made with Pillow 13.0."""

import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file


def source(width: int, height: int, channels: int) -> np.ndarray:
    """A ramp with hashed noise, [height, width, channels] bytes; integers only, so that Rust computes the same."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels].astype(np.uint64)
    noise = (((x * 73856093) ^ (y * 19349663) ^ (c * 83492791)) >> np.uint64(7)) & np.uint64(127)
    return ((x * 3 + y * 2 + c * 40 + noise) & np.uint64(255)).astype(np.uint8)


def planar(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return np.ascontiguousarray(values.transpose(2, 0, 1) if values.ndim == 3 else values[None])


def resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Rows first, then columns: the order of every Pillow up to 12. Pillow 13 takes the columns first where the height
    shrinks much more than the width, which changes some bytes by one level."""
    left, top, right, bottom = box or (0, 0, *image.size)
    narrow = image.resize((size[0], image.height), Image.BILINEAR, (left, 0, right, image.height))
    return narrow.resize(size, Image.BILINEAR, (0, top, size[0], bottom))


def crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """ImageOps.fit, by `resize`."""
    width, height = image.size
    ratio = size[0] / size[1]
    w, h = (ratio * height, height) if width / height >= ratio else (width, width / ratio)
    left, top = (width - w) * 0.5, (height - h) * 0.5
    result = resize(image, size, (left, top, left + w, top + h))
    library = ImageOps.fit(image, size, Image.BILINEAR)
    assert np.abs(np.asarray(result, np.float32) - np.asarray(library, np.float32)).max() <= 1
    return result


def pad(image: Image.Image, size: tuple[int, int], border: tuple[int, ...]) -> Image.Image:
    """ImageOps.pad, by `resize`."""
    inner = ImageOps.contain(image, size, Image.BILINEAR).size
    result = Image.new(image.mode, size, border)
    result.paste(resize(image, inner), (round((size[0] - inner[0]) * 0.5), round((size[1] - inner[1]) * 0.5)))
    library = ImageOps.pad(image, size, Image.BILINEAR, color=border)
    assert np.abs(np.asarray(result, np.float32) - np.asarray(library, np.float32)).max() <= 1
    return result


def main() -> None:
    tensors = {}
    wide, tall, small = source(61, 37, 3), source(29, 83, 3), source(7, 5, 3)
    for name, pixels, size in [("wide", wide, (16, 16)), ("tall", tall, (16, 12)), ("small", small, (18, 17))]:
        rgb = Image.fromarray(pixels)
        edge = np.ones(pixels.shape[:2], bool)
        edge[1:-1, 1:-1] = False
        border = tuple(int(v) for v in np.floor(pixels[edge].mean(axis=0) + 0.5))
        tensors[f"{name}.stretch"] = planar(resize(rgb, size))
        tensors[f"{name}.crop"] = planar(crop(rgb, size))
        tensors[f"{name}.pad"] = planar(pad(rgb, size, border))
        tensors[f"{name}.gray"] = planar(resize(rgb.convert("L"), size))
        floats = Image.fromarray(pixels[:, :, 0].astype(np.float32) / 255)
        tensors[f"{name}.float"] = planar(crop(floats, size))
    # A strong reduction has many taps, so rounded weights would show.
    tensors["far.stretch"] = planar(resize(Image.fromarray(source(1201, 907, 3)), (9, 7)))
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "crates/vibrissa-data/tests/golden/pillow_resize.safetensors")
    save_file(tensors, out)


if __name__ == "__main__":
    main()
