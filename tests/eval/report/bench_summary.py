"""A bench summary for the tests of figures and report: real JPEG and WebP curves of the sample photo, and what else a
run may hold: a codec of ours, a lossless one, a single point, published series, deltas with and without a number."""

from __future__ import annotations

import copy
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codec.eval.bench.contract import Audio
from codec.eval.peers.audio import FAMILIES
from codec.eval.report.html import Crop, CropSet, SoundSet, Take

SAMPLE = Path(__file__).resolve().parents[3] / "samples" / "dog.png"
QUALITIES = (5, 15, 30, 50, 70, 85, 95)
OURS = ("walloc@16x", "walloc@4x")


def photo() -> NDArray[np.uint8]:
    with Image.open(SAMPLE) as image:
        return np.asarray(image.convert("RGB"))


def coded(pixels: NDArray[np.uint8], kind: str, **options: Any) -> tuple[int, NDArray[np.uint8]]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return len(buffer.getvalue()), np.asarray(image.convert("RGB"))


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    mse = float(np.mean((a.astype(float) - b) ** 2))
    return float("inf") if mse == 0 else float(10 * np.log10(255**2 / mse))


def point(
    pixels: NDArray[np.uint8], spec: str, setting: Any, n_bytes: float, quality: float, speed: float
) -> dict[str, Any]:
    size = pixels.shape[0] * pixels.shape[1]
    likeness = 1.0 if quality == float("inf") else 1 - 10 ** (-(quality - 17) / 10)  # rises with PSNR, as MS-SSIM does
    return {
        "setting": setting,
        "spec": spec,
        "items": 24,
        "complete": True,
        "bpp": 8 * n_bytes / size,
        "ratio": 3 * size / n_bytes,
        "bytes": n_bytes,
        "psnr-rgb": quality,
        "ms-ssim-rgb": likeness,
        "lpips": 0.0 if likeness == 1 else 0.9 * (1 - likeness) ** 0.5,
        "encode_seconds": size / speed / 1e6,
        "decode_seconds": size / speed / 2e6,
        "encode_mpx_s": speed,
        "decode_mpx_s": 2 * speed,
        "encode_peak_mib": 2.5,
        "decode_peak_mib": 1.25,
    }


@functools.lru_cache(maxsize=1)
def _curves() -> list[dict[str, Any]]:
    pixels = photo()
    found: list[dict[str, Any]] = []
    families = [
        ("jpeg:chroma=444", "JPEG", {"subsampling": 0}, 90.0),
        ("jpeg:chroma=420", "JPEG", {"subsampling": 2}, 120.0),
        ("webp:method=2", "WEBP", {"method": 2}, 14.0),
    ]
    for name, kind, options, speed in families:
        points = []
        for q in QUALITIES:
            n_bytes, decoded = coded(pixels, kind, quality=q, **options)
            points.append(point(pixels, f"{name}:q={q}", q, n_bytes, psnr(pixels, decoded), speed / (1 + q / 100)))
        found.append({"codec": name, "ours": False, "lossless": False, "axis": "q", "points": points})
    webp = found[-1]["points"]
    for name, times, more, speed in [("avif:speed=6", 0.74, 0.5, 1.2), ("jxl:effort=7", 0.8, 0.3, 5.0)]:
        points = [
            point(pixels, f"{name}:q={p['setting']}", p["setting"], p["bytes"] * times, p["psnr-rgb"] + more, speed)
            for p in webp
        ]
        found.append({"codec": name, "ours": False, "lossless": False, "axis": "q", "points": points})
    found[-1]["points"][0] |= {"items": 23, "complete": False}
    plain, _ = coded(pixels, "PNG")
    found.append(
        {
            "codec": "png",
            "ours": False,
            "lossless": True,
            "axis": None,
            "points": [point(pixels, "png", None, plain, float("inf"), 6.0)],
        }
    )
    for name, at in zip(OURS, ((5, 1.3), (20, 2.1)), strict=True):
        base = webp[2]["bytes"]
        points = [
            point(pixels, f"{name}:q={q}", q, base * (0.4 + 0.25 * q), 26 + at[1] * q, 1.1 + at[0] / 10)
            for q in ((1, 2, 3, 4, 5, 6) if name == OURS[0] else (3,))
        ]
        found.append({"codec": name, "ours": True, "lossless": False, "axis": "q", "points": points})
    return found


def summary() -> dict[str, Any]:
    """A fresh copy. 8 measured curves (walloc@4x and png of one point), 2 published."""
    kodak = [{"bpp": b, "psnr-rgb": q} for b, q in ((0.12, 28.4), (0.25, 31.0), (0.5, 34.2), (0.9, 37.4), (1.5, 40.3))]
    neural = [
        {"bpp": b, "psnr-rgb": q, "ms-ssim-rgb": m}
        for b, q, m in ((0.12, 27.9, 0.92), (0.42, 32.8, 0.976), (0.86, 36.4, 0.991))
    ]
    window = [26.4, 37.9]
    return {
        "command": "codec bench DATA -c jpeg:444,jpeg:420,webp,avif,jxl,png,walloc@16x --out DIR",
        "data": {"name": "test-kodak", "medium": "image", "items": [f"kodim{i:02}.png" for i in range(1, 25)]},
        "machine": {"cpu": "AMD EPYC 7763", "cores": 2, "python": "3.11.7", "platform": "Linux"},
        "threads": 2,
        "jobs": 1,
        "repeat": 3,
        "versions": {"pillow": "13.0.0", "libwebp": "1.6.0", "codec-suite": "0.2"},
        "metrics": {
            "psnr-rgb": {"unit": "dB", "better": "higher", "about": "Peak signal-to-noise ratio over all channels."},
            "ms-ssim-rgb": {
                "unit": "",
                "better": "higher",
                "about": "Multi-scale structural similarity, mean of R, G, B.",
            },
            "lpips": {"unit": "", "better": "lower", "about": "Distance of AlexNet features."},
            "butteraugli": {"unit": "", "better": "lower", "about": "Not measured in this run."},
        },
        "rate": {"key": "bpp", "unit": "bits per pixel"},
        "curves": copy.deepcopy(_curves()),
        "reference": [
            {"codec": "vtm-18.0", "source": "Results of JVET's reference software, digitised", "points": kodak},
            {"codec": "elic", "source": "He et al., CVPR 2022, table 3", "points": neural},
        ],
        "bd": [
            {
                "codec": "walloc@16x",
                "anchor": "webp:method=2",
                "metric": "psnr-rgb",
                "bd_rate": 31.24,
                "bd_metric": -1.1,
                "window": window,
                "reason": None,
            },
            {
                "codec": "avif:speed=6",
                "anchor": "webp:method=2",
                "metric": "psnr-rgb",
                "bd_rate": -26.0,
                "bd_metric": 1.3,
                "window": window,
                "reason": None,
            },
            {
                "codec": "avif:speed=6",
                "anchor": "webp:method=2",
                "metric": "ms-ssim-rgb",
                "bd_rate": -22.5,
                "bd_metric": 0.9,
                "window": [0.88, 0.989],
                "reason": None,
            },
            {
                "codec": "walloc@4x",
                "anchor": "webp:method=2",
                "metric": "psnr-rgb",
                "bd_rate": None,
                "bd_metric": None,
                "window": None,
                "reason": "the codec has 1 point; at least 4 make a curve",
            },
        ],
        "skipped": [{"item": "notes.txt", "reason": "no picture: text"}],
        "failed": [{"item": "kodim07.png", "spec": "jxl:effort=7:q=5", "reason": "the encoder ran out of memory"}],
    }


@functools.lru_cache(maxsize=2)
def crop_sets(width: int = 192, height: int = 192) -> tuple[CropSet, ...]:
    """Three sets of ten crops of the sample photo, coded for real: three coders at several settings."""
    pixels = photo()
    found = []
    for left, top, target in ((180, 120, 0.25), (190, 250, 0.5), (40, 300, 1.0)):
        original = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        quality = {0.25: 8, 0.5: 25, 1.0: 60}[target]
        variants: list[tuple[str, str, dict[str, Any]]] = [("png", "PNG", {})]
        variants += [
            (f"jpeg:chroma={c}", "JPEG", {"quality": quality, "subsampling": s})
            for c, s in (("444", 0), ("422", 1), ("420", 2))
        ]
        variants += [(f"webp:method={m}", "WEBP", {"quality": quality + 5 * m, "method": m}) for m in (0, 2, 4)]
        variants += [
            (name, "WEBP", {"quality": quality + more, "method": 0})
            for name, more in (("walloc@16x", 12), ("avif:speed=6", 20), ("jxl:effort=7", 28))
        ]
        crops = []
        for name, kind, options in variants:
            n_bytes, decoded = coded(original, kind, **options)
            spec = name + (f":q={options['quality']}" if options else "")
            metrics = {"psnr-rgb": psnr(original, decoded), "ms-ssim-rgb": 0.9643}
            crops.append(Crop(name, spec, 8 * n_bytes / (width * height), metrics, decoded))
        found.append(CropSet("dog.png", (left, top, width, height), target, original, crops))
    return tuple(found)


def flac(samples: NDArray[np.float32], rate: int) -> bytes:
    """A FLAC file of (C, N) samples, rounded to 16 bits."""
    family = next(family for family in FAMILIES if family.name == "flac")
    rounded = np.rint(samples * 2**15) / np.float32(2**15)
    return family.make({"level": 5}, 1).encode(Audio(rounded.astype(np.float32), rate))


def sound_summary() -> dict[str, Any]:
    """The same summary as one of sound, by SI-SDR."""
    given = summary()
    given["data"]["medium"] = "audio"
    given["rate"] = {"key": "kbps", "unit": "kbit/s"}
    given["metrics"] = {"si-sdr": {"unit": "dB", "better": "higher", "about": "scale-invariant SDR"}}
    given["bd"] = []
    for curve in (*given["curves"], *given["reference"]):
        for item in curve["points"]:
            item["kbps"], item["si-sdr"] = 100 * item.pop("bpp"), item.pop("psnr-rgb", None)
    return given


def sound_sets(seconds: float = 1.0, rate: int = 44_100) -> list[SoundSet]:
    """Two sounds, each with what three codecs made of it; the second of them is ours."""
    t = np.arange(round(seconds * rate)) / rate
    sets = []
    for item, pitch in (("piano.flac", 440), ("voice.wav", 180)):
        tone = np.stack([0.4 * np.sin(2 * np.pi * pitch * t), 0.2 * np.sin(2 * np.pi * 1.5 * pitch * t)])
        takes = [
            Take(name, f"{name}:kbps={kbps}", kbps + 0.4, {"si-sdr": 30.0 + kbps / 10}, flac(level * tone, rate))
            for name, kbps, level in (("opus", 64, 0.9), ("walloc@16x", 62, 0.8), ("mp3", 66, 0.7))
        ]
        sets.append(SoundSet(item, (2.0, 2.0 + seconds), 64, flac(tone, rate), takes))
    return sets
