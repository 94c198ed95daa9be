"""Tables of texts, mixed: the bytes of their cells, row by row, with the column, the cell above and those to the left.

native/src/mixing_texts.h does the same as the loops in Python here, which are its twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import native
from ...errors import StreamError
from ...native import mixing_texts as kernels
from ...native.mixing import READ, WRITE
from .coding import compiled
from .mixer import Mixer, Plan
from .oracle import Oracle, hashed
from .tables import Rates

__all__ = ["TextModel", "code_table"]

_WORD = (1 << 64) - 1
_CONTEXTS, _SETS = 12, (256, 256, 512)
_FINALS, _REFINED = 256, 1280
_MOST_LINES = 20
_MOST_ROOM = 1 << 31
_RATES = Rates(limit=255, delay=1.5, doubt=0.25, lean=4.0, first=0.02, last=0.003, fall=32, refine_by=6)


@dataclass(frozen=True)
class TextModel:
    """A coder of tables of a shape whose longest cell has so many bytes. Cells hold no zero."""

    n_rows: int
    n_columns: int
    longest: int

    @staticmethod
    def new(n_rows: int, n_columns: int, longest: int) -> TextModel:
        """A model of tables. ValueError for what can't be coded."""
        if n_rows < 1 or n_columns < 1 or not 0 <= longest < 1 << 16:
            raise ValueError(f"a table of {n_rows} x {n_columns} cells of up to {longest} bytes")
        if n_rows * n_columns * (longest + 1) > _MOST_ROOM:
            raise ValueError(f"a table that may have more than {_MOST_ROOM} bytes")
        return TextModel(n_rows, n_columns, longest)

    def mixer(self) -> Mixer:
        """The state in which a stream begins."""
        groups = 2 * self.n_rows * self.n_columns * (self.longest + 1)
        lines = min(_MOST_LINES, max(10, (_CONTEXTS * groups).bit_length()))
        return Mixer.new(Plan(_CONTEXTS, lines, _SETS, _FINALS, _REFINED, 0, _RATES), 0.25)

    def encode(self, table: NDArray[np.bytes_], room: int | None = None) -> bytes:
        """The stream of a table. room: MemoryError if it would be longer."""
        text, mixer = self._text(table), self.mixer()
        if native.library() is None:
            return _within(self._oracle(WRITE, mixer, text).finish(), room)
        coder = compiled(WRITE, mixer, None, 16 * len(text) if room is None else room)
        kernels.code_table(coder, text, self.n_rows, self.n_columns, self.longest)
        return _within(coder.finish(), room)

    def decode(self, data: bytes) -> NDArray[np.bytes_]:
        """The table of a stream, (n_rows, n_columns) of bytes; StreamError for one that is damaged."""
        mixer = self.mixer()
        try:
            if native.library() is None:
                text = np.zeros(self.n_rows * self.n_columns * (self.longest + 1), np.uint8)
                oracle = Oracle(READ, mixer, data)
                used = code_table(oracle, text, self.n_rows, self.n_columns, self.longest)
                oracle.finish()
            else:
                text = np.empty(self.n_rows * self.n_columns * (self.longest + 1), np.uint8)
                coder = compiled(READ, mixer, data)
                used = kernels.code_table(coder, text, self.n_rows, self.n_columns, self.longest)
                coder.finish()
        except ValueError as error:
            raise StreamError("a mixed table doesn't end where its cells do: the file is damaged") from error
        cells = text[:used].tobytes().split(b"\0")[:-1]
        return np.array(cells, f"S{max(1, self.longest)}").reshape(self.n_rows, self.n_columns)

    def _text(self, table: NDArray[np.bytes_]) -> NDArray[np.uint8]:
        cells = table.reshape(-1).tolist()
        if table.shape != (self.n_rows, self.n_columns) or max(map(len, cells)) > self.longest:
            raise ValueError(f"a table {table.shape} for a model of {self.n_rows} x {self.n_columns}")
        text = b"\0".join([*cells, b""])
        if text.count(b"\0") != len(cells):
            raise ValueError("cells with zeros in them")
        return np.frombuffer(text, np.uint8).copy()

    def _oracle(self, role: int, mixer: Mixer, text: NDArray[np.uint8]) -> Oracle:
        coder = Oracle(role, mixer)
        code_table(coder, text, self.n_rows, self.n_columns, self.longest)
        return coder


@dataclass
class _Cell:
    """A cell of which some bytes are known: `TextCell`.

    above: the cell above with its zero, of which `skipped` bytes are past.
    """

    above: bytes
    column: int
    up: int
    left: int
    left2: int
    key: int
    prefix: int = 0
    place: int = 0
    same: int = 1
    last: int = 0
    skipped: int = 0

    @property
    def expected(self) -> int:
        return self.above[self.skipped]

    def contexts(self, recent: int) -> list[int]:
        above = self.expected
        behind = self.above[self.skipped + 1] if above else 0
        column, prefix = self.column, self.prefix
        pairs = (
            (column, prefix),
            (column + (self.up << 1), prefix),
            (column + (self.left << 1), prefix),
            (column + (self.left << 1), prefix + (self.left2 << 1)),
            (column * 2 + self.same, above << 8 | behind),
            (column, self.place << 8 | self.last),
            (0, recent & 0xFFFF),
            (1, recent),
            (column * 2 + self.same, (above << 8 | self.last) << 8 | self.place),
            (column + (self.key << 1), prefix),
            (2, prefix),
            (column + (self.left << 1), prefix + (self.up << 1)),
        )
        return [hashed(i, hashed(u & _WORD, v & _WORD)) for i, (u, v) in enumerate(pairs, 1)]


def _byte(coder: Oracle, cell: _Cell, contexts: list[int], byte: int) -> int:
    made, column, place = 1, min(cell.column, 255), min(cell.place, 15)
    for depth in range(8):
        if depth % 4 == 0:
            coder.open([hashed(made, context) for context in contexts])
            node = 1
        left = 7 - depth
        agrees = int((cell.expected | 256) >> (left + 1) == made)
        coder.set = [made, 256 + column, 512 + ((place * 2 + cell.same) * 2 + agrees) * 8 + left]
        coder.last = made
        coder.refine = [column, 256 + (cell.same * 2 + agrees) * 256 + cell.expected]
        bit = coder.code(node, (byte >> left) & 1)
        node, made = 2 * node + bit, 2 * made + bit
    return made & 255


def code_table(coder: Oracle, text: NDArray[np.uint8], n_rows: int, n_columns: int, longest: int) -> int:
    """Codes the cells of a table in place: `native.mixing_texts.code_table`."""
    at, above, hashes = 0, [b"\0"] * n_columns, [0] * n_columns
    reading = coder.role == READ
    for _ in range(n_rows):
        left = left2 = key = 0
        for x in range(n_columns):
            cell, start = _Cell(above[x], x, hashes[x], left, left2, key), at
            while True:
                recent = int.from_bytes(text[max(0, at - 4) : at].tobytes(), "big")
                if at >= len(text):
                    raise StreamError("a table that is longer than it may be: the file is damaged")
                byte = _byte(coder, cell, cell.contexts(recent), 0 if reading else int(text[at]))
                text[at] = byte
                at += 1
                if not byte:
                    break
                if cell.place == longest:
                    raise StreamError("a cell that is longer than it may be: the file is damaged")
                cell.place += 1
                cell.prefix = hashed(cell.prefix, byte + 1)
                cell.same &= int(byte == cell.expected)
                cell.skipped += int(cell.expected != 0)
                cell.last = byte
            above[x], hashes[x] = text[start:at].tobytes(), cell.prefix
            left2, left = left, cell.prefix
            key = key if x else cell.prefix
    return at


def _within(data: bytes, room: int | None) -> bytes:
    if room is not None and len(data) > room:
        raise MemoryError("a stream is longer than its room")
    return data
