from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms.algorithm import Resources
from armillary.jobs.queue import Demand, Share
from armillary.pools.autoscale import affordable, plan, workers_needed
from armillary.pools.pool import Pool, Scale, Start

SIZE = Resources(2, 100, 100, 0)
IDLE_AFTER = timedelta(minutes=5)
PACE = {"stats": 600.0}


def pool(low=0, high=4, **scale):
    wished = {"idle_after": IDLE_AFTER, "drain_within": timedelta(minutes=10)} | scale
    return Pool("default", "slurm", low, high, SIZE, Scale(**wished))


def start(idle=None, state="live", age=timedelta(0)):
    registered = state not in (None, "pending")
    return Start(
        uuid4(), "default", "slurm", "x", datetime(2026, 3, 1, tzinfo=UTC), uuid4() if registered else None,
        state if registered else None, idle is not None, idle, "pending" if state == "pending" else "running", age=age,
    )  # fmt: skip


def demand(waiting, running=0, cpu=1.0, memory=10, gpu=0, algorithm="stats"):
    jobs = waiting + running
    share = Share(algorithm, waiting, running, cpu * jobs, memory * jobs, 0, gpu * jobs)
    return Demand(waiting, running, cpu * jobs, memory * jobs, 0, gpu=gpu * jobs, algorithms=(share,))


def needed(wished, asked, pace=PACE, size=SIZE):
    return workers_needed(wished, size, asked, pace)[0]


def test_workers_are_enough_to_drain_the_queue_in_time():
    # 10 minutes each, two on a worker, to be done within 10 minutes: half as many workers as jobs.
    assert needed(pool(), demand(0)) == 0
    assert needed(pool(), demand(1, cpu=0.1)) == 1
    assert needed(pool(), demand(6)) == 3
    assert needed(pool(drain_within=timedelta(minutes=30)), demand(6)) == 1
    assert needed(pool(drain_within=timedelta(minutes=20)), demand(40)) == 10


def test_jobs_that_are_short_need_few_and_those_unknown_a_guess():
    assert needed(pool(), demand(600), {"stats": 1.0}) == 1
    assert needed(pool(), demand(600), {"stats": 100.0}) == 50
    assert needed(pool(), demand(80), {}) == 10


def test_the_scarcest_resource_decides_how_jobs_share_a_worker():
    assert needed(pool(), demand(6, memory=60)) == 6
    assert needed(pool(), demand(6, gpu=1), size=Resources(8, 100, 100, 0, gpu=2)) == 3
    # Three of 0.6 cores do not fit side by side on two cores as four halves would.
    assert needed(pool(), demand(6, cpu=0.6)) == 2


def test_more_workers_than_jobs_could_use_at_once_are_never_wanted():
    assert needed(pool(drain_within=timedelta(seconds=1)), demand(6)) == 3


def test_of_what_runs_half_is_left_to_do():
    assert needed(pool(), demand(0, running=8)) == 2


def test_jobs_that_no_worker_is_large_enough_for_start_none():
    found = plan(pool(), SIZE, demand(1, cpu=64), [], 0, PACE)
    assert (found.start, found.wanted) == (0, 0)
    assert "no worker is large enough" in found.reason
    assert needed(pool(), demand(1, cpu=64), size=None) == 1  # nobody knows yet how large one is


def test_a_pool_grows_by_what_is_missing_counting_those_on_their_way():
    found = plan(pool(), SIZE, demand(6), [start(state=None), start(state="draining")], 0, PACE)
    assert (found.start, found.drain, found.wanted) == (2, (), 3)
    assert "6 jobs wait" in found.reason


def test_only_the_long_idle_leave_and_the_newest_first():
    old, new = start(IDLE_AFTER), start(IDLE_AFTER)
    assert plan(pool(low=1), SIZE, demand(0), [old, new], 0, PACE).drain == (new.worker_id,)
    assert plan(pool(), SIZE, demand(0), [start(timedelta(minutes=4)), start()], 0, PACE).drain == ()


def test_what_is_pending_and_no_longer_wanted_is_cancelled_after_a_while():
    fresh, old = start(state="pending"), start(state="pending", age=IDLE_AFTER)
    assert plan(pool(), SIZE, demand(0), [fresh, old], 0, PACE).cancel == (old.id,)
    assert plan(pool(), SIZE, demand(6), [fresh, old], 0, PACE).cancel == ()


def test_above_a_lowered_maximum_the_idle_leave_at_once_and_the_busy_when_they_are_done():
    idle, busy = start(timedelta(0)), start()
    assert plan(pool(high=1), SIZE, demand(0), [busy, idle], 0, PACE).drain == (idle.worker_id,)
    assert plan(pool(high=0), SIZE, demand(0, 1), [busy, idle], 0, PACE).drain == (idle.worker_id, busy.worker_id)


def test_the_budget_of_a_day_limits_growth_but_keeps_the_minimum():
    capped = pool(low=1, cost_per_hour=1.0, max_cost_per_day=10.0)
    assert affordable(capped, 0) == 4 + 6
    assert plan(capped, SIZE, demand(6), [start()], 8.0, PACE).start == 1
    assert plan(capped, SIZE, demand(6), [start()], 10.0, PACE).start == 0
    assert "10.00 of 10.00 are spent" in plan(capped, SIZE, demand(6), [start()], 10.0, PACE).reason
    assert plan(capped, SIZE, demand(6), [], 10.0, PACE).start == 1


starts_of_all_kinds = st.lists(
    st.builds(
        lambda state, idle, age: start(
            None if idle is None else timedelta(seconds=idle), state, timedelta(seconds=age)
        ),
        st.sampled_from(["pending", None, "live", "draining"]),
        st.none() | st.integers(0, 900),
        st.integers(0, 900),
    ),
    max_size=9,
)


@given(
    st.integers(0, 3), st.integers(0, 5), st.integers(0, 50), st.integers(0, 9), starts_of_all_kinds,
    st.floats(0, 12), st.floats(0.1, 5000),
)  # fmt: skip
def test_the_wished_number_stays_within_bounds_and_nobody_is_started_and_stopped_at_once(
    low, extra, waiting, running, starts, cost, seconds
):
    wished = pool(low=low, high=low + extra, cost_per_hour=1.0, max_cost_per_day=10.0)
    found = plan(wished, SIZE, demand(waiting, running), starts, cost, {"stats": seconds})
    staying = [one for one in starts if one.worker_state != "draining"]
    leaving = [*found.drain, *found.cancel]
    after = len(staying) + found.start - len(leaving)
    assert low <= found.wanted <= low + extra
    assert not (found.start and leaving)
    assert len(set(leaving)) == len(leaving)
    assert set(leaving) <= {one.worker_id or one.id for one in staying}
    assert after >= low
    if found.start:
        assert after <= wished.max_workers
        assert after <= max(low, affordable(wished, cost))
    if len(staying) <= min(wished.max_workers, max(low, affordable(wished, cost))):
        busy = {one.worker_id for one in staying if one.worker_id and not one.is_idle}
        assert not busy & set(found.drain)


@given(st.integers(0, 40), st.floats(1, 3000), st.integers(0, 6))
def test_under_the_same_load_the_answer_is_the_same_once_it_was_followed(waiting, seconds, present):
    wished = pool(high=8)
    starts = [start() for _ in range(present)]
    first = plan(wished, SIZE, demand(waiting), starts, 0, {"stats": seconds})
    after = [*starts, *(start(state="pending") for _ in range(first.start))]
    again = plan(wished, SIZE, demand(waiting), after, 0, {"stats": seconds})
    assert (again.start, again.drain, again.cancel) == (0, (), ())
