"""Deconvolution: radler's minor cycles between our exact major cycles.

Sources: Högbom 1974, A&AS 15, 417; Schwab 1984, AJ 89, 1076 (major cycles on the visibilities);
Offringa & Smirnov 2017, MNRAS 471, 301 (the multiscale algorithm that radler brings).
"""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import numpy as np
import radler

from armillary_cube.beam import Beam
from armillary_cube.gridder import Complexes, Floats, Grid, dirty_image, predict

DIVERGENCE = 1.1  # a major cycle that raises the peak residual by more than this share is undone


@dataclass(frozen=True)
class CleanSettings:
    """When to stop: `threshold_jy`, or `sigma` times the residual's own noise, whichever is higher."""

    method: str = "hogbom"
    sigma: float = 3.0
    threshold_jy: float = 0.0
    gain: float = 0.1
    major_gain: float = 0.85
    majors: int = 12
    minors: int = 20_000


@dataclass(frozen=True)
class Cleaned:
    """A channel after deconvolution: model in Jy per pixel, residual in Jy per beam."""

    model: Floats
    residual: Floats
    majors: int
    minors: int
    diverged: bool


def clean(
    settings: CleanSettings,
    grid: Grid,
    uvw_m: Floats,
    frequency_hz: float,
    visibilities: Complexes,
    weights: Floats,
    psf: Floats,
    dirty: Floats,
    beam: Beam,
) -> Cleaned:
    """Alternate minor cycles on the image with exact residuals from the visibilities until nothing is left to do."""
    total = weights.sum(dtype=np.float64)

    def residual_of(model: Floats) -> Floats:
        left = visibilities - predict(grid, uvw_m, frequency_hz, model)
        return np.asarray(dirty_image(grid, uvw_m, frequency_hz, left, weights) / total)

    return deconvolve(settings, grid, psf, dirty, beam, residual_of)


def deconvolve(
    settings: CleanSettings,
    grid: Grid,
    psf: Floats,
    dirty: Floats,
    beam: Beam,
    residual_of: Callable[[Floats], Floats],
) -> Cleaned:
    """The loop itself, for any way to compute the residual of a model."""
    # radler works in place on these three: they must stay alive and contiguous while it does.
    lobe = np.ascontiguousarray(psf, np.float32)
    residual = np.array(dirty, np.float32, order="C")
    model = np.zeros_like(residual)
    with _alone():
        engine = radler.Radler(_radler_settings(settings, grid), lobe, residual, model, beam.major_rad)
    peak, majors, diverged, more = float(np.abs(residual).max()), 0, False, settings.majors > 0
    before = model.copy(), residual.copy()
    while more and majors < settings.majors:
        with _alone():
            more = engine.perform(majors)
        residual[:] = residual_of(model)
        majors += 1
        now = float(np.abs(residual).max())
        if now > DIVERGENCE * peak:
            diverged, (model[:], residual[:]) = True, before
            break
        peak, before = min(peak, now), (model.copy(), residual.copy())
    return Cleaned(model, residual, majors, int(engine.iteration_number), diverged)


def _radler_settings(settings: CleanSettings, grid: Grid) -> radler.Settings:
    chosen = radler.Settings()
    chosen.trimmed_image_width, chosen.trimmed_image_height = grid.height, grid.width  # radler's rows are our x
    chosen.pixel_scale.x = chosen.pixel_scale.y = grid.cell_rad
    chosen.algorithm_type = (
        radler.AlgorithmType.multiscale if settings.method == "multiscale" else radler.AlgorithmType.generic_clean
    )
    chosen.minor_loop_gain = settings.gain
    chosen.major_loop_gain = settings.major_gain
    chosen.minor_iteration_count = settings.minors
    chosen.major_iteration_count = settings.majors
    chosen.auto_threshold_sigma = settings.sigma if settings.sigma > 0 else None
    chosen.absolute_threshold = settings.threshold_jy
    chosen.thread_count = 1
    return chosen


_radler = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    """One thread of this process in radler, and what it prints nowhere.

    For the time of a call radler puts a buffer of its own in the place of C++'s standard output, which all threads share:
    where two calls overlap, the buffer of the one that ended first is written to, and the process dies.
    """
    with _radler, redirect_stdout(_Nowhere()):
        yield


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)
