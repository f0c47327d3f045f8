"""A grey or coloured PNG of rasters side by side, read decimated and stretched between two percentiles."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from armillary_browse.failure import Failure
from armillary_browse.raster import Band, opened


def draw(bands: Sequence[Band], out: Path, most_pixels: int, stretch: Sequence[float]) -> None:
    """Draw the first band of every file, or red, green and blue of a single file with three or four."""
    paths = list(dict.fromkeys(band.path for band in bands))
    is_colour = len(paths) == 1 and len(bands) in (3, 4) and not bands[0].dtype.startswith("complex")
    layers = [_side_by_side(paths, index, most_pixels) for index in ((1, 2, 3) if is_colour else (1,))]
    opaque = np.any([~np.ma.getmaskarray(layer) for layer in layers], axis=0)
    pictures = [_stretched(layer, stretch) for layer in layers]
    if not opaque.all():
        pictures.append(np.where(opaque, 255, 0).astype(np.uint8))
    height, width = opaque.shape
    profile = {"driver": "PNG", "width": width, "height": height, "count": len(pictures), "dtype": "uint8"}
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False),
        warnings.catch_warnings(action="ignore"),
        rasterio.open(out, "w", **profile) as png,
    ):
        png.write(np.stack(pictures))


def _side_by_side(paths: Sequence[Path], index: int, most_pixels: int) -> Any:
    parts = [_decimated(path, index, max(1, most_pixels // len(paths)), most_pixels) for path in paths]
    height = min(part.shape[0] for part in parts)
    return np.ma.hstack([part[:height] for part in parts])


def _decimated(path: Path, index: int, most_width: int, most_height: int) -> Any:
    with opened(path) as raster:
        step = max(1.0, raster.width / most_width, raster.height / most_height)
        shape = (max(1, int(raster.height / step)), max(1, int(raster.width / step)))
        try:
            values = raster.read(index, out_shape=shape, masked=True)
        except RasterioError as error:
            raise Failure("science error", f"{path.name} cannot be read: {error}.", "Ingest it again.") from error
    real = np.abs(values) if np.iscomplexobj(values) else values
    return np.ma.masked_invalid(real.astype(np.float64))


def _stretched(layer: Any, stretch: Sequence[float]) -> Any:
    valid = layer.compressed()
    if not valid.size:
        return np.zeros(layer.shape, np.uint8)
    low, high = np.percentile(valid, stretch)
    if high <= low:
        return np.full(layer.shape, 128, np.uint8)
    return (np.clip((layer.filled(low) - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
