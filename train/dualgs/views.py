"""The pictures of one frame as tensors, in the order in which a fit takes them; and their visual hull."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import MediaError
from .losses import Box, box_of

__all__ = ["CameraLike", "CaptureLike", "Views", "camera_extent"]

_SPREAD = 1.1  # of the extent over the farthest camera, as in 3D Gaussian splatting


class CameraLike(Protocol):
    """A pinhole camera: axes x right, y down, z forward; focal lengths and centre in pixels."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def intrinsics(self) -> tuple[float, float, float, float]: ...
    @property
    def world_to_camera(self) -> NDArray[np.float64]: ...


class CaptureLike(Protocol):
    """The part of a capture that a fit needs: `datasets.capture.Capture`, or anything like it."""

    @property
    def n_frames(self) -> int: ...
    @property
    def cameras(self) -> Sequence[Any]: ...
    @property
    def held_out(self) -> Sequence[int]: ...
    @property
    def fps(self) -> float: ...
    def image(self, frame: int, view: int) -> NDArray[np.uint8]: ...


class Views:
    """The pictures of a frame that some cameras took, as uint8 tensors, and the box of each around its subject.

    white: the background. Memory: three bytes a pixel.
    """

    def __init__(self, capture: CaptureLike, frame: int, views: Sequence[int], device: torch.device | str) -> None:
        self.frame, self.numbers = frame, tuple(views)
        self.cameras = [capture.cameras[view] for view in views]
        self.images: list[Tensor] = []
        self.boxes: list[Box] = []
        for view, camera in zip(views, self.cameras, strict=True):
            image = torch.from_numpy(np.array(capture.image(frame, view)))
            if image.shape != (camera.height, camera.width, 3) or image.dtype != torch.uint8:
                shape = tuple(image.shape)
                raise MediaError(
                    f"frame {frame}, view {view}: a picture of {image.dtype} {shape}; its camera has "
                    f"{camera.width} x {camera.height} pixels"
                )
            self.images.append(image.to(device))
            self.boxes.append(box_of((image < 255).any(2)))

    def __len__(self) -> int:
        return len(self.images)

    def target(self, view: int) -> Tensor:
        """The picture (H, W, 3) as float32, 0 to 1."""
        return self.images[view].float() / 255

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Views without end, each once in a round of all, shuffled."""
        while True:
            yield from torch.randperm(len(self), generator=generator).tolist()

    def inside(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Tells which points (N, 3) lie in the visual hull, and the mean colour (N, 3) of their pixels, 0 for others.

        A point is outside if a picture shows plain white where it would be seen; pictures that it isn't in don't count,
        but two must show it.
        """
        rows = torch.arange(len(points), device=points.device)
        for camera, image in zip(self.cameras, self.images, strict=True):
            pixels, seen = _pixels(points[rows], camera, image)
            rows = rows[~seen | (pixels < 255).any(1)]
        count = points.new_zeros(len(rows))
        colours = points.new_zeros((len(points), 3))
        for camera, image in zip(self.cameras, self.images, strict=True):
            pixels, seen = _pixels(points[rows], camera, image)
            colours[rows] += torch.where(seen[:, None], pixels.float() / 255, 0.0)
            count += seen
        colours[rows] /= count.clamp_min(1)[:, None]
        kept = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        kept[rows] = count >= 2
        return kept, colours


def _pixels(points: Tensor, camera: CameraLike, image: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels (N, 3) that points are seen in, and which of the points are in the picture."""
    x, y, depth = _projected(points, camera)
    seen = (depth > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return image[y.clamp(0, camera.height - 1).long(), x.clamp(0, camera.width - 1).long()], seen


def _projected(points: Tensor, camera: CameraLike) -> tuple[Tensor, Tensor, Tensor]:
    fx, fy, cx, cy = camera.intrinsics
    matrix = torch.as_tensor(np.asarray(camera.world_to_camera), dtype=points.dtype, device=points.device)
    x, y, z = (points @ matrix[:3, :3].T + matrix[:3, 3]).unbind(1)
    depth = z.clamp_min(1e-6)
    return fx * x / depth + cx, fy * y / depth + cy, z


def camera_extent(cameras: Sequence[CameraLike]) -> float:
    """The extent of a scene: 1.1 times the distance of the farthest camera from the cameras' mean."""
    matrices = np.stack([np.asarray(camera.world_to_camera, np.float64) for camera in cameras])
    centres = -np.einsum("nji,nj->ni", matrices[:, :3, :3], matrices[:, :3, 3])
    return max(1e-3, _SPREAD * float(np.linalg.norm(centres - centres.mean(0), axis=1).max()))
