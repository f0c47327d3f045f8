"""netCDF-4 and HDF5: extent and time by attributes or coordinates, and files that are cut."""

from itertools import pairwise

import h5py
import numpy as np
import pytest

from armillary_formats import hdf5
from armillary_formats.refusal import Refused

ACDD = {
    "geospatial_lat_min": -10.0, "geospatial_lat_max": np.float32(5), "geospatial_lon_min": "170",
    "geospatial_lon_max": np.array([-170.0]), "time_coverage_start": "2024-01-02T03:04:05Z",
    "time_coverage_end": b"2024-01-03", "title": "Sea surface", "Conventions": "CF-1.8, ACDD-1.3",
}  # fmt: skip


def write(path, attributes=None, **variables):
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes or {})
        for name, (data, described) in variables.items():
            file.create_dataset(name, data=data).attrs.update(described)
    return path


def grid(path, latitudes, longitudes, **more):
    return write(
        path,
        lat=(latitudes, {"units": "degrees_north"}),
        lon=(longitudes, {"standard_name": "longitude"}),
        sst=(np.zeros((len(latitudes), len(longitudes)), np.float32), {"units": "K", "long_name": "temperature"}),
        **more,
    )


def test_the_attributes_tell_extent_and_time(tmp_path) -> None:
    item = hdf5.read_netcdf(write(tmp_path / "a.nc", ACDD, sst=(np.zeros(3), {"units": "K"})))
    assert item["geometry"]["type"] == "MultiPolygon"
    assert item["bbox"] == [170, -10, -170, 5]
    expected = {"start_datetime": "2024-01-02T03:04:05Z", "end_datetime": "2024-01-03T00:00:00Z", "title": "Sea surface",
                "nc:variables": [{"name": "sst", "shape": [3], "data_type": "float64", "units": "K"}]}  # fmt: skip
    assert expected.items() <= item["properties"].items()
    assert item["assets"]["a.nc"]["type"] == "application/netcdf"


def test_without_them_the_coordinates_do_to_the_edges_of_their_cells(tmp_path) -> None:
    item = hdf5.read_netcdf(grid(tmp_path / "a.nc", np.arange(10.5, 20), np.arange(30.5, 50)))
    assert item["bbox"] == pytest.approx([30, 10, 50, 20])


@pytest.mark.parametrize("first", [0.0, -180.0, 0.5])
def test_a_global_grid_covers_the_globe_and_stops_at_its_poles(tmp_path, first) -> None:
    item = hdf5.read_netcdf(grid(tmp_path / "a.nc", np.linspace(-90, 90, 181), first + np.arange(360.0)))
    assert (item["bbox"][1], item["bbox"][3]) == (-90, 90)
    parts = item["geometry"]["coordinates"]
    rings = [part[0] for part in (parts if item["geometry"]["type"] == "MultiPolygon" else [parts])]
    area = sum((a[0] * b[1] - b[0] * a[1]) / 2 for ring in rings for a, b in pairwise(ring))
    assert area == pytest.approx(360 * 180, rel=1e-6)


@pytest.mark.parametrize(
    ("units", "values", "calendar", "expected"),
    [
        ("days since 2000-01-01", [0.0, 1.5], "standard", ("2000-01-01T00:00:00Z", "2000-01-02T12:00:00Z")),
        ("hours since 2000-01-01 12:00:00 UTC", [24], "gregorian", ("2000-01-02T12:00:00Z",) * 2),
        ("seconds since 1970-01-01T00:00:00Z", [86_400, 0], None, ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z")),
        ("days since 2000-01-01", [0.0], "noleap", None),
        ("months since 2000-01-01", [1.0], None, None),
        ("days since the flood", [1.0], None, None),
        ("days since 2000-01-01", [1e300], None, None),
        ("days since 2000-01-01", [np.nan], None, None),
    ],
)
def test_a_time_coordinate_tells_the_time_where_its_calendar_is_ours(
    tmp_path, units, values, calendar, expected
) -> None:
    described = {"units": units} | ({"calendar": calendar} if calendar else {})
    properties = hdf5.read(write(tmp_path / "a.h5", time=(np.array(values), described)))["properties"]
    if expected is None:
        assert (properties["datetime"], "start_datetime" in properties) == (None, False)
    else:
        assert (properties["start_datetime"], properties["end_datetime"]) == expected


def test_coordinates_within_groups_say_nothing_of_the_file(tmp_path) -> None:
    item = hdf5.read(grid(tmp_path / "a.h5", np.arange(3.0), np.arange(3.0)))
    assert item["frame"] == "earth"
    with h5py.File(tmp_path / "a.h5", "a") as file:
        group = file.create_group("inner")
        for name in ("lat", "lon"):
            file.move(name, f"inner/{name}")
        assert len(group) == 2
    assert hdf5.read(tmp_path / "a.h5")["frame"] == "none"


def test_coordinates_that_stand_in_another_file_are_not_read(tmp_path) -> None:
    (tmp_path / "other").write_bytes(np.arange(5.0).tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
            outside = [(str(tmp_path / "other"), 0, 40)]
            file.create_dataset(name, (5,), "f8", external=outside).attrs["units"] = units
        file["link"] = h5py.ExternalLink("/no/such/file", "/x")
    assert hdf5.read(tmp_path / "a.h5")["frame"] == "none"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (ACDD | {"geospatial_lat_min": "south"}, "geospatial_lat_min of a.nc is 'south', not a number"),
        (ACDD | {"geospatial_lat_min": np.nan}, "geospatial_lat_min of a.nc is nan"),
        (ACDD | {"geospatial_lat_max": 95.0}, "not on the sphere"),
        (ACDD | {"time_coverage_start": "soon"}, "time_coverage_start of a.nc is 'soon'"),
        (ACDD | {"time_coverage_end": "1999-01-01"}, "ends .* before it starts"),
    ],
)
def test_attributes_that_cannot_be_are_refused(tmp_path, attributes, reason) -> None:
    with pytest.raises(Refused, match=reason):
        hdf5.read(write(tmp_path / "a.nc", attributes))


def test_a_netcdf_without_variables_is_refused(tmp_path) -> None:
    with pytest.raises(Refused, match="holds no variable"):
        hdf5.read_netcdf(write(tmp_path / "a.nc", ACDD))


def test_the_classic_format_is_refused_with_a_remedy(tmp_path) -> None:
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(Refused, match="convert it to netCDF-4"):
        hdf5.read_netcdf(tmp_path / "a.nc")


def test_a_user_block_before_the_signature_is_skipped(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        file["x"] = np.arange(3)
    assert hdf5.read(tmp_path / "a.h5")["properties"]["nc:variables"][0]["name"] == "x"


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 1000, -1, -100])
def test_a_file_cut_anywhere_is_refused(tmp_path, keep) -> None:
    path = write(tmp_path / "a.h5", x=(np.arange(5000.0), {}))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Refused, match=r"a.h5 is (empty|not an HDF5 file|not a whole HDF5 file)"):
        hdf5.read(path)


def test_a_file_of_endless_groups_is_given_up(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hdf5, "MOST_OBJECTS", 50)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(60):
            file.create_group(str(i))
    with pytest.raises(Refused, match="more than 50 groups"):
        hdf5.read(tmp_path / "a.h5")


@pytest.mark.real_data
def test_a_real_product_lists_its_variables(test_data) -> None:
    item = hdf5.read(test_data / "insar" / "isce3_golden" / "winnipeg.h5")
    assert item["properties"]["title"] == "NISAR L1 SLC Product"
    names = {variable["name"] for variable in item["properties"]["nc:variables"]}
    assert "science/LSAR/SLC/swaths/frequencyA/HH" in names
