"""HDF5 files as a tree of typed nodes, read and built again: groups, datasets, types, attributes, links, scales.

NetCDF-4 files are HDF5 files, and work. A tree is plain values (`as_json`, `from_json`), so that a decoder builds a
fresh file out of a description that it has checked, and the HDF5 library never parses bytes that came with a stream.
What comes back, and what becomes a note or an error: docs/losses.md. tree: nodes and their JSON; types: types as JSON;
opening, reading, packing: values as bytes; building: files out of trees; limits: of all of them.
"""

from __future__ import annotations

from .building import Output, build, check, writing
from .limits import MAX_NODES
from .opening import guarded, open_file
from .packing import limit_of, pack, unpack, weigh
from .reading import Input, Values, read_tree, values_of
from .tree import Node, Tree, slabs
from .types import dtype_of, is_plain, is_variable

__all__ = [
    "MAX_NODES",
    "Input",
    "Node",
    "Output",
    "Tree",
    "Values",
    "build",
    "check",
    "dtype_of",
    "guarded",
    "is_plain",
    "is_variable",
    "limit_of",
    "open_file",
    "pack",
    "read_tree",
    "slabs",
    "unpack",
    "values_of",
    "weigh",
    "writing",
]
