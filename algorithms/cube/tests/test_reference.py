"""Real observations against an independent imager and against the sky: NGC 5921 and 3C 273."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from observations import Imaged, image

from armillary_cube import products, store
from armillary_cube.clean import CleanSettings
from armillary_cube.gridder import direct_sum
from armillary_cube.ingest import import_set
from armillary_cube.plan import Continuum, Request
from armillary_cube.run import Executor
from armillary_cube.visibilities import describe, read_channels, read_rows

pytestmark = pytest.mark.real_data

# The reference is CASA's tclean of 2-D visibilities: no w-term, 256 pixels of 15 arcseconds, cut to the inner half.
NGC5921 = Request(cell_arcsec=15, size=(256, 256), w_term="off", continuum=Continuum(((4, 6), (50, 59))))
INNER = (slice(None), slice(64, 192), slice(64, 192))


@pytest.fixture(scope="module")
def reference(radio_data: Path) -> Any:
    return np.load(radio_data / "ngc5921_casa_tclean_reference.npz")


@pytest.fixture(scope="module")
def dirty(radio_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Imaged:
    return image(radio_data / "ngc5921_vla_hi.ps.zarr", tmp_path_factory.mktemp("dirty"), NGC5921)


def test_ngc5921_dirty_images_agree_with_casa(dirty: Imaged, reference: Any) -> None:
    theirs = reference["dirty_natural"]
    difference = np.abs(dirty.sky[INNER] - theirs).max(axis=(1, 2)) / np.abs(theirs).max(axis=(1, 2))
    assert np.median(difference) <= 1e-3
    assert difference.max() <= 6e-3
    assert dirty.sky[5:51].max() == pytest.approx(0.0842, abs=2e-4)


def test_ngc5921_point_spread_function_agrees_with_casa(dirty: Imaged, reference: Any) -> None:
    assert np.abs(dirty.planes(store.PSF)[30] - reference["psf_natural_ch30"]).max() < 2.5e-3


def test_ngc5921_is_closer_to_the_fourier_sum_than_casa(dirty: Imaged, radio_data: Path, reference: Any) -> None:
    about = describe(radio_data / "ngc5921_vla_hi.ps.zarr")
    rows, channel = read_rows(about), 30
    values, flags, weights = (lists[0] for lists in read_channels(about, 0, about.channels))
    free = [*range(4, 7), *range(50, 60)]
    weight = np.where(flags, 0, weights).astype(float)
    mean = (values * weight)[:, :, free].sum(axis=2) / np.maximum(weight[:, :, free].sum(axis=2), 1e-30)
    line, w = values[:, :, channel] - mean, weight[:, :, channel]
    stokes_i = ((line * w).sum(-1) / np.maximum(w.sum(-1), 1e-30)).T.ravel()
    total = np.where(rows.usable, w.sum(-1).T.ravel(), 0)
    pixels = np.random.default_rng(1).integers(64, 192, (150, 2))
    truth = direct_sum(dirty.plan.grid, rows.uvw_m, about.frequency_hz[channel], stokes_i, total, pixels) / total.sum()
    peak = np.abs(dirty.sky[channel]).max()
    ours = np.abs(dirty.sky[channel][pixels[:, 0], pixels[:, 1]] - truth).max() / peak
    theirs = np.abs(reference["dirty_natural"][channel][pixels[:, 0] - 64, pixels[:, 1] - 64] - truth).max() / peak
    assert ours <= 2e-5
    assert ours < theirs / 10


def test_ngc5921_cleaned_cube_agrees_with_casa(radio_data: Path, reference: Any, tmp_path: Path) -> None:
    request = replace(
        NGC5921, channels=(5, 50), weighting="briggs", robust=0.5, clean=CleanSettings(sigma=0, threshold_jy=0.008)
    )
    made = image(radio_data / "ngc5921_vla_hi.ps.zarr", tmp_path, request, Executor("threads", 2))
    theirs = reference["clean_briggs05"]
    assert made.sky.max() == pytest.approx(theirs.max(), rel=0.02)
    assert made.sky[INNER].std() == pytest.approx(theirs.std(), rel=0.01)
    assert np.median(np.abs(made.sky[INNER] - theirs).max(axis=(1, 2))) < 0.3e-3
    inner = (slice(64, 192), slice(64, 192))
    found = products.moments(made.cube, clip_jy=0.006, window=inner)
    assert found.total == pytest.approx(32.6, abs=0.5)
    ours, casa = np.degrees(made.cube.beams()[:, 0]) * [3600, 3600, 1], reference["clean_beam_arcsec"]
    assert ours[:, :2] == pytest.approx(casa[:, :2], rel=0.015)
    bright = found.intensity > 0.2 * found.intensity.max()
    low, high = np.percentile(found.velocity[bright], [2, 98])
    assert 1395 < low < 1430
    assert 1540 < high < 1590


@pytest.mark.parametrize("source", ["3c273_vla_xband.ps.zarr", "3C273XC1.fits"])
def test_the_jet_of_3c273_points_where_it_does(radio_data: Path, tmp_path: Path, source: str) -> None:
    path = radio_data / source
    if source.endswith(".fits"):
        path = import_set(path, tmp_path / "3c273.ps.zarr")
    request = Request(
        cell_arcsec=0.3, size=(512, 512), weighting="briggs", robust=0.0, keep=("model", "residual"),
        clean=CleanSettings(sigma=3, majors=15),
    )  # fmt: skip
    made = image(path, tmp_path / "out", request)
    sky = made.sky[0]
    x, y = np.mgrid[:512, :512]
    east, north = -(x - 256) * 0.3, (y - 256) * 0.3
    far = np.hypot(east, north) > 10
    brightest = np.unravel_index(np.where(far, sky, 0).argmax(), sky.shape)
    angle = np.degrees(np.arctan2(east[brightest], north[brightest])) % 360
    assert angle == pytest.approx(222, abs=1)
    assert np.hypot(east[brightest], north[brightest]) == pytest.approx(21.0, abs=0.5)
    assert sky.max() == pytest.approx(29.9, rel=0.02)
    fits_path = products.write_fits(made.cube, tmp_path / "3c273.fits")
    with fits.open(fits_path) as hdus:
        wcs = WCS(hdus[0].header).celestial
        plane = hdus[0].data[0, 0]
        core = wcs.pixel_to_world(*np.unravel_index(plane.argmax(), plane.shape)[::-1])
    assert core.separation(SkyCoord("12h29m06.7s", "+02d03m09s")).arcsec < 1.0
    assert np.array_equal(plane, sky.T)
