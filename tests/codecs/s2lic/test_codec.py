"""S2LIC on a tiny seeded model: exact decoding, tiles, causality, rates, damage."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.codecs.base.weights import load_tensors
from codec.codecs.layers import tiles
from codec.codecs.layers.quality_gains import Gain, Knots, exp2_table
from codec.codecs.layers.tiles import mirrored_pixels
from codec.codecs.s2lic import oracle
from codec.codecs.s2lic import weights as s2lic_weights
from codec.codecs.s2lic.codec import S2licCodec, open_streams
from codec.codecs.s2lic.config import S2licConfig
from codec.codecs.s2lic.layers import checkerboard, rate_weight
from codec.codecs.s2lic.network import S2licNet, Slice, in_strips, initialise
from codec.container import Chunk, pack, unpack
from codec.entropy.exact import FixedPoint, set_mode
from codec.errors import CodecError, StreamError, UsageError, WeightsError

CONFIG = S2licConfig(
    latent=48,
    slices=(8, 16, 24),
    hyper=8,
    features=16,
    analysis_width=(8, 8, 16),
    analysis_blocks=(1, 1, 1),
    synthesis_width=(8, 8, 8),
    synthesis_blocks=(1, 1, 1),
    heads=2,
    context=8,
    hidden=16,
    refine=8,
    knots=3,
)
ABOUT = {
    "licence": "MIT",
    "training_data": "one photo",
    "recipe": "none",
    "steps": 0,
    "seconds": 0,
    "device": "CPU",
    "commit": "",
    "metrics": {},
}


@dataclass(frozen=True)
class Tiny:
    """codec: loaded from the exported file. float_net: the same network before it was made exact."""

    codec: S2licCodec
    float_net: S2licNet
    weights: Path


def crops(photo: np.ndarray, count: int, size: int = 128) -> Tensor:
    rng = np.random.default_rng(0)
    corners = [(rng.integers(photo.shape[0] - size), rng.integers(photo.shape[1] - size)) for _ in range(count)]
    stack = np.stack([photo[y : y + size, x : x + size] for y, x in corners]).transpose(0, 3, 1, 2)
    return torch.from_numpy(stack.copy()).float() / 255


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, photo: np.ndarray) -> Tiny:
    from codec.train.s2lic.task import S2licRecipe, S2licTask  # imports Lightning: seconds

    torch.manual_seed(0)
    task = S2licTask(CONFIG, S2licRecipe(steps=1, decay_from=1, hard_from=1), "tiny")
    net = task.ema
    assert isinstance(net, S2licNet)
    pictures = crops(photo, 24)
    initialise(net, pictures)
    with torch.no_grad():  # everything that starts at zero does something
        for name, parameter in net.named_parameters():
            if name.endswith(("second.weight", "second.layer.conv.weight", "leave.layer.conv.weight")):
                parameter.normal_(0, 0.005)  # more of it, and its noise hides what the quality does
            elif name.endswith(("first2.layer.conv.weight", "second2.layer.conv.weight", "refine3.layer.conv.weight")):
                parameter.normal_(0, 0.02)
            elif "gain" in name and name.startswith(("analysis", "synthesis")):
                parameter.normal_(0, 0.2)
    net.train()
    with torch.no_grad():
        net(pictures, torch.linspace(0, 1, len(pictures)))  # shows the quantisers the range of their values
    net.eval()
    path = task.export(tmp_path_factory.mktemp("weights"), ABOUT)
    return Tiny(S2licCodec.from_weights(None, None, path, "cpu"), net, path)


def decode_latents(codec: S2licCodec, data: bytes) -> np.ndarray:
    return codec.read_latents(*unpack(data))


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of torch, which are cut into tiles."""
    monkeypatch.setenv("CODEC_ENGINE", "torch")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(max(1e-12, float(np.mean((a.astype(float) - b) ** 2)) / 255**2))


# ---- files


@pytest.mark.parametrize("engine", ["", "torch"])
def test_decoder_sees_what_the_encoder_saw(
    tiny: Tiny, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("CODEC_ENGINE", engine)
    seen: list[np.ndarray] = []
    networks: Any = tiny.codec.networks
    predict = networks.predict

    def spy(*args: Any) -> Any:
        out = predict(*args)
        seen.append(networks.integers(out))
        return out

    monkeypatch.setattr(networks, "predict", spy)
    pixels = photo[40:240, 100:350]
    data = tiny.codec.compress(pixels, quality=60)
    out = tiny.codec.decompress(data)
    assert len(seen) == 2
    assert np.array_equal(seen[0], seen[1])
    assert out.shape == pixels.shape
    assert psnr(out, pixels) > 26


def test_exact_codec_is_close_to_the_float_network(tiny: Tiny, photo: np.ndarray) -> None:
    pixels = np.ascontiguousarray(photo[:256, :384])
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    for quality in (10, 90):
        step = tiny.codec.step_of(quality)
        with torch.inference_mode():
            out = tiny.float_net(x, torch.tensor([step / CONFIG.quality_steps]), True)
        expected = (out.x_hat[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        data = tiny.codec.compress(pixels, quality)
        assert psnr(tiny.codec.decompress(data), expected) > 38
        bits = float(out.y_bits + out.z_bits)
        # what is left out because it is almost surely zero is what an untrained model is most wrong about
        assert 0.8 * bits < 8 * len(data) < 1.03 * bits + 8 * 80


def test_file_is_as_long_as_its_symbols_cost(tiny: Tiny, photo: np.ndarray) -> None:
    model, pixels = tiny.codec.model, np.ascontiguousarray(photo[:256, :384])
    for quality in (1, 50, 100):
        z_part, y_parts = tiny.codec.symbols(pixels, tiny.codec.step_of(quality))
        bits = model.z_tables.bits(*z_part) + sum(model.y_tables.bits(*part) for part in y_parts)
        assert len(y_parts) == 2 * len(CONFIG.slices)
        assert bits < 8 * len(tiny.codec.compress(pixels, quality)) < 1.005 * bits + 8 * 90


def test_quality_is_a_ladder(tiny: Tiny, photo: np.ndarray) -> None:
    pixels = photo[:192, :192]
    files = [tiny.codec.compress(pixels, quality) for quality in (1, 25, 50, 75, 100)]
    sizes = [len(data) for data in files]
    quality = [psnr(tiny.codec.decompress(data), pixels) for data in files]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]
    assert quality == sorted(quality)
    assert tiny.codec.compress(pixels) == files[2]
    for wrong in (0, 101, float("nan")):
        with pytest.raises(UsageError, match="1 to 100|a finite number"):
            tiny.codec.compress(pixels, wrong)


@pytest.mark.parametrize("shape", [(1, 1), (15, 17), (65, 130), (16, 700)])
def test_any_size(tiny: Tiny, photo: np.ndarray, shape: tuple[int, int]) -> None:
    row, column = (np.arange(n) % 500 for n in shape)
    pixels = photo[row][:, column]
    out = tiny.codec.decompress(tiny.codec.compress(pixels, 80))
    assert out.shape == pixels.shape
    assert psnr(out, pixels) > 20


def test_sixteen_bits(tiny: Tiny, photo: np.ndarray) -> None:
    pixels = photo[:64, :64].astype(np.uint16) * 257
    out = tiny.codec.decompress(tiny.codec.compress(pixels, 80))
    assert out.dtype == np.uint16
    assert psnr(out / 257, pixels / 257) > 25


# ---- tiles


@pytest.mark.usefixtures("by_torch")
def test_decoding_in_tiles_changes_nothing(tiny: Tiny, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photo[:500, :560]
    data = tiny.codec.compress(pixels, 70)
    whole = tiny.codec.decompress(data)
    monkeypatch.setattr(tiles, "TILE", 8)
    assert len(tiles.spans(32)) == 4
    assert np.array_equal(tiny.codec.decompress(data), whole)


@pytest.mark.usefixtures("by_torch")
def test_the_halo_is_no_larger_than_needed(tiny: Tiny, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with a narrow halo it does."""
    data = tiny.codec.compress(photo[:500, :560], 70)
    whole = tiny.codec.decompress(data)
    monkeypatch.setattr(tiles, "TILE", 8)
    monkeypatch.setattr(S2licConfig, "synthesis_halo", 3)
    assert not np.array_equal(tiny.codec.decompress(data), whole)


@pytest.mark.usefixtures("by_torch")
def test_encoding_in_tiles_costs_nothing(tiny: Tiny, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photo[:512, :512]
    data = tiny.codec.compress(pixels, 70)
    whole = psnr(tiny.codec.decompress(data), pixels)
    monkeypatch.setattr(tiles, "TILE", 8)
    assert len(tiles.around(range(8), 32, oracle._HALO_ANALYSIS)) < 32, (
        "a tile that sees the whole picture cuts nothing"
    )
    again = tiny.codec.compress(pixels, 70)
    assert abs(psnr(tiny.codec.decompress(again), pixels) - whole) < 0.05
    assert abs(len(again) - len(data)) < 0.01 * len(data)
    latents = tiny.codec.latents(pixels, 70)
    monkeypatch.setattr(oracle, "_HALO_ANALYSIS", 0)
    assert not np.allclose(tiny.codec.latents(pixels, 70), latents, atol=0.01)


def test_tiles_cover_everything_once() -> None:
    for size in (1, 47, 48, 49, 72, 73, 200):
        spans = tiles.spans(size)
        assert [cell for span in spans for cell in span] == list(range(size))
        assert all(len(span) <= 72 for span in spans)


def test_strips_change_nothing(tiny: Tiny) -> None:
    part = tiny.codec.model.net.slices[1]
    assert isinstance(part, Slice)
    assert part.anchor is not None
    x = torch.round(8 * torch.randn(1, part.size, 37, 11, dtype=torch.float64)) / 16
    with torch.inference_mode():
        assert torch.equal(in_strips(part.anchor, [x], 2, cells=55), part.anchor(x))
        assert not torch.equal(in_strips(part.anchor, [x], 1, cells=55), part.anchor(x))


# ---- causality


@pytest.mark.parametrize(("passes", "anchor_context"), [(1, "masked_conv"), (2, "none"), (2, "masked_conv")])
def test_passes_look_back_only(passes: int, anchor_context: str) -> None:
    """Changing the values of a pass changes the parameters of later passes only, and the second pass sees the first
    one if it is meant to."""
    from dataclasses import replace

    torch.manual_seed(1)
    net = S2licNet(replace(CONFIG, passes=passes, anchor_context=anchor_context))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("slices"):
                parameter.normal_(0, 0.05)
    for part in net.modules():
        if isinstance(part, FixedPoint):
            part.calibrate(8.0)
    set_mode(net, "twin")
    net.requires_grad_(False).freeze()

    def run(changed: int) -> list[Tensor]:
        asked: list[Tensor] = []

        def take(mean: Tensor, row: Tensor, channels: slice, cells: Tensor) -> Tensor:
            asked.append(torch.cat([mean, row.double()]))
            return mean + (3.0 if len(asked) - 1 == changed else 1.0)

        z = torch.zeros(1, CONFIG.hyper, 2, 2, dtype=torch.float64)
        with torch.inference_mode():
            net.predict(z, 8, 8, 40, take)
        return asked

    reference = run(-1)
    assert len(reference) == passes * len(CONFIG.slices)
    for changed in range(len(reference)):
        different = [not torch.equal(a, b) for a, b in zip(run(changed), reference, strict=True)]
        assert not any(different[: changed + 1])
        later = different[changed + 1 :]
        first_of_two = passes == 2 and changed % 2 == 0
        if first_of_two:
            assert later[0] == (anchor_context == "masked_conv")
        assert all(later[1:] if first_of_two else later)


def test_checkerboard() -> None:
    board = checkerboard(3, 4)
    assert board[0].tolist() == [False, True, False, True]
    assert board[1].tolist() == [True, False, True, False]


# ---- what depends on the quality


def test_knots_are_the_same_in_both_arithmetics() -> None:
    knots = Knots(4, 5)
    torch.nn.init.normal_(knots.values, 0, 3)
    last = 64 * 3
    for step in (0, 1, 63, 64, 100, 191, last):
        exact = knots.exactly(step)
        assert torch.allclose(exact.float(), knots.at(torch.tensor([step / last])), atol=1e-3)
        assert torch.equal(exact * 2**16, torch.round(exact * 2**16))


def test_exact_gains() -> None:
    gain = Gain(3, 7)
    torch.nn.init.normal_(gain.values, 0, 2)
    factor = gain.factor(77)
    assert torch.allclose(factor, torch.exp2(gain.exactly(77)), rtol=2e-5)
    # no entry of the table is so close to a tie that another library's exp2 could round it to the other side
    true = torch.exp2(torch.arange(1 << 16, dtype=torch.float64) / (1 << 16)) * 2**16
    assert float((true - torch.floor(true) - 0.5).abs().min()) > 1e-7
    assert torch.equal(exp2_table() * 2**16, torch.round(exp2_table() * 2**16))


def test_rate_weight_is_a_geometric_scale() -> None:
    weights = [rate_weight(t) for t in (0, 0.5, 1)]
    assert weights[1] ** 2 == pytest.approx(weights[0] * weights[2])


# ---- training path


def test_start_is_a_transform_codec(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    net = S2licNet(CONFIG)
    pictures = crops(photo, 12)
    start = initialise(net, pictures)
    net.eval()
    with torch.no_grad():
        out = net(pictures, torch.ones(len(pictures)), True)
    mse = (out.x_hat - pictures).square().mean((1, 2, 3))
    assert abs(float((-10 * torch.log10(mse)).mean()) - start["psnr"]) < 1.5


def test_every_parameter_learns(photo: np.ndarray) -> None:
    torch.manual_seed(0)
    net = S2licNet(CONFIG)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.abs().any():
                parameter.normal_(0, 0.02)
    for hard in (False, True):
        net.zero_grad()
        out = net(crops(photo, 2), torch.tensor([0.2, 0.9]), hard)
        (out.x_hat.square().sum() + out.y_bits.sum() + out.z_bits.sum()).backward()
        idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()]
        # a range of the quality that no sample was in
        assert not [name for name in idle if not name.endswith("values")], hard


# ---- damage and settings


def test_damaged_payloads(tiny: Tiny, photo: np.ndarray) -> None:
    header, chunks = unpack(tiny.codec.compress(photo[:64, :64], 50))
    payload = chunks[0].payload
    for bad in (b"", b"\xff" * 20, b"\x80" * 4, payload[:1], payload[: len(payload) // 2], payload + b"\0" * 8):
        with pytest.raises(CodecError):
            tiny.codec.decompress(pack(header, [Chunk(chunks[0].tag, bad)]))
    for bad_chunks in ([], [chunks[0], chunks[0]]):
        with pytest.raises(CodecError):
            tiny.codec.decompress(pack(header, bad_chunks))
    with pytest.raises(StreamError, match="payload"):
        open_streams(tiny.codec.model, b"\xff\xff\xff\xff\xff\x01", "constriction")


@pytest.mark.parametrize("step", [-1, 129, True, 3.0, "1", None])
def test_damaged_quality(tiny: Tiny, photo: np.ndarray, step: object) -> None:
    from dataclasses import replace

    header, chunks = unpack(tiny.codec.compress(photo[:32, :32]))
    params = {**header.params, "q": step} if step is not None else {}
    with pytest.raises(StreamError, match="quality step"):
        tiny.codec.decompress(pack(replace(header, params=params), chunks))


def test_other_coders(tiny: Tiny, photo: np.ndarray) -> None:
    with pytest.raises(UsageError, match="coder"):
        tiny.codec.with_settings(coder="zip")
    other = next(name for name in S2licCodec.coders if name != tiny.codec.coder)
    assert tiny.codec.with_settings(coder=other).coder == other


def test_weights_of_another_network(tiny: Tiny) -> None:
    weights = load_tensors(tiny.weights)
    with pytest.raises(WeightsError, match="S2LIC"):
        s2lic_weights.read_model(type(weights)(weights.arrays, {}, weights.sha256))
    tensors = dict(weights.arrays)
    tensors.pop("analysis.leave.bias")
    with pytest.raises(WeightsError, match="fit"):
        s2lic_weights.read_model(type(weights)(tensors, weights.metadata, weights.sha256))
    tensors.pop("y_tables.counts")
    with pytest.raises(WeightsError, match="y_tables"):
        s2lic_weights.read_model(type(weights)(tensors, weights.metadata, weights.sha256))


def test_mirrored_pixels() -> None:
    assert mirrored_pixels(range(1), 10).tolist() == [*range(10), 9, 8, 7, 6, 5, 4]
    assert mirrored_pixels(range(1), 1).tolist() == [0] * 16
    assert mirrored_pixels(range(1, 2), 100).tolist() == list(range(16, 32))


MEMORY = """
import sys, torch
from codec import Codec
from codec.codecs.layers.inference import own_arithmetic

def resident(name):
    return int(open("/proc/self/status").read().partition(name)[2].split()[0]) * 1024

class Here:
    device = "cpu"

@own_arithmetic
def predict(self, n):
    z = torch.zeros(1, net.config.hyper, n // 4, n // 4, dtype=torch.float64)
    return net.predict(z, n, n, 40, lambda mean, row, channels, cells: mean)

net = Codec.load("s2lic").model.net
with torch.no_grad():
    predict(Here(), 8)
    before = resident("VmRSS:")
    predict(Here(), int(sys.argv[1]))
print(resident("VmHWM:") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process as Linux tells it")
def test_memory_grows_by_less_than_45_bytes_a_pixel() -> None:
    """docs/usage.md tells users what a picture takes."""
    peaks = []
    for cells in (192, 256):
        done = subprocess.run([sys.executable, "-P", "-c", MEMORY, str(cells)], capture_output=True, check=True)
        peaks.append(int(done.stdout))
    assert (peaks[1] - peaks[0]) / ((256**2 - 192**2) * 256) < 45
