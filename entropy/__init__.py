"""Entropy coding: integers to bytes and back, the same bytes on every machine.

tables: frozen integer distributions (`Tables`), what a codec holds.   coders: the arithmetic coders behind them.
models: differentiable densities for training, frozen by `to_tables()`.   exact: networks in exact arithmetic.
circuits: hidden Chow-Liu trees, for training and queries; trees: their structure.   circuit_coding: coding with them,
in integers.   lanes: the arithmetic coder for that.   structured: circuits of any vtree.   index_model: for grids.

Nothing is imported here: `tables` needs NumPy and constriction only; `models`, `exact`, `circuits` need torch.
"""
