"""Elevation: tiles on one latitude–longitude grid, as heights above the WGS84 ellipsoid, never above a geoid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import from_bounds
from scipy.ndimage import map_coordinates

from armillary_insar.errors import Refusal
from armillary_insar.safe import Floats

DATUMS = ("ellipsoid", "egm96", "egm2008")
# What a vertical reference may be called, in lower case, in a CRS or in a tag.
SYNONYMS = {
    "ellipsoid": ("ellipsoid", "wgs84 3d", "epsg:4979"),
    "egm96": ("egm96", "egm 96", "5773"),
    "egm2008": ("egm2008", "egm08", "egm 2008", "3855"),
}


@dataclass(frozen=True)
class Elevation:
    """Heights above the ellipsoid on posts; rows go south. Holes are NaN."""

    latitude0_deg: float
    longitude0_deg: float
    step_latitude_deg: float
    step_longitude_deg: float
    heights_m: npt.NDArray[np.float32]
    datum: str  # of the file, before the geoid was added

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the posts."""
        rows, columns = self.heights_m.shape
        return (
            self.longitude0_deg,
            self.latitude0_deg + (rows - 1) * self.step_latitude_deg,
            self.longitude0_deg + (columns - 1) * self.step_longitude_deg,
            self.latitude0_deg,
        )

    def at(self, latitude_deg: Floats, longitude_deg: Floats) -> Floats:
        """Bilinear heights; beyond the edge the edge's."""
        y = (latitude_deg - self.latitude0_deg) / self.step_latitude_deg
        x = (longitude_deg - self.longitude0_deg) / self.step_longitude_deg
        return np.asarray(map_coordinates(self.heights_m, np.stack([y, x]), order=1, mode="nearest", output=np.float64))

    def span(self, west: float, south: float, east: float, north: float) -> tuple[float, float]:
        """Lowest and highest height of an area."""
        rows = sorted(int((v - self.latitude0_deg) / self.step_latitude_deg) for v in (south, north))
        columns = sorted(int((v - self.longitude0_deg) / self.step_longitude_deg) for v in (west, east))
        part = self.heights_m[max(rows[0], 0) : max(rows[1], 0) + 2, max(columns[0], 0) : max(columns[1], 0) + 2]
        return (float(np.nanmin(part)), float(np.nanmax(part))) if np.isfinite(part).any() else (0.0, 0.0)

    def require_whole(self, footprint_deg: list[tuple[float, float]], what: str) -> None:
        """Refuse where the footprint, (longitude, latitude) corners, leaves the elevation or covers holes."""
        west, south, east, north = self.bounds
        points = np.array(footprint_deg)
        if (
            points[:, 0].min() < west
            or points[:, 0].max() > east
            or points[:, 1].min() < south
            or points[:, 1].max() > north
        ):
            raise Refusal(
                f"The elevation ({west:.3f} to {east:.3f}° E, {south:.3f} to {north:.3f}° N) does not cover {what} "
                f"({points[:, 0].min():.3f} to {points[:, 0].max():.3f}° E, {points[:, 1].min():.3f} to "
                f"{points[:, 1].max():.3f}° N).",
                "Give more elevation tiles, or choose fewer bursts.",
            )
        transform = Affine(
            self.step_longitude_deg,
            0,
            west - self.step_longitude_deg / 2,
            0,
            self.step_latitude_deg,
            north - self.step_latitude_deg / 2,
        )
        polygon = {"type": "Polygon", "coordinates": [[*footprint_deg, footprint_deg[0]]]}
        inside = geometry_mask([polygon], self.heights_m.shape, transform, all_touched=True, invert=True)
        holes = int(np.count_nonzero(inside & ~np.isfinite(self.heights_m)))
        if holes:
            raise Refusal(
                f"The elevation has {holes} posts without a value in {what} "
                f"({100 * holes / max(int(inside.sum()), 1):.2f} %).",
                "Give tiles without holes, or set the parameter elevation_fill (0 for sea, in the tiles' own datum).",
            )


def read_elevation(
    paths: list[Path],
    bounds: tuple[float, float, float, float],
    datum: str = "auto",
    geoids: Sequence[Path] = (),
    fill: float | None = None,
) -> Elevation:
    """Tiles merged over `bounds` (west, south, east, north) at the finest tile's step, referred to the ellipsoid."""
    if not paths:
        raise Refusal("No elevation was given.", "Add elevation tiles in the role elevation.", "input missing")
    datums = {path: vertical_datum(path) if datum == "auto" else datum for path in paths}
    unknown = [p.name for p, d in datums.items() if d is None]
    if unknown:
        raise Refusal(
            f"The vertical datum of {', '.join(unknown)} is not written in the file.",
            "Set the parameter elevation_datum to ellipsoid, egm96 or egm2008.",
        )
    if len(set(datums.values())) > 1:
        raise Refusal(
            f"The elevation tiles mix vertical datums: {', '.join(sorted(map(str, set(datums.values()))))}.",
            "Give tiles of one datum.",
        )
    merged, transform = _merge(paths, bounds)
    if fill is not None:
        merged = np.where(np.isfinite(merged), merged, np.float32(fill))
    used = str(next(iter(datums.values())))
    result = Elevation(
        transform.f + transform.e / 2, transform.c + transform.a / 2, transform.e, transform.a, merged, used
    )
    return result if used == "ellipsoid" else add_geoid(result, choose_geoid(geoids, used))


def vertical_datum(path: Path) -> str | None:
    """What the file says about its heights: a tag VERTICAL_DATUM, or the vertical part of its CRS."""
    with rasterio.open(path) as file:
        said = [file.tags().get("VERTICAL_DATUM", ""), file.crs.to_wkt() if file.crs else ""]
    for words in said:
        low = words.lower()
        for datum in ("egm2008", "egm96"):
            if any(s in low for s in SYNONYMS[datum]):
                return datum
        if low and (low == said[0].lower() or "ellipsoidal height" in low or '"4979"' in low):
            return "ellipsoid" if any(s in low for s in (*SYNONYMS["ellipsoid"], "4979")) else None
    return None


def _merge(paths: list[Path], bounds: tuple[float, float, float, float]) -> tuple[Any, Affine]:
    """The tiles on one grid in EPSG:4326, NaN where none has a value."""
    flat = CRS.from_epsg(4326)
    steps, origins = [], []
    for path in paths:
        with rasterio.open(path) as file:
            if file.crs is None:
                raise Refusal(f"{path.name} has no coordinate reference system.", "Write one into the GeoTIFF.")
            lonlat = file.crs.is_geographic
            with WarpedVRT(file, crs=flat if not lonlat else None, resampling=Resampling.bilinear) as seen:
                steps.append((seen.transform.a, seen.transform.e))
                origins.append((seen.transform.c, seen.transform.f))
    step_x, step_y = min(s[0] for s in steps), max(s[1] for s in steps)
    # Keep the first tile's posts: an elevation on its own grid is used as it is, not resampled.
    west = origins[0][0] + np.floor((bounds[0] - origins[0][0]) / step_x) * step_x
    north = origins[0][1] + np.floor((bounds[3] - origins[0][1]) / step_y) * step_y
    columns = int(np.ceil((bounds[2] - west) / step_x)) + 1
    rows = int(np.ceil((bounds[1] - north) / step_y)) + 1
    transform = Affine(step_x, 0, west, 0, step_y, north)
    merged = np.full((rows, columns), np.nan, np.float32)
    for path in paths:
        with rasterio.open(path) as file:
            part = _read_onto(file, flat, transform, rows, columns)
        merged = np.where(np.isfinite(merged), merged, part)
    return merged, transform


def _read_onto(file: Any, flat: CRS, transform: Affine, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """One tile on the merged grid: copied where the grids agree, warped where they do not."""
    aligned = (
        file.crs.is_geographic
        and abs(file.transform.a - transform.a) < 1e-12
        and abs(file.transform.e - transform.e) < 1e-12
        and _whole((file.transform.c - transform.c) / transform.a)
        and _whole((file.transform.f - transform.f) / transform.e)
    )
    if not aligned:
        with WarpedVRT(
            file,
            crs=flat,
            transform=transform,
            width=columns,
            height=rows,
            dtype="float32",
            nodata=np.nan,
            src_nodata=file.nodata,
            resampling=Resampling.bilinear,
        ) as seen:
            return np.asarray(seen.read(1))
    right, bottom = transform.c + columns * transform.a, transform.f + rows * transform.e
    window = from_bounds(transform.c, bottom, right, transform.f, file.transform).round_offsets().round_lengths()
    data = file.read(1, window=window, boundless=True, masked=True, out_dtype="float32")
    return np.asarray(np.ma.filled(data, np.nan), np.float32)[:rows, :columns]


def _whole(x: float) -> bool:
    return abs(x - round(x)) < 1e-4


def choose_geoid(geoids: Sequence[Path], datum: str) -> Path | None:
    """The grid that is named as the datum is; where several are given and none is, nobody can tell."""
    named = [path for path in geoids if any(word in path.name.lower() for word in SYNONYMS[datum])]
    if len(geoids) > 1 and not named:
        raise Refusal(
            f"The elevation is above {datum.upper()}, and of {len(geoids)} geoid grids none is named so.",
            "Give the one grid that belongs to the elevation.",
        )
    return next(iter(named or geoids), None)


def add_geoid(elevation: Elevation, geoid: Path | None) -> Elevation:
    """Orthometric to ellipsoidal heights: the geoid's height is added, h = H + N."""
    if geoid is None:
        raise Refusal(
            f"The elevation is above {elevation.datum.upper()}, and no geoid grid was given.",
            "Add the geoid's grid (a GeoTIFF or .gtx) in the role geoid, or give ellipsoidal heights.",
            "input missing",
        )
    with rasterio.open(geoid) as file:
        grid, t = file.read(1).astype(np.float64), file.transform
    rows, columns = elevation.heights_m.shape
    lat = elevation.latitude0_deg + np.arange(rows) * elevation.step_latitude_deg
    lon = elevation.longitude0_deg + np.arange(columns) * elevation.step_longitude_deg
    x = ((lon - t.c) % 360) / t.a - 0.5
    y = (lat - t.f) / t.e - 0.5
    mesh = np.stack(np.meshgrid(y, x, indexing="ij"))
    undulation = map_coordinates(grid, mesh, order=1, mode="nearest")
    if not np.all(np.abs(undulation) < 120):
        raise Refusal(f"{geoid.name} does not hold geoid heights over this area.", "Give the whole grid of the geoid.")
    heights = (elevation.heights_m + undulation).astype(np.float32)
    return Elevation(
        elevation.latitude0_deg,
        elevation.longitude0_deg,
        elevation.step_latitude_deg,
        elevation.step_longitude_deg,
        heights,
        elevation.datum,
    )
