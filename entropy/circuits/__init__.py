"""Probabilistic circuits: structure, fitting, exact coding.

trees: the structure of a hidden Chow-Liu tree.   model: the tree as floats (`HiddenTree`), for training and queries.
fit: EM.   coding: the tree in integers (`FrozenCircuit`), and streams.   mixture: several of them, one for each item.
lanes: the arithmetic coder for that.   structured: circuits of any vtree.   index_model: circuits for grids.

`model` and `fit` need torch. Coding takes the loops of `native.circuits`, or NumPy where nothing is compiled.
"""
