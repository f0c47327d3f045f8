"""Quick looks: of each format, small, stretched, in little memory, or a reason why not."""

import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from astropy.io import fits

from armillary_formats.browse import quicklook
from armillary_formats.refusal import Refused

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RAMP = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)


def drawn(path: Path, folder: Path) -> np.ndarray:
    out = folder / "browse.png"
    quicklook(path, out)
    with rasterio.open(out) as png:
        assert png.driver == "PNG"
        assert png.dtypes[0] == "uint8"
        picture = png.read()
    assert max(picture.shape[1:]) <= 1024
    assert not list(folder.glob("*.aux.xml"))
    return picture


def tiff(path: Path, bands: np.ndarray, **profile) -> Path:
    described = {"driver": "GTiff", "count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(path, "w", **described, dtype=profile.pop("dtype", bands.dtype), **profile) as out:
        out.write(bands)
    return path


def test_a_raster_is_stretched_between_percentiles(tmp_path) -> None:
    (grey,) = drawn(tiff(tmp_path / "a.tif", RAMP[None]), tmp_path)
    assert (grey.shape, grey[0, 0], grey[-1, -1]) == ((40, 60), 0, 255)
    assert (grey == 0).mean() == pytest.approx(0.02, abs=0.005)


def test_invalid_pixels_are_transparent(tmp_path) -> None:
    bands = RAMP[None].copy()
    bands[0, :10] = -1
    bands[0, 20, 5] = np.nan
    grey, alpha = drawn(tiff(tmp_path / "a.tif", bands, nodata=-1), tmp_path)
    assert (alpha[:10] == 0).all()
    assert alpha[20, 5] == 0
    assert (alpha[21:] == 255).all()
    assert grey[-1, -1] == 255


def test_three_bands_are_colours_and_a_large_raster_is_small(tmp_path) -> None:
    bands = np.random.default_rng(0).integers(0, 255, (3, 3000, 1500)).astype(np.uint8)
    assert drawn(tiff(tmp_path / "a.tif", bands), tmp_path).shape == (3, 1024, 512)


def test_a_constant_raster_is_grey(tmp_path) -> None:
    assert (drawn(tiff(tmp_path / "a.tif", np.full((1, 8, 8), 7, np.int16)), tmp_path) == 128).all()


def test_the_swaths_of_a_product_stand_side_by_side_from_folder_and_zip(samples, tmp_path) -> None:
    folder = drawn(samples[0], tmp_path)
    assert folder.shape == (1, 24, 3 * 48)
    assert folder.std() > 30
    with zipfile.ZipFile(tmp_path / "a b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in samples[0].rglob("*"):
            archive.write(file, file.relative_to(samples[0].parent))
    assert (drawn(tmp_path / "a b.zip", tmp_path) == folder).all()


def test_a_cube_on_the_sky_shows_its_middle_with_north_up(tmp_path) -> None:
    cube = np.stack([np.zeros_like(RAMP), RAMP, np.zeros_like(RAMP)])
    fits.PrimaryHDU(cube).writeto(tmp_path / "a.fits")
    (grey,) = drawn(tmp_path / "a.fits", tmp_path)
    assert (grey[0, -1], grey[-1, 0]) == (255, 0)


def test_the_largest_variable_is_drawn_without_its_fill_values(tmp_path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["small"] = np.ones((3, 3))
        data = RAMP.copy()
        data[5, 5] = 9e36
        file["large"] = data[None]
        file["large"].attrs["_FillValue"] = np.float32(9e36)
    grey, alpha = drawn(tmp_path / "a.nc", tmp_path)
    assert (alpha[5, 5], alpha[6, 6]) == (0, 255)
    assert grey[-1, -1] == 255


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"words", "of no format that a picture is made of"),
        ("a.tif", b"", "of no format"),
        ("a.tif", b"II*\0cut short here, really", "is cut short|cannot be read"),
        ("a.fits", b"SIMPLE  = and no more", "cannot be read|holds no image"),
        ("a.h5", b"\x89HDF\r\n\x1a\n and no more", "cannot be read"),
        ("a.zip", b"PK\x03\x04 and no more", "not a whole zip"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, name, content, reason) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=reason):
        quicklook(tmp_path / name, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_nothing_valid_is_refused(tmp_path) -> None:
    with pytest.raises(Refused, match="no valid value"):
        quicklook(tiff(tmp_path / "a.tif", np.zeros((1, 8, 8), np.uint8), nodata=0), tmp_path / "out.png")


def test_a_raster_of_gigabytes_is_drawn_in_little_memory(tmp_path) -> None:
    """A sparse file: 40000 × 40000 complex samples would fill 12.8 GB."""
    path = tmp_path / "large.tif"
    shape = {"width": 40_000, "height": 40_000, "count": 1, "dtype": "complex64"}
    with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, BIGTIFF="YES", tiled=True, **shape) as out:
        out.write(np.ones((1, 512, 512), np.complex64), window=rasterio.windows.Window(0, 0, 512, 512))
    program = (
        "import re, sys; from pathlib import Path; from armillary_formats.browse import quicklook;"
        "quicklook(Path(sys.argv[1]), Path(sys.argv[2]));"
        # Not ru_maxrss: a child begins with its parent's.
        "print(re.search(r'VmHWM:\\s+([0-9]+)', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "out.png")]
    used = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(used) * 1024 < 500 * 1024**2
