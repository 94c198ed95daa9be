"""Probabilistic circuits: structure, fitting, exact coding."""
