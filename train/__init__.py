"""Training: tasks and their recipes, runs, and the export of what the codecs load. No codec imports it."""

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")
