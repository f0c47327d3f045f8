"""A footprint as a drawing: the polygon on a plain grid of longitude and latitude, around where it is. Pure.

The sky is seen from inside: right ascension grows to the left.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

STEPS_DEGREES = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1, 2, 5, 10, 20, 45, 90, 180, 360),
)

WIDTH, HEIGHT = 360.0, 240.0
MARGIN = 1.6  # how much wider than the footprint the map is
LEAST_SPAN_DEG = 0.001  # 3.6 arcseconds, or 100 m


@dataclass(frozen=True)
class Drawing:
    """What the page puts into an SVG: paths in its coordinates, and labelled grid lines."""

    paths: list[str]
    meridians: list[tuple[float, str]]
    parallels: list[tuple[float, str]]
    width: float = WIDTH
    height: float = HEIGHT


def drawing(item: dict[str, Any]) -> Drawing | None:
    """The drawing of a STAC item's footprint; None where it has none on Earth or in the sky."""
    is_sky = item["properties"].get("armillary:frame") == "sky"
    geometry = item.get("geometry") or item["properties"].get("armillary:sky_geometry")
    rings = list(_rings(geometry)) if geometry else []
    rings = [_across_zero(ring, rings[0][0][0]) for ring in rings] if is_sky else rings
    points = [point for ring in rings for point in ring]
    if not points:
        return None
    west, east = min(x for x, _ in points), max(x for x, _ in points)
    south, north = min(y for _, y in points), max(y for _, y in points)
    span = max((east - west) * MARGIN, (north - south) * MARGIN * WIDTH / HEIGHT, LEAST_SPAN_DEG)
    left, top = (west + east) / 2 - span / 2, (south + north) / 2 + span * HEIGHT / WIDTH / 2
    scale = WIDTH / span

    def across(x: float) -> float:
        return WIDTH - (x - left) * scale if is_sky else (x - left) * scale

    step = _step(span)
    return Drawing(
        ["M" + " L".join(f"{across(x):.1f},{(top - y) * scale:.1f}" for x, y in ring) + " Z" for ring in rings],
        [(across(x), f"{round(x % 360, 6) if is_sky else x:.10g}°") for x in _ticks(left, left + span, step)],
        [((top - y) * scale, f"{y:.10g}°") for y in _ticks(top - span * HEIGHT / WIDTH, top, step)],
    )


def _across_zero(ring: list[tuple[float, float]], near: float) -> list[tuple[float, float]]:
    """Right ascensions within half a turn of one of them, so that a field at 0h is not as wide as the sky."""
    return [(near + (x - near + 180) % 360 - 180, y) for x, y in ring]


def _rings(geometry: dict[str, Any]) -> Iterator[list[tuple[float, float]]]:
    match geometry["type"]:
        case "Polygon":
            yield from ([(x, y) for x, y, *_ in ring] for ring in geometry["coordinates"])
        case "MultiPolygon":
            yield from ([(x, y) for x, y, *_ in ring] for part in geometry["coordinates"] for ring in part)
        case "LineString":
            yield [(x, y) for x, y, *_ in geometry["coordinates"]]
        case "Point":
            x, y, *_ = geometry["coordinates"]
            yield [(x - 0.01, y), (x, y + 0.01), (x + 0.01, y), (x, y - 0.01)]
        case "GeometryCollection":
            for member in geometry["geometries"]:
                yield from _rings(member)


def _step(span: float) -> float:
    return next(step for step in STEPS_DEGREES if span / step <= 8)


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = -int(-low // step) if low % step else int(low // step)
    return [round(index * step, 6) for index in range(first, int(high // step) + 1)]
