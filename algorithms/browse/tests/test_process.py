"""Whole jobs, run as a runner runs them, against numpy on the same rasters."""

import gzip
import json
import math
import re
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
ORBIT = """<Earth_Explorer_File><Data_Block><List_of_OSVs>
<OSV><UTC>UTC=2026-01-05T06:30:00.000000</UTC><X>7000000</X><Y>0</Y><Z>0</Z><VX>0</VX><VY>7500</VY><VZ>0</VZ></OSV>
<OSV><UTC>UTC=2026-01-05T06:30:10.000000</UTC><X>0</X><Y>7100000</Y><Z>0</Z><VX>0</VX><VY>0</VY><VZ>7600</VZ></OSV>
</List_of_OSVs></Data_Block></Earth_Explorer_File>"""


def write_raster(path: Path, bands: np.ndarray, **profile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    described = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": str(bands.dtype)}
    with rasterio.open(path, "w", **described | profile) as out:
        out.write(bands)


def check_band(found: dict, values: np.ndarray, *, exact_percentiles: bool = True) -> None:
    """Compare one band's statistics with numpy's on the same, already valid values."""
    values = values.astype(np.float64)
    assert found["count"] == values.size
    assert (found["min"], found["max"]) == (values.min(), values.max())
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["std"] == pytest.approx(values.std(), rel=1e-10)
    for percent, value in found["percentiles"].items():
        assert value == pytest.approx(np.percentile(values, float(percent)), abs=found["percentile_tolerance"] * 1.001)
    counts, _ = np.histogram(values, found["histogram"]["edges"])
    if exact_percentiles:
        assert found["histogram"]["counts"] == counts.tolist()


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as png:
        assert png.driver == "PNG"
        return png.read()


def test_statistics_leave_out_nodata_and_what_is_not_finite(job) -> None:
    values = np.random.default_rng(1).normal(250, 40, (1, 300, 400)).astype(np.float32)
    values[0, :20] = -9999
    values[0, 40:50, 10:90] = np.nan
    values[0, 60, 60] = np.inf
    write_raster(job.give("raster", "hills", geometry=SQUARE) / "hills.tif", values, nodata=-9999)
    assert job.run() == 0
    (found,) = job.read("statistics.json")["bands"]
    valid = values[(values != -9999) & np.isfinite(values)]
    check_band(found, valid)
    assert found["samples"] == 120_000
    picture = pixels(job.product / "browse.png")
    assert picture.shape == (2, 300, 400)
    assert (picture[1, :20] == 0).all()
    assert (picture[1, 100:] == 255).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float64"])
def test_every_band_of_every_type_has_its_own_statistics(job, dtype) -> None:
    bands = np.random.default_rng(2).integers(0, 200, (5, 64, 48)).astype(dtype)
    write_raster(job.give("raster", "bands") / "bands.tif", bands, tiled=True, blockxsize=16, blockysize=16)
    assert job.run() == 0
    found = job.read("statistics.json")["bands"]
    assert len(found) == 5
    for band, described in zip(bands, found, strict=True):
        check_band(described, band)


def test_complex_samples_count_with_their_amplitude_and_swaths_stand_side_by_side(job) -> None:
    folder = job.give("raster", "S1A_product")
    rng = np.random.default_rng(3)
    swaths = [(rng.integers(-99, 99, (1, 60, 80)) + 1j * rng.integers(-99, 99, (1, 60, 80))) for _ in range(3)]
    for i, swath in enumerate(swaths):
        name = folder / "S1A_product.SAFE" / "measurement" / f"iw{i}.tiff"
        write_raster(name, swath.astype(np.complex64), dtype="complex_int16")
    write_raster(folder / "S1A_product.SAFE" / "preview" / "other.tiff", np.ones((1, 4, 4), np.uint8))
    assert job.run({"max_size": 120}) == 0
    found = job.read("statistics.json")["bands"]
    assert [band["file"] for band in found] == ["iw0.tiff", "iw1.tiff", "iw2.tiff"]
    for swath, band in zip(swaths, found, strict=True):
        assert band["is_amplitude"]
        check_band(band, np.abs(swath.astype(np.complex64)), exact_percentiles=False)
    assert pixels(job.product / "browse.png").shape == (1, 30, 120)


def test_a_zipped_product_is_read_without_being_unpacked(job) -> None:
    plain = job.path / "iw1.tiff"
    write_raster(plain, np.arange(80, dtype=np.int16).reshape(1, 8, 10))
    with zipfile.ZipFile(job.give("raster", "zipped") / "a b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain, "P.SAFE/measurement/iw1.tiff")
        archive.writestr("P.SAFE/manifest.safe", "text")
    assert job.run() == 0
    (band,) = job.read("statistics.json")["bands"]
    assert (band["file"], band["count"], band["mean"]) == ("iw1.tiff", 80, 39.5)


def test_a_raster_larger_than_a_block_is_read_in_blocks(job) -> None:
    values = np.random.default_rng(4).integers(-3000, 9000, (1, 1700, 3000)).astype(np.int16)
    write_raster(job.give("raster", "wide") / "wide.tif", values)
    assert job.run({"percentiles": [0, 0.1, 50, 100]}) == 0
    check_band(job.read("statistics.json")["bands"][0], values)
    lines = [json.loads(line) for line in (job.path / "progress.jsonl").read_text().splitlines()]
    fractions = [line["fraction"] for line in lines]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any("of 3" in line["message"] for line in lines)
    assert max(pixels(job.product / "browse.png").shape[1:]) == 1024


def test_the_stretch_takes_the_percentiles_it_is_given(job) -> None:
    ramp = np.arange(10_000, dtype=np.uint16).reshape(1, 100, 100)
    write_raster(job.give("raster", "ramp") / "ramp.tif", ramp)
    assert job.run({"stretch": [25, 75]}) == 0
    picture = pixels(job.product / "browse.png")[0].ravel()
    assert (picture[:2500] == 0).all()
    assert (picture[7500:] == 255).all()
    assert picture[5000] in (127, 128)


def test_three_bands_become_colours(job) -> None:
    bands = np.random.default_rng(5).integers(1, 255, (3, 40, 50)).astype(np.uint8)
    write_raster(job.give("raster", "rgb") / "rgb.tif", bands)
    assert job.run() == 0
    assert pixels(job.product / "browse.png").shape == (3, 40, 50)


def test_the_product_is_where_and_when_its_raster_was(job) -> None:
    properties = {"datetime": "2026-01-05T06:30:00Z", "start_datetime": "2026-01-05T06:30:00Z",
                  "end_datetime": "2026-01-05T06:30:09Z", "platform": "sentinel-1a"}  # fmt: skip
    write_raster(
        job.give("raster", "r", geometry=SQUARE, properties=properties) / "r.tif", np.ones((1, 4, 4), np.uint8)
    )
    assert job.run() == 0
    item = job.read("granule.json")
    assert item["geometry"] == SQUARE
    assert {key: item["properties"][key] for key in properties if "datetime" in key} == {
        key: value for key, value in properties.items() if "datetime" in key
    }
    assert item["properties"]["browse:mean"] == 1
    assert item["assets"]["browse.png"]["roles"] == ["overview"]
    assert job.product.name == "r-browse"


def test_the_same_job_again_gives_the_same_bytes(new_job) -> None:
    products = []
    for name in ("first", "second"):
        job = new_job(name)
        values = np.random.default_rng(6).normal(size=(1, 90, 90))
        write_raster(job.give("raster", "same") / "same.tif", values)
        assert job.run() == 0
        products.append({path.name: path.read_bytes() for path in job.product.iterdir()})
    assert products[0] == products[1]
    assert products[0].keys() == {"browse.png", "statistics.json", "granule.json"}


def test_a_long_name_is_shortened_to_what_an_id_may_have(job) -> None:
    name = "é" * 99
    write_raster(job.give("raster", name) / "r.tif", np.ones((1, 4, 4), np.uint8))
    assert job.run() == 0
    assert len(job.product.name.encode()) <= 200
    assert job.product.name.endswith("é-browse")


def test_elevation_and_orbits_are_described_beside(job) -> None:
    properties = {"start_datetime": "2026-01-05T06:30:05Z", "end_datetime": "2026-01-05T06:30:14Z"}
    write_raster(job.give("raster", "r", properties=properties) / "r.tif", np.ones((1, 4, 4), np.uint8))
    write_raster(job.give("elevation", "e") / "e.tif", np.arange(16, dtype=np.float32).reshape(1, 4, 4))
    (job.give("orbits", "plain") / "a.EOF").write_text(ORBIT)
    (job.give("orbits", "zipped") / "b.EOF.gz").write_bytes(gzip.compress(ORBIT.encode()))
    assert job.run() == 0
    statistics = job.read("statistics.json")
    assert statistics["elevation"][0]["mean"] == 7.5
    assert [orbit["file"] for orbit in statistics["orbits"]] == ["a.EOF", "b.EOF.gz"]
    for orbit in statistics["orbits"]:
        assert (orbit["state_vectors"], orbit["state_vectors_during_the_raster"]) == (2, 1)
        assert orbit["height_above_mean_radius_m"] == [629_000, 729_000]
        assert orbit["speed_m_s"] == [7500, 7600]


def test_a_raster_without_a_valid_sample_has_a_count_of_zero(job) -> None:
    write_raster(job.give("raster", "void") / "void.tif", np.zeros((1, 8, 8), np.uint8), nodata=0)
    assert job.run() == 0
    assert job.read("statistics.json")["bands"][0]["count"] == 0


def test_numbers_near_the_largest_double_still_give_json(job) -> None:
    values = np.array([[[1.7e308, -1.7e308], [1e308, 3.0]]])
    write_raster(job.give("raster", "huge") / "huge.tif", values)
    assert job.run() == 0
    band = job.read("statistics.json")["bands"][0]
    assert (band["max"], band["std"]) == (1.7e308, None)


@pytest.mark.parametrize(
    ("content", "code", "error_class", "said"),
    [
        (None, 10, "input missing", "Granule odd holds no GeoTIFF"),
        (b"", 11, "science error", "odd.tif cannot be read"),
        (b"II*\0garbage, not a directory of anything", 11, "science error", "odd.tif cannot be read"),
    ],
)
def test_a_raster_that_cannot_be_read_is_explained(job, content, code, error_class, said) -> None:
    folder = job.give("raster", "odd")
    (folder / ("notes.txt" if content is None else "odd.tif")).write_bytes(content or b"no raster")
    assert job.run() == code
    assert job.error["class"] == error_class
    assert said in job.error["message"]
    assert job.error["remedy"]


def test_a_raster_that_is_cut_off_fails_at_its_pixels(job) -> None:
    path = job.give("raster", "cut") / "cut.tif"
    write_raster(path, np.random.default_rng(7).normal(size=(1, 200, 200)))
    path.write_bytes(path.read_bytes()[:-100_000])
    assert job.run() == 11
    assert "cut.tif cannot be read" in job.error["message"]


def test_a_damaged_orbit_is_explained(job) -> None:
    write_raster(job.give("raster", "r") / "r.tif", np.ones((1, 4, 4), np.uint8))
    (job.give("orbits", "o") / "o.EOF").write_text(ORBIT[:300])
    assert job.run() == 11
    assert "o.EOF cannot be read" in job.error["message"]


def test_a_stretch_the_wrong_way_round_is_explained(job) -> None:
    write_raster(job.give("raster", "r") / "r.tif", np.ones((1, 4, 4), np.uint8))
    assert job.run({"stretch": [98, 2]}) == 11
    assert job.error["remedy"] == "Write it as [2, 98]."


def test_asked_to_stop_it_stops_as_preempted(job) -> None:
    write_raster(job.give("raster", "r") / "r.tif", np.ones((1, 4, 4), np.uint8))
    process = job.start({"pace_seconds": 3600})
    while not _handles_sigterm(process.pid):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 15
    assert job.error["class"] == "preempted"


def _handles_sigterm(pid: int) -> bool:
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.real_data
def test_a_real_wrapped_interferogram_with_its_orbit_and_elevation(job, insar_data) -> None:
    interferogram = insar_data / "real_wrapped_ifg_morocco_eo_tools" / "phi_vv.tif"
    elevation = next((insar_data / "safe_pair_morocco_eo_tools").glob("dem-b1-*iw1*.tiff"))
    orbit = next((insar_data / "poeorb_sentineleof").glob("S1A*20231102*.EOF.gz"))
    times = {"start_datetime": "2023-10-13T06:00:00Z", "end_datetime": "2023-10-13T06:01:00Z"}
    for role, path in (("raster", interferogram), ("elevation", elevation), ("orbits", orbit)):
        shutil.copy(path, job.give(role, path.name.split(".")[0], properties=times) / path.name)
    assert job.run() == 0
    statistics = job.read("statistics.json")
    with rasterio.open(interferogram) as raster:
        phase = raster.read(1, masked=True)
    check_band(statistics["bands"][0], phase.compressed(), exact_percentiles=False)
    assert statistics["bands"][0]["count"] / phase.size == pytest.approx(0.83, abs=0.01)
    assert -math.pi - 1e-6 <= statistics["bands"][0]["min"] <= statistics["bands"][0]["max"] <= math.pi + 1e-6
    assert (statistics["elevation"][0]["min"], statistics["elevation"][0]["max"]) == (146, 927)
    (described,) = statistics["orbits"]
    assert (described["state_vectors"], described["state_vectors_during_the_raster"]) == (9361, 6)
    assert 690_000 < described["height_above_mean_radius_m"][0] < described["height_above_mean_radius_m"][1] < 730_000


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["amp_prm_vv.tif", "coh_vv.tif"])
def test_real_products_agree_with_numpy(job, insar_data, name) -> None:
    source = insar_data / "real_wrapped_ifg_morocco_eo_tools" / name
    shutil.copy(source, job.give("raster", name) / name)
    assert job.run() == 0
    with rasterio.open(source) as raster:
        check_band(
            job.read("statistics.json")["bands"][0], raster.read(1, masked=True).compressed(), exact_percentiles=False
        )
