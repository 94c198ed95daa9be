"""Tables of S2LIC weights, fitted to what their own networks make of photographs.

Training takes latents for Gaussian about their means. What is left over in files has heavier tails: a row whose scale
says 1.29 holds symbols of 1.40 on average, more of them 0 and more of them large. A table is 64 rows of counts in
the weights file anyway, so export counts symbols, by row, of crops coded at qualities drawn evenly, and mixes the
counts into the density's own table. Neither files nor networks change, only what symbols cost.

    python -P -m codec.train.s2lic.tables weights/s2lic-small.safetensors PHOTOS --out runs

does it to weights that exist, and leaves the rest of them as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...codecs.base.weights import load_tensors, manifests
from ...codecs.s2lic.codec import S2licCodec
from ...codecs.s2lic.torch_model import MOST_PROBABLE, make_tables, table_state
from ...codecs.s2lic.weights import read_model
from ...datasets.images import RandomCrops, find_pictures, load_pictures
from ...entropy.tables import TOTAL, Tables
from ...errors import CodecError, UsageError
from ..export import write_weights

__all__ = ["CROPS", "fit_tables", "fitted", "with_fitted_tables"]

CROPS = 256  # pictures that are counted: some 20 million symbols
SIZE = 512  # pixels to a side of them, or what the smallest picture has
PRIOR = 8.0  # symbols for each column that the density's own table is worth
REACH = 4096  # symbols further from 0 than this aren't counted
WORTH_A_COLUMN = 2.0**-17  # rarer ones are escapes


def fitted(counts: NDArray[np.int64], tables: Tables) -> Tables:
    """Makes tables of counted symbols, symmetric as the densities are.

    counts: (rows, 2 REACH + 1), column REACH is symbol 0. tables: the density's own; where little was counted they
    decide.
    """
    pmfs, offsets = [], []
    for row, cdf in enumerate(tables.rows):
        density = np.zeros(2 * REACH + 1)
        first, columns = REACH + int(tables.offset[row]), len(cdf) - 2
        density[first : first + columns] = np.diff(cdf)[:-1] / TOTAL
        seen = 0.5 * (counts[row] + counts[row][::-1])
        strength = PRIOR * columns
        pmf = (seen + strength * density) / (seen.sum() + strength)
        half = int(np.flatnonzero(pmf >= min(WORTH_A_COLUMN, pmf.max()))[-1]) - REACH
        pmfs.append(pmf[REACH - half : REACH + half + 1])
        offsets.append(-half)
    return Tables.from_pmf(pmfs, np.array(offsets), MOST_PROBABLE)


def fit_tables(
    codec: S2licCodec, pictures: Sequence[Tensor], crops: int = CROPS, seed: int = 1
) -> tuple[Tables, Tables]:
    """Makes tables of y and of z from random crops of pictures (3, H, W) uint8, each coded once."""
    rows = len(codec.model.y_tables.rows)
    y_counts, z_counts = (np.zeros((rows, 2 * REACH + 1), np.int64) for _ in range(2))
    size = min(SIZE, *(min(picture.shape[1:]) for picture in pictures))
    source = RandomCrops(list(pictures), size, 1, seed)
    generator = np.random.default_rng(seed)
    for index in range(crops):
        pixels = np.ascontiguousarray(source.crop(generator).permute(1, 2, 0).numpy())
        step = codec.step_of(1 + 99 * (index + generator.random()) / crops)
        z_part, y_parts = codec.symbols(pixels, step)
        for counts, parts in ((z_counts, [z_part]), (y_counts, y_parts)):
            for symbols, row in parts:
                inside = np.abs(symbols) <= REACH
                np.add.at(counts, (row[inside], symbols[inside] + REACH), 1)
    y_tables, z_tables = make_tables()
    return fitted(y_counts, y_tables), fitted(z_counts, z_tables)


def with_fitted_tables(path: Path, pictures: Sequence[Tensor], crops: int = CROPS) -> bytes:
    """Returns the weights file at `path` with fitted tables in place of its own; all other tensors as they are."""
    from safetensors.torch import save

    weights = load_tensors(path)
    tables = fit_tables(S2licCodec(read_model(weights)), pictures, crops)
    return save({**weights.tensors, **table_state(*tables)}, dict(weights.metadata))


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -P -m codec.train.s2lic.tables", description="Fit the tables of S2LIC weights."
    )
    parser.add_argument("weights", type=Path, help="a safetensors file, with its manifest beside it")
    parser.add_argument("data", type=Path, help="folder of photographs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the new file and its manifest")
    parser.add_argument("--crops", type=int, default=CROPS, help=f"pictures that are counted (default: {CROPS})")
    options = parser.parse_args(arguments)
    try:
        if options.crops < 1:
            raise UsageError(f"--crops {options.crops}: expected at least 1")
        named = options.weights.resolve()
        about = next((item for item in manifests("s2lic", options.weights.parent) if item.path == named), None)
        if about is None:
            raise UsageError(f"{options.weights}: no S2LIC weights with a manifest (.json) beside them")
        pictures = load_pictures(find_pictures(options.data), SIZE)
        if not pictures:
            raise UsageError(f"{options.data}: no picture there is at least {SIZE} pixels wide and high")
        data = with_fitted_tables(options.weights, pictures, options.crops)
    except (OSError, CodecError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in asdict(about).items() if key not in _OURS}
    path = write_weights(options.out, "s2lic", "S2LIC", about.tag, data, about.parameters, about.default, kept)
    sys.stdout.write(f"{path}\n")
    return 0


# what `write_weights` says itself
_OURS = ("path", "retired", "name", "codec", "tag", "file", "sha256", "parameters", "default")

if __name__ == "__main__":
    sys.exit(_main())
