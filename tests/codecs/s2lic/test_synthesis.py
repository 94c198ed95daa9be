"""The synthesis by rows in integers: the pixels of torch, on every instruction set, however much is begun in a turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from codec import Codec, native
from codec.codecs.base.weights import LoadedWeights, load_weights
from codec.codecs.layers import exact_synthesis
from codec.codecs.layers.frozen import FrozenState
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.network import S2licNet
from codec.codecs.s2lic.synthesis import Synthesis

CONFIG = S2licConfig()


@pytest.fixture(scope="module")
def weights() -> LoadedWeights:
    return load_weights("s2lic", None)


@pytest.fixture(scope="module")
def net() -> S2licNet:
    codec = Codec.load("s2lic")
    assert isinstance(codec, S2licCodec) and isinstance(codec.model.net, S2licNet)
    return codec.model.net


def latents(h: int, w: int, spread: float) -> np.ndarray:
    draw = np.random.default_rng(0)
    return np.rint(draw.laplace(0, spread, (h, w, CONFIG.latent))).astype(np.int32)


def by_torch(net: S2licNet, y_hat: np.ndarray, step: int, height: int, width: int, dtype: Any) -> np.ndarray:
    largest = float(np.iinfo(dtype).max)
    with torch.inference_mode():
        x = net.pixels(torch.from_numpy(y_hat.transpose(2, 0, 1)[None] / 16), step)[0, :, :height, :width]
        return torch.floor(x * largest + 0.5).clamp_(0, largest).permute(1, 2, 0).numpy().astype(dtype)


@pytest.mark.parametrize("name", [None, *native.instruction_sets()])
@pytest.mark.parametrize(
    ("height", "width", "dtype", "spread"),
    [(1, 1, np.uint8, 5), (17, 33, np.uint16, 5), (40, 21, np.uint8, 1e5)],  # the last: beyond every grid
)
def test_the_pixels_of_torch(
    name: str | None, height: int, width: int, dtype: Any, spread: float, weights: LoadedWeights, net: S2licNet
) -> None:
    y_hat = latents(-(-height // 16), -(-width // 16), spread)
    with native.using(name):
        ours = Synthesis(FrozenState(weights.arrays), CONFIG)
        for step in (0, 137, CONFIG.quality_steps)[: 3 if name else 1]:  # NumPy takes its time
            out = ours.pixels(y_hat, step, height, width, dtype)
            assert np.array_equal(out, by_torch(net, y_hat, step, height, width, dtype))
            assert out.std() > 0 or out.size == 3


@pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
@pytest.mark.parametrize("turn", [1, 30, 100])
def test_rows_that_are_begun_together_change_nothing(
    turn: int, weights: LoadedWeights, net: S2licNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    y_hat = latents(23, 6, 5)
    monkeypatch.setattr(exact_synthesis, "TURN", turn)
    parts: list[float] = []
    out = Synthesis(FrozenState(weights.arrays), CONFIG).pixels(y_hat, 200, 360, 90, np.uint8, parts.append)
    assert np.array_equal(out, by_torch(net, y_hat, 200, 360, 90, np.uint8))
    assert parts == sorted(parts) and parts[-1] == 1 and (len(parts) >= 3 or turn == 100)


def test_memory_grows_with_the_width_only(weights: LoadedWeights) -> None:
    """Of a picture four times as high no window has more rows."""
    if not native.instruction_sets():
        pytest.skip("this install has no compiled module")
    ours = Synthesis(FrozenState(weights.arrays), CONFIG)
    sizes = []
    for h in (40, 160):
        out = np.empty((16 * h, 16 * 40, 3), np.uint8)
        chain = ours.chain(np.zeros((h, 40, CONFIG.latent), np.int16), 100, out)
        chain.run()
        sizes.append(sum(window._room.nbytes for window in chain._windows))
    assert sizes[1] < 1.05 * sizes[0]
