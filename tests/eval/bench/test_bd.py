"""BD-rates of curves whose answer is known, and of published ones whose answer others have computed."""

from __future__ import annotations

import math

import pytest

from codec.errors import UsageError
from codec.eval.bench.bd import bd_delta
from codec.eval.reproduce.published import names, series

CURVE = [(0.1 * 1.5**i, 27.0 + 1.3 * i - 0.04 * i * i) for i in range(9)]


def points(name: str) -> list[tuple[float, float]]:
    return [(one["bpp"], one["psnr-rgb"]) for one in series(name).points]


@pytest.mark.parametrize("percent", [-10.0, -50.0, 25.0])
def test_a_curve_with_a_tenth_fewer_bits_is_minus_ten_per_cent(percent: float) -> None:
    test = [(rate * (1 + percent / 100), psnr) for rate, psnr in CURVE]
    delta = bd_delta(CURVE, test)
    assert delta.rate == pytest.approx(percent, abs=1e-4)
    assert delta.window == (CURVE[0][1], CURVE[-1][1])
    assert bd_delta(CURVE, test, window=(29.0, 33.0)).rate == pytest.approx(percent, abs=1e-4)
    assert bd_delta(CURVE, test, window=(29.0, 33.0)).window == (29.0, 33.0)


def test_half_a_decibel_more_is_half_a_decibel() -> None:
    delta = bd_delta(CURVE, [(rate, psnr + 0.5) for rate, psnr in CURVE])
    assert delta.metric == pytest.approx(0.5, abs=0.01)
    assert delta.rate is not None and delta.rate < -5


def test_a_curve_against_itself_is_zero() -> None:
    delta = bd_delta(CURVE, list(reversed(CURVE)))
    assert (delta.rate, delta.metric) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("mbt2018-mean-mse", 22.0),
        ("bmshj2018-hyperprior-mse", 31.2),
        ("cheng2020-anchor-mse", 4.5),
        ("elic-2022-mse", -6.4),
        ("hpcm-large-mse", -19.4),
        ("jpeg", 233.0),
    ],
)
def test_published_series_give_the_published_deltas(name: str, percent: float) -> None:
    """The table of the project's note on peers, over the whole overlap with VTM 18, computed there independently."""
    delta = bd_delta(points("vtm-18.0"), points(name))
    assert delta.rate == pytest.approx(percent, abs=0.06 if abs(percent) < 100 else 0.6)


def test_without_overlap_there_is_a_reason_and_no_number() -> None:
    delta = bd_delta(CURVE, [(rate, psnr + 10) for rate, psnr in CURVE])
    assert (delta.rate, delta.metric, delta.window) == (None, None, None)
    assert delta.reason is not None and delta.reason.startswith("too little in common: nothing")
    barely = bd_delta(CURVE, [(rate, psnr + 6.5) for rate, psnr in CURVE])
    assert barely.rate is None and barely.reason is not None and "too little in common: 33.50 to 34.84" in barely.reason
    outside = bd_delta(CURVE, CURVE, window=(40, 45))
    assert outside.rate is None and outside.reason is not None and "in 40 to 45" in outside.reason


def test_a_point_is_no_curve() -> None:
    assert bd_delta(CURVE, CURVE[:1]).reason == "the codec has 1 point; at least 4 make a curve"
    assert bd_delta(CURVE[:3], CURVE).reason == "the anchor has 3 points; at least 4 make a curve"
    lossless = bd_delta(CURVE, [(2.0, math.inf), (2.1, math.inf), (0.0, 20.0), *CURVE[:2]])
    assert lossless.reason is not None and "has 2 points (3 more not finite" in lossless.reason


def test_a_useless_point_is_left_out() -> None:
    """Dearer and worse than another: an interpolant through it would have two rates for one quality."""
    assert bd_delta(CURVE, [*CURVE, (5.0, 28.0)]).rate == pytest.approx(0, abs=1e-9)


def test_no_common_rate_means_no_metric() -> None:
    delta = bd_delta(CURVE, [(rate * 100, psnr) for rate, psnr in CURVE])
    assert delta.rate == pytest.approx(9900, rel=1e-6)
    assert delta.metric is None


def test_a_window_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(UsageError, match="the lower end first"):
        bd_delta(CURVE, CURVE, window=(37, 29))


def test_every_series_has_a_source_and_rising_rates() -> None:
    for name in names():
        one = series(name)
        assert one.source and one.points
        assert all(point["bpp"] > 0 and len(point) > 1 for point in one.points)
    with pytest.raises(UsageError, match="near are.*vtm-18.0"):
        series("vtm-18")
