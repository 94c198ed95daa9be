"""Whole numbers in few bytes, for headers, tables and lengths: varints, zigzag, and a strict reader of both.

A varint (LEB128) holds seven bits a byte, the lowest first; the highest bit of a byte says that another one follows.
Zigzag maps numbers with a sign to such without one: 0, -1, 1, -2, ... to 0, 1, 2, 3, ...
Standard library only.
"""

from __future__ import annotations

from ..errors import StreamError

__all__ = ["VARINT_BITS", "ByteReader", "put_varint", "put_zigzag"]

VARINT_BITS = 63  # of the largest number; nine bytes


def put_varint(value: int) -> bytes:
    """A number from 0 to 2**63 - 1 as a varint of the fewest bytes; ValueError for others."""
    if not 0 <= value < 1 << VARINT_BITS:
        raise ValueError(f"{value} as a varint; expected 0 to 2**{VARINT_BITS} - 1")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_zigzag(value: int) -> bytes:
    """A number from -2**62 to 2**62 - 1 as the varint of its zigzag."""
    return put_varint(2 * value if value >= 0 else -2 * value - 1)


class ByteReader:
    """A reader of bytes from the front to the end, and never beyond it.

    `at` is the position of what comes next. where: what the bytes are, as a message begins: "a payload".
    StreamError where there are fewer bytes than asked for, and for a varint that `put_varint` can't have written: one
    that has more bytes than it needs, or more than nine.
    """

    def __init__(self, data: bytes, where: str = "a payload", at: int = 0) -> None:
        self._data, self._where, self.at = data, where, at

    @property
    def left(self) -> int:
        """The number of bytes still to come."""
        return len(self._data) - self.at

    def take(self, n: int) -> bytes:
        """The next `n` bytes."""
        if not 0 <= n <= self.left:
            raise StreamError(
                f"{self._where} ends too early: {n} more bytes expected, {self.left} left: the file is damaged"
            )
        self.at += n
        return self._data[self.at - n : self.at]

    def byte(self) -> int:
        """The next byte, 0 to 255."""
        return self.take(1)[0]

    def varint(self) -> int:
        """The next number without a sign, 0 to 2**63 - 1."""
        value = 0
        for shift in range(0, VARINT_BITS, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if not byte and shift:
                    break
                return value
        raise StreamError(f"{self._where} has a number that isn't in its shortest form: the file is damaged")

    def zigzag(self) -> int:
        """The next number with a sign, -2**62 to 2**62 - 1."""
        value = self.varint()
        return value >> 1 if not value & 1 else -(value + 1 >> 1)

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left)
