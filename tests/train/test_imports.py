"""Modules of `train/` import each other without circles, and nothing from above them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TRAIN = Path(__file__).resolve().parents[2] / "train"
MODULES = {".".join(path.relative_to(TRAIN).with_suffix("").parts): path for path in sorted(TRAIN.rglob("*.py"))}
ABOVE = {"cli", "eval", "integrations", "batch", "video_cli", "demo"}


def imports_of(name: str) -> set[tuple[str, ...]]:
    """Dotted names that a module imports, from inside functions, too, from the package's root on."""
    path = MODULES[name]
    package = ("train", *path.relative_to(TRAIN).parts[:-1])
    names: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *(node.module.split(".") if node.module else ()))
            names |= {module, *((*module, alias.name) for alias in node.names)}
    return names


@pytest.mark.parametrize("name", MODULES)
def test_nothing_from_above(name: str) -> None:
    assert not [found for found in imports_of(name) if found and found[0] in ABOVE]


def test_no_circles() -> None:
    inside = {
        name: {".".join(found[1:]) for found in imports_of(name) if found[:1] == ("train",)} & set(MODULES)
        for name in MODULES
    }
    inside = {name: used - {name} for name, used in inside.items()}
    assert inside["device_loop"] == {"checkpoints", "progress", "task"}  # or nothing is read here
    done: set[str] = set()
    while ready := {name for name in inside if name not in done and inside[name] <= done}:
        done |= ready
    assert done == set(MODULES), f"a circle among {', '.join(sorted(set(MODULES) - done))}"
