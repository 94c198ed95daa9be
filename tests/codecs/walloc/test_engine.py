"""WaLLoC's networks as integers against those of torch: the same rows, latents and pixels; and no torch at all."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec import Codec, native
from codec.codecs.base import weights
from codec.codecs.layers import exact_state
from codec.codecs.layers.lattice_steps import positions_of
from codec.codecs.walloc import config as constants
from codec.codecs.walloc.config import PAPER_CONFIGS, WallocConfig
from codec.codecs.walloc.engine import Engine
from codec.codecs.walloc.network import Compander, WallocNet, expansion_table
from codec.codecs.walloc.torch_networks import TorchNetworks
from codec.codecs.walloc.weights import read_model, tensor_shapes
from codec.errors import WeightsError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("walloc-*.walloc"))
TAGS = ["16x", "4x"]
SETS = [None, *native.instruction_sets()]


@pytest.fixture(params=SETS, ids=str)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    monkeypatch.setenv("CODEC_ENGINE", "numpy" if request.param is None else "native")
    with native.using(request.param):
        yield request.param


# ---- constants


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_compander_s_tables(bits: int) -> None:
    """Python's inverse of the normal distribution and torch's round to the same integers."""
    compander = Compander(bits)
    assert constants.largest_latent(bits) == compander.largest
    assert (constants.compander_scale(bits), constants.compander_limit(bits)) == (compander.scale, compander.limit)
    np.testing.assert_array_equal(constants.expansion_integers(bits) * 2.0**-16, expansion_table(bits).numpy())
    edges = torch.from_numpy(constants.rounding_edges(bits))
    assert float((compander(edges) - torch.arange(-compander.largest, compander.largest) - 0.5).abs().max()) < 1e-12


@pytest.mark.parametrize("bits", range(2, 9))
def test_rounding_is_the_compander_s(bits: int) -> None:
    from codec.codecs.walloc.analysis import _Rounding

    edges, largest = constants.rounding_edges(bits), constants.largest_latent(bits)
    rng = np.random.default_rng(bits)
    v = np.concatenate([rng.normal(0, largest, 20000), edges + 1e-3, edges - 1e-3, [1e30, -1e30, 0]]).astype(np.float32)
    expected = torch.round(Compander(bits)(torch.from_numpy(v).double())).numpy()
    np.testing.assert_array_equal(_Rounding(edges, largest)(v), expected)


# ---- equal to torch


def engine_of(walloc: Any) -> Engine:
    engine = walloc.model.engine
    assert isinstance(engine, Engine)
    return engine


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (9, 120), (106, 8)])
def test_pixels(
    instruction_set: str | None, tag: str, height: int, width: int, tiny: Callable, photo: np.ndarray
) -> None:
    """Of photographs and of noise that no encoder makes, in 8 and 16 bits, at the ends of all gains."""
    del instruction_set
    walloc = tiny(tag).codec
    engine, oracle = engine_of(walloc), TorchNetworks(walloc.model.net)
    h, w = -(-height // 8), -(-width // 8)
    rng = np.random.default_rng(height + width)
    noise = rng.integers(-127, 128, (walloc.model.config.latent, h, w)).astype(np.int16)
    corners = np.where(noise > 0, 127, -127).astype(np.int16)
    real = oracle.latents(photo[:height, :width], 0)
    for gain16, latents, dtype in (
        (0, real, np.dtype(np.uint8)),
        (0, real, np.dtype(np.uint16)),
        (-96, noise, np.dtype(np.uint16)),
        (96, noise, np.dtype(np.uint8)),
        (-96, corners, np.dtype(np.uint8)),
    ):
        ours = engine.pixels(latents, gain16, height, width, dtype)
        np.testing.assert_array_equal(ours, oracle.pixels(latents, gain16, height, width, dtype))


@pytest.mark.parametrize("tag", TAGS)
def test_rows_of_the_context_model(instruction_set: str | None, tag: str, tiny: Callable) -> None:
    del instruction_set
    walloc = tiny(tag).codec
    rng = np.random.default_rng(3)
    for (h, w), gain16 in (((1, 1), 0), ((9, 14), -24), ((5, 3), 96), ((6, 7), -96)):
        values = rng.integers(-127, 128, (walloc.model.config.latent, h * w)).astype(np.int16)
        walks = [kind.walk(h, w, gain16) for kind in (engine_of(walloc), TorchNetworks(walloc.model.net))]
        for index, step in enumerate(walks[0].steps):
            (row, centre), (row2, centre2) = (walk.rows(index) for walk in walks)
            np.testing.assert_array_equal(row, row2)
            np.testing.assert_array_equal(centre, centre2)
            for walk in walks:
                walk.put(index, values[step.start : step.stop, positions_of(step.levels, h, w)])
        for walk in walks:
            np.testing.assert_array_equal(walk.latents().reshape(len(values), -1), values)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_latents_are_torch_s_up_to_rounding(
    instruction_set: str | None, tag: str, dtype: Any, tiny: Callable, photo: np.ndarray
) -> None:
    del instruction_set
    walloc = tiny(tag).codec
    for height, width in ((200, 61), (3, 130), (1, 1)):
        pixels = photo[:height, :width].astype(dtype) * (257 if dtype == np.uint16 else 1)
        for gain16 in (0, -24, 8):
            ours = engine_of(walloc).latents(pixels, gain16)
            theirs = TorchNetworks(walloc.model.net).latents(pixels, gain16)
            assert ours.dtype == theirs.dtype == np.int16
            assert np.abs(ours - theirs).max() <= 1
            assert (ours != theirs).mean() < 1e-3


@pytest.mark.parametrize("tag", TAGS)
def test_the_same_bytes_with_any_number_of_threads(tag: str, tiny: Callable, photo: np.ndarray) -> None:
    if native.library() is None:
        pytest.skip("no compiled module")
    walloc = tiny(tag).codec
    pixels = photo[:203, :310]
    before = native.threads()
    results = []
    try:
        for n in (1, 2, 5):
            native.set_threads(n)
            data = walloc.compress(pixels)
            results.append((data, walloc.decompress(data).tobytes()))
    finally:
        native.set_threads(before)
    assert results[0] == results[1] == results[2]


# ---- which networks are used


def test_the_environment_chooses(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("16x").codec.model
    monkeypatch.setenv("CODEC_ENGINE", "torch")
    assert isinstance(model.networks, TorchNetworks)
    monkeypatch.setenv("CODEC_ENGINE", "numpy")
    assert isinstance(model.networks, Engine)


def test_sums_that_do_not_fit_are_torch_s(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that the kernels can't bound is computed by torch, and refused where there is none."""
    model = tiny("16x").codec.model
    name = "post.phase"
    wider = {key: value for key, value in model.arrays.items() if key != "post.input.exponent"}
    wider["post.input.exponent"] = np.int8(17)
    assert name in wider
    other = dataclasses.replace(model, arrays=wider)
    assert other.engine is None
    monkeypatch.setattr(native, "has_torch", lambda: False)
    with pytest.raises(WeightsError, match="PyTorch"):
        dataclasses.replace(model, arrays=wider).engine


def test_what_the_kernels_do_not_compute(tiny: Callable) -> None:
    model = tiny("16x").codec.model
    for change in ({"boundary": "periodization"}, {"decoder": "paper"}, {"encoder": "full"}):
        with pytest.raises(ValueError, match="only"):
            Engine(model.arrays, dataclasses.replace(model.config, **change))


# ---- weights files without torch


CONFIGS = [
    WallocConfig(latent=12, decoder="small", width=8, blocks=1, groups=(3, 9), boundary="symmetric"),
    WallocConfig(latent=7, decoder="small", width=5, blocks=0, groups=(7,), context_width=3, levels=2),
    WallocConfig(latent=4, decoder="small", width=9, blocks=3, levels=4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_shapes_are_those_of_the_network(config: WallocConfig) -> None:
    """A file that the network would refuse is refused without the network, and the other way round."""
    net = WallocNet(config)
    state = exact_state.export_state(net, torch.float32)
    assert tensor_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_only_the_paper_s_models_need_torch() -> None:
    assert all(config.decoder == "paper" for config in PAPER_CONFIGS.values())


def test_damage_is_the_same_for_either_engine(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = weights.load_tensors(tiny("16x").weights)
    arrays = dict(loaded.arrays)
    first = "post.blocks.0.conv1"
    damaged: list[dict[str, Any]] = [
        {k: v for k, v in arrays.items() if k != "post.phase"},
        {**arrays, "more": np.zeros(1, np.float32)},
        {**arrays, "encoder.bias": np.full_like(arrays["encoder.bias"], np.nan)},
        {**arrays, f"{first}.weight_exponent": np.full(arrays[f"{first}.bias"].shape, 1000, np.int16)},
        {**arrays, f"{first}.bias": np.full(arrays[f"{first}.bias"].shape, 1 << 40)},
        {k: v for k, v in arrays.items() if k != "tables.offset"},
        {k: v for k, v in arrays.items() if not k.startswith("tables.")},
        {**arrays, "tables.counts": arrays["tables.counts"][:-1]},
    ]
    for engine in ("numpy", "torch"):
        monkeypatch.setenv("CODEC_ENGINE", engine)
        read_model(loaded)
        for index, wrong in enumerate(damaged):
            changed = weights.LoadedWeights(wrong, loaded.metadata, loaded.sha256)
            with pytest.raises(WeightsError):  # noqa: PT012  which one
                read_model(changed)
                pytest.fail(f"{engine}: damage {index} wasn't seen")


# ---- without torch

SCRIPT = """
import sys
sys.modules["torch"] = None
import json, numpy as np
import codec
from codec import Codec
pixels = np.load(sys.argv[1])
out = {}
for name in ("walloc@16x", "walloc@4x"):
    walloc = Codec.load(name)
    for coder in ("constriction", "webp"):
        data = walloc.with_settings(coder=coder).compress(pixels)
        back = codec.decode(data)
        out[f"{name} {coder}"] = [len(data), int(np.abs(back.astype(int) - pixels).max()), back.sum().item()]
for path in sys.argv[2:]:
    Codec.load("walloc").verify_file(path)
assert sys.modules["torch"] is None and not any(name.startswith("torch.") for name in sys.modules)
print(json.dumps(out))
"""


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_no_torch_at_all(engine: str, tmp_path: Path, photo: np.ndarray) -> None:
    """Encoding, decoding and checking where torch can't be imported: the pictures that it would give."""
    if engine == "native" and native.library() is None:
        pytest.skip("no compiled module")
    np.save(tmp_path / "x.npy", photo[:40, :56])
    env = {**os.environ, "CODEC_ENGINE": engine, "CODEC_NATIVE": "1" if engine == "native" else "0"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    paths = [str(path) for path in GOLDEN if "torchac" not in path.name]
    command = [sys.executable, "-P", "-c", SCRIPT, str(tmp_path / "x.npy"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    sums = json.loads(done.stdout)
    for name in ("walloc@16x", "walloc@4x"):
        walloc = Codec.load(name)
        for coder in ("constriction", "webp"):
            n_bytes, error, total = sums[f"{name} {coder}"]
            ours = walloc.with_settings(coder=coder).compress(photo[:40, :56])
            assert abs(len(ours) - n_bytes) <= 4
            assert error < 128
            assert abs(int(walloc.decompress(ours).sum()) - total) < 1e-3 * total
