"""Footprints as GeoJSON (RFC 7946): closed, anticlockwise, cut at the antimeridian, through a pole inside."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, isfinite
from typing import Any

from armillary_formats.refusal import Refused

Point = tuple[float, float]
Geometry = dict[str, Any]

# A side of a grid in longitude and latitude is not the shortest way between its ends. Over half a degree the
# two stay within 30 m of each other.
STEP_DEGREES = 0.5
MOST_STEPS = 120


def polygon(corners: Sequence[Point], name: str = "The footprint") -> Geometry:
    """The polygon, or its two halves, through points of longitude and latitude in degrees.

    Longitudes may have any range; the shorter way between neighbours is meant.
    """
    ring = _unwrapped(_checked(corners, name))
    turns = round((ring[-1][0] + _shortest(ring[0][0] - ring[-1][0]) - ring[0][0]) / 360)
    if turns:
        return _geometry([_around_pole(ring)])
    ring = _anticlockwise(_centred(ring))
    if abs(_area(ring)) < 1e-12:
        raise Refused(f"{name} covers no area.")
    west, east = min(x for x, _ in ring), max(x for x, _ in ring)
    if east - west > 360 + 1e-9:
        raise Refused(f"{name} spans more than 360 degrees of longitude.")
    if east <= 180 and west >= -180:
        return _geometry([ring])
    edge = 180.0 if east > 180 else -180.0
    inside = _cut(ring, edge, keep_below=edge > 0)
    beyond = [(x - 2 * edge, y) for x, y in _cut(ring, edge, keep_below=edge < 0)]
    return _geometry([part for part in (inside, beyond) if abs(_area(part)) > 1e-12])


def box(west: float, south: float, east: float, north: float, name: str = "The footprint") -> Geometry:
    """The polygon between two meridians and two parallels; east below west means across the antimeridian."""
    if east < west:
        east += 360
    corners = [(west, south), (east, south), (east, north), (west, north)]
    return polygon(densified(corners), name)


def densified(corners: Sequence[Point]) -> list[Point]:
    """The ring with points put on its sides, which are straight in longitude and latitude."""
    if not all(isfinite(x) and isfinite(y) for x, y in corners):
        return list(corners)  # for `polygon` to refuse
    points: list[Point] = []
    for (x0, y0), (x1, y1) in pairwise([*corners, corners[0]]):
        steps = min(MOST_STEPS, max(1, ceil(abs(x1 - x0) / STEP_DEGREES)))
        points += [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(steps)]
    return points


def bbox(geometry: Geometry) -> list[float]:
    """West, south, east, north; west is greater than east across the antimeridian."""
    rings = [part[0] for part in _parts(geometry)]
    south = min(y for ring in rings for _, y in ring)
    north = max(y for ring in rings for _, y in ring)
    spans = sorted((min(x for x, _ in ring), max(x for x, _ in ring)) for ring in rings)
    if len(spans) == 2 and spans[0][0] == -180 and spans[1][1] == 180:
        return [spans[1][0], south, spans[0][1], north]
    return [spans[0][0], south, max(east for _, east in spans), north]


def _parts(geometry: Geometry) -> list[Any]:
    coordinates: list[Any] = geometry["coordinates"]
    return coordinates if geometry["type"] == "MultiPolygon" else [coordinates]


def _checked(corners: Sequence[Point], name: str) -> list[Point]:
    points: list[Point] = []
    for x, y in corners:
        if not (isfinite(x) and isfinite(y)) or abs(y) > 90 + 1e-9 or abs(x) > 720:
            raise Refused(f"{name} has a corner at longitude {x}, latitude {y}, which is not on the sphere.")
        if not points or (x, y) != points[-1]:
            points.append((x, min(90.0, max(-90.0, y))))
    if points and points[0] == points[-1]:
        points.pop()
    if len(points) < 3:
        raise Refused(f"{name} has {len(points)} different corners; it needs three.")
    return points


def _shortest(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


def _unwrapped(points: list[Point]) -> list[Point]:
    ring = [points[0]]
    for x, y in points[1:]:
        ring.append((ring[-1][0] + _shortest(x - ring[-1][0]), y))
    return ring


def _centred(ring: list[Point]) -> list[Point]:
    """The ring moved by whole turns until it lies within -180 to 180 if it can, else across one of them."""
    west = min(x for x, _ in ring)
    turns = -((west + 180) // 360)
    moved = [(x + 360 * turns, y) for x, y in ring]
    # Rounding may leave -180 as 180 of the turn before: then the ring starts at its own eastern edge.
    return [(x - 360, y) for x, y in moved] if min(x for x, _ in moved) >= 180 else moved


def _area(ring: list[Point]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise([*ring, *ring[:1]])) / 2


def _anticlockwise(ring: list[Point]) -> list[Point]:
    return ring if _area(ring) >= 0 else ring[::-1]


def _cut(ring: list[Point], edge: float, *, keep_below: bool) -> list[Point]:
    """The part of the ring on one side of a meridian (Sutherland and Hodgman, doi:10.1145/360767.360802)."""
    kept: list[Point] = []
    for (x0, y0), (x1, y1) in pairwise([*ring, ring[0]]):
        if (x0 <= edge) == keep_below or x0 == edge:
            kept.append((x0, y0))
        if (x0 - edge) * (x1 - edge) < 0:
            kept.append((edge, y0 + (y1 - y0) * (edge - x0) / (x1 - x0)))
    return kept


def _around_pole(ring: list[Point]) -> list[Point]:
    """A ring that winds once around a pole, opened at the antimeridian and closed through the pole."""
    pole = 90.0 if sum(y for _, y in ring) > 0 else -90.0
    forward = ring if ring[-1][0] > ring[0][0] else ring[::-1]
    loop = [(_shortest(x), y) for x, y in forward]
    at = min(range(len(loop)), key=lambda i: loop[i][0])
    path = loop[at:] + loop[:at]
    (x0, y0), (x1, y1) = path[0], path[-1]
    gap = x0 + 360 - x1
    y_edge = y1 + (y0 - y1) * (180 - x1) / gap if gap else y0
    return _anticlockwise([(-180.0, y_edge), *path, (180.0, y_edge), (180.0, pole), (-180.0, pole)])


def _geometry(rings: list[list[Point]]) -> Geometry:
    closed = [[_closed(ring)] for ring in rings]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def _closed(ring: list[Point]) -> list[list[float]]:
    points = [[round(x, 9), round(y, 9)] for x, y in ring]
    clean = [point for before, point in pairwise([points[-1], *points]) if point != before]
    return [*clean, clean[0]]
