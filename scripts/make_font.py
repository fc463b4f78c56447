"""Writes crates/vibrissa-report/src/plot/font/NotoSansSC-subset.otf: Latin, Greek, symbols and the characters of GB 2312.

    python scripts/make_font.py NotoSansCJK-Regular.ttc      (Debian: fonts-noto-cjk; needs pip install fonttools)
"""

import pathlib
import sys

from fontTools import subset
from fontTools.ttLib import TTCollection

OUT = pathlib.Path(__file__).parents[1] / "crates/vibrissa-report/src/plot/font/NotoSansSC-subset.otf"
SIGNS = "–—‘’“”•…‰′″←↑→↓−×÷±≤≥≈≠∑√∞∈∀∂‖·°²³¹₀₁₂µΔΣ"


def characters():
    yield from range(0x20, 0x7F)
    yield from range(0xA0, 0x180)  # Latin with accents
    yield from range(0x391, 0x3CA)  # Greek
    yield from map(ord, SIGNS)
    for high in range(0xA1, 0xF8):
        for low in range(0xA1, 0xFF):
            try:
                yield ord(bytes([high, low]).decode("gb2312"))
            except UnicodeDecodeError:
                pass


def main():
    def name(font):
        return font["name"].getDebugName(1)

    fonts = TTCollection(sys.argv[1]).fonts
    font = next(f for f in fonts if "SC" in name(f) and "Mono" not in name(f))
    options = subset.Options()
    options.hinting = False
    options.layout_features = []
    options.name_IDs = [0, 1, 2, 3, 4, 6, 13, 14]
    options.notdef_outline = True
    options.drop_tables += ["VORG", "vhea", "vmtx", "GSUB", "GPOS", "BASE"]
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=set(characters()))
    subsetter.subset(font)
    font.save(OUT)
    print(f"{OUT}: {OUT.stat().st_size} bytes")


main()
