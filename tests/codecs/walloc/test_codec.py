"""WaLLoC: sizes of the paper, companding, exact decoding, three ways to store latents. On tiny models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import codec.codecs.walloc.torch_networks as module
from codec import Codec, Picture, native
from codec.codecs.base import weights
from codec.codecs.walloc import analysis, synthesis
from codec.codecs.walloc.codec import WallocCodec
from codec.codecs.walloc.config import PAPER_CONFIGS, WallocConfig
from codec.codecs.walloc.network import Compander, WallocNet, expansion_table
from codec.codecs.walloc.torch_model import export_state, import_state
from codec.codecs.walloc.torch_networks import TorchNetworks
from codec.codecs.walloc.weights import WallocModel
from codec.codecs.walloc.webp import latents_from_webp, webp_from_latents
from codec.container import Chunk, Header, pack, read_header, unpack
from codec.errors import MediaError, StreamError, UsageError, WeightsError

TAGS = ["16x", "4x"]
CODERS = ["constriction", "torchac", "webp"]


def read_latents(walloc: WallocCodec, data: bytes) -> torch.Tensor:
    header, chunks = unpack(data)
    return as_tensor(walloc._read_latents(header, chunks, *header.shape[:2]))


def as_tensor(latents: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(latents).float()[None]


def as_array(latents: torch.Tensor) -> np.ndarray:
    return latents[0].numpy().astype(np.int64)


def integers_of(walloc: WallocCodec, pixels: np.ndarray, gain16: int) -> torch.Tensor:
    return as_tensor(walloc.model.networks.latents(pixels, gain16))


@pytest.fixture(params=["native", "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine that a test runs with."""
    if request.param == "native" and native.library() is None:
        pytest.skip("no compiled module")
    monkeypatch.setenv("CODEC_ENGINE", request.param)
    return request.param


def changed(data: bytes, **fields: Any) -> bytes:
    """The file with other header fields, and correct CRCs."""
    header, chunks = unpack(data)
    return pack(Header(**{**vars(header), **fields}), chunks)


# ---- sizes


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def on_meta(config: WallocConfig) -> WallocNet:
    with torch.device("meta"):
        return WallocNet(config)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("16x-paper", 56.886),
        ("4x-paper", 57.141),
        ("RGB_Li_16c_J3_nf8", 56.914),
        ("RGB_Li_27c_J3_nf3", 56.993),
        ("RGB_Li_27c_J3_nf6", 56.993),
        ("RGB_Li_48c_J4", 106.16),
        ("RGB_Li_8c_J4", 105.76),
        ("RGB_Li_147c_J4", 107.15),
        ("RGB_243c_J4_full", 114.30),
        ("RGB_147c_J4_full", 195.20),
        ("RGB_48c_J4_full", 251.75),
    ],
)
def test_parameters_of_the_paper(name: str, millions: float) -> None:
    """Counts that the authors' notebooks print."""
    config = PAPER_CONFIGS[name]
    net = on_meta(config)
    # as printed, or as worked out there by hand and cut off after so many digits
    assert abs(parameters(net) / 1e6 - millions) < (1e-3 if millions < 100 else 1e-2)
    d, k, b = config.width, config.latent, config.bands
    decoder = 94 * d**2 + 38 * d + (9 * k * d + d) + (9 * d * b + b)
    assert parameters(net.decoder) == decoder
    if config.encoder == "linear":
        assert parameters(net.encoder) == b * k + k


def test_every_paper_configuration_is_counted() -> None:
    mark = next(m for m in test_parameters_of_the_paper.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == set(PAPER_CONFIGS)


def test_counts_to_the_last_digit() -> None:
    assert parameters(on_meta(PAPER_CONFIGS["RGB_Li_16c_J3_nf8"])) == 56_914_384
    encoders = {"16x-paper": 2316, "4x-paper": 9264, "RGB_Li_48c_J4": 36_912}
    assert {name: parameters(on_meta(PAPER_CONFIGS[name]).encoder) for name in encoders} == encoders


@pytest.mark.parametrize(("tag", "ratio"), [("16x", 16.0), ("4x", 4.0)])
def test_dimension_ratio(tag: str, ratio: float, tiny: Callable, photo: np.ndarray) -> None:
    integers = tiny(tag).codec.latents(photo[:64, :96]).integers
    assert 64 * 96 * 3 / integers.numel() == ratio
    assert PAPER_CONFIGS[f"{tag}-paper"].bands / PAPER_CONFIGS[f"{tag}-paper"].latent == ratio


# ---- companding


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
class TestCompander:
    def test_constants(self, bits: int) -> None:
        compander = Compander(bits)
        expected = {8: (68.649, 127.499), 4: (3.784, 7.499)}.get(bits)
        if expected is not None:
            assert (compander.scale, compander.limit) == pytest.approx(expected, abs=5e-4)
        v = torch.tensor([-1e-3, 1e-3], dtype=torch.float64) * compander.scale
        slope = float((compander(v)[1] - compander(v)[0]) / (v[1] - v[0]))
        assert slope == pytest.approx(2 * compander.limit / (compander.scale * math.sqrt(2 * math.pi)), rel=1e-5)

    def test_monotone_and_bounded(self, bits: int) -> None:
        compander = Compander(bits)
        v = torch.linspace(-5, 5, 4001, dtype=torch.float64) * compander.scale
        u = compander(v)
        assert bool((u.diff() > 0).all())
        assert float(u.abs().max()) < compander.limit
        extremes = torch.round(compander(torch.tensor([-1e30, 1e30])))
        assert extremes.tolist() == [-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1]

    def test_inverse_within_the_clamp(self, bits: int) -> None:
        compander = Compander(bits)
        v = torch.linspace(-3.7, 3.7, 1001, dtype=torch.float64) * compander.scale
        assert torch.allclose(compander.inverse(compander(v)), v, atol=1e-9)
        beyond = compander.inverse(torch.tensor([-1e9, -compander.limit, compander.limit, 1e9]))
        assert bool(torch.isfinite(beyond).all())
        assert float(beyond.abs().max()) == pytest.approx(3.719 * compander.scale, rel=1e-3)
        integers = torch.arange(-compander.largest, compander.largest + 1).double()
        assert torch.equal(torch.round(compander(compander.inverse(integers))), integers)


@pytest.mark.parametrize("bits", sorted({config.latent_bits for config in PAPER_CONFIGS.values()}))
def test_no_constant_is_near_a_rounding_boundary(bits: int) -> None:
    """Tables are computed in float64 where they are used: another machine's last digits must not round another way."""
    compander = Compander(bits)
    integers = torch.arange(-compander.largest, compander.largest + 1, dtype=torch.float64)
    exact = compander.inverse(integers) * 2.0**16
    assert float((exact - torch.floor(exact) - 0.5).abs().min()) > 1e-6
    table = expansion_table(bits)
    assert table.dtype == torch.float64
    assert torch.equal(table * 2.0**16, torch.floor(exact + 0.5))
    assert torch.equal(table, -table.flip(0))
    gains = 2.0 ** (-torch.arange(16, dtype=torch.float64) / 16) * 2.0**16
    assert float((gains - torch.floor(gains) - 0.5).abs().min()) > 1e-6


def test_wavelet_constants_are_not_either() -> None:
    """The matrices of the exact inverse, whole and in their repeating part."""
    for n in (8, 16, 64, 200, 512):
        for chunk in module.transform_plan(n, 3, "symmetric", True, module.SYNTHESIS_BITS).chunks:
            assert float(chunk.matrix.abs().max()) < 2 ** (module.SYNTHESIS_BITS + 3)
    exact = torch.from_numpy(module_synthesis(512)) * 2.0**module.SYNTHESIS_BITS
    assert float((exact - torch.floor(exact) - 0.5).abs().min()) > 1e-6


def module_synthesis(n: int) -> np.ndarray:
    from codec.codecs.layers.wavelet_plans import synthesis_matrix

    return synthesis_matrix(n, 3, "symmetric").copy()


def test_gain_of_expanded_latents(tiny: Callable) -> None:
    net = tiny("16x").codec.model.net
    symbols = torch.arange(-127, 128).float().reshape(1, 1, 1, -1)
    for gain16 in (-96, -24, -1, 0, 5, 16, 96):
        expanded = net.expand_exact(symbols, gain16).flatten()
        expected = net.compander.inverse(symbols.double().flatten()) * 2.0 ** (-gain16 / 16)
        assert float((expanded - expected).abs().max()) < 2e-5 * float(expected.abs().max())
        assert torch.equal(expanded * 2.0**38, torch.round(expanded * 2.0**38))  # on a grid: 16 + 16 + 6 octaves


# ---- encode, file, decode


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("tag", TAGS)
def test_latents_survive_the_file(tag: str, coder: str, tiny: Callable, photo: np.ndarray) -> None:
    """Section 11 (c) of the note on the paper: eval forward is encode, file, decode, to the bit."""
    walloc = tiny(tag).codec.with_settings(coder=coder)
    pixels = photo[100:171, 40:138]
    for quality in (None, walloc.model.quality[0], walloc.model.quality[1]):
        gain16 = walloc.model.gain_of(quality)
        integers = integers_of(walloc, pixels, gain16)
        data = walloc.compress(pixels, quality=quality)
        assert read_header(data).coder == coder
        assert torch.equal(read_latents(walloc, data), integers)
        padded = np.pad(pixels, ((0, -71 % 8), (0, -98 % 8), (0, 0)), mode="symmetric")
        x = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32)) / 255
        with torch.no_grad():
            forward = torch.round(walloc.model.net.latents(x, gain16 / 16))
        # the same formulas, another order of float additions: a value on the edge may fall to the other side
        assert float((forward - integers).abs().max()) <= 1
        assert float((forward != integers).float().mean()) < 1e-3


@pytest.mark.parametrize("tag", TAGS)
def test_coders_decode_to_the_same_pixels(tag: str, tiny: Callable, photo: np.ndarray) -> None:
    pixels = photo[:75, :61]
    files = {coder: tiny(tag).codec.with_settings(coder=coder).compress(pixels) for coder in CODERS}
    pictures = [tiny(tag).codec.decompress(data) for data in files.values()]
    assert len(set(files.values())) == 3
    for picture in pictures:
        assert picture.shape == pixels.shape
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, pictures[0])
    assert 0 <= len(files["torchac"]) - len(files["constriction"]) < 150  # a length for each step


@pytest.mark.parametrize("tag", TAGS)
def test_it_looks_like_the_picture(tag: str, tiny: Callable, photo: np.ndarray) -> None:
    pixels = photo[:200, :200]
    out = tiny(tag).codec.decompress(tiny(tag).codec.compress(pixels))
    psnr = -10 * math.log10(float(np.mean((out.astype(float) - pixels) ** 2)) / 255**2)
    assert psnr > {"16x": 24, "4x": 32}[tag]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("height", "width"), [(64, 88), (200, 56)])
def test_exact_decoding_is_the_float_decoder(
    tag: str, height: int, width: int, tiny: Callable, photo: np.ndarray
) -> None:
    """Integers give the pictures that the network was trained to give."""
    walloc, float_net = tiny(tag).codec, tiny(tag).float_net
    pixels = photo[60 : 60 + height, 60 : 60 + width]
    for gain16 in (0, -19, 5):
        latents = integers_of(walloc, pixels, gain16)
        integers = latents[0].numpy().astype(np.int16)
        exact = walloc.model.networks.pixels(integers, gain16, height, width, np.dtype(np.uint8)).astype(int)
        with torch.no_grad():
            for net, share in ((walloc.model.net, 0.01), (float_net, 0.4)):  # the second: 8-bit activations as well
                x = net.reconstruct(latents, gain16 / 16)[0].clamp(0, 1).permute(1, 2, 0) * 255
                difference = np.abs(exact - torch.round(x).numpy().astype(int))
                assert difference.max() <= (1 if net is walloc.model.net else 3)
                assert (difference > 0).mean() < share


def test_the_post_filter_takes_part(tiny: Callable, photo: np.ndarray) -> None:
    """Otherwise the tests here would hold for the linear map only."""
    walloc = tiny("16x").codec
    latents = integers_of(walloc, photo[:64, :64], 0)
    before = TorchNetworks(walloc.model.net).inverse_wavelet(latents, 0, 0, 64)
    assert float((walloc.model.net.post(before) - before).abs().mean()) > 1 / 255


@pytest.mark.parametrize("tag", TAGS)
def test_strips_make_no_difference(
    tag: str, engine: str, tiny: Callable, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    walloc = tiny(tag).codec
    for pixels in (photo[:331, 50:91], photo[:64, :17], photo[:200, :9]):
        whole = walloc.compress(pixels)
        picture = walloc.decompress(whole)
        for strip, band in ((1, 1), (100 * pixels.shape[1], 3), (130 * (pixels.shape[1] + 8), 100)):
            with monkeypatch.context() as patch:
                for place in (module, analysis):
                    patch.setattr(place, "_STRIP_PIXELS", strip)
                patch.setattr(module, "_TILE_WIDTH", 24)
                patch.setattr(synthesis, "_BAND", band)
                assert walloc.compress(pixels) == whole
                assert np.array_equal(walloc.decompress(whole), picture), (pixels.shape, strip, engine)


def test_any_part_of_the_inverse_wavelet(tiny: Callable, photo: np.ndarray) -> None:
    """Rows that are computed alone are those of the whole picture, also where a piece of the transform begins."""
    walloc = tiny("16x").codec
    latents = integers_of(walloc, photo[:336, :24], 0)
    whole = TorchNetworks(walloc.model.net).inverse_wavelet(latents, 0, 0, 336)
    for start, stop in ((64, 128), (128, 336), (0, 8), (120, 136), (192, 200), (328, 336)):
        assert torch.equal(TorchNetworks(walloc.model.net).inverse_wavelet(latents, 0, start, stop), whole[:, :, start:stop]), (start, stop)


def test_memory_does_not_grow_with_the_picture(
    tiny: Callable, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strips are what the networks see: never more rows than asked for, and what they reach."""
    monkeypatch.setenv("CODEC_ENGINE", "torch")
    walloc = tiny("16x").codec
    rows: list[int] = []
    forward = type(walloc.model.net.post).forward

    def watched(self: Any, x: torch.Tensor) -> torch.Tensor:
        rows.append(x.shape[2])
        return forward(self, x)

    monkeypatch.setattr(type(walloc.model.net.post), "forward", watched)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 64 * 16)
    walloc.decompress(walloc.compress(photo[:400, :16]))
    assert len(rows) == 7
    assert max(rows) <= 64 + 2 * 16


def test_latents_stay_in_range(tiny: Callable) -> None:
    """The loudest picture at the finest step: integers of 8 bits, and they come back."""
    walloc = tiny("16x").codec
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (40, 48, 3), dtype=np.uint8) * 255
    for gain16 in (96, 8, -96):
        latents = integers_of(walloc, noise, gain16)
        assert float(latents.abs().max()) <= 127
        assert torch.equal(latents, torch.round(latents))
        payload = walloc._entropy_encode(as_array(latents), gain16)
        assert torch.equal(as_tensor(walloc._entropy_decode(payload, "constriction", gain16, 5, 6)), latents)
    assert float(integers_of(walloc, noise, 96).abs().max()) == 127


def test_wild_latents(tiny: Callable) -> None:
    """Any integers can be stored by each coder, probable or not."""
    walloc = tiny("16x").codec
    rng = np.random.default_rng(0)
    latents = torch.from_numpy(rng.integers(-127, 128, (1, 12, 5, 7))).float()
    for coder in ("constriction", "torchac"):
        payload = walloc.with_settings(coder=coder)._entropy_encode(as_array(latents), 0)
        assert torch.equal(as_tensor(walloc._entropy_decode(payload, coder, 0, 5, 7)), latents)
    config = walloc.model.config
    payload = webp_from_latents(latents[0].numpy().astype(np.int16), config)
    assert np.array_equal(latents_from_webp(payload, config, 5, 7), latents[0].numpy())


@pytest.mark.parametrize("value", [128, -128, 1 << 30, -(1 << 30)])
@pytest.mark.parametrize("coder", ["constriction", "torchac"])
def test_latents_out_of_range_are_refused(value: int, coder: str, tiny: Callable) -> None:
    """A well-formed stream of integers that no encoder finds: an error, not an index out of range."""
    walloc = tiny("16x").codec.with_settings(coder=coder)
    latents = torch.zeros(1, 12, 3, 4)
    latents[0, 5, 2, 1] = value
    payload = walloc._entropy_encode(as_array(latents), 0)
    with pytest.raises(StreamError, match="out of range"):
        walloc._entropy_decode(payload, coder, 0, 3, 4)


# ---- quality


@pytest.mark.parametrize("tag", TAGS)
def test_more_quality_is_more_bytes(tag: str, tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny(tag).codec
    pixels = photo[:160, :160]
    low, high = walloc.model.quality
    sizes, errors = [], []
    for quality in np.linspace(low, high, 6):
        data = walloc.compress(pixels, quality=float(quality))
        sizes.append(len(data))
        errors.append(float(np.mean((walloc.decompress(data).astype(float) - pixels) ** 2)))
    assert all(a < b for a, b in pairwise(sizes)), sizes
    assert errors[-1] < errors[0], errors
    assert walloc.model.gain_of(low) == walloc.model.gain16[0]
    assert walloc.model.gain_of(high) == walloc.model.gain16[1]
    assert walloc.model.gain_of(None) == walloc.model.nominal


@pytest.fixture
def installed(tiny_weights: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models in place of the shipped ones."""
    monkeypatch.setattr(weights, "SHIPPED", tiny_weights["16x"].weights.parent)


@pytest.mark.usefixtures("installed")
class TestLoading:
    def test_a_tag_keeps_to_its_model(self, photo: np.ndarray) -> None:
        for name, refused, taken in (("walloc@16x", 51, 20), ("walloc@4x", 49, 80)):
            walloc = Codec.load(name)
            assert walloc.compress(photo[:16, :16], quality=taken)
            with pytest.raises(UsageError, match="without a tag"):
                walloc.compress(photo[:16, :16], quality=refused)
        for quality in (0, 0.9, 100.1, -5, float("nan"), float("inf")):
            with pytest.raises(UsageError, match="1 to 100|a finite number"):
                Codec.load("walloc").compress(photo[:16, :16], quality=quality)

    def test_without_a_tag_quality_picks_the_model(self, tiny_weights: dict, photo: np.ndarray) -> None:
        pixels = photo[:48, :40]
        ids = {tag: tiny_weights[tag].codec.weights_id for tag in TAGS}
        walloc = Codec.load("walloc")
        for quality, tag in ((None, "16x"), (1, "16x"), (50, "16x"), (51, "4x"), (100, "4x")):
            data = walloc.compress(pixels, quality=quality)
            assert read_header(data).weights == ids[tag], quality
            assert Codec.load("walloc", quality=quality).compress(pixels) == data
            assert Codec.load(f"walloc@{tag}").compress(pixels, quality=quality) == data
            out = walloc.decompress(data)  # what one object wrote, it reads
            assert np.array_equal(out, Codec.load(f"walloc@{tag}").decompress(data))
            import codec

            assert np.array_equal(codec.decode(data), out)
        other = Codec.load("walloc@16x")
        with pytest.raises(WeightsError, match="other weights"):
            other.decompress(walloc.compress(pixels, quality=90))

    def test_coders(self, photo: np.ndarray) -> None:
        walloc = Codec.load("walloc")
        assert isinstance(walloc, WallocCodec)
        for quality in (20, 80):
            data = walloc.with_settings(coder="webp").compress(photo[:24, :24], quality=quality)
            assert read_header(data).coder == "webp"
        with pytest.raises(UsageError, match="webp"):
            walloc.with_settings(coder="zip")

    def test_damaged_weights(self, tiny_weights: dict) -> None:
        state = export_state(tiny_weights["16x"].codec.model.net, tiny_weights["16x"].codec.model.tables)
        net = tiny_weights["16x"].codec.model.net
        fresh = WallocNet(net.config)
        assert import_state(fresh, state) is not None
        for name in ("post.phase", "decoder.linear.weight", "post.act.exponent"):
            with pytest.raises(WeightsError, match="don't fit"):
                import_state(WallocNet(net.config), {k: v for k, v in state.items() if k != name})
        with pytest.raises(WeightsError, match="don't fit"):
            import_state(WallocNet(net.config), {**state, "more": torch.zeros(1)})
        with pytest.raises(WeightsError, match="don't fit"):
            import_state(WallocNet(dataclasses.replace(net.config, width=16)), state)


def test_export_and_import_are_exact(tiny: Callable) -> None:
    """Reading a weights file and writing it again changes nothing: the grids are fixed points."""
    model = tiny("4x").codec.model
    loaded = weights.load_tensors(tiny("4x").weights).tensors
    again = export_state(model.net, model.tables)
    assert set(again) == set(loaded)
    for name, tensor in loaded.items():
        assert torch.equal(again[name], tensor), name
        assert again[name].dtype == tensor.dtype


# ---- the compressed domain


def test_latents_for_learning(tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny("16x").codec
    pixels = photo[30:93, 20:85]
    latents = walloc.latents(pixels)
    assert latents.integers.shape == (12, 8, 9)
    assert latents.integers.dtype == torch.int8
    assert latents.scale.shape == (12, 1, 1)
    assert latents.scale.dtype == torch.float32
    assert torch.equal(latents.integers, read_latents(walloc, walloc.compress(pixels))[0].to(torch.int8))
    # integers * scale is what the 1x1 convolution gives, to half a step, where the compander is straight
    for quality in (None, 10, 50):
        latents = walloc.latents(pixels, quality)
        padded = np.pad(pixels, ((0, 1), (0, 7), (0, 0)), mode="symmetric")
        x = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32)) / 255
        with torch.no_grad():
            net = walloc.model.net
            y = net.encoder(net.coefficients(x))[0]
        small = latents.integers.abs() <= 8
        error = (latents.integers * latents.scale - y).abs() / latents.scale
        assert float(error[small].max()) < 0.55
        assert int(small.sum()) > 200


def test_latents_of_every_kind(tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny("16x").codec
    expected = walloc.latents(photo[:24, :32]).integers
    rgba = np.concatenate([photo[:24, :32], photo[:24, :32, :1]], 2)
    tensor = torch.from_numpy(photo[:24, :32].copy()).permute(2, 0, 1).float() / 255
    for other in (Picture(photo[:24, :32].copy(), None), rgba, tensor):
        assert torch.equal(walloc.latents(other).integers, expected)
    grey = walloc.latents(photo[:24, :32, 0]).integers
    assert torch.equal(grey, walloc.latents(photo[:24, :32, :1].repeat(3, 2)).integers)


# ---- 16 bits, and hostile files


def test_sixteen_bits(tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny("4x").codec
    eight = photo[:40, :50]
    sixteen = eight.astype(np.uint16) * 257
    out = walloc.decompress(walloc.compress(sixteen))
    assert out.dtype == np.uint16
    assert out.shape == eight.shape
    small = walloc.decompress(walloc.compress(eight)).astype(float)
    assert np.abs(out / 257 - small).max() <= 0.51  # the same picture, with more digits
    assert len(np.unique(out % 257)) > 50


def test_webp_of_another_size_is_refused(tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny("16x").codec.with_settings(coder="webp")
    data = walloc.compress(photo[:40, :48])
    for shape in ((40, 56, 3), (48, 40, 3), (8, 8, 3), (33, 49, 3)):
        with pytest.raises(StreamError):
            walloc.decompress(changed(data, shape=shape))
    assert walloc.decompress(changed(data, shape=(39, 41, 3))).shape == (39, 41, 3)  # as many blocks


def test_webp_with_impossible_latents(tiny: Callable) -> None:
    config = tiny("16x").codec.model.config
    latents = np.zeros((12, 3, 4), np.int16)
    latents[4, 1, 2] = -128
    with pytest.raises(StreamError, match="out of range"):
        latents_from_webp(webp_from_latents(latents, config), config, 3, 4)
    with pytest.raises(StreamError):
        latents_from_webp(b"RIFF", config, 3, 4)
    with pytest.raises(MediaError, match="coder"):
        webp_from_latents(np.broadcast_to(np.int16(0), (12, 1, 8192)), config)


def test_webp_tiling() -> None:
    """Channel (plane, row, column) of the authors' layout: a channel is a tile of one colour plane."""
    from io import BytesIO

    from PIL import Image

    config = WallocConfig(latent=12)
    latents = np.broadcast_to(np.arange(12, dtype=np.int16)[:, None, None], (12, 3, 5))
    with Image.open(BytesIO(webp_from_latents(latents, config))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int) - 128
    assert pixels.shape == (6, 10, 3)
    assert pixels[0, 0].tolist() == [0, 4, 8]
    assert pixels[0, 9].tolist() == [1, 5, 9]
    assert pixels[5, 0].tolist() == [2, 6, 10]
    with pytest.raises(UsageError, match="tiled"):
        webp_from_latents(latents[:5], WallocConfig(latent=5))


@pytest.mark.parametrize("gain", [-97, 97, 1.0, "0", True, None, 1 << 40])
def test_hostile_gain(gain: Any, tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny("16x").codec
    data = walloc.compress(photo[:16, :16])
    params = {**read_header(data).params, "g": gain}
    if gain is None:
        del params["g"]
    with pytest.raises(StreamError, match="gain"):
        walloc.decompress(changed(data, params=params))


def test_one_chunk_of_latents(tiny: Callable, photo: np.ndarray) -> None:
    walloc = tiny("16x").codec
    header, chunks = unpack(walloc.compress(photo[:16, :16]))
    for wrong in ((*chunks, *chunks), (Chunk("Late", b""),)):
        with pytest.raises(StreamError):
            walloc.decompress(pack(header, wrong))
    with pytest.raises(StreamError, match="coder"):
        walloc.decompress(pack(Header(**{**vars(header), "coder": "zip"}), chunks))


# ---- the paper's decoder, and its borders


def test_the_paper_s_model_codes_pictures(photo: np.ndarray) -> None:
    """Its architecture at a small width: WebP only, attention over all positions, wrapped borders, untrained."""
    torch.manual_seed(0)
    net = WallocNet(WallocConfig(width=32)).requires_grad_(False).freeze()
    assert net.context is None
    assert net.post is None
    walloc = WallocCodec(WallocModel.of_net(net, None, "paper"), coder="webp")
    pixels = photo[:61, :70]
    data = walloc.compress(pixels)
    assert walloc.decompress(data).shape == pixels.shape
    padded = np.pad(pixels, ((0, 3), (0, 2), (0, 0)), mode="symmetric")
    x = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32)) / 255
    out = net(x, torch.zeros(1), hard=True)
    assert float(out.bits) == 0
    expected = torch.floor(out.x_hat[0].clamp(0, 1).permute(1, 2, 0) * 255 + 0.5)[:61, :70].numpy()
    assert np.abs(walloc.decompress(data) - expected).max() <= 1
    with pytest.raises(UsageError, match="webp"):
        walloc.with_settings(coder="constriction").compress(pixels)


def test_wrapped_borders_decode_exactly(tiny: Callable, photo: np.ndarray) -> None:
    """The small decoder with the paper's periodic boundary, on one chunk and on several."""
    small = tiny("16x").codec.model
    net = WallocNet(dataclasses.replace(small.net.config, boundary="periodization"))
    tables = import_state(net, export_state(small.net, small.tables))
    walloc = WallocCodec(WallocModel.of_net(net.requires_grad_(False).freeze(), tables, "16x"))
    for height, width in ((64, 88), (280, 40), (40, 280)):
        pixels = photo[:height, :width]
        out = walloc.decompress(walloc.compress(pixels)).astype(int)
        with torch.no_grad():
            x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32)) / 255
            expected = net.reconstruct(integers_of(walloc, pixels, 0))[0].clamp(0, 1).permute(1, 2, 0) * 255
            forward = torch.round(net.latents(x))
        difference = np.abs(out - torch.round(expected).numpy().astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
        assert float((forward != integers_of(walloc, pixels, 0)).float().mean()) < 1e-3


@pytest.mark.parametrize("tag", TAGS)
def test_a_caller_s_settings_do_not_reach_in(tag: str, tiny: Callable, photo: np.ndarray) -> None:
    """Autocast and default dtype are for the caller's networks: bytes and pixels stay what they are."""
    walloc = tiny(tag).codec
    pixels = photo[:64, :72]
    data = walloc.compress(pixels)
    back = walloc.decompress(data)
    with torch.autocast("cpu", torch.bfloat16):
        assert walloc.compress(pixels) == data
        np.testing.assert_array_equal(walloc.decompress(data), back)
    torch.set_default_dtype(torch.float64)
    try:
        assert walloc.compress(pixels) == data
        np.testing.assert_array_equal(walloc.decompress(data), back)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_bfloat16_default_does_not_spoil_the_weights(photo: np.ndarray) -> None:
    if not weights.manifests("walloc"):
        pytest.fail("no weights ship: export some to weights/")
    data = Codec.load("walloc@16x").compress(photo[:40, :40])
    back = Codec.load("walloc@16x").decompress(data)
    torch.set_default_dtype(torch.bfloat16)
    try:
        np.testing.assert_array_equal(Codec.load("walloc@16x").decompress(data), back)
    finally:
        torch.set_default_dtype(torch.float32)
