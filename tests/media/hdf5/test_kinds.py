"""Whatever an HDF5 file holds comes back: types, values, attributes, links, storage. Or all that can't is named."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5g, h5o, h5p, h5r, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from codec.errors import MediaError, StreamError, UsageError
from codec.media.hdf5 import Input, Tree, is_variable, pack, read_tree, slabs, unpack, writing
from codec.media.hdf5.types import kind_of, type_of
from codec.media.notes import Note


def there_and_back(path: Path, skip: tuple[str, ...] = ()) -> tuple[h5py.File, tuple[Note, ...]]:
    """The file again, from its description and its packed values alone; and the notes of reading it."""
    out = io.BytesIO()
    with Input(path) as file:
        tree = read_tree(file, skip)
        with writing(out, Tree.from_json(tree.as_json())) as output:
            for node in tree.datasets:
                if node.size:
                    for rows in slabs(node, 1 << 20):
                        part = rows if node.shape else ()
                        values = file[node.path][part]
                        if is_variable(node.dtype):
                            values = unpack(pack(values, node.dtype), values.shape, node.dtype)
                        output[node.path].check(part, values)
                        output[node.path][part] = values
    return h5py.File(out, "r"), tree.notes


def type_in_words(tid: Any) -> Any:
    """A type with all of its details, as the library itself encodes it."""
    return (bool(tid.committed()), tid.encode() if not tid.committed() else tid.get_size(), tid.get_class())


def dump(file: h5py.File) -> dict[str, Any]:
    """All of a file by path: types, spaces, raw values, storage. References are resolved to names."""
    things: dict[str, Any] = {}

    def resolved(value: Any) -> Any:
        if isinstance(value, (h5py.Reference, h5py.RegionReference)) and not value:
            return None
        if isinstance(value, h5py.RegionReference):
            space = h5r.get_region(value, file.id)
            return (
                h5r.get_name(value, file.id),
                np.asarray(space.get_select_bounds()).tolist(),
                space.get_select_npoints(),
            )
        if isinstance(value, h5py.Reference):
            return h5r.get_name(value, file.id)
        if isinstance(value, np.ndarray):
            return [resolved(item) for item in value.tolist()]
        return tuple(map(resolved, value)) if isinstance(value, tuple) else value

    def values(item: Any, shape: Any, kind: Any) -> Any:
        if shape is None or 0 in shape:
            return shape
        tid = item.get_type()
        spaces = (h5s.ALL, h5s.ALL) if isinstance(item, h5d.DatasetID) else ()
        if not is_variable(kind):
            raw = np.zeros(shape, f"V{tid.get_size()}")
            item.read(*spaces, raw, tid)
            return raw.tobytes()
        array = np.empty(shape, tid.dtype)
        item.read(*spaces, array)
        return [resolved(value) for value in array.ravel().tolist()]

    def shape_of(space: Any) -> Any:
        return None if space.get_simple_extent_type() == h5s.NULL else space.get_simple_extent_dims()

    def visit(path: str, item: Any) -> None:
        about: dict[str, Any] = {"kind": type(item).__name__}
        names: list[bytes] = []
        h5a.iterate(item, lambda name, *_: names.append(name))
        for name in names:
            if name not in (b"DIMENSION_LIST", b"REFERENCE_LIST"):
                attribute = h5a.open(item, name)
                kind, shape = kind_of(attribute.get_type()), shape_of(attribute.get_space())
                about[f"@{name!r}"] = (type_in_words(attribute.get_type()), shape, values(attribute, shape, kind))
        if isinstance(item, h5d.DatasetID):
            shape, plist = shape_of(item.get_space()), item.get_create_plist()
            about["type"] = type_in_words(item.get_type())
            about["values"] = (shape, values(item, shape, kind_of(item.get_type())))
            about["layout"] = plist.get_layout(), [plist.get_filter(n) for n in range(plist.get_nfilters())]
            about["fill"] = plist.fill_value_defined() == 2 and repr(h5py.Dataset(item).fillvalue)
        if isinstance(item, h5t.TypeID):
            about["type"] = type_in_words(item)
        if isinstance(item, h5g.GroupID):
            about["members"] = list(item)
            for name in item:
                if item.links.get_info(name).type == 0:
                    below = h5o.open(item, name)
                    mark = h5o.get_info(below).addr
                    if mark not in seen:
                        seen.add(mark)
                        waiting.append((f"{path}/{name!r}", below))
                else:
                    about[name] = item.links.get_val(name)
        things[path] = about

    seen = {h5o.get_info(h5o.open(file.id, b"/")).addr}
    waiting = [("", h5o.open(file.id, b"/"))]
    while waiting:
        visit(*waiting.pop())
    return things


CASES: list[Callable[[h5py.File], None]] = []


def case(function: Callable[[h5py.File], None]) -> Callable[[h5py.File], None]:
    CASES.append(function)
    return function


def low(file: h5py.File, name: bytes, tid: Any, shape: tuple[int, ...] = (3,), raw: bytes | None = None) -> Any:
    """A dataset of any type, with raw values."""
    item = h5d.create(file.id, name, tid, h5s.create_simple(shape))
    if raw is not None:
        item.write(h5s.ALL, h5s.ALL, np.frombuffer(raw, f"V{tid.get_size()}").reshape(shape), tid)
    return item


@case
def nested_compounds(file: h5py.File) -> None:
    inner = np.dtype([("x", "<f8"), ("names", "S3", (2,)), ("ok", "?")])
    file["a"] = np.array([((1.5, [b"a", b"bc"], True), 7)] * 4, [("p", inner), ("t", ">i2")])
    file["a"].attrs["r"] = np.array((2.5, [b"", b"x"], False), inner)


@case
def padding_is_kept(file: h5py.File) -> None:
    tid = h5t.create(h5t.COMPOUND, 16)
    tid.insert(b"a", 1, h5t.STD_I8LE)
    tid.insert(b"b", 8, h5t.IEEE_F32BE)
    low(file, b"a", tid, (2,), bytes(range(32)))


@case
def arrays(file: h5py.File) -> None:
    low(file, b"a", h5t.array_create(h5t.IEEE_F32BE, (2, 3)), (2,), bytes(range(48)))
    low(file, b"b", h5t.array_create(h5t.array_create(h5t.STD_U16LE, (2,)), (3,)), (1,), bytes(range(12)))
    tid = h5t.array_create(h5t.STD_I16LE, (3,))
    h5a.create(file["/"].id, b"a", tid, h5s.create_simple((2,))).write(np.frombuffer(bytes(range(12)), "V6"), tid)


@case
def ragged(file: h5py.File) -> None:
    item = file.create_dataset("a", (4,), h5py.vlen_dtype(">f4"))
    item[0], item[2] = [1, 2, 3], [np.nan]
    rows = np.empty(2, object)
    rows[:] = [np.array([b"a"], "S1"), np.array([b"b", b"c"], "S1")]
    file.attrs.create("MATLAB_fields", rows, dtype=h5py.vlen_dtype(np.dtype("S1")))
    pairs = file.create_dataset("pairs", (2,), h5py.vlen_dtype(np.dtype([("i", "i4"), ("v", "f8")])))
    pairs[1] = np.array([(1, 2.0), (3, 4.0)], [("i", "i4"), ("v", "f8")])


@case
def text(file: h5py.File) -> None:
    for charset in ("ascii", "utf-8"):
        file.create_dataset(f"v{charset}", data=[b"a", b"", b"bcd"], dtype=h5py.string_dtype(charset))
        file.create_dataset(f"f{charset}", data=[b"a", b"", b"bcd"], dtype=h5py.string_dtype(charset, 5))
        file.attrs.create(charset, [b"xy", b"z"], dtype=h5py.string_dtype(charset, 3))
        file.attrs.create(f"v{charset}", [b"xy", b"z"], dtype=h5py.string_dtype(charset))
    file["bad"] = np.array([b"\xff\xfe", b"ok"], dtype=h5py.string_dtype())
    for n, padding in enumerate((h5t.STR_NULLTERM, h5t.STR_NULLPAD, h5t.STR_SPACEPAD)):
        tid = h5t.C_S1.copy()
        tid.set_size(4)
        tid.set_strpad(padding)
        low(file, b"p%d" % n, tid, (2,), b"ab  cd\0e")
    file["long"] = np.array([b"y" * 100_000, b"z"])
    file["scalar"] = "one"


@case
def text_in_compounds(file: h5py.File) -> None:
    dtype = np.dtype([("s", h5py.string_dtype()), ("v", "<f8", (2,)), ("t", h5py.string_dtype("ascii"))])
    item = file.create_dataset("a", (2, 2), dtype)
    item[0, 1] = ("é", [1, 2], "b")
    file.attrs.create("a", np.array(("x", [3, 4], "y"), dtype), dtype=dtype)


@case
def opaque(file: h5py.File) -> None:
    file["a"] = np.array([b"1234", b"5678"], "V4")
    file["t"] = np.array(["2020-01-01"], "M8[s]").astype(h5py.opaque_dtype(np.dtype("M8[s]")))
    file.attrs["a"] = np.void(b"\0\1\2")


@case
def odd_numbers(file: h5py.File) -> None:
    narrow = h5t.STD_I32BE.copy()
    narrow.set_precision(24)
    narrow.set_offset(4)
    low(file, b"narrow", narrow, (2,), b"\0\1\2\3\xff\xff\xff\0")
    brain = h5t.IEEE_F32LE.copy()  # bfloat16
    brain.set_fields(15, 7, 8, 0, 7)
    brain.set_precision(16)
    brain.set_size(2)
    brain.set_ebias(127)
    low(file, b"brain", brain, (2,), b"\x80\x3f\0\x40")
    low(file, b"bits", h5t.STD_B16BE, (2,), b"abcd")
    low(file, b"time", h5t.UNIX_D32LE, (2,), b"abcdefgh")
    file["long double"] = np.longdouble(1) / 3
    file["half"] = np.arange(4, dtype=">f2")
    file["complex"] = np.array([1 + 2j], ">c8")


@case
def enumerations(file: h5py.File) -> None:
    tid = h5t.enum_create(h5t.STD_U16BE)
    for name, value in ((b"z", 3), (b"a", 1), ("ü".encode(), 2)):
        tid.enum_insert(name, value)
    low(file, b"a", tid, (2,), b"\0\3\0\1")
    file["yes"] = np.array([True, False])
    file.attrs["yes"] = True
    e = h5py.enum_dtype({"A": 0, "B": 1}, "i1")
    file["rows"] = np.array([(1, 2)], [("e", e), ("i", "i4")])


@case
def references(file: h5py.File) -> None:
    file["x"], group = np.arange(12.0).reshape(3, 4), file.create_group("z")
    file["t"] = np.dtype("i4")
    targets = [file["x"].ref, group.ref, h5py.Reference(), file["t"].ref, file["/"].ref]
    refs = file.create_dataset("refs", (5,), h5py.ref_dtype)
    refs[...] = np.array(targets, object)
    file.attrs.create("to", np.array(targets, object), dtype=h5py.ref_dtype)
    file.attrs.create("roi", file["x"].regionref[0:2, 1:3], dtype=h5py.regionref_dtype)
    regions = file.create_dataset("regions", (4,), h5py.regionref_dtype)
    regions[0], regions[1] = file["x"].regionref[1, :], file["x"].regionref[...]
    regions[2] = file["x"].regionref[[0, 2], 1]
    row = np.dtype([("r", h5py.ref_dtype), ("n", "i4")])
    file.attrs.create("rows", np.array([(file["x"].ref, 1), (group.ref, 2)], row), dtype=row)
    lists = np.empty(2, object)
    lists[:] = [np.array([file["x"].ref], object), np.array([], object)]
    file.attrs.create("lists", lists, dtype=h5py.vlen_dtype(h5py.ref_dtype))


@case
def named_types(file: h5py.File) -> None:
    """Also where what uses a type comes before it, and in a group that comes later."""
    group = file.create_group("z/types")
    group["pair"] = np.dtype([("a", "i4"), ("s", h5py.string_dtype())])
    group["n"] = np.dtype(">f8")
    group["n"].attrs["unit"] = "m"
    file.create_dataset("a", (2,), group["pair"])[0] = (1, "x")
    file.create_dataset("b", data=[1.0, 2.0], dtype=group["n"])
    file.attrs.create("c", 3.0, dtype=group["n"])
    file["alias"] = group["n"]


@case
def links(file: h5py.File) -> None:
    file["x"] = 1
    file["soft"], file["dangling"] = h5py.SoftLink("/x"), h5py.SoftLink("/no/where")
    file["out"], file["hard"] = h5py.ExternalLink("other.h5", "/x"), file["x"]
    group = file.create_group("g", track_order=True)
    group["self"], group["up"], group["a"] = group, file["/"], h5py.SoftLink("..")


@case
def odd_names(file: h5py.File) -> None:
    for name in (b"\xff\xfe", b"a b", b"line\nbreak", b"..x", b"@", b"a@b", "ü".encode(), b"n" * 900):
        below = h5g.create(h5g.create(file.id, name), name)
        h5a.create(below, b"\xfd" + name[:20], h5t.STD_I8LE, h5s.create(h5s.SCALAR))
        low(file, b"d" + name, h5t.STD_I8LE, (2,), b"ab")


@case
def order_of_making(file: h5py.File) -> None:
    for k in (3, 1, 2):
        group = file.create_group(f"g{k}", track_order=k != 2)
        for n in (9, 4, 7):
            group[f"d{n}"] = n
            group.attrs[f"a{n}"] = n


@case
def deep_and_long(file: h5py.File) -> None:
    group = file
    for _ in range(1100):
        group = group.create_group("g")
    group = file
    for n in range(10):
        group = group.create_group("n" * 500 + str(n))


@case
def large_attributes(file: h5py.File) -> None:
    group = file.create_group("g", track_order=True)
    group.attrs.create("S", np.bytes_(b"x" * 70_000))
    group.attrs["v"] = "x" * 200_000
    group.attrs["n"] = np.arange(20_000.0)


@case
def storage(file: h5py.File) -> None:
    x = np.arange(300.0).reshape(20, 15)
    chunks: dict[str, Any] = {"data": x, "chunks": (5, 4)}
    file.create_dataset("g0", **chunks, compression="gzip", compression_opts=0)
    file.create_dataset("all", **chunks, compression="gzip", shuffle=True, fletcher32=True)
    file.create_dataset("lzf", **chunks, compression="lzf", shuffle=True)
    file.create_dataset("so", data=x.astype("i4"), chunks=(5, 4), scaleoffset=0)
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((5, 4))
    plist.set_fletcher32()
    plist.set_deflate(2)
    plist.set_shuffle()
    h5d.create(file.id, b"order", h5t.IEEE_F64LE, h5s.create_simple((20, 15)), plist)
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_layout(h5d.COMPACT)
    h5d.create(file.id, b"compact", h5t.IEEE_F64LE, h5s.create_simple((20,)), plist)
    file.create_dataset("f1", (3,), "f4", fillvalue=-9)
    file.create_dataset("f2", (3,), "S5", fillvalue=b"none")
    file.create_dataset("f3", (3,), "c8", fillvalue=1 + 1j)
    file.create_dataset("f4", (3,), h5py.string_dtype(), fillvalue="none")
    row = np.dtype([("a", "i4"), ("b", "S3")])
    file.create_dataset("f5", (3,), row, fillvalue=np.array((7, b"ab"), row))
    file.create_dataset("f6", (3,), "?", fillvalue=True)


@case
def empty_things(file: h5py.File) -> None:
    file["null"], file.attrs["null"] = h5py.Empty("f4"), h5py.Empty(h5py.string_dtype())
    file.create_dataset("rows", (0, 3), "f4", maxshape=(None, 3), chunks=(4, 3))
    file.create_dataset("text", (0,), h5py.string_dtype())
    file.create_dataset("ragged", (0,), h5py.vlen_dtype("i4"))
    file.create_dataset("inner", (5, 0), "f8")
    file.attrs["none"], file.attrs["no text"] = np.zeros(0), np.zeros((0, 2), "S3")
    file.create_dataset("no references", (0,), h5py.ref_dtype)


@case
def scales(file: h5py.File) -> None:
    x = file.create_dataset("x", (4, 3), "f4")
    t, u = (file.create_dataset(name, data=np.arange(4.0)) for name in ("z/t", "u"))
    t.make_scale("time")
    x.dims[0].attach_scale(t)
    x.dims[0].attach_scale(u)
    x.dims[1].label = "lon"
    u.attrs["units"] = "m"
    file["mine"] = np.zeros(3)
    file["mine"].attrs["CLASS"], file["mine"].attrs["NAME"] = np.bytes_(b"IMAGE"), "a"


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("track_order", [False, True], ids=["by name", "by order"])
def test_everything_comes_back(make: Callable[[h5py.File], None], track_order: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", track_order=track_order) as file:
        make(file)
    back, notes = there_and_back(path)
    with back, h5py.File(path) as file:
        given, got = dump(file), dump(back)
        assert list(got) == list(given)
        for place in given:
            assert got[place] == given[place], place
        for name, item in file.items() if make is scales else ():
            if isinstance(item, h5py.Dataset):
                copy = back[name]
                assert isinstance(copy, h5py.Dataset)
                expected = [[scale.name for scale in axis.values()] for axis in item.dims]
                assert [[scale.name for scale in axis.values()] for axis in copy.dims] == expected
                assert [axis.label for axis in copy.dims] == [axis.label for axis in item.dims]
    assert not notes


def test_a_user_block_comes_back(tmp_path: Path) -> None:
    """Without it MATLAB doesn't read its own files."""
    path = tmp_path / "a.mat"
    block = b"MATLAB 7.3 MAT-file".ljust(512, b" ")
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = np.arange(3)
    with open(path, "r+b") as raw:
        raw.write(block)
    for given in (path, io.BytesIO(path.read_bytes())):
        out = io.BytesIO()
        with Input(given) as file:  # type: ignore[arg-type]
            tree = read_tree(file)
            with writing(out, tree) as output:
                output["/x"][...] = file["/x"][...]
        assert out.getvalue()[:512] == block
        with h5py.File(out) as file:
            assert file["x"][()].tolist() == [0, 1, 2]  # type: ignore[index]


class TestNotes:
    """What is left out is said."""

    def notes(self, path: Path) -> list[str]:
        file, notes = there_and_back(path)
        file.close()
        return [str(note) for note in notes]

    def test_references_to_nothing(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("gone")
            file.attrs.create("refs", np.array([file["gone"].ref], object), dtype=h5py.ref_dtype)
            del file["gone"]
        assert ["structure: references to what was deleted" in note for note in self.notes(tmp_path / "a.h5")] == [True]

    @pytest.mark.parametrize("name", [None, "s"])
    def test_scales_without_a_name(self, name: str | None, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            x = file.create_dataset("x", (4,), "f4")
            scale = file.create_dataset(name, (4,), "f8")
            scale.make_scale("s")
            x.dims[0].attach_scale(scale)
            if name:
                del file[name]
        (note,) = self.notes(tmp_path / "a.h5")
        assert "a dimension scale" in note
        assert note.endswith(": /x")

    def test_filters_that_others_replace(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for name in "ab":
                file.create_dataset(name, data=np.zeros((8, 8), "f4"), chunks=(4, 4), scaleoffset=3)
        assert self.notes(tmp_path / "a.h5") == ["layout: scale-offset (HDF5 filter 6) becomes gzip: /a, /b"]

    def test_chunks_that_are_far_too_large(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("a", (3,), "f8", maxshape=(None,), chunks=(1 << 22,))
        assert self.notes(tmp_path / "a.h5") == [
            "layout: chunks that are far larger than their dataset become smaller: /a"
        ]


class TestSkip:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        layout = h5py.VirtualLayout((3,), "u1")
        layout[:] = h5py.VirtualSource("other.h5", "d", (3,))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_virtual_dataset("far", layout)
            file.create_dataset("out", (8,), "u1", external=[("raw", 0, 8)])
            file["g/x"] = 1
            file.attrs["to"] = file["g/x"].ref
            file.attrs["a"] = 1
        return tmp_path / "a.h5"

    def test_all_that_cant_be_kept_is_named_at_once(self, path: Path) -> None:
        with Input(path) as file, pytest.raises(MediaError) as error:
            read_tree(file)
        assert "/far: a virtual dataset" in str(error.value)
        assert "/out: its values lie in other files" in str(error.value)
        assert "--skip /far --skip /out" in str(error.value)

    def test_skipping(self, path: Path) -> None:
        back, notes = there_and_back(path, ("far", "/out/", "//g", "/@a"))
        with back:
            assert list(back) == []
            assert list(back.attrs) == ["to"]
            assert not back.attrs["to"]
        words = [str(note) for note in notes]
        assert "structure: left out, as --skip says: /@a, /far, /g, /out" in words
        assert any("become null: /@to" in note for note in words)

    def test_a_path_that_isnt_there(self, path: Path) -> None:
        with Input(path) as file, pytest.raises(UsageError, match="--skip /nosuch"):
            read_tree(file, ["/far", "/out", "nosuch"])


def test_a_type_that_is_described_is_made_again() -> None:
    for name in ("STD_I8BE", "IEEE_F16LE", "STD_B64LE", "UNIX_D64BE", "STD_REF_OBJ", "STD_REF_DSETREG", "C_S1"):
        tid = getattr(h5t, name)
        assert type_of(kind_of(tid)).equal(tid), name


def test_many_datasets_in_linear_time(tmp_path: Path) -> None:
    """Counted in calls of Python, not in seconds: twice the datasets are twice the calls."""
    import cProfile
    import pstats

    calls = []
    for n in (60, 120):
        with h5py.File(tmp_path / f"{n}.h5", "w") as file:
            for k in range(n):
                file[f"d{k}"] = k
        with cProfile.Profile() as profile:
            there_and_back(tmp_path / f"{n}.h5")[0].close()
        calls.append(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
    assert calls[1] < 2.2 * calls[0]


def test_checking_stores_nothing_and_finds_what_storing_would(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = ["x", "y"]
    with Input(tmp_path / "a.h5") as file:
        tree = read_tree(file)
    with writing(io.BytesIO(), tree) as output:
        item = output["/a"]
        for wrong in (np.array([b"a\0b", b""], object), np.array([b"a"], object)):
            with pytest.raises(StreamError):
                item.check(slice(0, 2), wrong)
        item.check(slice(0, 2), np.array([b"p", b"q"], object))
        assert h5py.Dataset(output.builder.open("/a"))[...].tolist() == [b"", b""]


def test_a_part_of_a_tree_has_null_for_references_out_of_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
        file.create_dataset("refs", (1,), h5py.ref_dtype)[0] = file["x"].ref
    with Input(tmp_path / "a.h5") as file:
        tree = read_tree(file)
        values = file["/refs"][...]
    part = Tree(tuple(node for node in tree.nodes if node.path != "/x"))
    with writing(io.BytesIO(), part) as output, pytest.raises(StreamError, match="no object of this file"):
        output["/refs"][...] = values
    out = io.BytesIO()
    with writing(out, part, partial=True) as output:
        output["/refs"][...] = values
    with h5py.File(out) as file:
        assert not file["refs"][0]  # type: ignore[index]
