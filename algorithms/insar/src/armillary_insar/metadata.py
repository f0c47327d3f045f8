"""Readers for Armillary's catalogue: partial STAC items of SLC products, orbits, calibration and elevation.

Beyond what a base reader gives: each burst's footprint and identifier, orbit validity, calibration validity and the
elevation's vertical datum.
"""

import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from armillary_insar.errors import Refusal
from armillary_insar.orbit import eof_header
from armillary_insar.safe import Burst, Product, SafeFiles, Swath, read_product


def read_slc(path: Path) -> dict[str, Any]:
    """A Sentinel-1 IW SLC product: footprint from its bursts, track, IPF, and the list of bursts."""
    if not path.is_file() and not (path / "annotation").is_dir():
        raise Refusal(f"{path.name} is not a SAFE product: it has no annotation.", "Give the .SAFE folder or its zip.")
    found = sorted(
        {
            m.group(1)
            for n in SafeFiles(path).names
            if (m := re.fullmatch(r"annotation/s1.-iw\d-slc-([vh][vh])-.*\.xml", n))
        }
    )
    if not found:
        raise Refusal(f"{path.name} has no IW SLC annotation.", "Give an IW SLC product.")
    main = next((p for p in ("vv", "hh") if p in found), found[0])
    product = read_product(path, main)
    bursts = [_told(s, b) for s in product.swaths.values() for b in s.bursts]
    ring = _outline(product)
    xs, ys = zip(*ring, strict=True)
    return {
        "id": product.name,
        "frame": "earth",
        "bbox": [min(xs), min(ys), max(xs), max(ys)],
        "geometry": {"type": "Polygon", "coordinates": [[list(p) for p in [*ring, ring[0]]]]},
        "properties": {
            "datetime": _utc(product.start),
            "start_datetime": _utc(product.start),
            "end_datetime": _utc(product.stop),
            "platform": product.mission.lower().replace("s1", "sentinel-1"),
            "constellation": "sentinel-1",
            "instruments": ["c-sar"],
            "sar:instrument_mode": "IW",
            "sar:frequency_band": "C",
            "sar:polarizations": [p.upper() for p in found],
            "sar:product_type": "SLC",
            "sat:relative_orbit": product.relative_orbit,
            "sat:absolute_orbit": product.absolute_orbit,
            "sat:orbit_state": "ascending" if product.ascending else "descending",
            "s1:ipf_version": product.ipf_version,
            "s1:bursts": bursts,
            "s1:burst_ids": sorted({b["id"] for b in bursts}),
        },
    }


def _told(swath: Swath, burst: Burst) -> dict[str, Any]:
    from armillary_insar.pairing import burst_points

    chosen = burst_points(swath, burst)
    grid = swath.grid
    lon, lat, line, pixel = (v[chosen] for v in (grid.longitude_deg, grid.latitude_deg, grid.line, grid.pixel))
    ring = []
    for at_line, at_pixel in (
        (line.min(), pixel.min()),
        (line.min(), pixel.max()),
        (line.max(), pixel.max()),
        (line.max(), pixel.min()),
    ):
        k = int(np.argmin(np.abs(line - at_line) + np.abs(pixel - at_pixel)))
        ring.append([round(float(lon[k]), 6), round(float(lat[k]), 6)])
    return {
        "id": f"{burst.identifier}_{swath.name}",
        "number": burst.identifier,
        "swath": swath.name,
        "index": burst.index + 1,
        "footprint": [*ring, ring[0]],
    }


def _outline(product: Product) -> list[tuple[float, float]]:
    """Convex hull of all bursts, as longitude and latitude."""
    from armillary_insar.process import outline

    points = [
        [(float(x), float(y)) for x, y in zip(s.grid.longitude_deg, s.grid.latitude_deg, strict=True)]
        for s in product.swaths.values()
    ]
    return outline(points)


def _utc(moment: datetime) -> str:
    return moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")


def read_orbit(path: Path) -> dict[str, Any]:
    """An orbit file: the time it is valid for; no footprint."""
    mission, kind, start, stop = eof_header(path)
    return {
        "id": path.name.removesuffix(".gz").removesuffix(".EOF"),
        "geometry": None,
        "frame": "none",
        "properties": {
            "datetime": None,
            "start_datetime": _utc(start),
            "end_datetime": _utc(stop),
            "platform": mission.lower().replace("s1", "sentinel-1"),
            "s1:orbit_type": kind,
        },
    }


def read_calibration(path: Path) -> dict[str, Any]:
    """An AUX_CAL product: when it starts to be valid, and for which satellite."""
    named = re.match(r"(S1[ABCD])_AUX_CAL_V(\d{8}T\d{6})_G(\d{8}T\d{6})", path.name)
    if not named:
        raise Refusal(f"{path.name} is not named as an AUX_CAL product.", "Keep the name that ESA gives.")
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            member = next((n for n in archive.namelist() if re.search(r"/data/s1.-aux-cal\.xml$", n)), None)
            tree = ElementTree.fromstring(archive.read(member)) if member else None  # noqa: S314
    else:
        inner = next(iter(path.glob("data/s1?-aux-cal.xml")), None)
        tree = ElementTree.parse(inner).getroot() if inner else None  # noqa: S314
    if tree is None:
        raise Refusal(f"{path.name} holds no calibration file.", "Fetch it again.")
    valid, made = (datetime.strptime(v, "%Y%m%dT%H%M%S").replace(tzinfo=UTC) for v in named.groups()[1:])
    swaths = sorted({e.text for e in tree.iter("swath") if e.text})
    return {
        "id": path.name.removesuffix(".zip").removesuffix(".SAFE"),
        "geometry": None,
        "frame": "none",
        "properties": {
            "datetime": valid.isoformat().replace("+00:00", "Z"),
            "created": made.isoformat().replace("+00:00", "Z"),
            "platform": named.group(1).lower().replace("s1", "sentinel-1"),
            "s1:swaths": swaths,
        },
    }


def read_elevation(path: Path) -> dict[str, Any]:
    """An elevation or geoid grid: footprint, step, and the datum that its heights refer to."""
    import rasterio
    from rasterio.warp import transform_bounds

    from armillary_insar.elevation import vertical_datum

    with rasterio.open(path) as file:
        if file.crs is None:
            raise Refusal(f"{path.name} has no coordinate reference system.", "Write one into the GeoTIFF.")
        west, south, east, north = (
            file.bounds if file.crs.is_geographic else transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        )
        step = abs(file.transform.a)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat().replace("+00:00", "Z")
    return {
        "id": path.stem,
        "frame": "earth",
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": made, "elevation:datum": vertical_datum(path) or "unknown", "elevation:step": step},
    }
