"""Surface displacement of a pressure source (Mogi 1958) and of a rectangular fault (Okada 1985)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
POISSON = 0.25


@dataclass(frozen=True)
class Mogi:
    """A small sphere whose volume grows, in an elastic half-space (Mogi 1958; Segall 2010, section 7.1)."""

    east_m: float
    north_m: float
    depth_m: float
    volume_m3: float

    def displacement(self, east_m: Floats, north_m: Floats) -> Floats:
        """East, north, up in metres, (3, ...)."""
        x, y = east_m - self.east_m, north_m - self.north_m
        strength = (1 - POISSON) * self.volume_m3 / np.pi / (x**2 + y**2 + self.depth_m**2) ** 1.5
        return np.stack([strength * x, strength * y, strength * self.depth_m])


@dataclass(frozen=True)
class Okada:
    """Uniform slip on a rectangle, given by the middle of its upper edge."""

    east_m: float
    north_m: float
    top_depth_m: float
    length_m: float
    width_m: float
    strike_deg: float
    dip_deg: float
    rake_deg: float
    slip_m: float

    def displacement(self, east_m: Floats, north_m: Floats) -> Floats:
        """East, north, up in metres, (3, ...): Okada 1985, equations 25 and 26 with Chinnery's notation."""
        strike, dip, rake = np.radians([self.strike_deg, self.dip_deg, self.rake_deg])
        bottom = self.top_depth_m + self.width_m * np.sin(dip)
        dx, dy = east_m - self.east_m, north_m - self.north_m
        # Okada's origin is the surface point above the lower edge's start; x along strike, y to the left of it.
        x = dx * np.sin(strike) + dy * np.cos(strike) + self.length_m / 2
        y = -dx * np.cos(strike) + dy * np.sin(strike) + self.width_m * np.cos(dip)
        p = y * np.cos(dip) + bottom * np.sin(dip)
        q = y * np.sin(dip) - bottom * np.cos(dip)
        total = np.zeros((3, *np.shape(x)))
        for sign, xi, eta in (
            (1, x, p),
            (-1, x, p - self.width_m),
            (-1, x - self.length_m, p),
            (1, x - self.length_m, p - self.width_m),
        ):
            strike_slip, dip_slip = _okada_terms(xi, eta, q, dip)
            total -= sign * self.slip_m / (2 * np.pi) * (np.cos(rake) * strike_slip + np.sin(rake) * dip_slip)
        along, left, up = total
        return np.stack(
            [along * np.sin(strike) - left * np.cos(strike), along * np.cos(strike) + left * np.sin(strike), up]
        )


def _okada_terms(xi: Floats, eta: Floats, q: Floats, dip: float) -> tuple[Floats, Floats]:
    """The strike-slip and dip-slip brackets for (x, y, z) at one corner."""
    sin, cos = np.sin(dip), np.cos(dip)
    ratio = 1 - 2 * POISSON  # μ/(λ + μ)
    y, d = eta * cos + q * sin, eta * sin - q * cos
    r = np.sqrt(xi**2 + eta**2 + q**2)
    big_x = np.sqrt(xi**2 + q**2)
    angle = np.arctan(xi * eta / (q * r))
    if abs(cos) > 1e-6:
        i5 = (
            ratio
            * 2
            / cos
            * np.arctan((eta * (big_x + q * cos) + big_x * (r + big_x) * sin) / (xi * (r + big_x) * cos))
        )
        i4 = ratio / cos * (np.log(r + d) - sin * np.log(r + eta))
        i3 = ratio * (y / cos / (r + d) - np.log(r + eta)) + sin / cos * i4
        i1 = ratio * (-xi / cos / (r + d)) - sin / cos * i5
    else:
        i5 = -ratio * xi * sin / (r + d)
        i4 = -ratio * q / (r + d)
        i3 = ratio / 2 * (eta / (r + d) + y * q / (r + d) ** 2 - np.log(r + eta))
        i1 = -ratio / 2 * xi * q / (r + d) ** 2
    i2 = ratio * -np.log(r + eta) - i3
    common = q / (r * (r + eta))
    strike_slip = np.stack(
        [
            xi * common + angle + i1 * sin,
            y * common + q * cos / (r + eta) + i2 * sin,
            d * common + q * sin / (r + eta) + i4 * sin,
        ]
    )
    other = q / (r * (r + xi))
    dip_slip = np.stack(
        [q / r - i3 * sin * cos, y * other + cos * angle - i1 * sin * cos, d * other + sin * angle - i5 * sin * cos]
    )
    return strike_slip, dip_slip
