"""The .splat files of antimatter15: every byte comes back, and values are as its viewer takes them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media.gaussians import splat
from codec.media.gaussians.exact import sigmoid
from codec.media.gaussians.forms import check, gaussians_of
from codec.media.gaussians.values import DC, Gaussians

from .making import scene


def test_every_byte_comes_back() -> None:
    """Also of floats that are no numbers."""
    data = np.random.default_rng(0).integers(0, 256, 32 * 5000, np.uint8).tobytes()
    table, notes = splat.read(data)
    check(table)
    assert splat.write(table) == data and not notes
    gaussians_of(table)


def test_values() -> None:
    data = struct.pack("<6f8B", 1.5, -2.0, 0.25, 0.5, 1.0, 2.0, 255, 0, 128, 204, 228, 128, 0, 128)
    data += struct.pack("<6f8B", 0, 0, 0, 0.0, -1.0, float("nan"), 0, 0, 0, 0, 128, 128, 128, 128)
    g = gaussians_of(splat.read(data)[0])
    assert g.positions[0].tolist() == [1.5, -2.0, 0.25]
    assert g.scales[0] == pytest.approx([-0.6931472, 0, 0.6931472])
    assert g.harmonics[0, 0] * DC + 0.5 == pytest.approx([1, 0, 128 / 255], abs=1e-6)
    assert sigmoid(g.opacities[:1])[0] == pytest.approx(204 / 255)
    length = (100**2 + 128**2) ** 0.5
    assert g.rotations[0] == pytest.approx([100 / length, 0, -128 / length, 0])
    assert np.isfinite(g.scales[1]).all() and (g.scales[1] < -87).all()
    assert g.rotations[1].tolist() == [1, 0, 0, 0]


def test_quantise() -> None:
    g = scene(200, 2)
    back = gaussians_of(splat.quantise(g))
    assert np.array_equal(back.positions, g.positions)
    assert np.abs(back.scales - g.scales).max() < 1e-6
    assert back.degree == 0
    inside = np.abs(g.harmonics[:, 0] * DC) < 0.5
    assert np.abs(back.harmonics[:, 0] - g.harmonics[:, 0])[inside].max() * DC <= 0.5 / 255 + 1e-6
    assert np.abs(sigmoid(back.opacities) - sigmoid(g.opacities)).max() <= 0.5 / 255 + 1e-6
    unit = g.rotations / np.linalg.norm(g.rotations, axis=1, keepdims=True)
    assert np.abs(back.rotations - unit).max() < 0.02


def test_quantise_what_is_not_finite() -> None:
    g = scene(4, 0)
    scales, rotations = np.full_like(g.scales, np.nan), np.zeros_like(g.rotations)
    table = splat.quantise(Gaussians(g.positions, scales, rotations, np.full(4, np.inf, np.float32), g.harmonics))
    check(table)
    assert gaussians_of(table).rotations[0].tolist() == [1, 0, 0, 0]
    assert (table.column("opacity").values == 255).all()


def test_lengths() -> None:
    for n_bytes in (31, 33, 65):
        with pytest.raises(MediaError, match="multiple of 32"):
            splat.read(bytes(n_bytes))
    with pytest.raises(MediaError, match="no Gaussians"):
        splat.read(b"")


def test_plausible() -> None:
    data = splat.write(splat.quantise(scene(9, 0)))
    assert splat.is_plausible(data)
    assert not splat.is_plausible(b"") and not splat.is_plausible(data[:-1]) and not splat.is_plausible(b"a" * 32 * 9)
