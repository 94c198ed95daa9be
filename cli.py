"""The `codec` command: parse, call, print. Data on stdout, words on stderr.

argparse, because `codec --help` and `codec list` must answer at once, in 200 ms: the whole command takes 45 ms of CPU,
of which argparse is 2; importing typer would add 33 ms and rich 22 (python -X importtime, one core of 2 GHz or so).
Everything heavy (NumPy, torch, rich) is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TextIO

from . import __version__, batch, registry, video_cli
from .batch import STDIO, Job, Report
from .errors import CodecError, MediaError, UsageError, WeightsError
from .video_cli import VideoOptions

if TYPE_CHECKING:
    from .codecs.base import Codec, ImageCodec
    from .codecs.video import VideoCodec
    from .media import Picture

EXAMPLES = """\
examples:
  codec encode photo.png                       writes photo.s2lic beside it
  codec decode photo.s2lic -o back.png
  codec encode photos -o small -q 40 --jobs 4  the whole folder; its tree is kept

exit codes: 0 done, 1 some inputs failed, 2 usage, 3 bad stream, 4 weights missing (1 when reasons differ)
"""
ENCODE_EXAMPLES = """\
examples:
  codec encode photo.png -o photo.s2lic -q 60   or --size 20kB, --bpp 0.25, --psnr 34
  codec encode clip.mp4 --effort 2 --jobs 4     a video; interrupted, the same command goes on
  codec encode 'photos/**/*.jpg' -o small --jobs 4 --skip-existing
"""
DECODE_EXAMPLES = """\
examples:
  codec decode photo.s2lic -o back.png
  codec decode clip.nirvana --frames 30:45 -o part.mp4
  codec decode small -o back --format tiff    every file of a folder; its tree is kept
"""
INFO_EXAMPLES = """\
examples:
  codec info photo.s2lic
  codec info small --json                     one JSON object a line
  cat photo.s2lic | codec info -
"""
VERIFY_EXAMPLES = """\
examples:
  codec verify photo.s2lic
  codec verify backup --jobs 4 --quiet        words only for what is damaged
  codec verify backup --json
"""
LIST_EXAMPLES = """\
examples:
  codec list
  codec list --json
  codec list --json | jq -r .name
"""
TRAIN_EXAMPLES = """\
examples:
  codec train s2lic --recipe small
  codec train s2lic --recipe small --resume
  codec train s2lic --recipe mine.yaml --data photos --out runs --devices 4
"""
BENCH_EXAMPLES = """\
examples:
  codec bench photos --out results
  codec bench photos -c s2lic,jpeg:444+420:q=10..95,avif --out results --anchor webp
  codec bench --codecs                        the codecs and their options

a codec string: codecs parted by commas, settings by colons; name=value, or a choice alone
  jpeg:444:q=30           one point             avif:speed=4+8    two curves
  jxl:d=0.5..8            the usual steps from 0.5 to 8; d=0.5..8..0.5 takes every 0.5

the folder named by --out holds rows.csv (a row for each item, codec and setting), summary.json, curves/,
plots and report.html. Run again, it measures only what is missing.
"""
REPRODUCE_EXAMPLES = """\
examples:
  codec reproduce                             the recipes there are
  codec reproduce s2lic --data kodak --out results
  codec reproduce classical-kodak --data kodak --json
"""
FIT_EXAMPLES = """\
examples:
  codec fit circuit train-images-idx3-ubyte.gz -o digits.safetensors
  codec fit circuit masks -o masks.safetensors --states 16    a folder of PNG pictures of one size
  codec fit circuit table.csv -o table.safetensors --resume   goes on with a run that was interrupted
"""
DATA_EXAMPLES = """\
examples:
  codec data turbulence --n 64 --re 34 --snapshots 100 -o hit64.h5
  codec data turbulence --seed 9 -o test.h5    interrupted, it goes on when run again
  codec data taylor-green --n 64 --re 1600 --snapshots 40 -o vortex.h5
"""
DEMO_EXAMPLES = """\
examples:
  codec demo
  codec demo --picture photo.png -o /tmp/demo
  codec demo --json
"""


DEMO_OUT = "demo-out"
BENCH_OUT = "bench-out"


class Options(NamedTuple):
    """What a worker needs to know; goes to other processes."""

    codec: str | None
    quality: float | None
    weights: str | None
    device: str
    format: str
    coder: str | None = None
    goal: tuple[str, float] | None = None  # "size", "bpp" or "psnr", and its value
    bound: tuple[str, float] | None = None  # "max_error" or "rel_error", and its value
    datasets: tuple[str, ...] = ()
    snapshot: int | None = None
    at: float | None = None
    video: VideoOptions = VideoOptions()
    effort: float = 0.0  # of pictures; that of a video is in `video`


# --- the work on one input; runs in this process or in others -------------------------------------------------------

_ready: dict[tuple[object, ...], Codec] = {}  # loaded once in each process


def _encoder(options: Options, name: str | None = None) -> Codec:
    name = name or _codec_name(options)
    key = ("encode", name, options)
    if key not in _ready:
        from .codecs.base import Codec

        codec = Codec.load(name, quality=options.quality, weights=options.weights, device=options.device)
        codec = codec if options.coder is None else codec.with_coder(options.coder)
        _ready[key] = codec.with_effort(options.effort) if options.effort else codec
    return _ready[key]


def _decoder(options: Options, data: bytes) -> Codec:
    from .codecs.base import codec_for
    from .container import read_header

    header = read_header(data)
    key = ("decode", header.codec, header.stream, header.weights, options)
    if key not in _ready:
        _ready[key] = codec_for(header, weights=options.weights, device=options.device)
    return _ready[key]


def _encode(options: Options, job: Job) -> Report:
    from .codecs.base import ImageCodec
    from .container import describe
    from .media import read_picture

    started = time.perf_counter()
    name = _codec_name(options, job.source)
    medium = registry.entry(registry.split_tag(name)[0]).medium
    if _is_for_fields(name):
        return _encode_field(options, job, name)
    if options.bound or options.datasets:
        raise UsageError(f"--max-error, --rel-error and --dataset are for fields (HDF5), not for {name}")
    if medium == "field":
        return _encode_array(options, job)
    if medium == "video":
        return video_cli.encode(_video_codec(_encoder(options)), options.video, job)
    source = batch.read_bytes(job.source)
    try:
        picture = read_picture(source)
    except MediaError as error:
        raise MediaError(str(error).removeprefix("the data: ")) from error  # the caller names the file
    codec = _encoder(options)
    assert isinstance(codec, ImageCodec)
    data, found = _towards(options.goal, codec, picture) if options.goal else (codec.encode_picture(picture), {})
    batch.write_bytes(job, data)
    about = describe(data)
    kept = {key: about[key] for key in ("codec", "shape", "dtype", "bpp")} | found
    return {**kept, "bytes_in": len(source), "bytes_out": len(data), "seconds": time.perf_counter() - started}


def _encode_field(options: Options, job: Job, name: str) -> Report:
    import io

    from .codecs.fields import Bound, FieldCodec

    started = time.perf_counter()
    if options.goal:
        raise UsageError(f"--{options.goal[0]}: a field has an error bound instead: --max-error, --rel-error, or -q")
    codec = _encoder(options, name)
    assert isinstance(codec, FieldCodec)
    if options.bound:
        codec = codec.with_bound(Bound(options.bound[1], options.bound[0] == "rel_error"))
    source = io.BytesIO(batch.read_bytes(STDIO)) if job.source == STDIO else job.source
    fields: dict[str, str] = {}
    target = Path(str(job.target))
    if job.target == STDIO or (target.exists() and not target.is_file()):  # stdout, or a device: nothing to rename
        buffer = io.BytesIO()
        fields |= codec.encode_into(buffer, source, options.datasets or None)
        batch.write_bytes(job, buffer.getvalue())
        n_out = buffer.tell()
    else:

        def stream(path: str) -> None:
            with open(path, "xb") as file:
                fields.update(codec.encode_into(file, source, options.datasets or None))
                file.flush()
                os.fsync(file.fileno())

        batch.write_with(job, stream)
        n_out = os.path.getsize(str(job.target))
    n_bytes = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else os.path.getsize(source)
    kept = {"codec": codec.name, "fields": fields}
    return {**kept, "bytes_in": n_bytes, "bytes_out": n_out, "seconds": time.perf_counter() - started}


def _decode_field(options: Options, job: Job, data: bytes) -> Report:
    import io

    import numpy as np

    from .codecs.fields import FieldCodec
    from .hdf5 import SUFFIXES

    started = time.perf_counter()
    codec = _decoder(options, data)
    assert isinstance(codec, FieldCodec)
    suffix = "" if job.target == STDIO else Path(str(job.target)).suffix.lower()
    one = options.datasets[0] if options.datasets else None
    whole = bool(codec.describe_fields(data)) or _is_hdf5_inside(data)
    if options.snapshot is not None and (one is None or suffix in SUFFIXES):
        raise UsageError("--snapshot takes one index of the first axis of --dataset, and gives an .npy file")
    if options.at is not None:
        if one is None or suffix in SUFFIXES or options.snapshot is not None:
            raise UsageError("--at takes a place along the first axis of --dataset (3.5), and gives an .npy file")
        from .codecs.zipgan import ZipganCodec

        if not isinstance(codec, ZipganCodec):
            raise UsageError(f"--at: {codec.name} has no latents to interpolate; zipgan has")
    if whole and (suffix in SUFFIXES or (one is None and suffix != ".npy")):
        if job.target == STDIO:
            buffer = io.BytesIO()
            codec.decode_file(data, buffer, options.datasets)
            batch.write_bytes(job, buffer.getvalue())
            n_bytes = len(buffer.getvalue())
        else:
            batch.write_with(job, lambda path: codec.decode_file(data, path, options.datasets))
            n_bytes = os.path.getsize(str(job.target))
        about: Report = {"form": "hdf5"}
    else:
        if suffix in SUFFIXES:
            raise UsageError("this file holds an array, not an HDF5 file: decode it to .npy")
        if whole and one is None:
            raise UsageError("an .npy file holds one array, and this file has several datasets: name one by --dataset")
        if one is None:
            array = codec.decompress(data)
        elif options.at is not None:
            array = codec.decode_at(data, one, options.at)  # type: ignore[attr-defined]
        else:
            array = codec.decode_dataset(data, one, options.snapshot)
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(array), allow_pickle=False)
        batch.write_bytes(job, buffer.getvalue())
        about, n_bytes = {"shape": list(array.shape), "dtype": str(array.dtype), "form": "npy"}, buffer.tell()
    return {**about, "bytes_in": len(data), "bytes_out": n_bytes, "seconds": time.perf_counter() - started}


def _is_hdf5_inside(data: bytes) -> bool:
    from .container import read_header

    return read_header(data).params.get("k") == 2


def _encode_array(options: Options, job: Job) -> Report:
    from . import arrays
    from .codecs.arrays import ArrayCodec
    from .container import describe

    started = time.perf_counter()
    if options.goal:
        raise UsageError(f"--{options.goal[0]}: {options.codec} is lossless, its files are as small as they get")
    if job.source != STDIO and os.path.isdir(job.source):
        value = arrays.read(job.source)
        n_bytes = sum(one.stat().st_size for one in Path(job.source).iterdir() if one.suffix.lower() == ".png")
    else:
        source = batch.read_bytes(job.source)
        value, n_bytes = arrays.read(source), len(source)
    codec = _encoder(options)
    assert isinstance(codec, ArrayCodec)
    data = codec.encode_file(value)
    batch.write_bytes(job, data)
    about = describe(data)
    kept = {key: about[key] for key in ("codec", "shape", "dtype")}
    kept["bits_per_value"] = 8 * len(data) / value.array.size
    return {**kept, "bytes_in": n_bytes, "bytes_out": len(data), "seconds": time.perf_counter() - started}


def _video_codec(codec: Codec) -> VideoCodec:
    from .codecs.video import VideoCodec

    assert isinstance(codec, VideoCodec), "the codec of a video is a VideoCodec"
    return codec


def _towards(goal: tuple[str, float], codec: ImageCodec, picture: Picture) -> tuple[bytes, Report]:
    from .codecs import search

    what, value = goal
    found = {"size": search.at_size, "bpp": search.at_bpp, "psnr": search.at_psnr}[what](codec, picture, value)
    about: Report = {"quality": round(found.quality, 2), "encodings": found.encodings}
    return found.data, about | ({"psnr": round(found.value, 3)} if what == "psnr" else {})


def _decode(options: Options, job: Job) -> Report:
    import io

    from .container import read_header
    from .media import WRITES, write_picture

    started = time.perf_counter()
    if job.source != STDIO and video_cli.header_of(Path(job.source)) is not None:
        return _decode_video(options, job, Path(job.source))
    data = batch.read_bytes(job.source)
    header = read_header(data)
    if header.medium == "video":
        return _decode_video(options, job, data)
    if options.video != VideoOptions():
        raise UsageError("--frames, --conceal, --encoder and --no-sound are for videos")
    if (suffix := Path(str(job.target)).suffix.lower()) in video_cli.WRITES and suffix not in WRITES:
        raise UsageError(f"{job.target}: {suffix} is for videos, and this file holds none")
    if header.codec in registry.names() and _is_for_fields(header.codec):
        return _decode_field(options, job, data)
    if options.datasets or options.snapshot is not None or options.at is not None:
        raise UsageError("--dataset, --snapshot and --at are for fields")
    if header.medium == "field":
        return _decode_array(options, job, data)
    picture = _decode_picture(options, data)
    suffix = Path(str(job.target)).suffix.lower() or options.format
    buffer = io.BytesIO()
    write_picture(picture, buffer, WRITES[suffix])
    batch.write_bytes(job, buffer.getvalue())
    about = {"shape": list(picture.shape), "dtype": str(picture.pixels.dtype)}
    seconds = time.perf_counter() - started
    return {**about, "bytes_in": len(data), "bytes_out": buffer.tell(), "seconds": seconds}


def _decode_array(options: Options, job: Job, data: bytes) -> Report:
    from . import arrays
    from .codecs.arrays import ArrayCodec

    started = time.perf_counter()
    codec = _decoder(options, data)
    assert isinstance(codec, ArrayCodec), "the codec of a field is an ArrayCodec"
    value = codec.decode_file(data)
    suffix = "" if job.target == STDIO else Path(str(job.target)).suffix.lower()
    if suffix not in {one for known in arrays.WRITES.values() for one in known}:
        suffix = ""  # any name will do for a file in the form that it was
    out = arrays.write(value, suffix)
    if isinstance(out, bytes):
        batch.write_bytes(job, out)
    else:
        batch.write_folder(job, out)
    n_bytes = len(out) if isinstance(out, bytes) else sum(map(len, out.values()))
    about = {"shape": list(value.array.shape), "dtype": str(value.array.dtype), "form": value.form}
    return {**about, "bytes_in": len(data), "bytes_out": n_bytes, "seconds": time.perf_counter() - started}


def _decode_video(options: Options, job: Job, source: Path | bytes) -> Report:
    head = source if isinstance(source, bytes) else source.open("rb").read(video_cli.HEAD_BYTES)
    return video_cli.decode(_video_codec(_decoder(options, head)), options.video, job, source)


def _decode_picture(options: Options, data: bytes) -> Picture:
    from .codecs.base import ImageCodec

    codec = _decoder(options, data)
    if not isinstance(codec, ImageCodec):
        raise MediaError(f"holds {codec.medium}, which this command can't write yet: use codec.decode in Python")
    return codec.decode_picture(data)


def _verify(options: Options, job: Job) -> Report:
    from .container import describe

    started = time.perf_counter()
    data = batch.read_bytes(job.source)
    about = describe(data)
    if about["medium"] == "field":
        _decoder(options, data).decompress(data)
    elif about["medium"] == "video":
        video_cli.verify(_video_codec(_decoder(options, data)), data)
    else:
        _decode_picture(options, data)
    kept = {key: about[key] for key in ("codec", "stream", "shape", "dtype", "n_bytes")}
    return {**kept, "seconds": time.perf_counter() - started}


def _info(job: Job) -> Report:
    from .container import describe

    data = batch.read_bytes(job.source)
    about = describe(data)
    if about["codec"] in registry.names() and _is_for_fields(about["codec"]):
        from .codecs.fields import FieldCodec

        about["fields"] = FieldCodec.describe_fields(data)
    return _with_tag(about)


def _with_tag(about: Report) -> Report:
    """And which of the weights that ship it is, next to their hash."""
    from .codecs.weights import find_by_hash

    try:
        tag = find_by_hash(about["codec"], bytes.fromhex(about["weights"])).tag
    except WeightsError:  # somebody's own, or those of another version
        return about
    found: Report = {}
    for key, value in about.items():
        found[key] = value
        if key == "weights":
            found["tag"] = tag
    return found


def _codec_name(options: Options, source: str = "") -> str:
    """The codec that is named, or the one of the input's medium, as its name tells it."""
    if options.codec:
        return options.codec
    from .hdf5 import SUFFIXES

    medium = "field" if Path(source).suffix.lower() in SUFFIXES and "field" in registry.DEFAULT else "image"
    return registry.DEFAULT[medium]


def _is_for_fields(name: str) -> bool:
    plain, _ = registry.split_tag(name)
    if registry.entry(plain).medium != "field":
        return False
    from .codecs.fields import FieldCodec

    return issubclass(registry.load_class(plain), FieldCodec)


# --- the commands ---------------------------------------------------------------------------------------------------


def _run_encode(args: argparse.Namespace) -> int:
    from . import arrays, hdf5
    from .media import SUFFIXES

    goals = [(what, value) for what in ("size", "bpp", "psnr") if (value := getattr(args, what)) is not None]
    bounds = [(what, value) for what in ("max_error", "rel_error") if (value := getattr(args, what)) is not None]
    codec = args.codec or (registry.DEFAULT.get("video") if _are_videos(args.inputs) else None)
    options = Options(codec, args.quality, args.weights, args.device, "", args.coder)
    medium = registry.entry(registry.split_tag(_codec_name(options))[0]).medium
    video = medium == "video"
    options = options._replace(
        goal=goals[0] if goals and not video else None,
        bound=bounds[0] if bounds else None,
        datasets=tuple(args.dataset or ()),
        video=_video_options(args, dict(goals), video),
        effort=0.0 if video else args.effort or 0.0,
    )
    integers = medium == "field" and not _is_for_fields(_codec_name(options))
    # what a folder is searched for; a file given by name may be called anything
    if codec is None:
        suffixes: tuple[str, ...] = (*SUFFIXES["image"], *hdf5.SUFFIXES)
    elif medium == "field":
        suffixes = arrays.SUFFIXES if integers else hdf5.SUFFIXES
    else:
        suffixes = tuple(video_cli.READS if video else SUFFIXES[medium])

    def suffix_of(path: Path) -> str:
        return registry.entry(registry.split_tag(_codec_name(options, str(path)))[0]).suffix

    jobs = batch.plan(
        args.inputs,
        args.output,
        accepts=lambda path: path.suffix.lower() in suffixes,
        rename=lambda path: _with_suffix(path, suffixes, suffix_of(path)),
        force=args.force,
        skip_existing=args.skip_existing,
        whole=_holds_pictures if integers or video else lambda folder: False,
    )
    if video:
        options = options._replace(video=_for_jobs(options.video, args, len(jobs)))
    if args.quality is not None or args.coder is not None or args.device != "cpu" or options.effort:
        _encoder(options)  # a setting that no input can be encoded with is said once
    return _run_batch(args, "encode", partial(_encode, options), jobs)


def _are_videos(inputs: Sequence[str]) -> bool:
    """Whether all inputs are, by their names."""
    return bool(inputs) and all(video_cli.is_video_input(one) for one in inputs)


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
    """One video: all workers are for its groups."""
    jobs = (args.jobs or os.cpu_count() or 1) if n_jobs == 1 else 1
    bar = video_cli.say_bar(args.quiet, n_jobs, args.json)
    return options._replace(changes=(*options.changes, ("jobs", jobs)), bar=bar)


def _run_decode(args: argparse.Namespace) -> int:
    from .media import WRITES

    suffix = "." + (args.format or "png").lower().lstrip(".")
    video = VideoOptions(frames=args.frames, conceal=args.conceal, encoder=args.encoder, sound=not args.no_sound)
    options = Options(None, None, args.weights, args.device, suffix, video=video)
    options = options._replace(datasets=tuple(args.dataset or ()), snapshot=args.snapshot, at=args.at)
    if options.format not in (*WRITES, *video_cli.WRITES):
        raise UsageError(f"--format {args.format}: expected one of {', '.join(s.lstrip('.') for s in WRITES)}")
    video_cli.frame_range(args.frames)
    video_cli.check_encoder(args.encoder)
    ours = tuple(registry.entry(name).suffix for name in registry.names())
    # an array's file says what form it was; its name, here or in the output tree, doesn't
    suffixes = {}
    for source, place in batch.expand(args.inputs, _is_ours):
        if (found := _array_suffix(Path(source))) is not None:
            found = ".npy" if options.datasets and found in (".h5", ".npy") else found
            suffixes |= {place: found, Path(source): found}
        elif video_cli.header_of(Path(source)) is not None:
            kind = suffix if args.format and suffix in video_cli.WRITES else ".mkv"
            suffixes |= dict.fromkeys((place, Path(source)), "" if kind == ".png" else kind)
    jobs = batch.plan(
        args.inputs,
        args.output,
        accepts=_is_ours,
        rename=lambda path: _with_suffix(path, ours, suffixes.get(path, options.format)),
        force=args.force,
        skip_existing=args.skip_existing,
    )
    for job in jobs:
        suffix = Path(str(job.target)).suffix.lower()
        if suffix in video_cli.WRITES and (job.source == STDIO or video_cli.header_of(Path(job.source)) is not None):
            continue  # what comes through a pipe is looked at once it is here
        if suffix and suffix not in WRITES and _array_suffix(Path(job.source)) is None:
            raise UsageError(f"{job.target}: unknown suffix {suffix}; expected one of {', '.join(WRITES)}")
    _check_device(options)
    return _run_batch(args, "decode", partial(_decode, options), jobs)


def _check_device(options: Options) -> None:
    if options.device != "cpu":
        from .codecs.base import check_device

        check_device(options.device)


def _run_verify(args: argparse.Namespace) -> int:
    options = Options(None, None, args.weights, args.device, "")
    _check_device(options)
    jobs = [Job(source) for source, _ in batch.expand(args.inputs, _is_ours)]
    return _run_batch(args, "verify", partial(_verify, options), jobs)


def _run_info(args: argparse.Namespace) -> int:
    args.jobs = 1
    jobs = [Job(source) for source, _ in batch.expand(args.inputs, _is_ours)]
    return _run_batch(args, "info", _info, jobs)


def _run_list(args: argparse.Namespace) -> int:
    for name in registry.names():
        entry = registry.entry(name)
        if args.json:
            about = {"name": name, "medium": entry.medium, "suffix": entry.suffix, "summary": entry.summary}
            print(json.dumps({**about, "default": registry.DEFAULT.get(entry.medium) == name}))
        else:
            print(f"{name:<12} {entry.medium:<9} {entry.suffix:<10} {entry.summary}")
    return 0


def _run_train(args: argparse.Namespace) -> int:
    try:
        from .train import cli as train

        folder = train.main(
            args.family,
            args.recipe,
            data=args.data,
            out=args.out,
            resume=args.resume,
            steps=args.steps,
            device=args.device,
            devices=args.devices,
            nodes=args.nodes,
        )
    except ModuleNotFoundError as error:  # `main` imports Lightning only when the arguments are fine
        if (error.name or "").split(".")[0] == "codec":
            raise
        raise UsageError(f"training needs {error.name}: pip install 'codec-suite[train]'") from error
    _say(sys.stdout, json.dumps({"run": str(folder)}) if args.json else str(folder))
    return 0


def _run_fit(args: argparse.Namespace) -> int:
    from .train import circuit

    if args.family != "circuit":
        raise UsageError(f"`codec fit` makes weights for circuit, not {args.family!r}: see `codec train`")
    target = Path(args.output)
    if target.is_dir() or (target.exists() and not args.force):
        raise UsageError(f"{target} exists already: -o names another place, --force replaces it")
    recipe = circuit.CircuitRecipe(
        states=args.states,
        epochs=args.epochs,
        full=args.full,
        batch=args.batch,
        pseudocount=args.pseudocount,
        leaves=args.leaves,
        held_out=args.held_out,
        bits=args.bits,
        components=max(1, args.components),
        seed=args.seed,
    )
    say = None if args.quiet else partial(_say, sys.stderr)
    data, fitted = circuit.fit_file(args.data, target, recipe, args.resume, say, args.device)
    if args.log:
        log = json.dumps({"data": Path(args.data).name, "epochs": fitted.log}, indent=1) + "\n"
        batch.write_bytes(batch.job_of("", Path(args.log), 1, args.force), log.encode())
    batch.write_bytes(batch.job_of(args.data, target, replace=args.force), data)
    circuit.remove_work(target)
    held = [row["held_out"] for row in fitted.log if "held_out" in row]
    report = {"output": str(target), "bytes_out": len(data), "parameters": fitted.circuit.n_parameters}
    report |= {"epochs": len(fitted.log), "held_out_bits_per_value": min(held) if held else None}
    if args.json:
        print(json.dumps(report))
    elif not args.quiet:
        _say(sys.stderr, f"{target}: {len(data)} bytes; codec encode DATA -c circuit --weights {target}")
    return 0


def _run_data(args: argparse.Namespace) -> int:
    from .codecs.base import check_device
    from .datasets import turbulence

    check_device(args.device)
    vortex = args.kind == "taylor-green"
    if vortex and args.re is None:
        raise UsageError("taylor-green needs --re, the inverse of the viscosity: 100 and 1600 are usual")
    power = 0.0 if vortex else 0.1
    config = turbulence.FlowConfig(
        n=args.n,
        viscosity=1 / args.re if vortex else turbulence.viscosity_for(args.n, args.re, power),
        power=power,
        start="taylor-green" if vortex else "random",
        seed=args.seed,
        double=args.double,
    )
    spin_up = args.spin_up if args.spin_up is not None else 0.0 if vortex else 20.0
    with _points("data", args.quiet or args.json) as (say, progress):

        def report(done: int, total: int, found: turbulence.Statistics) -> None:
            progress(done, total, f"R_lambda {found.re_lambda:.1f}")
            if args.json:
                print(json.dumps({"snapshot": done, "of": total, **turbulence.as_json(found)}), flush=True)
            elif done == 1 and not args.quiet:
                say(
                    f"R_lambda {found.re_lambda:.1f}, k_max eta {found.kmax_eta:.2f}"
                    + (
                        ""
                        if found.kmax_eta >= 1
                        else ": the smallest scales are not resolved, a larger --n would do it"
                    )
                )

        path = turbulence.simulate(
            config, args.output, args.snapshots, args.spacing, spin_up, args.device, args.force, report
        )
    if not (args.quiet or args.json):
        _say(sys.stderr, f"{path}: {path.stat().st_size} bytes")
    return 0


def _run_demo(args: argparse.Namespace) -> int:
    from . import demo

    out, force = Path(args.output or DEMO_OUT), args.force or args.output is None
    report = demo.main(args.picture, out, codec=args.codec, quality=args.quality, force=force)
    _say(sys.stdout, json.dumps(report) if args.json else demo.words(report))
    return 0


def _run_bench(args: argparse.Namespace) -> int:
    with _needs("measuring", "eval"):
        from .eval import bench, cli_tables, plots, reference

        if args.codecs_help:
            from .eval.peers import families

            listed = cli_tables.describe_families(families())
            print("\n".join(map(json.dumps, listed)) if args.json else cli_tables.family_lines(listed))
            return 0
        if args.data is None:
            raise UsageError("name a file or a folder to measure on")
        window = _window(args.window)
        published = [reference.series(name) for name in _words(args.reference)]
        if why := plots.missing():  # said before hours of measuring
            raise UsageError(why)
        codecs = args.codec or bench.default_codecs(args.medium or bench.guess_medium(args.data))
        anchors = bench.anchors_of(bench.curves_of(codecs), _words(args.anchor) or None)
        with _points("bench", args.quiet or args.json) as (say, progress):
            table = bench.rate_distortion(
                args.data,
                codecs,
                metrics=_words(args.metrics) or None,
                out=args.out,
                medium=args.medium,
                repeat=args.repeat,
                jobs=args.jobs or os.cpu_count() or 1,
                n_threads=args.threads,
                again=args.again,
                max_frames=args.max_frames,
                progress=progress,
            )
            for one in table.skipped:
                say(f"{one.name}: skipped: {one.reason}")
            for line in cli_tables.failure_lines(table.failed):
                say(line)
        command = cli_tables.command_line("bench", table, args)
        summary = bench.write_results(
            table, args.out, command=command, anchors=anchors, references=published, window=window
        )
    _say(sys.stdout, json.dumps(bench.jsonable(summary)) if args.json else cli_tables.summary_text(summary))
    if not (args.quiet or args.json):
        _say(sys.stderr, f"{Path(args.out) / 'report.html'}")
    if table.skipped or table.failed:
        _say(sys.stderr, f"codec bench: {len(table.skipped)} skipped, {len(table.failed)} failed")
        return MediaError.exit_code
    return 0


def _run_reproduce(args: argparse.Namespace) -> int:
    with _needs("measuring", "eval"):
        from .eval import bench, circuits, cli_tables, reproducing

        if args.paper == "circuit":  # data sets of small images, which the runs of curves don't know
            with _points("reproduce", args.quiet or args.json) as (_, progress):
                found = circuits.run(args.data, args.out, repeat=args.repeat, progress=progress)
            _say(sys.stdout, json.dumps(found) if args.json else circuits.text(found))
            return MediaError.exit_code if found["missing"] else 0
        if args.paper is None:
            about = {"name": "circuit", "title": circuits.TITLE, "source": circuits.SOURCE}
            print(json.dumps(about) if args.json else f"{'circuit':<18} {circuits.TITLE}")
            for one in map(reproducing.load, reproducing.names()):
                about = {"name": one.name, "title": one.title, "source": one.source}
                print(json.dumps(about) if args.json else f"{one.name:<18} {one.title}")
            return 0
        recipe = reproducing.load(args.paper)
        with _points("reproduce", args.quiet or args.json) as (say, progress):
            result = reproducing.run(recipe, args.data, args.out, repeat=args.repeat, progress=progress)
            for line in cli_tables.failure_lines(result.table.failed):
                say(line)
    _say(sys.stdout, json.dumps(bench.jsonable(result.as_json())) if args.json else reproducing.text(result))
    return 0 if result.holds else MediaError.exit_code


@contextlib.contextmanager
def _needs(what: str, extra: str) -> Iterator[None]:
    """A library that isn't installed is named, with the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "codec":
            raise
        raise UsageError(f"{what} needs {error.name}: pip install 'codec-suite[{extra}]'") from error


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(".."))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(f"--window {text}: expected two numbers, the lower one first, as in 29..37")
    return low, high


@contextlib.contextmanager
def _points(verb: str, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[int, int, str], None]]]:
    """How to say a line, and how to say that so many of so many points are done: a bar, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield partial(_say, sys.stderr), lambda done, total, last: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    columns = (*columns, TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=None)

        def progress(done: int, total: int, last: str) -> None:
            bar.update(task, completed=done, total=total, description=_printable(last, sys.stderr)[:60])

        yield lambda words: console.print(_printable(words, sys.stderr), soft_wrap=True), progress


def _with_suffix(path: Path, known: Sequence[str], suffix: str) -> Path:
    """photo.png -> photo.s2lic, but photo.v2 -> photo.v2.walloc: only a suffix that says a format is replaced."""
    return path.with_suffix(suffix) if path.suffix.lower() in known else path.with_name(path.name + suffix)


def _holds_pictures(folder: Path) -> bool:
    """Whether a folder is one input of a codec of arrays: its pictures are the items."""
    return any(one.suffix.lower() == ".png" for one in folder.iterdir() if one.is_file())


def _array_suffix(path: Path) -> str | None:
    """For a file of ours that holds an array: the suffix of the form that it was; "" for a folder. Otherwise None."""
    from .container import MAX_META, read_header

    try:
        with open(path, "rb") as file:
            header = read_header(file.read(MAX_META + (1 << 17)))
    except (OSError, CodecError):
        return None  # whoever decodes it says what is wrong
    if header.medium != "field":
        return None
    if header.codec in registry.names() and _is_for_fields(header.codec):
        return ".h5" if header.params.get("k") == 2 else ".npy"
    from .arrays import FORMS, WRITES

    form = header.params.get("f", 0)
    name = FORMS[form] if isinstance(form, int) and 0 < form < len(FORMS) else "npy"
    return WRITES[name][0]


def _is_ours(path: Path) -> bool:
    """By signature: a suffix is decoration."""
    from .container import SIGNATURE

    try:
        with open(path, "rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


# --- printing -------------------------------------------------------------------------------------------------------


def _run_batch(args: argparse.Namespace, verb: str, work: Callable[[Job], Report], jobs: Sequence[Job]) -> int:
    to_stdout = any(job.target == STDIO for job in jobs)
    if to_stdout and args.json:
        raise UsageError("--json and '-o -' both want stdout: give -o a file name")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("stdout is a terminal, and the output is binary: redirect it, or name a file with -o")
    reports = []
    processes = (args.jobs or os.cpu_count() or 1) if len(jobs) > 1 else 1
    # Lines of ours on a terminal's stdout would be wrapped and mixed with the bar.
    prints = (args.json or verb == "info") and sys.stdout.isatty()
    with _progress(len(jobs), verb, args.quiet or prints) as (say, advance):
        for report in batch.run(work, jobs, processes):
            reports.append(report)
            trace = report.pop("traceback", "")
            if args.json:
                print(json.dumps(report), flush=True)
            elif verb == "info" and report["status"] == "done":
                _say(sys.stdout, _table(report) + ("\n" if len(jobs) > 1 else ""))
            failed = report["status"] == "failed"
            if failed or not (args.quiet or verb == "info"):
                say(_line(report))
            if failed and args.debug and trace:
                say(trace)
            advance()
        failures = sum(report["status"] == "failed" for report in reports)
        if failures and len(jobs) > 1:
            say(f"codec {verb}: {failures} of {len(jobs)} inputs failed")
    return batch.exit_code(reports)


def _line(report: Report) -> str:
    source, target = report["input"], report.get("output")
    head = source if target is None else f"{source} -> {target}"
    head = _escaped(head)
    if report["status"] == "failed":
        return f"{_escaped(source)}: {report['error']}"
    if report["status"] == "skipped":
        return f"{head}: exists, skipped"
    words = []
    if "bytes_out" in report:
        words.append(f"{report['bytes_out']} bytes")
    if "fields" in report and "bytes_in" in report:
        words.append(f"{len(report['fields'])} fields, {report['bytes_in'] / report['bytes_out']:.1f} times smaller")
    if "bpp" in report:
        words.append(f"{report['bpp']:.3f} bpp")
    if "bits_per_value" in report:
        words.append(f"{report['bits_per_value']:.4f} bits a value")
    if "psnr" in report:
        words.append(f"{report['psnr']:.2f} dB")
    if "quality" in report:
        words.append(f"-q {report['quality']:g}")
    if target is None:
        words.append(f"ok, {report['codec']} stream {report['stream']}, {report['n_bytes']} bytes")
    if report.get("key_bytes_extra"):
        words.append(f"key groups within scenes take {report['key_bytes_extra']} bytes more than the others")
    if report.get("resumed"):
        words.append(f"{report['resumed']} groups were done before")
    words.append(f"{report['seconds']:.2f} s")
    notes = [f"\n  {_escaped(note)}" for note in report.get("notes", ())]
    return f"{head}: {', '.join(words)}" + "".join(notes)


def _table(report: Report) -> str:
    lines = [_escaped(report["input"])]
    for key, value in report.items():
        if key in ("input", "status"):
            continue
        if isinstance(value, float):
            value = f"{value:.4g}"
        elif isinstance(value, dict):
            value = ", ".join(f"{k}={v}" for k, v in value.items()) or "-"
        elif key == "chunks":
            shown = [f"{tag} {size}" for tag, size in value[:8]]
            value = ", ".join(shown) + (f", ... ({len(value)} in all)" if len(value) > 8 else "")
        elif isinstance(value, list):
            value = " x ".join(str(item) for item in value)
        lines.append(f"  {key:<11} {_escaped(str(value)) or '-'}")
    return "\n".join(lines)


@contextlib.contextmanager
def _progress(total: int, verb: str, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """How to say a line and how to count one; a bar for several inputs, on a terminal only."""
    if quiet or total < 2 or not sys.stderr.isatty():
        yield partial(_say, sys.stderr), lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # rich would send our stdout to the terminal, too, when that is a file
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(verb, total=total)
        yield (
            lambda words: console.print(_printable(words, sys.stderr), soft_wrap=True),
            lambda: bar.advance(task),
        )


def _say(stream: TextIO, words: str) -> None:
    print(_printable(words, stream), file=stream)


def _printable(words: str, stream: TextIO) -> str:
    """A file name or a file's metadata may hold anything; what a terminal would obey or can't show is escaped."""
    safe = "\n".join(map(_escaped, words.split("\n")))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(text: str) -> str:
    """Control characters, line ends and lone surrogates as \\x1b, \\n, \\udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


# --- parsing --------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """Offers the nearest word for an unknown command."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and len(parts := message.split("'")) > 2:
            near = difflib.get_close_matches(parts[1], COMMANDS, n=1, cutoff=0.5)
            message = f"no command {parts[1]!r}: " + (f"did you mean {near[0]!r}? " if near else "")
            message += f"There are {', '.join(COMMANDS)}"
        self.exit(UsageError.exit_code, f"{self.prog}: {message}\n{self.prog} --help shows examples\n")


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "encode": _run_encode,
    "decode": _run_decode,
    "info": _run_info,
    "verify": _run_verify,
    "list": _run_list,
    "train": _run_train,
    "fit": _run_fit,
    "bench": _run_bench,
    "reproduce": _run_reproduce,
    "data": _run_data,
    "demo": _run_demo,
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; builds no parser that needs a heavy import."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="codec",
        description="Neural codecs behind one file format: a file decodes to the same values anywhere.",
        epilog=EXAMPLES,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, words: str, examples: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words, epilog=examples, formatter_class=formatter)
        one.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
        one.add_argument("--quiet", action="store_true", help="no words but errors")
        one.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
        return one

    def inputs(one: argparse.ArgumentParser, words: str) -> None:
        one.add_argument("inputs", nargs="+", metavar="IN", help=words)

    def jobs(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "--jobs",
            type=_count,
            default=1,
            metavar="N",
            help="worker processes; 0: one per CPU core; one video: for its groups",
        )

    def model(one: argparse.ArgumentParser) -> None:
        one.add_argument("--weights", metavar="FILE", help="weights of your own, in place of the shipped ones")
        one.add_argument("--device", default="cpu", help="cpu (default) or cuda")

    def writes(one: argparse.ArgumentParser, words: str) -> None:
        one.add_argument("-o", "--output", metavar="OUT", help=words)
        which = one.add_mutually_exclusive_group()
        which.add_argument("--force", action="store_true", help="replace files that exist")
        which.add_argument("--skip-existing", action="store_true", help="leave files that exist: resumes a batch")

    one = command("encode", "Compress files.", ENCODE_EXAMPLES)
    inputs(one, "files, folders (their tree is kept), quoted globs, or - for stdin")
    writes(one, "file, or folder for several inputs, or - for stdout; default: beside each input")
    one.add_argument("-c", "--codec", help="codec, or codec@tag; `codec list` names them (default: the medium's own)")
    how = one.add_mutually_exclusive_group()
    how.add_argument("-q", "--quality", type=float, help="what quality means is the codec's; higher is better")
    how.add_argument("--size", type=_bytes, metavar="N", help="the best file of at most so much: 20kB, 1.5MB, 64KiB")
    how.add_argument("--bpp", type=_positive, metavar="R", help="the same in bits per pixel, as 0.25")
    how.add_argument("--psnr", type=_positive, metavar="DB", help="the smallest file of at least so many decibels")
    bound = one.add_mutually_exclusive_group()
    bound.add_argument("--max-error", type=_positive, metavar="E", help="fields: no value is off by more than E")
    bound.add_argument("--rel-error", type=_positive, metavar="R", help="fields: by more than R of a dataset's range")
    one.add_argument("--dataset", action="append", metavar="PATH", help="fields: code this one, keep others exactly")
    one.add_argument(
        "--effort", type=_not_negative, metavar="X", help="videos, s2lic: optimiser steps, times the usual number"
    )
    one.add_argument("--enough", type=_positive, metavar="DB", help="videos: a group with so many decibels is done")
    one.add_argument("--key-every", type=_count, metavar="N", help="videos: every N-th group can be decoded alone")
    one.add_argument("--no-sound", action="store_true", help="videos: leave the sound out")
    one.add_argument(
        "--coder",
        help="how the payload is entropy-coded, for codecs that offer a choice (constriction, torchac; walloc: webp)",
    )
    model(one)
    jobs(one)

    one = command("decode", "Bring files back.", DECODE_EXAMPLES)
    inputs(one, "files, folders (their tree is kept), quoted globs, or - for stdin")
    writes(one, "file, or folder for several inputs, or - for stdout; default: beside each input")
    one.add_argument("--format", help="for outputs whose name doesn't say it (default: png; videos: mkv)")
    one.add_argument("--dataset", action="append", metavar="PATH", help="fields: this one alone, as .npy (or .h5)")
    one.add_argument("--snapshot", type=_count, metavar="N", help="fields: one index of the dataset's first axis")
    one.add_argument("--at", type=_not_negative, metavar="T", help="zipgan: between snapshots of --dataset, as 3.5")
    one.add_argument("--frames", metavar="A:B", help="videos: these frames only, counted from 0, B not included")
    one.add_argument("--conceal", action="store_true", help="videos: show the last good frame where one is damaged")
    one.add_argument("--encoder", metavar="E", help="videos: as libx264:crf=18 (default: lossless where it can be)")
    one.add_argument("--no-sound", action="store_true", help="videos: leave the sound out")
    model(one)
    jobs(one)

    one = command("info", "Say what files are, without decoding them.", INFO_EXAMPLES)
    inputs(one, "files, folders, quoted globs, or - for stdin")

    one = command("verify", "Check files: structure, checksums, weights, and that they decode.", VERIFY_EXAMPLES)
    inputs(one, "files, folders, quoted globs, or - for stdin")
    model(one)
    jobs(one)

    command("list", "List the codecs.", LIST_EXAMPLES)

    one = command("train", "Train a codec and export its weights.", TRAIN_EXAMPLES)
    one.add_argument("family", metavar="FAMILY", help="codec to train")
    one.add_argument(
        "--recipe", required=True, metavar="NAME", help="a shipped recipe's name, or a path to a YAML file"
    )
    one.add_argument("--data", metavar="DIR", help="folder of training data (default: the recipe's)")
    one.add_argument("--out", default="runs", metavar="DIR", help="where runs are kept (default: runs)")
    one.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    one.add_argument("--steps", type=int, metavar="N", help="optimiser steps, in place of the recipe's")
    one.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    one.add_argument("--devices", type=int, default=1, metavar="N", help="devices (CPU: processes) of each machine")
    one.add_argument("--nodes", type=int, default=1, metavar="N", help="machines; run the command on each (Lightning)")

    one = command("fit", "Fit a circuit to data of yours: lossless weights for one kind of items.", FIT_EXAMPLES)
    one.add_argument("family", metavar="FAMILY", help="circuit")
    one.add_argument("data", metavar="DATA", help="IDX, NPY or CSV file (also .gz), or a folder of PNG pictures")
    one.add_argument("-o", "--output", required=True, metavar="FILE", help="the weights: a safetensors file")
    one.add_argument("--force", action="store_true", help="replace FILE")
    one.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    one.add_argument("--states", type=_count, default=32, metavar="N", help="of each latent (default 32)")
    one.add_argument("--components", type=_count, default=1, metavar="N", help="kinds of items, a circuit for each")
    one.add_argument("--epochs", type=_count, default=30, metavar="N", help="of mini-batches (default 30)")
    one.add_argument("--full", type=_count, default=3, metavar="N", help="passes of EM on all data (default 3)")
    one.add_argument("--batch", type=_count, default=512, metavar="N", help="items of a mini-batch (default 512)")
    one.add_argument("--pseudocount", type=float, default=1.0, metavar="X", help="strength of the prior (default 1)")
    one.add_argument("--leaves", choices=("categorical", "logistic"), default="categorical", help="of the circuit")
    one.add_argument("--held-out", type=float, default=0.05, metavar="X", help="share that chooses the epoch (0.05)")
    one.add_argument("--bits", type=int, choices=(8, 16), default=8, help="of a stored parameter (default 8)")
    one.add_argument("--seed", type=int, default=1, metavar="N")
    one.add_argument("--log", metavar="FILE", help="bits and seconds of every epoch, as JSON")
    one.add_argument("--device", default="cpu", help="cpu (default) or cuda")

    one = command("bench", "Measure rate, distortion and speed against everything else.", BENCH_EXAMPLES)
    one.add_argument("data", nargs="?", metavar="DATA", help="a file, or a folder (searched through)")
    one.add_argument(
        "-c", "--codec", metavar="CODECS", help="codec string, see below (default: ours and the usual others)"
    )
    one.add_argument("--codecs", dest="codecs_help", action="store_true", help="list the codecs and their options")
    one.add_argument("--out", default=BENCH_OUT, metavar="DIR", help=f"where results are kept (default: {BENCH_OUT})")
    one.add_argument("--metrics", metavar="A,B", help="metrics by name, or all (default: the medium's usual ones)")
    one.add_argument("--anchor", metavar="A,B", help="BD-rates against these: codecs of the run, or published series")
    one.add_argument("--reference", metavar="A,B", help="published Kodak series to draw beside, such as vtm-18.0")
    one.add_argument("--window", metavar="LO..HI", help="BD-rates over this part of the first metric only")
    one.add_argument("--medium", choices=("image", "audio", "video", "array"), help="if the codecs don't say it")
    one.add_argument("--repeat", type=int, default=3, metavar="N", help="timed runs, after a warm-up (default: 3)")
    one.add_argument("--jobs", type=_count, default=1, metavar="N", help="items at once (spoils timings); 0: all cores")
    one.add_argument("--threads", type=int, metavar="N", help="threads for each codec (default: cores / jobs)")
    one.add_argument("--max-frames", type=int, metavar="N", help="of each video")
    one.add_argument("--again", action="store_true", help="measure what is there already, too")

    one = command("reproduce", "Put a paper's numbers beside ours.", REPRODUCE_EXAMPLES)
    one.add_argument("paper", nargs="?", metavar="PAPER", help="a recipe's name, or a path to a YAML file")
    one.add_argument("--data", metavar="DIR", help="the paper's data (default: the recipe's folder, looked for)")
    one.add_argument("--out", metavar="DIR", help="keep the results (default: reproduce-PAPER)")
    one.add_argument("--repeat", type=int, default=3, metavar="N", help="timed runs, after a warm-up (default: 3)")

    one = command("data", "Make data: simulations of turbulence, as HDF5 files.", DATA_EXAMPLES)
    one.add_argument("kind", choices=("turbulence", "taylor-green"), metavar="KIND", help="turbulence or taylor-green")
    one.add_argument("-o", "--output", required=True, metavar="FILE", help="HDF5 file: /velocity, /time, /statistics")
    one.add_argument("--force", action="store_true", help="replace FILE")
    one.add_argument("--n", type=_count, default=64, metavar="N", help="points of each side (default 64)")
    one.add_argument(
        "--re",
        type=_positive,
        metavar="R",
        help="Reynolds number: of Taylor's scale, about; taylor-green: 1 / viscosity (default: as n resolves)",
    )
    one.add_argument("--snapshots", type=_count, default=10, metavar="N", help="how many (default 10)")
    one.add_argument("--spacing", type=_positive, default=0.5, metavar="T", help="time between them (default 0.5)")
    one.add_argument("--spin-up", type=float, metavar="T", help="time before the first (default 20; taylor-green 0)")
    one.add_argument("--seed", type=_count, default=0, metavar="N", help="another seed, another simulation")
    one.add_argument("--double", action="store_true", help="compute in double precision")
    one.add_argument("--device", default="cpu", help="cpu (default) or cuda")

    one = command("demo", "Encode and decode a photo, and compare with JPEG of equal size.", DEMO_EXAMPLES)
    one.add_argument("--picture", metavar="FILE", help="a picture of yours (default: the one that is shipped)")
    one.add_argument("-o", "--output", metavar="DIR", help=f"where to write (default: {DEMO_OUT}, replaced if there)")
    one.add_argument("--force", action="store_true", help="replace files that exist in DIR")
    one.add_argument("-c", "--codec", help="codec, or codec@tag")
    one.add_argument("-q", "--quality", type=float, help="higher is better")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def _bytes(text: str) -> float:
    """20000, 20kB, 1.5MB; KiB and MiB are powers of two."""
    number = text.lower().removesuffix("b")
    for suffix, factor in (("ki", 1 << 10), ("mi", 1 << 20), ("gi", 1 << 30), ("k", 1e3), ("m", 1e6), ("g", 1e9)):
        if number.endswith(suffix):
            return _positive(number.removesuffix(suffix)) * factor
    return _positive(number)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


_count.__name__ = _positive.__name__ = _not_negative.__name__ = "number"  # argparse: "invalid number value"
_bytes.__name__ = "size"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        print(__version__)
        return 0
    if args.command is None:
        parser.print_help(sys.stderr)
        return UsageError.exit_code
    try:
        with _terminable():
            code = COMMANDS[args.command](args)
            sys.stdout.flush()
            return code
    except CodecError as error:
        if args.debug:
            raise
        _say(sys.stderr, f"codec {args.command}: {error}")
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our stdout has gone. Python would complain again when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MediaError.exit_code
    except OSError as error:
        if args.debug:
            raise
        _say(sys.stderr, f"codec {args.command}: {error}")
        return MediaError.exit_code
    except KeyboardInterrupt:
        hint = _INTERRUPTED.get(args.command, "")
        _say(sys.stderr, f"codec {args.command}: interrupted{hint}")
        return 130


_INTERRUPTED = {
    "encode": "; finished files are whole, --skip-existing goes on from here; the same command goes on with a video",
    "decode": "; finished files are whole, --skip-existing goes on from here",
    "data": "; the same command goes on from here",
    **dict.fromkeys(("bench", "reproduce"), "; what was measured is kept, the same command goes on from here"),
}


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends us like Ctrl-C does: temporary files are removed, workers are ended."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
