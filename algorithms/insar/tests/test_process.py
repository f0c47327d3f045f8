"""The whole road from job.json to a product: contract, contents, restart, identity, swap, closure."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import rasterio
import yaml
from click.testing import CliRunner
from conftest import ONE_BURST, burst_tile, prepared_pair, write_job
from PIL import Image

from armillary_insar import browse, check, geocode
from armillary_insar.cli import main
from armillary_insar.interferogram import Tile
from armillary_insar.job import Job, Parameters, read_job
from armillary_insar.pairing import burst_bounds
from armillary_insar.process import Prepared, process
from armillary_insar.safe import read_product
from armillary_insar.simulator.pair import MadePair, PairSpec, every_burst, fill, made_up_scene, make_pair

HERE = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def finished(volcano: MadePair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """A processed job of the volcano pair."""
    job = read_job(write_job(tmp_path_factory.mktemp("finished"), volcano))
    return job, process(job)


def test_product_holds_what_its_item_lists(finished: tuple[Job, Path]) -> None:
    job, folder = finished
    item = json.loads((folder / "granule.json").read_text())
    assert set(item["assets"]) | {"granule.json"} == {p.name for p in folder.iterdir()}
    assert set(item) <= {"geometry", "frame", "properties", "assets"}, "the catalogue takes no others"
    assert item["frame"] == "earth"
    assert item["properties"]["insar:simulated"] is True
    assert item["properties"]["insar:temporal_baseline_days"] == pytest.approx(12, abs=0.01)
    assert item["assets"]["browse.png"]["roles"] == ["overview"]
    lines = [json.loads(line) for line in (job.folder / "progress.jsonl").read_text().splitlines()]
    fractions = [line["fraction"] for line in lines]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len((job.folder / "result.json").read_bytes()) < 65_536


def test_layers_are_cloud_optimised_and_say_sign_and_dates(finished: tuple[Job, Path]) -> None:
    for path in sorted(finished[1].glob("*.tif")):
        with rasterio.open(path) as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert "farther from the radar at the secondary" in file.tags()["SIGN_CONVENTION"]
            assert file.tags()["SECONDARY_DATE"] == "2026-03-13"
            assert np.count_nonzero(np.isfinite(file.read(1))) > 1000


def test_netcdf_has_aria_layers_and_cubes(finished: tuple[Job, Path]) -> None:
    with netCDF4.Dataset(next(finished[1].glob("*.nc"))) as file:
        data, view = file["science/grids/data"], file["science/grids/imagingGeometry"]
        assert {"unwrappedPhase", "coherence", "connectedComponents", "amplitude"} <= set(data.variables)
        incidence = view["incidenceAngle"][:]
        assert 25 < incidence.min() < incidence.max() < 48
        assert abs(view["perpendicularBaseline"][:]).mean() == pytest.approx(60, rel=0.05)
        assert "conjugate" in file.sign_convention
        assert "ionosphere" in file.corrections_not_applied
        both = np.isfinite(data["unwrappedPhase"][:]) & np.isfinite(data["wrappedPhase"][:])
        assert both.sum() > 10_000


def test_quality_tells_what_was_used_how_well_it_fits_and_what_is_left_out(finished: tuple[Job, Path]) -> None:
    quality = json.loads((finished[1] / "quality.json").read_text())
    assert quality["bursts"] == ["IW1-110431", "IW1-110432", "IW2-110431", "IW2-110432"]
    assert quality["dates"] == ["2026-03-01", "2026-03-13"]
    assert 0.6 < quality["coherence"]["mean"] < 0.9
    assert quality["looks"]["nominal"] == 133
    assert quality["looks"]["measured_on_image"] == pytest.approx(quality["looks"]["effective_from_windows"], rel=0.15)
    assert abs(quality["esd"]["shift_lines"]) < 1e-3
    assert quality["closure"]["rdr2geo_geo2rdr_m"] < 1e-6
    assert quality["closure"]["rewrapped_minus_wrapped_rad"] < 1e-4
    assert len(quality["seams"]) >= 3
    # The spec's 3.5 Hz, less what bursts that start a millisecond apart turn.
    assert quality["doppler_gap_hz"].keys() == set(quality["bursts"])
    assert all(0.5 < gap < 3.5 for gap in quality["doppler_gap_hz"].values())
    assert {"ionosphere", "troposphere"} < set(quality["corrections_not_applied"])
    assert "later" in quality["sign_convention"]


def test_the_picture_has_both_panels_their_legends_and_a_scale_bar(finished: tuple[Job, Path]) -> None:
    """Many colours above, two legends below, and a bar that is ten kilometres long on the map."""
    with Image.open(finished[1] / "browse.png") as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    with rasterio.open(finished[1] / "coherence.tif") as file:
        wide_m = file.width * file.transform.a * 111_320 * np.cos(np.radians(sum(file.bounds[1::2]) / 2))
    for left in (browse.MARGIN, 2 * browse.MARGIN + browse.PANEL):
        panel = picture[:, left : left + browse.PANEL]
        assert len(np.unique(panel[70:-210].reshape(-1, 3), axis=0)) > 1000
        bar = (panel[70:-140] == browse.INK).all(axis=2).sum(axis=1).max()
        assert bar / browse.PANEL * wide_m == pytest.approx(10_000, rel=0.02)
        legend = np.ptp(panel[-140:-100], axis=2) > 60
        assert (legend.sum(axis=0) > 5).sum() > 150


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"swaths": ["IW2"]}, ["IW2-110431", "IW2-110432"]),
        ({"bursts": [110432]}, ["IW1-110432", "IW2-110432"]),
        ({"swaths": ["IW1"], "bursts": [110431]}, ["IW1-110431"]),
    ],
)
def test_a_subset_is_chosen_by_subswath_and_burst(
    asked: dict[str, object], expected: list[str], volcano: MadePair, tmp_path: Path
) -> None:
    assert [p.name for p in prepared_pair(tmp_path, volcano, asked)[1].plan.bursts] == expected


def test_a_subset_is_chosen_by_area(volcano: MadePair, volcano_prepared: tuple[Job, Prepared], tmp_path: Path) -> None:
    """A point at the outer edge of the first burst of the farther subswath, which no other burst sees."""
    first = volcano_prepared[1].plan.bursts[2]
    west, _, _, north = burst_bounds(first.swath, first.burst)
    latitudes = first.swath.grid.latitude_deg
    here = [west + 0.001, float(np.sort(latitudes)[-3]) - 0.004, west + 0.002, north]
    chosen = prepared_pair(tmp_path, volcano, {"area": here})[1].plan.bursts
    assert [p.name for p in chosen] == ["IW2-110431"]


def test_map_shows_the_displacement_where_it_is(finished: tuple[Job, Path], volcano: MadePair) -> None:
    """Geocoded displacement toward the satellite against the source's own, projected by the product's incidence."""
    truth = np.load(volcano.truth)
    with rasterio.open(finished[1] / "los_displacement.tif") as file:
        seen = file.read(1)
        rows, columns = np.nonzero(np.isfinite(seen))
        lon, lat = file.transform * (columns + 0.5, rows + 0.5)
    with netCDF4.Dataset(next(finished[1].glob("*.nc"))) as file:
        view = file["science/grids/imagingGeometry"]
        theta = np.radians(float(view["incidenceAngle"][1].mean()))
        azimuth = np.radians(float(view["azimuthAngle"][1].mean()))
    toward = np.array([np.sin(theta) * np.cos(azimuth), np.sin(theta) * np.sin(azimuth), np.cos(theta)])
    i = np.clip(
        np.rint((truth["enu_latitude_deg"][0] - lat) / -np.diff(truth["enu_latitude_deg"])[0]).astype(int), 0, None
    )
    j = np.rint((lon - truth["enu_longitude_deg"][0]) / np.diff(truth["enu_longitude_deg"])[0]).astype(int)
    expected = np.einsum("e,en->n", toward, truth["enu_m"][:, i, j])
    error = seen[rows, columns] - expected
    error -= np.median(error)
    assert expected.max() > 0.08
    assert np.percentile(np.abs(error), 95) < 0.004
    assert np.corrcoef(seen[rows, columns], expected)[0, 1] > 0.995


def test_same_job_gives_the_same_name_and_phase(finished: tuple[Job, Path], volcano: MadePair, tmp_path: Path) -> None:
    again = process(read_job(write_job(tmp_path, volcano)))
    assert again.name == finished[1].name
    with rasterio.open(again / "wrapped_phase.tif") as one, rasterio.open(finished[1] / "wrapped_phase.tif") as two:
        assert np.array_equal(one.read(1), two.read(1), equal_nan=True)


def test_zipped_products_give_the_same_phase(finished: tuple[Job, Path], tmp_path: Path) -> None:
    zipped = make_pair(PairSpec(), tmp_path / "pair", zipped=True)
    assert zipped.reference.suffix == ".zip"
    again = process(read_job(write_job(tmp_path / "job", zipped)))
    with rasterio.open(again / "wrapped_phase.tif") as one, rasterio.open(finished[1] / "wrapped_phase.tif") as two:
        assert np.array_equal(one.read(1), two.read(1), equal_nan=True)


def test_a_killed_job_continues_after_its_last_finished_burst(
    volcano: MadePair, finished: tuple[Job, Path], tmp_path: Path
) -> None:
    path = write_job(tmp_path, volcano)
    command = [sys.executable, "-m", "armillary_insar.cli", "process", str(path)]
    process_ = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("checkpoint/*/tile-*[0-9].npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process_.pid, signal.SIGKILL)
    process_.wait()
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("checkpoint/*/tile-*[0-9].npz")}
    assert kept
    assert not (tmp_path / "outputs").exists() or len(kept) == 4
    folder = process(read_job(path))
    for p in tmp_path.glob("checkpoint/*/tile-*.npz"):
        if p.name in kept:
            assert p.stat().st_mtime_ns == kept[p.name]
    log = (tmp_path / "progress.jsonl").read_text()
    assert log.count("from the checkpoint") == len(kept)
    with rasterio.open(folder / "wrapped_phase.tif") as one, rasterio.open(finished[1] / "wrapped_phase.tif") as two:
        assert np.array_equal(one.read(1), two.read(1), equal_nan=True)


def test_sigterm_ends_as_preempted(volcano: MadePair, tmp_path: Path) -> None:
    path = write_job(tmp_path, volcano)
    process_ = subprocess.Popen(
        [sys.executable, "-m", "armillary_insar.cli", "process", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "progress.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process_.terminate()
    assert process_.wait(30) == 15
    assert json.loads((tmp_path / "error.json").read_text())["class"] == "preempted"


def test_command_line_refuses_with_class_and_remedy(volcano: MadePair, tmp_path: Path) -> None:
    path = write_job(tmp_path, volcano, {"swaths": ["IW3"]})
    result = CliRunner().invoke(main, ["process", str(path)])
    assert result.exit_code == 10
    said = json.loads((tmp_path / "error.json").read_text())
    assert said["class"] == "input missing"
    assert "IW3" in said["message"]
    assert said["remedy"]


def test_check_holds_on_still_ground(still: MadePair, tmp_path: Path) -> None:
    """Identity, swap, sign, registration, carrier, closure, seams, baseline."""
    result = CliRunner().invoke(main, ["check", str(write_job(tmp_path, still))])
    assert "FAIL" not in result.output, result.output
    assert result.exit_code == 0
    assert "swapped pair" in result.output


def test_check_fails_with_the_wrong_orbit(still: MadePair, tmp_path: Path) -> None:
    text = still.orbits[0].read_text()
    wrong = tmp_path / still.orbits[0].name
    # Thirty metres off in x: the annotation's own points give it away.
    import re

    wrong.write_text(re.sub(r'<X unit="m">([-\d.]+)</X>', lambda m: f'<X unit="m">{float(m[1]) + 30}</X>', text))
    made = MadePair(still.reference, still.secondary, still.elevation, (wrong, still.orbits[1]), still.truth)
    result = CliRunner().invoke(main, ["check", str(write_job(tmp_path / "job", made))])
    assert result.exit_code == 1
    assert "FAIL annotation's grid points, range" in result.output


def test_three_scenes_close(tmp_path: Path) -> None:
    """The phases of 1→2, 2→3 and 1→3, each processed on its own grid, add up on the map to nothing."""
    spec = PairSpec(swaths=ONE_BURST, source="none", coherence=(0.96, 0.98), seed=9)
    first = make_pair(spec, tmp_path / "a")
    third = make_pair(PairSpec(**{**spec.__dict__, "days": 24, "baseline_m": -35.0}), tmp_path / "b")
    reference, later = read_product(first.reference), read_product(third.secondary)
    prepared12 = prepared_pair(tmp_path / "12", first)[1]
    prepared13 = prepared_pair(tmp_path / "13", third)[1]
    # The third scene's noise must not be the second's.
    fill(
        reference,
        later,
        prepared13.orbits[0],
        prepared13.orbits[1],
        made_up_scene(spec, reference),
        every_burst(reference),
        tmp_path / "b" / "truth",
        (19, 7),
        2,
        secondary_seed=3,
    )
    # Filling wrote the reference again, with the same samples; pair 2→3 takes both dates' later scenes.
    pair23 = MadePair(
        first.secondary, third.secondary, first.elevation, (first.orbits[1], third.orbits[1]), first.truth
    )
    prepared23 = prepared_pair(tmp_path / "23", pair23)[1]
    lon, lat = np.array(prepared12.footprint).T
    grid = geocode.map_grid((lon.min(), lat.min(), lon.max(), lat.max()), 3.0)
    product = np.ones((grid.rows, grid.columns), complex)
    for prepared, conjugate in ((prepared12, False), (prepared23, False), (prepared13, True)):
        tile = burst_tile(prepared)
        places, _ = geocode.mosaic_coordinates(grid, prepared.elevation, prepared.polynomials[0], prepared.plan.mosaic)
        full = tile.count == tile.count.max()
        unit = np.where(full, tile.cross / np.maximum(np.abs(tile.cross), 1e-9), 0).astype(np.complex64)
        values = geocode.resample_complex(unit, full, places)
        product *= np.conj(values) if conjugate else values
    closed = np.angle(product[np.isfinite(product)])
    assert closed.size > 5000
    assert abs(np.angle(np.nansum(product))) < 5e-3
    assert np.std(closed) < 0.1


def test_definitions_match_the_code() -> None:
    """The YAML beside the code: parameters, defaults, roles and readers agree with it."""
    algorithm = yaml.safe_load((HERE / "algorithm.yaml").read_text())
    coded = {k: getattr(Parameters(), k) for k in Parameters.__dataclass_fields__}
    coded["looks"] = list(coded["looks"])
    assert {k: v["default"] for k, v in algorithm["parameters"].items()} == coded
    collections = {c["id"]: c for c in yaml.safe_load_all((HERE / "collections.yaml").read_text())}
    assert {i["collection"] for i in algorithm["inputs"].values()} <= set(collections)
    rules = list(yaml.safe_load_all((HERE / "rules.yaml").read_text()))
    for rule in rules:
        assert set(rule["when"]) <= set(algorithm["inputs"])
        assert {r["collection"] for r in rule["when"].values()} <= set(collections)
    formats = tomllib.loads((HERE.parents[1] / "formats" / "pyproject.toml").read_text())
    readers = set(formats["project"]["entry-points"]["armillary.metadata"])
    assert {c["metadata"] for c in collections.values() if "metadata" in c} <= readers


def test_coherence_peak_parabola_has_its_vertex() -> None:
    assert check.peak(1 - 0.4**2, 1 - 0.1**2, 1 - 0.2**2, 0.3) == pytest.approx(0.1)


def test_tile_survives_its_file(finished: tuple[Job, Path], tmp_path: Path) -> None:
    kept = sorted(finished[0].checkpoint.glob("tile-*.npz"))[0]
    tile = Tile.load(kept)
    tile.save(tmp_path / "tile.npz")
    again = Tile.load(tmp_path / "tile.npz")
    assert np.array_equal(tile.cross, again.cross)
    assert tile.first_column == again.first_column


def test_prepared_job_knows_its_footprint(volcano_prepared: tuple[Job, Prepared]) -> None:
    ring = np.array(volcano_prepared[1].footprint)
    assert len(ring) >= 4
    x, y = ring.T
    assert np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) > 0, "counter-clockwise"
