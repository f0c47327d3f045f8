"""How many looks a multilook cell is worth, from the processing windows and from the image itself."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armillary_insar.safe import Floats, Swath


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


@dataclass(frozen=True)
class SharedSpectrum:
    """What two spectra of one ground, one shifted against the other, leave along one axis; all 1 where nothing is shifted."""

    coherence: Floats  # the windows' overlap
    noise: Floats  # Σ over a cell of the two dates' autocorrelations, which no longer turn together
    common: Floats  # Σ over a cell of their cross-correlation squared


def shared_spectrum(bandwidth: float, window: float, shift: Floats, looks: int) -> SharedSpectrum:
    """Along an axis with a window over `bandwidth` and cells of so many `looks`; all frequencies in cycles per sample."""
    shifts = np.linspace(0, max(float(np.max(np.abs(shift))), 1e-6), 33)
    f = (np.arange(4000) + 0.5) / 2000 * bandwidth - bandwidth
    lag = np.arange(-(looks - 1), looks)
    turning, weight = np.exp(2j * np.pi * lag[:, None] * f), looks - np.abs(lag)

    def response(offset: float) -> Floats:
        inside = np.abs(f - offset) <= bandwidth / 2
        return np.asarray(inside * (window + (1 - window) * np.cos(2 * np.pi * (f - offset) / bandwidth)))

    rows = []
    for one, two in ((response(-s / 2), response(s / 2)) for s in shifts):
        auto = (turning @ one**2) * np.conj(turning @ two**2)
        cross = np.abs(turning @ (one * two)) ** 2
        rows.append((np.sum(one * two), np.sum(weight * auto.real), np.sum(weight * cross)))
    table = np.array(rows) / np.array(rows)[0]
    return SharedSpectrum(*(np.interp(np.abs(shift), shifts, column) for column in table.T))


def multilook_phase_rad(
    coherence: Floats, looks: float, across: SharedSpectrum, along: SharedSpectrum
) -> npt.NDArray[np.float64]:
    """Standard deviation of a multilook phase where the dates' spectra are shifted: the Cramér–Rao bound if they are not.

    For circular Gaussian samples the cell's sum C of s₁ s₂* has E|ΔC|² = Σ c₁₁ c₂₂* and E(ΔC)² = Σ |c₁₂|², and its phase the
    variance (E|ΔC|² − E(ΔC)²)/(2 |C|²). Coherence falls more than this grows, because what the spectra do not share varies
    fast and averages out: the bound for the lower coherence alone would excuse too much.
    """
    kept = coherence * across.coherence * along.coherence
    noise = across.noise * along.noise - coherence**2 * across.common * along.common
    return np.asarray(np.sqrt(noise / (2 * looks * kept**2)))


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
