"""Quantised spectra of sound, mixed: the model, and its twin in plain integers.

A piece of sound is frames of one to eight blocks. Beside the spectra it tells how the first two channels are turned,
the number of blocks of each frame, which bands hold anything, scales of the steps and levels of what fills zeros;
each from the frame before and the band below. Magnitudes are coded as those of `coefficients.py`; their contexts are
magnitudes at lower frequencies, in the last two blocks of the channel, in the same block of the channel before it, and
the level that fills zeros of the band. Signs are coded as they are: those of a cosine transform are as good as random.

The twin does what native/src/mixing_sound.h does, to the last digit of every table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_sound as kernels
from ...native.mixing import PRICE, READ, WRITE
from ...native.mixing_coefficients import FINALS, REFINED, SETS
from ...native.mixing_sound import ANGLES, MOST, NOISES, SCALE, SHAPES
from .coding import compiled
from .coefficients import Numbers, half, quarter, small
from .mixer import Mixer, Plan
from .oracle import Oracle
from .tables import Rates

__all__ = [
    "ANGLES",
    "LINES",
    "MOST",
    "NOISES",
    "SCALE",
    "SHAPES",
    "SoundPiece",
    "code",
    "decode",
    "encode",
    "plan",
    "price",
]

CONTEXTS = 8
LINES = 16  # 2^16 lines of nodes, 4 MB
_RATES = Rates(limit=255, delay=1.5, lean=6.0, first=0.02, last=0.002, fall=128)


def plan() -> Plan:
    """The sizes of the mixer of a piece."""
    return Plan(CONTEXTS, LINES, SETS, FINALS, REFINED, 0, _RATES)


@dataclass(frozen=True, eq=False)
class SoundPiece:
    """The integers of a piece of sound; all arrays are int32.

    angles: (bands,) 0 to 31, of the first two channels; not in the stream of one channel. shapes: (frames,), 0 to 3: a
    frame has 2^shape blocks. filled, scales, noises: (frames, channels, bands): 1 of bands that hold values, -255
    to 255, and 0 to 15. values: (frames, channels, size), block after block. edges: (bands + 1,) of the
    bands in a frame of one block, multiples of 8.
    """

    angles: NDArray[np.int32]
    shapes: NDArray[np.int32]
    filled: NDArray[np.int32]
    scales: NDArray[np.int32]
    noises: NDArray[np.int32]
    values: NDArray[np.int32]
    edges: NDArray[np.int32]

    @staticmethod
    def zeros(frames: int, channels: int, size: int, edges: NDArray[np.int32]) -> SoundPiece:
        """A piece of silence."""
        bands = len(edges) - 1
        shapes: Any = ((bands,), (frames,), *3 * ((frames, channels, bands),), (frames, channels, size))
        zeros: Any = [np.zeros(shape, np.int32) for shape in shapes]
        angles, shape, filled, scales, noises, values = zeros
        own = np.ascontiguousarray(edges, np.int32)
        return SoundPiece(angles, shape, filled, scales, noises, values, own)


def encode(piece: SoundPiece, mixer: Mixer, level: int) -> bytes:
    """The stream of a piece. mixer: what was learned, changed in place. level: of the quality, below 64: a context."""
    return code(WRITE, piece, mixer, level)[0]


def price(piece: SoundPiece, mixer: Mixer, level: int) -> float:
    """The bits of the stream of a piece, without it."""
    return code(PRICE, piece, mixer, level)[1]


def decode(data: bytes, blank: SoundPiece, mixer: Mixer, level: int) -> None:
    """Fills a piece, which is zeros, from its stream; StreamError for one that is damaged."""
    code(READ, blank, mixer, level, data)


def code(role: int, piece: SoundPiece, mixer: Mixer, level: int, data: bytes | None = None) -> tuple[bytes, float]:
    """Writes, prices or reads a piece; returns its stream and its bits, as far as the role makes them."""
    arrays = (piece.angles, piece.shapes, piece.filled, piece.scales, piece.noises, piece.values)
    if native.library() is None:
        oracle = Oracle(role, mixer, data or b"")
        _Twin(oracle, piece, level).code()
        return oracle.finish(), oracle.bits
    room = 4096 + 4 * piece.values.size + 4 * piece.scales.size
    coder = compiled(role, mixer, data, room if role == WRITE else 0)
    try:
        kernels.code_sound(coder, *arrays, piece.edges, level)
        return coder.finish(), coder.bits
    except ValueError as error:
        raise StreamError("a piece of sound is damaged, or ends too early") from error


def _folded(v: int) -> int:
    return min(511, -2 * v - 1 if v < 0 else 2 * v)


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise StreamError("a piece of sound holds a number out of range: it is damaged")
    return value


class _Twin(Numbers):
    """The model on an oracle, in plain integers."""

    def __init__(self, coder: Oracle, piece: SoundPiece, level: int) -> None:
        super().__init__(coder)
        self.piece, self.level = piece, level
        self.reading = coder.role == READ

    def code(self) -> None:
        s = self.piece
        frames, channels, size = s.values.shape
        if channels > 1:
            self._angles()
        zeros = [0] * size
        self.past = [[zeros, zeros] for _ in range(channels)]
        for frame in range(frames):
            self._frame(frame, channels, size)

    def _told(self, kind: int, a: int, b: int, c: int, band: int) -> None:
        """The contexts of a number beside the spectra."""
        self.zone, self.size, self.place = 1, kind, min(band, 63)
        k, d = kind, band
        self.contexts = [
            ((k * 512 + a) * 512 + b) * 512 + c,
            ((k * 64 + d) * 512 + a) * 512 + b,
            (k * 512 + a) * 512 + b,
            (k * 64 + d) * 512 + a,
            k * 64 + d,
            k * 512 + a,
            (k * 512 + a) * 512 + c,
            (k * 64 + d) * 512 + b,
        ]

    def _signed(self, value: int) -> int:
        return self.number(value, lambda size: self.contexts)

    def _angles(self) -> None:
        s, n = self.piece, ANGLES
        for b in range(len(s.angles)):
            before = [int(s.angles[b - i]) if b >= i else n for i in (1, 2)]
            self._told(10, before[0], before[1], 0, b)
            guess = before[0] if b else 8
            way = ((int(s.angles[b]) - guess + n // 2) & (n - 1)) - n // 2
            told = _within(self._signed(way), -n // 2, n // 2 - 1)
            s.angles[b] = (guess + told) & (n - 1)

    def _frame(self, frame: int, channels: int, size: int) -> None:
        s = self.piece
        before = [int(s.shapes[frame - i]) if frame >= i else 4 for i in (1, 2)]
        self._told(0, before[0], before[1], 0, 0)
        shape = _within(self.magnitude(int(s.shapes[frame])), 0, SHAPES - 1)
        s.shapes[frame] = shape
        for c in range(channels):
            self._beside(frame, c, shape)
        n = size >> shape
        for block in range(1 << shape):
            other = [0] * n
            made = []
            for c in range(channels):
                last, older = (_reduced(row, n, shape) for row in self.past[c])
                own = s.values[frame, c, block * n : (block + 1) * n]
                other = self._block(own, other, last, older, frame, c, shape)
                made.append([other[k >> shape] for k in range(size)])
            for c in range(channels):
                self.past[c] = [made[c], self.past[c][0]]

    def _beside(self, frame: int, c: int, shape: int) -> None:
        s, bands = self.piece, self.piece.scales.shape[2]
        full = s.filled[frame, c]
        before = s.filled[frame - 1, c]
        for b in range(bands):
            old = int(before[b]) + 2 * (int(before[b + 1]) if b + 1 < bands else 0) if frame else 4
            left = int(full[b - 1]) + 2 * (int(full[b - 2]) if b > 1 else 1) if b else 4
            self._told(1 + (c > 0), old, left, (int(s.filled[frame, c - 1, b]) if c else 2) + 4 * shape, b)
            full[b] = _within(self.magnitude(int(full[b])), 0, 1)
        scale, noise = s.scales[frame, c], s.noises[frame, c]
        old = s.scales[frame - 1, c] if frame else None
        last = last2 = 0
        for b in range(bands):
            guess = int(old[b]) if old is not None else int(scale[b - 1]) if b else 0
            trend = int(scale[b - 1]) - int(old[b - 1]) if old is not None and b else last2
            kind = 3 + (c > 0) if frame else 5
            self._told(kind, _folded(last), _folded(trend), int(full[b]) + 2 * shape, b)
            told = self._signed(int(scale[b]) - guess)
            scale[b] = _within(guess + _within(told, -2 * SCALE, 2 * SCALE), -SCALE, SCALE)
            last2, last = last, told
        for b in range(bands):
            left, before = int(noise[b - 1]) if b else 0, int(s.noises[frame - 1, c, b]) if frame else NOISES
            beside = int(s.noises[frame, c - 1, b]) if c else NOISES
            self._told(6 + int(full[b]) + 2 * (c > 0), before, left, beside + 32 * min(shape, 1), b)
            noise[b] = _within(self.magnitude(int(noise[b])), 0, NOISES - 1)

    def _block(
        self, own: NDArray[np.int32], o: list[int], p: list[int], q: list[int], frame: int, c: int, shape: int
    ) -> list[int]:
        s, n = self.piece, len(own)
        sizes = [0] * n

        def at(row: list[int], k: int) -> int:
            return row[k] if 0 <= k < n else 0

        kind = 2 * shape + (c > 0)
        edges = (s.edges >> shape).tolist()
        for band, k in ((b, k) for b in range(len(edges) - 1) for k in range(edges[b], edges[b + 1])):
            if not s.filled[frame, c, band]:
                continue
            w, ww, www, here, pl, pr = *(at(sizes, k - i) for i in (1, 2, 3)), *(at(p, k + i) for i in (0, -1, 1))
            ok, around_o = at(o, k), at(o, k - 1) + at(o, k + 1)
            wide_w = sum(at(sizes, k - i) for i in range(1, 7))
            wide_p = sum(at(p, k + i) for i in range(-3, 5))
            low, past = 4 * w + 2 * ww + www, 3 * here + 2 * (pl + pr) + at(p, k + 2) + at(p, k - 2)
            older, beside = 2 * at(q, k) + at(q, k - 1) + at(q, k + 1), 2 * ok + around_o
            total = 2 * low + 2 * past + older + wide_w + wide_p + (beside if c else 0)
            expected = 16 * total // (54 if c else 50)
            h_low, h_past, h_all = half(low), half(past), half(expected)
            self.zone, self.size = 0, min(31, h_all)
            above = (w, here, ok, ww, pl + pr, shape)
            self.place = sum((v > 0) << i for i, v in enumerate(above))
            fill, where = int(s.noises[frame, c, band]), k << shape
            self.contexts = [
                quarter(expected) * 8 + kind,
                (quarter(wide_w) * 128 + quarter(wide_p)) * 16 + fill,
                (h_low * 64 + h_past) * 64 + half(beside),
                ((band * 64 + h_all) * 16 + fill) * 8 + kind,
                (((small(w) * 16 + small(here)) * 16 + small(ok)) * 16 + small(at(q, k))) * 8 + kind,
                where * 8 + kind,
                ((small(here) * 16 + small(pl)) * 16 + small(pr)) * 8 + kind,
                ((small(w) * 16 + small(ww)) * 16 + small(www)) * 16 + small(pl),
            ]
            size = _within(self.magnitude(abs(int(own[k]))), 0, MOST)
            if size:
                negative = self.coder.plain(int(own[k] < 0))
                own[k] = -size if negative else size
            sizes[k] = size
        return sizes


def _reduced(row: list[int], n: int, shape: int) -> list[int]:
    """The means of 2^shape neighbours each, rounded up from the half."""
    width = 1 << shape
    return [(sum(row[k << shape : (k + 1) << shape]) + (width >> 1)) >> shape for k in range(n)]
