"""Speech recognition: words, transcripts, and PocketSphinx on real speech."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from codec.datasets.places import find_data
from codec.errors import UsageError
from codec.eval.bench.contract import Audio
from codec.eval.perception.contract import Predict, Sample
from codec.eval.perception.tasks import speech
from codec.eval.perception.tasks.speech import Speech, greedy_words, mono, transcript_of, words_of

SHORT = ("speech-ljspeech/LJ001-0004.flac", "speech-ljspeech/LJ001-0008.flac")  # of seconds, recognised in as many


@pytest.fixture(scope="module")
def samples() -> dict[str, Sample]:
    return {sample.name: sample for sample in Speech().samples(None)}


@pytest.fixture(scope="module")
def predict() -> Predict:
    return Speech().load("pocketsphinx")


@pytest.fixture(scope="module")
def originals(samples: dict[str, Sample], predict: Predict) -> dict[str, tuple[str, ...]]:
    return {name: predict(samples[name].value) for name in SHORT}


def sound_of(sample: Sample) -> Audio:
    assert isinstance(sample.value, Audio)
    return sample.value


def noise(sound: Audio, much: float, base: float = 1.0) -> Audio:
    """A sound and white noise that is `much` as strong."""
    white = np.random.default_rng(0).standard_normal(sound.samples.shape) * much * sound.samples.std()
    return Audio((base * sound.samples + white).astype(np.float32), sound.rate)


def added(*parts: dict[str, float]) -> dict[str, float]:
    return {name: sum(part.get(name, 0.0) for part in parts) for name in parts[0]}


def scores(counts: dict[str, float]) -> dict[str, float]:
    return {score.name: float(score.value(counts)) for score in Speech.scores}


class TestWords:
    def test_words(self) -> None:
        text = "The Block-books, \u201cdon\u2019t\u201d in 1455: M\u00fcller's 'end'_"
        assert words_of(text) == ("the", "block", "books", "don't", "in", "1455", "müller's", "end")
        assert words_of(" ?\n") == ()

    def test_greedy(self) -> None:
        labels = ("-", "|", "A", "T", "'")
        assert greedy_words([0, 2, 2, 0, 3, 3, 0, 3, 1, 1, 0, 2, 0, 2], labels) == ("att", "aa")
        assert greedy_words([0, 0], labels) == ()

    def test_errors_are_capped_at_the_words(self) -> None:
        counts = Speech().compare(("a", "b", "c", "d"), ("a", "x"), ("b",))
        assert counts == {"asked_words": 2.0, "asked_errors": 2.0, "words": 1.0, "errors": 1.0}

    def test_no_label_no_words(self) -> None:
        counts = dict(Speech().compare(("a", "b"), ("a", "c"), None))
        assert counts == {"asked_words": 2.0, "asked_errors": 1.0}
        values = scores(counts)
        assert np.isnan(values["words"])
        assert values["agreement"] == 0.5


class TestSamples:
    def test_those_with_a_transcript_come_first(self, samples: dict[str, Sample]) -> None:
        known = [sample.label is not None for sample in samples.values()]
        assert (len(known), sum(known)) == (32, 8)
        assert known == sorted(known, reverse=True)
        assert samples[SHORT[1]].label == ("has", "never", "been", "surpassed")
        assert samples["speech-ljspeech/LJ001-0012.flac"].label is None  # its line is a question mark
        assert samples["speech-misc/jfk.flac"].label[:4] == ("and", "so", "my", "fellow")
        assert sum(len(sample.label or ()) for sample in samples.values()) == 111

    def test_a_folder(self, tmp_path: Path, samples: dict[str, Sample]) -> None:
        source = find_data("audio/test/speech-ljspeech") / "LJ001-0008.flac"
        for name in ("a.flac", "b.flac", "c.flac", "d.flac"):
            shutil.copy(source, tmp_path / name)
        (tmp_path / "c.txt").write_text("Has never\nbeen surpassed.\n")
        (tmp_path / "transcripts.tsv").write_text("b\tby its stem\nc\tnot read\nd.flac\tby its name\n")
        given = {sample.name: sample.label for sample in Speech().samples(tmp_path)}
        assert list(given) == ["b.flac", "c.flac", "d.flac", "a.flac"]
        assert given["c.flac"] == samples[SHORT[1]].label
        assert (given["b.flac"], given["d.flac"], given["a.flac"]) == (
            ("by", "its", "stem"),
            ("by", "its", "name"),
            None,
        )

    @pytest.mark.parametrize(("content", "words"), [(b"a by a blank\n", "line 1: no tab"), (b"a\t\xff\n", "UTF-8")])
    def test_broken_tables(self, tmp_path: Path, content: bytes, words: str) -> None:
        (tmp_path / "transcripts.tsv").write_bytes(content)
        with pytest.raises(UsageError, match=words):
            transcript_of(tmp_path / "a.flac")

    def test_mono(self) -> None:
        tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
        heard = mono(Audio(np.stack([tone, np.zeros_like(tone)]), 22050), 16000)
        assert heard.shape == (16000,)
        truth = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
        assert np.abs(heard - truth)[200:-200].max() < 1e-3


class TestPocketSphinx:
    def test_the_original(self, samples: dict[str, Sample], originals: dict[str, tuple[str, ...]]) -> None:
        total = added(*(dict(Speech().compare(originals[n], originals[n], samples[n].label)) for n in SHORT))
        assert (total["words"], total["errors"]) == (18, pytest.approx(3, abs=1))  # 30 of 111 over all eight
        assert scores(total)["agreement"] == 1.0

    def test_noise_alone_has_no_words(
        self, samples: dict[str, Sample], predict: Predict, originals: dict[str, tuple[str, ...]]
    ) -> None:
        sample = samples[SHORT[1]]
        heard = predict(noise(sound_of(sample), 1, 0))
        values = scores(dict(Speech().compare(heard, originals[SHORT[1]], sample.label)))
        assert 0 <= values["words"] < 0.1
        assert 0 <= values["agreement"] < 0.1

    def test_noise_on_top_costs(
        self, samples: dict[str, Sample], predict: Predict, originals: dict[str, tuple[str, ...]]
    ) -> None:
        sample, original = samples[SHORT[1]], originals[SHORT[1]]
        heard = [predict(noise(sound_of(sample), much)) for much in (0.003, 1.0)]
        values = [scores(dict(Speech().compare(words, original, sample.label))) for words in heard]
        assert values[0]["agreement"] >= 0.75
        assert values[1]["agreement"] <= 0.5
        assert values[0]["words"] > values[1]["words"]

    def test_counts_add_up(self, samples: dict[str, Sample], originals: dict[str, tuple[str, ...]]) -> None:
        parts = [dict(Speech().compare(originals[n], originals[n], samples[n].label)) for n in SHORT]
        pair = added(*parts)
        assert pair["words"] == 18
        share = sum(part["words"] * scores(part)["words"] for part in parts) / 18
        assert scores(pair)["words"] == pytest.approx(share)

    def test_an_answer_does_not_depend_on_the_sounds_before(
        self, samples: dict[str, Sample], predict: Predict, originals: dict[str, tuple[str, ...]]
    ) -> None:
        sound = sound_of(samples[SHORT[1]])
        predict(noise(sound, 30, 0))  # clipped: live normalisation would remember it
        assert predict(sound) == originals[SHORT[1]]

    @pytest.mark.parametrize(("n", "most"), [(1, 0), (100, 0), (16000, 1)])  # it hears a name in a second of silence
    def test_silence_and_short_sounds(self, n: int, most: int, predict: Predict) -> None:
        assert len(predict(Audio(np.zeros((1, n), np.float32), 16000))) <= most


class TestOtherModels:
    def test_wav2vec_is_never_fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        def refuse(*args: object, **kwargs: object) -> None:
            raise AssertionError("something was fetched")

        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
        with pytest.raises(UsageError, match="cache"):
            Speech().load(speech.WAV2VEC)

    def test_a_pipeline_gets_what_it_takes(self, monkeypatch: pytest.MonkeyPatch, samples: dict[str, Sample]) -> None:
        asked = []

        def ask(sound: dict[str, object], **options: object) -> dict[str, str]:
            asked.append((sound["sampling_rate"], np.asarray(sound["raw"]), options))
            return {"text": " Has never been surpassed."}

        monkeypatch.setattr(speech, "hub_pipeline", lambda kind, model: ask)
        predict = Speech().load(speech.WHISPER)
        assert predict(samples[SHORT[1]].value) == samples[SHORT[1]].label
        predict(Audio(np.zeros((2, 31 * 8000), np.float32), 8000))
        rate, raw, options = asked[0]
        assert (rate, raw.ndim, raw.dtype, options) == (16000, 1, np.dtype(np.float32), {})
        assert asked[1][1].shape == (31 * 16000,)
        assert asked[1][2] == {"chunk_length_s": 30}

    def test_no_other_model(self) -> None:
        with pytest.raises(UsageError, match=r"no model 'siri': .*pocketsphinx"):
            Speech().load("siri")
