"""Preset `grid` by compiled kernels, without them and without torch: the same symbols, bytes, frames and errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec import native
from codec.codecs.base.video.groups import FitSettings, Group
from codec.codecs.nirvana.grid import coefficients
from codec.codecs.nirvana.grid.coefficients import code_plane, levels_of
from codec.codecs.nirvana.grid.context import Grids, PlaneContext, PlaneDecisions, Texture
from codec.codecs.nirvana.grid.decisions import RateDistortionDecisions
from codec.codecs.nirvana.grid.motion import code_pyramid, finer, shapes
from codec.codecs.nirvana.grid.networks import Nets, random_nets, start_nets
from codec.codecs.nirvana.grid.preset import GridPreset
from codec.codecs.nirvana.grid.symbols import SymbolReader, SymbolWriter, tables
from codec.errors import StreamError

GOLDEN = Path(__file__).parents[2] / "golden" / "nirvana-grid-s1-clip.nirvana"
compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
every_set = pytest.mark.parametrize("name", native.instruction_sets() or [None])


def wild_nets(seed: int) -> Nets:
    """Networks of the largest parameters: all rows are met."""
    draw = np.random.default_rng(seed)
    empty = random_nets()
    wild = {n: draw.choice([-127, -60, 0, 127], p.shape) for n, p in empty.flat().items() if "luma" not in n}
    return empty.changed(wild)


def grids(draw: np.random.Generator, h: int, w: int) -> Grids:
    return Grids(draw.integers(0, 113, (64, h, w)).astype(np.uint8), draw.integers(0, 5, (h, w)))


def context(h: int, w: int, seed: int, first_band: int = 0) -> PlaneContext:
    draw = np.random.default_rng(seed)
    some = [grids(draw, h, w) if draw.random() < 0.7 else Grids.empty(h, w) for _ in range(3)]
    prediction = draw.integers(-4080, 4081, (8 * h, 8 * w)).astype(np.float64)
    motion = draw.integers(0, 113, (h, w))
    kind, depth, step = (int(draw.integers(0, n)) for n in (4, 8, 60))
    return PlaneContext(kind, depth, step, Texture(prediction, 40), *some, motion, first_band)


def coefficients_of(h: int, w: int, seed: int, first_band: int = 0) -> NDArray[np.int64]:
    draw = np.random.default_rng(seed)
    q = np.round(draw.standard_cauchy((64, h, w)) * draw.choice([0, 0.2, 3, 200], (64, h, w))).astype(np.int64)
    q = np.clip(q, -16000, 16000) * (draw.random((h, w)) < 0.8)
    q[:first_band] = 0
    return q


def code(io: Any, nets: Nets, c: PlaneContext, q: NDArray[np.int64] | None) -> tuple[Any, Any, Any]:
    decisions = None
    if q is not None:
        flat = q.reshape(64, -1)
        large = np.random.default_rng(0).random((q.shape[1] // 2, q.shape[2] // 2)) < 0.3
        decisions = PlaneDecisions(
            levels_of(q), large, lambda rows, bands, block: flat[bands[:, None], block].ravel(), None, coefficients=q
        )
    return code_plane(io, nets, c, decisions)


@compiled
@every_set
@pytest.mark.parametrize(("h", "w"), [(2, 2), (4, 2), (6, 10), (18, 22)])
@pytest.mark.parametrize("first_band", [0, 1])
def test_passes_write_and_read_the_same(name: str, h: int, w: int, first_band: int, monkeypatch: Any) -> None:
    for seed in range(4):
        nets = wild_nets(seed) if seed % 2 else start_nets()
        q = coefficients_of(h, w, seed, first_band)
        written: list[bytes] = []
        for engine in (name, None):
            with native.using(engine):
                if engine is not None:  # no loop of the twin runs
                    monkeypatch.setattr(coefficients, "_Coefficients", None)
                writer = SymbolWriter()
                made, mine, _ = code(writer, nets, context(h, w, seed, first_band), q)
                monkeypatch.undo()
                assert np.array_equal(made, q)
                written.append(writer.finish())
        assert written[0] == written[1]
        for engine in (name, None):
            with native.using(engine):
                reader = SymbolReader(written[0])
                back, grid, _ = code(reader, nets, context(h, w, seed, first_band), None)
                reader.finish()
            assert np.array_equal(back, q) and back.dtype == q.dtype
            assert np.array_equal(grid.magnitude, mine.magnitude) and np.array_equal(grid.level, mine.level)


@compiled
@every_set
def test_an_encoder_chooses_the_same(name: str) -> None:
    h, w = 6, 10
    for seed in range(4):
        nets = wild_nets(seed) if seed % 2 else start_nets()
        draw = np.random.default_rng(seed)
        planes = [draw.integers(0, 256, (8 * h, 8 * w)).astype(np.int16)]
        target = draw.standard_cauchy((64, h, w)) * draw.choice([0.1, 1, 50], (64, h, w))
        chosen = []
        for engine in (name, None):
            with native.using(engine):
                decisions = RateDistortionDecisions(nets, planes, 30, None, 0.11, gather=False)
                chosen.append(decisions._quantised(context(h, w, seed), target, np.zeros((h // 2, w // 2), bool)))
        assert np.array_equal(*chosen) and chosen[0].any()


@compiled
@every_set
@pytest.mark.parametrize(("h", "w"), [(1, 1), (3, 5), (8, 16), (9, 13)])
def test_pyramids(name: str, h: int, w: int) -> None:
    draw = np.random.default_rng(1)
    for channels in (1, 2):
        leaves: list[NDArray[np.int64]] = []
        for shape in shapes(8 * h, 8 * w):
            base = finer(leaves[-1], shape) if leaves else np.zeros((*shape, channels), np.int64)
            leaves.append(base + draw.integers(-40, 41, base.shape) * (draw.random((*shape, 1)) < 0.4))
        expected = draw.integers(-9, 10, (h, w, channels))
        for given in (leaves, [grid * 0 for grid in leaves]):
            writer = SymbolWriter()
            made = code_pyramid(writer, given, expected)
            data = writer.finish()
            for engine in (name, None):
                with native.using(engine):
                    reader = SymbolReader(data)
                    assert np.array_equal(code_pyramid(reader, None, expected), made)
                    reader.finish()


@compiled
def test_bits_are_those_of_the_tables() -> None:
    writer = SymbolWriter()
    code(writer, start_nets(), context(6, 10, 3), coefficients_of(6, 10, 3))
    expected: dict[str, float] = {}
    for section, (symbols, rows) in zip(writer.sections, writer.steps, strict=True):
        expected[section] = expected.get(section, 0.0) + tables().bits(symbols, rows)
    assert writer.bits().keys() == expected.keys()
    assert all(abs(bits - expected[section]) < 1e-4 * bits for section, bits in writer.bits().items())


def frames(n: int, h: int, w: int) -> list[Any]:
    draw = np.random.default_rng(5)
    big = np.clip(np.cumsum(np.cumsum(draw.normal(0, 1, (h + 32, w + 64)), 0), 1) * 0.2 + 128, 0, 255)
    made = []
    for k in range(n):
        luma = big[k : k + h, 3 * k : 3 * k + w].astype(np.uint8)
        made.append((luma, luma[::2, ::2] // 2, 255 - luma[::2, ::2]))
    return made


@pytest.fixture(scope="module")
def coded() -> tuple[Group, bytes, list[Any]]:
    group = Group(frames(6, 50, 74), "yuv420p", 74, 50)
    with native.using(None):
        fitted = GridPreset().fit(group, None, FitSettings(effort=0.0, quality=60))
    return group, fitted.payload, list(fitted.frames)


@compiled
@every_set
def test_groups_are_the_same_bytes(name: str, coded: tuple[Group, bytes, list[Any]]) -> None:
    group, payload, shown = coded
    with native.using(name):
        fitted = GridPreset().fit(group, None, FitSettings(effort=0.0, quality=60))
        assert fitted.payload == payload
        decoded, _ = GridPreset().decode(payload, None, group.shape)
    for mine, theirs in zip(decoded, shown, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


@compiled
def test_damage_is_an_error_with_and_without_kernels(coded: tuple[Group, bytes, list[Any]]) -> None:
    group, payload, _ = coded
    draw = np.random.default_rng(8)
    errors = 0
    for _ in range(60):
        damaged = bytearray(payload)
        for at in draw.integers(1, len(payload), 3):
            damaged[at] ^= 1 << int(draw.integers(0, 8))
        cut = bytes(damaged[: int(draw.integers(2, len(payload)))]) if draw.random() < 0.3 else bytes(damaged)
        outcomes = []
        for engine in (native.instruction_sets()[-1], None):
            with native.using(engine):
                try:
                    decoded, _ = GridPreset().decode(cut, None, group.shape)
                    outcomes.append(b"".join(p.tobytes() for f in decoded for p in f))
                except StreamError:
                    outcomes.append(None)
        assert outcomes[0] == outcomes[1]
        errors += outcomes[0] is None
    assert errors > 30


def test_nothing_but_training_takes_torch(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["torch"] = None
from codec.cli import main

golden, out = sys.argv[1:]
assert main(["verify", golden]) == 0
assert main(["decode", golden, "-o", out + "/a.mkv"]) == 0
assert main(["encode", "--codec", "nirvana", out + "/a.mkv", "-o", out + "/b.nirvana"]) == 0
assert main(["encode", "--codec", "nirvana", "--effort", "1", out + "/a.mkv", "-o", out + "/c.nirvana"]) != 0
"""
    command = [sys.executable, "-P", "-c", script, str(GOLDEN), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'codec-suite[torch]'" in done.stderr
    assert (tmp_path / "b.nirvana").stat().st_size > 500
