"""The baseline of extreme rates: smaller files of smaller pictures, which come back in the size that they had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.errors import CodecError, StreamError
from codec.eval.bench.contract import Peer
from codec.eval.peers import families
from codec.files import PACKAGE

SHRUNK = families()["shrunk"]


@pytest.fixture(scope="module")
def photo() -> Any:
    with Image.open(PACKAGE / "samples" / "dog.png") as image:
        return np.asarray(image.convert("RGB"))[:141, :173]


def peer(**chosen: float) -> Peer:
    return SHRUNK.make({key: option.default for key, option in SHRUNK.options.items()} | chosen, 1)


def test_size_comes_back(photo: Any) -> None:
    coded = {scale: peer(scale=scale).encode(photo) for scale in (1, 3, 16)}
    decoded = {scale: peer().decode(data) for scale, data in coded.items()}
    assert all(pixels.shape == photo.shape and pixels.dtype == np.uint8 for pixels in decoded.values())
    assert len(coded[1]) > len(coded[3]) > len(coded[16])
    errors = [float(np.square(decoded[scale].astype(float) - photo).mean()) for scale in (1, 3, 16)]
    assert errors[0] < errors[1] < errors[2] < 255**2 / 20


def test_the_smallest_pictures_come_back_at_the_largest_scale(photo: Any) -> None:
    for height, width in ((1, 1), (1, 173), (24, 9), (40, 7)):
        data = peer(scale=16).encode(photo[:height, :width])
        assert peer().decode(data).shape == (height, width, 3)


def test_quality_is_that_of_the_codec_inside(photo: Any) -> None:
    assert len(peer(q=40).encode(photo)) > len(peer(q=1).encode(photo))


def test_damage_is_an_error(photo: Any) -> None:
    data = peer().encode(photo)
    with pytest.raises(StreamError, match="cut"):
        peer().decode(data[:3])
    for size in (bytes(4), b"\xff\xff\x05\0", b"\x05\0\xff\xff"):
        with pytest.raises(StreamError, match="damaged"):
            peer().decode(size + data[4:])
    with pytest.raises(CodecError):
        peer().decode(data[:-1])
