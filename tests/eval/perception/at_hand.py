"""Data and models that a test needs, or a reason why it is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codec.datasets.places import find_data
from codec.errors import UsageError
from codec.eval.perception import Task


def data(folder: str) -> Path:
    """A folder of the data collection."""
    try:
        return find_data(folder)
    except UsageError:
        pytest.skip(f"{folder} isn't there: set CODEC_DATA")


def model(task: Task, name: str) -> Any:
    """A task's model, whose weights or package may be missing."""
    try:
        return task.load(name)
    except UsageError as error:
        pytest.skip(str(error))
