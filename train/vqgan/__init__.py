"""Training VQGAN: the paper's network, the small one, index models, and the restoring of lost indices."""
