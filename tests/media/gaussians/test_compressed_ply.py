"""Compressed PLY: integers come back as they were, values are as SuperSplat's reader computes them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media.gaussians import compressed_ply
from codec.media.gaussians.forms import check, gaussians_of
from codec.media.gaussians.values import DC, Column, Table

from .making import FIELDS, assert_same_table, real

HEAD_OF_CHUNK = [
    *("min_x", "min_y", "min_z", "max_x", "max_y", "max_z"),
    *("min_scale_x", "min_scale_y", "min_scale_z", "max_scale_x", "max_scale_y", "max_scale_z"),
    *("min_r", "min_g", "min_b", "max_r", "max_g", "max_b"),
]


def table(n: int = 300, degree: int = 1, each: int = 18) -> Table:
    """A table of random integers, in two chunks."""
    rng = np.random.default_rng(n)

    def column(role: str, *bits: int) -> Column:
        high = [1 << b for b in bits]
        return Column(role, rng.integers(0, high, (n, len(bits))).astype(np.int32), bits)

    columns = [
        column("position", 11, 10, 11),
        column("rotation", 2, 10, 10, 10),
        column("scale", 11, 10, 11),
        column("colour", 8, 8, 8),
        column("opacity", 8),
    ]
    width = 3 * ((degree + 1) ** 2 - 1)
    columns += [column("harmonics", *[8] * width)] if degree else []
    bounds = rng.normal(0, 2, (2, each)).astype("<f4")
    detail = {"degree": degree, "bounds": bounds.tobytes(), "bounds_each": each}
    return Table("compressed-ply", tuple(columns), (256, n - 256), detail)


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("each", [12, 18])
def test_round_trip(degree: int, each: int) -> None:
    made = table(300, degree, each)
    check(made)
    data = compressed_ply.write(made)
    read, notes = compressed_ply.read(data)
    assert_same_table(read, made)
    assert not notes and compressed_ply.write(read) == data


def test_the_layout_of_the_file() -> None:
    """One Gaussian, byte by byte."""
    made = table(300, 1)
    data = compressed_ply.write(made)
    head, _, body = data.partition(b"end_header\n")
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property float")]
    assert names == HEAD_OF_CHUNK
    words = np.frombuffer(body, "<u4", 4 * 300, 2 * 18 * 4).reshape(300, 4).astype(int)
    p, r, s, c = (made.column(role).values[7].tolist() for role in ("position", "rotation", "scale", "colour"))
    opacity = int(made.column("opacity").values[7, 0])
    assert words[7, 0] == p[0] << 21 | p[1] << 11 | p[2]
    assert words[7, 1] == r[0] << 30 | r[1] << 20 | r[2] << 10 | r[3]
    assert words[7, 2] == s[0] << 21 | s[1] << 11 | s[2]
    assert words[7, 3] == c[0] << 24 | c[1] << 16 | c[2] << 8 | opacity
    red = np.frombuffer(body, np.uint8, 9 * 300, 2 * 18 * 4 + 16 * 300).reshape(300, 9)[7, :3]
    assert red.tolist() == made.column("harmonics").values[7, ::3].tolist(), "all of red comes first"


def test_values() -> None:
    made = table(300, 1)
    made.column("harmonics").values[0, :3] = (0, 255, 1)
    g = gaussians_of(made)
    assert g.harmonics[0, 1].tolist() == [-4, 4, (1.5 / 256 - 0.5) * 8], "the ends are the ends"
    bounds = np.frombuffer(made.detail["bounds"], "<f4").reshape(2, 18).astype(float)  # type: ignore[call-overload]
    i, chunk = 299, bounds[1]
    t = made.column("position").values[i] / [2047, 1023, 2047]
    assert g.positions[i] == pytest.approx(chunk[:3] * (1 - t) + chunk[3:6] * t, rel=1e-6)
    t = made.column("scale").values[i] / [2047, 1023, 2047]
    assert g.scales[i] == pytest.approx(chunk[6:9] * (1 - t) + chunk[9:12] * t, rel=1e-6)
    t = made.column("colour").values[i] / 255
    assert g.harmonics[i, 0] == pytest.approx((chunk[12:15] * (1 - t) + chunk[15:] * t - 0.5) / DC, rel=1e-5)
    held = made.column("harmonics").values[i, 4]
    assert g.harmonics[i, 2, 1] == ((held + 0.5) / 256 - 0.5) * 8
    index, *rest = made.column("rotation").values[i].tolist()
    small = [(value / 1023 - 0.5) * 2**0.5 for value in rest]
    w = max(0.0, 1 - sum(value**2 for value in small)) ** 0.5
    assert g.rotations[i] == pytest.approx([*small[:index], w, *small[index:]], abs=1e-6)


def test_real_file() -> None:
    """The values are those that SplatTransform 3.7.0 writes, bit by bit but for opacities of 0 and 1."""
    data = real("guitar.compressed.ply").read_bytes()
    read, notes = compressed_ply.read(data)
    assert (len(read), len(read.groups), notes) == (90854, 355, ())
    assert compressed_ply.write(read).partition(b"end_header\n")[2] == data.partition(b"end_header\n")[2]
    g = gaussians_of(read)
    digest = hashlib.sha256(b"".join(getattr(g, name).tobytes() for name in FIELDS)).hexdigest()
    assert digest == "73865b25141ad79dff8fc5bc6e9e16f44b5a9602553ad764ba2d20ba52542aaa"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"element chunk 2", b"element chunk 1", "1 chunks; expected 2"),
        (b"element vertex 300", b"element vertex 200", "2 chunks; expected 1"),
        (b"element vertex 300", b"element vertex 4294967296", "at most"),
        (b"property uint packed_scale", b"property int packed_scale", "packed_scale"),
        (b"property float min_z", b"property double min_z", "min_z"),
        (b"element sh 300", b"element sh 299", "harmonics for 300"),
        (b"property uchar f_rest_8\n", b"", "harmonics for 300"),
        (b"binary_little_endian", b"ascii", "expected 2 for 300"),
    ],
)
def test_refused(old: bytes, new: bytes, words: str) -> None:
    data = compressed_ply.write(table())
    assert data.count(old) == 1
    with pytest.raises(MediaError, match=words):
        compressed_ply.read(data.replace(old, new))


def test_other_parts_are_noted() -> None:
    data = compressed_ply.write(table())
    data = data.replace(b"end_header", b"element camera 1\nproperty float fov\nend_header") + bytes(4)
    read, notes = compressed_ply.read(data)
    assert_same_table(read, table())
    assert "camera" in str(notes[0])
