"""The samples are consistent: readers read them, pairs repeat, orbits and elevations cover their scenes."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

from armillary_formats import geotiff, sentinel1_orbit, sentinel1_safe
from armillary_formats.samples.write import write


def times_of(item) -> tuple[datetime, datetime]:
    return tuple(datetime.fromisoformat(item["properties"][key]) for key in ("start_datetime", "end_datetime"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    write(tmp_path_factory.getbasetemp() / "pairs", pairs=3, width=32, height=12)
    return tmp_path_factory.getbasetemp() / "pairs"


def test_the_same_arguments_give_the_same_bytes(tmp_path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        write(folder, 1, 32, 12)
    files = [{path.relative_to(f): path.read_bytes() for path in f.rglob("*") if path.is_file()} for f in folders]
    assert files[0] == files[1]
    assert len(files[0]) == 2 * 7 + 2 + 1


def test_a_pair_is_of_one_track_twelve_days_apart_in_one_place(pairs) -> None:
    items = [sentinel1_safe.read(path) for path in sorted(pairs.glob("*.SAFE"))]
    assert len({item["id"] for item in items}) == 6
    firsts, seconds = items[:3], items[3:]
    for first, second in zip(firsts, seconds, strict=True):
        assert times_of(second)[0] - times_of(first)[0] == timedelta(days=12)
        assert first["geometry"] == second["geometry"]
        for key in ("sat:relative_orbit", "sat:orbit_state", "platform"):
            assert first["properties"][key] == second["properties"][key]
    assert len({item["properties"]["sat:relative_orbit"] for item in firsts}) == 3
    assert all("s1:missing_files" not in item["properties"] for item in items)


def test_each_scene_is_spanned_by_an_orbit_and_covered_by_an_elevation_model(pairs) -> None:
    scenes = [sentinel1_safe.read(path) for path in pairs.glob("*.SAFE")]
    orbits = [times_of(sentinel1_orbit.read(path)) for path in pairs.glob("*.EOF")]
    boxes = [geotiff.read(path)["bbox"] for path in pairs.glob("*.tif")]
    for scene in scenes:
        start, end = times_of(scene)
        assert any(first <= start and end <= last for first, last in orbits)
        west, south, east, north = scene["bbox"]
        assert any(b[0] < west and b[1] < south and b[2] > east and b[3] > north for b in boxes)


def test_the_state_vectors_are_an_orbit(pairs) -> None:
    path = min(pairs.glob("*.EOF"))
    vectors = ElementTree.parse(path).getroot().findall(".//OSV")
    assert len(vectors) == sentinel1_orbit.read(path)["properties"]["s1:state_vectors"]
    positions = np.array([[float(v.findtext(axis)) for axis in "XYZ"] for v in vectors])
    velocities = np.array([[float(v.findtext(f"V{axis}")) for axis in "XYZ"] for v in vectors])
    assert np.allclose(np.linalg.norm(positions, axis=1), 7_071_000, atol=1)
    moved = (positions[2:] - positions[:-2]) / 20
    assert np.abs(moved - velocities[1:-1]).max() < 20, "velocity is the change of position"
    assert 7_300 < np.linalg.norm(velocities, axis=1).mean() < 7_800


def test_the_satellite_is_as_far_from_the_scene_as_its_echo_took(pairs) -> None:
    path = min(pairs.glob("*.SAFE/annotation/*iw2*"))
    root = ElementTree.parse(path).getroot()
    orbits = [(o.findtext("time"), [float(o.findtext(f"position/{a}")) for a in "xyz"]) for o in root.iter("orbit")]
    start = root.findtext("adsHeader/startTime")
    satellite = np.array(next(position for moment, position in orbits if moment == start))
    point = root.find(".//geolocationGridPoint")
    longitude, latitude = (np.radians(float(point.findtext(key))) for key in ("longitude", "latitude"))
    ground = 6_371_000 * np.array(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
    )
    echo = float(point.findtext("slantRangeTime"))
    assert np.linalg.norm(satellite - ground) == pytest.approx(echo * 299_792_458 / 2, rel=1e-6)
    incidence = np.degrees(
        np.arccos(np.dot(satellite - ground, ground) / np.linalg.norm(satellite - ground) / 6_371_000)
    )
    assert incidence == pytest.approx(float(point.findtext("incidenceAngle")), abs=1e-6)


def test_the_two_dates_are_coherent_and_two_pairs_are_not(tmp_path) -> None:
    write(tmp_path, 2, 200, 120)
    images = []
    for path in sorted(tmp_path.glob("*.SAFE/measurement/*iw1*")):
        with rasterio.open(path) as raster:
            assert raster.dtypes == ("complex_int16",)
            images.append(raster.read(1))
    assert len(images) == 4

    def coherence(a, b) -> float:
        return abs((a * b.conj()).sum()) / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum())

    assert coherence(images[0], images[2]) == pytest.approx(0.8, abs=0.02)
    assert coherence(images[0], images[1]) < 0.05


def test_the_command_prints_the_paths_to_ingest(tmp_path) -> None:
    command = [sys.executable, "-m", "armillary_formats.samples", str(tmp_path / "new"), "--samples", "32x12"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = [Path(line) for line in done.stdout.splitlines()]
    assert [path.suffix for path in printed] == [".SAFE", ".SAFE", ".EOF", ".EOF", ".tif"]
    assert all(path.exists() for path in printed)
    for wrong in (["--pairs", "0"], ["--pairs", "many"], ["--samples", "4x4"], ["--samples", "wide"]):
        done = subprocess.run([*command[:4], *wrong], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "is not a" in done.stderr
