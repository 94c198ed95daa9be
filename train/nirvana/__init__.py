"""Fitting NIRVANA with a recipe, and training its start networks."""
