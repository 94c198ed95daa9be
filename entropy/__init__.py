"""Entropy coding: integers to bytes and back, the same bytes on every machine.

tables: frozen integer distributions (`Tables`), what a codec holds.   coders: the arithmetic coders behind them.
models: differentiable densities for training, frozen by `to_tables()`.   exact: networks in exact arithmetic.
integers: varints and zigzag.   circuits: probabilistic circuits, for training, for queries and for coding in integers.

Nothing is imported here: `tables` needs NumPy and constriction only, `circuits` NumPy to code and torch to fit;
`models` and `exact` need torch.
"""

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")
