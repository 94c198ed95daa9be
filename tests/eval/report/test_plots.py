"""Figures of a bench run: what is drawn where, the same bytes every time, colours that everybody can tell apart."""

from __future__ import annotations

import importlib.util
import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from codec.errors import CodecError, UsageError
from codec.eval.output import write_file
from codec.eval.report import plots

from .bench_summary import OURS, summary


@pytest.fixture
def like_figures() -> Iterator[None]:
    with plots.figure_defaults():
        yield


def figure(given: dict[str, Any], metric: str) -> Any:
    curves = plots.series(given)
    (shown,) = (m for m in plots.metrics(given, curves) if m.name == metric)
    return plots._rd_figure(given, curves, shown)


def legend(made: Any) -> dict[str, Any]:
    (found,) = made.legends
    return dict(zip((t.get_text() for t in found.get_texts()), found.legend_handles, strict=True))


def words(made: Any) -> str:
    return " ".join(t.get_text() for t in made.findobj(Text))


class TestFiles:
    def test_each_metric_with_a_point_and_speed(self, tmp_path: Path) -> None:
        files = plots.rd_plots(summary(), tmp_path / "new")
        stems = ["rd-psnr-rgb", "rd-ms-ssim-rgb", "rd-lpips", "speed"]  # butteraugli was not measured
        assert [f.name for f in files] == [f"{s}.{kind}" for s in stems for kind in ("png", "svg")]
        assert sorted(files) == sorted((tmp_path / "new").iterdir()), "no temporary file stays"
        for file in files:
            if file.suffix == ".svg":
                assert ET.parse(file).getroot().tag.endswith("svg")
                assert b"<dc:date>" not in file.read_bytes()
            else:
                with Image.open(file) as image:
                    assert image.width > 1200
                    assert np.asarray(image.convert("RGB"))[0, 0].tolist() == [255, 255, 255], (
                        "white, on dark pages too"
                    )

    def test_same_summary_same_bytes(self, tmp_path: Path) -> None:
        """Whatever the user's matplotlibrc says, which is left as it was."""
        first = plots.rd_svg(summary(), "psnr-rgb")
        with mpl.rc_context({"svg.hashsalt": "other", "font.size": 20, "axes.grid": False, "xtick.direction": "in"}):
            assert plots.rd_svg(summary(), "psnr-rgb") == first
            assert mpl.rcParams["font.size"] == 20
        kept = {f.name: f.read_bytes() for f in plots.rd_plots(summary(), tmp_path)}
        assert kept["rd-psnr-rgb.svg"] == first
        assert {f.name: f.read_bytes() for f in plots.rd_plots(summary(), tmp_path)} == kept

    def test_names_of_metrics_become_names_of_files(self, tmp_path: Path) -> None:
        given = summary()
        given["metrics"] = {"../../A b": {"better": "higher"}, "..-..-a b": {"better": "higher"}}
        for curve in given["curves"]:
            for point in curve["points"]:
                point |= dict.fromkeys(given["metrics"], point["psnr-rgb"])
                del point["encode_mpx_s"], point["encode_seconds"]
        files = plots.rd_plots(given, tmp_path)
        assert [f.name for f in files if f.suffix == ".png"] == ["rd-..-..-a-b.png", "rd-..-..-a-b-2.png"]
        assert {f.parent for f in files} == {tmp_path}

    def test_what_cannot_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for wrong in ({}, {"rate": "bpp"}, {**summary(), "curves": "jpeg"}, {**summary(), "metrics": [1]}):
            with pytest.raises(UsageError, match=r"summary\.json"):
                plots.rd_plots(wrong, tmp_path)
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="can't be made as a folder"):
            plots.rd_plots(summary(), tmp_path / "file")
        with pytest.raises(CodecError, match="can't be written"):
            write_file(tmp_path / "file" / "x", b"")
        with pytest.raises(UsageError, match="butteraugli"):
            plots.rd_svg(summary(), "butteraugli")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"pip install 'codec-suite\[eval\]'"):
            plots.rd_plots(summary(), tmp_path)


@pytest.mark.usefixtures("like_figures")
class TestCurves:
    def test_ours_thick_others_thin_published_dashed_and_grey(self) -> None:
        found = legend(figure(summary(), "psnr-rgb"))
        assert list(found)[:2] == list(OURS)
        assert list(found)[-2:] == ["vtm-18.0 (published)", "elic (published)"]
        thick = found["walloc@16x"].get_linewidth()
        for label, handle in found.items():
            published = label.endswith("(published)")
            assert (handle.get_color() == plots.GREYS[0]) == published
            assert handle.is_dashed() == published
            assert label in OURS or handle.get_linewidth() < thick

    def test_points_lie_where_the_summary_says(self) -> None:
        given = summary()
        for metric, place in (("psnr-rgb", lambda x: x), ("ms-ssim-rgb", lambda x: -10 * math.log10(1 - x))):
            made = figure(given, metric)
            lines = [line.get_xydata() for line in made.axes[0].lines]
            for curve in given["curves"]:
                whole = [p for p in curve["points"] if p["complete"]]
                if not curve["lossless"]:
                    wanted = np.array([(p["bpp"], place(p[metric])) for p in whole])
                    assert any(x.shape == wanted.shape and np.allclose(x, wanted) for x in lines), curve["codec"]

    def test_ms_ssim_says_that_it_is_in_decibels(self) -> None:
        assert "dB: −10 log₁₀(1 − x)" in figure(summary(), "ms-ssim-rgb").axes[0].get_ylabel()
        assert "log₁₀" not in figure(summary(), "psnr-rgb").axes[0].get_ylabel()
        assert figure(summary(), "lpips").axes[0].get_ylabel() == "lpips (lower is better)"

    def test_a_single_point_is_a_marker(self) -> None:
        found = legend(figure(summary(), "psnr-rgb"))
        assert found["walloc@4x"].get_linestyle() == "None"
        assert found["walloc@4x"].get_marker() not in ("", "None")
        assert found["walloc@16x"].get_linestyle() == "-"

    @pytest.mark.parametrize("metric", ["psnr-rgb", "ms-ssim-rgb", "lpips"])
    def test_lossless_is_a_note_and_a_tick_if_in_view(self, metric: str) -> None:
        given = summary()
        made = figure(given, metric)
        assert "png" not in legend(made)
        assert "without loss, in bits per pixel: png 12.6" in words(made)
        assert made.axes[0].get_xlim()[1] < 12, "its rate doesn't stretch the axis"
        (png,) = (c for c in given["curves"] if c["lossless"])
        png["points"][0]["bpp"] = 1.5
        near = figure(given, metric)
        assert [line.get_xdata()[0] for line in near.axes[0].lines].count(1.5) == 1
        assert "png" in [t.get_text() for t in near.axes[0].texts]

    def test_a_point_with_failures_is_off_the_line(self) -> None:
        made = figure(summary(), "psnr-rgb")
        alone = [line for line in made.axes[0].lines if line.get_marker() == "x"]
        assert [len(line.get_xdata()) for line in alone] == [1]
        assert "isn't comparable" in words(made)

    def test_one_colour_and_marker_per_codec_in_every_figure(self) -> None:
        given = summary()
        for point in given["curves"][0]["points"]:
            del point["ms-ssim-rgb"]  # jpeg:chroma=444 is missing from the second figure
        first, second = (legend(figure(given, m)) for m in ("psnr-rgb", "ms-ssim-rgb"))
        assert "jpeg:chroma=444" in first
        assert "jpeg:chroma=444" not in second
        look = {label: (h.get_color(), h.get_marker()) for label, h in first.items()}
        assert all(look[label] == (h.get_color(), h.get_marker()) for label, h in second.items())
        measured = [v for label, v in look.items() if not label.endswith("(published)")]
        assert len(set(measured)) == len(measured)

    def test_axis_follows_the_spread_of_rates(self) -> None:
        assert figure(summary(), "psnr-rgb").axes[0].get_xscale() == "log"
        given = summary()
        for curve in (*given["curves"], *given["reference"]):
            curve["points"] = [p for p in curve["points"] if 0.3 < p["bpp"] < 1]
        assert figure(given, "psnr-rgb").axes[0].get_xscale() == "linear"

    def test_text_is_text(self) -> None:
        """Dollars are no formulas, underscores hide nothing."""
        given = summary()
        given["curves"][0]["codec"] = "$\\frac{$<b>&"
        given["curves"][1]["codec"] = "_hidden"
        made = figure(given, "psnr-rgb")
        plots.render(made, "svg")
        labels = [label.strip() for label in legend(made)]
        assert "$\\frac{$<b>&" in labels
        assert "_hidden" in labels

    def test_numbers_that_are_none(self) -> None:
        given = summary()
        points = given["curves"][0]["points"]
        points[0]["psnr-rgb"], points[1]["psnr-rgb"], points[2]["psnr-rgb"] = None, math.nan, "Infinity"
        points[3]["bpp"] = 0
        made = figure(given, "psnr-rgb")
        wanted = np.array([(p["bpp"], p["psnr-rgb"]) for p in points[4:]])
        assert any(np.array_equal(line.get_xydata(), wanted) for line in made.axes[0].lines)
        assert "jpeg:chroma=444 0.597" in words(made) or "jpeg:chroma=444 0.596" in words(made)


@pytest.mark.usefixtures("like_figures")
class TestSpeed:
    def make(self, given: dict[str, Any]) -> Any:
        return plots._speed_figure(given, plots.series(given))

    def test_conditions_are_said(self) -> None:
        made = self.make(summary())
        assert "2 threads, 1 job at a time, measured 3 times, AMD EPYC 7763" in words(made)
        assert "not comparable" not in words(made)
        assert "several at once: not comparable" in words(self.make({**summary(), "jobs": 4}))

    def test_points_and_axes(self) -> None:
        given = summary()
        made = self.make(given)
        assert "png" in legend(made), "a lossless codec has a speed"
        for axes, key in zip(made.axes, ("encode_mpx_s", "decode_mpx_s"), strict=True):
            wanted = np.array([(p["bpp"], p[key]) for p in given["curves"][0]["points"]])
            assert any(
                np.allclose(x, wanted) for x in (ln.get_xydata() for ln in axes.lines) if x.shape == wanted.shape
            )
        assert made.axes[0].get_ylabel() == "Mpixel/s (higher is faster)"

    def test_seconds_if_there_is_no_throughput(self) -> None:
        given = summary()
        for curve in given["curves"]:
            for point in curve["points"]:
                del point["encode_mpx_s"]
        assert self.make(given).axes[0].get_ylabel() == "seconds an item (lower is faster)"
        for curve in given["curves"]:
            for point in curve["points"]:
                del point["encode_seconds"]
        assert self.make(given) is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (1, 1.0),
        ("Infinity", math.inf),
        ("-inf", -math.inf),
        (None, None),
        ("x", None),
        (True, None),
        ("3", None),
        ([], None),
    ],
)
def test_number(given: Any, wanted: float | None) -> None:
    found = plots.number(given)
    assert math.isnan(found) if wanted is None else found == wanted


# Machado, Oliveira, Fernandes 2009, severity 1: what linear RGB becomes without red or green cones
SIMULATED = {
    "all cones": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089], 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    ("palette", "grey", "page"), [(plots.COLOURS, 0, "#ffffff"), (plots.COLOURS_DARK, 1, "#14171a")]
)
def test_everybody_can_tell_the_colours_apart(palette: tuple[str, ...], grey: int, page: str) -> None:
    for name, matrix in SIMULATED.items():
        for a, b in itertools.combinations(palette, 2):
            assert np.linalg.norm(lab(matrix @ linear(a)) - lab(matrix @ linear(b))) > 25, f"{a} and {b}, {name}"
    for colour in (*palette, plots.GREYS[grey]):
        dark, light = sorted(float(TO_XYZ[1] @ linear(c)) for c in (colour, page))
        assert (light + 0.05) / (dark + 0.05) >= 3, colour
