"""From the mosaic to a map grid: each map point's place in the mosaic, by the reference orbit and the elevation."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine
from scipy.ndimage import map_coordinates

from armillary_insar import kernels
from armillary_insar.elevation import Elevation
from armillary_insar.orbit import OrbitPolynomial
from armillary_insar.pairing import Mosaic
from armillary_insar.safe import Floats

ROWS_PER_BLOCK = 64
Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MapGrid:
    """Posts on latitude and longitude; rows go south; multiples of the step, so that products of one track align."""

    latitude0_deg: float
    longitude0_deg: float
    step_deg: float
    rows: int
    columns: int

    @property
    def transform(self) -> Affine:
        half = self.step_deg / 2
        return Affine(self.step_deg, 0, self.longitude0_deg - half, 0, -self.step_deg, self.latitude0_deg + half)

    def latitudes(self) -> Floats:
        return self.latitude0_deg - np.arange(self.rows) * self.step_deg

    def longitudes(self) -> Floats:
        return self.longitude0_deg + np.arange(self.columns) * self.step_deg


def map_grid(bounds: tuple[float, float, float, float], posting_arcsec: float) -> MapGrid:
    """The grid over west, south, east, north."""
    step = posting_arcsec / 3600
    west, east = math.floor(bounds[0] / step), math.ceil(bounds[2] / step)
    south, north = math.floor(bounds[1] / step), math.ceil(bounds[3] / step)
    return MapGrid(north * step, west * step, step, north - south + 1, east - west + 1)


def mosaic_coordinates(
    grid: MapGrid, elevation: Elevation, orbit: OrbitPolynomial, mosaic: Mosaic, threads: int = 2
) -> tuple[Floats, Floats32]:
    """Fractional (row, column) of multilook cells for every map point, (2, rows, columns), and its height."""
    coordinates = np.empty((2, grid.rows, grid.columns))
    heights = np.empty((grid.rows, grid.columns), np.float32)

    def block(first: int) -> None:
        rows = slice(first, min(first + ROWS_PER_BLOCK, grid.rows))
        lat, lon = np.meshgrid(grid.latitudes()[rows], grid.longitudes(), indexing="ij")
        h = elevation.at(lat, lon)
        heights[rows] = h
        kernels.geocode_rows(
            first,
            -grid.step_deg,
            grid.step_deg,
            grid.latitude0_deg,
            grid.longitude0_deg,
            np.nan_to_num(h),
            orbit.coefficients,
            orbit.centre_s,
            orbit.scale_s,
            mosaic.start_s,
            1 / mosaic.line_s,
            mosaic.near_m,
            1 / mosaic.sample_m,
            coordinates[0, rows],
            coordinates[1, rows],
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(block, range(0, grid.rows, ROWS_PER_BLOCK)))
    # A cell's value belongs to the middle of its lines and samples.
    coordinates[0] = (coordinates[0] + 0.5) / mosaic.looks[1] - 0.5
    coordinates[1] = (coordinates[1] + 0.5) / mosaic.looks[0] - 0.5
    return coordinates, heights


def resample(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], coordinates: Floats) -> Floats32:
    """Bilinear where all four cells are valid, NaN elsewhere."""
    holed = np.where(valid, values, np.nan)
    return np.asarray(map_coordinates(holed, coordinates, order=1, cval=np.nan, output=np.float32))


def resample_complex(
    values: npt.NDArray[np.complex64], valid: npt.NDArray[np.bool_], coordinates: Floats
) -> npt.NDArray[np.complex64]:
    real, imaginary = (resample(part, valid, coordinates) for part in (values.real, values.imag))
    return (real + 1j * imaginary).astype(np.complex64)


def nearest(values: npt.NDArray[np.float32], coordinates: Floats, outside: float) -> Floats32:
    return np.asarray(map_coordinates(values, coordinates, order=0, cval=outside, output=np.float32))


def resample_unwrapped(
    unwrapped: Floats32, filtered: npt.NDArray[np.complex64], valid: npt.NDArray[np.bool_], coordinates: Floats
) -> Floats32:
    """Phase from the complex values, cycles from the nearest cell: no half cycles between components."""
    wrapped = np.angle(resample_complex(filtered, valid, coordinates))
    close = nearest(np.nan_to_num(unwrapped, nan=-1e9), coordinates, -1e9)
    whole = wrapped + 2 * np.pi * np.rint((close - wrapped) / (2 * np.pi))
    return np.where(close > -1e8, whole, np.nan).astype(np.float32)
