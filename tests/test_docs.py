"""The pages: links lead somewhere, files that are named exist, snippets are Python, lines are short enough to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("codecs", "datasets", "docs", "entropy", "eval", "samples", "tests", "train", "weights")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
LONGEST = 120  # characters of a line of prose; tables and code have their own measure
README_LINES = 110

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def lines_of(text: str, code: bool) -> Iterator[tuple[int, str]]:
    """Numbered lines inside (code) or outside fenced blocks, without the fences."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced == code:
            yield number, line


def too_long(text: str) -> list[int]:
    """Numbers of the lines of prose that are too long."""
    prose = lines_of(text, code=False)
    return [number for number, line in prose if len(line) > LONGEST and not line.lstrip().startswith("|")]


def links_of(text: str) -> list[str]:
    """Targets of Markdown links and images outside code."""
    prose = "\n".join(line for _, line in lines_of(text, code=False))
    return re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`]*`", "`", prose))


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to headings: lower case, no punctuation, hyphens for spaces."""
    heads = (line.lstrip("#").strip() for _, line in lines_of(text, code=False) if re.match(r"#+ ", line))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(page: Path, text: str) -> list[str]:
    """Links of a page that lead to no file of this checkout, or to no heading in it."""
    wrong = []
    for link in links_of(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        if there and anchor:
            there = anchor in anchors_of(text if target == page else target.read_text(encoding="utf-8"))
        if not there:
            wrong.append(link)
    return wrong


@pages
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page, page.read_text(encoding="utf-8"))


@pages
def test_lines_of_prose_are_short(page: Path) -> None:
    assert not too_long(page.read_text(encoding="utf-8"))


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths in backticks; names with toy or PAPER in them are examples."""
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|json|yaml|csv|safetensors|md|svg|png))`", page.read_text("utf-8"))
    assert not [name for name in named if not re.search("toy|PAPER", name) and not (ROOT / name).exists()]


@pages
def test_snippets_are_python(page: Path) -> None:
    for snippet in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        ast.parse(snippet)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_pages_that_the_code_names_exist() -> None:
    """Comments, recipes and manifests send readers to pages of docs/."""
    files = [ROOT / "Makefile", *ROOT.glob("*.py")]
    for folder in ("cli", "media", "viewer", *FOLDERS):
        files += [file for kind in ("*.py", "*.yaml") for file in (ROOT / folder).rglob(kind)]
    files += (ROOT / "weights").glob("*.json")
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert len(files) > 100 and not missing


def test_every_codec_has_its_two_pages() -> None:
    from codec import registry

    missing = [
        f"{kind}/{name}.md"
        for name in registry.names()
        for kind in ("codecs", "notes")
        if not (ROOT / "docs" / kind / f"{name}.md").is_file()
    ]
    assert not missing


def test_what_these_tests_see(tmp_path: Path) -> None:
    page = ROOT / "docs" / "index.md"
    text = "# A page, with `code`\n\n[a](#a-page-with-code) [b](format.md#limits) ![c](../eval/none.svg)\n"
    text += "[d](format.md#no) `[e](none.md)`\n```\n[f](none.md)\n```\n"
    assert broken(page, text) == ["../eval/none.svg", "format.md#no"]
    assert broken(page, f"[outside]({tmp_path})") == [str(tmp_path)]
    assert too_long("x" * 121 + "\n" + "x" * 120 + "\n| " + "x" * 121 + "\n```\n" + "x" * 121 + "\n```\n") == [1]
