"""Intervals, scores at equal rates, rates that keep a score, correlations; delays of sound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codec.errors import StreamError
from codec.eval.bench.contract import Audio
from codec.eval.perception.align import aligned, delay_of
from codec.eval.perception.contract import ACCURACY
from codec.eval.perception.stats import Curve, Samples, bd_rate, correlation, interval, rate_that_keeps


def counts(right: np.ndarray) -> dict[str, np.ndarray]:
    return {"correct": right.astype(float), "labelled": np.ones(len(right))}


def test_intervals_of_a_share_are_those_of_the_binomial() -> None:
    draw = np.random.default_rng(3)
    right = draw.random(1000) < 0.8
    share = interval(Samples(1000).scores(ACCURACY, counts(right)))
    error = 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 1000)
    assert share.value == right.mean()
    assert share.high - share.low == pytest.approx(2 * error, rel=0.12)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(4)
    inside = 0
    for seed in range(200):
        right = draw.random(300) < 0.7
        known = interval(Samples(300, 300, seed).scores(ACCURACY, counts(right)))
        inside += known.low <= 0.7 <= known.high
    assert 0.90 <= inside / 200 <= 0.99


def test_pairs_stay_pairs() -> None:
    """Two codecs that fail on the same samples but for eight differ by less than their own intervals."""
    draw = np.random.default_rng(5)
    first = draw.random(500) < 0.6
    second = first.copy()
    second[np.flatnonzero(~first)[:8]] = True
    samples = Samples(500)
    a, b = (samples.scores(ACCURACY, counts(right)) for right in (first, second))
    difference = interval(b - a)
    assert difference.low > 0 and difference.high < 0.04
    assert interval(a).high > interval(b).low


def _curve(rates: list[float], scores: list[float]) -> Curve:
    return Curve.of([np.array([r, r]) for r in rates], [np.array([s, s]) for s in scores])


def test_scores_between_settings_and_none_beyond_them() -> None:
    curve = _curve([0.4, 0.1], [0.9, 0.5])
    assert curve.at(0.2)[0] == pytest.approx(0.7)
    assert curve.at(0.1)[0] == pytest.approx(0.5) and curve.at(0.4)[0] == pytest.approx(0.9)
    assert math.isnan(curve.at(0.05)[0]) and math.isnan(curve.at(0.5)[0])


def test_the_rate_that_keeps_a_score() -> None:
    wanted = np.array([0.8, 0.8])
    assert rate_that_keeps(_curve([0.1, 0.4], [0.6, 1.0]), wanted)[0] == pytest.approx(0.2)
    assert rate_that_keeps(_curve([0.1, 0.2, 0.4], [0.9, 0.6, 1.0]), wanted)[0] == pytest.approx(0.2 * math.sqrt(2))
    assert rate_that_keeps(_curve([0.1, 0.4], [0.9, 1.0]), wanted)[0] == 0.1
    assert rate_that_keeps(_curve([0.1, 0.4], [0.1, 0.2]), wanted)[0] == math.inf


def test_bd_rate_of_a_codec_that_takes_half() -> None:
    scores = [0.2, 0.5, 0.7, 0.8, 0.85]
    anchor, half = (_curve([f * r for r in (0.1, 0.2, 0.4, 0.8, 1.6)], scores) for f in (1.0, 0.5))
    change, reason = bd_rate(anchor, half)
    assert reason is None and change.value == pytest.approx(-50, abs=0.1)
    assert bd_rate(anchor, _curve([1.0], [0.5]))[1] is not None


def test_correlations_of_what_is_known() -> None:
    x = np.repeat(np.array([[1.0], [2.0], [3.0], [4.0]]), 3, 1)
    assert correlation(x, np.exp(x), True).value == pytest.approx(1)
    assert correlation(x, -x, False).value == pytest.approx(-1)
    assert 0.8 < correlation(x, np.exp(x), False).value < 0.96
    assert math.isnan(correlation(x[:2], x[:2], False).value)


@pytest.mark.parametrize("late", [0, 1, 1106, -312])
def test_delays_are_measured_and_taken_off(late: int) -> None:
    draw = np.random.default_rng(6)
    sound = draw.normal(0, 0.1, (2, 16000)).astype(np.float32)
    moved = np.roll(np.pad(sound, ((0, 0), (2000, 2000))), late, 1)[:, 2000:-1500]
    decoded = moved + draw.normal(0, 0.02, moved.shape).astype(np.float32)
    assert delay_of(sound, decoded, 4000) == late
    straight, delay = aligned(Audio(sound, 16000), Audio(decoded, 16000))
    assert delay == late and straight.samples.shape == sound.shape
    inner = slice(400, -400)
    assert np.abs(straight.samples[:, inner] - sound[:, inner]).std() < 0.03


def test_silence_has_no_delay_and_other_rates_are_refused() -> None:
    silence = Audio(np.zeros((1, 100), np.float32), 8000)
    assert aligned(silence, silence)[1] == 0
    with pytest.raises(StreamError, match="expected 1 at 8000"):
        aligned(silence, Audio(silence.samples, 16000))
    with pytest.raises(StreamError, match="2 channels"):
        aligned(silence, Audio(np.zeros((2, 100), np.float32), 8000))
