"""SOG: bundles and folders of both versions, read to the values of the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media.gaussians import sog
from codec.media.gaussians.exact import sigmoid
from codec.media.gaussians.forms import check, gaussians_of

from .making import assert_same, assert_same_table, bundle, changed_meta, sog_parts, webp


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("degree", range(4))
def test_a_folder_and_a_bundle_are_the_same(tmp_path: Path, degree: int, version: int) -> None:
    parts = sog_parts(45, degree, version)
    table, notes = sog.read(bundle(parts))
    check(table)
    assert (len(table), table.detail["degree"], notes) == (45, degree, ())
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    assert_same_table(sog.read_folder(tmp_path)[0], table)
    assert np.isfinite(gaussians_of(table).positions).all()


def test_values_of_version_2() -> None:
    """By the formulas of the specification, in plain Python."""
    parts = sog_parts(45, 2)
    meta: dict[str, Any] = json.loads(parts["meta.json"])
    table, _ = sog.read(bundle(parts))
    g, i = gaussians_of(table), 31
    low, high = meta["means"]["mins"], meta["means"]["maxs"]
    for axis, value in enumerate(table.column("position").values[i].tolist()):
        v = low[axis] + ((high[axis] - low[axis]) or 1) * value / 65535
        assert g.positions[i, axis] == pytest.approx(np.sign(v) * (np.exp(abs(v)) - 1), rel=1e-6)
    assert g.scales[i].tolist() == [meta["scales"]["codebook"][v] for v in table.column("scale").values[i]]
    assert g.harmonics[i, 0].tolist() == [meta["sh0"]["codebook"][v] for v in table.column("colour").values[i]]
    assert sigmoid(g.opacities[i]) == pytest.approx(table.column("opacity").values[i, 0] / 255, abs=2e-6)
    tag, *rest = table.column("rotation").values[i].tolist()
    small = [(value / 255 * 2 - 1) / 2**0.5 for value in rest]
    assert g.rotations[i] == pytest.approx(
        [*small[:tag], max(0, 1 - sum(v * v for v in small)) ** 0.5, *small[tag:]], abs=1e-6
    )
    label = table.column("label").values[i, 0]
    palette = np.frombuffer(table.detail["palette"], np.uint8).reshape(70, 8, 3)  # type: ignore[call-overload]
    assert g.harmonics[i, 1:].tolist() == np.array(meta["shN"]["codebook"])[palette[label]].tolist()
    assert table.detail["antialias"] is True


def test_values_of_version_1() -> None:
    table, _ = sog.read(bundle(sog_parts(45, 1, 1)))
    g, i = gaussians_of(table), 13
    t = table.column("scale").values[i] / 255
    assert g.scales[i] == pytest.approx(-7 + np.array([8, 9, 10]) * t, rel=1e-6)
    assert g.opacities[i] == pytest.approx(-7 + 11 * table.column("opacity").values[i, 0] / 255, abs=1e-6)
    palette = np.frombuffer(table.detail["palette"], np.uint8).reshape(-1, 3, 3)  # type: ignore[call-overload]
    held = palette[table.column("label").values[i, 0]]
    assert g.harmonics[i, 1:] == pytest.approx(-0.5 + 1.25 * held / 255, abs=1e-6)


def test_pictures_may_be_named_otherwise_and_lie_in_any_order() -> None:
    parts = sog_parts(45, 0)
    meta = json.loads(parts["meta.json"])
    meta["quats"]["files"] = ["rotation.webp"]
    other = {"meta.json": json.dumps(meta).encode(), "rotation.webp": parts["quats.webp"]}
    other |= {name: data for name, data in parts.items() if name not in ("quats.webp", "meta.json")}
    assert_same(gaussians_of(sog.read(bundle(other))[0]), gaussians_of(sog.read(bundle(parts))[0]))


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"version": 3}, "version 3; expected 1 or 2"),
            ({"count": 0}, "has 0 as the number"),
            ({"count": True}, "has True"),
            ({"count": 1 << 40}, "as the number"),
            ({"count": 1 << 23}, "can't be in a file"),
            ({"count": 46000}, "fewer pixels"),
            ({"means": []}, "no object 'means'"),
            ({"quats": {"files": []}}, "names no 1 files"),
            ({"quats": {"files": ["none.webp"]}}, "lacks a part"),
            ({"quats": {"files": ["sh0.webp"]}}, "4. invalid rotations"),
            ({"scales": {"files": ["scales.webp"], "codebook": [1] * 255}}, "256 numbers as scales.codebook"),
            ({"scales": {"files": ["scales.webp"], "codebook": ["x"] * 256}}, "256 numbers"),
            ({"scales": {"files": ["scales.webp"], "codebook": [1e31] * 256}}, "256 numbers"),
            ({"shN": {"files": ["quats.webp", "shN_labels.webp"], "bands": 2, "count": 64}}, "256 numbers as shN"),
        ],
    )
    def test_meta(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(MediaError, match=words):
            sog.read(bundle(changed_meta(sog_parts(45, 2), **changes)))

    def test_the_palette(self) -> None:
        parts = sog_parts(45, 2)
        part = json.loads(parts["meta.json"])["shN"]
        for changes, words in (
            ({"bands": 1}, "palette of 70 entries has a picture of 512"),
            ({"bands": 4}, "degree 4"),
            ({"count": 129}, "palette of 129 entries"),
            ({"count": 3}, "the label .* in a palette of 3"),
        ):
            with pytest.raises(MediaError, match=words):
                sog.read(bundle(changed_meta(parts, shN={**part, **changes})))

    def test_texts_that_are_no_json(self) -> None:
        for text in (b"", b"{", b"[1]", b"[" * 100_000, b'{"version": NaN}', b"\xff"):
            with pytest.raises(MediaError):
                sog.read(bundle({**sog_parts(9, 0), "meta.json": text}))

    def test_names_that_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "secret.webp").write_bytes(webp(np.zeros((45, 4))))
        folder = tmp_path / "scene"
        folder.mkdir()
        for name in ("../secret.webp", str(tmp_path / "secret.webp"), ".", "", "a/../../secret.webp"):
            for part, data in changed_meta(sog_parts(45, 0), scales={"files": [name], "codebook": [1] * 256}).items():
                (folder / part).write_bytes(data)
            with pytest.raises(MediaError, match="expected names of files in it"):
                sog.read_folder(folder)

    def test_a_part_that_is_missing_in_a_folder(self, tmp_path: Path) -> None:
        for part, data in sog_parts(45, 0).items():
            (tmp_path / part).write_bytes(data)
        (tmp_path / "quats.webp").unlink()
        with pytest.raises(MediaError, match=r"quats.webp: can't be read"):
            sog.read_folder(tmp_path)
