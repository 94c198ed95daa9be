"""Notes: what a file that was encoded or decoded has lost, or has otherwise, in words for people.

Readers and writers make them, codecs hand them on in their `Summary` and store them in the header of the file, the
command prints them, and `codec info` shows them years later. Every loss is a note or an error: there is no third way.

    Note("metadata", "XMP of 3120 bytes is left out")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["KEY", "KINDS", "PARTIAL", "Note", "from_meta", "is_partial", "to_meta"]

KINDS: Mapping[str, str] = MappingProxyType(
    {  # kinds of note, and what each is about; docs/losses.md has the same table, held by a test
        "alpha": "transparency that was left out or changed",
        "attachment": "attached files and cover pictures that were left out",
        "bound": "fields whose largest error is unusual, or has no bound",
        "chapters": "chapters that were left out",
        "chroma": "another chroma format, or another place of the chroma samples",
        "colour": "another colour space, or colour tags that were left out",
        "cut": "an input that ends early: what comes after that is missing",
        "damage": "damaged parts that are missing, or may be wrong",
        "depth": "another number of bits per sample",
        "file": "files of a folder that were not taken",
        "frames": "frames that were left out, or whose numbers have gaps",
        "layout": "another way of storing the same values (filters, chunks, palettes, types)",
        "limit": "files that need an option to be decoded, since they are large",
        "metadata": "metadata that were left out",
        "picture": "second pictures (gain maps, views, previews, pages) that were left out",
        "sound": "sound that was left out or changed",
        "structure": "links, references or other objects that were left out",
        "tags": "titles, languages and flags of tracks that were left out or changed",
        "time": "times that were changed",
        "track": "tracks (subtitles, data, second videos) that were left out",
        "view": "pictures of which a network's view is kept, and not the picture",
        "values": "values that were taken as missing",
    }
)
PARTIAL = frozenset({"cut", "damage"})  # a part of the content itself is missing: exit status 1 unless asked for
KEY = "notes"  # of the metadata in a file's header
_MAX_NOTES, _MAX_CHARACTERS = 64, 500  # in a file


class Note(NamedTuple):
    """A note. kind: one of KINDS. words: a clause that can be read alone, without the name of the file."""

    kind: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


def is_partial(notes: Iterable[Note]) -> bool:
    """Whether the notes tell that a part of the content is missing."""
    return any(note.kind in PARTIAL for note in notes)


def to_meta(notes: Sequence[Note]) -> dict[str, tuple[str, ...]]:
    """The entry of a header's metadata that keeps notes: nothing if there are none; long ones are cut."""
    assert all(note.kind in KINDS for note in notes), f"a note of an unknown kind: {notes}"
    kept = [str(note)[:_MAX_CHARACTERS] for note in notes[:_MAX_NOTES]]
    if len(notes) > _MAX_NOTES:
        kept[-1] = f"{notes[_MAX_NOTES - 1].kind}: and {len(notes) - _MAX_NOTES} more notes"
    return {KEY: tuple(kept)} if kept else {}


def from_meta(meta: Mapping[str, Any]) -> tuple[Note, ...]:
    """The notes in a header's metadata. What isn't one is left out: a hostile file may hold anything there."""
    value = meta.get(KEY, ())
    texts = [text for text in value if isinstance(text, str)] if isinstance(value, tuple) else []
    pairs = [text.partition(": ") for text in texts]
    return tuple(Note(kind, words) for kind, _, words in pairs if kind in KINDS)
