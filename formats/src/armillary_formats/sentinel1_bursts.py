"""The bursts of a Sentinel-1 IW product: their identifiers and footprints, from the annotation."""

from dataclasses import dataclass
from math import floor
from typing import Any
from xml.etree.ElementTree import Element

from armillary_formats import footprint
from armillary_formats.refusal import Refused

# The burst identifier map (S1-TN-MDA-52-7445): the grid in time along the 175 relative orbits of 12 days.
PREAMBLE_S = 2.299849
CYCLE_S = 2.758273
ORBIT_S = 12 * 86_400 / 175
GRID = "geolocationGrid/geolocationGridPointList/geolocationGridPoint"


@dataclass(frozen=True)
class Burst:
    """One burst; the same ground has the same identifier at every pass."""

    identifier: str  # such as 110431_IW1
    footprint: footprint.Geometry


def read(annotation: Element, relative_orbit: int, name: str) -> list[Burst]:
    """The bursts of a subswath in order of time; none where its geolocation grid does not reach them."""
    swath = annotation.findtext("adsHeader/swath", "").strip()
    lines = int(_number(annotation, "swathTiming/linesPerBurst", name))
    half_s = lines / 2 * _number(annotation, "imageAnnotation/imageInformation/azimuthTimeInterval", name)
    points = [_point(point, name) for point in annotation.iterfind(GRID)]
    bursts = []
    for index, node in enumerate(annotation.iterfind("swathTiming/burstList/burst")):
        ring = _ring(points, index * lines, lines)
        number = _identifier(node, half_s, relative_orbit, name)
        if ring and number is not None:
            shape = footprint.polygon(ring, f"The footprint of burst {index + 1} in {name}")
            bursts.append(Burst(f"{number}_{swath}", shape))
    return bursts


def _identifier(burst: Element, half_s: float, relative_orbit: int, name: str) -> int | None:
    """As it is written; products before processor 3.40 do not have it, and then by its definition."""
    if written := burst.findtext("burstId", "").strip():
        if not written.isdecimal():
            raise Refused(f"burstId in {name} is {written[:40]!a}, not a whole number.")
        return int(written)
    if burst.find("azimuthAnxTime") is None:
        return None
    middle_s = _number(burst, "azimuthAnxTime", name) + half_s
    return 1 + floor((middle_s + (relative_orbit - 1) * ORBIT_S - PREAMBLE_S) / CYCLE_S)


def _ring(points: list[tuple[float, ...]], first: int, lines: int) -> list[footprint.Point]:
    """The burst's corners among the grid's points: on its first line and on the next burst's, or on its last."""
    top = [point for point in points if abs(point[0] - first) <= 1]
    bottom = [point for point in points if abs(point[0] - first - lines) <= 1]
    if len(top) < 2 or len(bottom) < 2:
        return []
    corners = (min(top, key=_pixel), max(top, key=_pixel), max(bottom, key=_pixel), min(bottom, key=_pixel))
    return [(longitude, latitude) for _, _, longitude, latitude in corners]


def _pixel(point: tuple[float, ...]) -> float:
    return point[1]


def _point(node: Element, name: str) -> tuple[float, ...]:
    """Line, pixel, longitude and latitude."""
    return tuple(_number(node, field, name) for field in ("line", "pixel", "longitude", "latitude"))


def _number(node: Element, path: str, name: str) -> float:
    text = node.findtext(path, "").strip()
    try:
        return float(text)
    except ValueError as error:
        found = f"{text[:40]!a}, not a number" if text else "missing"
        raise Refused(f"{path} in {name} is {found}.") from error


def told(bursts: list[Burst]) -> dict[str, Any]:
    """The item's properties: a list to search by, and where each one lies."""
    if not bursts:
        return {}
    return {
        "s1:burst_ids": sorted(burst.identifier for burst in bursts),
        "s1:burst_footprints": {burst.identifier: burst.footprint for burst in bursts},
    }
