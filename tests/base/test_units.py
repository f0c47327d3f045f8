"""Sizes and durations as people write them."""

from datetime import timedelta

import pytest

from armillary.base.errors import UsageError
from armillary.base.units import duration, human_size, size


@pytest.mark.parametrize(
    ("text", "bytes_"), [("6GiB", 6 << 30), ("250 MB", 250_000_000), ("10", 10), ("1.5k", 1500), (7, 7)]
)
def test_sizes(text, bytes_):
    assert size(text) == bytes_


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)), ("1h30m", timedelta(minutes=90)), ("30min", timedelta(minutes=30)),
        ("P12D", timedelta(days=12)), ("PT3H", timedelta(hours=3)), ("P1W", timedelta(weeks=1)), ("PT0S", timedelta(0)),
    ],
)  # fmt: skip
def test_durations(text, length):
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "P1M", "P1Y", "PT", "P", "soon", "3", "-1h"])
def test_a_length_that_is_none_or_not_fixed_is_refused(text):
    with pytest.raises(UsageError):
        duration(text)


def test_what_people_read():
    assert human_size(1_500_000) == "1.4 MiB"
