"""Volumetric video from its capture to pictures of its file, as somebody would do it on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.datasets.capture import Capture

from .helpers import run

pytest.importorskip("torch")
pytest.importorskip("trimesh")


@pytest.mark.slow
def test_the_whole_way_in_a_minute(tmp_path: Path) -> None:
    """A capture of the figure of capsules, the recipe of a minute: held-out views far above a white picture.

    Then the file: small, decoded to frames, and drawn by a held-out camera nearly as the fit is. .ci/run runs this.
    """
    capture, out = tmp_path / "capture", tmp_path / "fit"
    words = ("--body", "walker", "--views", 12, "--frames", 3, "--size", 64, "--quiet")
    assert run("data", "capture", "-o", capture, *words) == 0
    assert run("fit", "dualgs", capture, "-o", out, "--recipe", "minute", "--frames", 2, "--quiet") == 0
    assert run("fit", "dualgs", capture, "-o", out, "--recipe", "minute", "--frames", 2, "--quiet") == 2, "it is there"
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 1]
    assert min(row["held_out_psnr"] for row in rows) > 23 and min(row["psnr"] for row in rows) > 25
    assert rows[1]["psnr"] > rows[0]["psnr"] - 3
    clip, frames = tmp_path / "clip.dualgs", tmp_path / "frames"
    assert run("encode", out, "-c", "dualgs", "-o", clip, "--quiet") == 0
    assert run("verify", clip, "--quiet") == 0
    assert run("decode", clip, "-o", frames, "--quiet") == 0
    names = sorted(path.name for path in frames.iterdir() if path.suffix == ".ply")
    assert len(names) == 2 and clip.stat().st_size * 10 < sum((frames / name).stat().st_size for name in names)
    view = Capture.open(capture).held_out[0]
    picture = tmp_path / "view.png"
    look = ("--camera", capture / "image_white" / "1" / "transforms.json", "--view", view, "--frame", 1, "--quiet")
    assert run("render", clip, "-o", picture, *look) == 0
    with Image.open(picture) as drawn:
        shown = np.asarray(drawn.convert("RGB"), float)
    error = shown - Capture.open(capture).image(1, view).astype(float)
    assert 10 * np.log10(255**2 / (error**2).mean()) > rows[1]["held_out_psnr"] - 2
    film = tmp_path / "turn.mp4"
    assert run("render", clip, "-o", film, "--camera", "orbit", "--size", "64x64", "--quiet") == 0
    assert film.stat().st_size > 1000
