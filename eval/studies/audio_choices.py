"""The worth of each choice of walloc-audio's encoder: choices taken back one at a time, on the test clips.

    python -P -m codec.eval.studies.audio_choices --out eval/results/walloc-audio/choices.json
    python -P -m codec.eval.studies.audio_choices --data FOLDER --clips 3 --out choices.json

Clips are those of `audio_rates`, the first --clips of each kind. Each way codes each clip at the steps of BASES,
without a file around: the rates are those of payloads, and leave out some 20 bytes a second. A clip's curve is read off
at the rate of its kind (AT), in SI-SDR and ViSQOL, and the differences to the way that ships are averaged over the
clips that both reach. "bits" is how many more bits a way needs for the SI-SDR that what ships has at that rate.

Packets are compared with themselves: the bytes of whole files whose latents are mixed, against WebP pictures of them,
at QUALITIES. This needs Pillow with WebP.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.base.weights import load_weights
from ...codecs.walloc.audio.bands import frame_size
from ...codecs.walloc.audio.blocks import FULL_SCALE
from ...codecs.walloc.audio.codec import WallocAudioCodec
from ...codecs.walloc.audio.lapped import Format, Tuning
from ...codecs.walloc.audio.pieces import PieceCoder, PieceJoiner, PieceSplitter
from ...codecs.walloc.audio.weights import LappedModel, read_model
from ...datasets.places import find_data
from ...entropy.mixing import sound
from ...entropy.mixing.mixer import Mixer
from ...media.audio.reader import read_audio
from ...media.audio.values import Audio
from ..bench.contract import Audio as Sound
from ..metrics.audio import si_sdr, visqol
from ..output import write_json
from .audio_rates import DATA, prepare

__all__ = ["WAYS", "coded", "main", "packets_ratio", "read_off"]

AT: Mapping[str, float] = {"speech": 20.0, "music": 48.0, "environment": 48.0}  # kbit/s
BASES = (290, 260, 230, 200, 170)
QUALITIES = (30.0, 50.0, 70.0)
SHIPS = "as it ships"
WAYS: Mapping[str, Mapping[str, Any]] = {  # by name: fields of Tuning
    SHIPS: {},
    "one block of 2048 (1024 below 26 kHz) a frame": {"shapes": 1},
    "the same step in all bands": {"contrast": 0.0},
    "steps as loud as their band": {"contrast": 1.0},
    "no noise in holes": {"fill": 0.0},
    "rounded to the nearest": {"threshold": 0.5},
    "left and right": {"turned": False},
}
UNTAUGHT = "a mixer that has heard nothing"

Curve = list[tuple[float, float, float]]  # kbit/s, SI-SDR, ViSQOL


def coded(audio: Audio, coder: PieceCoder) -> tuple[int, Sound]:
    """The bytes of all payloads of a sound, and what they decode to."""
    x = np.ascontiguousarray(audio.to_float().T.astype(np.float64)) * FULL_SCALE
    splitter, joiner = PieceSplitter(coder.form), PieceJoiner(coder.form)
    n_bytes, parts = 0, []
    for number, piece in enumerate([*splitter.push(x), *splitter.finish()]):
        payload = coder.encode(*piece)
        n_bytes += len(payload)
        parts.append(joiner.push(coder.decode(payload, number)))
    y = np.concatenate([*parts, joiner.finish()], 1)[:, : x.shape[1]] / FULL_SCALE
    return n_bytes, Sound(np.ascontiguousarray(y.clip(-1, 1), np.float32), audio.info.rate)


def curve(audio: Audio, start: Mixer, changes: Mapping[str, Any], bases: Sequence[int] = BASES) -> Curve:
    """The curve of a way on a sound: a point for each base of the steps."""
    info = audio.info
    form = Format(info.rate, info.channels, frame_size(info.rate))
    original = Sound(np.ascontiguousarray(audio.to_float().T, np.float32), info.rate)
    points = []
    for base in bases:
        coder = PieceCoder(form, base, start, replace(Tuning.of_base(base), **changes))
        n_bytes, decoded = coded(audio, coder)
        kbps = n_bytes * 8e-3 * info.rate / original.samples.shape[1]
        points.append((kbps, si_sdr(original, decoded), visqol(original, decoded)))
    return sorted(points)


def read_off(points: Curve, ships: Curve, kbps: float) -> dict[str, float | None]:
    """A curve against that of what ships: SI-SDR in dB and ViSQOL at a rate, and the bits at equal SI-SDR; None where
    one of them doesn't reach."""
    out: dict[str, float | None] = {}
    for name, column in (("si-sdr", 1), ("visqol", 2)):
        own, other = (_at(kbps, [p[0] for p in c], [p[column] for p in c]) for c in (points, ships))
        out[name] = None if own is None or other is None else own - other
    ratio = _at(kbps, [p[0] for p in ships], [p[1] for p in ships])
    rates = sorted((p[1], p[0]) for p in points)
    own = None if ratio is None else _at_linear(ratio, [r[0] for r in rates], [math.log(r[1]) for r in rates])
    out["bits"] = None if own is None else math.exp(own) / kbps - 1
    return out


def _at(kbps: float, rates: Sequence[float], values: Sequence[float]) -> float | None:
    return _at_linear(math.log(kbps), [math.log(rate) for rate in rates], values)


def _at_linear(x: float, xs: Sequence[float], ys: Sequence[float]) -> float | None:
    return float(np.interp(x, xs, ys)) if xs[0] <= x <= xs[-1] else None


def packets_ratio(audio: Audio, quality: float) -> float:
    """The bytes of a file of mixed latents over those of the file of WebP pictures of the same latents."""
    codec = WallocAudioCodec.from_weights("packets", quality, None, "cpu")
    mixed, pictures = (len(codec.with_settings(coder=coder).compress(audio)) for coder in ("mix", "webp"))
    return mixed / pictures


def _mean(values: Sequence[float | None]) -> float | None:
    reached = [value for value in values if value is not None]
    return float(np.mean(reached)) if reached else None


def _lines(about: Mapping[str, Any]) -> Iterator[str]:
    for kind, own in about["kinds"].items():
        yield f"{kind}, {own['clips']} clips at {own['kbps']:g} kbit/s"
        for way, numbers in own["ways"].items():
            cells = ", ".join(f"{name} {value:+.3f}" for name, value in numbers.items() if value is not None)
            yield f"  {way}: {cells or 'not reached'}"
        yield f"  packets, mixed over WebP: {', '.join(f'{ratio:.3f}' for ratio in own['packets'].values())}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, and writes --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of sounds (default: the test clips)")
    parser.add_argument("--clips", type=int, default=4, help="of each kind")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    options = parser.parse_args(argv)
    data = options.data or find_data(DATA, "sounds to measure on")
    model = read_model(load_weights(WallocAudioCodec.name, "lapped", None))
    assert isinstance(model, LappedModel)
    untaught = Mixer.new(sound.plan(), 0.25)
    kinds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in prepare(data, Path(folder)):
            clips = [read_audio(path) for path in sorted((Path(folder) / kind).rglob("*.wav"))[: options.clips]]
            ways: dict[str, list[dict[str, float | None]]] = {}
            for number, audio in enumerate(clips, 1):
                ships = curve(audio, model.start, {})
                for way, changes in [*WAYS.items(), (UNTAUGHT, {})]:
                    start = untaught if way == UNTAUGHT else model.start
                    own = ships if way == SHIPS else curve(audio, start, changes)
                    ways.setdefault(way, []).append(read_off(own, ships, AT[kind]))
                sys.stderr.write(f"{kind} {number}/{len(clips)}\n")
            means = {way: {name: _mean([v[name] for v in own]) for name in own[0]} for way, own in ways.items()}
            ratios = {f"{q:g}": float(np.mean([packets_ratio(audio, q) for audio in clips])) for q in QUALITIES}
            kinds[kind] = {"clips": len(clips), "kbps": AT[kind], "ways": means, "packets": ratios}
    command = f"python -P -m codec.eval.studies.audio_choices --data {data.name} --clips {options.clips} --out FILE"
    about = {"command": command, "weights": model.id.hex(), "kinds": kinds}
    write_json(options.out, about)
    sys.stdout.write("\n".join([*_lines(about), ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
