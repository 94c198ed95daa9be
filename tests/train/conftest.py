"""What the training tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(Path(__file__).resolve().parents[2] / "samples" / "dog.png") as image:
        return np.asarray(image.convert("RGB"))
