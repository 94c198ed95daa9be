"""Measuring: metrics, baselines, rate-distortion runs, speed; results as CSV or JSON in `eval/results/`."""
