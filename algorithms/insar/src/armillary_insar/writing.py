"""Writes all files of a product that both engines have: layers, netCDF with the geometry's cubes, and picture."""

from pathlib import Path
from typing import Any

import numpy as np

from armillary_insar.browse import write_browse
from armillary_insar.geocode import MapGrid
from armillary_insar.orbit import OrbitPolynomial
from armillary_insar.products import Identity, Layers, write_layers, write_netcdf
from armillary_insar.viewing import cube_axes, viewing


def write_files(
    folder: Path,
    grid: MapGrid,
    layers: Layers,
    identity: Identity,
    orbits: tuple[OrbitPolynomial, OrbitPolynomial],
    bounds: tuple[float, float, float, float],
    quality: dict[str, Any],
) -> None:
    """`bounds` (west, south, east, north) are the cubes'."""
    axes = cube_axes(bounds)
    h, y, x = np.meshgrid(axes[2], axes[0], axes[1], indexing="ij")
    cubes = viewing(y, x, h, *orbits)
    write_layers(folder, grid, layers, identity)
    write_netcdf(folder / f"{identity.product_id}.nc", grid, layers, identity, axes, cubes, quality)
    write_browse(folder / "browse.png", grid, layers, identity)
