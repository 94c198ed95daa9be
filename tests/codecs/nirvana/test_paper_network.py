"""NIRVANA's network: sizes, exactness, coding, fitting."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.codecs.base.video.groups import FitProgress, FitSettings, Group, GroupShape
from codec.codecs.nirvana.paper import coding as code
from codec.codecs.nirvana.paper import network as net
from codec.codecs.nirvana.paper.fit import (
    PAPER_RECIPE,
    QUICK_RECIPE,
    NirvanaPreset,
    Recipe,
    decode_state,
    encode_state,
    lambda_of,
)
from codec.codecs.nirvana.paper.network import NetConfig, NetState, NirvanaNet, Step
from codec.errors import StreamError
from codec.media.distortion import psnr_of_frames

SMALL = NetConfig(width=8, channels=4, frames=3, patch=8)


def untrained(config: NetConfig = SMALL, seed: int = 0) -> NirvanaNet:
    return NirvanaNet(config, torch.Generator().manual_seed(seed))


def moving(n: int, height: int, width: int, step: float = 1.0) -> np.ndarray:
    """(n, height, width, 3): bands that move to the left."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for t in range(n):
        wave = 128 + 70 * np.sin((x + step * t) / 5) + 30 * np.cos(y / 7)
        frames.append(np.stack([wave, 255 - wave, wave / 2 + y], 2))
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def group_of(clip: np.ndarray) -> Group:
    return Group([(frame,) for frame in clip], "rgb24", clip.shape[2], clip.shape[1])


# ---- sizes


def test_the_papers_size() -> None:
    assert (net.PAPER.n_latents, net.PAPER.n_plain) == (2_360_320, 19_697)
    made = sum(p.numel() for name, p in untrained(net.PAPER).values.items() if name in net.LATENTS)
    assert made == 2_360_320
    assert PAPER_RECIPE.rates == (2e-4, 2e-3, 2e-2, 1e-4)
    assert (8 * PAPER_RECIPE.key_steps, 8 * PAPER_RECIPE.steps) == (16_000, 2_000)


@pytest.mark.parametrize("size", [(176, 144), (352, 288), (640, 360), (1280, 720), (1920, 1080)])
def test_sizes_follow_the_picture(size: tuple[int, int]) -> None:
    densities = []
    for quality in (1, 50, 100):
        config = net.config_for(*size, quality)
        densities.append(config.n_latents / (config.frames * size[0] * size[1]))
    assert densities == sorted(densities)
    assert 0.03 < densities[0] < densities[1] < densities[2] < 0.42
    assert 0.1 <= densities[1] <= 0.3


def test_configurations_as_bytes() -> None:
    for config in (SMALL, net.PAPER, replace(SMALL, legacy_channel_order=True)):
        assert NetConfig.from_bytes(config.to_bytes()) == config
    for bad in (b"", bytes(6), b"\xff" * 6, net.PAPER.to_bytes()[:-1] + b"\2"):
        with pytest.raises(StreamError):
            NetConfig.from_bytes(bad)


# ---- exact


def margin(values: np.ndarray) -> float:
    """Distance of the nearest one from where rounding half up jumps."""
    fraction = values - np.floor(values)
    return float(np.abs(fraction - 0.5).min())


def test_no_entry_of_a_table_is_near_a_boundary() -> None:
    """So a mathematical library that is off by 1e-12 gives the same tables."""
    phase = np.arange(1 << net.TURN) * (2 * np.pi / (1 << net.TURN))
    assert margin(np.sin(phase) * 2**net.SINE) > 1e-8
    x = np.arange(-net.FEATURE_LIMIT, net.FEATURE_LIMIT + 1) / 2**net.FEATURE
    gelu = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) * 2**net.FEATURE for v in x.tolist()]
    assert margin(np.array(gelu)) > 1e-8
    angles = [g / 100 ** (c // 2) + (math.pi / 2 if c % 2 else 0) for g in range(16) for c in range(64)]
    assert margin(np.sin(angles) * 2**net.FEATURE) > 1e-8


@pytest.mark.parametrize("config", [SMALL, NetConfig(24, 8, 2, 16), replace(SMALL, legacy_channel_order=True)])
def test_exact_is_close_to_float(config: NetConfig) -> None:
    twin = untrained(config)
    with torch.no_grad():
        twin.values["conv2"] *= 4  # the range of samples that a picture has
        at = net.coordinates(40, 24, config.patch)
        expected = net.join_patches(twin(at, twin.symbols()), 40, 24).numpy() * 255
    found = net.evaluate(twin.state(), 40, 24) / 2**net.SAMPLE
    assert expected.std() > 10
    assert np.sqrt(np.mean((found - expected) ** 2)) < 255 * 10 ** (-55 / 20)


def test_either_carrier_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    state = untrained().state()
    single = net.ExactNet(state)
    assert single._linear[2].dtype == torch.float32
    found = net.evaluate(state, 40, 24)
    monkeypatch.setattr(net.ExactNet, "_carrier", lambda self, bound: torch.float64)
    assert np.array_equal(net.evaluate(state, 40, 24), found)


def test_parts_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    state = untrained().state()
    found = net.evaluate(state, 80, 48)
    whole = net.ExactNet(state)(net.coordinates(80, 48, 8))
    assert np.array_equal(net.join_patches(whole, 80, 48).numpy(), found)


def test_large_weights_are_exact_or_refused() -> None:
    state = untrained().state()
    for name in net.LATENTS:
        large = NetState(state.config, {**state.integers, name: state.integers[name] * 0 + (1 << 20)}, state.steps)
        try:
            net.evaluate(large, 16, 16)
        except StreamError:
            continue
    huge = NetState(state.config, {**state.integers, "latent1": state.integers["latent1"] * 0 + (1 << 29)}, state.steps)
    with pytest.raises(StreamError, match="exactly"):
        net.evaluate(huge, 16, 16)


def test_each_branch_sees_the_code_of_its_frame() -> None:
    features = torch.arange(2.0)[None, :, None, None].expand(1, 2, 1, 1)
    plain = NetConfig(8, 2, 3, 8)
    legacy = replace(plain, legacy_channel_order=True)
    assert net._expand(features, plain).flatten().tolist() == [0, 1, 0, 1, 0, 1]
    assert net._expand(features, legacy).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    code_plain = net.frame_code(2, 3, False).reshape(3, 2)
    assert torch.equal(net.frame_code(2, 3, True).reshape(2, 3).T, code_plain)
    assert code_plain[:, 0].tolist() == [round(math.sin(g) * 2**net.FEATURE) for g in range(3)]


# ---- patches and colours


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 40), (17, 8)])
def test_patches_and_back(size: tuple[int, int]) -> None:
    height, width = size
    frames = torch.arange(2 * height * width * 3, dtype=torch.float32).reshape(2, height, width, 3)
    patches = net.cut_patches(frames, 16)
    assert patches.shape == (-(-height // 16) * -(-width // 16), 2, 3, 16, 16)
    assert torch.equal(net.join_patches(patches, width, height), frames)
    assert len(net.coordinates(width, height, 16)) == len(patches)
    assert float(patches.max()) == float(frames.max())  # repeated, not zeros
    assert float(patches.min()) == 0


def test_coordinates() -> None:
    at = net.coordinates(64, 32, 16) / 2**net.COORDINATE
    assert torch.allclose(at[0], torch.tensor([2 * 8 / 31 - 1, 2 * 8 / 63 - 1]).double(), atol=1e-4)
    assert torch.allclose(at[-1], torch.tensor([2 * 24 / 31 - 1, 2 * 56 / 63 - 1]).double(), atol=1e-4)


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 1)])
def test_yuv_survives_rgb(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    half = (-(-size[0] // 2), -(-size[1] // 2))
    planes = tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in (size, half, half))
    samples = np.floor(net.to_rgb(planes, "yuv420p") * 2**net.SAMPLE + 0.5).astype(np.int16)
    for plane, found in zip(planes, net.from_rgb(samples, "yuv420p"), strict=True):
        assert found.shape == plane.shape
        assert np.abs(found.astype(int) - plane).max() <= 1


@pytest.mark.parametrize("pixels", ["rgb24", "gray"])
def test_rgb_and_grey_survive(pixels: net.Pixels) -> None:
    plane = np.random.default_rng(0).integers(0, 256, (5, 6, 3) if pixels == "rgb24" else (5, 6), dtype=np.uint8)
    samples = (net.to_rgb((plane,), pixels) * 2**net.SAMPLE).astype(np.int16)
    assert np.array_equal(net.from_rgb(samples, pixels)[0], plane)


# ---- coding


@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0, 3000.0]), st.booleans())
@settings(max_examples=60)
def test_tensors_come_back(seed: int, scale: float, with_previous: bool) -> None:
    rng = np.random.default_rng(seed)
    values = {
        "a": np.rint(rng.logistic(rng.normal() * scale, scale, (40, 7))).clip(-20000, 20000).astype(np.int32),
        "b": rng.integers(-3, 4, (5,)).astype(np.int32),
        "c": np.full((3, 1), 7, np.int32),
    }
    previous = None
    if with_previous:
        previous = {name: array + rng.integers(-1, 2, array.shape).astype(np.int32) for name, array in values.items()}
        previous["b"] = values["b"]
    payload, bits = code.encode_tensors(values, previous)
    shapes = {name: array.shape for name, array in values.items()}
    found = code.decode_tensors(payload, shapes, previous)
    assert all(np.array_equal(found[name], values[name]) for name in values)
    assert sum(bits.values()) / 8 * 0.97 - 8 <= len(payload) <= sum(bits.values()) / 8 * 1.03 + 16


def test_unchanged_tensors_cost_a_byte() -> None:
    state = untrained().state()
    payload, _ = code.encode_tensors(state.integers, state.integers)
    assert payload == bytes(len(state.integers))


def test_models_are_close_to_the_entropy() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.3, 2.0, 20.0):
        values = np.rint(rng.logistic(0.3, scale, 20_000)).astype(np.int64)
        low = int(values.min())
        counts = np.bincount(values - low)
        entropy = -float((counts[counts > 0] * np.log2(counts[counts > 0] / counts.sum())).sum())
        for kind in (code.Logistic, code.Histogram):
            assert code._bits(counts, kind.fit(low, counts).table()) < entropy * 1.02


@given(st.binary(max_size=80), st.booleans())
@settings(max_examples=300)
def test_noise_is_a_stream_error(data: bytes, with_previous: bool) -> None:
    previous = untrained().state() if with_previous else None
    shape = GroupShape(3, "rgb24", 16, 16)
    with pytest.raises(StreamError):
        decode_state(SMALL.to_bytes() + data if previous is None and len(data) % 2 else data, previous, shape)


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_flips_of_a_payload(seed: int) -> None:
    rng = np.random.default_rng(seed)
    payload = bytearray(encode_state(untrained().state(), None)[0])
    payload[rng.integers(min(len(payload), 60))] ^= 1 << rng.integers(8)
    try:
        state = decode_state(bytes(payload), None, GroupShape(3, "rgb24", 16, 16))
        net.evaluate(state, 16, 16)
    except StreamError:
        pass


def test_a_network_too_large_for_its_picture_is_refused() -> None:
    payload = encode_state(untrained(NetConfig(512, 16, 3, 8)).state(), None)[0]
    with pytest.raises(StreamError, match="latents for"):
        decode_state(payload, None, GroupShape(3, "rgb24", 16, 16))


@given(st.floats(1e-9, 1e3))
def test_steps(value: float) -> None:
    step = Step.of(value).check()
    if 2.0**-40 <= value <= 2.0**8:
        assert abs(step.value / value - 1) < 2.0**-15
    with pytest.raises(StreamError):
        Step(3, 20).check()


def test_states_come_back_through_the_twin() -> None:
    state = untrained().state()
    again = NirvanaNet.of(state).state()
    assert state.equals(again)


# ---- fitting

FAST = NirvanaPreset(recipe=Recipe(key_steps=150, steps=40, rates=(1e-2, 2e-2, 2e-1, 1e-2), decay=True))


def test_fitting_learns_and_decodes_to_what_it_says() -> None:
    clip = moving(6, 24, 40)
    seen: list[FitProgress] = []
    first = FAST.fit(group_of(clip[:3]), None, FitSettings(quality=80), seen.append)
    assert first.stats["psnr"] > 19
    assert [p.step for p in seen] == list(range(20, 141, 20))
    assert abs(seen[-1].bits - 8 * len(first.payload)) < 0.15 * 8 * len(first.payload)
    frames, state = FAST.decode(first.payload, None, group_of(clip[:3]).shape)
    assert psnr_of_frames(frames, first.frames) == math.inf
    assert state.equals(first.state)
    second = FAST.fit(group_of(clip[3:]), state, FitSettings(quality=80))
    scratch = FAST.fit(group_of(clip[3:]), None, FitSettings(quality=80, effort=40 / 150))
    assert second.stats["psnr"] > scratch.stats["psnr"] + 1
    assert len(second.payload) < len(first.payload)
    with pytest.raises(StreamError):
        FAST.decode(second.payload, None, group_of(clip[3:]).shape)


def test_quality_trades_rate_for_error() -> None:
    clip = group_of(moving(3, 24, 40))
    preset = NirvanaPreset(config=NetConfig(16, 4, 3, 8), recipe=replace(QUICK_RECIPE, key_steps=300))
    low, high = (preset.fit(clip, None, FitSettings(quality=q)) for q in (5, 95))
    assert len(low.payload) < 0.95 * len(high.payload)
    assert low.stats["psnr"] < high.stats["psnr"]
    assert lambda_of(50) == pytest.approx(1e-3)


def test_still_groups_cost_little() -> None:
    clip = group_of(moving(3, 24, 40, step=0))
    first = FAST.fit(clip, None, FitSettings())
    second = FAST.fit(clip, first.state, FitSettings())
    assert len(second.payload) < len(first.payload) / 4


def test_enough_ends_early() -> None:
    clip = group_of(moving(3, 24, 40))
    fitted = FAST.fit(clip, None, FitSettings(quality=95, psnr=17))
    assert fitted.stats["iterations"] < 150
    assert fitted.stats["psnr"] >= 17


def test_short_groups_repeat_their_last_frame() -> None:
    clip = group_of(moving(2, 17, 19))
    fitted = FAST.fit(clip, None, FitSettings(effort=0.1))
    assert len(fitted.frames) == 2
    assert fitted.frames[0][0].shape == (17, 19, 3)
    with pytest.raises(StreamError, match="frames"):
        FAST.decode(fitted.payload, None, GroupShape(4, "rgb24", 19, 17))


def test_bf16_still_learns() -> None:
    clip = group_of(moving(3, 24, 40))
    half = replace(FAST, recipe=replace(FAST.recipe, bf16=True))
    assert half.fit(clip, None, FitSettings(quality=80)).stats["psnr"] > 15


class Kept:
    """A checkpoint in memory, due at one step."""

    def __init__(self, at: int) -> None:
        self.at, self.calls, self.tensors = at, 0, None

    def load(self):
        return self.tensors

    def due(self) -> bool:
        self.calls += 1
        return self.calls == self.at

    def save(self, tensors) -> None:
        self.tensors = {name: value.clone() for name, value in tensors.items()}


def test_a_fit_goes_on_from_its_checkpoint() -> None:
    clip = moving(6, 16, 24)
    state = FAST.fit(group_of(clip[:3]), None, FitSettings(effort=0.3)).state
    expected = FAST.fit(group_of(clip[3:]), state, FitSettings())
    kept = Kept(17)
    FAST.fit(group_of(clip[3:]), state, FitSettings(), checkpoint=kept)
    assert kept.tensors is not None
    again = FAST.fit(group_of(clip[3:]), state, FitSettings(), checkpoint=kept)
    assert again.payload == expected.payload
