"""What S2LIC's shipped weights promise: no seams, a ladder of qualities over the range of rates, goals that are met."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from codec import Codec, cli
from codec.codecs.layers import tiles
from codec.codecs.s2lic import oracle
from codec.codecs.s2lic.codec import S2licCodec
from codec.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def codec() -> S2licCodec:
    loaded = Codec.load("s2lic")
    assert isinstance(loaded, S2licCodec)
    return loaded


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(max(1e-12, float(np.mean((a.astype(float) - b) ** 2)) / 255**2))


def gradient(side: int) -> np.ndarray:
    """Smooth in both directions, a few grey levels from tile to tile: where a seam would show."""
    y, x = np.mgrid[0:side, 0:side] / side
    planes = [90 + 80 * x + 20 * y, 120 + 40 * np.sin(2 * x + y), 160 - 60 * y]
    return np.stack(planes, -1).round().astype(np.uint8)


STRIP = 128  # pixels: a tile, so that a picture of this width is cut along one axis only


@pytest.mark.parametrize(
    ("what", "quality", "shape"),
    [
        ("gradient", 10, (512, STRIP)),
        ("gradient", 80, (STRIP, 512)),
        ("photo", 10, (STRIP, 512)),
        ("photo", 80, (512, STRIP)),
        *(
            pytest.param(what, quality, (512, 512), marks=pytest.mark.slow)
            for what in ("gradient", "photo")
            for quality in (10, 80)
        ),
    ],
)
def test_no_seams_between_tiles(
    codec: S2licCodec,
    photo: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    quality: float,
    shape: tuple[int, int],
) -> None:
    monkeypatch.setenv("CODEC_ENGINE", "torch")  # the other engines have no tiles
    pixels = gradient(512) if what == "gradient" else photo[:512, :512]
    pixels = np.ascontiguousarray(pixels[: shape[0], : shape[1]])
    whole = codec.decompress(codec.compress(pixels, quality)).astype(float)
    monkeypatch.setattr(tiles, "TILE", 8)
    assert len(tiles.around(range(8), 32, oracle._HALO_ANALYSIS)) < 32, (
        "a tile that sees the whole picture has no seams"
    )
    tiled = codec.decompress(codec.compress(pixels, quality)).astype(float)
    assert abs(psnr(tiled, pixels) - psnr(whole, pixels)) < 0.05
    # the step over each border beyond what the original and the uncut picture have there, in pieces of its length
    for axis, side in enumerate(shape):
        for edge in range(128, side, 128):
            steps = []
            for picture in (tiled, whole):
                error = np.moveaxis(picture - pixels, axis, 0)
                steps.append((error[edge] - error[edge - 1]).reshape(-1, 32, 3).mean(1))
            assert np.abs(steps[0] - steps[1]).max() < 1
            if what == "gradient":
                assert np.abs(steps[0]).max() < 1


def test_decoding_in_tiles_changes_nothing(
    codec: S2licCodec, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network deeper than the tiny one: the halo is worked out from its sizes."""
    data = codec.compress(np.ascontiguousarray(photo[:208, :560]), 70)
    whole = codec.decompress(data)
    monkeypatch.setenv("CODEC_ENGINE", "torch")  # the other engines have no tiles
    monkeypatch.setattr(tiles, "TILE", 12)
    assert np.array_equal(codec.decompress(data), whole)
    narrow = codec.model.config.synthesis_halo - 4
    monkeypatch.setattr(type(codec.model.config), "synthesis_halo", narrow)
    assert not np.array_equal(codec.decompress(data), whole)


@pytest.mark.parametrize("shape", [(496, 376), (250, 330), (128, 144)])
def test_borders_are_as_good_as_the_middle(codec: S2licCodec, photo: np.ndarray, shape: tuple[int, int]) -> None:
    """Of pictures that are no multiple of anything: what fills the last window up must not leak into the picture."""
    height, width = shape
    pixels = np.ascontiguousarray(photo[40 : 40 + height, 90 : 90 + width])
    for turn in range(4):  # so that the same content lies at each of the borders
        turned = np.ascontiguousarray(np.rot90(pixels, turn))
        error = (codec.decompress(codec.compress(turned, 70)).astype(float) - turned) ** 2
        for side in range(4):
            border = np.rot90(error, side)[:12]
            assert border.mean() < 2.5 * error.mean(), (turn, side)


def test_range_of_rates(codec: S2licCodec, photo: np.ndarray) -> None:
    pixels = np.ascontiguousarray(photo[128:512, 190:576])  # most of its detail
    points = []
    for quality in (1, 25, 50, 75, 100):
        data = codec.compress(pixels, quality)
        points.append((8 * len(data) / (384 * 386), psnr(codec.decompress(data), pixels)))
    rates, decibels = zip(*points, strict=True)
    assert list(rates) == sorted(rates) and list(decibels) == sorted(decibels)
    assert rates[0] < 0.15 and rates[-1] > 1.5
    assert decibels[-1] - decibels[0] > 8


@pytest.mark.parametrize("goal", [("--size", "12kB"), ("--bpp", "0.6"), ("--psnr", "33")])
def test_goals(photo: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str], goal: tuple[str, str]) -> None:
    from PIL import Image

    pixels = np.ascontiguousarray(photo[:384, :512])
    Image.fromarray(pixels).save(tmp_path / "in.png")
    assert cli.main(["encode", str(tmp_path / "in.png"), "-c", "s2lic", *goal, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    size = (tmp_path / "in.s2lic").stat().st_size
    assert report["encodings"] <= 6
    assert cli.main(["decode", str(tmp_path / "in.s2lic"), "-o", str(tmp_path / "out.png"), "--quiet"]) == 0
    with Image.open(tmp_path / "out.png") as image:
        decibel = psnr(np.asarray(image), pixels)
    if goal[0] == "--size":
        assert 0.97 * 12000 < size <= 12000
    elif goal[0] == "--bpp":
        assert 0.97 * 0.6 < 8 * size / (384 * 512) <= 0.6
    else:
        assert 33 <= decibel < 33.15
        assert report["psnr"] == pytest.approx(decibel, abs=1e-3)


def test_weights_for_ms_ssim_are(photo: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer bytes and more structure than the usual weights, at the price of squared error; no effort for them."""
    from codec.eval.metrics.images import ms_ssim_rgb

    pixels = np.ascontiguousarray(photo[:384, :512])
    files, pictures = {}, {}
    for name, quality in (("s2lic@small", 50), ("s2lic@small-ms-ssim", 50)):
        loaded = Codec.load(name)
        files[name] = loaded.compress(pixels, quality)
        pictures[name] = loaded.decompress(files[name])
        (tmp_path / "a.s2lic").write_bytes(files[name])
        assert cli.main(["info", str(tmp_path / "a.s2lic"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tag"] == name.partition("@")[2]
    usual, other = files
    assert len(files[other]) < len(files[usual])
    assert ms_ssim_rgb(pixels, pictures[other]) > ms_ssim_rgb(pixels, pictures[usual])
    assert psnr(pictures[other], pixels) < psnr(pictures[usual], pixels)
    with pytest.raises(UsageError, match="s2lic@small"):
        Codec.load(other).with_settings(effort=1)
