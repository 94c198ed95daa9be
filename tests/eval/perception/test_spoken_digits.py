"""Spoken digits: the classifier on recordings that it hasn't seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from codec.datasets.places import find_data
from codec.errors import UsageError
from codec.eval.bench.contract import Audio
from codec.eval.bench.items import find_items
from codec.eval.perception.contract import Predict, Sample
from codec.eval.perception.samples import digest_of
from codec.eval.perception.tasks.spoken_digits import TRAIN, SpokenDigits, features


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(SpokenDigits().samples(None))


@pytest.fixture(scope="module")
def predict() -> Predict:
    return SpokenDigits().load("digits-logmel")


def sound_of(sample: Sample) -> Audio:
    assert isinstance(sample.value, Audio)
    return sample.value


def scores(samples: list[Sample], answers: list[int], originals: list[int]) -> dict[str, float]:
    task, total = SpokenDigits(), {}
    for sample, answer, original in zip(samples, answers, originals, strict=True):
        for name, n in task.compare(answer, original, sample.label).items():
            total[name] = total.get(name, 0.0) + n
    return {**total, **{score.name: float(score.value(total)) for score in task.scores}}


def test_six_of_each_digit(samples: list[Sample]) -> None:
    assert [sample.label for sample in samples] == [digit for digit in range(10) for _ in range(6)]
    assert {sound_of(sample).rate for sample in samples} == {8000}
    assert samples[0].name == "0_george_0.flac"


def test_none_was_trained_on(samples: list[Sample]) -> None:
    known = {digest_of(item.load()) for item in find_items(find_data(TRAIN), "audio").items}
    assert len(known) == 300
    assert not known & {sample.digest for sample in samples}


def test_the_original(samples: list[Sample], predict: Predict) -> None:
    answers = [predict(sample.value) for sample in samples]
    values = scores(samples, answers, [predict(sample.value) for sample in samples])
    assert values["accuracy"] >= 57 / 60  # 58 of 60 when it was written
    assert values["agreement"] == 1.0


def test_noise_scores_by_chance(samples: list[Sample], predict: Predict) -> None:
    rng, originals, answers = np.random.default_rng(0), [], []
    for sample in samples:
        sound = sound_of(sample)
        noise = (0.1 * rng.standard_normal(sound.samples.shape)).astype(np.float32)
        originals.append(predict(sound))
        answers.append(predict(Audio(noise, sound.rate)))
    values = scores(samples, answers, originals)
    assert values["accuracy"] <= 0.25  # 15 of 60: one in 2000 would be that lucky
    assert values["agreement"] <= 0.25


def test_noise_on_top_costs(samples: list[Sample], predict: Predict) -> None:
    rng, curve = np.random.default_rng(0), []
    for much in (0.03, 0.3, 3.0):
        right = 0
        for sample in samples:
            sound = sound_of(sample)
            noise = rng.standard_normal(sound.samples.shape) * much * sound.samples.std()
            right += predict(Audio((sound.samples + noise).astype(np.float32), sound.rate)) == sample.label
        curve.append(right / 60)
    assert curve[0] > 0.85
    assert curve[0] > curve[1] > curve[2]


def test_counts_add_up(samples: list[Sample], predict: Predict) -> None:
    pair = [samples[0], samples[6]]
    values = scores(pair, [0, 0], [predict(sample.value) for sample in pair])
    assert (values["labelled"], values["correct"], values["accuracy"]) == (2.0, 1.0, 0.5)


def test_loudness_rate_and_channels_do_not_matter(samples: list[Sample]) -> None:
    from scipy.signal import resample_poly

    sound = sound_of(samples[10])
    base = features(sound)
    louder = Audio(sound.samples * np.float32(1.7), sound.rate)
    stereo = Audio(np.repeat(sound.samples, 2, axis=0), sound.rate)
    faster = Audio(np.asarray(resample_poly(sound.samples, 2, 1, axis=1), np.float32), 16000)
    assert base.shape == (321,)
    assert np.abs(features(louder) - base).max() < 1e-3
    assert np.abs(features(stereo) - base).max() < 1e-3
    assert np.abs(features(faster) - base)[:-1].mean() < 1.0  # dB


@pytest.mark.parametrize("n", [1, 199, 4000])
def test_silence_and_short_sounds_have_an_answer(n: int, predict: Predict) -> None:
    assert predict(Audio(np.zeros((1, n), np.float32), 8000)) in range(10)


def test_the_version_names_what_was_learnt() -> None:
    versions = SpokenDigits().versions()
    assert versions["digits"].startswith("digits-logmel ")
    assert versions == SpokenDigits().versions()


def test_a_folder(tmp_path: Path, samples: list[Sample]) -> None:
    first = find_items(find_data("audio/test/speech-digits-8k"), "audio").items[-1].path
    shutil.copy(first, tmp_path / "9_me.flac")
    (sample,) = SpokenDigits().samples(tmp_path)
    assert (sample.name, sample.label, sample.digest) == ("9_me.flac", 9, samples[-1].digest)
    shutil.copy(first, tmp_path / "nine.flac")
    with pytest.raises(UsageError, match="begin with the digit"):
        list(SpokenDigits().samples(tmp_path))


def test_no_other_model() -> None:
    with pytest.raises(UsageError, match="expected digits-logmel"):
        SpokenDigits().load("whisper")
