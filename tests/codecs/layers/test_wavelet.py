"""Wavelet packets against plain filtering with the published taps, whatever the size and however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codec.codecs.layers import wavelet
from codec.codecs.layers.wavelet import analysis, blocks_to_channels, channels_to_blocks, synthesis
from codec.codecs.layers.wavelet_plans import CHUNK, Boundary, analysis_matrix, synthesis_matrix

# CDF 9/7, centre outwards; PyWavelets' `bior4.4`, to the ten digits that are printed
LOW = (0.8526986790, 0.3774028556, -0.1106244044, -0.0238494650, 0.0378284555)
HIGH = (-0.7884856164, 0.4180922732, 0.0406894176, -0.0645388826)
SYNTHESIS_LOW = (0.7884856164, 0.4180922732, -0.0406894176, -0.0645388826)
SYNTHESIS_HIGH = (-0.8526986790, 0.3774028556, 0.1106244044, -0.0238494650, -0.0378284555)
BOUNDARIES: tuple[Boundary, ...] = ("symmetric", "periodization")


def symmetric(taps: tuple[float, ...]) -> np.ndarray:
    return np.array([*taps[:0:-1], *taps])


def filtered(x: np.ndarray, boundary: Boundary) -> tuple[np.ndarray, np.ndarray]:
    """One level along axis 0 by convolution: low-pass at even samples, high-pass at odd ones."""
    mode = "reflect" if boundary == "symmetric" else "wrap"
    padded = np.pad(x, [(4, 4)] + [(0, 0)] * (x.ndim - 1), mode=mode)  # type: ignore[call-overload]
    n = len(x)
    low = sum(tap * padded[i : i + n] for i, tap in enumerate(symmetric(LOW)))
    high = sum(tap * padded[i + 1 : i + 1 + n] for i, tap in enumerate(symmetric(HIGH)))
    return np.asarray(low)[0::2], np.asarray(high)[1::2]


def filtered_packets(picture: np.ndarray, levels: int, boundary: Boundary) -> np.ndarray:
    """(C, H, W) -> (C 4**J, h, w): every band split in four, again and again; the latest split counts fastest."""
    bands = list(picture)
    for _ in range(levels):
        split = []
        for band in bands:
            for vertical in filtered(band, boundary):
                split += [half.T for half in filtered(vertical.T, boundary)]
        bands = split
    return np.stack(bands)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_taps(boundary: Boundary) -> None:
    matrix = analysis_matrix(64, 1, boundary)
    assert matrix[32, 28:37] == pytest.approx(symmetric(LOW), abs=1e-10)
    assert matrix[33, 30:37] == pytest.approx(symmetric(HIGH), abs=1e-10)
    assert np.count_nonzero(np.abs(matrix[32]) > 1e-12) == 9
    assert np.count_nonzero(np.abs(matrix[33]) > 1e-12) == 7
    matrix = synthesis_matrix(64, 1, boundary)
    assert matrix[29:36, 32] == pytest.approx(symmetric(SYNTHESIS_LOW), abs=1e-10)
    assert matrix[29:38, 33] == pytest.approx(symmetric(SYNTHESIS_HIGH), abs=1e-10)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("levels", "height", "width"), [(1, 8, 12), (2, 36, 20), (3, 8, 88), (3, 40, 16), (4, 48, 32)])
def test_against_filtering(boundary: Boundary, levels: int, height: int, width: int) -> None:
    picture = np.random.default_rng(levels).normal(size=(3, height, width))
    coefficients = analysis(torch.from_numpy(picture)[None], levels, boundary)[0].numpy()
    assert coefficients.shape == (3 * 4**levels, height >> levels, width >> levels)
    assert np.abs(coefficients - filtered_packets(picture, levels, boundary)).max() < 1e-8  # ten digits, J times


def sizes(levels: int) -> list[int]:
    """Multiples of 2**J from the smallest, and around every length at which the cutting changes."""
    unit, reach = 2**levels, 4 * 2**levels
    turns = [2 * (CHUNK + reach), 2 * CHUNK + reach, 3 * CHUNK + reach, 4 * CHUNK]
    around = {turn + k * unit for turn in turns for k in (-1, 0, 1, 2)}
    return sorted({unit, 2 * unit, 3 * unit, 5 * unit, 7 * CHUNK + unit, 512, *around})


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("levels", [3, 4])
class TestEverySize:
    def test_perfect_reconstruction(self, levels: int, boundary: Boundary) -> None:
        torch.manual_seed(0)
        for n in sizes(levels):
            for shape in ((n, 2**levels), (3 * 2**levels, n)):
                x = torch.rand(2, 3, *shape) - 0.5
                y = analysis(x, levels, boundary)
                assert y.shape == (2, 3 * 4**levels, shape[0] >> levels, shape[1] >> levels)
                assert y.dtype == torch.float32
                assert float((synthesis(y, levels, boundary) - x).abs().max()) < 1e-5, shape

    def test_chunks_are_the_whole_matrix(self, levels: int, boundary: Boundary) -> None:
        for n in sizes(levels):
            unit = torch.eye(n, dtype=torch.float64)
            for inverse, matrix in ((False, analysis_matrix), (True, synthesis_matrix)):
                plan = wavelet.transform_plan(n, levels, boundary, inverse, None)
                assert plan.chunks[0].out.start == 0
                assert [c.out.start for c in plan.chunks][1:] == [c.out.stop for c in plan.chunks][:-1]
                assert plan.chunks[-1].out.stop == n
                whole = torch.from_numpy(matrix(n, levels, boundary).copy())
                down = wavelet.apply_plan(unit[None], -2, plan)[0]
                across = wavelet.apply_plan(unit[None], -1, plan)[0]
                assert float((down - whole).abs().max()) < 1e-13, n
                assert float((across - whole.mT).abs().max()) < 1e-13, n

    def test_integer_matrices(self, levels: int, boundary: Boundary) -> None:
        n = 5 * 2**levels
        (chunk,) = wavelet.transform_plan(n, levels, boundary, True, 24).chunks
        assert torch.equal(chunk.matrix, chunk.matrix.round())
        exact = torch.from_numpy(synthesis_matrix(n, levels, boundary).copy()) * 2.0**24
        assert float((chunk.matrix - exact).abs().max()) <= 0.5

    def test_gain(self, levels: int, boundary: Boundary) -> None:
        """sqrt(2) per level and direction for a flat picture; nothing in the other bands, at borders either."""
        side = 6 * 2**levels
        flat = torch.full((1, 1, side, side), 0.5, dtype=torch.float64)
        y = analysis(flat, levels, boundary)
        assert float((y[:, 0] - 0.5 * 2**levels).abs().max()) < 1e-9
        assert float(y[:, 1:].abs().max()) < 1e-9

    def test_matrices_are_inverse(self, levels: int, boundary: Boundary) -> None:
        for n in (2**levels, 7 * 2**levels):
            product = synthesis_matrix(n, levels, boundary) @ analysis_matrix(n, levels, boundary)
            assert np.abs(product - np.eye(n)).max() < 1e-12


def test_symmetric_borders_do_not_wrap() -> None:
    """A ramp is smooth at a reflected border, and a cliff at a wrapped one."""
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).expand(1, 1, 64, 64)
    energy = {b: float(analysis(ramp, 3, b)[:, 1:].square().sum()) for b in BOUNDARIES}
    assert energy["symmetric"] < 0.05 * energy["periodization"]


def test_order_of_channels() -> None:
    """channel = (c * 4 + b1) * 4 + b2; b = 2 * vertical high-pass + horizontal high-pass."""
    stripes = torch.tensor([0.5, -0.5]).repeat(32)
    rows, columns = stripes[:, None].expand(64, 64), stripes[None].expand(64, 64)
    flat = torch.full((64, 64), 0.5)
    picture = torch.stack([rows, columns, flat])[None]
    y = analysis(picture, 1, "periodization")[0].square().sum((1, 2))
    assert [int(part.argmax()) for part in y.split(4)] == [2, 1, 0]
    # Split again, what was a fine stripe is flat: the second digit is low-pass.
    y = analysis(picture, 2, "periodization")[0].square().sum((1, 2))
    assert [int(part.argmax()) for part in y.split(16)] == [8, 4, 0]


def test_blocks_and_channels() -> None:
    """A block's row has the bits of the vertical bands, first level first; its column those of the horizontal ones."""
    levels, h, w = 3, 2, 3
    y = torch.arange(2 * 64 * h * w).reshape(1, 2 * 64, h, w)
    x = channels_to_blocks(y, levels)
    assert x.shape == (1, 2, 16, 24)
    for c, digits, i, j in ((0, (0, 0, 1), 0, 0), (1, (2, 1, 3), 1, 2), (1, (3, 0, 2), 0, 1)):
        row = sum((digit >> 1) << 2 - level for level, digit in enumerate(digits))
        column = sum((digit & 1) << 2 - level for level, digit in enumerate(digits))
        channel = c * 64 + digits[0] * 16 + digits[1] * 4 + digits[2]
        assert x[0, c, 8 * i + row, 8 * j + column] == y[0, channel, i, j]
    assert torch.equal(blocks_to_channels(x, levels), y)
    z = torch.rand(2, 3, 32, 16)
    assert torch.equal(channels_to_blocks(blocks_to_channels(z, 4), 4), z)
