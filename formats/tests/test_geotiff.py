"""GeoTIFF: footprints in any projection, times from where they stand, and files that are cut."""

from itertools import pairwise

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_bounds, from_origin

from armillary_formats import geotiff
from armillary_formats.refusal import Refused

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path, transform=None, crs=None, shape=(20, 30), dtype="float32", tags=None, count=1, **profile):
    options = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": count, "dtype": dtype}
    with rasterio.open(path, "w", **options, crs=crs, transform=transform, **profile) as out:
        out.write(np.ones((count, *shape), dtype))
        out.update_tags(**(tags or {}))
    return path


def corners(item) -> list:
    return item["geometry"]["coordinates"][0]


def test_a_raster_in_degrees_is_where_its_edges_are(tmp_path) -> None:
    item = geotiff.read(write(tmp_path / "a.tif", from_bounds(10, 40, 10.3, 40.2, 30, 20), "EPSG:4326"))
    assert item["bbox"] == pytest.approx([10, 40, 10.3, 40.2])
    assert len(corners(item)) == 5
    properties = item["properties"]
    assert properties["proj:code"] == "EPSG:4326"
    assert properties["proj:shape"] == [20, 30]
    assert properties["proj:transform"] == pytest.approx([0.01, 0, 10, 0, -0.01, 40.2])
    assert item["assets"]["a.tif"]["type"] == "image/tiff; application=geotiff"


def test_a_raster_in_metres_follows_its_curved_edges(tmp_path) -> None:
    item = geotiff.read(write(tmp_path / "a.tif", from_origin(400_000, 7_100_000, 10_000, 10_000), "EPSG:32633"))
    assert item["properties"]["proj:code"] == "EPSG:32633"
    assert len(corners(item)) == 81
    with rasterio.open(tmp_path / "a.tif") as raster:
        box = rasterio.warp.transform_bounds(raster.crs, "EPSG:4326", *raster.bounds, densify_pts=21)
    assert item["bbox"] == pytest.approx(box, abs=0.005)


def test_a_raster_across_the_antimeridian_is_cut_there(tmp_path) -> None:
    item = geotiff.read(write(tmp_path / "a.tif", from_origin(700_000, 1_000_000, 10_000, 10_000), "EPSG:32660"))
    assert item["geometry"]["type"] == "MultiPolygon"
    west, _, east, _ = item["bbox"]
    assert 178 < west < 180
    assert -180 < east < -177


def test_a_raster_over_a_pole_holds_it(tmp_path) -> None:
    transform = from_origin(-1_000_000, 1_000_000, 100_000, 100_000)
    item = geotiff.read(write(tmp_path / "a.tif", transform, "EPSG:3031", shape=(20, 20)))
    assert item["bbox"] == pytest.approx([-180, -90, 180, -77.04], abs=0.01)


@pytest.mark.parametrize("west", [-180, 0])
def test_a_global_grid_covers_the_globe(tmp_path, west) -> None:
    transform = from_origin(west - 0.5, 90.5, 1, 1)  # cells centred on whole degrees and on both poles
    item = geotiff.read(write(tmp_path / "a.tif", transform, "EPSG:4326", shape=(181, 360)))
    assert (item["bbox"][1], item["bbox"][3]) == (-90, 90)
    areas = sum(ring_area(part[0]) for part in parts(item["geometry"]))
    assert areas == pytest.approx(360 * 180, rel=1e-6)


def parts(geometry) -> list:
    return geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]


def ring_area(ring) -> float:
    return sum((a[0] * b[1] - b[0] * a[1]) / 2 for a, b in pairwise(ring))


def test_latitudes_beyond_a_pole_are_refused(tmp_path) -> None:
    path = write(tmp_path / "a.tif", from_origin(0, 95, 1, 1), "EPSG:4326")
    with pytest.raises(Refused, match="reaches to latitude 95, beyond a pole"):
        geotiff.read(path)


def test_a_plain_picture_has_no_place(tmp_path) -> None:
    item = geotiff.read(write(tmp_path / "a.tif"))
    assert (item["geometry"], item["frame"]) == (None, "none")
    assert "bbox" not in item


def test_a_radar_image_is_placed_by_its_control_points(samples) -> None:
    product = samples[0]
    (path,) = product.glob("measurement/*iw1*")
    item = geotiff.read(path)
    assert item["frame"] == "earth"
    assert item["properties"]["bands"] == [{"name": "band 1", "data_type": "complex_int16"}]
    assert item["properties"]["datetime"] == "2026-01-05T06:30:50Z"
    assert len(corners(item)) == 5


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("a.tif", {"TIFFTAG_DATETIME": "2023:09:04 06:37:30"}, "2023-09-04T06:37:30Z"),
        ("20200101.tif", {"TIFFTAG_DATETIME": "2023-09-04T08:37:30+02:00"}, "2023-09-04T06:37:30Z"),
        ("LC09_20210203_02.tif", {}, "2021-02-03T00:00:00Z"),
        ("x_2021-02-03T04:05:06_y.tif", {}, "2021-02-03T04:05:06Z"),
        ("s1a-20230904t063731-20230904t063756.tif", {}, "2023-09-04T06:37:31Z"),
        ("tile_20211399.tif", {}, None),
        ("dem_120210203.tif", {}, None),
        ("dem.tif", {}, None),
    ],
)
def test_the_time_is_that_of_the_tags_or_of_the_name_or_none(tmp_path, name, tags, expected) -> None:
    assert geotiff.read(write(tmp_path / name, tags=tags))["properties"]["datetime"] == expected


def test_a_date_that_is_none_is_refused(tmp_path) -> None:
    path = write(tmp_path / "a.tif", tags={"TIFFTAG_DATETIME": "2023:99:04 06:37:30"})
    with pytest.raises(Refused, match=r"TIFFTAG_DATETIME of a\.tif is '2023-99-04"):
        geotiff.read(path)


def test_bands_are_described(tmp_path) -> None:
    path = write(tmp_path / "a.tif", count=2, nodata=float("nan"))
    with rasterio.open(path, "r+") as raster:
        raster.set_band_description(1, "elevation")
        raster.set_band_unit(1, "m")
    first, second = geotiff.read(path)["properties"]["bands"]
    assert first == {"name": "elevation", "data_type": "float32", "nodata": "nan", "unit": "m"}
    assert second["name"] == "band 2"


def test_a_cloud_optimised_file_says_so(samples) -> None:
    item = geotiff.read(samples[-1])
    assert item["assets"][samples[-1].name]["type"].endswith("profile=cloud-optimized")


@pytest.mark.parametrize(
    "profile", [{}, {"tiled": True, "compress": "deflate", "blockxsize": 16, "blockysize": 16}, {"BIGTIFF": "YES"}]
)
def test_a_file_cut_anywhere_is_refused(tmp_path, profile) -> None:
    data = write(tmp_path / "a.tif", shape=(64, 64), **profile).read_bytes()
    for cut in [*range(0, len(data), len(data) // 50), len(data) - 1]:
        (tmp_path / "short.tif").write_bytes(data[:cut])
        with pytest.raises(Refused, match=r"short.tif (is empty|is not a|is cut short|refers)"):
            geotiff.read(tmp_path / "short.tif")


def test_directories_that_run_in_a_circle_are_refused(tmp_path) -> None:
    data = bytearray(write(tmp_path / "a.tif").read_bytes())
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[after : after + 4] = data[4:8]
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(Refused, match="in a circle"):
        geotiff.read(tmp_path / "a.tif")


@pytest.mark.real_data
def test_a_real_interferogram_is_near_its_epicentre(test_data) -> None:
    path = test_data / "insar" / "real_wrapped_ifg_morocco_eo_tools" / "phi_vv.tif"
    item = geotiff.read(path)
    assert item["bbox"] == pytest.approx([-8.8289, 31.755, -8.725, 31.8402], abs=1e-4)
    assert item["properties"]["proj:shape"] == [552, 673]
    assert item["properties"]["bands"][0]["nodata"] == -9999
