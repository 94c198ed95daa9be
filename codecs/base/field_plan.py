"""HDF5 files of codecs of fields: which datasets are fields, their blocks, and the description that a file begins with.

What isn't a field (coordinates, masks, integers, text, small or one-dimensional datasets) is kept without loss, in
slabs.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk
from ...errors import MediaError, StreamError, UsageError
from ...media import hdf5
from .codec import PathLike
from .field_blocks import MAX_JSON, SLAB, inflate
from .field_bounds import words_of
from .field_kinds import FLOATS, could_be_field, named_by, place_of, reason_by_values, references_of, samples_of
from .field_missing import Extent, Missing, Stray, declared_missing, stray_values

__all__ = [
    "BLOCK",
    "Blocks",
    "Content",
    "FieldPlan",
    "Index",
    "blocks_of",
    "bulk_of",
    "contents_of",
    "error_in_words",
    "find_dataset",
    "memory_file",
    "open_hdf5",
    "read_part",
    "shape_of",
    "slabs_of",
]

Index = tuple[slice, ...]  # of a block: the first axes, as far as it is cut along them

BLOCK = 1 << 24  # values of a block, at most, unless a family needs snapshots whole
_SMALL, _JOINED = 1 << 14, 1 << 15  # values: snapshots below the one are joined up to the other
_BULK = 1 << 13  # values that are looked at for the range of most of them
_TREE = "Tree"


def open_hdf5(path: PathLike | io.BytesIO) -> hdf5.Input:
    """An HDF5 file, open for reading. MediaError for anything else."""
    return hdf5.Input(path)


@contextlib.contextmanager
def memory_file(tree: hdf5.Tree) -> Iterator[hdf5.Input]:
    """A new HDF5 file in memory, with everything of a tree but values. StreamError for one that can't be built."""
    import h5py

    with h5py.File(io.BytesIO(), "w", track_order=tree.is_tracked) as file:
        hdf5.build(file, tree)
        yield hdf5.Input(file, tree)


def read_part(item: Any, index: Index, path: str) -> NDArray[Any]:
    """A part of a dataset. MediaError, with its name, if it can't be read."""
    with hdf5.guarded(path):
        return item[index] if item.shape else np.asarray(item[()])


# ---- blocks


class Blocks(Sequence[Index]):
    """The parts of an array that are coded one by one, by arithmetic: a shape alone must never fill the memory.

    They are of one index each of the axes in front of `axis`, and of `step` indices of that.
    """

    def __init__(self, shape: Sequence[int], axis: int = 0, step: int = 1) -> None:
        self.shape, self.axis, self.step = tuple(shape), axis, max(1, step)

    def __len__(self) -> int:
        if not self.shape:
            return 1
        if 0 in self.shape:
            return 0
        return math.prod(self.shape[: self.axis]) * -(-self.shape[self.axis] // self.step)

    @overload
    def __getitem__(self, number: int) -> Index: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Index]: ...
    def __getitem__(self, number: int | slice) -> Index | Sequence[Index]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        if not self.shape:
            return ()
        size = self.shape[self.axis]
        number, last = divmod(number, -(-size // self.step))
        index = [slice(last * self.step, min((last + 1) * self.step, size))]
        for side in reversed(self.shape[: self.axis]):
            number, at = divmod(number, side)
            index.insert(0, slice(at, at + 1))
        return tuple(index)

    def of_first(self, first: int) -> Iterator[int]:
        """The numbers of the blocks that hold an index of the first axis."""
        if self.axis == 0:
            yield first // self.step
        else:
            n = len(self) // self.shape[0]
            yield from range(first * n, (first + 1) * n)


def blocks_of(shape: Sequence[int], stream: int = 2, whole: int = BLOCK) -> Blocks:
    """The blocks of a field.

    They are of one index of the first axis where an index is a snapshot of its own (five axes or more), otherwise of as
    many as fit. Since stream version 2, small snapshots are joined, and what has more than `whole` values to an index
    is cut along the next axis as well.
    """
    row = math.prod(shape[1:])
    fits = max(1, BLOCK // max(1, row))
    if stream < 2:
        return Blocks(shape, 0, 1 if len(shape) >= 5 else fits)
    if row > max(whole, BLOCK):
        return _cut(shape, BLOCK)
    if len(shape) >= 5:
        return Blocks(shape, 0, _JOINED // max(1, row) if row < _SMALL else 1)
    return Blocks(shape, 0, fits)


def _cut(shape: Sequence[int], limit: int) -> Blocks:
    """Blocks of at most `limit` values, cut along as few axes as it takes."""
    axis = next((i for i in range(len(shape)) if math.prod(shape[i + 1 :]) <= limit), len(shape) - 1)
    return Blocks(shape, axis, limit // max(1, math.prod(shape[axis + 1 :])))


def slabs_of(node: hdf5.Node, stream: int = 2) -> Blocks:
    """The parts of a dataset that is kept without loss; of text only as long as nothing says it otherwise."""
    assert node.shape is not None
    shape, item = node.shape, max(1, hdf5.dtype_of(node.dtype).itemsize)
    if not shape:
        return Blocks(())
    row = item * math.prod(shape[1:])
    if stream < 2 or row <= SLAB:
        return Blocks(shape, 0, max(1, SLAB // max(1, row)))
    return _cut(shape, max(1, SLAB // item))


def shape_of(index: Index, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a part of an array; () of a single value."""
    return (*(part.stop - part.start for part in index), *shape[len(index) :])


# ---- which datasets are fields


@dataclass(frozen=True)
class Content:
    """The decision about one dataset, before it is coded.

    reason: why it is kept without loss; "" for a field. missing: the values of a field that stand for nothing; stray:
    those of them that nothing declares. extent: of all others. bulk: the range of the middle 98 % of them, about;
    infinite where that isn't known. node: None for an array.
    """

    node: Any
    reason: str = ""
    missing: Missing = field(default_factory=Missing)
    stray: tuple[Stray, ...] = ()
    extent: Extent = field(default_factory=Extent)
    bulk: float = math.inf

    @property
    def is_field(self) -> bool:
        return not self.reason


def contents_of(
    file: hdf5.Input, tree: hdf5.Tree, datasets: Sequence[str] | None, blocks: Callable[[Sequence[int]], Blocks]
) -> Iterator[Content]:
    """The decision about each dataset: the named ones are coded as fields, or else those that look like one.

    UsageError for a name that isn't there, or isn't a dataset of floats.
    """
    chosen = None if datasets is None else {find_dataset(tree, path).path for path in datasets}
    references = references_of(file, tree)
    for node in tree.datasets:
        if chosen is not None and node.path in chosen and (node.dtype not in FLOATS or not node.shape or not node.size):
            raise UsageError(f"{node.path} holds {node.dtype} of shape {node.shape}: a field is of float32 or float64")
    for node in tree.datasets:
        if chosen is not None:
            reason = "" if node.path in chosen else "isn't named by --dataset"
        elif could_be_field(node):
            reason = place_of(file, node, tree, references)
        else:
            reason = "isn't of floats on a grid"
        yield Content(node, reason) if reason else _looked_at(file[node.path], node, chosen is None, blocks)


def _looked_at(item: Any, node: hdf5.Node, may_refuse: bool, blocks: Callable[[Sequence[int]], Blocks]) -> Content:
    """The decision about a dataset that is a field unless its values say otherwise."""
    assert node.shape is not None
    shape, missing = node.shape, declared_missing(item)

    def parts() -> Iterator[NDArray[Any]]:
        return (read_part(item, index, node.path) for index in blocks(shape))

    def sample(index: Index) -> NDArray[Any]:
        values = read_part(item, index, node.path)
        return np.where(missing.mask(values), values.dtype.type(np.nan), values)

    if may_refuse:
        reason = reason_by_values(sample, shape, lambda: (part[~missing.mask(part)] for part in parts()))
        if reason:
            return Content(node, reason)
    missing, stray, extent = stray_values(parts, missing)
    return Content(node, "", missing, stray, extent, bulk_of(sample, shape, missing))


def bulk_of(read: Callable[[Index], NDArray[Any]], shape: Sequence[int], missing: Missing) -> float:
    """The range of the middle 98 % of some of an array's values; infinite if there are none."""
    samples = [read(index) for index in samples_of(shape, _BULK)]
    values = np.concatenate([part[~missing.mask(part)].ravel() for part in samples])
    if not values.size:
        return math.inf
    values.sort()
    cut = values.size // 100
    return 2 * (float(values[values.size - 1 - cut]) / 2 - float(values[cut]) / 2)


def _normal_path(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)


def find_dataset(tree: hdf5.Tree, path: str) -> hdf5.Node:
    """The dataset of this path, with a slash in front or without. UsageError with those that there are."""
    wanted = _normal_path(path)
    nodes = {node.path: node for node in tree.nodes}
    node = nodes.get(wanted)
    if node is not None and node.kind == "hard":
        node = nodes.get(node.target)
    if node is not None and node.kind == "dataset":
        return node
    paths = ", ".join(node.path for node in tree.datasets[:12])
    raise UsageError(f"no dataset {wanted}: there are {paths or 'none'}")


# ---- the description


@dataclass(frozen=True)
class FieldPlan:
    """The description of an HDF5 file, which is its first chunk.

    tree: all that is in it but for the values of datasets. fields: by path, how the datasets were coded that are
    fields: "bound" (absolute, or None), "blocks" (their number), "how" (methods); and, of some, "kind" of the bound and
    "error" (measured). slabs: by path, numbers of rows of the slabs of texts. stream, whole: see `blocks_of`.
    """

    tree: hdf5.Tree
    fields: Mapping[str, Any]
    slabs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    stream: int = 2
    whole: int = BLOCK

    @staticmethod
    def from_chunk(chunk: Chunk | None, stream: int = 2, whole: int = BLOCK) -> FieldPlan:
        """The plan in the first of the chunks of a file. StreamError if it isn't there, or can't be."""
        if chunk is None or chunk.tag != _TREE:
            raise StreamError("the description of the HDF5 file is missing: the file is damaged")
        try:
            text = json.loads(inflate(chunk.payload, MAX_JSON).decode("utf-8", "surrogatepass"))
            nodes, fields, slabs = text["tree"], dict(text["fields"]), dict(text.get("slabs", {}))
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
            raise StreamError(f"the description of the HDF5 file is damaged ({error})") from None
        tree = hdf5.Tree.from_json(json.dumps(nodes))
        by_path = {node.path: node for node in tree.datasets}
        floats = {path for path, node in by_path.items() if node.dtype in FLOATS and node.shape}
        sound = all(
            type(about) is dict and type(about.get("bound")) in (int, float, type(None)) for about in fields.values()
        )
        if not set(fields) <= floats or not sound:
            raise StreamError("the description of the HDF5 file names fields that aren't any: the file is damaged")
        for path, rows in slabs.items():
            shape = by_path[path].shape if path in by_path else None
            whole_rows = type(rows) is list and all(type(n) is int and n > 0 for n in rows)
            if not shape or not whole_rows or sum(rows) != shape[0] or path in fields:
                raise StreamError("the description of the HDF5 file has slabs that can't be: the file is damaged")
        return FieldPlan(tree, fields, slabs, stream, whole)

    def as_chunk(self) -> Chunk:
        """The reverse of `from_chunk`. MediaError for a file with too many names and attributes."""
        parts = {"tree": json.loads(self.tree.as_json()), "fields": self.fields}
        text = json.dumps(parts | ({"slabs": self.slabs} if self.slabs else {}), separators=(",", ":"))
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > MAX_JSON:
            raise MediaError(f"the names and attributes of this file have {len(data)} bytes; at most {MAX_JSON}")
        return Chunk(_TREE, zlib.compress(data, 9))

    @property
    def dtype(self) -> str:
        """The type in the header of the file: "float64" if all fields are of that, else "float32"."""
        kinds = {str(node.dtype)[1:] for node in self.tree.datasets if node.path in self.fields}
        return "float64" if kinds == {"f8"} else "float32"

    def in_words(self) -> dict[str, str]:
        """The way in which each field was coded, and its absolute error bound, by path."""
        return {path: _words(about) for path, about in self.fields.items()}

    # ---- parts

    def parts_of(self, node: hdf5.Node) -> Sequence[Index]:
        """The parts in which a dataset was coded; none of one without values."""
        if node.shape is None or not node.size:
            return ()
        if node.path in self.fields:
            return blocks_of(node.shape, self.stream, self.whole)
        if node.path in self.slabs:
            ends = np.cumsum(self.slabs[node.path]).tolist()
            return [(slice(end - n, end),) for n, end in zip(self.slabs[node.path], ends, strict=True)]
        return slabs_of(node, self.stream)

    def by_dataset(self, n_chunks: int) -> Iterator[tuple[hdf5.Node, range]]:
        """The datasets with the numbers of their chunks, in the order of the file.

        n_chunks: of the file, the description's included. StreamError unless these are all of them.
        """
        at = 1
        for node in self.tree.datasets:
            n = len(self.parts_of(node))
            if at + n > n_chunks:
                raise StreamError(f"{node.path} has {n_chunks - at} blocks, expected {n}: the file is damaged")
            yield node, range(at, at + n)
            at += n
        if at != n_chunks:
            raise StreamError(f"{n_chunks - at} blocks too many: the file is damaged")

    def chunks_of(self, node: hdf5.Node, n_chunks: int) -> range:
        """The numbers of the chunks of one dataset. StreamError if there are none."""
        for other, numbers in self.by_dataset(n_chunks):
            if other.path == node.path:
                return numbers
        raise StreamError(f"{node.path} isn't in this file any more: it is damaged")

    def only(self, datasets: Sequence[str]) -> tuple[hdf5.Tree, set[str], list[str]]:
        """The tree of some datasets, with what places them: dimension scales, coordinates, bounds, and the groups.

        Returns it, the paths of its datasets, and the attributes that had to be left out, since they refer to others.
        """
        wanted = [find_dataset(self.tree, path).path for path in datasets]
        by_path = {node.path: node for node in self.tree.nodes}
        kept: set[str] = set()
        with memory_file(self.tree) as file:
            while wanted:
                path = wanted.pop()
                if path not in kept:
                    kept.add(path)
                    scales = [scale for axis in by_path[path].scales for scale in axis]
                    others = [*scales, *named_by(file, by_path[path], self.tree)]
                    wanted += [other for other in others if other in by_path and by_path[other].kind == "dataset"]
        asked = {_normal_path(path) for path in datasets}
        links = {path for path in asked if by_path[path].kind == "hard"}  # second names that are asked for
        types = {node.path for node in self.tree.nodes if node.kind == "type"}
        groups = {path[:i] or "/" for path in kept | links | types for i in range(len(path)) if path[i] == "/"}
        nodes: list[hdf5.Node] = []
        left_out: list[str] = []
        for node in self.tree.nodes:
            if node.path in kept | types or (node.kind == "group" and node.path in groups):
                lost = [name for name, value in node.attributes.items() if _leads_out(value, kept | groups | types)]
                left_out += [f"{name!r} of {node.path}" for name in lost]
                kept_attributes = {name: value for name, value in node.attributes.items() if name not in lost}
                nodes.append(replace(node, attributes=kept_attributes))
            elif node.path in links:
                nodes.append(node)
        return replace(self.tree, nodes=tuple(nodes)), kept, left_out


def _leads_out(value: Any, places: set[str]) -> bool:
    """Whether an attribute holds references to anything but these places."""
    if "reference" not in json.dumps(value.get("type")):
        return False
    data = value.get("data")
    return not (isinstance(data, list) and {str(path) for path in data} <= {*places, ""})


def _words(about: Mapping[str, Any]) -> str:
    if about.get("how") == "lossless":
        return "lossless"
    words = f"{about.get('how')}, {words_of(str(about.get('kind', '')), about.get('bound'))}"
    error = about.get("error")
    if isinstance(error, (list, tuple)) and len(error) == 2 and all(type(part) in (int, float) for part in error):
        words += f": {error_in_words(*error)}"
    return words


def error_in_words(relative_l2: float, largest: float) -> str:
    """An error that was measured: in standard deviations of the field (root mean square), and of the range."""
    return f"relative L2 error {100 * relative_l2:.2g} %, largest error {100 * largest:.2g} % of the range"
