"""Recipes: those that ship, and those that can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from codec.errors import UsageError
from codec.files import PACKAGE
from codec.train.dualgs.config import Recipe, recipe_of
from codec.train.run import read_recipe

RECIPES = sorted((PACKAGE / "train" / "recipes" / "dualgs").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    settings = read_recipe(path)
    assert settings["tag"] == path.stem
    recipe = recipe_of({**settings["model"], **settings["recipe"]})
    assert recipe.choose_at < recipe.first.iterations
    assert recipe.first.densify.stop <= recipe.choose_at


def test_the_paper_is_the_default() -> None:
    settings = read_recipe(PACKAGE / "train" / "recipes" / "dualgs" / "paper.yaml")
    assert recipe_of({**settings["model"], **settings["recipe"]}) == Recipe()


def test_a_part_keeps_its_own_defaults() -> None:
    recipe = recipe_of({"skins": {"densify": {"most": 7}}, "fine": {"rates": {"rotations": 1}}})
    assert recipe.skins.densify.opacity == 0.015 and recipe.skins.densify.most == 7
    assert recipe.fine.rates.dc == 2.5e-4 and recipe.fine.rates.rotations == 1.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"joint": 3}, "unknown setting joint"),
        ({"joints": "many"}, "whole number"),
        ({"joints": 8}, "more than neighbours"),
        ({"joints": -1}, "0 or more"),
        ({"degree": 4}, "0 to 3"),
        ({"start": "mesh"}, "cube or hull"),
        ({"choose": "first"}, "farthest or every"),
        ({"fine": {"rigid": 1}}, "true or false"),
        ({"fine": 3}, "expected settings"),
        ({"coarse": {"rates": {"positions": float("nan")}}}, "a number, 0 or more"),
        ({"points": 10}, "at least as many"),
    ],
)
def test_recipes_that_can_not_be(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recipe_of(values)
