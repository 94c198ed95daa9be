"""`codec reproduce circuit`: MNIST and FashionMNIST in bits per pixel, the paper's numbers and ours, from whole files.

Paper: Liu, Mandt, Van den Broeck, ICLR 2022, arXiv 2111.11632, tables of section 4, as known to us (marked: recalled,
not read again). Ours: the 10 000 test images in one file of the shipped weights; the weights are reported apart, and
spread over the test set. Beside the circuit alone: context mixing alone, from nothing and with what it had learned on
the training images, and both together, which is `--mix`. Anchors in the same run: PNG, WebP and JPEG XL without loss,
each image in a file of its own and all in one mosaic of 100 x 100 images; zstd -19 and xz on the raw array. Each is
decoded again and compared.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...codecs.base.codec import Codec
from ...codecs.base.weights import manifests
from ...codecs.circuit.codec import CircuitCodec
from ...codecs.circuit.mixing import MixedItems, companion
from ...datasets.places import find_data
from ...errors import MediaError, UsageError, WeightsError
from ...media.array import read
from ..bench.run import RunProgress, machine_name
from ..output import write_file
from ..report.plots import COLOURS

__all__ = [
    "DATASETS",
    "PAPER",
    "SOURCE",
    "TITLE",
    "Dataset",
    "anchors",
    "epoch_plot",
    "measure",
    "measure_mixing",
    "picture_codecs",
    "run",
    "text",
]

TITLE = "Lossless Compression with Probabilistic Circuits"
SOURCE = "Liu, Mandt and Van den Broeck, ICLR 2022, arXiv 2111.11632"
ROW = 100  # images in a row of the mosaic

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """A data set that is measured. folder: where its test images lie, as `find_data` takes it. tag: of the weights.
    target: the bits per pixel that we aim at with `--mix`."""

    name: str
    folder: str
    tag: str
    target: float


DATASETS = (
    Dataset("MNIST", "mnist", "mnist", 0.97),
    Dataset("FashionMNIST", "fashion-mnist", "fashion", 3.05),
)
TEST = "t10k-images-idx3-ubyte.gz"
# bits per pixel of the files, and of the model alone; seconds for 10 000 images on one TITAN RTX, M = 32
PAPER: Mapping[str, Mapping[str, float]] = {
    "MNIST": {"file": 1.24, "model": 1.20, "encode": 168, "decode": 202},
    "FashionMNIST": {"file": 3.37, "model": 3.34},
}
MARK = "[recalled] not read again in the paper"


# rows of the table: words, key, digits
MIXING = (
    ("bits per pixel, context mixing alone, from nothing", "bpp_mixing_from_nothing", 4),
    ("  after the training images", "bpp_mixing_learned", 4),
    ("bits per pixel, circuit and mixing (--mix), from nothing", "bpp_mix_from_nothing", 4),
    ("  after the training images, whole file", "bpp_mix_file", 4),
    ("  with the weights and states, spread over the test set", "bpp_mix_with_weights", 4),
    ("  one stream an item (random access)", "bpp_mix_one_stream_an_item", 4),
    ("seconds to encode {items} images with --mix", "mix_encode_seconds", 3),
    ("seconds to decode {items} images with --mix", "mix_decode_seconds", 3),
)


def run(
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    repeat: int = 3,
    items: int | None = None,
    weights: Mapping[str, str] | None = None,
    progress: RunProgress | None = None,
) -> dict[str, Any]:
    """Measures all data sets that are there and have weights. data: a folder with both sets' folders in it.

    items: the first so many test images only. weights: files in place of the shipped ones, by data set.
    """
    out = Path("reproduce-circuit") if out is None else Path(out)
    out.mkdir(parents=True, exist_ok=True)
    measured: list[dict[str, Any]] = []
    missing = []
    for index, dataset in enumerate(DATASETS):
        try:
            folder = Path(data) / dataset.folder if data is not None else find_data(dataset.folder, "test images")
            images = read(folder / TEST).array[:items]
            path = (weights or {}).get(dataset.name)
            codec = Codec.load("circuit" if path else f"circuit@{dataset.tag}", weights=path)
        except (MediaError, UsageError, WeightsError) as error:
            missing.append(f"{dataset.name}: {error}")
            continue
        assert isinstance(codec, CircuitCodec)
        if progress is not None:
            progress(index, len(DATASETS), dataset.name)
        about = [manifest for manifest in manifests("circuit") if manifest.id == codec.weights_id]
        n_bytes = Path(path).stat().st_size if path else about[0].path.stat().st_size
        measured.append({"name": dataset.name, "target": dataset.target, **measure(codec, images, n_bytes, repeat)})
        measured[-1] |= measure_mixing(codec, images, n_bytes, repeat)
        measured[-1]["whole"] = len(images) == 10_000
        measured[-1]["anchors"] = anchors(images)
    if not measured:
        raise UsageError("nothing to measure: " + "; ".join(missing))
    result = {
        "paper": "circuit",
        "title": TITLE,
        "source": SOURCE,
        "command": "codec reproduce circuit --data DATA --out DIR",
        "machine": {"cpu": machine_name(), "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))},
        "paper_values": {name: dict(values) for name, values in PAPER.items()},
        "paper_mark": MARK,
        "missing": missing,
        "datasets": measured,
    }
    write_file(out / "circuit.json", json.dumps(result, indent=1) + "\n")
    return result


def measure(codec: CircuitCodec, images: Bytes, weights_bytes: int, repeat: int = 1) -> dict[str, Any]:
    """Bits per pixel of whole files, and the best of `repeat` times. MediaError if an image doesn't come back."""
    n = images.size
    encode, decode, data = math.inf, math.inf, b""
    for _ in range(repeat):
        began = time.perf_counter()
        data = codec.compress(images)
        encode = min(encode, time.perf_counter() - began)
        began = time.perf_counter()
        decoded = codec.decompress(data)
        decode = min(decode, time.perf_counter() - began)
        if not np.array_equal(decoded, images):
            raise MediaError("circuit: the images that were decoded aren't those that were encoded")
    symbols, _ = codec.domain.symbols(images)
    bits = codec.circuit.bits(symbols)
    separate = codec.with_settings(coder="rans-items").compress(images)
    return {
        "items": len(images),
        "pixels": n,
        "bpp_file": 8 * len(data) / n,
        "bpp_model": float(bits.sum()) / n,
        "bpp_with_weights": 8 * (len(data) + weights_bytes) / n,
        "bpp_one_stream_an_item": 8 * len(separate) / n,
        "bpp_worst_image": float(bits.max()) / (n // len(images)),
        "encode_seconds": encode,
        "decode_seconds": decode,
        "states": codec.circuit.states,
        "components": len(getattr(codec.circuit, "circuits", (None,))),
        "parameters": codec.circuit.n_parameters,
        "weights_bytes": weights_bytes,
        "weights": codec.weights_id.hex(),
        "file_bytes": len(data),
    }


def measure_mixing(codec: CircuitCodec, images: Bytes, weights_bytes: int, repeat: int = 1) -> dict[str, Any]:
    """Bits per pixel of context mixing, alone and with the circuit; MediaError if an image doesn't come back.

    Alone: streams of `entropy.mixing.items` without a file around them. Together: whole files of `--mix`.
    """
    n = images.size
    symbols, _ = codec.domain.symbols(images)
    warm = codec.mixed_items
    cold = MixedItems(codec.circuit, codec.domain.shape, {})
    alone = {
        "bpp_mixing_from_nothing": cold.model(len(images)).encode(cold.ordered(symbols)),
        "bpp_mixing_learned": warm.model(len(images)).encode(warm.ordered(symbols)) if warm.is_warm else None,
        "bpp_mix_from_nothing": cold.encode(symbols),
    }
    mix = codec.with_settings(mix=True)
    encode, decode, data = math.inf, math.inf, b""
    for _ in range(repeat):
        began = time.perf_counter()
        data = mix.compress(images)
        encode = min(encode, time.perf_counter() - began)
        began = time.perf_counter()
        decoded = mix.decompress(data)
        decode = min(decode, time.perf_counter() - began)
        if not np.array_equal(decoded, images):
            raise MediaError("circuit --mix: the images that were decoded aren't those that were encoded")
    separate = mix.with_settings(coder="rans-items").compress(images)
    states = companion(codec.weights_id)
    n_states = states.path.stat().st_size if states else 0
    return {
        **{name: 8 * len(stream) / n for name, stream in alone.items() if stream is not None},
        "bpp_mix_file": 8 * len(data) / n,
        "bpp_mix_with_weights": 8 * (len(data) + weights_bytes + n_states) / n,
        "bpp_mix_one_stream_an_item": 8 * len(separate) / n,
        "mix_encode_seconds": encode,
        "mix_decode_seconds": decode,
        "mix_states_bytes": n_states,
        "mix_file_bytes": len(data),
    }


def anchors(images: Bytes) -> list[dict[str, Any]]:
    """Bytes and bits per pixel of general codecs; each decoded and compared."""
    pictures = {"each image": list(images), "mosaic": [mosaic(images)]}
    raw = images.tobytes()
    rows = []
    for name, (encode, decode) in picture_codecs().items():
        for grouping, group in pictures.items():
            n_bytes = 0
            for picture in group:
                data = encode(picture)
                if not _equal(decode(data), picture):
                    raise MediaError(f"{name}: a picture did not come back")
                n_bytes += len(data)
            rows.append({"name": f"{name}, {grouping}", "bytes": n_bytes})
    import imagecodecs

    rows.append({"name": "zstd -19, raw array", "bytes": len(imagecodecs.zstd_encode(raw, level=19))})
    packed = lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)
    assert lzma.decompress(packed) == raw
    rows.append({"name": "xz -9e, raw array", "bytes": len(packed)})
    return [{**row, "bpp": 8 * row["bytes"] / images.size} for row in rows]


def _equal(decoded: Bytes, picture: Bytes) -> bool:
    """Whether a picture came back. A codec without grey pictures gives three equal channels."""
    if picture.ndim == 2 and decoded.ndim == 3:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    return np.array_equal(decoded, picture)


def mosaic(images: Bytes) -> Bytes:
    """One picture of all images, `ROW` a row, filled up with black."""
    n, height, width = images.shape
    rows = -(-n // ROW)
    padded = np.zeros((rows * ROW, height, width), np.uint8)
    padded[:n] = images
    return np.ascontiguousarray(
        padded.reshape(rows, ROW, height, width).transpose(0, 2, 1, 3).reshape(rows * height, ROW * width)
    )


def picture_codecs() -> dict[str, tuple[Callable[[Bytes], bytes], Callable[[bytes], Bytes]]]:
    """Lossless codecs of pictures by name, each an encoder and a decoder of grey (H, W) or RGB (H, W, 3)."""
    import imagecodecs

    def png(picture: Bytes) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def pillow(data: bytes) -> Bytes:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image)

    def webp(picture: Bytes) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).convert("RGB").save(buffer, "WEBP", lossless=True, quality=100, method=6)
        return buffer.getvalue()

    def jxl(picture: Bytes) -> bytes:
        return bytes(imagecodecs.jpegxl_encode(picture, lossless=True, effort=9, numthreads=1))

    return {
        "PNG": (png, pillow),
        "WebP lossless": (webp, pillow),
        "JPEG XL lossless": (jxl, imagecodecs.jpegxl_decode),
    }


def text(result: Mapping[str, Any]) -> str:
    """The numbers of the paper and ours side by side, a table for each data set."""
    lines = [str(result["title"]), str(result["source"]), f"paper's numbers: {result['paper_mark']}", ""]
    for dataset in result["datasets"]:
        paper = PAPER.get(dataset["name"], {})
        if not dataset["whole"]:
            lines.append(f"NOT the whole test set ({dataset['items']} items): the columns don't compare")
        rows: list[Sequence[str]] = [(dataset["name"], "paper", "ours")]

        def row(label: str, key: str, value: float, digits: int = 4, values: Mapping[str, float] = paper) -> None:
            rows.append((label, f"{values[key]:g}" if key in values else "-", f"{value:.{digits}g}"))  # noqa: B023

        row("bits per pixel, whole file", "file", dataset["bpp_file"])
        row("  of the model alone", "model", dataset["bpp_model"])
        row("  with the weights, spread over the test set", "", dataset["bpp_with_weights"])
        row("  one stream an item (random access)", "", dataset["bpp_one_stream_an_item"])
        row("  of the most expensive image", "", dataset["bpp_worst_image"])
        row(f"seconds to encode {dataset['items']} images", "encode", dataset["encode_seconds"], 3)
        row(f"seconds to decode {dataset['items']} images", "decode", dataset["decode_seconds"], 3)
        for label, key, digits in MIXING:
            if key in dataset:
                row(label.format(items=dataset["items"]), "", dataset[key], digits)
        row("parameters", "", dataset["parameters"], 8)
        row("circuits, each for a part of the items", "", dataset.get("components", 1))
        rows += [(anchor["name"], "-", f"{anchor['bpp']:.4g}") for anchor in dataset["anchors"]]
        widths = [max(len(line[column]) for line in rows) for column in range(3)]
        for line in rows:
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        lines.append(
            f"aim: {dataset['target']} with --mix; paper's seconds are of one TITAN RTX, ours of "
            f"{result['machine']['cpu']}"
        )
        lines.append("")
    lines += [f"not measured: {words}" for words in result["missing"]]
    return "\n".join(lines).rstrip()


def epoch_plot(logs: Mapping[str, str | os.PathLike[str]], out: str | os.PathLike[str]) -> None:
    """Bits against epochs, from the logs (log.jsonl) of training runs, by label: an SVG or PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for colour, (label, path) in zip(COLOURS, logs.items(), strict=False):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if "epoch" in row]
        if not rows:
            raise MediaError(f"{path}: no epochs in this log")
        seconds = np.median([row["seconds"] for row in rows])
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row["train"] for row in rows], color=colour, linestyle=":", label=f"{label}, training")
        held = [(row["epoch"], row["held_out"]) for row in rows if "held_out" in row]
        axes.plot(*zip(*held, strict=True), color=colour, label=f"{label}, held out ({seconds:.0f} s an epoch)")
    axes.set_xlabel("epoch")
    axes.set_ylabel("bits per value")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    suffix = Path(out).suffix.lstrip(".") or "svg"
    figure.savefig(buffer, format=suffix, metadata={"Date": None} if suffix == "svg" else None, dpi=120)
    write_file(Path(out), buffer.getvalue())
