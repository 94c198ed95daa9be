"""The base of codecs of scientific fields: arrays of floats and HDF5 files in and out, error bounds, missing values.

An HDF5 file (NetCDF-4 too) is coded dataset by dataset, and each dataset block by block, so that one dataset or one
snapshot decodes alone and memory holds one block at a time. What isn't a field (coordinates, integers, text, small or
one-dimensional datasets) is kept without loss. A family writes `encode_field` and `decode_field`; the bound is checked
here, on what the decoder gives, before a file is written.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import struct
import tempfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

from ...container import Chunk, Header, check_critical, pack, read_header, unpack, write
from ...errors import MediaError, StreamError, UsageError
from ...files import STDIO, is_in_place, read_bytes, whole
from ...media import FIELD_READS, hdf5
from .codec import Codec, Data, PathLike, Progress, Report, Source, Summary, is_torch, opened
from .field_blocks import (
    MAX_JSON,
    SLAB,
    Floats,
    fill_missing,
    inflate,
    lossless_slabs,
    missing_mask,
    pack_exactly,
    pack_mask,
    restore_missing,
    store_rows,
    unpack_exactly,
    unpack_values,
    value_range,
    within_bound,
)
from .settings import FIELD_SELECTION, FIELD_SETTINGS, Select, Setting

if TYPE_CHECKING:
    import h5py

__all__ = ["BOUNDED", "LOSSLESS", "Bound", "FieldCodec", "Layout", "layout_of"]


_ARRAY, _TENSOR, _FILE = range(3)  # what was given to `compress`, params["k"]; append only
_KIND, _BLOCKS = "k", "n"
LOSSLESS, BOUNDED = range(2)  # how a block is coded; families number theirs from 16 on. Append only
_HEAD = struct.Struct("<BI")
_FLOATS = ("<f4", ">f4", "<f8", ">f8")
BLOCK = 1 << 24  # values of a block, at most, unless a single index of the first axis has more
_MIN_VALUES, _MIN_SIDE = 4096, 8  # a dataset with fewer values, or shorter sides, isn't a field
_MAX_COMPONENTS = 6
_COORDINATES = {
    "lat",
    "lon",
    "latitude",
    "longitude",
    "time",
    "x",
    "y",
    "z",
    "depth",
    "level",
    "lev",
    "height",
    "rlat",
    "rlon",
}


@dataclass(frozen=True)
class Bound:
    """Largest error of a value; relative: of the difference between the dataset's largest and smallest value."""

    value: float
    relative: bool = True

    def __post_init__(self) -> None:
        if not (self.value > 0 and math.isfinite(self.value)):
            raise UsageError(f"an error bound of {self.value}: expected a number above 0")

    @staticmethod
    def of_quality(quality: float) -> Bound:
        """1 to 100: a relative bound of 10^-(1 + quality / 25), so 50 is a thousandth of the range."""
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: expected 1 to 100")
        return Bound(10 ** -(1 + quality / 25))

    def absolute(self, low: float, high: float) -> float:
        """For values from low to high. 0 where they are all the same, and the bound is relative: without loss."""
        return self.value * (high - low) if self.relative else self.value


class FieldCodec(Codec):
    """Base of the codecs for fields of floats.

    bound: what `encode` promises; None: nothing. methods: names of the families' own ways to code a block, by number
    from 16 on.
    """

    medium: ClassVar[str] = "field"
    critical_chunks: ClassVar[frozenset[str]] = frozenset({"Tree", "Bloc", "Loss"})
    methods: ClassVar[Mapping[int, str]] = {}
    any_suffix: ClassVar[bool] = True
    settings: ClassVar[tuple[Setting, ...]] = FIELD_SETTINGS
    selection: ClassVar[tuple[Setting, ...]] = FIELD_SELECTION
    bound: Bound | None
    device: str
    dataset: tuple[str, ...] = ()  # which datasets of a file are coded as fields; (): what looks like one

    @abstractmethod
    def encode_field(self, x: Floats, bound: float) -> tuple[int, bytes]:
        """(method, payload) of a block: x (B, ...), native floats, finite; its B parts are alike. What `decode_field`
        gives must be within the bound."""

    @abstractmethod
    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
        """The reverse. StreamError; the payload is as hostile as it comes."""

    def change_setting(self, name: str, value: Any) -> None:
        """A quality from 1 to 100 stands for a bound, unless a family says otherwise."""
        if name == "quality":
            name, value = "bound", Bound.of_quality(value)
        elif name in ("max_error", "rel_error"):
            name, value = "bound", Bound(value, relative=name == "rel_error")
        elif name == "dataset":
            value = (value,) if isinstance(value, str) else tuple(value)
        super().change_setting(name, value)

    def _absolute(self, low: float, high: float) -> float:
        """The bound, for values from low to high; infinite if nothing is promised."""
        return math.inf if self.bound is None else self.bound.absolute(low, high)

    # ---- arrays

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        codec = self if quality is None else self.with_settings(quality=quality)
        if isinstance(x, (str, os.PathLike)):
            return codec.encode_hdf5(x)
        array, kind = _take_in(x)
        return codec._encode_array(array, kind)

    def decompress_one(self, data: Data) -> Any:
        """The array; of an HDF5 file a dictionary of the arrays of its datasets, by path."""
        header, chunks = self._open(data)
        if header.params.get(_KIND, _ARRAY) == _FILE:
            tree, plan = _read_plan(chunks)
            numbers = [node.path for node in tree.datasets if node.dtype != "text" and node.shape is not None]
            return {path: self._dataset(tree, plan, chunks, path) for path in numbers}
        array = self._decode_array(header, chunks)
        if header.params.get(_KIND) == _TENSOR:
            import torch

            return torch.from_numpy(array).to(self.device)
        return array

    def _encode_array(self, array: Floats, kind: int) -> bytes:
        rows = blocks_of(array.shape)
        bound = self._absolute(*value_range([array[part] for part in rows], ()))
        chunks = [Chunk("Bloc", self._encode_block(array[part], bound, ())) for part in rows]
        header = self._header(array.shape, array.dtype.name, {_KIND: kind} if kind else {})
        return pack(header, chunks)

    def _decode_array(self, header: Header, chunks: Sequence[Chunk]) -> Floats:
        dtype, rows = np.dtype(header.dtype), blocks_of(header.shape)
        if len(chunks) != len(rows) or any(chunk.tag != "Bloc" for chunk in chunks):
            raise StreamError(f"{len(chunks)} blocks; an array of {header.shape} has {len(rows)}: the file is damaged")
        parts = [
            self._decode_block(chunk.payload, _shape_of(part, header.shape), dtype, ())
            for chunk, part in zip(chunks, rows, strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _header(self, shape: tuple[int, ...], dtype: str, params: Mapping[str, Any]) -> Header:
        return Header(
            codec=self.name,
            stream=self.stream,
            weights=self.weights_id,
            coder="constriction",
            arithmetic="float64",
            medium=self.medium,
            shape=shape,
            dtype=dtype,
            params=params,
        )

    def _open(self, data: Data) -> tuple[Header, list[Chunk]]:
        header, chunks = unpack(data)
        self.check_made_by_us(header)
        check_critical(chunks, self.critical_chunks)
        if header.params.get(_KIND, _ARRAY) not in (_ARRAY, _TENSOR, _FILE) or header.dtype not in (
            "float32",
            "float64",
        ):
            raise StreamError(f"a field of {header.dtype}, kind {header.params.get(_KIND)!r}: newer, or damaged")
        return header, [chunk for chunk in chunks if chunk.critical]

    # ---- blocks

    def _encode_block(self, block: Floats, bound: float, missing: Sequence[float]) -> bytes:
        """A block with its mask: verified on what the decoder gives."""
        block = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
        mask = missing_mask(block, missing)
        side, filled = b"", block
        if mask.any():
            side, filled = pack_mask(block, mask), fill_missing(block, mask)
        method, payload = LOSSLESS, b""
        if bound > 0:
            method, payload = self.encode_field(filled[None], bound)
            back = self.decode_field(method, payload, (1, *filled.shape), filled.dtype)[0]
            if not within_bound(filled, back, bound):  # a promise that isn't left to the family
                method = LOSSLESS
        if method == LOSSLESS or len(payload) >= filled.nbytes:
            method, payload = LOSSLESS, pack_exactly(filled)
        return _HEAD.pack(method, len(side)) + side + payload

    def _decode_block(
        self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], missing: Sequence[float]
    ) -> Floats:
        native = dtype.newbyteorder("=")
        method, side, payload = self.parts_of(data)
        if method == LOSSLESS:
            values = unpack_exactly(payload, shape, native)
        else:
            values = self.decode_field(method, payload, (1, *shape), native)[0]
        if side:
            values = restore_missing(values, side)
        return values

    @staticmethod
    def parts_of(data: bytes) -> tuple[int, bytes, bytes]:
        """(method, mask, payload) of a block."""
        if len(data) < _HEAD.size:
            raise StreamError("a block is cut: the file is damaged")
        method, n_side = _HEAD.unpack_from(data)
        if _HEAD.size + n_side > len(data):
            raise StreamError("a mask is cut: the file is damaged")
        return method, data[_HEAD.size : _HEAD.size + n_side], data[_HEAD.size + n_side :]

    def method_of(self, payload: bytes) -> str:
        """How a block is coded, for people."""
        method = payload[0] if payload else -1
        return {LOSSLESS: "lossless", BOUNDED: "interpolation", **self.methods}.get(method, "unknown")

    # ---- HDF5 files

    @staticmethod
    def describe_fields(data: Data) -> dict[str, str]:
        """For each field of an HDF5 file how it is coded, and its absolute error bound."""
        _, chunks = unpack(data)
        if not chunks or chunks[0].tag != "Tree":
            return {}
        return _in_words(_read_plan(chunks)[1])

    @classmethod
    def describe(cls, data: Data) -> Mapping[str, Any]:
        return {"fields": cls.describe_fields(data)}

    def encode_file(
        self, source: PathLike, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        del report
        given = io.BytesIO(read_bytes(source)) if source == STDIO else source
        with whole(target, replace=replace) as file:
            fields, n_out = self._encode_into(file, given, None, None)
        n_in = given.getbuffer().nbytes if isinstance(given, io.BytesIO) else os.path.getsize(given)
        words = [f"{len(fields)} fields", f"{n_in / n_out:.1f} times smaller"]
        return Summary(n_in, n_out, {"codec": self.name, "fields": fields}, words)

    def encode_hdf5(
        self,
        path: str | os.PathLike[str] | io.BytesIO,
        datasets: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The bytes that `encode_file` would write of an HDF5 file.

        datasets: which are fields (default: the setting `dataset`, or else what looks like one); all others are kept
        without loss. MediaError for what isn't HDF5, or can't be kept; UsageError for a dataset that isn't there.
        """
        out = io.BytesIO()
        self.encode_into(out, path, datasets, progress)
        return out.getvalue()

    def encode_into(
        self,
        out: BinaryIO,
        path: str | os.PathLike[str] | io.BytesIO,
        datasets: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, str]:
        """Write the same bytes into an open file, and return by path how the fields were coded.

        Memory holds one block whatever the number of snapshots: coded blocks wait in a temporary file, since what comes
        first says how all of them were coded.
        """
        return self._encode_into(out, path, datasets, progress)[0]

    def _encode_into(
        self,
        out: BinaryIO,
        path: PathLike | io.BytesIO,
        datasets: Sequence[str] | None,
        progress: Progress | None,
    ) -> tuple[dict[str, str], int]:
        """How the fields were coded, by path, and the number of bytes."""
        datasets = datasets or self.dataset or None
        with _open_hdf5(path) as file, tempfile.TemporaryFile() as waiting:
            tree = hdf5.read_tree(file)
            chosen = _chosen(tree, datasets)
            plan: dict[str, Any] = {}
            sizes: list[tuple[str, int]] = []
            total = sum(node.size for node in tree.datasets) or 1
            done, fields = 0, 0
            for node in tree.datasets:
                if node.path in chosen:
                    plan[node.path] = {}
                    parts = self._encode_dataset(file[node.path], node, plan[node.path])
                    fields += node.size
                else:
                    parts = (Chunk("Loss", part) for part in lossless_slabs(file[node.path], node))
                for chunk in parts:
                    waiting.write(chunk.payload)
                    sizes.append((chunk.tag, len(chunk.payload)))
                done += node.size
                if progress is not None:
                    progress(done / total)
            text = json.dumps({"tree": json.loads(tree.as_json()), "fields": plan}, separators=(",", ":"))
            if len(text) > MAX_JSON:
                raise MediaError(f"the names and attributes of this file have {len(text)} bytes; at most {MAX_JSON}")
            kinds = {str(tree_node.dtype)[1:] for tree_node in tree.datasets if tree_node.path in plan}
            dtype = "float64" if kinds == {"f8"} else "float32"
            header = self._header((max(1, fields),), dtype, {_KIND: _FILE, "fields": len(plan)})
            waiting.seek(0)
            first = Chunk("Tree", zlib.compress(text.encode("utf-8", "surrogatepass"), 9))
            rest = (Chunk(tag, waiting.read(n_bytes)) for tag, n_bytes in sizes)
            n_bytes = write(out, header, itertools.chain([first], rest), 1 + len(sizes))
        return _in_words(plan), n_bytes

    def _encode_dataset(self, item: Any, node: hdf5.Node, about: dict[str, Any]) -> Iterator[Chunk]:
        """about: filled when all blocks are coded."""
        assert node.shape is not None
        missing = _missing(item)
        rows = blocks_of(node.shape)
        bound = self._absolute(*value_range((item[part] for part in rows), missing))
        methods: set[str] = set()
        for part in rows:
            payload = self._encode_block(item[part], bound, missing)
            methods.add(self.method_of(payload))
            yield Chunk("Bloc", payload)
        limit = bound if math.isfinite(bound) else None
        about |= {"bound": limit, "blocks": len(rows), "how": ", ".join(sorted(methods))}

    def decode_file(
        self,
        source: Source,
        target: PathLike,
        select: Select = Select(),  # noqa: B008  frozen
        report: Report | None = None,
        replace: bool = False,
    ) -> Summary:
        del report
        data = opened(source).read()
        suffix = "" if target == STDIO else select.form_of(target)
        path = select.dataset[0] if select.dataset else None
        is_hdf5 = read_header(data).params.get(_KIND, _ARRAY) == _FILE
        self._check_parts(select, suffix)
        if is_hdf5 and (suffix in FIELD_READS or (path is None and suffix != ".npy")):
            n_bytes = self._write_hdf5(data, target, select.dataset, replace)
            return Summary(len(data), n_bytes, {"form": "hdf5"})
        if suffix in FIELD_READS:
            raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy")
        if is_hdf5 and path is None:
            raise UsageError("an .npy file holds one array, and this file has several datasets: name one by --dataset")
        if path is None:
            array = self.decompress(data)
        elif select.at is not None:
            array = self.decode_at(data, path, select.at)
        else:
            array = self.decode_dataset(data, path, select.snapshot)
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array), allow_pickle=False)
        with whole(target, replace=replace) as file:
            file.write(buffer.getbuffer())
        about = {"shape": list(array.shape), "dtype": str(array.dtype), "form": "npy"}
        return Summary(len(data), buffer.tell(), about)

    @staticmethod
    def _check_parts(select: Select, suffix: str) -> None:
        """UsageError where one snapshot is asked for of no dataset, or as an HDF5 file."""
        if select.snapshot is not None and (not select.dataset or suffix in FIELD_READS):
            raise UsageError("--snapshot takes one index of the first axis of --dataset, and gives an .npy file")
        if select.at is not None and (not select.dataset or suffix in FIELD_READS or select.snapshot is not None):
            raise UsageError("--at takes a place along the first axis of --dataset (3.5), and gives an .npy file")

    def _write_hdf5(self, data: Data, target: PathLike, only: Sequence[str], replace: bool) -> int:
        """Write the HDF5 file at a target; its number of bytes."""
        if target == STDIO or is_in_place(target):
            buffer = io.BytesIO()
            self.decode_hdf5(data, buffer, only)
            with whole(target, replace=replace) as file:
                file.write(buffer.getbuffer())
            return buffer.getbuffer().nbytes
        with whole(target, replace=replace, path_only=True) as path:
            self.decode_hdf5(data, path, only)
            return os.path.getsize(path)

    def decode_at(self, data: Data, dataset: str, at: float) -> Floats:
        """A dataset at a place between two snapshots, for families whose cards have the selection `at`."""
        raise UsageError(f"{self.name} has no latents to interpolate between snapshots")

    def verify_file(self, source: Source) -> None:
        data = opened(source).read()
        header, chunks = self._open(data)
        if header.params.get(_KIND, _ARRAY) != _FILE:
            self._decode_array(header, chunks)
            return
        tree, plan = _read_plan(chunks)
        for node, parts in _by_dataset(tree, plan, chunks):
            for _ in self._parts(node, node.path in plan, parts):
                pass

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        if header.params.get(_KIND, _ARRAY) != _FILE or select.dataset:
            return (".npy", *FIELD_READS)
        return (*FIELD_READS, ".npy")

    def decode_hdf5(self, data: Data, target: str | os.PathLike[str] | io.BytesIO, only: Sequence[str] = ()) -> None:
        """Write the HDF5 file again, at a path that doesn't exist yet or into a buffer.

        only: of these datasets the values are decoded, all others are left as their fill values.
        """
        import h5py

        header, chunks = self._open(data)
        if header.params.get(_KIND, _ARRAY) != _FILE:
            raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy, or use codec.decode")
        tree, plan = _read_plan(chunks)
        for path in only:
            _find(tree, path)
        with h5py.File(target, "w", track_order=True) as file:
            hdf5.build(file, tree)
            for node, parts in _by_dataset(tree, plan, chunks):
                if only and node.path not in only:
                    continue
                for rows, values in self._parts(node, node.path in plan, parts):
                    store_rows(file[node.path], rows, values, node)

    def decode_dataset(self, data: Data, path: str, snapshot: int | None = None) -> Floats:
        """One dataset of an HDF5 file; or one index of its first axis, of which only the block it is in is decoded."""
        _, chunks = self._open(data)
        tree, plan = _read_plan(chunks)
        return self._dataset(tree, plan, chunks, path, snapshot)

    def _payload(self, data: Data, dataset: str | None, snapshot: int) -> tuple[bytes, tuple[int, ...]]:
        """The block of an array (which has one), or of the one index of a dataset's first axis; and its shape."""
        header, chunks = self._open(data)
        if dataset is None:
            if header.params.get(_KIND, _ARRAY) == _FILE or len(chunks) != 1:
                raise UsageError("expected the file of one array, of one block; name a dataset of HDF5 files")
            return chunks[0].payload, header.shape
        tree, plan = _read_plan(chunks)
        node = _find(tree, dataset)
        if node.path not in plan or not node.shape:
            raise UsageError(f"{node.path} is kept without loss: there is nothing between its values")
        rows = blocks_of(node.shape)
        if any(part.stop - part.start != 1 for part in rows):
            raise UsageError(f"{node.path}, of shape {node.shape}, isn't kept snapshot by snapshot")
        if not 0 <= snapshot < len(rows):
            raise UsageError(f"{node.path} has {len(rows)} snapshots; there is none at {snapshot}")
        for one, parts in _by_dataset(tree, plan, chunks):
            if one.path == node.path:
                return parts[snapshot].payload, (1, *node.shape[1:])
        raise StreamError(f"{node.path} isn't in this file any more: it is damaged")

    def dataset_dtype(self, data: Data, path: str) -> np.dtype[Any]:
        """Of a dataset of an HDF5 file."""
        _, chunks = self._open(data)
        return hdf5.dtype_of(_find(_read_plan(chunks)[0], path).dtype)

    def _dataset(
        self, tree: hdf5.Tree, plan: Mapping[str, Any], chunks: Sequence[Chunk], path: str, snapshot: int | None = None
    ) -> Floats:
        node = _find(tree, path)
        assert node.shape is not None
        for one, parts in _by_dataset(tree, plan, chunks):
            if one.path != node.path:
                continue
            if snapshot is None:
                values = [part for _, part in self._parts(node, node.path in plan, parts)]
                return values[0] if len(values) == 1 else np.concatenate(values)
            if not node.shape or not 0 <= snapshot < node.shape[0]:
                raise UsageError(f"{path} has {node.shape[0] if node.shape else 0} snapshots; {snapshot} isn't one")
            for rows, part in self._parts(node, node.path in plan, parts, snapshot):
                return part[snapshot - rows.start]
        raise StreamError(f"{path} isn't in this file any more: it is damaged")

    def _parts(
        self, node: hdf5.Node, field: bool, chunks: Sequence[Chunk], snapshot: int | None = None
    ) -> Iterator[tuple[slice, Floats]]:
        """Rows and values of a dataset's blocks, decoded one by one; only the one that holds `snapshot`."""
        assert node.shape is not None
        rows = blocks_of(node.shape) if field else hdf5.slabs(node, SLAB)
        tag, dtype = "Bloc" if field else "Loss", hdf5.dtype_of(node.dtype)
        if len(rows) != len(chunks) or any(chunk.tag != tag for chunk in chunks):
            raise StreamError(f"{node.path} has {len(chunks)} blocks, expected {len(rows)}: the file is damaged")
        for part, chunk in zip(rows, chunks, strict=True):
            if snapshot is not None and not part.start <= snapshot < part.stop:
                continue
            shape = _shape_of(part, node.shape)
            if field:
                yield part, self._decode_block(chunk.payload, shape, dtype, ())
            else:
                yield part, unpack_values(chunk.payload, shape, node)


def _in_words(plan: Mapping[str, Any]) -> dict[str, str]:
    return {
        path: f"{about.get('how')}, "
        + ("without a bound" if about.get("bound") is None else f"within {about['bound']:.4g}")
        for path, about in plan.items()
    }


# ------------------------------------------------------------------------------------------------------ kinds of input


def _take_in(x: Any) -> tuple[Floats, int]:
    kind = _ARRAY
    if is_torch(x):
        x, kind = x.detach().cpu().numpy(), _TENSOR
    if not isinstance(x, np.ndarray):
        raise UsageError(
            f"can't compress a {type(x).__name__}: expected the path of an HDF5 file, or a NumPy array or torch tensor "
            "of float32 or float64"
        )
    if x.dtype.kind != "f" or x.dtype.itemsize not in (4, 8):
        raise UsageError(f"an array of {x.dtype}; expected float32 or float64 (integers: the codec circuit, or HDF5)")
    if not 1 <= x.ndim <= 8 or not x.size:
        raise UsageError(f"an array of shape {x.shape}; expected 1 to 8 axes, and something in it")
    return x.astype(x.dtype.newbyteorder("="), copy=False), kind


def _open_hdf5(path: str | os.PathLike[str] | io.BytesIO) -> h5py.File:
    import h5py

    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file") from None
    except OSError as error:
        name = "the data" if isinstance(path, io.BytesIO) else os.fspath(path)
        raise MediaError(f"{name}: not an HDF5 file, or a damaged one ({str(error)[:200]})") from None


def blocks_of(shape: Sequence[int]) -> list[slice]:
    """Slices along the first axis: one index each where an index is a snapshot of its own (five axes or more),
    otherwise as many as fit."""
    row = math.prod(shape[1:])
    step = 1 if len(shape) >= 5 else max(1, BLOCK // max(1, row))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


def _shape_of(part: slice, shape: Sequence[int]) -> tuple[int, ...]:
    return (part.stop - part.start, *shape[1:]) if shape else ()


@dataclass(frozen=True)
class Layout:
    """Fields in a block: count of them, each of components on the axes of `field`. last: components are the last
    axis."""

    count: int
    components: int
    field: tuple[int, ...]
    last: bool

    def items(self, block: Floats) -> list[Floats]:
        """(C, *field) each, of a block of any leading axes."""
        if self.last:
            block = block.reshape(self.count, *self.field, self.components)
            return list(np.moveaxis(block, -1, 1))
        return list(block.reshape(self.count, self.components, *self.field))

    def joined(self, items: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
        """The reverse."""
        block = np.stack(list(items))
        return (np.moveaxis(block, 1, -1) if self.last else block).reshape(shape)


def layout_of(shape: tuple[int, ...]) -> Layout | None:
    """How a transform over space sees a block: the last two or three axes of 8 or more values are space, an axis of
    at most 6 in front of them or behind holds components. None if there is no space."""
    last = len(shape) >= 3 and shape[-1] <= _MAX_COMPONENTS and min(shape[-3:-1]) >= _MIN_SIDE
    inner = shape[:-1] if last else shape
    n = 0
    while n < min(3, len(inner)) and inner[-1 - n] >= _MIN_SIDE:
        n += 1
    if n < 2:
        return None
    outer, field = inner[: len(inner) - n], inner[len(inner) - n :]
    if last:
        return Layout(math.prod(outer), shape[len(shape) - 1], field, True)
    components = next((n for n in outer[-1:] if n <= _MAX_COMPONENTS), 1)
    return Layout(math.prod(outer) // components, components, field, False)


def looks_like_a_field(node: hdf5.Node, scales: set[str]) -> bool:
    """Floats on a grid of at least two axes, and not what other datasets are placed by."""
    if node.shape is None or node.dtype not in _FLOATS or len(node.shape) < 2 or node.size < _MIN_VALUES:
        return False
    name = node.path.rpartition("/")[2].lower()
    if node.scale is not None or node.path in scales or "axis" in node.attributes:
        return False
    if len(node.shape) == 2 and name in _COORDINATES:
        return False
    return sorted(node.shape)[-2] >= _MIN_SIDE


def _chosen(tree: hdf5.Tree, datasets: Sequence[str] | None) -> set[str]:
    scales = {path for node in tree.datasets for axis in node.scales for path in axis}
    if datasets is None:
        return {node.path for node in tree.datasets if looks_like_a_field(node, scales)}
    chosen = {_find(tree, path).path for path in datasets}
    for node in tree.datasets:
        if node.path in chosen and (node.dtype not in _FLOATS or not node.shape or not node.size):
            raise UsageError(f"{node.path} holds {node.dtype} of shape {node.shape}: a field is of float32 or float64")
    return chosen


def _find(tree: hdf5.Tree, path: str) -> hdf5.Node:
    wanted = "/" + path.strip("/")
    for node in tree.datasets:
        if node.path == wanted:
            return node
    there = ", ".join(node.path for node in tree.datasets[:12])
    raise UsageError(f"no dataset {wanted}: there are {there}")


def _missing(item: Any) -> tuple[float, ...]:
    """Values that stand for nothing: _FillValue and missing_value (CF conventions)."""
    found = []
    for name in ("_FillValue", "missing_value"):
        if name in item.attrs:
            value = np.asarray(item.attrs[name])
            if value.dtype.kind in "iuf":
                found += [float(one) for one in value.ravel()[:8]]
    return tuple(found)


# ----------------------------------------------------------------------------------------------------- missing values


# ------------------------------------------------------------------------------------------------------- without loss


# ------------------------------------------------------------------------------------------------------------- the plan


def _read_plan(chunks: Sequence[Chunk]) -> tuple[hdf5.Tree, dict[str, Any]]:
    if not chunks or chunks[0].tag != "Tree":
        raise StreamError("the description of the HDF5 file is missing: the file is damaged")
    try:
        found = json.loads(inflate(chunks[0].payload, MAX_JSON).decode("utf-8", "surrogatepass"))
        nodes, fields = found["tree"], dict(found["fields"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StreamError(f"the description of the HDF5 file is damaged ({error})") from None
    tree = hdf5.Tree.from_json(json.dumps(nodes))
    floats = {node.path for node in tree.datasets if node.dtype in _FLOATS and node.shape}
    sound = all(type(one) is dict and type(one.get("bound")) in (int, float, type(None)) for one in fields.values())
    if not set(fields) <= floats or not sound:
        raise StreamError("the description of the HDF5 file names fields that aren't any: the file is damaged")
    return tree, fields


def _by_dataset(
    tree: hdf5.Tree, plan: Mapping[str, Any], chunks: Sequence[Chunk]
) -> Iterator[tuple[hdf5.Node, Sequence[Chunk]]]:
    """Datasets with their chunks, in the order of the file. StreamError if there are others."""
    at = 1
    for node in tree.datasets:
        if node.shape is None or not node.size:
            n = 0
        else:
            n = len(blocks_of(node.shape) if node.path in plan else hdf5.slabs(node, SLAB))
        if at + n > len(chunks):
            raise StreamError(f"{node.path} has {len(chunks) - at} blocks, expected {n}: the file is damaged")
        if n:
            yield node, chunks[at : at + n]
        at += n
    if at != len(chunks):
        raise StreamError(f"{len(chunks) - at} blocks too many: the file is damaged")
