"""Weights files whose header says anything: WeightsError in bounded time, whatever it is, for every family."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codec import Codec, registry
from codec.codecs.base import weights
from codec.errors import WeightsError

SECONDS = 6.0  # of one file, on a busy machine; the network of a million blocks took minutes
VALUES = (-1, 0, 10**6, 10**18, 1e9, float("nan"), True, None, "x", [], [3], {}, [10**6] * 9, [[1]])
FAMILIES = [name for name in registry.names() if weights.manifests(name) and registry.entry(name).medium != "video"]
MOST = {"s2lic": 40, "vqgan": 60}  # files that are tried, evenly spread: they are large; s2lic has tests of its own


def smallest(name: str) -> Path:
    return min((item.path for item in weights.manifests(name)), key=lambda path: path.stat().st_size)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def changed(about: Any) -> Iterator[Any]:
    """The JSON of a family with each value, at every depth, replaced by what it shouldn't be, or left out."""
    if not isinstance(about, dict):
        yield from (value for value in VALUES if value != about or type(value) is not type(about))
        return
    for key, value in about.items():
        if key in ("tag", "distortion"):  # words
            continue
        yield {name: item for name, item in about.items() if name != key} if key == "config" else {**about, key: None}
        yield from ({**about, key: other} for other in changed(value))
    yield {**about, "config": {"more": 1}}


def mutants(name: str) -> Iterator[tuple[str, bytes]]:
    header, body = parts(smallest(name).read_bytes())
    meta = header["__metadata__"]
    key = "domain" if name == "circuit" else name
    for about in changed(json.loads(meta[key])):
        yield f"{key}: {about!r:.300}", joined({**header, "__metadata__": {**meta, key: json.dumps(about)}}, body)
    for words in ("", "[", "[" * 100_000, "null", "{}", "9" * 5000):
        yield words[:9], joined({**header, "__metadata__": {**meta, key: words}}, body)
    yield "no metadata", joined({k: v for k, v in header.items() if k != "__metadata__"}, body)
    yield "entries", joined({**header, "__metadata__": {**meta, **{str(i): "" for i in range(2000)}}}, body)
    yield "nested", joined(b'{"__metadata__":' + b'{"a":' * 100_000 + b"}" * 100_001, body)
    tensors = [tensor for tensor in header if tensor != "__metadata__"]
    for tensor in (tensors[0], tensors[len(tensors) // 2], tensors[-1]):
        entry = header[tensor]
        yield f"{tensor} left out", joined({k: v for k, v in header.items() if k != tensor}, body)
        yield f"{tensor} renamed", joined({(k + "x" if k == tensor else k): v for k, v in header.items()}, body)
        for shape in ([], [1], [10**12, 0], [-1], [2**63], [*entry["shape"][::-1], 1]):
            yield f"{tensor} {shape}", joined({**header, tensor: {**entry, "shape": shape}}, body)
        for dtype in ("F8_E4M3", "BOOL", "X"):
            yield f"{tensor} {dtype}", joined({**header, tensor: {**entry, "dtype": dtype}}, body)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_header(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tried = 0
    slow = []
    every = list(mutants(name))
    for words, data in every[:: -(-len(every) // MOST.get(name, 150))]:
        path.write_bytes(data)
        started = time.process_time()
        try:
            Codec.load(name, weights=path)
        except WeightsError as error:
            assert len(str(error)) < 1500
        if time.process_time() - started > SECONDS:
            slow.append(words)
        tried += 1
    assert tried > 30
    assert not slow


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(name: str, value: float, tmp_path: Path) -> None:
    from safetensors.torch import save

    loaded = weights.load_tensors(smallest(name))
    floats = [key for key, tensor in loaded.tensors.items() if tensor.is_floating_point() and tensor.numel()]
    path = tmp_path / "x.safetensors"
    for key in (floats[0], floats[-1]) if floats else ():
        tensor = loaded.tensors[key].clone()
        tensor.view(-1)[-1] = value
        path.write_bytes(save({**loaded.tensors, key: tensor}, dict(loaded.metadata)))
        with pytest.raises(WeightsError, match="finite"):
            Codec.load(name, weights=path)
    assert floats or all(np.issubdtype(tensor.numpy().dtype, np.integer) for tensor in loaded.tensors.values())


def test_sizes_are_compared_before_anything_is_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that the file can't fill is only made on the meta device."""
    from codec.codecs.walloc import torch_model as walloc
    from codec.codecs.zipgan import codec as zipgan

    for name, module, kind, change in (
        ("walloc", walloc, "WallocNet", {"decoder": "paper", "width": 4096}),
        ("zipgan", zipgan, "Generator", {"features": 1024}),
    ):
        before = getattr(module, kind)

        def spy(config: Any, before: Any = before) -> Any:
            assert torch.empty(0).device.type == "meta"
            return before(config)

        header, body = parts(smallest(name).read_bytes())
        about = json.loads(header["__metadata__"][name])
        about["config"] |= change
        path = tmp_path / "x.safetensors"
        path.write_bytes(joined({**header, "__metadata__": {**header["__metadata__"], name: json.dumps(about)}}, body))
        monkeypatch.setattr(module, kind, spy)
        with pytest.raises(WeightsError, match="don't fit"):
            Codec.load(name, weights=path)
