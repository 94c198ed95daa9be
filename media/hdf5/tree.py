"""An HDF5 file but for its values, as plain nodes; their JSON, which is checked before anything is built from it.

A name in a description is never looked up in a file system: what scales, references and hard links lead to must be a
group, a dataset or a type among the nodes themselves, and so must each part of a path. Nothing lies behind a link.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from ...errors import StreamError
from ..notes import Note
from .limits import MAX_ATTRIBUTE, MAX_AXES, MAX_CHUNK, MAX_NODES, MAX_PATH, MAX_SIDE, MAX_USER_BLOCK, MAX_VALUES
from .types import is_variable, name_of_kind, size_of

__all__ = ["OBJECTS", "Node", "Slabs", "Tree", "bounded_chunks", "decode", "encode", "excess_of", "slabs"]

OBJECTS = ("group", "dataset", "type")  # what isn't a link
_KINDS = (*OBJECTS, "soft", "external", "hard")


@dataclass(frozen=True)
class Node:
    """A name in an HDF5 file. kind: group, dataset, type (one with a name), soft, external, hard (a second name).

    dtype: a kind as in `types`. attributes: name -> {"type", "shape", "data"}. storage: what the object was created
    with. scales: for each axis of a dataset the paths of its dimension scales. scale: name of the dimension scale that
    this dataset is, or None.
    """

    path: str
    kind: str
    target: str = ""
    file: str = ""
    dtype: Any = None
    shape: tuple[int, ...] | None = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    scales: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] = ()
    scale: str | None = None

    @property
    def size(self) -> int:
        return 0 if self.shape is None else math.prod(self.shape)


@dataclass(frozen=True)
class Tree:
    """An HDF5 file but for the values of its datasets.

    notes: what a file that was read holds and the tree doesn't. names: of that file's objects, by their marks.
    """

    nodes: tuple[Node, ...]  # the first is the root group; parents before children
    notes: tuple[Note, ...] = field(default=(), compare=False)
    names: Mapping[Any, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def datasets(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.kind == "dataset")

    @property
    def is_tracked(self) -> bool:
        """Whether the root group keeps the order in which its members were made."""
        return not self.nodes[0].storage.get("untracked")

    def as_json(self) -> str:
        return json.dumps([_sparse(vars(node)) for node in self.nodes], separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Tree:
        """The tree that `as_json` made the text of. StreamError unless it can be built."""
        where = "/"
        try:
            items = json.loads(text)
            if type(items) is not list or not 1 <= len(items) <= MAX_NODES:
                raise ValueError(f"{len(items)} nodes")
            nodes = []
            for item in items:
                where = str(item["path"])[:200]
                nodes.append(_node(item))
            if nodes[0].path != "/" or nodes[0].kind != "group":
                raise ValueError("no root")
            _check_places(nodes)
            return Tree(tuple(nodes))
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            RecursionError,
            OverflowError,
            RuntimeError,
            AssertionError,
        ) as error:
            words = f"the description of the HDF5 file is damaged ({where}: {error})"
            raise StreamError(words.encode("utf-8", "replace").decode()) from None


def _check_places(nodes: Sequence[Node]) -> None:
    """Raise ValueError unless each node lies in a group of the tree, and all that it leads to is an object of it."""
    seen: dict[str, Node] = {"/": nodes[0]}
    for node in nodes[1:]:
        parent, _, name = node.path.rpartition("/")
        above = seen.get(parent or "/")
        if node.path in seen or above is None or above.kind != "group" or name in ("", ".", ".."):
            raise ValueError(f"path {node.path!r}")
        if node.kind == "hard" and (node.target not in seen or seen[node.target].kind not in OBJECTS):
            raise ValueError(f"{node.path!r} is a second name of {node.target!r}, which is no object of this file")
        seen[node.path] = node
    for node in nodes:
        for path in (path for axis in node.scales for path in axis):
            if path not in seen or seen[path].kind != "dataset":
                raise ValueError(f"{node.path!r} has the dimension scale {path!r}, which is no dataset of this file")
        kinds = [(node.path, node.dtype)] if node.kind == "dataset" else []
        for name, value in node.attributes.items():
            kinds.append((f"{name!r} of {node.path}", value["type"]))
            for path in value["data"] if value["type"] == "reference" else ():
                if path and (path not in seen or seen[path].kind not in OBJECTS):
                    raise ValueError(f"{name!r} of {node.path!r} leads to {path!r}, which is no object of this file")
        for where, kind in kinds:
            if isinstance(kind, Mapping) and kind.get("class") == "named":
                named = seen.get(kind["path"])
                if named is None or named.kind != "type" or named.dtype != kind["type"]:
                    raise ValueError(f"{where} is of the type {kind['path']!r}, which isn't one of this file")


# ---- descriptions

_PLAIN = {
    name: part.default for name, part in Node.__dataclass_fields__.items() if name not in ("path", "kind", "shape")
}


def _sparse(node: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in node.items() if value not in ({}, ()) and value != _PLAIN.get(key)}
    if node["kind"] == "dataset":
        kept["shape"] = node["shape"]
    return kept


def _node(given: Mapping[str, Any]) -> Node:
    """The node of a JSON object. Raises ValueError and the like."""
    shape = given.get("shape", ())
    scales = tuple(tuple(_word(path) for path in axis) for axis in given.get("scales", ()))
    labels = tuple(_word(label) for label in given.get("labels", ()))
    node = Node(**{**given, "shape": None if shape is None else _sides(shape), "scales": scales, "labels": labels})
    if node.kind not in _KINDS:
        raise ValueError(f"kind {node.kind!r}")
    path = _word(node.path)
    if not path.startswith("/") or len(path) > MAX_PATH:
        raise ValueError(f"path {path[:80]!r}")
    for word in (node.target, node.file, node.scale or ""):
        _word(word)
    if node.kind in ("soft", "external") and not (node.target and (node.file or node.kind == "soft")):
        raise ValueError("a link to nothing")
    if node.kind in ("dataset", "type"):
        n_bytes = size_of(node.dtype) * max(1, node.size)
        if not 0 < n_bytes <= MAX_VALUES:
            raise ValueError(f"{name_of_kind(node.dtype)} of shape {node.shape}")
    for name, value in node.attributes.items():
        _check_attribute(_word(name), value)
    _check_storage(node)
    return node


def _check_attribute(name: str, value: Mapping[str, Any]) -> None:
    if name in ("DIMENSION_LIST", "REFERENCE_LIST"):
        raise ValueError(f"attribute {name!r}, which dimension scales make")
    size = size_of(value["type"])
    n_values = 0 if value["shape"] is None else math.prod(_sides(value["shape"]))
    is_list = value["type"] in ("text", "reference")
    if n_values * (4 if is_variable(value["type"]) else size) > MAX_ATTRIBUTE:
        raise ValueError(f"attribute {name!r} of {n_values} values")
    data = value["data"]
    if n_values and type(data) is not (list if is_list else str):
        raise ValueError(f"attribute {name!r}")
    if is_list and not all(isinstance(word, str) for word in data):
        raise ValueError(f"attribute {name!r}")


def _check_storage(node: Node) -> None:
    storage = node.storage
    rank = len(node.shape or ())
    for name in ("chunks", "maxshape"):
        sides = storage.get(name)
        if sides is not None and len(sides) != rank:
            raise ValueError(f"{name} {sides}")
    if "chunks" in storage and not (rank and all(type(n) is int and 1 <= n < 1 << 32 for n in storage["chunks"])):
        raise ValueError(f"chunks {storage['chunks']}")
    block = storage.get("user block", "")
    if type(block) is not str or len(block) > 2 * MAX_USER_BLOCK:
        raise ValueError("a user block that is too long")


def _sides(shape: Sequence[Any]) -> tuple[int, ...]:
    if len(shape) > MAX_AXES or not all(type(side) is int and 0 <= side < MAX_SIDE for side in shape):
        raise ValueError(f"shape {shape}")
    return tuple(shape)


def _word(word: Any) -> str:
    if not isinstance(word, str) or "\0" in word:
        raise ValueError(f"name {str(word)[:80]!r}")
    word.encode("utf-8", "surrogateescape")  # what can't be bytes isn't a name
    return word


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def decode(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


# ---- chunks and slabs


def bounded_chunks(node: Node, room: int) -> tuple[int, ...]:
    """The chunks of a dataset, no larger than it is where they would be far larger.

    room: bytes by which all chunks together may still exceed what they hold.
    """
    chunks, shape = tuple(node.storage["chunks"]), node.shape or ()
    size = size_of(node.dtype)
    n_bytes = size * math.prod(chunks)
    limit = min(max(size * node.size, MAX_CHUNK), (1 << 32) - 1)
    if n_bytes > limit or excess_of(node, chunks) > room:
        return tuple(min(chunk, max(1, side)) for chunk, side in zip(chunks, shape, strict=True))
    return chunks


def excess_of(node: Node, chunks: Sequence[int]) -> int:
    """The bytes by which whole chunks exceed the values of a dataset; 0 for an empty one, which has none."""
    shape = node.shape or ()
    if not node.size:
        return 0
    whole = math.prod(-(-side // chunk) * chunk for side, chunk in zip(shape, chunks, strict=True))
    return (whole - node.size) * size_of(node.dtype)


class Slabs(Sequence[slice]):
    """The slices of so many rows, `step` each; worked out when asked for, since a hostile shape has 2^39."""

    def __init__(self, n_rows: int, step: int) -> None:
        self.n_rows, self.step = n_rows, step

    def __len__(self) -> int:
        return -(-self.n_rows // self.step)

    @overload
    def __getitem__(self, at: int) -> slice: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[slice]: ...
    def __getitem__(self, at: int | slice) -> slice | Sequence[slice]:
        if isinstance(at, slice):
            return [self[k] for k in range(*at.indices(len(self)))]
        start = range(0, self.n_rows, self.step)[at]
        return slice(start, min(start + self.step, self.n_rows))


def slabs(node: Node, limit: int) -> Sequence[slice]:
    """The slices of a dataset's first axis that have at most about `limit` bytes each."""
    assert node.shape is not None
    if not node.shape:
        return [slice(0, 1)]
    row = size_of(node.dtype) * math.prod(node.shape[1:])
    return Slabs(node.shape[0], max(1, limit // max(1, row)))
