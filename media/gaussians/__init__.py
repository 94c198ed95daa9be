"""Gaussian splats as values and as files: scenes, and sequences with a fixed number of Gaussians."""
