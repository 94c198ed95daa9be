"""Rules of style that a program can hold: docstrings that can be read alone, nouns for names, functions of one page."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = ("tests", "build", "dist", "data", "runs")
FILES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] not in SKIPPED and not path.relative_to(ROOT).parts[0].startswith(".")
]
# A first line that begins like this needs the name above it to be read: "Of y and of z."
OPENERS = {"Of", "And", "What", "Which", "Whose", "Also", "With", "For", "Where", "Whatever", "As"}
NOT_NOUNS = {"one", "found", "both", "there", "spoilt"}
LONGEST = 75  # lines of a function, its docstring included

package = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", "the module"), text


def fragments(source: str) -> list[str]:
    """Names whose docstring begins with a word that makes a fragment of its first line."""
    return [name for name, text in _docstrings(ast.parse(source)) if text.split()[0].strip('".,:') in OPENERS]


def vague_names(source: str) -> set[str]:
    """Variables and arguments that are called by a word that says nothing of what they hold."""
    stored = {
        node.id if isinstance(node, ast.Name) else node.arg
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    }
    return stored & NOT_NOUNS


def too_long(source: str) -> list[str]:
    """Functions of more than LONGEST lines."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > LONGEST]


@package
def test_docstrings_can_be_read_alone(path: Path) -> None:
    assert not fragments(path.read_text(encoding="utf-8"))


@package
def test_variables_are_named_by_nouns(path: Path) -> None:
    assert not vague_names(path.read_text(encoding="utf-8"))


@package
def test_functions_fit_on_a_page(path: Path) -> None:
    assert not too_long(path.read_text(encoding="utf-8"))


def test_the_rules_see_what_they_forbid() -> None:
    source = '"""A module."""\ndef f(one):\n    """Of y and of z."""\n    found = one\n' + "    found\n" * LONGEST
    assert fragments(source) == ["f"]
    assert vague_names(source) == {"one", "found"}
    assert too_long(source) == ["f"]
    assert not fragments('def f():\n    """The sum of y and z."""')
