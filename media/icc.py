"""ICC profiles: whether one fits a picture, and profiles made for colours that a file says in another way.

PNG says colours by cICP, or by gAMA and cHRM, AVIF and HEIF by nclx, EXIF by a word. What can be told by primaries and
a curve becomes a profile of a few hundred bytes (ICC.1:2022, matrix and parametric curves), which every format of
pictures holds. PQ and HLG can't: their code points (ITU-T H.273) are kept as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["HIGH_RANGE", "SRGB", "adobe_rgb", "fault_of", "of_code_points", "of_gamma", "profile"]

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x, y of white, red, green, blue
_ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Curve = tuple[float, ...]  # of an ICC parametric curve: gamma alone, or gamma, a, b, c, d of type 3
_SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SMPTE240: Curve = (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4.0, 0.0912)

PRIMARIES = {  # H.273, table 2
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (0.3127, 0.3290, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
TRANSFERS: dict[int, Curve] = {  # H.273, table 3
    1: _BT709,
    4: (2.2,),
    5: (2.8,),
    6: _BT709,
    7: _SMPTE240,
    8: (1.0,),
    13: _SRGB_CURVE,
    14: _BT709,
    15: _BT709,
}
HIGH_RANGE = {16: "PQ", 18: "HLG"}
_UNSAID = 2


def of_code_points(primaries: int, transfer: int, grey: bool) -> bytes | str | None:
    """The profile of H.273 code points; None for sRGB and what isn't said; words for what no profile can say here."""
    if transfer in HIGH_RANGE:
        return f"transfer {HIGH_RANGE[transfer]}"
    if primaries in (0, _UNSAID) and transfer in (0, _UNSAID):
        return None
    if primaries not in PRIMARIES and primaries not in (0, _UNSAID):
        return f"primaries {primaries}"
    if transfer not in TRANSFERS and transfer not in (0, _UNSAID):
        return f"transfer {transfer}"
    place = PRIMARIES.get(primaries, SRGB)
    curve = TRANSFERS.get(transfer, _SRGB_CURVE)
    if curve == _SRGB_CURVE and (place == SRGB or grey):
        return None
    return profile(place, curve, grey)


def of_gamma(gamma: float | None, places: Sequence[float] | None, grey: bool) -> bytes | None:
    """The profile of a PNG's gAMA (exponent of the encoder, 0.45455 usually) and cHRM; None if they say sRGB."""
    usual = gamma is None or abs(gamma - 0.45455) < 0.006
    near = places is None or all(abs(a - b) < 0.002 for a, b in zip(places, SRGB, strict=True))
    if usual and (near or grey):
        return None
    curve = _SRGB_CURVE if gamma is None else (1 / gamma,)
    return profile(SRGB if places is None or near else tuple(places), curve, grey)


def profile(places: Sequence[float], curve: Curve, grey: bool) -> bytes | None:
    """A display profile of four places (x, y of white, red, green, blue) and a curve; None for impossible places."""
    tags = {b"desc": _text("made by codec-suite"), b"cprt": _text("no copyright")}
    tags[b"wtpt"] = _xyz(_D50)
    kind = 0 if len(curve) == 1 else 3
    trc = b"para" + bytes(4) + struct.pack(">HH", kind, 0) + b"".join(map(_fixed, curve))
    if grey:
        tags[b"kTRC"] = trc
    else:
        matrices = _matrices(places)
        if matrices is None:
            return None
        to_d50, adapted = matrices
        tags[b"chad"] = b"sf32" + bytes(4) + b"".join(_fixed(value) for value in to_d50.ravel())
        for number, name in enumerate("rgb"):
            tags[f"{name}XYZ".encode()] = _xyz(adapted[:, number])
            tags[f"{name}TRC".encode()] = trc
    return _packed(tags, grey)


def adobe_rgb() -> bytes:
    """The profile of Adobe RGB (1998), by its published primaries and gamma."""
    made = profile(_ADOBE, (563 / 256,), grey=False)
    assert made is not None
    return made


def _matrices(places: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The adaptation of the white to D50, and the matrix from RGB to XYZ at D50."""
    if min(places[1::2]) <= 0 or max(places) > 2:
        return None
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in zip(places[::2], places[1::2], strict=True)]).T
    white, primaries = xyz[:, 0], xyz[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6:
        return None
    matrix = primaries * np.linalg.solve(primaries, white)
    cones = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    to_d50 = np.linalg.solve(_BRADFORD, cones[:, None] * _BRADFORD)
    return to_d50, to_d50 @ matrix


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(min(max(value, -32768), 32767) * 65536))


def _xyz(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(float(value)) for value in values)


def _text(words: str) -> bytes:
    raw = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(raw), 28) + raw


def _packed(tags: dict[bytes, bytes], grey: bool) -> bytes:
    table, body, places = struct.pack(">I", len(tags)), b"", {}
    start = 128 + 4 + 12 * len(tags)
    for tag, payload in tags.items():
        if payload not in places:  # the three curves are equal: stored once
            places[payload] = start + len(body)
            body += payload + bytes(-len(payload) % 4)
        table += tag + struct.pack(">II", places[payload], len(payload))
    head = struct.pack(
        ">I4sI4s4s4s", start + len(body), bytes(4), 0x04300000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + table + body


def fault_of(icc: bytes, grey: bool) -> str | None:
    """The reason why a profile can't be that of a grey or an RGB picture; None if it can."""
    if len(icc) < 132 or icc[36:40] != b"acsp" or int.from_bytes(icc[:4], "big") > len(icc):
        return "that is cut or damaged"
    space = icc[16:20]
    if space != (b"GRAY" if grey else b"RGB "):
        return f"for {space.decode('latin-1').strip()} on {'a grey' if grey else 'an RGB'} picture"
    return None
