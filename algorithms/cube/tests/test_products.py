"""Products: FITS and Zarr hold the same planes, moments recover the line, pictures exist, xradio opens the cube."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from observations import LINE_CHANNEL, OFF_CENTRE, REQUEST, Imaged, image, small
from PIL import Image

from armillary_cube import metadata, products, simulate
from armillary_cube.plan import Continuum


@pytest.fixture(scope="module")
def made(noiseless: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Imaged, Path]:
    out = tmp_path_factory.mktemp("products")
    imaged = image(noiseless, out, replace(REQUEST, continuum=Continuum(((0, 6), (12, 15)))))
    products.write_products(imaged.cube, out / "products", imaged.outcome, price_per_hour=0.05)
    return imaged, out / "products"


def test_fits_and_zarr_hold_the_same_planes(made: tuple[Imaged, Path]) -> None:
    imaged, out = made
    with fits.open(out / "cube.fits") as hdus:
        hdus.verify("exception")
        assert hdus[0].data.shape == (1, 16, 128, 128)
        assert np.array_equal(hdus[0].data[0], imaged.sky.transpose(0, 2, 1))
        beams = hdus["BEAMS"].data
        assert len(beams) == 16
        assert beams["BMAJ"][0] == pytest.approx(np.degrees(imaged.cube.beams()[0, 0, 0]) * 3600, rel=1e-6)


def test_the_world_coordinates_find_the_source(noiseless_image: Imaged, tmp_path: Path) -> None:
    products.write_fits(noiseless_image.cube, tmp_path / "cube.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(tmp_path / "cube.fits") as hdus:
            wcs = WCS(hdus[0].header)
            plane = hdus[0].data[0, 3]
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    sky = wcs.celestial.pixel_to_world(x, y)
    centre = wcs.celestial.pixel_to_world(64, 64)
    east, north = centre.spherical_offsets_to(sky)
    assert east.arcsec == pytest.approx(OFF_CENTRE.east_arcsec, abs=1)
    assert north.arcsec == pytest.approx(OFF_CENTRE.north_arcsec, abs=1)
    assert wcs.spectral.pixel_to_world(3).to_value("Hz") == pytest.approx(1.4126e9 + 3 * 24_414.0625, abs=1)


def test_moments_recover_the_line(made: tuple[Imaged, Path]) -> None:
    imaged, out = made
    x, y = round(64 - 420 / 15), round(64 + 150 / 15)
    axis, step, unit = products.spectral_axis(imaged.plan)
    assert unit == "km/s"
    with fits.open(out / "moment0.fits") as zero, fits.open(out / "moment1.fits") as one:
        assert zero[0].data[y, x] == pytest.approx(0.8 * step, rel=0.02)
        assert one[0].data[y, x] == pytest.approx(axis[LINE_CHANNEL], abs=step / 10)


def test_without_a_rest_frequency_the_axis_is_frequency(tmp_path: Path) -> None:
    path = simulate.simulate(small(channels=2, rest_frequency_hz=None), tmp_path / "s.ps.zarr")
    made = image(path, tmp_path / "out")
    axis, step, unit = products.spectral_axis(made.plan)
    assert unit == "MHz"
    assert axis[0] == pytest.approx(1412.6)
    assert step == pytest.approx(0.0244140625)


def test_the_numbers_are_there(made: tuple[Imaged, Path]) -> None:
    _, out = made
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["channels"] == 16
    assert statistics["peak_channel"] == LINE_CHANNEL
    assert len(statistics["channel_rows"]) == 16
    account = json.loads((out / "cost.json").read_text())
    assert account["core_seconds"] > 0
    assert account["price"] == pytest.approx(account["core_seconds"] / 3600 * 0.05)
    lines = (out / "spectrum.csv").read_text().splitlines()
    assert len(lines) == 17
    assert lines[0].startswith("channel,frequency_hz,axis_km_per_s,flux_jy")


def test_the_pictures_show_something(made: tuple[Imaged, Path]) -> None:
    _, out = made
    browse = np.asarray(Image.open(out / "browse.png").convert("RGB"))
    assert browse.std() > 20
    film = Image.open(out / "film.gif")
    assert getattr(film, "n_frames", 1) == 16
    film.seek(LINE_CHANNEL)
    with_line = np.asarray(film.convert("L")).astype(int)
    film.seek(2)
    assert np.abs(with_line - np.asarray(film.convert("L")).astype(int)).max() > 100


def test_an_empty_channel_does_not_spoil_the_products(noiseless_image: Imaged, tmp_path: Path) -> None:
    class WithHole:
        def __init__(self, cube: object) -> None:
            self._cube = cube

        def __getattr__(self, name: str) -> object:
            return getattr(self._cube, name)

        def plane(self, channel: int, *rest: object) -> np.ndarray:
            plane = noiseless_image.cube.plane(channel)
            return np.full_like(plane, np.nan) if channel == 4 else plane

    products.write_products(WithHole(noiseless_image.cube), tmp_path)  # type: ignore[arg-type]
    assert np.isnan(products.moments(WithHole(noiseless_image.cube)).flux_jy[4])  # type: ignore[arg-type]


def test_xradio_opens_the_cube_and_finds_no_fault(made: tuple[Imaged, Path]) -> None:
    from xradio.image import open_image
    from xradio.image.schema import check_image

    opened = open_image(str(made[0].cube.path))
    assert opened.SKY.dims == ("time", "frequency", "polarization", "l", "m")
    assert np.array_equal(opened.SKY.values[0, :, 0], made[0].sky)
    assert not list(check_image(opened))


def test_the_catalogue_reads_zarr_and_fits_alike(made: tuple[Imaged, Path]) -> None:
    imaged, out = made
    one, other = metadata.image_cube(imaged.cube.path), metadata.image_cube(out / "cube.fits")
    assert one["properties"]["radio:shape"] == other["properties"]["radio:shape"] == [16, 128, 128]
    assert np.allclose(one["geometry"]["coordinates"], other["geometry"]["coordinates"], atol=1e-6)
