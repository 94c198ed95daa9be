"""dualgs beside splats4d on the same frames, at the same error bounds; a part of the study of sequences.

Both keep bounds of every value: splats4d those of its options, dualgs the same by name. splats4d reads .splat, so its
frames are what both are given: positions and scales as float32, colours, opacities and rotations as bytes. Rotations
are exact there by default, in steps of .splat; half a step is the bound of ours then, so it rounds to the same step or
to the next one. It holds the bounds of rotations for bytes; here errors are of unit quaternions, which may be larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codecs.base.codec import Codec
from ...media.gaussians import writer
from ...media.gaussians.exact import sigmoid
from ...media.gaussians.sources import open_source
from ...media.gaussians.values import DC, Gaussians
from .splat_peers import Splats4d, zipped

__all__ = ["BOUNDS", "beside_splats4d", "bounds_of", "largest_errors"]

# The bounds of splats4d by default: 2 mm, 4 levels of 255, 2 %.
BOUNDS: Mapping[str, float] = {"position": 0.002, "colour": 4 / 255, "opacity": 4 / 255, "scale": 0.02}
_MOST = 8  # frames whose errors are measured

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Packed:
    """A file of the frames, how long it took, and what it decodes to."""

    name: str
    n_bytes: int
    seconds: float
    frame: Callable[[int], Gaussians]


def bounds_of(rot_steps: int) -> dict[str, float]:
    """The bounds of all attributes that .splat has. rot_steps: as splats4d takes it, 0 for half a step."""
    return {**BOUNDS, "rotation": (rot_steps or 0.5) / 128}


def rotation_words(rot_steps: int) -> str:
    """The bounds of rotations, theirs and ours."""
    return f"{rot_steps}/128" if rot_steps else "exact (ours 0.5/128)"


def beside_splats4d(
    frames: Sequence[Gaussians],
    folder: Path,
    rot_steps: Sequence[int] = (0,),
    say: Say = lambda words: None,
) -> list[dict[str, Any]]:
    """The rows of both, of .splat as it is, and of it in a zip. folder: an empty one, for files in between."""
    inputs = folder / "frames"
    inputs.mkdir(parents=True)
    files = {f"frame_{t:04d}.splat": writer.write(frame, ".splat") for t, frame in enumerate(frames)}
    for name, data in files.items():
        (inputs / name).write_bytes(data)
    given = [open_source(data).frame(0) for data in files.values()]
    n = len(given)
    rows: list[dict[str, Any]] = [
        {"name": ".splat", "bytes_a_frame": sum(map(len, files.values())) / n},
        {"name": ".splat in a zip", "bytes_a_frame": len(zipped(files)) / n},
    ]
    program = Splats4d.find()
    if program is None:
        say("splats4d isn't installed, its rows are left out: pip install splats4d")
    for steps in rot_steps:
        bounds = bounds_of(steps)
        packed = [] if program is None else list(_theirs(program, inputs, folder, steps))
        base = packed[0].n_bytes if packed else None
        packed.append(_ours(inputs, bounds, n))
        words = f"2 mm, 4/255, 2 %, rotation {rotation_words(steps)}"
        for item in packed:
            errors = largest_errors(given, item.frame, bounds)
            part = None if base is None else item.n_bytes / base
            row = {"name": item.name, "rot_steps": steps, "bounds": words, "bytes_a_frame": item.n_bytes / n}
            rows.append({**row, "of_splats4d": part, "errors": errors, "encode_seconds_a_frame": item.seconds / n})
            say(f"{item.name}, rot-steps {steps}: {item.n_bytes / n / 1000:.2f} kB a frame")
    return rows


def _theirs(program: Splats4d, inputs: Path, folder: Path, steps: int) -> list[_Packed]:
    """splats4d with its default options, and with its best packing."""
    out = []
    for level in ((), ("--zstd-level", "19")):
        target = folder / f"{steps}{'-'.join(level)}.splat4d"
        seconds = program.encode(inputs, target, ["--rot-steps", str(steps), *level])
        name = " ".join(["splats4d", *level])

        def frame(index: int, target: Path = target) -> Gaussians:
            return program.frame(target, index, folder / "decoded.splat")

        out.append(_Packed(name, target.stat().st_size, seconds, frame))
    return out


def _ours(inputs: Path, bounds: Mapping[str, float], n_frames: int) -> _Packed:
    codec = Codec.load("dualgs").with_settings(max_error=tuple(f"{name}={value!r}" for name, value in bounds.items()))
    began = time.perf_counter()
    data = codec.compress(inputs)
    seconds = time.perf_counter() - began
    decoded = codec.decompress(data)
    frames = decoded if isinstance(decoded, tuple) else (decoded,)
    assert len(frames) == n_frames
    return _Packed("dualgs", len(data), seconds, frames.__getitem__)


# ---- errors


def largest_errors(
    given: Sequence[Gaussians], decoded: Callable[[int], Gaussians], bounds: Mapping[str, float]
) -> dict[str, float]:
    """By attribute, the largest error in a few frames, in bounds: at most 1 where they hold.

    Rows are matched once, in the first frame: to each given Gaussian the decoded one that is nearest, in bounds.
    """
    from scipy.spatial import KDTree

    order: Any = None
    errors: dict[str, float] = dict.fromkeys(bounds, 0.0)
    chosen = np.unique(np.linspace(0, len(given) - 1, min(_MOST, len(given))).round().astype(int))
    for index in chosen.tolist():
        frame = decoded(index)
        wanted, held = _attributes(given[index]), _attributes(frame)
        if order is None:
            order = KDTree(_in_bounds(held, bounds)).query(_in_bounds(wanted, bounds), p=np.inf)[1]
        for name, bound in bounds.items():
            a, b = wanted[name], held[name][order]
            gap = np.abs(a - b)
            if name == "rotation":
                gap = np.minimum(gap.max(1), np.abs(a + b).max(1))
            elif name == "scale":
                gap = np.abs(np.expm1(b - a))
            errors[name] = max(errors[name], float(gap.max(initial=0)) / bound)
    return errors


def _attributes(frame: Gaussians) -> dict[str, NDArray[np.float64]]:
    """By name, in the units of bounds; scales as logarithms."""
    rotations = frame.rotations.astype(np.float64)
    rotations /= np.linalg.norm(rotations, axis=1, keepdims=True)
    return {
        "position": frame.positions.astype(np.float64),
        "colour": np.clip(frame.harmonics[:, 0].astype(np.float64) * DC + 0.5, 0, 1),
        "opacity": sigmoid(frame.opacities)[:, None],
        "scale": frame.scales.astype(np.float64),
        "rotation": rotations,
    }


def _in_bounds(values: Mapping[str, NDArray[np.float64]], bounds: Mapping[str, float]) -> NDArray[np.float64]:
    """The attributes side by side, (N, 11); a rotation has two signs, so it is left out."""
    return np.concatenate([values[name] / bound for name, bound in bounds.items() if name != "rotation"], 1)
