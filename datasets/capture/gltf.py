"""Skinned figures of binary glTF 2.0 files (.glb): the mesh, its skin and an animation, with no other library.

Specification: Khronos, "glTF 2.0", sections 3.7.3 (skins), 3.11 and appendix C (animations). Not read: sparse and
quantised accessors, Draco, morph targets, several skins: MediaError says so.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import MediaError
from ...files import naming, read_bytes

__all__ = ["Skinned", "read_glb"]

Array = NDArray[np.float64]

MAX_BYTES: Final = 1 << 28
MAX_NODES: Final = 1 << 14
_COMPONENTS: Final = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS: Final = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass(frozen=True, eq=False)
class Skinned:
    """A figure and its motion. positions: (V, 3), as they are in the mesh. faces: (F, 3). joints, weights: (V, 4).

    transforms: from the mesh to the world, (J, 4, 4), at a time in seconds; it repeats after `duration`. names: of the
    joints. uv: (V, 2) and texture: (h, w, 3) uint8, where the file has them.
    """

    positions: Array
    faces: NDArray[np.int32]
    joints: NDArray[np.int32]
    weights: Array
    transforms: Callable[[float], Array]
    duration: float
    names: tuple[str, ...]
    uv: Array | None = None
    texture: NDArray[np.uint8] | None = None


def read_glb(path: str | os.PathLike[str], animation: str | None = None) -> Skinned:
    """The skinned figure of a .glb file with one of its animations, by name (None: the first).

    MediaError for what isn't one, is damaged, or needs what isn't read here.
    """
    data = read_bytes(path, MAX_BYTES)
    with naming(path):
        try:
            return _Reader(data).figure(animation)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, struct.error, RecursionError) as error:
            raise MediaError(f"this glTF file is damaged: {type(error).__name__}: {error}") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        if len(data) < 20 or data[:4] != b"glTF":
            raise MediaError("not a binary glTF file: expected .glb (convert a .gltf with any glTF tool)")
        version, length = struct.unpack_from("<II", data, 4)
        if version != 2 or length > len(data):
            raise MediaError(f"glTF version {version} of {length} bytes; expected version 2 and {len(data)} bytes")
        n_json, tag = struct.unpack_from("<I4s", data, 12)
        if tag != b"JSON" or 20 + n_json > length:
            raise MediaError("the first chunk of this glTF file isn't its JSON")
        self.json: dict[str, Any] = json.loads(data[20 : 20 + n_json])
        self.bytes = b""
        if 28 + n_json <= length:
            n_bytes, tag = struct.unpack_from("<I4s", data, 20 + n_json)
            if tag == b"BIN\0":
                self.bytes = data[28 + n_json : 28 + n_json + n_bytes]
        needed = self.json.get("extensionsRequired") or []
        if needed:
            raise MediaError(f"this glTF file needs {', '.join(map(str, needed))}, which isn't read")
        self.nodes: list[dict[str, Any]] = self.json.get("nodes", [])
        if len(self.nodes) > MAX_NODES:
            raise MediaError(f"{len(self.nodes)} nodes; expected at most {MAX_NODES}")

    # ---- values

    def _view(self, index: int) -> tuple[bytes, int]:
        """The bytes of a buffer view, and its stride (0: none)."""
        view = self.json["bufferViews"][_index(index)]
        start, size = _index(view.get("byteOffset", 0)), _index(view["byteLength"])
        if view["buffer"] != 0 or self.json["buffers"][0].get("uri") is not None:
            raise MediaError("data outside of this file; expected everything in one .glb")
        if start + size > len(self.bytes):
            raise MediaError("a buffer view ends after the file")
        return self.bytes[start : start + size], _index(view.get("byteStride", 0))

    def accessor(self, index: int) -> NDArray[Any]:
        """The values of an accessor: (count, components), or (count,) of scalars; normalised integers as floats."""
        accessor = self.json["accessors"][_index(index)]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise MediaError("a sparse accessor, which isn't read")
        data, stride = self._view(accessor["bufferView"])
        kind, width = np.dtype(_COMPONENTS[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        count, start = _index(accessor["count"]), _index(accessor.get("byteOffset", 0))
        stride = stride or kind.itemsize * width
        if count and start + (count - 1) * stride + kind.itemsize * width > len(data):
            raise MediaError("an accessor ends after its buffer view")
        values = np.ndarray((count, width), kind, data, start, (stride, kind.itemsize)).copy()
        if accessor.get("normalized") and kind.kind in "iu":
            values = np.maximum(values / float(np.iinfo(kind).max), -1.0)
        if kind.kind == "f" and not np.isfinite(values).all():
            raise MediaError("an accessor holds values that aren't finite")
        return values[:, 0] if width == 1 else values

    # ---- the figure

    def figure(self, animation: str | None) -> Skinned:
        holder = next((node for node in self.nodes if "mesh" in node and "skin" in node), None)
        if holder is None:
            raise MediaError("no skinned mesh in this glTF file: a figure with bones is needed")
        skin = self.json["skins"][_index(holder["skin"])]
        bones = [_index(joint) for joint in skin["joints"]]
        inverse = np.tile(np.eye(4), (len(bones), 1, 1))
        if "inverseBindMatrices" in skin:
            stored = self.accessor(skin["inverseBindMatrices"]).astype(float)
            inverse = stored.reshape(-1, 4, 4).transpose(0, 2, 1)[: len(bones)]
        if len(inverse) != len(bones) or max(bones, default=0) >= len(self.nodes) or not bones:
            raise MediaError("a skin without as many matrices as joints, or with joints that aren't nodes")
        parts = self.json["meshes"][_index(holder["mesh"])]["primitives"]
        positions, faces, joints, weights, uv = _merged([self._part(part) for part in parts])
        if len(positions) == 0 or joints.max() >= len(bones):
            raise MediaError("a mesh without vertices, or that hangs on joints which its skin hasn't got")
        motion = self._motion(animation)
        order = self._order()

        def transforms(seconds: float) -> Array:
            world = self._worlds(order, motion, seconds)
            return world[bones] @ inverse

        duration = max((channel.times[-1] for channel in motion), default=0.0)
        names = tuple(str(self.nodes[bone].get("name", bone)) for bone in bones)
        texture = self._texture(parts[0]) if uv is not None else None
        return Skinned(positions, faces, joints, weights, transforms, float(duration), names, uv, texture)

    def _part(self, part: dict[str, Any]) -> tuple[Any, ...]:
        if part.get("mode", 4) != 4:
            raise MediaError("a mesh of points, lines or strips; expected triangles")
        attributes = part["attributes"]
        if not {"POSITION", "JOINTS_0", "WEIGHTS_0"} <= set(attributes):
            raise MediaError("a mesh without POSITION, JOINTS_0 and WEIGHTS_0")
        positions = self.accessor(attributes["POSITION"]).astype(float)
        n = len(positions)
        faces = self.accessor(part["indices"]) if "indices" in part else np.arange(n)
        faces = faces[: len(faces) // 3 * 3].reshape(-1, 3).astype(np.int64)
        joints = self.accessor(attributes["JOINTS_0"]).astype(np.int32)
        weights = self.accessor(attributes["WEIGHTS_0"]).astype(float)
        uv = self.accessor(attributes["TEXCOORD_0"]).astype(float) if "TEXCOORD_0" in attributes else None
        if positions.shape != (n, 3) or joints.shape != (n, 4) or weights.shape != (n, 4):
            raise MediaError("attributes of a mesh that differ in number")
        if (uv is not None and uv.shape != (n, 2)) or (faces.size and faces.max() >= n) or joints.min(initial=0) < 0:
            raise MediaError("attributes of a mesh that differ in number, or an index of a vertex that isn't there")
        total = weights.sum(1, keepdims=True)
        weights = np.where(total > 0, weights / np.where(total > 0, total, 1), [1.0, 0, 0, 0])
        return positions, faces, joints, weights, uv

    def _texture(self, part: dict[str, Any]) -> NDArray[np.uint8] | None:
        """The base colours of a primitive as a picture; None if it has none, or none that can be read."""
        from PIL import Image

        if "material" not in part:
            return None
        material = self.json["materials"][_index(part["material"])]
        place = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if place is None or place.get("texCoord", 0) != 0:
            return None
        image = self.json["images"][_index(self.json["textures"][_index(place["index"])]["source"])]
        data, _ = self._view(image["bufferView"])
        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > 1 << 26:
                    raise MediaError(f"a texture of {picture.width}x{picture.height}; expected at most 8192x8192")
                return np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(f"a texture that can't be read: {error}") from None

    # ---- nodes in time

    def _order(self) -> list[tuple[int, int]]:
        """Each node with its parent (-1: none), parents first."""
        parents = {_index(child): i for i, node in enumerate(self.nodes) for child in node.get("children", [])}
        order: list[tuple[int, int]] = []
        waiting = [(i, -1) for i in range(len(self.nodes)) if i not in parents]
        while waiting:
            node, parent = waiting.pop()
            order.append((node, parent))
            if len(order) > len(self.nodes):
                break
            waiting += [(_index(child), node) for child in self.nodes[node].get("children", [])]
        if len(order) != len(self.nodes):
            raise MediaError("the nodes of this glTF file aren't a tree")
        return order

    def _motion(self, name: str | None) -> list[_Channel]:
        animations = self.json.get("animations", [])
        names = [str(animation.get("name", i)) for i, animation in enumerate(animations)]
        if name is not None and name not in names:
            raise MediaError(f"no animation {name!r}; this file has {', '.join(names) or 'none'}")
        if not animations:
            return []
        chosen = animations[names.index(name) if name is not None else 0]
        channels = []
        for channel in chosen["channels"]:
            path, node = channel["target"]["path"], channel["target"].get("node")
            if path in ("translation", "rotation", "scale") and node is not None:
                sampler = chosen["samplers"][_index(channel["sampler"])]
                times, values = self.accessor(sampler["input"]), self.accessor(sampler["output"])
                kind = sampler.get("interpolation", "LINEAR")
                channels.append(_Channel(_index(node), path, kind, times.astype(float), values.astype(float)))
        return channels

    def _worlds(self, order: list[tuple[int, int]], motion: list[_Channel], seconds: float) -> Array:
        moved: dict[int, dict[str, Array]] = {}
        duration = max((channel.times[-1] for channel in motion), default=0.0)
        time = seconds % duration if duration > 0 else 0.0
        for channel in motion:
            moved.setdefault(channel.node, {})[channel.path] = channel.at(time)
        worlds = np.empty((len(self.nodes), 4, 4))
        for node, parent in order:
            local = _local(self.nodes[node], moved.get(node))
            worlds[node] = local if parent < 0 else worlds[parent] @ local
        return worlds


class _Channel:
    """A property of a node in time."""

    def __init__(self, node: int, path: str, kind: str, times: Array, values: Array) -> None:
        width = 4 if path == "rotation" else 3
        per_key = 3 if kind == "CUBICSPLINE" else 1
        if kind not in ("LINEAR", "STEP", "CUBICSPLINE"):
            raise MediaError(f"an animation with the interpolation {kind!r}; expected LINEAR, STEP or CUBICSPLINE")
        if times.ndim != 1 or not len(times) or (np.diff(times) <= 0).any():
            raise MediaError("an animation whose times don't rise")
        if values.shape != (per_key * len(times), width):
            raise MediaError("an animation whose values differ in number from its times")
        self.node, self.path, self.kind, self.times = node, path, kind, times
        self.values = values.reshape(len(times), per_key, width)

    def at(self, time: float) -> Array:
        """The value at a time; before the first key and after the last one it stays."""
        times = self.times
        time = float(np.clip(time, times[0], times[-1]))
        left = max(0, min(int(np.searchsorted(times, time, "right")) - 1, len(times) - 2))
        middle = 1 if self.kind == "CUBICSPLINE" else 0
        if len(times) == 1 or time >= times[-1]:
            return _unit(self.values[-1, middle], self.path)
        a, b = self.values[left], self.values[left + 1]
        length = times[left + 1] - times[left]
        u = (time - times[left]) / length
        if self.kind == "STEP":
            value = a[0]
        elif self.kind == "LINEAR":
            value = _slerp(a[0], b[0], u) if self.path == "rotation" else (1 - u) * a[0] + u * b[0]
        else:
            cube, square = u**3, u**2
            value = (2 * cube - 3 * square + 1) * a[1] + (cube - 2 * square + u) * length * a[2]
            value = value + (-2 * cube + 3 * square) * b[1] + (cube - square) * length * b[0]
        return _unit(value, self.path)


def _unit(value: Array, path: str) -> Array:
    return value / max(float(np.linalg.norm(value)), 1e-12) if path == "rotation" else value


def _slerp(a: Array, b: Array, u: float) -> Array:
    cosine = float(a @ b)
    if cosine < 0:
        b, cosine = -b, -cosine
    if cosine > 0.9995:
        return (1 - u) * a + u * b
    angle = np.arccos(min(cosine, 1.0))
    return (np.sin((1 - u) * angle) * a + np.sin(u * angle) * b) / np.sin(angle)


def _local(node: dict[str, Any], moved: dict[str, Array] | None) -> Array:
    if "matrix" in node and not moved:
        return np.array(node["matrix"], float).reshape(4, 4).T
    moved = moved or {}
    x, y, z, w = moved.get("rotation", np.array(node.get("rotation", [0, 0, 0, 1]), float))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    out = np.eye(4)
    out[:3, :3] = turn * moved.get("scale", np.array(node.get("scale", [1, 1, 1]), float))
    out[:3, 3] = moved.get("translation", np.array(node.get("translation", [0, 0, 0]), float))
    return out


def _merged(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Primitives as one mesh; texture coordinates only where all have them."""
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    faces = np.concatenate([part[1] + start for part, start in zip(parts, starts[:-1], strict=True)]).astype(np.int32)
    uv = None if any(part[4] is None for part in parts) else np.concatenate([part[4] for part in parts])
    positions, joints, weights = (np.concatenate([part[i] for part in parts]) for i in (0, 2, 3))
    return positions, faces, joints, weights, uv


def _index(value: Any) -> int:
    """A number of a glTF file that counts something. MediaError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MediaError(f"{value!r} where this glTF file must have a whole number, 0 or more")
    return value
