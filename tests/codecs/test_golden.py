"""Golden files of every stream version decode for ever, by every engine, to what they held when they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec import registry
from codec.container import read_header, unpack

from .. import probes
from .test_contract import WAYS, Way

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
INDEX: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text()) if (GOLDEN / "golden.json").exists() else {}
HOW = "run `python tests/golden/make.py` and commit what it writes"


@pytest.mark.parametrize("name", [case for cases in probes.MEDIA for case in cases()])
def test_there_are_golden_streams(name: str) -> None:
    """For the current stream version: each of the weights that ship, each coder."""
    codec = probes.load(name)
    here = [
        entry
        for entry in INDEX.values()
        if (entry["codec"], entry["stream"], entry["weights"]) == (codec.name, codec.stream, codec.weights_id.hex())
        and (codec.medium != "video" or entry["tag"] == codec.preset.name)
    ]
    assert here, f"no golden files of {name}, stream {codec.stream}, with the weights that ship: {HOW}"
    missing = set(probes.coders(codec)) - {"", *(entry["coder"] for entry in here)}
    assert not missing, f"no golden files of {name}, stream {codec.stream}, coder {sorted(missing)}: {HOW}"


def test_every_golden_file_is_listed() -> None:
    """Whatever lies there; nothing was lost."""
    suffixes = tuple(registry.entry(name).suffix for name in registry.names())
    lying = {path.name for path in GOLDEN.iterdir() if path.name.endswith(suffixes)}
    assert lying == set(INDEX), f"files and golden.json differ: {sorted(lying ^ set(INDEX))}; {HOW}"


ALWAYS_TORCH = ("zipgan", "nirvana-paper")
TORCH_IS_THE_TWIN = ("walloc-audio",)


def ways_of(file: str) -> list[Way]:
    if file.startswith(ALWAYS_TORCH):
        return WAYS[-1:]
    return WAYS[:-1] if file.startswith(TORCH_IS_THE_TWIN) else WAYS


# Without kernels these take ten seconds each, in loops over bits that the quicker files of their codecs run as well.
SLOW_WITHOUT_KERNELS = (
    *("mnist-s1-fd7e6bdd-mix-items.", "fashion-s1-f6ba6b2a-mix-items.", "fashion-s1-f6ba6b2a-mix-items-items."),
    *(f"interp-s3-{name}." for name in ("field", "loose", "masked", "pointwise", "rmse", "tight")),
    *(
        f"walloc-audio-{model}-mix-{name}."
        for model in ("packets-s1-fb7ac4c8", "lapped-s1-7969854a")
        for name in ("stereo", "three")
    ),
    *(f"walloc-audio-packets-s1-fb7ac4c8-mix-{name}." for name in ("bits24", "float")),
    *("dualgs-s1-steady.", "dualgs-s1-chunks."),
)


def is_slow(file: str, way: Way) -> bool:
    if way.engine == "torch" and file.startswith("circuit") and "-mix-" in file:
        return True  # mixing knows no torch: NumPy's loops again
    return way.instruction_set is None and any(part in file for part in SLOW_WITHOUT_KERNELS)


RUNS = [(file, way) for way in WAYS for file in sorted(INDEX) if way in ways_of(file)]


@pytest.mark.parametrize(
    ("file", "way"),
    [pytest.param(*run, marks=pytest.mark.slow if is_slow(*run) else ()) for run in RUNS],
    ids=lambda value: str(value),
)
def test_golden_streams(file: str, way: Way) -> None:
    with way.taken():
        check_golden(file)


def test_no_way_is_only_slow() -> None:
    """Each codec, with each of its weights, and each method of blocks: without what only the slow tests run, too."""

    def things(runs: list[tuple[str, Way]]) -> set[tuple[Any, ...]]:
        return {(way, INDEX[f]["codec"], INDEX[f]["weights"], *INDEX[f].get("methods", ())) for f, way in runs}

    assert things([run for run in RUNS if not is_slow(*run)]) == things(RUNS)


def check_golden(file: str) -> None:
    data, entry = (GOLDEN / file).read_bytes(), INDEX[file]
    header = read_header(data)
    assert header.made_with(bytes.fromhex(entry["weights"]))
    assert (header.codec, header.stream, header.coder) == (entry["codec"], entry["stream"], entry["coder"])
    assert (list(header.shape), header.dtype, len(data)) == (entry["shape"], entry["dtype"], entry["bytes"])
    if "methods" in entry:
        assert probes.methods_of(data) == entry["methods"]
    if "samples" in entry:
        samples, wanted = np.array(probes.samples_of(data)), np.array(entry["samples"])
        assert np.abs(samples - wanted).max() <= 1e-3 * np.abs(wanted).max(), "a golden file decodes to another field"
    else:
        assert probes.digest_of_pixels(data) == entry["pixels"], (
            "a golden file decodes to other pixels than when it was made"
        )


def test_golden_fields_are_coded_in_every_way() -> None:
    """Each of the weights of zipgan: with latents alone, with a residual; some with the generator."""
    generated = 0
    for tag in ("8x", "64x", "512x"):
        mine = [file for file in INDEX if file.startswith(f"zipgan-{tag}-s2") and INDEX[file]["methods"] == ["zipgan"]]
        heads = [unpack((GOLDEN / file).read_bytes())[1][0].payload[5 + 4 :] for file in mine]  # behind two lengths
        assert {bool(head[0] & 16) for head in heads} == {False, True}, "none with a residual, or none without"
        generated += any(head[0] & 8 for head in heads)
    assert generated
    for way in ("interpolation", "mixed interpolation", "mixed wavelets"):
        assert [way] in [entry.get("methods") for entry in INDEX.values()]
