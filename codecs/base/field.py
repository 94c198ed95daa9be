"""The base of codecs of scientific fields: arrays of floats and HDF5 files in and out, error bounds, missing values.

An HDF5 file (NetCDF-4 too) is coded dataset by dataset, and each dataset block by block, so that one dataset or one
snapshot decodes alone and memory holds one block at a time. What isn't a field (coordinates, integers, text, small or
one-dimensional datasets) is kept without loss. A family writes `encode_field` and `decode_field`; the bound is checked
here, on what the decoder gives, before a file is written.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import struct
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, BinaryIO, ClassVar

import numpy as np

from ...container import Chunk, Header, check_critical, pack, unpack, write
from ...errors import StreamError, UsageError
from ...files import STDIO, is_stream, naming, read_bytes, refuse_existing, whole
from ...media import FIELD_READS, hdf5
from .codec import Codec, Data, PathLike, Progress, Report, Source, Summary, is_torch, opened, path_of
from .field_blocks import (
    SLAB,
    Floats,
    fill_missing,
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
from .field_plan import (
    FieldPlan,
    blocks_of,
    fields_of,
    find_dataset,
    missing_values,
    open_hdf5,
    shape_of_rows,
)
from .limits import rounded
from .settings import FIELD_SELECTION, FIELD_SETTINGS, Select, Setting

__all__ = ["BOUNDED", "LOSSLESS", "Bound", "FieldCodec", "FieldLayout", "layout_of"]

_ARRAY, _TENSOR, _FILE = range(3)  # what was given to `compress`, params["k"]; append only
_KIND, _BLOCKS = "k", "n"
LOSSLESS, BOUNDED = range(2)  # how a block is coded; families number theirs from 16 on. Append only
_HEAD = struct.Struct("<BI")
_MAX_COMPONENTS, _MIN_SIDE = 6, 8  # of an axis that holds components, at most; of an axis of space, at least


@dataclass(frozen=True)
class Bound:
    """The largest error of a value.

    relative: in units of the difference between the dataset's largest and smallest value; otherwise of a value.
    """

    value: float
    relative: bool = True

    def __post_init__(self) -> None:
        if not (self.value > 0 and math.isfinite(self.value)):
            raise UsageError(f"an error bound of {self.value}: expected a number above 0")

    @staticmethod
    def of_quality(quality: float) -> Bound:
        """The relative bound of a quality, 1 to 100: 10^-(1 + quality / 25), so 50 is a thousandth of the range."""
        if not 1 <= quality <= 100:
            raise UsageError(f"quality {quality:g}: expected 1 to 100")
        return Bound(10 ** -(1 + quality / 25))

    def absolute(self, low: float, high: float) -> float:
        """The largest error of values from low to high; 0, without loss, if it is relative and they are the same."""
        return self.value * (high - low) if self.relative else self.value


class FieldCodec(Codec):
    """The base of the codecs for fields of floats.

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
        """The method, 16 or more or BOUNDED, and the payload of a block; what `decode_field` gives is within the bound.

        x: (B, ...), native floats, finite; its B parts are alike. bound: absolute, above 0, may be infinite.
        """

    @abstractmethod
    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
        """The block that `encode_field` was given, nearly. StreamError: the payload is as hostile as it comes."""

    def change_setting(self, name: str, value: Any) -> None:
        """A quality from 1 to 100 stands for a bound, unless a family says otherwise."""
        if name == "quality":
            name, value = "bound", None if value is None else Bound.of_quality(value)
        elif name in ("max_error", "rel_error"):
            name, value = "bound", Bound(value, relative=name == "rel_error")
        elif name == "bound" and not isinstance(value, (Bound, NoneType)):
            raise UsageError(f"bound {value!r}: expected a codec.Bound")
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
            plan = FieldPlan.from_chunks(chunks)
            numbers = [node for node in plan.tree.datasets if node.dtype != "text" and node.shape is not None]
            self._check_size(numbers)
            return {node.path: self._dataset(plan, chunks, node) for node in numbers}
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
            self._decode_block(chunk.payload, shape_of_rows(part, header.shape), dtype, ())
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
        """The bytes of a block and its mask, verified on what the decoder gives."""
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
        """The method, the mask and the payload of a block; StreamError if it is cut."""
        if len(data) < _HEAD.size:
            raise StreamError("a block is cut: the file is damaged")
        method, n_side = _HEAD.unpack_from(data)
        if _HEAD.size + n_side > len(data):
            raise StreamError("a mask is cut: the file is damaged")
        return method, data[_HEAD.size : _HEAD.size + n_side], data[_HEAD.size + n_side :]

    def method_of(self, payload: bytes) -> str:
        """The method of a block in words for people."""
        method = payload[0] if payload else -1
        return {LOSSLESS: "lossless", BOUNDED: "interpolation", **self.methods}.get(method, "unknown")

    # ---- HDF5 files

    @staticmethod
    def describe_fields(data: Data) -> dict[str, str]:
        """The way in which each field of an HDF5 file is coded, and its absolute error bound, by path."""
        _, chunks = unpack(data)
        if not chunks or chunks[0].tag != "Tree":
            return {}
        return FieldPlan.from_chunks(chunks).in_words()

    @classmethod
    def describe(cls, data: Data) -> Mapping[str, Any]:
        return {"fields": cls.describe_fields(data)}

    def encode_file(
        self, source: PathLike, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        del report
        refuse_existing(target, replace)
        given = io.BytesIO(read_bytes(path_of(source))) if is_stream(path_of(source)) else source
        with naming(source), whole(target, replace=replace) as file:
            fields, n_out = self._encode_into(file, given, None, None)
        n_in = given.getbuffer().nbytes if isinstance(given, io.BytesIO) else os.path.getsize(given)
        words = [f"{len(fields)} field{'s' * (len(fields) != 1)}", f"{n_in / n_out:.1f} times smaller"]
        return Summary(n_in, n_out, {"codec": self.name, "fields": fields}, words)

    def encode_hdf5(
        self,
        path: PathLike | io.BytesIO,
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
        """Does the work of `encode_into`; returns the number of bytes, too."""
        with open_hdf5(path) as file, tempfile.TemporaryFile() as waiting:
            tree = hdf5.read_tree(file)
            chosen = fields_of(tree, datasets or self.dataset or None)
            fields: dict[str, Any] = {}
            sizes: list[tuple[str, int]] = []
            total = sum(node.size for node in tree.datasets) or 1
            n_done, n_values = 0, 0
            for node in tree.datasets:
                if node.path in chosen:
                    fields[node.path] = {}
                    parts = self._encode_dataset(file[node.path], node, fields[node.path])
                    n_values += node.size
                else:
                    parts = (Chunk("Loss", part) for part in lossless_slabs(file[node.path], node))
                for chunk in parts:
                    waiting.write(chunk.payload)
                    sizes.append((chunk.tag, len(chunk.payload)))
                n_done += node.size
                if progress is not None:
                    progress(n_done / total)
            plan = FieldPlan(tree, fields)
            header = self._header((max(1, n_values),), plan.dtype, {_KIND: _FILE, "fields": len(fields)})
            waiting.seek(0)
            coded = (Chunk(tag, waiting.read(n_bytes)) for tag, n_bytes in sizes)
            n_bytes = write(out, header, itertools.chain([plan.as_chunk()], coded), 1 + len(sizes))
        return plan.in_words(), n_bytes

    def _encode_dataset(self, item: Any, node: hdf5.Node, about: dict[str, Any]) -> Iterator[Chunk]:
        """The chunks of a dataset, block by block; `about` is filled when all are coded."""
        assert node.shape is not None
        missing = missing_values(item)
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
        about = opened(source)
        header = about.require_header()
        self.check_request(header, target, select, replace)
        data = about.read()
        suffix = "" if target == STDIO else select.form_of(target)
        path = select.dataset[0] if select.dataset else None
        is_hdf5 = header.params.get(_KIND, _ARRAY) == _FILE
        self._check_parts(select, suffix)
        if select.dataset and not is_hdf5:
            raise UsageError(f"this file holds one array and no datasets: leave out {select.dataset[0]!r}")
        if is_hdf5 and (suffix in FIELD_READS or (path is None and suffix != ".npy")):
            n_bytes = self._write_hdf5(data, target, select.dataset, replace)
            return Summary(len(data), n_bytes, {"form": "hdf5"})
        if suffix in FIELD_READS:
            raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy")
        if len(select.dataset) > 1:
            raise UsageError(f"an .npy file holds one array, and {len(select.dataset)} datasets are named: -o NAME.h5")
        if is_hdf5 and path is None:
            raise UsageError("an .npy file holds one array, and this file has several datasets: name one by --dataset")
        if path is None:
            array = self.decompress(data)
        elif select.at is not None:
            array = self.decode_at(data, path, select.at)
        else:
            array = self.decode_dataset(data, path, select.snapshot)
        if array.dtype.kind == "O":
            raise UsageError(f"{path} holds text, which an .npy file can't: -o NAME.h5")
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array), allow_pickle=False)
        with whole(target, replace=replace) as file:
            file.write(buffer.getbuffer())
        facts = {"shape": list(array.shape), "dtype": str(array.dtype), "form": "npy"}
        return Summary(len(data), buffer.tell(), facts)

    @staticmethod
    def _check_parts(select: Select, suffix: str) -> None:
        """Raise UsageError where one snapshot is asked for of no dataset, or as an HDF5 file."""
        if select.snapshot is not None and (not select.dataset or suffix in FIELD_READS):
            raise UsageError("--snapshot takes one index of the first axis of --dataset, and gives an .npy file")
        if select.at is not None and (not select.dataset or suffix in FIELD_READS or select.snapshot is not None):
            raise UsageError("--at takes a place along the first axis of --dataset (3.5), and gives an .npy file")

    def _write_hdf5(self, data: Data, target: PathLike, only: Sequence[str], replace: bool) -> int:
        """Write the HDF5 file at a target; returns its number of bytes."""
        if is_stream(target):
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
        plan = FieldPlan.from_chunks(chunks)
        self._check_size(plan.tree.datasets)
        for node, parts in plan.by_dataset(chunks):
            for _ in self._parts(plan, node, parts):
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
        plan = FieldPlan.from_chunks(chunks)
        wanted = {find_dataset(plan.tree, path).path for path in only}
        self._check_size([node for node in plan.tree.datasets if not wanted or node.path in wanted])
        with h5py.File(target, "w", track_order=True) as file:
            hdf5.build(file, plan.tree)
            for node, parts in plan.by_dataset(chunks):
                if wanted and node.path not in wanted:
                    continue
                for rows, values in self._parts(plan, node, parts):
                    store_rows(file[node.path], rows, values, node)

    def decode_dataset(self, data: Data, path: str, snapshot: int | None = None) -> Floats:
        """The values of a dataset of an HDF5 file, or of an index of its first axis: then only its block is decoded."""
        _, chunks = self._open(data)
        plan = FieldPlan.from_chunks(chunks)
        return self._dataset(plan, chunks, find_dataset(plan.tree, path), snapshot)

    def _check_size(self, nodes: Sequence[hdf5.Node]) -> None:
        """Raise LimitError, before they are decoded, for datasets that have more values or bytes than are allowed."""
        n_bytes = sum(node.size * hdf5.dtype_of(node.dtype).itemsize for node in nodes)
        for name, needed in (("values", sum(node.size for node in nodes)), ("bytes", n_bytes)):
            what = f"{len(nodes)} dataset{'s' * (len(nodes) != 1)} of {rounded(needed)} {name}"
            self.limits.require(name, needed, what)

    def _payload(self, data: Data, dataset: str | None, snapshot: int) -> tuple[bytes, tuple[int, ...]]:
        """The block of an array (which has one), or of the one index of a dataset's first axis; and its shape."""
        header, chunks = self._open(data)
        if dataset is None:
            if header.params.get(_KIND, _ARRAY) == _FILE or len(chunks) != 1:
                raise UsageError("expected the file of one array, of one block; name a dataset of HDF5 files")
            return chunks[0].payload, header.shape
        plan = FieldPlan.from_chunks(chunks)
        node = find_dataset(plan.tree, dataset)
        if node.path not in plan.fields or not node.shape:
            raise UsageError(f"{node.path} is kept without loss: there is nothing between its values")
        rows = blocks_of(node.shape)
        if any(part.stop - part.start != 1 for part in rows):
            raise UsageError(f"{node.path}, of shape {node.shape}, isn't kept snapshot by snapshot")
        if not 0 <= snapshot < len(rows):
            raise UsageError(f"{node.path} has {len(rows)} snapshots; there is none at {snapshot}")
        return plan.chunks_of(node, chunks)[snapshot].payload, (1, *node.shape[1:])

    def dataset_dtype(self, data: Data, path: str) -> np.dtype[Any]:
        """The type of a dataset of an HDF5 file."""
        _, chunks = self._open(data)
        return hdf5.dtype_of(find_dataset(FieldPlan.from_chunks(chunks).tree, path).dtype)

    def _dataset(
        self, plan: FieldPlan, chunks: Sequence[Chunk], node: hdf5.Node, snapshot: int | None = None
    ) -> Floats:
        """The values of a dataset, or of one index of its first axis."""
        if node.shape is None:
            raise UsageError(f"{node.path} holds no array, not even an empty one")
        if snapshot is not None and (not node.shape or not 0 <= snapshot < node.shape[0]):
            n_snapshots = node.shape[0] if node.shape else 0
            raise UsageError(f"{node.path} has {n_snapshots} snapshots; {snapshot} isn't one")
        if not node.size:  # of which no chunk is written
            shape = node.shape if snapshot is None else node.shape[1:]
            return np.empty(shape, hdf5.dtype_of(node.dtype).newbyteorder("="))
        if snapshot is None:
            self._check_size([node])
        parts = plan.chunks_of(node, chunks)
        if snapshot is not None:
            rows, part = next(self._parts(plan, node, parts, snapshot))
            return part[snapshot - rows.start]
        values = [part for _, part in self._parts(plan, node, parts)]
        return values[0] if len(values) == 1 else np.concatenate(values)

    def _parts(
        self, plan: FieldPlan, node: hdf5.Node, chunks: Sequence[Chunk], snapshot: int | None = None
    ) -> Iterator[tuple[slice, Floats]]:
        """Rows and values of a dataset's blocks, decoded one by one; only the one that holds `snapshot`."""
        is_field = node.path in plan.fields
        assert node.shape is not None
        rows = blocks_of(node.shape) if is_field else hdf5.slabs(node, SLAB)
        tag, dtype = "Bloc" if is_field else "Loss", hdf5.dtype_of(node.dtype)
        if len(rows) != len(chunks) or any(chunk.tag != tag for chunk in chunks):
            raise StreamError(f"{node.path} has {len(chunks)} blocks, expected {len(rows)}: the file is damaged")
        for part, chunk in zip(rows, chunks, strict=True):
            if snapshot is not None and not part.start <= snapshot < part.stop:
                continue
            shape = shape_of_rows(part, node.shape)
            if is_field:
                yield part, self._decode_block(chunk.payload, shape, dtype, ())
            else:
                yield part, unpack_values(chunk.payload, shape, node)


# ---- kinds of input, and of blocks


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


@dataclass(frozen=True)
class FieldLayout:
    """The layout of a block as fields.

    count: of the fields. components: of each. field: the sides of each. last: whether components are the last axis.
    """

    count: int
    components: int
    field: tuple[int, ...]
    last: bool

    def items(self, block: Floats) -> list[Floats]:
        """The fields of a block of any leading axes, (C, *field) each."""
        if self.last:
            block = block.reshape(self.count, *self.field, self.components)
            return list(np.moveaxis(block, -1, 1))
        return list(block.reshape(self.count, self.components, *self.field))

    def joined(self, items: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
        """The block, of this shape, of its fields: the reverse of `items`."""
        block = np.stack(list(items))
        return (np.moveaxis(block, 1, -1) if self.last else block).reshape(shape)


def layout_of(shape: tuple[int, ...]) -> FieldLayout | None:
    """The layout of a block for a transform over space; None if there is no space.

    The last two or three axes of 8 or more values are space; an axis of at most 6 in front of them or behind holds
    components.
    """
    last = len(shape) >= 3 and shape[-1] <= _MAX_COMPONENTS and min(shape[-3:-1]) >= _MIN_SIDE
    inner = shape[:-1] if last else shape
    n = 0
    while n < min(3, len(inner)) and inner[-1 - n] >= _MIN_SIDE:
        n += 1
    if n < 2:
        return None
    outer, field = inner[: len(inner) - n], inner[len(inner) - n :]
    if last:
        return FieldLayout(math.prod(outer), shape[len(shape) - 1], field, True)
    components = next((n for n in outer[-1:] if n <= _MAX_COMPONENTS), 1)
    return FieldLayout(math.prod(outer) // components, components, field, False)
