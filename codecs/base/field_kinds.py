"""The datasets of an HDF5 file that are fields: floats on a grid, and nothing that other data are placed or read by.

Coordinates, bounds, areas, masks, categories, meshes and matrices are kept without loss. They are told by the
attributes of the CF conventions (and of UGRID, NeXus, netCDF-Java), by the names that models give them, and by their
values: whole numbers, few different ones, the same along all axes but one, symmetric, or noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...media import hdf5

__all__ = ["FLOATS", "could_be_field", "named_by", "place_of", "reason_by_values", "references_of", "samples_of"]

FLOATS = ("<f4", ">f4", "<f8", ">f8")
_MIN_VALUES, _MIN_SIDE = 4096, 8  # a dataset with fewer values, or shorter sides, isn't a field
_FEW = 32  # different values: categories
_ROUGH = 0.85  # mean square difference of neighbours over that of any two values: along all axes so much is noise
_SAMPLED = 1 << 17  # values
_COUNTED = 1 << 22  # whole numbers below this may be categories or counts

# ---- what names other datasets

_NAMING = frozenset(  # attributes whose words are names of datasets that the holder is placed or read by
    [
        "coordinates",
        "bounds",
        "climatology",
        "cell_measures",
        "ancillary_variables",
        "grid_mapping",
        "formula_terms",
        "nodes",
        "node_coordinates",
        "node_count",
        "part_node_count",
        "interior_ring",
        "geometry",
        "mesh",
        "grid",
        "location_index_set",
        "_coordinateaxes",
        "axes",
        "coordinate_interpolation",
        "boundaries",
    ]
)
_NAMING_ENDS = ("_coordinates", "_connectivity", "_dimension", "_indices")


def references_of(file: Any, tree: hdf5.Tree) -> dict[str, str]:
    """The datasets that attributes of others name, by path, with the reason: "named by `coordinates` of /t"."""
    out: dict[str, str] = {}
    places = _Places(tree)
    for node in tree.nodes:
        for name, words in _naming_attributes(file, node):
            for path in (path for word in words for path in places.of(word, node)):
                out.setdefault(path, f"named by `{name}` of {node.path}")
        for path in (path for axis in node.scales for path in axis):
            out.setdefault(path, f"a dimension scale of {node.path}")
    return out


def named_by(file: Any, node: hdf5.Node, tree: hdf5.Tree) -> list[str]:
    """The datasets that the attributes of one name."""
    places = _Places(tree)
    return [path for _, words in _naming_attributes(file, node) for word in words for path in places.of(word, node)]


class _Places:
    """The datasets of a tree, found by what attributes call them."""

    def __init__(self, tree: hdf5.Tree) -> None:
        self._by_path = {node.path: node for node in tree.nodes}
        self._by_name: dict[str, list[str]] = {}
        for node in tree.datasets:
            self._by_name.setdefault(node.path.rpartition("/")[2], []).append(node.path)

    def of(self, word: str, holder: hdf5.Node) -> Sequence[str]:
        """The paths that a name stands for: in the holder's group, or in one around it, or else anywhere."""
        place = holder.path if holder.kind == "group" else holder.path.rpartition("/")[0]
        while True:
            path = _normal(word if word.startswith("/") else f"{place}/{word}")
            if path in self._by_path:
                target = self._by_path[path]
                path = target.target if target.kind == "hard" else path
                return [path] if path != holder.path else []
            if place in ("", "/"):
                return self._by_name.get(word.rpartition("/")[2], [])
            place = place.rpartition("/")[0]


def _naming_attributes(file: Any, node: hdf5.Node) -> Iterator[tuple[str, list[str]]]:
    """The attributes of a group or a dataset that name others, with the names in them."""
    if node.kind not in ("group", "dataset"):
        return
    for name in node.attributes:
        key = str(name).lower()
        if key in _NAMING or key.endswith(_NAMING_ENDS):
            words = re.split(r"[\s,]+", " ".join(texts_of(file, node.path, name)))
            yield str(name), [word for word in words if word and not word.endswith(":") and word != "."]


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def texts_of(file: Any, path: str, name: Any) -> list[str]:
    """The texts in an attribute; [] of one that holds none."""
    try:
        given = np.asarray(file[path].attrs[name], dtype=object).ravel().tolist()
    except Exception:  # whatever h5py raises for a type that it doesn't know: no text then
        return []
    words = [word.decode("utf-8", "replace") if isinstance(word, bytes) else word for word in given]
    return [word for word in words if isinstance(word, str)]


# ---- what a dataset says of itself

_OWN = ("axis", "cartesian_axis", "_coordinateaxistype", "flag_values", "flag_meanings", "flag_masks", "cf_role")
_OWN += ("grid_mapping_name", "compress", "_coordinatezispositive", "geometry_type", "sample_dimension")
_PLACES = frozenset(  # standard names
    [
        "latitude",
        "longitude",
        "grid_latitude",
        "grid_longitude",
        "time",
        "forecast_reference_time",
        "forecast_period",
        "region",
        "area_type",
        "cell_area",
        "model_level_number",
        "realization",
        "cell_thickness",
        "altitude",
        "radiation_wavelength",
        "radiation_frequency",
    ]
)
_PLACE_ENDS = re.compile(
    r"(_coordinate|_angular_coordinate|_fraction|_binary_mask|_mask|_flag|_area|_type|"
    r"_(latitude|longitude)|^angle_of_rotation.*|_sigma|_layer_number)$"
)
_DEGREES = re.compile(r"degrees?_?(n(orth)?|e(ast)?|s(outh)?|w(est)?|true)", re.IGNORECASE)
_SINCE = re.compile(r"\bsince\b", re.IGNORECASE)

_NAMES = re.compile(  # of models: WRF, NEMO, POP, MOM, ROMS, MITgcm, CICE, ICON, CMIP; of meshes
    r"""x | y | xyz
      | [xyz]_?(grid|coord|coordinate|mesh|node|point|vertex|vert|center|centre|cc|fc|cell)s?
      | long | (lat|lon|latitude|longitude)s?([_\d].*)? | l(at|on)[a-z] | [a-z]{1,3}_?(lat|lon|long)(_.*|\d.*)?
      | .*_(lat|lon|latitude|longitude)s?(_?\d+)? | xlat.* | xlong.* | xlon.* | nav_(lat|lon|lev).*
      | geolat.* | geolon.* | gphi.* | glam.* | e[123][tuvfw]w?(_.*)? | gdep[tw]?.* | mesh_.* | (h|z)fac[cwsn]
      | .*_(bnds|bounds|bnd|vertices|vertex|corners?|edges) | bnds | bounds | vertices | vertex | corners?
      | (corner|vertices|bounds)_.* | x?times? | x?times?_(bnds|bounds|instant.*|cent.*|counter.*|offset.*|\d+)
      | (valid|forecast|reference|ref|init|initial|analysis|base|start|end)_?times? | (j|julian_?)?dates?
      | area([tuvq]|cell[aor]?|_[tuvq])? | (cell|grid|gridbox)_?areas? | [tuvqnf]_?area | d[xyz][tuvfcgpq]{0,2}
      | htn | hte | hus | huw | angle[tq]? | kmt | kmu | rac | ra[swz] | [xy][cg] | dr[fc] | mapfac_.*
      | coriolis | f_?cor | cosalpha | sinalpha | lsm | lsmask | xland | landfrac | landsea | sft(lf|of|gif)
      | ([a-z]+_)?mask([_\d].*)? | [a-z]{1,5}mask([_\d].*)? | .*_mask | mask_.* | [tuvf]maskutil.*
      | basins? | regions? | .*_(flags?|qc|category|categories|class|classes|ids?|labels?)
      | flags? | labels? | category | categories | class | classes | ids? | lu_index | ivgtyp | isltyp
      | connectivity | elements | cells | .*covariance.* | cov(_.*)? | .*_cov | .*correlation_?matrix.* | kernel
      | coords? | coordinates | positions? | nodes? | points? | .*_(coord|coordinate|position)s?
      | (weight|weights|bias|biases|state_dict)(_.*)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GROUPS = frozenset(
    [
        "mesh",
        "geometry",
        "topology",
        "coordinates",
        "coords",
        "nodes",
        "model_weights",
        "optimizer_weights",
        "weights",
        "state_dict",
        "bounds",
        "masks",
    ]
)


def could_be_field(node: hdf5.Node) -> bool:
    """Whether a dataset has floats on a grid of at least two axes, as far as its type and shape say."""
    if not node.shape or node.dtype not in FLOATS or len(node.shape) < 2 or node.size < _MIN_VALUES:
        return False
    return sorted(node.shape)[-2] >= _MIN_SIDE


def place_of(file: Any, node: hdf5.Node, tree: hdf5.Tree, references: Mapping[str, str]) -> str:
    """The reason, in words, for which a dataset is what others are placed or read by; "" where there is none."""
    assert node.shape is not None
    if node.scale is not None:
        return "a dimension scale"
    if node.path in references:
        return references[node.path]
    attributes = {str(name).lower(): name for name in node.attributes}
    for key in _OWN:
        if key in attributes:
            return f"has the attribute `{attributes[key]}`"
    for key, test in (
        ("standard_name", lambda word: word.lower() in _PLACES or _PLACE_ENDS.search(word.lower())),
        ("units", lambda word: _DEGREES.fullmatch(word.strip()) or _SINCE.search(word)),
    ):
        for word in texts_of(file, node.path, attributes[key]) if key in attributes else ():
            if test(word):
                return f"has the {key.replace('_', ' ')} {word!r}"
    *groups, name = node.path.lower().strip("/").split("/")
    if _NAMES.fullmatch(name):
        return f"is called {name!r}, as coordinates, masks and the like are"
    if groups and (groups[-1] in _GROUPS or {"model_weights", "optimizer_weights"} & set(groups)):
        return f"is in a group called {groups[-1]!r}"
    if name in ("z", "r", "theta", "phi", "depth", "height", "level", "lev") and _has_siblings(node, tree):
        return "has coordinates beside it, of the same shape"
    return ""


def _has_siblings(node: hdf5.Node, tree: hdf5.Tree) -> bool:
    """Whether there are an x and a y (or the like) of the same shape in the same group."""
    group = node.path.rpartition("/")[0]
    names = {
        other.path.rpartition("/")[2].lower()
        for other in tree.datasets
        if other.shape == node.shape and other.path != node.path and other.path.rpartition("/")[0] == group
    }
    return bool(names & {"x", "y", "theta", "phi", "lat", "lon", "latitude", "longitude"})


# ---- what its values say


def reason_by_values(
    read: Callable[[tuple[slice, ...]], NDArray[Any]],
    shape: Sequence[int],
    blocks: Callable[[], Iterable[NDArray[Any]]],
) -> str:
    """The reason, in words, for which the values of a dataset can't be those of a field; "" where there is none.

    read: gives a part, NaN where values are missing. blocks: gives all valid values, in flat parts.
    """
    samples = [read(index) for index in samples_of(shape)]
    valid = np.concatenate([sample[np.isfinite(sample)] for sample in samples])
    is_whole, few = _is_whole(valid), _few(valid)
    if is_whole or few is not None:
        number, different = 0, set()
        for block in blocks():
            number += block.size
            is_whole = is_whole and _is_whole(block)
            few = None if few is None else _few(block)
            different |= few or set()
            few = None if few is None or len(different) > _FEW else few
            if not is_whole and few is None:
                break
        if not number:
            return "holds no numbers"
        if is_whole:
            return "holds whole numbers only"
        if few is not None:
            return f"has {len(different)} different values" if len(different) > 1 else "is the same everywhere"
    if any(not np.isfinite(sample).all() for sample in samples):
        return ""
    if all(_varies_along_one_axis(sample) for sample in samples):
        return "is the same along all axes but one"
    if len(shape) == 2 and shape[0] == shape[1]:
        n = min(shape[0], 1 << 9)
        near, far = slice(0, n), slice(shape[0] - n, shape[0])
        corners = _scaled(read((near, far))), _scaled(read((far, near)))
        if np.abs(corners[0] - corners[1].T).max() <= 1e-5 * corners[0].std():
            return "is a symmetric matrix"
    if len(shape) == 2 and all(_is_noise(_scaled(sample)) for sample in samples):  # a table, or weights of a network
        return "is noise: neighbours aren't alike along any axis"
    return ""


def samples_of(shape: Sequence[int], room: int = _SAMPLED) -> list[tuple[slice, ...]]:
    """Parts of at most so many values, whole along the last axes: the middle, and the two ends if there is more."""
    sizes: list[int] = []
    for size in reversed(shape):
        sizes.insert(0, max(1, min(size, room)))
        room //= sizes[0]
    places = (1, 0, 2) if math.prod(shape) > math.prod(sizes) else (0,)
    return [
        tuple(slice((n - k) * place // 2, (n - k) * place // 2 + k) for n, k in zip(shape, sizes, strict=True))
        for place in places
    ]


def _is_whole(x: NDArray[Any]) -> bool:
    """Whether all are whole numbers; beyond a size all floats are."""
    return bool((x == np.rint(x)).all() and np.abs(x).max(initial=0.0) < _COUNTED)


def _few(x: NDArray[Any]) -> set[float] | None:
    """The different values, if they are few."""
    if len(np.unique(x[: 1 << 10])) > _FEW:
        return None
    different = np.unique(x)
    return set(different.tolist()) if len(different) <= _FEW else None


def _scaled(x: NDArray[Any]) -> NDArray[np.float64]:
    """Values in units of the largest, so that squares don't overflow."""
    scale = float(np.abs(x).max(initial=0.0)) / 2
    with np.errstate(all="ignore"):
        return (x.astype(np.float64) / 2) / scale if scale else x.astype(np.float64)


def _varies_along_one_axis(x: NDArray[Any]) -> bool:
    long = [axis for axis, size in enumerate(x.shape) if size > 1]
    varies = [axis for axis in long if not (x == np.take(x, [0], axis)).all()]
    return len(varies) <= 1 < len(long)


def _is_noise(x: NDArray[np.float64]) -> bool:
    variance = float(x.var())
    ratios = [
        float(np.square(np.diff(x, axis=axis)).mean()) / (2 * variance)
        for axis, size in enumerate(x.shape)
        if size >= _MIN_SIDE and variance > 0
    ]
    return bool(ratios) and min(ratios) > _ROUGH
