"""A tree that is read, described, checked and built again is the same tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from codec.datasets.places import places
from codec.errors import StreamError
from codec.media.hdf5 import Tree, build, read_tree


def everything(path: Path) -> Path:
    """A file with one of each kind of thing that is kept."""
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["title"] = "hello"
        file.attrs["numbers"] = np.arange(3, dtype=">i2")
        file.attrs["yes"] = True
        file.attrs["fixed"] = np.bytes_(b"abc")
        file.attrs["words"] = ["a", "ü", ""]
        file.attrs["nothing"] = h5py.Empty("f4")
        file.attrs["kind"] = np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", ">f8")])
        group = file.create_group("run/deep")
        group.attrs["x"] = 1.5
        options: dict[str, Any] = {"chunks": (1, 5, 6), "compression": "gzip", "shuffle": True, "fletcher32": True}
        u = group.create_dataset("u", (4, 5, 6), "f4", maxshape=(None, 5, 6), fillvalue=-9.0, **options)
        time = file.create_dataset("time", data=np.arange(4.0))
        time.make_scale("t")
        u.dims[0].attach_scale(time)
        u.dims[0].label = "T"
        u.attrs["from"] = time.ref
        file["alias"], file["soft"], file["out"] = u, h5py.SoftLink("/run"), h5py.ExternalLink("other.h5", "/x")
        file["words"] = np.array(["ab", "c"], dtype=h5py.string_dtype())
        file["pairs"] = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
        file["scalar"] = 3
        file["empty"] = h5py.Empty("i2")
        file["none"] = np.zeros((0, 3))
        names = h5py.enum_dtype({"CALM": 0, "WILD": 1}, "i1")
        file.create_dataset("state", data=np.array([0, 1], dtype=names))
    return path


def tree_of(path: Path) -> Tree:
    with h5py.File(path) as file:
        return read_tree(file)


def again(tree: Tree, path: Path) -> Tree:
    with h5py.File(path, "w", track_order=tree.is_tracked) as file:
        build(file, tree)
    return tree_of(path)


class TestTree:
    def test_everything_comes_back(self, tmp_path: Path) -> None:
        tree = tree_of(everything(tmp_path / "a.h5"))
        assert {node.kind for node in tree.nodes} == {"group", "dataset", "soft", "external", "hard"}
        found = again(Tree.from_json(tree.as_json()), tmp_path / "b.h5")
        assert found == tree
        with h5py.File(tmp_path / "b.h5") as file:
            u: Any = file["run/deep/u"]
            assert file[u.attrs["from"]].name == "/time"  # type: ignore[union-attr]
            assert u.dims[0]["t"].name == "/time"
            assert (u.compression, u.shuffle, u.fletcher32, u.maxshape) == ("gzip", True, True, (None, 5, 6))
            assert np.asarray(file.attrs["words"]).tolist() == ["a", "ü", ""]
            assert file.attrs["numbers"].dtype == np.dtype(">i2")
            assert (u[()] == -9).all()

    def test_real_files(self, tmp_path: Path) -> None:
        files = [
            file for place in places() if (place / "scientific").is_dir() for file in (place / "scientific").iterdir()
        ]
        if not files:
            pytest.skip("no scientific data at hand: set CODEC_DATA")
        for file in files:
            tree = tree_of(file)
            assert again(Tree.from_json(tree.as_json()), tmp_path / file.name) == tree

    def test_netcdf4(self, tmp_path: Path) -> None:
        """Dimensions as that library writes them: a scale without coordinates says so in its name."""
        path = tmp_path / "a.nc"
        with h5py.File(path, "w", track_order=True) as file:
            file.attrs["_NCProperties"] = np.bytes_(b"version=2,netcdf=4.9.2")
            x = file.create_dataset("x", (7,), ">f4")
            x.make_scale("This is a netCDF dimension but not a netCDF variable.         7")
            x.attrs["_Netcdf4Dimid"] = np.int32(0)
            v = file.create_dataset("v", data=np.zeros(7, "f4"))
            v.dims[0].attach_scale(x)
            v.attrs["_Netcdf4Coordinates"] = np.array([0], "i4")
        tree = tree_of(path)
        assert again(Tree.from_json(tree.as_json()), tmp_path / "b.nc") == tree


ROOT = {"path": "/", "kind": "group"}
SET = {"path": "/a", "kind": "dataset", "dtype": "<f4", "shape": [3]}
HOSTILE = [
    "",
    "[]",
    "{}",
    "[[]]",
    "[" * 100000,
    [{"path": "/", "kind": "dataset", "dtype": "<f4", "shape": [1]}],
    [ROOT, ROOT],
    [ROOT, {"path": "/b/a", "kind": "group"}],
    [ROOT, {"path": "a", "kind": "group"}],
    [ROOT, {"path": "/..", "kind": "group"}],
    [ROOT, {"path": "/a", "kind": "pipe"}],
    [ROOT, {"path": "/a", "kind": "hard", "target": "/nowhere"}],
    [ROOT, SET, SET],
    [ROOT, {**SET, "dtype": "O"}],
    [ROOT, {**SET, "dtype": "|V99999999"}],
    [ROOT, {**SET, "dtype": {"fields": [["a", "O"]], "offsets": [0], "size": 8}}],
    [ROOT, {**SET, "dtype": "S999999999"}],
    [ROOT, {**SET, "shape": [-1]}],
    [ROOT, {**SET, "shape": [1 << 39, 1 << 39]}],
    [ROOT, {**SET, "shape": [1.5]}],
    [ROOT, {**SET, "shape": [1] * 33}],
    [ROOT, {**SET, "attributes": {"a": {"type": "<f4", "shape": [1 << 30], "data": ""}}}],
    [ROOT, {**SET, "attributes": {"a": {"type": "nosuch", "shape": [], "data": ""}}}],
    [ROOT, {**SET, "surprise": 1}],
]


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_descriptions(what: Any) -> None:
    with pytest.raises(StreamError):
        Tree.from_json(what if isinstance(what, str) else json.dumps(what))


@pytest.mark.parametrize(
    "node",
    [
        {**SET, "storage": {"chunks": [7]}},
        {**SET, "storage": {"chunks": [3], "gzip": 99}},
        {**SET, "storage": {"fill": "AA=="}},
        {**SET, "storage": {"maxshape": [1]}},
        {**SET, "scales": [["/nowhere"]]},
        {**SET, "scales": [[], [], ["/a"]]},
        {**SET, "attributes": {"a": {"type": "<f4", "shape": [2], "data": "AAAA"}}},
        {**SET, "attributes": {"a": {"type": "reference", "shape": [1], "data": ["/nowhere"]}}},
    ],
)
def test_what_only_building_finds(node: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file, pytest.raises(StreamError):
        build(file, Tree.from_json(json.dumps([ROOT, node])))
