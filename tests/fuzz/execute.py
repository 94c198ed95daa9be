"""One case, carried out in all the ways in which a file is read: anything but a `CodecError` or a result is a fault.

Also faults: more time than SECONDS, another file touched, parts of the container reader that don't agree.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import codec
from codec import container, registry
from codec.codecs.base import base_of
from codec.codecs.base.audio.codec import AudioCodec
from codec.codecs.base.codec import Codec, codec_for
from codec.codecs.base.gaussians.codec import GaussiansCodec
from codec.codecs.base.image import ImageCodec
from codec.codecs.base.limits import Limits
from codec.codecs.base.settings import Select
from codec.errors import CodecError
from codec.media.gaussians.sources import open_source
from codec.media.gaussians.writer import write

if __package__:
    from .structure import edited
else:  # as a script
    from structure import edited

__all__ = ["LIMITS", "SECONDS", "Outcome", "Target", "fenced"]

SECONDS = 10.0  # of the processor, for a case whose untouched file takes well below one
LIMITS = Limits(pixels=1 << 18, frames=1 << 10, seconds=8, values=1 << 20, bytes=1 << 23)  # what fits that time
ADDRESS_SPACE = 3 << 30  # bytes more than a worker has when it begins
LARGEST_FILE = 1 << 28  # bytes that a worker may write into one file


class Outcome(NamedTuple):
    """The end of a case. kind: "refused", "accepted", or that of a fault: "raised", "slow", "touched", "disagrees"."""

    kind: str
    words: str = ""
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("refused", "accepted")


@contextlib.contextmanager
def fenced() -> Iterator[None]:
    """Runs with so much address space more than now: a huge allocation is a MemoryError, a huge file an OSError."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)}
    resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESS_SPACE, before[resource.RLIMIT_AS][1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, before[resource.RLIMIT_FSIZE][1]))
    try:
        yield
    finally:
        for kind, limit in before.items():
            resource.setrlimit(kind, limit)


class Target:
    """What cases are tried on: loaded codecs, and a folder with a file that nobody may touch.

    folder: is made, and emptied after each case. codecs: those whose weights don't ship.
    """

    def __init__(self, folder: Path, codecs: Sequence[Codec] = ()) -> None:
        self.folder = folder
        self._codecs: dict[tuple[str, bytes], Codec] = {}
        for made in codecs:
            for n_bytes in (4, 16):  # of the name of its weights, in compact files and in others
                self._codecs[made.name, made.weights_id[:n_bytes]] = made.with_limits(LIMITS)
        self.out = folder / "out"
        self.victim = self.out / "victim.h5"
        self._content = b""
        self._prepare()

    def load(self, files: Iterable[bytes]) -> None:
        """Load the codecs of these files."""
        for data in files:
            with contextlib.suppress(CodecError):
                self._codec(container.read_header(data))

    def run(self, data: bytes, seed: str) -> Outcome:
        """Carry out one case; the seed decides in which ways the file is read."""
        started = time.process_time()
        try:
            accepted = self._read(data, random.Random(seed))
            outcome = Outcome("accepted" if accepted else "refused")
        except _Disagreement as error:
            outcome = Outcome("disagrees", str(error))
        except Exception as error:  # a fault of any kind
            outcome = Outcome("raised", _place_of(error))
        seconds = time.process_time() - started
        if self._is_touched():
            outcome = Outcome("touched", "another file was changed, removed or made")
        elif seconds > SECONDS and not outcome.is_fault:
            outcome = Outcome("slow", outcome.kind)
        self._prepare()
        return outcome._replace(seconds=seconds)

    def _prepare(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.out.mkdir(parents=True)
        if not self._content:
            import h5py

            with h5py.File(self.victim, "w") as file:
                file["d"] = [1, 2, 3]
            self._content = self.victim.read_bytes()
        self.victim.write_bytes(self._content)
        (self.folder / "victim.h5").write_bytes(self._content)

    def _is_touched(self) -> bool:
        victims = (self.victim, self.folder / "victim.h5")
        others = [item for item in self.out.iterdir() if not item.name.startswith("x") and item != self.victim]
        whole = all(victim.is_file() and victim.read_bytes() == self._content for victim in victims)
        return not whole or bool(others) or len(os.listdir(self.folder)) != 2

    # ---- ways of reading

    def _read(self, data: bytes, rng: random.Random) -> bool:
        """Whether any way of reading the content succeeds."""
        header = _header(data)
        if header is None:
            return self._concealed(data)
        with contextlib.suppress(CodecError):
            if header.codec in registry.names():
                base_of(registry.entry(header.codec)).describe(data)
        try:
            loaded = self._codec(header)
        except CodecError:
            return False
        ways = [*_ways(loaded, data, header, self.out, rng)]
        accepted = False
        for way in rng.sample(ways, min(2, len(ways))):
            with contextlib.suppress(CodecError):
                way()
                accepted = True
        return accepted

    def _concealed(self, data: bytes) -> bool:
        """Whether what is left of a file that isn't whole can be decoded."""
        with contextlib.suppress(CodecError):
            loaded = self._codec(container.salvage(data)[0])
            if isinstance(loaded, ImageCodec):
                loaded.decode_picture(data, conceal=True)
                return True
            if isinstance(loaded, AudioCodec):
                loaded.decode_file(data, self.out / "x.wav", Select(conceal=True))
                return True
        return False

    def _codec(self, header: container.Header) -> Codec:
        key = (header.codec, header.weights)
        if key not in self._codecs:
            self._codecs[key] = codec_for(header).with_limits(LIMITS)
        return self._codecs[key]


class _Disagreement(Exception):
    """Two readers of the container don't agree."""


def _header(data: bytes) -> container.Header | None:
    """The header, as all readers of the container have it; None if all refuse the file."""
    answers: list[Any] = []
    for read in (container.unpack, container.describe, _by_chunks):
        try:
            answers.append(read(data))
        except CodecError:
            answers.append(None)
    if len({answer is None for answer in answers}) != 1:
        raise _Disagreement([answer is not None for answer in answers])
    if answers[0] is None:
        with contextlib.suppress(CodecError):
            container.read_header(data)
        return None
    header, chunks = answers[0]
    salvaged = _salvaged(data)
    if container.read_header(data) != header or answers[2] != (header, chunks) or salvaged != (header, chunks):
        raise _Disagreement("headers or chunks differ")
    return header


def _salvaged(data: bytes) -> tuple[container.Header, tuple[container.Chunk, ...]] | None:
    """The header and the chunks of a file, some of which might have been lost."""
    with contextlib.suppress(CodecError):
        return container.salvage(data)
    return None


def _by_chunks(data: bytes) -> tuple[container.Header, tuple[container.Chunk, ...]]:
    reader = container.ChunkReader(io.BytesIO(data))
    chunks, at = [], reader.start
    for index in range(len(reader.places())):
        chunk, at = reader.read(index, at)
        chunks.append(chunk)
    return reader.header, tuple(chunks)


def _ways(
    loaded: Codec, data: bytes, header: container.Header, out: Path, rng: random.Random
) -> Iterator[Callable[[], Any]]:
    """The ways in which a file can be read, each as a function."""
    medium = loaded.medium
    yield lambda: loaded.decompress(data)
    yield lambda: loaded.verify_file(data)
    suffix = {"image": ".png", "video": ".y4m", "array": ".npy", "audio": ".wav", "gaussians": ".ply"}.get(
        medium, rng.choice((".h5", ".npy"))
    )
    yield lambda: loaded.decode_file(data, out / f"x{suffix}")
    if isinstance(loaded, ImageCodec) and any(setting.name == "conceal" for setting in loaded.selection):
        yield lambda: loaded.decode_file(data, out / "x1.png", Select(conceal=True))
    if isinstance(loaded, AudioCodec):
        yield lambda: loaded.decode_file(data, out / "x1.wav", Select(conceal=True))
        yield lambda: loaded.decode_file(data, out / "x2.wav", Select(seconds=(Fraction(1, 4), None)))
        yield lambda: _streamed(loaded, data, rng.randrange(1, 300))
    if isinstance(loaded, GaussiansCodec):
        yield lambda: loaded.decode_file(data, out / "x1", Select(form=rng.choice(("ply", "spz", "splat"))))
        yield lambda: loaded.decode_file(data, out / "x2.spz", Select(frames=(1, 2)))
        yield lambda: _splat_files(loaded, data, rng)
    if medium == "video":
        first = rng.randrange(5)
        yield lambda: loaded.decode_file(data, out / "x2.y4m", Select(frames=(first, first + 1)))
        yield lambda: loaded.decode_file(data, out / "x3.y4m", Select(conceal=True))
    if medium == "field":
        names = _datasets(data)
        if names:
            name, index = rng.choice(names), rng.randrange(3)
            yield lambda: loaded.decode_file(data, out / "x4.npy", Select(dataset=(name,)))
            yield lambda: loaded.decode_file(data, out / "x5.npy", Select(dataset=(name,), snapshot=index))
            yield lambda: loaded.decode_file(data, out / "x6.h5", Select(dataset=(name,)))
    if hasattr(loaded, "decompress_item"):
        item = rng.randrange(4)
        yield lambda: loaded.decompress_item(data, item)  # type: ignore[attr-defined]


def _streamed(loaded: AudioCodec, data: bytes, n_bytes: int) -> None:
    """Decodes a file of sound as it comes, so many bytes at a time."""
    decoder = loaded.stream_decoder()
    for at in range(0, len(data), n_bytes):
        decoder.push(data[at : at + n_bytes])
    decoder.flush()


def _splat_files(loaded: GaussiansCodec, data: bytes, rng: random.Random) -> None:
    """Reads changed files of each form, as they are given to an encoder."""
    with loaded.open_frames(data) as file:
        gaussians = file.frame(0)
    for suffix in (".ply", ".spz", ".splat"):
        with contextlib.suppress(CodecError):
            open_source(edited(rng, write(gaussians, suffix))).frame(0)


def _datasets(data: bytes) -> list[str]:
    """The names of datasets in the description of an HDF5 file, as far as it can be read."""
    for chunk in container.unpack(data)[1]:
        if chunk.tag == "Tree":
            with contextlib.suppress(zlib.error, ValueError, TypeError, KeyError, AttributeError):
                nodes = json.loads(zlib.decompressobj().decompress(chunk.payload, 1 << 20))["tree"]
                paths = [node.get("path") for node in nodes if node.get("kind") == "dataset"]
                return [path for path in paths if isinstance(path, str)]
    return []


def _place_of(error: BaseException) -> str:
    """The type of an error and where in the package it was raised, the same for the same fault."""
    root = str(Path(codec.__file__).resolve().parent)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if str(Path(frame.filename).resolve()).startswith(root) and "fuzz" not in frame.filename
    ]
    last = ours[-1] if ours else frames[-1]
    name = Path(last.filename).resolve()
    shown = name.relative_to(root) if str(name).startswith(root) else name.name
    return f"{type(error).__name__} at {shown}:{last.lineno}: {str(error)[:120]}"
