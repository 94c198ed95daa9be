"""Fitting dual Gaussians to a capture: joints that carry motion, skins that carry appearance.

Jiang et al., "Robust Dual Gaussian Splatting for Immersive Human-centric Volumetric Videos", SIGGRAPH Asia 2024, arXiv
2409.08353. A fit is an optimisation of one sequence, not training of weights: it needs torch, no Lightning. `run.fit`
is the way in; docs/fitting.md says how to use it.
"""
