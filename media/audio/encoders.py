"""FLAC, Opus and MP3, written: FFmpeg's encoders (PyAV) give packets, and what stands around them is made here.

Each says exactly how many samples there are: FLAC in its header, Opus by its pre-skip and the position of its last
page (RFC 7845), MP3 by the delay and padding in LAME's tag. May import ffmpeg, the modules beside, notes and errors.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ..notes import Note
from .layouts import MASK_TAG, is_usual, mask_of
from .ogg import OggWriter
from .riff import little_endian
from .tagging import flac_blocks, id3, vorbis_comment
from .values import LAYOUTS, AudioInfo

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.codeccontext import AudioCodecContext
    from av.packet import Packet

__all__ = ["FlacSink", "Mp3Sink", "OpusSink"]


class _Encoder:
    """An encoder of FFmpeg that is fed with blocks of samples, (n, channels), each but the last of frame_size."""

    def __init__(self, name: str, info: AudioInfo, form: str, bit_rate: int = 0, **options: str) -> None:
        import av

        if name not in av.codecs_available:
            raise MediaError(f"this build of PyAV has no {name}: pip install av, the wheel has it")
        self._form, self._rate = form, info.rate
        self._n_samples = 0
        self.context: AudioCodecContext = av.CodecContext.create(name, "w")  # type: ignore[assignment]
        context = self.context
        context.sample_rate, context.layout, context.format = info.rate, LAYOUTS[info.channels], form  # type: ignore
        context.time_base = Fraction(1, info.rate)
        context.thread_count = 1
        context.options = options
        if bit_rate:
            context.bit_rate = bit_rate
        context.open()

    def feed(self, samples: NDArray[Any]) -> list[Packet]:
        frame = _frame(samples, self._form, self._rate, self._n_samples)
        self._n_samples += len(samples)
        return self.context.encode(frame)

    def rest(self) -> list[Packet]:
        return self.context.encode(None)


def _frame(samples: NDArray[Any], form: str, rate: int, at: int) -> AudioFrame:
    """Samples, (n, channels), as FFmpeg's frame of a form such as "s16" (interleaved) or "fltp" (planar)."""
    import av

    array = samples.T if form.endswith("p") else samples.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array), format=form, layout=LAYOUTS[samples.shape[1]])
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


# ---- FLAC

_FLAC_INFO = 34  # bytes of STREAMINFO
_FLAC_AT = 8  # where it begins in a file


class FlacSink:
    """A FLAC that is being written: 16 or 24 bits.

    seekable: whether its length, checksum and sizes can be put in at the end.
    """

    def __init__(self, file: BinaryIO, info: AudioInfo, seekable: bool) -> None:
        self._file, self._info, self._seekable = file, info, seekable
        self._bits = info.bits
        form = "s16" if self._bits == 16 else "s32"
        self._encoder = _Encoder("flac", info, form, compression_level="8")
        self.frame_size = self._encoder.context.frame_size
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._n_samples, self._smallest, self._largest = 0, 1 << 24, 0
        self._extradata = bytes(self._encoder.context.extradata or b"")
        if len(self._extradata) != _FLAC_INFO:
            raise MediaError(f"FFmpeg's header of FLAC has {len(self._extradata)} bytes; expected {_FLAC_INFO}")
        mask = mask_of(info.layout, info.channels)
        is_said = info.channels > 2 or not is_usual(info.layout, info.channels)  # readers differ on what 5.1 is
        tags = {**info.tags, MASK_TAG: (f"0x{mask:X}",)} if mask and is_said else info.tags
        blocks, self.notes = flac_blocks(self._stream_info(), tags, info.cover)
        self._file.write(blocks)

    def write(self, samples: NDArray[Any]) -> None:
        self._md5.update(little_endian(samples, self._bits))
        self._n_samples += len(samples)
        self._put(self._encoder.feed(samples << 8 if self._bits == 24 else samples))  # FFmpeg has them at the upper end

    def finish(self) -> None:
        self._put(self._encoder.rest())
        if self._seekable:
            self._file.seek(_FLAC_AT)
            self._file.write(self._stream_info(self._md5.digest()))

    def drop(self) -> None:
        return

    def _put(self, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.size:
                self._smallest, self._largest = min(self._smallest, packet.size), max(self._largest, packet.size)
                self._file.write(bytes(packet))

    def _stream_info(self, digest: bytes = bytes(16)) -> bytes:
        """STREAMINFO, with the sizes and the length so far; 0 means that they aren't known."""
        n_samples = self._n_samples if self._n_samples < 1 << 36 else 0
        sizes = struct.pack(">II", self._smallest if self._largest else 0, self._largest)
        form = int.from_bytes(self._extradata[10:18], "big") >> 36 << 36 | n_samples  # rate, channels, bits, length
        return self._extradata[:4] + sizes[1:4] + sizes[5:] + form.to_bytes(8, "big") + digest


# ---- Opus

OPUS_RATE = 48000
OPUS_FRAME = 960  # samples: 20 ms
_HEAD_RATE = slice(12, 16)  # where OpusHead has the rate of the source


class OpusSink:
    """An Ogg file with Opus, of sound at 48 kHz; nothing in it is changed afterwards.

    kbps: on average, of all channels. rate_before: of the source, which the header names.
    """

    frame_size = OPUS_FRAME

    def __init__(self, file: BinaryIO, info: AudioInfo, kbps: int, rate_before: int) -> None:
        self._channels = info.channels
        options = {"application": "audio", "vbr": "on", "compression_level": "10"}
        if info.channels > 2:
            options["mapping_family"] = "1"  # without it, FFmpeg mixes up the channels of 5.0 and 6.1
        self._encoder = _Encoder("libopus", info, "flt", kbps * 1000, **options)
        head = bytearray(self._encoder.context.extradata or b"")
        if head[:8] != b"OpusHead" or len(head) < 19:
            raise MediaError(f"FFmpeg's header of Opus is {bytes(head)!r}; expected OpusHead")
        head[_HEAD_RATE] = struct.pack("<I", rate_before)
        self._skip = int.from_bytes(head[10:12], "little")
        self._n_samples = self._n_packets = 0
        comment, self.notes = vorbis_comment(info.tags, info.cover)
        if not is_usual(info.layout, info.channels):
            self.notes.append(Note("sound", f"Opus takes the channels ({info.layout}) for {LAYOUTS[info.channels]}"))
        self._ogg = OggWriter(file, serial=zlib.crc32(comment))
        self._ogg.header(bytes(head))
        self._ogg.header(b"OpusTags" + comment)

    def write(self, samples: NDArray[np.float32]) -> None:
        self._n_samples += len(samples)
        padding = np.zeros((-len(samples) % OPUS_FRAME, self._channels), np.float32)
        self._put(self._encoder.feed(np.concatenate([samples, padding]) if len(padding) else samples))

    def finish(self) -> None:
        """The encoder holds back as many samples as are skipped at the start: as many zeros bring them out."""
        end = self._skip + self._n_samples
        n_packets = max(1, -(-end // OPUS_FRAME))
        while self._n_packets < n_packets:
            self._put(self._encoder.feed(np.zeros((OPUS_FRAME, self._channels), np.float32)))
        self._ogg.finish(end)

    def drop(self) -> None:
        return

    def _put(self, packets: list[Packet]) -> None:
        for packet in packets:
            if packet.size:
                self._n_packets += 1
                self._ogg.packet(bytes(packet), self._n_packets * OPUS_FRAME)


# ---- MP3

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_DELAY = 576  # samples of the encoder; a decoder has 529 more, which everybody knows and no file says
_TAG_ROOM = 64  # bytes from the start of the first frame in which its tag begins
_LAME_AT, _CRC_AT = 120 + 21, 120 + 34  # in that tag: delay and padding, and the checksum of what stands before it


class Mp3Sink:
    """An MP3 that is being written, to a file in which positions can be changed. kbps: of all its frames.

    FFmpeg says a wrong padding where that is longer than a frame, so ours is put in.
    """

    def __init__(self, file: BinaryIO, info: AudioInfo, kbps: int) -> None:
        import av
        from av.container.core import Flags

        self.notes: list[Note] = []
        if not is_usual(info.layout, info.channels):
            self.notes.append(Note("sound", f"MP3 takes the channels ({info.layout}) for {LAYOUTS[info.channels]}"))
        self._file, self._channels, self._rate = file, info.channels, info.rate
        self._n_samples = self._n_packets = 0
        self._start = file.write(id3(info.tags, info.cover))
        options = {"id3v2_version": "0", "write_xing": "1"}  # 0: none, there is ours
        self._behind = _Behind(file, self._start)
        self._output = av.open(self._behind, "w", format="mp3", options=options)
        self._output.flags |= Flags.bitexact.value
        layout = LAYOUTS[info.channels]
        stream: Any = self._output.add_stream("libmp3lame", rate=info.rate, layout=layout, format="fltp")
        stream.bit_rate = kbps * 1000
        stream.codec_context.options = {"compression_level": "3"}
        stream.codec_context.thread_count = 1
        self._stream = stream
        self._output.start_encoding()
        self.frame_size = stream.codec_context.frame_size

    def write(self, samples: NDArray[np.float32]) -> None:
        self._n_samples += len(samples)
        self._put(self._stream.encode(_frame(samples, "fltp", self._rate, self._n_samples - len(samples))))

    def finish(self) -> None:
        if not self._n_samples:  # the tag stands in a first frame, and a file of nothing has none
            silence = np.zeros((self.frame_size, self._channels), np.float32)
            self._put(self._stream.encode(_frame(silence, "fltp", self._rate, 0)))
        self._put(self._stream.encode(None))
        self._output.close()
        padding = self._n_packets * self.frame_size - _MP3_DELAY - self._n_samples
        assert 0 <= padding < 1 << 12, f"{self._n_packets} frames of MP3 for {self._n_samples} samples"
        self._file.seek(self._start)
        frame = bytearray(self._file.read(_TAG_ROOM + _CRC_AT))
        at = max(frame.find(b"Info", 0, _TAG_ROOM), frame.find(b"Xing", 0, _TAG_ROOM))
        if at < 0:
            raise MediaError("FFmpeg wrote an MP3 without LAME's tag, which says how long the sound is")
        frame[at + _LAME_AT : at + _LAME_AT + 3] = (_MP3_DELAY << 12 | padding).to_bytes(3, "big")
        frame[at + _CRC_AT : at + _CRC_AT + 2] = _crc16(frame[: at + _CRC_AT]).to_bytes(2, "big")
        self._file.seek(self._start)
        self._file.write(frame[: at + _CRC_AT + 2])

    def drop(self) -> None:
        self._behind.is_open = False  # FFmpeg finishes a file that it closes, and a full disk would speak up again
        with contextlib.suppress(Exception):
            self._output.close()

    def _put(self, packets: list[Packet]) -> None:
        self._n_packets += len(packets)
        for packet in packets:
            self._output.mux(packet)


class _Behind:
    """A part of a file from a position on, as a file. is_open: whether anything still goes there."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file, start
        self.is_open = True

    def write(self, data: bytes) -> int:
        return self._file.write(data) if self.is_open else len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self.is_open:
            return 0
        return self._file.seek(offset + (self._start if whence == io.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start if self.is_open else 0


def _crc16(data: bytes | bytearray) -> int:
    """The checksum of LAME's tag: polynomial 0x8005, lowest bit first, from 0."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value
