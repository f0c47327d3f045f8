"""Statistics in parts agree with statistics of the whole."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary_browse.statistics import FINE_BINS, Histogram, Moments, merged

numbers = st.floats(-1e12, 1e12, allow_nan=False)
lists = st.lists(numbers, min_size=1, max_size=200)


@given(st.lists(st.lists(numbers, max_size=40), max_size=12))
def test_merged_moments_are_those_of_the_whole(parts: list[list[float]]) -> None:
    whole = np.array([x for part in parts for x in part])
    found = merged([Moments.of(np.array(part)) for part in parts])
    assert found.count == whole.size
    if whole.size:
        scale = float(np.abs(whole).max())
        assert (found.low, found.high) == (whole.min(), whole.max())
        assert found.mean == pytest.approx(whole.mean(), rel=1e-12, abs=1e-13 * scale)
        assert found.std == pytest.approx(whole.std(), rel=1e-9, abs=1e-10 * scale)


@given(lists, lists, lists)
def test_the_order_of_merging_does_not_matter(a: list[float], b: list[float], c: list[float]) -> None:
    x, y, z = (Moments.of(np.array(part)) for part in (a, b, c))
    left, right = x.merged(y).merged(z), z.merged(x.merged(y))
    scale = max(abs(left.low), abs(left.high))
    assert (left.count, left.low, left.high) == (right.count, right.low, right.high)
    assert left.mean == pytest.approx(right.mean, abs=1e-12 * scale)
    assert left.std == pytest.approx(right.std, rel=1e-9, abs=1e-10 * scale)


def test_digits_survive_a_mean_that_is_large_against_the_spread() -> None:
    values = 1e9 + np.arange(100_000) % 3
    found = merged([Moments.of(part) for part in np.array_split(values, 37)])
    assert found.std == pytest.approx(np.sqrt(2 / 3), rel=1e-4)
    naive = np.sqrt(abs((values**2).mean() - values.mean() ** 2))
    assert abs(naive - found.std) > 0.1, "the textbook formula would have done, so this tests nothing"


@given(lists, st.floats(0, 100))
def test_percentiles_are_right_to_within_a_bin(values: list[float], percent: float) -> None:
    array = np.array(values)
    histogram = Histogram(array.min(), array.max())
    for part in np.array_split(array, 3):
        histogram.add(part)
    assert histogram.counts.sum() == array.size
    rounding = 1e-9 * np.abs(array).max()
    assert histogram.percentile(percent) == pytest.approx(
        np.percentile(array, percent), rel=0, abs=histogram.tolerance + rounding
    )


@given(lists)
def test_the_shown_histogram_counts_every_number_within_its_edges(values: list[float]) -> None:
    array = np.array(values)
    histogram = Histogram(array.min(), array.max())
    histogram.add(array)
    shown = histogram.shown()
    assert sum(shown["counts"]) == array.size
    assert (shown["edges"][0], shown["edges"][-1]) == (array.min(), array.max())
    assert all(low <= high for low, high in pairwise(shown["edges"]))


def test_a_histogram_spans_numbers_whose_difference_is_no_number() -> None:
    histogram = Histogram(-1.7e308, 1.7e308)
    histogram.add(np.array([-1.7e308, 0.0, 1.7e308]))
    assert histogram.percentile(50) == pytest.approx(0, abs=histogram.tolerance)
    assert histogram.counts[0] == histogram.counts[FINE_BINS - 1] == 1
