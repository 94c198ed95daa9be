"""The text that `codec bench` prints: a run's points and BD-rates, and the list of codecs with their options."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..bench.contract import Family
from ..bench.rows import Failure, Table

__all__ = ["command_line", "describe_families", "failure_lines", "family_lines", "summary_text"]


def describe_families(families: Mapping[str, Family]) -> list[dict[str, Any]]:
    """One JSON-able object for each codec."""
    return [
        {
            "name": family.name,
            "medium": family.medium,
            "about": family.about,
            "lossless": family.lossless,
            "axis": family.axis,
            "sweep": list(family.sweep),
            "options": {
                name: {
                    "default": option.default,
                    "about": option.about,
                    **(
                        {"choices": list(option.choices)}
                        if option.choices
                        else {"low": option.low, "high": option.high}
                    ),
                }
                for name, option in family.options.items()
            },
            "missing": family.missing(),
        }
        for family in families.values()
    ]


def family_lines(listed: Sequence[Mapping[str, Any]]) -> str:
    """The codecs of `describe_families` by medium, a line for each of their options."""
    lines = []
    for medium in dict.fromkeys(family["medium"] for family in listed):
        lines.append(f"{medium}:")
        for family in listed:
            if family["medium"] != medium:
                continue
            lines.append(f"  {family['name']:<24} {family['about']}")
            if family["missing"]:
                lines.append(f"  {'':<24} not here: {family['missing']}")
                continue
            for name, option in family["options"].items():
                values = "|".join(word for word in option.get("choices", ()) if word)
                if not values:
                    ends = [option["low"], option["high"]]
                    values = "" if None in ends else f"{ends[0]:g}..{ends[1]:g}"
                default = "" if option["default"] in ("", None) else f" (default {option['default']})"
                axis = ", the curve's axis" if name == family["axis"] else ""
                lines.append(f"  {'':<24}   {name}={values or '...'}: {option['about']}{default}{axis}")
    return "\n".join(lines)


def summary_text(summary: Mapping[str, Any]) -> str:
    """Points of all curves, then the BD table."""
    key = summary["rate"]["key"]
    names = list(summary["metrics"])
    units = [summary["metrics"][name]["unit"] for name in names]
    head = ["codec", "setting", key, *(f"{n} {u}".strip() for n, u in zip(names, units, strict=True)), "enc s", "dec s"]
    rows = []
    for curve in summary["curves"]:
        for point in curve["points"]:
            setting = "" if point["setting"] is None else str(point["setting"])
            note = "" if point["complete"] else f"  ({point['items']} of {len(summary['data']['items'])} items)"
            rows.append(
                [
                    curve["codec"],
                    setting,
                    f"{point[key]:.4f}",
                    *(_number(point.get(name)) for name in names),
                    f"{point['encode_seconds']:.4f}",
                    f"{point['decode_seconds']:.4f}" + note,
                ]
            )
    text = _aligned([head, *rows]) if rows else "nothing was measured"
    if summary["bd"]:
        lines = []
        for delta in summary["bd"]:
            published = " (published)" if delta["published_anchor"] else ""
            if delta["bd_rate"] is None:
                result, where = "none", delta["reason"]
            else:
                result = f"{delta['bd_rate']:+.1f} %"
                where = f"over {delta['window'][0]:.4g} to {delta['window'][1]:.4g}"
                if delta["bd_metric"] is not None:
                    low, high = delta["rate_window"]
                    where += f"; {delta['bd_metric']:+.3g} at equal rate, {low:.3g} to {high:.3g} {key}"
                if delta["items"] != len(summary["data"]["items"]):
                    where += f"; {delta['items']} items that both have"
            lines.append([delta["codec"], f"against {delta['anchor']}{published}", delta["metric"], result, where])
        text += "\n\nBD-rate (negative: fewer bits than the anchor)\n" + _aligned(lines)
    for case in summary["left_out"]:
        text += f"\n{case['metric']} leaves out {case['item']}: {case['reason']}"
    how = f"threads {summary['threads']}"
    if summary["jobs"] > 1:
        how += f", {summary['jobs']} items at once: seconds compare with nothing"
    return f"{text}\n\n{how}; seconds are medians of finished work, whole files; {summary['machine']['cpu']}"


def failure_lines(failed: Sequence[Failure]) -> list[str]:
    """A line for each item, codec and reason; the settings it holds for are counted, not listed."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for failure in failed:
        grouped.setdefault((failure.item, failure.spec.split(":")[0], failure.reason), []).append(failure.spec)
    return [
        f"{item}: {specs[0] if len(specs) == 1 else f'{name}, {len(specs)} settings'}: {reason}"
        for (item, name, reason), specs in grouped.items()
    ]


def command_line(verb: str, table: Table, args: argparse.Namespace) -> str:
    """The command that makes these results again, without the names of this machine's folders."""
    words = ["codec", verb, "DATA", "-c", table.settings["codecs"]]
    for flag, value, default in (
        ("--metrics", args.metrics, None),
        ("--anchor", args.anchor, None),
        ("--reference", args.reference, None),
        ("--window", args.window, None),
        ("--repeat", args.repeat, 3),
        ("--jobs", args.jobs, 1),
        ("--threads", args.threads, None),
        ("--max-frames", args.max_frames, None),
    ):
        if value != default:
            words += [flag, str(value)]
    return shlex.join([*words, "--out", "DIR"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
