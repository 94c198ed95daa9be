"""The command and sound: files, pipes of WAV, parts, rates, damage."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec import Codec

from .. import probes
from .helpers import leftovers, run


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, probes.sound(40_000).samples, 8000, subtype="PCM_16")
    return path


def samples(data: bytes | Path) -> np.ndarray:
    return soundfile.read(io.BytesIO(data) if isinstance(data, bytes) else data, dtype="int16", always_2d=True)[0]


def script(*args: object, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    command = [sys.executable, "-P", "-m", "codec", *map(str, args)]
    return subprocess.run(command, input=input, capture_output=True, timeout=120, check=False)


def test_files(wav: Path, capfd: pytest.CaptureFixture[str]) -> None:
    coded, back = wav.with_suffix(".walloca"), wav.with_name("b.wav")
    assert run("encode", wav, "-o", coded) == 0  # the suffix says the codec
    assert run("verify", coded) == 0
    assert run("decode", coded, "-o", back) == 0
    expected = Codec.load("walloc-audio").decompress(coded).samples
    assert np.array_equal(samples(back), expected)
    capfd.readouterr()
    assert run("info", coded, "--json") == 0
    about = json.loads(capfd.readouterr().out)
    assert (about["codec"], about["rate"], about["channels"], about["samples"]) == ("walloc-audio", 8000, 1, 40_000)
    assert run("encode", wav, "-o", coded) != 0  # never over what is there
    assert run("encode", wav, "-o", coded, "--force") == 0
    assert run("decode", coded, "-o", wav.with_name("c.wav"), "--seconds", "1:2.5") == 0
    assert np.array_equal(samples(wav.with_name("c.wav")), expected[8000:20_000])
    assert run("decode", coded, "-o", wav.with_name("d.wav"), "--seconds", "9:") == 2
    assert not wav.with_name("d.wav").exists()
    assert not leftovers(wav.parent)


def test_pipes(wav: Path) -> None:
    coded = wav.with_suffix(".walloca")
    done = script("encode", "-", "-c", "walloc-audio", "-o", coded, input=wav.read_bytes())
    assert done.returncode == 0, done.stderr
    assert coded.read_bytes() == Codec.load("walloc-audio").compress(wav)
    done = script("decode", coded, "-o", "-")
    assert done.returncode == 0, done.stderr
    expected = Codec.load("walloc-audio").decompress(coded).samples
    assert np.array_equal(samples(done.stdout), expected)
    done = script("encode", "-", "-c", "walloc-audio", "-o", "-", input=wav.read_bytes())
    assert done.stdout == coded.read_bytes()
    done = script("decode", "-", "-o", "-", input=coded.read_bytes())
    assert np.array_equal(samples(done.stdout), expected)
    done = script("encode", "-", "-c", "walloc-audio", "-o", wav.with_name("x"), input=b"no sound at all")
    assert done.returncode != 0
    assert not wav.with_name("x").exists()


def test_rates(wav: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("encode", wav, "-o", wav.with_name("k.walloca"), "--kbps", "16") == 0
    assert wav.with_name("k.walloca").stat().st_size <= 16 * 1000 / 8 * 5
    assert run("encode", wav, "-o", wav.with_name("s.walloca"), "--size", "9kB") == 0
    assert wav.with_name("s.walloca").stat().st_size <= 9000
    capfd.readouterr()
    assert run("encode", wav, "-o", wav.with_name("t.walloca"), "--size", "99") == 2
    assert "too few" in capfd.readouterr().err
    assert not wav.with_name("t.walloca").exists()


def test_damage(wav: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = Codec.load("walloc-audio").compress(wav)
    broken, back = wav.with_name("broken.walloca"), wav.with_name("b.wav")
    broken.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
    assert run("decode", broken, "-o", back) == 3
    assert run("verify", broken) == 3
    assert not back.exists()
    capfd.readouterr()
    run("decode", broken, "-o", back, "--conceal")
    assert "missing, from second" in capfd.readouterr().err
    assert len(samples(back)) == 40_000
    assert not leftovers(wav.parent)
