from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest

from codec.codecs.base.image import ImageCodec
from codec.codecs.base.rate_control import MOST, at_bpp, at_psnr, at_size
from codec.errors import UsageError
from codec.media.distortion import psnr
from codec.media.values import Picture

PICTURE = Picture(np.full((100, 80, 3), 100, np.uint8))


class Fake:
    """Sizes and errors that follow a bent curve; quality in steps of 0.3."""

    name = "fake"

    def __init__(self, bend: float = 0.0) -> None:
        self.bend, self.encodings = bend, 0

    def encode_picture(self, picture: Picture, quality: float) -> bytes:
        assert 1 <= quality <= 100
        self.encodings += 1
        t = round(quality / 0.3) * 0.3 / 100
        octaves = 4 * (t + self.bend * t * (1 - t))
        return bytes(round(200 * 2**octaves))

    def decode_picture(self, data: bytes) -> Picture:
        error = 12 * 2.0 ** (-math.log2(len(data) / 200))
        pixels = np.full((100, 80, 3), 100, np.uint8)
        pixels[: round(error * 100 / 16)] += 4
        return Picture(pixels)


def codec(bend: float = 0.0) -> Any:
    return cast(ImageCodec, Fake(bend))


@pytest.mark.parametrize("bend", [-0.7, 0.0, 0.7])
@pytest.mark.parametrize("n_bytes", [230, 400, 1000, 2900])
def test_size(bend: float, n_bytes: int) -> None:
    fake = codec(bend)
    found = at_size(fake, PICTURE, n_bytes)
    assert 0.97 * n_bytes <= len(found.data) <= n_bytes
    assert found.value == len(found.data)
    assert found.encodings == fake.encodings <= MOST
    if bend == 0:
        assert found.encodings <= 4
    assert fake.encode_picture(PICTURE, found.quality) == found.data


def test_bpp() -> None:
    found = at_bpp(codec(), PICTURE, 0.8)
    assert 0.78 <= found.value <= 0.8
    assert found.value == 8 * len(found.data) / 8000


def test_psnr() -> None:
    found = at_psnr(codec(0.5), PICTURE, 41.0)
    assert 41 <= found.value < 41.5
    assert found.encodings <= MOST
    cheaper = at_psnr(codec(0.5), PICTURE, 39.0)
    assert len(cheaper.data) < len(found.data)


STEPS = [10.0, 19.0, 30.0, 45.0, 56.5, 80.0, 96.0]


@pytest.mark.parametrize("n_steps", [1, 2, 5, 7])
def test_steps(n_steps: int) -> None:
    """The best of some qualities is taken, in a few encodings: the largest that fits, the first that is good enough."""
    steps = STEPS[:n_steps]
    files = [codec().encode_picture(PICTURE, q) for q in steps]
    for k, (quality, file) in enumerate(zip(steps, files, strict=True)):
        behind = len(files[k + 1]) - 1 if k + 1 < n_steps else 10**6
        for n_bytes in (len(file), behind):
            fake = codec()
            reached = at_size(fake, PICTURE, n_bytes, steps=steps)
            assert (reached.data, reached.quality) == (file, quality)
            assert reached.encodings == fake.encodings <= n_steps.bit_length()
        exact = psnr(codec().decode_picture(file).pixels, PICTURE.pixels)
        assert at_psnr(codec(), PICTURE, exact, steps=steps).quality == pytest.approx(quality)
        assert at_bpp(codec(), PICTURE, len(file) / 1000 + 1e-4, steps=steps).data == file
    with pytest.raises(UsageError, match="250 bytes are too few: fake at quality 10 makes 26"):
        at_size(codec(), PICTURE, 250, steps=steps)
    with pytest.raises(UsageError, match=f"80 dB is out of reach: fake at quality {steps[-1]:g} has"):
        at_psnr(codec(), PICTURE, 80, steps=steps)


def test_out_of_reach() -> None:
    with pytest.raises(UsageError, match="150 bytes are too few: fake at quality 1 makes 2"):
        at_size(codec(), PICTURE, 150)
    with pytest.raises(UsageError, match="80 dB is out of reach: fake at quality 100"):
        at_psnr(codec(), PICTURE, 80)
    assert at_size(codec(), PICTURE, 1e6).quality == 100
    assert at_psnr(codec(), PICTURE, 10).quality == 1
