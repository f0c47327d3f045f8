"""A worker asks for what it can run, and ahead of time only where jobs are short."""

from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms.algorithm import ErrorClass
from armillary.runner.lease import Limits
from armillary.runner.slots import MAX_AHEAD, Capacity, Devices, Pace, Streak, Wish, wish
from armillary.runner.verdict import Verdict

WHOLE = Capacity(4, 8 << 30, 8 << 30, 2)
LIMITS = Limits(1.5, 1 << 30, 1 << 30, 60, 1)


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
    assert wish(WHOLE, full, 0, 0, Pace(0.01, 100)) == Wish(26, WHOLE, in_turn=True)
    assert wish(WHOLE, full, 30, 0, Pace(0.01, 100)).count == 0


def test_once_none_has_ended_for_a_while_what_runs_may_be_long_and_none_is_taken_ahead() -> None:
    full = Capacity(0, 0, 0)
    assert wish(WHOLE, full, 0, 0, Pace(0.01, 3.9)).count == 0
    assert wish(WHOLE, full, 0, 0, Pace(0.01, 4.1)).count == 2
    assert not wish(WHOLE, WHOLE, 0, 0, Pace(0.01, 3.9)).in_turn


BROKEN = Verdict("failed", ErrorClass.INFRASTRUCTURE, "Read-only file system")
BLAMELESS = Verdict("failed", ErrorClass.OUT_OF_MEMORY)
FINE = Verdict("succeeded")


def test_a_streak_is_of_different_jobs_and_of_failures_that_say_something_about_the_worker() -> None:
    streak = Streak()
    for job, verdict in (("a", BROKEN), ("a", BROKEN), ("b", BLAMELESS), ("c", Verdict("cancelled")), ("b", BROKEN)):
        streak = streak.after(job, verdict)
    assert not streak.is_long
    assert streak.after("c", BROKEN).is_long
    assert not streak.after("c", BROKEN).after("d", FINE).is_long


def test_where_everything_fails_one_job_is_asked_for_at_a_time() -> None:
    assert wish(WHOLE, WHOLE, 0, 0, Pace(0.01, 100), fails=True) == Wish(1, WHOLE)
    assert wish(WHOLE, WHOLE, 1, 0, Pace(0.01, 100), fails=True).count == 0
    assert wish(WHOLE, Capacity(0, 0, 0), 0, 0, Pace(0.01, 100), fails=True).count == 0


SIZES = st.builds(Limits, st.floats(0.01, 6), st.integers(1, 12), st.integers(1, 12), st.just(60.0), st.integers(0, 3))


@given(st.lists(SIZES, max_size=40), st.lists(st.integers(0, 39), max_size=80))
def test_jobs_of_all_sizes_share_a_worker_without_ever_having_more_than_it_has(
    jobs: list[Limits], ends: list[int]
) -> None:
    whole = Capacity(4, 8, 8, 3)
    free, devices, running = whole, Devices("abc"), []
    for limits in jobs:
        if free.fits(limits):
            free = free.without(limits)
            running.append((limits, devices.take(limits.gpu)))
        elif ends and running:
            ended, held = running.pop(ends.pop() % len(running))
            free = free.beside(ended)
            devices.give_back(held)
        taken = [name for _, held in running for name in held]
        assert len(taken) == len(set(taken)) <= 3
        assert [len(held) for _, held in running] == [one.gpu for one, _ in running]
        for name in ("cpu", "memory_bytes", "disk_bytes", "gpu"):
            used = sum(getattr(one, name) for one, _ in running)
            assert used <= getattr(whole, name) + 1e-6
            assert abs(getattr(free, name) - (getattr(whole, name) - used)) < 1e-6


@given(st.integers(0, 300), st.integers(0, 1000), st.floats(0, 10), st.floats(0, 10000))
def test_what_waits_is_bounded(waiting: int, unreported: int, seconds: float, per_second: float) -> None:
    asked = wish(WHOLE, WHOLE, waiting, unreported, Pace(seconds, per_second))
    assert 0 <= asked.count <= MAX_AHEAD + 1
    assert asked.count == 0 or asked.count + waiting <= MAX_AHEAD + 1
