"""One codec family per file; `base` is the contract they share. Families are imported on demand by `codec.registry`."""
