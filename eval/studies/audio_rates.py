"""Sound at 12 to 128 kbit/s: walloc-audio beside Opus, MP3 and AAC in one run, by kind of sound.

    python -P -m codec.eval.studies.audio_rates --out eval/results/walloc-audio
    python -P -m codec.eval.studies.audio_rates --data FOLDER --codecs opus,mp3 --out results      # sounds of yours

The first ten seconds of every clip of 16 kHz or more are coded, as they are: at their rate, with their channels. A clip
is speech, music or environment by where it lies (KINDS). The rates are those of whole files, all bits of a kind by all
its seconds. A codec's bit rate is a wish, so its curve is read off at the rates of AT: interpolated over the logarithm
of the rate, never beyond its ends.

Encoding times of walloc-audio at a wished bit rate include the search for it. Speeds are therefore measured apart, at
its default quality, and are given against Opus at complexity 10 in the same run: on the music as it is, and at 48 kHz,
since at 44.1 kHz half of what Opus takes to encode here is its resampling, and two thirds of what it takes to decode.

In --out: a folder for each kind with rows.csv (a row for each clip and point: a run that was stopped goes on from
there), and one for speed; rates.json, rates.md, rates.svg. --page also replaces the table of docs/results.md. --listen
also writes four seconds of a clip of music and of one of speech, the original, Opus and ours at the rates of LISTEN, as
FLAC. ViSQOL takes nearly all of the time: pip install 'visqol-python[accel]' makes it ten times as fast.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.places import find_data
from ...errors import CodecError, UsageError
from ...media import AUDIO_READS
from ...media.audio.reader import open_audio, read_audio
from ...media.audio.values import Audio, from_float
from ...media.audio.writer import write_audio
from .. import peers
from ..bench.contract import Audio as Sound
from ..bench.contract import Family
from ..bench.crops import at_rate, flac_part, loudest
from ..bench.rows import PointMean, Table
from ..bench.run import anchors_of, curves_of, rate_distortion
from ..output import write_file, write_json
from ..report.plots import curve_style, figure_defaults, new_figure, render, series, style_axes
from ..report.readme import between

__all__ = [
    "clips_of",
    "figure",
    "interpolated",
    "kind_of",
    "listening",
    "main",
    "markdown",
    "measured",
    "page_table",
    "prepare",
]

DATA = "audio/test"
OURS, ANCHOR = "walloc-audio", "opus"
CODECS = ("opus", "mp3", "aac", OURS, f"{OURS}@packets")
# Patterns of a clip's path in the folder of data, the first that fits. The test clips hold no recordings of nature or
# streets: what stands for environment are the ambiences among the samples of Sonic Pi, three sounds.
KINDS = (
    ("*ambi_*", "environment"),
    ("environment*", "environment"),
    ("speech*", "speech"),
    ("music*", "music"),
)
RATES: Mapping[str, Sequence[int]] = {  # kbit/s that codecs are asked for; most of the speech is mono at 16 kHz
    "speech": (12, 16, 24, 36, 56),
    "music": (16, 32, 64, 96, 128),
    "environment": (16, 32, 64, 96, 128),
}
AT = (24, 32, 48, 64, 96)  # kbit/s at which curves are read off
METRICS = ("si-sdr", "visqol", "snr", "stft-distance", "mel-distance")
SPEECH_METRICS = ("pesq", "stoi")
MIN_RATE, SECONDS = 16_000, 10.0
LISTEN: Mapping[str, tuple[str, float]] = {  # by kind: a clip, or the first one where that isn't there, and kbit/s
    "music": ("music-librosa/sugar_plum_fairy_008s.wav", 64),
    "speech": ("speech-ljspeech/LJ001-0004.wav", 24),
}
LISTEN_SECONDS = 4.0
_SPEED_KBPS, _MARK = 64, "walloc-audio"

Say = Callable[[str], None]


# ---- clips


def kind_of(name: str) -> str | None:
    """The kind of a clip by its path in the folder; None for one that isn't measured."""
    return next((kind for pattern, kind in KINDS if fnmatchcase(name, pattern)), None)


def clips_of(data: Path) -> dict[str, list[Path]]:
    """The files of sound in a folder by kind, sorted, as paths in it; without those of no kind."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in AUDIO_READS and path.is_file())
    clips: dict[str, list[Path]] = {kind: [] for kind in RATES}
    for path in files:
        name = path.relative_to(data)
        if kind := kind_of(name.as_posix()):
            clips[kind].append(name)
    return clips


def prepare(data: Path, folder: Path, seconds: float = SECONDS, say: Say = lambda words: None) -> dict[str, int]:
    """Writes the beginnings of all clips into a folder for each kind, as WAV of the same samples; returns how many
    there are of each. A file has the same bytes every time, and so the same rows. UsageError if there is none."""
    counts = {}
    for kind, names in clips_of(data).items():
        for name in names:
            try:
                with open_audio(data / name) as reader:
                    info = reader.info
                    if info.rate < MIN_RATE:
                        continue
                    part = reader.read(0, round(seconds * info.rate))
            except CodecError as error:
                say(str(error))
                continue
            target = (folder / kind / name).with_suffix(".wav")
            target.parent.mkdir(parents=True, exist_ok=True)
            write_audio(Audio(part.samples, replace(part.info, tags={}, cover=None)), target)
            counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        raise UsageError(
            f"{data}: no sound of {MIN_RATE} Hz or more in folders called {', '.join(RATES)}; see KINDS of this study"
        )
    return counts


# ---- measuring


def _families() -> dict[str, Family]:
    """All codecs; those of ours that can be asked for a bit rate have their curve along it."""
    every = dict(peers.families())
    for name, family in every.items():
        if peers.is_ours(family) and "kbps" in family.options:
            every[name] = replace(family, axis="kbps", sweep=())
    return every


def codec_string(codecs: Sequence[str], kind: str) -> str:
    """The codecs at the rates of a kind, as `codec bench` takes them."""
    rates = "+".join(map(str, RATES[kind]))
    return ",".join(f"{name}:kbps={rates}" for name in codecs)


def measured(
    folder: Path,
    kind: str,
    codecs: Sequence[str],
    out: Path | None,
    metrics: Sequence[str] = METRICS,
    say: Say = lambda words: None,
    families: Mapping[str, Family] | None = None,
) -> Table:
    """The codecs on the clips of a kind; rows are kept in `out`, and gone on with. families: in place of all."""
    return rate_distortion(
        folder,
        codec_string(codecs, kind),
        metrics=[*metrics, *(SPEECH_METRICS if kind == "speech" else ())],
        out=out,
        medium="audio",
        repeat=1,
        n_threads=1,
        progress=lambda done, total, last: say(f"{kind} {done}/{total} {last}"),
        families=_families() if families is None else families,
    )


def speeds(folder: Path, codecs: Sequence[str], out: Path | None, say: Say = lambda words: None) -> Table:
    """The codecs at one setting each: those that take a bit rate at 64 kbit/s, ours at its default quality."""
    every = peers.families()
    ours = {name for name in codecs if peers.is_ours(every[name.partition("@")[0]])}
    return rate_distortion(
        folder,
        ",".join(f"{name}:q=0" if name in ours else f"{name}:kbps={_SPEED_KBPS}" for name in codecs),
        metrics=["snr"],
        out=out,
        medium="audio",
        n_threads=1,
        progress=lambda done, total, last: say(f"speed {done}/{total} {last}"),
    )


# ---- what the rows say


def interpolated(points: Sequence[PointMean], metric: str, kbps: float) -> float | None:
    """A metric of a curve at a rate, by PCHIP over the logarithm of the rate; None where the curve doesn't reach."""
    usable = [point for point in points if point.complete and point.metrics[metric] is not None]
    pairs = sorted({point.rate: point.metrics[metric] for point in usable}.items())
    if len(pairs) < 2 or not pairs[0][0] <= kbps <= pairs[-1][0]:
        return None
    from scipy.interpolate import PchipInterpolator

    rates, values = np.array(pairs, np.float64).T
    return float(PchipInterpolator(np.log(rates), values)(math.log(kbps)))


def read_off(table: Table) -> dict[str, dict[str, dict[str, float | None]]]:
    """By codec, kbit/s (as text) and metric: what the curves have at the rates of AT."""
    return {
        curve.label: {
            str(kbps): {metric.name: interpolated(points, metric.name, kbps) for metric in table.metrics} for kbps in AT
        }
        for curve in table.curves
        for points in [table.points(curve)]
    }


def at_48_khz(folder: Path, target: Path) -> Path:
    """Writes the sounds of a folder at Opus's rate into another one, 16 bits; returns it."""
    for path in sorted(folder.rglob("*.wav")):
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        sound = read_audio(path, 48_000)
        write_audio(Audio.from_array(from_float(sound.to_float(), 16), 48_000), place)
    return target


def speed_ratios(table: Table) -> dict[str, dict[str, float | None]]:
    """By codec: seconds of sound that one second codes, and how many times those of Opus that is."""
    points = {curve.label: table.points(curve) for curve in table.curves}
    base = points.get(ANCHOR) or ()
    out: dict[str, dict[str, float | None]] = {}
    for label, own in points.items():
        for point in own:
            about: dict[str, float | None] = {"kbps": point.rate}
            for side in ("encode", "decode"):
                own_speed = getattr(point, f"{side}_realtime")
                about[f"{side}_realtime"] = own_speed
                about[f"{side}_against_{ANCHOR}"] = own_speed / getattr(base[0], f"{side}_realtime") if base else None
            out[label] = about
    return out


def results(tables: Mapping[str, Table], speed: Mapping[str, Table], command: str) -> dict[str, Any]:
    """Everything as one JSON-able object: for each kind the summary of `codec bench`, and the curves read off at AT;
    speeds by what they were measured on."""
    kinds = {}
    for kind, table in tables.items():
        anchors = anchors_of(table.curves, [ANCHOR]) if ANCHOR in [curve.label for curve in table.curves] else []
        seconds = {row.item: row.duration or 0.0 for row in table.rows}
        about = {"clips": len(table.items), "seconds": sum(seconds.values()), "at": read_off(table)}
        kinds[kind] = {**about, "summary": table.summary(anchors)}
    return {"command": command, "kinds": kinds, "speed": {where: speed_ratios(table) for where, table in speed.items()}}


# ---- what is written


def page_table(about: Mapping[str, Any]) -> str:
    """The tables of docs/results.md, from what rates.json holds: a line for each codec and kind."""
    lines = [f"| SI-SDR in dB, ViSQOL | {' | '.join(f'{kbps} kbit/s' for kbps in AT)} |", "|---|" + "---|" * len(AT)]
    for kind, own in about["kinds"].items():
        for codec, at in own["at"].items():
            cells = [f"{_cell(at[str(k)], 'si-sdr', 1)}, {_cell(at[str(k)], 'visqol', 2)}" for k in AT]
            lines.append(f"| {kind}, {_name(codec)} | {' | '.join('-' if c == '-, -' else c for c in cells)} |")
    if speed := about["speed"]:
        heads = [f"{side}, {where}" for where in speed for side in ("encode", "decode")]
        lines += ["", f"| speed, times Opus (complexity 10) | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
        for codec in next(iter(speed.values())):
            own = [speed[where].get(codec, {}) for where in speed]
            cells = [_times(at.get(f"{side}_against_{ANCHOR}")) for at in own for side in ("encode", "decode")]
            lines.append(f"| {_name(codec)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown(about: Mapping[str, Any]) -> str:
    """The page rates.md: the tables of docs/results.md, and every point of every curve."""
    kinds = about["kinds"]
    clips = ", ".join(f"{own['clips']} of {kind} ({own['seconds']:.0f} s)" for kind, own in kinds.items())
    lines = [
        "# Sound by kind and rate",
        "",
        f"Clips: {clips}.",
        "Rates of whole files; curves read off between points.",
    ]
    lines += ["", page_table(about)]
    for kind, own in kinds.items():
        summary = own["summary"]
        names = list(summary["metrics"])
        lines += ["", f"## {kind.capitalize()}", "", f"| codec | asked for | kbit/s | {' | '.join(names)} |"]
        lines += ["|---|---|---|" + "---|" * len(names)]
        for curve in summary["curves"]:
            for point in curve["points"]:
                partial = "" if point["complete"] else f" ({point['items']} clips)"
                values = [_cell(point, name, 3) for name in names]
                setting = point["setting"]
                lines.append(
                    f"| {_name(curve['codec'])}{partial} | {setting:g} | {point['kbps']:.1f} | {' | '.join(values)} |"
                )
        bits = [delta for delta in summary["bd"] if delta["metric"] in ("si-sdr", "visqol")]
        lines += ["", f"Bits against {ANCHOR} at equal quality:", ""] if bits else []
        for delta in bits:
            words = delta["reason"] if delta["bd_rate"] is None else f"{delta['bd_rate']:+.1f} %"
            words = f"- {_name(delta['codec'])}, {delta['metric']}: {words}"
            lines.append(textwrap.fill(words, 119, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join([*lines, "", "```sh", about["command"], "```", ""])


def _name(codec: str) -> str:
    return f"**`{codec}`**" if codec.partition(":")[0] == OURS else f"`{codec}`"


def _cell(values: Mapping[str, Any], name: str, places: int) -> str:
    value = values.get(name)
    return "-" if value is None else f"{value:.{places}f}" if isinstance(value, float) else str(value)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g} x"


def figure(kinds: Mapping[str, Mapping[str, Any]], names: Sequence[str] = ("si-sdr", "visqol")) -> bytes:
    """The curves of each kind (a column) by each metric (a row), as SVG."""
    drawn = [name for name in names if all(name in own["summary"]["metrics"] for own in kinds.values())]
    with figure_defaults():
        canvas = new_figure(4.2 * len(kinds) + 1.4, 3.2 * len(drawn) + 0.4)
        panels = np.atleast_2d(canvas.subplots(len(drawn), len(kinds), squeeze=False))
        handles: dict[str, Any] = {}
        for column, (kind, own) in enumerate(kinds.items()):
            for row, name in enumerate(drawn):
                axes = panels[row, column]
                for curve in series(own["summary"]):
                    points = [p for p in curve.points if p.complete and math.isfinite(p.values.get(name, math.nan))]
                    places = [p.rate for p in points], [p.values[name] for p in points]
                    (handle,) = axes.plot(*places, **curve_style(curve))
                    handles.setdefault(curve.label, handle)
                style_axes(axes, "kbit/s, whole files" if row == len(drawn) - 1 else "", True, False)
                if row == 0:
                    axes.set_title(f"{kind}, {own['clips']} clips", loc="left", fontsize=10.5)
                if column == 0:
                    unit = own["summary"]["metrics"][name]["unit"]
                    axes.set_ylabel(f"{name}, {unit}" if unit else name)
        canvas.legend(list(handles.values()), list(handles), loc="outside right upper", frameon=False, fontsize=9.5)
        return render(canvas, "svg")


def listening(table: Table, kind: str) -> dict[str, bytes]:
    """FLAC files by name: a part of a clip, the original and what Opus and ours make of it at the rate of its kind. A
    codec that doesn't come near the rate is left out. Only while the clips are there."""
    name, kbps = LISTEN[kind]
    item = next((item for item in table.sources if item.name == name), table.sources[0])
    sound = item.load()
    assert isinstance(sound, Sound)
    span = loudest(sound, LISTEN_SECONDS)
    files = {f"listen-{kind}-original.flac": flac_part(sound, *span)}
    for curve in table.curves:
        if curve.label not in (ANCHOR, OURS):  # nor ours with another model
            continue
        if (nearest := at_rate(table, curve, item, sound, kbps)) is not None:
            _, rate, _, decoded = nearest
            files[f"listen-{kind}-{curve.family.name}-{rate:.0f}kbps.flac"] = flac_part(decoded, *span)
    return files


def write_listening(tables: Mapping[str, Table], out: Path) -> None:
    """Writes the files of `listening`, in place of those of an earlier run."""
    files = {name: data for kind, table in tables.items() for name, data in listening(table, kind).items()}
    for old in out.glob("listen-*.flac"):
        old.unlink()
    for name, data in files.items():
        write_file(out / name, data)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes everything into --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of sounds (default: the test clips)")
    parser.add_argument("--out", type=Path, required=True, help="a folder of its own")
    parser.add_argument("--codecs", default=",".join(CODECS), help="names, each at the rates of the kind")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), help="PESQ and STOI come with speech")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each clip, from its beginning")
    parser.add_argument("--listen", action="store_true", help="also writes parts of two clips to listen to")
    parser.add_argument("--page", type=Path, help="a page with marks, whose table is replaced")
    options = parser.parse_args(argv)

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    data = options.data or find_data(DATA, "sounds to measure on")
    codecs = options.codecs.split(",")
    curves_of(codec_string(codecs, "speech"), _families())  # a wrong name is said at once
    out: Path = options.out
    with tempfile.TemporaryDirectory() as folder:
        counts = prepare(data, Path(folder), options.seconds, say)
        tables = {
            kind: measured(Path(folder) / kind, kind, codecs, out / kind, options.metrics, say) for kind in counts
        }
        fastest = max(counts, key=lambda kind: (kind == "music", counts[kind]))
        music, resampled = Path(folder) / fastest, at_48_khz(Path(folder) / fastest, Path(folder) / "speed" / fastest)
        speed = {
            f"{fastest} as it is": speeds(music, codecs, out / "speed", say),
            f"{fastest} at 48 kHz": speeds(resampled, codecs, out / "speed-48khz", say),
        }
        if options.listen:
            write_listening({kind: table for kind, table in tables.items() if kind in LISTEN}, out)
    for table in (*tables.values(), *speed.values()):
        for failure in table.failed:
            say(f"{failure.item} {failure.spec}: {failure.reason}")
    command = f"python -P -m codec.eval.studies.audio_rates --data {data.name} --out OUT"
    command += "" if tuple(codecs) == CODECS else f" --codecs {','.join(codecs)}"
    command += "" if tuple(options.metrics) == METRICS else f" --metrics {' '.join(options.metrics)}"
    command += "" if options.seconds == SECONDS else f" --seconds {options.seconds:g}"
    write_json(out / "rates.json", results(tables, speed, command))
    about = json.loads((out / "rates.json").read_text(encoding="utf-8"))  # so that a page can be made of it later
    write_file(out / "rates.svg", figure(about["kinds"]))
    page = markdown(about)
    write_file(out / "rates.md", page)
    if options.page is not None:
        write_file(options.page, between(options.page.read_text(encoding="utf-8"), page_table(about), _MARK))
    sys.stdout.write(page)
    return 1 if any(table.failed for table in (*tables.values(), *speed.values())) else 0


if __name__ == "__main__":
    sys.exit(main())
