"""Words of findings: numbers, times and lists as sentences hold them."""

from collections.abc import Sequence
from datetime import timedelta

SHOWN = 3


def several(number: int, noun: str) -> str:
    """`1 job`, `12 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(time: timedelta) -> str:
    """A length of time, rounded so that a sentence does not change at each look: `8 s`, `12 min`, `3.5 h`, `2.0 days`."""
    seconds = abs(time.total_seconds())
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def listed(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(words) - SHOWN
    return "; ".join(words[:SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
