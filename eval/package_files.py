"""Files that come with the package beside this code: `assets/`, `reference/` and `reproduce/`.

Nothing else in `eval/` knows where they lie.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ASSETS", "REFERENCE", "REPRODUCE"]

_HERE = Path(__file__).resolve().parent
ASSETS = _HERE / "assets"  # templates of the HTML report
REFERENCE = _HERE / "reference"  # published rate-distortion series, JSON
REPRODUCE = _HERE / "reproduce"  # recipes of `codec reproduce`, YAML
