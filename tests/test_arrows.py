"""The arrows between rooms: which module may import which. Read from the source, so that nothing has to be installed.

    cli, integrations -> eval -> train -> codecs/<family> -> codecs/base, codecs/layers -> entropy -> media, container,
    registry -> files -> native -> errors

A module imports from its own room or from lower ones. Never: a base a family, a family another, codecs training or
measuring, eval the command. Imports for type checkers count too: what they name is known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (  # the lowest first; rooms on one floor may import each other where NEIGHBOURS says so
    ("errors",),
    ("native",),
    ("files",),
    ("container",),
    ("media", "entropy"),
    ("registry",),
    ("codecs/base", "codecs/layers"),
    ("codecs/*",),
    ("datasets", "viewer"),
    ("train",),
    ("eval",),
    ("cli", "integrations"),
    ("__main__",),  # `python -m codec`
)
NEIGHBOURS = {("codecs/base", "codecs/layers")}  # the base of fields checks its bound with the coder's own test
LAZY = {"registry": "codecs/base"}  # the cards' type; registry itself is read by the base


def _modules() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if not place.parts[0].startswith(".") and place.parts[0] not in ("tests", "build", "dist", "data", "runs"):
            yield place


def _name(place: Path) -> tuple[str, ...]:
    parts = place.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


NAMES = {_name(place): place for place in _modules()}


def _room(name: tuple[str, ...]) -> str:
    """The room of a module: "codecs/s2lic", "media", "files", ...; "" for the package itself."""
    depth = 2 if name[:1] == ("codecs",) else 1
    return "/".join(name[:depth])


def _floor(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms or (
            room.startswith("codecs/") and room not in ("codecs/base", "codecs/layers") and rooms == ("codecs/*",)
        ):
            return number
    raise AssertionError(f"{room!r} is on no floor: say in FLOORS where it belongs")


def imports_of(place: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and module of every import of this package, also inside functions and for type checkers."""
    package = place.parent.parts
    for node in ast.walk(ast.parse((ROOT / place).read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif node.module and node.module.split(".")[0] == "codec":
                base = ()
            else:
                continue
            words = (node.module or "").split(".") if node.module else []
            target = (*base, *(words if node.level else words[1:]))
            for alias in node.names:
                yield node.lineno, (*target, alias.name) if (*target, alias.name) in NAMES else target
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "codec":
                    yield node.lineno, tuple(alias.name.split(".")[1:])


def forbidden(source: str, target: str) -> bool:
    """Whether a module of the first room must not import one of the second."""
    if source == target or not source or not target:
        return False  # the package's own __init__ looks names up; __version__ is everybody's
    if (source, target) in NEIGHBOURS or LAZY.get(source) == target:
        return False
    return _floor(target) >= _floor(source)


@pytest.mark.parametrize("place", list(_modules()), ids=str)
def test_arrows_point_down(place: Path) -> None:
    source = _room(_name(place))
    wrong = [
        f"line {line}: {'.'.join(target)}" for line, target in imports_of(place) if forbidden(source, _room(target))
    ]
    assert not wrong, f"{place} imports from its own floor or above: {wrong}"


def _circles() -> list[list[str]]:
    """Groups of modules that import each other, found by Tarjan's algorithm."""
    graph = {
        name: {target for _, target in imports_of(place) if target in NAMES and target != name}
        for name, place in NAMES.items()
    }
    index: dict[tuple[str, ...], int] = {}
    low: dict[tuple[str, ...], int] = {}
    stack: list[tuple[str, ...]] = []
    circles: list[list[str]] = []

    def visit(name: tuple[str, ...]) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                circles.append(sorted(".".join(member) or "codec" for member in group))

    for name in graph:
        if name not in index:
            visit(name)
    return circles


def test_no_circles() -> None:
    """No module imports, by whatever way, one that imports it."""
    assert _circles() == []


def test_the_root_holds_few_modules() -> None:
    """The root is the package: everything but these has a room."""
    assert sorted(p.name for p in ROOT.glob("*.py")) == [
        "__init__.py",
        "__main__.py",
        "container.py",
        "errors.py",
        "files.py",
        "registry.py",
    ]


def test_rules_are_rules() -> None:
    """The rules as pairs: what the house is for."""
    for source, target in (
        ("codecs/base", "codecs/s2lic"),
        ("codecs/zipgan", "codecs/interp"),
        ("codecs/s2lic", "train"),
        ("codecs/base", "eval"),
        ("eval", "cli"),
        ("media", "codecs/base"),
        ("entropy", "media"),
        ("train", "eval"),
        ("files", "container"),
    ):
        assert forbidden(source, target), (source, target)
    for source, target in (("cli", "eval"), ("eval", "train"), ("codecs/s2lic", "codecs/base"), ("media", "files")):
        assert not forbidden(source, target), (source, target)
