"""Rate and distortion of video codecs on whole clips, beside x264, x265 and AV1, in the clips' own YUV.

    python -P -m codec.eval.video CLIP... --codecs x264:medium,x265:medium,x265:slow,av1:8 --out rows.csv

A codec is NAME:PRESET, with :psnr or another tune behind it, and :crf=20+26+32+38 for other points than its own. av1 is
SVT-AV1, whose presets are numbers. One row is one clip at one setting. Rows that are in the file already are kept, so
that a run can be stopped, and a later one adds codecs or clips. rows.json holds BD-rates against --anchor, clip by
clip, and their means.

Rates are of whole files: Matroska for the encoders. psnr_yuv is the mean over frames of (6 Y + U + V) / 8, psnr_rgb
that of R, G and B together, after one conversion for all; a plane without error counts as 100 dB. Grey has Y only. RGB
is compared as the YUV 4:2:0 that the encoders get. Encoders run on as many threads as they choose. Times are of one
machine, to be read beside each other only; of a codec that takes a file, reading it counts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CodecError, MediaError, UsageError
from ..video import Frame, Planes, VideoInfo, VideoWriter, open_video, parse_encoder, to_rgb, to_yuv420
from .bd import bd_delta
from .metrics.images import psnr

__all__ = ["ANCHORS", "Candidate", "Clip", "Row", "anchor_of", "main", "measure", "ours", "psnr_of_frame", "summary"]

CAP = 100.0  # dB of a plane without error
MAX_BYTES = 1 << 32  # of a clip's frames in memory
METRICS = ("psnr_yuv", "psnr_rgb")

ANCHORS = {  # encoder, crf values from good to small, the option that chooses the effort
    "x264": ("libx264", (15, 19, 23, 27, 31, 35)),
    "x265": ("libx265", (16, 20, 24, 28, 32, 36)),
    "av1": ("libsvtav1", (20, 27, 34, 41, 48, 55)),
}
DEFAULT = "x264:medium,x264:veryslow,x265:medium,x265:slow,av1:8,av1:4"


@dataclass(frozen=True)
class Clip:
    """The first frames of a video, in memory. digest: of the frames; rows are kept by it."""

    name: str
    info: VideoInfo
    frames: tuple[Frame, ...]
    digest: str

    @staticmethod
    def read(path: str | os.PathLike[str], n_frames: int | None = None) -> Clip:
        frames: list[Frame] = []
        digest = hashlib.sha256()
        n_bytes = 0
        with open_video(path) as reader:
            for frame in reader:
                frames.append(frame)
                n_bytes += sum(plane.size for plane in frame.planes)
                if n_bytes > MAX_BYTES:
                    raise MediaError(f"{path}: more than {MAX_BYTES} bytes of frames: measure fewer, --frames 100")
                for plane in frame.planes:
                    digest.update(plane.tobytes())
                if len(frames) == n_frames:
                    break
            return Clip(Path(path).stem, reader.info, tuple(frames), digest.hexdigest()[:16])

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The frames as a lossless file, for a codec that takes one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.name}.mkv"
            with VideoWriter(path, self.info) as writer:
                for frame in self.frames:
                    writer.write(frame)
            yield path


@dataclass(frozen=True)
class Candidate:
    """What can be measured. settings: one row each. compress: a clip and a setting to a whole file. decompress: that
    file to frames, as many as the clip has, and what they are."""

    name: str
    settings: tuple[str, ...]
    compress: Callable[[Clip, str], bytes]
    decompress: Callable[[bytes], tuple[VideoInfo, Iterable[Frame]]]


def ours(
    name: str,
    settings: Sequence[str],
    compress: Callable[[Path, str], bytes],
    decompress: Callable[[bytes], tuple[VideoInfo, Iterable[Frame]]],
) -> Candidate:
    """A codec that takes a file: compress(path, setting) gives bytes, decompress(data) what frames are, and them."""

    def compress_clip(clip: Clip, setting: str) -> bytes:
        with clip.file() as path:
            return compress(path, setting)

    return Candidate(name, tuple(settings), compress_clip, decompress)


@dataclass(frozen=True)
class Row:
    """bpp: bits a pixel of luma. ms_ssim: None if it wasn't asked for."""

    clip: str
    digest: str
    codec: str
    setting: str
    frames: int
    width: int
    height: int
    n_bytes: int
    bpp: float
    kbps: float
    psnr_yuv: float
    psnr_y: float
    psnr_rgb: float
    ms_ssim: float | None
    encode_seconds_per_frame: float
    decode_frames_per_second: float

    @property
    def key(self) -> tuple[str, str, str]:
        return self.digest, self.codec, self.setting


# ---- anchors


def anchor_of(text: str) -> Candidate:
    """x264, x265 or AV1 by NAME:PRESET[:TUNE][:crf=A+B+...]. UsageError for what isn't one."""
    name, *words = text.split(":")
    if name not in ANCHORS:
        raise UsageError(f"no codec {name!r}; expected one of {', '.join(ANCHORS)}, as in x265:medium")
    encoder, sweep = ANCHORS[name]
    preset, tune, values = ("8" if name == "av1" else "medium"), "", [str(crf) for crf in sweep]
    for index, word in enumerate(words):
        if word.startswith("crf="):
            values = word.removeprefix("crf=").split("+")
        elif index == 0:
            preset = word
        else:
            tune = f",tune={word}"
    template = f"{encoder}:preset={preset}{tune},crf="
    for value in values:
        parse_encoder(template + value)
    label = ":".join([name, preset, *([tune.removeprefix(",tune=")] if tune else [])])
    return Candidate(
        label,
        tuple(f"crf={value}" for value in values),
        lambda clip, setting: _encode(clip, template + setting.removeprefix("crf=")),
        _decode,
    )


def _encode(clip: Clip, encoder: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded.mkv"
        with VideoWriter(path, clip.info, encoder=encoder) as writer:
            for frame in clip.frames:
                writer.write(frame)
        return path.read_bytes()


def _decode(data: bytes) -> tuple[VideoInfo, Iterable[Frame]]:
    reader = open_video(data)
    return reader.info, reader


# ---- distortion


def psnr_of_frame(original: Planes, decoded: Planes) -> list[float]:
    """dB of each plane, at most CAP."""
    if [plane.shape for plane in original] != [plane.shape for plane in decoded]:
        raise MediaError(f"planes {[p.shape for p in decoded]}; expected {[p.shape for p in original]}")
    return [min(CAP, psnr(_mse(a, b))) for a, b in zip(original, decoded, strict=True)]


def _mse(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    difference = a.astype(np.int32) - b
    return float(np.square(difference).mean(dtype=np.float64))


def _yuv(frame: Frame, info: VideoInfo) -> Planes:
    """rgb24 in the matrix and range that the encoders get."""
    if info.pixels != "rgb24":
        return frame.planes
    return to_yuv420(frame.planes[0], replace(info, color={"matrix": info.matrix, "range": 1}))


def _compare(
    clip: Clip, info: VideoInfo, frames: Iterable[Frame], with_ms_ssim: bool
) -> tuple[dict[str, float | None], float]:
    """Means over the frames, and seconds of decoding."""
    sums: list[list[float]] = []
    seconds, decoded = 0.0, iter(frames)
    for index in range(len(clip.frames) + 1):
        started = time.perf_counter()
        frame = next(decoded, None)
        seconds += time.perf_counter() - started
        if (frame is None) != (index == len(clip.frames)):
            raise MediaError(f"{index} frames or more came back; expected {len(clip.frames)}")
        if frame is not None:
            sums.append(_metrics(clip.frames[index], clip.info, frame, info, with_ms_ssim))
    yuv, y, rgb, *ms_ssim = np.mean(sums, axis=0).tolist()
    return {"psnr_yuv": yuv, "psnr_y": y, "psnr_rgb": rgb, "ms_ssim": ms_ssim[0] if ms_ssim else None}, seconds


def _metrics(a: Frame, info_a: VideoInfo, b: Frame, info_b: VideoInfo, with_ms_ssim: bool) -> list[float]:
    yuv_a, yuv_b = _yuv(a, info_a), _yuv(b, info_b)
    planes = psnr_of_frame(yuv_a, yuv_b[: len(yuv_a)])  # encoders give grey back with empty chroma
    yuv = (6 * planes[0] + planes[1] + planes[2]) / 8 if len(planes) == 3 else planes[0]
    # Encoders may lose what colours mean; the clip knows.
    rgb_a, rgb_b = to_rgb(a, info_a), to_rgb(b, _as(info_b, info_a))
    values = [yuv, planes[0], min(CAP, psnr(_mse(rgb_a, rgb_b)))]
    if with_ms_ssim:
        from .metrics.images import ms_ssim_rgb

        values.append(ms_ssim_rgb(rgb_a, rgb_b))
    return values


def _as(info: VideoInfo, clip: VideoInfo) -> VideoInfo:
    full = clip.full_range if clip.pixels != "rgb24" else False
    return replace(info, color={"matrix": clip.matrix, "range": 2 if full else 1}) if info.pixels != "rgb24" else info


# ---- runs


def measure(clip: Clip, candidate: Candidate, setting: str, with_ms_ssim: bool = False) -> Row:
    """Encode, decode, compare. Raises CodecError."""
    started = time.perf_counter()
    data = candidate.compress(clip, setting)
    encode_seconds = time.perf_counter() - started
    started = time.perf_counter()
    info, frames = candidate.decompress(data)
    opening = time.perf_counter() - started
    means, seconds = _compare(clip, info, frames, with_ms_ssim)
    n_frames, last = len(clip.frames), clip.frames[-1]
    duration = float((last.pts + last.duration) * clip.info.time_base)
    return Row(
        clip=clip.name,
        digest=clip.digest,
        codec=candidate.name,
        setting=setting,
        frames=n_frames,
        width=clip.info.width,
        height=clip.info.height,
        n_bytes=len(data),
        bpp=8 * len(data) / (n_frames * clip.info.width * clip.info.height),
        kbps=8 * len(data) / 1000 / duration if duration else math.nan,
        encode_seconds_per_frame=encode_seconds / n_frames,
        decode_frames_per_second=n_frames / (opening + seconds),
        **means,  # pyright: ignore[reportArgumentType]
    )


def run(
    clips: Iterable[Clip],
    candidates: Sequence[Candidate],
    out: Path,
    with_ms_ssim: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[list[Row], list[str]]:
    """Measure what isn't in `out` yet, writing it after every row. Rows of these clips, and what failed, in words."""
    rows = {row.key: row for row in read_rows(out)} if out.exists() else {}
    failed, digests = [], set()
    for clip in clips:
        digests.add(clip.digest)
        for candidate in candidates:
            for setting in candidate.settings:
                known = rows.get((clip.digest, candidate.name, setting))
                if known is not None and (known.ms_ssim is not None or not with_ms_ssim):
                    continue
                try:
                    row = measure(clip, candidate, setting, with_ms_ssim)
                except CodecError as error:
                    failed.append(f"{clip.name}, {candidate.name} {setting}: {error}")
                    report(f"failed: {failed[-1]}")
                    continue
                rows[row.key] = row
                write_rows(out, list(rows.values()))
                report(f"{row.clip} {row.codec} {row.setting}: {row.bpp:.4f} bpp, {row.psnr_yuv:.2f} dB")
    return [row for row in rows.values() if row.digest in digests], failed


def read_rows(path: Path) -> list[Row]:
    """UsageError for a file that `write_rows` didn't write."""
    try:
        with path.open(newline="") as file:
            return [_row(values) for values in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: not rows of this program ({error}); name another file with --out") from None


def _row(values: dict[str, str]) -> Row:
    kinds: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
    parsed: dict[str, Any] = {}
    for item in fields(Row):
        text = values[item.name]
        parsed[item.name] = (float(text) if text else None) if item.name == "ms_ssim" else kinds[str(item.type)](text)
    return Row(**parsed)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Whole or not at all: a run may be stopped at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([item.name for item in fields(Row)])
            for row in rows:
                values = ["" if value is None else value for value in asdict(row).values()]
                writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def summary(rows: Sequence[Row], anchor: str = "x265:medium") -> dict[str, Any]:
    """BD-rates in per cent against `anchor`, of each codec on each clip and their mean; negative is better. A clip
    whose curves have too little in common has the reason in place of a number, and isn't in the mean."""
    clips = list(dict.fromkeys((row.digest, row.clip) for row in rows))
    codecs = {}
    for codec in dict.fromkeys(row.codec for row in rows):
        mine = [row for row in rows if row.codec == codec]
        entry: dict[str, Any] = {
            "rows": len(mine),
            "encode_seconds_per_frame": float(np.mean([row.encode_seconds_per_frame for row in mine])),
            "decode_frames_per_second": float(np.mean([row.decode_frames_per_second for row in mine])),
        }
        for metric in METRICS if codec != anchor else ():
            by_clip: dict[str, Any] = {}
            for digest, name in clips:
                delta = bd_delta(_curve(rows, anchor, digest, metric), _curve(rows, codec, digest, metric))
                value = {"rate": delta.rate, "window": delta.window, "reason": delta.reason}
                by_clip[name if name not in by_clip else f"{name} {digest}"] = value
            rates = [value["rate"] for value in by_clip.values() if value["rate"] is not None]
            mean = float(np.mean(rates)) if rates else None
            entry[f"bd_rate_{metric}"] = {"mean": mean, "clips": len(rates), "by_clip": by_clip}
        codecs[codec] = entry
    return {"anchor": anchor, "codecs": codecs}


def _curve(rows: Sequence[Row], codec: str, digest: str, metric: str) -> list[tuple[float, float]]:
    return [(row.bpp, getattr(row, metric)) for row in rows if (row.codec, row.digest) == (codec, digest)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codec.eval.video", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="video files, or folders of PNGs")
    parser.add_argument("--codecs", default=DEFAULT, help=f"comma-separated (default: {DEFAULT})")
    parser.add_argument(
        "--out", required=True, type=Path, help="rows, a CSV file; its summary has .json in place of .csv"
    )
    parser.add_argument("--frames", type=int, help="only the first of each clip")
    parser.add_argument("--ms-ssim", action="store_true", help="MS-SSIM of RGB too, where both sides are above 160")
    parser.add_argument("--anchor", default="x265:medium", help="what BD-rates compare with (default: x265:medium)")
    return parser


def main(arguments: Sequence[str] | None = None, candidates: Sequence[Candidate] = ()) -> int:
    """candidates: measured beside those of --codecs."""
    args = _parser().parse_args(arguments)
    try:
        if args.out.suffix != ".csv" or (args.frames is not None and args.frames < 1):
            raise UsageError("expected --out FILE.csv, and --frames from 1 on")
        chosen = [anchor_of(text) for text in args.codecs.split(",") if text] + list(candidates)
        clips = (Clip.read(path, args.frames) for path in args.clips)
        rows, failed = run(clips, chosen, args.out, args.ms_ssim, lambda text: print(text, file=sys.stderr, flush=True))
        import av

        result = {
            **summary(rows, args.anchor),
            "failed": failed,
            "command": "python -P -m codec.eval.video " + " ".join(sys.argv[1:] if arguments is None else arguments),
            "versions": {"av": metadata.version("av"), "ffmpeg": str(getattr(av, "ffmpeg_version_info", ""))},
            "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "system": platform.system()},
        }
        args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    except CodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
