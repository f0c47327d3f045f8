"""Which bursts of two products make a pair, on what common grid, and which pairs are refused."""

import math
from dataclasses import dataclass

import numpy as np

from armillary_insar.errors import Refusal
from armillary_insar.safe import Burst, Product, Swath

MAX_GRID_ERROR = 0.01  # samples or lines off the common grid
REFUSED_IPF = "002.36"


@dataclass(frozen=True)
class BurstPair:
    """The same burst at both dates, and its place on the mosaic's grid."""

    swath: Swath
    burst: Burst
    secondary_swath: Swath
    secondary_burst: Burst
    first_line: int
    first_sample: int

    @property
    def name(self) -> str:
        return f"{self.swath.name}-{self.burst.identifier}"


@dataclass(frozen=True)
class Mosaic:
    """The common grid of all bursts at the reference date."""

    start_s: float
    line_s: float
    near_m: float
    sample_m: float
    lines: int
    samples: int
    looks: tuple[int, int]  # range, azimuth

    @property
    def shape(self) -> tuple[int, int]:
        """Multilook cells: only whole ones at the far ends."""
        return self.lines // self.looks[1], self.samples // self.looks[0]


@dataclass(frozen=True)
class PairPlan:
    reference: Product
    secondary: Product
    mosaic: Mosaic
    bursts: tuple[BurstPair, ...]  # by subswath, then by time

    @property
    def wavelength_m(self) -> float:
        return self.bursts[0].swath.wavelength_m


def plan_pair(
    reference: Product,
    secondary: Product,
    looks: tuple[int, int],
    swaths: list[str] | None = None,
    bursts: list[int] | None = None,
    area: tuple[float, float, float, float] | None = None,
) -> PairPlan:
    """Match bursts by identifier and lay them on one grid; refuse what cannot interfere.

    `bursts` are identifiers, `area` is west, south, east, north: bursts that touch it are taken.
    """
    refuse_unlike(reference, secondary)
    wanted = [s.upper() for s in swaths] if swaths else sorted(reference.swaths)
    for name in wanted:
        for product in (reference, secondary):
            if name not in product.swaths:
                raise Refusal(
                    f"Subswath {name} is missing from {product.name}.",
                    f"Choose among {', '.join(sorted(product.swaths))}, or fetch the whole product.",
                    "input missing",
                )
    pairs = [
        (reference.swaths[n], b, secondary.swaths[n], twin)
        for n in wanted
        for b, twin in _common(reference.swaths[n], secondary.swaths[n])
        if (not bursts or b.identifier in bursts) and (area is None or _touches(reference.swaths[n], b, area))
    ]
    if not pairs:
        raise Refusal(
            f"{reference.name} and {secondary.name} have no common bursts"
            + (" among those chosen." if bursts or area or swaths else "."),
            "Choose a pair of the same track and frame, or a larger subset.",
        )
    for swath, _, other, _ in pairs:
        refuse_unlike_swaths(swath, other)
    return _lay_out(reference, secondary, pairs, looks)


def refuse_unlike(reference: Product, secondary: Product) -> None:
    """Pairs from different tracks or directions, the same scene twice by mistake, and the IPF with a phase error."""
    if (reference.relative_orbit, reference.ascending) != (secondary.relative_orbit, secondary.ascending):
        raise Refusal(
            f"The scenes are from different tracks: {describe_track(reference)} and {describe_track(secondary)}.",
            "Choose two scenes of one relative orbit.",
        )
    for product in (reference, secondary):
        if product.ipf_version == REFUSED_IPF:
            raise Refusal(
                f"{product.name} was made by IPF {REFUSED_IPF}, whose elevation antenna pattern leaves a phase "
                "error between subswaths.",
                "Use the reprocessed product of a later IPF.",
            )


def describe_track(product: Product) -> str:
    return f"{product.relative_orbit} {'ascending' if product.ascending else 'descending'}"


def refuse_unlike_swaths(swath: Swath, other: Swath) -> None:
    for field in ("frequency_hz", "range_sampling_hz", "line_interval_s"):
        one, two = getattr(swath, field), getattr(other, field)
        if not math.isclose(one, two, rel_tol=1e-9):
            raise Refusal(
                f"{swath.name}: {field} differs between the dates ({one} and {two}).",
                "Choose two scenes of the same mode.",
            )


def _common(swath: Swath, other: Swath) -> list[tuple[Burst, Burst]]:
    twins = {b.identifier: b for b in other.bursts}
    return [(b, twins[b.identifier]) for b in swath.bursts if b.identifier in twins]


def _touches(swath: Swath, burst: Burst, area: tuple[float, float, float, float]) -> bool:
    west, south, east, north = burst_bounds(swath, burst)
    return west <= area[2] and east >= area[0] and south <= area[3] and north >= area[1]


def burst_bounds(swath: Swath, burst: Burst) -> tuple[float, float, float, float]:
    """West, south, east, north of a burst by the annotation's grid."""
    chosen = burst_points(swath, burst)
    lon, lat = swath.grid.longitude_deg[chosen], swath.grid.latitude_deg[chosen]
    return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())


def burst_points(swath: Swath, burst: Burst) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """The annotation's grid points at a burst's first line and at the next one's."""
    line = swath.grid.line
    return (line >= burst.first_line - 2) & (line <= burst.first_line + swath.lines_per_burst + 2)


def _lay_out(
    reference: Product, secondary: Product, pairs: list[tuple[Swath, Burst, Swath, Burst]], looks: tuple[int, int]
) -> PairPlan:
    """Integer places of the bursts on the grid of the earliest line and the nearest sample."""
    start = min(b.azimuth_time_s for _, b, _, _ in pairs)
    near = min(s.near_range_m for s, _, _, _ in pairs)
    line_s, sample_m = pairs[0][0].line_interval_s, pairs[0][0].range_spacing_m
    placed = []
    for swath, burst, other, twin in pairs:
        line = (burst.azimuth_time_s - start) / line_s
        sample = (swath.near_range_m - near) / sample_m
        if max(abs(line - round(line)), abs(sample - round(sample))) > MAX_GRID_ERROR:
            raise Refusal(
                f"{swath.name} burst {burst.index + 1} is off the common grid by {line - round(line):+.3f} "
                f"lines and {sample - round(sample):+.3f} samples.",
                "Process the subswaths one by one.",
            )
        placed.append(BurstPair(swath, burst, other, twin, round(line), round(sample)))
    lines = max(p.first_line + p.swath.lines_per_burst for p in placed)
    samples = max(p.first_sample + p.swath.samples_per_burst for p in placed)
    mosaic = Mosaic(start, line_s, near, sample_m, lines, samples, looks)
    return PairPlan(reference, secondary, mosaic, tuple(placed))
