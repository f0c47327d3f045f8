"""From correlations to weighted Stokes samples: flags, Stokes combinations, natural and Briggs weights."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from armillary_cube.errors import RefusalError
from armillary_cube.gridder import SPEED_OF_LIGHT_M_S, Complexes, Floats, Grid

# Stokes parameter → the two correlations it is made of and their factors: S = a·first + b·second.
# (Hamaker & Bregman 1996, A&AS 117, 161; I is a special case: either hand alone estimates it.)
COMBINATIONS: dict[str, tuple[tuple[str, str, complex, complex], ...]] = {
    "I": (("RR", "LL", 0.5, 0.5), ("XX", "YY", 0.5, 0.5)),
    "Q": (("RL", "LR", 0.5, 0.5), ("XX", "YY", 0.5, -0.5)),
    "U": (("RL", "LR", -0.5j, 0.5j), ("XY", "YX", 0.5, 0.5)),
    "V": (("RR", "LL", 0.5, -0.5), ("XY", "YX", -0.5j, 0.5j)),
}


def usable(visibilities: Complexes, flags: NDArray[np.bool_], weights: Floats) -> NDArray[np.bool_]:
    """Samples that are neither flagged nor weightless nor broken."""
    return ~flags & (weights > 0) & np.isfinite(weights) & np.isfinite(visibilities)


def silence(visibilities: Complexes, weights: Floats, good: NDArray[np.bool_]) -> None:
    """Put zeros, in place, under every sample that is not usable: NaN times a weight of zero is still NaN."""
    bad = ~good
    visibilities[bad] = 0
    weights[bad] = 0


def correlations_for(stokes: str, polarizations: tuple[str, ...]) -> tuple[int | None, int | None, complex, complex]:
    """Which two correlations make this Stokes parameter, by index, and with which factors."""
    for first, second, a, b in COMBINATIONS.get(stokes, ()):
        present = [polarizations.index(p) if p in polarizations else None for p in (first, second)]
        if None not in present or (stokes == "I" and present != [None, None]):
            return present[0], present[1], a, b
    raise RefusalError(
        f"Stokes {stokes} cannot be made of the correlations {', '.join(polarizations)}.",
        "choose among I, Q, U, V those whose two correlations are in the data.",
    )


def combine(
    stokes: str, polarizations: tuple[str, ...], visibilities: Complexes, weights: Floats
) -> tuple[Complexes, Floats]:
    """One Stokes parameter and its weight from silenced correlations on the last axis.

    Stokes I is the weighted mean of the parallel hands, so a sample with one hand flagged is kept. The others need
    both: their variance is (1/w₁ + 1/w₂)/4.
    """
    first, second, a, b = correlations_for(stokes, polarizations)
    if stokes == "I":
        hands = [i for i in (first, second) if i is not None]
        if len(hands) == 1:
            return visibilities[..., hands[0]].copy(), weights[..., hands[0]].copy()
        w1, w2 = weights[..., hands[0]], weights[..., hands[1]]
        total = w1 + w2
        # Shares first: dividing complex numbers takes twice as long as multiplying them by real ones.
        inverse = 1 / np.where(total > 0, total, 1)
        mean = visibilities[..., hands[0]] * (w1 * inverse)
        mean += visibilities[..., hands[1]] * (w2 * inverse)
        return mean, total
    assert first is not None
    assert second is not None
    w1, w2 = weights[..., first], weights[..., second]
    both = (w1 > 0) & (w2 > 0)
    weight = np.where(both, 4 * w1 * w2 / np.where(both, w1 + w2, 1), 0).astype(weights.dtype)
    value = visibilities[..., first] * np.complex64(a) + visibilities[..., second] * np.complex64(b)
    return np.where(both, value, 0).astype(visibilities.dtype), weight


def briggs(grid: Grid, uvw_m: Floats, frequency_hz: float, weights: Floats, robust: float) -> Floats:
    """Robust weights of one channel: w / (1 + G·f²) with G the weight density in cells of 1/(image size).

    Briggs 1995, PhD thesis, New Mexico Tech, section 3.4; every sample counts at (u, v) and (−u, −v).
    """
    x, y = _uv_cells(grid, uvw_m, frequency_hz)
    density = _density(grid, x, y, weights)
    total = weights.sum(dtype=np.float64)
    f_squared = (5 * 10.0**-robust) ** 2 / ((density**2).sum() / (2 * total))
    here = density[y * grid.width + x]
    return np.asarray(weights / (1 + here * f_squared), weights.dtype)


def _uv_cells(grid: Grid, uvw_m: Floats, frequency_hz: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    per_wavelength = frequency_hz / SPEED_OF_LIGHT_M_S * grid.cell_rad
    x = np.rint(uvw_m[:, 0] * (per_wavelength * grid.width)).astype(np.intp) + grid.width // 2
    y = np.rint(uvw_m[:, 1] * (per_wavelength * grid.height)).astype(np.intp) + grid.height // 2
    if x.min() < 1 or y.min() < 1 or x.max() >= grid.width or y.max() >= grid.height:
        raise RefusalError(
            "The cell is too coarse for the longest baseline: its samples fall outside the uv-grid.",
            "choose a smaller cell (at most half of wavelength over longest baseline).",
        )
    return x, y


def _density(grid: Grid, x: NDArray[Any], y: NDArray[Any], weights: Floats) -> Floats:
    cells = grid.width * grid.height
    mirrored = (2 * (grid.height // 2) - y) * grid.width + 2 * (grid.width // 2) - x
    there: Floats = np.bincount(y * grid.width + x, weights, cells)  # type: ignore[assignment]
    return there + np.bincount(mirrored, weights, cells)
