"""Shared by all tests: the root stays one package, and hypothesis draws the same examples everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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


def without_address(name: Any) -> Any:
    """The name of a case, `<function f at 0x7f...>` in it as `<function f>`."""
    return re.sub(r" at 0x[0-9a-f]+", "", name) if isinstance(name, str) else name


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Names of cases hold no addresses: processes that share the tests (`make test`) must give them the same names."""
    parametrize = metafunc.parametrize

    def with_plain_names(*args: Any, ids: Any = None, **options: Any) -> None:
        if callable(ids):
            parametrize(*args, ids=lambda value: without_address(ids(value)), **options)
        else:
            parametrize(*args, ids=None if ids is None else [without_address(name) for name in ids], **options)

    metafunc.parametrize = with_plain_names


# The longest files, by their seconds: processes that share the tests begin with them, so that they end together.
LONGEST = (
    *("codecs/test_contract.py", "codecs/test_golden.py", "codecs/base/test_image.py", "eval/bench/test_hard_cases.py"),
    *("train/s2lic/test_task.py", "codecs/s2lic/test_shipped.py", "codecs/s2lic/test_refine.py"),
    *("codecs/test_contract_audio.py", "codecs/test_contract_gaussians.py", "test_readme.py"),
    *("codecs/base/test_contract_files.py",),
    *("codecs/base/test_field.py", "codecs/base/test_array.py", "codecs/base/test_weights_fuzz.py"),
    *("eval/bench/test_excerpts.py", "eval/bench/test_run.py", "eval/test_memory.py", "eval/report/test_html.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the longest files first, in this order; the others as they were."""
    tests = ROOT / "tests"
    ranks = {tests / file: rank for rank, file in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(LONGEST)))


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "loadscopereorder", False):  # by the number of tests: the longest files have few
        config.option.loadscopereorder = False
    config.pluginmanager.register(RootIsAFolder(), "root-is-a-folder")
