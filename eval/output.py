"""Files that the bench, the reports and the studies write: each whole, or not at all.

Every file of results goes through `write_file`; nothing else in `eval/` replaces a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CodecError
from ..files import whole

__all__ = ["jsonable", "write_file", "write_json"]


def write_file(path: Path, content: bytes | str) -> None:
    """Writes under another name in the same folder, then renames, so that a reader sees the old file or all of the
    new one. content: text is written as UTF-8. CodecError if it can't be written."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with whole(path, replace=True) as file:
            file.write(data)
    except OSError as error:
        raise CodecError(f"{path}: can't be written ({error.strerror or error})") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes an object as strict JSON, in which an infinite PSNR is the word "inf" (see `jsonable`)."""
    write_file(path, json.dumps(jsonable(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def jsonable(value: Any) -> Any:
    """The value with its numbers rounded to seven digits, infinities and NaN as words, and keys that are text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if value - value == 0 else str(value)
    return value
