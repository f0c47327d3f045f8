"""Writes all files of a product, side by side: most of the time is spent in compression, which holds no lock."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from armillary_insar.browse import write_browse
from armillary_insar.geocode import MapGrid
from armillary_insar.orbit import OrbitPolynomial
from armillary_insar.products import LAYER_FILES, Identity, Layers, write_layer, write_netcdf
from armillary_insar.viewing import cube_axes, viewing


def write_files(
    folder: Path,
    grid: MapGrid,
    layers: Layers,
    identity: Identity,
    orbits: tuple[OrbitPolynomial, OrbitPolynomial],
    bounds: tuple[float, float, float, float],
    quality: dict[str, Any],
    threads: int,
) -> None:
    """The longest first: the netCDF, then the layers and the picture. `bounds` (west, south, east, north) are the cubes'."""
    axes = cube_axes(bounds)
    h, y, x = np.meshgrid(axes[2], axes[0], axes[1], indexing="ij")
    cubes = viewing(y, x, h, *orbits)
    netcdf = folder / f"{identity.product_id}.nc"
    with ThreadPoolExecutor(threads) as pool:
        started = [
            pool.submit(write_netcdf, netcdf, grid, layers, identity, axes, cubes, quality),
            *(pool.submit(write_layer, folder, field, grid, layers, identity) for field in LAYER_FILES),
            pool.submit(write_browse, folder / "browse.png", grid, layers, identity),
        ]
        for one in started:
            one.result()
