"""Runs the commands of docs/guide.md, writes what they print into the page, and makes its images.

usage: guide.py VIBRISSA        VIBRISSA is the program, e.g. target/release/vibrissa

In a block ```console, a line that starts with "$ " is a command; the lines below it are replaced by its output. A block ```python that
starts with "# NAME.py" is written to that file. Everything runs in a temporary folder with scripts/ in it. Needs Python with NumPy, SciPy,
safetensors and Pillow, and Chromium for the image of the report; without Chromium that image stays as it is.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
GUIDE, IMAGES = ROOT / "docs" / "guide.md", ROOT / "docs" / "images"
PROGRESS = re.compile(r"(training|fold \d+ of \d+): step \d+ of ")
BLOCK = re.compile(r"```(console|python)\n(.*?)```\n", re.S)


def run(command, folder, environment):
    print(f"$ {command}", file=sys.stderr, flush=True)
    ran = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise SystemExit(f"{command}: exit code {ran.returncode}\n{ran.stdout}")
    # How often progress is printed depends on the machine.
    return "".join(line.rstrip() + "\n" for line in ran.stdout.splitlines() if not PROGRESS.match(line))


def crop(source, target, height):
    """Saves the upper part of an image at three quarters of its size."""
    from PIL import Image

    image = Image.open(source).convert("RGB")
    image = image.crop((0, 0, image.width, min(height, image.height)))
    image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.LANCZOS).quantize(256, dither=Image.NONE).save(target, optimize=True)


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "scripts").symlink_to(ROOT / "scripts")
        (folder / "bin").mkdir()
        (folder / "bin" / "vibrissa").symlink_to(binary)
        path = os.pathsep.join([str(folder / "bin"), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path}

        def fill(match):
            kind, text = match.groups()
            if kind == "python":
                (folder / text.split()[1]).write_text(text)
                return match[0]
            commands = [line for line in text.splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"{c}\n{run(c[2:], folder, environment)}" for c in commands) + "```\n"

        text = BLOCK.sub(fill, GUIDE.read_text())
        for source, target, height in [("whole/features", "whole", 630), ("patches/features", "patches", 630), ("patches/reconstructions", "reconstructions", 400)]:
            crop(folder / f"{source}.png", IMAGES / f"guide_{target}.png", height)
        if chromium := shutil.which("chromium"):
            shot = folder / "report.png"
            page = f"file://{folder}/patches/report.html"
            subprocess.run([chromium, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,1500", f"--screenshot={shot}", page], check=True, stderr=subprocess.DEVNULL)
            crop(shot, IMAGES / "guide_report.png", 1500)
        GUIDE.write_text(text)


if __name__ == "__main__":
    main()
