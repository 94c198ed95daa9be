"""Procedural performances for figures with joints: a few angles of the body as smooth functions of time.

Axes are those of all captures: y up, the figure looks along +z, its left is +x. Angles are radians and have limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError

__all__ = ["LIMITS", "PERFORMANCES", "Joints", "angles_at", "perform", "rotation"]

Array = NDArray[np.float64]
Angles = dict[str, float]

SIDES: Final = ("L", "R")
# Each channel and its range. raise: of an arm, 0 hangs down, pi / 2 is sideways. forward: of arms and legs. turn, bob
# and sway move the whole figure; lean, twist and side bend the spine; nod and look move the head.
LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "turn": (-np.inf, np.inf),
    "bob": (-0.1, 0.1),
    "sway": (-0.1, 0.1),
    "lean": (-0.3, 0.6),
    "twist": (-0.7, 0.7),
    "side": (-0.4, 0.4),
    "nod": (-0.5, 0.6),
    "look": (-1.0, 1.0),
    **{f"raise.{s}": (0.08, 2.6) for s in SIDES},
    **{f"forward.{s}": (-0.8, 2.4) for s in SIDES},
    **{f"elbow.{s}": (0.05, 2.2) for s in SIDES},
    **{f"hip.{s}": (-0.5, 1.3) for s in SIDES},
    **{f"spread.{s}": (0.0, 0.7) for s in SIDES},
    **{f"knee.{s}": (0.02, 1.9) for s in SIDES},
}


def _walk(t: float, phases: Array) -> Angles:
    """Two steps of walking in place in 1.2 seconds."""
    stride = 2 * np.pi * t / 1.2 + phases[0]
    angles = {"bob": 0.015 * np.cos(2 * stride), "twist": 0.12 * np.sin(stride), "lean": 0.06}
    for side, phase in (("L", 0.0), ("R", np.pi)):
        angles[f"hip.{side}"] = 0.12 + 0.5 * np.sin(stride + phase)
        angles[f"knee.{side}"] = 0.45 + 0.4 * np.sin(stride + phase + 1.2)
        angles[f"forward.{side}"] = -0.45 * np.sin(stride + phase)
        angles[f"elbow.{side}"] = 0.45 - 0.25 * np.sin(stride + phase)
        angles[f"raise.{side}"] = 0.18
    return angles


def _wave(t: float, phases: Array) -> Angles:
    """One arm up that waves, twice in a second and a half, while the body sways."""
    slow, quick = 2 * np.pi * t / 3 + phases[0], 2 * np.pi * t / 0.75
    return {
        "sway": 0.03 * np.sin(slow),
        "side": 0.08 * np.sin(slow),
        "look": 0.3 * np.sin(slow),
        "nod": 0.1,
        "raise.R": 2.0 + 0.15 * np.sin(slow),
        "elbow.R": 0.7 + 0.5 * np.sin(quick),
        "raise.L": 0.25 + 0.1 * np.sin(slow + 1),
        "elbow.L": 0.4,
        "knee.L": 0.12 + 0.08 * np.sin(slow),
        "knee.R": 0.12 - 0.08 * np.sin(slow),
        "hip.L": 0.06 + 0.04 * np.sin(slow),
        "hip.R": 0.06 - 0.04 * np.sin(slow),
    }


def _turn(t: float, phases: Array) -> Angles:
    """A walk that turns once around in six seconds."""
    return {**_walk(t, phases), "turn": 2 * np.pi * t / 6}


def _dance(t: float, phases: Array) -> Angles:
    """Every joint moves on two sines; arms and legs alternate, the whole figure turns to and fro."""
    beat = 2 * np.pi * t / 1.1
    wave = [np.sin(beat * (0.5 if i % 3 == 2 else 1.0) + phase) for i, phase in enumerate(phases)]
    step = np.sin(beat + phases[0])
    angles = {
        "turn": 0.6 * np.sin(2 * np.pi * t / 4.4),
        "bob": 0.03 * np.cos(2 * beat),
        "sway": 0.04 * step,
        "lean": 0.1 + 0.1 * wave[1],
        "twist": 0.3 * step,
        "side": 0.14 * wave[2],
        "nod": 0.15 * wave[3],
        "look": 0.4 * wave[4],
    }
    for number, (side, sign) in enumerate((("L", 1.0), ("R", -1.0))):
        first = 5 + 4 * number
        angles[f"raise.{side}"] = 1.1 + 0.7 * wave[first] + 0.2 * sign * step
        angles[f"forward.{side}"] = 0.35 + 0.5 * wave[first + 1]
        angles[f"elbow.{side}"] = 0.9 + 0.6 * wave[first + 2]
        angles[f"hip.{side}"] = 0.3 + 0.4 * sign * step
        angles[f"knee.{side}"] = 0.55 + 0.45 * sign * step
        angles[f"spread.{side}"] = 0.15 + 0.1 * wave[first + 3]
    return angles


PERFORMANCES: Final[Mapping[str, Callable[[float, Array], Angles]]] = {
    "dance": _dance,
    "turn": _turn,
    "walk": _walk,
    "wave": _wave,
}


def angles_at(performance: str, seconds: float, seed: int = 0) -> Angles:
    """The angle of each channel of LIMITS at a time, within its limits. UsageError for an unknown performance."""
    if performance not in PERFORMANCES:
        raise UsageError(f"no performance {performance!r}: there are {', '.join(PERFORMANCES)}")
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 16)
    angles = PERFORMANCES[performance](seconds, phases)
    return {name: float(np.clip(angles.get(name, 0.0), *limits)) for name, limits in LIMITS.items()}


def rotation(axis: str, angle: float) -> Array:
    """The matrix, (3, 3), that turns by an angle about "x", "y" or "z"."""
    c, s = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def _between(start: Array, end: Array) -> Array:
    """The smallest turn, (3, 3), from one direction to another one that isn't opposite."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(a, b)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + a @ b)


class Joints:
    """The joints of a figure: where they are at rest, what hangs on what, and which ones play which role.

    heads: (J, 3), places at rest. parents: of each joint, an earlier one, or -1. roles: joints, by name "spine",
    "neck", "shoulder.L", "elbow.L", "wrist.L", "hip.L", "knee.L" and the same with R; several share
    the angle. Arms may hang down or be spread at rest; legs are straight.
    """

    def __init__(self, heads: Array, parents: list[int], roles: Mapping[str, list[int]]) -> None:
        self.heads, self.parents, self.roles = heads, parents, roles
        down = np.array([0.0, -1.0, 0.0])
        self._hanging = {}
        for side in SIDES:
            arm = heads[roles[f"wrist.{side}"][0]] - heads[roles[f"shoulder.{side}"][0]]
            self._hanging[side] = _between(arm, down)

    def transforms(self, angles: Angles) -> Array:
        """The transform of each joint from rest to a pose: (J, 4, 4)."""
        local = {joint: np.eye(3) for joint in range(len(self.parents))}
        for role, matrix in self._turns(angles).items():
            for joint in self.roles[role]:
                local[joint] = matrix
        out = np.empty((len(self.parents), 4, 4))
        whole = np.eye(4)
        whole[:3, :3] = rotation("y", angles["turn"])
        whole[:3, 3] = whole[:3, :3] @ np.array([angles["sway"], angles["bob"], 0.0])
        for joint, parent in enumerate(self.parents):
            move = np.eye(4)
            move[:3, :3] = local[joint]
            move[:3, 3] = self.heads[joint] - local[joint] @ self.heads[joint]
            out[joint] = (whole if parent < 0 else out[parent]) @ move
        return out

    def _turns(self, angles: Angles) -> dict[str, Array]:
        """The turn of each role, about the axes of rest."""
        n_spine, n_neck = len(self.roles["spine"]), len(self.roles["neck"])
        spine = [rotation(a, angles[c] / n_spine) for a, c in (("y", "twist"), ("z", "side"), ("x", "lean"))]
        neck = [rotation(a, angles[c] / n_neck) for a, c in (("y", "look"), ("x", "nod"))]
        turns = {"spine": spine[0] @ spine[1] @ spine[2], "neck": neck[0] @ neck[1]}
        for side, sign in (("L", 1.0), ("R", -1.0)):
            hang = self._hanging[side]
            arm = rotation("x", -angles[f"forward.{side}"]) @ rotation("z", sign * angles[f"raise.{side}"])
            turns[f"shoulder.{side}"] = arm @ hang
            turns[f"elbow.{side}"] = hang.T @ rotation("x", -angles[f"elbow.{side}"]) @ hang
            spread = rotation("z", sign * angles[f"spread.{side}"])
            turns[f"hip.{side}"] = rotation("x", -angles[f"hip.{side}"]) @ spread
            turns[f"knee.{side}"] = rotation("x", angles[f"knee.{side}"])
        return turns


def perform(joints: Joints, performance: str, seed: int = 0) -> Callable[[float], Array]:
    """The transforms of the joints, (J, 4, 4), as a function of seconds. UsageError for an unknown performance."""
    angles_at(performance, 0.0, seed)
    return lambda seconds: joints.transforms(angles_at(performance, seconds, seed))
