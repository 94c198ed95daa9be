"""`python -m codec` is the `codec` command, where its script isn't installed."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
