"""The simplest way to extreme rates: a picture is made smaller, coded, and made as large as it was again.

`shrunk` is a baseline for codecs of very low rates. The codec inside is S2LIC, with the weights `small-ms-ssim` unless
`tag` says others; both filters are Pillow's Lanczos filter. A file is S2LIC's own, container included, behind the size
of the picture as two numbers of 16 bits.
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

_INSIDE = "s2lic"
_TAGS = ("small-ms-ssim", "small")  # of its weights
_SIZE = struct.Struct("<HH")  # height, width
_MOST = 16  # times smaller, to a side
_OPTIONS = {
    "q": Option(1, "S2LIC's quality", 1, 100),
    "scale": Option(2, "how many times smaller the picture is made, to a side", 1, _MOST),
    "tag": Option(_TAGS[0], "S2LIC's weights", choices=_TAGS),
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
        """Decodes to (H, W, 3) uint8 of the size that the picture had. StreamError if that can't be its size."""
        from PIL import Image

        if len(data) < _SIZE.size:
            raise StreamError(f"shrunk: a file of {len(data)} bytes; expected a size in front: is it cut?")
        height, width = _SIZE.unpack_from(data)
        small = Image.fromarray(self.codec.decompress(data[_SIZE.size :]))
        # half a pixel was rounded away at most; what is larger was never shrunk to this, and might fill the memory
        pairs = ((height, small.height), (width, small.width))
        if not all(0 < side <= _MOST * (inner + 0.5) for side, inner in pairs):
            raise StreamError(f"shrunk: {width}x{height} of {small.width}x{small.height}: the file is damaged")
        return np.array(small.resize((width, height), Image.Resampling.LANCZOS))


def _make(settings: Mapping[str, OptionValue], threads: int) -> Peer:
    del threads  # as for our own codecs: the runner sets them
    check_settings("shrunk", _OPTIONS, settings)
    return _Shrunk(Codec.load(f"{_INSIDE}@{settings['tag']}", quality=float(settings["q"])), float(settings["scale"]))


def _versions() -> Mapping[str, str]:
    import PIL

    weights = {f"{_INSIDE}@{tag}": find(_INSIDE, tag).id.hex()[:8] for tag in _TAGS}
    return {"codec-suite": __version__, **weights, "pillow": PIL.__version__}


FAMILIES: tuple[Family, ...] = (
    Family(
        name="shrunk",
        medium="image",
        about="S2LIC on the picture made smaller: the baseline of extreme rates",
        options=_OPTIONS,
        make=_make,
        axis="q",
        sweep=(1, 5, 10, 20, 30, 40, 50),
        versions=_versions,
    ),
)
