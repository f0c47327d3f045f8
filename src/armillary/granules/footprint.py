"""Where a granule lies on the sphere of Earth or sky: checked, indexed by HEALPix cells, decided exactly.

Edges on Earth are straight in longitude and latitude (RFC 7946, section 3.1.1); those in the sky are great circles.
A bounding box has sides along meridians and parallels in both. Shapes are closed: those that share one point of
their boundaries intersect. numpy, spherely, shapely and healpix-geo are imported at the first use, as a server's
start must not wait for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

from armillary.base.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Frame = Literal["earth", "sky", "none"]
Geometry = dict[str, Any]
Position = tuple[float, float]
Path = list[Position]

TOUCH_METERS = 0.001
TOLERANCE_METERS = 10.0
COVER_SLACK = 1e-4  # what may stay uncovered: sloping edges that two shapes share agree within TOLERANCE_METERS
MAX_VERTICES = 20_000
INDEX_CELLS = 8
QUERY_CELLS = 48
TABLED = 5  # the centres of the cells down to this depth are kept
DEEPEST = 12  # cells of 51.5 arc seconds, 1.6 km on Earth

_EARTH_RADIUS_METERS = 6_371_010.0  # the one of spherely
_FRAME_BITS = {"earth": 1 << 58, "sky": 2 << 58}
_COVERING = 1 << 57
_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_SINGLE = {"MultiPoint": "Point", "MultiLineString": "LineString", "MultiPolygon": "Polygon"}


# Check ---------------------------------------------------------------------------------------------------------------


def check(geometry: object, frame: Frame, field: str = "geometry") -> Geometry | None:
    """The GeoJSON geometry in the one form that is stored; `UsageError` names what is wrong with it and where.

    Heights are dropped. On Earth longitudes end in -180..180, cut at the antimeridian, and shells run anticlockwise;
    right ascensions end in 0..360.
    """
    if frame == "none":
        if geometry is not None:
            raise UsageError(
                f"{field} is given for a granule without a place.", "Leave it out or set the frame.", field=field
            )
        return None
    parts = [_normal(kind, coordinates, frame, where) for kind, coordinates, where in _parts(geometry, field)]
    normal = _joined([part for some in parts for part in some])
    shape(normal, frame, field)
    return normal


def _parts(geometry: object, field: str) -> Iterator[tuple[str, Any, str]]:
    """The points, lines and polygons of a GeoJSON geometry, with positions checked."""
    if not isinstance(geometry, dict):
        raise UsageError(
            f"{field} is not a GeoJSON geometry.", "Give an object with type and coordinates.", field=field
        )
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        members = geometry.get("geometries")
        if not isinstance(members, list) or not members:
            raise UsageError(
                f"{field}.geometries is empty.", "List at least one geometry.", field=f"{field}.geometries"
            )
        for number, member in enumerate(members):
            if isinstance(member, dict) and member.get("type") == "GeometryCollection":
                raise UsageError(f"{field} nests collections.", "List the geometries side by side.", field=field)
            yield from _parts(member, f"{field}.geometries[{number}]")
        return
    if not isinstance(kind, str) or kind not in _DEPTHS:
        known = ", ".join(_DEPTHS)
        raise UsageError(
            f"{field}.type is {kind!r}.", f"GeoJSON knows {known} and GeometryCollection.", field=f"{field}.type"
        )
    where = f"{field}.coordinates"
    coordinates = _positions(geometry.get("coordinates"), _DEPTHS[kind], where)
    if _vertices(coordinates) > MAX_VERTICES:
        raise UsageError(f"{field} has more than {MAX_VERTICES} vertices.", "Simplify it.", field=where)
    if kind in _SINGLE:
        for number, part in enumerate(coordinates):
            yield _SINGLE[kind], part, f"{where}[{number}]"
    else:
        yield kind, coordinates, where


def _positions(value: object, depth: int, field: str) -> Any:
    """Nested lists of positions with `depth` levels of lists around them."""
    if depth == 0:
        return _position(value, field)
    if not isinstance(value, list | tuple) or not value:
        raise UsageError(f"{field} is not a list with something in it.", "See RFC 7946, section 3.1.", field=field)
    return [_positions(member, depth - 1, f"{field}[{number}]") for number, member in enumerate(value)]


def _position(value: object, field: str) -> Position:
    numbers = list(value) if isinstance(value, list | tuple) else []
    if len(numbers) not in (2, 3) or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise UsageError(f"{field} is not a position.", "A position is [longitude, latitude] in degrees.", field=field)
    if not all(math.isfinite(number) for number in numbers):
        raise UsageError(f"{field} holds a number that is not finite.", "Give degrees.", field=field)
    x, y = float(numbers[0]), float(numbers[1])
    if abs(y) > 90:
        remedy = "Positions are longitude first, then latitude." if abs(x) <= 90 else "Latitudes lie within -90 and 90."
        raise UsageError(f"{field} has the latitude {y}, which is not on the sphere.", remedy, field=field)
    if abs(x) > 540:
        raise UsageError(
            f"{field} has the longitude {x}.", "Longitudes lie within -180 and 180 or 0 and 360.", field=field
        )
    return x, y


def _vertices(coordinates: Any) -> int:
    return 1 if isinstance(coordinates, tuple) else sum(map(_vertices, coordinates))


def _normal(kind: str, coordinates: Any, frame: Frame, field: str) -> list[tuple[str, Any]]:
    """One point, line or polygon as the parts that are stored for it."""
    low = -180.0 if frame == "earth" else 0.0
    if kind == "Point":
        return [(kind, _wrapped(coordinates, low))]
    paths = [coordinates] if kind == "LineString" else coordinates
    for number, path in enumerate(paths):
        _check_path(path, kind, frame, field if kind == "LineString" else f"{field}[{number}]")
    if frame == "earth":
        return _cut_at_antimeridian(kind, coordinates, field)
    wrapped = [_without_repeats([_wrapped(position, low) for position in path]) for path in paths]
    return [(kind, wrapped if kind == "Polygon" else wrapped[0])]


def _wrapped(position: Position, low: float) -> Position:
    x, y = position
    return (x if low <= x <= low + 360 else (x - low) % 360 + low), y


def _check_path(path: Path, kind: str, frame: Frame, field: str) -> None:
    distinct = len(set(path))
    if kind == "Polygon" and (len(path) < 4 or distinct < 3):
        raise UsageError(
            f"{field} has {distinct} different corners.", "A ring needs three, and the first again.", field=field
        )
    if kind == "Polygon" and path[0] != path[-1]:
        raise UsageError(f"{field} is not closed.", "Repeat the first position of a ring at its end.", field=field)
    if kind == "LineString" and distinct < 2:
        raise UsageError(f"{field} has no length.", "Give two different positions or a Point.", field=field)
    for number, (start, end) in enumerate(pairwise(path)):
        _check_edge(start, end, frame, f"{field}[{number + 1}]")


def _check_edge(start: Position, end: Position, frame: Frame, field: str) -> None:
    if frame == "sky":
        if sum(a * b for a, b in zip(_unit(start), _unit(end), strict=True)) < -1 + 1e-9:
            raise UsageError(
                f"{field} lies opposite to the position before it.", "Add a position on the way.", field=field
            )
        return
    wide = abs(end[0] - start[0])
    # From -180 to 180 is a whole parallel; anything else above half a turn is nearly always a forgotten antimeridian.
    if wide > 180 and wide != 360:
        raise UsageError(
            f"{field} is {wide:g} degrees of longitude from the position before it.",
            "For the short way across the antimeridian cut the geometry there or count on beyond 180;"
            " for the long way add positions between.",
            field=field,
        )


def _cut_at_antimeridian(kind: str, coordinates: Any, field: str) -> list[tuple[str, Any]]:
    """Parts within -180..180, valid in the plane."""
    import shapely

    plane = shapely.Polygon(coordinates[0], coordinates[1:]) if kind == "Polygon" else shapely.LineString(coordinates)
    if kind == "Polygon" and not plane.is_valid:
        reason = shapely.is_valid_reason(plane)
        raise UsageError(
            f"{field} crosses or touches itself: {reason}.", "Make its rings simple, holes inside.", field=field
        )
    west, _, east, _ = plane.bounds
    if east - west > 360:
        raise UsageError(
            f"{field} spans more than 360 degrees of longitude.", "Leave out what it covers twice.", field=field
        )
    if west >= -180 and east <= 180:
        return [_coordinates(plane)]
    turn = math.floor((west + 180) / 360) * 360
    cuts = [
        (turn, shapely.box(turn - 180, -90, turn + 180, 90)),
        (turn + 360, shapely.box(turn + 180, -90, turn + 540, 90)),
    ]
    parts = [
        shapely.transform(part, lambda at, turn=turn: at - [turn, 0])
        for turn, window in cuts
        for part in _members(shapely.intersection(plane, window))
        if part.geom_type == kind
    ]
    return [_coordinates(part) for part in parts]


def _members(plane: Any) -> list[Any]:
    return [part for part in getattr(plane, "geoms", [plane]) if not part.is_empty]


def _coordinates(plane: Any) -> tuple[str, Any]:
    import shapely

    if plane.geom_type == "LineString":
        return "LineString", _without_repeats(list(plane.coords))
    whole = shapely.orient_polygons(plane)
    return "Polygon", [_without_repeats(list(ring.coords)) for ring in (whole.exterior, *whole.interiors)]


def _without_repeats(path: Sequence[Position]) -> Path:
    return [path[0], *(end for start, end in pairwise(path) if end != start)]


def _joined(parts: list[tuple[str, Any]]) -> Geometry:
    """One GeoJSON geometry: a single, a Multi, or a collection."""
    kinds = {kind for kind, _ in parts}
    if len(parts) == 1:
        return {"type": parts[0][0], "coordinates": _lists(parts[0][1])}
    if len(kinds) == 1:
        return {"type": f"Multi{parts[0][0]}", "coordinates": [_lists(part) for _, part in parts]}
    return {"type": "GeometryCollection", "geometries": [_joined([part]) for part in parts]}


def _lists(coordinates: Any) -> Any:
    return list(coordinates) if isinstance(coordinates, tuple) else [_lists(part) for part in coordinates]


# Shapes --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A geometry on the sphere: points, lines and polygons that are each smaller than a hemisphere."""

    frame: Frame
    points: tuple[Position, ...] = ()
    lines: tuple[Path, ...] = ()
    polygons: tuple[list[Path], ...] = field(default=())  # great circles between their positions, not closed

    @cached_property
    def geographies(self) -> NDArray[np.object_]:
        """Every part as spherely has it."""
        import numpy as np
        import spherely

        made = [spherely.create_point(*point) for point in self.points]
        made += [spherely.create_linestring(line) for line in self.lines]
        made += [spherely.create_polygon(rings[0], rings[1:] or None) for rings in self.polygons]
        parts = np.empty(len(made), dtype=object)
        parts[:] = made
        spherely.prepare(parts)
        return parts

    @cached_property
    def cap(self) -> tuple[NDArray[np.float64], float]:
        """The middle of a circle around all parts, as a unit vector, and its radius in radians."""
        import numpy as np

        starts = self.edges[0]
        middle = starts.mean(axis=0)
        size = np.linalg.norm(middle)
        if size < 0.1:
            return starts[0], math.pi
        middle = middle / size
        # A circle smaller than a hemisphere holds, with all corners, the great circles between them and what is inside.
        chord = float(np.linalg.norm(starts - middle, axis=1).max())
        ends = float(np.linalg.norm(self.edges[1] - middle, axis=1).max())
        extent = 2 * math.asin(min(1.0, max(chord, ends) / 2)) + 1e-9
        return middle, (extent if extent < 1.5 else math.pi)

    @cached_property
    def edges(self) -> tuple[NDArray[np.float64], ...]:
        """Of every edge: start, end, unit normal, and two vectors on whose sides all lies that is beside the edge."""
        import numpy as np

        paths = [[point, point] for point in self.points] + list(self.lines)
        paths += [[*ring, ring[0]] for rings in self.polygons for ring in rings]
        units = [_units(np.asarray(path, dtype=float)) for path in paths]
        starts = np.concatenate([unit[:-1] for unit in units])
        ends = np.concatenate([unit[1:] for unit in units])
        normals = np.cross(starts, ends)
        sizes = np.linalg.norm(normals, axis=1, keepdims=True)
        # Without a normal only the ends count: such an edge is shorter than a micrometre.
        normals = np.where(sizes > 1e-13, normals / np.maximum(sizes, 1e-13), 2.0)
        return starts, ends, normals, np.cross(normals, starts), np.cross(ends, normals)

    @property
    def areas(self) -> NDArray[np.object_]:
        """The polygons among the parts."""
        return self.geographies[len(self.points) + len(self.lines) :]

    @cached_property
    def area_square_meters(self) -> float:
        """The area of its polygons on a sphere of Earth's size."""
        import spherely

        return float(sum(spherely.area(part) for part in self.areas))


def shape(place: Geometry | Sequence[float], frame: Frame, field: str = "geometry") -> Shape:
    """The shape of a geometry that `check` has passed, or of a bounding box of four or six numbers."""
    import spherely

    for tolerance in (TOLERANCE_METERS, TOLERANCE_METERS / 30, TOLERANCE_METERS / 1000):
        try:
            made = _shape(place, frame, tolerance) if isinstance(place, dict) else _box(place, frame, tolerance)
            if all(spherely.area(part) > 1e-6 for part in made.areas):
                return made
            reason: Exception = ValueError("it covers no area")
        except (ValueError, RuntimeError) as error:
            # Maybe the approximated sides of a sliver cross each other: approximate them better.
            reason = error
    remedy = "Make its rings simple, holes inside, and no thinner than a millimetre."
    raise UsageError(f"{field} crosses or touches itself: {reason}.", remedy, field=field) from reason


def _shape(geometry: Geometry, frame: Frame, tolerance: float) -> Shape:
    points: list[Position] = []
    lines: list[Path] = []
    polygons: list[list[Path]] = []
    for kind, part in _single_parts(geometry):
        if kind == "Point":
            points.append((part[0], part[1]))
        elif frame == "sky":
            paths = [_distinct([(x, y) for x, y in path]) for path in (part if kind == "Polygon" else [part])]
            polygons += [[path[:-1] for path in paths]] if kind == "Polygon" else []
            lines += paths if kind == "LineString" else []
        elif kind == "LineString":
            lines.append(_distinct(_bent(part, tolerance)))
        else:
            polygons += [[_ring(ring, tolerance) for ring in piece] for piece in _sliced(part)]
    if any(len(ring) < 3 for rings in polygons for ring in rings) or any(len(line) < 2 for line in lines):
        raise ValueError("a ring or a line is one place")
    return Shape(frame, tuple(points), tuple(lines), tuple(polygons))


def _single_parts(geometry: Geometry) -> Iterator[tuple[str, Any]]:
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for member in geometry["geometries"]:
            yield from _single_parts(member)
    elif kind in _SINGLE:
        for part in geometry["coordinates"]:
            yield _SINGLE[kind], part
    else:
        yield kind, geometry["coordinates"]


def _sliced(rings: list[Path]) -> list[list[Path]]:
    """A polygon in the plane as pieces at most 120 degrees wide: then none reaches a hemisphere or meets itself."""
    west, east = min(x for x, _ in rings[0]), max(x for x, _ in rings[0])
    if east - west <= 120:
        return [rings]
    import shapely

    plane = shapely.Polygon(rings[0], rings[1:])
    windows = [shapely.box(x, -90, x + 90, 90) for x in (-180, -90, 0, 90)]
    pieces = [piece for window in windows for piece in _members(shapely.intersection(plane, window))]
    return [_coordinates(piece)[1] for piece in pieces if piece.geom_type == "Polygon"]


def _ring(ring: Path, tolerance: float) -> Path:
    path = _distinct(_bent(ring, tolerance))
    return path[:-1] if path[0] == path[-1] else path


def _bent(path: Sequence[Sequence[float]], tolerance: float) -> Path:
    """The path with positions put on its edges until great circles between them stay within `tolerance`."""
    bent = [(path[0][0], path[0][1])]
    for (x0, y0), (x1, y1) in pairwise(path):
        if y0 == y1 and abs(y0) < 90:
            bent += _on_parallel(x0, x1, y0, tolerance)
        else:
            steps = _steps(x1 - x0, y1 - y0, tolerance)
            bent += [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(1, steps)]
        bent.append((x1, y1))
    return bent


def _steps(dx: float, dy: float, tolerance: float) -> int:
    """How many great circles follow a straight line in longitude and latitude.

    A parallel's arc of `a` radians leaves its great circle by at most a²·sin(2·latitude)/16; climbing by `b` radians
    on the way adds at most a·b·sin(latitude)/4.
    """
    a, b = math.radians(abs(dx)), math.radians(abs(dy))
    by_tolerance = math.sqrt((a * a / 16 + a * b / 4) / (tolerance / _EARTH_RADIUS_METERS))
    return max(1, math.ceil(by_tolerance), math.ceil(b))  # a meridian from pole to pole is many great circles


def _on_parallel(x0: float, x1: float, y: float, tolerance: float) -> Path:
    # At multiples of one step, so that two shapes that share a parallel share its approximation.
    step = 0.25 * math.sqrt(tolerance / TOLERANCE_METERS)
    first, last = math.floor(min(x0, x1) / step) + 1, math.ceil(max(x0, x1) / step) - 1
    between = [(i * step, y) for i in range(first, last + 1)]
    return between if x0 < x1 else between[::-1]


def _distinct(path: Path) -> Path:
    """Without steps that go nowhere on the sphere: every longitude of a pole is one position."""
    rounded = [(round(x, 12), round(y, 12)) for x, y in path]  # a tenth of a micrometre
    return _without_repeats([(0.0, y) if abs(y) == 90 else (x if x != -180 else 180.0, y) for x, y in rounded])


def _box(box: Sequence[float], frame: Frame, tolerance: float) -> Shape:
    west, south, east, north = check_bbox(box)
    width = east - west if east >= west else east - west + 360
    slices = max(1, math.ceil(width / 90))
    edges = [west + width * number / slices for number in range(slices + 1)]
    if width < 1e-9 and north - south < 1e-9:
        return Shape(frame, points=((west, south),))
    if width < 1e-9 or north - south < 1e-9:
        lines = [_distinct(_bent([(a, south), (b, north)], tolerance)) for a, b in pairwise(edges)]
        lines = [line for line in lines if len(line) > 1]
        return Shape(frame, lines=tuple(lines)) if lines else Shape(frame, points=((west, south),))
    rings = [[(a, south), (b, south), (b, north), (a, north), (a, south)] for a, b in pairwise(edges)]
    return Shape(frame, polygons=tuple([_ring(ring, tolerance)] for ring in rings))


def check_bbox(box: object, field: str = "bbox") -> tuple[float, float, float, float]:
    """West, south, east and north of a box with or without heights; west above east means across the antimeridian."""
    numbers = list(box) if isinstance(box, list | tuple) else []
    good = len(numbers) in (4, 6) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if not good or not all(math.isfinite(n) for n in numbers):
        raise UsageError(f"{field} is not four or six numbers.", "Give west,south,east,north in degrees.", field=field)
    half = len(numbers) // 2
    if half == 3 and numbers[2] > numbers[5]:
        raise UsageError(
            f"{field} has its lower height above its upper one.", "Give the lower corner first.", field=field
        )
    west, south, east, north = (float(n) for n in (*numbers[:2], *numbers[half : half + 2]))
    if not -90 <= south <= north <= 90:
        remedy = "South comes before north, both within -90 and 90."
        raise UsageError(f"{field} has latitudes {south:g} and {north:g}.", remedy, field=field)
    if not (-180 <= west <= 360 and -180 <= east <= 360) or abs(east - west) > 360:
        remedy = "Longitudes lie within -180 and 180 or 0 and 360."
        raise UsageError(f"{field} has longitudes {west:g} and {east:g}.", remedy, field=field)
    return west, south, east, north


# Relations -----------------------------------------------------------------------------------------------------------


def intersects(a: Shape, b: Shape) -> bool:
    """Whether they have a point in common; a touch is enough, and a millimetre is a touch."""
    import spherely

    if a.frame != b.frame:
        return False
    few, many = sorted((a.geographies, b.geographies), key=len)
    return any((spherely.distance(part, many) <= TOUCH_METERS).any() for part in few)


def covers(union_of: Iterable[Shape], target: Shape) -> bool:
    """Whether the shapes together leave less than a ten-thousandth of the target (or a millimetre of a line) bare."""
    import spherely

    shapes = [one for one in union_of if one.frame == target.frame and intersects(one, target)]
    if not shapes:
        return False
    points = target.geographies[: len(target.points)]
    everything = [part for one in shapes for part in one.geographies]
    if not all(any(spherely.distance(part, point) <= TOUCH_METERS for part in everything) for point in points):
        return False
    lines = list(target.geographies[len(target.points) : len(target.points) + len(target.lines)])
    areas = [part for one in shapes for part in one.areas]
    others = [part for one in shapes for part in one.geographies[len(one.points) : len(one.points) + len(one.lines)]]
    left = sum(spherely.length(_minus(_minus(line, areas), others)) for line in lines)
    if left > TOUCH_METERS + COVER_SLACK * sum(spherely.length(line) for line in lines):
        return False
    bare = sum(spherely.area(_minus(part, areas)) for part in target.areas)
    return float(bare) <= COVER_SLACK * target.area_square_meters


def _minus(part: Any, others: list[Any]) -> Any:
    import spherely

    return reduce(spherely.difference, others, part)


def overlap_fraction(a: Shape, *, of: Shape) -> float:
    """Which part of `of` lies in `a`, 0 to 1: by area, of a line by length, of points by number."""
    import spherely

    if a.frame != of.frame or not intersects(a, of):
        return 0.0
    areas = _union(a.areas)
    if of.polygons:
        shared = sum(spherely.area(spherely.intersection(areas, part)) for part in of.areas) if areas is not None else 0
        return min(1.0, float(shared) / of.area_square_meters)
    if of.lines:
        lines = of.geographies[len(of.points) :]
        others = list(a.geographies[len(a.points) :])
        whole: float = sum(spherely.length(line) for line in lines)
        left: float = sum(spherely.length(_minus(line, others)) for line in lines)
        return max(0.0, 1 - left / whole)
    inside = [any(spherely.distance(part, point) <= TOUCH_METERS for part in a.geographies) for point in of.geographies]
    return sum(inside) / len(inside)


def _union(parts: NDArray[np.object_]) -> Any:
    import spherely

    return reduce(spherely.union, parts) if len(parts) else None


def bbox(geometry: Geometry, frame: Frame = "earth") -> list[float]:
    """West, south, east, north of a geometry that `check` has passed; west above east across its seam."""
    import spherely

    low = -180.0 if frame == "earth" else 0.0
    paths = [
        [part] if kind == "Point" else part[0] if kind == "Polygon" else part for kind, part in _single_parts(geometry)
    ]
    ys = [y for path in paths for _, y in path]
    if frame == "earth":
        west, east = _least_arc([(min(x for x, _ in path), max(x for x, _ in path)) for path in paths], low)
        return [west, min(ys), east, max(ys)]
    ys += [y for path in paths for start, end in pairwise(path) for y in _apex(start, end)]
    made = shape(geometry, frame)
    poles = [
        y
        for y in (-90.0, 90.0)
        if spherely.distance(spherely.create_point(0, y), made.geographies).min() <= TOUCH_METERS
    ]
    if poles:
        return [low, min(ys + poles), low + 360, max(ys + poles)]
    steps = [_short_way(start[0], end[0]) for path in paths for start, end in pairwise(path)]
    west, east = _least_arc(steps + [(path[0][0], path[0][0]) for path in paths], low)
    return [west, min(ys), east, max(ys)]


def _short_way(x0: float, x1: float) -> tuple[float, float]:
    """The meridians that a great circle passes, west first, the second maybe beyond the seam."""
    dx = (x1 - x0 + 180) % 360 - 180
    return (x0, x0 + dx) if dx >= 0 else (x0 + dx, x0)


def _least_arc(spans: list[tuple[float, float]], low: float) -> tuple[float, float]:
    """West and east of the shortest arc of longitude that holds every span."""
    turned = sorted(((west - low) % 360, east - west) for west, east in spans)
    merged: list[list[float]] = []
    for start, width in turned:
        if merged and start <= merged[-1][1] + 1e-9:
            merged[-1][1] = max(merged[-1][1], start + width)
        else:
            merged.append([start, start + width])
    # What runs beyond the seam swallows the spans that begin there.
    while len(merged) > 1 and merged[-1][1] - 360 >= merged[0][0] - 1e-9:
        merged[-1][1] = max(merged[-1][1], merged.pop(0)[1] + 360)
    if merged[0][1] - merged[0][0] >= 360:
        return low, low + 360
    gaps = [(after[0] - before[1]) for before, after in pairwise([*merged, [merged[0][0] + 360, 0]])]
    at = max(range(len(gaps)), key=lambda i: gaps[i])
    west, east = merged[(at + 1) % len(merged)][0] + low, merged[at][1] + low
    return round(west, 9), round(east if east <= low + 360 else east - 360, 9)


def _apex(start: Sequence[float], end: Sequence[float]) -> list[float]:
    """The latitude where a great circle between two positions is farthest north or south, if that is between them."""
    a, b = _unit(start), _unit(end)
    n = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    size = math.hypot(*n)
    if size < 1e-12 or math.hypot(n[0], n[1]) < 1e-12:
        return []
    top = math.degrees(math.acos(min(1.0, abs(n[2]) / size)))
    # Going north at the one end and south at the other: the farthest point is between them.
    rises = [n[0] * p[1] - n[1] * p[0] for p in (a, b)]
    if rises[0] * rises[1] >= 0:
        return []
    return [top if rises[0] > 0 else -top]


def _unit(position: Sequence[float]) -> tuple[float, float, float]:
    x, y = math.radians(position[0]), math.radians(position[1])
    return math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)


# Index ---------------------------------------------------------------------------------------------------------------


def cells(place: Geometry | Sequence[float] | Shape | None, frame: Frame) -> list[int]:
    """The terms that a footprint is indexed by: the cells that cover it, and these with all that they lie in.

    Two shapes that intersect have cells of which one lies in the other. So a query finds a footprint when its own
    cell is among the footprint's `inside` terms or lies in one of the footprint's `covering` cells; the two kinds
    differ in a bit, and the frame in another (the scheme of S2RegionTermIndexer on HEALPix, doi:10.1086/427976).
    """
    if frame == "none" or place is None:
        return []
    covering = _covering(_as_shape(place, frame), INDEX_CELLS)
    bits = _FRAME_BITS[frame]
    inside = {bits | cell for one in covering for cell in (one, *_ancestors(one))}
    return sorted(inside | {bits | _COVERING | cell for cell in covering})


def query_terms(place: Geometry | Sequence[float] | Shape, frame: Frame) -> list[int]:
    """The terms of which a footprint has at least one if it intersects the place; exactness is `intersects`' work."""
    covering = _covering(_as_shape(place, frame), QUERY_CELLS)
    bits = _FRAME_BITS[frame]
    around = {bits | _COVERING | cell for one in covering for cell in _ancestors(one)}
    return sorted(around | {bits | cell for cell in covering})


def _as_shape(place: Geometry | Sequence[float] | Shape, frame: Frame) -> Shape:
    return place if isinstance(place, Shape) else shape(place, frame)


def _ancestors(cell: int) -> Iterator[int]:
    # NUNIQ numbers, 4·4^depth + index, so that a quarter of one is its parent's.
    while cell >= 16:
        cell >>= 2
        yield cell


def _covering(shape: Shape, most: int) -> list[int]:
    """At most `most` cells (or the twelve of depth 0), as NUNIQ numbers, that cover the shape wholly."""
    import numpy as np

    depth, found = _first_cells(shape)
    while len(found) > most and depth > 0:
        depth, found = depth - 1, np.unique(found >> 2)
    while depth < DEEPEST:
        children = (found[:, None] * 4 + np.arange(4)).ravel()
        nearer = children[_reach(shape, children, depth + 1)]
        if len(nearer) > most:
            break
        depth, found = depth + 1, nearer
    return _merged({4 * 4**depth + int(index) for index in found})


def _first_cells(shape: Shape) -> tuple[int, NDArray[np.int64]]:
    """Cells about as large as the shape that may meet it: a start that saves the levels above."""
    import healpix_geo.nested
    import numpy as np

    middle, extent = shape.cap
    # A shape within a fifth of a cell's radius cannot reach beyond the neighbours of the cell in its middle.
    depth = max((depth for depth in range(DEEPEST + 1) if _radius(depth) / 5 >= extent), default=0)
    if depth > TABLED:
        x, y = math.degrees(math.atan2(middle[1], middle[0])) % 360, math.degrees(math.asin(max(-1, min(1, middle[2]))))
        cell = healpix_geo.nested.lonlat_to_healpix(np.array([x]), np.array([y]), depth, ellipsoid="sphere")
        around = healpix_geo.nested.kth_neighbourhood(cell, depth, ring=1).ravel().astype(np.int64)
        candidates = np.unique(around[around >= 0])
    else:
        depth = max((depth for depth in range(TABLED + 1) if _radius(depth) >= extent), default=0)
        reach = min(math.pi, extent + 1.001 * _radius(depth))
        candidates = np.flatnonzero(_units_of(depth) @ middle >= math.cos(reach))
    return depth, candidates[_reach(shape, candidates, depth)]


def _merged(numbers: set[int]) -> list[int]:
    """Four siblings become their parent, as long as there are any."""
    done: list[int] = []
    while numbers:
        parents = {number >> 2 for number in numbers if number >= 64}
        whole = {parent for parent in parents if all(4 * parent + i in numbers for i in range(4))}
        done += [number for number in numbers if number >> 2 not in whole]
        numbers = whole
    return sorted(done)


def _reach(shape: Shape, indices: NDArray[np.int64], depth: int) -> NDArray[np.bool_]:
    """Which cells may meet the shape: their centres are as near to it as a cell's corners are to its centre."""
    import numpy as np
    import spherely

    centres = _units_of(depth)[indices] if depth <= TABLED else _units(_centres(indices, depth))
    near = _near_edges(shape, centres, 1.001 * _radius(depth))
    middle, extent = shape.cap
    far = np.flatnonzero(~near & (centres @ middle >= math.cos(extent)))
    if len(far) and shape.polygons:
        lon, lat = _centres(indices[far], depth).T
        near[far] = spherely.intersects(shape.areas[:, None], spherely.points(lon, lat)[None, :]).any(axis=0)
    return near


@cache
def _units_of(depth: int) -> NDArray[np.float64]:
    # A call costs 100 µs, which counts for the few cells of a level; the coarse ones are asked for every time.
    import numpy as np

    return _units(_centres(np.arange(12 * 4**depth), depth))


def _centres(indices: NDArray[np.int64], depth: int) -> NDArray[np.float64]:
    """Longitudes and latitudes of cells' centres, in degrees."""
    import healpix_geo.nested
    import numpy as np

    found = healpix_geo.nested.healpix_to_lonlat(indices.astype(np.uint64), depth, ellipsoid="sphere", num_threads=1)
    return np.stack(found, axis=1)


def _units(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitudes and latitudes as unit vectors."""
    import numpy as np

    x, y = np.radians(degrees).T
    return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=1)


def _near_edges(shape: Shape, centres: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Which centres lie within `radius` radians of a point, a line or a ring of the shape."""
    import numpy as np

    starts, ends, normals, after_start, before_end = shape.edges
    near = ((centres @ starts.T).max(axis=1) >= math.cos(radius)) | ((centres @ ends.T).max(axis=1) >= math.cos(radius))
    near_circle = np.abs(centres @ normals.T) <= math.sin(radius)
    beside = near_circle & (centres @ after_start.T >= 0) & (centres @ before_end.T >= 0)
    return cast("NDArray[np.bool_]", near | beside.any(axis=1))


def _radius(depth: int) -> float:
    """The largest angle from a centre of a cell to its corner (Górski et al. 2005, doi:10.1086/427976).

    It is that of the cells at the edge of the polar caps, where z = 2/3.
    """
    nside = 2**depth
    at = math.pi / (4 * nside)
    z = 1 - (1 - 1 / nside) ** 2 / 3
    a = (math.sqrt(5) / 3 * math.cos(at), math.sqrt(5) / 3 * math.sin(at), 2 / 3)
    return math.acos(min(1.0, a[0] * math.sqrt(1 - z * z) + a[2] * z))
