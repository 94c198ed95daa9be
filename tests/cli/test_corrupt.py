"""`codec corrupt`: what it damages, and that it says so."""

from __future__ import annotations

import json
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.cli import main
from codec.cli.corrupt import corrupted
from codec.container import PACKET, Chunk, Header, pack, salvage
from codec.errors import ContainerError, UsageError

PACKETS = [Chunk(PACKET, random.Random(n).randbytes(50)) for n in range(20)]
PLAIN = Header("vqgan", 1, bytes(16), "fixed", "int", shape=(320, 320, 3), params={"bits": 8, "packets": 20})
FILE = pack(PLAIN, PACKETS, compact=True)


def lost(data: bytes) -> set[int]:
    return {n for n, chunk in enumerate(salvage(data)[1]) if not chunk.payload}


@pytest.mark.parametrize("how", ["drop", "damage", "both"])
@pytest.mark.parametrize(("loss", "n_lost"), [(0.0, 0), (0.2, 4), (0.5, 10), (0.999, 19)])
def test_packets(how: str, loss: float, n_lost: int) -> None:
    data, facts = corrupted(FILE, loss, 1, how)
    assert (facts["unit"], facts["of"], facts["lost"]) == ("packets", 20, n_lost)
    assert len(lost(data)) == n_lost
    assert corrupted(FILE, loss, 1, how) == (data, facts)
    dropped = {"drop": n_lost, "damage": 0, "both": n_lost // 2}[how]
    assert len(data) == len(FILE) - dropped * (len(FILE) // 20)


def test_a_little_loss_is_a_loss() -> None:
    assert corrupted(FILE, 0.01, 1)[1]["lost"] == 1
    single = pack(replace(PLAIN, params={"bits": 8, "packets": 1}), PACKETS[:1], compact=True)
    assert corrupted(single, 0.5, 1) == (single, corrupted(single, 0.5, 1)[1]), "one packet is always left"
    assert corrupted(pack(Header("walloc", 1), [Chunk("Body", bytes(20))]), 0.001, 1)[1]["lost"] == 1


def test_large_files_without_packets() -> None:
    """As many bytes are changed everywhere, and memory stays a few times the file's."""
    data = pack(Header("walloc", 1), [Chunk("Body", bytes(3 << 20))])
    tracemalloc.start()
    out, facts = corrupted(data, 0.05, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    differ = np.frombuffer(out, np.uint8) != np.frombuffer(data, np.uint8)
    assert facts["lost"] == differ.sum() == round(0.05 * len(data))
    assert abs(differ[: 1 << 20].mean() - 0.05) < 0.001
    assert peak < 5 * len(data)


def test_the_seed_chooses() -> None:
    assert len({frozenset(lost(corrupted(FILE, 0.2, seed)[0])) for seed in range(8)}) > 4


def test_the_long_form() -> None:
    header = Header(
        "vqgan", 1, bytes(16), "fixed", "int", params={"bits": 8, "packets": 20}, meta={"dpi": (72.0, 72.0)}
    )
    data = pack(header, [*PACKETS, Chunk("Alph", b"plane")])
    damaged, facts = corrupted(data, 0.2, 3)
    assert facts["lost"] == 4 and len(lost(damaged)) == 4


@pytest.mark.parametrize("meta", [{}, {"dpi": (72.0, 72.0)}], ids=["compact", "long"])
@pytest.mark.parametrize(("n_bytes", "loss", "how"), [(160, 0.9, "damage"), (800, 0.4, "both")])
def test_as_many_packets_as_there_can_be(n_bytes: int, loss: float, how: str, meta: dict[str, Any]) -> None:
    """What is lost is what was damaged, and nothing behind it."""
    header = replace(PLAIN, params={"bits": 8, "packets": 1024}, meta=meta)
    packets = [Chunk(PACKET, random.Random(n).randbytes(n_bytes)) for n in range(1024)]
    damaged, facts = corrupted(pack(header, packets, compact=True), loss, 1, how)
    kept = salvage(damaged)[1]
    assert sum(not chunk.payload for chunk in kept) == facts["lost"] == round(1024 * loss)
    assert all(chunk in (packet, Chunk(PACKET, b"")) for chunk, packet in zip(kept, packets, strict=True))


def test_other_files() -> None:
    data = pack(Header("walloc", 1), [Chunk("Body", bytes(400))])
    damaged, facts = corrupted(data, 0.1, 1)
    differ = sum(a != b for a, b in zip(damaged, data, strict=True))
    assert facts["unit"] == "bytes" and facts["lost"] == differ == round(0.1 * len(data))
    with pytest.raises(ContainerError):
        corrupted(damaged, 0.1, 1)
    with pytest.raises(UsageError, match="has none"):
        corrupted(data, 0.1, 1, "drop")


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.vqgan"
    source.write_bytes(FILE)
    assert main(["corrupt", str(source), "--loss", "0.3", "--seed", "5"]) == 0
    assert "6 of 20 packets lost: 3 left out, 3 damaged" in capfd.readouterr().err
    made = tmp_path / "a.corrupt.vqgan"
    assert made.read_bytes() == corrupted(FILE, 0.3, 5)[0]
    assert main(["corrupt", str(source), "--json", "-o", str(tmp_path / "b")]) == 0
    assert json.loads(capfd.readouterr().out)["lost"] == 4
    assert main(["info", str(made)]) == 3  # a strict reader says what can be done
    assert "codec decode --conceal" in capfd.readouterr().err
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["corrupt", str(tmp_path / "x.png")]) == 3
