"""The doors of all codecs: kinds of input, the caller's torch, damage, copies and pickles, and codecs that are kept."""

from __future__ import annotations

import contextlib
import copy
import io
import mmap
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import codec
from codec import Codec
from codec.codecs.base import codec as contract
from codec.codecs.base.codec import EncodedPixels, check_device
from codec.codecs.base.image import ImageCodec
from codec.codecs.layers import inference
from codec.container import Chunk, Header
from codec.errors import CodecError, MediaError, StreamError, UsageError, WeightsError
from codec.eval.bench.readers import read_array

FIELD = np.linspace(0, 1, 4 * 5 * 6).reshape(4, 5, 6)
GOLDEN = Path(__file__).resolve().parents[2] / "golden"


class Raw(ImageCodec):
    """Samples as they are. `fault`: what decoding raises; `seen`: torch's state while it ran."""

    name: ClassVar[str] = "raw"
    stream: ClassVar[int] = 1
    critical_chunks: ClassVar[frozenset[str]] = frozenset({"Body"})
    fault: Exception | None = None

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    @classmethod
    def from_weights(cls, tag: Any, quality: Any, weights: Any, device: str) -> Raw:
        return cls()

    @property
    def weights_id(self) -> bytes:
        return b""

    def look(self) -> None:
        modes = (torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        self.seen.append((torch.empty(0).device.type, *modes))

    def encode_pixels(self, pixels: np.ndarray, quality: float | None) -> EncodedPixels:
        self.look()
        return EncodedPixels([Chunk("Body", pixels.tobytes())])

    def decode_pixels(self, header: Header, chunks: Any) -> np.ndarray:
        self.look()
        if self.fault is not None:
            raise self.fault
        return np.frombuffer(chunks[0].payload, header.dtype).reshape(*header.shape[:2], 3).copy()


PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@pytest.fixture
def raw() -> Raw:
    return Raw()


# ---- kinds of input


@pytest.fixture(scope="module")
def interp() -> Any:
    return Codec.load("interp")


def kinds(data: bytes, folder: Path) -> Iterator[tuple[str, Any]]:
    path = folder / "x.interp"
    path.write_bytes(data)
    yield "text of a path", str(path)
    yield "path", path
    yield "bytes", data
    yield "bytearray", bytearray(data)
    yield "memoryview", memoryview(data)
    yield "a strided memoryview", memoryview(bytes(b for byte in data for b in (byte, 0)))[::2]
    yield "array of bytes", np.frombuffer(data, np.uint8)
    yield "tensor of bytes", torch.frombuffer(bytearray(data), dtype=torch.uint8)
    yield "BytesIO", io.BytesIO(data)
    with open(path, "rb") as file:
        yield "open file", file
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield "mapped file", mapped


def test_every_kind_of_file_at_every_door(interp: Any, tmp_path: Path) -> None:
    data = interp.compress(FIELD)
    expected = interp.decompress(data)
    asked: list[Callable[[Any], Any]] = [interp.decompress, lambda x: interp.decompress([x])[0], codec.decode]
    for ask in asked:
        for name, given in kinds(data, tmp_path):
            assert np.array_equal(ask(given), expected), name
    for name, given in kinds(data, tmp_path):
        assert codec.info(given) == codec.info(data), name
    for number, (name, given) in enumerate(kinds(data, tmp_path)):
        codec.decode_file(given, tmp_path / f"{number}.npy")
        assert np.array_equal(read_array(tmp_path / f"{number}.npy"), expected), name
    for _, given in kinds(data, tmp_path):
        interp.verify_file(given)


def test_pictures_from_memory(raw: Raw, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    expected = raw.compress(Image.fromarray(PIXELS))
    for name, given in kinds(buffer.getvalue(), tmp_path):
        if name not in ("array of bytes", "tensor of bytes"):  # these are pixels to a codec of pictures
            assert raw.compress(given) == expected, name


@pytest.mark.parametrize(
    "given", [None, 5, 2.5, (b"x",), {"x": 1}, object(), FIELD, torch.zeros(3), io.StringIO("x"), bytes, [5]], ids=repr
)
def test_what_no_file_is(given: Any, interp: Any, tmp_path: Path) -> None:
    calls = [
        interp.decompress,
        codec.decode,
        codec.info,
        codec.open,
        lambda x: codec.decode_file(x, tmp_path / "x.npy"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="expected a path|binary mode"):
            call(given)


@pytest.mark.parametrize("given", ["none.interp", "a\0b", ".", b"", b"PNG", io.BytesIO(), "x" * 5000])
def test_files_that_arent_there_or_arent_ours(given: Any, interp: Any) -> None:
    for call in (interp.decompress, codec.decode, codec.info, codec.open):
        with pytest.raises(CodecError):
            call(given)


def test_files_at_their_end_and_closed(interp: Any) -> None:
    file = io.BytesIO()
    file.write(interp.compress(FIELD))
    with pytest.raises(MediaError, match="seek"):
        codec.decode(file)
    file.close()
    with pytest.raises(UsageError, match="closed"):
        codec.decode(file)


# ---- numbers and arrays


@pytest.mark.parametrize("quality", ["40", 40, 40.0, np.float32(40), np.int64(40), np.float64(40)])
def test_qualities_that_are_numbers(quality: Any, interp: Any) -> None:
    expected = interp.with_settings(quality=40).compress(FIELD)
    assert interp.compress(FIELD, quality=quality) == expected
    assert Codec.load("interp", quality).compress(FIELD) == expected
    assert interp.with_settings(quality=quality).compress(FIELD) == expected


@pytest.mark.parametrize(
    "quality", ["high", "", b"40", True, np.True_, float("nan"), "inf", [40], 1j, object()], ids=repr
)
def test_qualities_that_are_none(quality: Any, interp: Any) -> None:
    calls = (
        lambda: interp.compress(FIELD, quality=quality),
        lambda: Codec.load("interp", quality),
        lambda: interp.with_settings(quality=quality),
    )
    for call in calls:
        with pytest.raises(UsageError, match="quality.*expected a finite number"):
            call()


@pytest.mark.parametrize("name", [None, 5, b"walloc", ["walloc"], "", "@16x", "walloc@", "wallock"])
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(UsageError, match="codec"):
        Codec.load(name)


def test_weights_that_are_no_path() -> None:
    for weights in (5, b"x", ["x"]):
        with pytest.raises(UsageError, match="path"):
            Codec.load("walloc", weights=weights)  # type: ignore[arg-type]
    with pytest.raises(CodecError):
        Codec.load("walloc", weights="a\0b")


def test_rounding_errors_are_taken(raw: Raw) -> None:
    exact = torch.linspace(0, 1, 3 * 4 * 4).reshape(3, 4, 4)
    assert raw.compress(exact * (1 + 2e-7)) == raw.compress(exact)
    assert raw.compress(exact - 5e-7) == raw.compress(exact)
    with pytest.raises(UsageError, match=r"to 1\.00000[0-9]+; expected \[0, 1\]"):
        raw.compress(exact * (1 + 4e-6))


class Subclass(torch.Tensor):
    """A tensor as other packages have them, torchvision's `tv_tensors.Image` among them."""


def test_tensors_by_class(raw: Raw) -> None:
    x = torch.rand(3, 4, 5)
    assert raw.compress(x.as_subclass(Subclass)) == raw.compress(x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(3, 8, 8).to_sparse(), "to_dense"),
        (torch.zeros(3, 8, 8, device="meta"), "meta"),
        (torch.zeros(3, 8, 8, dtype=torch.complex64), "expected floats"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "/ 255"),
    ],
    ids=str,
)
def test_tensors_that_have_no_pixels(raw: Raw, x: torch.Tensor, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        raw.compress(x)


def test_masked_arrays(raw: Raw) -> None:
    with pytest.raises(UsageError, match=r"3 values.*filled"):
        raw.compress(np.ma.masked_array(PIXELS, PIXELS < 3))
    assert raw.compress(np.ma.masked_array(PIXELS, PIXELS > 255)) == raw.compress(PIXELS)


# ---- the caller's torch


@contextlib.contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


STATES: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default device": default_device,
    "a device's block": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
}


@pytest.mark.parametrize("state", STATES)
def test_the_callers_torch_stays_outside(raw: Raw, state: str) -> None:
    with STATES[state]():
        before = torch.empty(0).device.type, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        data = raw.compress(PIXELS)
        raw.decompress(data)
        raw.decode_picture(data)
        raw.verify_file(data)
        assert (torch.empty(0).device.type, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()) == before
    assert set(raw.seen) == {("cpu", False, False, True)}
    assert len(raw.seen) == 4


@pytest.mark.parametrize("state", ["autocast", "default device"])
@pytest.mark.parametrize("name", ["nirvana-grid-s1-clip.nirvana", "nirvana-paper-s1-clip.nirvana"])
def test_videos_decode_in_any_state(name: str, state: str) -> None:
    with STATES[state]():
        assert codec.decode(GOLDEN / name).shape[-1] == 3  # each group has a checksum


def test_convolutions_of_many_keep_their_grid() -> None:
    """Without oneDNN, torch gives 16 and more to NNPACK, which transforms them: every paper file was damaged then."""
    with torch.backends.mkldnn.flags(enabled=False):
        codec.decode(GOLDEN / "nirvana-paper-s1-clip.nirvana")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_process_decodes() -> None:
    """OpenMP waits for ever for threads that were the parent's."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        _ = torch.rand(400, 400) @ torch.rand(400, 400)
        child = os.fork()
        if not child:
            with inference.fresh_torch():
                alone = torch.get_num_threads() == 1
                (torch.rand(400, 400) @ torch.rand(400, 400)).exp().sum()
            os._exit(0 if alone else 1)
        for _ in range(600):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert os.waitstatus_to_exitcode(status) == 0
                return
            time.sleep(0.1)
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    finally:
        torch.set_num_threads(before)


# ---- damage


@pytest.mark.parametrize(
    "fault",
    [
        *(ValueError("x"), IndexError("x"), KeyError("x"), OverflowError("x"), ZeroDivisionError("x"), EOFError("x")),
        *(RuntimeError("shape '[3]' is invalid"), UnicodeDecodeError("ascii", b"x", 0, 1, "x"), MemoryError()),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=repr,
)
def test_what_damage_can_raise(raw: Raw, fault: Exception, tmp_path: Path) -> None:
    data = raw.compress(PIXELS)
    raw.fault = fault
    words = "memory" if "llocat" in str(fault) or isinstance(fault, MemoryError) else "damaged"
    for call in (raw.decompress, raw.decode_picture, raw.verify_file, lambda x: raw.decode_file(x, tmp_path / "x.png")):
        with pytest.raises(StreamError, match=words):
            call(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "fault",
    [TypeError("x"), AttributeError("x"), AssertionError("x"), NotImplementedError("x"), RecursionError("x")],
    ids=repr,
)
def test_our_own_mistakes_stay_what_they_are(raw: Raw, fault: Exception) -> None:
    data = raw.compress(PIXELS)
    raw.fault = fault
    with pytest.raises(type(fault)):
        raw.decompress(data)


# ---- as a value


def test_pickles_name_the_codec() -> None:
    loaded = Codec.load("interp").with_settings(max_error=0.01)
    data = pickle.dumps(loaded)
    assert len(data) < 300
    back = pickle.loads(data)
    assert back.compress(FIELD) == loaded.compress(FIELD) != Codec.load("interp").compress(FIELD)


def test_pickles_of_codecs_with_weights(tmp_path: Path) -> None:
    shipped = Codec.load("circuit@mnist")
    assert len(pickle.dumps(shipped)) < 400
    assert pickle.loads(pickle.dumps(shipped)).weights_id == shipped.weights_id
    copied = copy.deepcopy(shipped)
    assert copied is not shipped
    assert copied.weights_id == shipped.weights_id
    path = tmp_path / "mine.safetensors"
    path.write_bytes((contract.manifests("circuit")[0].path).read_bytes())
    mine = pickle.dumps(Codec.load("circuit", weights=path))
    assert pickle.loads(mine).weights_id == contract.manifests("circuit")[0].id
    path.write_bytes((contract.manifests("circuit")[1].path).read_bytes())
    with pytest.raises(WeightsError, match="isn't the file"):
        pickle.loads(mine)


def test_a_tag_that_is_gone_is_found_by_its_hash() -> None:
    data = pickle.dumps(Codec.load("circuit@mnist"))
    origin, weights_id, changes = Codec.load("circuit@mnist").__reduce_ex__(2)[1]
    back = contract._restored(origin._replace(name="circuit@gone"), weights_id, changes)
    assert back.weights_id == pickle.loads(data).weights_id
    assert "circuit@mnist" in repr(back)


def test_repr_says_what_it_is() -> None:
    words = repr(Codec.load("circuit@mnist"))
    assert words.startswith("<codec circuit@mnist weights=")
    assert words.endswith("device=cpu>")
    assert len(words) < 80
    assert repr(Codec.load("interp", quality=70).with_settings(max_error=0.5)) == (
        "<codec interp quality=70 max_error=0.5 device=cpu>"
    )


def test_with_and_to() -> None:
    with Codec.load("interp", device="auto") as loaded:
        assert loaded.to("cpu") is loaded or torch.cuda.is_available()
        assert np.allclose(loaded.decompress(loaded.compress(FIELD)), FIELD, atol=0.1)
    with pytest.raises(UsageError, match="no such device|can't be used"):
        loaded.to("gpu")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "meta", 5, None, "cpu\0"])
def test_devices_that_cant_be(device: Any) -> None:
    with pytest.raises(UsageError, match="expected cpu, cuda, cuda:1 or auto"):
        check_device(device)


def test_devices() -> None:
    assert check_device("cpu") == check_device(torch.device("cpu")) == "cpu"
    assert check_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


# ---- codecs that are kept


def test_many_files_build_a_codec_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    family = type(Codec.load("interp"))
    before = family.from_weights

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return before(*arguments)

    monkeypatch.setattr(family, "from_weights", counted)
    monkeypatch.setattr(contract, "_decoders", type(contract._decoders)())
    data = Codec.load("interp").compress(FIELD)
    made.clear()
    for _ in range(3):
        codec.decode(data)
    assert len(made) == 1


def test_only_the_last_codecs_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contract, "_decoders", type(contract._decoders)())
    header = contract.read_header((GOLDEN / "circuit-mnist-s1-fd7e6bdd-rans-items.circuit").read_bytes())
    shipped = contract.find_by_hash("circuit", header.weights).path.read_bytes()
    for number in range(contract._KEPT + 2):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(shipped)
        first = contract.decoder_for(header, path)
        assert contract.decoder_for(header, path) is first
    assert len(contract._decoders) == contract._KEPT
    path.write_bytes(contract.manifests("circuit")[0].path.read_bytes())  # other weights under the same name
    with pytest.raises(WeightsError):
        contract.decoder_for(header, path)


@pytest.mark.parametrize("target", [None, 3, b"x.walloc", io.BytesIO()])
def test_targets_are_paths(tmp_path: Path, target: Any) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="expected a path"):
        codec.encode_file(tmp_path / "a.png", target, codec="walloc")


def test_a_frame_of_an_animation_is_a_copy(tmp_path: Path) -> None:
    frames = [Image.new("L", (16, 16), shade) for shade in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    walloc = Codec.load("walloc")
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(1)
        with pytest.raises(MediaError, match=r"image\.copy\(\)"):
            walloc.compress(image)
        assert walloc.decompress(walloc.compress(image.copy())).size == (16, 16)
