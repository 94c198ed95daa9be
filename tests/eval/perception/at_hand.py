"""Data and models that a test needs, or a reason why it is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codec.datasets.places import find_data
from codec.errors import UsageError
from codec.eval.perception import Sample, Task


def data(folder: str) -> Path:
    """A folder of the data collection."""
    try:
        return find_data(folder)
    except UsageError:
        pytest.skip(f"{folder} isn't there: set CODEC_DATA")


def samples(task: Task, folder: Path | None = None) -> list[Sample]:
    """The samples of a task, of which nothing may be skipped."""
    out = []
    for sample in task.samples(folder):
        assert isinstance(sample, Sample), sample
        out.append(sample)
    return out


def model(task: Task, name: str) -> Any:
    """A task's model, whose weights or package may be missing."""
    try:
        return task.load(name)
    except UsageError as error:
        pytest.skip(str(error))
