"""Finding and reading weights: safetensors files, each with a JSON manifest beside it in the package's `weights/`.

A file names its weights by the first 16 bytes of their sha256; `find_by_hash` looks that up, `load_tensors` reads the
file once, and hashes and parses the very same bytes. Nothing here can run code: JSON and safetensors only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import WeightsError
from ...files import PACKAGE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ID_BYTES",
    "SHIPPED",
    "LoadedWeights",
    "Manifest",
    "find",
    "find_by_hash",
    "load_tensors",
    "load_weights",
    "manifests",
]

SHIPPED = PACKAGE / "weights"
ID_BYTES = 16
MAX_BYTES = 1 << 33  # of a weights file
MAX_MANIFEST = 1 << 20  # bytes of JSON

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

    tensors: on the CPU, by name. metadata: the text map of the safetensors header. sha256: hex, of the file.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    sha256: str

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


def find_by_hash(codec: str, first16: bytes, folder: Path | None = None) -> Manifest:
    """The weights that a file was made with, retired ones included."""
    for item in manifests(codec, folder):
        if item.id == first16:
            return item
    raise WeightsError(
        f"the {codec!r} weights this file was made with (sha256 {first16.hex()}...) aren't installed: "
        "pip install -U codec-suite, or name them with weights=... (--weights)"
    )


def load_tensors(path: str | Path, expected_sha256: str | None = None) -> LoadedWeights:
    """Read a safetensors file. With `expected_sha256` (hex), any other content is refused before it is parsed."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path}: larger than {MAX_BYTES} bytes; this can't be a weights file of ours")
        data = path.read_bytes()
    except OSError as error:
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
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a valid safetensors file ({error})") from None
    return LoadedWeights(tensors, metadata, sha256)


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
        header = json.loads(data[8 : 8 + n_header])
        metadata = header.get("__metadata__", {})
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
