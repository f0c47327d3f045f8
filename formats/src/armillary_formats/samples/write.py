"""Write the samples: product folders, orbit files and elevation models that belong together."""

import warnings
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint

from armillary_formats.samples import documents
from armillary_formats.samples.scene import SWATHS, Scene, footprint, ground

COHERENCE = 0.8  # of the two dates of a pair
ELEVATION_CELL = 0.01
ELEVATION_MARGIN = 0.25


def write(folder: Path, pairs: int = 1, width: int = 512, height: int = 240) -> list[Path]:
    """Write the samples and return the paths to ingest: products, orbit files and elevation models."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for pair in range(pairs):
        scenes = [Scene(pair, 0), Scene(pair, 1)]
        written += [write_product(folder, scene, width, height) for scene in scenes]
        written += [write_orbit(folder, scene) for scene in scenes]
        written.append(write_elevation(folder, scenes[0]))
    return written


def write_product(folder: Path, scene: Scene, width: int, height: int) -> Path:
    """A SAFE folder with three swaths in one polarisation."""
    product = folder / f"{scene.product}.SAFE"
    for part in ("measurement", "annotation"):
        (product / part).mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for swath in SWATHS:
        measurement = product / f"measurement/{scene.file(swath)}.tiff"
        _write_measurement(measurement, scene, swath, _speckle(scene, swath, width, height))
        files[measurement.relative_to(product).as_posix()] = measurement.read_bytes()
        text = documents.annotation(scene, swath, width, height).encode()
        files[f"annotation/{scene.file(swath)}.xml"] = text
        (product / f"annotation/{scene.file(swath)}.xml").write_bytes(text)
    (product / "manifest.safe").write_text(documents.manifest(scene, files))
    return product


def write_orbit(folder: Path, scene: Scene) -> Path:
    """The orbit file that covers a scene."""
    name, text = documents.orbit_file(scene)
    path = folder / name
    path.write_text(text)
    return path


def write_elevation(folder: Path, scene: Scene) -> Path:
    """A cloud-optimised elevation model of hills that covers the scene with a margin."""
    corners = footprint(scene)
    # Across the antimeridian the longitudes stay together, beyond 180 degrees.
    longitudes = [corners[0][0] + (x - corners[0][0] + 180) % 360 - 180 for x, _ in corners]
    west, north = min(longitudes) - ELEVATION_MARGIN, max(y for _, y in corners) + ELEVATION_MARGIN
    width = round((max(longitudes) + ELEVATION_MARGIN - west) / ELEVATION_CELL)
    height = round((north - min(y for _, y in corners) + ELEVATION_MARGIN) / ELEVATION_CELL)
    rows, columns = np.mgrid[0:height, 0:width]
    heights = 600 + 400 * np.sin(rows / 23) * np.cos(columns / 31) + 120 * np.sin(rows / 7 + columns / 5)
    profile = {
        "driver": "COG",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "float32",
        "nodata": -32768,
        "crs": "EPSG:4326",
        "compress": "deflate",
        "predictor": 3,
        "blocksize": 256,
        "transform": rasterio.Affine(ELEVATION_CELL, 0, west, 0, -ELEVATION_CELL, north),
    }
    path = folder / f"elevation-{scene.relative_orbit:03}.tif"
    with rasterio.open(path, "w", **profile) as out:
        out.write(heights.astype("float32"), 1)
        out.set_band_description(1, "elevation")
        out.set_band_unit(1, "m")
        out.update_tags(TIFFTAG_DATETIME="2026:01:01 00:00:00")
    return path


def _speckle(scene: Scene, swath: str, width: int, height: int) -> Any:
    """Circular Gaussian clutter under a smooth brightness; the second date keeps a part of the first's."""

    def clutter(repeat: int) -> Any:
        seed = (scene.pair, list(SWATHS).index(swath), repeat)
        real, imaginary = np.random.default_rng(seed).standard_normal((2, height, width))
        return real + 1j * imaginary

    field = clutter(0)
    if scene.repeat:
        field = COHERENCE * field + (1 - COHERENCE**2) ** 0.5 * clutter(scene.repeat)
    rows, columns = np.mgrid[0:height, 0:width]
    brightness = 120 * (1.2 + np.sin(6 * pi * rows / height) * np.cos(4 * pi * columns / width))
    return (field * brightness).round().astype(np.complex64)


def _write_measurement(path: Path, scene: Scene, swath: str, pixels: Any) -> None:
    height, width = pixels.shape
    near, far = SWATHS[swath]
    points = [
        GroundControlPoint(
            down * height, across * width, *ground(scene, scene.moment(down), near + across * (far - near)), 0
        )
        for down in (0, 1)
        for across in (0, 1)
    ]
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "complex_int16",
    }
    profile |= {"gcps": points, "crs": "EPSG:4326"}
    # A radar image has no affine transform, and that is no fault.
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "w", **profile) as out:
        out.write(pixels, 1)
        out.update_tags(TIFFTAG_DATETIME=scene.start.strftime("%Y:%m:%d %H:%M:%S"))
