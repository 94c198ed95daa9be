"""How a codec runs its networks: without gradients, and in the arithmetic that its files were made in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

__all__ = ["own_arithmetic"]

Method = TypeVar("Method", bound=Callable[..., Any])


def own_arithmetic(method: Method) -> Method:
    """Decorates a method of a codec: it runs without gradients, and a caller's autocast doesn't reach it.

    The codec has a `device`, as torch names it.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any) -> Any:
        with torch.inference_mode(), torch.autocast(torch.device(self.device).type, enabled=False):
            return method(self, *args)

    return cast(Method, run)
