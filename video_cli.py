"""What the `codec` command does with videos: streams instead of bytes, frames instead of pictures, progress."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .batch import STDIO, Job, Report, write_bytes
from .errors import CodecError, UsageError

if TYPE_CHECKING:
    from .codecs.video import EncodeProgress, VideoCodec
    from .container import Header

WRITES = (".mkv", ".mp4", ".mov", ".webm", ".y4m", ".png")  # .png: a folder of them
READS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m")  # as video.SUFFIXES; here without importing NumPy
HEAD_BYTES = (1 << 24) + (1 << 17)  # enough of a file for its header and metadata


class VideoOptions(NamedTuple):
    """changes: of `EncodeSettings`. frames: "start:stop". sound: written, if there is any. bar: draw how far it is, on
    a terminal."""

    changes: tuple[tuple[str, Any], ...] = ()
    frames: str | None = None
    conceal: bool = False
    encoder: str | None = None
    sound: bool = True
    bar: bool = False


def is_video_input(path: str) -> bool:
    """By its suffix: the only thing that is looked at before a codec is chosen."""
    return Path(path).suffix.lower() in READS


def header_of(path: Path) -> Header | None:
    """Of a file of ours that holds a video; otherwise None."""
    from .container import read_header

    try:
        with open(path, "rb") as file:
            header = read_header(file.read(HEAD_BYTES))
    except (OSError, CodecError):
        return None  # whoever decodes it says what is wrong
    return header if header.medium == "video" else None


# ---- encoding


def encode(codec: VideoCodec, options: VideoOptions, job: Job) -> Report:
    started = time.perf_counter()
    codec = codec.with_settings(**dict(options.changes))
    if job.target == STDIO:
        data = codec.compress(job.source)
        write_bytes(job, data)
        return {"codec": codec.name, "bytes_out": len(data), "seconds": time.perf_counter() - started}
    assert job.target is not None
    Path(job.target).absolute().parent.mkdir(parents=True, exist_ok=True)
    with _bar(options.bar, Path(job.source).name) as report:
        summary = codec.encode_file(job.source, job.target, report, force=job.replace)
    kept = {key: summary[key] for key in ("frames", "groups", "key_groups", "key_bytes_extra", "resumed")}
    about: Report = {"codec": codec.name, "preset": codec.preset.name, **kept}
    about |= {key: round(summary[key], 4) for key in ("bpp", "psnr")}
    notes = []
    if summary["sound_bytes"]:
        about["sound_bytes"] = summary["sound_bytes"]
        notes.append(f"{summary['sound_bytes']} bytes of it are sound")
    if (workers := codec.settings.jobs) > (most := summary["key_groups"]):
        notes.append(
            f"{most} of {workers} workers had work: each begins at a key group, --key-every N makes more of them"
        )
    if notes:
        about["notes"] = notes
    if codec.settings.goal:
        about["quality"] = round(summary["quality"], 2)
    about["bytes_in"] = os.path.getsize(job.source) if os.path.isfile(job.source) else None
    return {**about, "bytes_out": summary["bytes"], "seconds": time.perf_counter() - started}


@contextlib.contextmanager
def _bar(wanted: bool, name: str) -> Iterator[Callable[[EncodeProgress], None] | None]:
    if not wanted:
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        safe = "".join(c if c.isprintable() else "?" for c in name)
        task = bar.add_task(escape(safe[:40]), total=None, words="")

        def report(now: EncodeProgress) -> None:
            bar.update(task, completed=now.frames, total=now.total, words=words_of(now))

        yield report


def words_of(now: EncodeProgress) -> str:
    """One line about how far an encoding is."""
    if now.what == "target":
        return f"looking for the quality, step {now.step}/{now.steps}"
    words = f"frame {now.frames:.0f}" + (f"/{now.total}" if now.total else "")
    if now.step:
        words += f", step {now.step}/{now.steps}, {now.psnr:.1f} dB"
    return words + (f", {duration_words(now.seconds_left)} left" if now.seconds_left is not None else "")


def duration_words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


# ---- decoding


def frame_range(text: str | None) -> tuple[int, int | None]:
    """ "30:45", "30:", ":45" or "30": start and stop; UsageError for anything else."""
    if text is None:
        return 0, None
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), (int(last) if last else None) if colon else int(first) + 1
    except ValueError:
        start, stop = -1, None
    if start < 0 or (stop is not None and stop <= start):
        raise UsageError(f"--frames {text}: expected START:STOP, counted from 0, STOP not included, as in 30:45")
    return start, stop


def decode(codec: VideoCodec, options: VideoOptions, job: Job, source: Any) -> Report:
    from .video import VideoWriter, cut_audio

    started = time.perf_counter()
    start, stop = frame_range(options.frames)
    target = job.target
    assert target is not None
    with codec.open_file(source, options.conceal) as file:
        if start >= file.n_frames:
            raise UsageError(f"--frames {options.frames}: there are {file.n_frames} frames")
        stop = file.n_frames if stop is None else min(stop, file.n_frames)
        audio, notes = file.audio() if options.sound else None, []
        kind = ".y4m" if target == STDIO else Path(target).suffix.lower()
        if audio is not None and kind in ("", ".y4m"):
            audio, notes = None, ["the sound is left out: -o NAME.mkv keeps it"]
        if options.frames is not None:
            audio = cut_audio(audio, file.seconds(start), file.seconds(stop))
        with VideoWriter(target, file.info, audio, options.encoder, job.replace) as writer:
            for frame in file.frames(start, stop):
                writer.write(frame)
        notes += writer.notes
        shape = [stop - start, file.info.height, file.info.width]
        report: Report = {"codec": codec.name, "shape": shape, "dtype": "uint8", "missing": file.missing}
    if report["missing"]:
        notes.append(f"{len(report['missing'])} frames are missing: {ranges_of(report['missing'])}")
    if os.path.isfile(target):
        report["bytes_out"] = os.path.getsize(target)
    seconds = time.perf_counter() - started
    return {**report, "notes": notes, "fps": round((stop - start) / seconds, 2), "seconds": seconds}


def verify(codec: VideoCodec, source: Any) -> None:
    """Decode every frame, in bounded memory."""
    with codec.open_file(source) as file:
        for _ in file.frames():
            pass
        file.audio()


def ranges_of(numbers: Iterable[int]) -> str:
    """3-8, 20"""
    out = []
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        held = [number for _, number in run]
        out.append(str(held[0]) if len(held) == 1 else f"{held[0]}-{held[-1]}")
    return ", ".join(out)


def check_encoder(text: str | None) -> None:
    """UsageError, before anything is decoded, for an encoder that isn't known."""
    if text is not None:
        from .video import parse_encoder

        parse_encoder(text)


def say_bar(quiet: bool, n_jobs: int, as_json: bool) -> bool:
    return n_jobs == 1 and not quiet and not as_json and sys.stderr.isatty()
