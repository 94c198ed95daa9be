"""Notes: their kinds are documented, they survive in a header, and hostile ones do no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.media.notes import KEY, KINDS, PARTIAL, Note, from_meta, is_partial, to_meta

PAGE = Path(__file__).resolve().parents[2] / "docs" / "losses.md"


def test_the_page_lists_every_kind() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    table = {row[1].strip().strip("`"): row[2].strip() for row in rows if row[1].strip().strip("`") in KINDS}
    assert table == dict(KINDS)


def test_notes_survive_in_metadata() -> None:
    notes = (Note("metadata", "XMP of 3120 bytes is left out"), Note("cut", "12 of 16 frames: a colon stays"))
    assert from_meta(to_meta(notes)) == notes
    assert to_meta(()) == {}


def test_many_and_long_notes_are_bounded() -> None:
    kept = from_meta(to_meta([Note("file", "x" * 10_000)] * 1000))
    assert len(kept) == 64 and all(len(note.words) <= 500 for note in kept)
    assert kept[-1] == Note("file", "and 936 more notes")


@pytest.mark.parametrize("value", [7, b"x", "text", (1, b"2"), ("no colon",)])
def test_hostile_metadata_are_read_as_something(value: object) -> None:
    assert all(isinstance(note.words, str) and note.kind in KINDS for note in from_meta({KEY: value}))


def test_partial() -> None:
    assert set(KINDS) >= PARTIAL
    assert is_partial([Note("cut", "x")]) and not is_partial([Note("metadata", "x")])
