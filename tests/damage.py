"""Damaged and hostile files, for every codec alike, and the bounds that decoding them has to keep.

    damage = Damage(good, decode, same)         # a file, what decodes it, whether a result is the right picture
    damage.everything(other_file, examples=2000)   # or one by one: truncations(), flips_and_splices(), headers(), ...

Each of them decodes damaged files and raises AssertionError unless every one is a `CodecError` or the right picture, in
less than a second and 100 MiB of memory. Damage with correct CRCs is an attack, not an accident:
`payloads` therefore takes any picture of the announced size for an answer, `headers` a `CodecError` only.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec.codecs.base.weights import find_by_hash
from codec.container import PACKET, Chunk, Header, pack, unpack
from codec.errors import CodecError

SECONDS = 1.0
AGAIN = 3  # a case that is slow by itself is slow each time
WALL_SECONDS = 30.0  # a hang, on a machine that does other things as well
MIB = 1 << 20
MEMORY = 100 * MIB
COMPACT = b"\x8aCD"
# How many of the examples that are drawn a test tries: all of them where a codec is quick, and with the slow tests.
shares = pytest.mark.parametrize("share", [0.15, pytest.param(1.0, marks=pytest.mark.slow)], ids=["some", "all"])
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
ADDRESS_SPACE = 4096 * MIB  # a second fence: an allocation that is never touched doesn't show in the resident size


class Damage:
    """All kinds of damage to one good file.

    good: a small file, of some kilobytes. decode: bytes to a result. same: whether a result is what `good` decodes to;
    by default equality. weights: the whole name of its weights; of a file in the compact form, whose attacks come in
    both layouts. share: of the examples that are drawn, how many are tried. Decodes `good` once first, so that imports,
    caches and thread pools don't count.
    """

    def __init__(
        self,
        good: bytes,
        decode: Callable[[bytes], Any],
        same: Callable[[Any], bool] | None = None,
        weights: bytes = b"",
        share: float = 1.0,
    ) -> None:
        self.good, self.compact = good, good.startswith(COMPACT)
        self.share = share
        self.decode = decode
        expected = decode(good)
        self.same = same or (lambda result: result == expected)
        assert self.same(expected), "the undamaged file doesn't decode to the right picture"
        self.header, self.chunks = unpack(good)
        if self.compact:
            assert len(weights) == 16 and weights.startswith(self.header.weights), "a compact file: name its weights"
            self.header = changed(self.header, weights=weights)

    def pack(self, header: Header, chunks: Iterable[Chunk]) -> bytes:
        """A file in the layout that `good` has, if that can hold it."""
        return pack(header, tuple(chunks), self.compact)

    def tried(self, examples: int) -> int:
        return max(1, round(self.share * examples))

    # ---- accidents: an error, or the right picture

    def truncations(self) -> None:
        """Every proper prefix. None of them may decode."""
        with limits():
            for n_bytes in range(len(self.good)):
                self.check(self.good[:n_bytes], f"cut to {n_bytes} bytes", only_error=True)

    def flips_and_splices(self, examples: int = 2000) -> None:
        """Random changes of bits, bytes and ranges, drawn by hypothesis."""

        @settings(max_examples=self.tried(examples), deadline=None, database=None, suppress_health_check=_CHECKS)
        @given(edits(len(self.good)))
        def run(edit: Callable[[bytes], bytes]) -> None:
            self.check(edit(self.good), "flips and splices")

        with limits():
            run()

    def foreign(self, other: bytes = b"") -> None:
        """Things that aren't a file of this codec at all, `other` (a file of another codec) among them."""
        png = b"\x89PNG\r\n\x1a\n" + bytes(100)
        with limits():
            for data in (other, b"", b"\0" * 1000, png, b"hello", self.good * 2, self.good + b"\0", b"\xff" * 70000):
                self.check(data, "something else", only_error=True)

    # ---- attacks: correct CRCs

    def headers(self) -> None:
        """Headers that lie: none of them may decode, since none fits the payload."""
        with limits():
            for what, data in hostile_headers(self.header, self.chunks):
                self.check(data, what, only_error=True)
            for what, data in hostile_starts(self.good) if self.compact else ():
                self.check(data, what, only_error=True)

    def params(self) -> None:
        """Params missing, of another type, out of range; another coder or arithmetic. Any picture will do."""
        values: list[Any] = [-1, 0, 1, 255, 1 << 31, (1 << 63) - 1, 0.5, 1e300, "", "x" * 200, b"", b"\0" * 16, True]
        values += [(), (1,) * 4000, ("",)]
        with limits():
            for key in self.header.params:
                others = {name: value for name, value in self.header.params.items() if name != key}
                for params in [others, *({**others, key: value} for value in values)]:
                    data = self.pack(changed(self.header, params=params), self.chunks)
                    self.check(data, f"params[{key!r}]: {params.get(key)!r:.40}", any_result=True)
            for name in ("", "int", "float64", "constriction", "webp", "nosuch"):  # torchac: compiles for 20 s
                for field in ("coder", "arithmetic"):
                    data = self.pack(changed(self.header, **{field: name}), self.chunks)
                    self.check(data, f"{field} {name!r}", any_result=True)

    def payloads(self, examples: int = 300) -> None:
        """Chunk payloads cut, changed, repeated, left out, out of order, behind correct CRCs; any picture will do."""
        lengths = [len(chunk.payload) for chunk in self.chunks]

        @settings(max_examples=self.tried(examples), deadline=None, database=None, suppress_health_check=_CHECKS)
        @given(st.data())
        def run(data: st.DataObject) -> None:
            chunks = list(self.chunks)
            index = data.draw(st.integers(0, len(chunks) - 1))
            edit = data.draw(edits(lengths[index]))
            chunks[index] = Chunk(chunks[index].tag, edit(chunks[index].payload))
            if Chunk(PACKET, b"") not in chunks:  # which isn't written
                self.check(self.pack(self.header, chunks), "payload", any_result=True)

        fixed: list[list[Chunk]] = [[], list(self.chunks) * 2, [Chunk(chunk.tag, b"") for chunk in self.chunks]]
        for index, chunk in enumerate(self.chunks):
            rest = [*self.chunks[:index], *self.chunks[index + 1 :]]
            fixed += [rest, [*rest, chunk]]
            for payload in (b"\0" * 64, b"\xff" * 64, chunk.payload[:1], chunk.payload + b"\0", chunk.payload * 3):
                fixed.append([*self.chunks[:index], Chunk(chunk.tag, payload), *self.chunks[index + 1 :]])
        with limits():
            for chunks in fixed:
                if Chunk(PACKET, b"") in chunks:
                    continue
                self.check(self.pack(self.header, chunks), "fixed payloads", any_result=True)
            if self.chunks:
                run()

    def everything(self, other: bytes = b"", examples: int = 2000) -> None:
        self.truncations()
        self.flips_and_splices(examples)
        self.foreign(other)
        self.headers()
        self.params()
        self.payloads()

    def check(self, data: bytes, what: str, only_error: bool = False, any_result: bool = False) -> None:
        """Decode once, within bounds; again where that took too long: a busy machine is no fault of the file."""
        memory = Memory()
        seconds = self._seconds(data, what, only_error, any_result)
        n_bytes = memory.grown()
        for _ in range(AGAIN if seconds >= SECONDS else 0):
            seconds = min(seconds, self._seconds(data, what, only_error, any_result))
        assert seconds < SECONDS, f"{what}: {seconds:.2f} s"
        assert n_bytes < MEMORY, f"{what}: {n_bytes / MIB:.0f} MiB"

    def _seconds(self, data: bytes, what: str, only_error: bool, any_result: bool) -> float:
        """How long decoding took; AssertionError unless it gave what it may."""
        wall, cpu = time.perf_counter(), time.process_time()
        with alarm(f"{what}: decoding doesn't end"), one_thread():
            try:
                result = self.decode(data)
            except CodecError as error:
                assert str(error), f"{what}: an error without words"
                result = None
            else:
                if only_error:
                    assert data == self.good, f"{what}: decoded, expected an error"
                elif not any_result:
                    assert self.same(result), f"{what}: decoded to something else"
        # A busy machine stretches the one; the other would count a thread that waits for a second one.
        return min(time.perf_counter() - wall, time.process_time() - cpu)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: on a busy machine two threads burn processor time while they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hostile_headers(header: Header, chunks: Iterable[Chunk]) -> Iterator[tuple[str, bytes]]:
    """(what it is, file): headers with correct CRCs that must not decode."""
    chunks = tuple(chunks)
    height, width, channels = header.shape if len(header.shape) == 3 else (1, 1, 1)
    good = pack(header, chunks)
    body = cbor_of(good)

    if header.medium == "image":
        side = (1 << 20) - 1
        for shape in ((32768, 8192, channels), (side, 256, channels), (256, side, channels), (16384, 16384, channels)):
            yield f"size {shape}", pack(changed(header, shape=shape), chunks)
        for n in {1, 2, 3, 4} - {channels}:
            if (n in (2, 4)) != (channels in (2, 4)):
                yield f"{n} channels", pack(changed(header, shape=(height, width, n)), chunks)
        for code in (b"\x80", b"\x83\x00\x01\x03", b"\x83\x20\x01\x03", b"\x83\x01\x01\x05", b"\x84\x01\x01\x01\x01"):
            yield f"shape {code!r}", reseal(replace_item(body, 6, code), good)
        huge = b"\x1b\x7f" + b"\xff" * 7
        yield "sides of 2**63", reseal(replace_item(body, 6, b"\x83" + huge + huge + b"\x03"), good)
        yield (
            "product above the cap",
            reseal(replace_item(body, 6, b"\x83" + b"\x1a\x00\x0f\xff\xff" * 2 + b"\x03"), good),
        )
    for dtype in ("float32", "int16", "complex"):
        yield f"dtype {dtype}", pack(changed(header, dtype=dtype), chunks)
    yield "another codec", pack(changed(header, codec="nosuchcodec"), chunks)
    yield "a later stream", pack(changed(header, stream=999), chunks)
    yield "other weights", pack(changed(header, weights=b"\x5a" * 16), chunks)
    yield "another medium", pack(changed(header, medium="audio", shape=(1, 1, 3)), chunks)
    yield "an unknown medium", pack(changed(header, medium="smell", shape=(1, 1, 3)), chunks)
    yield "an unknown critical chunk", pack(header, [*chunks, Chunk("Xyzw", b"")])
    yield "no chunks", pack(header, ())

    for version in (0, 2, 255):
        yield f"file version {version}", reseal(body, good, version=version)
    for count in (b"\x00", b"\x17", b"\x1a\x00\x0f\xff\xff", b"\x1b" + b"\xff" * 8, b"\x20", b"\xf4", b"\x61\x31"):
        if count != bytes([len(chunks)]):
            yield f"chunk count {count!r}", reseal(replace_item(body, 10, count), good)
    nests = {
        "nested arrays": b"\x81" * 60000 + b"\x00",
        "nested maps": b"\xa1\x61a" * 15000 + b"\x00",
        "nested tags": b"\xc1" * 60000 + b"\x00",
    }
    for what, code in nests.items():
        yield what, reseal(code, good)
        yield f"{what} in params", reseal(replace_item(body, 8, b"\xa1\x61q" + code[:30000]), good)
    items = {
        "an array of 2**64 items": b"\x9b" + b"\xff" * 8,
        "a map of 2**32 entries": b"\xba" + b"\xff" * 4,
        "bytes of 2**63": b"\x5b\x7f" + b"\xff" * 7,
        "text of 2**31": b"\x7a\x7f\xff\xff\xff",
        "an endless array": b"\x9f\x00\xff",
        "endless bytes": b"\x5f\x41\x00\xff",
        "a bignum": b"\xc2\x42\x01\x00",
        "a regular expression": b"\xd8\x23\x63(a)",
        "a reference": b"\xd8\x1d\x00",
        "undefined": b"\xf7",
        "infinity": b"\xf9\x7c\x00",
        "not a number": b"\xf9\x7e\x00",
        "a long float": b"\xfb" + bytes(8),
        "a long integer": b"\x18\x01",
        "text that isn't UTF-8": b"\x62\xff\xfe",
    }
    for what, code in items.items():
        yield f"{what} for a header", reseal(code, good)
        yield f"{what} in params", reseal(replace_item(body, 8, b"\xa1\x61q" + code), good)
    yield "a key twice", reseal(replace_item(body, 8, b"\xa2\x61q\x01\x61q\x02"), good)
    yield "keys out of order", reseal(replace_item(body, 8, b"\xa2\x61r\x01\x61q\x02"), good)
    yield "a key that isn't text", reseal(replace_item(body, 8, b"\xa1\x01\x02"), good)
    for index in range(11):
        for code in (b"\xf6", b"\x80", b"\xa0", b"\xf4", b"\x60", b"\x40", b"\x20", b"\x19\xff\xff"):
            if code != item_of(body, index) and (index, code) not in _HARMLESS:
                yield f"field {index} is {code!r}", reseal(replace_item(body, index, code), good)
    yield "a field missing", reseal(b"\x8a" + body[1 : item_span(body, 10)[0]], good)
    yield "a field more", reseal(b"\x8c" + body[1:] + b"\x00", good)
    yield "something behind the header", reseal(body + b"\x00", good)
    yield "an empty header", reseal(b"", good)


# Fields whose change still leaves a file that may decode: params and metadata {}.
_HARMLESS = {(8, b"\xa0"), (9, b"\xa0")}


def hostile_starts(good: bytes) -> Iterator[tuple[str, bytes]]:
    """(what it is, file): starts of a compact file, behind a right CRC, that must not decode.

    good: a file with one chunk, or in packets; then it is the first that lies.
    """
    pieces, end = compact_start(good)
    _, version, codec, stream, weights, flags, *numbers = range(len(pieces))
    height, width = numbers[-2:]
    huge, later = b"\xff\xff\xff\xff\x0f", b"\xe7\x07"
    lies = [
        *((f"version {n}", version, bytes([n])) for n in (0, 2, 255)),
        *((f"codec {n}", codec, bytes([n])) for n in (1, 127)),
        *(("a later stream", stream, later), ("a stream above 65535", stream, b"\x80\x80\x04")),
        *(("other weights", weights, b"\x5a" * 4), ("weights cut short", weights, b"")),
        *((f"coder {n}", flags, bytes([pieces[flags][0] & 0xF8 | n])) for n in (5, 7)),
        ("arithmetic 3", flags, bytes([pieces[flags][0] | 24])),
        *((f"no {what}", at, b"\0") for what, at in (("rows", height), ("columns", width))),
        *((f"{what} of 2**32", at, huge) for what, at in (("rows", height), ("columns", width))),
        *((f"number {n} isn't in its shortest form", at, _longer(pieces[at])) for n, at in enumerate(numbers)),
        *((f"number {n} has six bytes", at, b"\x81" * 5 + b"\x01") for n, at in enumerate(numbers)),
        *((f"number {n} doesn't end", at, b"\xff" * 64) for n, at in enumerate(numbers)),
        *((f"the {what} twice", at, pieces[at] * 2) for what, at in (("codec", codec), ("weights", weights))),
    ]
    lies += [(f"{n} packets", numbers[-3], code) for n, code in ((0, b"\0"), (1025, b"\x81\x08"))] * (
        pieces[flags][0] >> 7
    )
    for what, at, lie in lies:
        yield what, resealed(b"".join([*pieces[:at], lie, *pieces[at + 1 :]]) + good[end:], good)


# ---- taking a file apart by its layout, not by the code under test


def cbor_of(data: bytes) -> bytes:
    return data[7 : 7 + struct.unpack(">H", data[5:7])[0]]


def reseal(body: bytes, like: bytes, version: int = 1) -> bytes:
    """The file `like` with another CBOR header and every CRC recomputed."""
    position = 7 + len(cbor_of(like))
    old_crc = struct.unpack(">I", like[position : position + 4])[0]
    start = like[:4] + bytes([version]) + struct.pack(">H", min(len(body), 0xFFFF)) + body
    crc = zlib.crc32(start)
    parts = [start, struct.pack(">I", crc)]
    position += 4
    index = 0
    while position < len(like):
        n_bytes = struct.unpack(">I", like[position + 4 : position + 8])[0]
        frame = like[position : position + 8 + n_bytes]
        for seal, into in ((old_crc, None), (crc, parts)):
            value = zlib.crc32(frame, zlib.crc32(struct.pack(">II", seal, index)))
            if into is None:
                assert struct.pack(">I", value) == like[position + len(frame) : position + len(frame) + 4]
            else:
                into += [frame, struct.pack(">I", value)]
        position += len(frame) + 4
        index += 1
    return b"".join(parts)


def compact_start(data: bytes) -> tuple[list[bytes], int]:
    """The pieces of a compact file's start, of the codec in row 0 of docs/format.md, and where that ends.

    They are signature, version, codec, stream, weights, flags, then numbers: `bits`, `k` and `packets` if they are
    there, height, width.
    """
    pieces, at = [data[:3], data[3:4]], 4
    for n_bytes in (0, 0, 4, 1):  # 0: a varint
        end = at + (n_bytes or _varint_bytes(data, at))
        pieces.append(data[at:end])
        at = end
    for _ in range(3 + (pieces[5][0] >> 6 & 1) + (pieces[5][0] >> 7)):
        end = at + _varint_bytes(data, at)
        pieces.append(data[at:end])
        at = end
    return pieces, at


def resealed(data: bytes, like: bytes) -> bytes:
    """A compact file whose first packet, or all of it, has been changed, with a right CRC. like: what it was."""
    pieces, at = compact_start(like)
    last = len(like)
    if pieces[5][0] >> 7:
        at += _varint_bytes(like, at)
        n_bytes = int(like[at]) if like[at] < 128 else (like[at] & 127) | like[at + 1] << 7
        last = at + _varint_bytes(like, at) + n_bytes + 4
    body = data[: len(data) - (len(like) - last) - 4]
    return body + struct.pack(">I", zlib.crc32(body)) + like[last:]


def _varint_bytes(data: bytes, at: int) -> int:
    """The length of the varint at a place."""
    return next(n for n in range(1, 11) if data[at + n - 1] < 128)


def _longer(number: bytes) -> bytes:
    """A varint in one byte more than it needs."""
    return number[:-1] + bytes([number[-1] | 128, 0])


def item_span(body: bytes, index: int) -> tuple[int, int]:
    """Where the item `index` of the header's array begins and ends."""
    position = 1
    for _ in range(index):
        position = _skip(body, position)
    return position, _skip(body, position)


def item_of(body: bytes, index: int) -> bytes:
    start, end = item_span(body, index)
    return body[start:end]


def replace_item(body: bytes, index: int, code: bytes) -> bytes:
    start, end = item_span(body, index)
    return body[:start] + code + body[end:]


def _skip(body: bytes, position: int) -> int:
    major, info = body[position] >> 5, body[position] & 31
    extra = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    number = int.from_bytes(body[position + 1 : position + 1 + extra], "big") if extra else info
    position += 1 + extra
    if major in (2, 3):
        return position + number
    for _ in range({4: number, 5: 2 * number}.get(major, 0)):
        position = _skip(body, position)
    return position


def long_form(header: Header) -> Header:
    """The header of a compact file as the long form has it, with all of the weights' name."""
    if len(header.weights) != 4:
        return header
    return changed(header, weights=find_by_hash(header.codec, header.weights).id)


def changed(header: Header, **fields: Any) -> Header:
    return Header(**{**vars(header), **fields})


# ---- random edits


def edits(n_bytes: int) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Functions that change some bytes of data of this length."""
    place = st.integers(0, max(0, n_bytes - 1))
    byte = st.tuples(place, st.integers(1, 255)).map(lambda v: lambda d: d[: v[0]] + _xor(d[v[0] :], v[1]))
    bit = st.tuples(place, st.integers(0, 7)).map(lambda v: lambda d: d[: v[0]] + _xor(d[v[0] :], 1 << v[1]))
    span = st.tuples(place, place).map(sorted)
    cut = span.map(lambda v: lambda d: d[: v[0]] + d[v[1] :])
    insert = st.tuples(place, st.binary(min_size=1, max_size=40)).map(lambda v: lambda d: d[: v[0]] + v[1] + d[v[0] :])
    write = st.tuples(place, st.binary(min_size=1, max_size=40)).map(
        lambda v: lambda d: d[: v[0]] + v[1] + d[v[0] + len(v[1]) :]
    )
    copy = st.tuples(span, place).map(lambda v: lambda d: d[: v[1]] + d[v[0][0] : v[0][1]] + d[v[1] :])
    zero = span.map(lambda v: lambda d: d[: v[0]] + bytes(v[1] - v[0]) + d[v[1] :])
    one = st.one_of(bit, byte, cut, insert, write, copy, zero)
    return st.lists(one, min_size=1, max_size=4).map(_chain)


def _chain(steps: list[Callable[[bytes], bytes]]) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        for step in steps:
            data = step(data)
        return data

    return run


def _xor(data: bytes, mask: int) -> bytes:
    return bytes([data[0] ^ mask]) + data[1:] if data else data


# ---- bounds


class Memory:
    """Growth of the peak resident size since it was made. Linux; elsewhere the lifetime's peak, which is no less."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present size
        self.start = self._peak()

    def grown(self) -> int:
        return self._peak() - self.start

    @staticmethod
    def _peak() -> int:
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """A process that may not reserve more than some GiB beyond what it has: a huge allocation is a MemoryError."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    try:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESS_SPACE, old[1]))
    except (OSError, ValueError):  # not Linux, or a lower limit is already there
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


@contextlib.contextmanager
def alarm(what: str) -> Iterator[None]:
    """Stop after WALL_SECONDS, where there are signals (the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum: int, frame: object) -> None:
        raise AssertionError(what)

    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
