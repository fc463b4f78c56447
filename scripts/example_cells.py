"""Writes the example of docs/guide.md: 600 synthetic images of cells and a table about them. Needs Python alone.

usage: example_cells.py FOLDER        writes FOLDER/{control,treated}/*.png and FOLDER.csv

20 animals with 30 cells each, 48x48 grey pixels. A cell has a body, a nucleus, granules and fibres. Treatment doubles the mean
number of granules; fibres become more frequent with age; staining batch b is brighter, and 8 of the 10 treated animals are in
batch b. Each animal has its own cell size. All randomness comes from one seed, so that every run makes the same pixels.
"""
import math
import pathlib
import random
import struct
import sys
import zlib

SIDE, ANIMALS, CELLS = 48, 20, 30


def png(rows):
    """The bytes of an 8-bit grey PNG file."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def poisson(g, mean):
    limit, n, product = math.exp(-mean), 0, g.random()
    while product > limit:
        n, product = n + 1, product * g.random()
    return n


def edge(distance, width=1.0):
    """1 inside, 0 outside, a smooth step at distance 0."""
    return 1 / (1 + math.exp(max(-30, min(30, distance / width))))


def cell(g, size, granules, fibres, gain):
    """The pixels of one cell, rows of bytes."""
    cx, cy = (SIDE / 2 + g.uniform(-4, 4) for _ in range(2))
    angle, ratio = g.uniform(0, math.pi), g.uniform(0.7, 1.0)
    a, b = size * g.uniform(0.9, 1.1), size * ratio * g.uniform(0.9, 1.1)
    inside = lambda: (g.uniform(0, 2 * math.pi), math.sqrt(g.random()))
    nucleus = (cx + g.uniform(-2, 2), cy + g.uniform(-2, 2), size * g.uniform(0.32, 0.42))
    spots = []
    for _ in range(granules):
        t, r = inside()
        spots.append((cx + 0.8 * a * r * math.cos(t), cy + 0.8 * b * r * math.sin(t), g.uniform(0.9, 1.4)))
    lines = [(g.uniform(0, math.pi), g.uniform(-0.6, 0.6) * size) for _ in range(fibres)]
    rows = []
    for y in range(SIDE):
        row = []
        for x in range(SIDE):
            dx, dy = x - cx, y - cy
            u, v = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
            body = edge((math.hypot(u / a, v / b) - 1) * size)
            value = 0.08 + 0.3 * body + 0.25 * edge(math.hypot(x - nucleus[0], y - nucleus[1]) - nucleus[2])
            for t, offset in lines:
                distance = dx * math.sin(t) - dy * math.cos(t) - offset
                value += 0.18 * body * math.exp(-distance * distance)
            for sx, sy, r in spots:
                value += 0.5 * math.exp(-((x - sx) ** 2 + (y - sy) ** 2) / (2 * r * r))
            row.append(max(0, min(255, round(255 * gain * value + g.uniform(-6, 6)))))
        rows.append(row)
    return rows


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder, g = pathlib.Path(sys.argv[1]), random.Random(1)
    if folder.exists():
        raise SystemExit(f"{folder}: exists already; remove it or choose another folder")
    table = ["file,animal,age_weeks,batch"]
    for animal in range(ANIMALS):
        treated = animal % 2 == 1
        batch = "b" if (animal % 10 != 9) == treated else "a"
        age, size = 4 + g.randrange(48), g.uniform(12, 16)
        for i in range(CELLS):
            granules, fibres = poisson(g, 8 if treated else 4), poisson(g, age / 20)
            name = f"{'treated' if treated else 'control'}/m{animal + 1:02}_cell{i + 1:02}.png"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(cell(g, size, granules, fibres, 1.15 if batch == "b" else 1.0)))
            table.append(f"{name},m{animal + 1:02},{age},{batch}")
    folder.with_name(folder.name + ".csv").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
