"""Parts that more than one codec family can use."""
