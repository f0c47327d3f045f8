"""A footprint as a drawing: the polygon on a plain grid of longitude and latitude, around where it is. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 360.0, 240.0
MARGIN = 1.6  # how much wider than the footprint the map is


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
    geometry = item.get("geometry") or item["properties"].get("armillary:sky_footprint")
    rings = list(_rings(geometry)) if geometry else []
    points = [point for ring in rings for point in ring]
    if not points:
        return None
    west, east = min(x for x, _ in points), max(x for x, _ in points)
    south, north = min(y for _, y in points), max(y for _, y in points)
    span = max((east - west) * MARGIN, (north - south) * MARGIN * WIDTH / HEIGHT, 0.1)
    left, top = (west + east) / 2 - span / 2, (south + north) / 2 + span * HEIGHT / WIDTH / 2
    scale = WIDTH / span

    def place(x: float, y: float) -> str:
        return f"{(x - left) * scale:.1f},{(top - y) * scale:.1f}"

    step = _step(span)
    return Drawing(
        ["M" + " L".join(place(x, y) for x, y in ring) + " Z" for ring in rings],
        [((x - left) * scale, f"{x:g}°") for x in _ticks(left, left + span, step)],
        [((top - y) * scale, f"{y:g}°") for y in _ticks(top - span * HEIGHT / WIDTH, top, step)],
    )


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
    return next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 45, 90, 180, 360) if span / step <= 8)


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = -int(-low // step) if low % step else int(low // step)
    return [round(index * step, 6) for index in range(first, int(high // step) + 1)]
