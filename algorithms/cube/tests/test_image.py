"""Whole runs on simulated sets: positions, fluxes, noise, lines in their channels, flags, and odd inputs."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from observations import LINE_CHANNEL, OFF_CENTRE, REQUEST, Imaged, image, small

from armillary_cube import simulate, store
from armillary_cube.gridder import direct_sum
from armillary_cube.plan import Continuum
from armillary_cube.visibilities import describe, read_channels, read_rows

CELL = 15.0
EAST_X = round(64 - OFF_CENTRE.east_arcsec / CELL)  # x grows to the west
NORTH_Y = round(64 + OFF_CENTRE.north_arcsec / CELL)


def test_a_source_appears_at_its_place_with_its_flux(noiseless_image: Imaged) -> None:
    plane = noiseless_image.sky[2]
    assert np.unravel_index(plane.argmax(), plane.shape) == (EAST_X, NORTH_Y)
    assert plane.max() == pytest.approx(1.0, abs=1e-3)


def test_a_line_stays_in_its_channels(noiseless_image: Imaged) -> None:
    sky = noiseless_image.sky
    x, y = round(64 - 420 / CELL), round(64 + 150 / CELL)
    line = sky[LINE_CHANNEL, x, y] - sky[[2, 3, 14]].mean(axis=0)[x, y]
    assert line == pytest.approx(0.8, abs=0.02)
    # Planes without the line differ only by the frequency's tiny change of the sidelobes.
    assert np.abs(sky[2] - sky[3]).max() < 2e-3
    assert np.abs(sky[13] - sky[14]).max() < 2e-3


def test_what_one_channel_holds_changes_no_other(
    noiseless_image: Imaged, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def brighten(group: Any) -> None:
        values = group["VISIBILITY"][:]
        values[:, :, LINE_CHANNEL] *= 3
        group["VISIBILITY"][:] = values

    brighter = image(edited(brighten), tmp_path / "out").sky
    assert np.array_equal(np.delete(brighter, LINE_CHANNEL, 0), np.delete(noiseless_image.sky, LINE_CHANNEL, 0))
    assert brighter[LINE_CHANNEL].max() == pytest.approx(3 * noiseless_image.sky[LINE_CHANNEL].max(), rel=1e-5)


@pytest.mark.parametrize("hands", [(0,), (0, 1)])
def test_weights_that_vary_are_those_of_the_exact_sum(
    edited: Callable[..., Path], tmp_path: Path, hands: tuple[int, ...]
) -> None:
    """The whole way, from a file whose weights vary with time, baseline and hand, some of them flagged, to the image."""
    rng = np.random.default_rng(7)

    def vary(group: Any) -> None:
        weights, flags = group["WEIGHT"][:], group["FLAG"][:]
        weights[:] = rng.uniform(0.1, 5, weights.shape)
        flags[:] = rng.random(flags.shape) < 0.3
        flags[..., [hand for hand in (0, 1) if hand not in hands]] = True
        group["WEIGHT"][:], group["FLAG"][:] = weights, flags

    path, channel = edited(vary), 5
    made = image(path, tmp_path / "out")
    about = describe(path)
    values, flags, weights = (lists[0][:, :, 0] for lists in read_channels(about, channel, channel + 1))
    weight = np.where(flags, 0, weights).astype(float)
    total = weight.sum(-1)
    mean = (values * weight).sum(-1) / np.where(total > 0, total, 1)
    pixels = rng.integers(0, 128, (60, 2))
    grid, rows = made.plan.grid, read_rows(about)
    frequency = about.frequency_hz[channel]
    truth = direct_sum(grid, rows.uvw_m, frequency, mean.T.ravel(), total.T.ravel(), pixels) / total.sum()
    ours = made.sky[channel][pixels[:, 0], pixels[:, 1]]
    assert np.abs(ours - truth).max() <= 2e-5 * np.abs(made.sky[channel]).max()


def test_an_axis_that_falls_gives_the_same_cube(
    noiseless: Path, noiseless_image: Imaged, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def reverse(group: Any) -> None:
        for name in ("VISIBILITY", "FLAG", "WEIGHT"):
            group[name][:] = group[name][:][:, :, ::-1]
        group["frequency"][:] = group["frequency"][:][::-1]
        attributes = dict(group["frequency"].attrs)
        attributes["channel_width"]["data"] *= -1
        group["frequency"].attrs.update(attributes)

    falling = image(edited(reverse), tmp_path / "out")
    assert falling.plan.descending
    assert np.array_equal(falling.sky, noiseless_image.sky)
    part = image(edited(reverse), tmp_path / "part", replace(REQUEST, channels=(3, 9)))
    assert np.array_equal(part.sky, noiseless_image.sky[6:13])


@pytest.mark.parametrize("poison", [np.nan, 1e20, np.inf])
def test_what_lies_under_flags_and_zero_weights_changes_no_bit(
    edited: Callable[..., Path], tmp_path: Path, poison: float
) -> None:
    def flag(value: complex | None) -> Callable[[Any], None]:
        def change(group: Any) -> None:
            values, flags, weights = (group[n][:] for n in ("VISIBILITY", "FLAG", "WEIGHT"))
            flags[3:9, 5:40, 4:7, 0] = True
            weights[0:2, :, :, 1] = 0
            if value is not None:
                values[3:9, 5:40, 4:7, 0] = value
                values[0:2, :, :, 1] = value
                weights[3:9, 5:40, 4:7, 0] = np.nan
            group["VISIBILITY"][:], group["FLAG"][:], group["WEIGHT"][:] = values, flags, weights

        return change

    clean = image(edited(flag(None)), tmp_path / "clean")
    poisoned = image(edited(flag(poison)), tmp_path / "poisoned")
    assert np.array_equal(clean.sky, poisoned.sky)
    assert np.array_equal(clean.planes(store.PSF), poisoned.planes(store.PSF))


def test_a_channel_without_data_is_done_and_empty(edited: Callable[..., Path], tmp_path: Path) -> None:
    def flag_one(group: Any) -> None:
        flags = group["FLAG"][:]
        flags[:, :, 5] = True
        group["FLAG"][:] = flags

    made = image(edited(flag_one), tmp_path / "out")
    assert np.isnan(made.sky[5]).all()
    assert made.cube.sum_of_weights()[5, 0] == 0
    assert np.isfinite(np.delete(made.sky, 5, axis=0)).all()


def test_one_hand_flagged_keeps_the_other(edited: Callable[..., Path], tmp_path: Path, noiseless_image: Imaged) -> None:
    def flag_right(group: Any) -> None:
        flags = group["FLAG"][:]
        flags[..., 0] = True
        group["FLAG"][:] = flags

    made = image(edited(flag_right), tmp_path / "out")
    assert np.abs(made.sky - noiseless_image.sky).max() < 1e-5
    assert made.cube.sum_of_weights()[0, 0] == pytest.approx(noiseless_image.cube.sum_of_weights()[0, 0] / 2)


def test_noise_is_what_the_weights_predict(tmp_path: Path) -> None:
    quiet = small(sources=(), noise_jy=0.5, channels=8, antennas_enu_m=simulate.spiral(900, 16))
    path = simulate.simulate(quiet, tmp_path / "noise.ps.zarr")
    made = image(path, tmp_path / "out", replace(REQUEST, size=(256, 256)))
    ratio = np.sqrt((made.sky**2).mean(axis=(1, 2)) * made.cube.sum_of_weights()[:, 0])
    beam_arcsec2 = 1.133 * np.prod(np.degrees(made.cube.beams()[0, 0, :2]) * 3600)
    independent = 256**2 * CELL**2 / beam_arcsec2 * 8
    assert ratio.mean() == pytest.approx(1, abs=3 / math.sqrt(2 * independent))
    # Robust weights trade sensitivity for resolution: a smaller beam, more noise.
    robust = image(path, tmp_path / "robust", replace(REQUEST, size=(256, 256), weighting="briggs", robust=-0.5))
    assert robust.sky.std() > made.sky.std()
    assert (robust.cube.beams()[:, 0, 0] < made.cube.beams()[:, 0, 0]).all()


def test_autocorrelations_are_not_imaged(tmp_path: Path) -> None:
    def with_autos(autos: bool) -> Imaged:
        path = simulate.simulate(small(autos=autos, channels=2), tmp_path / f"{autos}.ps.zarr")
        return image(path, tmp_path / f"out-{autos}")

    assert np.allclose(with_autos(True).sky, with_autos(False).sky, atol=1e-6)


def test_continuum_subtraction_leaves_the_line(noiseless: Path, tmp_path: Path) -> None:
    ranges = ((0, 6), (12, 15))
    for order in (0, 1):
        made = image(noiseless, tmp_path / f"{order}", replace(REQUEST, continuum=Continuum(ranges, order)))
        x, y = round(64 - 420 / CELL), round(64 + 150 / CELL)
        assert made.sky[LINE_CHANNEL, x, y] == pytest.approx(0.8, abs=0.01)
        assert np.abs(made.sky[3]).max() < 2e-3


def test_stokes_v_of_an_unpolarised_source_is_empty(noiseless: Path, tmp_path: Path) -> None:
    made = image(noiseless, tmp_path / "out", replace(REQUEST, stokes="IV", channels=(0, 3)))
    assert made.cube.plane(0, 0).max() == pytest.approx(1, abs=1e-3)
    assert np.abs(made.cube.plane(0, 1)).max() < 1e-6


def test_partitions_of_one_field_are_imaged_together(tmp_path: Path) -> None:
    both = tmp_path / "both.ps.zarr"
    simulate.simulate(small(channels=4, name="one"), both)
    simulate.simulate(small(channels=4, name="two", hours=3.0), both)
    made = image(both, tmp_path / "out")
    assert len(made.plan.partitions) == 2
    assert made.sky[0].max() == pytest.approx(1, abs=1e-3)


def test_w_term_switch_is_within_tolerance_of_the_full_term(tmp_path: Path) -> None:
    narrow = small(
        antennas_enu_m=simulate.y_shaped(120.0, per_arm=4), sources=(simulate.Source(-60, 45, 1.0),), channels=2
    )
    path = simulate.simulate(narrow, tmp_path / "narrow.ps.zarr")
    request = replace(REQUEST, size=(32, 32), w_term="auto")
    chosen = image(path, tmp_path / "auto", request)
    full = image(path, tmp_path / "on", replace(request, w_term="on"))
    assert not chosen.plan.grid.w_term
    assert full.plan.grid.w_term
    assert np.abs(chosen.sky - full.sky).max() <= chosen.plan.w_phase_rad


def test_w_term_is_switched_on_where_it_matters(noiseless: Path, tmp_path: Path) -> None:
    made = image(noiseless, tmp_path / "out", replace(REQUEST, w_term="auto", channels=(0, 0)))
    assert made.plan.grid.w_term
    flat = image(noiseless, tmp_path / "off", replace(REQUEST, w_term="off", channels=(0, 0)))
    assert np.abs(made.sky - flat.sky).max() > 0.005
