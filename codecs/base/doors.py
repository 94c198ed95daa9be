"""The public doors of a codec: which kinds of input they take, the state that they run in, and what damage becomes.

Every public method of a codec passes through `door`, which `Codec` puts around it; no family has to remember it.
Inside, torch is as it is in a fresh process, whatever the caller has set: no autocast, tensors on the CPU unless a
device is named, gradients possible. A decoding method also turns what a damaged payload can raise into StreamError.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import lzma
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...errors import CodecError, MediaError, StreamError, UsageError, torch_may_be_missing
from ...files import MAX_INPUT_BYTES
from ..layers.inference import fresh_torch, loaded_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "bytes_of",
    "check_dense",
    "check_unmasked",
    "damage_is_an_error",
    "door",
    "is_torch",
    "text_of",
    "wrap_doors",
]

Method = TypeVar("Method", bound=Callable[..., Any])

DATA = "a path, the bytes of a file, or a file opened in binary mode"


# ---- kinds of input


def text_of(path: str | os.PathLike[str]) -> str:
    """The text of a path; MediaError for one that no file can have, as the content of a file in place of its name."""
    name = os.fsdecode(path)
    if "\0" in name:
        raise MediaError(f"{name[:200]}: no path has a zero byte; the content of a file is given as bytes")
    return name


def is_torch(x: object) -> bool:
    """Whether x is a torch tensor, of a subclass too, without importing torch."""
    torch = loaded_torch()
    return torch is not None and isinstance(x, torch.Tensor)


def check_dense(x: Tensor) -> None:
    """Raise UsageError for a tensor whose values can't be read one by one: sparse, quantised, without any."""
    torch = loaded_torch()
    if x.is_meta:
        raise UsageError("a tensor on the device meta has no values: expected one with values, as on the CPU")
    if x.is_quantized:
        raise UsageError(f"a quantised tensor ({x.dtype}): expected ordinary numbers, call x.dequantize() first")
    if x.layout != torch.strided:
        raise UsageError(f"a tensor of layout {x.layout}: expected a dense one, call x.to_dense() first")
    if getattr(x, "is_nested", False):
        raise UsageError("a nested tensor: expected one of a single shape; a batch is a list of tensors")


def check_unmasked(array: NDArray[Any]) -> None:
    """Raise UsageError for an array in which values are masked: a file would hold what lies below the mask."""
    import numpy as np

    if isinstance(array, np.ma.MaskedArray) and bool(np.ma.getmaskarray(array).any()):
        hidden = int(np.ma.getmaskarray(array).sum())
        raise UsageError(f"{hidden} values of this array are masked, which a file can't say: call array.filled(value)")


def bytes_of(x: Any, arrays: bool = False) -> bytes | bytearray | memoryview | None:
    """The content of a file that is in memory or open; None for any other kind of value, a path among them.

    arrays: whether arrays and tensors of bytes (1-D, uint8) are files too; a codec of arrays takes them as values.
    UsageError for a file opened as text, or closed; MediaError for one that can't be read.
    """
    if isinstance(x, (bytes, bytearray)):
        return x
    if isinstance(x, memoryview):
        return x if x.c_contiguous and x.format == "B" and x.ndim == 1 else x.tobytes()
    if isinstance(x, (str, os.PathLike)):
        return None
    if is_torch(x) or type(x).__module__.partition(".")[0] == "numpy" or hasattr(x, "__array_interface__"):
        return _bytes_of_array(x) if arrays else None
    if isinstance(x, io.TextIOBase):
        raise UsageError("a file opened as text: open it in binary mode, as open(path, 'rb')")
    if callable(getattr(x, "read", None)) and not isinstance(x, type):
        return _read(x)
    try:
        return memoryview(cast(Any, x)).tobytes()
    except (TypeError, ValueError, BufferError):
        return None


def _bytes_of_array(x: Any) -> bytes | None:
    if is_torch(x):
        x = x.detach().cpu().numpy() if str(x.dtype) == "torch.uint8" and x.ndim == 1 and not x.is_meta else None
    return x.tobytes() if str(getattr(x, "dtype", "")) == "uint8" and x.ndim == 1 else None


def _read(file: Any) -> bytes:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the open file"
    parts: list[bytes] = []
    size = 0
    try:
        while part := file.read(min(1 << 24, MAX_INPUT_BYTES + 1 - size)):
            if not isinstance(part, (bytes, bytearray, memoryview)):
                raise UsageError(f"{name} gives {type(part).__name__}, not bytes: open it in binary mode")
            parts.append(bytes(part))
            size += len(parts[-1])
            if size > MAX_INPUT_BYTES:
                raise MediaError(f"{name} has more than {MAX_INPUT_BYTES} bytes, the most that one input may have")
    except CodecError:
        raise
    except (OSError, EOFError) as error:
        raise MediaError(f"{name}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    except (ValueError, TypeError) as error:  # closed; a `read` that takes no size
        raise UsageError(f"{name} can't be read as a file ({error}): expected {DATA}") from error
    if not parts:
        raise MediaError(f"{name} gives no bytes: it is empty, or was read or written to its end; file.seek(0)")
    return b"".join(parts)


# ---- damage

_DAMAGE = (ValueError, IndexError, KeyError, ArithmeticError, EOFError, struct.error, zlib.error, lzma.LZMAError)
_NO_MEMORY = ("out of memory", "can't allocate", "not enough memory")


@contextlib.contextmanager
def damage_is_an_error() -> Iterator[None]:
    """Turns what a damaged payload can raise into StreamError.

    Our own mistakes, which would fail with an intact file too (a TypeError, an assertion), stay what they are.
    """
    try:
        yield
    except MemoryError as error:
        raise _too_large(error) from error
    except _DAMAGE as error:
        if isinstance(error, OSError):  # io.UnsupportedOperation is a ValueError too
            raise
        raise _damaged(error) from error
    except RuntimeError as error:
        words = str(error)
        if any(part in words for part in _NO_MEMORY):
            raise _too_large(error) from error
        if isinstance(error, (NotImplementedError, RecursionError)) or "CUDA error" in words:
            raise
        raise _damaged(error) from error


def _damaged(error: Exception) -> StreamError:
    words = (str(error).splitlines() or [""])[0][:160]
    return StreamError(f"the payload can't be decoded ({type(error).__name__}: {words}): the file is damaged")


def _too_large(error: BaseException) -> StreamError:
    words = (str(error).splitlines() or [""])[0][:160]
    return StreamError(f"decoding takes more memory than there is ({words}): the file is damaged, or too large")


# ---- doors

# Methods that only decode: what they raise is said of the file. (`decode_file` also writes, which fails otherwise.)
DECODES = frozenset(
    [
        *("decode_array", "decode_array_file", "decode_dataset", "decode_field", "decode_picture", "decode_pixels"),
        *("decompress_item", "decompress_one", "verify_file"),
    ]
)


def door(method: Method, decodes: bool = False) -> Method:
    """Decorates a method of a codec: it runs in `fresh_torch`; one that only decodes, in `damage_is_an_error` too."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        device = getattr(self, "device", "cpu")
        with torch_may_be_missing(), fresh_torch(device if isinstance(device, str) else "cpu"):
            if not decodes:
                return method(self, *args, **options)
            with damage_is_an_error():
                return method(self, *args, **options)

    run.is_door = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    return cast(Method, run)


def wrap_doors(family: type) -> None:
    """Makes a door of every public method that a class defines itself. Generators decide at each step: left as is."""
    for name, method in list(vars(family).items()):
        if not inspect.isfunction(method) or name.startswith("_") or hasattr(method, "is_door"):
            continue
        if inspect.isgeneratorfunction(method) or getattr(method, "__isabstractmethod__", False):
            continue
        setattr(family, name, door(method, name in DECODES))
