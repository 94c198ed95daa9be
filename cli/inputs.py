"""The files behind the words of a command line: paths, folders, globs and "-", and what of a folder is left out.

Nothing here knows a codec or a medium: whoever asks says which files are meant.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..files import STDIO
from ..media.signatures import describe_store

__all__ = ["Accepts", "Input", "Inputs", "counted", "no_folder"]

Accepts = Callable[[Path], bool | None]  # whether a file, or a folder, is meant; None: it needs no word if it isn't

# Files that systems put into folders for themselves: nobody wants to hear of them.
_CLUTTER = frozenset(
    [".ds_store", ".localized", "thumbs.db", "desktop.ini", ".directory", ".nomedia", ".trashes", ".git", ".fseventsd"]
)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://\S")


class Input(NamedTuple):
    """A file. source: its path, or "-" for stdin. base: the folder, given by name or by a glob, whose tree it is in."""

    source: str
    base: str = ""

    @property
    def name(self) -> str:
        """Its name without folders."""
        return os.path.basename(self.source)

    @property
    def place(self) -> Path:
        """Its path in that tree."""
        return Path(STDIO if self.source == STDIO else os.path.relpath(self.source, self.base or os.curdir))


def no_folder(folder: Path) -> bool:
    """Accepts no folder as one input: all are searched."""
    return False


class Inputs:
    """The files behind the words of a command line: found while somebody iterates, and not kept.

    accepts says which files of a folder or glob `**` are meant; a file given by name is always meant. is_one_input says
    which folders given by name are one input each. A file that is given twice is taken once; two links to it are two
    files. A missing file is left for its job to report. UsageError when a folder or glob holds none.

    left_out: files and folders of a folder or glob that weren't taken, counted by what they are; examples: the first of
    each kind. Complete when all files were asked for.
    """

    def __init__(self, words: Sequence[str], accepts: Accepts, is_one_input: Accepts = no_folder) -> None:
        self._words = [_checked(text) for text in words]
        if STDIO in words and len(words) > 1:
            raise UsageError("'-' (stdin) can't be mixed with other inputs: give it alone")
        self._accepts, self._is_one_input = accepts, is_one_input
        self._parents: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def __iter__(self) -> Iterator[Input]:
        known: set[tuple[str, str]] = set()
        for text in self._words:
            is_empty = True
            for item in self._files_of(text):
                is_empty = False
                if len(self._words) > 1:
                    if (key := self._identity(item.source)) in known:
                        continue
                    known.add(key)
                yield item
            if is_empty:
                kinds = ", ".join(counted(kind, n) for kind, n in self.left_out.most_common())
                there_are = kinds and f" (left out: {kinds})"
                if store := describe_store(text):
                    raise UsageError(f"{text}: {store}")
                raise UsageError(f"{text}: no file here that this command takes{there_are}")

    def _identity(self, path: str) -> tuple[str, str]:
        """The folder that a path is really in, and its name there: links to one file are two."""
        parent, name = os.path.split(path)
        if parent not in self._parents:
            self._parents[parent] = os.path.realpath(parent)
        return self._parents[parent], name

    def _files_of(self, text: str) -> Iterator[Input]:
        """The files that one word stands for."""
        path = Path(text)
        if text == STDIO:
            yield Input(STDIO)
        elif path.is_dir():
            if self._is_one_input(path):
                folder = path if path.name not in ("", "..") else path.resolve()
                yield Input(str(folder), str(folder.parent))
            else:
                yield from self._walk(str(path))
        elif glob.has_magic(text) and not os.path.lexists(text):
            yield from self._glob(text)
        else:
            yield Input(_named(str(path)), str(path.parent))

    def _walk(self, top: str, pattern: Sequence[str] = ("**",)) -> Iterator[Input]:
        """The files below a folder that are taken; pattern: the parts of a glob. Links to folders aren't followed."""
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError:
                self._leave(folder, "unreadable folder")
                continue
            below = []
            for entry in entries:
                if self._is_hidden(entry.name, entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.is_dir():
                    self._leave(entry.path, "linked folder")  # perhaps in a circle
                elif pattern != ("**",) and not _matches(Path(os.path.relpath(entry.path, top)).parts, pattern):
                    continue
                elif self._takes(entry.path, entry.is_file()):
                    yield Input(_named(entry.path), top)
            folders += reversed(below)

    def _glob(self, text: str) -> Iterator[Input]:
        fixed, escaped = _fixed_part(text)
        if "**" in Path(text).parts:
            yield from self._walk(fixed, Path(text).parts[len(Path(fixed).parts) :])
            return
        for match in sorted(glob.iglob(escaped)):
            if os.path.isdir(match):
                self._leave(match, "folder")
            elif self._takes(match, os.path.isfile(match), is_meant=True):
                yield Input(_named(match), fixed)

    def _takes(self, path: str, is_file: bool, is_meant: bool = False) -> bool:
        """Whether a file is taken, which is counted if it isn't. is_meant: it is one that was asked for by its name."""
        if not is_file:
            self._leave(path, "broken link" if not os.path.exists(path) else "pipe or device")
            return False
        answer = is_meant or self._accepts(Path(path))
        if answer is False:
            self._leave(path, os.path.splitext(path)[1].lower() or "without suffix")
        return bool(answer)

    def _is_hidden(self, name: str, path: str) -> bool:
        is_clutter = name.lower() in _CLUTTER or name.startswith("._") or (name[:1] == "." and name.endswith(".part"))
        if name.startswith(".") and not is_clutter:
            self._leave(path, "hidden")
        return is_clutter or name.startswith(".")

    def _leave(self, path: str, kind: str) -> None:
        self.left_out[kind] += 1
        self.examples.setdefault(kind, path)


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a glob: ** is any number of folders, none too."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return len(pattern) == 1 or any(_matches(names[i:], pattern[1:]) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def counted(kind: str, n: int) -> str:
    """A number of files of a kind: "2 .heic", "2 broken links"."""
    is_noun = not kind.startswith((".", "hidden", "without"))
    return f"{n} {kind}{'s' * (is_noun and n != 1)}"


def _named(path: str) -> str:
    """A path without ./ before it, but for a file that is called as stdin is."""
    short = path.removeprefix(os.path.join(os.curdir, ""))
    return os.path.join(os.curdir, STDIO) if short == STDIO else short


def _fixed_part(pattern: str) -> tuple[str, str]:
    """The leading folders of a glob that are meant as they are, the root of the tree that is kept, and the pattern.

    A folder with brackets in its name that is there is one: it is escaped in the pattern.
    """
    *folders, last = Path(pattern).parts
    fixed, escaped = Path(), Path()
    for index, part in enumerate(folders):
        if glob.has_magic(part) and not os.path.isdir(fixed / part):
            return str(fixed), str(Path(escaped, *folders[index:], last))
        fixed, escaped = fixed / part, escaped / glob.escape(part)
    return str(fixed), str(escaped / last)


def _checked(text: str) -> str:
    if not text:
        raise UsageError("an input has no name: give a file, a folder, a quoted glob, or - for stdin")
    if _URL.match(text) and not os.path.lexists(text):
        raise UsageError(f"{text} is a URL, and only files are read: download it first (curl -LO {text})")
    return text
