"""The encoder's transforms without torch against those of torch, however a picture is cut into bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec import native
from codec.codecs.layers.exact_state import export_state
from codec.codecs.layers.frozen import FrozenState
from codec.codecs.layers.row_layers import RowLayer
from codec.codecs.layers.tiles import mirrored_pixels
from codec.codecs.s2lic import forward
from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.forward import Forward
from codec.codecs.s2lic.network import S2licNet

CONFIG = S2licConfig(
    latent=48,
    slices=(8, 16, 24),
    hyper=8,
    features=16,
    analysis_width=(16, 20, 24),
    analysis_blocks=(2, 1, 1),
    synthesis_width=(8, 8, 8),
    synthesis_blocks=(1, 1, 1),
    heads=2,
    context=8,
    hidden=16,
    refine=8,
    knots=3,
)
ENGINES = [None, *native.instruction_sets()]
STEP = 77


@pytest.fixture(params=ENGINES, ids=lambda name: name or "numpy")
def engine(request: pytest.FixtureRequest) -> Iterator[str | None]:
    threads = native.threads()
    with native.using(request.param):
        yield request.param
    native.set_threads(threads)


def network(config: S2licConfig) -> tuple[S2licNet, Forward]:
    """A network in which every parameter matters, and the same one without torch."""
    torch.manual_seed(0)
    net = S2licNet(config)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("analysis") and parameter.ndim > 1 and not name.endswith("values"):
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape) * (1.0 if fan == 1 else fan**-0.5))
            elif name.startswith(("analysis", "gain")):
                parameter.copy_(0.3 * torch.randn(parameter.shape))
    state = {name: value.numpy() for name, value in export_state(net, torch.float32).items()}
    return net.eval(), Forward(FrozenState(state), asdict(config))


@torch.inference_mode()
def oracle(net: S2licNet, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The latents (h, w, M) and hyper latents (N, hz, wz) of a picture, whole and by torch, in float64."""
    net = net.double()
    cells = [-(-side // 16) for side in pixels.shape[:2]]
    padded = [range(-(-n // 8) * 8) for n in cells]
    full = pixels[mirrored_pixels(padded[0], pixels.shape[0])][:, mirrored_pixels(padded[1], pixels.shape[1])]
    x = torch.from_numpy(full.transpose(2, 0, 1).astype(np.float64) / np.iinfo(pixels.dtype).max)[None]
    t = torch.tensor([STEP / net.config.quality_steps], dtype=torch.float64)
    y = net.latents(x, t, (16 * cells[0], 16 * cells[1]))
    z = net.hyper_analysis(F.pad(y, (0, -cells[1] % 4, 0, -cells[0] % 4)))
    return y[0].permute(1, 2, 0).numpy(), z[0].numpy()


def picture(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    noise = np.random.default_rng(height).integers(0, np.iinfo(dtype).max + 1, (height, width, 3))
    ramp = np.linspace(0, np.iinfo(dtype).max, width)[None, :, None]
    return (0.3 * noise + 0.7 * ramp).astype(dtype)


@pytest.mark.parametrize(
    ("height", "width", "dtype"), [(1, 1, np.uint8), (129, 300, np.uint8), (400, 140, np.uint16), (16, 144, np.uint8)]
)
def test_torch_says_the_same(
    engine: str | None, height: int, width: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "BAND", 1)  # a row of windows at a time
    net, without_torch = network(CONFIG)
    pixels = picture(height, width, dtype)
    y, z = oracle(net, pixels)
    ours = without_torch.latents(pixels, STEP)
    assert ours.dtype == np.float32 and ours.shape == y.shape and np.std(y) > 0.3
    assert np.abs(ours - y).max() < 1e-4 * np.abs(y).max()
    hyper = without_torch.hyper_latents(y.astype(np.float32))
    assert hyper.shape == z.shape and np.abs(hyper - z).max() < 1e-4 * np.abs(z).max()


def test_networks_without_some_parts() -> None:
    config = replace(CONFIG, attention=0, analysis_blocks=(0, 2, 0))
    net, without_torch = network(config)
    pixels = picture(150, 90)
    y, _ = oracle(net, pixels)
    assert np.abs(without_torch.latents(pixels, STEP) - y).max() < 1e-4 * np.abs(y).max()


@pytest.mark.parametrize("engine", native.instruction_sets(), indirect=True)
def test_bands_and_threads_make_no_difference(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, without_torch = network(CONFIG)
    pixels = picture(500, 140)
    expected = without_torch.latents(pixels, STEP)
    hyper = without_torch.hyper_latents(expected)
    for threads in (1, 2, 3):
        native.set_threads(threads)
        for band in (1, 3 * 16 * 8):
            monkeypatch.setattr(forward, "BAND", band)
            assert np.array_equal(without_torch.latents(pixels, STEP), expected), (threads, band)
        assert np.array_equal(hyper, without_torch.hyper_latents(expected))


def test_memory_does_not_grow_with_the_height(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "BAND", 1)
    _, without_torch = network(CONFIG)
    rows: dict[int, int] = {}
    room = RowLayer.room

    def counted(layer: RowLayer, first: int, stop: int) -> None:
        room(layer, first, stop)
        rows[id(layer)] = max(rows.get(id(layer), 0), len(layer.memory))

    monkeypatch.setattr(RowLayer, "room", counted)
    without_torch.latents(picture(1500, 20), STEP)
    assert len(rows) > 8 and max(rows.values()) < 100  # of 384 at a quarter of the resolution
