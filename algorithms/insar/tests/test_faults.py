"""Faults that interferometric processors have, put in on purpose: which check sees each, and that coherence does not."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import burst_setup, burst_tile

from armillary_insar import esd
from armillary_insar.accuracy import BurstAccuracy, Truth, burst_accuracy
from armillary_insar.check import burst_orbit, carrier_residual, registration_findings, strength
from armillary_insar.interferogram import Faults, Tile
from armillary_insar.job import Job
from armillary_insar.orbit import OrbitPolynomial
from armillary_insar.process import Prepared
from armillary_insar.simulator.pair import MadePair
from armillary_insar.tops import carrier

Volcano = tuple[Job, Prepared]


@pytest.fixture(scope="module")
def good(volcano_prepared: Volcano) -> Tile:
    return burst_tile(volcano_prepared[1])


def judged(made: MadePair, prepared: Prepared, tile: Tile) -> BurstAccuracy:
    setup = burst_setup(prepared, prepared.plan.bursts[0])
    return burst_accuracy(setup, tile, prepared.plan.mosaic, Truth.load(made.truth, prepared.plan.mosaic))


def coherence_is_blind(good: Tile, bad: Tile, by: float = 0.01) -> bool:
    return abs(strength(good) - strength(bad)) < by


def test_without_faults_the_checks_are_silent(volcano: MadePair, volcano_prepared: Volcano, good: Tile) -> None:
    prepared = volcano_prepared[1]
    seen = judged(volcano, prepared, good)
    assert seen.ratio_ideal < 1.15
    assert abs(seen.bias_mrad) < 5
    assert all(f.passed for f in registration_findings(prepared, prepared.plan.bursts[0], good, 2))


def test_missing_deramp_is_seen_by_truth(volcano: MadePair, volcano_prepared: Volcano) -> None:
    bad = burst_tile(volcano_prepared[1], faults=Faults(deramp=False))
    seen = judged(volcano, volcano_prepared[1], bad)
    assert seen.ratio_ideal > 2
    assert max(map(abs, seen.ramp_mrad)) > 100


@pytest.mark.parametrize("lines", [0.01, 0.1])
def test_azimuth_timing_is_seen_by_truth_and_seams(
    volcano: MadePair, volcano_prepared: Volcano, good: Tile, lines: float
) -> None:
    prepared = volcano_prepared[1]
    faults = Faults(azimuth_timing_s=lines * prepared.plan.mosaic.line_s)
    tiles = {p.name: burst_tile(prepared, k, faults) for k, p in enumerate(prepared.plan.bursts)}
    bad = tiles[prepared.plan.bursts[0].name]
    assert coherence_is_blind(good, bad)
    assert abs(judged(volcano, prepared, bad).ramp_mrad[0]) > 100
    assert max(abs(o.phase_rad) for o in esd.all_overlaps(prepared.plan.bursts, tiles, 133)) > 0.1


def test_range_misregistration_is_seen_by_the_coherence_peak(volcano_prepared: Volcano, good: Tile) -> None:
    prepared, faults = volcano_prepared[1], Faults(range_shift_samples=0.05)
    bad = burst_tile(prepared, faults=faults)
    assert coherence_is_blind(good, bad)
    across, _ = registration_findings(prepared, prepared.plan.bursts[0], bad, 2, faults)
    assert not across.passed
    assert across.value == pytest.approx(-0.05, abs=0.02)


def test_forgotten_geoid_is_seen_by_truth(volcano: MadePair, volcano_prepared: Volcano, good: Tile) -> None:
    prepared = volcano_prepared[1]
    raised = replace(prepared.elevation, heights_m=prepared.elevation.heights_m + 50)
    bad = burst_tile(prepared, elevation=raised)
    assert coherence_is_blind(good, bad)
    assert abs(judged(volcano, prepared, bad).bias_mrad) > 100


def test_flat_elevation_is_seen_by_truth(volcano: MadePair, volcano_prepared: Volcano, good: Tile) -> None:
    prepared = volcano_prepared[1]
    flat = replace(prepared.elevation, heights_m=np.full_like(prepared.elevation.heights_m, 500))
    bad = burst_tile(prepared, elevation=flat)
    assert coherence_is_blind(good, bad, 0.02)
    assert judged(volcano, prepared, bad).ratio_ideal > 3


def test_orbit_error_of_five_centimetres_is_seen_by_truth(
    volcano: MadePair, volcano_prepared: Volcano, good: Tile
) -> None:
    prepared = volcano_prepared[1]
    one, two = prepared.orbits
    up = two.position_m / np.linalg.norm(two.position_m, axis=1, keepdims=True)
    bad = burst_tile(prepared, orbits=(one, replace(two, position_m=two.position_m + 0.05 * up)))
    assert coherence_is_blind(good, bad)
    assert judged(volcano, prepared, bad).ratio_ideal > 2


def residual(prepared: Prepared, speed: float = 1.0, doppler: bool = True) -> tuple[float, float]:
    """Carrier residual of the reference's first burst, with a wrong steering velocity or without Doppler polynomial."""
    pair = prepared.plan.bursts[0]
    swath = pair.swath
    if not doppler:
        swath = replace(swath, doppler=tuple(replace(p, coefficients=(0.0,)) for p in swath.doppler))
    orbit = burst_orbit(swath, pair.burst, prepared.orbits[0])
    slow = OrbitPolynomial(orbit.centre_s, orbit.scale_s / speed, orbit.coefficients)
    return carrier_residual(
        prepared.plan.reference, pair.swath, pair.burst, prepared.orbits[0], carrier(swath, pair.burst, slow)
    )


def test_wrong_steering_velocity_is_seen_by_the_deramped_spectrum(
    volcano: MadePair, volcano_prepared: Volcano, good: Tile
) -> None:
    """On a synchronised pair the interferogram hides it: deramp and reramp cancel."""
    prepared = volcano_prepared[1]
    right, wrong = residual(prepared), residual(prepared, speed=7500 / 7595)
    assert abs(right[1]) < 2
    assert abs(wrong[1]) > 4 * max(abs(right[1]), 1)


def test_dropped_doppler_is_seen_by_the_deramped_spectrum(
    volcano: MadePair, volcano_prepared: Volcano, good: Tile
) -> None:
    prepared = volcano_prepared[1]
    bad = burst_tile(prepared, faults=Faults(drop_doppler=True))
    assert coherence_is_blind(good, bad)
    assert judged(volcano, prepared, bad).ratio_ideal < 1.15, "the interferogram alone does not show it"
    assert abs(residual(prepared)[0]) < 1
    assert abs(residual(prepared, doppler=False)[0]) > 3
