"""The headers of files of sound: what they keep of it, read strictly; and its samples in their own type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ....container import Header, Value
from ....errors import ContainerError, StreamError
from ....media.audio.values import DTYPES, LAYOUTS, MAX_CHANNELS, AudioInfo, Cover, SampleType
from ....media.notes import Note, to_meta
from .pieces import Samples, SoundCodec

__all__ = [
    "ARRAY",
    "AUDIO",
    "FULL_SCALE",
    "PIECE",
    "RATE",
    "TENSOR",
    "as_samples",
    "end_of",
    "header_of",
    "info_of",
    "whole_number",
]

FULL_SCALE = 1 << 23  # a sample of 1.0, in the integers that families give back
PIECE = "Soun"  # the tag of a piece
RATE, BITS, KIND = "r", "b", "k"  # params that belong to the base
AUDIO, ARRAY, TENSOR = range(3)  # what `compress` was given: append only


def as_samples(x: Samples, sample: SampleType) -> NDArray[Any]:
    """Whole numbers, FULL_SCALE at full scale, as samples of a type: rounded where it is coarser, and clipped."""
    if sample == "float32":
        return (x * (1 / FULL_SCALE)).astype(np.float32)
    if sample == "int16":
        return np.clip(np.floor((x + 128) / 256), -(1 << 15), (1 << 15) - 1).astype(np.int16)
    clipped = np.clip(x, -FULL_SCALE, FULL_SCALE - 1)
    return (clipped if sample == "int24" else clipped * 256).astype(np.int32)


def header_of(
    codec: SoundCodec, info: AudioInfo, params: Mapping[str, Value], kind: int, notes: Sequence[Note]
) -> Header:
    sample = info.wav_sample
    own: dict[str, Value] = {RATE: info.rate}
    own |= {BITS: 24} if sample == "int24" else {}
    own |= {KIND: kind} if kind != AUDIO else {}
    assert not set(own) & set(params), "params r, b and k belong to AudioCodec"
    return Header(
        codec=codec.name,
        stream=codec.stream,
        weights=codec.weights_id,
        coder=codec.coder,
        arithmetic=codec.arithmetic,
        medium="audio",
        shape=(info.channels,),
        dtype=DTYPES[sample],
        params={**params, **own},
        meta=_to_meta(info) | to_meta(notes),
    )


def _to_meta(info: AudioInfo) -> dict[str, Value]:
    meta: dict[str, Value] = {}
    if info.layout != LAYOUTS[info.channels]:
        meta["layout"] = info.layout
    tags = [text for name, values in info.tags.items() for value in values for text in (name, value)]
    if tags:
        meta["text"] = b"\0".join(text.replace("\0", " ").encode("utf-8", "replace") for text in tags)
    if info.cover is not None:
        meta["cover"] = (info.cover.mime, info.cover.kind, info.cover.data)
    return meta


def info_of(codec: SoundCodec, header: Header) -> tuple[AudioInfo, int]:
    """The description of the sound of a header, without its length, and the kind that was given. ContainerError."""
    rate, bits = whole_number(header.params.get(RATE)), header.params.get(BITS, 0)
    kind = header.params.get(KIND, AUDIO)
    channels = header.shape[0] if len(header.shape) == 1 else 0
    if not 1 <= channels <= MAX_CHANNELS or not codec.rates[0] <= rate <= codec.rates[1]:
        raise ContainerError(f"a sound of shape {header.shape} at {rate} Hz: the file is damaged, or newer")
    sample = "int24" if bits == 24 and header.dtype == "int32" else header.dtype
    known = sample in DTYPES and bits == (24 if sample == "int24" else 0)
    if not known or type(kind) is not int or not 0 <= kind <= TENSOR:
        raise ContainerError(f"a sound of {header.dtype}, {bits} bits, kind {kind!r}: newer, or damaged")
    meta = header.meta
    layout = meta.get("layout", "")
    parts = meta.get("text", b"")
    cover = meta.get("cover")
    if not isinstance(layout, str) or len(layout) > 64 or not isinstance(parts, bytes):
        raise ContainerError("metadata of a sound aren't what it has: newer, or damaged")
    texts = parts.decode("utf-8", "replace").split("\0") if parts else []
    if len(texts) % 2:
        raise ContainerError("metadata 'text' aren't pairs: the file is damaged")
    tags: dict[str, tuple[str, ...]] = {}
    for name, value in zip(texts[::2], texts[1::2], strict=True):
        tags[name] = (*tags.get(name, ()), value)
    picture = None
    if cover is not None:
        if not (isinstance(cover, tuple) and len(cover) == 3 and isinstance(cover[2], bytes)):
            raise ContainerError("metadata 'cover' aren't a picture: the file is damaged")
        picture = Cover(cover[2], str(cover[0]), str(cover[1]))
    info = AudioInfo(rate, channels, None, layout, cast(SampleType, sample), tags, picture, codec.name)
    return info, kind


def whole_number(value: object) -> int:
    return value if type(value) is int else -1


def end_of(payload: bytes) -> int:
    if len(payload) != 8:
        raise StreamError("the end of a sound is damaged")
    return int.from_bytes(payload, "big")
