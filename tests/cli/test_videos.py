"""`codec encode`, `decode`, `info` and `verify` of videos."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codec.cli import coding
from codec.codecs.base.settings import frame_range
from codec.codecs.base.video.codec import ranges_of
from codec.codecs.base.video.encode import EncodeProgress, _duration
from codec.codecs.nirvana.codec import NirvanaCodec
from codec.container import ChunkReader
from codec.errors import UsageError
from codec.media.video.reader import open_video
from codec.media.video.values import VideoInfo, frames_of, stack
from codec.media.video.writer import VideoWriter

from ..codecs.base.toy_video import Toy, noise_clip, toy_presets
from .helpers import run


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NirvanaCodec, "presets", classmethod(toy_presets))
    monkeypatch.setattr(NirvanaCodec, "default_preset", "toy")
    monkeypatch.setattr(coding, "_ready", {})


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """20 frames, 16x12, lossless."""
    path = tmp_path / "clip.mkv"
    info, frames = frames_of(noise_clip(20, 12, 16), 30)
    with VideoWriter(path, info) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def read(path: Path) -> np.ndarray:
    with open_video(path) as reader:
        return stack(reader.info, reader)


def test_there_and_back(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("encode", clip, "-q", 100) == 0
    coded = tmp_path / "clip.nirvana"
    assert "bpp" in capfd.readouterr().err
    assert run("info", coded, "--json") == 0
    about = json.loads(capfd.readouterr().out)
    assert (about["medium"], about["frames"], about["width"]) == ("video", 20, 16)
    assert run("verify", coded) == 0
    clip.rename(tmp_path / "source.mkv")
    assert run("decode", coded) == 0  # clip.mkv: lossless
    assert np.array_equal(read(clip), noise_clip(20, 12, 16))
    with open_video(clip) as reader:
        assert reader.info.frame_rate == Fraction(30)


def test_part_of_it(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("encode", clip, "-o", tmp_path / "a.nirvana", "-q", 100) == 0
    assert run("decode", tmp_path / "a.nirvana", "--frames", "7:12", "-o", tmp_path / "part.mkv", "--json") == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (report["shape"], report["missing"]) == ([5, 12, 16], [])
    assert np.array_equal(read(tmp_path / "part.mkv"), noise_clip(20, 12, 16)[7:12])
    assert run("decode", tmp_path / "a.nirvana", "--frames", "18:", "-o", tmp_path / "stills") == 0
    assert len(list((tmp_path / "stills").iterdir())) == 2
    for wrong in ("5:5", "x", "-1:3", "20:21", "1:2:3"):
        assert run("decode", tmp_path / "a.nirvana", f"--frames={wrong}", "-o", tmp_path / "no.mkv") == 2
    assert run("decode", tmp_path / "a.nirvana", "--frames", "-3:2", "-o", tmp_path / "no.mkv") == 2
    assert "--frames -3:2: expected START:STOP" in capfd.readouterr().err
    assert not (tmp_path / "no.mkv").exists()


def test_chosen_encoders_and_formats(clip: Path, tmp_path: Path) -> None:
    assert run("encode", clip, "-o", tmp_path / "a.nirvana", "-q", 100) == 0
    assert run("decode", tmp_path / "a.nirvana", "--encoder", "libx264:crf=30", "-o", tmp_path / "b.mp4") == 0
    with open_video(tmp_path / "b.mp4") as reader:
        assert reader.info.pixels == "yuv420p"
    assert run("decode", tmp_path / "a.nirvana", "--encoder", "nosuch", "-o", tmp_path / "c.mp4") == 2
    assert run("decode", tmp_path / "a.nirvana", "--format", "y4m") == 0
    assert (tmp_path / "a.y4m").exists()
    assert run("decode", tmp_path / "a.nirvana", "--format", "docx") == 2


def test_conceal(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    coded = tmp_path / "a.nirvana"
    assert run("encode", clip, "-o", coded) == 0
    data = bytearray(coded.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"Grou"][1]
    data[at + 30] ^= 1
    coded.write_bytes(data)
    assert run("decode", coded, "-o", tmp_path / "b.mkv") == 3
    assert not (tmp_path / "b.mkv").exists()
    assert run("verify", coded) == 3
    capfd.readouterr()
    assert run("decode", coded, "--conceal", "-o", tmp_path / "b.mkv") == 0
    assert "6 frames are missing: 3-8" in capfd.readouterr().err
    assert len(read(tmp_path / "b.mkv")) == 20


def test_sound_goes_along(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import av

    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 16, 12, "yuv420p"
        audio = out.add_stream("pcm_s16le", rate=8000)
        for t in range(20):
            picture = av.VideoFrame.from_ndarray(noise_clip(20, 12, 16)[t], format="rgb24").reformat(format="yuv420p")
            picture.pts = t
            out.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 6400), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    assert run("encode", path, "-o", tmp_path / "a.nirvana") == 0
    assert run("decode", tmp_path / "a.nirvana", "-o", tmp_path / "b.mkv") == 0
    with open_video(path) as before, open_video(tmp_path / "b.mkv") as after:
        assert after.audio() == before.audio() is not None
    capfd.readouterr()
    assert run("decode", tmp_path / "a.nirvana", "-o", tmp_path / "b.y4m") == 0
    assert "sound is left out" in capfd.readouterr().err
    assert run("decode", tmp_path / "a.nirvana", "--no-sound", "-o", tmp_path / "c.mkv") == 0
    with open_video(tmp_path / "c.mkv") as silent:
        assert silent.audio() is None
    # a rate is that of the whole file
    capfd.readouterr()
    assert run("encode", path, "-o", tmp_path / "d.nirvana", "--bpp", 58.5, "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["bpp"] == pytest.approx(58.5, abs=1)
    assert 25600 <= report["sound_bytes"] < report["bytes_out"]
    assert report["bpp"] == pytest.approx(8 * (tmp_path / "d.nirvana").stat().st_size / (20 * 12 * 16), abs=1e-3)
    assert run("encode", path, "-o", tmp_path / "e.nirvana", "--bpp", 54) == 2
    assert "--no-sound" in capfd.readouterr().err
    assert run("encode", path, "-o", tmp_path / "e.nirvana", "--bpp", 4, "--no-sound", "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["bpp"] == pytest.approx(4, abs=0.7) and "sound_bytes" not in report


def noted(reader: Any) -> list[str]:
    reader.check()
    reader.beside()
    return [str(note) for note in reader.notes]


def test_every_note_of_the_reader_is_said_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On stderr, with --json, and in the file, for inputs with notes of several kinds."""
    import av

    path = tmp_path / "cut.mkv"
    with av.open(str(path), "w") as out:
        for _ in range(2):
            stream = out.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 16, 12, "yuv444p"
        for t in range(12):
            picture = av.VideoFrame.from_ndarray(noise_clip(20, 12, 16)[t], format="rgb24").reformat(format="yuv444p")
            picture.pts, picture.time_base = t, Fraction(1, 25)
            out.mux(out.streams.video[0].encode(picture))
        out.mux(out.streams.video[0].encode())
    path.write_bytes(path.read_bytes()[:-300])
    folder = tmp_path / "stills"
    folder.mkdir()
    for number in (1, 2, 5):
        Image.new("RGB", (8, 6)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("x")
    for source, kinds in ((path, {"cut", "track", "chroma"}), (folder, {"time", "frames", "file"})):
        with open_video(source) as reader:
            expected = noted(reader)
        assert {text.partition(":")[0] for text in expected} == kinds
        coded = tmp_path / "a.nirvana"
        run("encode", source, "-c", "nirvana", "-o", coded, "--force")
        said = capfd.readouterr().err
        assert all(text in said for text in expected), said
        run("encode", source, "-c", "nirvana", "-o", coded, "--force", "--json")
        assert json.loads(capfd.readouterr().out)["notes"] == expected
        assert run("info", coded, "--json") == 0
        assert json.loads(capfd.readouterr().out)["notes"] == expected


def test_targets_out_of_reach(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("encode", clip, "-o", tmp_path / "a.nirvana", "--psnr", 120) == 2
    assert "120 dB is out of reach: toy at quality 100 has" in capfd.readouterr().err
    assert run("encode", clip, "-o", tmp_path / "a.nirvana", "--bpp", 0.6) == 2
    assert "out of reach: toy at quality 1 takes" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [clip.name]  # nothing is kept of it


def test_what_isnt_taken_is_refused_before_the_first_group(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(clip.read_bytes())
    data[len(data) * 9 // 10] ^= 1
    clip.write_bytes(data)
    Toy.fits.clear()
    assert run("encode", clip, "-o", tmp_path / "a.nirvana", "--jobs", 1) == 1
    assert "checksum" in capfd.readouterr().err
    assert Toy.fits == [] and [path.name for path in tmp_path.iterdir()] == [clip.name]


def test_rate_of_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 6)).save(folder / f"{number}.png")
    assert run("encode", folder, "-c", "nirvana", "-o", tmp_path / "a.nirvana", "--fps", "30000/1001") == 0
    assert "fps" not in capfd.readouterr().err
    with open(tmp_path / "a.nirvana", "rb") as file:
        assert ChunkReader(file).header.meta["fps"] == (30000, 1001)
    assert run("encode", folder, "-c", "nirvana", "-o", tmp_path / "b.nirvana", "--fps", "0") == 2
    assert run("decode", tmp_path / "a.nirvana", "-o", tmp_path / "b.y4m") == 0
    assert run("encode", tmp_path / "b.y4m", "-o", tmp_path / "b.nirvana", "--fps", "24") == 2
    assert "--fps" in capfd.readouterr().err


def test_folders_of_pictures_and_targets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for index, picture in enumerate(noise_clip(9, 12, 16)):
        Image.fromarray(picture).save(folder / f"{index:03d}.png")
    coded = tmp_path / "a.nirvana"
    assert run("encode", folder, "-c", "nirvana@toy", "-o", coded, "--psnr", 40, "--key-every", 2, "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["psnr"] > 38
    assert report["key_groups"] == 2


def test_more_workers_than_work(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("encode", clip, "-c", "nirvana@paper", "--effort", 0.003, "--jobs", 2, "-o")
    assert run(*words, tmp_path / "a.nirvana") == 0
    assert "1 of 2 workers had work" in capfd.readouterr().err
    assert run(*words, tmp_path / "b.nirvana", "--key-every", 4) == 0
    assert "workers had work" not in capfd.readouterr().err


def test_settings_that_are_of_other_media(clip: Path, tmp_path: Path, capfd: Any) -> None:
    Image.fromarray(noise_clip(1)[0]).save(tmp_path / "a.png")
    assert run("encode", tmp_path / "a.png", "--effort", 2, "-c", "walloc") == 2
    assert run("encode", tmp_path / "a.png", "--enough", 30) == 2
    assert "s2lic doesn't take --enough: it takes --quality, --size" in capfd.readouterr().err
    assert run("encode", clip, "--size", "20kB") == 2
    assert run("encode", clip, "-q", 300) == 2
    assert run("encode", clip, "-c", "nirvana@nosuch") in (1, 2)
    assert not (tmp_path / "clip.nirvana").exists()


def test_interrupted(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def words_of(now: EncodeProgress) -> str:
        if now.frames >= 9 and not now.step:
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(EncodeProgress, "words", property(words_of))
        assert run("encode", clip) == 130
    assert "same command" in capfd.readouterr().err
    assert (tmp_path / "clip.nirvana.part").exists()
    assert run("encode", clip) == 0
    assert "3 groups were done before" in capfd.readouterr().err
    assert not (tmp_path / "clip.nirvana.part").exists()


def test_through_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    y4m = io.BytesIO()
    info = VideoInfo(16, 12, "gray", Fraction(1, 25), Fraction(25))
    with VideoWriter(y4m, info) as writer:
        for frame in frames_of(noise_clip(5, 12, 16, None))[1]:
            writer.write(frame)

    class Stdin:
        buffer = io.BytesIO(y4m.getvalue())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert run("encode", "-", "-c", "nirvana", "-q", 100, "-o", tmp_path / "a.nirvana") == 0
    assert run("decode", tmp_path / "a.nirvana", "-o", tmp_path / "b.y4m") == 0
    assert (tmp_path / "b.y4m").read_bytes() == y4m.getvalue()
    Stdin.buffer = io.BytesIO((tmp_path / "a.nirvana").read_bytes())
    assert run("decode", "-", "-o", tmp_path / "c.mkv") == 0
    assert len(read(tmp_path / "c.mkv")) == 5
    Image.fromarray(noise_clip(1)[0]).save(tmp_path / "a.png")
    assert run("encode", tmp_path / "a.png", "-c", "walloc", "-o", tmp_path / "a.walloc") == 0
    Stdin.buffer = io.BytesIO((tmp_path / "a.walloc").read_bytes())
    capfd.readouterr()
    assert run("decode", "-", "-o", tmp_path / "d.mkv") == 2
    assert "unknown suffix .mkv for a file of walloc" in capfd.readouterr().err


def test_words() -> None:
    now = EncodeProgress(12.4, 48, 100, 500, 31.25, 1000.0, 75.0)
    assert now.words == "frame 12/48, step 100/500, 31.2 dB, 1 min 15 s left"
    assert "looking" in now._replace(what="target").words
    assert ranges_of([3, 4, 5, 9, 11, 12]) == "3-5, 9, 11-12"
    assert frame_range("30:45") == (30, 45)
    assert frame_range(":5") == (0, 5)
    assert frame_range("7") == (7, 8)
    assert (now.fraction, now._replace(total=None).fraction) == (12.4 / 48, None)
    with pytest.raises(UsageError):
        frame_range("5:2")
    assert [_duration(s) for s in (5, 65, 7300)] == ["5 s", "1 min 05 s", "2 h 01 min"]


def test_videos_of_a_folder_are_left_out_with_a_word(clip: Path, tmp_path: Path, capfd: Any) -> None:
    """A folder of photos with one clip in it doesn't take hours, and nothing is left out in silence."""
    Image.fromarray(noise_clip(1)[0]).save(tmp_path / "a.png")
    assert run("encode", tmp_path, "-o", tmp_path / "out", "-c", "walloc") == 0
    assert "1 file left out: 1 .mkv\n  .mkv: -c nirvana" in capfd.readouterr().err
    assert run("encode", tmp_path, "-o", tmp_path / "all") == 0
    assert "1 file left out: 1 .mkv\n  .mkv: -c nirvana" in capfd.readouterr().err
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["a.s2lic"]
    (tmp_path / "clips").mkdir()
    clip.rename(tmp_path / "clips" / "clip.mkv")
    assert run("encode", tmp_path / "clips", "-o", tmp_path / "none") == 2
    assert "(left out: 1 .mkv): name their codec with -c, as nirvana for video" in capfd.readouterr().err
    assert run("encode", tmp_path / "clips", "-c", "nirvana", "-o", tmp_path / "coded") == 0
    assert (tmp_path / "coded" / "clip.nirvana").exists()


def test_each_input_gets_the_codec_of_what_it_holds(clip: Path, tmp_path: Path) -> None:
    """The first bytes decide, whatever a file is called."""
    Image.fromarray(noise_clip(1)[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.dat")
    clip.rename(tmp_path / "clip.png")
    assert run("encode", tmp_path / "a.dat", tmp_path / "clip.png", "-o", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.dat.s2lic", "clip.nirvana"]


def test_a_folder_that_holds_videos_is_no_film(clip: Path, tmp_path: Path, capfd: Any) -> None:
    """With a picture among them: each video is encoded, and the picture is said to be left out."""
    (tmp_path / "batch" / "sub").mkdir(parents=True)
    clip.rename(tmp_path / "batch" / "sub" / "b.mkv")
    (tmp_path / "batch" / "a.mkv").write_bytes((tmp_path / "batch" / "sub" / "b.mkv").read_bytes())
    Image.fromarray(noise_clip(1)[0]).save(tmp_path / "batch" / "p.png")
    assert run("encode", "-c", "nirvana", tmp_path / "batch", "-o", tmp_path / "out", "--effort", 0.1) == 0
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nirvana"))
    assert made == ["a.nirvana", "sub/b.nirvana"]
    assert "1 file left out: 1 .png" in capfd.readouterr().err


def test_a_picture_and_a_video_have_each_their_codec(clip: Path, tmp_path: Path) -> None:
    Image.fromarray(noise_clip(1)[0]).save(tmp_path / "logo.png")
    assert run("encode", clip, tmp_path / "logo.png", "-o", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.nirvana", "logo.s2lic"]
