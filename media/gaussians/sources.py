"""Inputs of Gaussians: a file, bytes, a folder with a file for each frame, or the folder of a fitted dual sequence.

    source = open_source("frames/")     # 0000.ply, 0001.ply, ...: in the order of the numbers in their names
    source.n_frames, source.count, source.degree
    source.frame(3)                     # Gaussians, read when they are asked for

All frames of a sequence have the same number of Gaussians: the Gaussian of a row is the same one in every frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import MediaError
from ...files import STDIO, name_of, naming, read_bytes
from .. import GAUSSIAN_READS, Probe
from ..names import gaps, natural
from ..notes import Note
from . import sog
from .forms import EXPECTED, Scene, count_of, gaussians_of, read
from .values import Gaussians, Table

__all__ = ["DUAL", "SKINS", "GaussianSource", "Source", "open_source", "read_gaussians"]

GaussianSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Probe | Gaussians | Sequence[Gaussians]
)

DUAL, SKINS = "dual.json", "skins"  # the file that marks a fitted dual sequence, and the folder of its frames
MAX_FRAMES = 1 << 16
_MAX_JSON = 1 << 20  # bytes
_START = 1 << 14  # bytes of a frame that are looked at when a folder is opened
_SHOWN = 3  # names, in a note


class Source:
    """An opened input. form: of its files, as "ply" or "spz". fps: None where nothing says it. dual: the folder of a
    fitted dual sequence, whose frames are its skins.
    """

    def __init__(
        self,
        loads: Sequence[Callable[[], Scene]],
        names: Sequence[str],
        fps: float | None = None,
        notes: tuple[Note, ...] = (),
        dual: Path | None = None,
    ) -> None:
        self._loads, self._names = loads, names
        self._notes = dict.fromkeys(notes)  # in their order, each once
        self._held: tuple[int, Scene] | None = None
        self.fps, self.dual, self.n_frames = fps, dual, len(loads)
        first = self._scene(0, None)
        self.form, self.count, self.degree = first.form, len(first.gaussians), first.gaussians.degree

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes of the frames that were read so far, and of the folder."""
        return tuple(self._notes)

    def frame(self, index: int) -> Gaussians:
        """The Gaussians of a frame, as many as `count`. MediaError if they can't be read, or are more or fewer."""
        return self._checked(index).gaussians

    def table(self, index: int) -> Table | None:
        """The integers of a frame; None for a form that isn't quantised."""
        return self._checked(index).table

    def _scene(self, index: int, form: str | None) -> Scene:
        if self._held is None or self._held[0] != index:
            with naming(self._names[index]):
                scene = self._loads[index]()
            self._held = index, scene
            self._notes |= dict.fromkeys(scene.notes)
        scene = self._held[1]
        if form is not None and scene.form != form:
            raise MediaError(f"{self._names[index]}: a file of the form {scene.form}; the others are {form}")
        return scene

    def _checked(self, index: int) -> Scene:
        if not 0 <= index < self.n_frames:
            raise IndexError(f"frame {index} of {self.n_frames}")
        scene = self._scene(index, self.form)
        _check_alike(self._names[index], len(scene.gaussians), self._names[0], self.count)
        if scene.gaussians.degree != self.degree:
            raise MediaError(
                f"{self._names[index]}: harmonics of degree {scene.gaussians.degree}, and {self._names[0]} has degree "
                f"{self.degree}; expected the same in all frames"
            )
        return scene


def _check_alike(name: str, count: int, first: str, expected: int) -> None:
    if count != expected:
        raise MediaError(
            f"{name}: {count} Gaussians, and {first} has {expected}; a sequence needs the same Gaussians in every "
            "frame, in the same order: code each file by itself, or fit the sequence anew"
        )


# ---- opening


def open_source(source: GaussianSource) -> Source:
    """Open an input: a path, "-" for stdin, bytes, a binary stream, a probe, or Gaussians. MediaError if it can't be.

    A folder is a fitted dual sequence if it holds `dual.json`, a SOG scene if it holds `meta.json`, and else a
    sequence of files, one a frame.
    """
    if isinstance(source, Gaussians):
        source = [source]
    if isinstance(source, Probe):
        if source.data is not None:
            return _of_bytes(source.data, source.source)
        source = source.source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _of_bytes(bytes(source), "")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if str(source) == STDIO:
            return _of_bytes(read_bytes(STDIO), STDIO)
        return _of_folder(path) if path.is_dir() else _of_file(path)
    if isinstance(source, Sequence):
        scenes = [Scene("ply", gaussians) for gaussians in source]
        if not scenes:
            raise MediaError("no frames; expected at least one")
        return Source([_give(scene) for scene in scenes], [f"frame {index}" for index in range(len(scenes))])
    return _of_bytes(source.read(), str(getattr(source, "name", "the stream")))


def read_gaussians(source: GaussianSource, frame: int = 0) -> Gaussians:
    """The Gaussians of a scene, or of one frame of a sequence. MediaError if they can't be read."""
    return open_source(source).frame(frame)


def _give(scene: Scene) -> Callable[[], Scene]:
    return lambda: scene


def _of_bytes(data: bytes, name: str) -> Source:
    return Source([lambda: read(data, name)], [name_of(name) if name else "the data"])


def _of_file(path: Path) -> Source:
    if path.name == sog.META:
        return _of_sog(path.parent)
    return Source([_load_file(path)], [str(path)])


def _load_file(path: Path) -> Callable[[], Scene]:
    return lambda: read(read_bytes(path), path.name)


def _of_sog(folder: Path) -> Source:
    def load() -> Scene:
        table, notes = sog.read_folder(folder)
        return Scene(sog.FORM, gaussians_of(table), table, notes)

    return Source([load], [str(folder)])


def _of_folder(folder: Path) -> Source:
    if (folder / DUAL).is_file():
        return _of_dual(folder)
    if (folder / sog.META).is_file():
        return _of_sog(folder)
    files, notes = _frames_of(folder)
    return _sequence(files, None, notes, None)


def _of_dual(folder: Path) -> Source:
    """A fitted dual sequence: its skins, and what its dual.json says of frames and their rate."""
    path = folder / DUAL
    with naming(path):
        try:
            about: Any = json.loads(read_bytes(path, _MAX_JSON))
        except (ValueError, RecursionError) as error:
            raise MediaError(f"damaged ({str(error)[:80]})") from None
        fps, n_frames = (about.get(key) for key in ("fps", "n_frames")) if isinstance(about, dict) else (None, None)
        if not isinstance(fps, (int, float)) or not 0 < fps <= 1000 or not isinstance(n_frames, int):
            raise MediaError("no usable `fps` and `n_frames`; expected the description of a fitted sequence")
    files, _ = _frames_of(folder / SKINS)
    if len(files) != n_frames:
        raise MediaError(f"{folder / SKINS}: {len(files)} frames, and {DUAL} says {n_frames}: is the fit complete?")
    return _sequence(files, float(fps), (), folder)


def _frames_of(folder: Path) -> tuple[list[Path], tuple[Note, ...]]:
    """The files of a folder that are frames: those of the first suffix of GAUSSIAN_READS that is there."""
    try:
        names = sorted((name for name in os.listdir(folder) if not name.startswith(".")), key=natural)
    except OSError as error:
        raise MediaError(f"{folder}: can't be read ({error.strerror or error})") from None
    taken = next((held for end in GAUSSIAN_READS if (held := [n for n in names if n.lower().endswith(end)])), [])
    if not taken or len(taken) > MAX_FRAMES:
        raise MediaError(f"{folder}: {len(taken)} frames; expected 1 to {MAX_FRAMES} files, each {EXPECTED}")
    notes = []
    if missing := gaps(taken):
        number = "number" if missing.isdigit() else "numbers"
        notes.append(Note("frames", f"no files of the {number} {missing}: those before and behind follow each other"))
    if others := sorted(set(names) - set(taken)):
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        notes.append(Note("file", f"other files of the folder aren't taken: {', '.join(others[:_SHOWN])}{more}"))
    return [folder / name for name in taken], tuple(notes)


def _sequence(files: list[Path], fps: float | None, notes: tuple[Note, ...], dual: Path | None) -> Source:
    source = Source([_load_file(file) for file in files], [str(file) for file in files], fps, notes, dual)
    for file in files[1:]:  # before hours of coding, as far as their first bytes tell it
        try:
            with file.open("rb") as stream:
                count = count_of(stream.read(_START), os.fstat(stream.fileno()).st_size, file.name)
        except OSError as error:
            raise MediaError(f"{file}: can't be read ({error.strerror or error})") from None
        if count is not None:
            _check_alike(str(file), count, str(files[0]), source.count)
    return source
