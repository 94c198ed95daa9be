"""Descriptions that lead out of the file are refused, or are harmless: no other file is opened, let alone changed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from codec.errors import MediaError, StreamError
from codec.media.hdf5 import Input, Tree, check, dtype_of, read_tree, slabs, unpack, writing
from codec.media.hdf5.limits import MAX_CHUNK

ROOT = {"path": "/", "kind": "group"}
X = {"path": "/x", "kind": "dataset", "dtype": "|u1", "shape": [3]}
TEXT = {"type": "text", "shape": [], "data": ["a"]}


def node(path: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "kind": kind, **more}


def reference(target: str, kind: Any = "reference") -> dict[str, Any]:
    return {"a": {"type": kind, "shape": [1], "data": [target]}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with victims: an HDF5 file, a text file and a FIFO. It is where the output goes, too."""
    with h5py.File(tmp_path / "victim.h5", "w") as file:
        file["d"] = np.arange(3, dtype="u1")
        file.create_group("g")["d"] = np.arange(3, dtype="u1")
    (tmp_path / "victim.txt").write_text("precious")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(place: Path) -> dict[str, Any]:
    """What a victim is made of: bytes and time of its last change."""
    files = [path for path in sorted(place.iterdir()) if path.name != "out.h5"]
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes() if stat.S_ISREG(path.stat().st_mode) else b"")
        for path in files
    }


def ways(victim: str) -> list[list[dict[str, Any]]]:
    """Trees that lead to a victim: through links of any kind, groups behind them, references, and odd paths."""
    ext = node("/ext", "external", file=victim, target="/d")
    out = node("/out", "external", file=victim, target="/")
    region = json.dumps({"path": "/ext", "shape": [3], "points": []})
    packed = {"class": "reference", "to": "region"}
    return [
        [ext, {**X, "scales": [["/ext"]]}],
        [{**X, "scales": [["/ext"]]}, ext],
        [out, {**X, "scales": [["/out/d"]]}],
        [out, node("/soft", "soft", target="/out/d"), {**X, "scales": [["/soft"]]}],
        [out, node("/soft", "soft", target="/out"), {**X, "scales": [["/soft/d"]]}],
        [ext, node("/hard", "hard", target="/ext"), {**X, "scales": [["/hard"]]}],
        [ext, {**X, "attributes": reference("/ext")}],
        [out, {**X, "attributes": reference("/out/g")}],
        [ext, {**X, "attributes": {"a": {"type": packed, "shape": [1], "data": region}}}],
        [ext, node("/h", "hard", target="/ext")],
        [out, node("/h", "hard", target="/out/d")],
        [out, {**X, "path": "/out/x"}],
        [out, node("/out/g2", "group")],
        [out, node("/s", "soft", target="/out"), {**X, "path": "/s/x"}],
        [out, node("/h", "hard", target="/out"), {**X, "path": "/h/x"}],
        [ext, {**X, "path": "/ext/attributes", "attributes": {"a": TEXT}}],
        [{**ext, "attributes": {"a": TEXT}}, {**X, "scales": [["//ext"]]}],
        [out, {**X, "scales": [["/./out/d"]]}],
        [out, node("/g", "group"), {**X, "scales": [["/g/../out/d"]]}],
        [out, {**X, "path": "/.//out/x"}],
        [{**ext, "scales": [["/ext"]], "scale": "s", "labels": ["l"]}],
        [ext, {**X, "dtype": {"class": "named", "path": "/ext", "type": "|u1"}}],
        [out, {**X, "dtype": {"class": "named", "path": "/out/d", "type": "|u1"}}],
        [ext, {**X, "scales": [[f"{victim}/d"]]}],
        [ext, X],  # the link alone, which is kept and not followed
    ]


@pytest.mark.parametrize("victim", ["victim.h5", "./victim.h5", "PLACE/victim.h5", "victim.txt", "fifo", "PLACE/fifo"])
def test_no_other_file_is_touched(place: Path, victim: str) -> None:
    before = state(place)
    refused = 0
    harmless = []
    for nodes in ways(victim.replace("PLACE", str(place))):
        try:
            tree = Tree.from_json(json.dumps([ROOT, *nodes]))
        except StreamError:
            refused += 1
            continue
        harmless.append(nodes)
        with contextlib.suppress(StreamError), open(place / "out.h5", "w+b") as file, writing(file, tree) as output:
            output["/x"][...] = np.zeros(3, "u1")
        assert state(place) == before, nodes
    assert len(harmless) == 2, harmless  # a link alone, and a region that is refused when it is built


def test_building_follows_no_link_either(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence: a description that came past the first."""
    monkeypatch.setattr("codec.media.hdf5.tree._check_places", lambda nodes: None)
    before = state(place)
    for nodes in ways("victim.h5"):
        tree = Tree.from_json(json.dumps([ROOT, *nodes]))
        with (
            contextlib.suppress(StreamError, KeyError),
            open(place / "out.h5", "w+b") as file,
            writing(file, tree) as output,
        ):
            output["/x"][...] = np.zeros(3, "u1")
        assert state(place) == before, nodes


def test_references_among_the_values_stay_in_the_file(place: Path) -> None:
    nodes = [ROOT, node("/ext", "external", file="victim.h5", target="/d"), {**X, "dtype": "reference", "shape": [1]}]
    tree = Tree.from_json(json.dumps(nodes))
    before = state(place)
    for target in ("/ext", "/nowhere", "victim.h5", "/x/../ext"):
        with pytest.raises(StreamError, match="no object of this file"), writing(io.BytesIO(), tree) as output:
            output["/x"][...] = np.array([target.encode()], object)
    assert state(place) == before


@pytest.mark.parametrize(
    "given",
    [
        {**X, "dtype": "|S0"},
        {**X, "dtype": "O"},
        {**X, "dtype": ["|u1"]},
        {**X, "dtype": "u1,u1"},
        {**X, "dtype": {"fields": [], "offsets": [], "size": 8}},
        {**X, "dtype": {"fields": [["a", "text"]], "offsets": [0], "size": 8}},
        {**X, "dtype": {"class": "compound", "size": 8, "members": []}},
        {**X, "dtype": {"class": "compound", "size": 4, "members": [["a", 0, "<f8"]]}},
        {**X, "dtype": {"class": "compound", "size": 16, "members": [["a", 0, "<f8"], ["b", 4, "<f8"]]}},
        {**X, "dtype": {"class": "array", "shape": [1 << 20, 1 << 20], "base": "<f8"}},
        {**X, "dtype": {"class": "array", "shape": [0], "base": "<f8"}},
        {**X, "dtype": {"class": "opaque", "size": 0, "tag": ""}},
        {**X, "dtype": {"class": "opaque", "size": 1, "tag": "x" * 300}},
        {**X, "dtype": {"class": "string", "size": 1 << 40, "charset": "ascii", "padding": "nullpad"}},
        {**X, "dtype": {"class": "standard", "name": "__doc__"}},
        {**X, "dtype": {"class": "integer", "size": 4, "order": "<", "bits": 99, "offset": 0, "pad": ["zero"] * 2}},
        {**X, "dtype": {"class": "nosuch"}},
        {**X, "shape": [1 << 40]},
        {**X, "shape": [1 << 39] * 32},
        {**X, "attributes": {"a\0b": TEXT}},
        {**X, "attributes": {"a": {"type": "text", "shape": [], "data": ["x\0y"]}}},
        {**X, "attributes": {"a": {"type": "text", "shape": [2], "data": ["x"]}}},
        {**X, "attributes": {"a": {"type": "<f4", "shape": [1 << 30], "data": ""}}},
        {**X, "attributes": {"REFERENCE_LIST": {"type": "<f4", "shape": [], "data": "AAAAAA=="}}},
        {**X, "storage": {"chunks": [0]}},
        {**X, "storage": {"chunks": [3], "filters": [["gzip", 99]]}},
        {**X, "storage": {"chunks": [3], "filters": ["zstd"]}},
        {**X, "storage": {"chunks": [3], "filters": ["shuffle"] * 40}},
        {**X, "storage": {"chunks": [3], "filters": 7}},
        {**X, "storage": {"fill": "AAAA"}},
        {**X, "storage": {"fill": 7}},
        {**X, "storage": {"compact": True}, "shape": [1 << 20]},
        {**X, "storage": {"maxshape": ["x"]}},
        {**X, "labels": ["a", "b"]},
        {**X, "scale": 7},
        node("/x", "soft", target=""),
        node("/x", "external", file="", target="/"),
        node("/x", "external", file="a\0b", target="/"),
        node("/x", "type", dtype="nosuch"),
        node("/x", "type", dtype={"class": "ragged", "base": {"class": "ragged"}}),
    ],
)
def test_damaged_descriptions_are_stream_errors(given: dict[str, Any]) -> None:
    with pytest.raises(StreamError):
        check(Tree.from_json(json.dumps([ROOT, given])))


def test_types_that_are_nested_too_deep() -> None:
    kind: Any = "<f8"
    for _ in range(100):
        kind = {"class": "array", "shape": [1], "base": kind}
    with pytest.raises(StreamError):
        Tree.from_json(json.dumps([ROOT, {**X, "dtype": kind}]))


def test_an_opaque_tag_never_makes_objects_of_bytes() -> None:
    """h5py takes the tag of an opaque type for a type of NumPy: bytes of a file would become addresses."""
    opaque = {"class": "opaque", "size": 8, "tag": "NUMPY:O"}
    inside = {"class": "compound", "size": 8, "members": [["a", 0, opaque]]}
    assert not dtype_of(opaque).hasobject
    assert not dtype_of(inside).hasobject


class TestBombs:
    def test_chunks_are_no_larger_than_their_dataset(self) -> None:
        for more in ({}, {"gzip": 1}):
            given = {**X, "storage": {"chunks": [(1 << 32) - 1], "maxshape": [None], **more}}
            out = io.BytesIO()
            with writing(out, Tree.from_json(json.dumps([ROOT, given]))) as output:
                output["/x"][...] = np.arange(3, dtype="u1")
            assert len(out.getvalue()) < 1 << 16
            with h5py.File(out) as file:
                assert file["x"][()].tolist() == [0, 1, 2]  # type: ignore[index]

    def test_many_small_chunks(self) -> None:
        """Each alone may be larger than its dataset; all together may not be without end."""
        storage = {"chunks": [MAX_CHUNK], "maxshape": [None]}
        nodes = [ROOT, *({**X, "path": f"/{i}", "storage": storage} for i in range(400))]
        tree = Tree.from_json(json.dumps(nodes))
        with h5py.File(io.BytesIO(), "w") as file:
            from codec.media.hdf5 import build

            build(file, tree)
            total = sum(file[node.path].chunks[0] for node in tree.datasets)  # type: ignore[union-attr]
        assert total < 1100 << 20

    def test_slabs_of_a_hostile_shape_cost_nothing(self) -> None:
        tree = Tree.from_json(json.dumps([ROOT, {**X, "shape": [1 << 39, 1, 1, 1, 1]}]))
        parts = slabs(tree.datasets[0], 1 << 24)
        assert len(parts) == 1 << 15
        assert parts[len(parts) - 1].stop == 1 << 39

    def test_values_that_promise_more_than_they_have(self) -> None:
        wide = {"class": "string", "size": None, "charset": "ascii", "padding": "nullterm"}
        padded = {"class": "compound", "size": 1 << 27, "members": [["a", 0, wide]]}
        for kind in ("text", wide, padded, {"class": "ragged", "base": padded}):
            with pytest.raises(StreamError):
                unpack(b"\0" * 4000, (1000,), kind) if kind is padded else unpack(b"\xff" * 8, (1,), kind)

    def test_nodes_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("codec.media.hdf5.tree.MAX_NODES", 10)
        with pytest.raises(StreamError):
            Tree.from_json(json.dumps([ROOT, *({**X, "path": f"/{n}"} for n in range(10))]))


class TestEncoding:
    """What a hostile HDF5 file makes an encoder read: nothing but itself."""

    def test_external_storage_is_refused(self, place: Path) -> None:
        for name in (str(place / "victim.txt"), "victim.txt", "../" + place.name + "/victim.txt"):
            with h5py.File(place / "leak.h5", "w") as file:
                file.create_dataset("d", (8,), "u1", external=[(name, 0, 8)])
            with h5py.File(place / "leak.h5") as file, pytest.raises(MediaError, match=r"/d: .*--skip /d"):
                read_tree(file)

    def test_virtual_datasets_are_refused(self, place: Path) -> None:
        layout = h5py.VirtualLayout((3,), "u1")
        layout[:] = h5py.VirtualSource(place / "victim.h5", "d", (3,))
        with h5py.File(place / "leak.h5", "w") as file:
            file.create_virtual_dataset("far", layout)
        with h5py.File(place / "leak.h5") as file, pytest.raises(MediaError, match=r"/far: a virtual.*--skip /far"):
            read_tree(file)

    def test_links_are_not_followed(self, place: Path) -> None:
        with h5py.File(place / "links.h5", "w") as file:
            file["ext"] = h5py.ExternalLink("victim.h5", "/d")
            file["pipe"] = h5py.ExternalLink("fifo", "/d")
            file["group"] = h5py.ExternalLink("victim.h5", "/")
            file["soft"] = h5py.SoftLink("/group/d")
        before = state(place)
        with Input(place / "links.h5") as file:
            tree = read_tree(file)
        assert [node.kind for node in tree.nodes] == ["group", "external", "external", "external", "soft"]
        assert not tree.datasets
        assert state(place) == before
