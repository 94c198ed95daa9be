"""The networks that a key group starts from."""

from __future__ import annotations

from functools import lru_cache

from .nirvana_grid_net import Nets, random_nets


@lru_cache(maxsize=1)
def start() -> Nets:
    return random_nets()
