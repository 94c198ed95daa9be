"""Preset `grid`: latents on grids, tiny networks, all of it in integers."""
