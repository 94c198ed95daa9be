"""Palettes in the metadata of arrays: they come back, are never longer, and damage is an error."""

from __future__ import annotations

import numpy as np
import pytest

from codec import native
from codec.codecs.base.palette import MIXED, PLAIN, packed, unpacked
from codec.errors import StreamError

compiled = pytest.mark.skipif(
    not native.instruction_sets(), reason="an encoder without the compiled module doesn't mix"
)


def plain(n: int, alpha: bytes = b"") -> bytes:
    """The metadata of one palette of n colours that rise."""
    ramp = np.stack([np.arange(n), 2 * np.arange(n) % 256, 255 - np.arange(n)], 1).astype(np.uint8)
    return b"\0\0\0\1\x08" + bytes([n - 1]) + len(alpha).to_bytes(2, "big") + ramp.tobytes() + alpha


@compiled
@pytest.mark.parametrize(("n", "alpha"), [(256, b""), (200, b"\0\x80\xff"), (64, b"")])
def test_colours_come_back_in_fewer_bytes(n: int, alpha: bytes) -> None:
    given = {PLAIN: plain(n, alpha), "names": "a"}
    made = packed(given)
    assert PLAIN not in made
    assert len(made[MIXED]) < len(given[PLAIN]) / 2
    assert unpacked(made) == given


def test_what_is_not_one_palette_stays() -> None:
    for detail in ({}, {PLAIN: plain(2)}, {PLAIN: b"\0\0\0\2" + plain(256)[4:]}, {PLAIN: plain(256)[:300]}):
        assert packed(detail) == unpacked(detail) == detail


@compiled
def test_damage_is_an_error() -> None:
    mixed = packed({PLAIN: plain(256)})[MIXED]
    broken = (b"", mixed[:10], mixed[:8] + b"\x09" + mixed[9:], mixed[:9] + b"\xff\xff" + mixed[11:], mixed[:14])
    for data in broken:
        with pytest.raises(StreamError):
            unpacked({MIXED: data})
    with pytest.raises(StreamError):
        unpacked({MIXED: mixed, PLAIN: plain(256)})
