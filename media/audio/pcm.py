"""Samples that a file holds as they are (PCM): where they lie in it, and their reader. WAV and AIFF are such files.

Integers of up to 16 bits become int16, of up to 24 bits 24 of them, with zeros below: 8 bits are shifted up by 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...files import naming
from ..notes import Note
from .base import BLOCK, AudioReader
from .values import DTYPES, AudioInfo, Cover, SampleType

__all__ = ["CODES", "PcmLayout", "PcmReader", "unpack"]

CODES: dict[str, SampleType] = {  # how a file stores samples, NumPy's way (i3: 24 bits), and what they become
    "u1": "int16",
    "i1": "int16",
    **{f"{order}i2": "int16" for order in "<>"},
    **{f"{order}i3": "int24" for order in "<>"},
    **{f"{order}i4": "int32" for order in "<>"},
    **{f"{order}f4": "float32" for order in "<>"},
    **{f"{order}f8": "float32" for order in "<>"},
}


@dataclass(frozen=True)
class PcmLayout:
    """The place of samples in a file, and what else it says.

    offset: bytes before the first sample. code: one of CODES. n_bytes: of samples that are in the file; None where only
    its end says it. n_said: samples of each channel by its header, None if that doesn't say it. id3: a tag of ID3v2.
    """

    rate: int
    channels: int
    code: str
    offset: int
    n_bytes: int | None
    n_said: int | None = None
    layout: str = ""
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    id3: bytes | None = None
    notes: tuple[Note, ...] = ()

    @property
    def width(self) -> int:
        """Bytes of a sample of all channels."""
        return int(self.code[-1]) * self.channels


class PcmReader(AudioReader):
    """A file of samples. opened: opens it anew, at its start. kept: instead, a stream, at the first sample."""

    def __init__(
        self,
        opened: Callable[[], BinaryIO],
        name: str,
        layout: PcmLayout,
        cover: Cover | None = None,
        kept: BinaryIO | None = None,
    ) -> None:
        super().__init__()
        self._opened, self._name, self._layout, self._kept = opened, name, layout, kept
        self.again = kept is None
        n_samples = None if layout.n_bytes is None else layout.n_bytes // layout.width
        self.info = AudioInfo(
            layout.rate,
            layout.channels,
            n_samples,
            layout.layout,
            CODES[layout.code],
            dict(layout.tags),
            cover,
            "pcm",
        )
        self._notes += layout.notes
        if n_samples is not None and layout.n_said is not None and n_samples < layout.n_said:
            lost = layout.n_said - n_samples
            self._note("cut", f"the file ends early: {lost} of {layout.n_said} samples are missing")
        if layout.code[-2:] == "f8":
            self._note("depth", "samples of 64 bits: taken as 32 bit floats")

    def _parts(self, start: int) -> Iterator[NDArray[Any]]:
        layout = self._layout
        with naming(self._name), _about():
            stream = self._begin(start)
            with stream:
                left = None if layout.n_bytes is None else layout.n_bytes // layout.width - start
                while left is None or left > 0:
                    n_samples = BLOCK if left is None else min(BLOCK, left)
                    data = read_all(stream, n_samples * layout.width)
                    whole = len(data) // layout.width
                    if whole:
                        yield self._finite(unpack(data[: whole * layout.width], layout.code, layout.channels))
                    if whole < n_samples:
                        break
                    left = None if left is None else left - whole

    def _begin(self, start: int) -> BinaryIO:
        """The stream, at sample `start`."""
        layout = self._layout
        if self.again:
            stream = self._opened()
            stream.seek(layout.offset + start * layout.width)
            return stream
        stream, self._kept = self._kept, None
        if stream is None:
            raise MediaError("a pipe can be read only once")
        skip(stream, start * layout.width)
        return stream

    def _finite(self, samples: NDArray[Any]) -> NDArray[Any]:
        if samples.dtype.kind != "f" or np.isfinite(samples).all():
            return samples
        self._note("sound", "samples that are infinite or no numbers (NaN): taken as 0")
        return np.where(np.isfinite(samples), samples, np.float32(0))

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def unpack(data: bytes, code: str, channels: int) -> NDArray[Any]:
    """Samples, (n, channels), of bytes in which they are stored by a code of CODES."""
    sample = CODES[code]
    if code[-2:] == "i3":
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(raw), 4), np.uint8)
        padded[:, 1:] = raw if code[0] == "<" else raw[:, ::-1]
        values: NDArray[Any] = padded.view("<i4")[:, 0] >> 8
    elif code == "u1":
        values = (np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8
    elif code == "i1":
        values = np.frombuffer(data, np.int8).astype(np.int16) << 8
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are looked for afterwards
            values = np.frombuffer(data, np.dtype(code)).astype(DTYPES[sample])
    return values.astype(DTYPES[sample], copy=False).reshape(-1, channels)


def read_all(stream: BinaryIO, n_bytes: int) -> bytes:
    """So many bytes of a stream; fewer only at its end."""
    data = stream.read(n_bytes)
    while len(data) < n_bytes and (more := stream.read(n_bytes - len(data))):
        data += more
    return data


def skip(stream: BinaryIO, n_bytes: int) -> int:
    """Read past bytes of a stream, and how many of them there were."""
    left = n_bytes
    while left and (data := stream.read(min(left, 1 << 20))):
        left -= len(data)
    return n_bytes - left


@contextmanager
def _about() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise MediaError(f"can't be read ({getattr(error, 'strerror', None) or error})") from None
