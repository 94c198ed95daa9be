"""Preset `paper`: the paper's network and recipe."""
