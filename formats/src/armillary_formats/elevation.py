"""Elevation models: a GeoTIFF and what its heights refer to, which decides tens of metres and is often forgotten."""

from pathlib import Path
from typing import Any

from armillary_formats import geotiff

DATUMS = {
    "ellipsoid": ("ellipsoid", "4979"),
    "egm96": ("egm96", "egm 96", "5773"),
    "egm2008": ("egm2008", "egm08", "egm 2008", "3855"),
}


def read(path: Path) -> dict[str, Any]:
    """The item of the raster, with `elevation:datum` (ellipsoid, egm96, egm2008 or unknown)."""
    item = geotiff.read(path)
    item["properties"]["elevation:datum"] = datum(path)
    return item


def datum(path: Path) -> str:
    """By the tag VERTICAL_DATUM, else by the vertical part of the reference system."""
    import rasterio

    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), geotiff.quiet(), rasterio.open(path) as raster:
        tag = raster.tags().get("VERTICAL_DATUM", "")
        is_3d = raster.crs is not None and raster.crs.to_epsg() == 4979
        system = raster.crs.to_wkt() if raster.crs is not None else ""
    if tag:
        return _named(tag, tuple(DATUMS))
    return "ellipsoid" if is_3d else _named(system, ("egm96", "egm2008"))  # every WKT speaks of an ellipsoid


def _named(text: str, among: tuple[str, ...]) -> str:
    return next((name for name in among if any(word in text.lower() for word in DATUMS[name])), "unknown")
