"""Rate and distortion of video: one encoder and one trivial codec on a tiny clip, resuming, BD-rates."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from codec.errors import MediaError, UsageError
from codec.eval import video
from codec.eval.video import Candidate, Clip, Row, anchor_of, main, measure, ours, psnr_of_frame, read_rows, summary
from codec.video import Frame, Pixels, VideoInfo, VideoWriter, open_video, plane_shapes


def clip_file(folder: Path, n_frames: int = 5, pixels: Pixels = "yuv420p") -> Path:
    info = VideoInfo(72, 68, pixels, Fraction(1, 25), Fraction(25))
    rng = np.random.default_rng(0)
    texture = rng.integers(-12, 13, (200, 200))
    with VideoWriter(folder / f"tiny-{pixels}.mkv", info) as writer:
        for t in range(n_frames):
            planes = []
            for shape in plane_shapes(info):
                columns = np.arange(shape[1])
                wave = 120 + 60 * np.sin((columns + 2 * t) / 9) + texture[2 * t : 2 * t + shape[0], : shape[1]]
                wave = np.stack([wave, 255 - wave, wave / 2], axis=2) if len(shape) == 3 else wave
                planes.append(wave.clip(0, 255).astype(np.uint8))
            writer.write(Frame(tuple(planes), t, 1))
    return folder / f"tiny-{pixels}.mkv"


def fake(calls: list[str]) -> Candidate:
    """Drops low bits and deflates."""

    def compress(path: Path, setting: str) -> bytes:
        calls.append(setting)
        bits = int(setting)
        with open_video(path) as reader:
            data = b"".join((plane >> bits).tobytes() for frame in reader for plane in frame.planes)
        return bytes([bits]) + zlib.compress(data)

    def decompress(data: bytes) -> tuple[VideoInfo, list[Frame]]:
        info = VideoInfo(72, 68, "yuv420p", Fraction(1, 25), Fraction(25))
        bits, samples = data[0], np.frombuffer(zlib.decompress(data[1:]), np.uint8)
        frames, at = [], 0
        while at < samples.size:
            planes = []
            for height, width in plane_shapes(info):
                part = samples[at : at + height * width].reshape(height, width)
                planes.append((part << bits) + (1 << bits) // 2)
                at += height * width
            frames.append(Frame(tuple(planes), len(frames), 1))
        return info, frames

    return ours("deflate", ("0", "2", "3", "4", "5"), compress, decompress)


def test_one_anchor_and_one_codec(tmp_path: Path) -> None:
    path, out = clip_file(tmp_path), tmp_path / "rows.csv"
    calls: list[str] = []
    arguments = [
        str(path),
        "--codecs",
        "x264:ultrafast:crf=10+20+30+40",
        "--out",
        str(out),
        "--anchor",
        "x264:ultrafast",
    ]
    assert main(arguments, [fake(calls)]) == 0
    rows = read_rows(out)
    assert [row.setting for row in rows] == ["crf=10", "crf=20", "crf=30", "crf=40", "0", "2", "3", "4", "5"]
    for codec in ("x264:ultrafast", "deflate"):
        mine = [row for row in rows if row.codec == codec]
        assert all(a.n_bytes > b.n_bytes and a.psnr_yuv > b.psnr_yuv for a, b in pairwise(mine))
    assert all((row.frames, row.width, row.height, row.ms_ssim) == (5, 72, 68, None) for row in rows)
    assert all(row.bpp == pytest.approx(8 * row.n_bytes / (5 * 72 * 68), rel=1e-5) for row in rows)
    assert all(row.kbps == pytest.approx(8 * row.n_bytes / 1000 / 0.2, rel=1e-5) for row in rows)
    assert (rows[4].psnr_yuv, rows[4].psnr_rgb) == (100, 100)
    assert rows[5].psnr_yuv == pytest.approx(10 * np.log10(255**2 / 1.5), abs=0.3)  # errors of -2 to 1
    result = json.loads(out.with_suffix(".json").read_text())
    assert result["anchor"] == "x264:ultrafast"
    assert result["failed"] == []
    assert np.isfinite(result["codecs"]["deflate"]["bd_rate_psnr_yuv"]["mean"])
    assert str(path) in result["command"]


def test_resuming(tmp_path: Path) -> None:
    """Only what is missing is measured, whatever the file is called; another clip or more frames is missing."""
    path, out = clip_file(tmp_path), tmp_path / "rows.csv"
    calls: list[str] = []
    codec = fake(calls)
    base = ["--codecs", "", "--out", str(out), "--frames"]
    assert main([str(path), *base, "3"], [replace(codec, settings=("2", "4"))]) == 0
    first = out.read_text()
    assert main([str(path), *base, "3"], [replace(codec, settings=("2", "3", "4"))]) == 0
    assert calls == ["2", "4", "3"]
    assert out.read_text().startswith(first)
    assert main([str(path), *base, "4"], [replace(codec, settings=("2",))]) == 0
    assert calls == ["2", "4", "3", "2"]
    assert [row.frames for row in read_rows(out)] == [3, 3, 3, 4]
    assert not list(tmp_path.glob(".*"))
    out.write_text("clip,codec\n1,2\n")
    assert main([str(path), *base, "3"], [codec]) == 2


@pytest.mark.parametrize("pixels", ["rgb24", "gray"])
def test_rgb_and_grey(pixels: Pixels, tmp_path: Path) -> None:
    clip = Clip.read(clip_file(tmp_path, 2, pixels))
    row = measure(clip, anchor_of("x264:ultrafast"), "crf=4")
    assert row.psnr_yuv > 44
    assert row.psnr_rgb > (44 if pixels == "gray" else 25)  # chroma has half the resolution


@pytest.mark.parametrize("name", ["x264:medium", "x264:fast:psnr", "x265:ultrafast", "av1:12"])
def test_anchors(name: str, tmp_path: Path) -> None:
    candidate = anchor_of(name)
    assert candidate.name == name
    assert len(candidate.settings) >= 4
    clip = Clip.read(clip_file(tmp_path), 3)
    assert measure(clip, candidate, candidate.settings[0]).psnr_yuv > 32


def test_ms_ssim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip.read(clip_file(tmp_path), 2)
    monkeypatch.setattr("codec.eval.metrics.images.ms_ssim_rgb", lambda a, b: 0.5)
    assert measure(clip, anchor_of("x264:ultrafast"), "crf=30", with_ms_ssim=True).ms_ssim == 0.5


def test_weights_of_planes(tmp_path: Path) -> None:
    a = tuple(np.full(shape, 100, np.uint8) for shape in ((4, 4), (2, 2), (2, 2)))
    b = (np.full((4, 4), 101, np.uint8), np.full((2, 2), 110, np.uint8), a[2])
    decibels = [10 * np.log10(255**2), 10 * np.log10(255**2 / 100), 100]
    assert psnr_of_frame(a, b) == pytest.approx(decibels)
    info = VideoInfo(4, 4, "yuv420p", Fraction(1, 25))
    clip = Clip("clip", info, (Frame(a, 0, 1),), "0")
    row = measure(clip, Candidate("c", ("s",), lambda clip, s: b"1234", lambda data: (info, [Frame(b, 0, 1)])), "s")
    assert row.psnr_yuv == pytest.approx((6 * decibels[0] + decibels[1] + decibels[2]) / 8)
    assert row.psnr_y == pytest.approx(decibels[0])
    for count in (0, 2):
        bad = Candidate("c", ("s",), lambda c, s: b"", lambda data, n=count: (info, [Frame(b, i, 1) for i in range(n)]))
        with pytest.raises(MediaError, match="expected 1"):
            measure(clip, bad, "s")


def test_failures_are_told(tmp_path: Path) -> None:
    def broken(path: Path, setting: str) -> bytes:
        raise MediaError("no")

    out = tmp_path / "rows.csv"
    candidate = ours("broken", ("1",), broken, lambda data: (_ for _ in ()).throw(AssertionError))
    assert main([str(clip_file(tmp_path)), "--codecs", "x264:ultrafast:crf=30", "--out", str(out)], [candidate]) == 1
    assert len(read_rows(out)) == 1
    assert json.loads(out.with_suffix(".json").read_text())["failed"] == ["tiny-yuv420p, broken 1: no"]


@pytest.mark.parametrize("text", ["x266", "x264:quick", "x264:fast:nothing", "x264:fast:crf=99", "av1:slow"])
def test_codecs_that_arent(text: str) -> None:
    with pytest.raises(UsageError):
        anchor_of(text)


def test_summary() -> None:
    """Half the rate at the same quality is -50 %; a clip with one point has a reason in place of a number."""

    def row(clip: str, codec: str, bpp: float, quality: float) -> Row:
        return Row(clip, clip, codec, str(bpp), 1, 8, 8, 1, bpp, 1, quality, quality, quality - 1, None, 2.0, 30.0)

    points = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
    rows = [row("a", "x265:medium", *point) for point in points] + [row("a", "half", b / 2, q) for b, q in points]
    rows += [row("b", "x265:medium", 0.1, 30), row("b", "half", 0.1, 30)]
    found = summary(rows)["codecs"]["half"]["bd_rate_psnr_yuv"]
    assert found["mean"] == pytest.approx(-50, abs=0.01)
    assert found["clips"] == 1
    assert "at least 4" in found["by_clip"]["b"]["reason"]
    assert "bd_rate_psnr_yuv" not in summary(rows)["codecs"]["x265:medium"]


def test_default_codecs() -> None:
    assert [anchor_of(text).name for text in video.DEFAULT.split(",")] == video.DEFAULT.split(",")
