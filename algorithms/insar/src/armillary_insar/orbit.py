"""Orbits: state vectors from EOF files or annotation, interpolated and re-expressed as short polynomials."""

import gzip
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.interpolate import KroghInterpolator

from armillary_insar.errors import Refusal
from armillary_insar.safe import Floats, StateVectors, parse_time, seconds_after, text

HERMITE_POINTS = 4  # positions and velocities at four points: degree seven, as ISCE does


@dataclass(frozen=True)
class OrbitPolynomial:
    """Position as a polynomial in (t − centre) / scale; exact to nanometres over tens of seconds."""

    centre_s: float
    scale_s: float
    coefficients: Floats  # (degree + 1, 3), rising powers

    def at(self, time_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Position (m), velocity (m/s) and acceleration (m/s²), each (..., 3)."""
        x = (np.asarray(time_s, float) - self.centre_s) / self.scale_s
        polyval, polyder = np.polynomial.polynomial.polyval, np.polynomial.polynomial.polyder
        derivatives = [self.coefficients, polyder(self.coefficients), polyder(self.coefficients, 2)]
        values = [np.moveaxis(polyval(x, c), 0, -1) / self.scale_s**k for k, c in enumerate(derivatives)]
        return values[0], values[1], values[2]


def interpolate(vectors: StateVectors, time_s: float) -> Floats:
    """Position at one time by Hermite interpolation through the four nearest state vectors."""
    return np.asarray(_hermite(vectors, time_s)(time_s))


def _hermite(vectors: StateVectors, time_s: float) -> KroghInterpolator:
    after = int(np.searchsorted(vectors.time_s, time_s))
    first = int(np.clip(after - HERMITE_POINTS // 2, 0, len(vectors.time_s) - HERMITE_POINTS))
    chosen = slice(first, first + HERMITE_POINTS)
    times = np.repeat(vectors.time_s[chosen], 2)  # a repeated abscissa carries the derivative
    values = np.stack([vectors.position_m[chosen], vectors.velocity_m_s[chosen]], axis=1).reshape(-1, 3)
    return KroghInterpolator(times, values)


def polynomial(vectors: StateVectors, start_s: float, stop_s: float, degree: int = 7) -> OrbitPolynomial:
    """The orbit over an interval as one polynomial through Chebyshev nodes."""
    require_cover(vectors, start_s, stop_s)
    centre, scale = (start_s + stop_s) / 2, max((stop_s - start_s) / 2, 1.0)
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    positions = np.array([interpolate(vectors, centre + scale * x) for x in nodes])
    return OrbitPolynomial(centre, scale, np.linalg.solve(np.vander(nodes, increasing=True), positions))


def require_cover(vectors: StateVectors, start_s: float, stop_s: float, name: str = "The orbit") -> None:
    """Refuse an orbit that would have to be extrapolated."""
    times = vectors.time_s
    if len(times) < HERMITE_POINTS or times[0] > start_s or times[-1] < stop_s:
        raise Refusal(
            f"{name} does not cover the acquisition.",
            "Give a precise or restituted orbit file whose validity spans it, or none to use the annotation's.",
        )


def read_eof(
    path: Path, epoch: datetime, margin_s: float = 120.0, around: tuple[datetime, datetime] | None = None
) -> StateVectors:
    """State vectors of an orbit file (.EOF, .EOF.gz) near the acquisition, in seconds after `epoch`."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    root = ElementTree.fromstring(data)  # noqa: S314
    rows = []
    for osv in root.iter("OSV"):
        time_s = seconds_after(epoch, text(osv, "UTC"))
        if around and not (seconds(epoch, around[0]) - margin_s <= time_s <= seconds(epoch, around[1]) + margin_s):
            continue
        rows.append([time_s, *(float(text(osv, axis)) for axis in ("X", "Y", "Z", "VX", "VY", "VZ"))])
    table = np.array(rows).reshape(-1, 7)
    return StateVectors(table[:, 0], table[:, 1:4], table[:, 4:7])


def eof_header(path: Path) -> tuple[str, str, datetime, datetime]:
    """Mission (S1A…), file type (AUX_POEORB…), start and end of validity."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    head = ElementTree.fromstring(data).find("Earth_Explorer_Header/Fixed_Header")  # noqa: S314
    if head is None:
        raise Refusal(f"{path.name} is not an orbit file.", "Give an .EOF file in Earth Explorer format.")
    return (
        text(head, "Mission").replace("Sentinel-", "S"),
        text(head, "File_Type"),
        parse_time(text(head, "Validity_Period/Validity_Start")),
        parse_time(text(head, "Validity_Period/Validity_Stop")),
    )


def seconds(epoch: datetime, moment: datetime) -> float:
    return (moment - epoch).total_seconds()
