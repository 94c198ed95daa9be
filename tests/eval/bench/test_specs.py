"""Codec strings: what they mean, and what a person is told who writes a wrong one."""

from __future__ import annotations

import pytest

from codec.errors import UsageError
from codec.eval.bench.contract import Family, Option
from codec.eval.bench.specs import MAX_POINTS, parse

JPEG = Family(
    "jpeg",
    "image",
    "",
    {
        "q": Option(75, "", 1, 100),
        "chroma": Option("420", "", choices=("444", "420")),
        "trellis": Option("off", "", choices=("on", "off")),
        "effort": Option(4, "", 0, 9),
        "gain": Option(1.0, "", 0.0, 8.0),
        "file": Option("", ""),
    },
    lambda settings, threads: None,  # pyright: ignore[reportArgumentType]
    axis="q",
    sweep=(10, 30, 50, 90),
)
PNG = Family("png", "image", "", {}, lambda settings, threads: None, lossless=True)  # pyright: ignore[reportArgumentType]
TAGGED = Family(
    "ours",
    "image",
    "",
    {"tag": Option("", "", choices=("", "16x", "4x")), "q": Option(0, "", 0, 100)},
    lambda settings, threads: None,  # pyright: ignore[reportArgumentType]
    axis="q",
)
FAMILIES = {"jpeg": JPEG, "png": PNG, "ours": TAGGED}


def settings(text: str) -> list[list[object]]:
    return [[point.setting for point in curve.points] for curve in parse(text, FAMILIES)]


def test_a_name_alone_is_the_usual_sweep() -> None:
    [curve] = parse("jpeg", FAMILIES)
    assert [point.setting for point in curve.points] == [10, 30, 50, 90]
    assert curve.label == "jpeg:420"
    assert curve.points[0].spec == "jpeg:q=10:chroma=420:trellis=off:effort=4:gain=1:file="


def test_a_codec_without_axis_is_one_point() -> None:
    [curve] = parse("png", FAMILIES)
    assert [point.setting for point in curve.points] == [None]
    assert curve.label == curve.points[0].spec == "png"


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("q=30", [30]),
        ("q=50+30", [30, 50]),
        ("q=20..60", [20, 30, 50, 60]),
        ("q=20..30..5", [20, 25, 30]),
        ("q=1..2", [1, 2]),
        ("q=7+5..6..1+7", [5, 6, 7]),
    ],
)
def test_values_of_the_axis_are_points(text: str, points: list[int]) -> None:
    assert settings(f"jpeg:{text}") == [points]
    assert all(type(value) is int for value in settings(f"jpeg:{text}")[0])


def test_values_of_other_options_are_curves() -> None:
    curves = parse("jpeg:444+420:q=10:effort=1+2", FAMILIES)
    assert [curve.label for curve in curves] == [
        "jpeg:444:effort=1",
        "jpeg:444:effort=2",
        "jpeg:420:effort=1",
        "jpeg:420:effort=2",
    ]
    assert settings("jpeg:gain=0..1:q=10") == [[10]] * 5  # no usual steps: five values
    assert [curve.points[0].settings["gain"] for curve in parse("jpeg:gain=0..1..0.1:q=10", FAMILIES)] == [
        pytest.approx(i / 10, abs=1e-12) for i in range(11)
    ]


def test_the_same_curve_written_twice_is_one() -> None:
    [curve] = parse("jpeg:q=30+70,jpeg:420:q=10+30", FAMILIES)
    assert [point.setting for point in curve.points] == [10, 30, 70]


def test_a_tag_is_written_either_way() -> None:
    assert parse("ours@16x", FAMILIES)[0].points == parse("ours:16x", FAMILIES)[0].points
    assert parse("ours:16x", FAMILIES)[0].label == "ours:16x"
    assert settings("ours") == [[0]]


def test_a_spec_means_itself() -> None:
    for curve in parse("jpeg:444:gain=0.125,png,ours:4x:q=33", FAMILIES):
        for point in curve.points:
            [again] = parse(point.spec, FAMILIES)
            assert again.points == (point,)
            assert again.label == curve.label


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty part"),
        ("jpeg,,png", "an empty part"),
        ("jpgg", "did you mean 'jpeg'"),
        ("dualgs", "of the medium gaussians, which codec bench doesn't measure"),
        ("png:q=3", "png has no options"),
        ("jpeg:quality=3", "has no option 'quality': jpeg has q, chroma"),
        ("jpeg:422", "isn't a choice of any option"),
        ("jpeg:q=0", "a whole number from 1 to 100"),
        ("jpeg:q=1.5", "a whole number"),
        ("jpeg:q=nan", "a whole number"),
        ("jpeg:gain=9", "a number from 0 to 8"),
        ("jpeg:gain=inf", "a number from 0 to 8"),
        ("jpeg:q=30:q=40", "twice"),
        ("jpeg:q=60..20", "expected 20..60"),
        ("jpeg:q=1..9..0", "positive"),
        ("jpeg:q=1..9..x", "positive"),
        ("jpeg:q=1..9..1..2", "expected a..b"),
        ("jpeg:gain=0..8..0.00001", f"more than {MAX_POINTS}"),
        ("jpeg:chroma=411", "expected one of 444, 420"),
        ("ours@8x", "expected one of"),
    ],
)
def test_a_wrong_string_says_what_is_expected(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=".*") as error:
        parse(text, FAMILIES)
    assert words in str(error.value)
