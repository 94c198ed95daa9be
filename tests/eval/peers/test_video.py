"""Video baselines: every frame back in its size and place, colours named the same way in both directions."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import numpy as np
import pytest

from codec.errors import CodecError, MediaError, StreamError, UsageError
from codec.eval.bench.contract import OptionValue, Peer, Video
from codec.eval.peers.video import FAMILIES

FAMILY = {family.name: family for family in FAMILIES}
QUICK: dict[str, dict[str, OptionValue]] = {
    "x264": {"preset": "veryfast"},
    "x265": {"preset": "ultrafast"},
    "av1": {"preset": 12},
    "ffv1": {},
}
LOSSY = ("x264", "x265", "av1")


def make(name: str, **chosen: OptionValue) -> Peer:
    threads = int(chosen.pop("threads", 1))
    settings = {key: option.default for key, option in FAMILY[name].options.items()}
    return FAMILY[name].make({**settings, **QUICK[name], **chosen}, threads)


def moving(n_frames: int, height: int, width: int, fps: Fraction = Fraction(25)) -> Video:
    """A smooth pattern that moves by two columns a frame; the mean rises by 8, so that every frame is another."""
    t, y, x = np.mgrid[:n_frames, :height, :width].astype(np.float64)
    red = 100 + 60 * np.sin((x + 2 * t) / 9) + 8 * t
    green = 90 + 50 * np.cos((y + x) / 11) + 8 * t
    blue = 80 + 40 * np.sin((y - 2 * t) / 8) + 8 * t
    return Video(np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8), fps)


def error(a: Video, b: Video) -> float:
    return float(np.abs(a.frames.astype(int) - b.frames).mean())


def test_everything_is_there() -> None:
    for family in FAMILIES:
        assert family.missing() is None, family.name
        assert all(family.versions().values()), family.name
        assert family.axis is None or (family.axis in family.options and family.sweep)
    assert "libsvtav1" in FAMILY["av1"].versions()["encoders"]


@pytest.mark.parametrize("name", list(FAMILY))
@pytest.mark.parametrize(
    ("n_frames", "height", "width", "fps"),
    [
        (1, 1, 1, Fraction(25)),
        (2, 3, 70, Fraction(24000, 1001)),
        (3, 17, 33, Fraction(1000, 33)),
        (9, 66, 67, Fraction(123, 10)),
        (20, 65, 80, Fraction(30000, 1001)),
    ],
)
def test_every_frame_and_size(name: str, n_frames: int, height: int, width: int, fps: Fraction) -> None:
    original = moving(n_frames, height, width, fps)
    for container in ("mp4", "mkv") if name != "ffv1" else ("mkv",):
        peer = make(name, container=container) if name != "ffv1" else make(name)
        decoded = peer.decode(peer.encode(original))
        assert decoded.frames.shape == original.frames.shape
        assert decoded.frames.dtype == np.uint8
        assert decoded.fps == fps
        rise = decoded.frames.astype(float).mean(axis=(1, 2, 3)) - original.frames.astype(float).mean(axis=(1, 2, 3))
        assert np.abs(rise).max() < 4  # frames 8 apart, so none is missing, doubled or out of order
        assert error(original, decoded) < 6


@pytest.mark.parametrize("name", ["x264", "x265"])
@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_few_frames(name: str, n_frames: int) -> None:
    """x265 with B-frames fails on clips of one or two."""
    peer = make(name, preset="medium")
    original = moving(n_frames, 64, 96)
    for _ in range(2):
        assert peer.decode(peer.encode(original)).frames.shape == original.frames.shape


def test_ffv1_is_lossless() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 37, 53, 3), dtype=np.uint8)
    for frames in (noise, moving(5, 64, 96).frames):
        for gop in (1, 300):
            peer = make("ffv1", gop=gop)
            assert np.array_equal(peer.decode(peer.encode(Video(frames, Fraction(25)))).frames, frames)
    assert len(make("ffv1").encode(moving(5, 64, 96))) < moving(5, 64, 96).frames.size / 2


@pytest.mark.parametrize("name", LOSSY)
def test_rate_falls_with_crf(name: str) -> None:
    original = moving(8, 96, 128)
    noise = np.random.default_rng(0).integers(-20, 21, original.frames.shape)
    original = Video((original.frames.astype(int) + noise).clip(0, 255).astype(np.uint8), original.fps)
    files = [make(name, crf=crf).encode(original) for crf in (12, 28, 44)]
    sizes = [len(data) for data in files]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]
    errors = [error(original, make(name).decode(data)) for data in files]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("x264", {"crf": 1, "chroma": "444"}),
        ("x264", {"crf": 1, "chroma": "420"}),
        ("x265", {"crf": 1, "chroma": "444"}),
        ("x265", {"crf": 1, "chroma": "420"}),
        ("av1", {"crf": 1}),
    ],
)
def test_colours(name: str, chosen: dict[str, OptionValue]) -> None:
    """A grey ramp and the corners of the RGB cube. BT.601 on one side only would be off by 20 and more."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(64, axis=0)
    corners = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    blocks = corners.repeat(32, axis=0)[None].repeat(64, axis=0)  # 8 blocks of 64x32
    peer = make(name, **chosen)
    for picture, tolerance in ((ramp, 2), (blocks, 3)):
        decoded = peer.decode(peer.encode(Video(picture[None], Fraction(25)))).frames[0]
        off = np.abs(decoded.astype(int) - picture)
        columns = np.arange(256) % 32
        if picture is blocks:  # inside the blocks: 4:2:0 has to blur chroma at their edges
            off = off[:, (columns >= 8) & (columns < 24)]
        assert off.max() <= tolerance + (1 if name == "av1" else 0)


def test_full_chroma_is_sharper() -> None:
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255, 0, 0
    stripes[:, :, 1::2] = 0, 0, 255
    original = Video(stripes, Fraction(25))
    for name in ("x264", "x265"):
        full, half = (make(name, crf=5, chroma=chroma) for chroma in ("444", "420"))
        assert error(original, full.decode(full.encode(original))) < 4
        assert error(original, half.decode(half.encode(original))) > 30


@pytest.mark.parametrize("name", list(FAMILY))
def test_same_bytes_and_no_messages(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    original = moving(20, 96, 96)  # x264 with AVX-512 differs on it every other time, with this preset
    peer = make(name, preset="medium") if name == "x264" else make(name)
    data = peer.encode(original)
    for _ in range(10):
        assert data == peer.encode(original)
    for text in (b"x264 - core", b"x265 (build", b"Lavf6", b"Lavc6"):
        assert text not in data
    assert make(name).decode(data).frames.shape == original.frames.shape
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("name", list(FAMILY))
def test_threads(name: str) -> None:
    original = moving(6, 96, 96)
    data = make(name, threads=2).encode(original)
    decoded = make(name, threads=2).decode(data)
    assert error(original, decoded) < 6
    assert np.array_equal(make(name, threads=1).decode(data).frames, decoded.frames)


def test_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("SVT_LOG", raising=False)
    make("av1").encode(moving(1, 16, 16))
    assert "SVT_LOG" not in os.environ


def test_usage() -> None:
    with pytest.raises(UsageError, match="encoder=svt"):
        make("av1", encoder="aom", preset=3)


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), Fraction(25)),
        (np.zeros((1, 4, 4, 1), np.uint8), Fraction(25)),
        (np.zeros((1, 4, 4, 3), np.float32), Fraction(25)),
        (np.zeros((1, 4, 4, 3), np.uint8), Fraction(0)),
        (np.zeros((1, 4, 4, 3), np.uint8), Fraction(1, 1000)),
    ],
)
def test_refused_input(frames: np.ndarray, fps: Fraction) -> None:
    for name in FAMILY:
        with pytest.raises(MediaError):
            make(name).encode(Video(frames, fps))


@pytest.mark.parametrize("name", list(FAMILY))
def test_damage(name: str) -> None:
    peer = make(name)
    data = peer.encode(moving(3, 33, 47))
    for bad in (b"", b"CdcV", b"CdcV\xff\xff\xff\xff" + data[-2000:], bytes(200), data[: len(data) // 3]):
        with pytest.raises(StreamError):
            peer.decode(bad)
    rng = np.random.default_rng(0)
    for _ in range(25):  # a flipped byte either decodes to something or is refused; nothing else
        at = int(rng.integers(len(data)))
        with contextlib.suppress(CodecError):
            peer.decode(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])


def test_padding_that_leaves_nothing() -> None:
    peer = make("x264")
    data = peer.encode(moving(2, 33, 47))
    assert data[:8] == b"CdcV\x01\x00\x01\x00"
    with pytest.raises(StreamError, match="48x34"):
        peer.decode(b"CdcV\x30\x00\x01\x00" + data[8:])


def test_stream_of_another_codec() -> None:
    with pytest.raises(StreamError, match="expected hevc"):
        make("x265").decode(make("x264").encode(moving(2, 64, 64)))
