"""Codecs of fields: bounds, missing values, HDF5 files whole and in part, damage; with the codec `interp`."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import codec as package
from codec import Codec, cli
from codec.codecs.base.field import Bound, FieldCodec
from codec.codecs.base.field_plan import BLOCK, _cut, blocks_of, shape_of
from codec.codecs.interp.codec import InterpCodec
from codec.container import SIGNATURE, unpack
from codec.datasets.places import places
from codec.errors import CodecError, MediaError, StreamError, UsageError

from ...damage import Damage
from ..layers.test_interpolation import smooth


@pytest.fixture(scope="module")
def interp() -> InterpCodec:
    found = Codec.load("interp")
    assert isinstance(found, InterpCodec)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a simulation writes: velocity snapshots, a pressure with a mask, coordinates, integers, text."""
    path = tmp_path_factory.mktemp("fields") / "run.h5"
    with h5py.File(path, "w") as file:
        velocity = np.stack([[smooth((16, 17, 18), 3 * t + c) for c in range(3)] for t in range(4)]).astype("f4")
        file.create_dataset("flow/velocity", data=velocity, chunks=(1, 3, 16, 17, 18), compression="gzip")
        pressure = smooth((30, 40, 11), 99)
        pressure[3:9, ::2] = -1e20
        pressure[0, 0, 0], pressure[1, 1] = np.inf, np.nan
        file.create_dataset("flow/pressure", data=pressure.astype(">f8"))
        file["flow/pressure"].attrs["_FillValue"] = -1e20
        file["x"] = np.linspace(0, 1, 6000)
        file["lat"] = np.add.outer(np.arange(80.0), np.arange(70.0))
        file["ids"] = np.arange(7000).reshape(70, 100)
        file["notes"] = np.array(["one", "two ü"], dtype=h5py.string_dtype())
        file.attrs["Re"] = 34.0
    return path


def arrays(path: Path | io.BytesIO) -> dict[str, Any]:
    out: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: out.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return out


def npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def decoded(codec: FieldCodec, data: bytes) -> io.BytesIO:
    buffer = io.BytesIO()
    codec.decode_hdf5(data, buffer)
    return buffer


class TestArrays:
    @pytest.mark.parametrize("shape", [(5,), (40, 30), (3, 12, 13), (2, 3, 8, 9, 7), (2, 1, 2, 3, 4, 5)])
    @pytest.mark.parametrize("dtype", ["<f4", ">f8"])
    def test_bound(self, interp: InterpCodec, shape: tuple[int, ...], dtype: str) -> None:
        x = smooth(shape).astype(dtype)
        for bound in (Bound(0.01), Bound(0.3, relative=False), Bound(1e-7)):
            out = interp.with_settings(bound=bound).decompress(interp.with_settings(bound=bound).compress(x))
            assert out.shape == x.shape
            assert out.dtype == np.dtype(dtype).newbyteorder("=")
            assert np.abs(out.astype(float) - x).max() <= bound.absolute(float(x.min()), float(x.max()))

    def test_kinds(self, interp: InterpCodec) -> None:
        x = smooth((20, 21)).astype(np.float32)
        tensor = interp.decompress(interp.compress(torch.from_numpy(x)))
        assert isinstance(tensor, torch.Tensor)
        assert np.array_equal(tensor.numpy(), interp.decompress(interp.compress(x)))
        assert np.array_equal(package.decode(interp.compress(x)), tensor.numpy())
        listed: Any = interp.decompress(list(interp.compress([x, x[:3]])))
        assert np.array_equal(listed[0], tensor.numpy())

    def test_quality_is_a_bound(self, interp: InterpCodec) -> None:
        x = smooth((30, 31)).astype(np.float32)
        sizes = [len(interp.compress(x, quality=q)) for q in (10, 50, 90)]
        assert sizes == sorted(sizes)
        assert Bound.of_quality(50) == Bound(1e-3)
        with pytest.raises(UsageError):
            interp.compress(x, quality=101)

    def test_missing_values_keep_their_bits(self, interp: InterpCodec) -> None:
        x = smooth((15, 16, 17)).astype(np.float32)
        x[2:4], x[5, 6, 7], x[8, 9] = np.nan, np.inf, -np.inf
        x.view(np.uint32)[0, 0, 0] = 0x7FC0_1234  # a NaN with a message
        out = interp.decompress(interp.compress(x))
        holes = ~np.isfinite(x)
        assert np.array_equal(out.view(np.uint32)[holes], x.view(np.uint32)[holes])
        rest = x[~holes]
        assert np.abs(out[~holes] - rest).max() <= 1e-3 * (rest.max() - rest.min())

    @pytest.mark.parametrize("x", [np.full((9, 9), np.nan), np.full((9, 9), 7.25), np.full(3, -0.0), np.array([1e300])])
    def test_nothing_to_code(self, interp: InterpCodec, x: np.ndarray) -> None:
        out = interp.decompress(interp.compress(x))
        assert np.array_equal(out.view(np.uint64), x.view(np.uint64))

    def test_noise_costs_no_more_than_itself(self, interp: InterpCodec) -> None:
        x = np.random.default_rng(0).integers(0, 1 << 32, 20000).astype(np.uint32).view(np.float32)
        tight = interp.with_settings(bound=Bound(1e-30, relative=False))
        data = tight.compress(x)
        assert np.array_equal(tight.decompress(data).view(np.uint32), x.view(np.uint32))
        assert len(data) < x.nbytes + 4000

    @pytest.mark.parametrize(
        "x", [np.zeros(3, np.int32), np.zeros(0), np.float64(3), "no file", None, np.zeros(3, np.float16)]
    )
    def test_wrong_input(self, interp: InterpCodec, x: Any) -> None:
        with pytest.raises(CodecError):
            interp.compress(x)

    def test_a_family_that_breaks_its_promise(self, interp: InterpCodec) -> None:
        """The bound is checked on what the decoder gives, not left to the family."""

        class Careless(InterpCodec):
            def encode_field(self, x: np.ndarray, bound: float) -> tuple[int, bytes]:
                return super().encode_field(x, 3 * bound)

        x = smooth((30, 30)).astype(np.float32)
        careless = Careless(Bound(0.05))
        out = careless.decompress(careless.compress(x))
        assert np.abs(out - x).max() <= 0.05 * (x.max() - x.min())

    def test_blocks(self) -> None:
        assert list(blocks_of((3, 4, 5))) == [(slice(0, 3),)]
        assert list(blocks_of((3, 1, 40, 50, 60))) == [(slice(k, k + 1),) for k in range(3)]
        assert list(blocks_of((5, BLOCK // 2))) == [(slice(0, 2),), (slice(2, 4),), (slice(4, 5),)]
        assert list(blocks_of((300, 1, 4, 5, 6))) == [(slice(0, 273),), (slice(273, 300),)], "small ones are joined"
        assert list(blocks_of(())) == [()]
        assert len(blocks_of((0, 4))) == 0
        halves = [(slice(k, k + 1), slice(half, half + BLOCK)) for k in range(2) for half in (0, BLOCK)]
        assert list(blocks_of((2, BLOCK * 2))) == halves, "a large one is cut along the next axis"
        assert list(blocks_of((2, BLOCK * 2), whole=BLOCK * 2)) == [(slice(0, 1),), (slice(1, 2),)]

    def test_blocks_of_old_files(self) -> None:
        assert list(blocks_of((3, 1, 4, 5, 6), stream=1)) == [(slice(k, k + 1),) for k in range(3)]
        assert list(blocks_of((2, BLOCK * 2), stream=1)) == [(slice(0, 1),), (slice(1, 2),)]

    @given(
        shape=st.lists(st.integers(1, 12), min_size=1, max_size=6),
        limit=st.integers(1, 200),
        first=st.integers(0, 11),
    )
    def test_blocks_cover_an_array_once(self, shape: list[int], limit: int, first: int) -> None:
        blocks, seen = _cut(shape, limit), np.zeros(shape, int)
        for index in blocks:
            assert np.prod(shape_of(index, shape)) <= max(limit, 1)
            seen[index] += 1
        assert (seen == 1).all()
        wanted = {k for k, index in enumerate(blocks) if index[0].start <= first < index[0].stop}
        assert first >= shape[0] or set(blocks.of_first(first)) == wanted


class TestHdf5:
    def test_what_is_a_field_and_what_isnt(self, interp: InterpCodec, run: Path) -> None:
        data = interp.encode_hdf5(run)
        assert set(interp.describe_fields(data)) == {"/flow/velocity", "/flow/pressure"}
        before, after = arrays(run), arrays(decoded(interp, data))
        for name in ("x", "lat", "ids", "notes"):
            assert before[name].dtype == after[name].dtype
            assert np.array_equal(before[name], after[name])
        u, v = before["flow/velocity"], after["flow/velocity"]
        assert 0 < np.abs(u - v).max() <= 1e-3 * (u.max() - u.min())
        p, q = before["flow/pressure"], after["flow/pressure"]
        holes = ~np.isfinite(p) | (p == -1e20)
        assert q.dtype == p.dtype
        assert np.array_equal(p[holes], q[holes], equal_nan=True)
        valid = p[~holes]
        assert np.abs(valid - q[~holes]).max() <= 1e-3 * (valid.max() - valid.min()), (
            "the fill value isn't in the range"
        )

    def test_chosen_datasets(self, interp: InterpCodec, run: Path) -> None:
        data = interp.encode_hdf5(run, ["lat", "/flow/velocity"])
        assert set(interp.describe_fields(data)) == {"/lat", "/flow/velocity"}
        before, after = arrays(run), arrays(decoded(interp, data))
        assert np.array_equal(before["flow/pressure"], after["flow/pressure"], equal_nan=True)
        for wrong in ("nosuch", "ids", "notes"):
            with pytest.raises(UsageError, match=wrong):
                interp.encode_hdf5(run, [wrong])

    def test_one_dataset_one_snapshot(self, interp: InterpCodec, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = interp.encode_hdf5(run)
        whole = arrays(decoded(interp, data))["flow/velocity"]
        assert np.array_equal(interp.decode_dataset(data, "flow/velocity"), whole)
        assert np.array_equal(interp.decode_dataset(data, "/ids", 3), arrays(run)["ids"][3])
        calls = []
        plain = InterpCodec.decode_field
        monkeypatch.setattr(InterpCodec, "decode_field", lambda *a: (calls.append(1), plain(*a))[1])
        assert np.array_equal(interp.decode_dataset(data, "flow/velocity", 2), whole[2])
        assert len(calls) == 1, "other snapshots were decoded, too"
        with pytest.raises(UsageError, match="4 snapshots"):
            interp.decode_dataset(data, "flow/velocity", 4)
        with pytest.raises(UsageError, match="no dataset"):
            interp.decode_dataset(data, "nosuch")
        part = io.BytesIO()
        interp.decode_hdf5(data, part, ["/ids"])
        assert np.array_equal(arrays(part)["ids"], arrays(run)["ids"])
        assert set(arrays(part)) == {"ids"}, "nothing that nobody stored"

    def test_real_files(self, interp: InterpCodec) -> None:
        """A turbulence run, a flow, a hurricane, two reanalyses: the bound holds in every value."""
        found = [
            file for place in places() if (place / "scientific").is_dir() for file in (place / "scientific").iterdir()
        ]
        if not found:
            pytest.skip("no scientific data at hand: set CODEC_DATA")
        for file in {file.name: file for file in found}.values():
            data = interp.with_settings(bound=Bound(1e-2)).encode_hdf5(file)
            fields = {path.strip("/") for path in interp.describe_fields(data)}
            assert fields
            before, after = arrays(file), arrays(decoded(interp, data))
            for name, x in before.items():
                if name in fields:
                    worst = np.abs(after[name].astype(float) - x).max()
                    assert 0 < worst <= 1e-2 * (float(x.max()) - float(x.min())), (file.name, name)
                else:
                    assert np.array_equal(after[name], x), (file.name, name)

    def test_memory_is_that_of_one_snapshot(self, tmp_path: Path) -> None:
        """However many there are: tracemalloc sees NumPy's arrays and all bytes."""

        class Halves(InterpCodec):
            def encode_field(self, x: Any, bound: float) -> tuple[int, bytes]:
                return 1, x.astype("f2").tobytes()

            def decode_field(self, method: int, payload: bytes, shape: tuple[int, ...], dtype: Any) -> Any:
                return np.frombuffer(payload, "f2").astype(dtype).reshape(shape)

        peaks, codec = {}, Halves(Bound(0.1, False))
        for count in (4, 4, 200):  # the first for what is only made once
            source, target = tmp_path / "in.h5", tmp_path / "out.interp"
            with h5py.File(source, "w") as file:
                shape = (count, 3, 16, 16, 16)
                file.create_dataset("u", shape, "f4", chunks=(1, *shape[1:]))
                for index in range(count):
                    file["u"][index] = np.random.default_rng(index).normal(size=shape[1:])  # type: ignore[index]
            tracemalloc.start()
            with open(target, "wb") as out:
                found = codec.encode_into(out, source, ["/u"])
            peaks[count] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert target.stat().st_size > count * 3 * 16**3 * 2
            assert list(found) == ["/u"]
        assert peaks[200] < peaks[4] + 500_000, "196 snapshots more have 4.8 MB when coded"

    def test_streamed_is_what_memory_gives(self, interp: InterpCodec, run: Path) -> None:
        out = io.BytesIO()
        how = interp.encode_into(out, run)
        assert out.getvalue() == interp.encode_hdf5(run)
        assert how == interp.describe_fields(out.getvalue())

    def test_as_a_dictionary(self, interp: InterpCodec, run: Path) -> None:
        found = interp.decompress(interp.compress(run))
        assert set(found) == {"/flow/velocity", "/flow/pressure", "/x", "/lat", "/ids"}
        assert np.array_equal(found["/x"], arrays(run)["x"])

    def test_not_hdf5(self, interp: InterpCodec, tmp_path: Path) -> None:
        (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        for path in (tmp_path / "a.h5", tmp_path / "none.h5", tmp_path):
            with pytest.raises(MediaError):
                interp.encode_hdf5(path)


class TestDamage:
    def test_array(self, interp: InterpCodec) -> None:
        x = smooth((12, 13)).astype(np.float32)
        x[3] = np.nan
        data = interp.compress(x)
        expected = interp.decompress(data)
        harm = Damage(data, interp.decompress, lambda found: np.array_equal(found, expected, equal_nan=True))
        harm.everything(examples=300)

    def test_file(self, interp: InterpCodec, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file["u"] = smooth((20, 21, 22)).astype("f4")
            file["words"] = np.array(["a", "bc"], dtype=h5py.string_dtype())
        data = interp.encode_hdf5(path)
        expected = arrays(decoded(interp, data))

        def same(found: Any) -> bool:
            return all(np.array_equal(one, expected[name]) for name, one in arrays(found).items())

        harm = Damage(data, lambda bad: decoded(interp, bad), same)
        harm.flips_and_splices(200)
        harm.payloads(150)

    def test_blocks_moved(self, interp: InterpCodec, run: Path) -> None:
        """With right checksums: blocks of other datasets, too few, too many."""
        from codec.container import pack

        header, chunks = unpack(interp.encode_hdf5(run))
        for wrong in (chunks[:-1], [*chunks, chunks[-1]], [chunks[0], *chunks[2:], chunks[1]], chunks[1:]):
            with pytest.raises(StreamError):
                decoded(interp, pack(header, wrong))


class TestCommands:
    def call(self, *args: object) -> int:
        try:
            return cli.main([str(one) for one in args])
        except SystemExit as end:
            return int(end.code or 0)

    def test_there_and_back(self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        coded, back = tmp_path / "run.interp", tmp_path / "back.h5"
        assert self.call("encode", run, "-o", coded, "--max-error", "0.01", "--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["fields"]["/flow/velocity"] in ("mixed interpolation, within 0.01", "mixed wavelets, within 0.01")
        assert report["codec"] == "interp", "the codec of fields if none is named"
        assert self.call("decode", coded, "-o", back) == 0
        assert np.abs(arrays(run)["flow/velocity"] - arrays(back)["flow/velocity"]).max() <= 0.01
        assert self.call("verify", coded) == 0
        assert self.call("decode", coded, "-o", back) == 2, "it is there already"
        assert self.call("info", coded, "--json") == 0
        assert "/flow/pressure" in capsys.readouterr().out
        assert self.call("decode", coded, "-o", f"{tmp_path}/out/") == 0
        assert (tmp_path / "out" / "run.h5").exists()
        assert not list(tmp_path.rglob("*.part"))

    def test_a_device_stays_one(self, run: Path, tmp_path: Path) -> None:
        import os
        import threading

        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
        reader.start()
        assert self.call("encode", run, "-c", "interp", "-o", pipe, "--force") == 0
        reader.join(10)
        assert pipe.is_fifo()
        assert found[0].startswith(SIGNATURE)

    def test_parts(self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        coded = tmp_path / "run.interp"
        assert self.call("encode", run, "-o", coded, "--rel-error", "0.01", "--dataset", "flow/velocity") == 0
        velocity = ("--dataset", "/flow/velocity")
        assert self.call("decode", coded, *velocity, "-o", tmp_path / "v.npy") == 0
        whole = npy(tmp_path / "v.npy")
        assert self.call("decode", coded, *velocity, "--snapshot", 1, "-o", tmp_path / "one.npy") == 0
        assert np.array_equal(npy(tmp_path / "one.npy"), whole[1])
        assert self.call("decode", coded, *velocity, "-o", tmp_path / "part.h5") == 0
        assert np.array_equal(arrays(tmp_path / "part.h5")["flow/velocity"], whole)
        assert self.call("decode", coded, "-o", tmp_path / "all.npy") == 2
        assert "--dataset" in capsys.readouterr().err
        assert self.call("decode", coded, "--dataset", "nosuch", "-o", tmp_path / "n.npy") == 2
        assert not (tmp_path / "n.npy").exists()

    def test_refusals(self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.call("encode", run, "-o", tmp_path / "a", "--bpp", "1") == 2
        assert "--max-error" in capsys.readouterr().err
        assert self.call("encode", run, "-o", tmp_path / "a", "-c", "walloc", "--max-error", "1") == 2
        (tmp_path / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        assert self.call("encode", tmp_path / "b.h5") == 1
        assert [one.name for one in tmp_path.iterdir()] == ["b.h5"]
