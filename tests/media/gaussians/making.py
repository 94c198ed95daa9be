"""Random Gaussians for tests, and a writer of SOG files, which the package itself only reads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codec.datasets.places import places
from codec.media.gaussians.values import Gaussians, Table, coefficients_of

FIELDS = ("positions", "scales", "rotations", "opacities", "harmonics")


def real(name: str) -> Path:
    """A real file of `splats` in one of the usual places for data."""
    for place in places():
        if (place / "splats" / name).is_file():
            return place / "splats" / name
    pytest.skip(f"splats/{name} isn't there: set CODEC_DATA")


def scene(n: int = 40, degree: int = 2, seed: int = 0) -> Gaussians:
    """Random Gaussians in a ball of some units, as a scene may have them."""
    rng = np.random.default_rng(seed)
    arrays = (
        rng.normal(0, 1, (n, 3)),
        rng.normal(-4, 1, (n, 3)),
        rng.normal(0, 1, (n, 4)),
        rng.normal(1, 2, n),
        rng.normal(0, 0.3, (n, coefficients_of(degree), 3)),
    )
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def assert_same(left: Gaussians, right: Gaussians) -> None:
    """The same bits in all arrays."""
    for name in FIELDS:
        a, b = getattr(left, name), getattr(right, name)
        assert a.shape == b.shape and a.tobytes() == b.tobytes(), name


def assert_same_table(left: Table, right: Table) -> None:
    assert (left.form, left.groups, dict(left.detail)) == (right.form, right.groups, dict(right.detail))
    assert [(c.role, c.bits) for c in left.columns] == [(c.role, c.bits) for c in right.columns]
    for a, b in zip(left.columns, right.columns, strict=True):
        assert np.array_equal(a.values, b.values), a.role


# ---- SOG


def webp(pixels: NDArray[Any], width: int = 0) -> bytes:
    """A lossless WebP of n pixels of up to 4 channels, in rows of some width; what is left over is 255."""
    n, channels = pixels.shape
    width = width or -(-int(np.ceil(np.sqrt(n))) // 4) * 4
    held = np.full((-(-n // width) * width, 4), 255, np.uint8)
    held[:n, :channels] = pixels
    stream = io.BytesIO()
    Image.fromarray(held.reshape(-1, width, 4)).save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def sog_parts(n: int = 40, degree: int = 2, version: int = 2, seed: int = 0) -> dict[str, bytes]:
    """The parts of a SOG file of random integers, by their names."""
    rng = np.random.default_rng(seed)
    means = rng.integers(0, 65536, (n, 3))
    quats = np.concatenate([rng.integers(64, 192, (n, 3)), rng.integers(252, 256, (n, 1))], axis=1)
    book = np.sort(rng.normal(-3, 2, 256)).astype(np.float32).tolist()
    parts = {
        "means_l.webp": webp(means & 255),
        "means_u.webp": webp(means >> 8),
        "quats.webp": webp(quats),
        "scales.webp": webp(rng.integers(0, 256, (n, 3))),
        "sh0.webp": webp(rng.integers(0, 256, (n, 4))),
    }
    ends = {"mins": [-1.5, 0, -2.25], "maxs": [1.0, 0, 2]}
    meta: dict[str, Any] = {"means": {**ends, "files": ["means_l.webp", "means_u.webp"]}}
    for name, width in (("scales", 3), ("sh0", 4)):
        levels = {"codebook": book} if version == 2 else {"mins": [-7.0] * width, "maxs": [1.0, 2, 3, 4][:width]}
        meta[name] = {**levels, "files": [f"{name}.webp"]}
    meta["quats"] = {"files": ["quats.webp"]}
    if version == 2:
        meta |= {"version": 2, "count": n, "antialias": True}
    else:
        meta["means"]["shape"] = [n, 3]
    if degree:
        k, entries = coefficients_of(degree) - 1, 70
        label = rng.integers(0, entries, (n, 1))
        parts["shN_labels.webp"] = webp(np.concatenate([label & 255, label >> 8], axis=1))
        parts["shN_centroids.webp"] = webp(rng.integers(0, 256, (entries * k, 3)), 64 * k)
        levels = {"codebook": book, "count": entries, "bands": degree} if version == 2 else {"mins": -0.5, "maxs": 0.75}
        meta["shN"] = {**levels, "files": ["shN_centroids.webp", "shN_labels.webp"]}
    return {**parts, "meta.json": json.dumps(meta).encode()}


def bundle(parts: Mapping[str, bytes]) -> bytes:
    """A ZIP file of parts, stored as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def changed_meta(parts: Mapping[str, bytes], **changes: Any) -> dict[str, bytes]:
    """The parts with fields of their meta.json changed."""
    meta = json.loads(parts["meta.json"]) | changes
    return {**parts, "meta.json": json.dumps(meta).encode()}
