"""Files of every medium through Python, `codec.encode_file` and `codec.decode_file`: what comes back and is refused.

Whatever is wrong with a call is a `CodecError` that names the file, and leaves no file behind.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from PIL import Image

import codec as package
from codec import Codec, registry
from codec.codecs.base.settings import Select, Setting
from codec.codecs.nirvana.codec import NirvanaCodec
from codec.errors import CodecError, ContainerError, MediaError, UsageError
from codec.media.audio.reader import read_audio
from codec.media.audio.writer import write_audio
from codec.media.video.reader import open_video
from codec.media.video.values import stack
from codec.media.video.writer import VideoWriter

from ... import probes
from .toy_video import noise_clip, toy_presets


class Case(NamedTuple):
    """One medium: the codec, its source, the suffixes of its files and of what is decoded; settings to be quick."""

    codec: str
    source: str
    suffix: str
    form: str
    settings: dict[str, Any]


CASES = {
    "image": Case("walloc", "photo.png", ".walloc", ".png", {}),
    "array": Case("circuit@mnist", "items.npy", ".circuit", ".npy", {}),
    "field": Case("interp", "run.h5", ".interp", ".h5", {}),
    "video": Case("nirvana@toy", "clip.mkv", ".nirvana", ".mkv", {"quality": 100}),
    "features": Case("entropic-student", "photo.png", ".student", ".npy", {}),
    "audio": Case("walloc-audio", "talk.wav", ".walloca", ".wav", {}),
}
every_medium = pytest.mark.parametrize("medium", CASES)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NirvanaCodec, "presets", classmethod(toy_presets))


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of each medium, of which each test gets copies."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / "photo.png")
    np.save(folder / "items.npy", rng.integers(0, 256, (2, 28, 28), np.uint8))
    with h5py.File(folder / "run.h5", "w") as file:
        file["u"] = np.cumsum(rng.normal(size=(4, 64, 64)), axis=1).astype("f4")
        file["notes"] = np.array(["one", "two"], dtype=h5py.string_dtype())
        file["ids"] = np.arange(5)
    write_audio(probes.sound(12_000, 2), folder / "talk.wav")
    with VideoWriter(folder / "clip.mkv", *clip_frames()[:1]) as writer:
        for frame in clip_frames()[1]:
            writer.write(frame)
    return folder


@pytest.fixture
def sources(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "in"))


def clip_frames() -> tuple[Any, list[Any]]:
    from codec.media.video.values import frames_of

    info, frames = frames_of(noise_clip(7))
    return info, list(frames)


def encoded(medium: str, sources: Path) -> Path:
    """The file of a medium's source in a test's folder: encoded once, since many tests only read it."""
    case = CASES[medium]
    target = sources.parent / f"file{case.suffix}"
    if medium not in ENCODED:
        package.encode_file(sources / case.source, target, case.codec, **case.settings)
        ENCODED[medium] = target.read_bytes()
    target.write_bytes(ENCODED[medium])
    return target


ENCODED: dict[str, bytes] = {}


def values(path: Path) -> Any:
    """Whatever a file holds, as arrays."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    if path.suffix == ".wav":
        return read_audio(path).samples
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: file[name][()] for name in file}  # type: ignore[index]
    with open_video(path) as reader:
        return stack(reader.info, reader)


def nothing_but(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


# ---- what comes back


@every_medium
def test_there_and_back(medium: str, sources: Path, tmp_path: Path) -> None:
    case = CASES[medium]
    before = values(sources / case.source)
    done = package.encode_file(sources / case.source, tmp_path / "new" / "a", case.codec, **case.settings)
    assert done.bytes_out == (tmp_path / "new" / "a").stat().st_size
    assert done.bytes_in == (sources / case.source).stat().st_size
    assert done.about["codec"] == registry.split_tag(case.codec)[0]
    back = package.decode_file(tmp_path / "new" / "a", tmp_path / f"b{case.form}")
    assert (back.bytes_in, back.bytes_out) == (done.bytes_out, (tmp_path / f"b{case.form}").stat().st_size)
    after = values(tmp_path / f"b{case.form}")
    if medium == "field":
        assert np.ptp(before["u"]) * 1e-3 >= np.abs(after["u"] - before["u"]).max() > 0
        assert (before["ids"] == after["ids"]).all()
    else:
        assert after.shape == ((24, 56, 56) if medium == "features" else before.shape)
        assert medium in ("image", "audio", "features") or (after == before).all()
    assert nothing_but(tmp_path, "in", "new", f"b{case.form}")
    assert nothing_but(tmp_path / "new", "a")


@pytest.mark.parametrize("medium", [medium for medium in CASES if registry.default(medium)])
def test_the_medium_says_the_codec(medium: str, sources: Path, tmp_path: Path) -> None:
    case = CASES[medium]
    settings: dict[str, Any] = {"effort": 0.0} if medium == "video" else {}
    done = package.encode_file(sources / case.source, tmp_path / "a", **settings)
    assert done.about["codec"] == registry.default(medium)


@every_medium
@pytest.mark.parametrize("how", ["stdin", "pipe", "bytes of a probe"])
def test_sources_that_are_read_once(
    medium: str, how: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, file = CASES[medium], encoded(medium, sources)

    def through(path: Path) -> Any:
        if how == "stdin":
            buffer = io.BufferedReader(io.BytesIO(path.read_bytes()))  # type: ignore[arg-type]
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
            return "-"
        read, write = os.pipe()
        os.set_blocking(write, False)
        import fcntl

        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        assert os.write(write, path.read_bytes()) == path.stat().st_size
        os.close(write)
        pipes.append(read)
        return f"/dev/fd/{read}"

    pipes: list[int] = []
    if how == "bytes of a probe":
        source: Any = package.media.probe_bytes(file.read_bytes())
        loaded = Codec.load(case.codec)
        loaded.verify_file(source)
        loaded.decode_file(source, tmp_path / f"b{case.form}")
        loaded.verify_file(file.read_bytes())
        return
    package.encode_file(through(sources / case.source), tmp_path / "a", case.codec, **case.settings)
    assert (tmp_path / "a").read_bytes() == file.read_bytes()
    package.decode_file(through(tmp_path / "a"), tmp_path / f"b{case.form}")
    assert (tmp_path / f"b{case.form}").stat().st_size > 0
    Codec.load(case.codec).verify_file(through(tmp_path / "a"))
    for pipe in pipes:
        os.close(pipe)


@every_medium
def test_into_a_device(medium: str, sources: Path) -> None:
    case, file = CASES[medium], encoded(medium, sources)
    with pytest.raises(FileExistsError):
        package.encode_file(sources / case.source, "/dev/null", case.codec, **case.settings)
    done = package.encode_file(sources / case.source, "/dev/null", case.codec, replace=True, **case.settings)
    assert done.bytes_out == file.stat().st_size
    if medium != "video":  # a name without a suffix is a folder of pictures
        package.decode_file(file, "/dev/null", replace=True)


# ---- sources that can't be


@every_medium
@pytest.mark.parametrize("source", ["missing", "empty", "a folder", "a name that can't be", "garbage", "cut"])
def test_sources_that_can_not_be(medium: str, source: str, sources: Path, tmp_path: Path) -> None:
    case = CASES[medium]
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbage").write_bytes(bytes(range(256)) * 9)
    (tmp_path / f"cut{case.form}").write_bytes((sources / case.source).read_bytes()[:40])
    paths = {
        "missing": tmp_path / f"none{case.form}",
        "empty": tmp_path / "empty",
        "a folder": tmp_path / "folder",
        "a name that can't be": "a\0b",
        "garbage": tmp_path / "garbage",
        "cut": tmp_path / f"cut{case.form}",
    }
    path = paths[source]
    for name in (case.codec, None):
        if name is None and medium in ("array", "features"):
            continue
        with pytest.raises(CodecError) as caught:
            package.encode_file(path, tmp_path / "out", name)
        assert str(caught.value).startswith((f"{path}: ", f"{path} "))
        assert str(caught.value).count(f"{path}: ") <= 1
    for read in (
        lambda: package.decode_file(path, tmp_path / f"out{case.form}"),
        lambda: Codec.load(case.codec).decode_file(path, tmp_path / f"out{case.form}"),
        lambda: Codec.load(case.codec).verify_file(path),
    ):
        with pytest.raises(ContainerError if source in ("empty", "garbage", "cut") else MediaError):
            read()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("out", "."))]


def test_folders(sources: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, picture in enumerate(noise_clip(3, 28, 28, None)):
        Image.fromarray(picture).save(pictures / f"{index}.png")
    with pytest.raises(UsageError, match=r"pictures is a folder.*name.*nirvana.*circuit|circuit.*nirvana"):
        package.encode_file(pictures, tmp_path / "a")
    settings: dict[str, Any]
    for name, settings in (("nirvana@toy", {"quality": 100}), ("circuit@mnist", {})):
        file = tmp_path / registry.split_tag(name)[0]
        package.encode_file(pictures, file, name, **settings)
        package.decode_file(file, tmp_path / f"{file.name}-back")
        assert len(list((tmp_path / f"{file.name}-back").iterdir())) == 3
    with pytest.raises(MediaError, match=r"in: "):
        package.encode_file(sources, tmp_path / "b", "walloc")


def test_a_file_of_ours_is_not_encoded_again(sources: Path, tmp_path: Path) -> None:
    file = encoded("image", sources)
    with pytest.raises(UsageError, match=r"file\.walloc.*is a file of walloc already"):
        package.encode_file(file, tmp_path / "again")


@pytest.mark.parametrize("source", [b"bytes", 3, None, np.zeros((2, 8, 8, 3), np.uint8)], ids=repr)
def test_what_is_no_file(source: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a path|name a codec"):
        package.encode_file(source, tmp_path / "a")
    for name in ("walloc", "interp", "circuit@mnist"):
        with pytest.raises(UsageError, match="expected a path"):
            package.encode_file(source, tmp_path / "a", name)


def test_what_only_a_medium_takes(tmp_path: Path) -> None:
    clip = noise_clip(4)
    package.encode_file(clip, tmp_path / "a.nirvana", "nirvana@toy", quality=100)
    package.decode_file(tmp_path / "a.nirvana", tmp_path / "b.mkv")
    assert (values(tmp_path / "b.mkv") == clip).all()


# ---- targets that can't be


@every_medium
def test_targets_that_exist(medium: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, file = CASES[medium], encoded(medium, sources)
    target = tmp_path / f"mine{case.form}"
    target.write_bytes(b"mine")

    def no_work(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was coded before the target was looked at")

    loaded = Codec.load(case.codec)
    for name in (
        "encode_pixels",
        "decode_pixels",
        "encode_array",
        "decode_array",
        "encode_field",
        "decode_field",
        "encode_view",
    ):
        if hasattr(loaded, name):
            monkeypatch.setattr(type(loaded), name, no_work)
    for error in (FileExistsError, CodecError):
        with pytest.raises(error, match="exists already"):
            package.encode_file(sources / case.source, target, case.codec)
        with pytest.raises(error, match="exists already"):
            package.decode_file(file, target)
    for error in (IsADirectoryError, CodecError):
        with pytest.raises(error, match="is a folder"):
            package.encode_file(sources / case.source, sources, case.codec, replace=True)
    (tmp_path / f"folder{case.form}").mkdir()
    with pytest.raises(CodecError, match="is a folder"):
        package.decode_file(file, tmp_path / f"folder{case.form}", replace=True)
    monkeypatch.undo()
    monkeypatch.setattr(NirvanaCodec, "presets", classmethod(toy_presets))
    package.decode_file(file, target, replace=True)
    assert len(values(target))


@pytest.mark.parametrize(
    ("medium", "name", "allowed"),
    [
        ("image", "b.mkv", False),
        ("image", "b.xyz", False),
        ("image", "b", True),
        ("image", "b.TIFF", True),
        ("array", "b.mkv", False),
        ("array", "b.xyz", True),
        ("features", "b.mkv", False),
        ("features", "b.png", True),
        ("features", "b", True),
        ("field", "b.png", False),
        ("field", "b.xyz", True),
        ("video", "b.npy", False),
        ("video", "b.xyz", False),
        ("audio", "b.png", False),
        ("audio", "b.xyz", False),
        ("audio", "b.FLAC", True),
        ("video", "b", True),
    ],
)
def test_suffixes(medium: str, name: str, allowed: bool, sources: Path, tmp_path: Path) -> None:
    file = encoded(medium, sources)
    if allowed:
        package.decode_file(file, tmp_path / name)
        assert (tmp_path / name).exists()
        return
    with pytest.raises(UsageError, match=f"unknown suffix {Path(name).suffix} for a file of"):
        package.decode_file(file, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_the_form_of_outputs_without_a_suffix(sources: Path, tmp_path: Path) -> None:
    file = encoded("image", sources)
    for form in ("tiff", ".TIFF"):
        package.decode_file(file, tmp_path / "b", form=form, replace=True)
        with Image.open(tmp_path / "b") as image:
            assert image.format == "TIFF"
    with pytest.raises(UsageError, match="form"):
        package.decode_file(file, tmp_path / "c", form=3)


# ---- settings and selections that can't be

BAD: tuple[Any, ...] = (
    "x",
    "",
    "nan",
    float("nan"),
    float("inf"),
    -1,
    -1.5,
    True,
    [1],
    {},
    object(),
    b"1",
    10**400,
    1j,
)


def loaded() -> Iterator[tuple[str, Any]]:
    for case in CASES.values():
        yield registry.split_tag(case.codec)[0], case.codec
    yield from (("dualgs", "dualgs"), ("mix", "mix"), ("s2lic", "s2lic"), ("vqgan", "vqgan"), ("zipgan", "zipgan@64x"))


def settings_of() -> list[tuple[str, Setting]]:
    return [(name, setting) for name in registry.names() for setting in registry.entry(name).settings]


@pytest.fixture(scope="module")
def codecs() -> dict[str, Any]:
    assert {name for name, _ in loaded()} == set(registry.names())
    tags = {"circuit": "circuit@mnist", "zipgan": "zipgan@64x"}
    return {name: Codec.load(tags.get(name, name)) for name in registry.names()}


GOOD: dict[str, tuple[Any, ...]] = {
    "quality": (50, 50.5, np.float32(50), np.int64(50), "50"),
    "size": (20_000, "20kB", "1.5MB", np.int32(20_000)),
    "bpp": (0.25, "0.25", 1),
    "kbps": (64, "0.5", np.float32(96)),
    "psnr": (34, 34.0, "34"),
    "effort": (1, 0.5, "2"),
    "coder": ("constriction", "torchac", "rans"),
    "max_error": (0.1, "1e-3", 1),
    "rel_error": (0.1, "1e-3", "/t=0.5", ("/t=0.5", "q=1e-3", 0.1), {"/t": 0.5}),
    "pw_rel_error": (0.1, "1e-3", "/t=0.5"),
    "rmse": (0.1, "1e-3", 2),
    "skip": ("u", ("u", "v"), ()),
    "bound": (package.Bound(0.1), package.Bound(3, relative=False)),
    "dataset": ("u", ("u", "v"), ["u"], ()),
    "enough": (40, "38.5"),
    "key_every": (2, "3", np.int64(4)),
    "fps": (24, 23.976, "30000/1001", Fraction(25)),
    "group": (4, "8"),
    "sound": (True, False, "copy", "none", "walloc-audio"),
    "sound_kbps": (64, "0.5", np.float32(96)),
    "scene_cuts": (True, False),
    "seed": (0, 7),
    "threads": (1, 2),
    "mix": (True, False),
    "fast": (True, False),
    "jobs": (1, 2),
    "packets": (1, 20, "7"),
    "lossless": (True, False),
    "keep_order": (True, False),
    "segment": (1, 30, "256"),
}
GOOD_OF = {("dualgs", "max_error"): ("position=0.1", ("colour=1e-3", "opacity=0.01"), {"rotation": 0.01})}


@pytest.mark.parametrize(("name", "setting"), settings_of(), ids=lambda value: getattr(value, "name", value))
class TestEverySetting:
    def test_good_values(self, name: str, setting: Setting, codecs: dict[str, Any]) -> None:
        values = GOOD_OF.get((name, setting.name)) or GOOD[setting.name]
        if setting.name == "coder":
            values = codecs[name].coders
        for value in values:
            changed = codecs[name].with_settings(**{setting.name: value})
            assert changed is not codecs[name]
            assert type(changed) is type(codecs[name])

    def test_bad_values(self, name: str, setting: Setting, codecs: dict[str, Any]) -> None:
        for value in BAD:
            if (setting.switch is not None or setting.words is not None) and value is True:
                continue
            is_name = setting.name in ("dataset", "skip")
            if is_name and isinstance(value, (str, dict)):  # a name that a file may not have
                continue
            if setting.several and not is_name and value == [1]:  # several numbers, of which there is one
                continue
            with pytest.raises(UsageError, match=setting.name.split("_")[0]):
                codecs[name].with_settings(**{setting.name: value})

    def test_none_is_the_default_or_refused(self, name: str, setting: Setting, codecs: dict[str, Any]) -> None:
        try:
            codecs[name].with_settings(**{setting.name: None})
        except UsageError as error:
            assert setting.name in str(error) or "bound" in str(error)


def test_rivals(codecs: dict[str, Any]) -> None:
    for name, settings in (
        ("walloc", {"size": 100, "bpp": 1.0}),
        ("walloc", {"psnr": 30, "bpp": 1.0}),
        ("walloc-audio", {"size": 1000, "kbps": 64}),
        ("nirvana", {"psnr": 30, "bpp": 1.0}),
        ("interp", {"max_error": 1.0, "rel_error": 0.1}),
        ("zipgan", {"max_error": 1.0, "bound": package.Bound(1)}),
    ):
        with pytest.raises(UsageError, match="one of"):
            codecs[name].with_settings(**settings)


def test_a_goal_or_a_bound_refines_the_quality_whatever_comes_first(codecs: dict[str, Any]) -> None:
    interp, walloc = codecs["interp"], codecs["walloc"]
    assert interp.with_settings(max_error=0.1, quality=50).bound == package.Bound(0.1, relative=False)
    assert interp.with_settings(quality=50, max_error=0.1).bound == package.Bound(0.1, relative=False)
    assert walloc.with_settings(size=900, quality=50).goal == ("size", 900)


def test_the_last_one_counts(codecs: dict[str, Any]) -> None:
    aimed = codecs["walloc"].with_settings(size=900)
    assert aimed.with_settings(quality=50).goal is None
    assert aimed.with_settings(bpp=1).goal == ("bpp", 1)
    assert aimed.with_settings(coder="webp").goal == ("size", 900)
    assert codecs["walloc"].goal is None, "it never changes"


def test_unknown_settings(sources: Path, tmp_path: Path) -> None:
    for case in CASES.values():
        with pytest.raises(UsageError, match="doesn't take 'colour': it takes"):
            package.encode_file(sources / case.source, tmp_path / "a", case.codec, colour=1)
    with pytest.raises(UsageError, match="circuit doesn't take 'quality'"):
        package.encode_file(sources / "items.npy", tmp_path / "a", "circuit@mnist", quality=3)
    with pytest.raises(UsageError, match="unknown codec 'walock'"):
        package.encode_file(sources / "photo.png", tmp_path / "a", "walock")


SELECTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("image", {"frames": (0, 3)}, "walloc doesn't take 'frames': it takes nothing"),
    ("image", {"nosuch": 3}, "walloc doesn't take 'nosuch'"),
    ("features", {"frames": (0, 3)}, "entropic-student doesn't take 'frames'"),
    ("array", {"dataset": ("u",)}, "circuit doesn't take 'dataset'"),
    ("field", {"at": 0.5, "dataset": "u"}, "interp doesn't take 'at'"),
    ("field", {"dataset": 3}, "dataset"),
    ("field", {"dataset": "v"}, "no dataset /v: there are"),
    ("field", {"dataset": ("u", "ids")}, "one array"),
    ("field", {"dataset": "notes"}, "text"),
    ("field", {"snapshot": 1}, "snapshot takes one index"),
    ("field", {"dataset": "u", "snapshot": "x"}, "snapshot"),
    ("field", {"dataset": "u", "snapshot": 1.5}, "snapshot"),
    ("field", {"dataset": "u", "snapshot": -1}, "snapshot"),
    ("field", {"dataset": "u", "snapshot": 4}, "4 snapshots"),
    ("video", {"frames": 30}, "frames"),
    ("video", {"frames": (3, 3)}, "frames"),
    ("video", {"frames": (-2, None)}, "frames"),
    ("video", {"frames": ("a", "b")}, "frames"),
    ("video", {"frames": (1, 2, 3)}, "frames"),
    ("video", {"frames": (0.5, 2)}, "frames"),
    ("video", {"frames": (99, None)}, "there are 7 frames"),
    ("video", {"conceal": "yes"}, "conceal"),
    ("video", {"sound": 0}, "sound"),
    ("video", {"encoder": 3}, "encoder"),
    ("video", {"encoder": "x264"}, "no encoder 'x264'"),
    ("audio", {"seconds": 30}, "seconds"),
    ("audio", {"seconds": (1, 1)}, "seconds"),
    ("audio", {"seconds": (-1, None)}, "seconds"),
    ("audio", {"seconds": ("a", "b")}, "seconds"),
    ("audio", {"seconds": (float("nan"), 2)}, "seconds"),
    ("audio", {"seconds": "2:"}, "the sound has 1.5"),
    ("audio", {"conceal": "yes"}, "conceal"),
    ("audio", {"frames": (0, 3)}, "walloc-audio doesn't take 'frames'"),
]


@pytest.mark.parametrize(("medium", "select", "words"), SELECTIONS, ids=lambda value: str(value)[:40])
def test_selections_that_can_not_be(
    medium: str, select: dict[str, Any], words: str, sources: Path, tmp_path: Path
) -> None:
    file = encoded(medium, sources)
    target = tmp_path / ("b.npy" if medium == "field" else f"b{CASES[medium].form}")
    with pytest.raises(UsageError, match=words):
        package.decode_file(file, target, **select)
    assert not target.exists()


def test_a_selection_is_refused_by_the_codec_itself(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="walloc doesn't take 'frames'"):
        Codec.load("walloc").decode_file(encoded("image", sources), tmp_path / "b.png", Select(frames=(0, 3)))


GOOD_SELECTIONS: list[tuple[str, dict[str, Any], Callable[[Any], bool]]] = [
    ("video", {"frames": (2, 4)}, lambda x: len(x) == 2),
    ("video", {"frames": [2, None]}, lambda x: len(x) == 5),
    ("video", {"frames": "2:4"}, lambda x: len(x) == 2),
    ("audio", {"seconds": "0.5:1"}, lambda x: x.shape == (4000, 2)),
    ("audio", {"seconds": (Fraction(1, 2), None), "conceal": True}, lambda x: x.shape == (8000, 2)),
    ("video", {"frames": (np.int64(2), np.int64(4)), "conceal": True, "sound": False}, lambda x: len(x) == 2),
    ("field", {"dataset": "u"}, lambda x: x.shape == (4, 64, 64)),
    ("field", {"dataset": ["/ids"]}, lambda x: x.tolist() == list(range(5))),
    ("field", {"dataset": "u", "snapshot": np.int64(3)}, lambda x: x.shape == (64, 64)),
]


@pytest.mark.parametrize(("medium", "select", "right"), GOOD_SELECTIONS, ids=lambda value: str(value)[:40])
def test_selections(
    medium: str, select: dict[str, Any], right: Callable[[Any], bool], sources: Path, tmp_path: Path
) -> None:
    target = tmp_path / ("b.npy" if medium == "field" else f"b{CASES[medium].form}")
    package.decode_file(encoded(medium, sources), target, **select)
    assert right(values(target))


@pytest.mark.parametrize("name", ["u", "/u", "u/"])
def test_one_dataset_as_hdf5(name: str, sources: Path, tmp_path: Path) -> None:
    package.decode_file(encoded("field", sources), tmp_path / "all.h5")
    package.decode_file(encoded("field", sources), tmp_path / "b.h5", dataset=name)
    assert (values(tmp_path / "b.h5")["u"] == values(tmp_path / "all.h5")["u"]).all()
    assert list(values(tmp_path / "b.h5")) == ["u"], "nothing that nobody stored"


def test_empty_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["none"], file["some"] = np.zeros((0, 3), "f4"), np.arange(3)
        file["nothing"], file["flat"] = h5py.Empty("f4"), np.zeros((3, 0), ">f8")
    package.encode_file(tmp_path / "a.h5", tmp_path / "a")
    back = package.decode((tmp_path / "a").read_bytes())
    assert (back["/none"].shape, back["/none"].dtype, back["/some"].tolist()) == ((0, 3), "f4", [0, 1, 2])
    assert (back["/flat"].shape, back["/flat"].dtype) == ((3, 0), "f8")
    package.decode_file(tmp_path / "a", tmp_path / "none.npy", dataset="none")
    assert values(tmp_path / "none.npy").shape == (0, 3)
    with pytest.raises(UsageError, match="0 snapshots"):
        package.decode_file(tmp_path / "a", tmp_path / "b.npy", dataset="none", snapshot=0)
    with pytest.raises(UsageError, match="holds no array"):
        package.decode_file(tmp_path / "a", tmp_path / "b.npy", dataset="nothing")
    package.decode_file(tmp_path / "a", tmp_path / "b.h5")
    assert values(tmp_path / "b.h5")["flat"].shape == (3, 0)


def test_a_dataset_of_the_file_of_an_array(tmp_path: Path) -> None:
    interp = Codec.load("interp")
    (tmp_path / "a").write_bytes(interp.compress(np.ones((9, 9), np.float32)))
    select: dict[str, Any]
    for select in ({"dataset": "u"}, {"dataset": "u", "snapshot": 0}):
        with pytest.raises(UsageError, match="holds one array"):
            package.decode_file(tmp_path / "a", tmp_path / "b.npy", **select)


def test_weights_and_device(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'nosuch'"):
        package.encode_file(sources / "photo.png", tmp_path / "a", "walloc", device="nosuch")
    with pytest.raises(package.WeightsError):
        package.encode_file(sources / "photo.png", tmp_path / "a", "walloc", weights=tmp_path / "none")
    with pytest.raises(package.WeightsError):
        package.decode_file(encoded("image", sources), tmp_path / "a.png", weights=tmp_path / "none")
