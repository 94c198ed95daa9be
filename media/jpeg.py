"""JPEG: what its markers say, the metadata in them, and whether the coded data are whole.

Pillow (libjpeg) unpacks a file without the metadata. It fills what is damaged or missing with grey, or goes on with
shifted blocks, and says nothing: so the codes are walked here, without computing a pixel (baseline and extended files),
and FFmpeg is asked where that isn't possible (progressive ones).
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .metadata import MAX_METADATA, Metadata
from .values import check_size

__all__ = ["damage_of", "read_jpeg"]

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _DAC, _DNL, _COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xCC, 0xDC, 0xFE
_FRAMES = {  # what a frame is, by its marker (ITU-T T.81, table B.1)
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC5: "differential",
    0xC6: "differential progressive",
    0xC7: "differential lossless",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded progressive",
    0xCB: "arithmetic-coded lossless",
    0xCD: "differential arithmetic-coded",
    0xCE: "differential arithmetic-coded progressive",
    0xCF: "differential arithmetic-coded lossless",
    0xF7: "JPEG-LS",
}
# What we take: (frame, bits, components). Whatever isn't here is refused.
TAKES = {(frame, 8, n) for frame in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA) for n in (1, 3)}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_ICC = b"ICC_PROFILE\0"
_ENDS = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # a marker behind coded data: neither a stuffed zero nor a restart
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")


@dataclass
class _File:
    """The parts of a JPEG.

    components: (number, horizontal, vertical sampling). step_of: the table of steps of each; steps: a table's step of
    the means (DC). scans: header, tables, restart interval and coded data of each.
    """

    frame: int = 0
    bits: int = 0
    width: int = 0
    height: int = 0
    components: list[tuple[int, int, int]] = field(default_factory=list)
    step_of: dict[int, int] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    adobe: int | None = None
    scans: list[tuple[bytes, dict[int, NDArray[np.int64]], int, bytes]] = field(default_factory=list)
    bare: bytes = b""
    ended: bool = False
    about: Metadata = field(default_factory=Metadata)


def read_jpeg(data: bytes) -> tuple[NDArray[Any], Metadata]:
    """The samples of a JPEG, (H, W, 1 or 3), uint8, and its metadata. MediaError."""
    file = _parse(data)
    _check(file)
    from PIL import JpegImagePlugin

    image = JpegImagePlugin.JpegImageFile(io.BytesIO(file.bare))
    image.load()
    array = np.array(image)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.shape != (file.height, file.width, len(file.components)):
        raise MediaError(f"a JPEG that Pillow reads as {image.mode} {image.size}")
    fault = damage_of(data, file)
    if fault:
        file.about.note("damage", fault)
    return array, file.about


def _check(file: _File) -> None:
    n = len(file.components)
    if not file.frame or not file.scans:
        raise MediaError("a JPEG without a picture (truncated): it is damaged, or a part is missing")
    if not file.height:
        raise MediaError("a JPEG that says its height behind the picture: convert it, e.g. `djpeg IN > OUT.ppm`")
    check_size(file.width, file.height)
    if (file.frame, file.bits, n) in TAKES:
        return
    if n == 4:
        kind = "YCCK" if file.adobe == 2 else "CMYK"
        raise MediaError(
            f"a JPEG of four inks ({kind}); expected grey or RGB: convert it by its colour profile, e.g. "
            "`vips icc_transform IN OUT.png srgb` (libvips)"
        )
    what = "" if _FRAMES[file.frame] in ("baseline", "extended") else f"{_FRAMES[file.frame]}, "
    raise MediaError(
        f"a JPEG of {what}{file.bits} bits a sample, {n} {'component' if n == 1 else 'components'}; expected 8 bits, "
        "1 or 3 components: convert it, e.g. `djpeg IN > OUT.ppm` (libjpeg-turbo from version 3 on keeps all bits)"
    )


# ---- markers


def _parse(data: bytes) -> _File:
    file, tables, interval = _File(), {}, 0
    bare = [data[:2]]
    profile: dict[int, bytes] = {}
    more_xmp = 0
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker in (0xFF, 0x00, 0x01, _SOI) or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : end]
        if marker in _FRAMES and not file.frame:
            _take_frame(file, marker, segment)
        elif marker == _DHT:
            tables = tables | _huffman(segment)
        elif marker == _DQT:
            file.steps |= _steps(segment)
        elif marker == _DRI:
            interval = int.from_bytes(segment[:2], "big")
        if marker == 0xE2 and segment.startswith(_ICC) and len(segment) > 14:
            profile[segment[12]] = segment[14:]
        elif marker == 0xE1 and segment.startswith(_MORE_XMP):
            more_xmp += len(segment)
        elif 0xE0 <= marker <= 0xEF or marker == _COM:
            _take_segment(file, marker, segment)
        if marker < 0xE0 or marker in (0xF7, 0xF8) or marker == 0xEE or segment.startswith(b"JFIF\0"):
            bare.append(data[at:end])
        at = end
        if marker == _SOS:
            match = _ENDS.search(data, at)
            stop = match.start() if match else len(data)
            file.scans.append((segment, tables, interval, data[at:stop]))
            bare.append(data[at:stop])
            at = stop
    file.ended = data[at : at + 2] == b"\xff\xd9"
    file.bare = b"".join(bare) + (b"\xff\xd9" if file.ended else b"")
    if profile:
        file.about.icc = b"".join(profile[number] for number in sorted(profile))[: MAX_METADATA + 1]
    if more_xmp:
        file.about.leave_out("extended XMP", more_xmp)
    _take_rest(file, data[at + 2 :])
    return file


def _take_frame(file: _File, marker: int, segment: bytes) -> None:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        raise MediaError("a JPEG whose frame header is cut: it is damaged")
    file.frame = marker
    file.bits, file.height, file.width, n = struct.unpack_from(">BHHB", segment)
    file.step_of = {segment[at]: segment[at + 2] for at in range(6, 6 + 3 * n, 3)}
    file.components = [(segment[at], segment[at + 1] >> 4, segment[at + 1] & 15) for at in range(6, 6 + 3 * n, 3)]


def _take_segment(file: _File, marker: int, segment: bytes) -> None:
    about, n = file.about, len(segment)
    if marker == _COM:
        about.take_text("Comment", _decoded(segment.rstrip(b"\0")))
    elif marker == 0xE0 and segment.startswith(b"JFIF\0") and n >= 14:
        unit, across, down = struct.unpack_from(">BHH", segment, 7)
        if unit in (1, 2) and across and down:
            scale = 1.0 if unit == 1 else 2.54
            about.dpi = (across * scale, down * scale)
        elif across != down:
            about.note("metadata", f"the pixels' aspect ratio of {down}:{across} is left out")
        if segment[12] and segment[13]:
            about.leave_out("a thumbnail", n - 14)
    elif marker == 0xE1 and segment.startswith(b"Exif\0"):
        about.take_exif(segment if segment.startswith(b"Exif\0\0") else b"Exif\0\0" + segment[6:])
    elif marker == 0xE1 and segment.startswith(_XMP):
        about.take_xmp(segment[len(_XMP) :])
    elif marker == 0xE2 and segment.startswith(b"MPF\0"):
        pass  # where the pictures behind this one are: `_take_rest` says that they are left out
    elif marker == 0xEE and segment.startswith(b"Adobe") and n >= 12:
        file.adobe = segment[11]
    elif n:
        name = re.match(rb"[\x20-\x7e]{0,24}", segment)
        words = name[0].decode().strip() if name and len(name[0]) >= 3 else f"APP{marker - 0xE0}"
        known = {"Photoshop 3.0": "Photoshop's resources and IPTC", "JFXX": "a thumbnail (JFXX)"}
        about.leave_out(known.get(words, f"a segment {words!r}"), n)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _take_rest(file: _File, rest: bytes) -> None:
    """Say what lies behind the end: further pictures (gain maps, views), a film (motion photo), or something else."""
    if not rest.strip(b"\0"):
        return
    n_pictures = len(re.findall(rb"\xff\xd8\xff[\xe0-\xef\xdb\xc0-\xc2]", rest))
    film = rest[4:8] == b"ftyp" or b"\0\0ftyp" in rest[:65536] or b"ftypmp4" in rest or b"ftypisom" in rest
    if film:
        file.about.note("picture", f"a film of a motion photo ({len(rest)} bytes behind the picture) is left out")
    elif rest.startswith(b"\xff\xd8") or n_pictures:
        words = "a second picture" if n_pictures == 1 else f"{n_pictures} more pictures"
        verb = "is" if n_pictures == 1 else "are"
        file.about.note(
            "picture", f"{words} behind the first (a gain map, a view or a preview, {len(rest)} bytes) {verb} left out"
        )
    else:
        file.about.leave_out("what follows the end of the picture", len(rest))


def _steps(segment: bytes) -> dict[int, int]:
    """The steps of the means in a DQT segment, by the number of their table."""
    steps, at = {}, 0
    while at + 65 <= len(segment):
        wide = segment[at] >> 4
        steps[segment[at] & 15] = int.from_bytes(segment[at + 1 : at + 2 + bool(wide)], "big")
        at += 129 if wide else 65
    return steps


# ---- whether the coded data are whole


_MOST_DC_BITS, _MOST_AC_BITS = 11, 10  # of 8-bit samples (T.81, tables F.1 and F.2)
_MOST_DC = 1400  # a mean of a block beyond black and white, times 8; some encoders overshoot by a little
_MOST_WALKED = 8 << 20  # bytes of coded data: 10 s
_SLACK = 1  # bytes that an encoder may leave at the end of an interval


def _huffman(segment: bytes) -> dict[int, NDArray[np.int64]]:
    """The tables of a DHT segment, by class and number.

    For each window of 16 bits: the bits of code and value together, times 256, plus the bits of the value (DC) or how
    many coefficients it stands for (AC; 64: end of block). 255: there is no such code, or none of 8-bit samples.
    """
    tables, at = {}, 0
    while at + 17 <= len(segment):
        name, counts = segment[at], segment[at + 1 : at + 17]
        values = segment[at + 17 : at + 17 + sum(counts)]
        at += 17 + sum(counts)
        table = np.full(65536, (1 << 8) | 255, np.int64)
        code, index = 0, 0
        for length, count in enumerate(counts, 1):
            for value in values[index : index + count]:
                low = code << (16 - length)
                run, bits = value >> 4, value & 15
                size = length + (value if name < 16 else bits)
                if name < 16:
                    steps = value if value <= _MOST_DC_BITS else 255
                else:
                    steps = 255 if bits > _MOST_AC_BITS else run + 1 if bits else 16 if run == 15 else 64
                table[low : low + (1 << (16 - length))] = (size << 8) | steps
                code += 1
            index += count
            code <<= 1
        tables[name] = table
    return tables


def damage_of(data: bytes, file: _File | None = None) -> str | None:
    """Words for what is wrong with the coded data of a JPEG, or None. May miss damage; never invents it."""
    file = _parse(data) if file is None else file
    if not file.ended:
        return None  # libjpeg refuses it
    if file.frame in (0xC0, 0xC1) and sum(len(coded) for *_, coded in file.scans) <= _MOST_WALKED:
        return _walked(file)
    if file.frame in (0xC0, 0xC1, 0xC2) and not _ffmpeg_agrees(file.bare):
        return "the coded data end early or are damaged: parts may be grey, blurred or shifted"
    return None


def _walked(file: _File) -> str | None:
    seen = set()
    for header, tables, interval, coded in file.scans:
        fault = _walk_scan(file, header, tables, interval, coded)
        if fault:
            return fault
        seen |= set(header[1 : 1 + 2 * header[0] : 2])
    missing = {number for number, _, _ in file.components} - seen
    return "a component of the colours is missing" if missing else None


def _walk_scan(
    file: _File, header: bytes, tables: dict[int, NDArray[np.int64]], interval: int, coded: bytes
) -> str | None:
    pattern, n_units = _units(file, header, tables)
    if not pattern:
        return "a part refers to tables that are missing"
    segments = _RESTART.split(coded) if interval else [_RESTART.sub(b"", coded)]
    sizes = [min(interval, n_units - at) for at in range(0, n_units, interval)] if interval else [n_units]
    marks = [mark[-1] & 7 for mark in _RESTART.findall(coded)] if interval else []
    if len(segments) < len(sizes) or marks != [number & 7 for number in range(len(marks))]:
        return f"some of {len(sizes)} intervals between restart markers are missing: parts are grey or shifted"
    done = 0
    for segment, size in zip(segments, sizes, strict=False):
        n, left = _walk(segment.replace(b"\xff\0", b"\xff"), pattern, size)
        done += n
        if n < size or left < 0:
            share = 100 * done // max(1, n_units)
            return f"the coded data are damaged or end early, {share} % in: what follows may be grey or shifted"
        if left >= 8 * _SLACK + 8:
            return f"{left // 8} bytes of coded data are left over: parts of the picture may be shifted"
    return None


def _units(
    file: _File, header: bytes, tables: dict[int, NDArray[np.int64]]
) -> tuple[list[tuple[int, list[int], list[int], int]], int]:
    """The blocks of a coded unit of a scan: component, its two tables as lists, its largest mean; number of units."""
    n = header[0] if header else 0
    if len(header) < 1 + 2 * n or not n:
        return [], 0
    sampling = {number: (h, v) for number, h, v in file.components}
    h_max, v_max = max(h for h, _ in sampling.values()), max(v for _, v in sampling.values())
    if min(min(pair) for pair in sampling.values()) < 1:
        return [], 0
    lists: dict[int, list[int]] = {}
    pattern = []
    for at in range(1, 1 + 2 * n, 2):
        number, choice = header[at], header[at + 1]
        dc, ac = choice >> 4, 16 + (choice & 15)
        if number not in sampling or dc not in tables or ac not in tables:
            return [], 0
        for name in (dc, ac):
            lists.setdefault(name, tables[name].tolist())
        h, v = sampling[number] if n > 1 else (1, 1)
        most = _MOST_DC // max(1, file.steps.get(file.step_of.get(number, 0), 1)) + 1
        pattern += [(number, lists[dc], lists[ac], most)] * (h * v)
    if n > 1:
        across, down = -(-file.width // (8 * h_max)), -(-file.height // (8 * v_max))
    else:
        h, v = sampling[header[1]]
        across = (-(-file.width * h // h_max) + 7) // 8
        down = (-(-file.height * v // v_max) + 7) // 8
    return pattern, across * down


_BAND = 1 << 15  # bytes whose windows are made at a time


def _walk(coded: bytes, pattern: Sequence[tuple[int, list[int], list[int], int]], n_units: int) -> tuple[int, int]:
    """Walk the codes of units: how many are whole, and how many bits are left behind them (-1: a code is wrong)."""
    n_bits = 8 * len(coded)
    raw = np.frombuffer(coded + bytes(8), np.uint8).astype(np.uint32)
    start, windows = -1, []
    at = 0
    last = 8 * _BAND - 4096  # a block takes at most 64 times 16 + 15 bits
    means = dict.fromkeys((number for number, *_ in pattern), 0)
    for unit in range(n_units):
        for number, dc, ac, most in pattern:
            if start < 0 or at - start > last:
                start = at & ~7
                part = raw[start // 8 : start // 8 + _BAND + 2]
                if len(part) < 3:
                    return unit, -1
                wide = (part[:-2] << 16) | (part[1:-1] << 8) | part[2:]
                shifted = (wide[:, None] >> np.arange(8, 0, -1, dtype=np.uint32)) & 0xFFFF
                windows = shifted.ravel().tolist()
            place = at - start
            try:
                entry = dc[windows[place]]
                bits = entry & 255
                if bits == 255:
                    return unit, -1
                place += entry >> 8
                if bits:
                    value = windows[place - bits] >> (16 - bits)
                    means[number] += value if value >> (bits - 1) else value - (1 << bits) + 1
                    if not -most <= means[number] <= most:
                        return unit, -1
                k = 1
                while k < 64:
                    entry = ac[windows[place]]
                    place += entry >> 8
                    k += entry & 255
            except IndexError:
                return unit, -1
            if k > 64 and k < 128 and entry & 255 != 64:  # beyond the block, and not by an end-of-block code
                return unit, -1
            if k >= 255:
                return unit, -1
            at = start + place
            if at > n_bits:
                return unit, -1
    return n_units, n_bits - at


def _ffmpeg_agrees(data: bytes) -> bool:
    """Whether FFmpeg decodes a progressive JPEG without an error, told to be strict."""
    import av
    from av.error import FFmpegError, InvalidDataError

    context: Any = av.CodecContext.create("mjpeg", "r")
    context.options = {"err_detect": "explode"}
    context.thread_count = 1
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except InvalidDataError:
        return False
    except FFmpegError:
        return True  # it doesn't know this kind
    return bool(frames)
