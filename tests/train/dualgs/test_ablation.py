"""The variants of a fit that lack a part of the method."""

from __future__ import annotations

from codec.train.dualgs.ablation import variants
from codec.train.dualgs.config import Recipe


def test_variants_take_as_many_iterations() -> None:
    recipes = variants(Recipe())
    assert {r.coarse.iterations + r.fine.iterations for r in recipes.values()} == {30_000}
    assert recipes["full"] == Recipe()
    assert recipes["without-rigidity"].coarse.rigidity == recipes["without-rigidity"].fine.rigidity == 0
    assert recipes["without-coarse-stage"].coarse.iterations == 0
