"""`codec encode`: compress files."""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import registry
from ..errors import MediaError, UsageError
from ..files import STDIO, is_in_place, read_bytes, whole
from .coding import VIDEO_READS, Options, VideoOptions, codec_name, encoder, is_for_fields, video_codec, with_suffix
from .jobs import Job, Report, carry_out, no_folder, plan
from .options import count, not_negative, positive, size_in_bytes
from .parser import add_inputs, add_jobs, add_model, add_outputs
from .terminal import progress

if TYPE_CHECKING:
    from ..codecs.base.image import ImageCodec
    from ..codecs.base.video.codec import EncodeProgress
    from ..media.values import Picture

EXAMPLES = """\
examples:
  codec encode photo.png -o photo.s2lic -q 60   or --size 20kB, --bpp 0.25, --psnr 34
  codec encode clip.mp4 --effort 2 --jobs 4     a video; interrupted, the same command goes on
  codec encode 'photos/**/*.jpg' -o small --jobs 4 --skip-existing
"""
INTERRUPTED = "finished files are whole, --skip-existing goes on from here; the same command goes on with a video"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "folders (their tree is kept)")
    add_outputs(parser)
    add = parser.add_argument
    add("-c", "--codec", help="codec, or codec@tag; `codec list` names them (default: the medium's own)")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("-q", "--quality", type=float, help="what quality means is the codec's; higher is better")
    goal.add_argument(
        "--size", type=size_in_bytes, metavar="N", help="the best file of at most so much: 20kB, 1.5MB, 64KiB"
    )
    goal.add_argument("--bpp", type=positive, metavar="R", help="the same in bits per pixel, as 0.25")
    goal.add_argument("--psnr", type=positive, metavar="DB", help="the smallest file of at least so many decibels")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--max-error", type=positive, metavar="E", help="fields: no value is off by more than E")
    bound.add_argument("--rel-error", type=positive, metavar="R", help="fields: by more than R of a dataset's range")
    add("--dataset", action="append", metavar="PATH", help="fields: code this one, keep others exactly")
    add("--effort", type=not_negative, metavar="X", help="videos, s2lic: optimiser steps, times the usual number")
    add("--enough", type=positive, metavar="DB", help="videos: a group with so many decibels is done")
    add("--key-every", type=count, metavar="N", help="videos: every N-th group can be decoded alone")
    add("--no-sound", action="store_true", help="videos: leave the sound out")
    words = "how the payload is entropy-coded, for codecs that offer a choice (constriction, torchac; walloc: webp)"
    add("--coder", help=words)
    add_model(parser)
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    from ..media import array as arrays
    from ..media import hdf5
    from ..media.image import SUFFIXES

    goals = [(what, value) for what in ("size", "bpp", "psnr") if (value := getattr(args, what)) is not None]
    bounds = [(what, value) for what in ("max_error", "rel_error") if (value := getattr(args, what)) is not None]
    codec = args.codec or (registry.DEFAULT.get("video") if _are_videos(args.inputs) else None)
    options = Options(codec, args.quality, args.weights, args.device, coder=args.coder)
    medium = registry.entry(registry.split_tag(codec_name(options))[0]).medium
    video = medium == "video"
    options = options._replace(
        goal=goals[0] if goals and not video else None,
        bound=bounds[0] if bounds else None,
        datasets=tuple(args.dataset or ()),
        video=_video_options(args, dict(goals), video),
        effort=0.0 if video else args.effort or 0.0,
    )
    integers = medium == "field" and not is_for_fields(codec_name(options))
    # what a folder is searched for; a file given by name may be called anything
    if codec is None:
        suffixes: tuple[str, ...] = (*SUFFIXES["image"], *hdf5.SUFFIXES)
    elif medium == "field":
        suffixes = arrays.SUFFIXES if integers else hdf5.SUFFIXES
    else:
        suffixes = tuple(VIDEO_READS if video else SUFFIXES[medium])

    def suffix_of(path: Path) -> str:
        return registry.entry(registry.split_tag(codec_name(options, str(path)))[0]).suffix

    jobs = plan(
        args.inputs,
        args.output,
        accepts=lambda path: path.suffix.lower() in suffixes,
        rename=lambda path: with_suffix(path, suffixes, suffix_of(path)),
        force=args.force,
        skip_existing=args.skip_existing,
        is_one_input=_holds_pictures if integers or video else no_folder,
    )
    if video:
        options = options._replace(video=_for_jobs(options.video, args, len(jobs)))
    if args.quality is not None or args.coder is not None or args.device != "cpu" or options.effort:
        encoder(options)  # a setting that no input can be encoded with is said once
    return carry_out(args, partial(_encode, options), jobs)


def _are_videos(inputs: Sequence[str]) -> bool:
    """Whether all inputs are, by their names: the only thing that is looked at before a codec is chosen."""
    return bool(inputs) and all(Path(source).suffix.lower() in VIDEO_READS for source in inputs)


def _holds_pictures(folder: Path) -> bool:
    """Whether a folder is one input of a codec of arrays: its pictures are the items."""
    return any(path.suffix.lower() == ".png" for path in folder.iterdir() if path.is_file())


# ---- the work on one input; runs in this process or in others


def _encode(options: Options, job: Job) -> Report:
    from ..codecs.base.image import ImageCodec
    from ..container import describe
    from ..media.image import read_picture

    started = time.perf_counter()
    name = codec_name(options, job.source)
    medium = registry.entry(registry.split_tag(name)[0]).medium
    if is_for_fields(name):
        return _encode_field(options, job, name)
    if options.bound or options.datasets:
        raise UsageError(f"--max-error, --rel-error and --dataset are for fields (HDF5), not for {name}")
    if medium == "field":
        return _encode_array(options, job)
    if medium == "video":
        return _encode_video(options, job)
    source = read_bytes(job.source)
    try:
        picture = read_picture(source)
    except MediaError as error:
        raise MediaError(str(error).removeprefix("the data: ")) from error  # the caller names the file
    codec = encoder(options)
    assert isinstance(codec, ImageCodec)
    data, search = _towards(options.goal, codec, picture) if options.goal else (codec.encode_picture(picture), {})
    _write(job, data)
    about = describe(data)
    kept = {key: about[key] for key in ("codec", "shape", "dtype", "bpp")} | search
    return {**kept, "bytes_in": len(source), "bytes_out": len(data), "seconds": time.perf_counter() - started}


def _write(job: Job, data: bytes) -> None:
    assert job.target is not None
    with whole(job.target, replace=job.replace) as file:
        file.write(data)


def _towards(goal: tuple[str, float], codec: ImageCodec, picture: Picture) -> tuple[bytes, Report]:
    from ..codecs.base import rate_control as search

    what, value = goal
    result = {"size": search.at_size, "bpp": search.at_bpp, "psnr": search.at_psnr}[what](codec, picture, value)
    about: Report = {"quality": round(result.quality, 2), "encodings": result.encodings}
    return result.data, about | ({"psnr": round(result.value, 3)} if what == "psnr" else {})


# ---- fields and arrays


def _encode_field(options: Options, job: Job, name: str) -> Report:
    from ..codecs.base.field import Bound, FieldCodec

    started = time.perf_counter()
    if options.goal:
        raise UsageError(f"--{options.goal[0]}: a field has an error bound instead: --max-error, --rel-error, or -q")
    codec = encoder(options, name)
    assert isinstance(codec, FieldCodec)
    assert job.target is not None
    if options.bound:
        codec = codec.with_bound(Bound(options.bound[1], options.bound[0] == "rel_error"))
    source = io.BytesIO(read_bytes(STDIO)) if job.source == STDIO else job.source
    if is_in_place(job.target):
        buffer = io.BytesIO()
        fields = codec.encode_into(buffer, source, options.datasets or None)
        _write(job, buffer.getvalue())
        n_out = buffer.tell()
    else:
        with whole(job.target, replace=job.replace) as file:
            fields = codec.encode_into(file, source, options.datasets or None)
        n_out = os.path.getsize(job.target)
    n_in = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else os.path.getsize(source)
    kept = {"codec": codec.name, "fields": fields}
    return {**kept, "bytes_in": n_in, "bytes_out": n_out, "seconds": time.perf_counter() - started}


def _encode_array(options: Options, job: Job) -> Report:
    from ..codecs.base.array import ArrayCodec
    from ..container import describe
    from ..media import array as arrays

    started = time.perf_counter()
    if options.goal:
        raise UsageError(f"--{options.goal[0]}: {options.codec} is lossless, its files are as small as they get")
    if job.source != STDIO and os.path.isdir(job.source):
        value = arrays.read(job.source)
        pictures = [path for path in Path(job.source).iterdir() if path.suffix.lower() == ".png"]
        n_in = sum(path.stat().st_size for path in pictures)
    else:
        source = read_bytes(job.source)
        value, n_in = arrays.read(source), len(source)
    codec = encoder(options)
    assert isinstance(codec, ArrayCodec)
    data = codec.encode_file(value)
    _write(job, data)
    about = describe(data)
    kept = {key: about[key] for key in ("codec", "shape", "dtype")}
    kept["bits_per_value"] = 8 * len(data) / value.array.size
    return {**kept, "bytes_in": n_in, "bytes_out": len(data), "seconds": time.perf_counter() - started}


# ---- videos


def _video_options(args: argparse.Namespace, goals: dict[str, float], video: bool) -> VideoOptions:
    changes = {name: value for name in ("effort", "enough", "key_every") if (value := getattr(args, name)) is not None}
    if not video:
        changes.pop("effort", None)  # pictures have it, too
        if changes:
            raise UsageError(f"--{min(changes).replace('_', '-')} is for videos")
        if args.no_sound:
            raise UsageError("--no-sound is for videos")
        return VideoOptions()
    if args.no_sound:
        changes["sound"] = False
    if "size" in goals:
        raise UsageError("--size is for pictures: give a video --bpp or --psnr")
    return VideoOptions(tuple({**changes, **goals}.items()))


def _for_jobs(options: VideoOptions, args: argparse.Namespace, n_jobs: int) -> VideoOptions:
    """The options of one video have all workers for its groups, and a bar of its own."""
    jobs = (args.jobs or os.cpu_count() or 1) if n_jobs == 1 else 1
    return options._replace(
        changes=(*options.changes, ("jobs", jobs)), bar=n_jobs == 1 and not (args.quiet or args.json)
    )


def _encode_video(options: Options, job: Job) -> Report:
    started = time.perf_counter()
    codec = video_codec(encoder(options)).with_settings(**dict(options.video.changes))
    if job.target == STDIO:
        data = codec.compress(job.source)
        _write(job, data)
        return {"codec": codec.name, "bytes_out": len(data), "seconds": time.perf_counter() - started}
    assert job.target is not None
    Path(job.target).absolute().parent.mkdir(parents=True, exist_ok=True)
    with progress(Path(job.source).name, wanted=options.video.bar, counts=False) as bar:

        def report(now: EncodeProgress) -> None:
            bar.update(now.frames, now.total, words_of(now))

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


def words_of(now: EncodeProgress) -> str:
    """One line about how far an encoding is."""
    if now.what == "target":
        return f"looking for the quality, step {now.step}/{now.steps}"
    words = f"frame {now.frames:.0f}" + (f"/{now.total}" if now.total else "")
    if now.step:
        words += f", step {now.step}/{now.steps}, {now.psnr:.1f} dB"
    return words + (f", {duration_words(now.seconds_left)} left" if now.seconds_left is not None else "")


def duration_words(seconds: float) -> str:
    """A duration as 5 s, 1 min 05 s, or 2 h 01 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
