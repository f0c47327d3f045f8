"""Radar to ground for laying out scenes: three equations in Earth-fixed coordinates, solved by Newton's method.

Range, zero Doppler and an inflated ellipsoid (ESA, Guide to Sentinel-1 Geocoding, section 4); the processor's own
solution turns a look angle instead.
"""

import numpy as np

from armillary_insar.safe import StateVectors
from armillary_insar.simulator.deformation import Floats
from armillary_insar.simulator.scatter import _orbit_polynomial

A, B = 6_378_137.0, 6_356_752.314245


def state(vectors: StateVectors, time_s: float) -> tuple[Floats, Floats]:
    """Position and velocity at a time."""
    coefficients, scale = _orbit_polynomial(vectors, time_s)
    return coefficients[0], coefficients[1] / scale


def locate(vectors: StateVectors, time_s: float, range_m: float, height_m: float, guess: Floats) -> Floats:
    """The Earth-fixed point seen at a time and range, at a height; `guess` picks the side."""
    s, v = state(vectors, time_s)
    axes = 1 / np.array([A + height_m, A + height_m, B + height_m]) ** 2
    x = np.array(guess, float)
    for _ in range(20):
        look = x - s
        errors = np.array([look @ look - range_m**2, look @ v, (x * x) @ axes - 1])
        jacobian = np.stack([2 * look, v, 2 * x * axes])
        step = np.linalg.solve(jacobian, errors)
        x = x - step
        if np.abs(step).max() < 1e-7:
            break
    return x


def geodetic(x: Floats) -> tuple[float, float, float]:
    """Latitude, longitude (degrees) and height by fixed-point iteration on the latitude."""
    e2 = 1 - B**2 / A**2
    p = float(np.hypot(x[0], x[1]))
    phi = np.arctan2(x[2], p * (1 - e2))
    height = 0.0
    for _ in range(8):
        n = A / np.sqrt(1 - e2 * np.sin(phi) ** 2)
        height = p / np.cos(phi) - n
        phi = np.arctan2(x[2], p * (1 - e2 * n / (n + height)))
    return float(np.degrees(phi)), float(np.degrees(np.arctan2(x[1], x[0]))), float(height)


def ecef(latitude_deg: float, longitude_deg: float, height_m: float) -> Floats:
    phi, lam = np.radians([latitude_deg, longitude_deg])
    n = A / np.sqrt(1 - (1 - B**2 / A**2) * np.sin(phi) ** 2)
    return np.array(
        [
            (n + height_m) * np.cos(phi) * np.cos(lam),
            (n + height_m) * np.cos(phi) * np.sin(lam),
            (n * B**2 / A**2 + height_m) * np.sin(phi),
        ]
    )
