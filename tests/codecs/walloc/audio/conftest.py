"""What the tests of WaLLoC's audio models share."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.codecs.walloc.audio.packets_model import PacketModel
from codec.codecs.walloc.audio.packets_network import PacketNet
from codec.codecs.walloc.audio.packets_torch import export_small

from .tiny import MONO, TINY, seeded_net


@pytest.fixture(scope="session", params=[TINY, MONO], ids=["stereo", "mono"])
def net(request: pytest.FixtureRequest) -> PacketNet:
    return seeded_net(request.param)


@pytest.fixture(scope="session")
def model(net: PacketNet, tmp_path_factory: pytest.TempPathFactory) -> PacketModel:
    path: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    path.write_bytes(export_small(net, "tiny", (-48, 32), -5))
    return PacketModel.read(path)
