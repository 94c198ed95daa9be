"""The base of image codecs: kinds of picture, grey, transparency, metadata, container, files, rate control.

A family writes `from_weights`, `weights_id`, `encode_pixels` and `decode_pixels`. `ImageCodec` owns the kinds of
picture (PIL, NumPy, torch, `Picture`, path) and the checks that keep a hostile file from making a decoder allocate more
than its size justifies.
"""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...container import PACKET, Chunk, Header, check_critical, is_whole, pack, read_header, salvage, unpack
from ...errors import ContainerError, MediaError, StreamError, UsageError
from ...files import STDIO, is_stream, naming, read_bytes, refuse_existing, whole
from ...media import IMAGE_WRITES
from ...media.bands import bands
from ...media.image import read_picture, to_pil, write_picture
from ...media.notes import Note, from_meta, to_meta
from ...media.values import MAX_PIXELS, Picture
from . import rate_control
from .alpha import decode_alpha, encode_alpha, without_hidden
from .codec import (
    Codec,
    Data,
    EncodedPixels,
    PathLike,
    Report,
    Source,
    Summary,
    decoder_for,
    opened,
    path_of,
)
from .doors import bytes_of, check_dense, check_unmasked, is_torch, text_of
from .limits import DEFAULTS, Limits, note_of
from .progress import told
from .settings import IMAGE_SETTINGS, Select, Setting

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ImageCodec", "as_picture", "open_file"]


# What was given to `compress`, in params["k"] of the file; a PIL image or a path isn't recorded. Append only.
_PIL, _ARRAY, _PLANE, _TENSOR, _PICTURE = range(5)
_KIND = "k"
_ALPHA = "Alph"
_FILL = "fill"


class ImageCodec(Codec):
    """The base of image codecs.

    critical_chunks: upper-case tags that the family writes. dtypes: what it takes. pixels_per_byte: no file holds more
    pixels than this times its payload bytes (a flat picture is filled up with zeros), so that a decoder can refuse a
    hostile size before it allocates anything. lossless: whether every value comes back, so that colours under full
    transparency must, too; other codecs fill those with what costs next to nothing. compact: whether files take the
    compact form where they can.
    """

    medium: ClassVar[str] = "image"
    settings: ClassVar[tuple[Setting, ...]] = IMAGE_SETTINGS
    critical_chunks: ClassVar[frozenset[str]] = frozenset()
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16")
    pixels_per_byte: ClassVar[int] = 1024
    lossless: ClassVar[bool] = False
    compact: ClassVar[bool] = False
    steps: Sequence[float] = ()  # the qualities that differ, rising, if there are but some; goals choose among them
    device: str = "cpu"
    goal: tuple[str, float] | None = None  # "size", "bpp" or "psnr" and its value, in place of a quality

    @abstractmethod
    def encode_pixels(self, pixels: NDArray[Any], quality: float | None) -> EncodedPixels:
        """The chunks of a picture, which must not be changed.

        pixels: (H, W, 3) uint8 or uint16, any size from 1x1 on. quality: None for the default.
        """

    @abstractmethod
    def decode_pixels(self, header: Header, chunks: Sequence[Chunk]) -> NDArray[Any]:
        """The pixels of a picture, (H, W, 3) of header.dtype, or StreamError.

        The header's fields are in range and H * W is at most `pixels_per_byte` a payload byte; params and payloads
        are as hostile as they come.
        """

    def change_setting(self, name: str, value: Any) -> None:
        """A goal takes the place of the one before, and a quality that of any goal."""
        if name in rate_control.GOALS:
            self.goal = None if value is None else (name, value)
        else:
            super().change_setting(name, value)
            self.goal = None if name == "quality" else self.goal

    def compress_one(self, x: Any, quality: float | None = None) -> bytes:
        picture, kind = _take_in(x)
        return self._reach(picture, quality, kind)[0]

    def decompress_one(self, data: Data) -> Any:
        picture, kind = self._decode(data)
        return _give_back(picture, kind, self.device)

    def encode_picture(self, picture: Picture, quality: float | None = None) -> bytes:
        """The file of a picture; `decompress` of it gives a PIL image, as for a path."""
        return self._encode(self._as_seen(picture), quality, _PIL)

    def _reach(self, picture: Picture, quality: float | None, kind: int) -> tuple[bytes, Mapping[str, Any]]:
        """The file of a picture at a quality, or else at the goal; and what rate control found, by name."""
        picture = self._as_seen(picture)
        if quality is not None or self.goal is None:
            return self._encode(picture, quality, kind), {}
        what, value = self.goal
        unlimited = self.with_limits(Limits.none())  # it decodes what it has just made
        encode = partial(self._encode, kind=kind)
        reached = rate_control.GOALS[what](unlimited, picture, value, encode=encode, steps=self.steps)
        about = {"quality": round(reached.quality, 2), "encodings": reached.encodings}
        return reached.data, about | ({"psnr": round(reached.value, 3)} if what == "psnr" else {})

    def _as_seen(self, picture: Picture) -> Picture:
        """The picture without the colours that full transparency hides."""
        if picture.alpha is None or self.lossless:
            return picture
        return changed(picture, pixels=without_hidden(picture.pixels, picture.alpha))

    # ---- files

    def encode_file(
        self, source: PathLike, target: PathLike, report: Report | None = None, replace: bool = False
    ) -> Summary:
        refuse_existing(target, replace)
        given = read_bytes(path_of(source))
        with naming(source), told(report):
            picture = read_picture(given)
            data, reached = self._reach(picture, None, _PIL)
        with whole(target, replace=replace) as file:
            file.write(data)
        height, width, _ = picture.shape
        bpp = 8 * len(data) / (height * width)
        about = {"codec": self.name, "shape": list(picture.shape), "dtype": picture.pixels.dtype.name, "bpp": bpp}
        words = [f"{bpp:.3f} bpp"]
        words += [f"{reached['psnr']:.2f} dB"] if "psnr" in reached else []
        words += [f"-q {reached['quality']:g}"] if "quality" in reached else []
        return Summary(
            len(given), len(data), about | dict(reached), words, (*picture.notes, *note_of(read_header(data)))
        )

    def decode_file(
        self,
        source: Source,
        target: PathLike,
        select: Select = Select(),  # noqa: B008  frozen
        report: Report | None = None,
        replace: bool = False,
    ) -> Summary:
        about = opened(source)
        header = about.require_header()
        self.check_request(header, target, select, replace)
        data = about.read()
        with told(report):
            picture = self.decode_picture(data, select.conceal)
        form = IMAGE_WRITES.get(select.form_of(target), "PNG")
        if target == STDIO or is_stream(target):  # nothing of a picture that turns out not to fit the format
            buffer = io.BytesIO()
            notes, n_bytes = write_picture(picture, buffer, form), buffer.tell()
            with whole(target, replace=replace) as file:
                file.write(buffer.getbuffer())
        else:
            with whole(target, replace=replace) as file:
                notes, n_bytes = write_picture(picture, file, form), file.tell()
        notes = (*notes, *picture.notes[len(from_meta(header.meta)) :])  # those of this decoding
        facts = {"shape": list(picture.shape), "dtype": str(picture.pixels.dtype)}
        return Summary(len(data), n_bytes, facts, notes=notes)

    def verify_file(self, source: Source) -> None:
        self.decode_picture(opened(source).read())

    @classmethod
    def output_suffixes(cls, header: Header, select: Select) -> tuple[str, ...]:
        del header, select
        return tuple(IMAGE_WRITES)

    def decode_picture(self, data: Data, conceal: bool = False) -> Picture:
        """The picture in a file, all 16 bits of it, whatever kind was given to `compress`.

        conceal: packets may be lost; `decode_pixels` gets each of those as a chunk `PACKET` without payload, and the
        last of the picture's notes says how many.
        """
        return self._decode(data, conceal)[0]

    def _encode(self, picture: Picture, quality: float | None, kind: int) -> bytes:
        if picture.pixels.dtype.name not in self.dtypes:
            raise MediaError(f"{self.name} takes {' or '.join(self.dtypes)} pictures, not {picture.pixels.dtype}")
        pixels = picture.pixels
        if pixels.shape[2] == 1:
            pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        encoded = self.encode_pixels(np.ascontiguousarray(pixels), quality)
        assert _KIND not in encoded.params, "params['k'] belongs to ImageCodec"
        chunks = list(encoded.chunks)
        if picture.alpha is not None:
            chunks.append(Chunk(_ALPHA, encode_alpha(picture.alpha)))
        height, width, channels = picture.shape
        missing = -(-height * width // self.pixels_per_byte) - sum(len(chunk.payload) for chunk in chunks)
        if missing > 0:
            chunks.append(Chunk(_FILL, bytes(missing)))
        header = Header(
            codec=self.name,
            stream=self.stream,
            weights=self.weights_id,
            coder=encoded.coder,
            arithmetic=encoded.arithmetic,
            medium=self.medium,
            shape=(height, width, channels),
            dtype=picture.pixels.dtype.name,
            params={**encoded.params, **({_KIND: kind} if kind != _PIL else {})},
            meta=_to_meta(picture) | to_meta(picture.notes),
        )
        return pack(header, chunks, self.compact)

    def _decode(self, data: Data, conceal: bool = False) -> tuple[Picture, int]:
        header, chunks = salvage(data) if conceal else unpack(data)
        self.check_made_by_us(header)
        height, width, channels = header.shape
        if height * width > MAX_PIXELS:
            raise ContainerError(f"a picture of {width}x{height}; expected at most {MAX_PIXELS} pixels")
        check_critical(chunks, {*self.critical_chunks, _ALPHA})
        kind = header.params.get(_KIND, _PIL)
        if type(kind) is not int or kind not in range(_PICTURE + 1) or (kind == _PLANE and channels != 1):
            raise ContainerError(f"params[{_KIND!r}] is {kind!r} for {channels} channels: a newer version, or damaged")
        if header.dtype not in self.dtypes:
            raise ContainerError(f"{self.name} with {header.dtype} pixels; expected {' or '.join(self.dtypes)}")
        about = _from_meta(header.meta)
        n_bytes = sum(len(chunk.payload) for chunk in chunks)
        if conceal:  # a packet that is here says how large those are that were lost
            packets = [len(chunk.payload) for chunk in chunks if chunk.tag == PACKET]
            n_bytes += packets.count(0) * max(packets, default=0)
        if height * width > self.pixels_per_byte * n_bytes:
            raise StreamError(
                f"{n_bytes} bytes can't hold a picture of {width}x{height} (at most {self.pixels_per_byte} pixels "
                "a byte): the file is damaged"
            )
        planes = [chunk.payload for chunk in chunks if chunk.tag == _ALPHA]
        if len(planes) != (channels in (2, 4)):
            raise StreamError(f"{len(planes)} transparency chunks for {channels} channels: the file is damaged")
        dtype = np.dtype(header.dtype)
        alpha = decode_alpha(planes[0], (height, width), dtype) if planes else None
        own = [chunk for chunk in chunks if chunk.tag not in (_ALPHA, _FILL)]
        pixels = self.decode_pixels(header, own)
        assert pixels.shape == (height, width, 3) and pixels.dtype == dtype, "decode_pixels broke its contract"
        if channels < 3:
            pixels = _grey(pixels)
        damage = _notes_on_damage(data, chunks) if conceal else ()
        return Picture(pixels, alpha, notes=(*from_meta(header.meta), *damage), **about), kind


def open_file(
    path: Source, weights: PathLike | None = None, device: str = "cpu", limits: Limits = DEFAULTS
) -> Image.Image:
    """Decode an image file to a PIL image, whatever kind it was made from (the public `codec.open`).

    path: of the file, or its bytes, or an open file. limits: how much it may decode to; LimitError if it is more.
    """
    about = opened(path)
    data = about.read()
    codec = decoder_for(read_header(data), weights, device, limits)
    if not isinstance(codec, ImageCodec):
        name = "this file" if about.source == STDIO else about.source
        raise MediaError(f"{name} holds {codec.medium}, not an image: use codec.decode")
    return to_pil(codec.decode_picture(data))


def _notes_on_damage(data: Data, chunks: Sequence[Chunk]) -> tuple[Note, ...]:
    """A note on the packets of a file that were lost, or on what else is wrong with it; chunks: those of `salvage`."""
    packets = [chunk for chunk in chunks if chunk.tag == PACKET]
    n_lost = sum(not chunk.payload for chunk in packets)
    if n_lost:
        return (Note("damage", f"{n_lost} of {len(packets)} packets are missing: what was in them is guessed"),)
    if not is_whole(data):
        return (Note("layout", "packets in another order, or bytes beside them, which were left out: all are whole"),)
    return ()


# ---- kinds of picture


def as_picture(x: Any) -> Picture:
    """The picture in anything that `ImageCodec.compress` takes (a path, PIL, NumPy, torch, a `Picture`)."""
    return _take_in(x)[0]


def _take_in(x: Any) -> tuple[Picture, int]:
    if isinstance(x, Picture):
        return x, _PICTURE
    if isinstance(x, Image.Image):
        if 0 in x.size:
            raise UsageError(f"a picture of {x.width}x{x.height}: there is nothing in it")
        return read_picture(x), _PIL
    if isinstance(x, (str, os.PathLike)):
        return read_picture(text_of(x)), _PIL
    if isinstance(x, np.ndarray):
        return _from_array(x)
    if is_torch(x):
        return _from_tensor(x), _TENSOR
    data = bytes_of(x)
    if data is not None:
        return read_picture(bytes(data)), _PIL
    raise UsageError(
        f"can't compress a {type(x).__name__}: expected a path, the bytes of a picture's file or an open one, a PIL "
        "image, a NumPy array (H, W, 3) of uint8 or uint16, a torch tensor (3, H, W) of floats in [0, 1], or a list "
        "of them"
    )


def _from_array(array: NDArray[Any]) -> tuple[Picture, int]:
    check_unmasked(array)
    array = np.asarray(array)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or 0 in array.shape:
        raise UsageError(
            f"an array of {array.dtype} {array.shape}; expected uint8 or uint16, (H, W) or (H, W, 1 to 4); "
            "a batch is a list of arrays"
        )
    if array.ndim == 2:
        return Picture.from_stacked(native[:, :, None]), _PLANE
    return Picture.from_stacked(native), _ARRAY


_ROUNDING = 1e-6  # beyond [0, 1]: what float32 arithmetic leaves of a picture that was in it


def _from_tensor(x: Tensor) -> Picture:
    check_dense(x)
    if not x.is_floating_point() or x.ndim != 3 or x.shape[0] not in (1, 2, 3, 4) or 0 in x.shape:
        scaled = "; x.float() / 255 makes them of bytes" if str(x.dtype) == "torch.uint8" else ""
        raise UsageError(
            f"a tensor of {x.dtype} {tuple(x.shape)}; expected floats in [0, 1], (3, H, W) (or 1, 2, 4 channels)"
            f"{scaled}; a batch is a list: codec.compress(list(batch))"
        )
    x = x.detach().to("cpu").float()
    low, high = float(x.min()), float(x.max())
    if not (low >= -_ROUNDING and high <= 1.0 + _ROUNDING):
        raise UsageError(
            f"a tensor with values from {low:.9g} to {high:.9g}; expected [0, 1]: scale it, or x.clamp(0, 1)"
        )
    array = (x.clamp(0.0, 1.0) * 255.0).round().byte().permute(1, 2, 0).contiguous().numpy()
    return Picture.from_stacked(array)


def _give_back(picture: Picture, kind: int, device: str) -> Any:
    if kind == _PICTURE:
        return picture
    if kind == _PIL:
        return to_pil(picture)
    array = picture.stacked()
    if kind == _PLANE:
        return np.ascontiguousarray(array[:, :, 0])
    if kind == _ARRAY:
        return array
    import torch

    top = float(np.iinfo(array.dtype).max)
    scaled = torch.from_numpy(array.astype(np.float32)).to(device) / top
    return scaled.permute(2, 0, 1).contiguous()


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """The rounded mean of the channels, in integers: (H, W, 3) to (H, W, 1)."""
    out = np.empty((*pixels.shape[:2], 1), pixels.dtype)
    for top, bottom in bands(pixels.shape[0], pixels.shape[1] * 3):
        out[top:bottom, :, 0] = (pixels[top:bottom].sum(axis=2, dtype=np.uint32) + 1) // 3
    return out


# ---- metadata in the header; docs/format.md has the table of the keys

_META_BYTES = {"icc": "icc", "exif": "exif", "xmp": "xmp", "cicp": "code_points"}  # key, and what it is of a `Picture`


def _to_meta(picture: Picture) -> dict[str, Any]:
    meta: dict[str, Any] = {key: getattr(picture, name) for key, name in _META_BYTES.items()}
    meta["dpi"] = picture.dpi
    meta["text"] = b"\0".join(part.encode("utf-8", "replace") for pair in picture.text for part in pair)
    return {key: value for key, value in meta.items() if value}


def _from_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a `Picture`, by the names of its fields. ContainerError for what `_to_meta` doesn't write."""
    about: dict[str, Any] = {}
    for key, name in (*_META_BYTES.items(), ("text", "text")):
        value = meta.get(key)
        if value is not None and (not isinstance(value, bytes) or (key == "cicp" and len(value) != 4)):
            raise ContainerError(f"metadata {key!r} aren't bytes: the file is damaged")
        about[name] = value
    parts = (about["text"] or b"").decode("utf-8", "replace").split("\0") if about["text"] else []
    if len(parts) % 2:
        raise ContainerError("metadata 'text' aren't pairs: the file is damaged")
    about["text"] = tuple(zip(parts[::2], parts[1::2], strict=True))
    dpi = meta.get("dpi")
    pair = isinstance(dpi, tuple) and len(dpi) == 2 and all(isinstance(value, (int, float)) for value in dpi)
    if dpi is not None and not (pair and all(0 < value < 1e9 for value in dpi)):
        raise ContainerError("metadata 'dpi' aren't two numbers: the file is damaged")
    about["dpi"] = None if dpi is None else (float(dpi[0]), float(dpi[1]))
    return about
