"""The compiled module: how it is found, its instruction sets, its threads."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from codec import native
from codec.errors import UsageError

compiled = pytest.mark.skipif(not native.instruction_sets(), reason="this install has no compiled module")


def madd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    module = native.library()
    assert module is not None
    out = np.empty(len(a) // 2, np.int32)
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, out)]
    native.check(module.codec_probe_madd(*pointers, ctypes.c_int64(len(out))))
    return out


@compiled
@pytest.mark.parametrize("name", native.instruction_sets())
def test_every_instruction_set_gives_the_same_integers(name: str) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(-32768, 32768, (2, 1 << 12)).astype(np.int16)
    a[:4], b[:4] = -32768, -32768  # the one sum that leaves 32 bits
    products = a.astype(np.int64) * b
    expected = (products[::2] + products[1::2]).astype(np.uint64).astype(np.uint32).view(np.int32)
    with native.using(name):
        assert native.instruction_set() == name
        assert np.array_equal(madd(a, b), expected)


@compiled
def test_any_number_of_threads_may_call() -> None:
    a, b = np.random.default_rng(1).integers(-100, 100, (2, 1 << 16)).astype(np.int16)
    expected, results = madd(a, b), []

    def work() -> None:
        results.extend(np.array_equal(madd(a, b), expected) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400 and all(results)


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    a, b = np.random.default_rng(2).integers(-100, 100, (2, 1 << 16)).astype(np.int16)
    before = native.threads()
    native.set_threads(3)
    try:
        expected = madd(a, b)
        child = os.fork()
        if not child:
            os._exit(0 if np.array_equal(madd(a, b), expected) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert np.array_equal(madd(a, b), expected)
    finally:
        native.set_threads(before)


def _says(code: str, **environment: str) -> str:
    code = f"from codec import native\n{code}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_environment_switches_it_off() -> None:
    assert (
        _says("print(native.library(), native.instruction_set(), native.threads())", CODEC_NATIVE="0")
        == "None None 1\n"
    )


@compiled
def test_the_environment_chooses() -> None:
    assert _says("print(native.instruction_set())", CODEC_NATIVE="portable") == "portable\n"
    assert "there are 0, portable" in _says("native.library()", CODEC_NATIVE="mmx")
    assert _says("print(native.threads())", CODEC_THREADS="1", OMP_NUM_THREADS="2") == "1\n"


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(UsageError, match="no instruction set 'mmx'"), native.using("mmx"):
        pass
    with native.using(None):
        assert native.library() is None


@compiled
def test_the_engine_is_the_fastest_that_is_there() -> None:
    assert _says("print(native.engine())", CODEC_ENGINE="") == "native\n"
    assert _says("print(native.engine())", CODEC_NATIVE="0", CODEC_ENGINE="") == "torch\n"
    assert _says("print(native.engine())", CODEC_ENGINE="numpy") == "numpy\n"
    no_torch = "import sys; sys.modules['torch'] = None\n"
    assert _says(f"{no_torch}print(native.engine())", CODEC_NATIVE="0", CODEC_ENGINE="") == "numpy\n"


def test_an_engine_that_is_not_there_is_refused() -> None:
    assert "there are native, numpy, torch" in _says("native.engine()", CODEC_ENGINE="mkl")
    assert "no compiled module" in _says("native.engine()", CODEC_ENGINE="native", CODEC_NATIVE="0")
    assert "isn't installed" in _says("import sys; sys.modules['torch'] = None\nnative.engine()", CODEC_ENGINE="torch")
