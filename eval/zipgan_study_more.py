"""The parts `bound`, `time`, `score` and `speed` of `codec.eval.zipgan_study`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..codecs.base import Codec
from ..codecs.fields import Bound, FieldCodec
from ..errors import MediaError
from .metrics.turbulence import Flow, project
from .peers.arrays import error_bound
from .zipgan_study_coders import CODERS, OURS, Coded, Coder, code, code_all, peer, there

if TYPE_CHECKING:
    from .zipgan_study import Snapshots

__all__ = ["bound", "score", "scores", "speed", "time"]

Array = NDArray[np.float32]
Score = Callable[[Array], float]
Keep = Callable[[], None]


def _relative(truth: Array, found: Array) -> float:
    return math.sqrt(float(np.square(truth - found).mean() / np.square(truth).mean()))


def _gradient(truth: Flow, found: Array) -> float:
    """Relative L2 error of the gradient tensor alone."""
    wrong = np.square(truth.gradients - Flow(found).gradients).mean(-1).mean(dtype=np.float64)
    return math.sqrt(9 * float(wrong) / truth.square_gradient)


# ---- bound

BOUNDS = (1e-1, 3e-2, 1e-2, 1e-3)


def bounded(name: str, rel: float, weights: Mapping[str, Path]) -> Any:
    """What keeps an error bound: encode and decode, of the peers, `interp` and ours."""
    if name in ("sz3", "sperr", "zfp"):
        return peer(name, rel, rel)
    file = weights.get(name)
    plain = name if file is None else name.partition("@")[0]
    codec = cast(FieldCodec, Codec.load(plain, weights=file)).with_bound(Bound(rel))
    return Coder(name, lambda x, _: codec.compress(x), codec.decompress, rel, rel)


def bound(
    fields: Sequence[Array],
    names: Sequence[str] | None,
    weights: Mapping[str, Path],
    found: dict[str, Any],
    keep: Keep,
    say: Callable[[str], None],
) -> None:
    """Rows of bytes and violations: values farther off than the bound allows, compared in float64."""
    wanted = names or ("sz3", "sperr", "interp", *(name for name in OURS if name in weights or there(name)))
    rows = found.setdefault("rows", [])
    found["fields"] = len(fields)
    for name in wanted:
        for rel in BOUNDS:
            coder = bounded(name, rel, weights)
            n_bytes, beyond, bad = 0, 0, 0
            for field in fields:
                data = coder.encode(field, rel)
                off = np.abs(coder.decode(data).astype(np.float64) - field.astype(np.float64))
                violations = int((off > error_bound(field, rel)).sum())
                n_bytes, beyond, bad = n_bytes + len(data), beyond + violations, bad + (violations > 0)
            row = {"coder": name, "bound": rel, "bytes": n_bytes, "ratio": sum(f.nbytes for f in fields) / n_bytes}
            row |= {"values_beyond": beyond, "fields_beyond": bad, "fields": len(fields)}
            rows[:] = [one for one in rows if (one["coder"], one["bound"]) != (name, rel)] + [row]
            keep()
            say(f"{name} at {rel:g}: ratio {row['ratio']:.1f}, {beyond} values beyond")


def bound_markdown(found: Mapping[str, Any]) -> str:
    size = {(row["coder"], row["bound"]): row["bytes"] for row in found["rows"]}
    lines = ["| coder | bound | ratio | bytes / SZ3 | bytes / SPERR | values beyond | fields |", "|---|" + "---|" * 6]
    for row in sorted(found["rows"], key=lambda row: -row["bound"]):
        against = [size.get((name, row["bound"]), math.nan) for name in ("sz3", "sperr")]
        words = [f"{row['bytes'] / one:.2f}" for one in against]
        lines.append(
            f"| {row['coder']} | {row['bound']:g} | {row['ratio']:.1f} | {words[0]} | {words[1]} "
            f"| {row['values_beyond']} | {row['fields']} |"
        )
    return "\n".join(lines)


# ---- time

GAPS = (2, 4, 8, 12, 16, 20, 24)  # snapshots between the two that are stored


def time(data: Snapshots, coders: Sequence[Coder], ratios: Sequence[float], found: dict[str, Any], keep: Keep) -> None:
    """The middle of two stored snapshots: of the stored fields (none coded, or decoded) by linear interpolation, and
    of ours by interpolated latents. Errors are means over all pairs of that distance."""
    found["about"] = {**data.about, "spacing": data.spacing, "turnover": data.turnover}
    gaps = [gap for gap in GAPS if gap < len(data.fields)]
    if not gaps:
        raise MediaError(f"{len(data.fields)} snapshots; expected three or more, closely spaced")
    rows = found.setdefault("rows", [])
    kinds: dict[str, Callable[[int, int], Array]] = {}

    def linear(fields: Sequence[Array]) -> Callable[[int, int], Array]:
        return lambda a, b: (fields[a] + fields[b]) / 2

    kinds["originals, linear"] = linear(data.fields)
    floors: dict[str, float] = {}
    for coder in coders:
        if coder.counted or coder.name in ("zfp", "interp", "sperr-mse", "sz3"):
            continue  # one anchor is enough: at these distances the interpolation is what errs
        for ratio in ratios:
            coded = code_all(coder, data.fields, ratio)
            label = f"{coder.name} at {ratio:g}"
            kinds[f"{label}, linear"] = linear([one.field for one in coded])
            floors[label] = float(
                np.mean([_relative(field, one.field) for field, one in zip(data.fields, coded, strict=True)])
            )
            if coder.between is not None:
                kinds[f"{label}, latents"] = _between(coder, data.fields, [one.setting for one in coded])
    found["stored"] = floors
    for kind, middle in kinds.items():
        for gap in gaps:
            pairs = [(at, at + gap) for at in range(0, len(data.fields) - gap, max(1, gap // 2))]
            made = [(data.fields[(a + b) // 2], middle(a, b)) for a, b in pairs]
            row = {
                "kind": kind,
                "spacing": gap * data.spacing,
                "turnovers": gap * data.spacing / data.turnover,
                "velocity": float(np.mean([_relative(*pair) for pair in made])),
                "gradient": float(np.mean([_gradient(Flow(truth), one) for truth, one in made])),
                "pairs": len(pairs),
            }
            rows[:] = [one for one in rows if (one["kind"], one["spacing"]) != (kind, row["spacing"])] + [row]
        keep()


def _between(coder: Coder, fields: Sequence[Array], settings: Sequence[float]) -> Callable[[int, int], Array]:
    def middle(a: int, b: int) -> Array:
        assert coder.between is not None
        first, second = (coder.encode(fields[at], settings[at]) for at in (a, b))
        return coder.between(first, second, 0.5)

    return middle


def time_markdown(found: Mapping[str, Any]) -> str:
    lines = [
        "| stored, and how the middle is made | spacing / turnover time | rel. L2 | gradient |",
        "|---|---|---|---|",
    ]
    for row in found["rows"]:
        lines.append(f"| {row['kind']} | {row['turnovers']:.2f} | {row['velocity']:.4f} | {row['gradient']:.3f} |")
    return "\n".join(lines)


# ---- score


def scores(weights: Mapping[str, Path]) -> dict[str, Score]:
    """What judges a field without the original; larger is more like a real flow. The discriminator, where it is there,
    and what a user has without it: how far the skewness of the derivatives is from that of real flows, and how much
    the field diverges."""
    found: dict[str, Score] = {
        "skewness": lambda field: -abs(Flow(field).skewness + 0.48),
        "divergence": lambda field: -Flow(field).divergence,
    }
    for name in (name for name in OURS if name in weights or there(name)):
        from ..codecs import zipgan

        file = weights.get(name)
        codec: Any = Codec.load(name if file is None else "zipgan", weights=file)
        found[f"discriminator of {name}"] = lambda field, codec=codec: zipgan.score(field, codec)
    return found


def spoilt(field: Array) -> list[tuple[str, float, Array]]:
    """(kind, strength, field): blurred by a Gaussian, and with noise that diverges, or that doesn't."""
    n = field.shape[1]
    whole, half = scipy.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    k2 = half**2 + whole[:, None] ** 2 + whole[:, None, None] ** 2
    u_hat: Any = scipy.fft.rfftn(field, axes=(1, 2, 3))
    rms = math.sqrt(float(np.square(field).mean()))
    noise = np.random.default_rng(0).normal(0, rms, field.shape).astype(np.float32)
    solenoidal = project(noise, cut=True)
    found = []
    for width in (0.05, 0.08, 0.12, 0.18, 0.27, 0.4):
        blurred: Any = scipy.fft.irfftn(u_hat * np.exp(-k2 * width**2 / 2), s=(n, n, n), axes=(1, 2, 3))
        found.append(("blur", width, blurred.astype(np.float32)))
    for part in (0.003, 0.01, 0.02, 0.05, 0.1, 0.2):
        found.append(("noise", part, field + part * noise))
        found.append(("noise, solenoidal", part, field + part * solenoidal))
    return found


def score(
    fields: Sequence[Array],
    coders: Sequence[Coder],
    ratios: Sequence[float],
    judges: Mapping[str, Score],
    checkpoints: Sequence[Path],
    found: dict[str, Any],
) -> None:
    """Points (kind, strength, gradient error, scores), and Spearman's rank correlation of each score with the error:
    within each kind, and over all of them. -1 is a perfect judge. Kinds: a coder over the ratios, as decoded and
    projected; blur; noise; weights files of zipgan, each at its default quality. Real fields are among each kind, as
    its first point. `alone`: correlations within a field, their mean over the fields: which of several versions of one
    field is the best?"""
    points = []
    for index, field in enumerate(fields):
        truth = Flow(field)
        cases: list[tuple[str, float, Array]] = [("real", 0, field), *spoilt(field)]
        for number, path in enumerate(checkpoints):
            codec = Codec.load("zipgan", weights=path)
            cases.append(("checkpoints", number, codec.decompress(codec.compress(field))))
        for coder in coders:
            if coder.counted or coder.name in ("interp", "sperr-mse"):
                continue
            for ratio in ratios:
                one: Coded = code(coder, field, ratio)
                if not one.reached:
                    continue
                cases.append((coder.name, ratio, one.field))
                if not coder.name.startswith("zipgan"):  # which projects by itself
                    cases.append((f"{coder.name} + projection", ratio, project(one.field, cut=True)))
        for kind, strength, case in cases:
            values = {name: float(judge(case)) for name, judge in judges.items()}
            points.append(
                {"field": index, "kind": kind, "strength": strength, "gradient": _gradient(truth, case), **values}
            )
    kinds = list(dict.fromkeys(point["kind"] for point in points if point["kind"] != "real"))
    table: dict[str, dict[str, float]] = {}
    alone: dict[str, dict[str, float]] = {}
    for name in judges:
        some = {kind: [p for p in points if p["kind"] in (kind, "real")] for kind in kinds}
        some["all"] = points
        table[name] = {kind: _ranked(own, name) for kind, own in some.items()}
        alone[name] = {
            kind: float(np.mean([_ranked([p for p in own if p["field"] == i], name) for i in range(len(fields))]))
            for kind, own in some.items()
        }
    found |= {
        "fields": len(fields),
        "checkpoints": [path.stem for path in checkpoints],
        "correlations": table,
        "alone": alone,
        "points": points,
    }


def _ranked(points: Sequence[Mapping[str, Any]], name: str) -> float:
    from scipy.stats import spearmanr

    return float(cast(Any, spearmanr([p["gradient"] for p in points], [p[name] for p in points])).statistic)


def score_markdown(found: Mapping[str, Any]) -> str:
    names = list(found["correlations"])
    kinds = list(found["correlations"][names[0]])
    lines = ["| fields | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for kind in kinds:
        cells = (f"{found['correlations'][name][kind]:+.2f}, {found['alone'][name][kind]:+.2f}" for name in names)
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# ---- speed

RUNS = 3


def speed(
    fields: Sequence[Array],
    coders: Sequence[Coder],
    ratios: Sequence[float],
    weights: Mapping[str, Path],
    found: dict[str, Any],
    keep: Keep,
) -> None:
    """MB per second of one processor in both directions, medians of RUNS on one field, one thread: other work on the
    machine hardly counts. And how many snapshots it takes until the bytes of the weights are saved, against SPERR with
    the projection at the same error of the gradients: none can, if ours isn't smaller."""
    rows, field = found.setdefault("rows", []), fields[0]
    for coder in coders:
        if coder.counted or coder.name == "sperr-mse":
            continue
        for ratio in ratios:
            one = code(coder, field, ratio)
            data = coder.encode(field, one.setting)
            encode = _seconds(lambda coder=coder, one=one: coder.encode(field, one.setting))
            decode = _seconds(lambda coder=coder, data=data: coder.decode(data))
            key = {"coder": coder.name, "target": ratio}
            row = {**key, "encode_mb_s": field.nbytes / 1e6 / encode, "decode_mb_s": field.nbytes / 1e6 / decode}
            row |= {"ratio": field.nbytes / len(data)}
            rows[:] = [one for one in rows if any(one[name] != value for name, value in key.items())] + [row]
            keep()
    found["weights"] = pays = []
    for coder in (one for one in coders if one.name.startswith("zipgan")):
        size = _weights_bytes(coder.name, weights)
        for ratio in ratios:
            pays.append(
                {"coder": coder.name, "target": ratio, "weights_bytes": size, **_pays(coder, fields, ratio, size)}
            )
            keep()


def _seconds(action: Callable[[], Any]) -> float:
    taken = []
    for _ in range(RUNS):
        start = process_time()
        action()
        taken.append(process_time() - start)
    return statistics.median(taken)


def _weights_bytes(name: str, weights: Mapping[str, Path]) -> int:
    from ..codecs.weights import find

    if name in weights:
        return weights[name].stat().st_size
    codec, _, tag = name.partition("@")
    return Path(find(codec, tag or None).path).stat().st_size


def _pays(coder: Coder, fields: Sequence[Array], ratio: float, weights_bytes: int) -> dict[str, Any]:
    """snapshots: infinite if nothing is saved."""
    sperr, ours, theirs = CODERS["sperr-mse"](), 0, 0
    for field in fields:
        truth, mine = Flow(field), code(coder, field, ratio)
        error = _gradient(truth, mine.field)
        low, high = 0.0, 1.0
        for _ in range(14):
            middle = (low + high) / 2
            data = sperr.encode(field, sperr.setting(middle))
            worse = _gradient(truth, project(sperr.decode(data), cut=True)) > error
            low, high = (low, middle) if worse else (middle, high)
        ours += mine.n_bytes
        theirs += len(sperr.encode(field, sperr.setting(low)))
    saved = (theirs - ours) / len(fields)
    return {
        "bytes": ours / len(fields),
        "sperr_bytes_at_equal_gradient": theirs / len(fields),
        "snapshots": math.ceil(weights_bytes / saved) if saved > 0 else math.inf,
    }


def speed_markdown(found: Mapping[str, Any]) -> str:
    lines = ["| coder | ratio | encode MB/s | decode MB/s |", "|---|---|---|---|"]
    for row in found["rows"]:
        lines.append(f"| {row['coder']} | {row['ratio']:.0f} | {row['encode_mb_s']:.1f} | {row['decode_mb_s']:.1f} |")
    if found["weights"]:
        lines += ["", "| coder | ratio | bytes | SPERR + projection, same gradient error | weights | pay after |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in found["weights"]:
            sizes = f"{row['bytes']:.0f} | {row['sperr_bytes_at_equal_gradient']:.0f} | {row['weights_bytes']}"
            lines.append(f"| {row['coder']} | {row['target']:g} | {sizes} | {row['snapshots']} snapshots |")
    return "\n".join(lines)
