"""The codec dualgs: scenes exactly and within bounds, sequences, files and folders, random access, damage."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codec as package
from codec import Codec
from codec.cli.command import main
from codec.codecs.dualgs import codec as dualgs
from codec.codecs.dualgs import floats
from codec.container import Chunk, pack, unpack
from codec.errors import CodecError, LimitError, MediaError, StreamError, UsageError
from codec.media.gaussians.sources import open_source
from codec.media.gaussians.values import DC, Gaussians
from codec.media.gaussians.writer import write

from ...damage import Damage, shares
from ...media.gaussians.making import bundle, sog_parts
from .examples import rows, same, scene, sequence

DUALGS = Codec.load("dualgs")
BOUNDS = {"position": 0.001, "scale": 0.01, "rotation": 0.004, "opacity": 0.004, "colour": 0.004, "harmonics": 0.01}
NAMED = tuple(f"{name}={value}" for name, value in BOUNDS.items())


def check_bounds(given: Gaussians, made: Gaussians) -> None:
    """All bounds of BOUNDS, of Gaussians in the same order."""
    a, b = (x.rotations / np.linalg.norm(x.rotations.astype(float), axis=1, keepdims=True) for x in (given, made))
    a = a * np.where((a * b).sum(1) < 0, -1, 1)[:, None]
    opacity = [1 / (1 + np.exp(-x.opacities.astype(float))) for x in (given, made)]
    errors = {
        "position": np.abs(made.positions.astype(float) - given.positions),
        "scale": np.expm1(np.abs(made.scales.astype(float) - given.scales)),
        "rotation": np.abs(a - b),
        "opacity": np.abs(opacity[0] - opacity[1]),
        "colour": np.abs(made.harmonics[:, 0].astype(float) - given.harmonics[:, 0]) * DC,
        "harmonics": np.abs(made.harmonics[:, 1:].astype(float) - given.harmonics[:, 1:]),
    }
    largest = {name: error.max(initial=0) for name, error in errors.items()}
    assert all(largest[name] <= BOUNDS[name] for name in BOUNDS), largest


# ---- scenes


@pytest.mark.parametrize("suffix", [".spz", ".splat", ".compressed.ply"])
def test_quantised_files_are_kept_exactly(tmp_path: Path, suffix: str) -> None:
    if suffix == ".compressed.ply":
        given = tmp_path / "given.compressed.ply"
        given.write_bytes(_compressed_ply(700))
    else:
        given = tmp_path / f"given{suffix}"
        given.write_bytes(write(scene(700, 0), suffix))
    coded, back = tmp_path / "coded.dualgs", tmp_path / f"back{suffix}"
    assert main(["encode", str(given), "-c", "dualgs", "-o", str(coded)]) == 0
    assert main(["decode", str(coded), "-o", str(back)]) == 0
    assert np.array_equal(rows(open_source(given).frame(0)), rows(open_source(back).frame(0)))
    ply = tmp_path / "floats.ply"
    assert main(["decode", str(coded), "-o", str(ply)]) == 0
    assert np.array_equal(rows(open_source(given).frame(0)), rows(open_source(ply).frame(0)))


def _compressed_ply(n: int) -> bytes:
    """A file of chunks of 256, made by rule: any integers are some Gaussians."""
    draw = np.random.default_rng(5)
    n_chunks = -(-n // 256)
    head = ["ply", "format binary_little_endian 1.0", f"element chunk {n_chunks}"]
    head += [
        f"property float {end}_{name}"
        for group in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
        for end in ("min", "max")
        for name in group
    ]
    head += [f"element vertex {n}"]
    head += [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")]
    low = draw.uniform(-2, 0, (n_chunks, 3, 1, 3))
    bounds = np.concatenate([low, low + draw.uniform(0.1, 2, low.shape)], 2).astype("<f4")
    packed = draw.integers(0, 1 << 32, (n, 4), np.uint32)
    return "\n".join([*head, "end_header", ""]).encode() + bounds.tobytes() + packed.astype("<u4").tobytes()


def test_floats_are_kept_exactly_where_asked() -> None:
    given = scene(300, 2)
    given.harmonics[:4] = 0.0
    given.positions[7] = [np.nan, np.inf, -0.0]
    made = DUALGS.with_settings(lossless=True).compress(given)
    assert np.array_equal(rows(DUALGS.decompress(made)), rows(given))
    ordered = DUALGS.with_settings(lossless=True, keep_order=True).compress(given)
    assert same(DUALGS.decompress(ordered), given)


def test_floats_keep_their_order_as_integers() -> None:
    values = np.array([-np.inf, -1e30, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, np.inf], np.float32)
    numbers = floats.ordered(values)
    assert (np.diff(numbers.astype(np.int64)) > 0).all()
    assert floats.restored(numbers).tobytes() == values.tobytes()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_named_bounds_hold_for_every_value(degree: int) -> None:
    given = scene(400, degree)
    codec = DUALGS.with_settings(max_error=NAMED, keep_order=True)
    check_bounds(given, codec.decompress(codec.compress(given)))


def test_a_higher_quality_is_nearer_and_larger() -> None:
    given = scene(400, 1)
    sizes, errors = [], []
    for quality in (30, 60, 90):
        codec = Codec.load("dualgs", quality=quality).with_settings(keep_order=True)
        data = codec.compress(given)
        sizes.append(len(data))
        errors.append(float(np.abs(codec.decompress(data).positions - given.positions).max()))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_gaussians(n: int) -> None:
    given = scene(n, 1)
    for codec in (DUALGS, DUALGS.with_settings(lossless=True)):
        assert len(codec.decompress(codec.compress(given))) == n


def test_values_that_are_no_numbers_are_left_out_with_a_word(tmp_path: Path) -> None:
    given = scene(50, 1)
    given.opacities[3] = np.nan
    path = tmp_path / "scene.ply"
    path.write_bytes(write(given, ".ply"))
    summary = DUALGS.encode_file(path, tmp_path / "scene.dualgs")
    assert any("1 Gaussians" in note.words for note in summary.notes)
    assert len(package.decode(tmp_path / "scene.dualgs")) == 49


# ---- sequences


def test_a_sequence_comes_back_within_its_bounds() -> None:
    frames = sequence(300, 7)
    codec = DUALGS.with_settings(max_error=NAMED, segment=3)
    data = codec.compress(frames)
    made = codec.decompress(data)
    assert isinstance(made, tuple) and len(made) == 7
    order = _rows_of(frames[0], made[0])
    for given, back in zip(frames, made, strict=True):
        check_bounds(given.take(order), back)


def _rows_of(given: Gaussians, made: Gaussians) -> np.ndarray:
    """The row of the given frame that each decoded row is, by the nearest position."""
    distance = ((made.positions[:, None] - given.positions[None]) ** 2).sum(2)
    order = distance.argmin(1)
    assert len(np.unique(order)) == len(order)
    return order


def test_rotations_that_jump_stay_within_their_bound() -> None:
    """Half turns are among them: there the vector of a unit quaternion says little of its fourth component."""
    draw = np.random.default_rng(3)
    frames = list(sequence(120, 5))
    for t in range(1, 5):
        rotations = draw.normal(0, 1, (120, 4))
        rotations[:40] = frames[0].rotations[:40] @ np.array([[0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, -1, 0, 0]])
        frames[t] = replace(frames[t], rotations=rotations.astype(np.float32))
    coder = DUALGS.with_settings(max_error=NAMED)
    with coder.open_frames(coder.compress(tuple(frames))) as file:
        order = _rows_of(frames[0], file.frame(0))
        for t, given in enumerate(frames):
            check_bounds(given.take(order), file.frame(t))


def test_bounds_hold_far_from_the_origin_where_float32_is_coarse() -> None:
    """Frames that jump away, to where float32 has steps of more than half the bound."""
    first, *rest = sequence(300, 6)
    frames = (first, *(replace(frame, positions=frame.positions + np.float32(6000)) for frame in rest))
    coder = DUALGS.with_settings(max_error="position=0.0008")
    with coder.open_frames(coder.compress(frames)) as file:
        order = _rows_of(first, file.frame(0))
        for t, given in enumerate(frames):
            assert np.abs(file.frame(t).positions.astype(float) - given.positions[order]).max() <= 0.0008
    with pytest.raises(UsageError, match="position are finer than float32"):
        DUALGS.with_settings(max_error="position=1e-4").compress(frames)


def test_any_frame_is_the_one_of_the_whole() -> None:
    codec = DUALGS.with_settings(segment=3)
    data = codec.compress(sequence(100, 8))
    whole = codec.decompress(data)
    with codec.open_frames(data) as file:
        assert (file.n_frames, file.count, file.degree) == (8, 100, 1)
        for index in (7, 0, 4, 3, 2):
            assert same(file.frame(index), whole[index])
        assert [same(a, b) for a, b in zip(file.frames(2, 6), whole[2:6], strict=True)] == [True] * 4
        with pytest.raises(UsageError, match="there are 8"):
            file.frame(8)


def test_a_segment_is_decoded_by_itself() -> None:
    codec = DUALGS.with_settings(segment=3)
    data = codec.compress(sequence(60, 7))
    header, chunks = unpack(data)
    broken = [*chunks[:2], Chunk("Segm", b"\0" * 40), *chunks[3:]]
    with codec.open_frames(pack(header, broken)) as file:
        assert same(file.frame(5), codec.decompress(data)[5])
        with pytest.raises(StreamError):
            file.frame(1)


def test_fewer_bytes_than_frames_by_themselves() -> None:
    frames = sequence(500, 8)
    alone = sum(len(DUALGS.compress(frame)) for frame in frames)
    assert len(DUALGS.compress(frames)) < 0.5 * alone


def test_the_motion_that_makes_the_shorter_file_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, sizes = sequence(), {}
    coarse = DUALGS.with_settings(quality=20)
    chosen = coarse.compress(frames)
    for part in (1.0, 2.0):
        monkeypatch.setattr(dualgs, "_MOTION", (part,))
        sizes[part] = len(coarse.compress(frames))
    assert len(chosen) == min(sizes.values()) < max(sizes.values())


def test_a_folder_of_frames_and_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(sequence(80, 4)):
        (folder / f"frame_{index}.ply").write_bytes(write(frame, ".ply"))
    coded = tmp_path / "clip.dualgs"
    assert main(["encode", str(folder), "-c", "dualgs", "-o", str(coded), "--fps", "30"]) == 0
    assert main(["info", str(coded)]) == 0
    said = capfd.readouterr().out
    assert "storage" in said and "motion=" in said and "fps" in said
    assert main(["decode", str(coded), "-o", str(tmp_path / "back")]) == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [f"{i:04d}.ply" for i in range(4)]
    assert main(["decode", str(coded), "-o", str(tmp_path / "one.ply"), "--frames", "2"]) == 0
    assert same(open_source(tmp_path / "one.ply").frame(0), open_source(tmp_path / "back" / "0002.ply").frame(0))
    assert main(["decode", str(coded), "-o", str(tmp_path / "all.ply")]) == 2
    assert not (tmp_path / "all.ply").exists()
    assert main(["verify", str(coded)]) == 0


def test_what_a_sequence_can_t_be(tmp_path: Path) -> None:
    frames = sequence(30, 3)
    with pytest.raises(UsageError, match="lossless"):
        DUALGS.with_settings(lossless=True).compress(frames)
    with pytest.raises(UsageError, match="keep_order"):
        DUALGS.with_settings(keep_order=True).compress(frames)
    with pytest.raises(MediaError):
        DUALGS.compress((frames[0], scene(29)))
    broken = frames[1].take(np.arange(30))
    broken.opacities[4] = np.inf
    with pytest.raises(UsageError, match="frame 1: Gaussian 4"):
        DUALGS.compress((frames[0], broken))


def test_settings_that_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="lossless"):
        DUALGS.with_settings(lossless=True, quality=50)
    with pytest.raises(UsageError, match="position="):
        DUALGS.with_settings(max_error=0.1)


@pytest.mark.parametrize(("name", "value"), [("quality", 0), ("quality", 101), ("segment", 0), ("segment", 257)])
def test_settings_out_of_range(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{name} {value}: expected 1 to"):
        DUALGS.with_settings(**{name: value})


# ---- the same everywhere, and damage


def test_bytes_and_values_don_t_depend_on_threads() -> None:
    from codec.codecs.base.codec import threads

    frames = sequence(120, 4)
    with threads(1):
        data = DUALGS.compress(frames)
        alone = DUALGS.decompress(data)
    with threads(3):
        assert DUALGS.compress(frames) == data
        assert all(same(a, b) for a, b in zip(DUALGS.decompress(data), alone, strict=True))


def test_limits() -> None:
    data = DUALGS.compress(sequence(100, 3))
    with pytest.raises(LimitError):
        package.decode(data, limits=package.Limits(values=1000))


def test_many_equal_gaussians_fit_a_small_file() -> None:
    given = scene(1, 0).take(np.zeros(200_000, np.int64))
    made = DUALGS.decompress(DUALGS.compress(given))
    assert len(made) == 200_000


def decode(data: bytes) -> tuple[Gaussians, ...]:
    made = package.decode(data)
    return made if isinstance(made, tuple) else (made,)


@shares
@pytest.mark.parametrize("kind", ["scene", "floats", "sequence", "spz"])
def test_damage(kind: str, share: float) -> None:
    if kind == "sequence":
        good = DUALGS.with_settings(segment=2).compress(sequence(20, 3))
    elif kind == "spz":
        good = DUALGS.compress(io.BytesIO(write(scene(30, 1), ".spz")))
    else:
        good = (DUALGS.with_settings(lossless=True) if kind == "floats" else DUALGS).compress(scene(20, 1))
    expected = decode(good)

    def right(made: tuple[Gaussians, ...]) -> bool:
        return len(made) == len(expected) and all(same(a, b) for a, b in zip(made, expected, strict=True))

    Damage(good, decode, right, share=share).everything(examples=200)


@pytest.mark.parametrize(
    "params",
    [{name: value} for name in ("segment", "joints") for value in (-1, 0, 1 << 40, 1.0, None)]
    + [{name: value} for name in ("spacing", "length", "turn") for value in (0.0, -1.0, float("inf"), 1, None)],
    ids=str,
)
def test_numbers_in_a_header_that_no_encoder_writes(params: dict[str, Any]) -> None:
    header, chunks = unpack(DUALGS.compress(sequence(20, 3)))
    with pytest.raises(CodecError, match="damaged|expected"):
        decode(pack(replace(header, params={**header.params, **params}), list(chunks)))


def test_sog_comes_back_as_ply(tmp_path: Path) -> None:
    """Files of SOG aren't written: the suffix of a PLY file asks for values, not for the integers."""
    given, coded, back = (tmp_path / name for name in ("a.sog", "a.dualgs", "a.ply"))
    given.write_bytes(bundle(sog_parts(30, 1)))
    assert main(["encode", str(given), "-o", str(coded)]) == 0
    assert main(["decode", str(coded), "-o", str(back)]) == 0
    assert np.array_equal(rows(open_source(given).frame(0)), rows(open_source(back).frame(0)))
