"""The parts of dualgs: steps within bounds, skinning, motion, tracks, codebooks and look-up tables."""

from __future__ import annotations

import numpy as np
import pytest

from codec.codecs.base.gaussians.bounds import Bounds, named_bounds
from codec.codecs.dualgs.codebooks import Codebook, bands_of, fit_codebook, indexed
from codec.codecs.dualgs.grid import Grid, unit
from codec.codecs.dualgs.lookup import decode_lookup, encode_lookup
from codec.codecs.dualgs.motion import decode_motion, encode_motion
from codec.codecs.dualgs.rig import Pose, Rig, multiplied, rotation_matrices
from codec.codecs.dualgs.rig import _exp as exponential
from codec.codecs.dualgs.skinning import chosen_joints, fitted_pose, pose_of_matrices
from codec.codecs.dualgs.symbols import NumberCoder
from codec.codecs.dualgs.tracks import Kind, TrackReader, encode_tracks, held
from codec.errors import StreamError, UsageError
from codec.media.gaussians.values import DC

from .examples import scene


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- steps


@pytest.mark.parametrize("quality", [10, 60, 90])
def test_rounding_keeps_the_bounds(quality: float) -> None:
    given, bounds = scene(3000, 2), Bounds.of_quality(quality, 0.5)
    grid = Grid.of_bounds(bounds)
    made = grid.gaussians(grid.levels(given))
    assert np.abs(made.positions - given.positions).max() <= bounds.position + 1e-6
    assert np.expm1(np.abs(made.scales - given.scales)).max() <= bounds.scale + 1e-5
    assert np.abs(made.harmonics[:, 0] - given.harmonics[:, 0]).max() * DC <= bounds.colour + 1e-6
    assert np.abs(made.harmonics[:, 1:] - given.harmonics[:, 1:]).max() <= bounds.harmonics + 1e-6
    opacity = [1 / (1 + np.exp(-x.opacities.astype(float))) for x in (given, made)]
    assert np.abs(opacity[0] - opacity[1]).max() <= bounds.opacity + 1e-6
    a, b = unit(given.rotations.astype(float)), made.rotations.astype(float)
    assert 2 * np.arccos(np.abs((a * b).sum(1)).clip(0, 1)).max() < 8 * bounds.rotation


def test_a_table_holds_all_of_a_grid() -> None:
    grid = Grid.of_bounds(Bounds.of_quality(60, 0.5))
    levels = grid.levels(scene(50, 3))
    again, read = Grid.of_table(grid.table(levels))
    assert again == grid
    assert all(np.array_equal(getattr(read, name), getattr(levels, name)) for name in vars(levels))


@pytest.mark.parametrize("data", [b"", b"\0" * 42, b"\xff" * 42, b"\0" * 41])
def test_steps_that_nobody_writes_are_refused(data: bytes) -> None:
    with pytest.raises(StreamError):
        Grid.unpack(data)


def test_bounds_are_named_by_attribute() -> None:
    assert named_bounds([("/position", 0.002), ("scale", 0.1)]) == {"position": 0.002, "scale": 0.1}
    for path in ("", "/size"):
        with pytest.raises(UsageError, match="position="):
            named_bounds([(path, 0.1)])
    with pytest.raises(UsageError, match="at least"):
        Grid.of_bounds(Bounds(1, 1, 1, 1e-5, 1, 1))


# ---- skinning


def test_weights_are_those_of_the_paper() -> None:
    joints, skins = draw().normal(size=(40, 3)), draw(1).normal(size=(60, 3))
    rig = Rig.of(joints, skins, 0.5)
    distance = np.sqrt(((skins[:, None] - joints[None]) ** 2).sum(2))
    nearest = np.argsort(distance, 1, kind="stable")[:, :8]
    assert np.array_equal(rig.anchors, nearest)
    weights = np.exp(-(np.take_along_axis(distance, nearest, 1) ** 2) / 0.25)
    assert np.allclose(rig.weights, weights / weights.sum(1, keepdims=True), rtol=1e-12)


def test_joints_far_away_leave_no_weight_undefined() -> None:
    rig = Rig.of(np.array([[0.0, 0, 0], [5, 0, 0]]), np.array([[100.0, 0, 0]]), 0.02)
    assert np.isfinite(rig.weights).all()
    assert rig.weights.sum() == 1.0


def test_the_exponential_is_right() -> None:
    x = -np.linspace(0, 60, 5000)
    assert np.allclose(exponential(x), np.exp(x), rtol=1e-14)


def test_skins_follow_joints_that_move_rigidly() -> None:
    joints, skins = draw().normal(size=(30, 3)), draw(1).normal(size=(50, 3))
    q = unit(np.tile([[0.8, 0.2, -0.3, 0.1]], (30, 1)))
    matrix = np.array(rotation_matrices(q[:1])).reshape(3, 3)
    rotations = unit(draw(2).normal(size=(50, 4)))
    rig = Rig.of(joints, skins, 0.5)
    moved, turned = rig.warp(Pose(q, joints @ matrix.T + [1, 2, 3]), skins, rotations)
    assert np.allclose(moved, skins @ matrix.T + [1, 2, 3])
    expected = multiplied(np.repeat(q[:1], 50, 0), rotations)
    assert np.allclose(np.abs((turned * expected).sum(1)), 1.0)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_are_quaternions_too(axis: int) -> None:
    """Where the trace is -1, another formula has to be taken."""
    q = np.zeros((1, 4))
    q[0, axis + 1] = 1.0
    joints = np.zeros((1, 3))
    _, turned = Rig.of(joints, np.ones((1, 3)), 1.0).warp(Pose(q, joints), np.ones((1, 3)), np.array([[1.0, 0, 0, 0]]))
    assert np.allclose(np.abs(turned), np.abs(q))


def test_chosen_joints_move_as_what_is_around_them() -> None:
    base = draw().normal(size=(800, 3))
    joints = chosen_joints(base, 20)
    assert len(np.unique(joints, axis=0)) == 20
    rig = Rig.of(joints, base, 0.5)
    q = unit(np.array([[0.9, 0.3, 0.2, -0.1]]))
    matrix = np.array(rotation_matrices(q)).reshape(3, 3)
    pose = fitted_pose(rig, base, base @ matrix.T + [0.1, 0.2, 0.3], 0.5)
    assert np.allclose(pose.positions, joints @ matrix.T + [0.1, 0.2, 0.3], atol=1e-3)
    assert np.median(np.abs((pose.rotations * q).sum(1))) > 0.9999  # at the rim, few Gaussians hold a joint


def test_matrices_that_are_no_rotations_are_brought_to_the_nearest() -> None:
    joints = draw().normal(size=(5, 3))
    matrices = np.concatenate([np.tile(1.3 * np.eye(3), (5, 1, 1)), np.ones((5, 3, 1))], 2)
    pose = pose_of_matrices(matrices, joints)
    assert np.allclose(np.abs(pose.rotations), [1, 0, 0, 0])
    assert np.allclose(pose.positions, 1.3 * joints + 1)


# ---- motion


def poses(rest: np.ndarray, n_frames: int) -> list[Pose]:
    out = []
    for t in range(n_frames):
        angle = 0.3 * np.sin(0.3 * t + rest[:, 0])
        q = np.stack([np.cos(angle / 2), 0 * angle, np.sin(angle / 2), 0 * angle], 1)
        out.append(Pose(q, rest + np.stack([0.1 * np.sin(0.2 * t + rest[:, 1]), 0.02 * t + 0 * angle, 0 * angle], 1)))
    return out


def test_motion_comes_back_within_what_was_aimed_at() -> None:
    rest = draw().normal(size=(60, 3))
    wanted = poses(rest, 9)
    coarse, fine = (encode_motion(rest, 0.2, wanted, tolerance) for tolerance in (1e-2, 1e-4))
    for data, limit in ((coarse, 1e-2), (fine, 1e-3)):
        reader = decode_motion(data, rest, 0.2, 9)
        for pose in wanted:
            made = reader.next()
            error = np.sqrt(((made.positions - pose.positions) ** 2).sum(1).mean())
            assert error < 2 * limit
    assert len(coarse) < len(fine)


def test_joints_that_stand_still_cost_next_to_nothing() -> None:
    rest = draw().normal(size=(60, 3))
    assert len(encode_motion(rest, 0.2, [Pose.rest(rest)] * 20, 1e-3)) < 150


def test_cut_motion_is_an_error() -> None:
    rest = draw().normal(size=(20, 3))
    data = encode_motion(rest, 0.2, poses(rest, 5), 1e-3)
    for n in range(0, len(data), 7):
        with pytest.raises(StreamError):  # noqa: PT012  the start may be whole
            reader = decode_motion(data[:n], rest, 0.2, 5)
            [reader.next() for _ in range(5)]


# ---- tracks


def test_held_tracks_stay_within_the_tolerance_and_change_seldom() -> None:
    wanted = np.cumsum(draw().normal(0, 0.3, (40, 50, 2)), 0)
    tracks = held(wanted, 1.0)
    assert np.abs(tracks - wanted).max() <= 1.0
    rounded = np.rint(wanted)
    assert (np.diff(tracks, axis=0) != 0).sum() < 0.6 * (np.diff(rounded, axis=0) != 0).sum()


def test_a_track_that_needs_no_change_is_the_base_frame() -> None:
    assert not held(np.full((10, 3, 1), 0.9), 1.0).any()


def test_tracks_and_indices_come_back() -> None:
    n_frames, n = 8, 37
    numbers = held(np.cumsum(draw().normal(0, 0.8, (n_frames, n, 3)), 0), 0.5)
    numbers[3, 5] = [1 << 27, -(1 << 27), 0]
    indices = draw(1).integers(0, 5, (n_frames, n, 1)).astype(np.int32)
    kinds = [Kind(3), Kind(1, 3)]
    data = encode_tracks([numbers, indices], kinds)
    reader = TrackReader(data, n, kinds, n_frames)
    for t in range(n_frames):
        read = reader.next()
        assert np.array_equal(read[0], numbers[t])
        assert np.array_equal(read[1], indices[t])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_rows(n: int) -> None:
    tracks = draw(n).integers(-3, 4, (4, n, 2)).astype(np.int32)
    reader = TrackReader(encode_tracks([tracks], [Kind(2)]), n, [Kind(2)], 4)
    assert all(np.array_equal(reader.next()[0], track) for track in tracks)


def test_numbers_of_any_size_come_back() -> None:
    numbers = np.array([0, -1, 1, 127, -128, 128, 5000, -(1 << 30), (1 << 30)])
    zeros = np.zeros(len(numbers), np.int64)
    coder = NumberCoder(1, 1, 9)
    coder.code([zeros], zeros, numbers)
    data = coder.finish()
    reader = NumberCoder(1, 1, 9, data)
    assert np.array_equal(reader.code([zeros], zeros), numbers)
    reader.finish()


# ---- codebooks and look-up tables


def test_indices_stay_until_an_entry_is_too_far() -> None:
    centres = draw().normal(0, 20, (4, 9))
    kind = draw(1).integers(0, 4, (1, 300)).repeat(12, 0)
    kind[6:, :30] = 0
    wanted = centres[kind] + draw(2).normal(0, 0.3, (12, 300, 9))
    book = fit_codebook(wanted, 2.0)
    indices = indexed(wanted, book, 2.0)
    error = np.sqrt(((book.entries[indices] - wanted) ** 2).mean(2))
    assert error.max() < 4.0
    assert (np.diff(indices, axis=0) != 0).sum() <= 60


def test_nothing_changes_where_the_base_frame_will_do() -> None:
    wanted = draw().normal(0, 0.2, (5, 40, 9))
    book = fit_codebook(wanted, 2.0)
    assert len(book.entries) == 1
    assert not indexed(wanted, book, 2.0).any()


def test_a_codebook_comes_back() -> None:
    entries = draw().integers(-300, 300, (17, 15)).astype(np.int32)
    data = Codebook(entries).pack()
    assert np.array_equal(Codebook.unpack(data, 15).entries, entries)
    for n in range(0, len(data), 11):
        with pytest.raises(StreamError):
            Codebook.unpack(data[:n], 15)


def test_bands_are_the_degrees() -> None:
    assert bands_of(16) == [slice(0, 3), slice(3, 8), slice(8, 15)]
    assert bands_of(1) == []


@pytest.mark.parametrize("n", [1, 300, 5000])
def test_look_up_tables_come_back(n: int) -> None:
    tracks = np.cumsum(draw().integers(-1, 2, (6, n, 4)) * (draw(1).random((6, n, 1)) < 0.1), 0).astype(np.int32)
    rows = draw(2).permutation(n)
    data = encode_lookup(tracks, rows)
    assert np.array_equal(decode_lookup(data, 6, rows, 4), tracks)
    with pytest.raises(StreamError):
        decode_lookup(data[:-9], 6, rows, 4)


def test_a_table_that_no_picture_holds_is_left_to_the_tracks() -> None:
    assert encode_lookup(np.full((2, 3, 4), 500, np.int32), np.arange(3)) == b""
