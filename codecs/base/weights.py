"""Finding and reading weights: safetensors files, each with a JSON manifest beside it in the package's `weights/`.

A file names its weights by the first 16 bytes of their sha256; `find_by_hash` looks that up, `load_tensors` reads the
file once, and hashes and parses the very same bytes. Nothing here can run code: JSON and safetensors only.

A family reads the rest strictly: with `about_of` and `config_of` before it builds a network, then by
`layers/exact_state.py`, with `check_shapes` while the network is on the meta device, where it takes no memory, and
with `check_numbers` before it is used. All of it in `reading`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ...errors import WeightsError
from ...files import PACKAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "ID_BYTES",
    "SHIPPED",
    "LoadedWeights",
    "Manifest",
    "about_of",
    "config_of",
    "find",
    "find_by_hash",
    "load_tensors",
    "load_weights",
    "manifests",
    "reading",
]

T = TypeVar("T")

SHIPPED = PACKAGE / "weights"
ID_BYTES = 16
MAX_BYTES = 1 << 33  # of a weights file
MAX_MANIFEST = 1 << 20  # bytes of JSON
MAX_HEADER = 1 << 23  # bytes of a safetensors file's JSON; our largest has 60,000
MAX_METADATA = 1 << 8  # entries
LARGEST_SIZE = 1 << 16  # of a setting that nothing else bounds: layers of more channels are none of ours

_FIELDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "codec": (str,),
    "tag": (str,),
    "file": (str,),
    "sha256": (str,),
    "parameters": (int,),
    "licence": (str,),
    "training_data": (str,),
    "recipe": (str,),
    "steps": (int,),
    "seconds": (int, float),
    "device": (str,),
    "commit": (str,),
    "metrics": (dict,),
}


@dataclass(frozen=True)
class Manifest:
    """The facts about a weights file. `path` is where it lies; the other fields are the JSON's.

    default: the one to take if no tag is asked for. retired: only kept for decoding old files, never taken by tag.
    """

    path: Path
    name: str
    codec: str
    tag: str
    file: str
    sha256: str
    parameters: int
    licence: str
    training_data: str
    recipe: str
    steps: int
    seconds: float
    device: str
    commit: str
    metrics: Mapping[str, Any]
    default: bool = False
    retired: bool = False

    @property
    def id(self) -> bytes:
        """The first 16 bytes of the sha256, as the header of a file has them."""
        return bytes.fromhex(self.sha256)[:ID_BYTES]


@dataclass(frozen=True)
class LoadedWeights:
    """A weights file in memory.

    arrays: by name, read-only; bfloat16, which NumPy hasn't got, as float32. metadata: the text map of the safetensors
    header. sha256: hex, of the file.
    """

    arrays: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]
    sha256: str

    @functools.cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The arrays as torch tensors on the CPU, in memory of their own."""
        import numpy as np
        import torch

        with torch.device("cpu"), torch.inference_mode(False):
            return {name: torch.from_numpy(np.array(array)) for name, array in self.arrays.items()}

    @property
    def id(self) -> bytes:
        return bytes.fromhex(self.sha256)[:ID_BYTES]


def manifests(codec: str | None = None, folder: Path | None = None) -> tuple[Manifest, ...]:
    """All manifests (of one codec), sorted by codec and tag. folder: another one than the package's `weights/`."""
    everything = _read_folder((SHIPPED if folder is None else Path(folder)).resolve())
    return tuple(item for item in everything if codec in (None, item.codec))


def find(codec: str, tag: str | None = None, folder: Path | None = None) -> Manifest:
    """The weights of a codec under a tag; without a tag the default ones. WeightsError says which there are."""
    usable = [item for item in manifests(codec, folder) if not item.retired]
    if not usable:
        raise WeightsError(
            f"no weights for {codec!r} are installed: reinstall codec-suite, train some (codec train {codec}), "
            "or name a file with weights=... (--weights)"
        )
    tags = ", ".join(sorted({item.tag for item in usable}))
    if tag is not None:
        fitting = [item for item in usable if item.tag == tag]
        if not fitting:
            raise WeightsError(f"no weights {tag!r} for {codec!r}: there are {tags}, as in {codec}@{usable[0].tag}")
    else:
        fitting = [item for item in usable if item.default] or usable
        if len(fitting) > 1:
            raise WeightsError(f"several weights for {codec!r}: name one of {tags}, as in {codec}@{fitting[0].tag}")
    if len(fitting) > 1:
        files = ", ".join(item.file for item in fitting)
        raise WeightsError(f'several weights {tag!r} for {codec!r} ({files}): mark the older "retired": true')
    return fitting[0]


def find_by_hash(codec: str, first: bytes, folder: Path | None = None) -> Manifest:
    """The weights that a file was made with, retired ones included. first: 4 to 16 bytes of their sha256."""
    fitting = [item for item in manifests(codec, folder) if item.id.startswith(first)] if len(first) >= 4 else []
    if len({item.sha256 for item in fitting}) > 1:
        files = ", ".join(item.file for item in fitting)
        raise WeightsError(
            f"{codec!r} weights whose sha256 begins with {first.hex()} are installed more than once ({files}): "
            "name those of this file with weights=... (--weights)"
        )
    if fitting:
        return fitting[0]
    raise WeightsError(
        f"the {codec!r} weights this file was made with (sha256 {first.hex()}...) aren't installed: "
        "pip install -U codec-suite, or name them with weights=... (--weights)"
    )


def load_tensors(path: str | Path, expected_sha256: str | None = None) -> LoadedWeights:
    """Read a safetensors file. With `expected_sha256` (hex), any other content is refused before it is parsed."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path}: larger than {MAX_BYTES} bytes; this can't be a weights file of ours")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        error = error if isinstance(error, OSError) else OSError(error)
        raise WeightsError(
            f"{path}: can't read the weights ({error.strerror or error}): reinstall codec-suite, or name another file"
        ) from None
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256.lower():
        raise WeightsError(
            f"{path}: sha256 is {sha256}, expected {expected_sha256}: the file is damaged or another one; "
            "reinstall codec-suite or download it again"
        )
    metadata = _metadata(data, path)
    from safetensors import SafetensorError, deserialize

    try:
        arrays = {name: _array(about) for name, about in deserialize(data)}
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RuntimeError, MemoryError) as error:
        raise WeightsError(f"{path}: not a valid safetensors file ({str(error)[:300]})") from None
    return LoadedWeights(arrays, metadata, sha256)


_DTYPES = {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}
_DTYPES |= {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?", "C64": "<c8"}


def _array(about: Mapping[str, Any]) -> NDArray[Any]:
    """The tensor that safetensors gives as its shape, dtype and bytes."""
    import numpy as np

    dtype, shape, data = about["dtype"], about["shape"], about["data"]
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype not in _DTYPES:
        raise ValueError(f"a tensor of {dtype}, which no weights of ours have: export them again")
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


def load_weights(codec: str, tag: str | None, path: Path | None = None) -> LoadedWeights:
    """The weights file that a path names, or else what ships for a codec under a tag (None: its default)."""
    if path is not None:
        return load_tensors(path)
    manifest = find(codec, tag)
    return load_tensors(manifest.path, manifest.sha256)


def _metadata(data: bytes, path: Path) -> Mapping[str, str]:
    n_header = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 or n_header > len(data) - 8:
            raise ValueError("too short")
        if n_header > MAX_HEADER:
            raise ValueError(f"a header of {n_header} bytes")
        header = json.loads(data[8 : 8 + n_header])
        metadata = header.get("__metadata__", {})
        if len(metadata) > MAX_METADATA:
            raise ValueError(f"{len(metadata)} entries of metadata")
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata that isn't text")
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: not a valid safetensors file ({error})") from None
    return metadata


def _read_folder(folder: Path) -> tuple[Manifest, ...]:
    read = [_read_manifest(path) for path in sorted(folder.glob("*.json"))]
    return tuple(sorted(read, key=lambda item: (item.codec, item.tag, item.file)))


def _read_manifest(path: Path) -> Manifest:
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise ValueError(f"more than {MAX_MANIFEST} bytes")
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a readable manifest ({error}): reinstall codec-suite") from None
    if not isinstance(fields, dict):
        raise WeightsError(f"{path}: a manifest is a JSON object; reinstall codec-suite")
    for key, types in _FIELDS.items():
        if not isinstance(fields.get(key), types) or isinstance(fields[key], bool):
            kinds = " or ".join(kind.__name__ for kind in types)
            raise WeightsError(f"{path}: field {key!r} must be {kinds}, not {fields.get(key)!r}; export it again")
    for key in ("default", "retired"):
        if not isinstance(fields.get(key, False), bool):
            raise WeightsError(f"{path}: field {key!r} must be true or false; export it again")
    sha256 = fields["sha256"].lower()
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise WeightsError(f"{path}: sha256 must be 64 hexadecimal digits; export it again")
    if Path(fields["file"]).name != fields["file"] or not fields["file"].endswith(".safetensors"):
        raise WeightsError(f"{path}: file must be the name of a safetensors file beside it, not {fields['file']!r}")
    known = {key: fields[key] for key in (*_FIELDS, "default", "retired") if key in fields}
    return Manifest(path=path.parent / fields["file"], **{**known, "sha256": sha256})


# ---- what is in a file, read strictly


@contextlib.contextmanager
def reading(codec: str, remedy: str | None = None) -> Iterator[None]:
    """Turns whatever the content of a weights file can raise into WeightsError.

    codec: the one that it should be for. remedy: what to do in place of training others.
    """
    remedy = (
        remedy or f"export them again with `codec train {codec}`, or name another file with weights=... (--weights)"
    )
    try:
        yield
    except WeightsError as error:
        if remedy in str(error):
            raise
        raise WeightsError(f"{error}: {remedy}") from error.__cause__
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        words = f"{type(error).__name__}: {str(error)[:300]}"
        raise WeightsError(
            f"these aren't weights of {codec!r} that this version can use ({words}): {remedy}"
        ) from error


def about_of(weights: LoadedWeights, codec: str) -> Mapping[str, Any]:
    """The JSON object that a family keeps in the metadata under its name. WeightsError without one."""
    if weights.metadata.get("codec", codec) != codec or codec not in weights.metadata:
        raise WeightsError(
            f"this isn't a weights file of {codec!r}, but of {weights.metadata.get('codec', 'none')!r:.80}"
        )
    try:
        about = json.loads(weights.metadata[codec])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the metadata {codec!r} in the weights aren't JSON ({error!s:.80})") from None
    if not isinstance(about, dict):
        raise WeightsError(f"the metadata {codec!r} in the weights are {type(about).__name__}; expected a JSON object")
    return about


def config_of(kind: type[T], values: Any, limits: Mapping[str, tuple[float, float]]) -> T:
    """A configuration, a dataclass of plain fields, from JSON: of the right types, and within limits by name.

    limits: of numbers, and of each number of a tuple; 1 to LARGEST_SIZE without one. ValueError says which field is
    wrong and what was expected. Lists become tuples.
    """
    if not isinstance(values, dict):
        raise ValueError(f"settings {values!r:.80}; expected names and values")
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    if unknown := set(values) - known:
        raise ValueError(f"unknown settings {sorted(unknown)!r:.200}")
    hints = typing.get_type_hints(kind)
    return kind(
        **{
            name: _checked(name, value, hints[name], limits.get(name, (1, LARGEST_SIZE)))
            for name, value in values.items()
        }
    )


def _checked(name: str, value: Any, kind: Any, limits: tuple[float, float]) -> Any:
    """One value of a configuration; ValueError unless it is of the annotated type and within the limits."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in inner):
            raise ValueError(f"{name} is {value!r:.80}; there are {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        count = None if inner[-1:] == (Ellipsis,) else len(inner)
        if not isinstance(value, list) or len(value) > LARGEST_SIZE or count not in (None, len(value)):
            raise ValueError(f"{name} is {value!r:.80}; expected {'a list of' if count is None else count} numbers")
        return tuple(_checked(name, item, inner[0], limits) for item in value)
    if origin in (typing.Union, type(int | None)):
        if value is None and type(None) in inner:
            return None
        return _checked(name, value, next(item for item in inner if item is not type(None)), limits)
    if kind in (bool, str):
        if type(value) is not kind or len(str(value)) > 200:
            raise ValueError(f"{name} is {value!r:.80}; expected {'true or false' if kind is bool else 'text'}")
        return value
    whole = type(value) is int or (kind is float and type(value) is float and math.isfinite(value))
    if not whole or not limits[0] <= value <= limits[1]:
        words = "a number" if kind is float else "a whole number"
        raise ValueError(f"{name} is {value!r:.80}; expected {words} from {limits[0]:g} to {limits[1]:g}")
    return value
