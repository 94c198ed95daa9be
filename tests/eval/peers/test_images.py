"""Classical picture codecs: what goes in comes out, quality does as it says, files hold nothing but the picture."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.errors import MediaError, StreamError, UsageError
from codec.eval.bench.contract import Family, OptionValue, Peer
from codec.eval.peers import images

NAMES = [family.name for family in images.FAMILIES]
LOSSY = ["jpeg", "webp", "avif", "jxl", "jpeg2000", "htj2k", "jpegxr"]
THREADED = ["avif", "avif-lossless", "jxl", "jxl-lossless", "jpeg2000", "jpeg2000-lossless"]
LOSSLESS = [name for name in NAMES if name not in LOSSY]
# What a picture at the default setting must reach; a wrong channel order or colour transform is far below.
DEFAULT_PSNR = 28.0


def family(name: str) -> Family:
    return next(item for item in images.FAMILIES if item.name == name)


def settings(name: str, **chosen: OptionValue) -> dict[str, OptionValue]:
    return {key: option.default for key, option in family(name).options.items()} | chosen


def peer(name: str, threads: int = 1, **chosen: Any) -> Peer:
    return family(name).make(settings(name, **chosen), threads)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def gradient(height: int, width: int) -> np.ndarray:
    """A different slope in each channel, so that swapped channels or sides show."""
    y, x = np.mgrid[:height, :width].astype(float)
    planes = (x / max(1, width - 1), y / max(1, height - 1), 1 - x / max(1, width))
    return np.stack([np.round(p * 200 + 20) for p in planes], axis=2).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """(96, 64, 3) of the dog's face: the fur's detail is in it."""
    path = Path(__file__).resolve().parents[3] / "samples" / "dog.png"
    return np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[200:296, 240:304])


@pytest.mark.parametrize("name", NAMES)
class TestEveryFamily:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 5), (65, 63)])
    def test_any_size(self, name: str, shape: tuple[int, int]) -> None:
        picture = gradient(*shape)
        decoded = peer(name).decode(peer(name).encode(picture))
        assert decoded.shape == picture.shape
        # Chroma at half resolution and steep slopes of a few pixels: the bound is low for small ones.
        assert psnr(decoded, picture) > (DEFAULT_PSNR if min(shape) > 9 else 12)

    def test_a_photograph(self, name: str, crop: np.ndarray) -> None:
        before = crop.copy()
        data = peer(name).encode(crop)
        decoded = peer(name).decode(data)
        assert type(data) is bytes
        assert psnr(decoded, crop) > DEFAULT_PSNR
        assert (crop == before).all()

    def test_decodes_to_an_array_in_memory(self, name: str, crop: np.ndarray) -> None:
        decoded: Any = peer(name).decode(peer(name).encode(crop))
        assert type(decoded) is np.ndarray  # a PIL image would do its work when somebody looks at it
        assert decoded.dtype == np.uint8 and decoded.shape == crop.shape and decoded.flags.c_contiguous

    def test_strides_are_followed(self, name: str, crop: np.ndarray) -> None:
        view = crop[::-1, ::2]
        assert peer(name).encode(view) == peer(name).encode(view.copy())

    def test_same_bytes_and_pixels_with_more_threads(self, name: str, crop: np.ndarray) -> None:
        data = peer(name).encode(crop)
        assert (peer(name, threads=2).decode(data) == peer(name).decode(data)).all()
        # A codec may cut a picture differently for more threads; small ones aren't cut.
        assert peer(name, threads=2).encode(crop) == data

    def test_no_metadata(self, name: str, crop: np.ndarray) -> None:
        data = peer(name).encode(crop)
        for mark in (b"Exif", b"EXIF", b"ICC", b"iCC", b"acsp", b"xmp", b"XMP", b"Created", b"OpenJP", b"Software"):
            assert mark not in data

    @pytest.mark.parametrize("junk", [b"", b"no picture", bytes(200)])
    def test_junk(self, name: str, junk: bytes) -> None:
        with pytest.raises(StreamError, match=name):
            peer(name).decode(junk)

    @pytest.mark.parametrize(
        "value",
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((4, 4, 3)),
            np.zeros((0, 4, 3), np.uint8),
            b"",
        ],
    )
    def test_values_of_another_kind(self, name: str, value: Any) -> None:
        with pytest.raises(MediaError, match=name):
            peer(name).encode(value)

    def test_versions_and_missing(self, name: str) -> None:
        assert family(name).missing() is None
        found = family(name).versions()
        assert len(found) >= 2, "a binding and a library"
        for library, number in found.items():
            assert library and isinstance(number, str) and any(c.isdigit() for c in number), (library, number)

    def test_declaration(self, name: str) -> None:
        item = family(name)
        images.check_settings(name, item.options, settings(name))
        assert item.medium == "image" and item.about
        assert item.lossless == (name in LOSSLESS)
        assert (item.axis is None) == item.lossless == (not item.sweep)
        for value in item.sweep:
            images.check_settings(name, item.options, settings(name, **{item.axis or "": value}))
        words = [word for option in item.options.values() for word in option.choices]
        assert len(words) == len(set(words)), "a choice written alone must belong to one option"

    def test_settings_that_cannot_be(self, name: str) -> None:
        item = family(name)
        with pytest.raises(UsageError, match="unknown"):
            item.make(settings(name) | {"colour": 1}, 1)
        with pytest.raises(UsageError, match="0 threads"):
            item.make(settings(name), 0)
        for key, option in item.options.items():
            wrong = ["411", 4] if option.choices else [(option.high or 0) + 1, (option.low or 0) - 1, "much", math.nan]
            for value in [*wrong, 5.5] if isinstance(option.default, int) else wrong:
                with pytest.raises(UsageError, match=key):
                    item.make(settings(name, **{key: value}), 1)
            with pytest.raises(UsageError, match="missing"):
                item.make({k: v for k, v in settings(name).items() if k != key}, 1)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (65, 63), (96, 64)])
def test_lossless_is_exact_on_noise(name: str, shape: tuple[int, int]) -> None:
    picture = noise(*shape)
    assert (peer(name).decode(peer(name).encode(picture)) == picture).all()


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_shrinks_what_is_simple(name: str) -> None:
    picture = np.kron(noise(2, 2), np.ones((48, 32, 1), np.uint8))  # four flat parts
    data = peer(name).encode(picture)
    assert (peer(name).decode(data) == picture).all()
    assert len(data) < picture.size / 4


@pytest.mark.parametrize("name", LOSSY)
def test_quality_moves_size_and_distortion(name: str, crop: np.ndarray) -> None:
    item = family(name)
    points = [item.sweep[0], item.sweep[len(item.sweep) // 2], item.sweep[-1]]
    peers = [item.make(settings(name, **{item.axis or "": point}), 1) for point in points]
    files = [one.encode(crop) for one in peers]
    sizes = [len(data) for data in files]
    quality = [psnr(one.decode(data), crop) for one, data in zip(peers, files, strict=True)]
    assert sizes[0] < 0.6 * sizes[1] and sizes[1] < 0.6 * sizes[2]
    assert quality[0] + 2 < quality[1] < quality[2] - 2
    assert quality[2] < 60, "lossy it is"


@pytest.mark.parametrize("name", LOSSY)
def test_sweep_is_in_order(name: str) -> None:
    sweep = [float(value) for value in family(name).sweep]
    assert sweep in (sorted(sweep), sorted(sweep, reverse=True)) and len(sweep) >= 8


CHECKER = np.zeros((32, 32, 3), np.uint8)
CHECKER[np.indices((32, 32)).sum(0) % 2 == 0, 0] = 255
CHECKER[np.indices((32, 32)).sum(0) % 2 == 1, 2] = 255


@pytest.mark.parametrize("name", ["jpeg", "avif"])
def test_chroma_resolution(name: str) -> None:
    """Red and blue pixels in turn: half the chroma samples can't tell them apart."""
    reached = {}
    for chroma in ("444", "422", "420"):
        one = peer(name, q=95, chroma=chroma)
        reached[chroma] = psnr(one.decode(one.encode(CHECKER)), CHECKER)
    assert reached["444"] > 25
    assert reached["422"] < 15 and reached["420"] < 15


@pytest.mark.parametrize(
    ("name", "chosen"), [("jxl", {"d": 0.3}), ("jpeg2000", {"psnr": 45.0}), ("htj2k", {"step": 0.004})]
)
def test_full_chroma_where_there_is_no_choice(name: str, chosen: dict[str, Any]) -> None:
    one = peer(name, **chosen)
    assert psnr(one.decode(one.encode(CHECKER)), CHECKER) > 25


def test_jpegxr_changes_chroma_where_it_says() -> None:
    below, above = peer("jpegxr", q=0.49), peer("jpegxr", q=0.5)
    assert psnr(below.decode(below.encode(CHECKER)), CHECKER) < 15
    assert psnr(above.decode(above.encode(CHECKER)), CHECKER) > 25


def test_webp_is_420() -> None:
    one = peer("webp", q=100)
    assert psnr(one.decode(one.encode(CHECKER)), CHECKER) < 15


@pytest.mark.parametrize(
    ("name", "limit"),
    [("jpeg", 65500), ("webp", 16383), ("webp-lossless", 16383), ("avif", 32768), ("avif-lossless", 32768)],
)
def test_sides_beyond_the_format(name: str, limit: int) -> None:
    one = peer(name, speed=10) if name.startswith("avif") else peer(name)
    for shape in ((limit + 1, 1, 3), (1, limit + 1, 3)):
        with pytest.raises(MediaError, match=f"{name}.*{limit}"):
            one.encode(np.zeros(shape, np.uint8))
    longest = np.zeros((limit, 1, 3), np.uint8)
    assert one.decode(one.encode(longest)).shape == longest.shape


class TestJpeg:
    def test_scans(self, crop: np.ndarray) -> None:
        files = {scan: peer("jpeg", q=60, scan=scan).encode(crop) for scan in ("baseline", "optimized", "progressive")}
        decoded = [peer("jpeg").decode(data) for data in files.values()]
        assert (decoded[0] == decoded[1]).all() and (decoded[0] == decoded[2]).all()
        assert len(files["optimized"]) < len(files["baseline"])
        assert b"\xff\xc2" in files["progressive"] and b"\xff\xc2" not in files["optimized"]

    def test_noise_that_pillow_has_no_room_for(self) -> None:
        picture = noise(300, 300)
        for scan in ("progressive", "optimized"):
            with pytest.raises(MediaError, match="scan=baseline"):
                peer("jpeg", q=94, chroma="444", scan=scan).encode(picture)
        one = peer("jpeg", q=94, chroma="444", scan="baseline")
        assert psnr(one.decode(one.encode(picture)), picture) > 30

    def test_segments(self, crop: np.ndarray) -> None:
        data, at, found = peer("jpeg").encode(crop), 2, []
        while data[at + 1] != 0xDA:
            found.append(data[at + 1])
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        assert set(found) <= {0xE0, 0xDB, 0xC2, 0xC4}  # JFIF, tables, frame


def chunks_of_webp(data: bytes) -> list[bytes]:
    found, at = [], 12
    while at < len(data):
        found.append(data[at : at + 4])
        size = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + size + size % 2
    return found


def test_chunks(crop: np.ndarray) -> None:
    assert chunks_of_webp(peer("webp").encode(crop)) == [b"VP8 "]
    assert chunks_of_webp(peer("webp-lossless").encode(crop)) == [b"VP8L"]
    png, at, found = peer("png").encode(crop), 8, set()
    while at < len(png):
        found.add(png[at + 4 : at + 8])
        at += 12 + struct.unpack_from(">I", png, at)[0]
    assert found == {b"IHDR", b"IDAT", b"IEND"}
    assert peer("jxl").encode(crop)[:2] == b"\xff\x0a"  # a bare codestream, no boxes


class TestCodestream:
    def test_comments_go_and_the_rest_stays(self, crop: np.ndarray) -> None:
        import imagecodecs

        whole = bytes(imagecodecs.jpeg2k_encode(crop, 38, codecformat="j2k", reversible=False))
        at = whole.index(b"\xff\x64")
        length = struct.unpack_from(">H", whole, at + 2)[0]
        assert b"OpenJPEG" in whole[at : at + 2 + length]
        assert peer("jpeg2000", psnr=38).encode(crop) == whole[:at] + whole[at + 2 + length :]

    @pytest.mark.parametrize("name", ["jpeg2000", "jpeg2000-lossless"])
    def test_another_decoder_reads_it(self, name: str, crop: np.ndarray) -> None:
        data = peer(name).encode(crop)
        assert (np.asarray(Image.open(io.BytesIO(data))) == peer(name).decode(data)).all()

    def test_it_is_irreversible_with_a_colour_transform(self, crop: np.ndarray) -> None:
        data = peer("jpeg2000").encode(crop)
        at = data.index(b"\xff\x52")  # COD: length, style, progression, layers, transform of components, ..., wavelet
        layers, transform = struct.unpack_from(">HB", data, at + 6)
        assert (layers, transform) == (1, 1)
        assert data[at + 13] == 0  # 9/7
        lossless = peer("jpeg2000-lossless").encode(crop)
        assert lossless[lossless.index(b"\xff\x52") + 13] == 1  # 5/3

    def test_fractions_of_a_decibel(self, crop: np.ndarray) -> None:
        sizes = [len(peer("jpeg2000", psnr=value).encode(crop)) for value in (38.0, 38.5, 39.0)]
        assert sizes[0] < sizes[1] < sizes[2]


class TestAvif:
    def test_encoders(self) -> None:
        from PIL.AvifImagePlugin import get_codec_version

        for encoder in ("svt", "rav1e"):
            if get_codec_version(encoder) is None:
                with pytest.raises(UsageError, match=f"without the encoder {encoder}"):
                    peer("avif", encoder=encoder, chroma="420")
            else:
                one = peer("avif", encoder=encoder, chroma="420")
                assert one.decode(one.encode(gradient(64, 64))).shape == (64, 64, 3)

    def test_combinations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from PIL import AvifImagePlugin

        monkeypatch.setattr(AvifImagePlugin, "get_codec_version", lambda name: "1.0")
        with pytest.raises(UsageError, match="4:2:0"):
            peer("avif", encoder="svt", chroma="444")
        with pytest.raises(UsageError, match="tune=psnr is for the encoder aom"):
            peer("avif", encoder="rav1e", tune="psnr")

    def test_tune_and_speed_reach_the_encoder(self, crop: np.ndarray) -> None:
        chosen = [{}, {"tune": "psnr"}, {"tune": "ssim"}, {"speed": 9}]
        assert len({peer("avif", **one).encode(crop) for one in chosen}) == 4


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("jxl", {"effort": 1}, {"effort": 7}),
        ("jxl-lossless", {"effort": 1}, {"effort": 7}),
        ("webp", {"method": 0}, {"method": 6}),
        ("webp-lossless", {"method": 0, "effort": 0}, {"method": 6, "effort": 100}),
        ("avif-lossless", {"speed": 10}, {"speed": 4}),
    ],
)
def test_effort_reaches_the_encoder(name: str, low: Any, high: Any, crop: np.ndarray) -> None:
    assert peer(name, **low).encode(crop) != peer(name, **high).encode(crop)


@pytest.mark.parametrize("name", THREADED)
def test_threads_are_passed_on(name: str, crop: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecodecs

    seen: list[Any] = []

    def watch(owner: Any, attribute: str, key: str) -> None:
        original = getattr(owner, attribute)

        def call(*positional: Any, **named: Any) -> Any:
            seen.append(named.get(key))
            return original(*positional, **named)

        monkeypatch.setattr(owner, attribute, call)

    for codec in ("avif", "jpegxl", "jpeg2k"):
        watch(imagecodecs, f"{codec}_encode", "numthreads")
        watch(imagecodecs, f"{codec}_decode", "numthreads")
    if name == "avif":
        watch(Image.Image, "save", "max_threads")
    one = peer(name, threads=2)
    one.decode(one.encode(crop))
    assert seen == [2, 2]


def test_those_without_threads_say_so() -> None:
    for item in images.FAMILIES:
        assert ("one thread" in item.about) != (item.name in THREADED)
        assert ("threads for both ways" in item.about) == (item.name in THREADED)


class TestOtherFilesOfTheFormat:
    """What the peers don't write themselves but must not misread."""

    def test_grey(self) -> None:
        grey = gradient(16, 24)[:, :, 0]
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "PNG")
        assert (peer("png").decode(stream.getvalue()) == grey[:, :, None]).all()

    def test_alpha_is_dropped_without_touching_colour(self) -> None:
        import imagecodecs

        rgba = np.dstack([gradient(16, 24), np.full((16, 24), 7, np.uint8)])
        for name, data in (
            ("webp-lossless", imagecodecs.webp_encode(rgba, lossless=True)),
            ("png", imagecodecs.png_encode(rgba)),
            ("jxl-lossless", imagecodecs.jpegxl_encode(rgba, lossless=True)),
        ):
            assert (peer(name).decode(bytes(data)) == rgba[:, :, :3]).all()

    def test_grey_with_alpha(self) -> None:
        import imagecodecs

        grey = gradient(16, 24)[:, :, :1]
        data = bytes(imagecodecs.jpegxl_encode(np.dstack([grey, grey // 2]), lossless=True))
        assert (peer("jxl-lossless").decode(data) == grey).all()

    def test_a_profile_is_not_applied(self) -> None:
        """A JPEG that claims another colour space decodes to the numbers that are in it."""
        from PIL import ImageCms

        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        files = []
        for profile in (None, lab):
            stream = io.BytesIO()
            Image.fromarray(gradient(16, 24)).save(stream, "JPEG", quality=95, icc_profile=profile)
            files.append(stream.getvalue())
        assert len(files[1]) > len(files[0])
        assert (peer("jpeg").decode(files[0]) == peer("jpeg").decode(files[1])).all()

    def test_deep_samples(self) -> None:
        import imagecodecs

        data = bytes(imagecodecs.jpegxl_encode(np.zeros((8, 8, 3), np.uint16), lossless=True))
        with pytest.raises(StreamError, match="uint16"):
            peer("jxl-lossless").decode(data)


def test_missing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecodecs

    with monkeypatch.context() as patch:
        patch.setattr(imagecodecs.JPEGXL, "available", False)
        assert "without JPEGXL" in (family("jxl").missing() or "")
    with monkeypatch.context() as patch:
        patch.setattr(images, "find_spec", lambda name: None)
        assert "pip install 'codec-suite[eval]'" in (family("jxl").missing() or "")
        with pytest.raises(UsageError, match="codec-suite"):
            peer("jxl")
    from PIL import features

    with monkeypatch.context() as patch:
        patch.delitem(features.modules, "avif")
        assert "without avif: pip install -U pillow" in (family("avif").missing() or "")


def test_importing_is_light() -> None:
    code = "import sys, codec.eval.peers.images; print({'imagecodecs', 'PIL', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
