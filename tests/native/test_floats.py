"""Kernels in float32 against float64: every shape of layer, every cut into bands, any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from codec import native
from codec.native import floats
from codec.native.floats import Activation, Attention, Conv, Packet, gelu, norm, unshuffle
from codec.native.grids import Rows

ENGINES = [None, *native.instruction_sets()]
# kernel, stride, channels in and out, height, width: parts of vectors and of blocks, pictures of one cell
LAYERS = [
    (1, 1, 5, 6, 3, 4),
    (1, 1, 300, 50, 1, 1),
    (1, 2, 16, 16, 7, 5),
    (3, 1, 16, 16, 1, 1),
    (3, 1, 16, 17, 5, 3),
    (3, 1, 50, 48, 13, 19),
    (3, 1, 33, 112, 8, 30),
    (3, 1, 3, 5, 6, 1),
    (3, 2, 20, 33, 9, 11),
    (3, 2, 1, 1, 1, 2),
    (5, 2, 24, 8, 12, 9),
    (7, 1, 2, 70, 4, 9),
]


@pytest.fixture(params=ENGINES, ids=lambda name: name or "numpy")
def engine(request: pytest.FixtureRequest) -> Iterator[str | None]:
    threads = native.threads()
    with native.using(request.param):
        yield request.param
    native.set_threads(threads)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


def whole(x: np.ndarray) -> Rows:
    return Rows(x, 0, len(x))


def convolved(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """The convolution in float64, from its definition."""
    reach = weight.shape[2] // 2
    padded = np.pad(x.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)))
    views: Any = np.lib.stride_tricks.sliding_window_view  # its type knows one axis only
    windows = views(padded, weight.shape[2:], axis=(0, 1))[::stride, ::stride]
    return np.einsum("hwcij,ocij->hwo", windows, weight.astype(np.float64))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_convolutions(engine: str | None, layer: tuple[int, ...]) -> None:
    kernel, stride, inner, outer, height, width = layer
    x, weight, bias = draw(height, width, inner), draw(outer, inner, kernel, kernel), draw(outer)
    conv = Conv(weight, bias, stride)
    expected = convolved(x, weight, stride) + bias
    out = Rows(np.full(expected.shape, np.nan, np.float32), 0, len(expected))
    conv.rows(whole(x), 0, out.height, out)
    tolerance = (1e-5 if conv.tile == 1 else 4e-5) * np.sqrt(inner) * kernel  # Winograd's tiles round more
    assert np.abs(out.array - expected).max() < tolerance

    gain, residual = draw(outer, seed=1), draw(*expected.shape, seed=2)
    leaky = np.where(expected > 0, expected, expected / 8) * gain + residual
    added = whole(residual.copy())
    conv.rows(whole(x), 0, out.height, added, act="leaky", gain=gain, residual=added)  # in place
    assert np.abs(added.array - leaky).max() < 4 * tolerance


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_bands_and_threads_make_no_difference(engine: str | None, layer: tuple[int, ...]) -> None:
    if engine is None:
        pytest.skip("BLAS may round as it likes")
    kernel, stride, inner, outer, height, width = layer
    x, conv = draw(height, width, inner), Conv(draw(outer, inner, kernel, kernel), draw(outer), stride)
    expected = Rows.empty(conv.height(height), conv.height(width), outer, np.float32)
    conv.rows(whole(x), 0, expected.height, expected)
    for threads in (1, 2, 3):
        native.set_threads(threads)
        for step in (1, 2, 5):
            for top in range(0, expected.height, step):
                bottom = min(expected.height, top + step)
                first, stop = conv.seen(top, bottom, height)
                out = Rows(np.empty((bottom - top, *expected.array.shape[1:]), np.float32), top, expected.height)
                conv.rows(Rows(x[first:stop].copy(), first, height), top, bottom, out)
                assert np.array_equal(out.array, expected.cut(top, bottom)), (threads, step, top)


def test_large_and_small_numbers(engine: str | None) -> None:
    x, weight = draw(9, 9, 32) * np.float32(1e15), draw(32, 32, 3, 3) * np.float32(1e-15)
    out = Rows.empty(9, 9, 32, np.float32)
    Conv(weight).rows(whole(x), 0, 9, out)
    assert np.abs(out.array - convolved(x, weight, 1)).max() < 1e-3
    x[4, 4, 7] = np.nan
    Conv(weight).rows(whole(x), 0, 9, out)  # spoils its tile, and nothing else
    assert np.isnan(out.array[3:6, 3:6]).all()
    assert np.isfinite(out.array[:, 8:]).all()


def test_activations(engine: str | None) -> None:
    import torch

    x = np.concatenate([np.linspace(-20, 20, 4001), [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30]]).astype(np.float32)
    acts: dict[Activation, np.ndarray] = {
        "none": x.astype(np.float64),
        "leaky": np.where(x > 0, x, x / 8.0),
        "gelu": torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy(),
    }
    for act, expected in acts.items():
        out = Rows.empty(1, len(x), 1, np.float32)
        Conv(np.ones((1, 1))).rows(whole(x[None, :, None]), 0, 1, out, act=act)
        assert np.allclose(out.array[0, :, 0], expected, rtol=3e-7, atol=3e-6), act
    assert np.allclose(gelu(x), acts["gelu"], rtol=3e-7, atol=3e-6)


@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (5, 16), (70, 37), (33, 256)])
def test_norm(engine: str | None, rows: int, channels: int) -> None:
    import torch

    x, weight, bias, residual = draw(rows, channels) + 3, draw(channels), draw(channels, seed=1), draw(rows, channels)
    wide = [torch.from_numpy(part).double() for part in (x, weight, bias, residual)]
    expected = wide[3] + torch.nn.functional.layer_norm(wide[0], (channels,), wide[1], wide[2])
    norm(x, weight, bias, residual, residual)
    assert np.abs(residual - expected.numpy()).max() < 3e-5


def attended(qkv: np.ndarray, scale: np.ndarray, bias: np.ndarray, window: int, shift: int) -> np.ndarray:
    """The attention in float64, a query at a time."""
    height, width, _ = qkv.shape
    heads = len(scale)
    q, k, v = (part.reshape(height, width, heads, -1) for part in np.split(qkv.astype(np.float64), 3, -1))
    q, k = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (q, k))
    out = np.empty_like(v)
    for y in range(height):
        for x in range(width):
            top, left = (((place + shift) // window) * window - shift for place in (y, x))
            keys = [
                (a, b)
                for a in range(max(0, top), min(height, top + window))
                for b in range(max(0, left), min(width, left + window))
            ]
            own = (y - top) * window + x - left
            places = [(a - top) * window + b - left for a, b in keys]
            ys, xs = zip(*keys, strict=True)
            for head in range(heads):
                scores = scale[head] * (k[ys, xs, head] @ q[y, x, head]) + bias[head, own, places]
                weights = np.exp(scores - scores.max())
                out[y, x, head] = weights @ v[ys, xs, head] / weights.sum()
    return out.reshape(height, width, -1)


@pytest.mark.parametrize(
    ("window", "shift", "heads", "depth", "height", "width"),
    [(8, 0, 2, 16, 8, 16), (8, 4, 3, 20, 16, 24), (4, 2, 2, 5, 9, 7), (2, 1, 1, 1, 1, 1), (8, 4, 1, 32, 5, 3)],
)
def test_attention(
    engine: str | None, window: int, shift: int, heads: int, depth: int, height: int, width: int
) -> None:
    qkv = draw(height, width, 3 * heads * depth)
    scale, bias = np.full(heads, 10, np.float32), 4 * draw(heads, window**2, window**2)
    expected = attended(qkv, scale, bias, window, shift)
    layer, out = Attention(scale, bias, window, shift), Rows.empty(height, width, heads * depth, np.float32)
    windows = -(-(height + shift) // window)
    for threads in (1, 3):
        native.set_threads(threads)
        out.array[:] = np.nan
        for row in range(windows):
            layer.rows(whole(qkv), row, row + 1, out)
        assert np.abs(out.array - expected).max() < 3e-5


@pytest.mark.parametrize("boundary", ["symmetric", "periodization"])
@pytest.mark.parametrize(
    ("levels", "channels", "size", "kept"),
    [(1, 1, (1, 1), (2, 2)), (2, 5, (9, 3), (33, 9)), (3, 3, (4, 30), (32, 240)), (4, 3, (11, 5), (170, 70))],
)
def test_packets(
    engine: str | None, boundary: Any, levels: int, channels: int, size: tuple[int, int], kept: tuple[int, int]
) -> None:
    import torch

    from codec.codecs.layers.wavelet import analysis

    cell = 1 << levels
    packet = Packet(levels, channels, boundary)
    for dtype in (np.uint8, np.uint16, np.float32):
        pixels = (np.random.default_rng(0).random((*kept, channels)) * 255).astype(dtype)
        full = np.pad(pixels, [(0, size[i] * cell - kept[i]) for i in (0, 1)] + [(0, 0)], mode="symmetric")
        x = torch.from_numpy(full.astype(np.float64).transpose(2, 0, 1)[None]) / 255 - 0.5
        expected = analysis(x, levels, boundary)[0].permute(1, 2, 0).numpy()
        out = Rows(np.full((*size, channels * cell**2), np.nan, np.float32), 0, size[0])
        for top in range(0, size[0], 3):
            packet.rows(pixels, top, min(size[0], top + 3), size, out, 1 / 255, -0.5)
        assert np.abs(out.array[..., packet.order()] - expected).max() < 1e-5


def test_unshuffled_pixels(engine: str | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 7, 3)).astype(np.uint8)
    full = np.pad(pixels, [(0, 2), (0, 9), (0, 0)], mode="symmetric")
    cells = full.reshape(3, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(3, 4, 48)
    out = Rows.empty(3, 4, 48, np.float32)
    unshuffle(pixels, 4, 0, 2, out, 2.0, -1.0)
    unshuffle(pixels, 4, 2, 3, out, 2.0, -1.0)
    assert np.array_equal(out.array, cells * 2.0 - 1.0)


def test_wrong_calls_are_refused() -> None:
    conv, x, out = Conv(draw(16, 16, 3, 3)), whole(draw(8, 8, 16)), Rows.empty(8, 8, 16, np.float32)
    for call in (
        lambda: conv.rows(x, 0, 9, out),
        lambda: conv.rows(x, -1, 3, out),
        lambda: conv.rows(Rows(x.array[2:], 2, 8), 0, 4, out),
        lambda: conv.rows(whole(x.array.astype(np.float64)), 0, 4, out),
        lambda: conv.rows(whole(x.array[:, ::2]), 0, 4, out),
        lambda: conv.rows(x, 0, 8, Rows(out.array[:4], 0, 8)),
        lambda: conv.rows(x, 0, 8, out, gain=draw(15)),
        lambda: conv.rows(x, 0, 8, out, residual=Rows(out.array[:7], 0, 8)),
        lambda: Attention(draw(2), draw(2, 16, 16), 4, 4),
        lambda: Attention(draw(2), draw(2, 16, 16), 4, 0).rows(x, 0, 2, out),
        lambda: Attention(draw(2), draw(2, 16, 16), 4, 0).rows(whole(draw(8, 8, 48)), 0, 3, out),
        lambda: norm(draw(3, 4), draw(5), draw(4), draw(3, 4), draw(3, 4)),
        lambda: unshuffle(np.zeros((4, 4, 3), np.int64), 4, 0, 1, Rows.empty(1, 1, 48, np.float32), 1.0, 0.0),
        lambda: Packet(1, 3, "symmetric").rows(
            np.zeros((2, 2, 3), np.uint8), 0, 2, (1, 1), Rows.empty(1, 1, 12, np.float32), 1.0, 0.0
        ),
    ):
        with pytest.raises(AssertionError):
            call()
    for shape, stride in (((3, 3, 2, 2), 1), ((3, 3, 3, 1), 1), ((3, 3, 3, 3), 3), ((0, 3, 3, 3), 1)):
        with pytest.raises(ValueError, match="kernel"):
            Conv(np.zeros(shape), None, stride)


def test_weights_begin_on_a_cache_line() -> None:
    assert Conv(draw(20, 16, 3, 3)).packed[0].ctypes.data % 64 == 0
    assert floats.empty(3, 5).shape == (3, 5)
