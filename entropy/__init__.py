"""Entropy coding: integers to bytes and back, the same bytes on every machine.

tables: frozen integer distributions (`Tables`), what a codec holds.   coders: the arithmetic coders behind them.
models: differentiable densities for training, frozen by `to_tables()`.   exact: networks in exact arithmetic.

Nothing is imported here: `tables` needs NumPy and constriction only, `models` and `exact` need torch.
"""
