"""The compiled integer kernels, optional: what is exact in NumPy and in torch, several times as fast and without torch.

This room holds C++ (src/), which knows nothing of Python, and its callers by ctypes, a module for each family of
kernels. It imports `errors` and NumPy only. Each family has a twin in NumPy beside it, or is one of a loop elsewhere:
same integers, the oracle of the tests, and what runs where nothing could be compiled.

CODEC_NATIVE=0 leaves the module out. CODEC_NATIVE=portable (sse4, avx2, avx512-vnni, amx, neon) takes another set
than the fastest that the machine has, and CODEC_NATIVE_FILE the module in another file. CODEC_ENGINE=numpy or torch
takes another engine than these kernels. CODEC_THREADS or OMP_NUM_THREADS limits the threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")

from ..errors import UsageError

__all__ = [
    "ENGINES",
    "check",
    "engine",
    "has_torch",
    "instruction_set",
    "instruction_sets",
    "library",
    "set_threads",
    "threads",
    "using",
]

_FOLDER = Path(__file__).parent
_NO_MEMORY, _BAD_CALL, _DAMAGED = -1, -2, -3


@functools.lru_cache(maxsize=1)
def _loaded() -> ctypes.CDLL | None:
    """The compiled module, whatever the environment asks for; None where there is none, or it can't be loaded."""
    named = os.environ.get("CODEC_NATIVE_FILE", "")
    for path in [Path(named)] if named else sorted(_FOLDER.glob("_kernels*.so")):
        with contextlib.suppress(OSError):
            module = ctypes.CDLL(str(path))
            module.codec_isa.restype = module.codec_isa_name.restype = ctypes.c_char_p
            module.codec_isa_name.argtypes = [ctypes.c_int]
            module.codec_set_isa.argtypes = [ctypes.c_char_p]
            module.codec_set_threads.argtypes = [ctypes.c_int]
            module.codec_set_threads.restype = None
            return module
    return None


@functools.lru_cache(maxsize=1)
def _chosen() -> ctypes.CDLL | None:
    """The compiled module as the environment asks for it; UsageError if it asks for what isn't there."""
    wanted = os.environ.get("CODEC_NATIVE", "").strip().lower()
    if wanted == "0":
        return None
    module = _loaded()
    if wanted and wanted != "1":
        if module is None:
            raise UsageError(
                f"CODEC_NATIVE={wanted}: this install has no compiled module; pip install it with a compiler"
            )
        if module.codec_set_isa(wanted.encode()) != 0:
            raise UsageError(f"CODEC_NATIVE={wanted}: there are 0, {', '.join(instruction_sets())}")
    if module is not None:
        module.codec_set_threads(_threads_asked_for())
    return module


_off = False  # `using(None)`


def library() -> ctypes.CDLL | None:
    """The compiled module; None where there is none, or it is switched off, or the engine is to be NumPy."""
    return None if _off or os.environ.get("CODEC_ENGINE") == "numpy" else _chosen()


def instruction_set() -> str | None:
    """The instruction set in use: "amx", "avx512-vnni", "avx2", "sse4", "neon", "portable"; or None."""
    module = library()
    return None if module is None else module.codec_isa().decode()


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that the compiled module can use on this machine, the slowest first; () without it."""
    module = _loaded()
    names: list[str] = []
    while module is not None and (name := module.codec_isa_name(len(names))) is not None:
        names.append(name.decode())
    return tuple(names)


@contextlib.contextmanager
def using(name: str | None) -> Iterator[None]:
    """Takes another instruction set, or None, no compiled module, while the context lasts: for tests."""
    global _off
    before_off, before = _off, instruction_set()
    _off = name is None
    module = library()
    if name is not None and (module is None or module.codec_set_isa(name.encode()) != 0):
        _off = before_off
        raise UsageError(f"no instruction set {name!r}: there are {', '.join(instruction_sets()) or 'none'}")
    try:
        yield
    finally:
        _off = before_off
        if module is not None and before is not None:
            module.codec_set_isa(before.encode())


# ---- engines

ENGINES = ("native", "numpy", "torch")


def engine() -> str:
    """The engine of the exact networks on the CPU: "native", these kernels; "torch"; or "numpy", slow, always there.

    All give the same integers. CODEC_ENGINE names one; else it is the first of these that is installed. UsageError if
    the environment names one that isn't.
    """
    wanted = os.environ.get("CODEC_ENGINE", "").strip().lower()
    if wanted not in ("", *ENGINES):
        raise UsageError(f"CODEC_ENGINE={wanted}: there are {', '.join(ENGINES)}")
    if wanted == "native" and library() is None:
        raise UsageError("CODEC_ENGINE=native: this install has no compiled module; pip install it with a compiler")
    if wanted == "torch" and not has_torch():
        raise UsageError("CODEC_ENGINE=torch: PyTorch isn't installed: pip install torch")
    return wanted or ("native" if library() is not None else "torch" if has_torch() else "numpy")


@functools.lru_cache(maxsize=1)
def has_torch() -> bool:
    """Whether PyTorch is installed; it isn't imported for that."""
    try:
        return importlib.util.find_spec("torch") is not None
    except (ImportError, ValueError):  # a module that something put in its place
        return sys.modules.get("torch") is not None


# ---- threads


def _threads_asked_for() -> int:
    """The number of threads that the environment asks for; 0: as many as the process may use."""
    for name in ("CODEC_THREADS", "OMP_NUM_THREADS"):
        with contextlib.suppress(ValueError):
            return max(0, int(os.environ.get(name, "").split(",")[0]))
    return 0


def threads() -> int:
    """The number of threads that kernels use; 1 without the compiled module."""
    module = library()
    return 1 if module is None else module.codec_threads()


def set_threads(n: int) -> None:
    """Limits the threads of the kernels; 0: as many as the process may use now (affinity, quota of a container)."""
    module = library()
    if module is not None:
        module.codec_set_threads(n)


# ---- status


def check(status: int) -> None:
    """Raises what the status of an entry point stands for: MemoryError, ValueError for damaged data."""
    if status == _NO_MEMORY:
        raise MemoryError("a kernel got no memory")
    if status == _DAMAGED:
        raise ValueError("the data aren't what an encoder writes")
    assert status == 0, f"a kernel was called wrongly ({status})"
