"""Limits of decoding: what a file may decode to, for every codec, before its weights are loaded."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codec
from codec import cli, registry
from codec.codecs.base import codec as contract
from codec.codecs.base import limits as module
from codec.codecs.base.codec import Codec
from codec.codecs.base.limits import DEFAULTS, FRAMES, LIMITS, PIXELS, VALUES, Limits, amount, check, note_of
from codec.codecs.base.video.codec import VideoCodec
from codec.codecs.dualgs import codec as dualgs
from codec.container import Chunk, Header, pack, unpack

from ...damage import long_form

GOLDEN = Path(__file__).parents[2] / "golden"


def golden(name: str) -> bytes:
    return sorted(GOLDEN.glob(f"*.{registry.entry(name).suffix.lstrip('.')}"))[0].read_bytes()


def enlarged(data: bytes, shape: tuple[int, ...]) -> bytes:
    """A file with another shape, right checksums, and as many more bytes as the size needs (the rule of `fill`)."""
    header, chunks = unpack(data)
    return pack(dataclasses.replace(long_form(header), shape=shape), [*chunks, Chunk("fill", bytes(1 << 18))])


def too_large(name: str) -> list[tuple[str, bytes]]:
    """Files of a codec that are over a limit, one for each limit that its medium has; by the limit."""
    data = golden(name)
    shape = unpack(data)[0].shape
    medium = registry.entry(name).medium
    if medium == "image":
        return [("pixels", enlarged(data, (16384, 16384, shape[2])))]
    if medium == "video":
        large, long = (shape[0], 16384, 16384, shape[3]), (FRAMES + 1, *shape[1:])
        return [("pixels", enlarged(data, large)), ("frames", enlarged(data, long))]
    return [("values", enlarged(data, (VALUES // int(np.prod(shape[1:])) + 1, *shape[1:])))]


# The length of a sound is at the end of its file: test_audio.py has its limit.
NAMES = [name for name in registry.names() if registry.entry(name).medium != "audio"]
CASES = [(name, limit, data) for name in NAMES for limit, data in too_large(name)]
every_case = pytest.mark.parametrize(("name", "limit", "data"), CASES, ids=[f"{name}-{key}" for name, key, _ in CASES])


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading any codec fails."""

    def refuse(*args: Any, **settings: Any) -> Any:
        raise AssertionError("weights were looked for")

    for name in registry.names():
        monkeypatch.setattr(registry.load_class(name), "from_weights", refuse)
    monkeypatch.setattr("codec.codecs.base.codec.find_by_hash", refuse)


# ---- every codec, every way in


@every_case
@pytest.mark.usefixtures("no_weights")
def test_a_file_over_a_limit_is_refused_before_weights_are_loaded(
    name: str, limit: str, data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large"
    path.write_bytes(data)
    ways: list[Callable[[], Any]] = [
        lambda: codec.decode(data),
        lambda: codec.decode_file(data, tmp_path / "out"),
        lambda: codec.decode_file(path, tmp_path / "out"),
        lambda: codec.open(path),
        lambda: registry.load_class(name).for_header(unpack(data)[0]),
    ]
    for way in ways:
        with pytest.raises(codec.LimitError) as refused:
            way()
        assert refused.value.name == limit
        assert f"--max-{limit} " in str(refused.value)
    for words in (["decode", str(path), "-o", str(tmp_path / "out.x"), "--force"], ["verify", str(path)]):
        if words[0] == "decode" and registry.entry(name).medium != "array":
            words[3] = str(
                tmp_path
                / {"image": "o.png", "video": "o.mkv", "field": "o.npy", "gaussians": "o", "features": "o.npy"}[
                    registry.entry(name).medium
                ]
            )
        assert cli.main(words) == codec.LimitError.exit_code == 1
        assert f"--max-{limit} " in capsys.readouterr().err
    assert not list(tmp_path.glob("o*"))


@every_case
def test_a_codec_that_is_loaded_refuses_it_too_and_goes_no_further(
    name: str, limit: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = codec_of(name)
    for method in ("decode_pixels", "decode_array", "_decode_array", "decode_field"):
        if hasattr(loaded, method):
            monkeypatch.setattr(type(loaded), method, lambda *args: pytest.fail("decoding began"))
    for way in (loaded.decompress, loaded.verify_file, lambda data: loaded.decode_file(data, tmp_path / "out")):
        with pytest.raises(codec.LimitError, match=f"--max-{limit} "):
            way(data)


@every_case
def test_what_the_message_asks_for_is_enough(name: str, limit: str, data: bytes) -> None:
    header = unpack(data)[0]
    with pytest.raises(codec.LimitError) as refused:
        check(header, DEFAULTS)
    asked = str(refused.value).partition(f"--max-{limit} ")[2].split()[0]
    check(header, Limits.none())
    for other in LIMITS:  # a file of so many values may have too many bytes as well: then the next message says so
        try:
            check(header, Limits.of_options({f"max_{limit}": amount(asked)}))
        except codec.LimitError as error:
            assert error.name != limit, other
    with pytest.raises(codec.LimitError):
        check(header, dataclasses.replace(DEFAULTS, **{limit: refused.value.needed - 1}))


def codec_of(name: str) -> Codec:
    return registry.load_class(name).for_header(unpack(golden(name))[0])


@pytest.mark.parametrize("name", NAMES)
def test_small_limits_are_kept_and_raised(name: str) -> None:
    """Files that are far below the defaults: a limit just below what they need, and just that."""
    data = golden(name)
    header = unpack(data)[0]
    loaded = codec_of(name)
    if registry.entry(name).medium == "video":  # of the frames of a group, which are decoded at once
        _, height, width, _ = header.shape
        assert isinstance(loaded, VideoCodec)
        with loaded.open_file(data) as file:
            needed = max(group.n_frames for group in file.groups) * height * width
        limit = "pixels"
    elif registry.entry(name).medium == "image":
        needed, limit = header.shape[0] * header.shape[1], "pixels"
    else:
        needed, limit = int(np.prod(header.shape)), "values"
    if needed > 1:
        with pytest.raises(codec.LimitError) as refused:
            loaded.with_limits(Limits(**{limit: needed - 1})).decompress(data)
        assert refused.value.needed == needed
    loaded.with_limits(Limits(**{limit: needed})).check_made_by_us(header)
    assert loaded.limits == DEFAULTS


# ---- HDF5: what a header doesn't tell


def test_datasets_count_together_and_alone(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for index in range(3):
            file[f"d{index}"] = np.arange(100, dtype=np.int16)
    interp = Codec.load("interp")
    data = interp.compress(path)
    for key, size in (("values", 300), ("bytes", 600)):
        enough, short = Limits(**{key: size}), Limits(**{key: size - 1})
        assert len(interp.with_limits(enough).decompress(data)) == 3
        for way in ("decompress", "verify_file"):
            with pytest.raises(codec.LimitError, match=f"3 datasets of {size} {key}.*--max-{key} {size}"):
                getattr(interp.with_limits(short), way)(data)
        with pytest.raises(codec.LimitError):
            codec.decode_file(data, tmp_path / "out.h5", limits=short)
        codec.decode_file(data, tmp_path / f"{key}.npy", limits=short, dataset="/d1")  # a third of it
        with pytest.raises(codec.LimitError, match="1 dataset of"):
            codec.decode_file(data, tmp_path / "b.npy", limits=Limits(**{key: size // 3 - 1}), dataset="/d1")
    assert not (tmp_path / "out.h5").exists()


# ---- values of limits


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *[("200M", 200_000_000), ("1.5G", 1_500_000_000), ("7", 7), ("2k", 2000), (" 3t ", 3 * 10**12)],
        *[("none", None), ("None", None), (None, None), (5, 5), (np.int64(9), 9), (1 << 62, 1 << 62)],
    ],
)
def test_amounts(given: Any, expected: int | None) -> None:
    assert amount(given) == expected
    assert Limits(pixels=given).pixels == expected


@pytest.mark.parametrize(
    "given", ["", "0", "-1", "1e9", "M", "5 M", "١", "nan", "0.1", "99999999T", 0, -3, 1.5, True, b"1"]
)
def test_amounts_that_are_none(given: Any) -> None:
    with pytest.raises(codec.UsageError, match="a limit of .* pixels: expected a whole number"):
        Limits(pixels=given)


def test_options_have_a_limit_each_and_say_their_default() -> None:
    assert [setting.name for setting in LIMITS] == [f"max_{item.name}" for item in dataclasses.fields(Limits)]
    for setting in LIMITS:
        value = getattr(DEFAULTS, setting.name.removeprefix("max_"))
        said = amount(setting.help.partition("default ")[2].partition(";")[0])
        assert said is not None and abs(said / value - 1) < 0.005


def test_an_option_that_is_no_amount(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["decode", "x", "--max-pixels", "many"])
    assert end.value.code == 2
    assert "--max-pixels" in capsys.readouterr().err


def test_words() -> None:
    with pytest.raises(codec.LimitError) as refused:
        check(Header("x", 1, shape=(16384, 16384, 3)), DEFAULTS)
    words = "a picture of 16384x16384, 268 million pixels; at most 179 million are decoded"
    words += " unless --max-pixels 269M is given"
    assert str(refused.value) == words
    again = pickle.loads(pickle.dumps(refused.value))  # from a worker
    assert (str(again), again.name, again.needed) == (words, "pixels", 1 << 28)


@pytest.mark.parametrize("dtype", ["text", "bool", "nosuch", "float64"])
def test_bytes_of_types(dtype: str) -> None:
    item = {"float64": 8}.get(dtype, 1)
    check(Header("x", 1, medium="field", shape=(100,), dtype=dtype), Limits(bytes=100 * item))
    with pytest.raises(codec.LimitError):
        check(Header("x", 1, medium="field", shape=(100,), dtype=dtype), Limits(bytes=100 * item - 1))


@pytest.mark.parametrize("bits", [50, 64, 1000, 20_000])
def test_numbers_of_any_size_have_words(bits: int) -> None:
    """Python refuses to write integers of more than 4300 digits; the sides of a dataset are what a file says."""
    with pytest.raises(codec.LimitError, match=f"2\\^{bits}.*--max-values none") as refused:
        DEFAULTS.require("values", 1 << bits, f"{module.rounded(1 << bits)} values")
    assert len(str(refused.value)) < 200


def test_a_note_about_what_needs_an_option() -> None:
    assert not note_of(Header("x", 1, shape=(1, PIXELS, 3)))
    (note,) = note_of(Header("x", 1, shape=(16000, 16000, 3)))
    assert str(note) == "limit: decoding this file needs --max-pixels 256M"
    check(Header("x", 1, shape=(16000, 16000, 3)), Limits(pixels=256_000_000))


def test_encoding_says_that_decoding_needs_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(module, "DEFAULTS", Limits(pixels=50))
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    summary = codec.encode_file(tmp_path / "a.png", tmp_path / "a.walloc", codec="walloc")
    assert [note.kind for note in summary.notes] == ["limit"]
    assert "notes" not in codec.info((tmp_path / "a.walloc").read_bytes())["meta"]


def test_an_encoder_that_looks_at_its_own_file_has_no_limit(tmp_path: Path) -> None:
    """The search for a PSNR decodes what it has encoded."""
    loaded = Codec.load("walloc").with_limits(Limits(pixels=50)).with_settings(psnr=20)
    data = loaded.compress(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(codec.LimitError):
        loaded.decompress(data)


# ---- the smallest file that decodes to the most: what a codec's bytes justify, and one more


class Reached(Exception):
    """Decoding began."""


def reached(*given: Any) -> Any:
    raise Reached


def claimed(name: str, loaded: Any) -> tuple[bytes, bytes]:
    """A file that claims as much as its bytes justify, and one that claims a little more; with right checksums."""
    header, chunks = unpack(golden(name))
    n_bytes = sum(len(chunk.payload) for chunk in chunks)
    if registry.entry(name).medium == "image":
        most = loaded.pixels_per_byte * n_bytes
        shapes = [(most // side, side, header.shape[2]) for side in (1, 2) if most // side < 1 << 20][:1]
        shapes.append((shapes[0][0] + 1, *shapes[0][1:]))
    elif registry.entry(name).medium == "video":
        frames, channels = header.shape[0], header.shape[3]
        n_bytes = len(next(chunk.payload for chunk in chunks if chunk.tag == "Grou"))
        side = 8192 * n_bytes // frames
        shapes = [(frames, side // 1024 + more, 1024, channels) for more in (0, 1)]
    elif registry.entry(name).medium == "gaussians":
        base = sum(len(chunk.payload) for chunk in chunks if chunk.tag == "Base")  # of a sequence
        most = dualgs._PER_BYTE * (base or n_bytes)
        shapes = [(header.shape[0], most + more, header.shape[2]) for more in (0, 1)]
    else:
        item = int(np.prod(header.shape[1:]))
        most = loaded.values_per_byte * n_bytes // item
        shapes = [(most, *header.shape[1:]), (most + 1, *header.shape[1:])]
    header = long_form(header)
    right, over = (pack(dataclasses.replace(header, shape=shape), chunks) for shape in shapes)
    return right, over


SIZED = [name for name in NAMES if registry.entry(name).medium not in ("field", "features")]  # of features there's one


@pytest.mark.parametrize("name", SIZED)
def test_no_file_claims_more_than_its_bytes_justify(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = codec_of(name).with_limits(Limits.none())
    right, over = claimed(name, loaded)
    for method in ("decode_pixels", "decode_array"):
        if hasattr(loaded, method):
            monkeypatch.setattr(type(loaded), method, reached)
    monkeypatch.setattr(dualgs, "decode_table", reached)
    if isinstance(loaded, VideoCodec):
        for make in loaded.presets().values():
            monkeypatch.setattr(type(make()), "decode", reached)
    with pytest.raises(codec.StreamError):
        loaded.decompress(over)
    with pytest.raises(Reached):
        loaded.decompress(right)


def test_limits_of_a_call_end_with_it() -> None:
    """Codecs are kept between calls of `decode`, whose limits are their own."""
    x = np.arange(420, dtype=np.float32).reshape(20, 21)
    data = Codec.load("interp").compress(x)
    contract._decoders.clear()
    limits = Limits(values=10_000)
    assert codec.decode(data, limits=limits).shape == x.shape
    with pytest.raises(codec.LimitError):
        codec.decode(data, limits=Limits(values=100))
    assert codec.decode(data).shape == x.shape
    larger = Codec.load("interp").compress(np.zeros((200, 100), np.float32))
    with pytest.raises(codec.LimitError):
        codec.decode(larger, limits=limits)
    assert codec.decode(larger).size == 20_000
