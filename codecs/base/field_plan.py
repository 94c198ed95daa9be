"""HDF5 files of codecs of fields: which datasets are fields, their blocks, and the description that a file begins with.

What isn't a field (coordinates, integers, text, small or one-dimensional datasets) is kept without loss, in slabs.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...container import Chunk
from ...errors import MediaError, StreamError, UsageError
from ...media import hdf5
from .codec import PathLike
from .field_blocks import MAX_JSON, SLAB, inflate

__all__ = [
    "BLOCK",
    "FieldPlan",
    "blocks_of",
    "fields_of",
    "find_dataset",
    "missing_values",
    "open_hdf5",
    "shape_of_rows",
]

BLOCK = 1 << 24  # values of a block, at most, unless a single index of the first axis has more
_TREE = "Tree"
_FLOATS = ("<f4", ">f4", "<f8", ">f8")
_MIN_VALUES, _MIN_SIDE = 4096, 8  # a dataset with fewer values, or shorter sides, isn't a field
_COORDINATES = frozenset(
    ["lat", "lon", "latitude", "longitude", "time", "x", "y", "z", "depth", "level", "lev", "height", "rlat", "rlon"]
)


def open_hdf5(path: PathLike | io.BytesIO) -> hdf5.Input:
    """An HDF5 file, open for reading. MediaError for anything else."""
    return hdf5.Input(path)


# ---- blocks


def blocks_of(shape: Sequence[int]) -> list[slice]:
    """The slices of the first axis that are coded one by one.

    They are of one index each where an index is a snapshot of its own (five axes or more), otherwise of as many as fit.
    """
    row = math.prod(shape[1:])
    step = 1 if len(shape) >= 5 else max(1, BLOCK // max(1, row))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def shape_of_rows(rows: slice, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a slice of the first axis of an array; () of a single value."""
    return (rows.stop - rows.start, *shape[1:]) if shape else ()


# ---- which datasets are fields


def fields_of(tree: hdf5.Tree, datasets: Sequence[str] | None) -> set[str]:
    """Paths of the datasets that are coded as fields: the named ones, or else those that look like one.

    UsageError for a name that isn't there, or isn't a dataset of floats.
    """
    scales = {path for node in tree.datasets for axis in node.scales for path in axis}
    if datasets is None:
        return {node.path for node in tree.datasets if _looks_like_a_field(node, scales)}
    chosen = {find_dataset(tree, path).path for path in datasets}
    for node in tree.datasets:
        if node.path in chosen and (node.dtype not in _FLOATS or not node.shape or not node.size):
            raise UsageError(f"{node.path} holds {node.dtype} of shape {node.shape}: a field is of float32 or float64")
    return chosen


def _looks_like_a_field(node: hdf5.Node, scales: set[str]) -> bool:
    """Whether a dataset has floats on a grid of at least two axes, and isn't what others are placed by."""
    if node.shape is None or node.dtype not in _FLOATS or len(node.shape) < 2 or node.size < _MIN_VALUES:
        return False
    name = node.path.rpartition("/")[2].lower()
    if node.scale is not None or node.path in scales or "axis" in node.attributes:
        return False
    if len(node.shape) == 2 and name in _COORDINATES:
        return False
    return sorted(node.shape)[-2] >= _MIN_SIDE


def find_dataset(tree: hdf5.Tree, path: str) -> hdf5.Node:
    """The dataset of this path, with a slash in front or without. UsageError with those that there are."""
    wanted = "/" + path.strip("/")
    for node in tree.datasets:
        if node.path == wanted:
            return node
    paths = ", ".join(node.path for node in tree.datasets[:12])
    raise UsageError(f"no dataset {wanted}: there are {paths}")


def missing_values(item: Any) -> tuple[float, ...]:
    """The values of a dataset that stand for nothing: its _FillValue and missing_value (CF conventions)."""
    values: list[float] = []
    for name in ("_FillValue", "missing_value"):
        if name in item.attrs:
            given = np.asarray(item.attrs[name])
            if given.dtype.kind in "iuf":
                values += map(float, given.ravel()[:8])
    return tuple(values)


# ---- the description


@dataclass(frozen=True)
class FieldPlan:
    """The description of an HDF5 file, which is its first chunk.

    tree: all that is in it but for the values of datasets. fields: by path, how the datasets were coded that are
    fields: "bound" (absolute, or None), "blocks" (their number) and "how" (methods).
    """

    tree: hdf5.Tree
    fields: Mapping[str, Any]

    @staticmethod
    def from_chunks(chunks: Sequence[Chunk]) -> FieldPlan:
        """The plan in the first of the chunks of a file. StreamError if it isn't there, or can't be."""
        if not chunks or chunks[0].tag != _TREE:
            raise StreamError("the description of the HDF5 file is missing: the file is damaged")
        try:
            text = json.loads(inflate(chunks[0].payload, MAX_JSON).decode("utf-8", "surrogatepass"))
            nodes, fields = text["tree"], dict(text["fields"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StreamError(f"the description of the HDF5 file is damaged ({error})") from None
        tree = hdf5.Tree.from_json(json.dumps(nodes))
        floats = {node.path for node in tree.datasets if node.dtype in _FLOATS and node.shape}
        sound = all(
            type(about) is dict and type(about.get("bound")) in (int, float, type(None)) for about in fields.values()
        )
        if not set(fields) <= floats or not sound:
            raise StreamError("the description of the HDF5 file names fields that aren't any: the file is damaged")
        return FieldPlan(tree, fields)

    def as_chunk(self) -> Chunk:
        """The reverse of `from_chunks`. MediaError for a file with too many names and attributes."""
        text = json.dumps({"tree": json.loads(self.tree.as_json()), "fields": self.fields}, separators=(",", ":"))
        if len(text) > MAX_JSON:
            raise MediaError(f"the names and attributes of this file have {len(text)} bytes; at most {MAX_JSON}")
        return Chunk(_TREE, zlib.compress(text.encode("utf-8", "surrogatepass"), 9))

    @property
    def dtype(self) -> str:
        """The type in the header of the file: "float64" if all fields are of that, else "float32"."""
        kinds = {str(node.dtype)[1:] for node in self.tree.datasets if node.path in self.fields}
        return "float64" if kinds == {"f8"} else "float32"

    def in_words(self) -> dict[str, str]:
        """The way in which each field was coded, and its absolute error bound, by path."""
        return {
            path: f"{about.get('how')}, "
            + ("without a bound" if about.get("bound") is None else f"within {about['bound']:.4g}")
            for path, about in self.fields.items()
        }

    def by_dataset(self, chunks: Sequence[Chunk]) -> Iterator[tuple[hdf5.Node, Sequence[Chunk]]]:
        """Datasets with their chunks, in the order of the file. StreamError if there are others."""
        at = 1
        for node in self.tree.datasets:
            if node.shape is None or not node.size:
                n = 0
            else:
                n = len(blocks_of(node.shape) if node.path in self.fields else hdf5.slabs(node, SLAB))
            if at + n > len(chunks):
                raise StreamError(f"{node.path} has {len(chunks) - at} blocks, expected {n}: the file is damaged")
            if n:
                yield node, chunks[at : at + n]
            at += n
        if at != len(chunks):
            raise StreamError(f"{len(chunks) - at} blocks too many: the file is damaged")

    def chunks_of(self, node: hdf5.Node, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """The chunks of one dataset. StreamError if there are none."""
        for other, parts in self.by_dataset(chunks):
            if other.path == node.path:
                return parts
        raise StreamError(f"{node.path} isn't in this file any more: it is damaged")
