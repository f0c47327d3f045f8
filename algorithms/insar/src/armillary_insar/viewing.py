"""Incidence, look and azimuth angles and baselines, on points and as the cubes of the product."""

from dataclasses import dataclass

import numpy as np

from armillary_insar.geometry import geo2rdr, to_ecef
from armillary_insar.orbit import OrbitPolynomial
from armillary_insar.safe import Floats

CUBE_HEIGHTS_M = (-1500.0, 0.0, 3000.0, 9000.0)


@dataclass(frozen=True)
class Viewing:
    """How points are seen at the reference date, and the other orbit from there."""

    incidence_deg: Floats
    look_deg: Floats
    azimuth_deg: Floats  # of the direction from ground to radar, counter-clockwise from east
    perpendicular_baseline_m: Floats
    parallel_baseline_m: Floats
    unit_enu: Floats  # (..., 3) ground to radar


def viewing(
    latitude_deg: Floats,
    longitude_deg: Floats,
    height_m: Floats,
    reference: OrbitPolynomial,
    secondary: OrbitPolynomial,
) -> Viewing:
    """Angles and baselines at points.

    Baselines leave out the along-track part, as ISCE2's do: the secondary is taken where it sees the point broadside.
    Positive perpendicular: the secondary lies above the reference's line of sight. Positive parallel: it lies nearer to
    the ground, R₂ ≈ R₁ − B∥.
    """
    x = to_ecef(latitude_deg, longitude_deg, height_m)
    t1, r1 = geo2rdr(reference, x)
    t2, _ = geo2rdr(secondary, x)
    s1, v1, _ = reference.at(t1)
    s2 = secondary.at(t2)[0]
    toward = (s1 - x) / r1[..., None]
    phi, lam = np.radians(latitude_deg), np.radians(longitude_deg)
    east = np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)], -1)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], -1)
    up = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], -1)
    enu = np.stack([np.sum(toward * axis, -1) for axis in (east, north, up)], -1)
    down = -s1 / np.linalg.norm(s1, axis=-1, keepdims=True)
    forward = v1 / np.linalg.norm(v1, axis=-1, keepdims=True)
    gap = s2 - s1
    gap = gap - np.sum(gap * forward, -1, keepdims=True) * forward
    parallel = -np.sum(gap * toward, -1)
    across = gap - np.sum(gap * toward, -1, keepdims=True) * toward
    side = np.sign(-np.sum(across * down, -1))
    return Viewing(
        np.degrees(np.arccos(enu[..., 2])),
        np.degrees(np.arccos(np.clip(np.sum(-toward * down, -1), -1, 1))),
        np.degrees(np.arctan2(enu[..., 1], enu[..., 0])),
        side * np.linalg.norm(across, axis=-1),
        parallel,
        enu,
    )


def cube_axes(bounds: tuple[float, float, float, float], step_deg: float = 0.1) -> tuple[Floats, Floats, Floats]:
    """Latitudes (north first), longitudes and heights of the product's cubes."""
    step = min(step_deg, (bounds[3] - bounds[1]) / 3, (bounds[2] - bounds[0]) / 3)
    rows, columns = (int(np.ceil((bounds[k + 2] - bounds[k]) / step)) + 1 for k in (1, 0))
    return (bounds[3] - np.arange(rows) * step, bounds[0] + np.arange(columns) * step, np.array(CUBE_HEIGHTS_M))
