"""The state that `interp` starts from: what the mixer of its residuals learns from the training parts of real fields.

    python -P -m codec.train.interp_start DATA OUT

DATA: the folder of the scientific files that docs/notes/interp.md names. Learned in a fixed order, so that the same
data give the same bytes. Parts for tests are never read. The digest goes to codecs/layers/mixed_fields.py.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codecs.layers.mixed_fields import learn
from ..entropy.mixing.mixer import Mixer
from ..entropy.mixing.residuals import start_plan
from ..entropy.mixing.shipping import pack

__all__ = ["learned", "main"]

_BOUNDS = (3e-2, 1e-2, 3e-3, 1e-3, 1e-4)  # of the range
_SEEN, _NODE_SEEN = 255, 16  # lines and nodes that are kept have seen so many decisions


def training_fields(folder: Path) -> Iterator[NDArray[np.float32]]:
    """The training parts of the fields in a folder."""
    import h5py

    # what is in a file, no type checker can know
    opened: Any = h5py.File
    with opened(folder / "hit_dns_96.h5") as file:
        yield file["train/velocity"][:, :32]
    with opened(folder / "hurricane_isabel_windmag.h5") as file:
        yield from (file["train"][name][...] for name in sorted(file["train"]))
    with opened(folder / "kolmogorov_flow_256.h5") as file:
        yield file["train/vorticity"][...]
    with opened(folder / "era5_t2m_uk_201903.h5") as file:
        yield file["t2m"][:250]
    with opened(folder / "era_interim_uvz_monthly.h5") as file:
        yield from (file[name][0] for name in "uvz")


def learned(fields: list[NDArray[np.float32]], seed: int = 1) -> Mixer:
    """The mixer after all fields at all bounds, with the filter and without, in an order that the seed gives."""
    mixer = Mixer.new(start_plan())
    jobs = [(field, bound, filtered) for field in fields for bound in _BOUNDS for filtered in (False, True)]
    for index in np.random.default_rng(seed).permutation(len(jobs)).tolist():
        field, bound, filtered = jobs[index]
        learn(mixer, field[None], bound * float(field.max() - field.min()), filtered)
    return mixer


def main(folder: str, out: str) -> None:
    """Writes the state, and prints its size and its digest."""
    data = pack(learned(list(training_fields(Path(folder)))), _SEEN, _NODE_SEEN)
    Path(out).write_bytes(data)
    sys.stdout.write(f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
