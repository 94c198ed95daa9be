"""Shared by all tests: the root stays one package, and hypothesis draws the same examples everywhere."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Wall-clock deadlines measure the machine; tests that promise a time measure it themselves.
hypothesis.settings.register_profile("codec", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("codec")


class RootIsAFolder:
    """The root has an __init__.py, but for pytest it is a plain folder.

    Otherwise pytest imports it as a test package named after the checkout's folder: a second copy of every class.
    """

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsAFolder(), "root-is-a-folder")
