"""The base of codecs of scientific fields: arrays of floats and HDF5 files in and out, error bounds, missing values.

An HDF5 file (NetCDF-4 too) is coded dataset by dataset, and each dataset block by block, so that one dataset or one
snapshot decodes alone and memory holds one block at a time. What isn't a field (coordinates, masks, integers, text,
small or one-dimensional datasets) is kept without loss. A family writes `encode_field` and `decode_field`; bounds are
checked here, on what the decoder gives, before a file is written.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header, pack, write
from ...errors import MediaError, StreamError, UsageError
from ...files import STDIO, is_stream, naming, read_bytes, refuse_existing, whole
from ...media import FIELD_READS, MEDIA, hdf5
from ...media.notes import Note, to_meta
from .codec import Codec, Data, PathLike, Progress, Report, Source, Summary, opened, path_of
from .doors import bytes_of
from .field_arrays import FieldArray, packed_mask, taken_in, unpacked_mask
from .field_blocks import Floats, lossless_slab, unpack_values, variable_slabs
from .field_bounds import OPTIONS, Bound, Limit, Span
from .field_coding import BOUNDED, LOSSLESS, METHODS, decode_block, encode_block, inner_method, parts_of
from .field_errors import Errors, notes_on
from .field_file import CRITICAL, FILE, KIND, MASK, MASKED, TENSOR, FieldFile, filler, opened_field
from .field_kinds import could_be_field
from .field_layout import FieldLayout, layout_of
from .field_missing import DEFAULT_FILL, Missing, stray_values
from .field_plan import (
    BLOCK,
    Blocks,
    Content,
    FieldPlan,
    Index,
    blocks_of,
    bulk_of,
    contents_of,
    find_dataset,
    open_hdf5,
    read_part,
    shape_of,
    slabs_of,
)
from .limits import note_of, rounded
from .settings import FIELD_SELECTION, FIELD_SETTINGS, Select, Setting

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BOUNDED", "LOSSLESS", "Bound", "FieldCodec", "FieldLayout", "layout_of"]

_SHOWN = 6  # fields that the line of a file names
_UNFIT = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError, AssertionError)


class FieldCodec(Codec):
    """The base of the codecs for fields of floats.

    bound: what `encode` promises; None: nothing. bounds: by dataset, in place of it. methods: names of the families'
    own ways to code a block, by number from 16 on. comfort: a family sees values from 2^-comfort to 2^comfort only.
    whole: values of a snapshot that isn't cut, see `blocks_of`.
    """

    medium: ClassVar[str] = "field"
    critical_chunks: ClassVar[frozenset[str]] = CRITICAL
    methods: ClassVar[Mapping[int, str]] = {}
    any_suffix: ClassVar[bool] = True
    settings: ClassVar[tuple[Setting, ...]] = FIELD_SETTINGS
    selection: ClassVar[tuple[Setting, ...]] = FIELD_SELECTION
    comfort: ClassVar[int] = 500
    whole: ClassVar[int] = BLOCK
    bound: Bound | None
    device: str
    bounds: tuple[tuple[str, Bound], ...] = ()
    dataset: tuple[str, ...] = ()  # which datasets of a file are coded as fields; (): what looks like one
    skip: tuple[str, ...] = ()  # what is left out of a file

    @abstractmethod
    def encode_field(self, x: Floats, bound: float) -> tuple[int, bytes]:
        """The method, 16 or more or BOUNDED, and the payload of a block; what `decode_field` gives is within the bound.

        x: (B, ...), native floats, finite; its B parts are alike. bound: absolute, above 0, may be infinite.
        """

    @abstractmethod
    def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
        """The block that `encode_field` was given, nearly. StreamError: the payload is as hostile as it comes."""

    def bound_without_promise(self, low: float, high: float) -> float:
        """The bound of a block that the family can't code, where none is asked for."""
        return Bound(1e-3).absolute(low, high)

    def doubt_about(self, x: Floats) -> str:
        """The reason, in words, for which the errors of a block x may be large where no bound is asked for; or ""."""
        del x
        return ""

    # ---- settings

    def with_settings(self, **changes: Any) -> Self:
        plain = [
            name
            for name in (*OPTIONS, "bound")
            if changes.get(name) is not None and any(path == "" for path, _ in _pairs(self, name, changes[name]))
        ]
        if len(plain) > 1:
            raise UsageError(f"{self.name} takes one of {plain[0]} and {plain[1]}, and both are given")
        return super().with_settings(**changes)

    def change_setting(self, name: str, value: Any) -> None:
        """A quality from 1 to 100 stands for a bound, unless a family says otherwise."""
        if name in OPTIONS:
            self._change_bounds(name, value)
            return
        if name == "quality":
            name, value = "bound", None if value is None else Bound.of_quality(value)
        elif name == "bound" and not isinstance(value, (Bound, NoneType)):
            raise UsageError(f"bound {value!r}: expected a codec.Bound")
        super().change_setting(name, value)

    def _change_bounds(self, name: str, pairs: Sequence[tuple[str, float]]) -> None:
        bounds = dict(self.bounds)
        for path, value in pairs:
            bound = Bound(value, kind=OPTIONS[name])
            if path:
                bounds[path] = bound
            else:
                super().change_setting("bound", bound)
        super().change_setting("bounds", tuple(sorted(bounds.items())))

    def _limit(self, path: str, span: Span) -> Limit:
        """The promise for a dataset of values in a range."""
        bound = dict(self.bounds).get(path, self.bound)
        if bound is None:
            return Limit("absolute", math.inf)
        kind = "absolute" if bound.kind == "relative" else bound.kind
        return Limit(kind, bound.absolute(span.low, span.high))

    def _blocks(self, shape: Sequence[int]) -> Blocks:
        return blocks_of(shape, self.stream, self.whole)

    # ---- arrays

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        codec = self if quality is None else self.with_settings(quality=quality)
        if isinstance(x, (str, os.PathLike)):
            return codec.encode_hdf5(x)
        data = bytes_of(x)
        if data is not None:  # an HDF5 file in memory
            return codec.encode_hdf5(io.BytesIO(data))
        return codec._encode_array(taken_in(x))

    def decompress_one(self, data: Data) -> Any:
        """The array; of an HDF5 file a dictionary of the arrays of its datasets, by path."""
        with self._opened(data) as file:
            if file.kind == FILE:
                plan = file.plan
                self._check_size(plan.tree.datasets)
                return {
                    node.path: self._values(file, node, numbers)
                    for node, numbers in plan.by_dataset(len(file))
                    if node.shape is not None and hdf5.is_plain(node.dtype)
                }
            array = self._decode_array(file)
            if file.kind == TENSOR:
                import torch

                return torch.from_numpy(array).to(self.device)
            return self._masked(file, array) if file.kind == MASKED else array

    def _encode_array(self, given: FieldArray) -> bytes:
        array, mask = given.array, given.mask
        blocks = self._blocks(array.shape)
        parts = [(array[index], None if mask is None else mask[index]) for index in blocks]
        missing, stray, extent = stray_values(
            lambda: (part if hidden is None else part[~hidden] for part, hidden in parts), Missing((DEFAULT_FILL,))
        )
        limit, errors = self._limit("", extent.span), Errors(extent.span)
        chunks = []
        for part, hidden in parts:
            holes = missing.mask(part) if hidden is None else missing.mask(part) | hidden
            chunks.append(Chunk("Bloc", self._encode_block(part, limit, holes, errors)))
        bulk = bulk_of(lambda index: array[index], array.shape, missing)
        notes = notes_on("", Content(None, "", missing, stray, extent, bulk), limit, errors)
        params: dict[str, Any] = {KIND: given.kind} if given.kind else {}
        if mask is not None:
            params["fill"] = given.fill
            chunks.insert(0, Chunk(MASK, packed_mask(mask)))
        header = self._header(array.shape, array.dtype.name, params, notes)
        return pack(header, chunks + filler(array.size, sum(len(chunk.payload) for chunk in chunks)))

    def _decode_array(self, file: FieldFile) -> Floats:
        shape, out = file.header.shape, None
        for index, values in self._array_parts(file):
            if out is None:
                out = np.empty(shape, values.dtype)
            out[index] = values
        assert out is not None
        return out

    def _array_parts(self, file: FieldFile) -> Iterator[tuple[Index, Floats]]:
        """The decoded blocks of an array, one by one, with their places."""
        shape, dtype, first = file.header.shape, np.dtype(file.header.dtype), int(file.kind == MASKED)
        blocks = blocks_of(shape, file.header.stream, self.whole)
        if len(file) - first != len(blocks):
            raise StreamError(f"{len(file)} blocks; an array of {shape} has {len(blocks)}: the file is damaged")
        for number, index in enumerate(blocks, first):
            yield index, decode_block(self, file.chunk(number, "Bloc"), shape_of(index, shape), dtype)

    def _masked(self, file: FieldFile, array: Floats) -> Any:
        """The masked array of a file of one."""
        return unpacked_mask(file.chunk(0, MASK), array, file.header.params.get("fill"))

    def _header(
        self, shape: tuple[int, ...], dtype: str, params: Mapping[str, Any], notes: Sequence[Note] = ()
    ) -> Header:
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
            meta=to_meta(notes),
        )

    @contextlib.contextmanager
    def _opened(self, source: Any) -> Iterator[FieldFile]:
        """A file of this codec, open. ContainerError or StreamError for any other."""
        with opened_field(source, self.whole) as file:
            self.check_made_by_us(file.header)
            yield file

    # ---- blocks

    def _encode_block(self, block: Floats, limit: Limit, mask: NDArray[np.bool_], errors: Errors) -> bytes:
        data = encode_block(self, block, limit, mask)
        if math.isinf(limit.value):  # nothing is promised, so the error is said
            native = block.astype(block.dtype.newbyteorder("="), copy=False)
            errors.add(native, decode_block(self, data, block.shape, block.dtype), ~mask)
            if not errors.doubt:
                errors.doubt = self.doubt_about(native) if not mask.any() else "has missing values"
        return data

    parts_of = staticmethod(parts_of)

    def method_of(self, payload: bytes) -> str:
        """The method of a block in words for people."""
        return {**METHODS, **self.methods}.get(inner_method(payload), "unknown")

    # ---- HDF5 files

    @staticmethod
    def describe_fields(source: Source) -> dict[str, str]:
        """The way in which each field of an HDF5 file is coded, and its absolute error bound, by path."""
        with opened_field(opened(source)) as file:
            return file.plan.in_words() if file.kind == FILE else {}

    @classmethod
    def describe(cls, source: Source) -> Mapping[str, Any]:
        return {"fields": cls.describe_fields(source)}

    def plan_file(self, source: PathLike) -> dict[str, str]:
        """The way in which `encode_file` would code each dataset of a file, in words, by path; nothing is written."""
        with self._source(source) as (given, _), naming(source), open_hdf5(given) as file:
            tree = self._tree(file)
            out = {}
            for content in contents_of(file, tree, self.dataset or None, self._blocks):
                path = content.node.path
                if content.is_field:
                    limit = self._limit(path, content.extent.span)
                    notes = notes_on(path, content, limit, None)
                    out[path] = "; ".join([f"with a loss, {limit.in_words()}", *(note.words for note in notes)])
                else:
                    out[path] = f"without loss: {content.reason}"
            return out

    @staticmethod
    @contextlib.contextmanager
    def _source(source: PathLike) -> Iterator[tuple[PathLike | io.BytesIO, int]]:
        """A source as h5py can open it, and its number of bytes."""
        if is_stream(path_of(source)):
            data = read_bytes(source)
            yield io.BytesIO(data), len(data)
        else:
            yield source, os.path.getsize(source) if os.path.exists(source) else 0

    def _tree(self, file: Any) -> hdf5.Tree:
        return hdf5.read_tree(file, self.skip)

    def encode_file(
        self, source: PathLike, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        del report
        refuse_existing(target, replace)
        with self._source(source) as (given, n_in), naming(source), whole(target, replace=replace) as out:
            coded = self._encode_into(out, given, None, None)
        fields = coded.plan.in_words()
        words = [f"{len(fields)} field{'s' * (len(fields) != 1)}", f"{n_in / coded.n_bytes:.1f} times smaller"]
        shown = [f"{path} {how.partition(', ')[2]}" for path, how in fields.items() if how != "lossless"]
        if shown:
            more = f" and {len(shown) - _SHOWN} more (codec info)" * (len(shown) > _SHOWN)
            words.append(f"with a loss: {'; '.join(shown[:_SHOWN])}{more}")
        about = {"codec": self.name, "fields": fields, "lossless": coded.lossless}
        return Summary(n_in, coded.n_bytes, about, words, coded.notes)

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
        return self._encode_into(out, path, datasets, progress).plan.in_words()

    def _encode_into(
        self,
        out: BinaryIO,
        path: PathLike | io.BytesIO,
        datasets: Sequence[str] | None,
        progress: Progress | None,
    ) -> _Coded:
        """Does the work of `encode_into`."""
        with open_hdf5(path) as file, tempfile.TemporaryFile() as waiting:
            tree = self._tree(file)
            self._check_names(tree)
            work = _Work()
            work.notes += tree.notes
            total = sum(node.size for node in tree.datasets) or 1
            n_done, sizes = 0, []
            for content in contents_of(file, tree, datasets or self.dataset or None, self._blocks):
                item = file[content.node.path]
                parts = self._encode_dataset(item, content, work) if content.is_field else _kept(item, content, work)
                for chunk in parts:
                    waiting.write(chunk.payload)
                    sizes.append((chunk.tag, len(chunk.payload)))
                n_done += content.node.size
                if progress is not None:
                    progress(n_done / total)
            plan = FieldPlan(tree, work.fields, work.slabs, self.stream, self.whole)
            first = plan.as_chunk()
            _check_plan(first)
            params = {KIND: FILE, "fields": len(work.fields)}
            header = self._header((max(1, work.n_values),), plan.dtype, params, work.notes)
            last = filler(work.n_values, len(first.payload) + sum(size for _, size in sizes))
            waiting.seek(0)
            coded = (Chunk(tag, waiting.read(n_bytes)) for tag, n_bytes in sizes)
            n_bytes = write(out, header, itertools.chain([first], coded, last), 1 + len(sizes) + len(last))
        return _Coded(plan, n_bytes, (*work.notes, *note_of(header)), work.lossless)

    def _check_names(self, tree: hdf5.Tree) -> None:
        """Raise UsageError for a bound of a dataset that isn't there."""
        for path, _ in self.bounds:
            find_dataset(tree, path)

    def _encode_dataset(self, item: Any, content: Content, work: _Work) -> Iterator[Chunk]:
        """The chunks of a field, block by block; `work` gets what is to be said of it when all are coded."""
        node = content.node
        assert node.shape is not None
        limit, errors = self._limit(node.path, content.extent.span), Errors(content.extent.span)
        about = work.fields[node.path] = {}
        methods: set[str] = set()
        blocks = self._blocks(node.shape)
        for index in blocks:
            block = read_part(item, index, node.path)
            payload = self._encode_block(block, limit, content.missing.mask(block), errors)
            methods.add(self.method_of(payload))
            yield Chunk("Bloc", payload)
        value = limit.value if math.isfinite(limit.value) else None
        about |= {"bound": value, "blocks": len(blocks), "how": ", ".join(sorted(methods))}
        if limit.kind != "absolute":
            about["kind"] = limit.kind
        if value is None and errors.measured:
            about["error"] = errors.rounded
        work.n_values += node.size
        work.notes += notes_on(node.path, content, limit, errors)

    # ---- decoding files

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
        self.check_request(about.require_header(), target, select, replace)
        suffix = "" if target == STDIO else select.form_of(target)
        path = select.dataset[0] if select.dataset else None
        with self._opened(about) as file:
            is_hdf5 = file.kind == FILE
            self._check_parts(select, suffix)
            if select.dataset and not is_hdf5:
                raise UsageError(f"this file holds one array and no datasets: leave out --dataset {path}")
            if is_hdf5 and (suffix in FIELD_READS or (path is None and suffix != ".npy")):
                n_bytes, notes = self._write_hdf5(file, target, select.dataset, replace)
                return Summary(file.n_bytes, n_bytes, {"form": "hdf5"}, notes=notes)
            if suffix in FIELD_READS:
                raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy")
            if len(select.dataset) > 1:
                raise UsageError(
                    f"an .npy file holds one array, and {len(select.dataset)} datasets are named: -o NAME.h5"
                )
            if is_hdf5 and path is None:
                raise UsageError(
                    "an .npy file holds one array, and this file has several datasets: name one by --dataset"
                )
            array = self._array_of(file, path, select)
            n_bytes, notes = _write_npy(array, target, replace)
            facts = {"shape": list(array.shape), "dtype": str(array.dtype), "form": "npy"}
            return Summary(file.n_bytes, n_bytes, facts, notes=notes)

    def _array_of(self, file: FieldFile, path: str | None, select: Select) -> Any:
        """The array that an .npy file gets."""
        if path is None:
            array = self._decode_array(file)
            return self._masked(file, array) if file.kind == MASKED else array
        node = find_dataset(file.plan.tree, path)
        if node.shape is not None and not hdf5.is_plain(node.dtype):
            raise UsageError(f"{node.path} holds text, references or the like, which an .npy file can't: -o NAME.h5")
        if select.at is not None:
            return self._decode_at(file, path, select.at)
        return self._dataset(file, node, select.snapshot)

    @staticmethod
    def _check_parts(select: Select, suffix: str) -> None:
        """Raise UsageError where one snapshot is asked for of no dataset, or as an HDF5 file."""
        if select.snapshot is not None and (len(select.dataset) != 1 or suffix in FIELD_READS):
            raise UsageError("--snapshot takes one index of the first axis of one --dataset, and gives an .npy file")
        if select.at is not None and (len(select.dataset) != 1 or suffix in FIELD_READS or select.snapshot is not None):
            raise UsageError("--at takes a place along the first axis of one --dataset (3.5), and gives an .npy file")

    def _write_hdf5(
        self, file: FieldFile, target: PathLike, only: Sequence[str], replace: bool
    ) -> tuple[int, Sequence[Note]]:
        """Write the HDF5 file at a target; returns its number of bytes, and what was left out."""
        with whole(target, replace=replace) as out:
            return self._decode_hdf5(file, out, only)

    def decode_at(self, data: Data, dataset: str, at: float) -> Floats:
        """A dataset at a place between two snapshots, for families whose cards have the selection `at`."""
        with self._opened(data) as file:
            return self._decode_at(file, dataset, at)

    def _decode_at(self, file: FieldFile, dataset: str, at: float) -> Floats:
        """The same, of an open file."""
        raise UsageError(f"{self.name} has no latents to interpolate between snapshots")

    def verify_file(self, source: Source) -> None:
        """Does what decoding does, into memory, and keeps one block at a time."""
        with self._opened(opened(source)) as file:
            file.check_rest()
            if file.kind != FILE:
                shape = file.header.shape
                if file.kind == MASKED:
                    self._masked(file, np.broadcast_to(np.dtype(file.header.dtype).type(0), shape))
                for _ in self._array_parts(file):
                    pass
                return
            plan = file.plan
            self._check_size(plan.tree.datasets)
            with hdf5.writing(io.BytesIO(), plan.tree) as out:
                for node, numbers in plan.by_dataset(len(file)):
                    for index, values in self._parts(file, node, numbers):
                        out[node.path].check(index, values)

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        if header.params.get(KIND, 0) != FILE:
            return (".npy",)
        return (".npy", *FIELD_READS) if len(select.dataset) == 1 else (*FIELD_READS, ".npy")

    @classmethod
    def check_output(cls, header: Header, target: PathLike, select: Select) -> None:
        """Files of arrays are .npy; a suffix that no medium knows says nothing."""
        suffix = "" if target == STDIO else os.path.splitext(os.path.basename(os.fspath(target)))[1].lower()
        if suffix in cls.output_suffixes(header, select) or not suffix:
            return
        if any(suffix in medium.writes or suffix in medium.reads for medium in MEDIA.values()):
            what = "an HDF5 file" if header.params.get(KIND, 0) == FILE else "one array of numbers"
            words = ", ".join(cls.output_suffixes(header, select))
            raise UsageError(
                f"{target}: unknown suffix {suffix} for a file of {header.codec} that holds {what}; expected {words}"
            )

    def decode_hdf5(self, data: Data, target: PathLike | BinaryIO, only: Sequence[str] = ()) -> int:
        """Write the HDF5 file again, at a path that doesn't exist yet or into an open file; returns its bytes.

        only: these datasets, with their dimension scales and the coordinates that they name; nothing else then.
        """
        with self._opened(data) as file:
            if isinstance(target, (str, os.PathLike)):
                with whole(target) as out:
                    return self._decode_hdf5(file, out, only)[0]
            return self._decode_hdf5(file, target, only)[0]

    def _decode_hdf5(self, file: FieldFile, target: BinaryIO, only: Sequence[str]) -> tuple[int, Sequence[Note]]:
        """Write the HDF5 file into an open file; returns its number of bytes, and what was left out."""
        if file.kind != FILE:
            raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy, or use codec.decode")
        plan = file.plan
        notes: list[Note] = []
        tree, wanted = plan.tree, {node.path for node in plan.tree.datasets}
        if only:
            tree, wanted, left_out = plan.only(only)
            if left_out:
                notes.append(Note("structure", f"attributes that refer to other datasets: {', '.join(left_out)}"))
        self._check_size([node for node in plan.tree.datasets if node.path in wanted])
        with hdf5.writing(target, tree, partial=bool(only)) as out:
            for node, numbers in plan.by_dataset(len(file)):
                if node.path in wanted:
                    for index, values in self._parts(file, node, numbers):
                        out[node.path][index] = values
        return out.n_bytes, notes

    def decode_dataset(self, data: Data, path: str, snapshot: int | None = None) -> Floats:
        """The values of a dataset of an HDF5 file, or of an index of its first axis: then only its block is decoded."""
        with self._opened(data) as file:
            return self._dataset(file, find_dataset(file.plan.tree, path), snapshot)

    def _check_size(self, nodes: Sequence[hdf5.Node]) -> None:
        """Raise LimitError, before they are decoded, for datasets that have more values or bytes than are allowed."""
        n_bytes = sum(node.size * hdf5.dtype_of(node.dtype).itemsize for node in nodes)
        for name, needed in (("values", sum(node.size for node in nodes)), ("bytes", n_bytes)):
            what = f"{len(nodes)} dataset{'s' * (len(nodes) != 1)} of {rounded(needed)} {name}"
            self.limits.require(name, needed, what)

    def _payload(self, file: FieldFile, dataset: str | None, snapshot: int) -> tuple[bytes, tuple[int, ...], int]:
        """The block of an array (which has one), or that of one index of a dataset's first axis.

        Returns it, its shape, and the place of the index in it.
        """
        if dataset is None:
            first = int(file.kind == MASKED)
            if file.kind == FILE or len(file) != 1 + first:
                raise UsageError("expected the file of one array, of one block; name a dataset of HDF5 files")
            return file.chunk(first, "Bloc"), file.header.shape, 0
        plan = file.plan
        node = find_dataset(plan.tree, dataset)
        if node.path not in plan.fields or not node.shape:
            raise UsageError(f"{node.path} is kept without loss: there is nothing between its values")
        if len(node.shape) < 5:
            raise UsageError(f"{node.path}, of shape {node.shape}, isn't kept snapshot by snapshot")
        if not 0 <= snapshot < node.shape[0]:
            raise UsageError(f"{node.path} has {node.shape[0]} snapshots; there is none at {snapshot}")
        parts = plan.parts_of(node)
        assert isinstance(parts, Blocks)
        number, *more = parts.of_first(snapshot)
        if more:
            raise UsageError(f"{node.path}, of shape {node.shape}, has snapshots that are too large for this")
        index = parts[number]
        payload = file.chunk(plan.chunks_of(node, len(file))[number], "Bloc")
        return payload, shape_of(index, node.shape), snapshot - index[0].start

    def _dataset(self, file: FieldFile, node: hdf5.Node, snapshot: int | None = None) -> Floats:
        """The values of a dataset, or of one index of its first axis."""
        if node.shape is None:
            raise UsageError(f"{node.path} holds no array, not even an empty one")
        if snapshot is not None and (not node.shape or not 0 <= snapshot < node.shape[0]):
            n_snapshots = node.shape[0] if node.shape else 0
            raise UsageError(f"{node.path} has {n_snapshots} snapshots; {snapshot} isn't one")
        if snapshot is None:
            self._check_size([node])
        return self._values(file, node, file.plan.chunks_of(node, len(file)), snapshot)

    def _values(self, file: FieldFile, node: hdf5.Node, numbers: range, snapshot: int | None = None) -> Floats:
        assert node.shape is not None
        dtype = hdf5.dtype_of(node.dtype)
        parts = self._parts(file, node, numbers, snapshot)
        if not node.size or not node.shape:  # of an empty one no chunk is written
            empty = np.empty(node.shape if snapshot is None else node.shape[1:], dtype.newbyteorder("="))
            return next((values for _, values in parts), empty)
        out: Floats | None = None
        for index, values in parts:
            if out is None:
                out = np.empty(node.shape if snapshot is None else (1, *node.shape[1:]), values.dtype)
            if snapshot is not None:
                values = values[snapshot - index[0].start : snapshot - index[0].start + 1]
                index = (slice(0, 1), *index[1:])
            out[index] = values
        assert out is not None
        return out if snapshot is None else out[0]

    def _parts(
        self, file: FieldFile, node: hdf5.Node, numbers: range, snapshot: int | None = None
    ) -> Iterator[tuple[Index, Floats]]:
        """Places and values of a dataset's blocks, decoded one by one; only those that hold `snapshot`."""
        assert node.shape is not None or not numbers
        shape, is_field = node.shape or (), node.path in file.plan.fields
        for index, number in zip(file.plan.parts_of(node), numbers, strict=True):
            if snapshot is not None and not index[0].start <= snapshot < index[0].stop:
                continue
            with _fitting(node.path):
                if is_field:
                    data = file.chunk(number, "Bloc")
                    yield index, decode_block(self, data, shape_of(index, shape), hdf5.dtype_of(node.dtype))
                else:
                    yield index, unpack_values(file.chunk(number, "Loss"), shape_of(index, shape), node)


# ---- parts of the work


@dataclass(frozen=True)
class _Coded:
    """The result of coding an HDF5 file. lossless: reasons for which floats on a grid were kept without loss."""

    plan: FieldPlan
    n_bytes: int
    notes: tuple[Note, ...]
    lossless: dict[str, str]


class _Work:
    """The facts that are gathered while the datasets of a file are coded."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.slabs: dict[str, list[int]] = {}
        self.lossless: dict[str, str] = {}
        self.notes: list[Note] = []
        self.n_values = 0


def _kept(item: Any, content: Content, work: _Work) -> Iterator[Chunk]:
    """The chunks of a dataset that is kept without loss."""
    node = content.node
    if could_be_field(node):
        work.lossless[node.path] = content.reason
    if node.shape is None or not node.size:
        return
    if hdf5.is_variable(node.dtype) and node.shape:
        rows = work.slabs[node.path] = []
        for n, data in variable_slabs(lambda index: read_part(item, index, node.path), node):
            rows.append(n)
            yield Chunk("Loss", data)
        return
    for index in slabs_of(node):
        yield Chunk("Loss", lossless_slab(read_part(item, index, node.path), node))


def _check_plan(chunk: Chunk) -> None:
    """Raise MediaError for a description that couldn't be read back, or built."""
    try:
        hdf5.check(FieldPlan.from_chunk(chunk).tree)
    except StreamError as error:
        words = str(error).partition("damaged (")[2].rstrip(")") or str(error)
        raise MediaError(f"this file can't be kept as it is: {words}; leave a part out with --skip PATH") from None


@contextlib.contextmanager
def _fitting(path: str) -> Iterator[None]:
    """Turns what values that don't fit their dataset raise into StreamError."""
    try:
        yield
    except _UNFIT as error:
        raise StreamError(f"{path}: values that don't fit ({str(error)[:100]}): the file is damaged") from None


def _write_npy(array: Any, target: PathLike, replace: bool) -> tuple[int, Sequence[Note]]:
    """Write an array as .npy; returns the number of bytes, and what that form can't hold."""
    notes = []
    if isinstance(array, np.ma.MaskedArray):
        notes.append(Note("values", "the mask, which an .npy file can't hold: masked values are those below it"))
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=False)
    with whole(target, replace=replace) as file:
        file.write(buffer.getbuffer())
    return buffer.tell(), notes


def _pairs(codec: Codec, name: str, given: Any) -> Sequence[tuple[str, float]]:
    """The bounds in the value of a setting, by dataset; "" for all. What can't be read is said elsewhere."""
    setting = next(setting for setting in codec.settings if setting.name == name)
    try:
        return [pair if isinstance(pair, tuple) else ("", pair) for pair in setting.checked(given)]
    except (UsageError, TypeError):
        return [("", 0.0)]
