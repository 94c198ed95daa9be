"""The limits of HDF5 files, in one place: the writer refuses what the reader would."""

from __future__ import annotations

__all__ = [
    "MAX_ATTRIBUTE",
    "MAX_AXES",
    "MAX_CHUNK",
    "MAX_EXCESS",
    "MAX_IN_MEMORY",
    "MAX_NESTING",
    "MAX_NODES",
    "MAX_PACKED",
    "MAX_PATH",
    "MAX_SIDE",
    "MAX_TYPE",
    "MAX_USER_BLOCK",
    "MAX_VALUES",
]

MAX_NODES = 200_000  # groups, datasets, types and links of a file
MAX_PATH = 1 << 16  # characters of a path
MAX_AXES = 32
MAX_SIDE = 1 << 40  # of a dataset, exclusive
MAX_VALUES = 1 << 44  # bytes of a dataset
MAX_TYPE = 1 << 28  # bytes of a single value
MAX_NESTING = 32  # types within types
MAX_ATTRIBUTE = 1 << 25  # bytes of one attribute
MAX_PACKED = 1 << 28  # bytes of a slab of text, ragged arrays or references
MAX_IN_MEMORY = 1 << 30  # bytes of a slab of values with parts elsewhere, without these parts
MAX_CHUNK = 1 << 24  # bytes of a chunk that is larger than its dataset
MAX_EXCESS = 1 << 30  # bytes by which all chunks of a file exceed its datasets
MAX_USER_BLOCK = 1 << 24  # bytes in front of the file proper
