"""The circuit codec: anything of the right shape comes back; the wrong weights, or damage, are errors."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codec import Codec, cli
from codec.codecs.circuit.codec import Alphabet, CircuitCodec, Domain
from codec.container import Chunk, pack, read_header, unpack
from codec.errors import CodecError, LimitError, MediaError, StreamError, UsageError, WeightsError
from codec.files import whole_folder
from codec.media import array as arrays
from codec.media.array import ArrayFile
from codec.train.circuit import CircuitRecipe, fit_array, fit_file, weights_bytes

from ...damage import Damage, shares

RECIPE = CircuitRecipe(states=6, epochs=3, full=2, batch=64, tree_samples=200)


def digits(n: int, seed: int = 0) -> np.ndarray:
    """(n, 6, 5) uint8: bright bars on black, of three grey values, and a pixel of noise."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, 6, 5), np.uint8)
    for item in out:
        item[:, rng.integers(5)] = rng.choice([100, 180, 255])
        item[rng.integers(6)] = rng.choice([100, 180, 255])
        item[0, 0] = rng.integers(256)
    return out


def masks(n: int) -> np.ndarray:
    return (digits(n, 3) > 0) * np.uint8(255)


def table(n: int) -> np.ndarray:
    """Cells of text; the last column has something new now and then, and missing cells."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 3, n)
    rows = [
        [b"abc"[k : k + 1], b"%d" % (k * 10), b"" if rng.random() < 0.1 else b"n%d" % rng.integers(40)] for k in kind
    ]
    return np.array(rows)


DATA: dict[str, Callable[[int], np.ndarray]] = {
    "digits": digits,
    "masks": masks,
    "bits": lambda n: masks(n) > 0,
    "labels": lambda n: digits(n).astype(np.int32) * 1000 - 70000,
    "colours": lambda n: np.stack([digits(n), 255 - digits(n), digits(n) // 2], axis=-1),
    "numbers": lambda n: np.random.default_rng(0).integers(-5, 5, (n, 3)),
    "signals": lambda n: np.random.default_rng(0).integers(-5, 5, n).astype(np.int16),
    "table": table,
    "kinds": lambda n: np.where(
        np.arange(n)[:, None, None] % 3 > 0, digits(n), 255 - digits(n, 5).swapaxes(1, 2).reshape(n, 6, 5)
    ),
}
COMPONENTS = {"kinds": 3}  # one circuit for each kind of item that k-means finds


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights for each kind of data."""
    folder = tmp_path_factory.mktemp("circuits")
    out = {}
    for name, make in DATA.items():
        recipe = replace(RECIPE, components=COMPONENTS.get(name, 1))
        fitted = fit_array(make(300), recipe, folder / name)
        out[name] = folder / f"{name}.safetensors"
        out[name].write_bytes(weights_bytes(fitted.circuit, fitted.domain, {}))
    return out


@pytest.fixture(scope="session")
def codecs(files: dict[str, Path]) -> dict[str, CircuitCodec]:
    loaded = {}
    for name, path in files.items():
        codec = Codec.load("circuit", weights=path)
        assert isinstance(codec, CircuitCodec)
        loaded[name] = codec
    return loaded


def written(value: ArrayFile) -> bytes:
    data = arrays.write(value)
    assert isinstance(data, bytes)
    return data


def same(a: Any, b: Any) -> None:
    assert a.shape == b.shape
    assert a.dtype == b.dtype or a.dtype.kind == b.dtype.kind == "S"
    np.testing.assert_array_equal(a, b)


class TestRoundTrip:
    @pytest.mark.parametrize("name", DATA)
    @pytest.mark.parametrize("coder", CircuitCodec.coders)
    def test_every_kind(self, codecs: dict[str, CircuitCodec], name: str, coder: str) -> None:
        codec = codecs[name].with_settings(coder=coder)
        for n in (1, 2, 40):
            x = DATA[name](n)
            before = x.copy()
            same(codec.decompress(codec.compress(x)), x)
            same(x, before)

    def test_anything_of_the_right_shape(self, codecs: dict[str, CircuitCodec]) -> None:
        rng = np.random.default_rng(0)
        for name in ("digits", "masks"):
            for x in (
                rng.integers(0, 256, (9, 6, 5), np.uint8),
                255 - DATA[name](9),
                np.zeros((9, 6, 5), np.uint8),
                np.full((9, 6, 5), 255, np.uint8),
                np.full((9, 6, 5), 7, np.uint8),
            ):
                same(codecs[name].decompress(codecs[name].compress(x)), x)

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64"])
    def test_any_integers(self, codecs: dict[str, CircuitCodec], dtype: str) -> None:
        """Types and values that the weights were not made for."""
        rng = np.random.default_rng(0)
        top = 2 if dtype == "bool" else int(np.iinfo(dtype).max)
        low = 0 if dtype == "bool" else int(np.iinfo(dtype).min)
        x = rng.integers(low, top, (4, 6, 5), dtype=np.int64).astype(dtype)
        for coder in CircuitCodec.coders:
            codec = codecs["digits"].with_settings(coder=coder)
            same(codec.decompress(codec.compress(x)), x)

    def test_text_that_is_new(self, codecs: dict[str, CircuitCodec]) -> None:
        x = np.array([[b"a", b"10", b"n3"], [b"", b"\xff" * 200, b"never seen"], [b"b", b"", b""]])
        for coder in CircuitCodec.coders:
            codec = codecs["table"].with_settings(coder=coder)
            same(codec.decompress(codec.compress(x)), x)

    def test_kinds(self, codecs: dict[str, CircuitCodec], tmp_path: Path) -> None:
        """Tensors come back as tensors, array files as array files, a single item as one."""
        codec, x = codecs["digits"], digits(3)
        tensor = codec.decompress(codec.compress(torch.from_numpy(x)))
        assert isinstance(tensor, torch.Tensor)
        same(tensor.numpy(), x)
        value = codec.decompress(codec.compress(ArrayFile(x, "idx")))
        assert isinstance(value, ArrayFile)
        assert value.form == "idx"
        same(codec.decompress(codec.compress(x[0])), x[0])
        same(codec.decompress(codec.compress(np.asfortranarray(x))), x)
        same(codec.decompress(codec.compress(x[:, ::-1, ::-1])), x[:, ::-1, ::-1])
        listed: Any = codec.decompress(list(codec.compress([x, x[:1]])))
        same(listed[1], x[:1])
        Image.fromarray(x[0]).save(tmp_path / "one.png")
        same(codec.decompress(codec.compress(tmp_path / "one.png")), x[:1])

    def test_several_segments(self, codecs: dict[str, CircuitCodec], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("codec.codecs.circuit.codec._SEGMENT", 30 * 7)
        x = digits(20)
        x[::3] = 255 - x[::3]
        for coder in CircuitCodec.coders:
            codec = codecs["masks"].with_settings(coder=coder)
            data = codec.compress(x)
            assert sum(chunk.tag == "Circ" for chunk in unpack(data)[1]) == (1 if coder == "mix" else 3)
            same(codec.decompress(data), x)
            if coder.endswith("items"):
                same(np.stack([codec.decompress_item(data, i) for i in range(20)]), x)

    @pytest.mark.parametrize(
        "x",
        [
            np.zeros((3, 5, 6), np.uint8),
            np.zeros((2, 30), np.uint8),
            np.zeros((0, 6, 5), np.uint8),
            np.zeros((3, 6, 5)),
        ],
    )
    def test_wrong_input(self, codecs: dict[str, CircuitCodec], x: np.ndarray) -> None:
        with pytest.raises(MediaError):
            codecs["digits"].compress(x)
        with pytest.raises(MediaError):
            codecs["table"].compress(x)
        for wrong in ("no file", 3, None, torch.zeros(3, 6, 5)):
            with pytest.raises(CodecError):
                codecs["digits"].compress(wrong)
        with pytest.raises(UsageError, match="lossless"):
            codecs["digits"].compress(digits(1), quality=3)


class TestItems:
    def test_one_alone(self, codecs: dict[str, CircuitCodec]) -> None:
        codec, x = codecs["masks"].with_settings(coder="rans-items"), digits(30)
        data = codec.compress(x)
        for i in (0, 7, 29):
            same(codec.decompress_item(data, i), x[i])
        for item in (-1, 30):
            with pytest.raises(UsageError):
                codec.decompress_item(data, item)
        with pytest.raises(UsageError, match="rans-items"):
            codec.decompress_item(codecs["masks"].compress(x), 0)

    def test_what_it_costs(self, codecs: dict[str, CircuitCodec]) -> None:
        x = digits(200)
        sizes = [len(codecs["digits"].with_settings(coder=coder).compress(x)) for coder in CircuitCodec.coders]
        assert 3 < (sizes[1] - sizes[0]) / 200 < 8


class TestMixing:
    def test_smaller(self, codecs: dict[str, CircuitCodec]) -> None:
        """The pixels of noise cost what they cost; the rest is learned on the way."""
        x = digits(400, seed=99)
        plain = len(codecs["digits"].compress(x))
        mixed = len(codecs["digits"].with_settings(mix=True).compress(x))
        assert mixed < 1.02 * plain

    def test_the_switch_is_the_coders(self, codecs: dict[str, CircuitCodec]) -> None:
        x = digits(9)
        for plain, mixed in (("rans", "mix"), ("rans-items", "mix-items")):
            codec = codecs["digits"].with_settings(coder=plain, mix=True)
            data = codec.compress(x)
            assert read_header(data).coder == mixed
            assert data == codecs["digits"].with_settings(coder=mixed).compress(x)
            assert read_header(codec.with_settings(mix=False).compress(x)).coder == plain
        with pytest.raises(UsageError, match="True or False"):
            codecs["digits"].with_settings(mix="yes")

    @pytest.mark.parametrize("name", ["masks", "kinds", "table", "colours", "signals"])
    def test_items_alone(self, codecs: dict[str, CircuitCodec], name: str) -> None:
        codec, x = codecs[name].with_settings(coder="rans-items", mix=True), DATA[name](12)
        data = codec.compress(x)
        for i in (0, 7, 11):
            same(codec.decompress_item(data, i), x[i])
        with pytest.raises(UsageError, match="one stream for all"):
            codec.decompress_item(codecs[name].with_settings(mix=True).compress(x), 0)

    @pytest.mark.parametrize("name", ["kinds", "digits"])
    def test_learned_beforehand(
        self, codecs: dict[str, CircuitCodec], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is learned lies in the weights; files of each kind decode with them, and alone items are smaller."""
        recipe = replace(RECIPE, components=COMPONENTS.get(name, 1))
        (tmp_path / "x.idx").write_bytes(written(ArrayFile(DATA[name](300), "idx")))
        lines: list[str] = []
        contents, fitted = fit_file(tmp_path / "x.idx", tmp_path / "w.safetensors", recipe, say=lines.append, mix=True)
        assert any(line.startswith("mixing: ") for line in lines)
        (tmp_path / "w.safetensors").write_bytes(contents)
        warm = Codec.load("circuit", weights=tmp_path / "w.safetensors")
        cold = CircuitCodec(fitted.circuit, fitted.domain, b"")
        x = DATA[name](40)
        for coder in ("mix", "mix-items"):
            data = warm.with_settings(coder=coder).compress(x)
            assert len(data) < len(cold.with_settings(coder=coder).compress(x))
            same(warm.decompress(data), x)
        state, metadata = warm.to_tensors()  # pyright: ignore[reportAttributeAccessIssue]
        assert sorted(state) == sorted({**cold.to_tensors()[0], **warm.learned})  # pyright: ignore
        from safetensors.numpy import save

        for key in warm.learned:  # pyright: ignore[reportAttributeAccessIssue]
            for changed in ({k: v for k, v in state.items() if k != key}, {**state, key: state[key][:-1].copy()}):
                (tmp_path / "bad.safetensors").write_bytes(save(changed, metadata))
                bad = Codec.load("circuit", weights=tmp_path / "bad.safetensors")
                same(bad.decompress(bad.compress(x)), x)
                with pytest.raises(WeightsError):
                    bad.with_settings(mix=True).compress(x)

    def test_states_that_files_name(self, codecs: dict[str, CircuitCodec]) -> None:
        codec, x = codecs["digits"].with_settings(mix=True), digits(5)
        header, chunks = unpack(codec.compress(x))
        for named, error in ((bytes(16), WeightsError), (b"short", StreamError), (3, StreamError), ("x", StreamError)):
            changed = type(header)(**{**vars(header), "params": {**header.params, "m": named}})
            with pytest.raises(error):
                codec.decompress(pack(changed, chunks))

    def test_by_the_twin(self, codecs: dict[str, CircuitCodec]) -> None:
        from codec import native

        for name in ("kinds", "table"):
            x = DATA[name](3)
            for coder in ("mix", "mix-items"):
                codec = codecs[name].with_settings(coder=coder)
                data = codec.compress(x)
                with native.using(None):
                    assert codec.compress(x) == data
                    same(codec.decompress(data), x)

    def test_threads(self, codecs: dict[str, CircuitCodec]) -> None:
        from codec import native

        before, x = native.threads(), DATA["kinds"](70)
        made = set()
        try:
            for n in (1, 3):
                native.set_threads(n)
                for coder in ("mix", "mix-items"):
                    made.add(codecs["kinds"].with_settings(coder=coder).compress(x))
        finally:
            native.set_threads(before)
        assert len(made) == 2

    def test_a_circuit_too_large_to_guide(
        self, codecs: dict[str, CircuitCodec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("codec.codecs.circuit.mixing._MOST_GUIDE", 1000)
        codec, x = codecs["digits"].with_settings(mix=True), digits(20)
        codec = replace(codec)
        assert codec.mixed_items.guide(None) is None
        same(codec.decompress(codec.compress(x)), x)


class TestSame:
    def test_bytes(self, codecs: dict[str, CircuitCodec], files: dict[str, Path]) -> None:
        x = digits(50)
        data = codecs["digits"].compress(x)
        assert Codec.load("circuit", weights=files["digits"]).compress(x.copy()) == data
        before = torch.get_num_threads()
        try:
            for n in (1, 2):
                torch.set_num_threads(n)
                assert codecs["digits"].compress(x) == data
        finally:
            torch.set_num_threads(before)

    def test_rate_is_what_it_says(self, codecs: dict[str, CircuitCodec]) -> None:
        codec, x = codecs["digits"], digits(200)
        symbols, _ = codec.domain.symbols(x)
        lanes = 16
        extra = 8 * len(codec.compress(x)) - codec.circuit.bits(symbols).sum()
        assert 0 < extra < 8 * 80 + 64 * lanes

    def test_fitting_helps(self, codecs: dict[str, CircuitCodec]) -> None:
        """The same pixels in another order cost more."""
        x = digits(400, seed=99)
        shuffled = np.random.default_rng(0).permuted(x.reshape(400, -1), axis=1).reshape(x.shape)
        sizes = [len(codecs["digits"].compress(items)) for items in (x, shuffled)]
        assert sizes[0] < 0.75 * sizes[1], sizes


class TestWeights:
    def test_others_are_refused_before_anything_is_decoded(
        self, codecs: dict[str, CircuitCodec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = codecs["digits"].compress(digits(3))

        def never(*args: Any) -> Any:
            raise AssertionError("decoded with the wrong weights")

        monkeypatch.setattr(CircuitCodec, "decode_array", never)
        with pytest.raises(WeightsError, match="other weights"):
            codecs["masks"].decompress(data)

    def test_id_is_the_files(self, codecs: dict[str, CircuitCodec], files: dict[str, Path]) -> None:
        expected = hashlib.sha256(files["digits"].read_bytes()).digest()[:16]
        assert codecs["digits"].weights_id == expected
        assert read_header(codecs["digits"].compress(digits(1))).weights == expected

    def test_not_weights(self, files: dict[str, Path], tmp_path: Path) -> None:
        from safetensors.numpy import load, save

        good = load(files["digits"].read_bytes())
        path = tmp_path / "x.safetensors"

        def refused(data: bytes) -> None:
            path.write_bytes(data)
            with pytest.raises(WeightsError):
                Codec.load("circuit", weights=path)

        about = {"codec": "circuit", "domain": json.dumps({"shape": [6, 5], "text": False})}
        path.write_bytes(save(good, about))
        Codec.load("circuit", weights=path)
        refused(b"nonsense")
        for metadata in ({}, {**about, "codec": "walloc"}, {**about, "domain": "{"}, {**about, "domain": "[]"}):
            refused(save(good, metadata))
        for shape in ([6, 6], [-6, -5], [], ["6", 5]):
            refused(save(good, {**about, "domain": json.dumps({"shape": shape, "text": False})}))
        for name in good:
            refused(save({key: value for key, value in good.items() if key != name}, about))
            if good[name].size > 1:
                refused(save({**good, name: np.ascontiguousarray(good[name][1:])}, about))
        with pytest.raises(UsageError, match="lossless"):
            Codec.load("circuit", quality=3, weights=files["digits"])


class TestAlphabet:
    def test_full_for_bytes(self) -> None:
        assert Alphabet.of(np.arange(40, dtype=np.uint8)).size == 257
        assert Alphabet.of(np.arange(-20, 20).astype(np.int8)).values[0] == -128
        few = Alphabet.of(np.array([0, 255], np.uint8))
        assert few.size == 3
        assert few.symbols(np.array([255, 3, 0])).tolist() == [1, 2, 0]

    def test_most_frequent(self) -> None:
        x = np.concatenate([np.arange(6000), np.arange(0, 6000, 2)])
        assert (Alphabet.of(x).values % 2 == 0).sum() == 3000

    def test_state_and_back(self) -> None:
        for make in DATA.values():
            domain = Domain.of(make(30))
            again = Domain.from_state(domain.to_state(), {"shape": list(domain.shape), "text": domain.text})
            symbols, rare = again.symbols(make(40))
            np.testing.assert_array_equal(symbols, domain.symbols(make(40))[0])
            same(again.values(symbols, rare).reshape(make(40).shape).astype(make(40).dtype), make(40))


class TestDamage:
    @shares
    @pytest.mark.parametrize(
        ("name", "coder"),
        [
            ("digits", "rans"),
            ("masks", "rans-items"),
            ("table", "rans"),
            ("kinds", "rans"),
            ("digits", "mix"),
            ("kinds", "mix"),
            ("kinds", "mix-items"),
        ],
    )
    def test_everything(self, codecs: dict[str, CircuitCodec], name: str, coder: str, share: float) -> None:
        codec = codecs[name].with_settings(coder=coder)
        x = table(12) if name == "table" else digits(12)
        damage = Damage(codec.compress(x), codec.decompress, lambda decoded: np.array_equal(decoded, x), share=share)
        damage.everything(examples=300)

    def test_items(self, codecs: dict[str, CircuitCodec]) -> None:
        codec, x = codecs["masks"].with_settings(coder="rans-items"), digits(12)

        def decode(data: bytes) -> Any:
            return codec.decompress_item(data, 5)

        damage = Damage(codec.compress(x), decode, lambda decoded: np.array_equal(decoded, x[5]))
        damage.payloads(100)
        damage.params()

    def test_sizes_that_lie(self, codecs: dict[str, CircuitCodec]) -> None:
        """As many items as the bytes could just justify, and more."""
        codec = codecs["digits"]
        data = codec.compress(digits(30))
        header, chunks = unpack(data)
        n_bytes = sum(len(chunk.payload) for chunk in chunks)
        for n in (1, 29, 31, 1024 * n_bytes // 30, 1 << 30):
            changed = type(header)(**{**vars(header), "shape": (n, 6, 5)})
            with pytest.raises((StreamError, LimitError)):
                codec.decompress(pack(changed, chunks))

    @pytest.mark.parametrize("extra", [b"x", b"xyz", b"\0\0\0\0"])
    def test_an_index_of_other_lengths(self, codecs: dict[str, CircuitCodec], extra: bytes) -> None:
        codec, x = codecs["masks"].with_settings(coder="rans-items"), digits(12)
        header, chunks = unpack(codec.compress(x))
        parts = {chunk.tag: chunk.payload for chunk in chunks}
        body = zlib.decompress(parts["Indx"])
        for changed in (body + extra, body[: -len(extra)], b""):
            others = [Chunk(tag, zlib.compress(changed) if tag == "Indx" else part) for tag, part in parts.items()]
            for decode in (codec.decompress, lambda data: codec.decompress_item(data, 3)):
                with pytest.raises(StreamError):
                    decode(pack(header, others))

    def test_a_tour_for_each_item(self, codecs: dict[str, CircuitCodec], monkeypatch: pytest.MonkeyPatch) -> None:
        """A layout of one item a block would make decoding hundreds of times slower: refused before any tour."""
        codec = codecs["digits"]
        header, chunks = unpack(codec.compress(digits(30)))
        head, body = chunks[0].payload[:4], chunks[0].payload[4:]
        lanes = 1 + int.from_bytes(body[:2], "little")
        monkeypatch.setattr("codec.entropy.circuits.coding._Tour.run", lambda self: pytest.fail("a tour began"))
        for depth in (1, 2, 29 // lanes):
            layout = (lanes - 1).to_bytes(2, "little") + (depth - 1).to_bytes(2, "little")
            with pytest.raises(StreamError, match="lanes"):
                codec.decompress(pack(header, [Chunk("Circ", head + layout + body[4:]), *chunks[1:]]))

    def test_a_consistent_lie(self, codecs: dict[str, CircuitCodec]) -> None:
        """Header and stream agree on a size that the bytes can't hold: nothing is allocated for it."""
        codec, n = codecs["digits"], 1 << 24
        header, chunks = unpack(codec.compress(digits(30)))
        payload = n.to_bytes(4, "little") + chunks[0].payload[4:]
        data = pack(type(header)(**{**vars(header), "shape": (n, 6, 5)}), [Chunk("Circ", payload)])
        with pytest.raises(StreamError, match="can't hold"):
            codec.decompress(data)

    def test_simple_data_is_filled_up(self, codecs: dict[str, CircuitCodec]) -> None:
        codec, x = codecs["bits"], np.zeros((3000, 6, 5), bool)
        data = codec.compress(x)
        same(codec.decompress(data), x)
        assert sum(len(chunk.payload) for chunk in unpack(data)[1]) >= x.size // 1024


class TestCommands:
    def run(self, *args: object) -> int:
        try:
            return cli.main([str(arg) for arg in args])
        except SystemExit as end:
            return int(end.code or 0)

    def test_there_and_back(self, files: dict[str, Path], tmp_path: Path) -> None:
        source = tmp_path / "x.idx"
        source.write_bytes(written(ArrayFile(digits(5), "idx")))
        assert self.run("encode", source, "-c", "circuit", "--weights", files["digits"]) == 0
        coded = tmp_path / "x.circuit"
        assert self.run("decode", coded, "--weights", files["digits"]) == 2, "x.idx is there already"
        assert self.run("decode", coded, "--weights", files["digits"], "-o", f"{tmp_path}/out/") == 0
        assert (tmp_path / "out" / "x.idx").read_bytes() == source.read_bytes()
        assert self.run("decode", coded, "--weights", files["digits"], "-o", tmp_path / "y.npy") == 0
        np.testing.assert_array_equal(arrays.read(tmp_path / "y.npy").array, digits(5))
        assert self.run("verify", coded, "--weights", files["digits"]) == 0
        assert self.run("info", coded) == 0
        assert self.run("verify", coded, "--weights", files["masks"]) == 4
        assert self.run("decode", coded, "-o", tmp_path / "z.idx") == 4, "nobody knows these weights"
        assert not list(tmp_path.rglob("*.part"))

    def test_a_folder_of_pictures(self, files: dict[str, Path], tmp_path: Path) -> None:
        folder = tmp_path / "in" / "digits"
        folder.mkdir(parents=True)
        for i, item in enumerate(digits(4)):
            Image.fromarray(item).save(folder / f"{i}.png")
        weights = ("--weights", files["digits"])
        assert self.run("encode", folder, "-c", "circuit", *weights, "-o", tmp_path / "d.circuit") == 0
        assert self.run("decode", tmp_path / "d.circuit", *weights) == 0
        back = tmp_path / "d"
        for i, item in enumerate(digits(4)):
            with Image.open(back / f"{i}.png") as image:
                np.testing.assert_array_equal(np.asarray(image), item)
        assert self.run("decode", tmp_path / "d.circuit", *weights, "--force") == 2, "a folder is never replaced"
        assert self.run("encode", folder, "-c", "circuit", *weights) == 0
        assert (tmp_path / "in" / "digits.circuit").exists()
        assert not list(tmp_path.rglob("*.part"))

    def test_a_folder_that_appears_meanwhile(self, tmp_path: Path) -> None:
        """Renaming would go over an empty one."""
        (tmp_path / "out").mkdir()
        with pytest.raises(FileExistsError, match="never replaced"), whole_folder(tmp_path / "out") as folder:
            (folder / "a.png").write_bytes(b"1")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert not list((tmp_path / "out").iterdir())

    def test_refusals(self, files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        source = tmp_path / "x.csv"
        source.write_text("a,b\n")
        weights = ("-c", "circuit", "--weights", files["digits"])
        assert self.run("encode", source, *weights) == 1
        assert "codec fit" in capfd.readouterr().err
        assert self.run("encode", source, *weights, "--size", "1kB") == 2
        assert self.run("encode", source, *weights, "-q", "3") == 2
        assert list(tmp_path.iterdir()) == [source]

    def test_fit(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        source, target = tmp_path / "t.csv", tmp_path / "t.safetensors"
        source.write_bytes(b"\n".join(b",".join(row) for row in table(200).tolist()) + b"\n")
        fit = ("fit", "circuit", source, "-o", target, "--states", 3, "--epochs", 2, "--log", tmp_path / "log.json")
        assert self.run(*fit) == 0
        assert self.run(*fit) == 2, "it is there already"
        assert len(json.loads((tmp_path / "log.json").read_text())["epochs"]) == 5
        assert self.run("encode", source, "-c", "circuit", "--weights", target) == 0
        assert self.run("decode", tmp_path / "t.circuit", "--weights", target, "-o", tmp_path / "u.csv") == 0
        assert (tmp_path / "u.csv").read_bytes() == source.read_bytes()
        assert self.run("fit", "walloc", source, "-o", tmp_path / "w") == 2
        assert not list(tmp_path.glob("*.fit"))
