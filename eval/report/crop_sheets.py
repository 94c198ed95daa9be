r"""Crops of some pictures under several codecs at equal rate, side by side in a PNG each: for model cards.

    python -P -m codec.eval.report.crop_sheets KODAK -c s2lic,avif:444:psnr,jpeg:444 --bench eval/results/kodak \
        --item kodim05.png --item kodim23.png --bpp 0.25 --out eval/results/s2lic_crops

--bench: the folder of a `codec bench` run of these codecs on this data, from whose points settings are searched. The
place of a crop is where the original has most detail. Above each crop: codec, whole file's bits per pixel, RGB PSNR of
the whole picture.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ...errors import UsageError
from ..bench.crops import at_rate, busiest
from ..bench.rows import Table
from ..bench.run import rate_distortion
from ..output import write_file

_BAR, _GAP = 20, 4


def sheet(columns: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image:
    """Crops of one size, (H, W, 3) each, in a row under their labels."""
    height, width = columns[0][1].shape[:2]
    out = Image.new("RGB", ((width + _GAP) * len(columns) - _GAP, _BAR + height), "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(13)
    for index, (label, pixels) in enumerate(columns):
        draw.text((index * (width + _GAP) + 2, 2), label, fill="black", font=font)
        out.paste(Image.fromarray(pixels), (index * (width + _GAP), _BAR))
    return out


def columns_of(table: Table, name: str, bpp: float) -> list[tuple[str, NDArray[np.uint8]]]:
    """Original and codecs, cropped; UsageError if the item isn't in the table or a codec has nothing near the rate."""
    item = next((source for source in table.sources if source.name == name), None)
    if item is None:
        raise UsageError(f"no item {name!r}; there are {', '.join(source.name for source in table.sources)}")
    pixels = item.load()
    assert isinstance(pixels, np.ndarray)
    left, top, width, height = busiest(pixels)
    view = np.s_[top : top + height, left : left + width]
    out = [(f"{name}, original", np.ascontiguousarray(pixels[view]))]
    for curve in table.curves:
        point = at_rate(table, curve, item, pixels, bpp)
        if point is None:
            raise UsageError(f"{curve.label} has no setting near {bpp:g} bpp for {name}: name another --bpp")
        _, rate, values, decoded = point
        out.append((f"{curve.label}: {rate:.3f} bpp, {values['psnr-rgb']:.2f} dB", np.ascontiguousarray(decoded[view])))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-c", "--codec", required=True, metavar="CODECS")
    parser.add_argument("--bench", type=Path, required=True, metavar="DIR")
    parser.add_argument("--item", action="append", required=True, metavar="NAME")
    parser.add_argument("--bpp", type=float, default=0.25)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args(argv)
    table = rate_distortion(arguments.data, arguments.codec, metrics=["psnr-rgb"], out=arguments.bench, repeat=1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.item:
        buffer = io.BytesIO()
        sheet(columns_of(table, name, arguments.bpp)).save(buffer, "PNG", optimize=True)
        path = arguments.out / f"{Path(name).stem}.png"
        write_file(path, buffer.getvalue())
        sys.stderr.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
