"""Gaussians in files of others, for the studies of dualgs: zip, zstd, xz, SPZ of version 4, and splats4d.

Also here: how large a raw PLY file is, and whether two sets of Gaussians are the same.
"""

from __future__ import annotations

import io
import lzma
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import zstandard
from numpy.typing import NDArray

from ...errors import MediaError, UsageError
from ...media.gaussians import splat, spz
from ...media.gaussians.values import Gaussians, Table, coefficients_of

__all__ = [
    "PAPER_BYTES",
    "Splats4d",
    "raw_bytes",
    "same",
    "seconds_of",
    "spz4",
    "xz",
    "zipped",
    "zstd",
]

T = TypeVar("T")

PAPER_BYTES = 248  # of a Gaussian in a PLY file of degree 3, with normals: 62 numbers, as the paper counts


def raw_bytes(degree: int) -> int:
    """The bytes of a Gaussian in the PLY files of 3D Gaussian splatting, normals included: 248 for degree 3."""
    return 4 * (14 + 3 * coefficients_of(degree))


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The files in a zip archive, as `zip -9` makes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    """The bytes as `zstd -19` packs them."""
    return zstandard.ZstdCompressor(level=19).compress(data)


def xz(data: bytes) -> bytes:
    """The bytes as `xz -9e` packs them."""
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def spz4(scene: Gaussians | Table) -> bytes:
    """An SPZ file of version 4: of the same integers where they are those of an SPZ file, else as it rounds."""
    if isinstance(scene, Table):
        return spz.write(scene, 4)
    return spz.write(spz.quantise(scene, 4), 4)


def same(a: Gaussians, b: Gaussians) -> bool:
    """Whether two sets hold the same Gaussians bit by bit, in whatever order."""
    if len(a) != len(b) or a.harmonics.shape != b.harmonics.shape:
        return False
    return bool(np.array_equal(_sorted_bits(a), _sorted_bits(b)))


def _sorted_bits(gaussians: Gaussians) -> NDArray[np.uint32]:
    n = len(gaussians)
    parts = (gaussians.positions, gaussians.scales, gaussians.rotations, gaussians.opacities, gaussians.harmonics)
    rows = np.concatenate([np.ascontiguousarray(part).view(np.uint32).reshape(n, -1) for part in parts], 1)
    return rows[np.lexsort(rows.T)]


def seconds_of(call: Callable[[], T], repeat: int) -> tuple[T, float]:
    """The result of a call, and the median of the seconds that it takes."""
    began = time.perf_counter()
    result = call()
    times = [time.perf_counter() - began]
    for _ in range(repeat - 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return result, statistics.median(times)


# ---- splats4d


class Splats4d:
    """The command `splat4d` of the package splats4d: a folder of .splat frames as a file with error bounds."""

    def __init__(self, program: Path) -> None:
        self._program = program

    @staticmethod
    def find() -> Splats4d | None:
        """The command on PATH, or beside Python; None where it isn't installed."""
        beside = Path(sys.executable).with_name("splat4d")
        named = shutil.which("splat4d") or (str(beside) if beside.is_file() else None)
        return None if named is None else Splats4d(Path(named))

    def encode(self, folder: Path, target: Path, options: Sequence[str] = ()) -> float:
        """Writes the file of a folder, without its own check of the result; returns the seconds that it took."""
        began = time.perf_counter()
        self._call("encode", "-i", str(folder), "-o", str(target), "--no-verify", *options)
        return time.perf_counter() - began

    def frame(self, file: Path, index: int, target: Path) -> Gaussians:
        """The Gaussians of a frame, which is written as .splat at `target`."""
        self._call("decode", str(file), "--frame", str(index), "-o", str(target))
        return splat.values(splat.read(target.read_bytes())[0])

    def _call(self, *words: str) -> None:
        try:
            command = [str(self._program), *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)  # noqa: S603
        except OSError as error:
            raise UsageError(f"splat4d can't be run: {error}") from None
        if done.returncode:
            raise MediaError(f"splat4d {words[0]} failed: {done.stderr.strip()[-300:]}")
