"""Bodies and their motion: skinning, limits, glTF files by hand and the real ones, and pictures against ray casting."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.datasets.capture.bodies import Body, anny_body, body_named, fitted, gltf_body, walker, with_prop
from codec.datasets.capture.gltf import read_glb
from codec.datasets.capture.motion import LIMITS, PERFORMANCES, angles_at, rotation
from codec.datasets.capture.pictures import draw, trace, vertex_normals
from codec.datasets.capture.views import View, ring
from codec.datasets.places import places
from codec.errors import MediaError, UsageError

TIMES = [frame / 25 for frame in range(0, 100, 7)]


class TestMotion:
    @pytest.mark.parametrize("performance", PERFORMANCES)
    def test_angles_are_smooth_and_within_limits(self, performance: str) -> None:
        table = [angles_at(performance, t, seed=3) for t in np.arange(0, 3, 0.02)]
        for name, (low, high) in LIMITS.items():
            values = np.array([row[name] for row in table])
            assert low <= values.min() <= values.max() <= high
            assert np.abs(np.diff(values)).max() < 0.2, name

    def test_seeds(self) -> None:
        assert angles_at("dance", 1.0, 0) == angles_at("dance", 1.0, 0) != angles_at("dance", 1.0, 1)

    def test_signs(self) -> None:
        """A knee bends backward, a hip and an elbow forward, an arm that is raised goes up on its own side."""
        body, at_rest = walker("walk"), walker("walk").rest

        def moved(**angles: float) -> np.ndarray:
            from codec.datasets.capture.bodies import _BONES
            from codec.datasets.capture.motion import Joints

            names = [bone[0] for bone in _BONES]
            roles = {name: [names.index(name)] for name in names} | {"neck": [3, 4], "spine": [1, 2]}
            parents = [names.index(bone[1]) if bone[1] else -1 for bone in _BONES]
            joints = Joints(np.array([bone[2] for bone in _BONES]), parents, roles)
            channels = dict.fromkeys(LIMITS, 0.0) | {name.replace("_", "."): value for name, value in angles.items()}
            return joints.transforms(channels)[names.index(PART)] @ np.array([*joints.heads[names.index(PART)], 1])

        for PART, angles, axis, sign in (
            ("ankle.L", {"knee_L": 1.0}, 2, -1),
            ("ankle.R", {"hip_R": 1.0}, 2, 1),
            ("wrist.L", {"elbow_L": 1.0}, 2, 1),
            ("wrist.R", {"forward_R": 1.0}, 2, 1),
            ("wrist.L", {"raise_L": 1.5}, 0, 1),
            ("wrist.R", {"raise_R": 1.5}, 0, -1),
            ("ankle.L", {"spread_L": 0.5}, 0, 1),
            ("head", {"lean": 0.5}, 2, 1),
        ):
            assert sign * (moved(**angles)[axis] - moved()[axis]) > 0.05, (PART, angles)
        assert at_rest.shape == body.vertices(0.3).shape

    def test_limbs_keep_their_lengths(self) -> None:
        body = walker("dance", seed=5)
        for seconds in TIMES:
            turns = body.transforms(seconds)[:, :3, :3]
            assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3))

    def test_unknown(self) -> None:
        with pytest.raises(UsageError, match="dance, turn, walk, wave"):
            angles_at("sleep", 0)


class TestWalker:
    def test_mesh(self) -> None:
        body = walker()
        assert body.faces.max() == len(body.rest) - 1
        assert np.allclose(body.weights.sum(1), 1)
        edges = np.sort(body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all(), "closed"
        a, b, c = (body.rest[body.faces[:, i]] for i in range(3))
        assert (np.cross(a, b) * c).sum() > 0, "faces turn outwards"

    def test_fitted(self) -> None:
        body = fitted(walker("dance"), TIMES, 0.95)
        extremes = np.array([[body.vertices(t).min(0), body.vertices(t).max(0)] for t in TIMES])
        low, high = extremes[:, 0].min(0), extremes[:, 1].max(0)
        assert np.allclose(low + high, 0, atol=1e-9)
        assert (high - low).max() == pytest.approx(1.9)

    def test_a_prop_stands_still(self) -> None:
        body = with_prop(walker(), (0.5, -0.5, 0.3), 0.1, 0.3)
        n = len(walker().rest)
        assert np.allclose(body.vertices(0.0)[n:], body.vertices(0.9)[n:])
        assert not np.allclose(body.vertices(0.0)[:n], body.vertices(0.9)[:n])

    def test_colour_moves_with_the_surface(self) -> None:
        body = walker()
        corners = body.faces[::50].astype(np.int64)
        colours = body.colours(corners, np.full((len(corners), 3), 1 / 3))
        assert colours.min() >= 0
        assert colours.max() <= 1
        assert len(np.unique(colours.round(3), axis=0)) > 10

    def test_names(self) -> None:
        with pytest.raises(UsageError, match="walker, anny"):
            body_named("ghost")
        with pytest.raises(MediaError, match="nothing.glb"):
            body_named("nothing.glb:Run")


# ---- pictures


def _cast(vertices: np.ndarray, faces: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """The nearest depth along the ray of each pixel, by Moeller and Trumbore's test of every face; inf for none."""
    rows, columns = np.mgrid[: view.height, : view.width]
    fx, fy, cx, cy = view.intrinsics
    local = np.stack([(columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy, np.ones(rows.shape)], -1).reshape(-1, 3)
    rays = local @ view.world_to_camera[:3, :3]
    depth = np.full(len(rays), np.inf)
    for a, b, c in vertices[faces]:
        normal = np.cross(rays, c - a)
        determinant = normal @ (b - a)
        with np.errstate(all="ignore"):
            u = normal @ (view.centre - a) / determinant
            q = np.cross(view.centre - a, b - a)
            v = rays @ q / determinant
            t = (c - a) @ q / determinant
        depth = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < depth), t, depth)
    return depth, rays


class TestPictures:
    def test_against_ray_casting(self) -> None:
        body = walker(detail=6)
        vertices = fitted(body, [0.4], 0.95).vertices(0.4)
        for view in ring(3, 24, 1.3, 1)[1:]:
            depth, _ = _cast(vertices, body.faces, view)
            hits = trace(vertices, body.faces, view)
            assert hits.samples.tolist() == np.flatnonzero(np.isfinite(depth)).tolist()
            places = (vertices[hits.corners] * hits.weights[:, :, None]).sum(1)
            assert np.allclose(view.project(places)[:, 2], depth[hits.samples])

    def test_a_pixel_is_the_mean_of_its_samples(self) -> None:
        body = walker(detail=6)
        view = ring(3, 40, 1.5, 1)[1]
        coarse = draw(body, body.rest, view, 1)
        fine = draw(body, body.rest, view, 3)
        covered = lambda pixels: (255.0 - pixels).sum()  # noqa: E731
        assert covered(fine) == pytest.approx(covered(coarse), rel=0.05)
        assert len(np.unique(fine)) > len(np.unique(coarse))

    def test_nothing_in_sight(self) -> None:
        body, view = walker(detail=6), ring(3, 40, 1.5, 1)[0]
        assert (draw(body, body.rest + np.array([0, 0, 100.0]), view) == 255).all(), "behind the camera"
        assert (draw(body, body.rest + np.array([50.0, 0, 0]), view) == 255).all(), "beside it"

    def test_the_highlight_depends_on_the_view(self) -> None:
        """The same place of the surface has other colours for other cameras, and no place is white."""
        body = walker(detail=6)
        colours = [draw(body, body.rest, view)[draw(body, body.rest, view).min(2) < 255] for view in ring(4, 64, 1.5)]
        assert max(float(c.min(1).max()) for c in colours) < 255
        assert len({round(float(c.mean()), 2) for c in colours}) == 4

    def test_normals_point_outwards(self) -> None:
        points = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
        faces = [[x, y, z] if (x + y + z) % 2 == 0 else [y, x, z] for x in (0, 1) for y in (2, 3) for z in (4, 5)]
        assert np.allclose(vertex_normals(points, np.array(faces)), points)


# ---- glTF


def glb(animations: Sequence[dict[str, Any]] = (), blobs: Sequence[np.ndarray] = (), **changes: Any) -> bytes:
    """A .glb file of a bar from y = 0 to y = 2 on two bones, the second one at y = 1."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 2, 0]], "<f4")
    inverse = np.tile(np.eye(4, dtype="<f4"), (2, 1, 1))
    inverse[1, 3, 1] = -1  # column-major: the last row of the array is the translation
    joints = np.array([[0, 0, 0, 0]] * 2 + [[1, 0, 0, 0]] * 2, "u1")
    weights = np.array([[1, 0, 0, 0]] * 4, "<f4")
    indices = np.array([0, 1, 2, 2, 1, 3], "<u2")
    types = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
    kinds = {"f": 5126, "B": 5121, "H": 5123}
    accessors, views, data = [], [], b""
    for array in (positions, inverse.reshape(2, 16), joints, weights, indices, *blobs):
        width = array.shape[1] if array.ndim > 1 else 1
        accessor = {"bufferView": len(views), "componentType": kinds[array.dtype.char], "count": len(array)}
        accessors.append({**accessor, "type": types[width]})
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        data += array.tobytes() + bytes(-array.nbytes % 4)
    attributes = {"POSITION": 0, "JOINTS_0": 2, "WEIGHTS_0": 3}
    table = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": len(data)}],
        "bufferViews": views,
        "accessors": accessors,
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 4}]}],
        "skins": [{"joints": [1, 2], "inverseBindMatrices": 1}],
        "nodes": [{"mesh": 0, "skin": 0}, {"name": "low", "children": [2]}, {"name": "high", "translation": [0, 1, 0]}],
        "animations": list(animations),
        **changes,
    }
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


def animation(path: str, kind: str = "LINEAR", node: int = 2) -> dict[str, Any]:
    channel = {"sampler": 0, "target": {"node": node, "path": path}}
    return {"name": "move", "channels": [channel], "samplers": [{"input": 5, "output": 6, "interpolation": kind}]}


class TestGltf:
    def body(self, tmp_path: Path, data: bytes) -> Body:
        (tmp_path / "bar.glb").write_bytes(data)
        return gltf_body(tmp_path / "bar.glb")

    def test_at_rest(self, tmp_path: Path) -> None:
        body = self.body(tmp_path, glb())
        assert np.allclose(body.vertices(0.7), body.rest)
        assert body.faces.tolist() == [[0, 1, 2], [2, 1, 3]]

    def test_linear_rotation(self, tmp_path: Path) -> None:
        half = np.sqrt(0.5)
        keys = [np.array([0, 2], "<f4"), np.array([[0, 0, 0, 1], [0, 0, half, half]], "<f4")]  # to 90 degrees about z
        body = self.body(tmp_path, glb([animation("rotation")], keys))
        turned = rotation("z", np.pi / 4) @ np.array([0, 1, 0]) + [0, 1, 0]
        assert np.allclose(body.vertices(1.0)[2], turned)
        assert np.allclose(body.vertices(1.0)[:2], body.rest[:2])
        assert np.allclose(body.vertices(3.0)[2], turned), "it repeats"

    @pytest.mark.parametrize(("kind", "expected"), [("LINEAR", 0.25), ("STEP", 0.0), ("CUBICSPLINE", 0.4375)])
    def test_interpolations(self, tmp_path: Path, kind: str, expected: float) -> None:
        values = np.array([[0, 1, 0], [0, 2, 0]], "<f4")
        if kind == "CUBICSPLINE":  # in-tangent, value, out-tangent; leaves with speed 2, arrives with 0
            values = np.array([[9, 9, 9], [0, 1, 0], [0, 2, 0], [0, 0, 0], [0, 2, 0], [9, 9, 9]], "<f4")
        keys = [np.array([0, 1], "<f4"), values]
        body = self.body(tmp_path, glb([animation("translation", kind)], keys))
        u = 0.25
        assert body.vertices(u)[2, 1] - 2 == pytest.approx(
            expected if kind != "CUBICSPLINE" else -2 * u**3 + 3 * u**2 + 2 * (u**3 - 2 * u**2 + u)
        )

    def test_scale_goes_with_the_bone(self, tmp_path: Path) -> None:
        keys = [np.array([0, 1], "<f4"), np.array([[1, 1, 1], [3, 3, 3]], "<f4")]
        body = self.body(tmp_path, glb([animation("scale")], keys))
        assert np.allclose(body.vertices(0.5)[3], [2, 3, 0])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "draco"),
            ({"nodes": [{"mesh": 0}]}, "no skinned mesh"),
            ({"nodes": [{"mesh": 0, "skin": 0}, {"children": [2]}, {"children": [1]}]}, "tree"),
            ({"skins": [{"joints": [1, 99], "inverseBindMatrices": 1}]}, "nodes"),
            ({"skins": [{"joints": [1], "inverseBindMatrices": 1}]}, "hasn't got"),
            ({"skins": [{"joints": []}]}, "joints"),
            ({"skins": []}, "damaged"),
            ({"bufferViews": [{"buffer": 0, "byteLength": 1 << 40}] * 9}, "ends after"),
            ({"buffers": [{"uri": "../secret", "byteLength": 1}]}, "outside"),
            ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}]}, "without POSITION"),
            ({"meshes": [{"primitives": [{"mode": 1}]}]}, "triangles"),
            ({"meshes": 7}, "damaged"),
            ({"nodes": [{}] * 20000}, "nodes"),
        ],
    )
    def test_damaged_files(self, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(MediaError, match=words):
            self.body(tmp_path, glb(**changes))

    def test_a_huge_count_is_refused_before_anything_is_made(self, tmp_path: Path) -> None:
        accessor = {"bufferView": 0, "componentType": 5126, "count": 1 << 50, "type": "VEC3"}
        with pytest.raises(MediaError, match="ends after"):
            self.body(tmp_path, glb(accessors=[accessor] * 5))

    def test_cut_and_changed(self, tmp_path: Path) -> None:
        """Whatever happens to the bytes, there is a figure or a MediaError."""
        data = glb([animation("scale")], [np.array([0, 1], "<f4"), np.ones((2, 3), "<f4")])
        rng = np.random.default_rng(0)
        for cut in range(0, len(data), 37):
            with pytest.raises(MediaError):
                self.body(tmp_path, data[:cut])
        for _ in range(300):
            changed = bytearray(data)
            for _ in range(3):
                changed[rng.integers(len(data))] = rng.integers(256)
            with contextlib.suppress(MediaError):
                self.body(tmp_path, bytes(changed)).vertices(0.3)

    @pytest.mark.parametrize(("name", "clip"), [("CesiumMan", None), ("Fox", "Run")])
    def test_real_figures(self, name: str, clip: str | None) -> None:
        path = next((p for place in places() if (p := place / "gltf" / f"{name}.glb").is_file()), None)
        if path is None:
            pytest.skip(f"no gltf/{name}.glb in the folders of data")
        figure = read_glb(path, clip)
        body = fitted(gltf_body(path, clip), [0.0, 0.2, 0.4], 0.95)
        assert figure.duration > 0.5
        assert figure.texture is not None
        vertices = body.vertices(0.2)
        assert np.isfinite(vertices).all()
        lengths = [np.linalg.norm(np.diff(body.vertices(t)[body.faces[:, :2]], axis=1), axis=2) for t in (0.0, 0.4)]
        assert np.median(np.abs(lengths[0] / lengths[1] - 1)) < 0.05, "limbs move, but most keep their shape"
        picture = draw(body, vertices, ring(4, 64, 1.5)[0])
        assert 0.02 < (picture.min(2) < 255).mean() < 0.5
        with pytest.raises(MediaError, match="no animation 'Fly'"):
            read_glb(path, "Fly")


@pytest.mark.slow
def test_anny() -> None:
    """The first start of anny takes minutes; it keeps its work for later ones."""
    pytest.importorskip("anny")
    body = fitted(anny_body("wave", 0, {"age": 0.9}), [0.0, 0.5], 0.95)
    assert len(body.rest) == 13718
    assert len(np.unique(body.regions)) == 6
    a, b = body.vertices(0.0), body.vertices(0.5)
    assert 0.02 < np.linalg.norm(a - b, axis=1).max() < 0.8
    assert np.ptp(a[:, 1]) > np.ptp(a[:, 2]), "it stands upright"
    with pytest.raises(UsageError, match="gender"):
        anny_body(shape={"mood": 0.5})
