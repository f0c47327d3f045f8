"""A worker asks for what it can run, and ahead of time only where jobs are short."""

from hypothesis import given
from hypothesis import strategies as st

from armillary.runner.lease import Limits
from armillary.runner.slots import MAX_AHEAD, Capacity, Pace, wish

WHOLE = Capacity(4, 8 << 30, 8 << 30)
LIMITS = Limits(1.5, 1 << 30, 1 << 30, 60)


def test_a_job_takes_its_share_and_gives_it_back() -> None:
    assert WHOLE.without(LIMITS).beside(LIMITS) == WHOLE
    assert WHOLE.without(LIMITS).without(LIMITS).fits(LIMITS) is False
    assert WHOLE.without(LIMITS).fits(LIMITS) is True


def test_without_room_nothing_is_asked_for() -> None:
    full = Capacity(0, 8 << 30, 8 << 30)
    assert wish(WHOLE, full, 0, 0, None).count == 0
    assert wish(WHOLE, full, 0, 0, Pace(100, 0.1)).count == 0


def test_long_jobs_are_never_taken_ahead() -> None:
    assert wish(WHOLE, WHOLE, 1, 0, Pace(100, 0.1)).count == 0
    assert wish(WHOLE, WHOLE, 0, 0, Pace(100, 0.1)).free == WHOLE


def test_short_jobs_are_taken_ahead_even_when_all_is_busy() -> None:
    full = Capacity(0, 0, 0)
    assert wish(WHOLE, full, 0, 0, Pace(0.01, 100)).count > 10
    assert wish(WHOLE, full, 30, 0, Pace(0.01, 100)).count == 0


@given(st.integers(0, 300), st.integers(0, 1000), st.floats(0, 10), st.floats(0, 10000))
def test_what_waits_is_bounded(waiting: int, unreported: int, seconds: float, per_second: float) -> None:
    asked = wish(WHOLE, WHOLE, waiting, unreported, Pace(seconds, per_second))
    assert 0 <= asked.count <= MAX_AHEAD + 1
    assert asked.count == 0 or asked.count + waiting <= MAX_AHEAD + 1
