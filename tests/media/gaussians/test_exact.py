"""Exponentials and logarithms are right, and the same bits as when this was written; orders are bijective."""

from __future__ import annotations

import decimal
import hashlib

import numpy as np
import pytest

from codec.media.gaussians.exact import LOGITS, exp, log, ordered, sigmoid, unordered

POINTS = np.concatenate([np.linspace(-700, 700, 997), np.linspace(-1, 1, 311), [0.0, 1e-300, -1e-17, 88.7]])


def test_exp_and_log_are_right() -> None:
    decimal.getcontext().prec = 40
    for x in POINTS[::7]:
        right = decimal.Decimal(float(x)).exp()
        assert abs(decimal.Decimal(float(exp(np.array([x]))[0])) / right - 1) < decimal.Decimal("6e-16")
    for x in np.exp(POINTS[::7]):
        right = decimal.Decimal(float(x)).ln()
        error = abs(decimal.Decimal(float(log(np.array([x]))[0])) - right)
        assert error <= decimal.Decimal("6e-16") * max(abs(right), decimal.Decimal("1e-16"))


def test_the_bits_are_these() -> None:
    """Another machine that gives other bits would decode to other Gaussians."""
    data = exp(POINTS).tobytes() + log(np.abs(POINTS) + 1e-9).tobytes() + LOGITS.tobytes()
    assert hashlib.sha256(data).hexdigest() == "fb29da78e7c98a6d3f86806c4581f208761463591d7e721c69d233bfcab555f3"


def test_ends() -> None:
    assert np.isnan(exp(np.array([np.nan])))[0]
    assert exp(np.array([-np.inf, np.inf])).tolist() == exp(np.array([-708.0, 708.0])).tolist()
    assert log(np.array([np.inf]))[0] == np.inf
    assert np.isnan(log(np.array([0.0, -1.0, np.nan]))).all()
    assert sigmoid(np.array([-np.inf, 0.0, np.inf])).round(12).tolist() == [0.0, 0.5, 1.0]
    assert log(np.array([1.0, 5e-324])).tolist() == [0.0, pytest.approx(-744.4400719213812)]


def test_logits_of_bytes() -> None:
    assert np.array_equal(np.rint(sigmoid(LOGITS) * 255), np.arange(256)), "each comes back as itself"
    assert np.isfinite(LOGITS).all() and (np.diff(LOGITS) > 0).all()


def test_orders() -> None:
    halves = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
    values = ordered(halves)
    assert len(set(values.tolist())) == 1 << 16
    assert np.array_equal(unordered(values, np.int16), halves)
    floats = np.array([-np.inf, -2.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, np.inf], np.float32)
    places = ordered(floats.view(np.int32))
    assert (np.diff(places) > 0).all() and places[3] == -1 and places[4] == 0
    bits = np.random.default_rng(0).integers(-(1 << 31), 1 << 31, 9999).astype(np.int32)
    assert np.array_equal(unordered(ordered(bits), np.int32), bits)
