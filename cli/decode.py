"""`codec decode`: bring files back."""

from __future__ import annotations

import argparse
import io
import itertools
import os
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import CodecError, UsageError
from ..files import STDIO, read_bytes, whole, whole_folder
from .coding import (
    HEAD_BYTES,
    VIDEO_WRITES,
    Options,
    VideoOptions,
    check_device,
    decode_picture,
    decoder,
    is_for_fields,
    is_ours,
    video_codec,
    video_header_of,
    with_suffix,
)
from .jobs import Job, Report, carry_out, expand, plan
from .options import count, not_negative
from .parser import add_inputs, add_jobs, add_model, add_outputs

EXAMPLES = """\
examples:
  codec decode photo.s2lic -o back.png
  codec decode clip.nirvana --frames 30:45 -o part.mp4
  codec decode small -o back --format tiff    every file of a folder; its tree is kept
"""
INTERRUPTED = "finished files are whole, --skip-existing goes on from here"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_inputs(parser, "folders (their tree is kept)")
    add_outputs(parser)
    add = parser.add_argument
    add("--format", help="for outputs whose name doesn't say it (default: png; videos: mkv)")
    add("--dataset", action="append", metavar="PATH", help="fields: this one alone, as .npy (or .h5)")
    add("--snapshot", type=count, metavar="N", help="fields: one index of the dataset's first axis")
    add("--at", type=not_negative, metavar="T", help="zipgan: between snapshots of --dataset, as 3.5")
    add("--frames", metavar="A:B", help="videos: these frames only, counted from 0, B not included")
    add("--conceal", action="store_true", help="videos: show the last good frame where one is damaged")
    add("--encoder", metavar="E", help="videos: as libx264:crf=18 (default: lossless where it can be)")
    add("--no-sound", action="store_true", help="videos: leave the sound out")
    add_model(parser)
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    from ..media.image import WRITES

    suffix = "." + (args.format or "png").lower().lstrip(".")
    video = VideoOptions(frames=args.frames, conceal=args.conceal, encoder=args.encoder, sound=not args.no_sound)
    options = Options(weights=args.weights, device=args.device, format=suffix, video=video)
    options = options._replace(datasets=tuple(args.dataset or ()), snapshot=args.snapshot, at=args.at)
    if options.format not in (*WRITES, *VIDEO_WRITES):
        raise UsageError(f"--format {args.format}: expected one of {', '.join(s.lstrip('.') for s in WRITES)}")
    frame_range(args.frames)
    _check_encoder(args.encoder)
    ours = tuple(registry.entry(name).suffix for name in registry.names())
    # an array's file says what form it was; its name, here or in the output tree, doesn't
    suffixes = {}
    for source, place in expand(args.inputs, is_ours):
        if (form := _array_suffix(Path(source))) is not None:
            form = ".npy" if options.datasets and form in (".h5", ".npy") else form
            suffixes |= {place: form, Path(source): form}
        elif video_header_of(Path(source)) is not None:
            kind = suffix if args.format and suffix in VIDEO_WRITES else ".mkv"
            suffixes |= dict.fromkeys((place, Path(source)), "" if kind == ".png" else kind)
    jobs = plan(
        args.inputs,
        args.output,
        accepts=is_ours,
        rename=lambda path: with_suffix(path, ours, suffixes.get(path, options.format)),
        force=args.force,
        skip_existing=args.skip_existing,
    )
    for job in jobs:
        suffix = Path(str(job.target)).suffix.lower()
        if suffix in VIDEO_WRITES and (job.source == STDIO or video_header_of(Path(job.source)) is not None):
            continue  # what comes through a pipe is looked at once it is here
        if suffix and suffix not in WRITES and _array_suffix(Path(job.source)) is None:
            raise UsageError(f"{job.target}: unknown suffix {suffix}; expected one of {', '.join(WRITES)}")
    check_device(options)
    return carry_out(args, partial(_decode, options), jobs)


# ---- the work on one input; runs in this process or in others


def _decode(options: Options, job: Job) -> Report:
    from ..container import read_header
    from ..media.image import WRITES, write_picture

    started = time.perf_counter()
    if job.source != STDIO and video_header_of(Path(job.source)) is not None:
        return _decode_video(options, job, Path(job.source))
    data = read_bytes(job.source)
    header = read_header(data)
    if header.medium == "video":
        return _decode_video(options, job, data)
    if options.video != VideoOptions():
        raise UsageError("--frames, --conceal, --encoder and --no-sound are for videos")
    if (suffix := Path(str(job.target)).suffix.lower()) in VIDEO_WRITES and suffix not in WRITES:
        raise UsageError(f"{job.target}: {suffix} is for videos, and this file holds none")
    if header.codec in registry.names() and is_for_fields(header.codec):
        return _decode_field(options, job, data)
    if options.datasets or options.snapshot is not None or options.at is not None:
        raise UsageError("--dataset, --snapshot and --at are for fields")
    if header.medium == "field":
        return _decode_array(options, job, data)
    picture = decode_picture(options, data)
    suffix = Path(str(job.target)).suffix.lower() or options.format
    buffer = io.BytesIO()
    write_picture(picture, buffer, WRITES[suffix])
    _write(job, buffer.getvalue())
    about = {"shape": list(picture.shape), "dtype": str(picture.pixels.dtype)}
    seconds = time.perf_counter() - started
    return {**about, "bytes_in": len(data), "bytes_out": buffer.tell(), "seconds": seconds}


def _write(job: Job, data: bytes) -> None:
    assert job.target is not None
    with whole(job.target, replace=job.replace) as file:
        file.write(data)


# ---- fields and arrays


def _decode_field(options: Options, job: Job, data: bytes) -> Report:
    from ..codecs.base.field import FieldCodec
    from ..media.hdf5 import SUFFIXES

    started = time.perf_counter()
    codec = decoder(options, data)
    assert isinstance(codec, FieldCodec)
    suffix = "" if job.target == STDIO else Path(str(job.target)).suffix.lower()
    _check_field_options(options, codec, suffix)
    dataset = options.datasets[0] if options.datasets else None
    is_tree = bool(codec.describe_fields(data)) or _is_hdf5_inside(data)
    if is_tree and (suffix in SUFFIXES or (dataset is None and suffix != ".npy")):
        about: Report = {"form": "hdf5"}
        n_out = _decode_tree(options, job, codec, data)
    else:
        if suffix in SUFFIXES:
            raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy")
        if is_tree and dataset is None:
            raise UsageError("an .npy file holds one array, and this file has several datasets: name one by --dataset")
        if dataset is None:
            array = codec.decompress(data)
        elif options.at is not None:
            array = codec.decode_at(data, dataset, options.at)  # type: ignore[attr-defined]
        else:
            array = codec.decode_dataset(data, dataset, options.snapshot)
        about = {"shape": list(array.shape), "dtype": str(array.dtype), "form": "npy"}
        n_out = _write_npy(job, array)
    return {**about, "bytes_in": len(data), "bytes_out": n_out, "seconds": time.perf_counter() - started}


def _check_field_options(options: Options, codec: Any, suffix: str) -> None:
    from ..media.hdf5 import SUFFIXES

    needs_dataset = not options.datasets or suffix in SUFFIXES
    if options.snapshot is not None and needs_dataset:
        raise UsageError("--snapshot takes one index of the first axis of --dataset, and gives an .npy file")
    if options.at is not None:
        if needs_dataset or options.snapshot is not None:
            raise UsageError("--at takes a place along the first axis of --dataset (3.5), and gives an .npy file")
        from ..codecs.zipgan.codec import ZipganCodec

        if not isinstance(codec, ZipganCodec):
            raise UsageError(f"--at: {codec.name} has no latents to interpolate; zipgan has")


def _decode_tree(options: Options, job: Job, codec: Any, data: bytes) -> int:
    """Write the HDF5 file of a coded one; returns its number of bytes."""
    assert job.target is not None
    if job.target == STDIO:
        buffer = io.BytesIO()
        codec.decode_file(data, buffer, options.datasets)
        _write(job, buffer.getvalue())
        return len(buffer.getvalue())
    with whole(job.target, replace=job.replace, path_only=True) as path:
        codec.decode_file(data, path, options.datasets)
    return os.path.getsize(job.target)


def _write_npy(job: Job, array: Any) -> int:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=False)
    _write(job, buffer.getvalue())
    return buffer.tell()


def _is_hdf5_inside(data: bytes) -> bool:
    from ..container import read_header

    return read_header(data).params.get("k") == 2


def _decode_array(options: Options, job: Job, data: bytes) -> Report:
    from ..codecs.base.array import ArrayCodec
    from ..media import array as arrays

    started = time.perf_counter()
    codec = decoder(options, data)
    assert isinstance(codec, ArrayCodec), "the codec of a field is an ArrayCodec"
    assert job.target is not None
    value = codec.decode_file(data)
    suffix = "" if job.target == STDIO else Path(job.target).suffix.lower()
    if suffix not in {known for suffixes in arrays.WRITES.values() for known in suffixes}:
        suffix = ""  # any name will do for a file in the form that it was
    out = arrays.write(value, suffix)
    if isinstance(out, bytes):
        _write(job, out)
    else:
        with whole_folder(job.target) as folder:
            for name, content in out.items():
                (folder / name).write_bytes(content)
    n_out = len(out) if isinstance(out, bytes) else sum(map(len, out.values()))
    about = {"shape": list(value.array.shape), "dtype": str(value.array.dtype), "form": value.form}
    return {**about, "bytes_in": len(data), "bytes_out": n_out, "seconds": time.perf_counter() - started}


def _array_suffix(path: Path) -> str | None:
    """For a file of ours that holds an array: the suffix of the form that it was; "" for a folder. Otherwise None."""
    from ..container import MAX_META, read_header

    try:
        with open(path, "rb") as file:
            header = read_header(file.read(MAX_META + (1 << 17)))
    except (OSError, CodecError):
        return None  # whoever decodes it says what is wrong
    if header.medium != "field":
        return None
    if header.codec in registry.names() and is_for_fields(header.codec):
        return ".h5" if header.params.get("k") == 2 else ".npy"
    from ..media.array import FORMS, WRITES

    form = header.params.get("f", 0)
    name = FORMS[form] if isinstance(form, int) and 0 < form < len(FORMS) else "npy"
    return WRITES[name][0]


# ---- videos


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


def _check_encoder(text: str | None) -> None:
    """UsageError, before anything is decoded, for an encoder that isn't known."""
    if text is not None:
        from ..media.video.writer import parse_encoder

        parse_encoder(text)


def _decode_video(options: Options, job: Job, source: Path | bytes) -> Report:
    from ..media.video.sound import cut_audio
    from ..media.video.writer import VideoWriter

    started = time.perf_counter()
    head = source if isinstance(source, bytes) else source.open("rb").read(HEAD_BYTES)
    codec, video = video_codec(decoder(options, head)), options.video
    start, stop = frame_range(video.frames)
    target = job.target
    assert target is not None
    with codec.open_file(source, video.conceal) as file:
        if start >= file.n_frames:
            raise UsageError(f"--frames {video.frames}: there are {file.n_frames} frames")
        stop = file.n_frames if stop is None else min(stop, file.n_frames)
        audio, notes = file.audio() if video.sound else None, []
        kind = ".y4m" if target == STDIO else Path(target).suffix.lower()
        if audio is not None and kind in ("", ".y4m"):
            audio, notes = None, ["the sound is left out: -o NAME.mkv keeps it"]
        if video.frames is not None:
            audio = cut_audio(audio, file.seconds(start), file.seconds(stop))
        with VideoWriter(target, file.info, audio, video.encoder, job.replace) as writer:
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


def ranges_of(numbers: Iterable[int]) -> str:
    """Rising numbers as ranges: 3-8, 20."""
    out = []
    for _, pairs in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        held = [number for _, number in pairs]
        out.append(str(held[0]) if len(held) == 1 else f"{held[0]}-{held[-1]}")
    return ", ".join(out)
