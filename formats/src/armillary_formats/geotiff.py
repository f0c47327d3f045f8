"""GeoTIFF and cloud-optimised GeoTIFF: footprint, projection, bands and time, from the header alone."""

import re
from math import hypot
from pathlib import Path
from typing import Any

from armillary_formats import footprint, tiff, times
from armillary_formats.refusal import Refused, brief

STEPS = 20
LIKE_WGS84 = (4326, 4979, 4258, 4269)  # WGS 84, ETRS89 and NAD83 agree within two metres
DAY_IN_NAME = r"(?<!\d)((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])"
TIME_IN_NAME = r"(?:T?([01]\d|2[0-3]):?([0-5]\d):?([0-5]\d))?(?!\d)"
DATE_IN_NAME = re.compile(DAY_IN_NAME + TIME_IN_NAME, re.IGNORECASE)
TIME_TAGS = ("ACQUISITION_DATETIME", "ACQUISITIONDATETIME", "TIFFTAG_DATETIME")


def read(path: Path) -> dict[str, Any]:
    """The STAC item of a raster; without a geographic reference its frame is none."""
    if path.stat().st_size == 0:
        raise Refused(f"{path.name} is empty.")
    with path.open("rb") as stream:
        tiff.check(stream, path.stat().st_size, path.name)
    import rasterio

    try:
        # Files beside the raster are other granules' business, so GDAL does not look for them.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), quiet(), rasterio.open(path) as raster:
            geometry = _footprint(raster, path.name)
            properties = {**_time(raster, path.name), **_projection(raster), **_raster(raster)}
            is_cog = raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    except Refused:
        raise
    except (rasterio.errors.RasterioError, ValueError, OverflowError) as error:  # texts that are no UTF-8, sizes
        raise Refused(f"{path.name} is not a GeoTIFF that can be read: {brief(error)}.") from error
    profile = "; profile=cloud-optimized" if is_cog else ""
    return {
        "geometry": geometry,
        **({"bbox": footprint.bbox(geometry)} if geometry else {}),
        "frame": "earth" if geometry else "none",
        "properties": properties,
        "assets": {path.name: {"roles": ["data"], "type": f"image/tiff; application=geotiff{profile}"}},
    }


def quiet() -> Any:
    """A raster without a geographic reference is an answer, not a warning."""
    import warnings

    return warnings.catch_warnings(action="ignore")


def _footprint(raster: Any, name: str) -> footprint.Geometry | None:
    crs, transform = raster.crs, raster.transform
    if crs is None and raster.gcps[0]:
        return _footprint_of_points(raster.gcps[0], raster.gcps[1], name)
    if crs is None or transform.is_identity or not (crs.is_geographic or crs.is_projected):
        return None
    steps = STEPS if crs.is_projected else 1
    width, height = raster.width, raster.height
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    cells = [
        (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps)
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
        for i in range(steps)
    ]
    a, b, c, d, e, f = list(transform)[:6]
    points = [(a * column + b * row + c, d * column + e * row + f) for column, row in cells]
    if crs.is_geographic and crs.to_epsg() in LIKE_WGS84:
        within = _within_poles(points, hypot(d, e) / 2, name)
        return footprint.polygon(footprint.densified(within), f"The footprint of {name}")
    return footprint.polygon(_to_longitude_latitude(crs, points, name), f"The footprint of {name}")


def _within_poles(points: list[footprint.Point], margin: float, name: str) -> list[footprint.Point]:
    """Grids whose cells are centred on a pole reach half a cell beyond it."""
    if any(abs(y) > 90 + margin * 1.001 for _, y in points):
        raise Refused(f"{name} reaches to latitude {max((y for _, y in points), key=abs):g}, beyond a pole.")
    return [(x, min(90.0, max(-90.0, y))) for x, y in points]


def _to_longitude_latitude(crs: Any, points: list[footprint.Point], name: str) -> list[footprint.Point]:
    from rasterio import warp
    from rasterio.errors import CRSError, RasterioError

    try:
        longitudes, latitudes = warp.transform(crs, "EPSG:4326", *zip(*points, strict=True))[:2]
    except (CRSError, RasterioError, ValueError) as error:
        raise Refused(f"The projection of {name} cannot be turned into longitudes: {brief(error)}.") from error
    return list(zip(longitudes, latitudes, strict=True))


def _footprint_of_points(points: list[Any], crs: Any, name: str) -> footprint.Geometry | None:
    """The four outermost ground control points by their place in the image: radar images carry a grid."""
    if crs is None or len(points) < 4:
        return None
    along = sorted(points, key=lambda point: point.row + point.col)
    across = sorted(points, key=lambda point: point.row - point.col)
    corners = [(point.x, point.y) for point in (along[0], across[-1], along[-1], across[0])]
    return footprint.polygon(_to_longitude_latitude(crs, corners, name), f"The footprint of {name}")


def _time(raster: Any, name: str) -> dict[str, Any]:
    """From the file's tags, else from a date in its name, else none, and then the item says so."""
    tags = {key.upper(): value for key, value in (raster.tags() | raster.tags(ns="IMAGERY")).items()}
    for tag in TIME_TAGS:
        if text := tags.get(tag, "").strip():
            # TIFF 6.0 writes its date with colons: "2023:09:04 06:37:30".
            return {"datetime": times.utc(re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text), f"{tag} of {name}")}
    if match := DATE_IN_NAME.search(name):
        year, month, day, hour, minute, second = match.groups(default="00")
        return {"datetime": times.utc(f"{year}-{month}-{day}T{hour}:{minute}:{second}", f"the date in {name}")}
    return {"datetime": None}


def _projection(raster: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"proj:shape": [raster.height, raster.width]}
    if raster.crs is not None:
        epsg = raster.crs.to_epsg()
        fields |= {"proj:code": f"EPSG:{epsg}"} if epsg else {"proj:wkt2": raster.crs.to_wkt(version="WKT2_2019")}
    if not raster.transform.is_identity:
        fields |= {"proj:transform": list(raster.transform)[:6], "proj:bbox": list(raster.bounds)}
    return fields


def _raster(raster: Any) -> dict[str, Any]:
    bands = [
        {
            "name": raster.descriptions[i] or f"band {i + 1}",
            "data_type": raster.dtypes[i],
            **_nodata(raster.nodatavals[i]),
            **({"unit": raster.units[i]} if raster.units[i] else {}),
        }
        for i in range(raster.count)
    ]
    return {"bands": bands}


def _nodata(value: float | None) -> dict[str, Any]:
    if value is None:
        return {}
    return {"nodata": "nan" if value != value else value}
