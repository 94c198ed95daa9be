"""Snapshots of simulated turbulence, as the study of ZipGAN reads them, and the types that its parts share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import MediaError

__all__ = ["Field", "Row", "Snapshots", "merged", "read_snapshots"]

Field = NDArray[np.float32]  # (3, n, n, n): velocity along x, y, z
Row = Mapping[str, Any]  # one line of a part's results


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one simulation that are measured.

    fields: (3, n, n, n) float32 each. indices: where they stand in the file. about: the file's attributes, and means of
    its statistics over all of its snapshots. spacing: time between two snapshots of the file. turnover: the eddies'
    turnover time, in the same unit; NaN if the file doesn't say.
    """

    fields: list[Field]
    indices: list[int]
    about: dict[str, Any]
    spacing: float
    turnover: float


def read_snapshots(path: Path, every: int = 1, count: int | None = None) -> Snapshots:
    """The snapshots 0, every, 2 * every, ... of a file of `codec data turbulence`, at most `count` of them.

    MediaError for another kind of file.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            velocity: Any = file["velocity"]
            if velocity.ndim != 5 or velocity.shape[1] != 3:
                raise MediaError(f"{path}: /velocity of shape {velocity.shape}; expected snapshots, 3, z, y, x")
            indices = list(range(0, len(velocity), every))[:count]
            fields = [np.ascontiguousarray(velocity[index], np.float32) for index in indices]
            time = np.asarray(file["time"]) if "time" in file else np.arange(float(len(velocity)))
            group: Any = file.get("statistics", {})
            means = {name: float(np.mean(group[name][:])) for name in group}
            attributes: dict[str, Any] = {
                key: file.attrs[key] for key in ("n", "viscosity", "power", "seed") if key in file.attrs
            }
    except (OSError, KeyError) as error:
        raise MediaError(f"{path}: not a file of `codec data turbulence` ({error})") from None
    about = {key: value.item() for key, value in attributes.items()} | {"snapshots_in_file": len(time)} | means
    spacing = float(np.diff(time).mean()) if len(time) > 1 else 0.0
    return Snapshots(fields, indices, about, spacing, means.get("turnover", float("nan")))


def merged(rows: Iterable[Row], new: Sequence[Row], key: Sequence[str]) -> list[Row]:
    """The rows with new ones in place of those that have the same values under all names of `key`."""
    replaced = {tuple(row[name] for name in key) for row in new}
    return [row for row in rows if tuple(row[name] for name in key) not in replaced] + [*new]
