"""Find a granule's rasters and read them in blocks of bounded size, complex samples as amplitudes."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from armillary_browse.failure import Failure
from armillary_browse.statistics import Values

BLOCK_SAMPLES = 2_000_000  # times 16 bytes in memory at the worst
CACHE_MIB = 64  # of GDAL, which else takes a twentieth of the machine
SUFFIXES = {".tif", ".tiff"}


@dataclass(frozen=True)
class Band:
    """One band of one file."""

    path: Path
    index: int
    name: str
    dtype: str
    width: int
    height: int
    windows: tuple[Window, ...]


def bands(folder: Path, granule: str) -> list[Band]:
    """All bands of a granule's rasters; in a product folder, also a zipped one, these are its measurements."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files += [member for path in files if path.suffix.lower() == ".zip" for member in _members(path)]
    files = [path for path in files if path.suffix.lower() in SUFFIXES]
    files = [path for path in files if path.parent.name == "measurement"] or files
    if not files:
        message = f"Granule {granule} holds no GeoTIFF."
        raise Failure("input missing", message, "Give a granule with a file .tif or .tiff.")
    return [band for path in files for band in _bands_of(path)]


def _members(path: Path) -> list[Path]:
    """The files of a zip as paths that GDAL reads without unpacking it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [Path(f"/vsizip/{{{path.absolute()}}}", name) for name in sorted(archive.namelist())]
    except (zipfile.BadZipFile, OSError) as error:
        raise _unreadable(path, error) from error


def _bands_of(path: Path) -> list[Band]:
    with opened(path) as raster:
        windows = tuple(blocks(raster.width, raster.height, *raster.block_shapes[0]))
        return [
            Band(path, i + 1, raster.descriptions[i] or f"band {i + 1}", dtype, raster.width, raster.height, windows)
            for i, dtype in enumerate(raster.dtypes)
        ]


def blocks(width: int, height: int, tile_height: int, tile_width: int) -> Iterator[Window]:
    """Windows that cover a raster once, each within the bound and made of whole tiles where that is possible."""
    columns = width if width * tile_height <= BLOCK_SAMPLES else max(1, BLOCK_SAMPLES // tile_height)
    if columns < width:
        columns = max(columns - columns % tile_width, min(tile_width, columns))
    rows = max(1, BLOCK_SAMPLES // columns)
    if rows > tile_height:
        rows -= rows % tile_height
    for row in range(0, height, rows):
        for column in range(0, width, columns):
            yield Window(column, row, min(columns, width - column), min(rows, height - row))


def valid_values(raster: Any, band: Band, window: Window) -> Values:
    """The valid, finite numbers of a block; a complex sample counts with its amplitude."""
    try:
        read = raster.read(band.index, window=window, masked=True)
    except RasterioError as error:
        raise _unreadable(band.path, error) from error
    values = np.abs(read.compressed()) if np.iscomplexobj(read) else read.compressed()
    numbers: Values = values.astype(np.float64)
    return numbers[np.isfinite(numbers)]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open raster; one without a geographic reference is as welcome as any."""
    with warnings.catch_warnings(action="ignore"), rasterio.Env(GDAL_CACHEMAX=CACHE_MIB):
        try:
            raster = rasterio.open(path)
        except RasterioError as error:
            raise _unreadable(path, error) from error
        with raster:
            yield raster


def _unreadable(path: Path, error: Exception) -> Failure:
    message = f"{path.name} cannot be read: {str(error).rstrip('.')}."
    return Failure("science error", message, "Check the file with gdalinfo, and ingest it again if it is damaged.")
