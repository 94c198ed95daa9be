"""Cameras: where they look, turns around a subject, transforms.json of others, and what can't be a camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.codecs.layers.splatting.camera import Camera, from_transforms, look_at, orbit, read_transforms
from codec.errors import CodecError, MediaError, UsageError


def pixel_of(camera: Camera, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """Where a point is in the image of a camera, and its depth."""
    x, y, z = camera.world_to_camera[:3, :3] @ np.array(point) + camera.world_to_camera[:3, 3]
    fx, fy, cx, cy = camera.intrinsics
    return fx * x / z + cx, fy * y / z + cy, z


class TestLookAt:
    def test_the_target_is_in_the_middle_and_up_is_up(self) -> None:
        camera = look_at((1, 2, 5), (0, 1, 0), 80, 60)
        assert pixel_of(camera, (0, 1, 0)) == pytest.approx((40, 30, np.sqrt(27)))
        assert pixel_of(camera, (0, 1.2, 0))[1] < 30
        assert pixel_of(look_at((0, 0, 4), (0, 0, 0), 80, 60), (1, 0, 0))[0] > 40  # seen from z, x is on the right
        np.testing.assert_allclose(camera.centre, (1, 2, 5), atol=1e-12)

    def test_the_field_of_view_is_that_of_the_shorter_side(self) -> None:
        camera = look_at((0, 0, 1), (0, 0, 0), 200, 100, fov=90)
        assert pixel_of(camera, (0, 1, 0))[1] == pytest.approx(0)

    @pytest.mark.parametrize("eye", [(0, 3, 0), (0, -3, 0)])
    def test_straight_down_and_up(self, eye: tuple[float, float, float]) -> None:
        assert pixel_of(look_at(eye, (0, 0, 0), 10, 10), (0, 0, 0)) == pytest.approx((5, 5, 3))

    @pytest.mark.parametrize(
        ("eye", "options"), [((0, 0, 0), {}), ((0, 0, 1), {"up": (0, 0, 0)}), ((0, 0, 1), {"fov": 180})]
    )
    def test_what_is_no_view(self, eye: Any, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            look_at(eye, (0, 0, 0), 10, 10, **options)


class TestOrbit:
    @pytest.mark.parametrize("up", [(0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
    def test_one_turn(self, up: tuple[float, float, float]) -> None:
        middle = np.array([0.5, -1, 2])
        cameras = orbit(middle, 3, 8, 20, 20, up=up, elevation=20)
        for camera in cameras:
            assert np.linalg.norm(camera.centre - middle) == pytest.approx(3)
            assert (camera.centre - middle) @ np.array(up) == pytest.approx(3 * np.sin(np.radians(20)))
            assert pixel_of(camera, tuple(middle)) == pytest.approx((10, 10, 3))
        steps = [np.linalg.norm(a.centre - b.centre) for a, b in zip(cameras, cameras[1:] + cameras[:1], strict=True)]
        np.testing.assert_allclose(steps, steps[0])

    def test_the_first_is_in_front(self) -> None:
        np.testing.assert_allclose(orbit((0, 0, 0), 2, 4, 9, 9, elevation=0)[0].centre, (0, 0, 2), atol=1e-12)

    @pytest.mark.parametrize(("radius", "n"), [(0, 3), (float("nan"), 3), (1, 0)])
    def test_what_is_no_orbit(self, radius: float, n: int) -> None:
        with pytest.raises(UsageError):
            orbit((0, 0, 0), radius, n, 9, 9)


class TestResized:
    def test_the_whole_view_fits(self) -> None:
        camera = look_at((0, 0, 1), (0, 0, 0), 100, 50, fov=90).resized(50, 50)
        assert (camera.width, camera.height) == (50, 50)
        assert pixel_of(camera, (0, 0, 0)) == pytest.approx((25, 25, 1))
        assert pixel_of(camera, (2, 0, 0))[0] == pytest.approx(50)

    def test_nothing_is_no_size(self) -> None:
        with pytest.raises(UsageError):
            look_at((0, 0, 1), (0, 0, 0), 100, 50).resized(0, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0},
        {"width": 1 << 20, "height": 1 << 20},
        {"intrinsics": (0.0, 1.0, 0.0, 0.0)},
        {"intrinsics": (float("inf"), 1.0, 0.0, 0.0)},
        {"world_to_camera": np.eye(3)},
        {"world_to_camera": 2 * np.eye(4)},
        {"world_to_camera": np.full((4, 4), np.nan)},
    ],
)
def test_what_is_no_camera(changes: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"width": 4, "height": 4, "intrinsics": (4.0, 4.0, 2.0, 2.0), "world_to_camera": np.eye(4)}
    with pytest.raises(UsageError):
        Camera(**{**plain, **changes})


# ---- transforms.json

LOOKING_BACK = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]  # of OpenGL: at (0.5, 0, 2), along -z
FILE: dict[str, Any] = {"w": 40, "h": 30, "fl_x": 50, "frames": [{"file_path": "0", "transform_matrix": LOOKING_BACK}]}


class TestTransforms:
    def test_axes_are_turned(self) -> None:
        (camera,) = from_transforms(FILE)
        np.testing.assert_allclose(camera.centre, (0.5, 0, 2), atol=1e-12)
        assert camera.intrinsics == (50, 50, 20, 15)
        assert pixel_of(camera, (0.5, 0, 0)) == pytest.approx((20, 15, 2))
        assert pixel_of(camera, (0.6, 0.1, 0)) == pytest.approx((22.5, 12.5, 2))

    def test_what_a_frame_says_goes_before_the_rest(self) -> None:
        frame = {"transform_matrix": LOOKING_BACK[:3], "w": 20, "cx": 3, "fl_y": 25}
        assert from_transforms({**FILE, "frames": [frame]})[0].intrinsics == (50, 25, 3, 15)

    def test_the_angle_of_the_camera(self) -> None:
        words = {key: value for key, value in FILE.items() if key != "fl_x"} | {"camera_angle_x": np.pi / 2}
        assert from_transforms(words)[0].intrinsics[0] == pytest.approx(20)

    @pytest.mark.parametrize(
        "words",
        [
            *({}, [], {"frames": []}, {"frames": [3]}, {"frames": [{}]}),
            {**FILE, "w": 0},
            {**FILE, "w": "wide"},
            {**FILE, "fl_x": float("nan")},
            {**FILE, "frames": [{"transform_matrix": [[1, 2], [3]]}]},
            {**FILE, "frames": [{"transform_matrix": np.zeros((4, 4)).tolist()}]},
            {**FILE, "frames": [{"transform_matrix": None}]},
        ],
    )
    def test_what_is_no_such_file(self, words: Any, tmp_path: Path) -> None:
        with pytest.raises(MediaError):
            from_transforms(words)
        path = tmp_path / "transforms.json"
        path.write_text(json.dumps(words))
        with pytest.raises(MediaError, match=r"transforms\.json"):
            read_transforms(path)

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff\x00", b"[" * 100_000])
    def test_what_is_no_json(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "cameras.json").write_bytes(data)
        with pytest.raises(CodecError):
            read_transforms(tmp_path / "cameras.json")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match="No such file"):
            read_transforms(tmp_path / "cameras.json")

    def test_a_file_that_is(self, tmp_path: Path) -> None:
        (tmp_path / "cameras.json").write_text(json.dumps(FILE))
        assert read_transforms(tmp_path / "cameras.json")[0].intrinsics == (50, 50, 20, 15)
