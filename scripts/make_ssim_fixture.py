"""Writes crates/vibrissa/tests/golden/ssim.safetensors: images, reconstructions, and their SSIM by scikit-image.

    python scripts/make_ssim_fixture.py        # needs numpy, scikit-image, safetensors
"""
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from skimage.metrics import structural_similarity

rng = np.random.default_rng(20041)
out = {}


def case(name, x, recon):
    x, recon = (np.ascontiguousarray(a, dtype=np.float32) for a in (x, recon))
    planes = [
        structural_similarity(
            a.astype(np.float64), b.astype(np.float64), data_range=1.0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, K1=0.01, K2=0.03,
        )
        for a, b in zip(x, recon)
    ]
    out[name + ".x"], out[name + ".recon"] = x, recon
    out[name + ".ssim"] = np.array([np.mean(planes)], dtype=np.float32)


def smooth(c, h, w):
    y, x = np.mgrid[0:h, 0:w]
    f = rng.uniform(0.1, 0.7, (c, 2, 1, 1))
    return 0.5 + 0.5 * np.sin(f[:, 0] * y + f[:, 1] * x + rng.uniform(0, 6, (c, 1, 1)))


x = smooth(1, 18, 15)
case("noisy", x, x + rng.normal(0, 0.1, x.shape))
x = smooth(3, 12, 14)
case("rgb", x, 0.7 * x + 0.2)
x = rng.uniform(0, 1, (1, 11, 11))
case("one_window", x, np.roll(x, 1, axis=2))
x = np.full((1, 13, 13), 0.98)
case("bright_and_flat", x, x + rng.normal(0, 0.004, x.shape))
x = (smooth(1, 16, 16) > 0.7).astype(np.float32)
case("outside_the_range", x, 1.4 * x - 0.2)

path = Path(__file__).resolve().parent.parent / "crates/vibrissa/tests/golden/ssim.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file(out, path)
print(path.name, path.stat().st_size, {k: float(v[0]) for k, v in out.items() if k.endswith(".ssim")})
