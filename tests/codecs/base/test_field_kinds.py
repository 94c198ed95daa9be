"""The datasets that are fields: what CF attributes, names and values keep without loss, and what is still coded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from codec import Codec
from codec.codecs.interp.codec import InterpCodec

from ..layers.test_interpolation import smooth


@pytest.fixture(scope="module")
def interp() -> InterpCodec:
    codec = Codec.load("interp")
    assert isinstance(codec, InterpCodec)
    return codec


def plan(interp: InterpCodec, path: Path, **datasets: Any) -> dict[str, str]:
    """The plan of a file of these datasets: arrays, or pairs of an array and attributes."""
    with h5py.File(path, "w") as file:
        for name, given in datasets.items():
            array, attributes = given if isinstance(given, tuple) else (given, {})
            file[name.replace("__", "/")] = array
            file[name.replace("__", "/")].attrs.update(attributes)
    return interp.plan_file(path)


X = smooth((70, 71)).astype("f4")


@pytest.mark.parametrize(
    "attributes",
    [
        {"coordinates": "other more"},
        {"bounds": "other"},
        {"cell_measures": "area: other volume: more"},
        {"ancillary_variables": "other"},
        {"grid_mapping": "crs: other"},
        {"formula_terms": "a: more b: other"},
        {"climatology": "other"},
        {"node_coordinates": np.bytes_(b"other more")},
        {"face_node_connectivity": "/other"},
        {"coordinates": "../other"},
    ],
)
def test_named_by_others(interp: InterpCodec, tmp_path: Path, attributes: dict[str, Any]) -> None:
    found = plan(interp, tmp_path / "a.h5", other=X, group__v=(X, attributes))
    assert found["/other"].startswith("without loss: named by")
    assert found["/group/v"].startswith("with a loss")


@pytest.mark.parametrize(
    "attributes",
    [
        {"units": "degrees_north"},
        {"units": "degree_E"},
        {"units": "hours since 2020-01-01"},
        {"standard_name": "longitude"},
        {"standard_name": "projection_x_coordinate"},
        {"standard_name": "cell_area"},
        {"standard_name": "land_area_fraction"},
        {"axis": "Y"},
        {"flag_values": np.arange(3.0)},
        {"flag_meanings": "a b"},
        {"_CoordinateAxisType": "Lat"},
    ],
)
def test_what_it_says_of_itself(interp: InterpCodec, tmp_path: Path, attributes: dict[str, Any]) -> None:
    found = plan(
        interp, tmp_path / "a.h5", u=(X, attributes), v=(X, {"units": "K", "standard_name": "air_temperature"})
    )
    assert found["/u"].startswith("without loss")
    assert found["/v"].startswith("with a loss, within")


NAMES = """XLAT XLONG XLAT_M XLONG_U nav_lat nav_lon TLAT TLONG ULAT ULON geolat geolon_t gphit glamu e1t e2v e3w_0 lat
lon2d latitude lat_rho grid__latitude lat_bnds time_bounds lon_vertices vertices_latitude areacello tarea mask_rho tmask
LANDMASK LU_INDEX valid_time x y dxt rlat sftlf mesh__u model_weights__dense__w stats__covariance xyz clon"""
FIELDS = """
velocity T2 latent_heat_flux longwave timestep_error temperature pressure u10 thetao z depth height level data
leaf_area_index relation masked_velocity travel_time boundary_flux long_wave_flux area_mean xflux weighting"""


@pytest.mark.parametrize("name", NAMES.split())
def test_names(interp: InterpCodec, tmp_path: Path, name: str) -> None:
    (words,) = plan(interp, tmp_path / "a.h5", **{name: X}).values()
    assert words.startswith("without loss")


@pytest.mark.parametrize("name", FIELDS.split())
def test_names_of_fields(interp: InterpCodec, tmp_path: Path, name: str) -> None:
    assert plan(interp, tmp_path / "a.h5", **{name: X})[f"/{name}"].startswith("with a loss")


def test_meshes(interp: InterpCodec, tmp_path: Path) -> None:
    """The coordinate z beside x and y of its shape; the field z of another shape isn't one."""
    grid = smooth((20, 21, 22))
    found = plan(interp, tmp_path / "a.h5", grid__x=grid, grid__y=grid, grid__z=grid, flow__z=grid)
    assert [path for path, words in found.items() if words.startswith("with a")] == ["/flow/z"]


def test_values(interp: InterpCodec, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(80, 90))
    found = plan(
        interp,
        tmp_path / "a.h5",
        counts=np.rint(50 * X),
        land=(X > 0).astype("f4"),
        quarters=np.rint(3 * X) / 4,
        same=np.full((70, 71), 2.5),
        table=rng.random((500, 9)),
        product=mixing @ mixing.T,
        rising=np.broadcast_to(np.linspace(0, 1.1, 71), (70, 71)),
        hollow=np.full((70, 71), np.nan),
        large=1e30 * smooth((70, 71)),
        noisy=X + 0.3 * rng.normal(size=X.shape),
        packed=np.rint(X * 100) / 100,
        turbulent=rng.normal(size=(20, 20, 20)),
    )
    coded = [path for path, words in found.items() if words.startswith("with a")]
    assert coded == ["/large", "/noisy", "/packed", "/turbulent"], found


def test_the_first_part_is_not_all(interp: InterpCodec, tmp_path: Path) -> None:
    """Nothing but zeros where a sample is taken: still a field, and one that is coded."""
    x = np.zeros((600, 40, 41), "f4")
    x[30:34] = smooth((4, 40, 41))
    assert plan(interp, tmp_path / "a.h5", v=x)["/v"].startswith("with a loss")


def test_what_is_named_is_coded(interp: InterpCodec, tmp_path: Path) -> None:
    codec = interp.with_settings(dataset="lat")
    found = plan(codec, tmp_path / "a.h5", lat=np.rint(9 * X), v=X)
    assert found["/lat"].startswith("with a loss, within")
    assert found["/v"] == "without loss: isn't named by --dataset"


def test_the_plan_is_what_is_done(interp: InterpCodec, tmp_path: Path) -> None:
    found = plan(interp, tmp_path / "a.h5", lat=X, v=X, ids=np.arange(9))
    summary = interp.encode_file(tmp_path / "a.h5", tmp_path / "a.interp")
    assert summary.about["fields"]["/v"].partition(", ")[2] == found["/v"].partition(", ")[2]
    assert {path: f"without loss: {why}" for path, why in summary.about["lossless"].items()} == {"/lat": found["/lat"]}
    assert not list(tmp_path.glob("*.part"))
