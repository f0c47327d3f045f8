"""Footprints: what is refused, how they are stored, and that index and relations agree with independent answers."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
import spherely
from hypothesis import example, given
from hypothesis import strategies as st

from armillary.base.errors import UsageError
from armillary.granules import footprint
from armillary.granules.footprint import (
    Frame,
    Shape,
    bbox,
    cells,
    check,
    covers,
    intersects,
    overlap_fraction,
    query_terms,
    shape,
)

Geometry = dict[str, Any]


def polygon(*positions: tuple[float, float]) -> Geometry:
    return {"type": "Polygon", "coordinates": [[list(position) for position in (*positions, positions[0])]]}


def box(west: float, south: float, east: float, north: float) -> Geometry:
    return polygon((west, south), (east, south), (east, north), (west, north))


SQUARE = box(0, 0, 10, 10)


def checked(geometry: Geometry, frame: Frame = "earth") -> Geometry:
    normal = check(geometry, frame)
    assert normal is not None
    return normal


def made(geometry: Geometry, frame: Frame = "earth") -> Shape:
    return shape(checked(geometry, frame), frame)


# What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("geometry", "frame", "field", "says"),
    [
        ("POINT(1 2)", "earth", "geometry", "not a GeoJSON geometry"),
        ({"type": "Circle", "coordinates": [0, 0]}, "earth", "geometry.type", "'Circle'"),
        ({"type": "Point"}, "earth", "geometry.coordinates", "not a position"),
        ({"type": "Point", "coordinates": [1]}, "earth", "geometry.coordinates", "not a position"),
        ({"type": "Point", "coordinates": ["1", "2"]}, "earth", "geometry.coordinates", "not a position"),
        ({"type": "Point", "coordinates": [True, 2]}, "earth", "geometry.coordinates", "not a position"),
        ({"type": "Point", "coordinates": [math.nan, 2]}, "earth", "geometry.coordinates", "not finite"),
        ({"type": "Point", "coordinates": [2, math.inf]}, "sky", "geometry.coordinates", "not finite"),
        ({"type": "Point", "coordinates": [50, 95]}, "earth", "geometry.coordinates", "latitude 95"),
        ({"type": "Point", "coordinates": [700, 5]}, "earth", "geometry.coordinates", "longitude 700"),
        ({"type": "MultiPoint", "coordinates": []}, "earth", "geometry.coordinates", "not a list with something"),
        ({"type": "LineString", "coordinates": [[1, 1], [1, 1]]}, "earth", "geometry.coordinates", "no length"),
        ({"type": "Polygon", "coordinates": [[]]}, "earth", "geometry.coordinates[0]", "not a list with something"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}, "earth", "geometry.coordinates[0]", "corners"),
        (
            {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]},
            "earth",
            "geometry.coordinates[0]",
            "not closed",
        ),
        (polygon((0, 0), (10, 10), (10, 0), (0, 10)), "earth", "geometry.coordinates", "crosses or touches itself"),
        (polygon((0, 0), (10, 10), (10, 0), (0, 10)), "sky", "geometry", "crosses or touches itself"),
        (polygon((0, 0), (5, 5), (10, 10)), "earth", "geometry.coordinates", "crosses or touches itself"),
        (polygon((179, 0), (-179, 0), (-179, 5), (179, 5)), "earth", "geometry.coordinates[0][1]", "358 degrees"),
        (polygon((0, 90), (90, 90), (180, 90)), "sky", "geometry", "one place"),
        (polygon((0, 90), (90, 90), (180, 90), (90, 80)), "sky", "geometry", "one place"),
        (polygon((0, 0), (5, 0), (10, 0)), "sky", "geometry", "no area"),
        ({"type": "LineString", "coordinates": [[0, 90], [90, 90]]}, "earth", "geometry", "one place"),
        (polygon((0, 0), (180, 0), (90, 50)), "sky", "geometry.coordinates[0][1]", "opposite"),
        ({"type": "GeometryCollection", "geometries": []}, "earth", "geometry.geometries", "empty"),
        (SQUARE, "none", "geometry", "without a place"),
        (None, "earth", "geometry", "not a GeoJSON geometry"),
    ],
)
def test_a_geometry_that_cannot_be_meant_is_refused_by_field(
    geometry: object, frame: Frame, field: str, says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        check(geometry, frame)
    assert refused.value.field == field
    assert says in refused.value.message
    assert refused.value.remedy


def test_a_hole_outside_its_shell_is_refused() -> None:
    outside = {"type": "Polygon", "coordinates": [SQUARE["coordinates"][0], box(20, 20, 21, 21)["coordinates"][0]]}
    with pytest.raises(UsageError, match="Hole lies outside shell"):
        check(outside, "earth")


def test_more_vertices_than_anyone_needs_are_refused() -> None:
    circle = [(10 * math.cos(a), 10 * math.sin(a)) for a in np.linspace(0, 6.28, footprint.MAX_VERTICES)]
    with pytest.raises(UsageError, match="more than 20000 vertices"):
        check(polygon(*circle), "earth")


@pytest.mark.parametrize(
    "wrong", [[0, 0, 1], [0, 10, 1, 5], [0, -91, 1, 0], [-200, 0, 1, 1], [0, 0, math.nan, 1], "0,0,1,1"]
)
def test_a_bounding_box_that_cannot_be_meant_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError) as refused:
        footprint.check_bbox(wrong)
    assert refused.value.field == "bbox"


# How it is stored --------------------------------------------------------------------------------------------


def test_a_polygon_counted_on_beyond_180_is_cut_at_the_antimeridian() -> None:
    cut = checked(box(170, -10, 190, 10))
    assert cut["type"] == "MultiPolygon"
    assert sorted(shapely.geometry.shape(cut).bounds) == [-180, -10, 10, 180]
    assert sorted(part.bounds for part in shapely.geometry.shape(cut).geoms) == [
        (-180, -10, -170, 10),
        (170, -10, 180, 10),
    ]
    assert bbox(cut) == [170, -10, -170, 10]


def test_all_ways_to_cross_the_antimeridian_are_one_place() -> None:
    one = made(box(170, -10, 190, 10))
    for other in (box(-190, -10, -170, 10), checked(box(170, -10, 190, 10))):
        assert overlap_fraction(one, of=made(other)) == pytest.approx(1, abs=1e-9)
        assert cells(made(other), "earth") == cells(one, "earth")


def test_a_line_across_the_antimeridian_is_cut_and_a_point_is_wrapped() -> None:
    line = checked({"type": "LineString", "coordinates": [[175, 0], [185, 10]]})
    assert line == {"type": "MultiLineString", "coordinates": [[[175, 0], [180, 5]], [[-180, 5], [-175, 10]]]}
    assert checked({"type": "Point", "coordinates": [190, 5]}) == {"type": "Point", "coordinates": [-170, 5]}


def test_heights_are_dropped_and_shells_run_anticlockwise() -> None:
    clockwise = {"type": "Polygon", "coordinates": [[[0, 0, 5], [0, 1, 5], [1, 1, 5], [1, 0, 5], [0, 0, 5]]]}
    ring = shapely.geometry.shape(checked(clockwise)).exterior
    assert ring.is_ccw
    assert not ring.has_z


def test_right_ascensions_run_to_360() -> None:
    field = checked(polygon((-1, 10), (1, 10), (1, 12), (-1, 12)), "sky")
    assert sorted({x for x, _ in field["coordinates"][0]}) == [1, 359]
    assert bbox(field, "sky") == pytest.approx([359, 10, 1, 12.0018], abs=1e-3)


def test_a_footprint_checked_again_stays_as_it_is() -> None:
    for geometry in (SQUARE, box(170, -10, 190, 10), {"type": "MultiPoint", "coordinates": [[1, 2], [200, 4]]}):
        assert checked(checked(geometry)) == checked(geometry)


def test_the_bounding_box_of_a_circle_around_a_pole_holds_the_pole() -> None:
    cap = checked(polygon((0, 80), (90, 80), (180, 80), (270, 80)), "sky")
    assert bbox(cap, "sky") == [0, 80, 360, 90]


# Relations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        box(10, 0, 20, 10),
        box(10, 3, 20, 7),
        box(10, 10, 20, 20),
        box(3, 10, 30, 20),
        {"type": "Point", "coordinates": [10, 5]},
        {"type": "Point", "coordinates": [10, 10]},
        {"type": "LineString", "coordinates": [[10, 2], [10, 8]]},
        {"type": "Point", "coordinates": [5, 5]},
    ],
    ids=[
        "edge",
        "part of an edge",
        "corner",
        "parallel",
        "point on an edge",
        "on a corner",
        "line on an edge",
        "inside",
    ],
)
def test_a_touch_is_an_intersection(other: Geometry) -> None:
    assert intersects(made(SQUARE), made(other))
    assert intersects(made(other), made(SQUARE))
    assert set(cells(checked(SQUARE), "earth")) & set(query_terms(checked(other), "earth"))


def test_what_lies_apart_does_not_intersect() -> None:
    assert not intersects(made(SQUARE), made(box(10.001, 0, 20, 10)))
    holed = {"type": "Polygon", "coordinates": [box(0, 0, 10, 10)["coordinates"][0], box(2, 2, 8, 8)["coordinates"][0]]}
    assert not intersects(made(holed), made({"type": "Point", "coordinates": [5, 5]}))
    assert intersects(made(holed), made({"type": "Point", "coordinates": [1, 5]}))


def test_earth_and_sky_never_meet() -> None:
    assert not intersects(made(SQUARE), made(SQUARE, "sky"))
    assert not covers([made(SQUARE, "sky")], made(SQUARE))
    assert overlap_fraction(made(SQUARE), of=made(SQUARE, "sky")) == 0
    assert not set(cells(SQUARE, "earth")) & set(query_terms(SQUARE, "sky"))


def test_edges_on_earth_follow_parallels_and_those_in_the_sky_great_circles() -> None:
    wide = box(0, 60, 60, 70)
    above = {"type": "Point", "coordinates": [30, 71.5]}
    assert not intersects(made(wide), made(above))
    assert intersects(made(wide, "sky"), made(above, "sky"))
    zone = (
        2 * math.pi / 6 * footprint._EARTH_RADIUS_METERS**2 * (math.sin(math.radians(70)) - math.sin(math.radians(60)))
    )
    assert made(wide).area_square_meters == pytest.approx(zone, rel=1e-5)


@pytest.mark.parametrize("whole", [[-180, -90, 180, 90], [0, -90, 360, 90]])
def test_a_box_may_be_the_whole_sphere(whole: list[float]) -> None:
    world = shape(whole, "earth")
    assert world.area_square_meters == pytest.approx(4 * math.pi * footprint._EARTH_RADIUS_METERS**2)
    for place in ([0.0, 0.0], [180.0, 90.0], [-120.0, -89.9]):
        assert intersects(world, made({"type": "Point", "coordinates": place}))
    assert covers([world], made(box(170, -10, 190, 10)))


def test_more_than_a_hemisphere_is_what_it_says() -> None:
    most = made(box(-180, -60, 180, 90))
    assert most.area_square_meters > 2.1 * math.pi * footprint._EARTH_RADIUS_METERS**2
    assert not intersects(most, made({"type": "Point", "coordinates": [0, -61]}))
    assert intersects(most, made({"type": "Point", "coordinates": [77, 90]}))


def test_tiles_cover_together_what_none_covers_alone() -> None:
    west, east = made(box(0, 0, 5.5, 10)), made(box(5.5, 0, 11, 10))
    target = made(box(1, 1, 10, 9))
    assert covers([west, east], target)
    assert not covers([west], target)
    assert not covers([], target)
    assert covers([west, east], made({"type": "LineString", "coordinates": [[1, 1], [9, 9]]}))
    assert not covers([west], made({"type": "LineString", "coordinates": [[1, 1], [9, 9]]}))
    assert covers([west], made({"type": "MultiPoint", "coordinates": [[1, 1], [5.5, 2]]}))
    assert not covers([west], made({"type": "MultiPoint", "coordinates": [[1, 1], [7, 2]]}))


def test_the_overlap_is_a_fraction_of_the_named_one() -> None:
    small, large = made(box(0, 0, 1, 1)), made(box(0, 0, 1, 2))
    assert overlap_fraction(large, of=small) == pytest.approx(1)
    assert overlap_fraction(small, of=large) == pytest.approx(0.5, rel=1e-3)
    assert overlap_fraction(small, of=made(box(5, 5, 6, 6))) == 0
    line = made({"type": "LineString", "coordinates": [[0.5, 0], [0.5, 4]]})
    assert overlap_fraction(large, of=line) == pytest.approx(0.5, rel=1e-6)
    assert overlap_fraction(large, of=made({"type": "MultiPoint", "coordinates": [[0, 0], [9, 9]]})) == 0.5


# Laws --------------------------------------------------------------------------------------------------------

longitudes = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, 179.999, 45.0]))
latitudes = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 89.99, 0.0, 41.8103]))
sizes = st.sampled_from([1e-4, 0.01, 0.5, 2.0, 15.0, 60.0])


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    """Boxes anywhere, across the antimeridian, at the poles, thin and wide."""
    x, y = draw(longitudes), draw(latitudes)
    width, height = draw(sizes), draw(sizes)
    east = x + width
    return [x, max(-90, y - height / 2), east - 360 if east > 180 else east, min(90, y + height / 2)]


@st.composite
def geometries(draw: st.DrawFn, frame: Frame) -> Geometry:
    """Star-shaped polygons around any centre, slivers, lines and points."""
    x, y, size = draw(longitudes), draw(latitudes), draw(sizes) / 2
    kind = draw(st.sampled_from(["polygon", "polygon", "sliver", "line", "point"]))
    if kind == "point":
        return checked({"type": "Point", "coordinates": [x, y]}, frame)
    thin = draw(st.sampled_from([1e-3, 1e-2])) if kind == "sliver" else 1.0
    turn = draw(st.floats(0, 3))
    angles = np.sort(np.array(draw(st.lists(st.integers(0, 359), min_size=3, max_size=9, unique=True)))) * math.pi / 180
    u, v = np.cos(angles) * size, np.sin(angles) * size * thin
    dx, dy = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
    ys = np.clip(y + dy, -90, 90)
    ring = [[float(a), float(b)] for a, b in zip(x + dx, ys, strict=True)]
    geometry = {"type": "LineString", "coordinates": ring} if kind == "line" else polygon(*map(tuple, ring))
    try:
        return checked(geometry, frame)
    except UsageError:  # clipped at a pole until nothing was left
        return checked({"type": "Point", "coordinates": [x, y]}, frame)


@pytest.mark.parametrize("frame", ["earth", "sky"])
@given(data=st.data())
def test_the_index_never_misses(frame: Frame, data: st.DataObject) -> None:
    one = data.draw(geometries(frame))
    other = data.draw(st.one_of(geometries(frame), boxes()))
    a, b = shape(one, frame), shape(other, frame)
    if intersects(a, b):
        assert set(cells(a, frame)) & set(query_terms(b, frame))
        if isinstance(other, dict):
            assert set(cells(b, frame)) & set(query_terms(a, frame))


@given(data=st.data())
def test_a_point_on_a_shape_finds_it(data: st.DataObject) -> None:
    one = data.draw(geometries("earth"))
    made = shape(one, "earth")
    paths = [*([point] for point in made.points), *made.lines, *(ring for rings in made.polygons for ring in rings)]
    path = data.draw(st.sampled_from(paths))
    point = {"type": "Point", "coordinates": list(data.draw(st.sampled_from(path)))}
    assert intersects(made, shape(point, "earth"))
    assert set(cells(made, "earth")) & set(query_terms(point, "earth"))


@given(one=geometries("earth"), other=boxes())
@example(one=checked(box(170, 80, 190, 90)), other=[-180, 85, -175, 90])
def test_shapes_on_earth_intersect_as_in_the_plane(one: Geometry, other: list[float]) -> None:
    """shapely's plane is an independent oracle: it may differ only where edges come within the tolerance."""
    west, south, east, north = other
    parts = [(west, east)] if west <= east else [(west, 180), (-180, east)]
    # Both edges of the plane are one meridian.
    turned = [(a + turn, b + turn) for a, b in parts for turn in (-360, 0, 360)]
    windows = shapely.union_all([shapely.box(a, south, b, north) for a, b in turned])
    plane = shapely.geometry.shape(one)
    at_pole = abs(np.array(shapely.get_coordinates(plane))[:, 1]).max() > 89.9 or max(abs(south), abs(north)) > 89.9
    expected = shapely.distance(plane, windows) == 0
    found = intersects(shape(one, "earth"), shape(other, "earth"))
    if found != expected:
        within = 2e-4 / max(0.01, math.cos(math.radians(min(89, abs(plane.bounds[1]), abs(plane.bounds[3])))))
        close = (
            shapely.distance(plane, windows) <= within or shapely.distance(plane.boundary, windows.boundary) <= within
        )
        assert close or at_pole  # all longitudes of a pole are one place, which the plane does not know


@given(
    start=st.tuples(st.floats(-90, 90), st.floats(-89, 89)), end=st.tuples(st.floats(-90, 90), st.floats(-89, 89)),
)  # fmt: skip
def test_bent_edges_stay_within_the_tolerance(start: tuple[float, float], end: tuple[float, float]) -> None:
    path = footprint._bent([start, end], footprint.TOLERANCE_METERS)
    for a, b in pairwise(path):
        if math.dist(a, b) > 1e-9:
            middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
            off = spherely.distance(spherely.create_linestring([a, b]), spherely.create_point(*middle))
            assert off <= 1.2 * footprint.TOLERANCE_METERS


@given(x=longitudes, y=latitudes, depth=st.integers(0, footprint.DEEPEST))
def test_no_place_is_farther_from_its_cells_centre_than_the_radius(x: float, y: float, depth: int) -> None:
    import healpix_geo.nested

    cell = healpix_geo.nested.lonlat_to_healpix(np.array([x % 360]), np.array([y]), depth)
    [centre] = footprint._units(footprint._centres(cell.astype(np.int64), depth))
    place = np.array(footprint._unit((x, y)))
    assert 2 * math.asin(np.linalg.norm(centre - place) / 2) <= 1.001 * footprint._radius(depth)


@given(one=geometries("earth"))
def test_few_terms_index_a_footprint(one: Geometry) -> None:
    terms = cells(one, "earth")
    assert terms == sorted(set(terms))
    assert 2 <= len(terms) <= 12 + footprint.INDEX_CELLS * (footprint.DEEPEST + 2)
    assert all(0 < term < 2**63 for term in terms)


def test_a_granule_without_a_place_has_no_terms() -> None:
    assert check(None, "none") is None
    assert cells(None, "none") == []
