"""A small picture of a file's data, to recognise it by: decimated when read, stretched between percentiles."""

import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from armillary_formats import archive, tiff
from armillary_formats.refusal import Refused, brief

MOST_PIXELS = 1024  # of a picture's longer side
OVERSAMPLING = 2  # read this much more and average, which calms speckle
PERCENTILES = (2.0, 98.0)
CACHE_MIB = 64  # of GDAL, which else takes a twentieth of the machine
MEASUREMENT = re.compile(r"measurement/s1[a-z]-(\w\w\d?)-\w+-(\w\w)-.*\.tiff?", re.IGNORECASE)

# What astropy raises where a header does not hold what it trusts it to.
FITS_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    zlib.error,
)

Band = np.ma.MaskedArray[Any, np.dtype[Any]]
Bands = list[Band]


def quicklook(path: Path, out: Path) -> None:
    """Write a PNG of a GeoTIFF, SAFE product, FITS, netCDF or HDF5 file."""
    picture = [_stretched(band) for band in _bands(path)]
    opaque = np.any([~np.ma.getmaskarray(band) for band in picture], axis=0)
    if not opaque.any():
        raise Refused(f"{path.name} holds no valid value to draw.")
    _write_png([band.filled(0) for band in picture], opaque, out)


def _bands(path: Path) -> Bands:
    """One band, or three for red, green and blue; invalid pixels are masked."""
    if path.is_dir():
        return _of_product(path)
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        with path.open("rb") as stream:
            tiff.check(stream, path.stat().st_size, path.name)
        return _of_raster(str(path), MOST_PIXELS, MOST_PIXELS)
    if start[:4] == b"PK\x03\x04":
        return _of_product(path)
    if start == b"SIMPLE  =" or (start[:2] == b"\x1f\x8b" and ".fit" in path.name.lower()):
        return [_of_fits(path)]
    if start[:4] == b"\x89HDF":
        return [_of_hdf5(path)]
    raise Refused(f"{path.name} is of no format that a picture is made of (GeoTIFF, SAFE, FITS, netCDF-4, HDF5).")


def _of_product(path: Path) -> Bands:
    """The swaths of a product side by side, in one polarisation."""
    with archive.open_tree(path) as tree:
        found = {name: match for name in tree.sizes if (match := MEASUREMENT.search(name))}
    if not found:
        raise Refused(f"{path.name} holds no measurement to draw.")
    # Co-polarised images are the brighter ones.
    wanted = min((match[2].lower() for match in found.values()), key=lambda p: (p[0] != p[1], p))
    chosen = sorted(name for name, match in found.items() if match[2].lower() == wanted)
    root = str(path) if path.is_dir() else f"/vsizip/{{{path}}}"
    swaths = [_of_raster(f"{root}/{name}", MOST_PIXELS // len(chosen), MOST_PIXELS)[0] for name in chosen]
    height = min(swath.shape[0] for swath in swaths)
    return [np.ma.hstack([swath[:height] for swath in swaths])]


def _of_raster(name: str, most_width: int, most_height: int) -> Bands:
    import rasterio

    shown = Path(name).name
    try:
        with (
            rasterio.Env(GDAL_CACHEMAX=CACHE_MIB),
            warnings.catch_warnings(action="ignore"),
            rasterio.open(name) as raster,
        ):
            step = max(1.0, raster.width / most_width, raster.height / most_height)
            oversampling = OVERSAMPLING if step >= OVERSAMPLING else 1
            width, height = max(1, int(raster.width / step)), max(1, int(raster.height / step))
            wanted = [1, 2, 3] if raster.count in (3, 4) and not _is_complex(raster.dtypes[0]) else [1]
            shape = (height * oversampling, width * oversampling)
            read = [raster.read(index, out_shape=shape, masked=True) for index in wanted]
    except rasterio.errors.RasterioError as error:
        raise Refused(f"{shown} cannot be read: {brief(error)}.") from error
    return [_averaged(_real(band), oversampling) for band in read]


def _is_complex(dtype: str) -> bool:
    return dtype.startswith("complex")


def _real(band: Any) -> Band:
    """Amplitudes of complex samples, values of real ones, without what is not finite."""
    values = np.ma.asarray(band)
    real = np.abs(values) if np.iscomplexobj(values) else values
    return np.ma.masked_invalid(real.astype(np.float32))


def _averaged(band: Band, factor: int) -> Band:
    if factor == 1:
        return band
    height, width = band.shape[0] // factor, band.shape[1] // factor
    return np.ma.asarray(band.reshape(height, factor, width, factor).mean(axis=(1, 3)))


def _of_fits(path: Path) -> Band:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(action="ignore", category=AstropyWarning):
        try:
            with fits.open(path, mode="readonly", memmap=True) as units:
                for unit in units:
                    if unit.is_image and len(unit.shape) >= 2 and min(unit.shape) > 0 and hasattr(unit, "section"):
                        return _real(unit.section[_plane(unit.shape)])[::-1]  # FITS counts rows from the bottom
        except FITS_DAMAGE as error:
            raise Refused(f"{path.name} cannot be read: {brief(error)}.") from error
    raise Refused(f"{path.name} holds no image to draw.")


def _of_hdf5(path: Path) -> Band:
    import h5py

    found: list[Any] = []

    def visit(_: str, node: Any) -> None:
        is_drawable = isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.kind in "iufc"
        if is_drawable and node.size and min(node.shape[-2:]) > 1 and not (node.external or node.is_virtual):
            found.append(node)

    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(visit)
            if not found:
                raise Refused(f"{path.name} holds no image to draw.")
            largest = max(found, key=lambda dataset: dataset.size)
            values = _real(largest[_plane(largest.shape)])
            fill = largest.attrs.get("_FillValue")
            return values if fill is None else np.ma.masked_equal(values, np.float32(np.ravel(fill)[0]))
    except Refused:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise Refused(f"{path.name} cannot be read: {brief(error)}.") from error


def _plane(shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    """The middle of the leading axes, and every nth of the last two."""
    step = max(1, -(-max(shape[-2:]) // MOST_PIXELS))
    return (*(length // 2 for length in shape[:-2]), slice(None, None, step), slice(None, None, step))


def _stretched(band: Band) -> Band:
    valid = band.compressed()
    if not valid.size:
        return np.ma.MaskedArray(np.zeros(band.shape, np.uint8), mask=True)
    low, high = np.percentile(valid, PERCENTILES)
    if high <= low:
        return np.ma.MaskedArray(np.full(band.shape, 128, np.uint8), mask=np.ma.getmaskarray(band))
    scaled = np.clip((band.filled(low).astype(np.float64) - low) / (high - low), 0, 1)
    return np.ma.MaskedArray((scaled * 255).round().astype(np.uint8), mask=np.ma.getmaskarray(band))


def _write_png(bands: list[Any], opaque: Any, out: Path) -> None:
    import rasterio

    layers = bands if opaque.all() else [*bands, np.where(opaque, 255, 0).astype(np.uint8)]
    height, width = opaque.shape
    profile = {"driver": "PNG", "width": width, "height": height, "count": len(layers), "dtype": "uint8"}
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False),
        warnings.catch_warnings(action="ignore"),
        rasterio.open(out, "w", **profile) as png,
    ):
        png.write(np.stack(layers))
