"""Speech recognition: the words of a sound.

The reference is Whisper medium (Radford et al., ICML 2023), as in "Machine Perceptual Quality"; next comes wav2vec 2.0
base (Baevski et al., NeurIPS 2020) of torchaudio, read greedily. Offline it is PocketSphinx with the English model of
its package, a weak one: its word error rate is far from zero for the original, so what counts is the difference from
that. Sounds without a transcript are judged by whether the words stay those of the original.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....datasets.places import find_data
from ....errors import UsageError
from ...bench.contract import Audio
from ...bench.items import Item, find_items
from ...metrics.support import versions_of
from ..contract import Counts, Predict, Sample, Score, Task, share
from ..editing import edit_distance
from ..models import hub_pipeline
from ..samples import digest_of

__all__ = ["Speech", "greedy_words", "mono", "transcript_of", "words_of"]

WHISPER, WAV2VEC, SPHINX = "openai/whisper-medium", "wav2vec2-asr-base-960h", "pocketsphinx"
FOLDERS = tuple(f"audio/test/speech-{name}" for name in ("ljspeech", "librivox", "misc", "librispeech"))
RATE = 16000  # samples a second that all three models hear
TRANSCRIPTS = "transcripts.tsv"
_WAV2VEC_FILE = "wav2vec2_fairseq_base_ls960_asr_ls960.pth"  # as torch.hub keeps it
_WINDOW = 30  # seconds that Whisper hears at once; longer sounds go in parts
_SHORTEST = RATE // 10  # wav2vec's convolutions need some sound to begin with
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_HINT = "pip install 'codec-suite[perception]'"

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The words of a text as they are compared: lower case, without punctuation; numbers as they are written."""
    return tuple(_WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")))


def mono(sound: Audio, rate: int) -> NDArray[np.float64]:
    """The mean of all channels at another sampling rate, (N,)."""
    from scipy.signal import resample_poly

    samples = sound.samples.astype(np.float64).mean(axis=0)
    if sound.rate == rate:
        return samples
    divisor = math.gcd(sound.rate, rate)
    return np.asarray(resample_poly(samples, rate // divisor, sound.rate // divisor), np.float64)


def transcript_of(path: Path) -> Words | None:
    """The words of a sound file: of NAME.txt beside it, or of its line in transcripts.tsv; None if neither knows them.

    A line is a file's name, with or without its suffix, a tab, and the words.
    """
    beside = path.with_suffix(".txt")
    if beside.is_file():
        return words_of(_text(beside)) or None
    return _table(path.parent).get(path.name) or _table(path.parent).get(path.stem)


@functools.lru_cache(maxsize=64)
def _table(folder: Path) -> Mapping[str, Words]:
    path = folder / TRANSCRIPTS
    if not path.is_file():
        return {}
    table: dict[str, Words] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        name, tab, text = line.partition("\t")
        if not tab and line.strip():
            raise UsageError(f"{path}, line {number}: no tab in it; expected a file's name, a tab, and its words")
        if words := words_of(text):
            table[name] = words
    return table


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't be read as a text in UTF-8 ({error})") from None


def greedy_words(numbers: Sequence[int], labels: Sequence[str]) -> Words:
    """The words of a CTC model's likeliest symbols, frame by frame. labels: the first is the blank, "|" is a space."""
    kept = [n for n, before in zip(numbers, [None, *numbers], strict=False) if n != before and n != 0]
    return words_of("".join(labels[n] for n in kept).replace("|", " "))


class Speech(Task):
    """The words of speech."""

    name, medium = "speech", "audio"
    models: ClassVar[tuple[str, ...]] = (WHISPER, WAV2VEC, SPHINX)
    about = "words of read English"
    data = "test speech of LJSpeech, LibriVox, LibriSpeech; or a folder of sounds with NAME.txt or transcripts.tsv"

    scores = (
        Score("words", "1 less the word error rate", share("errors", "words", rest=True), 0.0),
        Score(
            "agreement",
            "1 less the word error rate to the original's",
            share("asked_errors", "asked_words", rest=True),
            0.0,
        ),
    )

    def samples(self, data: Path | None) -> Iterator[Sample]:
        folders = [find_data(name, "test speech") for name in FOLDERS] if data is None else [data]
        known: list[tuple[str, Item, Words | None]] = []
        for folder in folders:
            for item in find_items(folder, "audio").items:
                name = f"{folder.name}/{item.name}" if data is None else item.name
                known.append((name, item, transcript_of(item.path)))
        for name, item, words in sorted(known, key=lambda case: case[2] is None):  # those with a transcript come first
            value = item.load()
            yield Sample(name, value, digest_of(value), words)

    def load(self, model: str) -> Predict:
        if model == SPHINX:
            return _sphinx()
        if model == WAV2VEC:
            return _wav2vec()
        if model == WHISPER or Path(model).is_dir():
            return _of_hub(hub_pipeline("automatic-speech-recognition", model))
        raise UsageError(f"no model {model!r}: {', '.join(self.models)}, or a folder with a model of transformers")

    def compare(self, answer: Any, original: Any, label: Any) -> Counts:
        counts = {"asked_words": float(len(original)), "asked_errors": _errors(answer, original)}
        if label is not None:
            counts |= {"words": float(len(label)), "errors": _errors(answer, label)}
        return counts

    def versions(self) -> Mapping[str, str]:
        return versions_of("numpy", "scipy", "pocketsphinx", "torch", "torchaudio", "transformers")()


def _errors(answer: Words, truth: Words) -> float:
    """Words that are wrong, left out or put in: no more than there are, so that a sound counts by its length."""
    return float(min(edit_distance(answer, truth), len(truth)))


def _of_hub(ask: Callable[..., Any]) -> Predict:
    def predict(sound: Audio) -> Words:
        samples = mono(sound, RATE).astype(np.float32)
        parts = {"chunk_length_s": _WINDOW} if len(samples) > _WINDOW * RATE else {}
        return words_of(ask({"raw": samples, "sampling_rate": RATE}, **parts)["text"])

    return predict


def _wav2vec() -> Predict:
    """The base model of torchaudio, of the file that torch.hub keeps. UsageError without it: nothing is fetched."""
    try:
        import torch
        from torchaudio.pipelines import WAV2VEC2_ASR_BASE_960H as bundle
    except (ImportError, OSError) as error:  # OSError: torchaudio of another build than torch
        raise UsageError(f"{WAV2VEC} needs torchaudio ({type(error).__name__}): {_HINT}") from None
    path = Path(torch.hub.get_dir()) / "checkpoints" / _WAV2VEC_FILE
    if not path.is_file():
        raise UsageError(f"{WAV2VEC} needs {_WAV2VEC_FILE} in torch.hub's cache: fetch it once, by torchaudio")
    try:
        net = bundle.get_model()
    except Exception as error:  # whatever torch says of a damaged file
        raise UsageError(f"{path}: can't be read ({type(error).__name__}): remove it and fetch it again") from None
    labels = bundle.get_labels()

    def predict(sound: Audio) -> Words:
        samples = mono(sound, RATE).astype(np.float32)
        samples = np.pad(samples, (0, max(0, _SHORTEST - len(samples))))
        with torch.inference_mode():
            emission, _ = net(torch.from_numpy(samples)[None])
        return greedy_words(emission[0].argmax(-1).tolist(), labels)

    return predict


def _sphinx() -> Predict:
    """PocketSphinx, each sound on its own: "batch" normalises by the sound itself, not by those before it."""
    try:
        from pocketsphinx import Decoder
    except ImportError:
        raise UsageError(f"{SPHINX} isn't installed: {_HINT}") from None
    decoder = Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")

    def predict(sound: Audio) -> Words:
        pcm = np.rint(np.clip(mono(sound, RATE), -1, 1) * 32767).astype("<i2").tobytes()
        decoder.start_utt()
        decoder.process_raw(pcm, no_search=False, full_utt=True)
        decoder.end_utt()
        best = decoder.hyp()
        return () if best is None else words_of(best.hypstr)

    return predict
