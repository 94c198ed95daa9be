"""Lost packets of VQGAN: the transformer that restores them, against three simple ways and against nothing.

    python -P -m codec.eval.studies.vqgan_restoration PICTURES --photos TRAIN --out eval/results/vqgan/restoration

Whole files of --packets packets each, of which a share is left out, drawn by seed and picture, as `codec corrupt --how
drop` does. Each file is then decoded as `--conceal` does, by: "frequent", the word that most known cells of the map
have, which is what is left without restoring; "nearest", the words around; "circuit", the likeliest word by a circuit
of 512 states over 3x3 cells, fitted to index maps of the photographs in --photos (codebooks of at most 256 words:
beyond, its tables outgrow what photographs can teach); "transformer", its likeliest word, and "transformer mean", the
word nearest to the mean of likely ones, which is what `--conceal` takes.

Right: the share of lost indices that are restored as they were. PSNR and LPIPS (AlexNet) are of the picture against the
original. What is lost: how much worse they are than with all packets. The goal: at 20 % the transformer loses less than
a third of what the best simple way does.

OUT.json, OUT.csv and OUT.md are written after each picture: a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...codecs.base.weights import load_tensors
from ...codecs.vqgan.codec import VqganCodec
from ...codecs.vqgan.restore import Restorer, read_restorer, restorer_of
from ...codecs.vqgan.restore_baselines import CircuitRestorer, most_frequent, nearest
from ...container import PACKET, ChunkReader, unpack
from ...datasets.images import find_pictures
from ...errors import UsageError
from ...media.distortion import psnr
from ...media.image import read_picture
from ..metrics.perceptual import lpips_alex
from ..output import write_file, write_json

__all__ = ["METHODS", "damaged", "main", "markdown", "measure"]

LOSSES = (0.05, 0.1, 0.2, 0.4)
SIMPLE = ("frequent", "nearest", "circuit")
METHODS = (*SIMPLE, "transformer", "transformer mean")
_PHOTOS = 1000  # that circuits are fitted to
_LARGEST_CIRCUIT = 256  # words
GOAL = 0.2  # the share of packets at which the goal is

IndexMap = NDArray[np.integer[Any]]


class Filler(Protocol):
    """A way to restore a map: what the codec's restorer is."""

    def restore(self, indices: IndexMap, lost: NDArray[np.bool_], size: int, codebook: Any) -> NDArray[np.int32]: ...


class _Frequent:
    def restore(self, indices: IndexMap, lost: NDArray[np.bool_], size: int, codebook: Any) -> NDArray[np.int32]:
        return most_frequent(indices, lost)


class _Nearest:
    def restore(self, indices: IndexMap, lost: NDArray[np.bool_], size: int, codebook: Any) -> NDArray[np.int32]:
        return nearest(indices, lost)


class _Circuit:
    """Circuits by the words of their codebooks."""

    def __init__(self, circuits: Mapping[int, CircuitRestorer]) -> None:
        self.circuits = circuits

    def restore(self, indices: IndexMap, lost: NDArray[np.bool_], size: int, codebook: Any) -> NDArray[np.int32]:
        return self.circuits[size].restore(indices, lost)


class _Likeliest:
    def __init__(self, restorer: Restorer) -> None:
        self.restorer = restorer

    def restore(self, indices: IndexMap, lost: NDArray[np.bool_], size: int, codebook: Any) -> NDArray[np.int32]:
        return self.restorer.restore(indices, lost, size)


def fillers(restorer: Restorer, circuits: Mapping[int, CircuitRestorer]) -> dict[str, Filler]:
    """All ways, by their names; without circuits that one is left out."""
    made: dict[str, Filler] = {"frequent": _Frequent(), "nearest": _Nearest()}
    if circuits:
        made["circuit"] = _Circuit(circuits)
    return {**made, "transformer": _Likeliest(restorer), "transformer mean": restorer}


def damaged(data: bytes, loss: float, seed: str) -> bytes:
    """A file without a share of its packets, drawn by the seed; one packet is always left."""
    places = [place for place in ChunkReader(io.BytesIO(data)).places() if place.tag == PACKET]
    n_lost = min(round(loss * len(places)), len(places) - 1)
    out = bytearray(data)
    for number in sorted(random.Random(seed).sample(range(len(places)), n_lost), reverse=True):
        del out[places[number].position : places[number].end]
    return bytes(out)


class _Watched:
    """A restorer that keeps what it was asked and what it answered."""

    def __init__(self, filler: Filler) -> None:
        self.filler = filler
        self.lost = np.zeros((0, 0), bool)
        self.map = np.zeros((0, 0), np.int32)

    def knows(self, size: int) -> bool:
        """Whether it restores indices of so many words: every way is asked, and says itself if it can't."""
        return True

    def restore(self, indices: IndexMap, lost: NDArray[np.bool_], size: int, codebook: Any) -> NDArray[np.int32]:
        self.lost, self.map = lost, self.filler.restore(indices, lost, size, codebook)
        return self.map


def measure(
    codec: VqganCodec,
    ways: Mapping[str, Filler],
    pictures: Sequence[tuple[str, NDArray[np.uint8]]],
    words: Sequence[int],
    losses: Sequence[float] = LOSSES,
    seeds: Sequence[int] = (1,),
) -> Iterator[dict[str, Any]]:
    """A row for each picture, codebook, loss, seed and way; loss 0 has the one way "whole".

    codec: with `packets`. Its model has another restorer, until all rows are taken.
    """
    own = codec.model.restorer
    try:
        for name, pixels in pictures:
            yield from _of_picture(codec, ways, name, pixels, words, losses, seeds)
    finally:
        vars(codec.model)["restorer"] = own


def _of_picture(
    codec: VqganCodec,
    ways: Mapping[str, Filler],
    name: str,
    pixels: NDArray[np.uint8],
    words: Sequence[int],
    losses: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[dict[str, Any]]:
    for size in words:
        data = codec.compress(pixels, _quality(codec, size))
        right = codec.read_indices(*unpack(data))[0]
        whole = codec.decode_picture(data).pixels
        row: dict[str, Any] = {"picture": name, "words": size, "bytes": len(data)}
        yield {**row, "loss": 0.0, "seed": 0, "way": "whole", "right": 1.0, **_score(pixels, whole)}
        for loss in losses:
            for seed in seeds:
                left = damaged(data, loss, f"{seed} {name}")
                for way, filler in ways.items():
                    if isinstance(filler, _Circuit) and size not in filler.circuits:
                        continue
                    watched = _Watched(filler)
                    vars(codec.model)["restorer"] = watched
                    back = codec.decode_picture(left, conceal=True).pixels
                    share = float((watched.map == right)[watched.lost].mean()) if watched.lost.any() else 1.0
                    yield {**row, "loss": loss, "seed": seed, "way": way, "right": share, **_score(pixels, back)}


def _quality(codec: VqganCodec, size: int) -> float:
    """A quality at which the codec takes the codebook of so many words."""
    sizes = codec.model.codebooks
    if size not in sizes:
        raise UsageError(f"no codebook of {size} words: there are {', '.join(map(str, sizes))}")
    return 1 + 99 * (sizes.index(size) + 0.5) / len(sizes)


def _score(original: NDArray[np.uint8], decoded: NDArray[Any]) -> dict[str, float]:
    return {"psnr": psnr(decoded, original, at_most=100.0), "lpips": lpips_alex(original, decoded)}


def means(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, float, str], dict[str, float]]:
    """The means over pictures and seeds, by words, loss and way: right, and what is lost of PSNR and LPIPS."""
    whole = {(row["picture"], row["words"]): row for row in rows if row["way"] == "whole"}
    parts: dict[tuple[int, float, str], list[dict[str, float]]] = {}
    for row in rows:
        best = whole[row["picture"], row["words"]]
        lost = {"right": row["right"], "psnr": best["psnr"] - row["psnr"], "lpips": row["lpips"] - best["lpips"]}
        parts.setdefault((row["words"], row["loss"], row["way"]), []).append(lost)
    return {key: {name: statistics.fmean(row[name] for row in part) for name in part[0]} for key, part in parts.items()}


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each codebook, and below it how the goal is met."""
    mean_of, lines = means(rows), []
    for size in dict.fromkeys(row["words"] for row in rows):
        ways = [way for way in METHODS if any((row["words"], row["way"]) == (size, way) for row in rows)]
        whole = [row for row in rows if row["words"] == size and row["way"] == "whole"]
        lines += [
            f"{size} words, {len(whole)} pictures; with all packets PSNR "
            f"{statistics.fmean(row['psnr'] for row in whole):.2f} dB, LPIPS-Alex "
            f"{statistics.fmean(row['lpips'] for row in whole):.4f}.",
            "Cells: right / PSNR lost in dB / LPIPS lost.",
            "",
            "| loss | " + " | ".join(ways) + " |",
            "|---|" + "---|" * len(ways),
        ]
        for loss in sorted({row["loss"] for row in rows if row["words"] == size} - {0.0}):
            cells = [mean_of[size, loss, way] for way in ways]
            texts = [f"{100 * cell['right']:.1f} % / {cell['psnr']:.3f} / {cell['lpips']:.4f}" for cell in cells]
            lines.append(f"| {100 * loss:g} % | " + " | ".join(texts) + " |")
        lines.append("")
        if (size, GOAL, "transformer mean") in mean_of:
            lines += [_goal(mean_of, size, ways), ""]
    return "\n".join(lines)


def _goal(mean_of: Mapping[tuple[int, float, str], Mapping[str, float]], size: int, ways: Sequence[str]) -> str:
    """A sentence: what the transformer loses at the goal's loss, as a share of what the best simple way does."""
    parts = []
    for name, label in (("psnr", "PSNR"), ("lpips", "LPIPS")):
        best = min((way for way in ways if way in SIMPLE), key=lambda way: mean_of[size, GOAL, way][name])
        share = mean_of[size, GOAL, "transformer mean"][name] / mean_of[size, GOAL, best][name]
        parts.append(f"{100 * share:.0f} % of what {best} does of {label}")
    return f"At {100 * GOAL:g} % the transformer (mean) loses\n" + ", ".join(parts) + "; the goal is a third."


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()} for row in rows)
    return out.getvalue()


def _restorer(codec: VqganCodec, path: Path | None) -> Restorer:
    restorer = restorer_of(codec.model.id) if path is None else read_restorer(load_tensors(path), codec.model.id)
    if restorer is None:
        raise UsageError("no restorer ships for these weights: name one with --restorer")
    return restorer


def _pictures(folder: Path, limit: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """Names and pixels (H, W, 3) of at most so many pictures of a folder, evenly from all of them; without alpha."""
    paths, out = find_pictures(folder), []
    for place in np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)):
        pixels = read_picture(paths[place]).pixels[..., :3]
        out.append((paths[place].stem, np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))))
    return out


def _kept(path: Path, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier run that measured the same. UsageError for a file of anything else."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        rows = earlier.pop("rows")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: not the rows of an earlier run ({error!r:.100}); name another --out") from None
    if earlier != json.loads(json.dumps(about)):
        raise UsageError(f"{path} was measured with other settings or weights: name another --out, or remove it")
    return rows


def _circuits(codec: VqganCodec, folder: Path | None, sizes: Sequence[int]) -> dict[int, CircuitRestorer]:
    """Circuits fitted to the index maps of a folder's photographs, by words; none without a folder."""
    photos = [] if folder is None else _pictures(folder, _PHOTOS)
    circuits = {}
    for size in sizes if photos else ():
        maps = [codec.indices(pixels, size.bit_length() - 1) for _, pixels in photos]
        circuits[size] = CircuitRestorer.fit(maps, size, states=512, windows=120_000)
    return circuits


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes OUT.csv, OUT.json and OUT.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--photos", type=Path, help="what circuits are fitted to; none: without circuits")
    parser.add_argument("--out", type=Path, required=True, help="without its suffix")
    parser.add_argument("--weights", type=Path, help="of the codec, in place of those that ship")
    parser.add_argument("--restorer", type=Path, help="weights of the transformer, in place of those that ship")
    parser.add_argument("--words", type=int, nargs="+", default=[256, 2048], help="codebooks")
    parser.add_argument("--packets", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--losses", type=float, nargs="+", default=LOSSES)
    parser.add_argument("--limit", type=int, default=100, help="pictures at most")
    options = parser.parse_args(argv)
    codec = VqganCodec.from_weights(None, None, options.weights, "cpu")
    codec.packets = options.packets
    restorer = _restorer(codec, options.restorer)
    settings = ("words", "packets", "seeds", "losses", "limit")
    about = {name: getattr(options, name) for name in settings} | {"codec": codec.model.id.hex()}
    words = (f"--{name} {_text(about[name])}" for name in settings)
    photos = "" if options.photos is None else f" --photos {options.photos.name}"
    command = f"python -P -m codec.eval.studies.vqgan_restoration {options.pictures.name}{photos} {' '.join(words)}"
    about = {"command": f"{command} --out OUT", **about}
    pictures = _pictures(options.pictures, options.limit)
    rows = _kept(options.out.with_suffix(".json"), about)
    done = {row["picture"] for row in rows}
    left = [picture for picture in pictures if picture[0] not in done]
    circuits = _circuits(codec, options.photos if left else None, [w for w in options.words if w <= _LARGEST_CIRCUIT])
    ways = fillers(restorer, circuits)
    for picture in left:
        for row in measure(codec, ways, [picture], options.words, options.losses, options.seeds):
            rows.append(row)
            sys.stderr.write(" ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + "\n")
        write_json(options.out.with_suffix(".json"), {**about, "rows": rows})
        write_file(options.out.with_suffix(".csv"), table(rows))
        write_file(options.out.with_suffix(".md"), f"```sh\n{about['command']}\n```\n\n{markdown(rows)}")
    sys.stdout.write(markdown(rows))
    return 0


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


if __name__ == "__main__":
    sys.exit(main())
