"""Learning on what was compressed: two questions of WaLLoC and of "Machine Perceptual Quality", with small classifiers.

Jacobellis, Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405: a network that is
trained on latents should know more than one that is trained on pixels of equal number. Asked here with WaLLoC's integer
latents, 12 x 16 x 16, beside pictures made smaller to 32 x 32 x 3, which are as many numbers, and with whole pictures.

Jacobellis, Cummings, Yadwadkar, DCC 2024, arXiv 2401.07957, third finding: models that were trained on lossy data can
do better on compressed data than on the originals. Asked here with one network that is trained on pictures as they are,
and on pictures out of each codec, and tested on all of them.

The pictures are digits over photographs (`perception/cluttered.py`); labels are true. Intervals are of test pictures
drawn again, the same ones for all. Seconds are of one thread, one after the other in one run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...codecs.base.codec import Codec, threads
from ..bench.measure import materialise
from ..bench.run import curves_of
from ..output import jsonable, write_json
from ..perception.cluttered import SIDE, cluttered
from ..perception.stats import Interval, Samples, interval

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["LEARNING", "TRAINED", "latents", "learn", "run", "text", "trained_on"]

LEARNING, TRAINED = "learning", "third_finding"
CODECS = ("jpeg:444:q=5", "webp:q=1", "walloc:q=1", "vqgan:q=46")
Progress = Callable[[int, int, str], None]


class Sizes(NamedTuple):
    """The sizes of the runs: training and test pictures, epochs, seeds."""

    train: int = 8000
    test: int = 2000
    epochs: int = 8
    seeds: int = 2


SMALL = 32  # pixels to a side of pictures with as many numbers as the latents
WIDTHS = (32, 64)
BATCH, RATE = 64, 3e-3
QUALITY = 25.0  # of WaLLoC, whose latents are taken


# ---- what networks are given


def reduced(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures made smaller by Lanczos, (N, 3, 32, 32), about -1 to 1."""
    few = [np.asarray(Image.fromarray(x).resize((SMALL, SMALL), Image.Resampling.LANCZOS)) for x in pictures]
    return _scaled(np.stack(few))


def latents(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """WaLLoC's integer latents as a file has them, (N, 12, 16, 16), each channel divided by its deviation.

    The deviations are constants of the first 256 pictures of training, and so the same for the test.
    """
    codec = cast(Any, Codec.load("walloc", quality=QUALITY))
    return np.stack([codec.latents(picture).integers.numpy() for picture in pictures]).astype(np.float32)


def whole(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The pictures as they are, (N, 3, 128, 128), about -1 to 1."""
    return _scaled(pictures)


def _scaled(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1


def network(channels: int, side: int) -> nn.Sequential:
    """A classifier of inputs (B, channels, side, side): layers of stride 2 down to 16 x 16, then the same for all."""
    from torch import nn

    narrow, wide = WIDTHS
    layers: list[nn.Module] = []
    inner = channels
    while side > 16:
        layers += [nn.Conv2d(inner, narrow // 2 if side > 32 else narrow, 3, 2, 1), nn.ReLU()]
        inner, side = cast(nn.Conv2d, layers[-2]).out_channels, side // 2
    for outer, pools in ((narrow, False), (wide, True), (wide, False), (wide, True)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pools else []
        inner = outer
    # wherever the digit is: the largest answer of any place
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(wide, 10))


def learn(x: NDArray[np.float32], labels: NDArray[np.int64], epochs: int, seed: int) -> tuple[nn.Sequential, float]:
    """A trained network, and the seconds that it took."""
    import torch
    import torch.nn.functional as F

    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(x.shape[1], x.shape[2]).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        given, wanted = torch.from_numpy(x), torch.from_numpy(labels)
        steps = epochs * (len(x) // BATCH)
        optimizer = torch.optim.Adam(net.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(2, steps))
        net.train()
        for _ in range(epochs):
            for part in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
                loss = F.cross_entropy(net(given[part].contiguous(memory_format=torch.channels_last)), wanted[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net.eval(), time.perf_counter() - started


def right(net: nn.Sequential, x: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 for each input whose answer is true, else 0: (N,)."""
    import torch

    with torch.inference_mode():
        answers: list[Tensor] = [net(torch.from_numpy(part)).argmax(1) for part in np.array_split(x, len(x) // 100 + 1)]
    return (torch.cat(answers).numpy() == labels).astype(np.float64)


# ---- the first question


def compressed_learning(sizes: Sizes, tell: Callable[[str], None]) -> dict[str, Any]:
    """Accuracy and seconds of classifiers of latents, of pixels of equal number, and of all pixels."""
    train, labels = cluttered("train", sizes.train)
    test, truth = cluttered("test", sizes.test)
    makers = {"walloc's latents": latents, "smaller pictures": reduced, "whole pictures": whole}
    rows, hits = [], {}
    for name, make in makers.items():
        started = time.perf_counter()
        x, y = make(train), make(test)
        prepared = time.perf_counter() - started
        if make is latents:
            unit = x[:256].std((0, 2, 3), keepdims=True) + 1e-3
            x, y = x / unit, y / unit
        seeds = sizes.seeds if make is not whole else 1  # it takes several times as long, and isn't compared
        correct, seconds = [], []
        for seed in range(seeds):
            tell(f"{name}, seed {seed}")
            net, taken = learn(x, labels, sizes.epochs, seed)
            correct.append(right(net, y, truth))
            seconds.append(taken)
        hits[name] = np.mean(correct, 0)
        rows.append(
            {
                "input": name,
                "shape": list(x.shape[1:]),
                "numbers": int(np.prod(x.shape[1:])),
                "accuracy": _written(_mean(hits[name])),
                "seeds": seeds,
                "training_seconds": float(np.mean(seconds)),
                "preparing_ms": 1000 * prepared / (len(x) + len(y)),
                "parameters": sum(p.numel() for p in network(*x.shape[1:3]).parameters()),
            }
        )
    difference = _mean(hits["walloc's latents"] - hits["smaller pictures"])
    codec = Codec.load("walloc", quality=QUALITY)
    n_bytes = float(np.mean([len(codec.compress(picture)) for picture in test[:100]]))
    return {
        "data": f"digits over photographs, {SIDE} x {SIDE}: {sizes.train} to train, {sizes.test} to test",
        "epochs": sizes.epochs,
        "threads": 1,
        "rows": rows,
        "latents_less_pixels": _written(difference),
        "verdict": _verdict(difference),
        "walloc": {"quality": QUALITY, "bytes_of_a_file": n_bytes, "bpp": 8 * n_bytes / SIDE**2},
    }


# ---- the second


def trained_on(sizes: Sizes, codecs: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """The accuracy of a network trained on pictures as they are and out of each codec, tested on all of them."""
    train, labels = cluttered("train", sizes.train)
    test, truth = cluttered("test", sizes.test)
    sets = {"original": (train, test, 0.0)}
    for codec in codecs:
        tell(f"coding with {codec}")
        (coded, _), (shown, n_bytes) = _coded(codec, train), _coded(codec, test)
        sets[codec] = (coded, shown, 8 * n_bytes / SIDE**2)
    hits: dict[tuple[str, str], NDArray[np.float64]] = {}
    for name, (x, _, _) in sets.items():
        nets = []
        for seed in range(sizes.seeds):  # what a network learns depends on its start, too
            tell(f"training on {name}, seed {seed}")
            nets.append(learn(whole(x), labels, sizes.epochs, seed)[0])
        for other, (_, y, _) in sets.items():
            hits[name, other] = np.mean([right(net, whole(y), truth) for net in nets], 0)
    rows = []
    for codec in codecs:
        gain = _mean(hits[codec, codec] - hits[codec, "original"])
        closes = _mean(hits[codec, codec] - hits["original", codec])
        rows.append(
            {
                "codec": codec,
                "bpp": sets[codec][2],
                "lossy_training_gains_by_compression": _written(gain),
                "verdict": _verdict(gain),
                "training_on_it_helps": _written(closes),
                "verdict_of_that": _verdict(closes),
            }
        )
    table = {f"{a} -> {b}": _written(_mean(values)) for (a, b), values in hits.items()}
    data = f"digits over photographs, {SIDE} x {SIDE}: {sizes.train} to train, {sizes.test} to test"
    return {"data": data, "epochs": sizes.epochs, "seeds": sizes.seeds, "accuracy": table, "rows": rows}


def _coded(spec: str, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The pictures as they come out of a codec, and the mean size of their files."""
    [curve] = curves_of(spec, None)
    [point] = curve.points
    peer = curve.family.make(point.settings, 1)
    out, n_bytes = np.empty_like(pictures), 0
    for index, picture in enumerate(pictures):
        data = peer.encode(picture)
        n_bytes += len(data)
        out[index] = cast(Any, materialise(peer.decode(data)))
    return out, n_bytes / len(pictures)


def _mean(values: NDArray[np.float64]) -> Interval:
    """A mean with its interval, of samples drawn again."""
    return interval(Samples(len(values)).means(values))


def _written(known: Interval) -> list[float]:
    return [known.value, known.low, known.high]


def _verdict(known: Interval) -> str:
    return "confirmed" if known.low > 0 else "not confirmed" if known.high < 0 else "undecided"


# ---- both


def run(out: Path, sizes: Sizes | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Both questions, each into a file below `out`; one that is there already, of the same sizes, isn't asked again."""
    sizes = Sizes() if sizes is None else sizes
    done: dict[str, Any] = {}
    parts: dict[str, Callable[[Callable[[str], None]], dict[str, Any]]] = {
        LEARNING: lambda tell: compressed_learning(sizes, tell),
        TRAINED: lambda tell: trained_on(sizes, CODECS, tell),
    }
    for number, (name, ask) in enumerate(parts.items()):
        path = out / f"{name}.json"
        known = _kept(path)
        if known is None or known.get("sizes") != list(sizes):

            def tell(words: str, number: int = number) -> None:
                if progress is not None:
                    progress(number, len(parts), words)

            with threads(1):
                known = jsonable({"sizes": list(sizes), **ask(tell)})
            write_json(path, known)
        done[name] = known
    return done


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def text(report: Mapping[str, Any]) -> list[str]:
    """Both answers in lines."""
    learning, trained = report[LEARNING], report[TRAINED]
    lines = [f"compressed-domain learning: {learning['data']}"]
    for row in learning["rows"]:
        seconds = f"{row['training_seconds']:.0f} s to train"
        lines.append(f"  {row['input']:<17} {row['numbers']:>6} numbers, accuracy {_range(row['accuracy'])}, {seconds}")
    lines.append(f"  latents less pixels: {_range(learning['latents_less_pixels'])}: {learning['verdict']}")
    lines.append(f"finding 3: {trained['data']}")
    for row in trained["rows"]:
        name = row["codec"]
        lines.append(
            f"  trained on {name} ({row['bpp']:.3f} bpp): on it less on originals "
            f"{_range(row['lossy_training_gains_by_compression'])}: {row['verdict']}; on it, less a network trained on "
            f"originals, {_range(row['training_on_it_helps'])}: {row['verdict_of_that']}"
        )
    return lines


def _range(values: Sequence[Any]) -> str:
    value, low, high = (float(x) for x in values)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
