"""`codec reproduce vqgan`: the recipe says what the published series says, and reads ours at the paper's rates."""

from __future__ import annotations

import pytest

from codec.eval.reproduce import run as reproducing
from codec.eval.reproduce.published import series


def test_claims_are_the_points_of_the_series() -> None:
    recipe = reproducing.load("vqgan")
    points = series("vqgan-fine-tuned").points
    claims = [claim for claim in recipe.claims if claim.at is not None]
    assert len(claims) == 2 * len(points) == 18
    for metric in ("lpips-alex", "dists"):
        by_rate = {claim.at: claim.paper for claim in claims if claim.value == metric}
        assert by_rate == {round(point["bpp"], 4): point[metric] for point in points}
    assert all("[fig]" in claim.mark and "0.005" in claim.mark for claim in recipe.claims), (
        "marked as read off a figure"
    )
    assert "log2 K" in recipe.scale, "their rates have no container"
    assert {claim.value for claim in recipe.claims} <= {*recipe.metrics, "bd_rate"}


def test_rates_are_those_of_the_codebooks() -> None:
    for name in ("vqgan-fine-tuned", "vqgan-k-means"):
        points = series(name).points
        assert [256 * point["bpp"] for point in points] == pytest.approx(range(3, 12), abs=1e-3)
        assert all(set(point) == {"bpp", "lpips-alex", "dists"} for point in points)
        lpips = [point["lpips-alex"] for point in points]
        assert lpips == sorted(lpips, reverse=True)
        assert "read off the figure" in series(name).source
