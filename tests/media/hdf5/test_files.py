"""What is wrong with an input is said, by name; and a disk that is full is one error, whenever it fills."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from codec.errors import MediaError
from codec.media.hdf5 import Input, read_tree, writing
from codec.media.hdf5.opening import name_of_filter

STARTS = {
    b"CDF\x01": "nccopy -k nc4",
    b"CDF\x02": "nccopy -k nc4",
    b"CDF\x05": "nccopy -k nc4",
    b"GRIB\0\0\0\2": "GRIB",
    b"\x0e\x03\x13\x01": "HDF4",
    b"SIMPLE  =                    T": "FITS",
    b"\x93NUMPY\x01": "NPY",
    b"MATLAB 5.0 MAT-file": "MATLAB",
    b"PAR1": "Parquet",
    b"PK\x03\x04": "ZIP",
    b"\n <!DOCTYPE html>": "HTML",
    b"\0" * 600: "zeros",
    b"": "empty",
    b"hello": "expected HDF5",
    b"\x89HDF\r\n\x1a\n": "cut",
}


@pytest.mark.parametrize("start", STARTS, ids=STARTS.get)
def test_other_formats_are_named(start: bytes, tmp_path: Path) -> None:
    data = start + b" " * 100 * bool(start and len(start) < 20 and start != b"\x89HDF\r\n\x1a\n")
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(MediaError, match=f"a.h5: .*{STARTS[start]}"):
        Input(tmp_path / "a.h5")
    with pytest.raises(MediaError, match=f"the data: .*{STARTS[start]}"):
        Input(io.BytesIO(data))


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="a folder"):
        Input(tmp_path)
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(MediaError, match="zarr"):
        Input(tmp_path)
    with pytest.raises(MediaError, match="no such file"):
        Input(tmp_path / "nosuch.h5")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A file with a checked and a compressed dataset."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "sound.h5", "w") as file:
        file.create_dataset("a", data=rng.random((96, 96)), chunks=(48, 48), fletcher32=True)
        file.create_dataset("deep/g", data=rng.random((96, 96)), chunks=(48, 48), compression="gzip")
    return tmp_path / "sound.h5"


def read_all(path: Path) -> None:
    with Input(path) as file:
        for node in read_tree(file).datasets:
            for row in range(0, 96, 48):
                file[node.path][row : row + 48]


@pytest.mark.parametrize("path", ["/a", "/deep/g"])
def test_a_damaged_chunk_is_found(path: str, sound: Path) -> None:
    with h5py.File(sound) as file:
        offset = file[path].id.get_chunk_info(2).byte_offset  # type: ignore[union-attr]
    data = bytearray(sound.read_bytes())
    data[offset + 50 : offset + 60] = b"\xff" * 10
    sound.write_bytes(data)
    with pytest.raises(MediaError, match=rf"{path}, rows 48 to 95 .*the first damaged chunk is at 48, 0, of 48 x 48"):
        read_all(sound)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.3, 0.99])
def test_a_file_that_is_cut(part: float, sound: Path) -> None:
    data = sound.read_bytes()
    sound.write_bytes(data[: 8 + int(part * len(data))])
    with pytest.raises(MediaError, match="cut"):
        read_all(sound)


def test_damage_anywhere_is_an_error_of_ours(sound: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also in a thread, for which the library prints what it thinks unless it is told not to."""
    data = sound.read_bytes()
    rng = np.random.default_rng(1)
    strange: list[BaseException] = []

    def damage() -> None:
        for _ in range(60):
            at = int(rng.integers(96, 4000))
            changed = bytearray(data)
            changed[at : at + 8] = rng.bytes(8)
            sound.write_bytes(changed)
            try:
                read_all(sound)
            except MediaError as error:
                if sound.name not in str(error) and "/" not in str(error) and "the file" not in str(error):
                    strange.append(error)
            except BaseException as error:
                strange.append(error)

    thread = threading.Thread(target=damage)
    thread.start()
    thread.join()
    assert not strange
    assert "HDF5-DIAG" not in capfd.readouterr().err


HOLD = """
import sys, h5py
file = h5py.File(sys.argv[1], "w", libver="latest")
file.create_dataset("a", data=list(range(50)), chunks=(10,), maxshape=(None,))
file.flush()
if sys.argv[2] == "swmr":
    file.swmr_mode = True
print("ready", flush=True)
if sys.argv[2] == "died":
    import os
    os._exit(1)
sys.stdin.read()
"""


@pytest.fixture(params=["open", "swmr", "died"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A file that another program has open, writes for readers, or died with."""
    path = tmp_path / "held.h5"
    arguments = [sys.executable, "-c", HOLD, str(path), request.param]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if request.param == "died":
            process.wait()
        yield request.param, path
        process.kill()


def test_files_that_others_write(held: tuple[str, Path]) -> None:
    way, path = held
    if way == "swmr":
        with Input(path) as file:
            read_tree(file)
            assert file["/a"][...].tolist() == list(range(50))
        return
    words = {"open": "open for writing.*HDF5_USE_FILE_LOCKING", "died": "died.*h5clear"}[way]
    with pytest.raises(MediaError, match=words):
        Input(path)


def test_filters_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((8, 8)), chunks=(8, 8), compression="lzf")
    monkeypatch.setattr("codec.media.hdf5.reading.find_filters", lambda numbers: list(numbers))
    with Input(tmp_path / "a.h5") as file, pytest.raises(MediaError, match=r"/x: .*lzf.*32000.*pip install hdf5plugin"):
        read_tree(file)
    assert name_of_filter(32015) == "zstd (HDF5 filter 32015)"
    assert name_of_filter(9999, b"mine; version 3") == "mine (HDF5 filter 9999)"


class Full(io.BytesIO):
    """A disk with so much room."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for n in range(6):
            file.create_dataset(f"d{n}", data=np.random.default_rng(n).random(1500), chunks=(500,) if n % 2 else None)
            file.create_group(f"g{n}").attrs["x"] = "y" * 100
    with Input(tmp_path / "a.h5") as file:
        tree = read_tree(file)
        values = {node.path: file[node.path][...] for node in tree.datasets}

    def write(target: Any) -> None:
        with writing(target, tree) as output:
            for path, array in values.items():
                output[path][...] = array

    whole = io.BytesIO()
    write(whole)
    for room in [0, 1, 96, 500, *range(800, len(whole.getvalue()), 4001), len(whole.getvalue()) - 1]:
        with pytest.raises(MediaError, match="No space left"):
            write(Full(room))
    write(Full(len(whole.getvalue())))


def test_a_full_disk_behind_a_file(tmp_path: Path) -> None:
    """Nothing is left in the file's own buffer, from where it would be written again when the file is closed."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(10_000)
    with Input(tmp_path / "a.h5") as file:
        tree = read_tree(file)
    with open("/dev/full", "r+b", buffering=0) as device, pytest.raises(MediaError), writing(device, tree) as output:
        output["/x"][...] = np.zeros(10_000)


def test_what_cant_be_read_back_is_written_through_a_temporary_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(5)
    with Input(tmp_path / "a.h5") as file, open(tmp_path / "b.h5", "wb") as target:
        tree = read_tree(file)
        with writing(target, tree) as output:
            output["/x"][...] = file["/x"][...]
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["x"][()].tolist() == [0, 1, 2, 3, 4]  # type: ignore[index]
