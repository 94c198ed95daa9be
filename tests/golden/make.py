"""Golden files: streams that every later version must decode to the same values. `python tests/golden/make.py`

Writes those that are missing for the current stream version of each codec, with each of its weights and coders, and
notes the digest of the decoded pixels in golden.json. What is there stays: a file in a release is never made again.
--unreleased: before a first release, throw away files of the current stream version whose weights no longer ship.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

import probes  # noqa: E402
from media.gaussians.making import bundle, sog_parts  # noqa: E402

from codec import Picture, registry  # noqa: E402
from codec.codecs.base import weights  # noqa: E402
from codec.codecs.base.array import ArrayCodec  # noqa: E402
from codec.codecs.base.audio.codec import AudioCodec  # noqa: E402
from codec.codecs.base.features import FeatureCodec  # noqa: E402
from codec.codecs.base.field import Bound, FieldCodec  # noqa: E402
from codec.codecs.base.gaussians.codec import GaussiansCodec  # noqa: E402
from codec.codecs.base.image import ImageCodec  # noqa: E402
from codec.codecs.base.video.codec import VideoCodec  # noqa: E402
from codec.codecs.interp.codec import InterpCodec  # noqa: E402
from codec.codecs.zipgan.codec import ZipganCodec  # noqa: E402
from codec.container import read_header  # noqa: E402
from codec.media.array import ArrayFile, read  # noqa: E402
from codec.media.audio.values import Audio  # noqa: E402
from codec.media.gaussians.values import Column, Table  # noqa: E402
from codec.media.gaussians.writer import write, write_table  # noqa: E402

INDEX = HERE / "golden.json"


def pictures() -> dict[str, Picture]:
    """Small ones of each kind, cut from the sample photo."""
    with Image.open(ROOT / "samples" / "dog.png") as image:
        photo = np.asarray(image.convert("RGB"))
    y, x = np.mgrid[0:37, 0:29]
    alpha = np.clip((15 - np.hypot(y - 18, x - 14)) * 60, 0, 255).astype(np.uint8)
    ramp = (np.arange(31) * 8).astype(np.uint16)
    return {
        "rgb": Picture(photo[200:296, 240:320].copy(), None),
        "rgba": Picture(photo[300:337, 100:129].copy(), alpha),
        "grey": Picture(photo[90:130, 400:433, 1:2].copy(), None, icc=b"a profile"),
        "rgb16": Picture(photo[20:44, 60:91].astype(np.uint16) * 256 + ramp[None, :, None], None),
        "dot": Picture(photo[5:6, 5:6].copy(), None),
    }


def arrays() -> dict[str, Any]:
    """Small arrays of each kind, and files of them, for codecs without a fit; the last one stays as it is."""
    draw = np.random.default_rng(7)
    with Image.open(ROOT / "samples" / "dog.png") as image:
        photo = np.asarray(image.convert("RGB"))
        palette, table = io.BytesIO(), b"id,kind,value\n"
        image.crop((240, 200, 264, 212)).quantize(7).save(palette, "PNG")
    table += b"".join(b"%d,%s,%.2f\n" % (100 + i, (b"red", b"blue")[i % 3 == 0], i / 7) for i in range(12))
    y, x = np.mgrid[0:16, 0:20]
    return {
        "items": probes.items(SimpleNamespace(name="mix"), 4),
        "labels": ((np.hypot(y - 8, x - 9) // 4) * 5).astype(np.uint8),
        "mask": np.hypot(y - 8, x - 9) < 6,
        "rgb": photo[200:208, 240:250][None].copy(),
        "grey16": (photo[90:100, 400:412, 1].astype(np.uint16) * 257 + (x[:10, :12] * 3).astype(np.uint16)),
        "int32": np.cumsum(draw.integers(-(1 << 20), 1 << 20, (12, 9)), axis=0).astype(np.int32),
        "int64": draw.integers(-(1 << 62), 1 << 62, 7),
        "palette": read(palette.getvalue()),
        "table": read(table),
    }


def sounds() -> dict[str, Any]:
    """Sounds of each type of sample, as short as they can be: kernels' twins decode them, too."""
    pieces = probes.sound(16_500)  # two of them, which take long where there is something to hear
    silence = (np.arange(16_500) > 700) & (np.arange(16_500) < 16_000)
    return {
        "mono": Audio.from_array(np.where(silence[:, None], np.int16(0), pieces.samples), pieces.info.rate),
        "stereo": probes.sound(4_200, 2, 44_100),
        "bits24": probes.sound(2_500, 1, 16_000, 24),
        "bits32": probes.sound(1_000, 1, 11_025, 32),
        "float": probes.sound(1_500, 2, 22_050, 0),
        "three": probes.sound(1_200, 3, 8_000),
        "none": probes.sound(0),
    }


BOUNDED = ("position=0.002", "scale=0.02", "rotation=0.01", "opacity=0.01", "colour=0.01", "harmonics=0.02")
SPLATS: dict[str, tuple[dict[str, Any], Any]] = {  # settings and values; tens of Gaussians: kernels' twins decode them
    "grid": ({}, probes.splats(24, 3)),
    "bounded": ({"max_error": BOUNDED, "keep_order": True}, probes.splats(20, 2)),
    "floats": ({"lossless": True, "keep_order": True}, probes.splats(8, 1)),
    "dot": ({}, probes.splats(1, 0)),
    "segments": ({"fps": 25.0, "segment": 2}, probes.moving_splats(12, 1, 3)),
    "steady": ({"quality": 80}, probes.moving_splats(24, 3, 24)),  # with codebooks, and a look-up table
    "named": ({"max_error": BOUNDED}, probes.moving_splats(12, 1, 3)),
}


def compressed_ply(n: int) -> bytes:
    """A compressed PLY file of one chunk or two, by integer arithmetic."""
    row = np.arange(n, dtype=np.int64)[:, None]

    def column(role: str, *bits: int) -> Column:
        k = np.arange(len(bits))
        values = (row * (7 + 12 * k) + 5 * k * row * row // 7) % (1 << np.array(bits))
        return Column(role, values.astype(np.int32), bits)

    packed = [column("position", 11, 10, 11), column("rotation", 2, 10, 10, 10), column("scale", 11, 10, 11)]
    columns = (*packed, column("colour", 8, 8, 8), column("opacity", 8))
    groups = (256, n - 256) if n > 256 else (n,)
    low = np.array([[-1, -2, -1, -6, -6, -6], [0, -1, 1, -5, -6, -7]])[: len(groups)]
    ends = np.concatenate([low[:, :3], low[:, :3] + 2, low[:, 3:], low[:, 3:] + 3], 1).astype("<f4")
    detail = {"degree": 0, "bounds": ends.tobytes(), "bounds_each": 12}
    return write_table(Table("compressed-ply", columns, groups, detail))


def gaussians() -> dict[str, tuple[dict[str, Any], Any]]:
    """Settings and values of golden files of Gaussians: on a grid, exact files of each form, floats, sequences."""
    files = {"spz": write(probes.splats(40, 1), ".spz"), "splat": write(probes.splats(40, 0), ".splat")}
    files |= {"compressed-ply": compressed_ply(40), "chunks": compressed_ply(300), "sog": bundle(sog_parts(8, 0))}
    return {**SPLATS, **{form: ({}, data) for form, data in files.items()}}


BOUNDS = {  # fields whose bound isn't the usual one
    "pointwise": Bound(1e-3, kind="pointwise"),
    "rmse": Bound(0.05, kind="rmse"),
    "loose": Bound(5e-2),
    "tight": Bound(1e-6),
    "waves": Bound(0.2),
}


def waves() -> np.ndarray[Any, Any]:
    """Random integers, smoothed exactly."""
    field: Any = np.random.default_rng(2).integers(-9, 10, (64, 64))
    for axis in (0, 1, 0, 1):
        field = sum(np.roll(field, k, axis) for k in range(-2, 3))
    return (field / 64).astype(np.float32)


def _file_of(codec: Any, what: str, value: Any) -> bytes:
    """The golden file of one value."""
    if isinstance(codec, FeatureCodec):
        return codec.compress(value)
    if isinstance(codec, GaussiansCodec):
        settings, source = value
        return codec.with_settings(**settings).compress(source)
    if isinstance(value, Picture):
        return codec.encode_picture(value)
    if isinstance(value, ArrayFile):
        return codec.encode_array_file(value)
    if what == "sound":
        return codec.with_settings(sound="walloc-audio").compress(value)
    if what == "latents":
        return codec.with_settings(bound=None).compress(value)
    return (codec.with_settings(bound=BOUNDS[what]) if what in BOUNDS else codec).compress(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unreleased", action="store_true")
    arguments = parser.parse_args()
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    if arguments.unreleased:
        for file, entry in list(index.items()):
            shipped = {manifest.id.hex() for manifest in weights.manifests(entry["codec"])}
            current = entry["stream"] == registry.load_class(entry["codec"]).stream
            if current and entry["weights"] and entry["weights"] not in shipped:
                (HERE / file).unlink(missing_ok=True)
                del index[file]
    for case in [case for cases in probes.MEDIA for case in cases()]:
        codec = probes.load(case)
        name, tag = registry.split_tag(case)
        if isinstance(codec, ImageCodec):
            values: dict[str, Any] = pictures()
        elif isinstance(codec, ArrayCodec):
            values = arrays() if name == "mix" else {"items": probes.items(codec, 8)}
        elif isinstance(codec, VideoCodec):
            codec, values = codec.with_settings(effort=0.02), {"clip": probes.clip()}
            if tag == codec.default_preset:
                values["sound"] = probes.clip_with_sound()
        elif isinstance(codec, AudioCodec):
            values = sounds()
        elif isinstance(codec, GaussiansCodec):
            values = gaussians()
        elif isinstance(codec, FeatureCodec):
            values = {what: value for what, value in pictures().items() if what in ("rgb", "grey")}
        else:
            values = {"field": probes.field(), "field64": probes.field((40, 31)).astype(np.float64)}
            values |= {what: probes.field() for what in BOUNDS if isinstance(codec, InterpCodec)}
            if isinstance(codec, ZipganCodec):  # what a float network makes is the same everywhere under a bound only
                codec = codec.with_settings(bound=Bound(1e-2))
                values |= {what: probes.velocity() for what in ("flow", "latents")}
            if isinstance(codec, InterpCodec):
                values |= {"waves": waves()}  # wavelets are shorter for it
                values |= {"scaled": 1e300 * values["field64"], "masked": np.ma.masked_less(probes.field(), -5)}
        writers: list[tuple[str, Any]] = [
            (coder, codec.with_settings(coder=coder) if coder else codec) for coder in probes.coders(codec)
        ]
        if any(setting.name == "packets" for setting in codec.settings):
            writers.append(("packets", codec.with_settings(packets=5)))
        for number, (coder, writer) in enumerate(writers):
            for what, value in values.items():
                if number and what not in ("rgb", "items", "stereo"):
                    continue
                parts = [name, tag, f"s{codec.stream}", codec.weights_id.hex()[:8], coder, what]
                file = "-".join(part for part in parts if part) + registry.entry(name).suffix
                if file in index:
                    continue
                data = _file_of(writer, what, value)
                header = read_header(data)
                (HERE / file).write_bytes(data)
                index[file] = {
                    "codec": name,
                    "stream": header.stream,
                    "tag": tag or "",
                    "coder": header.coder,
                    "weights": codec.weights_id.hex(),  # a compact file has its first bytes
                    "shape": list(header.shape),
                    "dtype": header.dtype,
                    "bytes": len(data),
                    "pixels": probes.digest_of_pixels(data),
                }
                if isinstance(codec, FieldCodec):
                    index[file]["methods"] = probes.methods_of(data)
                    if what in ("flow", "latents"):  # a float network's last digits differ between machines
                        index[file]["samples"] = probes.samples_of(data)
    INDEX.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    total = sum(entry["bytes"] for entry in index.values())
    print(f"{len(index)} golden files, {total} bytes, in {HERE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
