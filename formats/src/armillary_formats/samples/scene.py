"""A synthetic acquisition: when it was, where the satellite stood and what it saw.

The satellite is on a circular orbit over a spherical Earth that repeats its track after 175 orbits in 12 days,
as Sentinel-1's does, and looks right at the incidence angles of an interferometric wide swath.
"""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import asin, atan2, cos, degrees, pi, radians, sin

EARTH_RADIUS_M = 6_371_000.0
ORBIT_RADIUS_M = 7_071_000.0
INCLINATION = radians(98.18)
LIGHT_M_S = 299_792_458.0
ORBITS_PER_CYCLE = 175
CYCLE = timedelta(days=12)
PERIOD = CYCLE / ORBITS_PER_CYCLE
FIRST_NODE = datetime(2026, 1, 5, 5, 50, tzinfo=UTC)  # the ascending node of the first pair's first orbit
FIRST_NODE_LONGITUDE = radians(180.0)
FIRST_ORBIT = 62_000
AFTER_NODE = timedelta(seconds=2450)
LENGTH = timedelta(seconds=9)
SWATHS = {"IW1": (30.0, 36.0), "IW2": (36.0, 41.5), "IW3": (41.5, 46.0)}  # incidence angles in degrees
BURSTS = 3

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """One acquisition of a pair: `repeat` 0 is the first date, 1 the second."""

    pair: int
    repeat: int

    @property
    def node(self) -> datetime:
        """When the satellite last crossed the equator going north, to the second."""
        return (FIRST_NODE + self.pair * PERIOD + self.repeat * CYCLE).replace(microsecond=0)

    @property
    def start(self) -> datetime:
        return self.node + AFTER_NODE

    @property
    def end(self) -> datetime:
        return self.start + LENGTH

    @property
    def absolute_orbit(self) -> int:
        return FIRST_ORBIT + self.pair + ORBITS_PER_CYCLE * self.repeat

    @property
    def relative_orbit(self) -> int:
        """By the numbering of Sentinel-1A."""
        return (self.absolute_orbit - 73) % ORBITS_PER_CYCLE + 1

    @property
    def datatake(self) -> int:
        return 500_000 + self.absolute_orbit

    @property
    def product(self) -> str:
        """The product's id, whose last four digits tell products of one acquisition apart."""
        span = f"{compact(self.start)}_{compact(self.end)}"
        stem = f"S1A_IW_SLC__1SSV_{span}_{self.absolute_orbit:06}_{self.datatake:06X}"
        return f"{stem}_{zlib.crc32(stem.encode()) & 0xFFFF:04X}"

    def file(self, swath: str) -> str:
        """The name that a swath's measurement and annotation share."""
        span = f"{compact(self.start)}-{compact(self.end)}"
        number = list(SWATHS).index(swath) + 1
        name = f"s1a-{swath}-slc-vv-{span}-{self.absolute_orbit:06}-{self.datatake:06x}-{number:03}"
        return name.lower()

    def moment(self, down: float) -> datetime:
        """When the line at a fraction of the image's height was seen."""
        return self.start + down * LENGTH


def footprint(scene: Scene) -> list[tuple[float, float]]:
    """The corners as longitude and latitude: start near, start far, end far, end near."""
    near, far = SWATHS["IW1"][0], SWATHS["IW3"][1]
    seen = [(scene.start, near), (scene.start, far), (scene.end, far), (scene.end, near)]
    return [ground(scene, moment, incidence) for moment, incidence in seen]


def ground(scene: Scene, moment: datetime, incidence: float) -> tuple[float, float]:
    """Longitude and latitude in degrees of what is seen at an incidence angle in degrees."""
    away = radians(incidence) - look_angle(incidence)
    longitude, latitude, heading = below(scene, moment)
    bearing = heading + pi / 2
    seen_latitude = asin(sin(latitude) * cos(away) + cos(latitude) * sin(away) * cos(bearing))
    east = atan2(sin(bearing) * sin(away) * cos(latitude), cos(away) - sin(latitude) * sin(seen_latitude))
    return (degrees(longitude + east) + 180) % 360 - 180, degrees(seen_latitude)


def look_angle(incidence: float) -> float:
    """The angle at the satellite in radians for an incidence angle in degrees (law of sines)."""
    return asin(EARTH_RADIUS_M / ORBIT_RADIUS_M * sin(radians(incidence)))


def slant_range_m(incidence: float) -> float:
    """The distance from the satellite for an incidence angle in degrees."""
    look = look_angle(incidence)
    return EARTH_RADIUS_M * sin(radians(incidence) - look) / sin(look)


def below(scene: Scene, moment: datetime) -> Vector:
    """Longitude, latitude and heading of the track below the satellite, in radians."""
    (x, y, z), (vx, vy, vz) = position(scene, moment), velocity(scene, moment)
    longitude, latitude = atan2(y, x), asin(z / ORBIT_RADIUS_M)
    east = -sin(longitude) * vx + cos(longitude) * vy
    north = -sin(latitude) * (cos(longitude) * vx + sin(longitude) * vy) + cos(latitude) * vz
    return longitude, latitude, atan2(east, north)


def position(scene: Scene, moment: datetime) -> Vector:
    """Where the satellite is, in metres in a frame that turns with the Earth.

    The orbit's plane keeps to the sun, so that against it the Earth turns once in a day.
    """
    seconds = (moment - scene.node).total_seconds()
    along = 2 * pi * seconds / PERIOD.total_seconds()
    node = FIRST_NODE_LONGITUDE - 2 * pi * ((scene.node - FIRST_NODE).total_seconds() + seconds) / 86_400
    x, y = cos(along), sin(along) * cos(INCLINATION)
    return (
        ORBIT_RADIUS_M * (x * cos(node) - y * sin(node)),
        ORBIT_RADIUS_M * (x * sin(node) + y * cos(node)),
        ORBIT_RADIUS_M * sin(along) * sin(INCLINATION),
    )


def velocity(scene: Scene, moment: datetime) -> Vector:
    """Its motion in metres a second in the same frame, by central difference."""
    half = timedelta(milliseconds=500)
    before, after = position(scene, moment - half), position(scene, moment + half)
    return after[0] - before[0], after[1] - before[1], after[2] - before[2]


def compact(moment: datetime) -> str:
    """20260105T063050, as file names have it."""
    return moment.strftime("%Y%m%dT%H%M%S")
