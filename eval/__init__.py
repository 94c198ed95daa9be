"""Measuring: metrics, baselines, rate-distortion runs, speed; results as CSV or JSON in `eval/results/`.

from codec.eval import rate_distortion

table = rate_distortion("photos", "walloc:16x,jpeg:444,avif")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")

if TYPE_CHECKING:
    from .bench.rows import Table
    from .bench.run import rate_distortion, write_results

__all__ = ["Table", "rate_distortion", "write_results"]

_LAZY = {"rate_distortion": "bench.run", "write_results": "bench.run", "Table": "bench.rows"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
