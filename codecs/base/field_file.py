"""A file of a field codec, opened for reading: its header, its description, and its blocks one at a time.

Files may be larger than memory, and come from anywhere: what is declared is compared with the bytes that are there
before anything is allocated for it.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from functools import cached_property
from typing import BinaryIO

from ...container import Chunk, ChunkReader, Header, check_critical
from ...errors import MediaError, StreamError
from ...files import is_stream
from ...media import Probe
from .codec import Data
from .field_plan import BLOCK, FieldPlan

__all__ = [
    "ARRAY",
    "CRITICAL",
    "FILE",
    "FILL",
    "KIND",
    "MASK",
    "MASKED",
    "TENSOR",
    "FieldFile",
    "filler",
    "opened_field",
]

ARRAY, TENSOR, FILE, MASKED = range(4)  # what was given to `compress`, params["k"]; append only
KIND = "k"
MASK, FILL = "Mask", "fill"  # tags of chunks
CRITICAL = frozenset({"Tree", "Bloc", "Loss", MASK})
_PER_BYTE, _FREE = 15, 1 << 22  # values that a file may declare: 2^15 to a byte, and so many besides


class FieldFile:
    """A file of a field codec. header; plan: of an HDF5 file. The critical chunks are numbered from 0.

    whole: of the family, see `blocks_of`. Raises ContainerError and StreamError.
    """

    def __init__(self, file: BinaryIO, whole: int = BLOCK) -> None:
        self._reader = ChunkReader(file)
        self._whole = whole
        self.header: Header = self._reader.header
        self.n_bytes = self._reader.n_bytes
        places = list(enumerate(self._reader.places()))
        check_critical([Chunk(place.tag, b"") for _, place in places], CRITICAL)
        self._ancillary = [(number, place) for number, place in places if place.tag[:1].islower()]
        self._places = [(number, place) for number, place in places if not place.tag[:1].islower()]
        kind = self.header.params.get(KIND, ARRAY)
        if kind not in (ARRAY, TENSOR, FILE, MASKED) or self.header.dtype not in ("float32", "float64"):
            raise StreamError(f"a field of {self.header.dtype}, kind {kind!r}: newer, or damaged")
        self.kind = int(kind)
        if self.kind != FILE:
            self._check_size(math.prod(self.header.shape))

    def __len__(self) -> int:
        return len(self._places)

    def chunk(self, number: int, tag: str) -> bytes:
        """The payload of a chunk. StreamError if there is none, or it is another one."""
        if not 0 <= number < len(self) or self._places[number][1].tag != tag:
            raise StreamError(f"block {number} is missing, or another one: the file is damaged")
        index, place = self._places[number]
        return self._reader.read(index, place.position)[0].payload

    def check_rest(self) -> None:
        """Read what decoding leaves out. ContainerError if it is damaged."""
        for index, place in self._ancillary:
            self._reader.read(index, place.position)

    @cached_property
    def plan(self) -> FieldPlan:
        first = Chunk("Tree", self.chunk(0, "Tree")) if len(self) else None
        plan = FieldPlan.from_chunk(first, self.header.stream, self._whole)
        self._check_size(sum(node.size for node in plan.tree.datasets if node.path in plan.fields))
        return plan

    def _check_size(self, values: int) -> None:
        if values > (self.n_bytes << _PER_BYTE) + _FREE:
            raise StreamError(
                f"{self.n_bytes} bytes can't hold {values} values (at most {1 << _PER_BYTE} to a byte): the file is "
                "damaged"
            )


def filler(values: int, n_bytes: int) -> list[Chunk]:
    """A chunk that makes a file long enough for so many values that are nearly all the same; usually none."""
    missing = -(-max(0, values - _FREE) >> _PER_BYTE) - n_bytes
    return [Chunk(FILL, bytes(missing))] if missing > 0 else []


@contextlib.contextmanager
def opened_field(source: Data | Probe | BinaryIO, whole: int = BLOCK) -> Iterator[FieldFile]:
    """A file of ours, open as long as the block runs. MediaError if it can't be read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield FieldFile(io.BytesIO(bytes(source)), whole)
    elif not isinstance(source, Probe):
        yield FieldFile(source, whole)
    elif source.data is not None or is_stream(source.source):
        yield FieldFile(io.BytesIO(source.read()), whole)
    else:
        try:
            file = open(source.source, "rb")  # noqa: SIM115  what reading raises is another matter
        except (OSError, ValueError) as error:
            raise MediaError(f"{source.source}: {getattr(error, 'strerror', None) or error}") from None
        with file:
            yield FieldFile(file, whole)
