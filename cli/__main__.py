"""`python -P -m codec.cli` is the `codec` command, where its script isn't installed."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
