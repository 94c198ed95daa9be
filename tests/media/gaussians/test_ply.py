"""PLY: the order of properties that viewers expect, any order on reading, and words about what isn't Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media.gaussians import ply
from codec.media.gaussians.values import Gaussians

from .making import assert_same, real, scene

STANDARD = [
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(45))),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]


def fields(g: Gaussians) -> dict[str, np.ndarray]:
    """The columns of a file by the names of their properties; f_rest by an index, channel by channel."""
    held = {name: g.positions[:, i] for i, name in enumerate("xyz")} | {"opacity": g.opacities}
    held |= {f"f_dc_{c}": g.harmonics[:, 0, c] for c in range(3)}
    k = g.harmonics.shape[1] - 1
    held |= {f"f_rest_{c * k + i}": g.harmonics[:, 1 + i, c] for c in range(3) for i in range(k)}
    held |= {f"scale_{i}": g.scales[:, i] for i in range(3)}
    return held | {f"rot_{i}": g.rotations[:, i] for i in range(4)}


def file(
    columns: dict[str, np.ndarray], form: str = "binary_little_endian", head: str = "", tail: bytes = b""
) -> bytes:
    n = len(columns["x"])
    names = {"f4": "float", "f8": "double", "u1": "uchar"}
    lines = ["ply", f"format {form} 1.0", "comment made for a test", f"element vertex {n}"]
    lines += [f"property {names[c.dtype.str[1:]]} {name}" for name, c in columns.items()]
    order = ">" if form == "binary_big_endian" else "<"
    if form == "ascii":
        rows = zip(*(c.tolist() for c in columns.values()), strict=True)
        body = "".join(" ".join(repr(v) for v in row) + "\n" for row in rows).encode()
    else:
        table = np.empty(n, [(name, order + c.dtype.str[1:]) for name, c in columns.items()])
        for name, column in columns.items():
            table[name] = column
        body = table.tobytes()
    return "\n".join([*lines, *([head] if head else []), "end_header", ""]).encode() + body + tail


class TestWriting:
    def test_the_order_of_properties(self) -> None:
        g = scene(5, 3)
        data = ply.write(g)
        head, _, body = data.partition(b"end_header\n")
        lines = head.decode().splitlines()
        assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 5"]
        assert lines[3:] == [f"property float {name}" for name in STANDARD]
        table = np.frombuffer(body, "<f4").reshape(5, 62)
        assert not table[:, 3:6].any(), "normals are zero"
        for name, column in fields(g).items():
            assert np.array_equal(table[:, STANDARD.index(name)], column), name

    @pytest.mark.parametrize("degree", range(5))
    def test_round_trip(self, degree: int) -> None:
        g = scene(7, degree)
        g.opacities[:3] = np.array([np.inf, -np.inf, np.nan], np.float32)
        read, notes = ply.read(ply.write(g))
        assert_same(read, g)
        assert not notes


class TestReading:
    @pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
    def test_any_order_of_properties_and_bytes(self, form: str) -> None:
        g = scene(6, 1)
        columns = dict(reversed(fields(g).items()))
        assert_same(ply.read(file(columns, form))[0], g)

    def test_windows_lines_and_spaces(self) -> None:
        g = scene(3, 0)
        head, _, body = file(fields(g)).partition(b"end_header\n")
        data = head.replace(b"\n", b" \r\n") + b"end_header\r\n" + body
        assert_same(ply.read(data)[0], g)

    def test_what_is_left_out_is_noted(self) -> None:
        g = scene(4, 0)
        columns = fields(g) | {"nx": np.ones(4, np.float32), "confidence": np.zeros(4), "label": np.zeros(4, np.uint8)}
        read, notes = ply.read(file(columns, head="element camera 1\nproperty float fov", tail=bytes(4)))
        assert_same(read, g)
        words = " ".join(str(note) for note in notes)
        assert "confidence, label" in words and "normals" in words and "camera" in words
        columns = {name: column.astype(np.float64) for name, column in fields(g).items()}
        read, notes = ply.read(file(columns))
        assert_same(read, g)
        assert [note.kind for note in notes] == ["depth"]
        read, notes = ply.read(file(fields(g), tail=b"behind"))
        assert_same(read, g)
        assert [str(note) for note in notes] == ["structure: 6 bytes behind the last record are left out"]

    def test_gsplat(self) -> None:
        """The exporter of gsplat writes no normals, and harmonics channel by channel as well."""
        g = scene(9, 3)
        names = [name for name in STANDARD if name not in ("nx", "ny", "nz")]
        columns = fields(g)
        assert_same(ply.read(file({name: columns[name] for name in names}))[0], g)

    def test_a_real_file(self) -> None:
        data = real("playbot_lod3_sh2.ply").read_bytes()
        g, notes = ply.read(data)
        assert (len(g), g.degree, notes) == (31000, 2, ())
        body = np.frombuffer(data.partition(b"end_header\n")[2], "<f4").reshape(31000, 38)
        assert np.array_equal(g.positions, body[:, :3]) and np.array_equal(g.rotations, body[:, 34:])
        assert np.array_equal(g.harmonics[:, 1, 2], body[:, 6 + 16]), "the first coefficient of blue"
        assert_same(ply.read(ply.write(g))[0], g)


class TestRefused:
    def test_a_mesh_is_named(self) -> None:
        columns = {name: np.zeros(3, np.float32) for name in "xyz"}
        mesh = file(columns, head="element face 1\nproperty list uchar int vertex_indices", tail=bytes(13))
        with pytest.raises(MediaError, match=r"a mesh or a cloud of points: .* no f_dc_0.*expected the Gaussians"):
            ply.read(mesh)
        columns = fields(scene(3, 0))
        del columns["rot_2"]
        with pytest.raises(MediaError, match="no rot_2"):
            ply.read(file(columns))

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (b"format binary_little_endian 1.0\n", b"", "without a line like `format"),
            (b"format binary_little_endian", b"format binary_middle_endian", "isn't understood"),
            (b"element vertex 4", b"element vertex -4", "isn't understood"),
            (b"element vertex 4", b"element vertex 0", "no Gaussians"),
            (b"element vertex 4", b"element vertex 5", "is cut"),
            (b"element vertex 4", b"element vertex 2147483648", "at most"),
            (b"element vertex 4", b"element vertex 16777216", "can't be in a file"),
            (b"element vertex 4", b"element vertex 99999999999999999999999999", "26 digits"),
            (b"property float y", b"property float x", "twice"),
            (b"property float y", b"property list uchar float y", "lists"),
            (b"property float y", b"property quad y", "isn't understood"),
            (b"property float f_rest_8", b"property float f_rest_9", "f_rest"),
            (b"property float f_rest_8\n", b"", "8 properties f_rest_"),
            (b"end_header", b"end_heater", "without an end"),
            (b"ply\n", b"plY\n", "not a PLY file"),
            (b"element vertex 4", b"element vertices 4", "without vertices"),
        ],
    )
    def test_headers(self, old: bytes, new: bytes, words: str) -> None:
        data = file(fields(scene(4, 1)))
        assert data.count(old) == 1
        with pytest.raises(MediaError, match=words):
            ply.read(data.replace(old, new))

    def test_lists_before_the_vertices(self) -> None:
        data = file(fields(scene(4, 1)))
        before = b"element face 1\nproperty list uchar int vertex_indices\nelement vertex 4"
        with pytest.raises(MediaError, match="lists in 'face'"):
            ply.read(data.replace(b"element vertex 4", before))

    def test_texts_that_are_cut_or_damaged(self) -> None:
        data = file(fields(scene(4, 1)), "ascii")
        for damaged in (data[:-40], data[:-3] + b"x.\n", data.replace(b"vertex 4", b"vertex 1000000")):
            with pytest.raises(MediaError):
                ply.read(damaged)
