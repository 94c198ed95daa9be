"""HDF5 files built out of a tree, and written so that a full disk is an error and nothing worse.

Nothing here opens a file by its name, and no object is looked up behind a link: paths lead through groups that were
made here (`Tree.from_json` sees to it), and whatever refers to something takes it from among the nodes.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import CodecError, MediaError, StreamError
from .limits import MAX_EXCESS, MAX_USER_BLOCK
from .opening import Handles, words_of
from .packing import change_references, index_of, spaces_of, unpack
from .tree import OBJECTS, Node, Tree, bounded_chunks, decode, excess_of
from .types import dtype_of, is_variable, memory_type, size_of, type_of

if TYPE_CHECKING:
    import h5py

__all__ = ["Output", "build", "check", "writing"]

_COMPACT_HEADER = 60_000  # bytes of an attribute from which on an object needs a header of the newer kind
_FAULTS = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    RuntimeError,
    AttributeError,
    OverflowError,
    IndexError,
    AssertionError,
    RecursionError,
    NotImplementedError,
    MemoryError,
)


def build(file: h5py.File, tree: Tree) -> None:
    """Makes everything of a tree in an empty file, but for the values of datasets. StreamError."""
    _Builder(file, tree).build()


def check(tree: Tree) -> None:
    """Raise StreamError unless a tree can be built: does it, in memory."""
    import h5py

    with h5py.File(io.BytesIO(), "w", track_order=tree.is_tracked) as file:
        build(file, tree)


class _Builder:
    """The state of building a file."""

    def __init__(self, file: h5py.File, tree: Tree, partial: bool = False) -> None:
        from h5py import h5f, h5p  # pyright: ignore[reportAttributeAccessIssue]

        self.file, self.tree, self.partial = file, tree, partial
        self.nodes = {node.path: node for node in tree.nodes if node.kind in OBJECTS}
        self.made: set[str] = {"/"}
        self.excess = 0
        access = h5p.create(h5p.LINK_ACCESS)
        self.handles = Handles(file, access)
        with contextlib.suppress(AttributeError):
            access.set_elink_acc_flags(h5f.ACC_RDONLY)  # in case: nothing goes through an external link

    def build(self) -> None:
        where = "/"
        try:
            for node in self.tree.nodes:
                where = node.path
                self._make(node)
            objects = [node for node in self.tree.nodes if node.kind in OBJECTS]
            twofold = [
                node for node in objects if node.scales and (node.scale is not None or "CLASS" in node.attributes)
            ]
            paths = {node.path for node in twofold}
            others = [node for node in objects if node.path not in paths]
            steps = [
                (self._describe, others),
                (self._attach, twofold),
                (self._describe, twofold),
                (self._attach, others),
            ]
            for step, nodes in steps:  # a scale can't have scales; what has them can become one
                for node in nodes:
                    where = node.path
                    step(node)
        except CodecError:
            raise
        except _FAULTS as error:
            words = f"the description of the HDF5 file is damaged ({where[:200]}: {words_of(error)})"
            raise StreamError(words.encode("utf-8", "replace").decode()) from None

    def open(self, path: str) -> Any:
        """An object that was made here. KeyError for anything else."""
        if path not in self.made:
            raise KeyError(f"{path!r} is no object of this file")
        return self.handles.open(path)

    # ---- objects and links

    def _make(self, node: Node) -> None:
        if node.path in self.made:
            return
        above, _, name = node.path.rpartition("/")
        parent = self.open(above or "/")
        raw = _bytes(name)
        if node.kind == "group":
            self._make_group(parent, raw, node)
        elif node.kind == "dataset":
            self._make_dataset(parent, raw, node)
        elif node.kind == "type":
            type_of(node.dtype).copy().commit(parent, raw)
        elif node.kind == "hard":
            parent.links.create_hard(raw, self.file.id, _bytes(self.nodes[node.target].path))
        elif node.kind == "soft":
            parent.links.create_soft(raw, _bytes(node.target))
        else:
            parent.links.create_external(raw, _bytes(node.file), _bytes(node.target))
        if node.kind in OBJECTS:
            self.made.add(node.path)

    def _make_group(self, parent: Any, name: bytes, node: Node) -> None:
        from h5py import h5g, h5p  # pyright: ignore[reportAttributeAccessIssue]

        plist = h5p.create(h5p.GROUP_CREATE)
        plist.set_obj_track_times(False) if hasattr(plist, "set_obj_track_times") else None
        if not node.storage.get("untracked"):
            plist.set_link_creation_order(_TRACKED)
        if not node.storage.get("untracked") or _is_large(node):
            plist.set_attr_creation_order(_TRACKED)
        h5g.create(parent, name, gcpl=plist)

    def _type(self, kind: Any) -> Any:
        """The type of a kind; one that has a name in the file is made first if it comes later."""
        if not (isinstance(kind, dict) and kind.get("class") == "named"):
            return type_of(kind)
        node = self.nodes[kind["path"]]
        if node.path not in self.made:
            above = node.path.rpartition("/")[0]
            missing = []
            while above and above not in self.made:
                missing.append(above)
                above = above.rpartition("/")[0]
            for path in reversed(missing):
                self._make(self.nodes[path])
            self._make(node)
        return self.open(node.path)

    def _make_dataset(self, parent: Any, name: bytes, node: Node) -> None:
        from h5py import h5d, h5p, h5s  # pyright: ignore[reportAttributeAccessIssue]

        plist, storage = h5p.create(h5p.DATASET_CREATE), node.storage
        plist.set_obj_track_times(False)
        if not storage.get("untracked") or _is_large(node):
            plist.set_attr_creation_order(_TRACKED)
        if node.shape is None:
            h5d.create(parent, name, self._type(node.dtype), h5s.create(h5s.NULL), plist)
            return
        if "chunks" in storage:
            self._set_chunks(plist, node)
        elif storage.get("compact"):
            plist.set_layout(h5d.COMPACT)
        if "fill" in storage:
            self._set_fill(plist, node)
        if node.shape:
            limits = storage.get("maxshape")
            sides = None if limits is None else tuple(h5s.UNLIMITED if n is None else int(n) for n in limits)
            space = h5s.create_simple(node.shape, sides)
        else:
            space = h5s.create(h5s.SCALAR)
        h5d.create(parent, name, self._type(node.dtype), space, plist)

    def _set_chunks(self, plist: Any, node: Node) -> None:
        from h5py import h5z  # pyright: ignore[reportAttributeAccessIssue]

        storage = node.storage
        chunks = bounded_chunks(node, MAX_EXCESS - self.excess)
        self.excess += excess_of(node, chunks)
        plist.set_chunk(chunks)
        filters = storage.get("filters")
        if filters is None:
            filters = [
                name for name in ("shuffle", "gzip", "fletcher32") if name in storage and storage[name] is not False
            ]
            filters = [["gzip", storage["gzip"]] if name == "gzip" else name for name in filters]
        if len(filters) > 8:
            raise ValueError(f"{len(filters)} filters")
        for entry in filters:
            if entry == "shuffle":
                plist.set_shuffle()
            elif entry == "fletcher32":
                plist.set_fletcher32()
            elif entry == "scaleoffset":
                plist.set_scaleoffset(h5z.SO_INT, 0)
            elif entry == "lzf":
                plist.set_filter(h5z.FILTER_LZF, h5z.FLAG_OPTIONAL)
            else:
                name, level = entry
                if name != "gzip" or level not in range(10):
                    raise ValueError(f"filter {entry!r}")
                plist.set_deflate(level)

    def _set_fill(self, plist: Any, node: Node) -> None:
        import h5py

        data, dtype = decode(node.storage["fill"]), memory_type(node.dtype)
        if is_variable(node.dtype):
            value = unpack(data, (1,), node.dtype)
            filled = np.empty(1, dtype)
            filled[...] = value
        else:
            filled = np.frombuffer(data, dtype)
        if filled.shape != (1,):
            raise ValueError(f"a fill value of {len(data)} bytes")
        if filled.dtype.kind == "S":  # which h5py takes as text of any length only
            filled = np.array([filled[0]], h5py.string_dtype(h5py.check_string_dtype(dtype).encoding))
        plist.set_fill_value(filled)

    # ---- dimension scales, attributes

    def _attach(self, node: Node) -> None:
        """Make a dataset the dimension scale that it is, and attach its own."""
        from h5py import h5ds  # pyright: ignore[reportAttributeAccessIssue]

        if node.scale is None and not node.scales and not any(node.labels):
            return
        item = self.open(node.path)
        for axis, paths in enumerate(node.scales):
            for path in paths:
                h5ds.attach_scale(item, self._scale(path), axis)
        if node.scale is not None:
            self._scale(node.path)
        for axis, label in enumerate(node.labels):
            if label:
                h5ds.set_label(item, axis, _bytes(label))

    def _scale(self, path: str) -> Any:
        """A dataset that is a dimension scale, made one if it isn't yet."""
        from h5py import h5ds  # pyright: ignore[reportAttributeAccessIssue]

        item, node = self.open(path), self.nodes[path]
        if not h5ds.is_scale(item):
            if node.scales:  # which the library doesn't make a scale any more
                raise ValueError("a dimension scale that has dimension scales")
            h5ds.set_scale(item, _bytes(node.scale or ""))
        return item

    def _describe(self, node: Node) -> None:
        if node.attributes:
            item = self.open(node.path)
            for name, value in node.attributes.items():
                self._make_attribute(item, _bytes(name), value)

    def _make_attribute(self, item: Any, name: bytes, value: Any) -> None:
        from h5py import h5a, h5s  # pyright: ignore[reportAttributeAccessIssue]

        kind, tid = value["type"], self._type(value["type"])
        if value["shape"] is None:
            h5a.create(item, name, tid, h5s.create(h5s.NULL))
            return
        shape = tuple(value["shape"])
        array = self._attribute_values(kind, shape, value["data"])
        space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        attribute = h5a.create(item, name, tid, space)
        if array.size:
            attribute.write(array, mtype=None if is_variable(kind) else tid)

    def _attribute_values(self, kind: Any, shape: tuple[int, ...], data: Any) -> NDArray[Any]:
        if not is_variable(kind):
            return np.frombuffer(decode(data), f"V{size_of(kind)}").reshape(shape)
        values = np.empty(shape, memory_type(kind))
        if kind in ("text", "reference"):
            flat = np.empty(len(data), object)
            flat[:] = [_bytes(word) for word in data]
            flat = flat.reshape(shape)
        else:
            flat = unpack(decode(data), shape, kind)
        values[...] = change_references(flat, kind, self.lead)
        return values

    def lead(self, name: str | bytes, is_region: bool) -> Any:
        """The reference to an object of this file, or to a region of one. KeyError for anything else."""
        import h5py
        from h5py import h5r, h5s  # pyright: ignore[reportAttributeAccessIssue]

        name = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
        null = h5py.RegionReference() if is_region else h5py.Reference()
        about: dict[str, Any] = json.loads(name) if is_region and name else {"path": name}
        path = about["path"]
        if not name or (path not in self.made and self.partial):
            return null
        if path not in self.made:
            raise KeyError(f"a reference to {path[:80]!r}, which is no object of this file")
        if not is_region:
            return h5r.create(self.file.id, _bytes(path), h5r.OBJECT)
        shape = self.nodes[path].shape
        if self.nodes[path].kind != "dataset" or about["shape"] != list(shape or ()):
            raise KeyError(f"a reference to a region of {path[:80]!r}")
        space = h5s.create_simple(tuple(about["shape"])) if shape else h5s.create(h5s.SCALAR)
        if "blocks" in about:
            space.select_none()
            for start, stop in about["blocks"]:
                count = tuple(last - first + 1 for first, last in zip(start, stop, strict=True))
                space.select_hyperslab(tuple(start), (1,) * len(count), block=count, op=h5s.SELECT_OR)
        elif "points" in about:
            if about["points"]:
                space.select_elements(np.asarray(about["points"], np.uint64))
            else:
                space.select_none()
        return h5r.create(self.file.id, _bytes(path), h5r.DATASET_REGION, space)


_TRACKED = 3  # H5P_CRT_ORDER_TRACKED and H5P_CRT_ORDER_INDEXED


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _is_large(node: Node) -> bool:
    """Whether an object has attributes that an old header doesn't hold."""
    return any(len(value["data"]) > _COMPACT_HEADER for value in node.attributes.values())


# ---- files that are written


class Output:
    """An HDF5 file that was built and now gets its values: `output[path][index] = values`."""

    def __init__(self, file: h5py.File, builder: _Builder, disk: _Disk) -> None:
        self.file, self.builder, self.disk = file, builder, disk

    @property
    def n_bytes(self) -> int:
        """The bytes of the file, when it is complete."""
        return self.disk.end

    def __getitem__(self, path: str) -> OutputDataset:
        return OutputDataset(self, self.builder.nodes[path])


class OutputDataset:
    """A dataset that gets its values, part by part; of any kind that can be kept."""

    def __init__(self, output: Output, node: Node) -> None:
        self.output, self.node = output, node
        self.shape = node.shape

    def __setitem__(self, part: Any, values: Any) -> None:
        """Store decoded values. StreamError if they can't be values of this dataset; MediaError if the disk is full."""
        self._store(part, values, None)
        self.output.disk.check()

    def check(self, part: Any, values: Any) -> None:
        """Raise StreamError where storing would, and store nothing."""
        import h5py

        if is_variable(self.node.dtype):  # all others are bytes, which can't be wrong ones
            with h5py.File(io.BytesIO(), "w") as scratch:
                self._store(part, values, scratch)
        else:
            self._store(part, values, self)

    def _store(self, part: Any, values: Any, scratch: Any) -> None:
        """Store into the dataset; into a file of its own; or nowhere, if `scratch` is this."""
        kind, shape, builder = self.node.dtype, self.node.shape or (), self.output.builder
        try:
            index = index_of(part, shape)
            count = tuple(cut.stop - cut.start for cut in index)
            values = np.asarray(values)
            if values.size != math.prod(count):
                raise ValueError(f"values of shape {values.shape}, expected {count}")
            values = values.reshape(count)
            if is_variable(kind):
                array = np.empty(count, memory_type(kind))
                array[...] = change_references(values, kind, builder.lead)
            else:
                array = np.ascontiguousarray(values.astype(dtype_of(kind), copy=False)).reshape(count)
            if array.size and scratch is not self:
                memory, space = spaces_of(shape, index)
                item = builder.open(self.node.path) if scratch is None else _scratch(scratch, kind, memory)
                item.write(
                    memory, space if scratch is None else memory, array, None if is_variable(kind) else type_of(kind)
                )
        except CodecError:
            raise
        except _FAULTS as error:
            self.output.disk.check()
            words = f"{self.node.path}: values that don't fit: the file is damaged ({words_of(error)})"
            raise StreamError(words.encode("utf-8", "replace").decode()) from None


def _scratch(file: h5py.File, kind: Any, space: Any) -> Any:
    from h5py import h5d  # pyright: ignore[reportAttributeAccessIssue]

    return h5d.create(file.id, None, type_of(kind), space)


@contextlib.contextmanager
def writing(target: BinaryIO, tree: Tree, partial: bool = False) -> Iterator[Output]:
    """An HDF5 file that is written into an open binary file, with all of a tree but its values.

    partial: whether it is a part of another tree, so that references to what isn't there become null.

    The library writes through a file of ours, which takes what a full disk doesn't: it must never meet an error while
    it closes a file, from which it crashes. MediaError for a disk that is full; StreamError.
    """
    import h5py

    if not (target.readable() and target.seekable()):
        with tempfile.TemporaryFile() as waiting:
            with writing(waiting, tree, partial) as output:
                yield output
            waiting.seek(0)
            shutil.copyfileobj(waiting, target, 1 << 20)
        return
    disk = _Disk(target)
    block = _user_block(tree)
    size = len(block) or None
    try:
        with h5py.File(disk, "w", track_order=tree.is_tracked, userblock_size=size) as file:  # pyright: ignore
            builder = _Builder(file, tree, partial)
            builder.build()
            disk.check()
            yield Output(file, builder, disk)
    except CodecError:
        disk.check()
        raise
    except (OSError, RuntimeError, ValueError) as error:
        disk.check()
        raise MediaError(f"the HDF5 library can't write this file ({words_of(error)})") from None
    if block:
        disk.seek(0)
        disk.write(block)
    disk.check()
    target.seek(0, os.SEEK_END)


def _user_block(tree: Tree) -> bytes:
    """The bytes in front of the file proper. StreamError unless they are 512 times a power of two, or none."""
    text = tree.nodes[0].storage.get("user block", "")
    try:
        block = decode(text)
    except ValueError:
        block = b"?"
    n = len(block)
    if n and (n < 512 or n & (n - 1) or n > MAX_USER_BLOCK):
        raise StreamError("the user block of the HDF5 file is damaged")
    return block


class _Disk:
    """A binary file for the HDF5 library that never fails: what can't be written stays in memory; `error` says why."""

    _PAGE = 1 << 16

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.at = 0
        self.end = 0
        self.pages: dict[int, bytearray] = {}  # after an error
        self.number: int | None = None
        with contextlib.suppress(OSError):  # a buffer has none
            file.flush()
            self.number = file.fileno()  # past the file's own buffer, which would write again when it is closed

    def check(self) -> None:
        """Raise MediaError if something couldn't be written."""
        if self.error is not None:
            raise MediaError(f"the HDF5 file can't be written: {self.error.strerror or self.error}") from None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.end}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def _get(self, at: int, n: int) -> bytes:
        """The bytes at a place, with zeros for those that aren't there."""
        if self.number is not None:
            data = os.pread(self.number, n, at)
        else:
            self.file.seek(at)
            data = self.file.read(n)
        return data.ljust(n, b"\0")

    def _put(self, at: int, view: memoryview) -> None:
        if self.number is None:
            self.file.seek(at)
            self.file.write(view)
            return
        while view:
            n = os.pwrite(self.number, view, at)
            at, view = at + n, view[n:]

    def _page(self, number: int) -> bytearray:
        if number not in self.pages:
            self.pages[number] = bytearray(self._get(number * self._PAGE, self._PAGE))
        return self.pages[number]

    def readinto(self, view: Any) -> int:
        out = memoryview(view).cast("B")
        if self.error is None:
            out[:] = self._get(self.at, len(out))
        else:
            for start, stop, page, inner in self._pieces(len(out)):
                out[start:stop] = self._page(page)[inner : inner + stop - start]
        self.at += len(out)
        return len(out)

    def read(self, n: int) -> bytes:
        out = bytearray(n)
        self.readinto(out)
        return bytes(out)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                self._put(self.at, view)
            except OSError as error:
                self.error = error
        if self.error is not None:
            for start, stop, page, inner in self._pieces(len(view)):
                self._page(page)[inner : inner + stop - start] = view[start:stop]
        self.at += len(view)
        self.end = max(self.end, self.at)
        return len(view)

    def _pieces(self, n: int) -> Iterator[tuple[int, int, int, int]]:
        """The parts of n bytes from here on that lie in one page each: start, stop, page, place in the page."""
        done = 0
        while done < n:
            page, inner = divmod(self.at + done, self._PAGE)
            stop = min(n, done + self._PAGE - inner)
            yield done, stop, page, inner
            done = stop

    def truncate(self, size: int | None = None) -> int:
        self.end = self.at if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self.number, self.end) if self.number is not None else self._resize(self.end)
            except OSError as error:
                self.error = error
        return self.end

    def _resize(self, size: int) -> None:
        end = self.file.seek(0, os.SEEK_END)
        if size > end:
            self.file.write(bytes(size - end))
        self.file.truncate(size)

    def flush(self) -> None:
        pass
