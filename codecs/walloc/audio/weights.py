"""The weights files of the codec of sound, read strictly: what the mixer knows at first."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ....entropy.mixing import shipping, sound
from ....entropy.mixing.mixer import Mixer
from ....errors import StreamError, WeightsError
from ...base.weights import LoadedWeights, about_of, reading
from .packets_model import PacketModel

__all__ = ["STATE", "LappedModel", "metadata", "read_model"]

CODEC = "walloc-audio"
STATE = "mixer.start"


@dataclass(frozen=True, eq=False)
class LappedModel:
    """The content of a weights file. start: what the mixer knows when a piece begins."""

    start: Mixer
    tag: str
    id: bytes


def metadata(tag: str) -> dict[str, str]:
    """The text map of a weights file."""
    return {"codec": CODEC, CODEC: json.dumps({"tag": tag})}


def read_model(weights: LoadedWeights, device: str = "cpu") -> LappedModel | PacketModel:
    """The model of a weights file, of either kind. WeightsError if it holds anything else."""
    if STATE not in weights.arrays:
        return PacketModel.read(weights, device)
    with reading(CODEC):
        about = about_of(weights, CODEC)
        if set(weights.arrays) != {STATE} or weights.arrays[STATE].dtype != np.uint8:
            raise ValueError(f"arrays {sorted(weights.arrays)!r:.80}; expected {STATE}, bytes")
        try:
            start = shipping.unpack(weights.arrays[STATE].tobytes(), sound.plan())
        except StreamError as error:
            raise WeightsError(str(error)) from None
        start.weights.flags.writeable = start.lines.flags.writeable = False
        return LappedModel(start, str(about["tag"]), weights.id)
