"""How many looks a multilook cell is worth, from the processing windows and from the image itself."""

import numpy as np
import numpy.typing as npt

from armillary_insar.safe import Swath


def effective_looks(swath: Swath, looks: tuple[int, int]) -> float:
    """N² / Σ |ρ|² over the cell, with ρ the speckle's correlation that the annotation's windows give.

    The point response's spectrum is the window W(f); speckle's autocorrelation is the transform of W².
    """
    range_axis = _axis(swath.range_bandwidth_hz / swath.range_sampling_hz, swath.range_window, looks[0])
    azimuth_axis = _axis(swath.azimuth_bandwidth_hz * swath.line_interval_s, swath.azimuth_window, looks[1])
    return range_axis * azimuth_axis


def _axis(bandwidth: float, window: float, looks: int) -> float:
    """Along one axis; `bandwidth` in cycles per sample."""
    f = (np.arange(4000) + 0.5) / 4000 * bandwidth - bandwidth / 2
    power = (window + (1 - window) * np.cos(2 * np.pi * f / bandwidth)) ** 2
    lag = np.arange(-(looks - 1), looks)
    rho = np.cos(2 * np.pi * lag[:, None] * f) @ power / power.sum()
    return float(looks**2 / np.sum((looks - np.abs(lag)) * rho**2))


def measured_looks(power: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], window: int = 5) -> float:
    """Harmonic mean over small windows of (mean/deviation)² of the multilooked intensity."""
    rows, columns = (n // window * window for n in power.shape)
    blocks = power[:rows, :columns].astype(float).reshape(rows // window, window, columns // window, window)
    whole = valid[:rows, :columns].reshape(rows // window, window, columns // window, window).all(axis=(1, 3))
    mean = blocks.mean(axis=(1, 3))[whole]
    variance = blocks.var(axis=(1, 3), ddof=1)[whole]
    return float(1 / np.mean(variance / mean**2)) if mean.size else float("nan")


def cramer_rao_rad(coherence: npt.NDArray[np.float64], looks: float) -> npt.NDArray[np.float64]:
    """Smallest standard deviation of the interferometric phase: sqrt((1 − γ²)/(2 N γ²)) (Seymour and Cumming 1994)."""
    return np.sqrt((1 - coherence**2) / (2 * looks * coherence**2))
