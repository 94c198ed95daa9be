"""The base of lossless codecs of integer arrays and tables: kinds of input, the file they came in, container, sizes.

A family writes `encode_array` and `decode_array`, beside `from_weights` and `weights_id`.
"""

from __future__ import annotations

import math
import os
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...container import Chunk, Header, check_critical, pack, read_header, unpack
from ...errors import ContainerError, MediaError, StreamError, UsageError
from ...files import STDIO, naming, read_bytes, refuse_existing, whole, whole_folder
from ...media import ARRAY_FORMS, ARRAY_WRITES, MEDIA
from ...media.array import MAX_BYTES, ArrayFile, read, write
from ...media.notes import KEY as NOTES
from ...media.notes import from_meta, to_meta
from . import palette
from .codec import Codec, Data, EncodedPixels, PathLike, Report, Source, Summary, opened, path_of
from .doors import bytes_of, check_dense, check_unmasked, is_torch, text_of
from .limits import note_of
from .settings import ARRAY_SETTINGS, Select, Setting

__all__ = ["ArrayCodec"]

# What was given to `compress`, in params["k"]; an array isn't recorded. Append only.
_ARRAY, _FILE, _TENSOR = range(3)
_KIND, _FORM, _CHECK = "k", "f", "c"
_FILL = "fill"
_TEXT = "text"
_DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", _TEXT)
_DETAIL = {
    "head": bytes,
    "names": str,
    "delimiter": bytes,
    "newline": bytes,
    "end": bool,
    "palette": bytes,
    "colours": bytes,
}


class ArrayCodec(Codec):
    """The base of lossless codecs for arrays of integers and tables of text, whose first axis counts the items.

    critical_chunks: upper-case tags that the family writes. values_per_byte: no file holds more values than this times
    its payload bytes (what is simpler is filled up with zeros), so that a decoder can refuse a hostile size at once.
    """

    medium: ClassVar[str] = "array"
    wire_medium: ClassVar[str] = "field"  # the header's number for it, from before arrays and fields were told apart
    any_suffix: ClassVar[bool] = True
    settings: ClassVar[tuple[Setting, ...]] = ARRAY_SETTINGS
    critical_chunks: ClassVar[frozenset[str]] = frozenset()
    values_per_byte: ClassVar[int] = 1024
    device: str = "cpu"

    @abstractmethod
    def encode_array(self, array: NDArray[Any]) -> EncodedPixels:
        """The chunks of an array, which must not be changed.

        array: bool, integers, or text (rows, columns) of dtype S; not empty.
        """

    @abstractmethod
    def decode_array(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        """The array, of header.shape and dtype, or StreamError. Params and payloads are as hostile as they come."""

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        if quality is not None:
            raise UsageError(f"{self.name} is lossless: it has no quality")
        value, kind = self._take_in(x)
        return self._encode(value, kind)

    def decompress_one(self, data: Data) -> Any:
        value, kind = self._decode(data)
        if kind == _FILE:
            return value
        if kind == _TENSOR:
            import torch

            return torch.from_numpy(value.array).to(self.device)
        return value.array

    def encode_array_file(self, value: ArrayFile) -> bytes:
        """The file of what was read from a file; `decompress` of it gives a NumPy array."""
        return self._encode(value, _ARRAY)

    def decode_array_file(self, data: Data) -> ArrayFile:
        """The array that `encode_array_file` was given, and the form in which it came."""
        return self._decode(data)[0]

    # ---- files

    def encode_file(
        self, source: PathLike, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        del report
        refuse_existing(target, replace)
        with naming(path_of(source)):
            value, n_bytes = _read_file(source)
            data = self.encode_array_file(value)
        with whole(target, replace=replace) as file:
            file.write(data)
        bits = 8 * len(data) / value.array.size
        dtype = _TEXT if value.array.dtype.kind == "S" else value.array.dtype.name
        about = {"codec": self.name, "shape": list(value.array.shape), "dtype": dtype, "bits_per_value": bits}
        notes = (*value.notes, *note_of(read_header(data)))
        return Summary(n_bytes, len(data), about, [f"{bits:.4f} bits a value"], notes)

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
        data = about.read()
        value = self.decode_array_file(data)
        suffix = "" if target == STDIO else select.form_of(target)
        if suffix not in MEDIA["array"].writes:
            suffix = ""  # any name will do for a file in the form that it was
        out = write(value, suffix)
        if isinstance(out, bytes):
            with whole(target, replace=replace) as file:
                file.write(out)
            n_bytes = len(out)
        else:
            with whole_folder(target) as folder:
                for name, content in out.items():
                    (folder / name).write_bytes(content)
            n_bytes = sum(map(len, out.values()))
        facts = {"shape": list(value.array.shape), "dtype": str(value.array.dtype), "form": value.form}
        return Summary(len(data), n_bytes, facts)

    def verify_file(self, source: Source) -> None:
        self.decompress(opened(source).read())

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        """The suffix of the form that the file was, then all others: what a form can't hold is refused when decoded."""
        del select
        form = header.params.get(_FORM, 0)
        name = ARRAY_FORMS[form] if isinstance(form, int) and 0 < form < len(ARRAY_FORMS) else "npy"
        own = ARRAY_WRITES[name]
        return (*own, *(suffix for suffix in MEDIA["array"].writes if suffix not in own))

    def _take_in(self, x: Any) -> tuple[ArrayFile, int]:
        if isinstance(x, ArrayFile):
            return x, _FILE
        if isinstance(x, (str, os.PathLike)):
            return read(text_of(x)), _ARRAY
        if isinstance(x, np.ndarray):
            check_unmasked(x)
            return ArrayFile(np.asarray(x).astype(x.dtype.newbyteorder("="), copy=False)), _ARRAY
        if is_torch(x):
            check_dense(x)
            if x.is_floating_point() or x.is_complex():
                raise UsageError(f"a tensor of {x.dtype}; {self.name} takes integers")
            return ArrayFile(np.asarray(x.detach().cpu().resolve_neg())), _TENSOR
        data = bytes_of(x)
        if data is not None:
            return read(bytes(data)), _ARRAY
        raise UsageError(
            f"can't compress a {type(x).__name__}: expected a path (IDX, NPY, CSV, PNG, a folder of PNGs), the bytes "
            "of such a file or an open one, a NumPy array or torch tensor of integers whose first axis counts items, "
            "or a list of them"
        )

    def _encode(self, value: ArrayFile, kind: int) -> bytes:
        array = value.array
        dtype = _TEXT if array.dtype.kind == "S" else array.dtype.name
        if dtype not in _DTYPES or not 1 <= array.ndim <= 8 or (dtype == _TEXT and array.ndim != 2):
            raise MediaError(f"an array of {array.dtype} {array.shape}; expected booleans or integers, 1 to 8 axes")
        if not array.size:
            raise MediaError(f"an array of shape {array.shape}: there is nothing in it")
        encoded = self.encode_array(array)
        assert not {_KIND, _FORM, _CHECK} & set(encoded.params), "params k, f and c belong to ArrayCodec"
        chunks = list(encoded.chunks)
        missing = -(-array.size // self.values_per_byte) - sum(len(chunk.payload) for chunk in chunks)
        if missing > 0:
            chunks.append(Chunk(_FILL, bytes(missing)))
        params = {_KIND: kind, _FORM: ARRAY_FORMS.index(value.form)}
        header = Header(
            codec=self.name,
            stream=self.stream,
            weights=self.weights_id,
            coder=encoded.coder,
            arithmetic=encoded.arithmetic,
            medium=self.wire_medium,
            shape=array.shape,
            dtype=dtype,
            params={**encoded.params, **{key: n for key, n in params.items() if n}, _CHECK: _checksum(array)},
            meta=palette.packed(value.detail) | to_meta(value.notes),
        )
        return pack(header, chunks)

    def _decode(self, data: Data) -> tuple[ArrayFile, int]:
        header, chunks = unpack(data)
        self.check_made_by_us(header)
        check_critical(chunks, self.critical_chunks)
        kind, form = header.params.get(_KIND, _ARRAY), header.params.get(_FORM, 0)
        if not isinstance(kind, int) or not isinstance(form, int) or kind is True or form is True:
            raise ContainerError(f"params {_KIND!r} and {_FORM!r} are {kind!r} and {form!r}; expected small numbers")
        typed = header.dtype in _DTYPES and (header.dtype != _TEXT or len(header.shape) == 2)
        if not (typed and 0 <= kind <= _TENSOR and 0 <= form < len(ARRAY_FORMS)):
            raise ContainerError(f"an array of {header.dtype}, kind {kind!r}, form {form!r}: newer, or damaged")
        detail = {key: value for key, value in header.meta.items() if key != NOTES}
        for key, value in detail.items():
            if key not in _DETAIL or type(value) is not _DETAIL[key]:
                raise ContainerError(f"metadata {key!r} aren't what an array has: newer, or damaged")
        n_values, n_bytes = math.prod(header.shape), sum(len(chunk.payload) for chunk in chunks)
        item = 1 if header.dtype == _TEXT else np.dtype(header.dtype).itemsize
        if n_values > self.values_per_byte * n_bytes or n_values * item > MAX_BYTES:
            raise StreamError(
                f"{n_bytes} bytes can't hold an array of {header.shape} (at most {self.values_per_byte} values a "
                "byte): the file is damaged"
            )
        array = self.decode_array(header, [chunk for chunk in chunks if chunk.tag != _FILL])
        right = array.dtype.kind == "S" if header.dtype == _TEXT else array.dtype == np.dtype(header.dtype)
        assert array.shape == header.shape and right, "decode_array broke its contract"
        if header.params.get(_CHECK) != _checksum(array):
            raise StreamError("the values aren't those that were encoded (CRC-32 differs): the file is damaged")
        return ArrayFile(array, ARRAY_FORMS[form], palette.unpacked(detail), from_meta(header.meta)), kind


def _read_file(source: PathLike) -> tuple[ArrayFile, int]:
    """The array in a file, in stdin or in a folder of PNG pictures, and the number of bytes that it was read from."""
    if source != STDIO and os.path.isdir(source):
        value = read(source)
        pictures = [item for item in Path(source).iterdir() if item.suffix.lower() == ".png"]
        return value, sum(item.stat().st_size for item in pictures)
    given = read_bytes(source)
    return read(given), len(given)


def _checksum(array: NDArray[Any]) -> int:
    """The CRC-32 of type, shape and values. Lossless means that this is worth its 7 bytes."""
    if array.dtype.kind == "S":
        return zlib.crc32(b"\0".join(array.reshape(-1).tolist()), zlib.crc32(f"{_TEXT} {array.shape}".encode()))
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return zlib.crc32(little.tobytes(), zlib.crc32(f"{array.dtype.name} {array.shape}".encode()))
