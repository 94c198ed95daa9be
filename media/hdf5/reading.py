"""HDF5 files read: the tree of all that is in one, and the values of its datasets.

Only hard links are followed, so nothing outside the file is ever opened. What can't be kept is named all at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError, StreamError, UsageError
from ..notes import Note
from .building import build
from .limits import MAX_ATTRIBUTE, MAX_AXES, MAX_EXCESS, MAX_IN_MEMORY, MAX_NODES, MAX_PATH, MAX_USER_BLOCK
from .opening import Handles, find_filters, guarded, name_of_filter, open_file, words_of
from .packing import change_references, index_of, pack, spaces_of
from .tree import Node, Tree, bounded_chunks, encode, excess_of
from .types import dtype_of, is_plain, is_variable, kind_of, memory_type, name_of_kind, size_of, type_of

if TYPE_CHECKING:
    import h5py

__all__ = ["Input", "Values", "read_tree", "values_of"]

_SHOWN = 8  # paths in a note; in an error all, up to _NAMED
_NAMED = 40
_LOOKED_AT = 1 << 12  # chunks of a damaged dataset
_COMMENT = 1 << 13  # the bit of a comment among the messages of an object's header
_FAULTS = (OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, AssertionError)


def read_tree(file: h5py.File | Input, skip: Sequence[str] = ()) -> Tree:
    """The tree of a file: everything but the values of datasets; it has been built once, in memory.

    skip: paths of objects that are left out with all that is in them, and of attributes as PATH@NAME. MediaError that
    names all that couldn't be built again; UsageError for a path to skip that isn't there.
    """
    with guarded("the file"):
        reader = _Reader(file.file, skip, file.source) if isinstance(file, Input) else _Reader(file, skip)
        tree = reader.read()
    try:
        tree = replace(Tree.from_json(tree.as_json()), notes=tree.notes, names=tree.names)
        import h5py

        with h5py.File(io.BytesIO(), "w", track_order=tree.is_tracked) as copy:
            build(copy, tree)
    except StreamError as error:
        raise MediaError(
            f"this HDF5 file couldn't be built again: {error}: --skip PATH leaves a part of it out"
        ) from None
    if isinstance(file, Input):
        file.know(tree)
    return tree


def _path_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else bytes(name).decode("utf-8", "surrogateescape")


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _mark(item: Any) -> tuple[Any, Any]:
    """The place of an object in the file, which it has one of whatever its names."""
    from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]

    info = h5o.get_info(item)
    return info.fileno, info.addr


class _Reader:
    """The state of reading a tree."""

    def __init__(self, file: h5py.File, skip: Sequence[str], source: io.BytesIO | None = None) -> None:
        self.file, self.handles, self.source = file, Handles(file), source
        self.wanted_skips = {_skip_of(path) for path in skip}
        self.skipped: set[str] = set()
        self.names: dict[Any, str] = {}  # objects by their marks
        self.problems: list[tuple[str, str]] = []  # what can't be kept: path or path@name, and why
        self.changes: dict[tuple[str, str], list[str]] = {}  # kind of note and words -> where
        self.excess = 0

    def read(self) -> Tree:
        nodes = [self._described(node) for node in self._walk()]
        unknown = self.wanted_skips - self.skipped
        if unknown:
            raise UsageError(f"--skip {_shown(min(unknown))}: there is no such object or attribute in this file")
        if self.problems:
            raise MediaError(_problems_in_words(self.problems))
        return Tree(tuple(nodes), self._notes(), self.names)

    def _notes(self) -> tuple[Note, ...]:
        notes = []
        if self.skipped:
            notes.append(Note("structure", f"left out, as --skip says: {_listed(sorted(self.skipped))}"))
        for (kind, words), paths in self.changes.items():
            notes.append(Note(kind, f"{words}: {_listed(paths)}"))
        return tuple(notes)

    def _change(self, kind: str, words: str, path: str) -> None:
        paths = self.changes.setdefault((kind, words), [])
        if path not in paths[-1:]:
            paths.append(path)

    def _is_skipped(self, path: str) -> bool:
        if path not in self.wanted_skips:
            return False
        self.skipped.add(path)
        return True

    # ---- which objects there are

    def _walk(self) -> list[Node]:
        """All names in the file, parents before children, without their descriptions; only hard links are followed."""
        from h5py import h5g, h5o  # pyright: ignore[reportAttributeAccessIssue]

        root = h5o.open(self.file.id, b"/")
        self.names[_mark(root)] = "/"
        nodes = [Node("/", "group")]
        stack = [("/", root, name) for name in reversed(list(root))]
        while stack:
            above, parent, name = stack.pop()
            path = f"{above.rstrip('/')}/{_text(name)}"
            if self._is_skipped(path):
                continue
            if len(nodes) >= MAX_NODES:
                raise MediaError(f"more than {MAX_NODES} objects in an HDF5 file: split it")
            if name in (b".", b"..", b"") or len(path) > MAX_PATH:
                shown = path if len(path) <= 200 else f"{path[:200]}..."
                self.problems.append((shown, f"a path of {len(path)} characters or a name that paths can't have"))
                continue
            try:
                node, item = self._open(path, parent, name)
            except _FAULTS as error:
                self.problems.append((path, f"damaged: it can't be opened ({words_of(error)})"))
                continue
            if node is not None:
                nodes.append(node)
            if node is not None and node.kind == "group" and isinstance(item, h5g.GroupID):
                stack += [(path, item, below) for below in reversed(list(item))]
        return nodes

    def _open(self, path: str, parent: Any, name: bytes) -> tuple[Node | None, Any]:
        """The node of a link, and the object if it is the first name of one."""
        from h5py import h5d, h5g, h5l, h5o, h5t  # pyright: ignore[reportAttributeAccessIssue]

        kind = parent.links.get_info(name).type
        if kind == h5l.TYPE_SOFT:
            return Node(path, "soft", target=_text(parent.links.get_val(name))), None
        if kind == h5l.TYPE_EXTERNAL:
            file, target = parent.links.get_val(name)
            return Node(path, "external", target=_text(target), file=_text(file)), None
        if kind != h5l.TYPE_HARD:
            self.problems.append((path, "a link of a kind that users define"))
            return None, None
        item = h5o.open(parent, name)
        mark = _mark(item)
        if mark in self.names:
            return Node(path, "hard", target=self.names[mark]), None
        self.names[mark] = path
        kinds = ((h5g.GroupID, "group"), (h5d.DatasetID, "dataset"), (h5t.TypeID, "type"))
        word = next((word for cls, word in kinds if isinstance(item, cls)), None)
        if word is None:
            self.problems.append((path, "an object of an unknown kind"))
            return None, None
        return Node(path, word), item

    # ---- what they are

    def _described(self, node: Node) -> Node:
        """A node with its attributes, its type and its storage."""
        if node.kind not in ("group", "dataset", "type"):
            return node
        from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]

        try:
            item = self.handles.open(node.path)
            storage: dict[str, Any] = {}
            if h5o.get_info(item).hdr.mesg.present & _COMMENT:  # whose bytes h5py doesn't give: it gives any others
                self._change("metadata", "the comment of an object is left out", node.path)
            if node.kind == "dataset":
                node = self._dataset(node, item, storage)
            elif node.kind == "type":
                node = replace(node, dtype=kind_of(item), storage=storage)
            else:
                if not item.get_create_plist().get_link_creation_order():
                    storage["untracked"] = True
                if node.path == "/":
                    storage |= self._user_block()
                node = replace(node, storage=storage)
            return replace(node, attributes=self._attributes(node, item))
        except CodecError as error:
            self.problems.append((node.path, str(error)))
        except _FAULTS as error:
            self.problems.append((node.path, words_of(error)))
        return node

    def _user_block(self) -> dict[str, Any]:
        n_bytes = self.file.userblock_size
        if not n_bytes:
            return {}
        if n_bytes > MAX_USER_BLOCK:
            self._change("structure", f"the user block of {n_bytes} bytes is left out", "/")
            return {}
        if self.source is not None:
            return {"user block": encode(self.source.getbuffer()[:n_bytes].tobytes())}
        return {"user block": encode(os.pread(self.file.id.get_vfd_handle(), n_bytes, 0))}

    def _dataset(self, node: Node, item: Any, storage: dict[str, Any]) -> Node:
        from h5py import h5d, h5ds, h5s  # pyright: ignore[reportAttributeAccessIssue]

        path, plist, space = node.path, item.get_create_plist(), item.get_space()
        if plist.get_layout() == h5d.VIRTUAL:
            raise MediaError(
                "a virtual dataset, whose values lie elsewhere; store them in the file first (h5repack -l CONTI IN OUT)"
            )
        if plist.get_external_count():
            raise MediaError("its values lie in other files, which are never read; store them in the file first")
        tid = item.get_type()
        kind = self._kind(path, tid)
        is_null = space.get_simple_extent_type() == h5s.NULL
        shape = None if is_null else tuple(int(n) for n in space.get_simple_extent_dims())
        node = replace(node, dtype=kind, shape=shape)
        if not plist.get_attr_creation_order():
            storage["untracked"] = True
        if shape:
            sides = space.get_simple_extent_dims(True)
            limits = [None if n is None or n == h5s.UNLIMITED else int(n) for n in sides]
            if limits != list(shape):
                storage["maxshape"] = limits
        if plist.get_layout() == h5d.COMPACT and not is_null:
            storage["compact"] = True
        if plist.get_layout() == h5d.CHUNKED:
            storage["chunks"] = [int(n) for n in plist.get_chunk()]
            self._filters(node, item, plist, storage)
        if not is_null:
            self._fill(node, plist, storage)
        node = replace(node, storage=storage)
        if "chunks" in storage:
            chunks = bounded_chunks(node, MAX_EXCESS - self.excess)
            self.excess += excess_of(node, chunks)
            if list(chunks) != storage["chunks"]:
                self._change("layout", "chunks that are far larger than their dataset become smaller", path)
                storage["chunks"] = list(chunks)
        scales, labels = self._scales(path, item, len(shape or ()))
        scale = None
        if shape is not None and h5ds.is_scale(item):
            scale = _text(h5ds.get_scale_name(item) or b"")
        return replace(node, scales=scales, labels=labels, scale=scale)

    def _kind(self, where: str, tid: Any) -> Any:
        """The kind of a type, by the path of its name if it has one. ValueError if values of it can't be kept."""
        try:
            kind = kind_of(tid)
        except _FAULTS as error:
            raise MediaError(f"{words_of(error)} can't be kept") from None
        if not tid.committed():
            return kind
        path = self.names.get(_mark(tid))
        if path is None:
            self._change("structure", "a type whose own name was deleted, or is left out, becomes a plain one", where)
            return kind
        return {"class": "named", "path": path, "type": kind}

    def _filters(self, node: Node, item: Any, plist: Any, storage: dict[str, Any]) -> None:
        """Put the filters of a dataset into its storage; others of the same use in the place of those of plugins."""
        filters = [plist.get_filter(n) for n in range(plist.get_nfilters())]
        absent = find_filters([number for number, *_ in filters]) if item.get_storage_size() else []
        if absent:
            names = {number: name_of_filter(number, name) for number, _, _, name in filters}
            words = " and ".join(names[number] for number in absent)
            raise MediaError(f"stored with {words}, which isn't installed: pip install hdf5plugin")
        kept: list[Any] = []
        for number, _, values, name in filters:
            if number == 1:
                kept.append(["gzip", int(values[0]) if values else 4])
            elif number in (2, 3, 32000):
                kept.append({2: "shuffle", 3: "fletcher32", 32000: "lzf"}[number])
            elif number == 6 and tuple(values[:2]) == (2, 0):  # of integers, which loses nothing
                kept.append("scaleoffset")
            else:
                self._change("layout", f"{name_of_filter(number, name)} becomes gzip", node.path)
                if not any(type(entry) is list for entry in kept):
                    kept.append(["gzip", 4])
        plain = [entry for entry in kept if type(entry) is list][:1]
        usual = [*(["shuffle"] if "shuffle" in kept else []), *plain]
        usual += ["fletcher32"] if "fletcher32" in kept else []
        if kept == usual:  # in the order in which h5py makes them
            storage |= {name: True for name in ("shuffle", "fletcher32") if name in kept}
            if plain:
                storage["gzip"] = plain[0][1]
        else:
            storage["filters"] = kept

    def _fill(self, node: Node, plist: Any, storage: dict[str, Any]) -> None:
        if plist.fill_value_defined() != 2:  # by the user
            return
        try:
            value = np.zeros(1, memory_type(node.dtype))
            plist.get_fill_value(value)
            if is_variable(node.dtype):
                data = pack(change_references(value, node.dtype, lambda *_: b""), node.dtype)
            else:
                data = value.tobytes()
            if len(data) <= MAX_ATTRIBUTE:
                storage["fill"] = encode(data)
                return
        except (*_FAULTS, AttributeError):
            pass  # a type that NumPy doesn't have
        self._change("layout", "a fill value is left out", node.path)

    # ---- dimension scales

    def _scales(self, path: str, item: Any, rank: int) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
        """The paths of the dimension scales of each axis, and the labels of the axes."""
        from h5py import h5a, h5ds, h5r  # pyright: ignore[reportAttributeAccessIssue]

        labels = tuple(_text(h5ds.get_label(item, axis) or b"") for axis in range(rank))
        labels = labels if any(labels) else ()
        if not rank or not h5a.exists(item, b"DIMENSION_LIST"):
            return (), labels
        attribute = h5a.open(item, b"DIMENSION_LIST")
        axes: list[tuple[str, ...]] = []
        try:
            lists = np.empty(attribute.shape, attribute.dtype)
            attribute.read(lists)
            for references in lists.tolist():
                paths = []
                for reference in references:
                    name = ""
                    with contextlib.suppress(*_FAULTS):
                        target = h5r.dereference(reference, self.file.id)
                        name = self.names.get(_mark(target), "") if target is not None else ""
                    if name:
                        paths.append(name)
                    else:
                        words = "a dimension scale that was deleted, has no name or is left out isn't attached any more"
                        self._change("structure", words, path)
                axes.append(tuple(paths))
            if len(axes) != rank:
                raise ValueError("another number of axes")
        except _FAULTS:
            self._change("structure", "an attribute DIMENSION_LIST that is none is left out", path)
            return (), labels
        return (tuple(axes) if any(axes) else ()), labels

    # ---- attributes

    def _attributes(self, node: Node, item: Any) -> dict[str, Any]:
        """The attributes of an object: name -> {"type", "shape", "data"}."""
        from h5py import h5, h5a, h5p  # pyright: ignore[reportAttributeAccessIssue]

        names: list[bytes] = []
        tracked = (
            item.get_create_plist().get_attr_creation_order() & h5p.CRT_ORDER_TRACKED if node.kind != "type" else 0
        )
        h5a.iterate(
            item, lambda name, *_: names.append(name), index_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME
        )
        attributes = {}
        for raw in names:
            name = _text(raw)
            if raw in (b"DIMENSION_LIST", b"REFERENCE_LIST"):
                continue
            if raw == b"DIMENSION_LABELS" and node.labels:
                continue
            where = f"{node.path}@{name}"
            if self._is_skipped(where):
                continue
            try:
                attributes[name] = self._attribute(where, h5a.open(item, raw))
            except CodecError as error:
                self.problems.append((where, str(error)))
            except _FAULTS as error:
                self.problems.append((where, f"damaged: it can't be read ({words_of(error)})"))
        return attributes

    def _attribute(self, where: str, attribute: Any) -> dict[str, Any]:
        from h5py import h5s  # pyright: ignore[reportAttributeAccessIssue]

        tid = attribute.get_type()
        kind = self._kind(where, tid)
        if attribute.get_space().get_simple_extent_type() == h5s.NULL:
            return {"type": kind, "shape": None, "data": [] if kind in ("text", "reference") else ""}
        shape = tuple(int(n) for n in attribute.shape)
        n_bytes = math.prod(shape) * size_of(kind)
        if n_bytes > MAX_ATTRIBUTE or len(shape) > MAX_AXES:
            raise MediaError(f"an attribute of {n_bytes} bytes; at most {MAX_ATTRIBUTE} can be kept")
        if not is_variable(kind):
            array: NDArray[Any] = np.zeros(shape, f"V{size_of(kind)}")
            if array.size:
                attribute.read(array, mtype=tid)
            return {"type": kind, "shape": list(shape), "data": encode(array.tobytes())}
        array = np.empty(shape, memory_type(kind))
        if array.shape != shape:
            raise MediaError(f"values of type {name_of_kind(kind)} in an attribute can't be kept")
        if array.size:
            attribute.read(array)
        if kind == "text":
            words = [_text(word) if isinstance(word, bytes) else str(word) for word in array.ravel().tolist()]
            if sum(map(len, words)) > MAX_ATTRIBUTE:
                raise MediaError(f"an attribute of more than {MAX_ATTRIBUTE} bytes")
            return {"type": kind, "shape": list(shape), "data": words}

        array = change_references(array, kind, lambda reference, _: self._name(where, reference))
        if kind == "reference":
            return {"type": kind, "shape": list(shape), "data": array.ravel().tolist()}
        data = pack(array, kind)
        if len(data) > MAX_ATTRIBUTE:
            raise MediaError(f"an attribute of {len(data)} bytes; at most {MAX_ATTRIBUTE} can be kept")
        return {"type": kind, "shape": list(shape), "data": encode(data)}

    def _name(self, where: str, reference: Any) -> str:
        name = name_of_reference(self.file, reference, self.names)
        if not name and reference:
            self._change("structure", "references to what was deleted, has no name or is left out become null", where)
        return name


def name_of_reference(file: h5py.File, reference: Any, names: Any) -> str:
    """The name in a tree that a reference leads to; of a region as JSON, with the selection; "" for nothing."""
    import h5py
    from h5py import h5r, h5s  # pyright: ignore[reportAttributeAccessIssue]

    if not reference:
        return ""
    try:
        target = h5r.dereference(reference, file.id)
        name = names.get(_mark(target), "") if target is not None else ""
        if not name or not isinstance(reference, h5py.RegionReference):
            return name
        space = h5r.get_region(reference, file.id)
    except _FAULTS:
        return ""
    about: dict[str, Any] = {"path": name, "shape": [int(n) for n in space.shape]}
    kind = space.get_select_type()
    if kind == h5s.SEL_HYPERSLABS:
        about["blocks"] = np.asarray(space.get_select_hyper_blocklist()).tolist()
    elif kind == h5s.SEL_POINTS:
        about["points"] = np.asarray(space.get_select_elem_pointlist()).tolist()
    elif kind == h5s.SEL_NONE:
        about["points"] = []
    return json.dumps(about, separators=(",", ":"))


# ---- values


class Values:
    """The values of a dataset that is read; whatever goes wrong is a MediaError with its path.

    Values of kinds that aren't plain come as they lie in the file, and with names in the places of references.
    """

    def __init__(self, file: h5py.File, node: Node, names: Any) -> None:
        import h5py
        from h5py import h5d  # pyright: ignore[reportAttributeAccessIssue]

        self.file, self.node, self.names = file, node, names
        self.shape = node.shape
        with guarded(_shown(node.path)):
            self.item = h5py.Dataset(h5d.open(file.id, _path_bytes(node.path)))
            self.attrs: Any = self.item.attrs
            self.id: Any = self.item.id

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_of(self.node.dtype)

    @property
    def name(self) -> str:
        return self.node.path

    @property
    def fillvalue(self) -> Any:
        with guarded(_shown(self.node.path)):
            return self.item.fillvalue

    def __getitem__(self, part: Any) -> Any:
        try:
            with self._guarded(part):
                if is_plain(self.node.dtype):
                    return self.item[part]
                return self._objects(index_of(part, self.node.shape or ()))
        except MediaError as error:
            place = self._damaged_chunk()
            raise MediaError(f"{error}{place}") from None

    def _damaged_chunk(self) -> str:
        """The place of the first chunk that can't be read, in words; "" where that isn't known."""
        from h5py import h5s  # pyright: ignore[reportAttributeAccessIssue]

        chunks, shape = self.item.chunks, self.node.shape
        if not chunks or not shape:
            return ""
        with contextlib.suppress(*_FAULTS):
            for number in range(min(self.id.get_num_chunks(), _LOOKED_AT)):
                start = self.id.get_chunk_info(number).chunk_offset
                count = tuple(min(n, side - at) for n, side, at in zip(chunks, shape, start, strict=True))
                array = np.empty(count, self.item.dtype)
                space = self.id.get_space()
                space.select_hyperslab(start, count)
                try:
                    self.id.read(h5s.create_simple(count), space, array)
                except _FAULTS:
                    place, sides = ", ".join(map(str, start)), " x ".join(map(str, count))
                    return f"; the first damaged chunk is at {place}, of {sides}"
        return ""

    def _objects(self, index: tuple[slice, ...]) -> NDArray[Any]:
        kind, count = self.node.dtype, tuple(cut.stop - cut.start for cut in index)
        varies = is_variable(kind)
        if varies and memory_type(kind).itemsize * math.prod(count) > MAX_IN_MEMORY:
            raise MediaError(f"{_shown(self.node.path)}: {math.prod(count)} values at once; --skip leaves it out")
        array = np.empty(count, memory_type(kind)) if varies else np.zeros(count, f"V{size_of(kind)}")
        if array.shape != count:
            raise MediaError(f"{_shown(self.node.path)}: values of type {name_of_kind(kind)} can't be kept")
        if array.size:
            memory, space = spaces_of(self.node.shape or (), index)
            self.id.read(memory, space, array, None if varies else type_of(kind))
        if not varies:
            return array.view(dtype_of(kind))
        return change_references(array, kind, lambda item, _: name_of_reference(self.file, item, self.names))

    @contextlib.contextmanager
    def _guarded(self, part: Any) -> Iterator[None]:
        first = (part[0] if part else None) if isinstance(part, tuple) else part
        where = ""
        if self.node.shape and isinstance(first, slice) and first.stop is not None:
            where = f", rows {first.start or 0} to {first.stop - 1}"
        with guarded(f"{_shown(self.node.path)}{where}"):
            yield


class Input:
    """An HDF5 file that is read. Its datasets are `Values` once its tree is known."""

    def __init__(self, path: str | os.PathLike[str] | io.BytesIO | h5py.File, tree: Tree | None = None) -> None:
        self.file: Any = open_file(path) if isinstance(path, (str, os.PathLike, io.BytesIO)) else path
        self.source = path if isinstance(path, io.BytesIO) else None
        self.tree: Tree | None = None
        self._nodes: dict[str, Node] = {}
        if tree is not None:
            self.know(tree)

    def __enter__(self) -> Input:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(*_FAULTS):
            self.file.close()

    @property
    def attrs(self) -> Any:
        return self.file.attrs

    def know(self, tree: Tree) -> None:
        """Take a tree for the file's own, which `read_tree` does."""
        self.tree = tree
        self._nodes = {node.path: node for node in tree.nodes if node.kind in ("group", "dataset")}

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __getitem__(self, path: str) -> Any:
        """The `Values` of a dataset, or the group of this path. KeyError for anything else."""
        from h5py import Group, h5o  # pyright: ignore[reportAttributeAccessIssue]

        assert self.tree is not None, "the tree is read first"
        node = self._nodes[path]
        if node.kind == "dataset":
            return Values(self.file, node, self.tree.names)
        return Group(h5o.open(self.file.id, _path_bytes(path)))


def values_of(file: h5py.File, tree: Tree, node: Node) -> Values:
    """The values of a dataset of a tree, to be read."""
    return Values(file, node, tree.names)


# ---- words


def _skip_of(path: str) -> str:
    """A path to skip as the walk writes it: with one slash in front, none behind."""
    place, sign, name = path.partition("@")
    return "/" + "/".join(part for part in place.split("/") if part) + sign + name


def _listed(paths: Sequence[str]) -> str:
    rest = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(map(_shown, paths[:_SHOWN])) + rest


def _problems_in_words(problems: Sequence[tuple[str, str]]) -> str:
    """One message about all that can't be kept, with what leaves it out."""
    parts = [f"{_shown(path)}: {words}" for path, words in problems[:_NAMED]]
    if len(problems) > _NAMED:
        parts.append(f"and {len(problems) - _NAMED} more")
    names = [path if " " not in path else f"'{path}'" for path, _ in problems[:_SHOWN]]
    options = " ".join(f"--skip {_shown(name)}" for name in names)
    thing = "this" if len(problems) == 1 else f"these {len(problems)}"
    return f"{'; '.join(parts)}. {thing.capitalize()} can be left out: {options}"
