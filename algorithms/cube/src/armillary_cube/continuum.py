"""Continuum subtraction in the visibilities: a polynomial in frequency per row and hand, fitted to line-free channels.

Order 0 is the weighted mean of the line-free channels. Sums run channel by channel in the file's order, so the
result does not depend on how the file is chunked. (Cornwell, Uson & Haddad 1992, A&A 258, 583.)
"""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from armillary_cube.errors import RefusalError
from armillary_cube.plan import Continuum
from armillary_cube.visibilities import Description, read_channels
from armillary_cube.weights import silence, usable


def fit(about: Description, settings: Continuum, out: Path) -> None:
    """Fit the whole set and write the coefficients, one array per partition; the last thing written is the marker."""
    sums = [_Sums.empty(p.times, p.baselines, len(about.polarizations), settings.order) for p in about.partitions]
    chosen = settings.channels()
    step = max(p.chunk_channels for p in about.partitions)
    for start in range(0, about.channels, step):
        here = [c for c in chosen if start <= c < start + step]
        if not here:
            continue
        blocks = read_channels(about, here[0], here[-1] + 1)
        for total, values, flags, weights in zip(sums, *blocks, strict=True):
            for channel in here:
                at = channel - here[0]
                total.add(position(about, channel), values[:, :, at], flags[:, :, at], weights[:, :, at])
    group = zarr.open_group(out, mode="w")
    for part, total in zip(about.partitions, sums, strict=True):
        coefficients = total.solve()
        group.create_array(part.name, data=coefficients, chunks=coefficients.shape)
    group.attrs["complete"] = True


def is_complete(out: Path) -> bool:
    return (out / "zarr.json").is_file() and bool(zarr.open_group(out, mode="r").attrs.get("complete"))


def subtract(about: Description, out: Path, first: int, values: list[Any], flags: list[Any]) -> None:
    """Take the fit from blocks of channels that start at `first`, in place; rows without a fit are flagged."""
    if not is_complete(out):
        raise RefusalError("The continuum has not been fitted yet.", "run the whole `image` command again.")
    group = zarr.open_group(out, mode="r")
    for part, block, flag in zip(about.partitions, values, flags, strict=True):
        coefficients: Any = group[part.name][:]  # type: ignore[index]
        for at in range(block.shape[2]):
            x = position(about, first + at)
            block[:, :, at] -= sum(c * np.float32(x**k) for k, c in enumerate(coefficients))
        flag |= ~np.isfinite(coefficients[0])[:, :, None]


def position(about: Description, channel: int) -> float:
    """A channel's place on the axis of the polynomial, from −1 to 1 across the band."""
    half = max(1, about.channels - 1) / 2
    return (channel - half) / half if about.channels > 1 else 0.0


class _Sums:
    """The normal equations of a weighted polynomial fit, gathered channel by channel."""

    def __init__(self, moments: NDArray[np.float64], products: NDArray[np.complex128]) -> None:
        self.moments = moments  # Σ w·x^k, k to twice the order
        self.products = products  # Σ w·x^k·V, k to the order

    @classmethod
    def empty(cls, times: int, baselines: int, hands: int, order: int) -> "_Sums":
        shape = (times, baselines, hands)
        return cls(np.zeros((2 * order + 1, *shape)), np.zeros((order + 1, *shape), complex))

    def add(self, x: float, values: Any, flags: Any, weights: Any) -> None:
        value, weight = values.astype(np.complex128), weights.astype(np.float64)
        silence(value, weight, usable(value, flags, weight))
        for k in range(len(self.moments)):
            self.moments[k] += weight * x**k
        for k in range(len(self.products)):
            self.products[k] += weight * value * x**k

    def solve(self) -> NDArray[np.complex64]:
        """Coefficients (power, time, baseline, hand); NaN where the line-free channels do not determine them."""
        size = len(self.products)
        if size == 1:
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = self.products[0] / self.moments[0]
            return np.where(self.moments[0] > 0, mean, np.nan)[None].astype(np.complex64)
        index = np.add.outer(np.arange(size), np.arange(size))
        matrix = np.moveaxis(self.moments[index], (0, 1), (-2, -1))
        vector = np.moveaxis(self.products, 0, -1)
        solvable = np.linalg.cond(matrix) < 1e12
        safe = np.where(solvable[..., None, None], matrix, np.eye(size))
        found = np.linalg.solve(safe.astype(complex), vector[..., None])[..., 0]
        found = np.where(solvable[..., None], found, np.nan)
        return np.ascontiguousarray(np.moveaxis(found, -1, 0)).astype(np.complex64)
