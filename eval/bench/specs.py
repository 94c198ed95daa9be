"""Codec strings: which codecs are measured, with which settings, in one line.

    jpeg:444:q=10..95,avif:speed=4+6,walloc:16x

Commas part codecs, colons part settings, as in libjxl's `benchmark_xl`; its letters with a number glued on ("q90") are
written with an equals sign here, because option names are words. A setting is `name=value`, or a word alone that is a
choice of one option only; an option's name may be cut short ("jxl:e=7"). `a+b` is several values, `a..b` the codec's
usual steps from a to b with both ends, `a..b..s` every s. Several values of the option that moves along the curve are
points of one curve; several values of another option are several curves. A codec whose string names no value for its
axis gets its usual sweep.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ... import registry
from ...errors import UsageError
from .contract import Family, Option, OptionValue

__all__ = ["MAX_POINTS", "Curve", "Point", "parse"]

MAX_POINTS = 200  # of one curve: more is a slip of the keyboard


@dataclass(frozen=True)
class Point:
    """One codec with all its settings: what `spec` says in full, so that it means the same when a default changes."""

    family: Family
    settings: Mapping[str, OptionValue]  # every option of the family, in its order

    @property
    def spec(self) -> str:
        return ":".join([self.family.name, *(f"{name}={_written(value)}" for name, value in self.settings.items())])

    @property
    def setting(self) -> OptionValue | None:
        """The value on the axis of its curve."""
        return None if self.family.axis is None else self.settings[self.family.axis]


@dataclass(frozen=True)
class Curve:
    """Points that differ in the family's axis only, in the order of the axis."""

    family: Family
    points: tuple[Point, ...]

    @property
    def label(self) -> str:
        """Short and unambiguous: what differs from the defaults, and the choice of chroma format, always."""
        parts = [self.family.name]
        for name, value in self.points[0].settings.items():
            option = self.family.options[name]
            if name != self.family.axis and (name == "chroma" or value != option.default):
                parts.append(str(value) if option.choices else f"{name}={_written(value)}")
        return ":".join(parts)


def parse(text: str, families: Mapping[str, Family]) -> tuple[Curve, ...]:
    """The curves of a codec string. UsageError says which part can't be read, and what there is instead."""
    curves: dict[str, Curve] = {}
    for part in text.split(","):
        if not part.strip():
            raise UsageError(f"codec string {text!r}: an empty part; expected codecs with commas between them")
        for curve in _parse_one(part.strip(), families):
            earlier = curves.get(curve.label)
            points = (*(earlier.points if earlier else ()), *curve.points)
            unique = {point.spec: point for point in points}.values()
            curves[curve.label] = Curve(curve.family, tuple(sorted(unique, key=_place)))
    return tuple(curves.values())


def _parse_one(part: str, families: Mapping[str, Family]) -> list[Curve]:
    name, *settings = part.split(":")
    plain, at, tag = name.partition("@")  # walloc@16x is walloc:16x, as everywhere else
    if at:
        settings.insert(0, f"tag={tag}")
    family = families.get(plain)
    if family is None:
        if plain in registry.names():
            medium = registry.entry(plain).medium
            raise UsageError(f"{plain!r} is of the medium {medium}, which codec bench doesn't measure")
        near = difflib.get_close_matches(plain.lower(), families, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? There are" if near else "there are"
        raise UsageError(f"no codec {plain!r}: {hint} {', '.join(families)}")
    values: dict[str, list[OptionValue]] = {}
    for setting in settings:
        key, values_of = _read(setting, family, part)
        if key in values:
            raise UsageError(f"{part!r} sets {key!r} twice: write several values as {key}=a+b")
        values[key] = values_of
    for key, option in family.options.items():
        if key not in values:
            swept = key == family.axis and family.sweep
            values[key] = list(family.sweep) if swept else [option.default]
    across = [key for key in family.options if key != family.axis]
    curves = []
    for fixed in itertools.product(*(values[key] for key in across)):
        chosen = dict(zip(across, fixed, strict=True))
        along: Sequence[Mapping[str, OptionValue]] = [{}]
        if family.axis is not None:
            along = [{family.axis: value} for value in sorted(set(values[family.axis]), key=_sortable)]
        if len(along) > MAX_POINTS:
            raise UsageError(f"{part!r}: {len(along)} points; at most {MAX_POINTS}")
        points = [Point(family, {key: {**chosen, **place}[key] for key in family.options}) for place in along]
        curves.append(Curve(family, tuple(points)))
    return curves


def _read(setting: str, family: Family, part: str) -> tuple[str, list[OptionValue]]:
    key, equals, text = setting.partition("=")
    if not equals:
        fitting = [
            name for name, option in family.options.items() if setting.split("+")[0] in option.choices
        ]  # "444" or "444+420"
        if len(fitting) != 1:
            words = sorted({choice for option in family.options.values() for choice in option.choices})
            alone = f"; words that may stand alone are {', '.join(words)}" if words else ""
            why = "belongs to several options" if fitting else "isn't a choice of any option"
            raise UsageError(f"{part!r}: {setting!r} {why}: {_offers(family)}{alone}")
        key, text = fitting[0], setting
    if key not in family.options:  # e=7 is effort=7, as long as no other option begins so
        begin = [name for name in family.options if key and name.startswith(key)]
        key = begin[0] if len(begin) == 1 else key
    option = family.options.get(key)
    if option is None:
        raise UsageError(f"{part!r}: {family.name} has no option {key!r}: {_offers(family)}")
    values: list[OptionValue] = []
    for item in text.split("+"):
        if ".." in item and not option.choices:
            values += _range(item, option, family.sweep if key == family.axis else (), part)
        else:
            values.append(_value(item, option, f"{part!r}: {key}={item}"))
    return key, values


def _range(text: str, option: Option, usual: Sequence[OptionValue], part: str) -> list[OptionValue]:
    ends = text.split("..")
    where = f"{part!r}: {text}"
    if len(ends) not in (2, 3):
        raise UsageError(f"{where}: expected a..b or a..b..step")
    low, high = (_number(_value(end, option, where), where) for end in ends[:2])
    if low > high:
        raise UsageError(f"{where}: the first end is the larger one; expected {ends[1]}..{ends[0]}")
    if len(ends) == 3:
        try:
            step = float(ends[2])
        except ValueError:
            step = math.nan
        if not 0 < step < math.inf:
            raise UsageError(f"{where}: the step must be a positive number")
        if (high - low) / step > MAX_POINTS:
            raise UsageError(f"{where}: more than {MAX_POINTS} values; expected a larger step")
        # multiples of the step from the lower end, not sums of it, which would drift
        inside = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
    else:
        numbers = [float(value) for value in usual if isinstance(value, (int, float))]
        if not numbers:  # an option without usual steps: five values
            numbers = [low + (high - low) * i / 4 for i in range(5)]
        inside = sorted({low, high, *(value for value in numbers if low < value < high)})
    return [round(value) if isinstance(option.default, int) else round(value, 9) for value in inside]


def _value(text: str, option: Option, where: str) -> OptionValue:
    if option.choices:
        if text not in option.choices:
            raise UsageError(f"{where}: expected one of {', '.join(option.choices)}")
        return text
    if isinstance(option.default, str):
        return text
    try:
        value: float = float(text)
    except ValueError:
        value = math.nan
    low = -math.inf if option.low is None else option.low
    high = math.inf if option.high is None else option.high
    if not (math.isfinite(value) and low <= value <= high):
        value = math.nan
    if isinstance(option.default, int):
        if value != value or value != int(value):
            raise UsageError(f"{where}: expected a whole number{_bounds(option)}")
        return int(value)
    if value != value:
        raise UsageError(f"{where}: expected a number{_bounds(option)}")
    return value


def _number(value: OptionValue, where: str) -> float:
    if isinstance(value, str):
        raise UsageError(f"{where}: a range needs numbers")
    return float(value)


def _bounds(option: Option) -> str:
    if option.low is not None and option.high is not None:
        return f" from {_written(option.low)} to {_written(option.high)}"
    if option.low is not None:
        return f" of at least {_written(option.low)}"
    return "" if option.high is None else f" of at most {_written(option.high)}"


def _offers(family: Family) -> str:
    return f"{family.name} has {', '.join(family.options) or 'no options'}"


def _written(value: OptionValue | float) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


def _sortable(value: OptionValue) -> tuple[float, str]:
    return (math.inf, value) if isinstance(value, str) else (float(value), "")


def _place(point: Point) -> tuple[float, str]:
    return (0.0, "") if point.setting is None else _sortable(point.setting)
