"""Samples of sound on their way into a video that is being written, without loss: FLAC, ALAC or PCM.

Which of them, the container and the type of the samples decide: FLAC wherever it can be, ALAC in MOV, PCM for 32 bits
and floats. `sound.AudioFeed` is the same for packets that are carried along as they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..audio.layouts import is_usual
from ..audio.values import LAYOUTS, AudioInfo
from ..ffmpeg import errors
from ..notes import Note
from .soundtracks import SoundTrack

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

__all__ = ["SoundFeed"]

_CODECS: Mapping[
    str, Sequence[tuple[str, str]]
] = {  # by type of sample, the best first; with FFmpeg's names of how they take samples
    "int16": (("flac", "s16"), ("alac", "s16p"), ("pcm_s16le", "s16")),
    "int24": (("flac", "s32"), ("alac", "s32p"), ("pcm_s24le", "s32")),
    "int32": (("pcm_s32le", "s32"),),
    "float32": (("pcm_f32le", "flt"),),
}
_BLOCK = 4096  # samples of a packet of PCM


class SoundFeed:
    """A feed of one track of samples to a file that is being written, as far as its pictures have come.

    format: the file's suffix. later: seconds by which it is moved, with the pictures. notes: what the file can't hold.
    """

    def __init__(self, track: SoundTrack, output: OutputContainer, format: str, later: Fraction) -> None:
        self._track, self._output = track, output
        self.notes: list[Note] = []
        info = track.info
        fitting = [codec for codec in _CODECS[info.sample] if _holds(output, *codec, info)]
        if not fitting:
            raise MediaError(f"{format} can't hold sound without loss: write .mkv, or leave the sound out (--no-sound)")
        self._codec, self._form = fitting[0]
        self._stream = _added(output, self._codec, self._form, info)
        self._index = self._stream.index  # which can't be asked for once the file is closed
        self._stream.metadata.update(track.texts)
        self._stream.disposition = track.flags
        if not is_usual(info.layout, info.channels):
            words = f"{self._codec} in {format} takes the channels ({info.layout}) for {LAYOUTS[info.channels]}"
            self.notes.append(Note("sound", words))
        self._at = round((track.start + later) * info.rate)
        self._blocks: Iterator[NDArray[Any]] | None = None
        self._is_done = False

    def upto(self, seconds: Fraction | None) -> None:
        """Write the samples up to `seconds`; None: all that are left."""
        rate = self._track.info.rate
        if self._blocks is None:
            self._blocks = _cut(self._track, self._stream.codec_context.frame_size or _BLOCK)
        while not self._is_done and (seconds is None or Fraction(self._at, rate) <= seconds):
            block = next(self._blocks, None)
            if block is None:
                self._is_done = True
                self._output.mux(self._stream.encode(None))
                return
            self._output.mux(self._stream.encode(self._frame(block)))
            self._at += len(block)

    def _frame(self, block: NDArray[Any]) -> Any:
        import av

        info = self._track.info
        samples = block << 8 if info.sample == "int24" else block  # FFmpeg has them at the upper end
        array = samples.T if self._form.endswith("p") else samples.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(array), format=self._form, layout=LAYOUTS[info.channels]
        )
        frame.sample_rate, frame.pts, frame.time_base = info.rate, self._at, Fraction(1, info.rate)
        return frame

    def lost(self, written: InputContainer) -> list[str]:
        """The names of what a finished file doesn't say of this track: its title, language and flags."""
        theirs = written.streams[self._index]
        values = set(theirs.metadata.values())
        names = [key for key, value in self._track.texts.items() if value not in values]
        return names + (["flags"] if self._track.flags & ~int(theirs.disposition or 0) else [])


def _added(output: OutputContainer, codec: str, form: str, info: AudioInfo) -> Any:
    stream: Any = output.add_stream(codec, rate=info.rate)
    context = stream.codec_context
    context.layout, context.format = LAYOUTS[info.channels], form
    context.time_base, context.thread_count = Fraction(1, info.rate), 1
    return stream


def _holds(output: OutputContainer, codec: str, form: str, info: AudioInfo) -> bool:
    """Whether such a file can have a track of this codec."""
    import av

    if codec not in output.supported_codecs or codec not in av.codecs_available:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=output.format.name) as trial:
            _added(trial, codec, form, info)
            trial.start_encoding()
    except (*errors(), ValueError):
        return False
    return True


def _cut(track: SoundTrack, size: int) -> Iterator[NDArray[Any]]:
    """The samples in arrays of `size`; the last may be shorter."""
    rest: NDArray[Any] | None = None
    for block in track.blocks():
        rest = block if rest is None else np.concatenate([rest, block])
        n_whole = len(rest) // size
        for number in range(n_whole):
            yield rest[number * size : (number + 1) * size]
        rest = rest[n_whole * size :]
    if rest is not None and len(rest):
        yield rest
