"""The part `bound` of the study of ZipGAN: values beyond an error bound, and bytes, against SZ3 and SPERR."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ....codecs.base.codec import Codec
from ....codecs.base.field import Bound, FieldCodec
from ...peers.arrays import error_bound
from .coders import OURS, FieldCoder, has_weights, peer_coder
from .simulations import Field, Row

__all__ = ["BOUNDS", "KEY", "bounded", "markdown", "measure"]

BOUNDS = (1e-1, 3e-2, 1e-2, 1e-3)
KEY = ("coder", "bound")  # rows with the same values here are of the same measurement


def bounded(name: str, rel: float, weights: Mapping[str, Path]) -> FieldCoder:
    """The coder of that name with an error bound of `rel` times the range: a peer, `interp`, or a zipgan, by the
    weights file of its name or those that are shipped."""
    if name in ("sz3", "sperr", "zfp"):
        return peer_coder(name, rel, rel)
    file = weights.get(name)
    plain = name if file is None else name.partition("@")[0]
    codec = cast(FieldCodec, Codec.load(plain, weights=file)).with_settings(bound=Bound(rel))
    return FieldCoder(name, lambda x, _: codec.compress(x), codec.decompress, rel, rel)


def measure(fields: Sequence[Field], names: Sequence[str] | None, weights: Mapping[str, Path]) -> Iterator[Row]:
    """Yields a row for each coder and bound: bytes and ratio, and how many values are farther off than the bound
    allows, compared in float64. names: of the coders; None: all that can run."""
    wanted = names or ("sz3", "sperr", "interp", *(name for name in OURS if name in weights or has_weights(name)))
    for name in wanted:
        for rel in BOUNDS:
            coder = bounded(name, rel, weights)
            n_bytes, values_beyond, fields_beyond = 0, 0, 0
            for field in fields:
                data = coder.encode(field, rel)
                error = np.abs(coder.decode(data).astype(np.float64) - field.astype(np.float64))
                violations = int((error > error_bound(field, rel)).sum())
                n_bytes += len(data)
                values_beyond += violations
                fields_beyond += violations > 0
            row = {"coder": name, "bound": rel, "bytes": n_bytes, "ratio": sum(f.nbytes for f in fields) / n_bytes}
            yield row | {"values_beyond": values_beyond, "fields_beyond": fields_beyond, "fields": len(fields)}


def markdown(results: Mapping[str, Any]) -> str:
    """The results of this part as a table, the loosest bound first."""
    size = {(row["coder"], row["bound"]): row["bytes"] for row in results["rows"]}
    lines = ["| coder | bound | ratio | bytes / SZ3 | bytes / SPERR | values beyond | fields |", "|---|" + "---|" * 6]
    for row in sorted(results["rows"], key=lambda row: -row["bound"]):
        anchors = [size.get((name, row["bound"]), math.nan) for name in ("sz3", "sperr")]
        words = [f"{row['bytes'] / n_bytes:.2f}" for n_bytes in anchors]
        lines.append(
            f"| {row['coder']} | {row['bound']:g} | {row['ratio']:.1f} | {words[0]} | {words[1]} "
            f"| {row['values_beyond']} | {row['fields']} |"
        )
    return "\n".join(lines)
