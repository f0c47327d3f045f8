"""The restoring beam: an elliptical Gaussian fitted to the main lobe of the point spread function."""

from dataclasses import dataclass

import ducc0
import numpy as np
from scipy import ndimage

from armillary_cube.gridder import Floats

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
LOBE_FLOOR = 0.35  # samples below this share of the peak belong to sidelobes as much as to the lobe
REFINEMENTS = 6  # Gauss–Newton steps; the start in the logarithm is already within a few per cent


@dataclass(frozen=True)
class Beam:
    """Full widths at half maximum and the position angle of the major axis, from north through east."""

    major_rad: float
    minor_rad: float
    angle_rad: float

    @property
    def area_rad2(self) -> float:
        return float(np.pi / (4 * np.log(2))) * self.major_rad * self.minor_rad

    def shape(self) -> tuple[float, float, float]:
        """The coefficients (a, b, c) of exp(−(a·x² + b·x·y + c·y²)), x to the west and y to the north."""
        p, q = (FWHM_PER_SIGMA**2 / (2 * fwhm**2) for fwhm in (self.major_rad, self.minor_rad))
        sin, cos = np.sin(self.angle_rad), np.cos(self.angle_rad)
        # The major axis points to (x, y) = (−sin, cos): east is to the left.
        return (p * sin**2 + q * cos**2, -2 * sin * cos * (p - q), p * cos**2 + q * sin**2)


def fit(psf: Floats, cell_rad: float) -> Beam:
    """The least-squares Gaussian of unit height through the main lobe; a start in the logarithm, then refined."""
    x, y, value = _main_lobe(psf)
    powers = np.stack([x * x, x * y, y * y], 1)
    shape, *_ = np.linalg.lstsq(powers * value[:, None], -np.log(value) * value, rcond=None)
    for _ in range(REFINEMENTS):
        model = np.exp(-(powers @ shape))
        step, *_ = np.linalg.lstsq(-powers * model[:, None], value - model, rcond=None)
        shape = shape + step
    a, b, c = (float(s) / cell_rad**2 for s in shape)
    return _from_shape(a, b, c, cell_rad)


def _main_lobe(psf: Floats) -> tuple[Floats, Floats, Floats]:
    """Offsets and values of the pixels above the floor that hang together with the peak."""
    cx, cy = psf.shape[0] // 2, psf.shape[1] // 2
    reach = min(32, cx, cy)
    window = psf[cx - reach : cx + reach, cy - reach : cy + reach].astype(np.float64)
    labels, _ = ndimage.label(window >= LOBE_FLOOR * window[reach, reach])
    ix, iy = np.nonzero(labels == labels[reach, reach])
    return (ix - reach).astype(float), (iy - reach).astype(float), window[ix, iy] / window[reach, reach]


def _from_shape(a: float, b: float, c: float, cell_rad: float) -> Beam:
    narrow, vectors = np.linalg.eigh(np.array([[a, b / 2], [b / 2, c]]))
    if len(narrow) < 2 or narrow[0] <= 0:  # a lobe of one or two pixels: the cell is far too coarse for a fit
        return Beam(cell_rad, cell_rad, 0.0)
    widths = FWHM_PER_SIGMA / np.sqrt(2 * narrow)
    x, y = vectors[:, 0]
    angle = float(np.arctan2(-x, y))
    return Beam(float(widths[0]), float(widths[1]), (angle + np.pi / 2) % np.pi - np.pi / 2)


def smooth(model: Floats, beam: Beam, cell_rad: float) -> Floats:
    """The model convolved with the beam at unit height: Jy per pixel to Jy per beam, by its exact transform."""
    spectrum = ducc0.fft.r2c(model.astype(np.float64), nthreads=1)
    a, b, c = (s * cell_rad**2 for s in beam.shape())
    u = np.fft.fftfreq(model.shape[0])[:, None]
    v = np.fft.rfftfreq(model.shape[1])[None, :]
    determinant = a * c - b * b / 4
    gaussian = np.exp(-(np.pi**2) * (c * u * u - b * u * v + a * v * v) / determinant)
    spectrum *= gaussian * (np.pi / np.sqrt(determinant))
    image: Floats = ducc0.fft.c2r(
        spectrum, lastsize=model.shape[1], forward=False, inorm=2, nthreads=1, allow_overwriting_input=True
    )
    return image
