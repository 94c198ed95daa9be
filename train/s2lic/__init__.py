"""Training S2LIC."""
