"""Pairs on given orbits and a given elevation, laid out around a place; what cannot be laid out is refused."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import ONE_BURST, burst_setup, burst_tile, prepared_pair

from armillary_insar.accuracy import Truth, burst_accuracy
from armillary_insar.errors import Refusal
from armillary_insar.orbit import eof_header, read_eof
from armillary_insar.simulator import orbits
from armillary_insar.simulator.ground import geodetic, locate
from armillary_insar.simulator.pair import MadePair, PairSpec, make_pair
from armillary_insar.simulator.passes import find_pass
from armillary_insar.viewing import viewing

SPEC = PairSpec(swaths=ONE_BURST, source="none", baseline_m=90.0, seed=8)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> MadePair:
    """A pair from nothing, whose orbits and elevation the tests give to another."""
    return make_pair(SPEC, tmp_path_factory.mktemp("first"))


def given(first: MadePair) -> dict[str, object]:
    return {"orbit_files": first.orbits, "elevation_file": first.elevation}


def test_given_orbits_and_elevation_make_a_pair_of_their_baseline(first: MadePair, tmp_path: Path) -> None:
    """The spec's own baseline and direction do not count; phase meets the bound, and the ground is the file's."""
    made = make_pair(replace(SPEC, baseline_m=500.0, ascending=True), tmp_path / "pair", **given(first))  # type: ignore[arg-type]
    _, prepared = prepared_pair(tmp_path / "job", made)
    assert not prepared.plan.reference.ascending
    assert abs(prepared.plan.reference.start - SPEC.start) < timedelta(seconds=3)
    place = (np.array([SPEC.latitude_deg]), np.array([SPEC.longitude_deg]), np.array([300.0]))
    assert abs(viewing(*place, *prepared.polynomials).perpendicular_baseline_m[0]) == pytest.approx(90, abs=1)
    with rasterio.open(made.elevation) as mine, rasterio.open(first.elevation) as theirs:
        assert np.array_equal(mine.read(1), theirs.read(1))
    truth = Truth.load(made.truth, prepared.plan.mosaic)
    setup = burst_setup(prepared, prepared.plan.bursts[0])
    seen = burst_accuracy(setup, burst_tile(prepared), prepared.plan.mosaic, truth)
    assert seen.ratio_measured < 1.05
    assert abs(seen.bias_mrad) < 2 + 3 * seen.bias_sigma_mrad


def test_a_pass_of_a_real_orbit_is_found_where_it_was_put(real_data: Path) -> None:
    """A point 850 km to the right at a known time, found again from its latitude and longitude alone."""
    [file] = (real_data / "poeorb_sentineleof").glob("S1A*V20191231*")
    _, _, start, stop = eof_header(file)
    noon = (start + (stop - start) / 2).replace(microsecond=0)
    vectors = read_eof(file, noon)
    k = len(vectors.time_s) // 2
    position, velocity, time_s = vectors.position_m[k], vectors.velocity_m_s[k], float(vectors.time_s[k]) + 3.3
    right = np.cross(velocity, position) / np.linalg.norm(np.cross(velocity, position))
    guess = (position + 500_000 * right) * 6_371_000 / np.linalg.norm(position + 500_000 * right)
    latitude, longitude, _ = geodetic(locate(vectors, time_s, 850_000.0, 0.0, guess))
    seen = find_pass(file, latitude, longitude, noon + timedelta(seconds=time_s + 60))
    assert abs((seen.broadside - noon).total_seconds() - time_s) < 2e-6
    assert seen.range_m == pytest.approx(850_000, abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"longitude_deg": SPEC.longitude_deg + 12}, "to the left"),
        ({"longitude_deg": SPEC.longitude_deg - 4}, "to the right, where the radar does not look"),
        ({"start": SPEC.start + timedelta(hours=1)}, "no pass over the place"),
        ({"days": 13}, "no pass over the place"),
    ],
)
def test_a_place_or_date_that_the_orbits_do_not_see_is_refused(
    changed: dict[str, object], message: str, first: MadePair, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=message):
        make_pair(replace(SPEC, **changed), tmp_path, **given(first))  # type: ignore[arg-type]


def test_orbits_of_two_tracks_are_refused(first: MadePair, tmp_path: Path) -> None:
    moment = SPEC.start + timedelta(days=SPEC.days)
    epoch = moment.replace(hour=0, minute=0, second=0)
    seconds = (moment - epoch).total_seconds()
    vectors = orbits.orbit_over(SPEC.latitude_deg, SPEC.longitude_deg, 870_000.0, seconds, False)
    other = orbits.write_eof(tmp_path, "S1A", epoch, vectors)
    with pytest.raises(Refusal, match="not of one track"):
        make_pair(SPEC, tmp_path / "pair", orbit_files=(first.orbits[0], other))


def test_elevation_that_ends_before_the_scene_is_refused(first: MadePair, tmp_path: Path) -> None:
    with rasterio.open(first.elevation) as file:
        profile, window = file.profile, rasterio.windows.Window(0, 0, file.width // 2, file.height)
        heights = file.read(1, window=window)
    with rasterio.open(tmp_path / "half.tif", "w", **profile | {"width": window.width}) as file:
        file.write(heights, 1)
    with pytest.raises(Refusal, match=r"half\.tif does not cover the scene"):
        make_pair(SPEC, tmp_path / "pair", elevation_file=tmp_path / "half.tif")
