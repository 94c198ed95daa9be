"""A registry that holds the toy codec only."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from codec import registry
from codec.cli import coding

from . import toy_codec


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The registry holds the toy codec only; nothing stays loaded from one test to the next."""
    for name in ("_families", "_ours", "_plugins"):
        monkeypatch.setattr(registry, name, getattr(registry, name))
    toy_codec.install()
    coding._ready.clear()
    yield toy_codec
    coding._ready.clear()
