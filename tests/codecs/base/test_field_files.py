"""Files of field codecs: parts with what places them, verifying, empty datasets, hostile sizes, one block in memory."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import codec as package
from codec import Codec, cli
from codec.codecs.base import field_plan
from codec.codecs.interp.codec import InterpCodec
from codec.container import Chunk, Header, pack, unpack
from codec.errors import CodecError, MediaError, StreamError, UsageError
from codec.media.hdf5 import building

from ..layers.test_interpolation import smooth


@pytest.fixture(scope="module")
def interp() -> InterpCodec:
    codec = Codec.load("interp")
    assert isinstance(codec, InterpCodec)
    return codec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "run.h5"
    with h5py.File(path, "w") as file:
        u = file.create_dataset("flow/u", data=np.stack([smooth((30, 31), seed) for seed in range(6)]).astype("f4"))
        file["flow/p"] = smooth((70, 71))
        time_axis = file.create_dataset("time", data=np.arange(6.0))
        time_axis.make_scale("time")
        u.dims[0].attach_scale(time_axis)
        file["lat2d"], file["lat2d_bnds"] = smooth((30, 31), 7), smooth((30, 62), 8)
        u.attrs["coordinates"] = "lat2d"
        file["lat2d"].attrs["bounds"] = "lat2d_bnds"
        file["names"] = np.array(["a", "bc"], dtype=h5py.string_dtype())
        file["alias"] = file["flow/p"]
        file.create_dataset("none", (0, 30, 31), "f4", maxshape=(None, 30, 31))
        file["nothing"] = h5py.Empty("f4")
        file.attrs["title"] = "a run"
    return path


def contents(source: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    with h5py.File(source, "r") as file:
        file.visititems(lambda name, item: out.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return out


@pytest.mark.parametrize("name", ["flow/u", "/flow/u", "//flow//u/"])
def test_a_part_has_what_places_it(interp: InterpCodec, run: Path, tmp_path: Path, name: str) -> None:
    interp.encode_file(run, tmp_path / "a.interp")
    assert cli.main(["decode", str(tmp_path / "a.interp"), "--dataset", name, "-o", str(tmp_path / "b.h5")]) == 0
    found, whole = contents(tmp_path / "b.h5"), contents(io.BytesIO(decoded(interp, run)))
    assert set(found) == {"flow/u", "time", "lat2d", "lat2d_bnds"}
    assert all(np.array_equal(found[path], whole[path]) for path in found)
    assert np.abs(found["flow/u"]).max() > 0
    with h5py.File(tmp_path / "b.h5") as file:
        assert file.attrs["title"] == "a run"
        assert file["flow/u"].dims[0][0].name == "/time"  # type: ignore[union-attr]


def decoded(interp: InterpCodec, path: Path) -> bytes:
    buffer = io.BytesIO()
    interp.decode_hdf5(interp.encode_hdf5(path), buffer)
    return buffer.getvalue()


def test_by_another_name(interp: InterpCodec, run: Path) -> None:
    data = interp.encode_hdf5(run)
    assert np.array_equal(interp.decode_dataset(data, "alias"), interp.decode_dataset(data, "flow/p"))


def test_nothing_stored_is_an_empty_array(interp: InterpCodec, run: Path, tmp_path: Path) -> None:
    interp.encode_file(run, tmp_path / "a.interp")
    interp.verify_file(tmp_path / "a.interp")
    found = interp.decompress((tmp_path / "a.interp").read_bytes())
    assert found["/none"].shape == (0, 30, 31)
    assert found["/none"].dtype == np.float32
    assert "/nothing" not in found
    for name in ("nothing", "names"):
        assert cli.main(["decode", str(tmp_path / "a.interp"), "--dataset", name, "-o", str(tmp_path / "n.npy")]) == 2
    arguments = ["decode", str(tmp_path / "a.interp"), "--dataset", "names", "--snapshot", "1", "-o"]
    assert cli.main([*arguments, str(tmp_path / "n.npy")]) == 2


def test_verifying_decodes(interp: InterpCodec, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block, text too; and all is built."""
    header, chunks = unpack(interp.encode_hdf5(run))
    for number in range(1, len(chunks)):
        spoilt = [Chunk(c.tag, c.payload[:-16] if k == number else c.payload) for k, c in enumerate(chunks)]
        with pytest.raises(StreamError):
            interp.verify_file(pack(header, spoilt))
    monkeypatch.setattr(building._Builder, "build", lambda *_: (_ for _ in ()).throw(StreamError("can't be built")))
    with pytest.raises(StreamError, match="built"):
        interp.verify_file(pack(header, chunks))


def test_what_could_not_be_read_back_is_refused(
    interp: InterpCodec, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building._Builder, "build", lambda *_: (_ for _ in ()).throw(StreamError("damaged (too odd)")))
    with pytest.raises(MediaError, match="too odd.*--skip PATH leaves a part of it out"):
        interp.encode_file(run, tmp_path / "a.interp")
    assert not list(tmp_path.iterdir())


def test_texts_are_cut_by_their_length(interp: InterpCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codec.codecs.base import field_blocks

    monkeypatch.setattr(field_blocks, "_ROWS", 1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("log", data=["x" * (k % 90) for k in range(300)], dtype=h5py.string_dtype())
    data = interp.encode_hdf5(tmp_path / "a.h5")
    assert len([chunk for chunk in unpack(data)[1] if chunk.tag == "Loss"]) > 10
    interp.verify_file(data)
    buffer = io.BytesIO()
    interp.decode_hdf5(data, buffer)
    assert np.array_equal(contents(buffer)["log"], contents(tmp_path / "a.h5")["log"])
    monkeypatch.setattr(field_blocks, "_ROWS", 40)
    monkeypatch.setattr(field_blocks, "_MAX_ROW", 80)
    with pytest.raises(MediaError, match="/log"):
        interp.encode_hdf5(tmp_path / "a.h5")


def test_a_large_snapshot_is_cut(interp: InterpCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_plan, "BLOCK", 1 << 12)
    monkeypatch.setattr(InterpCodec, "whole", 1 << 12)
    x = np.stack([smooth((24, 25, 26), seed) for seed in (0, 1)])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = x
    data = interp.encode_hdf5(tmp_path / "a.h5")
    assert len(unpack(data)[1]) == 1 + 2 * 4
    back = interp.decode_dataset(data, "v")
    assert np.abs(back - x).max() <= 1e-3 * np.ptp(x)
    assert np.array_equal(interp.decode_dataset(data, "v", 1), back[1])
    assert np.array_equal(interp.decompress(interp.compress(x)), back)


def test_small_snapshots_are_joined(interp: InterpCodec, tmp_path: Path) -> None:
    x = np.cumsum(np.random.default_rng(0).normal(size=(600, 1, 1, 8, 16)), -1).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = x
    data = interp.encode_hdf5(tmp_path / "a.h5")
    assert len(unpack(data)[1]) == 1 + 3
    assert len(data) < x.nbytes / 4
    assert np.array_equal(interp.decode_dataset(data, "v", 599), interp.decode_dataset(data, "v")[599])


class TestHostile:
    @pytest.mark.parametrize("stream", [1, 2])
    @pytest.mark.parametrize("name", ["interp", "zipgan@64x"])
    @pytest.mark.parametrize(
        "shape", [(1 << 40, 1, 1, 1, 1), (1 << 26, 1, 1, 1, 1), (1, 1 << 28), (1, 1 << 36), (3, 256, 256, 256)]
    )
    def test_sizes(self, name: str, shape: tuple[int, ...], stream: int) -> None:
        codec: Any = Codec.load(name)
        header = Header(
            codec=codec.name,
            stream=stream,
            weights=codec.weights_id,
            coder="constriction",
            arithmetic="float64",
            medium="field",
            shape=shape,
            dtype="float32",
        )
        data = pack(header, [Chunk("Bloc", b"\x01" + bytes(30))])
        for decode in (codec.decompress, codec.verify_file):
            with pytest.raises(CodecError, match="can't hold"):
                decode(data)

    def test_a_block_is_compared_with_its_bytes(self, interp: InterpCodec) -> None:
        """A file that is long enough, by a chunk that says nothing."""
        header, chunks = unpack(interp.compress(smooth((40, 41))))
        large = Header(**{**{k: getattr(header, k) for k in header.__dataclass_fields__}, "shape": (1 << 13, 1 << 12)})
        short = Chunk("Bloc", chunks[0].payload[:400])
        with pytest.raises(StreamError, match="can't hold|too early"):
            interp.decompress(pack(large, [short, short, Chunk("fill", bytes(2000))]))

    def test_nearly_nothing_is_decoded_all_the_same(self) -> None:
        """What an encoder makes of a field at rest is long enough."""
        codec: Any = Codec.load("zipgan@64x")
        x = np.zeros((3, 120, 120, 120), np.float32)
        assert not codec.decompress(codec.compress(x)).any()

    def test_many_datasets_take_one_pass(self, interp: InterpCodec, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for number in range(600):
                file[f"d{number}"] = np.arange(3)
        data = interp.encode_hdf5(tmp_path / "a.h5")
        calls = []
        plain = field_plan.FieldPlan.parts_of
        started = time.process_time()
        field_plan.FieldPlan.parts_of = lambda *a: (calls.append(1), plain(*a))[1]  # type: ignore[method-assign]
        try:
            assert len(interp.decompress(data)) == 600
        finally:
            field_plan.FieldPlan.parts_of = plain  # type: ignore[method-assign]
        assert len(calls) <= 3 * 600
        assert time.process_time() - started < 30


def test_decoding_holds_one_block(interp: InterpCodec, tmp_path: Path) -> None:
    """The file isn't read as a whole, and verifying keeps nothing."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 1 << 16)).astype("u1")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(8):
            file[f"noise{number}"] = noise
    interp.encode_file(tmp_path / "a.h5", tmp_path / "a.interp")
    tracemalloc.start()
    interp.verify_file(tmp_path / "a.interp")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.interp").stat().st_size > 7 * noise.nbytes
    assert peak < 6 * noise.nbytes


class TestForms:
    def test_an_array_is_no_hdf5_file(self, interp: InterpCodec, tmp_path: Path) -> None:
        (tmp_path / "a.interp").write_bytes(interp.compress(smooth((9, 9))))
        for name in ("b.h5", "b.png", "b.mp4"):
            with pytest.raises(UsageError, match="one array of numbers; expected .npy"):
                interp.decode_file(tmp_path / "a.interp", tmp_path / name)

    def test_several_are_no_npy(self, interp: InterpCodec, run: Path, tmp_path: Path) -> None:
        interp.encode_file(run, tmp_path / "a.interp")
        arguments = ["decode", str(tmp_path / "a.interp"), "--dataset", "flow/u", "--dataset", "flow/p", "-o"]
        assert cli.main([*arguments, str(tmp_path / "n.npy")]) == 1 + 1
        assert not (tmp_path / "n.npy").exists()
        assert cli.main([*arguments, str(tmp_path / "n.h5")]) == 0
        with h5py.File(tmp_path / "n.h5") as file:
            assert "flow/u" in file
            assert file["flow/p"] == file["alias"], "a second name that was asked for"


def command(*words: object) -> int:
    return cli.main(list(map(str, words)))


def test_large_files_are_read_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have more bytes than one input may."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["log"] = np.arange(5000)
    assert command("encode", tmp_path / "a.h5", "-o", tmp_path / "a.interp") == 0
    for name in ("codec.files.read_bytes", "codec.media.read_bytes", "codec.codecs.base.codec.read_bytes"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("all of it was read"))
    assert command("info", tmp_path / "a.interp") == 0
    assert command("verify", tmp_path / "a.interp") == 0
    assert command("decode", tmp_path / "a.interp", "-o", tmp_path / "b.h5") == 0
    data = bytearray((tmp_path / "a.interp").read_bytes())
    data[-6] ^= 1
    (tmp_path / "a.interp").write_bytes(data)
    assert command("info", tmp_path / "a.interp") == command("verify", tmp_path / "a.interp") == 3


def test_a_dry_run_lists_and_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows, columns = np.mgrid[:80, :90]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = (np.sin(rows / 9) + np.cos(columns / 7)).astype(np.float32)
        file["lat"] = (rows + columns / 100).astype(np.float32)
        file["n"] = np.arange(9)
    assert command("encode", tmp_path / "a.h5", "--max-error", "0.01", "--dry-run") == 0
    err = capfd.readouterr().err
    assert "nothing is written" in err
    assert "/t: with a loss, within 0.01" in err
    assert "/lat: without loss" in err
    assert "/n: without loss" in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert command("encode", tmp_path / "a.h5", "--dry-run", "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["status"] == "planned"
    assert sorted(report["parts"]) == ["/lat", "/n", "/t"]


def test_a_file_in_memory(interp: InterpCodec, run: Path) -> None:
    data = interp.compress(run)
    assert interp.compress(run.read_bytes()) == data
    with run.open("rb") as file:
        assert interp.compress(file) == data


def test_info_of_fields(interp: InterpCodec, run: Path) -> None:
    data = interp.compress(run)
    assert package.info(data)["fields"] == interp.describe_fields(data) != {}
