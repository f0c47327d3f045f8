"""Deconvolution: it accounts for every visibility, finds known fluxes, reaches the noise and never diverges."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from observations import REQUEST, image, small

from armillary_cube import beam as beams
from armillary_cube import clean as cleaning
from armillary_cube import simulate, store
from armillary_cube.clean import CleanSettings
from armillary_cube.gridder import dirty_image, predict
from armillary_cube.visibilities import describe, read_channels, read_rows

CELL = 15.0
ON_PIXELS = (
    simulate.Source(-330, 210, 1.0), simulate.Source(150, -300, 0.3), simulate.Source(405, 75, 0.85),
)  # fmt: skip
DEEP = replace(REQUEST, keep=("psf", "model", "residual"), clean=CleanSettings(sigma=0, threshold_jy=2e-4, majors=20))


def flux_near(model: np.ndarray, source: simulate.Source) -> float:
    x, y = round(64 - source.east_arcsec / CELL), round(64 + source.north_arcsec / CELL)
    return float(model[x - 2 : x + 3, y - 2 : y + 3].sum())


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    observation = small(sources=ON_PIXELS, antennas_enu_m=simulate.spiral(900, 20), channels=2)
    return simulate.simulate(observation, tmp_path_factory.mktemp("dense") / "dense.ps.zarr")


def test_noiseless_points_are_recovered_to_a_thousandth(dense: Path, tmp_path: Path) -> None:
    made = image(dense, tmp_path, DEEP)
    for model in made.planes(store.MODEL):
        for source in ON_PIXELS:
            assert flux_near(model, source) == pytest.approx(source.flux_jy, rel=1e-3)


def test_model_and_residual_account_for_the_visibilities(dense: Path, tmp_path: Path) -> None:
    made = image(dense, tmp_path, DEEP)
    about = describe(dense)
    rows = read_rows(about)
    values, _, weights = (lists[0] for lists in read_channels(about, 0, 1))
    stokes_i = values[:, :, 0].mean(axis=-1).T.ravel()
    weight = weights[:, :, 0].sum(axis=-1).T.ravel()
    frequency = made.plan.frequencies_hz()[0]
    predicted = predict(made.plan.grid, rows.uvw_m, frequency, made.planes(store.MODEL)[0])
    again = dirty_image(made.plan.grid, rows.uvw_m, frequency, stokes_i - predicted, weight) / weight.sum()
    assert np.abs(again - made.planes(store.RESIDUAL)[0]).max() < 1e-4


def test_residual_reaches_the_noise(tmp_path: Path) -> None:
    noisy = small(sources=ON_PIXELS, antennas_enu_m=simulate.spiral(900, 20), channels=4, noise_jy=0.5)
    path = simulate.simulate(noisy, tmp_path / "noisy.ps.zarr")
    made = image(path, tmp_path / "out", replace(DEEP, clean=CleanSettings(sigma=3), size=(256, 256)))
    theory = 1 / np.sqrt(made.cube.sum_of_weights()[:, 0])
    rms = made.planes(store.RESIDUAL).std(axis=(1, 2))
    assert rms == pytest.approx(theory, rel=0.1)
    statistics = made.cube.statistics()[:, 0]
    assert not statistics[:, store.COLUMNS.index("diverged")].any()
    assert (np.abs(made.planes(store.RESIDUAL)).max(axis=(1, 2)) < 0.5 * made.sky.max(axis=(1, 2))).all()


def test_a_diverging_cycle_is_undone(dense: Path, tmp_path: Path) -> None:
    made = image(dense, tmp_path, REQUEST)
    psf, dirty = made.planes(store.PSF)[0], made.sky[0]
    lobe = beams.fit(psf, made.plan.grid.cell_rad)

    def worse(_model: np.ndarray) -> np.ndarray:
        return dirty * 5

    outcome = cleaning.deconvolve(CleanSettings(sigma=0, threshold_jy=0.01), made.plan.grid, psf, dirty, lobe, worse)
    assert outcome.diverged
    assert not outcome.model.any()
    assert np.array_equal(outcome.residual, dirty)


def test_beam_fit_finds_a_known_gaussian() -> None:
    cell = 1e-5
    truth = beams.Beam(12 * cell, 7 * cell, 0.6)
    point = np.zeros((128, 128), np.float32)
    point[64, 64] = 1
    psf = beams.smooth(point, truth, cell)
    assert psf[64, 64] == pytest.approx(1, abs=1e-6)
    found = beams.fit(psf.astype(np.float32), cell)
    assert found.major_rad == pytest.approx(truth.major_rad, rel=1e-3)
    assert found.minor_rad == pytest.approx(truth.minor_rad, rel=1e-3)
    assert found.angle_rad == pytest.approx(truth.angle_rad, abs=1e-3)
    # The beam leans to the north-east: brighter to the upper left, for x grows to the west.
    assert psf[64 - 3, 64 + 4] > psf[64 + 3, 64 + 4]


def test_multiscale_recovers_the_flux_of_an_extended_source(tmp_path: Path) -> None:
    disk = tuple(
        simulate.Source(60 * i, 60 * j, 0.05) for i in range(-3, 4) for j in range(-3, 4) if i * i + j * j <= 9
    )
    observation = small(sources=disk, antennas_enu_m=simulate.spiral(500, 20), channels=1)
    path = simulate.simulate(observation, tmp_path / "disk.ps.zarr")
    settings = CleanSettings("multiscale", sigma=0, threshold_jy=0.001)
    made = image(path, tmp_path / "out", replace(DEEP, clean=settings))
    assert made.planes(store.MODEL)[0].sum() == pytest.approx(0.05 * len(disk), rel=0.07)


def test_radler_talks_to_nobody(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(dense, tmp_path, DEEP)
    print("ours")
    assert capsys.readouterr().out == "ours\n"


CROWD = """
import sys, threading
import numpy as np
from armillary_cube.beam import Beam, smooth
from armillary_cube.clean import CleanSettings, deconvolve
from armillary_cube.gridder import Grid

sys.setswitchinterval(1e-6)
beam, grid = Beam(3e-4, 3e-4, 0.0), Grid(64, 64, 1e-4)
point = np.zeros((64, 64), np.float32)
point[32, 32] = 1
psf = smooth(point, beam, grid.cell_rad).astype(np.float32)
settings = CleanSettings(sigma=0, threshold_jy=0.01, gain=0.05, majors=3)

def work():
    for _ in range(300):
        deconvolve(settings, grid, psf, psf, beam, lambda model: psf * (1 - model.sum()))

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_clean_at_once_do_not_end_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", CROWD], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
