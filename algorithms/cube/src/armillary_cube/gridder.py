"""Between visibilities and images: the measurement equation in both directions, by ducc0's (w-)gridder.

The convention is that of measurement sets: V = Σ I·exp(+2πi(u·l + v·m + w·(n−1))) with uvw of antenna 1 minus
antenna 2, l to the east and m to the north. Images are indexed (x, y): x grows to the west, y to the north, and the
phase centre is at (nx/2, ny/2).

Sources: Ye, Gull, Tan & Nikolic 2022, MNRAS 510, 4110 (the kernel and the w-stacking); Arras et al. 2021,
A&A 646, A58 (the implementation and its error bound).
"""

from dataclasses import dataclass
from typing import Any

import ducc0
import numpy as np
from numpy.typing import NDArray

SPEED_OF_LIGHT_M_S = 299_792_458.0

Floats = NDArray[np.floating[Any]]
Complexes = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True)
class Grid:
    """The image's geometry and the accuracy at which it is made."""

    width: int
    height: int
    cell_rad: float
    w_term: bool = False
    epsilon: float = 5e-5
    double: bool = False

    @property
    def complex_type(self) -> type[np.complexfloating[Any, Any]]:
        return np.complex128 if self.double else np.complex64

    @property
    def real_type(self) -> type[np.floating[Any]]:
        return np.float64 if self.double else np.float32

    def options(self) -> dict[str, Any]:
        """The keywords both directions share; one thread, so that the sum's order and its bits are fixed."""
        return {
            "pixsize_x": self.cell_rad,
            "pixsize_y": self.cell_rad,
            "epsilon": self.epsilon,
            "do_wgridding": self.w_term,
            "flip_v": True,
            "divide_by_n": False,
            "nthreads": 1,
        }


def dirty_image(grid: Grid, uvw_m: Floats, frequency_hz: float, visibilities: Complexes, weights: Floats) -> Floats:
    """The weighted sum Σ w·Re[V·exp(−2πi(…))] over one channel's samples, on every pixel; not normalised."""
    return ducc0.wgridder.vis2dirty(  # type: ignore[no-any-return]
        uvw=uvw_m,
        freq=np.array([frequency_hz]),
        vis=visibilities.astype(grid.complex_type, copy=False)[:, None],
        wgt=weights.astype(grid.real_type, copy=False)[:, None],
        npix_x=grid.width,
        npix_y=grid.height,
        **grid.options(),
    )


def predict(grid: Grid, uvw_m: Floats, frequency_hz: float, model: Floats) -> Complexes:
    """The visibilities that a model image (Jy per pixel) would give: the adjoint of `dirty_image`."""
    return ducc0.wgridder.dirty2vis(  # type: ignore[no-any-return]
        uvw=uvw_m,
        freq=np.array([frequency_hz]),
        dirty=model.astype(grid.real_type, copy=False),
        **grid.options(),
    )[:, 0]


def direct_sum(
    grid: Grid,
    uvw_m: Floats,
    frequency_hz: float,
    visibilities: Complexes,
    weights: Floats,
    pixels: NDArray[np.integer[Any]],
) -> Floats:
    """The same sum as `dirty_image`, term by term in double precision, at the given (x, y) pixels: the truth."""
    l = -(pixels[:, 0] - grid.width // 2) * grid.cell_rad  # noqa: E741  (the field's symbol)
    m = (pixels[:, 1] - grid.height // 2) * grid.cell_rad
    n_minus_1 = np.sqrt(1 - l**2 - m**2) - 1 if grid.w_term else np.zeros_like(l)
    uvw_wavelengths = uvw_m * (frequency_hz / SPEED_OF_LIGHT_M_S)
    weighted = visibilities.astype(np.complex128) * weights
    return np.array(
        [
            float(np.real(weighted @ np.exp(-2j * np.pi * (uvw_wavelengths @ np.array([a, b, c])))))
            for a, b, c in zip(l, m, n_minus_1, strict=True)
        ]
    )
