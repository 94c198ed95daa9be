"""VQGAN without torch: the pixels of torch on every instruction set, and nearly its indices, however rows are cut."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from codec import native
from codec.codecs.layers import exact_synthesis, tiles
from codec.codecs.vqgan import engine as engine_module
from codec.codecs.vqgan.config import VqganConfig
from codec.codecs.vqgan.engine import Engine
from codec.codecs.vqgan.network import VqganNet
from codec.codecs.vqgan.oracle import Oracle
from codec.codecs.vqgan.torch_model import build_network, exported

from .nets import TINY, random_net

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
SIZES = [(1, 1, np.uint8), (17, 33, np.uint16), (150, 70, np.uint8)]


def arrays_of(net: VqganNet) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in exported(net).items()}


@pytest.fixture(scope="module")
def tiny() -> tuple[dict[str, np.ndarray], Oracle]:
    arrays = arrays_of(random_net())
    return arrays, Oracle(build_network(TINY, arrays, "cpu"), "cpu")


def index_map(h: int, w: int, size: int) -> np.ndarray:
    return np.random.default_rng(h + w).integers(0, size, (h, w)).astype(np.int32)


def cells(side: int) -> int:
    return -(-side // 16)


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize(("height", "width", "dtype"), SIZES)
def test_the_pixels_of_torch(
    name: str | None, height: int, width: int, dtype: Any, tiny: tuple[dict[str, np.ndarray], Oracle]
) -> None:
    arrays, oracle = tiny
    with native.using(name):
        ours = Engine(arrays, TINY)
        for size in TINY.codebooks:
            indices = index_map(cells(height), cells(width), size)
            out = ours.pixels(indices, size, height, width, dtype)
            assert np.array_equal(out, oracle.pixels(indices, size, height, width, dtype))
            assert out.std() > 0 or out.size == 3


@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, blocks=0, head_blocks=0, synthesis_blocks=(0, 0, 0), codebooks=(2,)),
        replace(TINY, step=0, knots=2, latent=80, width=24, dim=3),
    ],
)
def test_other_sizes(config: VqganConfig) -> None:
    net = random_net(config)
    arrays = arrays_of(net)
    oracle, ours = Oracle(build_network(config, arrays, "cpu"), "cpu"), Engine(arrays, config)
    indices = index_map(3, 4, config.codebooks[0])
    expected = oracle.pixels(indices, config.codebooks[0], 40, 61, np.uint8)
    assert np.array_equal(ours.pixels(indices, config.codebooks[0], 40, 61, np.uint8), expected)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)
    assert ours.indices(pixels, config.codebooks[0]).shape == (3, 4)


@compiled
def test_the_pixels_of_torch_at_full_size() -> None:
    config = VqganConfig()
    arrays = arrays_of(random_net(config))
    oracle, ours = Oracle(build_network(config, arrays, "cpu"), "cpu"), Engine(arrays, config)
    for size in (8, 2048):
        indices = index_map(5, 4, size)
        assert np.array_equal(
            ours.pixels(indices, size, 77, 60, np.uint8), oracle.pixels(indices, size, 77, 60, np.uint8)
        )


def test_codewords_and_grids_of_other_exponents(tiny: tuple[dict[str, np.ndarray], Oracle]) -> None:
    """Latents on a grid that isn't the synthesis' are put on that one; words as large as the grid are words."""
    arrays = dict(tiny[0])
    for name, change in (("latents", -2), ("synthesis.enter.input", -1), ("levels.8.post.input", 3)):
        arrays[f"{name}.exponent"] = arrays[f"{name}.exponent"] + np.int8(change)
    words = arrays["levels.8.codebook"].copy()
    words[0], words[1] = 32767, -32767
    arrays["levels.8.codebook"] = words
    indices = index_map(4, 5, 8)
    expected = Oracle(build_network(TINY, arrays, "cpu"), "cpu").pixels(indices, 8, 60, 80, np.uint8)
    assert np.array_equal(Engine(arrays, TINY).pixels(indices, 8, 60, 80, np.uint8), expected)
    assert not np.array_equal(tiny[1].pixels(indices, 8, 60, 80, np.uint8), expected)


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
def test_the_stream_is_summed_in_float64(
    name: str | None, tiny: tuple[dict[str, np.ndarray], Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just below half a unit of the stream is nothing; float32 can't hold that beside a large value and adds one."""
    arrays = dict(tiny[0])
    for block in (f"stage.{k}" for k in range(TINY.blocks)):
        unit = int(arrays[f"{block}.stream.exponent"]) - int(arrays[f"{block}.second.input.exponent"])
        for part, value in (("weight", 0), ("bias", 511), ("weight_exponent", unit + 10)):
            arrays[f"{block}.second.layer.{part}"] = np.full_like(arrays[f"{block}.second.layer.{part}"], value)
    oracle, indices = Oracle(build_network(TINY, arrays, "cpu"), "cpu"), index_map(9, 8, 64)
    expected = oracle.pixels(indices, 64, 144, 128, np.uint16)
    with native.using(name):
        ours = Engine(arrays, TINY)
        assert np.array_equal(ours.pixels(indices, 64, 144, 128, np.uint16), expected)
        narrow = exact_synthesis.Stages.stage

        def stage(self: Any, blocks: Any, *args: Any, wide: bool = False) -> Any:
            return narrow(self, blocks, *args, wide=wide and blocks is not ours._decoder.stage)

        monkeypatch.setattr(exact_synthesis.Stages, "stage", stage)
        assert not np.array_equal(ours.pixels(indices, 64, 144, 128, np.uint16), expected), "the test shows nothing"


@compiled
@pytest.mark.parametrize("turn", [1, 20])
def test_rows_that_are_begun_together_change_nothing(
    turn: int, tiny: tuple[dict[str, np.ndarray], Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, oracle = tiny
    indices = index_map(40, 6, 64)
    expected = oracle.pixels(indices, 64, 633, 90, np.uint8)
    monkeypatch.setattr(engine_module, "TURN", turn)
    assert np.array_equal(Engine(arrays, TINY).pixels(indices, 64, 633, 90, np.uint8), expected)
    monkeypatch.setattr(tiles, "TILE", 9)
    assert np.array_equal(oracle.pixels(indices, 64, 633, 90, np.uint8), expected), "a halo is too small"


@compiled
@pytest.mark.parametrize("stripe", [1, 5, 16])
def test_stripes_change_nothing(
    stripe: int, tiny: tuple[dict[str, np.ndarray], Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, told = Engine(tiny[0], TINY), []
    indices = index_map(5, 33, 16)
    whole = ours.pixels(indices, 16, 75, 520, np.uint8)
    monkeypatch.setattr(engine_module, "STRIPE", stripe)
    monkeypatch.setattr(engine_module, "tell", lambda part, what: told.append(part))
    assert np.array_equal(ours.pixels(indices, 16, 75, 520, np.uint8), whole)
    assert told == sorted(told) and told[-1] == pytest.approx(1), "progress of all stripes"


def test_memory_of_wide_pictures_is_bounded(tiny: tuple[dict[str, np.ndarray], Oracle]) -> None:
    """Beside the picture itself, whatever its width."""
    ours, peaks = Engine(tiny[0], TINY), []
    for cells in (engine_module.STRIPE, 8 * engine_module.STRIPE):
        indices = np.zeros((1, cells), np.int32)
        ours.pixels(indices[:, :10], 8, 1, 160, np.uint8)  # loaded
        tracemalloc.start()
        picture = ours.pixels(indices, 8, 1, 16 * cells, np.uint8)
        peaks.append(tracemalloc.get_traced_memory()[1] - picture.nbytes)
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_memory_grows_with_the_width_only(tiny: tuple[dict[str, np.ndarray], Oracle]) -> None:
    ours, sizes = Engine(tiny[0], TINY), []
    for h in (60, 240):
        chain = ours._decoder.chain(index_map(h, 40, 8), 8, np.empty((16 * h, 640, 3), np.uint8))
        chain.run()
        sizes.append(sum(window._room.nbytes for window in chain._windows))
    assert sizes[1] < 1.05 * sizes[0] and exact_synthesis.TURN < 60 * 40


# ---- the encoder


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize(("height", "width", "dtype"), SIZES)
def test_the_indices_of_torch(
    name: str | None, height: int, width: int, dtype: Any, tiny: tuple[dict[str, np.ndarray], Oracle]
) -> None:
    arrays, oracle = tiny
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(dtype)
    pixels = pixels if dtype == np.uint8 else pixels * np.uint16(257)
    with native.using(name):
        for size in TINY.codebooks:
            ours, theirs = Engine(arrays, TINY).indices(pixels, size), oracle.indices(pixels, size)
            assert ours.shape == (cells(height), cells(width)) and 0 <= ours.min() <= ours.max() < size
            assert (ours != theirs).mean() <= 0.02 and (len(np.unique(ours)) > 2 or ours.size < 10)


@compiled
def test_bands_change_no_index(tiny: tuple[dict[str, np.ndarray], Oracle], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (300, 50, 3), np.uint8)
    ours = Engine(tiny[0], TINY)
    expected = ours.indices(pixels, 64)
    for band, scores in ((1, 1), (30, 200)):
        monkeypatch.setattr(engine_module, "BAND", band)
        monkeypatch.setattr(engine_module, "SCORES", scores)
        assert np.array_equal(ours.indices(pixels, 64), expected)
    with torch.inference_mode():
        x = torch.from_numpy(pixels[:288, :48].transpose(2, 0, 1).copy()).float()[None] / 255
        direct = tiny[1].net.indices(x, 64)[0].numpy()
    monkeypatch.setattr(tiles, "TILE", 7)
    assert (tiny[1].indices(pixels[:288, :48], 64) != direct).mean() < 0.02, "a halo is too small"
