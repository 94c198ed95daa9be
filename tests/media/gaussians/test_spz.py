"""SPZ: files of the reference library are read to its values, and come back with the same integers."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import struct

import numpy as np
import pytest
import zstandard

from codec.errors import MediaError
from codec.media.gaussians import spz
from codec.media.gaussians.exact import LOGITS, sigmoid
from codec.media.gaussians.forms import check, gaussians_of
from codec.media.gaussians.values import Gaussians

from .making import FIELDS, assert_same, assert_same_table, real, scene

# Two Gaussians that @adobe/spz 0.2.3, a build of the reference library (MIT), wrote: version 2, and 3 and 4 with an
# extension (limits of a camera). The values are those that it reads from these files, with the axes of PLY.
FILES = {
    2: "1f8b0800000000000003f3730f0e606260600061461e46060601068607ff192efc67706060d8f09f61c1ff865ddd6030a1a1"
    "2021c0a1373562fffefd1b36ac583063424145434541414642c4860d3b007389dcc348000000",
    3: "1f8b0800000000000003f3730f0e60666060600262461e204b8081e1c17f860bff191c181836fc6758f0bf615737184c6828"
    "480870b817b4ea48e6d2a9621b36ac583063424145434541414642c4860d3b9818f6ade5610081063b0606077b0606050700"
    "af81f61d5e000000",
    4: "4e4753500400000002000000010c0306340000000000000000000000000000000200bead0c0000000000803e0000403f0000"
    "20401b0000000000000012000000000000000b0000000000000002000000000000000f000000000000000600000000000000"
    "0f000000000000000600000000000000110000000000000008000000000000001b00000000000000120000000000000028b5"
    "2ffd201291000000100000e0ff00d0ff00400000b0ff00a0ff28b52ffd200211000080ba28b52ffd20063100008b8b8b8b8b"
    "8b28b52ffd200631000090807060504028b52ffd2008410000de52aac469a5951628b52ffd2012910000b0b0a8a098907078"
    "80787070686058b0b0b8",
}
XYZW = {
    2: [
        *(0.10588240623474121, 0.20784306526184082, 0.30980390310287476, 0.9217438101768494),
        *(0.49803924560546875, -0.49803924560546875, -0.49803924560546875, 0.5058366060256958),
    ],
    3: [
        *(0.10239902138710022, 0.20479804277420044, 0.30719706416130066, 0.9236894249916077),
        *(0.5013738870620728, -0.49954119324684143, -0.49954119324684143, 0.49954119324684143),
    ],
}
SH = [-0.375, -0.375, -0.3125, -0.25, -0.1875, -0.125, -0.125, -0.0625, 0]
SH += [0.0625, 0.125, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.375, 0.4375]


@pytest.mark.parametrize("version", FILES)
def test_files_of_the_reference(version: int) -> None:
    data = bytes.fromhex(FILES[version])
    table, notes = spz.read(data)
    check(table)
    assert table.detail["version"] == version and table.detail["flags"] == (1 if version == 2 else 3)
    assert [note.kind for note in notes] == ([] if version == 2 else ["structure"])
    g = gaussians_of(table)
    assert g.positions.ravel().tolist() == [1, 2, 3, 4, 5, 6]
    assert g.scales.ravel().tolist() == [-1, -2, -3, -4, -5, -6]
    assert g.rotations[:, [1, 2, 3, 0]].ravel().tolist() == XYZW[min(version, 3)], "every bit"
    assert g.opacities == pytest.approx([0.007843292, 0.99164027], abs=1e-6)
    assert g.harmonics[:, 0].ravel().tolist() == [0.30065375566482544] * 6
    assert g.harmonics[:, 1:].ravel().tolist() == SH
    written = spz.write(table)
    assert_same_table(spz.read(written)[0], table)
    if version < 4:
        assert gzip.decompress(written) == gzip.decompress(data)
    else:
        assert written[: 52 + 16 * 6] == data[: 52 + 16 * 6] or len(written) <= len(data)


def test_the_integers_are_those_of_the_reference() -> None:
    """Values that the reference was given for the files above are quantised to the same integers."""
    rotations = np.array([[0.9, 0.1, 0.2, 0.3], [-0.5, -0.5, 0.5, 0.5]], np.float32)
    harmonics = np.concatenate([np.full((2, 1, 3), 0.3), (np.arange(18) / 20 - 0.4).reshape(2, 3, 3)], axis=1)
    g = Gaussians(
        np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        np.array([[-1, -2, -3], [-4, -5, -6]], np.float32),
        rotations,
        np.array([0, 1], np.float32),
        harmonics.astype(np.float32),
    )
    table = spz.quantise(g)
    for column in spz.read(bytes.fromhex(FILES[4]))[0].columns:
        if column.role != "rotation":  # where four components are the same, the reference took another one
            assert np.array_equal(table.column(column.role).values, column.values), column.role
    first = spz.read(bytes.fromhex(FILES[4]))[0].column("rotation").values[0]
    assert table.column("rotation").values[0].tolist() == first.tolist()


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", [0, 1, 3, 4])
def test_quantise(degree: int, version: int) -> None:
    g = scene(300, degree)
    table = spz.quantise(g, version)
    check(table)
    read, notes = spz.read(spz.write(table))
    assert_same_table(read, table)
    assert not notes
    back = gaussians_of(read)
    assert np.abs(back.positions - g.positions).max() <= 0.5 / 4096 + 1e-6
    assert np.abs(back.scales - g.scales).max() <= 0.5 / 16 + 1e-6
    unit = g.rotations / np.linalg.norm(g.rotations, axis=1, keepdims=True)
    unit *= np.sign((unit * back.rotations).sum(axis=1, keepdims=True))
    assert np.abs(back.rotations - unit).max() < 0.004
    assert np.abs(sigmoid(back.opacities) - sigmoid(g.opacities)).max() <= 0.5 / 255 + 1e-6
    if degree:
        assert np.abs(back.harmonics[:, 1:4] - g.harmonics[:, 1:4])[np.abs(g.harmonics[:, 1:4]) < 0.9].max() < 0.04
    again = spz.quantise(back, version)
    for column in table.columns:
        if column.role != "rotation":
            assert np.array_equal(again.column(column.role).values, column.values), f"{column.role} is stable"


def test_extreme_integers() -> None:
    """All ends of the ranges come back: signs of 24 bits, a magnitude of 511, a negative zero."""
    n = 5
    table = spz.quantise(scene(n, 0))
    position = np.array([[-(1 << 23), (1 << 23) - 1, 0], [-1, 1, 255], [256, -256, 65535], [0, 0, 0], [1, 2, 3]])
    table.column("position").values[:] = position
    table.column("rotation").values[:] = [
        [0, 0, 511, 512],
        [1, 1023, 0, 511],
        [2, 512, 0, 0],
        [3, 0, 0, 0],
        [3, 1, 2, 3],
    ]
    read = spz.read(spz.write(table))[0]
    assert_same_table(read, table)
    g = gaussians_of(read)
    assert g.positions[0].tolist() == [-2048, -((1 << 23) - 1) / 4096, 0], "y and z are turned"
    assert np.isfinite(g.rotations).all()


def test_large_scenes_have_fewer_bits_behind_the_point() -> None:
    g = scene(50, 0)
    g.positions[0] = (5000, -1, 1)
    table = spz.quantise(g)
    assert table.detail["fractional_bits"] == 10
    assert np.abs(gaussians_of(table).positions - g.positions).max() <= 0.5 / 1024 + 1e-6
    g.positions[0, 0] = 1e9
    with pytest.raises(MediaError, match="too large for SPZ"):
        spz.quantise(g)
    g.positions[0, 0] = np.nan
    with pytest.raises(MediaError, match="aren't finite"):
        spz.quantise(g)


def test_opacities_that_are_infinite_and_rotations_of_no_length() -> None:
    g = scene(3, 0)
    g.opacities[:2] = np.array([np.inf, -np.inf], np.float32)
    g.rotations[0] = 0
    back = gaussians_of(spz.quantise(g))
    assert back.opacities[:2].tolist() == [LOGITS[255], LOGITS[0]]
    assert back.rotations[0].tolist() == [1, 0, 0, 0]


def old(
    version: int, n: int = 3, degree: int = 0, flags: int = 0, body: bytes | None = None, more: bytes = b""
) -> bytes:
    each = (6 if version == 1 else 9) + 1 + 3 + 3 + (4 if version == 3 else 3) + 3 * ((degree + 1) ** 2 - 1)
    head = b"NGSP" + struct.pack("<IIBBBB", version, n, degree, 12, flags, 0)
    return gzip.compress(head + (bytes(range(each)) * n if body is None else body) + more)


def test_version_1_has_half_floats() -> None:
    halves = np.array([1.5, -2, 65504, -0.0, 0, 2**-14, np.inf, 1, 2], np.float16)
    data = old(1, 3, 0, body=halves.tobytes() + bytes(3 * 10))
    table, _ = spz.read(data)
    check(table)
    assert gaussians_of(table).positions.ravel().tolist() == [1.5, 2, -65504, 0, 0, -(2.0**-14), np.inf, -1, -2]
    assert gzip.decompress(spz.write(table)) == gzip.decompress(data)
    with pytest.raises(MediaError, match="can't be written as version 4"):
        spz.write(table, 4)


def test_versions_3_and_4_change_into_each_other() -> None:
    table = spz.quantise(scene(20, 1), 3)
    data = spz.write(table, 4)
    assert data.startswith(b"NGSP\4\0\0\0")
    assert np.array_equal(spz.read(data)[0].column("rotation").values, table.column("rotation").values)


def test_axes_by_an_extension() -> None:
    """Adobe's extension names the axes: those of PLY are left as they are, others are turned by signs."""
    plain = gaussians_of(spz.read(old(3, degree=3))[0])
    for number in range(9):
        extension = struct.pack("<III", 0xADBE0003, 4, number)
        table, notes = spz.read(old(3, degree=3, flags=2, more=extension))
        g = gaussians_of(table)
        assert not notes
        turned = np.array([(number - 1) ^ 3]) >> np.arange(3) & 1 if number else np.array([0, 1, 1])
        assert np.array_equal(g.positions, plain.positions * (1 - 2 * turned)), number
    assert_same(gaussians_of(spz.read(old(3, degree=3, flags=2, more=struct.pack("<III", 0xADBE0003, 4, 4)))[0]), plain)
    with pytest.raises(MediaError, match="turned by 90 degrees"):
        spz.read(old(3, flags=2, more=struct.pack("<III", 0xADBE0003, 4, 10)))


def test_turned_harmonics_show_the_same_colours() -> None:
    """A scene whose y and z axes are turned looks the same from a direction that is turned as well.

    But for the last harmonic of degree 4, whose sign the reference turns though no axis asks for it: its files need it.
    """
    g = scene(1, 4, seed=5)
    g.harmonics[0, 24] = 0
    x, y, z = direction = np.array([0.48, -0.6, 0.64])
    before = colour(g.harmonics[0, 1:], x, y, z)
    for turn in itertools.product((1, -1), (1, -1), (1, -1)):
        after = colour(g.harmonics[0, 1:] * spz._signs(turn, 24), *(direction * turn))
        assert after == pytest.approx(before, abs=1e-6), turn
    assert np.abs(before - colour(g.harmonics[0, 1:], x, -y, -z)).max() > 0.1


def colour(h: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    """The sum of harmonics by their polynomials, without their factors, in the order of 3D Gaussian splatting."""
    basis = [y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    basis += [y * (3 * x * x - y * y), x * y * z, y * (5 * z * z - 1), z * (5 * z * z - 3), x * (5 * z * z - 1)]
    basis += [z * (x * x - y * y), x * (x * x - 3 * y * y), x * y * (x * x - y * y), y * z * (3 * x * x - y * y)]
    basis += [x * y * (7 * z * z - 1), y * z * (7 * z * z - 3), z * z * (35 * z * z - 30) + 3, x * z * (7 * z * z - 3)]
    basis += [(x * x - y * y) * (7 * z * z - 1), x * z * (x * x - 3 * y * y), x**4 - 6 * x * x * y * y + y**4]
    return np.array(basis) @ h


def test_real_file() -> None:
    """The values are those that SplatTransform 3.7.0 writes, bit by bit but for opacities, which err by 5e-7 there."""
    data = real("biker.spz").read_bytes()
    table, notes = spz.read(data)
    assert (len(table), table.detail, notes) == (
        152746,
        {"version": 4, "degree": 0, "fractional_bits": 12, "flags": 0},
        (),
    )
    written = spz.write(table)
    assert len(written) < len(data) * 1.01
    assert_same_table(spz.read(written)[0], table)
    g = gaussians_of(table)
    digest = hashlib.sha256(b"".join(getattr(g, name).tobytes() for name in FIELDS)).hexdigest()
    assert digest == "87448e90af5be0723653f3953216969d91aa5b6144541b40f4ea26de9202b484"
    assert spz.count_of(data[:64]) == 152746


class TestRefused:
    def test_headers_of_version_4(self) -> None:
        data = spz.write(spz.quantise(scene(50, 1)))
        for at, value, words in (
            (4, 5, "version 5"),
            (4, 3, "version 3"),
            (8, 49, "expected"),
            (12, 5, "degree 5"),
            (12, 2, "expected"),
            (13, 24, "24 bits behind"),
            (15, 5, "expected 5 or 6"),
            (15, 7, "expected 5 or 6"),
            (16, 31, "at byte 31"),
            (16, 33, "MediaError|damaged|expected"),
            (18, 9, "at byte"),
        ):
            damaged = bytearray(data)
            damaged[at] = value
            with pytest.raises(MediaError, match=words):
                spz.read(bytes(damaged))
        with pytest.raises(MediaError, match="behind its end"):
            spz.read(data + b"x")
        with pytest.raises(MediaError, match="is cut"):
            spz.read(data[:-1])

    def test_old_versions(self) -> None:
        for data, words in (
            (gzip.compress(b"NGSP" + bytes(11)), "doesn't begin"),
            (gzip.compress(b"NGSX" + bytes(12)), "doesn't begin"),
            (old(4), "version 4"),
            (old(3)[:-9], "cut"),
            (old(3, more=b"12345678"), "is it damaged"),
            (old(3, body=bytes(59)), "expected 60"),
            (old(3, flags=2, more=b"1234567"), "extensions are cut"),
            (old(3, flags=2, more=struct.pack("<II", 1, 9)), "is cut"),
            (old(3, n=0, body=b""), "no Gaussians"),
        ):
            with pytest.raises(MediaError, match=words):
                spz.read(data)

    def test_an_attribute_with_another_length_inside(self) -> None:
        table = spz.quantise(scene(50, 0))
        data = spz.write(table)
        frame = zstandard.ZstdCompressor().compress(bytes(51))
        start = 32 + 16
        packed, size = struct.unpack_from("<QQ", data, start)
        first = struct.unpack_from("<Q", data, 32)[0]
        at = 32 + 5 * 16 + first
        other = (
            data[:start] + struct.pack("<QQ", len(frame), size) + data[start + 16 : at] + frame + data[at + packed :]
        )
        with pytest.raises(MediaError, match="more than 50 bytes; expected 50"):
            spz.read(other)
