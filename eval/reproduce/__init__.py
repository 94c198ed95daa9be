"""A paper's numbers beside ours."""
