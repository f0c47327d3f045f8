"""Statistics of more numbers than fit in memory, block by block.

Moments are merged by the pairwise update of Chan, Golub and LeVeque (1983, doi:10.1080/00031305.1983.10483115), which
does not lose digits where the mean is large against the spread. Percentiles come from a fine histogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

FINE_BINS = 65_536
SHOWN_BINS = 64

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Count, extremes, mean and the sum of squared deviations from the mean."""

    count: int = 0
    low: float = inf
    high: float = -inf
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Values) -> "Moments":
        """The moments of numbers that are all finite."""
        if not values.size:
            return cls()
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        return cls(values.size, float(values.min()), float(values.max()), mean, squares)

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both together."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count,
            min(self.low, other.low),
            max(self.high, other.high),
            self.mean + apart * (other.count / count),
            self.squares + other.squares + apart * apart * (self.count * (other.count / count)),
        )

    @property
    def std(self) -> float:
        """The standard deviation of the numbers themselves (divided by their count)."""
        return sqrt(self.squares / self.count) if self.count else 0.0


def merged(parts: Sequence[Moments]) -> Moments:
    """The moments of all parts together."""
    return reduce(Moments.merged, parts, Moments())


@dataclass
class Histogram:
    """Counts in equal bins from the least to the greatest number, which must be known before."""

    low: float
    high: float
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(FINE_BINS, np.int64))

    def add(self, values: Values) -> None:
        """Count numbers that lie between the extremes."""
        # Halves keep the difference of two huge numbers finite.
        half_width = self.high / 2 - self.low / 2
        scaled = (values / 2 - self.low / 2) / half_width if half_width > 0 else np.zeros(values.shape)
        places = np.minimum((scaled * FINE_BINS).astype(np.int64), FINE_BINS - 1)
        self.counts += np.bincount(places.ravel(), minlength=FINE_BINS)

    def percentile(self, percent: float) -> float:
        """The number below which a part of all lies, interpolated between its two neighbours.

        Each neighbour, and so the result, is right to within the width of one bin.
        """
        below = np.concatenate(([0], np.cumsum(self.counts)))
        rank = percent / 100 * (int(below[-1]) - 1)
        first, part = int(rank), rank - int(rank)
        lower = self._at_rank(first, below)
        return lower if not part else lower * (1 - part) + self._at_rank(first + 1, below) * part

    def _at_rank(self, rank: int, below: npt.NDArray[np.int64]) -> float:
        place = int(np.searchsorted(below, rank, side="right")) - 1
        return self._edge(place + (rank - int(below[place]) + 0.5) / int(self.counts[place]))

    @property
    def tolerance(self) -> float:
        """The width of a bin."""
        return (self.high / 2 - self.low / 2) / FINE_BINS * 2

    def shown(self) -> dict[str, Any]:
        """A histogram of few bins, for a chart."""
        counts = self.counts.reshape(SHOWN_BINS, -1).sum(axis=1)
        edges = [self._edge(i * FINE_BINS / SHOWN_BINS) for i in range(SHOWN_BINS + 1)]
        return {"edges": edges, "counts": [int(count) for count in counts]}

    def _edge(self, place: float) -> float:
        part, half_width = place / FINE_BINS, self.high / 2 - self.low / 2
        return min(self.high, self.low + part * half_width + part * half_width) if part < 1 else self.high
