"""Makes the files of tests/fuzz/corpus that encoders write: small ones that hold much of what a codec can store.

    python -P tests/fuzz/make_corpus.py         leaves the files alone that are there: delete those to be made anew

The others there are findings: files that once broke a reader, and must not again.
"""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from codec import Codec
from codec.media.audio.values import Audio, Cover
from codec.media.video.values import Frame, Pixels, VideoInfo
from codec.registry import names

CORPUS = Path(__file__).resolve().parent / "corpus"


def hdf5(path: Path) -> Path:
    """An HDF5 file with nearly everything that a description can say."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["title"] = "a small file"
        group = file.create_group("group")
        group.attrs["numbers"] = np.arange(3)
        x = file.create_dataset("x", data=np.linspace(0, 1, 8))
        x.make_scale("x axis")
        field = group.create_dataset(
            "field", data=rng.normal(size=(2, 64, 64)).astype("f4").cumsum(-1), chunks=(1, 64, 64)
        )
        field.attrs["_FillValue"] = np.float32(-999)
        small = file.create_dataset("small", data=rng.normal(size=(4, 8)), compression="gzip", maxshape=(None, 8))
        small.dims[1].attach_scale(x)
        file["whole"] = rng.integers(0, 9, (5, 3), np.int16)
        file["mask"] = np.array([True, False])
        file["words"] = np.array(["a", "bcd"], dtype=h5py.string_dtype())
        file["bytes"] = np.array([b"ab", b"c"])
        file["none"] = np.zeros((0, 4), "f8")
        file["null"] = h5py.Empty("f4")
        file["pairs"] = np.zeros(3, [("a", "<i4"), ("b", "<f8")])
        file["kinds"] = np.array([0, 1, 1], h5py.enum_dtype({"no": 0, "yes": 1}, np.uint8))
        file["hard"] = file["whole"]
        file["soft"] = h5py.SoftLink("/whole")
    return path


def clip(pixels: Pixels, times: list[int]) -> tuple[VideoInfo, list[Frame]]:
    """A clip of 16 x 16 samples, one frame for each duration."""
    rng = np.random.default_rng(2)
    info = VideoInfo(width=16, height=16, pixels=pixels, time_base=Fraction(1, 1000))
    shapes = {"gray": [(16, 16)], "rgb24": [(16, 16, 3)], "yuv420p": [(16, 16), (8, 8), (8, 8)]}[pixels]
    frames, at = [], 0
    for duration in times:
        frames.append(Frame(tuple(rng.integers(90, 130, side).astype(np.uint8) for side in shapes), at, duration))
        at += duration
    return info, frames


def write(name: str, data: bytes) -> None:
    (CORPUS / name).write_bytes(data)
    print(f"{len(data):7d} {name}")


def main() -> None:
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        source = hdf5(Path(folder) / "a.h5")
        for name in ("interp", "zipgan"):
            if not (CORPUS / f"everything.{name}").exists():
                write(f"everything.{name}", Codec.load(name).with_settings(rel_error=1e-2).compress(source))
    clips: list[tuple[Pixels, list[int]]] = [("gray", [40, 40]), ("yuv420p", [40, 33, 41]), ("rgb24", [7])]
    for pixels, times in clips:
        if not (CORPUS / f"{pixels}.nirvana").exists():
            write(f"{pixels}.nirvana", Codec.load("nirvana").with_settings(effort=0).compress(clip(pixels, times)))
    if not (CORPUS / "everything.walloca").exists():
        times = np.arange(18_000)[:, None]  # two pieces of 8 kHz
        wave = (6000 * np.sin(times * np.array([0.2, 0.31])) + 300 * rng.normal(size=(18_000, 2))).astype(np.int16)
        tags, cover = {"TITLE": ("a",), "ARTIST": ("b", "c")}, Cover(bytes(range(256)) * 3, "image/png")
        write(
            "everything.walloca", Codec.load("walloc-audio").compress(Audio.from_array(wave, 8000, None, tags, cover))
        )
    for tag in ("mnist", "fashion"):
        if not (CORPUS / f"{tag}.circuit").exists():
            items = rng.integers(0, 2, (1, 28, 28)).astype(np.uint8) * np.uint8(200)
            write(f"{tag}.circuit", Codec.load(f"circuit@{tag}").compress(items))
    for name in ("s2lic", "walloc"):
        picture = Image.fromarray(rng.integers(0, 256, (20, 17, 4), np.uint8), "RGBA")
        picture.info["icc_profile"] = bytes(range(256)) * 2
        path = CORPUS / f"metadata.{name}"
        if not path.exists():
            write(path.name, Codec.load(name).compress(picture))
    if "vqgan" in names():  # with the weights that ship; tiny.py has others
        picture = Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8))
        for name, settings in (("compact", {}), ("packets", {"packets": 4})):
            if not (CORPUS / f"{name}.vqgan").exists():
                write(f"{name}.vqgan", Codec.load("vqgan").with_settings(**settings).compress(picture))


if __name__ == "__main__":
    sys.exit(main())
