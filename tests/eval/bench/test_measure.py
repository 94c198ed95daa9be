"""The clock, the memory gauge and the checks of one measurement."""

from __future__ import annotations

import gc
import io
import sys
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.errors import StreamError
from codec.eval.bench import measure as module
from codec.eval.bench.contract import Audio, Metric, Video
from codec.eval.bench.measure import materialise, measure

from ..fakes import Raw

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
MAX = Metric("max", "image", "", "lower", "", lambda a, b: float(np.abs(a.astype(int) - b).max()))


class Slow:
    """Decodes to a handle whose work is done when somebody looks."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def encode(self, value: Any) -> bytes:
        return value.tobytes()

    def decode(self, data: bytes) -> Any:
        return Handle(np.frombuffer(data, np.uint8).reshape(PIXELS.shape), self.seconds)


class Handle:
    def __init__(self, pixels: np.ndarray, seconds: float) -> None:
        self.pixels, self.seconds = pixels, seconds

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        time.sleep(self.seconds)
        return self.pixels


def test_a_lazy_decoder_cannot_cheat_the_clock() -> None:
    one = measure(Slow(0.02), PIXELS, [MAX], repeat=2)
    assert one.decode_seconds >= 0.02
    assert one.encode_seconds < 0.02
    assert one.values == {"max": 0.0}


def test_an_opened_picture_is_decoded_inside_the_clock() -> None:
    """Pillow's own laziness: an opened PNG has read a header."""
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    opened = Image.open(stream)
    pixels = materialise(opened)
    assert isinstance(pixels, np.ndarray) and np.array_equal(pixels, PIXELS)
    assert not np.shares_memory(pixels, np.asarray(opened))


def test_a_tensor_is_fetched() -> None:
    import torch

    fetched = materialise(torch.arange(6.0, requires_grad=True).reshape(2, 3).t())
    assert isinstance(fetched, np.ndarray) and fetched.flags.c_contiguous and fetched.shape == (3, 2)


def test_the_size_is_the_file_s_whole_size() -> None:
    assert measure(Raw(filler=1000), PIXELS, []).n_bytes == 12 + PIXELS.size + 1000


def test_a_measurement_leaves_the_value_alone() -> None:
    before = PIXELS.copy()
    one = measure(Raw(error=lambda pixels: 255 - pixels), PIXELS, [MAX], repeat=1)
    assert np.array_equal(PIXELS, before)
    assert one.values["max"] > 200


def test_runs_are_counted_and_long_ones_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Counting(Raw):
        def encode(self, value: Any) -> bytes:
            calls.append(1)
            return super().encode(value)

    one = measure(Counting(), PIXELS, [], repeat=4)
    assert (one.encode_runs, one.decode_runs) == (4, 4)
    assert len(calls) == 5  # one warms up
    monkeypatch.setattr(module, "LONG_RUN", -1.0)
    calls.clear()
    assert measure(Counting(), PIXELS, [], repeat=4).encode_runs == 1
    assert len(calls) == 2  # still one that warms up
    monkeypatch.setattr(module, "ENDLESS_RUN", -1.0)
    calls.clear()
    assert measure(Counting(), PIXELS, [], repeat=4).encode_runs == 0
    assert len(calls) == 1


def test_a_slow_decoder_is_warmed_up_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first decoding loads what the later ones need; the encoder's runs are counted apart."""

    class Cold(Raw):
        cold = True

        def decode(self, data: bytes) -> Any:
            time.sleep(0.05 if self.cold else 0.0)
            self.cold = False
            return super().decode(data)

    monkeypatch.setattr(module, "LONG_RUN", 0.02)
    one = measure(Cold(), PIXELS, [], repeat=3)
    assert one.decode_runs == 1 and one.encode_runs == 3
    assert one.decode_seconds < 0.05


@pytest.mark.skipif(sys.platform != "linux", reason="the system doesn't tell a process its peak memory")
def test_memory_is_what_a_call_takes() -> None:
    class Hungry(Raw):
        def decode(self, data: bytes) -> Any:
            waste = np.ones(48 << 20, np.uint8)
            return super().decode(data) + (waste[0] - 1)

    gc.collect()  # what is freed meanwhile would hide what the call takes
    one = measure(Hungry(), PIXELS, [], repeat=1)
    assert one.decode_peak is not None and one.encode_peak is not None
    assert 47 <= one.decode_peak < 60
    assert one.encode_peak < 8


@pytest.mark.parametrize(
    ("value", "decoded", "words"),
    [
        (PIXELS, PIXELS[:-1], "shape"),
        (PIXELS, PIXELS.astype(np.float32), "float32; expected uint8"),
        (PIXELS, "a string", "shape"),
        (PIXELS, Audio(np.zeros((1, 9), np.float32), 8000), "Audio; expected ndarray"),
        (Audio(np.zeros((1, 9), np.float32), 8000), Audio(np.zeros((1, 9), np.float32), 16000), "16000 Hz"),
        (Audio(np.zeros((1, 9), np.float32), 8000), Audio(np.zeros((1, 8), np.float32), 8000), "shape"),
        (Video(PIXELS[None], Fraction(25)), Video(PIXELS[None, 1:], Fraction(25)), "shape"),
    ],
)
def test_what_comes_back_must_be_of_the_same_kind(value: Any, decoded: Any, words: str) -> None:
    class Fixed:
        def encode(self, value: Any) -> bytes:
            return b""

        def decode(self, data: bytes) -> Any:
            return decoded

    with pytest.raises(StreamError, match=words):
        measure(Fixed(), value, [])


def test_a_lossless_codec_is_held_to_it() -> None:
    assert measure(Raw(), PIXELS, [], lossless=True).n_bytes
    with pytest.raises(StreamError, match="lossless"):
        measure(Raw(error=lambda pixels: pixels ^ 1), PIXELS, [], lossless=True)


def test_only_bytes_are_a_file() -> None:
    class Words(Raw):
        def encode(self, value: Any) -> Any:
            return bytearray(b"x")

    with pytest.raises(StreamError, match="bytearray; expected bytes"):
        measure(Words(), PIXELS, [])
