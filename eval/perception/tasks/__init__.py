"""The tasks of this package: a model, its data and its scores, a module each."""
