"""Footprints as drawings: on Earth with east to the right, in the sky to the left, and nothing where there is none."""

import re

import pytest

from armillary.portal.footprint import HEIGHT, WIDTH, Drawing, drawing


def square(west: float, south: float, side: float) -> dict:
    ring = [[west, south], [west + side, south], [west + side, south + side], [west, south + side], [west, south]]
    return {"type": "Polygon", "coordinates": [[[x % 360, y] for x, y in ring]]}


def on_sky(geometry: dict) -> Drawing:
    found = drawing({"geometry": None, "properties": {"armillary:frame": "sky", "armillary:sky_geometry": geometry}})
    assert found
    return found


def corners(found: Drawing) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for path in found.paths for x, y in re.findall(r"([-\d.]+),([-\d.]+)", path)]


def test_east_is_right_on_earth_and_left_in_the_sky() -> None:
    earth = drawing({"geometry": square(10, 20, 2), "properties": {"armillary:frame": "earth"}})
    assert earth
    west, east = corners(earth)[:2]
    assert west[0] < WIDTH / 2 < east[0]
    west, east = corners(on_sky(square(10, 20, 2)))[:2]
    assert east[0] < WIDTH / 2 < west[0]
    assert west[1] > HEIGHT / 2  # south is down


@pytest.mark.parametrize("side", [20, 1, 0.01, 0.001])
def test_a_field_fills_its_map_however_small_it_is_and_wherever(side: float) -> None:
    for west in (100.0, 360 - side / 2):
        found = on_sky(square(west, -30, side))
        xs, ys = zip(*corners(found), strict=True)
        assert 0 < min(xs) < WIDTH / 2 - 50
        assert WIDTH / 2 + 50 < max(xs) < WIDTH
        assert 0 < min(ys) < max(ys) < HEIGHT
        assert 2 <= len(found.meridians) <= 9
        assert all(0 <= float(label.removesuffix("°")) < 360 for _, label in found.meridians)


def test_what_has_no_footprint_is_not_drawn() -> None:
    assert drawing({"geometry": None, "properties": {"armillary:frame": "none"}}) is None
