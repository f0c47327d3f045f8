"""The wrapped phase against the simulator's truth, seams and ESD."""

import numpy as np
import pytest
from conftest import ONE_BURST, THREE_BURSTS, burst_setup, burst_tile, prepared_pair

from armillary_insar import esd
from armillary_insar.accuracy import Truth, burst_accuracy, wrong_cycles
from armillary_insar.interferogram import Faults, Tile
from armillary_insar.job import Job
from armillary_insar.process import Prepared
from armillary_insar.simulator.pair import MadePair, PairSpec, make_pair

LOOKS = 19 * 7


@pytest.fixture(scope="module")
def volcano_tiles(volcano_prepared: tuple[Job, Prepared]) -> dict[str, Tile]:
    prepared = volcano_prepared[1]
    return {p.name: burst_tile(prepared, k) for k, p in enumerate(prepared.plan.bursts)}


@pytest.fixture(scope="module")
def still_tiles(still_prepared: tuple[Job, Prepared]) -> dict[str, Tile]:
    prepared = still_prepared[1]
    return {p.name: burst_tile(prepared, k) for k, p in enumerate(prepared.plan.bursts)}


def test_phase_reaches_the_cramer_rao_bound_without_bias_or_ramp(
    volcano: MadePair, volcano_prepared: tuple[Job, Prepared], volcano_tiles: dict[str, Tile]
) -> None:
    plan = volcano_prepared[1].plan
    truth = Truth.load(volcano.truth, plan.mosaic)
    for pair in plan.bursts:
        setup = burst_setup(volcano_prepared[1], pair)
        seen = burst_accuracy(setup, volcano_tiles[pair.name], plan.mosaic, truth)
        assert seen.ratio_measured < 1.05
        assert seen.ratio_ideal < 1.15
        assert abs(seen.bias_mrad) < 2 + 3 * seen.bias_sigma_mrad
        # A ramp fitted to n cells has a standard error √12 times the mean's.
        assert max(map(abs, seen.ramp_mrad)) < 10 + 3 * np.sqrt(12) * seen.bias_sigma_mrad
        assert abs(seen.mean_coherence - seen.foreseen_coherence) < 0.01


@pytest.mark.parametrize(
    ("changed", "lost_to"), [({"baseline_m": 600.0}, "baseline"), ({"doppler_gap_hz": 40.0}, "doppler")]
)
def test_what_shifted_spectra_cost_is_foreseen_and_no_more_is_lost(
    changed: dict[str, float], lost_to: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A long baseline shifts the dates' spectra along range, another pointing along azimuth: they share less of the ground.

    Coherence falls by just that. Phase gets noisier by less: the bound for the lower coherence would excuse too much,
    so that a ratio below one is as wrong as one above.
    """
    folder = tmp_path_factory.mktemp("far")
    spec = PairSpec(swaths=ONE_BURST, source="none", seed=4, **changed)  # type: ignore[arg-type]
    made = make_pair(spec, folder / "pair")
    _, prepared = prepared_pair(folder / "job", made)
    setup = burst_setup(prepared, prepared.plan.bursts[0])
    truth = Truth.load(made.truth, prepared.plan.mosaic)
    seen = burst_accuracy(setup, burst_tile(prepared), prepared.plan.mosaic, truth)
    assert getattr(seen, f"{lost_to}_coherence") < 0.945
    assert max(seen.baseline_coherence, seen.doppler_coherence) > 0.99, "one cause at a time"
    assert seen.mean_coherence == pytest.approx(seen.foreseen_coherence, abs=0.005)
    assert seen.ratio_ground > 1.05
    assert seen.ratio_measured == pytest.approx(1, abs=0.03)


def test_no_cycle_is_wrong(
    volcano: MadePair, volcano_prepared: tuple[Job, Prepared], volcano_tiles: dict[str, Tile]
) -> None:
    plan = volcano_prepared[1].plan
    truth = Truth.load(volcano.truth, plan.mosaic)
    assert np.nanmin(truth.range_change_m) < -0.08, "the fixture must have several fringes"
    assert wrong_cycles(plan.bursts, volcano_tiles, plan.mosaic, truth, plan.wavelength_m) == 0


def test_uplift_lowers_the_phase(
    volcano: MadePair, volcano_prepared: tuple[Job, Prepared], volcano_tiles: dict[str, Tile]
) -> None:
    """The stated sign: positive phase means farther at the secondary date; the volcano rises, so its phase is negative."""
    prepared = volcano_prepared[1]
    merged_low = []
    for pair in prepared.plan.bursts:
        tile = volcano_tiles[pair.name]
        truth = Truth.load(volcano.truth, prepared.plan.mosaic).range_change_m
        mine = truth[
            tile.first_row : tile.first_row + tile.cross.shape[0],
            tile.first_column : tile.first_column + tile.cross.shape[1],
        ]
        gentle = (mine < -0.001) & (mine > -0.005) & (tile.count == LOOKS)
        merged_low.append(np.angle(tile.cross[gentle]).mean())
    assert max(merged_low) < -0.2


def test_seams_of_two_subswaths_by_three_bursts_close(
    still_prepared: tuple[Job, Prepared], still_tiles: dict[str, Tile]
) -> None:
    seams = esd.all_overlaps(still_prepared[1].plan.bursts, still_tiles, LOOKS)
    assert sum(o.along_track for o in seams) == 4
    assert sum(not o.along_track for o in seams) >= 3
    for o in seams:
        assert o.sigma_rad < 2e-3, "coherent ground, so that speckle does not hide a seam"
        assert abs(o.phase_rad) < 5e-3, o
    weights = np.array([o.sigma_rad**-2 for o in seams])
    together = np.sum(weights * [o.phase_rad for o in seams]) / weights.sum()
    assert abs(together) < 5e-3


@pytest.mark.parametrize("injected_lines", [0.01, -0.01, 0.001])
def test_esd_recovers_a_timing_error_of_the_resampler(
    still_prepared: tuple[Job, Prepared], still_tiles: dict[str, Tile], injected_lines: float
) -> None:
    prepared = still_prepared[1]
    line_s = prepared.plan.mosaic.line_s
    faults = Faults(azimuth_timing_s=injected_lines * line_s)
    tiles = {p.name: burst_tile(prepared, k, faults) for k, p in enumerate(prepared.plan.bursts)}
    found = esd.estimate(esd.all_overlaps(prepared.plan.bursts, tiles, LOOKS))
    assert found is not None
    assert found.shift_s / line_s == pytest.approx(-injected_lines, abs=1e-4)
    corrected = {n: esd.corrected(t, found.shift_s) for n, t in tiles.items()}
    for name, tile in corrected.items():
        left = np.angle(np.sum(tile.cross * np.conj(still_tiles[name].cross)))
        assert abs(left) < 5e-3


def test_esd_recovers_a_timing_error_of_the_data(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The secondary's samples lie 0.02 lines later than its annotation says."""
    from armillary_insar.simulator.annotation import LINE_INTERVAL_S

    spec = PairSpec(source="none", coherence=(0.95, 0.97), swaths=THREE_BURSTS[:1], seed=3, timing_error_lines=0.02)
    folder = tmp_path_factory.mktemp("late")
    _, prepared = prepared_pair(folder / "job", make_pair(spec, folder / "pair"))
    tiles = {p.name: burst_tile(prepared, k) for k, p in enumerate(prepared.plan.bursts)}
    found = esd.estimate(esd.all_overlaps(prepared.plan.bursts, tiles, LOOKS))
    assert found is not None
    assert found.shift_s / LINE_INTERVAL_S == pytest.approx(-0.02, abs=1e-4)


def test_ascending_pairs_work_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    spec = PairSpec(ascending=True, latitude_deg=-22.1, longitude_deg=-68.2, swaths=ONE_BURST, seed=5)
    folder = tmp_path_factory.mktemp("ascending")
    made = make_pair(spec, folder / "pair")
    _, prepared = prepared_pair(folder / "job", made)
    pair = prepared.plan.bursts[0]
    seen = burst_accuracy(
        burst_setup(prepared, pair),
        burst_tile(prepared),
        prepared.plan.mosaic,
        Truth.load(made.truth, prepared.plan.mosaic),
    )
    assert prepared.plan.reference.ascending
    assert seen.ratio_ideal < 1.15
    assert abs(seen.bias_mrad) < 2 + 3 * seen.bias_sigma_mrad
