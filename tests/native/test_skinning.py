"""Skins that follow joints: compiled and in NumPy, the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from codec import native
from codec.codecs.dualgs import rig as rigs
from codec.codecs.dualgs.grid import unit
from codec.codecs.dualgs.rig import Pose, Rig
from codec.native import skinning

pytestmark = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")
ISA = native.instruction_sets()


def _rig(n: int, n_joints: int) -> tuple[Rig, Pose, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(n)
    joints, skins = draw.normal(0, 1, (n_joints, 3)), draw.normal(0, 1, (n, 3))
    joints[n_joints // 2 :] = joints[: n_joints - n_joints // 2]  # some at the same place
    pose = Pose(unit(draw.normal(0, 1, (n_joints, 4))), joints + draw.normal(0, 0.1, joints.shape))
    return Rig.of(joints, skins, 0.3), pose, skins, unit(draw.normal(0, 1, (n, 4)))


@pytest.mark.parametrize(("n", "n_joints"), [(0, 3), (1, 1), (40, 5), (300, 60)])
def test_skins_move_as_the_twin_says(n: int, n_joints: int) -> None:
    rig, pose, skins, rotations = _rig(n, n_joints)
    expected = rig.warp_plainly(rig.matrices(pose), skins, rotations)
    for name in ISA:
        with native.using(name):
            assert skinning.usable()
            for a, b in zip(rig.warp(pose, skins, rotations), expected, strict=True):
                assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_poses_that_only_a_damaged_file_has_give_the_same(bad: float) -> None:
    rig, pose, skins, rotations = _rig(40, 5)
    pose.rotations[1] = bad
    pose.positions[2, 0] = bad
    with np.errstate(invalid="ignore"):
        expected = rig.warp_plainly(rig.matrices(pose), skins, rotations)
        for name in ISA:
            with native.using(name):
                for a, b in zip(rig.warp(pose, skins, rotations), expected, strict=True):
                    assert np.array_equal(a, b, equal_nan=True), name


@pytest.mark.parametrize(("n", "n_joints"), [(1, 1), (50, 7), (300, 60)])
def test_joints_nearby_are_those_of_the_twin(n: int, n_joints: int) -> None:
    rig, _, skins, _ = _rig(n, n_joints)
    n_near = min(rigs.NEIGHBOURS, n_joints)
    anchors, squares = rigs._nearest(rig.joints, skins, n_near)
    for name in ISA:
        with native.using(name):
            made, distances = skinning.anchors(rig.joints, skins, n_near)
            assert np.array_equal(made, anchors) and distances.tobytes() == squares.tobytes(), name


def test_an_anchor_beyond_the_joints_is_refused() -> None:
    rig, pose, skins, rotations = _rig(40, 5)
    rig.anchors[3, 0] = 5
    with pytest.raises(AssertionError, match="called wrongly"):
        rig.warp(pose, skins, rotations)
