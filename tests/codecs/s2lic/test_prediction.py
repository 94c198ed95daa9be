"""The networks in front of the entropy coder in integers: equal to torch's, with and without the compiled module."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codec import native
from codec.codecs.layers.frozen import FrozenState
from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.prediction import Prediction

torch = pytest.importorskip("torch")

CONFIG = S2licConfig(
    latent=51,
    slices=(3, 16, 32),
    hyper=7,
    features=17,
    analysis_width=(8, 8, 16),
    analysis_blocks=(1, 1, 1),
    synthesis_width=(8, 8, 8),
    synthesis_blocks=(1, 1, 1),
    heads=2,
    context=9,
    hidden=20,
    refine=8,
    knots=3,
)
SHIPPED = Path(__file__).resolve().parents[3] / "weights" / "s2lic-small.safetensors"


def made(config: S2licConfig) -> tuple[object, FrozenState]:
    """A frozen network of random weights, and the arrays of its file."""
    from codec.codecs.layers.exact_state import export_state, import_state
    from codec.codecs.s2lic.network import S2licNet
    from codec.entropy.exact import FixedPoint, set_mode

    torch.manual_seed(1)
    net = S2licNet(config)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith(("slices", "hyper_synthesis")):
                parameter.normal_(0, 0.2)
            elif "values" in name:
                parameter.normal_(1, 1)
    for i, part in enumerate(net.modules()):
        if isinstance(part, FixedPoint):
            part.calibrate(3.0 * (1 + i % 7))
    set_mode(net, "twin")
    state = export_state(net)
    import_state(net, state)  # what float16 rounded
    net.requires_grad_(False).freeze()
    return net, FrozenState({name: tensor.numpy() for name, tensor in state.items()})


@pytest.fixture(scope="module")
def shipped() -> FrozenState:
    from codec.codecs.base.weights import load_tensors

    return FrozenState(load_tensors(SHIPPED).arrays)


def symbols_of(draw: np.random.Generator, shape: tuple[int, ...], largest: int) -> np.ndarray:
    """Few symbols are large: a Laplace density."""
    return np.clip(np.round(draw.laplace(0, largest / 8, shape)), -largest, largest).astype(np.int32)


def compare(net: object, prediction: Prediction, height: int, width: int, step: int, largest: int) -> np.ndarray:
    """Asserts that all parameters and latents are torch's, whatever the symbols; returns the latents."""
    draw = np.random.default_rng(height * 100 + width)
    config = prediction.config
    z = symbols_of(draw, (config.hyper, -(-height // 4), -(-width // 4)), 40)
    mean, row = prediction.z_parameters(step)
    with torch.inference_mode():
        for ours, theirs in zip((mean, row), net.z_parameters(step), strict=True):  # type: ignore[attr-defined]
            assert np.array_equal(ours, theirs.numpy())
    z_hat = z + mean[:, None, None]
    log: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def oracle(mean, row, channels, cells):
        symbols = symbols_of(draw, tuple(row.shape), largest)
        log.append((mean.numpy() * 16, row.numpy(), symbols))
        return torch.from_numpy(symbols) + mean

    with torch.inference_mode():
        expected = net.predict(torch.from_numpy(z_hat)[None], height, width, step, oracle)  # type: ignore[attr-defined]
    calls = iter(log)

    def take(mean: np.ndarray, row: np.ndarray, channels: slice, cells: np.ndarray) -> np.ndarray:
        their_mean, their_row, symbols = next(calls)
        assert np.array_equal(mean, their_mean)
        assert np.array_equal(row, their_row)
        assert len(row) == channels.stop - channels.start and row.shape[1] == len(cells)
        return symbols

    y = prediction.predict(z_hat, height, width, step, take)
    assert next(calls, None) is None
    assert np.array_equal(y, expected[0].permute(1, 2, 0).numpy() * 16)
    return y


ENGINES = [None, *native.instruction_sets()]
CHANGES: list[dict[str, object]] = [
    {},
    {"passes": 1},
    {"anchor_context": "none"},
    {"refine": 0},
    {"slices": (51,)},
]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("change", CHANGES)
def test_any_network_gives_what_torch_gives(name: str | None, change: dict[str, object]) -> None:
    config = replace(CONFIG, **change)
    net, state = made(config)
    with native.using(name):
        prediction = Prediction(state, config)
        for height, width in ((1, 1), (1, 2), (9, 4), (6, 7)):
            assert compare(net, prediction, height, width, 40, 100).dtype == np.int16


@pytest.mark.parametrize("name", ENGINES)
def test_latents_beyond_16_bits_are_what_torch_gives(name: str | None) -> None:
    net, state = made(CONFIG)
    with native.using(name):
        y = compare(net, Prediction(state, CONFIG), 4, 5, 128, 1 << 14)
    assert y.dtype == np.int32 and y.max() > 40000


@pytest.mark.parametrize("name", ENGINES)
def test_a_large_picture_saves_memory_not_values(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from codec.codecs.s2lic import prediction as module

    net, state = made(CONFIG)
    monkeypatch.setattr(module, "_MANY", 1)
    with native.using(name):
        compare(net, Prediction(state, CONFIG), 5, 6, 17, 50)


@pytest.mark.parametrize("name", ENGINES)
def test_shipped_weights_give_what_torch_gives(name: str | None, shipped: FrozenState) -> None:
    from codec.codecs.layers.exact_state import import_state
    from codec.codecs.s2lic.network import S2licNet

    config = S2licConfig()
    net = S2licNet(config)
    mine = {key: torch.from_numpy(np.array(value)) for key, value in shipped.arrays.items() if "_tables." not in key}
    import_state(net, mine)
    net.requires_grad_(False).freeze()
    with native.using(name):
        prediction = Prediction(shipped, config)
        for step, largest in ((0, 3), (320, 200)):
            compare(net, prediction, 3, 10, step, largest)


def test_what_take_gives_is_checked(shipped: FrozenState) -> None:
    prediction = Prediction(shipped, S2licConfig())
    z = np.zeros((96, 1, 1))
    wrong: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda row: np.full(row.shape, 1 << 25, np.int32),
        lambda row: np.full(row.shape, -(2**31), np.int32),
        lambda row: np.zeros(row.shape[::-1], np.int32),
        lambda row: np.zeros(row.shape, np.int64),
    ]
    for give in wrong:
        with pytest.raises(AssertionError):
            prediction.predict(z, 2, 3, 0, lambda mean, row, channels, cells: give(row))  # noqa: B023
    with pytest.raises(AssertionError):
        prediction.predict(z, 5, 3, 0, lambda mean, row, channels, cells: np.zeros(row.shape, np.int32))


def test_values_that_no_stream_holds_are_cut_off(shipped: FrozenState) -> None:
    """Hyper latents of a damaged file may be anything."""
    prediction = Prediction(shipped, S2licConfig())
    for value in (1e300, -1e300, 32768.0, -16384.0):
        y = prediction.predict(
            np.full((96, 1, 1), value), 2, 3, 9, lambda mean, row, channels, cells: np.full(row.shape, -16384, np.int32)
        )
        assert y.dtype == np.int32


@pytest.mark.parametrize("name", ["slices.1.channels.input", "slices.2.grid", "slices.0.anchor.input"])
def test_grids_of_latents_in_other_units_are_refused(name: str) -> None:
    _, state = made(CONFIG)
    arrays = dict(state.arrays)
    arrays[f"{name}.exponent"] = np.array(5, np.int8)
    with pytest.raises(ValueError, match="units"):
        Prediction(FrozenState(arrays), CONFIG)


def test_prediction_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import codec.codecs.s2lic.prediction"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
