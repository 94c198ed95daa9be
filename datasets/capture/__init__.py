"""Performances captured by many cameras: reading them, saying what is wrong with them, and making synthetic ones."""

from __future__ import annotations

from .checks import check
from .layout import Capture, Truth
from .make import CaptureConfig, make
from .views import View, held_out

__all__ = ["Capture", "CaptureConfig", "Truth", "View", "check", "held_out", "make"]
