"""How a codec runs its networks: without gradients, and in the arithmetic that its files were made in.

Nothing here imports torch before a codec has: a caller who hasn't imported it can't have changed its state either.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

__all__ = ["fresh_torch", "loaded_torch", "own_arithmetic"]

Method = TypeVar("Method", bound=Callable[..., Any])


def loaded_torch() -> Any:
    """The module torch if something has imported it, else None: no tensor, and no state of it, can be without."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "inference_mode") else None


@contextlib.contextmanager
def fresh_torch(device: str = "cpu") -> Iterator[None]:
    """Torch as in a fresh process: no autocast, no default device, no mode without gradients; the caller's comes back.

    device: what the codec runs on. All of it belongs to the thread, so that others don't notice. Costs microseconds.
    """
    torch = loaded_torch()
    if torch is None:
        yield
        return
    _stay_alone(torch)
    with contextlib.ExitStack() as stack:
        for kind in {"cpu", device.partition(":")[0]}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        yield


# A child process has none of its parent's threads, but OpenMP's records of them: the first parallel loop in it would
# wait for ever. One thread needs no others.
_threads_are_gone = False
_had_threads = False


def _count_threads() -> None:
    global _had_threads
    try:
        _had_threads = loaded_torch() is not None and len(os.listdir("/proc/self/task")) > 1
    except OSError:  # no such folder: as if there were
        _had_threads = loaded_torch() is not None


def _note_fork() -> None:
    global _threads_are_gone
    _threads_are_gone = _had_threads


def _stay_alone(torch: Any) -> None:
    global _threads_are_gone
    if _threads_are_gone:
        torch.set_num_threads(1)
        _threads_are_gone = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_count_threads, after_in_child=_note_fork)


def own_arithmetic(method: Method) -> Method:
    """Decorates a method of a codec: it runs without gradients, and no state of the caller's torch reaches it.

    The codec has a `device`, as torch names it.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any) -> Any:
        import torch

        with fresh_torch(self.device), torch.inference_mode():
            return method(self, *args)

    return cast(Method, run)
