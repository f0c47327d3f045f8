"""FITS: images on the sky, cubes, visibilities, and files that are cut."""

import gzip

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from astropy.wcs import WCS

from armillary_formats import fits
from armillary_formats.refusal import Refused


def write(path, ra=150.0, dec=20.0, shape=(40, 60), cell=0.01, types=("RA---TAN", "DEC--TAN"), **cards):
    header = astropy_fits.Header()
    header["CTYPE1"], header["CTYPE2"] = types
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = shape[-1] / 2 + 0.5, shape[-2] / 2 + 0.5
    header["CDELT1"], header["CDELT2"] = -cell, cell
    for key, value in cards.items():
        header[key.replace("_", "-")] = value
    astropy_fits.PrimaryHDU(np.ones(shape, np.float32), header).writeto(path)
    return path


def test_an_image_covers_the_sky_between_its_outer_edges(tmp_path) -> None:
    path = write(tmp_path / "a.fits", DATE_OBS="2024-05-06T07:08:09.5", OBJECT="M 1", TELESCOP="VLA", INSTRUME="X")
    item = fits.read(path)
    assert item["frame"] == "sky"
    half = 0.3 / np.cos(np.radians(20))
    assert item["bbox"] == pytest.approx([150 - half, 19.8, 150 + half, 20.2], abs=2e-3)
    expected = {
        "datetime": "2024-05-06T07:08:09.500000Z",
        "fits:object": "M 1",
        "platform": "VLA",
        "instruments": ["X"],
    }
    assert expected.items() <= item["properties"].items()
    ring = np.array(item["geometry"]["coordinates"][0])
    x, y = WCS(astropy_fits.getheader(path)).world_to_pixel_values(ring[:, 0], ring[:, 1])
    on_edge = np.isclose(abs(x - 29.5), 30, atol=1e-4) | np.isclose(abs(y - 19.5), 20, atol=1e-4)
    assert on_edge.all()


def test_right_ascensions_around_zero_are_cut_at_180_degrees_only(tmp_path) -> None:
    item = fits.read(write(tmp_path / "a.fits", ra=0.0))
    assert item["geometry"]["type"] == "Polygon"
    assert item["bbox"][0] < 0 < item["bbox"][2]
    assert fits.read(write(tmp_path / "b.fits", ra=180.0))["geometry"]["type"] == "MultiPolygon"


def test_an_image_of_a_pole_holds_it(tmp_path) -> None:
    item = fits.read(write(tmp_path / "a.fits", dec=90.0))
    assert item["bbox"] == pytest.approx([-180, 89.63, 180, 90], abs=0.01)


def test_galactic_and_old_equinoxes_become_icrs(tmp_path) -> None:
    galactic = fits.read(write(tmp_path / "g.fits", ra=0.0, dec=0.0, types=("GLON-TAN", "GLAT-TAN")))
    west, south, east, north = galactic["bbox"]
    assert west < 266.405 - 360 < east
    assert south < -28.936 < north
    old = fits.read(write(tmp_path / "b.fits", ra=186.64, dec=2.33, RADESYS="FK4", EQUINOX=1950.0))
    west, south, east, north = old["bbox"]
    assert west < 187.278 - 360 < east  # 3C 273 in ICRS
    assert south < 2.052 < north
    assert (east - west) / 2 + west == pytest.approx(187.28 - 360, abs=0.01)


def test_a_map_of_the_whole_sky_covers_it(tmp_path) -> None:
    path = write(tmp_path / "a.fits", ra=0.0, dec=0.0, shape=(180, 360), cell=1.0, types=("RA---AIT", "DEC--AIT"))
    assert fits.read(path)["bbox"] == [-180, -90, 180, 90]


def test_a_cube_tells_its_frequencies_between_the_outer_edges_of_its_channels(tmp_path) -> None:
    path = write(
        tmp_path / "a.fits", shape=(8, 40, 60), CTYPE3="FREQ", CRVAL3=1.4e9, CRPIX3=1.0, CDELT3=1e6, CUNIT3="Hz"
    )
    properties = fits.read(path)["properties"]
    assert properties["fits:frequency_range"] == pytest.approx([1.3995e9, 1.4075e9])
    assert properties["fits:hdus"] == [{"type": "IMAGE", "shape": [8, 40, 60], "bitpix": -32}]


def test_wavelengths_become_frequencies_and_velocities_stay_what_they_are(tmp_path) -> None:
    waves = write(tmp_path / "w.fits", shape=(4, 9, 9), CTYPE3="WAVE", CRVAL3=0.2, CRPIX3=1.0, CDELT3=0.01, CUNIT3="m")
    low, high = fits.read(waves)["properties"]["fits:frequency_range"]
    assert (low, high) == pytest.approx((299792458 / 0.235, 299792458 / 0.195))
    speeds = write(
        tmp_path / "v.fits", shape=(4, 9, 9), CTYPE3="VRAD", CRVAL3=1e6, CRPIX3=1.0, CDELT3=5e3, CUNIT3="m/s"
    )
    properties = fits.read(speeds)["properties"]
    assert properties["fits:spectral_type"] == "VRAD"
    assert "fits:frequency_range" not in properties


def test_the_first_extension_with_a_picture_of_the_sky_counts(tmp_path) -> None:
    write(tmp_path / "image.fits")
    image = astropy_fits.open(tmp_path / "image.fits")[0]
    table = astropy_fits.BinTableHDU.from_columns([astropy_fits.Column("x", "D", array=np.arange(5.0))])
    packed = astropy_fits.CompImageHDU(image.data, image.header, name="SCI")
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), table, packed]).writeto(tmp_path / "a.fits")
    item = fits.read(tmp_path / "a.fits")
    assert item["frame"] == "sky"
    assert len(item["properties"]["fits:hdus"]) == 3


def test_a_table_has_no_place(tmp_path) -> None:
    table = astropy_fits.BinTableHDU.from_columns([astropy_fits.Column("x", "D", array=np.arange(5.0))])
    table.writeto(tmp_path / "a.fits")
    item = fits.read(tmp_path / "a.fits")
    assert (item["geometry"], item["frame"], item["properties"]["datetime"]) == (None, "none", None)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE_OBS": "27/06/89"}, {"datetime": "1989-06-27T00:00:00Z"}),
        ({"DATE_OBS": "2024-05-06"}, {"datetime": "2024-05-06T00:00:00Z"}),
        ({"DATE_BEG": "2024-05-06T01:00:00", "DATE_END": "2024-05-06T02:00:00"},
         {"datetime": "2024-05-06T01:00:00Z", "start_datetime": "2024-05-06T01:00:00Z",
          "end_datetime": "2024-05-06T02:00:00Z"}),
    ],
)  # fmt: skip
def test_dates_of_every_age_are_understood(tmp_path, cards, expected) -> None:
    properties = fits.read(write(tmp_path / "a.fits", **cards))["properties"]
    assert {key: value for key, value in properties.items() if "datetime" in key} == expected


@pytest.mark.parametrize("keep", [0, 5, 100, 2879, 2880, 5000, -1, -2880])
def test_a_file_cut_anywhere_is_refused(tmp_path, keep) -> None:
    path = write(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Refused, match=r"a.fits is (empty|not a FITS file|not a whole FITS file|cut short)"):
        fits.read(path)


def test_packed_files_are_read_and_damaged_ones_refused(tmp_path) -> None:
    data = gzip.compress(write(tmp_path / "a.fits").read_bytes())
    (tmp_path / "b.fits.gz").write_bytes(data)
    assert fits.read(tmp_path / "b.fits.gz")["frame"] == "sky"
    (tmp_path / "b.fits.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(Refused):
        fits.read(tmp_path / "b.fits.gz")


def test_an_impossible_date_is_refused(tmp_path) -> None:
    with pytest.raises(Refused, match=r"DATE-OBS of a\.fits is '2024-13-45'"):
        fits.read(write(tmp_path / "a.fits", DATE_OBS="2024-13-45"))


@pytest.mark.real_data
def test_real_visibilities_know_where_the_telescope_pointed(test_data) -> None:
    item = fits.read(test_data / "radio" / "3C273XC1.fits")
    assert (item["geometry"], item["frame"]) == (None, "none")
    expected = {"datetime": "1989-06-27T00:00:00Z", "fits:object": "3C273", "platform": "VLA", "fits:equinox": 1950.0}
    assert expected.items() <= item["properties"].items()
    assert item["properties"]["fits:pointing"] == pytest.approx([186.6385, 2.3287], abs=1e-4)
    assert item["properties"]["fits:hdus"][0]["type"] == "GROUPS"
