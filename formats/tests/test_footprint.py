"""Footprints are valid GeoJSON, also across the antimeridian and around a pole."""

from itertools import pairwise
from math import nan

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from armillary_formats import footprint
from armillary_formats.refusal import Refused

longitudes = st.floats(-180, 180)
latitudes = st.floats(-89, 89)


def rings(geometry) -> list:
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    assert all(len(part) == 1 for part in parts), "a footprint has no holes"
    return [part[0] for part in parts]


def area(geometry) -> float:
    return sum((x0 * y1 - x1 * y0) / 2 for ring in rings(geometry) for (x0, y0), (x1, y1) in pairwise(ring))


def check(geometry) -> None:
    for ring in rings(geometry):
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
        assert all(before != after for before, after in pairwise(ring))
        assert sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) > 0, "not anticlockwise"


@given(longitudes, latitudes, st.floats(0.01, 170), st.floats(0.01, 60), st.floats(-0.9, 0.9), st.booleans())
def test_a_quadrilateral_anywhere_gives_valid_rings_of_its_area(west, south, width, height, slant, clockwise) -> None:
    height = min(height, 89.5 - south)
    assume(height > 0.005)
    shift = slant * width / 2
    corners = [
        (west, south),
        (west + width, south),
        (west + width + shift, south + height),
        (west + shift, south + height),
    ]
    wrapped = [((x + 180) % 360 - 180, y) for x, y in corners]
    assume(width + abs(shift) < 179)
    geometry = footprint.polygon(wrapped[::-1] if clockwise else wrapped)
    check(geometry)
    assert area(geometry) == pytest.approx(width * height, rel=1e-5, abs=1e-6)
    box = footprint.bbox(geometry)
    least, most = west + min(0, shift), west + width + max(0, shift)
    assert (box[2] - box[0]) % 360 == pytest.approx(most - least, abs=1e-6)
    assert (geometry["type"] == "MultiPolygon") == (box[0] > box[2])


@given(st.integers(3, 40), st.floats(5, 80), longitudes, st.booleans(), st.booleans())
def test_a_ring_around_a_pole_holds_the_pole(count, colatitude, start, north, eastward) -> None:
    sign = 1 if north else -1
    turn = 360 / count if eastward else -360 / count
    ring = [((start + i * turn + 180) % 360 - 180, sign * (90 - colatitude)) for i in range(count)]
    geometry = footprint.polygon(ring)
    check(geometry)
    assert geometry["type"] == "Polygon"
    assert area(geometry) == pytest.approx(360 * colatitude, rel=1e-6)
    assert any(y == sign * 90 for _, y in rings(geometry)[0])


def test_a_scene_across_the_antimeridian_is_cut_there() -> None:
    geometry = footprint.polygon([(179, 10), (-179, 10), (-179, 12), (179, 12)])
    assert geometry["type"] == "MultiPolygon"
    assert footprint.bbox(geometry) == [179, 10, -179, 12]
    assert {x for ring in rings(geometry) for x, _ in ring} == {-180, -179, 179, 180}


@pytest.mark.parametrize(("west", "east"), [(-180, 180), (0, 360), (20, 380), (-180.0, 179.999)])
def test_a_grid_around_the_whole_globe_is_whole(west, east) -> None:
    geometry = footprint.polygon(footprint.densified([(west, -90), (east, -90), (east, 90), (west, 90)]))
    check(geometry)
    assert area(geometry) == pytest.approx(360 * 180, rel=1e-4)
    box = footprint.bbox(geometry)
    assert (box[1], box[3]) == (-90, 90)


def test_a_box_with_east_below_west_goes_across_the_antimeridian() -> None:
    assert footprint.bbox(footprint.box(170, -20, -160, 5)) == [170, -20, -160, 5]
    assert footprint.bbox(footprint.box(-60, -20, -40, 5)) == [-60, -20, -40, 5]


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ([(0, 0), (1, 1)], "needs three"),
        ([(0, 0), (1, 1), (1, 1), (0, 0)], "needs three"),
        ([(0, 0), (1, 1), (2, 2)], "covers no area"),
        ([(0, 0), (1, 91), (2, 0)], "not on the sphere"),
        ([(0, 0), (1, nan), (2, 0)], "not on the sphere"),
        ([(0, 0), (9000, 1), (2, 0)], "not on the sphere"),
    ],
)
def test_what_is_no_footprint_is_refused(corners, reason) -> None:
    with pytest.raises(Refused, match=f"The frame.*{reason}"):
        footprint.polygon(corners, "The frame")


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=8))
def test_any_corners_give_rings_on_the_sphere_or_a_refusal(corners) -> None:
    try:
        geometry = footprint.polygon(corners)
    except Refused:
        return
    for ring in rings(geometry):
        assert ring[0] == ring[-1]
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
