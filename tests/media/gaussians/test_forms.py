"""What a file is: by its first bytes, and .splat by its name or its length; tables that no file has are refused."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from codec.errors import MediaError
from codec.media.gaussians import compressed_ply, ply, splat, spz
from codec.media.gaussians.forms import FORMS, check, count_of, form_of, gaussians_of, layout_of, read
from codec.media.gaussians.values import Column, Table

from .making import bundle, scene, sog_parts
from .test_compressed_ply import table as chunks


def files() -> dict[str, bytes]:
    g = scene(40, 1)
    return {
        "ply": ply.write(g),
        "compressed-ply": compressed_ply.write(chunks()),
        "splat": splat.write(splat.quantise(g)),
        "spz": spz.write(spz.quantise(g)),
        "sog": bundle(sog_parts(40, 1)),
    }


@pytest.mark.parametrize("form", ["ply", *FORMS])
def test_known_without_a_name(form: str) -> None:
    data = files()[form]
    assert form_of(data) == form
    held = read(data)
    assert held.form == form and (held.table is None) == (form == "ply")
    if held.table is not None:
        layout = layout_of(form, held.table.detail, held.table.groups)
        assert [(part.role, part.bits) for part in layout] == [(c.role, c.bits) for c in held.table.columns]


def test_spz_of_old_versions_and_other_gzip_files() -> None:
    data = spz.write(spz.quantise(scene(9, 0), 3))
    assert form_of(data, "a.bin") == "spz"
    with pytest.raises(MediaError, match="gzip"):
        form_of(gzip.compress(bytes(99)), "a.idx.gz")


@pytest.mark.parametrize("name", ["a.splat", "A.SPLAT"])
def test_splat_by_its_name(name: str) -> None:
    assert form_of(b"\x1f\x8b" + bytes(30), name) == "splat"
    assert form_of(b"P6\n" + bytes(29), name) == "splat"
    with pytest.raises(MediaError, match="multiple of 32"):
        read(bytes(31), name)


def test_what_is_no_file_of_gaussians() -> None:
    for data, words in ((b"\x89PNG\r\n\x1a\n", "a PNG picture"), (b"", "empty"), (bytes(7), "of an unknown format")):
        with pytest.raises(MediaError, match=words):
            read(data, "scene.ply")


def test_counts_from_first_bytes() -> None:
    for form, data in files().items():
        expected = {"compressed-ply": 300, "sog": None}.get(form, 40)
        assert count_of(data[:4096], len(data), f"a.{form}") == expected, form
    assert count_of(spz.write(spz.quantise(scene(9, 0), 3))[:100], 0, "a.spz") == 9
    assert count_of(b"ply\nelement vertex", 99, "a.ply") is None


class TestTables:
    """A decoder may build any table from a hostile file."""

    @pytest.mark.parametrize("form", FORMS)
    def test_of_a_file(self, form: str) -> None:
        table = read(files()[form]).table
        assert table is not None
        check(table)

    @pytest.mark.parametrize("form", FORMS)
    def test_changed_columns(self, form: str) -> None:
        table = read(files()[form]).table
        assert table is not None
        for index, column in enumerate(table.columns):
            values = column.values.copy()
            if column.bits[0] < 32:
                values[3, -1] = 1 << column.bits[-1]
                self.refuse(table, index, replace(column, values=values))
                values[3, -1] = -(1 << 24) - 1
                self.refuse(table, index, replace(column, values=values))
            self.refuse(table, index, replace(column, values=column.values[:, :0]))
            self.refuse(table, index, replace(column, values=column.values[:-1]), first=index == 0)
            self.refuse(table, index, replace(column, values=column.values.astype(np.int64)))  # type: ignore[arg-type]
            self.refuse(table, index, replace(column, bits=(9,) * len(column.bits)))
            self.refuse(table, index, replace(column, role="other"))
            with pytest.raises(MediaError):
                gaussians_of(replace(table, columns=table.columns[:index] + table.columns[index + 1 :]))

    @staticmethod
    def refuse(table: Table, index: int, column: Column, first: bool = False) -> None:
        columns = [*table.columns[:index], column, *table.columns[index + 1 :]]
        if first:  # the first column says how many there are: the second is then wrong
            assert len(columns) > 1
        with pytest.raises(MediaError):
            gaussians_of(replace(table, columns=tuple(columns)))

    @pytest.mark.parametrize("form", FORMS)
    def test_changed_details(self, form: str) -> None:
        table = read(files()[form]).table
        assert table is not None
        for key, value in table.detail.items():
            if form == "splat" or key == "antialias":
                continue
            for other in (None, "x", 1.5, -1, 99, True, (1.0,), b"x", (float("nan"),) * 256):
                if key == "flags" and other in (99, True) and not isinstance(other, bool):
                    continue
                if type(other) is type(value) and key == "palette":
                    continue
                with pytest.raises(MediaError):
                    gaussians_of(replace(table, detail={**table.detail, key: other}))  # type: ignore[dict-item]
            if value not in (0, 12, ()):
                with pytest.raises(MediaError):
                    gaussians_of(replace(table, detail={k: v for k, v in table.detail.items() if k != key}))

    def test_groups(self) -> None:
        table = chunks()
        for groups in ((), (300,), (256, 45), (44, 256), (256, 256), (256, 0, 44)):
            with pytest.raises(MediaError):
                gaussians_of(replace(table, groups=groups))
        with pytest.raises(MediaError, match="expected none"):
            gaussians_of(replace(spz.quantise(scene(9, 0)), groups=(9,)))

    def test_unknown_form(self) -> None:
        with pytest.raises(MediaError, match="expected one of compressed-ply"):
            gaussians_of(Table("other", chunks().columns))
