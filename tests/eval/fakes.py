"""Codecs of known behaviour, for tests of the harness: a known error, a known size, a lie, a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codec.errors import MediaError
from codec.eval.bench.contract import Family, Option, OptionValue


class Raw:
    """The picture itself behind its shape, then `filler` bytes; decoding adds `error` to what comes back."""

    def __init__(self, filler: int = 0, error: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self.filler, self.error = filler, error

    def encode(self, value: Any) -> bytes:
        return np.array(value.shape, "<u4").tobytes() + value.tobytes() + bytes(self.filler)

    def decode(self, data: bytes) -> Any:
        shape = tuple(np.frombuffer(data[:12], "<u4"))
        pixels = np.frombuffer(data[12 : 12 + int(np.prod(shape))], np.uint8).reshape(shape)
        return pixels.copy() if self.error is None else self.error(pixels)


class Sized:
    """A file of a fixed number of bytes for each pixel; gives back the picture plus a fixed error (kept aside)."""

    def __init__(self, bytes_a_pixel: float, step: int, exact_if_flat: bool = False) -> None:
        self.bytes_a_pixel, self.step, self.exact_if_flat = bytes_a_pixel, step, exact_if_flat
        self.kept: dict[bytes, np.ndarray] = {}

    def encode(self, value: Any) -> bytes:
        n_bytes = round(value.shape[0] * value.shape[1] * self.bytes_a_pixel)
        data = (int(value.sum()) % 2**32).to_bytes(4, "little").ljust(n_bytes, b"\0")
        self.kept[data] = value
        return data

    def decode(self, data: bytes) -> Any:
        pixels = self.kept[data].astype(np.int16)
        if self.exact_if_flat and (pixels == pixels[0, 0]).all():
            return pixels.astype(np.uint8)
        return np.where(pixels < 128, pixels + self.step, pixels - self.step).astype(np.uint8)


def family(name: str, make: Callable[[Mapping[str, OptionValue], int], Any], **more: Any) -> Family:
    options = more.pop("options", {"q": Option(3, "a number", 1, 9)})
    settings = {"axis": "q", "sweep": (1, 2, 3), "versions": lambda: {name: "1"}, **more}
    return Family(name, "image", f"the fake {name}", options, make, **settings)


def curve(name: str, factor: float = 1.0, exact_if_flat: bool = False, **more: Any) -> Family:
    """q 1 to 9: larger q, smaller error, larger file; `factor` times the bytes of another one at every q."""

    def make(settings: Mapping[str, OptionValue], threads: int) -> Sized:
        q = int(settings["q"])
        return Sized(factor * 0.02 * 1.5**q, 20 - 2 * q, exact_if_flat)

    return family(name, make, **more)


class Broken:
    def encode(self, value: Any) -> bytes:
        raise MediaError("can't take this one: too small")

    def decode(self, data: bytes) -> Any:
        raise AssertionError("nothing was encoded")
