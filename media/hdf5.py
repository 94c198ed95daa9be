"""HDF5 files as a tree of typed nodes, read and built again: groups, datasets, attributes, links, dimension scales.

NetCDF-4 files are HDF5 files, and work. A tree is plain values (`as_json`, `from_json`), so that a decoder builds a
fresh file out of a description that it has checked, and the HDF5 library never parses bytes that came with a stream.
What comes back: paths, types (byte order, strings, enumerations, compounds), shapes, maximal shapes, chunks, gzip,
shuffle and checksum filters, fill values, attributes, soft, external and hard links, dimension scales, the creation
order. What doesn't: the layout of the file, filters of plugins (gzip takes their place), region references.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError, StreamError

if TYPE_CHECKING:
    import h5py

__all__ = ["Node", "Tree", "build", "dtype_of", "read_tree", "slabs"]

MAX_NODES = 100_000
MAX_ATTRIBUTE = 1 << 20  # bytes of one value
MAX_VALUES = 1 << 44  # bytes of a dataset
_SCALES = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS"}  # what dimension scales are made of


@dataclass(frozen=True)
class Node:
    """A name in an HDF5 file. kind: group, dataset, soft, external, hard (another name of `target`).

    dtype: see `_type_of`. attributes: name -> {"type", "shape", "data"}. storage: what a dataset was created with.
    scales: for each axis of a dataset the paths of its dimension scales. scale: name of the dimension scale that this
    dataset is, or None.
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
    """An HDF5 file but for the values of its datasets."""

    nodes: tuple[Node, ...]  # the first is the root group; parents before children

    @property
    def datasets(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.kind == "dataset")

    def as_json(self) -> str:
        return json.dumps([_sparse(asdict(node)) for node in self.nodes], separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Tree:
        """The tree that `as_json` made the text of. StreamError unless it can be built."""
        try:
            nodes = tuple(_node(item) for item in json.loads(text))
            if not 1 <= len(nodes) <= MAX_NODES or nodes[0].path != "/" or nodes[0].kind != "group":
                raise ValueError("no root")
            seen = {"/": "group"}
            for node in nodes[1:]:
                parent, _, name = node.path.rpartition("/")
                if node.path in seen or seen.get(parent or "/") != "group" or name in ("", ".", ".."):
                    raise ValueError(f"path {node.path!r}")
                if node.kind == "hard" and seen.get(node.target) not in ("group", "dataset"):
                    raise ValueError(f"link {node.path!r}")
                seen[node.path] = node.kind
            return Tree(nodes)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StreamError(f"the description of the HDF5 file is damaged ({error})") from None


# ---- reading


def read_tree(file: h5py.File) -> Tree:
    """The tree of a file: everything but the values of datasets. MediaError for what couldn't be built again."""
    nodes: list[Node] = []
    first: dict[Any, str] = {}  # object -> the path it was met under

    def visit(path: str, item: Any) -> None:
        if len(nodes) >= MAX_NODES:
            raise MediaError(f"more than {MAX_NODES} objects in an HDF5 file: split it")
        import h5py
        import h5py.h5o

        info = h5py.h5o.get_info(item.id)
        mark = (info.fileno, info.addr)
        if mark in first:
            nodes.append(Node(path, "hard", target=first[mark]))
            return
        first[mark] = path
        if isinstance(item, h5py.Dataset):
            nodes.append(_dataset(path, item))
            return
        if not isinstance(item, h5py.Group):
            raise MediaError(f"{path}: a named type; only groups and datasets can be kept: remove it")
        nodes.append(Node(path, "group", attributes=_attributes(path, item)))
        for name in item:
            below = f"{path.rstrip('/')}/{name}"
            link = item.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                nodes.append(Node(below, "soft", target=link.path))
            elif isinstance(link, h5py.ExternalLink):
                nodes.append(Node(below, "external", target=link.path, file=link.filename))
            else:
                visit(below, item[name])

    visit("/", file["/"])
    return Tree(tuple(nodes))


def _dataset(path: str, item: h5py.Dataset) -> Node:
    storage: dict[str, Any] = {}
    if item.is_virtual:
        raise MediaError(f"{path}: a virtual dataset, whose values lie in other files: make it a plain one first")
    if item.chunks:
        storage["chunks"] = list(item.chunks)
        n_filters = item.id.get_create_plist().get_nfilters()
        known = sum([item.compression is not None, item.shuffle, item.fletcher32, item.scaleoffset is not None])
        if item.compression == "gzip":
            storage["gzip"] = int(item.compression_opts or 4)
        elif item.compression or n_filters > known or item.scaleoffset is not None:
            storage["gzip"] = 4
        storage |= {name: True for name in ("shuffle", "fletcher32") if getattr(item, name)}
    if item.shape is not None and item.maxshape != item.shape:
        storage["maxshape"] = list(item.maxshape or item.shape)
    if item.shape is not None and item.dtype.kind in "iufb":
        plist = item.id.get_create_plist()
        if plist.fill_value_defined() == 2:  # by the user
            storage["fill"] = _encode(np.asarray(item.fillvalue, item.dtype).tobytes())
    scales = tuple(tuple(str(scale.name) for scale in axis.values()) for axis in item.dims) if item.shape else ()
    labels = tuple(str(axis.label) for axis in item.dims) if item.shape else ()
    return Node(
        path,
        "dataset",
        dtype=_type_of(path, item.dtype),
        shape=None if item.shape is None else tuple(int(n) for n in item.shape),
        attributes=_attributes(path, item),
        storage=storage,
        scales=scales if any(scales) else (),
        labels=labels if any(labels) else (),
        scale=_scale_name(item) if item.is_scale else None,
    )


def _scale_name(item: h5py.Dataset) -> str:
    import h5py

    name = h5py.h5ds.get_scale_name(item.id)
    return name.decode() if isinstance(name, bytes) else str(name or "")


def _attributes(path: str, item: Any) -> dict[str, Any]:
    """The attributes of a group or a dataset: name -> {"type", "shape", "data"}."""
    attributes = {}
    for name in item.attrs:
        if name in _SCALES and (name in ("DIMENSION_LIST", "REFERENCE_LIST") or _is_scale_part(item, name)):
            continue
        where = f"attribute {name!r} of {path}"
        attribute = item.attrs.get_id(name)
        kind = _type_of(where, attribute.dtype)
        if attribute.get_space().get_simple_extent_type() == 2:  # H5S_NULL
            attributes[name] = {"type": kind, "shape": None, "data": ""}
            continue
        value = item.attrs[name]
        if isinstance(kind, str) and kind == "text":
            flat = np.asarray(value, dtype=object).ravel().tolist()
            data: Any = [w.decode("utf-8", "surrogateescape") if isinstance(w, bytes) else str(w) for w in flat]
        elif isinstance(kind, str) and kind == "reference":
            flat = np.asarray(value, dtype=object).ravel().tolist()
            data = [str(item.file[reference].name) if reference else "" for reference in flat]
        else:
            array = np.empty(attribute.shape, attribute.dtype)
            attribute.read(array)
            if array.nbytes > MAX_ATTRIBUTE:
                raise MediaError(f"{where} has {array.nbytes} bytes; at most {MAX_ATTRIBUTE}")
            data = _encode(array.tobytes())
        attributes[name] = {"type": kind, "shape": list(attribute.shape), "data": data}
    return attributes


def _is_scale_part(item: Any, name: str) -> bool:
    """Whether an attribute comes back with a dimension scale: CLASS and NAME do, which elsewhere are ordinary."""
    import h5py

    return isinstance(item, h5py.Dataset) and (name == "DIMENSION_LABELS" or bool(item.is_scale))


def _type_of(where: str, dtype: np.dtype[Any]) -> Any:
    """The JSON of a type: "<f4" and the like, "S12", "text", "reference", "bool", {"enum", "of"} or {"fields", ...}."""
    import h5py

    if (enum := h5py.check_enum_dtype(dtype)) is not None:
        return {"enum": {str(name): int(value) for name, value in enum.items()}, "of": dtype.str}
    if dtype.kind == "b":
        return "bool"
    if h5py.check_string_dtype(dtype) is not None:
        return "text" if dtype.kind == "O" else f"S{dtype.itemsize}"
    if h5py.check_ref_dtype(dtype) is h5py.Reference:
        return "reference"
    if dtype.kind in "iufc" and dtype.itemsize <= 16 and dtype.subdtype is None:
        return dtype.str
    if dtype.kind == "V" and dtype.fields:
        names = dtype.names or ()
        parts = {name: _type_of(where, dtype.fields[name][0]) for name in names}
        if all(isinstance(part, str) and part not in ("text", "reference", "bool") for part in parts.values()):
            return {
                "fields": list(parts.items()),
                "offsets": [dtype.fields[name][1] for name in names],
                "size": dtype.itemsize,
            }
    raise MediaError(f"{where}: values of type {dtype} can't be kept: remove it, or store it as numbers or text")


def dtype_of(kind: Any) -> np.dtype[Any]:
    """The type of a JSON that `_type_of` gives. Raises ValueError."""
    import h5py

    if isinstance(kind, dict) and "enum" in kind:
        base = np.dtype(kind["of"])
        if base.kind not in "iu":
            raise ValueError("an enumeration of something else")
        return h5py.enum_dtype({str(k): int(v) for k, v in kind["enum"].items()}, base)
    if isinstance(kind, dict):
        formats = [dtype_of(part) for _, part in kind["fields"]]
        names = [str(name) for name, _ in kind["fields"]]
        parts: Any = {"names": names, "formats": formats, "offsets": kind["offsets"], "itemsize": kind["size"]}
        return np.dtype(parts)
    if kind == "bool":
        return np.dtype(bool)
    if kind == "text":
        return h5py.string_dtype()
    if kind == "reference":
        return h5py.ref_dtype
    dtype = np.dtype(str(kind))
    if dtype.kind not in "iufcS" or dtype.itemsize > 1 << 16 or dtype.subdtype is not None:
        raise ValueError(f"type {kind!r}")
    return dtype


# ---- building


def build(file: h5py.File, tree: Tree) -> None:
    """Makes everything of a tree in an empty file, but for the values of datasets. StreamError."""
    try:
        _build(file, tree)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, AttributeError, OverflowError, IndexError) as error:
        raise StreamError(f"the description of the HDF5 file is damaged ({error})") from None


def _build(file: h5py.File, tree: Tree) -> None:
    for node in tree.nodes:
        if node.kind == "group" and node.path != "/":
            file.create_group(node.path, track_order=True)
        elif node.kind == "dataset":
            _create(file, node)
        elif node.kind == "hard":
            file[node.path] = file[node.target]
        elif node.kind in ("soft", "external"):
            import h5py

            soft = node.kind == "soft"
            file[node.path] = h5py.SoftLink(node.target) if soft else h5py.ExternalLink(node.file, node.target)
    for node in tree.nodes:
        if node.kind == "dataset" and node.scale is not None:
            file[node.path].make_scale(node.scale)  # type: ignore[union-attr]
    for node in tree.nodes:
        if node.kind in ("group", "dataset"):
            _attach(file, node)


def _create(file: h5py.File, node: Node) -> None:
    import h5py

    dtype, storage = dtype_of(node.dtype), node.storage
    if node.shape is None:
        file.create_dataset(node.path, data=h5py.Empty(dtype))
        return
    options: dict[str, Any] = {"dtype": dtype}
    if "chunks" in storage:
        options["chunks"] = tuple(storage["chunks"])
        options |= {name: True for name in ("shuffle", "fletcher32") if storage.get(name)}
        if "gzip" in storage:
            options |= {"compression": "gzip", "compression_opts": int(storage["gzip"])}
    if "maxshape" in storage:
        options["maxshape"] = tuple(storage["maxshape"])
    if "fill" in storage:
        options["fillvalue"] = np.frombuffer(_decode(storage["fill"]), dtype)[0]
    file.create_dataset(node.path, node.shape, track_order=True, **options)


def _attach(file: h5py.File, node: Node) -> None:
    import h5py

    item: Any = file[node.path]
    for axis, paths in enumerate(node.scales):
        for path in paths:
            item.dims[axis].attach_scale(file[path])
    for axis, label in enumerate(node.labels):
        if label:
            item.dims[axis].label = label
    for name, value in node.attributes.items():
        dtype = dtype_of(value["type"])
        if value["shape"] is None:
            item.attrs[name] = h5py.Empty(dtype)
            continue
        shape = tuple(value["shape"])
        if value["type"] == "text":
            flat = [str(word).encode("utf-8", "surrogateescape") for word in value["data"]]
            array: NDArray[Any] = np.empty(len(flat), object)
            array[:] = flat
        elif value["type"] == "reference":
            array = np.empty(len(value["data"]), h5py.ref_dtype)
            array[:] = [file[str(target)].ref if target else h5py.Reference() for target in value["data"]]
        else:
            array = np.frombuffer(_decode(value["data"]), dtype)
        item.attrs.create(name, array.reshape(shape)[()] if not shape else array.reshape(shape), shape, dtype)


# ---- descriptions

_PLAIN = {
    name: part.default for name, part in Node.__dataclass_fields__.items() if name not in ("path", "kind", "shape")
}


def _sparse(node: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in node.items() if value not in ({}, ()) and value != _PLAIN.get(key)}
    if node["kind"] == "dataset":
        kept["shape"] = node["shape"]
    return kept


def _node(given: Mapping[str, Any]) -> Node:
    """The node of a JSON object. Raises ValueError and the like."""
    shape = given.get("shape", ())
    scales = tuple(tuple(str(path) for path in axis) for axis in given.get("scales", ()))
    labels = tuple(str(label) for label in given.get("labels", ()))
    node = Node(**{**given, "shape": None if shape is None else _sides(shape), "scales": scales, "labels": labels})
    if node.kind not in ("group", "dataset", "soft", "external", "hard"):
        raise ValueError(f"kind {node.kind!r}")
    if not node.path.startswith("/") or "\0" in node.path or len(node.path) > 4096:
        raise ValueError(f"path {node.path[:80]!r}")
    if node.kind == "dataset" and dtype_of(node.dtype).itemsize * max(1, node.size) > MAX_VALUES:
        raise ValueError(f"shape {node.shape}")
    for name, value in node.attributes.items():
        if not isinstance(name, str) or dtype_of(value["type"]).itemsize > MAX_ATTRIBUTE:
            raise ValueError(f"attribute {name!r}")
        if value["shape"] is not None and math.prod(_sides(value["shape"])) > MAX_ATTRIBUTE:
            raise ValueError(f"attribute {name!r}")
    return node


def _sides(shape: Sequence[Any]) -> tuple[int, ...]:
    if len(shape) > 32 or not all(type(side) is int and 0 <= side < 1 << 40 for side in shape):
        raise ValueError(f"shape {shape}")
    return tuple(shape)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def slabs(node: Node, limit: int) -> Sequence[slice]:
    """The slices of a dataset's first axis that have at most about `limit` bytes each."""
    assert node.shape is not None
    if not node.shape:
        return [slice(0, 1)]
    row = max(1, dtype_of(node.dtype).itemsize) * math.prod(node.shape[1:])
    step = max(1, limit // max(1, row))
    return [slice(start, min(start + step, node.shape[0])) for start in range(0, node.shape[0], step)]
