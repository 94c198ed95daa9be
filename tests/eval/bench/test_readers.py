"""Readers: exact values of files made here, caps, and messages that name the file."""

from __future__ import annotations

import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest

from codec.errors import MediaError
from codec.eval.bench import readers
from codec.eval.bench.contract import Video
from codec.eval.bench.readers import SUFFIXES, array_names, read_array, read_audio, read_video
from codec.eval.peers.audio import FAMILIES as AUDIO
from codec.eval.peers.video import FAMILIES as VIDEO


def write_wav(path: Path, tag: int, bits: int, channels: int, rate: int, data: bytes) -> None:
    """RIFF by hand: tag 1 is integer PCM, 3 is float."""
    width = channels * bits // 8
    chunk = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + chunk + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


# ---- sound


def test_pcm_scales(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    cases = [
        (8, np.array([0, 128, 255, 64], np.uint8).tobytes(), [-1, 0, 127 / 128, -0.5]),
        (16, np.array([-32768, 0, 32767, 1], "<i2").tobytes(), [-1, 0, 32767 / 32768, 2.0**-15]),
        (24, b"\x00\x00\x80" + bytes(3) + b"\xff\xff\x7f" + b"\x01\x00\x00", [-1, 0, 1 - 2.0**-23, 2.0**-23]),
        (32, np.array([-(2**31), 0, 2**30, 2**20], "<i4").tobytes(), [-1, 0, 0.5, 2.0**-11]),
    ]
    for bits, data, expected in cases:
        write_wav(path, 1, bits, 1, 8000, data)
        audio = read_audio(path)
        assert audio.rate == 8000
        assert audio.samples.dtype == np.float32
        assert audio.samples.tolist() == [np.array(expected, np.float32).tolist()], bits


def test_float_is_kept_and_channels_apart(tmp_path: Path) -> None:
    samples = np.array([[0.1, 2.5, -3], [1e-9, 0, 1], [4, 5, 6]], np.float32)  # three channels
    write_wav(tmp_path / "a.wav", 3, 32, 3, 44100, samples.T.tobytes())
    audio = read_audio(tmp_path / "a.wav")
    assert np.array_equal(audio.samples, samples)
    assert audio.samples.flags.c_contiguous


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "vorbis", "flac"])
def test_coded_sound(name: str, tmp_path: Path) -> None:
    """The length too, which needs what the file says about delay and padding."""
    family = next(family for family in AUDIO if family.name == name)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24300) / 48000)
    samples = (np.rint(np.stack([tone, -tone]) * 2**15) / 2**15).astype(np.float32)
    peer = family.make({key: option.default for key, option in family.options.items()}, 1)
    path = tmp_path / f"a.{name}"
    path.write_bytes(peer.encode(readers.Audio(samples, 48000)))
    audio = read_audio(path)
    assert audio.rate == 48000
    assert audio.samples.shape == samples.shape
    assert np.abs(audio.samples[:, 2000:22000] - samples[:, 2000:22000]).max() < 0.05


def test_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(100)
        file.writeframes(bytes(100 * 60 * 30 + 200))
    with pytest.raises(MediaError, match=r"a\.wav: longer than 30 minutes"):
        read_audio(tmp_path / "a.wav")
    family = next(family for family in AUDIO if family.name == "flac")
    data = bytearray(family.make({"level": 5}, 1).encode(readers.Audio(np.zeros((1, 24000), np.float32), 8000)))
    assert int.from_bytes(data[22:26], "big") == 24000
    data[22:26] = bytes(4)  # FLAC's word for an unknown length
    (tmp_path / "c.flac").write_bytes(data)
    assert read_audio(tmp_path / "c.flac").samples.shape == (1, 24000)
    with monkeypatch.context() as patch:
        patch.setattr(readers, "MAX_AUDIO_SECONDS", 2)
        with pytest.raises(MediaError, match=r"c\.flac: longer"):
            read_audio(tmp_path / "c.flac")
    write_wav(tmp_path / "b.wav", 1, 16, 2, 8000, bytes(4 * 5000))
    assert read_audio(tmp_path / "b.wav").samples.shape == (2, 5000)
    monkeypatch.setattr(readers, "MAX_AUDIO_SAMPLES", 9999)
    with pytest.raises(MediaError, match="more than 9999 samples in 2 channels"):
        read_audio(tmp_path / "b.wav")


def test_sound_that_is_cut_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 1, 16, 1, 8000, bytes(4000))
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1000])
    with pytest.raises(MediaError, match=r"b\.wav: the file ends early.*only whole sound is measured") as raised:
        read_audio(tmp_path / "b.wav")
    assert str(raised.value).count("b.wav") == 1
    write_wav(tmp_path / "c.wav", 1, 16, 1, 8000, b"")
    with pytest.raises(MediaError, match=r"c\.wav: no samples in it"):
        read_audio(tmp_path / "c.wav")


# ---- video


def write_yuv(path: Path, planes: list[tuple[int, int, int]], matrix: int, limits: int, rate: Fraction) -> None:
    """Lossless 4:4:4, one flat frame of 32x16 for each (Y, Cb, Cr). matrix, limits: as in H.264, 2 and 0: unsaid."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, limits
        for index, values in enumerate(planes):
            array = np.empty((3, 16, 32), np.uint8)
            array[:] = np.array(values, np.uint8)[:, None, None]
            frame = av.VideoFrame.from_ndarray(array, format="yuv444p")
            frame.colorspace, frame.color_range = matrix, limits
            frame.pts, frame.time_base = index, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("matrix", "limits", "red"),
    [
        (1, 1, (63, 102, 240)),  # BT.709, limited
        (6, 1, (81, 90, 240)),  # BT.601, limited
        (1, 2, (54, 99, 255)),  # BT.709, full
        (6, 2, (76, 85, 255)),  # BT.601, full
        (2, 0, (81, 90, 240)),  # nothing said: as BT.601, limited
    ],
)
def test_matrix_and_range(matrix: int, limits: int, red: tuple[int, int, int], tmp_path: Path) -> None:
    """What Y'CbCr of pure red is, from the standards' coefficients."""
    full = limits == 2
    white, black = (255, 128, 128) if full else (235, 128, 128), (0, 128, 128) if full else (16, 128, 128)
    write_yuv(tmp_path / "a.mkv", [red, white, black], matrix, limits, Fraction(25))
    frames = read_video(tmp_path / "a.mkv").frames
    expected = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 0]])
    assert np.abs(frames.astype(int) - expected[:, None, None]).max() <= 2


def test_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 9, 13, 3), dtype=np.uint8)
    family = next(family for family in VIDEO if family.name == "ffv1")
    peer = family.make({key: option.default for key, option in family.options.items()}, 1)
    path = tmp_path / "a.mkv"
    path.write_bytes(peer.encode(Video(frames, Fraction(30000, 1001))))
    video = read_video(path)
    assert video.fps == Fraction(30000, 1001)
    assert np.array_equal(video.frames, frames)
    for n in (1, 3, 5, 9):
        assert np.array_equal(read_video(path, max_frames=n).frames, frames[:n])
    with pytest.raises(MediaError, match="max_frames is 0"):
        read_video(path, max_frames=0)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_yuv(tmp_path / "a.mkv", [(100, 128, 128)] * 6, 1, 1, Fraction(25))
    monkeypatch.setattr(readers, "MAX_VIDEO_PIXELS", 4 * 16 * 32)
    with pytest.raises(MediaError, match=r"a\.mkv: .*max_frames=4 at most"):
        read_video(tmp_path / "a.mkv")
    assert read_video(tmp_path / "a.mkv", max_frames=4).frames.shape == (4, 16, 32, 3)


# ---- arrays


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">f4", ">i8"])
def test_npy(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array in (np.arange(24).reshape(2, 3, 4), np.asfortranarray(np.arange(24).reshape(4, 6)), np.arange(1)):
        np.save(path, array.astype(dtype))
        found = read_array(path)
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        assert found.flags.c_contiguous
        assert np.array_equal(found, array)
        assert array_names(path) == [""]
    with pytest.raises(MediaError, match="no name"):
        read_array(path, "x")


def test_npy_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    bad: list[Any] = [np.array([{}], object), np.zeros(3, bool), np.zeros(3, np.float16), np.zeros(3, "c8")]
    bad += [np.zeros((0, 3), "f4"), np.zeros((1,) * 5, "f4"), np.float32(1), np.zeros(3, "f4,i4"), np.array(["a"])]
    for array in bad:
        np.save(path, array, allow_pickle=True)
        with pytest.raises(MediaError, match=r"a\.npy: .*1 to 4 axes"):
            read_array(path)
    np.save(path, np.arange(100.0))
    data = path.read_bytes()
    for damaged in (data[:-1], data + b"\x00", data[:20], data[:6] + b"\x03" + data[7:], data[:6] + b"\x09" + data[7:]):
        path.write_bytes(damaged)
        with pytest.raises(MediaError, match=r"a\.npy"):
            read_array(path)


def test_npy_that_asks_for_too_much(tmp_path: Path) -> None:
    for shape in ("(99999999999,)", "(4294967296, 4294967296)", "(-5,)", "(2.5,)", "('a',)"):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        path = tmp_path / "a.npy"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(80))
        with pytest.raises(MediaError, match=r"a\.npy"):
            read_array(path)


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["test/velocity"] = np.arange(24, dtype=">f4").reshape(2, 3, 4)
        file.create_dataset("train/packed", data=np.arange(50, dtype=np.int16), compression="gzip", shuffle=True)
        file["scalar"] = 3.0
        file["text"] = "words"
        file["empty"] = np.zeros((0, 4))
        file["five"] = np.zeros((1,) * 5)
        file["flags"] = np.zeros(4, bool)
        file["soft"] = h5py.SoftLink("/test/velocity")
        file["elsewhere"] = h5py.ExternalLink("b.h5", "/x")
        file.create_dataset("outside", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
        file.create_dataset("sparse", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    (tmp_path / "raw").write_bytes(bytes(16))
    return path


def test_hdf5(hdf5: Path) -> None:
    assert array_names(hdf5) == ["outside", "sparse", "test/velocity", "train/packed"]
    velocity = read_array(hdf5, "test/velocity")
    assert velocity.dtype == np.float32
    assert velocity.dtype.isnative
    assert np.array_equal(velocity, np.arange(24).reshape(2, 3, 4))
    assert np.array_equal(read_array(hdf5, "/train/packed"), np.arange(50))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "4 arrays in it"),
        ("nothing", "no array 'nothing' in it; expected one of outside"),
        ("test", "is a group"),
        ("test/velocity/x", "no array"),
        ("soft", "no array"),
        ("elsewhere", "no array"),
        ("scalar", "1 to 4 axes"),
        ("text", "1 to 4 axes"),
        ("five", "1 to 4 axes"),
        ("flags", "1 to 4 axes"),
        ("outside", "in other files"),
        ("sparse", "4398046511104 bytes"),
    ],
)
def test_hdf5_refused(hdf5: Path, name: str, why: str) -> None:
    with pytest.raises(MediaError, match=rf"a\.h5: .*{why}"):
        read_array(hdf5, name)


def test_the_only_array_needs_no_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["deep/er"] = np.arange(5)
    assert np.array_equal(read_array(tmp_path / "a.hdf5"), np.arange(5))


# ---- all


@pytest.mark.parametrize("read", [read_audio, read_video, read_array, array_names])
def test_messages_name_the_file(read: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    for name, data in (("noise.bin", noise), ("empty.wav", b""), ("text.npy", b"\x93NUMPY"), ("a.h5", noise[:9])):
        (tmp_path / name).write_bytes(data)
        if (read, name) == (array_names, "text.npy"):
            continue  # a NPY has one array, whatever its header says
        with pytest.raises(MediaError, match=name):
            read(tmp_path / name)
    with pytest.raises(MediaError, match="none.wav: can't be read"):
        read(tmp_path / "none.wav")
    with pytest.raises(MediaError, match="can't be read"):
        read(tmp_path)


def test_no_track_of_that_kind(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 1, 16, 1, 8000, bytes(400))
    with pytest.raises(MediaError, match="no pictures in it"):
        read_video(tmp_path / "a.wav")
    write_yuv(tmp_path / "a.mkv", [(100, 128, 128)], 1, 1, Fraction(25))
    with pytest.raises(MediaError, match="no sound in it"):
        read_audio(tmp_path / "a.mkv")


def test_suffixes() -> None:
    flat = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes]
    assert set(SUFFIXES) == {"audio", "video", "array"}
    assert len(flat) == len(set(flat))
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in flat)
