"""Sheets of crops at equal rate: what they show is what the codecs make at that rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.errors import UsageError
from codec.eval.bench.contract import Option, OptionValue
from codec.eval.bench.crops import at_rate
from codec.eval.bench.run import rate_distortion
from codec.eval.bench.specs import parse
from codec.eval.report import crop_sheets

from ..fakes import Sized, family

ROOT = Path(__file__).resolve().parents[3]
CODECS = "jpeg:444:q=10+40+70+95,webp:q=10+50+90"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    with Image.open(ROOT / "samples" / "dog.png") as image:
        image.convert("RGB").crop((64, 64, 512, 384)).save(path / "dog.png")
    return path


def test_sheet(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheets"
    words = [str(folder), "-c", CODECS, "--bench", str(tmp_path / "bench"), "--bpp", "0.6", "--out", str(out)]
    assert crop_sheets.main([*words, "--item", "dog.png"]) == 0
    with Image.open(out / "dog.png") as image:
        assert image.size == (3 * 384 + 2 * 4, 20 + 256)
        seen = np.asarray(image)
    table = rate_distortion(folder, CODECS, metrics=["psnr-rgb"], out=tmp_path / "bench", repeat=1)
    columns = crop_sheets.columns_of(table, "dog.png", 0.6)
    for index, (label, pixels) in enumerate(columns):
        assert np.array_equal(seen[20:, index * 388 : index * 388 + 384], pixels)
        if index:
            assert float(label.split(": ")[1].split(" bpp")[0]) == pytest.approx(0.6, rel=0.15)
            # near the original's crop, and not the original
            error = float(np.mean((pixels.astype(float) - columns[0][1]) ** 2))
            assert 5 < error < 400


def test_what_cannot_be_shown_is_said(folder: Path, tmp_path: Path) -> None:
    table = rate_distortion(folder, CODECS, metrics=["psnr-rgb"], out=tmp_path, repeat=1)
    with pytest.raises(UsageError, match=r"no item 'cat.png'; there are dog.png"):
        crop_sheets.columns_of(table, "cat.png", 0.6)
    with pytest.raises(UsageError, match="another --bpp"):
        crop_sheets.columns_of(table, "dog.png", 60)


@pytest.mark.parametrize(("target", "encodings"), [(0.9, 1), (0.02 * 8 * 1.5**3, 1), (20.6, 1), (40.0, 0)])
def test_few_encodings(target: float, encodings: int) -> None:
    """The rate is exponential in q, as the search believes: one try between two points, none where there is no hope."""
    made: list[float] = []

    def make(settings: Mapping[str, OptionValue], threads: int) -> Sized:
        codec, q = Sized(0.02 * 1.5 ** float(settings["q"]), 3), float(settings["q"])
        encode = codec.encode
        codec.encode = lambda value: made.append(q) or encode(value)  # type: ignore[method-assign]
        return kept.setdefault(q, codec)

    kept: dict[float, Sized] = {}
    one = family("slow", make, options={"q": Option(3.0, "a number", 1, 12)}, sweep=())
    (curve,) = parse("slow:q=1+3+6+12", {"slow": one})
    rows = [
        SimpleNamespace(item="a.png", codec=curve.label, rate=8 * 0.02 * 1.5 ** float(str(p.setting)), spec=p.spec)
        for p in curve.points
    ]
    table: Any = SimpleNamespace(rows=rows, settings={}, metrics=[])
    item: Any = SimpleNamespace(name="a.png")
    found = at_rate(table, curve, item, np.zeros((100, 120, 3), np.uint8), target)
    assert len(made) == encodings
    if encodings:
        assert found is not None
        assert found[1] == pytest.approx(target, rel=0.03)
    else:
        assert found is None
