"""Sound beside a picture that a codec of sound codes: exact samples, their times, damage, settings, what is said."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

import codec as package
from codec.cli import coding
from codec.codecs.base.limits import Limits
from codec.codecs.base.settings import Select
from codec.codecs.base.video import sound as video_sound
from codec.codecs.base.video.encode import EncodeSource, identity_of
from codec.codecs.nirvana.codec import NirvanaCodec
from codec.container import Chunk, ChunkWriter, pack, unpack
from codec.datasets.places import places
from codec.errors import CodecError, ContainerError, LimitError, StreamError, UsageError, WeightsError
from codec.media.audio.reader import open_audio, read_audio
from codec.media.audio.values import Audio
from codec.media.video.reader import cut, open_video
from codec.media.video.values import frames_of

from ...cli.helpers import run
from .toy_video import noise_clip, toy_presets

ROOT = Path(__file__).resolve().parents[3]
SPEECH = ROOT / "eval" / "results" / "walloc-audio" / "listen-speech-original.flac"
RATE = 22050


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> NirvanaCodec:
    monkeypatch.setattr(NirvanaCodec, "presets", classmethod(toy_presets))
    monkeypatch.setattr(NirvanaCodec, "default_preset", "toy")
    monkeypatch.setattr(coding, "_ready", {})
    codec = package.Codec.load("nirvana@toy", quality=90)
    assert isinstance(codec, NirvanaCodec)
    return codec


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Somebody who reads aloud, about two seconds."""
    return read_audio(SPEECH).samples[RATE : 3 * RATE + 300, 0]


def clip(
    sounds: Sequence[np.ndarray], format: str = "matroska", late: Sequence[float] = (0.0,), pause: int = 0
) -> bytes:
    """Ten frames of 16x12 in 0.4 s, and tracks of PCM that begin so late, by PyAV alone. pause: samples after 0.2 s."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format, container_options={"avoid_negative_ts": "disabled"}) as out:
        video: Any = out.add_stream("ffv1" if format == "matroska" else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = 16, 12, "yuv420p"
        tracks: list[Any] = [out.add_stream("pcm_s16le", rate=RATE) for _ in sounds]
        for number, track in enumerate(tracks):
            track.codec_context.layout = "mono"
            track.metadata.update({"language": ("eng", "deu")[number], "title": f"Take {number}"})
            track.disposition = int((Disposition.default, Disposition.comment)[number])
        for t, picture in enumerate(noise_clip(10, 12, 16)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = t + 25, Fraction(1, 25)  # sound may begin before it
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for track, samples, delay in zip(tracks, sounds, late, strict=True):
            at = round((1 + delay) * RATE)
            for start in range(0, len(samples), 441):
                packet = av.Packet(samples[start : start + 441].tobytes())
                packet.pts = packet.dts = at + start + (pause if start >= RATE // 5 else 0)
                packet.duration, packet.time_base, packet.stream = 441, Fraction(1, RATE), track
                out.mux(packet)
    return buffer.getvalue()


def tracks_in(data: bytes) -> list[bytes]:
    """The files of the tracks in the file of a video."""
    header, chunks = unpack(data)
    body = b"".join(chunk.payload for chunk in chunks if chunk.tag == "Trac")
    sizes: Any = header.params["tracks"][1::3]  # type: ignore[index]
    return [body[sum(sizes[:number]) : sum(sizes[: number + 1])] for number in range(len(sizes))]


def alone(data: bytes, number: int = 0) -> Audio:
    """The sound of a track, decoded as the file of its own that it is."""
    return package.decode(tracks_in(data)[number])


def heard(path: Path, number: int = 0) -> tuple[np.ndarray, Fraction]:
    """The samples of a track of a video, by FFmpeg; and when they begin, in seconds from the first picture."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        frames = list(container.decode(stream))
        begin = frames[0].pts * frames[0].time_base
        parts = [frame.to_ndarray().reshape(frame.layout.nb_channels, -1, order="F") for frame in frames]
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        return np.concatenate(parts, axis=1)[0], Fraction(begin - picture.pts * picture.time_base)


@pytest.fixture(scope="module")
def coded(speech: np.ndarray) -> bytes:
    """A video whose sound begins 0.1 s late, coded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NirvanaCodec, "presets", classmethod(toy_presets))
        codec = package.Codec.load("nirvana@toy", quality=90).with_settings(sound="walloc-audio")
        return codec.compress(clip([speech], late=[0.1]))


# ---- there and back


@pytest.mark.parametrize(("suffix", "kind"), [(".mkv", "flac"), (".mp4", "flac"), (".mov", "alac")])
def test_samples_and_times_come_back(
    suffix: str, kind: str, toy: NirvanaCodec, coded: bytes, speech: np.ndarray, tmp_path: Path
) -> None:
    expected = alone(coded)
    assert expected.info.n_samples == len(speech)
    noise = expected.samples[:, 0].astype(float) - speech
    assert 10 * np.log10((speech.astype(float) ** 2).mean() / (noise**2).mean()) > 8  # it is this speech, in place
    summary = toy.decode_file(coded, tmp_path / f"a{suffix}")
    samples, begin = heard(tmp_path / f"a{suffix}")
    assert np.array_equal(samples, expected.samples[:, 0])
    assert begin == Fraction(1, 10) if suffix == ".mkv" else abs(begin - Fraction(1, 10)) <= Fraction(1, RATE)
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        track = container.streams.audio[0]
        assert track.codec_context.name == kind and track.metadata["language"] == "eng"
    assert summary.notes == []


@pytest.mark.parametrize("late", [-0.25, 0.02])
@pytest.mark.parametrize("format", ["matroska", "mov"])
def test_sound_begins_where_it_began(
    format: str, late: float, toy: NirvanaCodec, speech: np.ndarray, tmp_path: Path
) -> None:
    source = clip([speech[:8000]], format, late=[late])
    data = toy.with_settings(sound="walloc-audio").compress(source)
    with toy.open_file(data) as file:
        (sound,) = file.sounds()
        assert abs(float(sound.start) - late) < 0.0006  # Matroska counts in milliseconds
        assert file.info.early == max(0, -sound.start)
        assert file.audio() is None
    for suffix, error in ((".mkv", Fraction(1, 1000)), (".mp4", Fraction(1, RATE))):
        toy.decode_file(data, tmp_path / f"a{suffix}")
        samples, begin = heard(tmp_path / f"a{suffix}")
        assert len(samples) == 8000 and abs(begin - sound.start) <= error


def test_python_gives_sound(toy: NirvanaCodec, coded: bytes) -> None:
    with toy.open_file(coded) as file:
        (sound,) = file.sounds()
        assert (sound.codec, sound.start, sound.info.rate) == ("walloc-audio", Fraction(2205, RATE), RATE)
        assert sound.texts == {"language": "eng", "title": "Take 0"}
        whole = sound.read()
        assert isinstance(whole, Audio) and np.array_equal(whole.samples, alone(coded).samples)
        part = np.concatenate(list(sound.blocks(5000, 9000)))
        assert np.array_equal(part, whole.samples[5000:9000])
    assert toy.decompress(coded).shape == (10, 12, 16, 3)
    toy.verify_file(coded)


def test_several_tracks_and_their_titles(toy: NirvanaCodec, speech: np.ndarray, tmp_path: Path) -> None:
    data = toy.with_settings(sound="walloc-audio").compress(clip([speech[:9000], speech[9000:]], late=[0, 0.2]))
    assert len(tracks_in(data)) == 2
    toy.decode_file(data, tmp_path / "a.mkv")
    for number in range(2):
        samples, begin = heard(tmp_path / "a.mkv", number)
        assert np.array_equal(samples, alone(data, number).samples[:, 0]) and float(begin) == (0, 0.2)[number]
    with av.open(str(tmp_path / "a.mkv")) as container:
        titles = [(track.metadata["title"], track.metadata["language"]) for track in container.streams.audio]
        assert titles == [("Take 0", "eng"), ("Take 1", "deu")]
        assert int(container.streams.audio[1].disposition) & int(Disposition.comment)


def test_a_part_has_its_sound(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    whole = alone(coded).samples[:, 0]
    toy.decode_file(coded, tmp_path / "a.mkv", Select(frames=(5, 8)))
    samples, begin = heard(tmp_path / "a.mkv")  # from 0.2 s to 0.32 s; sample 0 is at 0.1 s
    assert np.array_equal(samples, whole[2205:4851]) and begin == 0
    toy.decode_file(coded, tmp_path / "b.mkv", Select(frames=(0, 5)))
    samples, begin = heard(tmp_path / "b.mkv")
    assert np.array_equal(samples, whole[:2205]) and begin == Fraction(1, 10)
    toy.decode_file(coded, tmp_path / "c.mkv", Select(frames=(0, 2)))  # before it begins
    with open_video(tmp_path / "c.mkv") as reader:
        assert reader.audio() is None


def test_a_part_of_the_source_has_its_sound(toy: NirvanaCodec, speech: np.ndarray) -> None:
    with open_video(clip([speech], late=[0.02])) as whole, cut(whole, 2, 6) as reader:
        data = toy.with_settings(sound="walloc-audio").compress(reader)
        (track,) = whole.sounds()
    with toy.open_file(data) as file:
        (sound,) = file.sounds()
        first = sound.start + Fraction(8, 100) - track.start  # its place in the source
        assert 0 <= sound.start < Fraction(1, RATE) and sound.info.n_samples == round(0.16 * RATE)
        assert abs(float(first * RATE) - round(first * RATE)) < 0.51


def test_gaps_become_silence(toy: NirvanaCodec, speech: np.ndarray) -> None:
    """What comes behind a gap stays beside its picture."""
    with open_video(clip([speech], pause=6615)) as reader:
        (track,) = reader.sounds()
        samples = track.reader.read().samples[:, 0]
    assert abs(len(samples) - len(speech) - 6615) < 30
    assert np.array_equal(samples[:4410], speech[:4410]) and not samples[4450:10900].any()
    assert np.array_equal(samples[-9000:], speech[-9000:])
    assert [note.kind for note in track.notes] == ["sound"]


@pytest.mark.parametrize("name", ["train/bigbuckbunny_1280x720.mp4"])
def test_a_clip_from_a_camera(name: str, toy: NirvanaCodec, tmp_path: Path) -> None:
    """AAC of six channels behind an edit list."""
    place = next((place / "video" / name for place in places() if (place / "video" / name).is_file()), None)
    if place is None:
        pytest.skip(f"video/{name} isn't there: set CODEC_DATA")
    with open_video(place) as whole, cut(whole, 0, 4) as reader, open_audio(str(place)) as original:
        (track,) = reader.sounds()
        assert track.start == 0 and track.reader.info.channels == 6
        expected = original.read(0, 4000).samples
        assert np.array_equal(track.reader.read(0, 4000).samples, expected)


# ---- as before


def test_what_isnt_coded_is_as_it_was(toy: NirvanaCodec, speech: np.ndarray, tmp_path: Path) -> None:
    source = clip([speech[:5000]])
    plain, copied = toy.compress(source), toy.with_settings(sound="copy").compress(source)
    assert plain == copied == toy.with_settings(sound=True).compress(source)
    header, chunks = unpack(plain)
    assert "tracks" not in header.params and "Trac" not in {chunk.tag for chunk in chunks}
    with toy.open_file(plain) as file:
        assert file.sounds() == [] and file.audio() is not None
    silent = toy.with_settings(sound="none").compress(source)
    assert silent == toy.with_settings(sound=False).compress(source) and len(silent) < len(plain)
    (tmp_path / "a.mkv").write_bytes(source)
    for number, words in enumerate((["--no-sound"], ["--sound", "none"], ["--sound", "copy"], [])):
        target = tmp_path / f"{number}.nirvana"
        assert run("encode", tmp_path / "a.mkv", "-q", 90, "-o", target, *words) == 0
        assert target.read_bytes() == (silent if number < 2 else plain)
    assert run("encode", tmp_path / "a.mkv", "-o", tmp_path / "x", "--no-sound", "--sound", "copy") == 2


def test_unknown_codecs_are_refused(toy: NirvanaCodec, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("wallok", "walloc", "", "nirvana"):
        with pytest.raises(UsageError, match="expected copy, none or a codec of sound: walloc-audio"):
            toy.with_settings(sound=name)
    with pytest.raises(UsageError, match="--sound walloc-audio"):
        toy.with_settings(sound_kbps=32).compress(noise_clip(3))
    (tmp_path / "a.mkv").write_bytes(clip([np.zeros(441, np.int16)]))
    assert run("encode", tmp_path / "a.mkv", "-o", tmp_path / "a.nirvana", "--sound", "opus") == 2
    assert "codec of sound: walloc-audio" in capfd.readouterr().err
    with pytest.raises(WeightsError, match="nope"):
        toy.with_settings(sound="walloc-audio@nope").compress(tmp_path / "a.mkv")


def test_progress_of_pictures_doesnt_depend_on_sound(toy: NirvanaCodec) -> None:
    source = EncodeSource(frames_of(noise_clip(3))[0], lambda: (), "x")

    def identity(**changes: Any) -> bytes:
        codec = toy.with_settings(**changes)
        return identity_of(source, codec.preset, codec.encoding, "nirvana 1")

    assert identity() == identity(sound="walloc-audio", sound_kbps=20)
    assert identity(bpp=1.0, sound="walloc-audio") != identity(bpp=1.0)


# ---- rates and words


def test_rates_are_those_of_whole_files(
    toy: NirvanaCodec, speech: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    speech = speech[:20_000]
    (tmp_path / "a.mkv").write_bytes(clip([speech]))
    words = ["--sound", "walloc-audio", "--sound-kbps", 24, "--bpp", 15, "--json"]
    assert run("encode", tmp_path / "a.mkv", "-o", tmp_path / "a.nirvana", *words) == 0
    report = json.loads(capfd.readouterr().out)
    (track,) = tracks_in((tmp_path / "a.nirvana").read_bytes())
    assert report["sound"][0]["kbps"] == pytest.approx(8 * len(track) / 1000 / (len(speech) / RATE), abs=1e-3)
    assert 20 < report["sound"][0]["kbps"] <= 24
    assert report["sound_bytes"] == len(track) + 12
    assert report["bpp"] == pytest.approx(15, rel=0.05)
    assert run("info", tmp_path / "a.nirvana", "--json") == 0
    about = json.loads(capfd.readouterr().out)["sound"]
    assert (about["codec"], about["tag"], about["rate"]) == ("walloc-audio", "lapped", RATE)
    assert about["kbps"] == report["sound"][0]["kbps"] and len(about["weights"]) == 32
    assert run("info", tmp_path / "a.nirvana") == 0
    assert "codec=walloc-audio" in capfd.readouterr().out
    assert package.info(tmp_path / "a.nirvana")["sound"]["codec"] == "walloc-audio"


def test_outputs_without_sound_say_so(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    for target in (tmp_path / "a.y4m", tmp_path / "frames"):
        notes = toy.decode_file(coded, target).notes
        assert "sound: the sound is left out: -o NAME.mkv keeps it" in [str(note) for note in notes]
    assert len(list((tmp_path / "frames").iterdir())) == 10
    toy.decode_file(coded, tmp_path / "a.mkv", Select(sound=False))
    with open_video(tmp_path / "a.mkv") as reader:
        assert reader.audio() is None
    with pytest.raises(CodecError, match="webm can't hold sound without loss"):
        toy.decode_file(coded, tmp_path / "a.webm")


# ---- damage


def test_damage_is_an_error(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    at, size = coded.index(b"Trac") + 8, len(tracks_in(coded)[0])
    for offset in (-8, -2, 0, 30, size // 2, size - 5, size + 1):
        bad = bytearray(coded)
        bad[at + offset] ^= 4
        with pytest.raises((ContainerError, StreamError)):
            toy.decode_file(bytes(bad), tmp_path / "a.mkv")
        with pytest.raises((ContainerError, StreamError)):
            toy.verify_file(bytes(bad))
        assert not (tmp_path / "a.mkv").exists()
    bad = bytearray(coded)
    bad[at + size // 2] ^= 4
    with pytest.raises(ContainerError, match="the sound: "):
        toy.decode_file(bytes(bad), tmp_path / "a.mkv")


def test_concealed_damage_reaches_no_further_than_it_must(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    at, expected = coded.index(b"Trac") + 8, alone(coded).samples[:, 0]
    inside = tracks_in(coded)[0].index(b"Soun") + 40
    bad = bytearray(coded)
    bad[at + inside] ^= 255
    summary = toy.decode_file(bytes(bad), tmp_path / "a.mkv", Select(conceal=True))
    samples, begin = heard(tmp_path / "a.mkv")
    assert len(samples) == len(expected) and begin == Fraction(1, 10)
    assert "damage" in [note.kind for note in summary.notes]
    assert np.array_equal(samples[-9000:], expected[-9000:])  # the last piece is whole
    assert not np.array_equal(samples, expected)
    bad[at + 2] ^= 255  # its signature
    summary = toy.decode_file(bytes(bad), tmp_path / "b.mkv", Select(conceal=True))
    assert [str(note) for note in summary.notes] == ["damage: the sound can't be read: left out"]


def with_track(data: bytes, track: bytes, **params: Any) -> bytes:
    """The file of a video with another file in the place of that of its only track."""
    header, chunks = unpack(data)
    old: Any = header.params["tracks"]
    changed = replace(header, params={**header.params, "tracks": (old[0], len(track), old[2]), **params})
    parts = [Chunk("Trac", track[at : at + (1 << 16)]) for at in range(0, len(track), 1 << 16)]
    first = next(number for number, chunk in enumerate(chunks) if chunk.tag == "Trac")
    others = [chunk for chunk in chunks if chunk.tag != "Trac"]
    return pack(changed, [*others[:first], *parts, *others[first:]])


def test_missing_weights_are_named(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    track = bytearray(tracks_in(coded)[0])
    header = unpack(bytes(track))[0]
    at = track.index(header.weights)
    track[at] ^= 255
    n_header = int.from_bytes(track[5:7], "big")
    track[7 + n_header : 11 + n_header] = zlib.crc32(track[: 7 + n_header]).to_bytes(4, "big")
    data = with_track(coded, bytes(track))
    with pytest.raises(WeightsError, match=r"the sound: the 'walloc-audio' weights .*aren't installed"):
        toy.decode_file(data, tmp_path / "a.mkv")
    assert not (tmp_path / "a.mkv").exists()
    toy.decode_file(data, tmp_path / "a.mkv", Select(sound=False))
    assert toy.decompress(data).shape == (10, 12, 16, 3)


def test_long_sound_is_cut_into_chunks(toy: NirvanaCodec, coded: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    track = tracks_in(coded)[0]
    monkeypatch.setattr(video_sound, "PART", 500)
    header, chunks = unpack(coded)
    coded_track = video_sound.CodedTrack(track, 2205, 1, Fraction(0), {}, ())
    parts = video_sound.chunks_of_tracks([coded_track])
    assert len(parts) == -(-len(track) // 500) > 3 and coded_track.n_bytes == len(track) + 12 * len(parts)
    first = next(number for number, chunk in enumerate(chunks) if chunk.tag == "Trac")
    data = pack(header, [*chunks[:first], *parts, *chunks[first + 1 :]])
    with toy.open_file(data) as file:
        assert np.array_equal(file.sounds()[0].read().samples, alone(coded).samples)
    toy.verify_file(data)


@pytest.mark.parametrize(
    "tracks",
    [(0,), (0, 1 << 40, 0), (0, 0, 0), ("a", 10, 0), (0, 10, -1), (1 << 60, 10, 0), 7, (0, 10, 0) * 65, (0, 10, 0)],
    ids=str,
)
def test_lists_of_tracks_that_cant_be(tracks: Any, toy: NirvanaCodec, coded: bytes) -> None:
    with pytest.raises(StreamError, match=r"tracks of sound|a track of sound|sound isn't where"):
        toy.verify_file(with_track(coded, tracks_in(coded)[0], tracks=tracks))


def test_what_isnt_sound_isnt_taken_for_it(toy: NirvanaCodec, coded: bytes) -> None:
    with pytest.raises(ContainerError, match="the sound: a file of nirvana, which isn't sound"):
        toy.verify_file(with_track(coded, toy.compress(noise_clip(2))))
    with pytest.raises(ContainerError, match="the sound: "):
        toy.verify_file(with_track(coded, b"no file at all" * 9))


def test_sound_that_cant_be_decoded_is_an_error(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    """Checksums are right, and what they are of isn't: only decoding tells."""
    header, chunks = unpack(tracks_in(coded)[0])
    writer = ChunkWriter(header)
    body = [writer.chunk(Chunk("Soun", chunk.payload[:300])) for chunk in chunks[:-1]]
    data = with_track(coded, writer.start + b"".join(body) + writer.end(chunks[-1].payload))
    with pytest.raises(StreamError, match="the sound: "):
        toy.verify_file(data)
    with pytest.raises(StreamError, match="the sound: "):
        toy.decode_file(data, tmp_path / "a.mkv")
    assert list(tmp_path.iterdir()) == []


def test_limits_hold_for_sound(toy: NirvanaCodec, coded: bytes, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="the sound: a sound of 3 seconds"):
        toy.with_limits(Limits(seconds=1)).decode_file(coded, tmp_path / "a.mkv")
