"""The simplest way to extreme rates: a picture is made smaller, coded, and made as large as it was again.

`shrunk` is the baseline that codecs for very low rates have to beat (Li et al., "Learning a convolutional neural
network for image compact-resolution", arXiv 1704.03915, and others, build on it). Here the codec inside is S2LIC with
the weights `small-ms-ssim`; both filters are Pillow's Lanczos filter. A file is S2LIC's own, container included, behind
the size of the picture as two numbers of 16 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...codecs.base.codec import Codec
from ...codecs.base.weights import find
from ...errors import StreamError
from ..bench.contract import Family, Option, OptionValue, Peer
from .images import check_picture, check_settings

__all__ = ["FAMILIES"]

_INSIDE = "s2lic@small-ms-ssim"
_SIZE = struct.Struct("<HH")  # height, width
_OPTIONS = {
    "q": Option(1, "S2LIC's quality", 1, 100),
    "scale": Option(2, "how many times smaller the picture is made, to a side", 1, 16),
}


class _Shrunk:
    def __init__(self, codec: Codec, scale: float) -> None:
        self.codec, self.scale = codec, scale

    def encode(self, value: Any) -> bytes:
        """Encodes (H, W, 3) uint8 in a smaller size."""
        from PIL import Image

        pixels = check_picture("shrunk", value, 0xFFFF)
        height, width, _ = pixels.shape
        size = (max(1, round(width / self.scale)), max(1, round(height / self.scale)))
        small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        return _SIZE.pack(height, width) + self.codec.compress(np.asarray(small))

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Decodes to (H, W, 3) uint8 of the size that the picture had. StreamError if the size is missing."""
        from PIL import Image

        if len(data) < _SIZE.size:
            raise StreamError(f"shrunk: a file of {len(data)} bytes; expected a size in front: is it cut?")
        height, width = _SIZE.unpack_from(data)
        if not height or not width:
            raise StreamError(f"shrunk: a picture of {width}x{height}: the file is damaged")
        small = Image.fromarray(self.codec.decompress(data[_SIZE.size :]))
        return np.array(small.resize((width, height), Image.Resampling.LANCZOS))


def _make(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    del threads  # as for our own codecs: the runner sets them
    check_settings("shrunk", _OPTIONS, settings)
    return _Shrunk(Codec.load(_INSIDE, quality=float(settings["q"])), float(settings["scale"]))


def _versions() -> Mapping[str, str]:
    import PIL

    name, _, tag = _INSIDE.partition("@")
    return {"codec-suite": __version__, _INSIDE: find(name, tag).id.hex()[:8], "pillow": PIL.__version__}


FAMILIES: tuple[Family, ...] = (
    Family(
        name="shrunk",
        medium="image",
        about="S2LIC (small-ms-ssim) on the picture made smaller: the baseline of extreme rates",
        options=_OPTIONS,
        make=_make,
        axis="q",
        sweep=(1, 5, 10, 20, 30, 40, 50),
        versions=_versions,
    ),
)
