"""S2LIC without torch: the same values by every engine, nothing that imports torch, weights that kernels can't hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec import Codec, native
from codec.codecs.base.codec import codec_for
from codec.codecs.base.weights import LoadedWeights, load_weights
from codec.codecs.layers.exact_shapes import check_sums
from codec.codecs.layers.exact_state import export_state
from codec.codecs.layers.quality_gains import Gain, Knots
from codec.codecs.layers.quality_knots import gain_factor, knot_vector
from codec.codecs.s2lic import weights as s2lic_weights
from codec.codecs.s2lic.codec import S2licCodec
from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.engine import Engine
from codec.codecs.s2lic.network import S2licNet
from codec.codecs.s2lic.oracle import Oracle
from codec.codecs.s2lic.shapes import exact_layers, tensor_shapes
from codec.container import read_header
from codec.errors import WeightsError

from ...probes import digest_of_pixels
from .test_codec import CONFIG

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"
ENGINES = ["numpy", *native.instruction_sets()]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The engine in integers, with each instruction set, and without any."""
    monkeypatch.setenv("CODEC_ENGINE", "numpy" if request.param == "numpy" else "native")
    with native.using(None if request.param == "numpy" else request.param):
        yield request.param


@pytest.fixture(scope="module")
def codec() -> S2licCodec:
    loaded = Codec.load("s2lic")
    assert isinstance(loaded, S2licCodec)
    return loaded


def golden(kinds: tuple[str, ...]) -> dict[str, str]:
    entries = json.loads((GOLDEN / "golden.json").read_text())
    return {
        name: entry["pixels"]
        for name, entry in entries.items()
        if entry["codec"] == "s2lic" and name.partition(".")[0].endswith(kinds)
    }


def test_golden_files(engine: str) -> None:
    """The smallest say that it is this engine which gives their pixels; all of them by all engines: test_golden."""
    files = golden(("-dot",))
    assert len(files) >= 2
    for name, digest in files.items():
        data = (GOLDEN / name).read_bytes()
        codec = codec_for(read_header(data))
        assert isinstance(codec, S2licCodec) and isinstance(codec.networks, Engine)
        assert digest_of_pixels(data) == digest


@pytest.mark.parametrize("quality", [1, 60, 100])
def test_both_engines_give_the_same_values(
    codec: S2licCodec, photo: np.ndarray, quality: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each decodes what either encoded; files differ where floats were rounded differently, by next to nothing."""
    pixels = np.ascontiguousarray(photo[90:201, 130:285])
    sizes = []
    for encoder in ("native" if native.instruction_sets() else "numpy", "torch"):
        monkeypatch.setenv("CODEC_ENGINE", encoder)
        assert isinstance(codec.networks, Oracle if encoder == "torch" else Engine)
        data = codec.compress(pixels, quality)
        sizes.append(len(data))
        values = [codec.decompress(data)]
        monkeypatch.setenv("CODEC_ENGINE", "torch" if encoder != "torch" else "")
        values.append(codec.decompress(data))
        assert np.array_equal(*values)
    assert abs(sizes[0] - sizes[1]) <= 0.01 * sizes[1]


FORBIDDEN = """
import sys
sys.modules["torch"] = None  # importing it is an error now
import numpy as np
import codec
from codec import Codec, cli
source, folder = sys.argv[1:]
assert cli.main(["encode", source, "-o", folder + "/a.s2lic", "--quiet"]) == 0
assert cli.main(["decode", folder + "/a.s2lic", "-o", folder + "/a.png", "--quiet"]) == 0
assert cli.main(["verify", folder + "/a.s2lic", "--quiet"]) == 0
with codec.open(folder + "/a.s2lic") as picture, codec.open(folder + "/a.s2lic") as again:
    assert np.array_equal(np.asarray(picture), np.asarray(again))
loaded = Codec.load("s2lic@small-ms-ssim", quality=30)
pixels = np.asarray(picture)[:20, :30]
assert loaded.decompress(loaded.compress(pixels)).shape == pixels.shape
try:
    Codec.load("s2lic").with_settings(effort=1).compress(pixels)
except codec.CodecError as error:
    print(error)
"""


@pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
def test_torch_is_never_imported(photo: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(photo[:40, :50]).save(tmp_path / "in.png")
    words = [sys.executable, "-P", "-c", FORBIDDEN, str(tmp_path / "in.png"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "CODEC_ENGINE": ""}, check=False)
    assert done.returncode == 0, done.stderr
    assert "PyTorch" in done.stdout or "torch" in done.stdout


# ---- weights


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, passes=1),
        replace(CONFIG, refine=0, attention=0, anchor_context="none"),
        replace(CONFIG, synthesis_blocks=(0, 2, 0), analysis_blocks=(0, 0, 3), slices=(48,)),
        replace(CONFIG, latent=80, slices=(80,), knots=2, heads=4),
    ],
)
def test_shapes_are_those_of_the_network(config: S2licConfig) -> None:
    state = export_state(S2licNet(config))
    assert tensor_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_bounds_are_those_of_freeze() -> None:
    """What torch refuses to freeze is refused, too, and nothing else: layer by layer, at the edge."""
    net = S2licNet(CONFIG)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    arrays = {name: tensor.numpy() for name, tensor in export_state(net).items()}
    check_sums(arrays, exact_layers(CONFIG))
    for layer in exact_layers(CONFIG):
        exact: Any = net.get_submodule(f"{layer.name}.layer")
        limit = 2 ** (layer.weight_bits - 1) - 1
        assert (exact._largest_input, exact.weight_bits) == (layer.largest, layer.weight_bits)
        assert limit <= 32767 and 2**layer.carrier == 2 ** {torch.float32: 23, torch.float64: 52}[exact.carrier]
        name = f"{layer.name}.layer.bias"
        check_sums({**arrays, name: arrays[name] + 2**layer.carrier}, exact_layers(CONFIG))
        with pytest.raises(ValueError, match=layer.name):
            check_sums({**arrays, name: arrays[name] + 2**layer.carrier + 1}, exact_layers(CONFIG))


def changed(weights: LoadedWeights, name: str, value: object) -> LoadedWeights:
    array = np.array(weights.arrays[name])
    array.reshape(-1)[0] = value
    return replace(weights, arrays={**weights.arrays, name: array})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slices.0.anchor.input.exponent", 3),  # latents are in units of 2**-4
        ("synthesis.leave.layer.bias", 2**22 + 1 - (1 << 25)),
        ("slices.0.first1.layer.bias", 2**40 + 1),  # 41 bits: as a float32 it is another number
        ("synthesis.up4.layer.weight_exponent", 100),
    ],
)
def test_weights_that_kernels_cant_hold_are_torchs(
    name: str, value: int, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray
) -> None:
    weights = changed(load_weights("s2lic", None), name, value)
    monkeypatch.setattr(s2lic_weights.native, "engine", lambda: "native")
    try:
        model = s2lic_weights.read_model(weights)
    except WeightsError as error:
        assert "can reach" in str(error)
        return
    assert model.engine is None
    pixels = np.ascontiguousarray(photo[:20, :20])
    codec = S2licCodec(model)
    assert codec.decompress(codec.compress(pixels)).shape == pixels.shape
    monkeypatch.setattr(native, "has_torch", lambda: False)
    with pytest.raises(WeightsError, match="need PyTorch"):
        s2lic_weights.read_model(weights)


def test_what_depends_on_the_quality() -> None:
    knots, gain = Knots(4, 5, 8.0), Gain(3, 7)
    for part in (knots, gain):
        torch.nn.init.normal_(part.values, 0, 3)
    for step in (0, 1, 63, 64, 100, 127, 128):
        assert np.array_equal(knot_vector(knots.values.detach().numpy(), step, 8.0), knots.exactly(step).flatten())
        assert np.array_equal(gain_factor(gain.values.detach().numpy(), step), gain.factor(step).flatten())
