"""Range–Doppler geometry: exact solutions on few points, and the polynomial form that the kernels evaluate.

Zero-Doppler convention throughout: a point X is seen at azimuth time t where (X − S(t))·V(t) = 0, at range |X − S(t)|
(Curlander and McDonough 1991; ESA, Guide to Sentinel-1 Geocoding, UZH-S1-GC-AD).
"""

from dataclasses import dataclass

import numpy as np

from armillary_insar.orbit import OrbitPolynomial
from armillary_insar.safe import Floats

WGS84_A = 6_378_137.0
WGS84_E2 = 6.694379990141316e-3


def to_ecef(latitude_deg: Floats, longitude_deg: Floats, height_m: Floats) -> Floats:
    """Geodetic WGS84 coordinates to Earth-fixed metres, (..., 3)."""
    phi, lam = np.radians(latitude_deg), np.radians(longitude_deg)
    n = WGS84_A / np.sqrt(1 - WGS84_E2 * np.sin(phi) ** 2)
    return np.stack(
        [
            (n + height_m) * np.cos(phi) * np.cos(lam),
            (n + height_m) * np.cos(phi) * np.sin(lam),
            (n * (1 - WGS84_E2) + height_m) * np.sin(phi),
        ],
        axis=-1,
    )


def to_geodetic(xyz: Floats) -> tuple[Floats, Floats, Floats]:
    """Earth-fixed metres to WGS84 latitude, longitude (degrees) and height (m); Bowring 1976, iterated twice."""
    x, y, z = np.moveaxis(xyz, -1, 0)
    p = np.hypot(x, y)
    b = WGS84_A * np.sqrt(1 - WGS84_E2)
    second = WGS84_E2 / (1 - WGS84_E2)
    beta = np.arctan2(z * WGS84_A, p * b)
    for _ in range(3):
        phi = np.arctan2(z + second * b * np.sin(beta) ** 3, p - WGS84_E2 * WGS84_A * np.cos(beta) ** 3)
        beta = np.arctan2(b * np.sin(phi), WGS84_A * np.cos(phi))
    n = WGS84_A / np.sqrt(1 - WGS84_E2 * np.sin(phi) ** 2)
    height = p * np.cos(phi) + z * np.sin(phi) - n * (1 - WGS84_E2 * np.sin(phi) ** 2)
    return np.degrees(phi), np.degrees(np.arctan2(y, x)), height


def rdr2geo(orbit: OrbitPolynomial, time_s: Floats, range_m: Floats, height_m: Floats, right: bool = True) -> Floats:
    """The point at a range and ellipsoidal height in the zero-Doppler plane, by Newton's method on the look angle.

    X = S + R (cos θ n + sin θ c), with n down and c across track in the plane normal to the velocity.
    """
    time_s, range_m, height_m = np.broadcast_arrays(time_s, range_m, height_m)
    s, v, _ = orbit.at(time_s)
    forward = v / np.linalg.norm(v, axis=-1, keepdims=True)
    down = -s + np.sum(s * forward, -1, keepdims=True) * forward
    down /= np.linalg.norm(down, axis=-1, keepdims=True)
    across = np.cross(down, forward) * (1.0 if right else -1.0)

    def point(theta: Floats) -> Floats:
        return np.asarray(
            s + range_m[..., None] * (np.cos(theta)[..., None] * down + np.sin(theta)[..., None] * across)
        )

    radius, target = np.linalg.norm(s, axis=-1), 6_371_000.0 + height_m
    cosine = (radius**2 + range_m**2 - target**2) / (2 * radius * range_m)
    theta = np.arccos(np.clip(cosine, -1, 1))
    for _ in range(8):
        x = point(theta)
        error = to_geodetic(x)[2] - height_m
        turning = range_m[..., None] * (np.cos(theta)[..., None] * across - np.sin(theta)[..., None] * down)
        climb = np.sum(turning * x, -1) / np.linalg.norm(x, axis=-1)  # the normal is within 0.2° of the radius
        theta = theta - error / climb
    return point(theta)


def geo2rdr(orbit: OrbitPolynomial, xyz: Floats) -> tuple[Floats, Floats]:
    """Zero-Doppler azimuth time (s) and range (m) of points, by Newton's method."""
    time_s = np.full(xyz.shape[:-1], orbit.centre_s)
    for _ in range(6):
        s, v, a = orbit.at(time_s)
        look = xyz - s
        time_s = time_s - np.sum(look * v, -1) / (np.sum(look * a, -1) - np.sum(v * v, -1))
    return time_s, np.linalg.norm(xyz - orbit.at(time_s)[0], axis=-1)


# Degrees of the polynomials in azimuth time, range and height; their error is measured in tests/test_geometry.py.
AZIMUTH_DEGREE, RANGE_DEGREE, HEIGHT_DEGREE = 5, 8, 4
SEGMENT = 32  # range samples between the nodes where the kernels interpolate linearly


@dataclass(frozen=True)
class Window:
    """A part of a burst's grid: lines start_s + i·line_s, ranges near_m + j·sample_m."""

    start_s: float
    line_s: float
    lines: int
    near_m: float
    sample_m: float
    samples: int


@dataclass(frozen=True)
class PairGeometry:
    """Where each reference sample lies in the elevation grid and in the secondary, as a polynomial.

    `coefficients[f, k, j, i]`: f = elevation row, elevation column, secondary azimuth time after the burst's start (s),
    range difference R₂ − R₁ (m); k = power of the scaled height; j, i = Chebyshev degrees in range and azimuth.
    These four are smooth functions of (t, R, h): what is rough, the height itself, is solved for in each sample.
    """

    window: Window
    height_mid_m: float
    height_half_m: float
    coefficients: Floats

    def azimuth_basis(self, lines: Floats) -> Floats:
        x = 2 * lines / max(self.window.lines - 1, 1) - 1
        return np.ascontiguousarray(np.polynomial.chebyshev.chebvander(x, AZIMUTH_DEGREE))

    def range_basis(self) -> Floats:
        """Chebyshev values at the nodes, (degree + 1, nodes)."""
        nodes = np.arange(0, self.window.samples + SEGMENT, SEGMENT)
        x = 2 * nodes / max(self.window.samples - 1, 1) - 1
        return np.ascontiguousarray(np.polynomial.chebyshev.chebvander(x, RANGE_DEGREE).T)

    def on_grid(self, lines: Floats, samples: Floats, powers: int = HEIGHT_DEGREE + 1) -> Floats:
        """The four functions on a grid as polynomials in the scaled height, (4, powers, lines, samples).

        Two products of matrices; the first power alone is the value at the middle height.
        """
        ta = np.polynomial.chebyshev.chebvander(2 * lines / (self.window.lines - 1) - 1, AZIMUTH_DEGREE)
        tr = np.polynomial.chebyshev.chebvander(2 * samples / (self.window.samples - 1) - 1, RANGE_DEGREE)
        return np.asarray(ta @ np.swapaxes(self.coefficients[:, :powers], 2, 3) @ tr.T)

    def at(self, line: Floats, sample: Floats, height_m: Floats) -> Floats:
        """The four functions at any points, (4, ...): the slow path for tests and diagnostics."""
        ta = np.polynomial.chebyshev.chebvander(2 * line / (self.window.lines - 1) - 1, AZIMUTH_DEGREE)
        tr = np.polynomial.chebyshev.chebvander(2 * sample / (self.window.samples - 1) - 1, RANGE_DEGREE)
        powers = ((height_m - self.height_mid_m) / self.height_half_m)[..., None] ** np.arange(HEIGHT_DEGREE + 1)
        return np.asarray(np.einsum("fkji,...k,...j,...i->f...", self.coefficients, powers, tr, ta))


def pair_geometry(
    window: Window,
    reference: OrbitPolynomial,
    secondary: OrbitPolynomial,
    secondary_start_s: float,
    heights_m: tuple[float, float],
    grid_origin_deg: tuple[float, float],
    grid_step_deg: tuple[float, float],
) -> PairGeometry:
    """Solve exactly on Chebyshev nodes, and keep the interpolating polynomials.

    `grid_origin_deg` is (latitude, longitude) of the elevation grid's first post, `grid_step_deg` the steps per row, column.
    """
    degrees = (AZIMUTH_DEGREE, RANGE_DEGREE, HEIGHT_DEGREE)
    nodes = [np.cos(np.pi * (np.arange(d + 1) + 0.5) / (d + 1)) for d in degrees]
    mid, half = (heights_m[0] + heights_m[1]) / 2, max((heights_m[1] - heights_m[0]) / 2, 1.0)
    time_s = window.start_s + (nodes[0] + 1) / 2 * (window.lines - 1) * window.line_s
    range_m = window.near_m + (nodes[1] + 1) / 2 * (window.samples - 1) * window.sample_m
    t, r, h = np.meshgrid(time_s, range_m, mid + half * nodes[2], indexing="ij")
    points = rdr2geo(reference, t, r, h)
    latitude, longitude, _ = to_geodetic(points)
    time2, range2 = geo2rdr(secondary, points)
    longitude = grid_origin_deg[1] + (longitude - grid_origin_deg[1] + 180) % 360 - 180  # on the grid's side of 180°
    values = np.stack(
        [
            (latitude - grid_origin_deg[0]) / grid_step_deg[0],
            (longitude - grid_origin_deg[1]) / grid_step_deg[1],
            time2 - secondary_start_s,
            range2 - r,
        ]
    )
    inverses = [np.linalg.inv(np.polynomial.chebyshev.chebvander(x, d)) for x, d in zip(nodes, degrees, strict=True)]
    chebyshev = np.einsum("ia,jb,kc,fabc->fkji", *inverses, values, optimize=True)
    to_powers = np.array(
        [
            np.pad(np.polynomial.chebyshev.cheb2poly(row), (0, HEIGHT_DEGREE - k))
            for k, row in enumerate([np.eye(HEIGHT_DEGREE + 1)[k, : k + 1] for k in range(HEIGHT_DEGREE + 1)])
        ]
    )
    coefficients = np.einsum("kp,fkji->fpji", to_powers, chebyshev)
    return PairGeometry(window, mid, half, np.ascontiguousarray(coefficients))
