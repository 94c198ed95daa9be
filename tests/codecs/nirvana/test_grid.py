"""Preset `grid` of nirvana: exact on any machine, strict, still content for nearly nothing, motion found."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codec.codecs.base.video.groups import FitSettings, Group, GroupShape, Pixels, Planes
from codec.codecs.nirvana.grid import fit as nirvana_grid_fit
from codec.codecs.nirvana.grid.frame import PlaneLayout, Sum, filtered, from_planes, to_planes
from codec.codecs.nirvana.grid.learn import symbol_bits
from codec.codecs.nirvana.grid.motion import interpolated, predict
from codec.codecs.nirvana.grid.networks import START_WEIGHTS, Filter, code_nets, random_nets, start_nets
from codec.codecs.nirvana.grid.preset import GridPreset
from codec.codecs.nirvana.grid.structure import State, coding_order
from codec.codecs.nirvana.grid.symbols import (
    YES,
    SymbolReader,
    SymbolWriter,
    code_number,
    code_static,
    costs,
    rows_of,
    tables,
)
from codec.codecs.nirvana.grid.transform import band0_of, forward, forward_mixed, inverse
from codec.errors import CodecError, StreamError

QUICK = FitSettings(effort=0.0, quality=45)
PRESET = GridPreset()


def texture(h: int, w: int, seed: int = 3) -> NDArray[np.float64]:
    noise = np.random.default_rng(seed).normal(0, 1, (h, w))
    spectrum = np.fft.fft2(noise)
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None]
    field = np.fft.ifft2(spectrum / (0.02 + np.hypot(fy, fx)) ** 1.6).real
    return 128 + 45 * field / field.std()


def clip(n: int, pixels: Pixels, h: int, w: int, move: tuple[int, int] = (2, 3)) -> list[Planes]:
    """A texture that moves by `move` samples a frame."""
    big = np.clip(texture(h + 64, w + 64), 0, 255)
    frames: list[Planes] = []
    for k in range(n):
        y0, x0 = 16 + move[0] * k, 16 + move[1] * k
        luma = big[y0 : y0 + h, x0 : x0 + w].astype(np.uint8)
        half = (big[y0 : y0 + h : 2, x0 : x0 + w : 2] / 4 + 96).astype(np.uint8)
        if pixels == "gray":
            frames.append((luma,))
        elif pixels == "yuv420p":
            frames.append((luma, half, ~half))
        else:
            frames.append((np.stack([luma, ~luma, luma // 2 + 40], -1).astype(np.uint8),))
    return frames


def group(frames: list[Planes], pixels: Pixels) -> Group:
    h, w = frames[0][0].shape[:2]
    return Group(frames, pixels, w, h)


def same(a: list[Planes] | Any, b: list[Planes] | Any) -> bool:
    return len(a) == len(b) and all(
        len(x) == len(y) and all(np.array_equal(p, q) for p, q in zip(x, y, strict=True))
        for x, y in zip(a, b, strict=True)
    )


def same_state(a: State, b: State) -> bool:
    nets = all(np.array_equal(p, b.nets.flat()[name]) for name, p in a.nets.flat().items())
    planes = all(np.array_equal(p, q) for p, q in zip(a.picture.planes, b.picture.planes, strict=True))
    grids = all(
        np.array_equal(p.magnitude, q.magnitude) and np.array_equal(p.level, q.level)
        for p, q in zip(a.picture.grids, b.picture.grids, strict=True)
    )
    return nets and planes and grids and np.array_equal(a.picture.flow, b.picture.flow)


def psnr(a: list[Planes] | Any, b: list[Planes] | Any) -> float:
    errors = [
        ((p.astype(float) - q) ** 2).ravel() for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True)
    ]
    return float(10 * np.log10(255**2 / np.concatenate(errors).mean()))


@pytest.fixture(scope="module")
def coded() -> tuple[Group, bytes, list[Planes]]:
    g = group(clip(5, "yuv420p", 48, 64), "yuv420p")
    fitted = PRESET.fit(g, None, QUICK)
    return g, fitted.payload, list(fitted.frames)


@pytest.mark.parametrize(
    ("pixels", "h", "w", "n"),
    [("yuv420p", 35, 51, 3), ("gray", 16, 41, 2), ("rgb24", 21, 30, 3), ("yuv420p", 1, 1, 2), ("rgb24", 5, 70, 1)],
)
def test_groups_come_back_as_fit_said(pixels: Pixels, h: int, w: int, n: int) -> None:
    frames = clip(n + 3, pixels, h, w)
    state = decoded_state = None
    for part in (frames[:n], frames[n:]):
        g = group(part, pixels)
        fitted = PRESET.fit(g, state, QUICK)
        decoded, decoded_state = PRESET.decode(fitted.payload, decoded_state, g.shape)
        assert same(decoded, fitted.frames)
        assert all(p.dtype == np.uint8 and p.shape == q.shape for p, q in zip(decoded[0], part[0], strict=True))
        state = fitted.state
        assert same_state(state, decoded_state)
        assert fitted.stats["bits"] == 8 * len(fitted.payload)
        assert abs(fitted.stats["psnr"] - psnr(part, decoded)) < 0.01 or pixels == "rgb24"
        assert psnr(part, decoded) > 28


def test_training_pays_and_is_sent() -> None:
    g = group(clip(3, "yuv420p", 64, 64), "yuv420p")
    fitted = PRESET.fit(g, None, FitSettings(effort=0.3, quality=60))
    decoded, state = PRESET.decode(fitted.payload, None, g.shape)
    assert same(decoded, fitted.frames) and same_state(state, fitted.state)


def test_networks_are_sent_as_differences() -> None:
    old, new = random_nets(0), random_nets(1)
    for before, after in ((old, new), (old, old)):
        writer = SymbolWriter()
        code_nets(writer, before, after)
        data = writer.finish()
        found = code_nets(SymbolReader(data), before, None)
        assert all(np.array_equal(p, after.flat()[name]) for name, p in found.flat().items())
    assert len(data) <= 5  # nothing changed


def test_rows_are_what_the_networks_say_of_all_features() -> None:
    """The coder folds features that are the same for a pass into a bias; training sees all of them."""
    nets = start_nets()
    frames = [to_planes(f, "yuv420p") for f in clip(4, "yuv420p", 64, 96)]
    fitter = nirvana_grid_fit.Fitter(frames, PlaneLayout("yuv420p", 64, 96), None)
    made = fitter.run(nets, nirvana_grid_fit.base_index(80))
    coded = [
        (rows, symbols)
        for part, (symbols, rows) in zip(made.writer.sections, made.writer.steps, strict=True)
        if part in ("levels", "coefficients") and rows.ndim == 1 and len(np.unique(rows)) > 1
    ]
    found = {(rows.tobytes(), symbols.tobytes()) for rows, symbols in coded}
    n = 0
    for x, bands, q in zip(made.samples.features, made.samples.bands, made.samples.symbols, strict=True):
        rows = rows_of(nets.coefficients.quarters(x)[:, 0] + nets.band_bias.ravel()[bands].astype(np.float32) / 4)
        if len(np.unique(rows)) > 1:
            assert (rows.tobytes(), q.tobytes()) in found
            n += 1
    levels = zip(made.samples.level_features, made.samples.level_choices, made.samples.level_symbols, strict=True)
    for x, choice, more in levels:
        rows = rows_of(np.take_along_axis(nets.levels.quarters(x), choice[:, None], 1)[:, 0]) + np.uint8(YES)
        if len(np.unique(rows)) > 1:
            assert (rows.tobytes(), more.tobytes()) in found
            n += 1
    assert n > 60


def test_threads_do_not_matter(coded: tuple[Group, bytes, list[Planes]]) -> None:
    g, payload, frames = coded
    before = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert same(PRESET.decode(payload, None, g.shape)[0], frames)
    finally:
        torch.set_num_threads(before)


def digest(frames: list[Planes]) -> str:
    return hashlib.sha256(b"".join(p.tobytes() for f in frames for p in f)).hexdigest()


@pytest.mark.parametrize("plain", [{"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}])
def test_the_processor_does_not_matter(coded: tuple[Group, bytes, list[Planes]], plain: dict[str, str]) -> None:
    g, payload, frames = coded
    code = (
        "import sys, hashlib\n"
        "from codec.codecs.nirvana.grid.preset import GridPreset\n"
        "from codec.codecs.base.video.groups import GroupShape\n"
        f"shape = GroupShape({len(frames)}, 'yuv420p', {g.width}, {g.height})\n"
        "frames, _ = GridPreset().decode(sys.stdin.buffer.read(), None, shape)\n"
        "print(hashlib.sha256(b''.join(p.tobytes() for f in frames for p in f)).hexdigest())\n"
    )
    root = Path(nirvana_grid_fit.__file__).resolve().parents[3]
    env = os.environ | plain | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run([sys.executable, "-P", "-c", code], input=payload, capture_output=True, env=env, check=True)
    assert run.stdout.decode().split()[-1] == digest(frames)


def test_damage_is_an_error(coded: tuple[Group, bytes, list[Planes]]) -> None:
    g, payload, frames = coded
    random = np.random.default_rng(5)
    refused = 0
    hurt: list[bytes] = [
        b"",
        payload[:1],
        b"\xff" + payload[1:],
        payload[: len(payload) // 2],
        payload[:-1],
        payload + b"\1",
    ]
    for _ in range(25):
        data = bytearray(payload)
        data[random.integers(1, len(data))] ^= 1 << random.integers(8)
        hurt.append(bytes(data))
    hurt += [payload[:1] + random.bytes(200) for _ in range(10)]
    for data in hurt:
        try:
            found, _ = PRESET.decode(data, None, g.shape)
            assert not same(found, frames)
        except StreamError:
            refused += 1
    assert refused >= len(hurt) - 2  # the coder's own check at the end catches nearly everything


def test_a_small_payload_can_not_claim_much(coded: tuple[Group, bytes, list[Planes]]) -> None:
    _, payload, _ = coded
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(CodecError):
        PRESET.decode(payload, None, GroupShape(200, "yuv420p", 2048, 2048))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 900e6  # that of one frame's coding, not of 200 frames


def test_a_state_of_another_kind_is_refused(coded: tuple[Group, bytes, list[Planes]]) -> None:
    g, payload, _ = coded
    _, state = PRESET.decode(payload, None, g.shape)
    with pytest.raises(StreamError, match="state"):
        PRESET.decode(payload, state, GroupShape(5, "yuv420p", 80, 48))
    with pytest.raises(StreamError, match="state"):
        PRESET.decode(payload, "state", g.shape)


def test_still_content_costs_nearly_nothing() -> None:
    frame = clip(1, "yuv420p", 64, 96)[0]
    first = PRESET.fit(group([frame], "yuv420p"), None, QUICK)
    still = group(list(first.frames) * 8, "yuv420p")
    fitted = PRESET.fit(still, first.state, QUICK)
    assert len(fitted.payload) < 8 * 40
    assert same(fitted.frames, still.frames)


def test_the_filter_leaves_alone_what_has_no_residual() -> None:
    layout = PlaneLayout("gray", 16, 32)
    nets = random_nets().changed({"luma.b2": np.full(4, 127)})  # moves every sample by eight steps
    active = np.array([[True, False, False, True], [False, False, True, False]])
    total = np.full((16, 32), 100.0 * 16)
    plane = filtered(nets, layout, [Sum(total, np.zeros_like(total), active)], 0)[0]
    assert np.array_equal(plane != 100, active.repeat(8, 0).repeat(8, 1))


def test_motion_is_found() -> None:
    moving = PRESET.fit(group(clip(5, "gray", 64, 96), "gray"), None, QUICK)
    alone = PRESET.fit(group(clip(1, "gray", 64, 96), "gray"), None, QUICK)
    assert len(moving.payload) < 2 * len(alone.payload)


def test_quality_buys_bits_and_decibels() -> None:
    g = group(clip(3, "yuv420p", 48, 64), "yuv420p")
    found = [PRESET.fit(g, None, FitSettings(effort=0, quality=q)) for q in (10, 40, 70, 95)]
    assert all(len(a.payload) < len(b.payload) and a.stats["psnr"] < b.stats["psnr"] - 1 for a, b in pairwise(found))


def test_a_target_is_met() -> None:
    g = group(clip(3, "yuv420p", 48, 64), "yuv420p")
    fitted = PRESET.fit(g, None, FitSettings(effort=0, psnr=36.0))
    assert 36.0 <= fitted.stats["psnr"] < 37.5


@pytest.mark.parametrize("linked", [False, True])
def test_every_frame_is_coded_once_after_its_references(linked: bool) -> None:
    for n in range(1, 20):
        for mini_gop in (1, 4, 8, 255):
            known = {-1} if linked else set()
            for entry in coding_order(n, linked, mini_gop):
                assert set(entry.refs) <= known and entry.frame not in known
                known.add(entry.frame)
            assert known - {-1} == set(range(n))


def test_transforms_are_inverse_to_each_other() -> None:
    x = np.random.default_rng(1).integers(-4000, 4000, (32, 48)).astype(float)
    for large in (None, np.array([[True, False, True], [False, False, True]])):
        c = forward_mixed(x, large) * 2.0**-24
        active = np.ones((4, 6), bool)
        assert np.abs(inverse(np.floor(c + 0.5), large, active) - x).max() <= 5
        assert np.array_equal(band0_of(band0_of(c[0], large), large), c[0])
    flat = forward(np.full((16, 16), 16.0)) * 2.0**-24
    assert np.allclose(flat[0], 128, atol=0.1) and np.abs(flat[1:]).max() < 0.1


def test_prediction_by_whole_and_half_samples() -> None:
    plane = np.clip(texture(40, 48), 0, 255).astype(np.int16)
    whole = predict([plane], [np.full((5, 6, 2), [8, -12])], None, 1)
    assert np.array_equal(whole[8:32, 8:40], 16 * plane[10:34, 5:37])
    ramp = np.tile(np.arange(48, dtype=np.int16) * 4, (40, 1))
    half = predict([ramp], [np.full((5, 6, 2), [0, 2])], None, 1)
    assert np.array_equal(half[8:32, 8:40], interpolated(ramp)[2, 8:32, 8:40])
    assert np.array_equal(half[8:32, 8:40], 16 * ramp[8:32, 8:40] + 32)


def test_colours_come_back() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    assert np.array_equal(from_planes(to_planes((rgb,), "rgb24"), "rgb24")[0], rgb)


def test_the_estimate_is_what_is_paid() -> None:
    """What training minimises, the table of costs and the coder's counts are one curve."""
    z = torch.tensor([-4.0, -1.0, 0.5, 2.0])
    for q in (0, 1, -2, 5):
        estimate = symbol_bits(z, torch.full((4,), q)).numpy()
        row = (z.numpy() * 4).astype(int) + 36
        inside = estimate < 12  # rarer symbols are escaped
        assert np.allclose(estimate[inside], costs()[row, q + 40][inside], atol=0.3)
    assert abs(tables().bits(np.array([0]), np.array([36])) - 1) < 0.01


def test_the_filter_can_not_overrun_its_carrier() -> None:
    most = Filter(*(np.full(s, 127) for s in ((16, 8, 3, 3), (16,), (4, 16, 3, 3), (4,))))
    out = most(np.full((8, 6, 6), 127, np.float32), 2)
    exact = 127 * 64 + 9 * 16 * 255 * 127
    assert (out == exact).all() and exact < 2**24


def test_numbers_out_of_range_are_refused() -> None:
    writer = SymbolWriter()
    code_number(writer, 255)
    with pytest.raises(StreamError, match="row"):
        code_static(SymbolReader(writer.finish()), None, (3,))
    with pytest.raises(StreamError):
        SymbolReader(b"\0")


def test_the_start_is_part_of_the_format() -> None:
    """Streams hold differences to these networks: another file is another version."""
    assert hashlib.sha256(START_WEIGHTS.read_bytes()).hexdigest()[:16] == "5b57a00d0e25fb42"
