"""The words of the command about compact files: `info`, `verify` and `decode`, of whole and of damaged ones."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec import registry
from codec.cli import main
from codec.codecs.vqgan import CARD
from codec.codecs.vqgan.codec import VqganCodec
from codec.container import ChunkReader, unpack

from .nets import random_net, weights_file


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_file(random_net(), tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec is listed, whether weights of it ship or not."""
    ours = registry._ours()
    (card,) = registry._located(CARD, "codec.codecs.vqgan")
    monkeypatch.setattr(registry, "_ours", lambda: {**ours, card.name: card})


@pytest.mark.parametrize("packets", [None, 4])
def test_what_is_said(packets: int | None, path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    codec = VqganCodec.from_weights(None, None, path, "cpu").with_settings(packets=packets)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    file, weights = tmp_path / "a.vqgan", ["--weights", str(path)]
    file.write_bytes(codec.compress(Image.fromarray(pixels), 1))
    chunks = unpack(file.read_bytes())[1]

    assert main(["info", str(file), "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["codec"], facts["coder"], facts["arithmetic"], facts["shape"]) == (
        "vqgan",
        "fixed",
        "int",
        [70, 90, 3],
    )
    assert facts["weights"] == codec.weights_id[:4].hex() and "tag" not in facts
    assert facts["params"] == ({"bits": 3} if packets is None else {"bits": 3, "packets": 4})
    assert facts["chunks"] == [[chunk.tag, len(chunk.payload)] for chunk in chunks]
    assert facts["n_bytes"] == file.stat().st_size and facts["overhead"] <= 24 * len(chunks)
    assert main(["info", str(file)]) == 0
    shown = capfd.readouterr().out
    assert "70 x 90 x 3" in shown and f"{chunks[0].tag} {len(chunks[0].payload)}" in shown

    assert main(["verify", str(file), *weights]) == 0
    assert "ok, vqgan stream 1" in capfd.readouterr().err
    assert main(["verify", str(file)]) == 4  # no weights of that name ship
    with file.open("rb") as opened:
        place = ChunkReader(opened).places()[-1]
    damaged = bytearray(file.read_bytes())
    damaged[place.end - 5] ^= 1
    file.write_bytes(damaged)
    capfd.readouterr()
    for verb in ("info", "verify"):
        assert main([verb, str(file), *(weights if verb == "verify" else [])]) == 3
        assert ("--conceal" in capfd.readouterr().err) == (packets is not None)
    status = main(["decode", str(file), *weights, "--conceal", "-o", str(tmp_path / "b.png")])
    assert status == (3 if packets is None else 0)
    assert ("1 of 4 packets" in capfd.readouterr().err) == (packets is not None)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])  # the compact form, and the long one
def test_words_of_concealing(mode: str, path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    codec = VqganCodec.from_weights(None, None, path, "cpu").with_settings(packets=4)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, len(mode)), np.uint8)
    good = codec.compress(Image.fromarray(pixels, mode), 1)
    place = ChunkReader(io.BytesIO(good)).places()[1]
    damaged = bytearray(good)
    damaged[place.end - 5] ^= 1
    lost = "1 of 4 packets are missing: what was in them is guessed"
    assert [str(note) for note in codec.decode_picture(bytes(damaged), conceal=True).notes] == [f"damage: {lost}"]
    file, out = tmp_path / "a.vqgan", tmp_path / "a.png"
    for data, words in ((bytes(damaged), lost), (good + b"\n", "bytes beside them, which were left out"), (good, "")):
        file.write_bytes(data)
        assert main(["decode", str(file), "--weights", str(path), "-o", str(out), "--force"]) == (3 if words else 0)
        assert ("--conceal" in capfd.readouterr().err) == bool(words)
        assert main(["decode", str(file), "--weights", str(path), "--conceal", "-o", str(out), "--force"]) == 0
        said = capfd.readouterr().err
        assert words in said and ("packets" in said) == bool(words)
