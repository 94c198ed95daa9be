"""Types of HDF5 as JSON: described when a file is read, made again when it is built.

Plain types have short names ("<f4", "S12", "text", "bool", "reference"), a dictionary with "enum" or with "fields".
All others are a dictionary with "class": nested compounds, arrays, ragged arrays, opaque values, text of a character
set, numbers of odd widths, region references, types that have a name in the file. A description is never handed to the
parser of the HDF5 library; the type is put together out of checked parts.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .limits import MAX_AXES, MAX_NESTING, MAX_TYPE

if TYPE_CHECKING:
    import h5py.h5t

__all__ = ["dtype_of", "is_plain", "is_variable", "kind_of", "memory_type", "name_of_kind", "size_of", "type_of"]

_ORDERS = ("<", ">", "vax", "mixed", "none")  # H5T_order_t
_PADS = ("zero", "one", "background")  # H5T_pad_t
_NORMS = ("implied", "set", "none")  # H5T_norm_t: the first bit of a mantissa
_CHARSETS = ("ascii", "utf-8")
_PADDINGS = ("nullterm", "nullpad", "spacepad")
_STANDARD = {
    f"{order}{letter}{size}": f"{word}_{kind}{8 * size}{end}"
    for order, end in (("<", "LE"), (">", "BE"))
    for letter, word, kind, sizes in (
        ("i", "STD", "I", (1, 2, 4, 8)),
        ("u", "STD", "U", (1, 2, 4, 8)),
        ("f", "IEEE", "F", (2, 4, 8)),
    )
    for size in sizes
}
_NAMED_BY_LIBRARY = (  # types of the library that nothing else makes
    *(f"UNIX_D{bits}{end}" for bits in (32, 64) for end in ("LE", "BE")),
    *(f"STD_B{bits}{end}" for bits in (8, 16, 32, 64) for end in ("LE", "BE")),
    *(f"COMPLEX_IEEE_F{bits}{end}" for bits in (16, 32, 64) for end in ("LE", "BE")),
)


# ---- what a type is


def kind_of(tid: h5py.h5t.TypeID) -> Any:
    """The JSON of a type, by its short name where that makes the very same type. ValueError if there is none."""
    described = _describe(tid)
    short = _short_of(tid)
    if short is not None and _describe(type_of(short)) == described:
        return short
    if _describe(type_of(described)) != described:
        raise ValueError(f"values of type {name_of_kind(described)}")
    if is_variable(described):
        _ = type_of(described).dtype  # what has no type in memory can't be read
    return described


def _short_of(tid: h5py.h5t.TypeID) -> Any:
    """The short name of a type, which may leave something out; None if there is none."""
    import h5py

    try:
        dtype = tid.dtype
        if (enum := h5py.check_enum_dtype(dtype)) is not None:
            return {"enum": {str(name): int(value) for name, value in enum.items()}, "of": dtype.str}
        if dtype.kind == "b":
            return "bool"
        if h5py.check_string_dtype(dtype) is not None:
            return "text" if dtype.kind == "O" else f"S{dtype.itemsize}"
        if h5py.check_ref_dtype(dtype) is h5py.Reference:
            return "reference"
        if dtype.kind in "iufc" and dtype.itemsize <= 32 and dtype.subdtype is None:
            return dtype.str
        if dtype.kind == "V" and dtype.names:
            parts = {name: _short_of(tid.get_member_type(n)) for n, name in enumerate(dtype.names)}  # type: ignore[attr-defined]
            if all(isinstance(part, str) and part not in ("text", "reference", "bool") for part in parts.values()):
                fields = dtype.fields or {}
                return {
                    "fields": [[name, part] for name, part in parts.items()],
                    "offsets": [fields[name][1] for name in parts],
                    "size": dtype.itemsize,
                }
    except (TypeError, ValueError, KeyError, RuntimeError, UnicodeError, NotImplementedError):
        pass  # a type that NumPy doesn't have
    return None


def _describe(tid: h5py.h5t.TypeID, depth: int = 0) -> Any:
    """The whole description of a type, with short names only for plain numbers inside. ValueError if there is none."""
    from h5py import h5t

    if depth > MAX_NESTING:
        raise ValueError(f"types that are nested more than {MAX_NESTING} deep")
    size = tid.get_size()
    if size > MAX_TYPE:
        raise ValueError(f"values of {size} bytes each, more than {MAX_TYPE}")
    if isinstance(tid, h5t.TypeCompoundID):
        members = [
            [
                _text(tid.get_member_name(n)),
                tid.get_member_offset(n),
                _describe(tid.get_member_type(n), depth + 1),
            ]
            for n in range(tid.get_nmembers())
        ]
        return {"class": "compound", "size": size, "members": members}
    if isinstance(tid, h5t.TypeEnumID):
        pairs = [[_text(tid.get_member_name(n)), tid.get_member_value(n)] for n in range(tid.get_nmembers())]
        return {"class": "enum", "base": _describe(tid.get_super(), depth + 1), "members": pairs}
    if isinstance(tid, h5t.TypeArrayID):
        base = _describe(tid.get_super(), depth + 1)
        return {"class": "array", "shape": list(tid.get_array_dims()), "base": base}
    if isinstance(tid, h5t.TypeVlenID):
        return {"class": "ragged", "base": _describe(tid.get_super(), depth + 1)}
    if isinstance(tid, h5t.TypeOpaqueID):
        return {"class": "opaque", "size": size, "tag": _text(tid.get_tag())}
    if isinstance(tid, h5t.TypeStringID):
        n_bytes = None if tid.is_variable_str() else size
        charset, padding = _CHARSETS[tid.get_cset()], _PADDINGS[tid.get_strpad()]
        return {"class": "string", "size": n_bytes, "charset": charset, "padding": padding}
    if isinstance(tid, h5t.TypeReferenceID):
        for words, reference in (("object", h5t.STD_REF_OBJ), ("region", h5t.STD_REF_DSETREG)):
            if tid.equal(reference):
                return {"class": "reference", "to": words}
        raise ValueError("references that may lead to other files")
    return _number(tid)


def _number(tid: Any) -> Any:
    from h5py import h5t

    for name in _NAMED_BY_LIBRARY:
        if tid.equal(getattr(h5t, name, h5t.C_S1)):
            return {"class": "standard", "name": name}
    words = {h5t.TypeIntegerID: "integer", h5t.TypeFloatID: "float"}
    name = next((word for kind, word in words.items() if isinstance(tid, kind)), None)
    if name is None:
        raise ValueError(f"values of a type of class {tid.get_class()}")
    for short, standard in _STANDARD.items():
        if tid.get_size() == int(short[2:]) and tid.equal(getattr(h5t, standard, h5t.C_S1)):
            return short
    about = {
        "class": name,
        "size": tid.get_size(),
        "order": _ORDERS[tid.get_order()],
        "bits": tid.get_precision(),
        "offset": tid.get_offset(),
        "pad": [_PADS[pad] for pad in tid.get_pad()],
    }
    if name == "integer":
        about["signed"] = tid.get_sign() == h5t.SGN_2
    if name == "float":
        about |= {"places": list(tid.get_fields()), "bias": tid.get_ebias(), "norm": _NORMS[_norm_of(tid)]}
        about["inner"] = _PADS[tid.get_inpad()]
    return about


def _norm_of(tid: Any) -> int:
    from h5py import h5t

    return {h5t.NORM_IMPLIED: 0, h5t.NORM_MSBSET: 1}.get(tid.get_norm(), 2)


def name_of_kind(kind: Any) -> str:
    """A type in words for people."""
    if isinstance(kind, Mapping):
        if kind.get("class") == "named":
            return f"{kind['path']} ({name_of_kind(kind['type'])})"
        return str(kind.get("class") or ("enum" if "enum" in kind else "compound"))
    return str(kind)


# ---- types made again


def type_of(kind: Any) -> h5py.h5t.TypeID:
    """The type of a JSON that `kind_of` gives; nobody may change it. Raises ValueError and the like."""
    return _type_of(json.dumps(kind))


@functools.lru_cache(maxsize=512)
def _type_of(text: str) -> h5py.h5t.TypeID:
    from h5py import h5t

    kind = json.loads(text)
    if isinstance(kind, Mapping) and "class" in kind:
        return _make(kind, 0)
    if isinstance(kind, str) and kind in _STANDARD:
        return getattr(h5t, _STANDARD[kind])
    return h5t.py_create(dtype_of(kind), logical=True)


def _make(kind: Any, depth: int) -> Any:
    from h5py import h5t

    if depth > MAX_NESTING:
        raise ValueError("a type that is nested too deep")
    if isinstance(kind, str):
        return getattr(h5t, _STANDARD[kind])
    about = dict(kind)
    name = about.pop("class")
    if name == "named":
        return _make_base(about["type"], depth)
    if name == "standard":
        if about["name"] not in _NAMED_BY_LIBRARY:
            raise ValueError(f"type {about['name']!r}")
        return getattr(h5t, about["name"])
    if name in ("compound", "opaque") or (name == "string" and about["size"] is not None):
        _check_size(about["size"])
    if name == "compound":
        return _make_compound(about, depth)
    if name == "enum":
        enum = h5t.enum_create(_make(about["base"], depth + 1))
        for word, value in about["members"]:
            enum.enum_insert(_bytes(word), int(value))
        return enum
    if name == "array":
        shape = tuple(about["shape"])
        if not 1 <= len(shape) <= MAX_AXES or not all(type(n) is int and 1 <= n <= MAX_TYPE for n in shape):
            raise ValueError(f"an array type of shape {shape}")
        base = _make(about["base"], depth + 1)
        n_bytes = base.get_size()
        for n in shape:
            n_bytes *= n
        _check_size(n_bytes)
        return h5t.array_create(base, shape)
    if name == "ragged":
        return h5t.vlen_create(_make(about["base"], depth + 1))
    if name == "opaque":
        tag = _bytes(about["tag"])
        if len(tag) > 255:
            raise ValueError("a tag of more than 255 bytes")
        opaque = h5t.create(h5t.OPAQUE, about["size"])
        opaque.set_tag(tag)
        return opaque
    if name == "string":
        string = h5t.C_S1.copy()
        string.set_size(h5t.VARIABLE if about["size"] is None else about["size"])
        string.set_cset(_CHARSETS.index(about["charset"]))
        string.set_strpad(_PADDINGS.index(about["padding"]))
        return string
    if name == "reference":
        return {"object": h5t.STD_REF_OBJ, "region": h5t.STD_REF_DSETREG}[about["to"]]
    return _make_number(name, about)


def _make_base(kind: Any, depth: int) -> Any:
    """The type behind a name, which isn't another name."""
    if isinstance(kind, Mapping) and kind.get("class") == "named":
        raise ValueError("a name of a name")
    return _make(kind, depth + 1) if isinstance(kind, Mapping) and "class" in kind else type_of(kind)


def _make_compound(about: Mapping[str, Any], depth: int) -> Any:
    from h5py import h5t

    if not about["members"]:
        raise ValueError("a compound of nothing")
    compound = h5t.create(h5t.COMPOUND, about["size"])
    for word, offset, part in about["members"]:
        compound.insert(_bytes(word), int(offset), _make(part, depth + 1))
    return compound


def _make_number(name: str, about: Mapping[str, Any]) -> Any:
    from h5py import h5t

    _check_size(about["size"])
    if name == "integer":
        number = h5t.STD_I32LE.copy()
        number.set_size(about["size"])
        number.set_order(_ORDERS.index(about["order"]))
        number.set_precision(about["bits"])
        number.set_offset(about["offset"])
        number.set_pad(*map(_PADS.index, about["pad"]))
        number.set_sign(h5t.SGN_2 if about["signed"] else h5t.SGN_NONE)
        return number
    if name != "float":
        raise ValueError(f"type {name!r}")
    number = h5t.IEEE_F64LE.copy()
    places = tuple(int(place) for place in about["places"])
    if about["size"] > 8:  # room first, or places first: they must lie within the width at any time
        number.set_size(about["size"])
        number.set_precision(about["bits"])
        number.set_fields(*places)
    else:
        number.set_fields(*places)
        number.set_precision(about["bits"])
        number.set_size(about["size"])
    number.set_offset(about["offset"])
    number.set_order(_ORDERS.index(about["order"]))
    number.set_ebias(about["bias"])
    norms = (h5t.NORM_IMPLIED, h5t.NORM_MSBSET, h5t.NORM_NONE)
    number.set_norm(norms[_NORMS.index(about["norm"])])
    number.set_inpad(_PADS.index(about["inner"]))
    number.set_pad(*map(_PADS.index, about["pad"]))
    return number


def _check_size(size: Any) -> None:
    if type(size) is not int or not 1 <= size <= MAX_TYPE:
        raise ValueError(f"values of {size} bytes")


def _text(name: bytes) -> str:
    return bytes(name).decode("utf-8", "surrogateescape")


def _bytes(name: Any) -> bytes:
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"name {name!r}")
    return name.encode("utf-8", "surrogateescape")


# ---- types in memory


def is_plain(kind: Any) -> bool:
    """Whether values are of a fixed size and of a type that NumPy has, too."""
    if isinstance(kind, Mapping):
        return "class" not in kind
    return kind not in ("text", "reference")


def is_variable(kind: Any) -> bool:
    """Whether a part of a value lies elsewhere in the file: text of any length, ragged arrays, references."""
    if not isinstance(kind, Mapping):
        return kind in ("text", "reference")
    name = kind.get("class")
    if name in ("ragged", "reference"):
        return True
    if name == "string":
        return kind["size"] is None
    if name == "compound":
        return any(is_variable(part) for _, _, part in kind["members"])
    if name == "named":
        return is_variable(kind["type"])
    return name in ("array", "enum") and is_variable(kind["base"])


def size_of(kind: Any) -> int:
    """The bytes of a value as it lies in the file; of one with parts elsewhere, in memory."""
    return type_of(kind).get_size() if isinstance(kind, Mapping) and "class" in kind else dtype_of(kind).itemsize


def memory_type(kind: Any) -> np.dtype[Any]:
    """The type with which h5py reads and writes values that have parts elsewhere."""
    return type_of(kind).dtype


def dtype_of(kind: Any) -> np.dtype[Any]:
    """NumPy's type for values of a JSON that `kind_of` gives: raw bytes where it has none. Raises ValueError."""
    if isinstance(kind, Mapping) and "class" in kind:
        return _dtype_of_class(kind)
    import h5py

    if isinstance(kind, dict) and "enum" in kind:
        base = np.dtype(kind["of"])
        if base.kind not in "iu":
            raise ValueError("an enumeration of something else")
        return h5py.enum_dtype({str(k): int(v) for k, v in kind["enum"].items()}, base)
    if isinstance(kind, dict):
        if not kind["fields"] or any(isinstance(part, Mapping) for _, part in kind["fields"]):
            raise ValueError("a compound of nothing, or of compounds")
        formats = [dtype_of(part) for _, part in kind["fields"]]
        if any(part.hasobject or not part.itemsize for part in formats):
            raise ValueError("a compound of something else than numbers and text of a fixed size")
        names = [str(name) for name, _ in kind["fields"]]
        parts: Any = {"names": names, "formats": formats, "offsets": kind["offsets"], "itemsize": kind["size"]}
        return np.dtype(parts)
    if kind == "bool":
        return np.dtype(bool)
    if kind == "text":
        return h5py.string_dtype()
    if kind == "reference":
        return h5py.ref_dtype
    if not isinstance(kind, str) or len(kind) > 20 or "," in kind:
        raise ValueError(f"type {kind!r}")
    dtype = np.dtype(kind)
    if dtype.kind not in "iufcS" or not 1 <= dtype.itemsize <= MAX_TYPE or dtype.subdtype is not None:
        raise ValueError(f"type {kind!r}")
    return dtype


def _dtype_of_class(kind: Mapping[str, Any]) -> np.dtype[Any]:
    tid = type_of(kind)
    if is_variable(kind):
        dtype = tid.dtype
        return dtype if dtype.subdtype is None else np.dtype(object)
    raw = np.dtype(f"V{tid.get_size()}")
    if kind["class"] in ("integer", "float", "standard", "opaque"):
        return raw  # what isn't exactly a type of NumPy must not look like one
    try:
        dtype = tid.dtype
    except (TypeError, ValueError, KeyError, RuntimeError, NotImplementedError):
        return raw
    fits = dtype.itemsize == raw.itemsize and not dtype.hasobject and dtype.subdtype is None
    return dtype if fits else raw
