from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms.algorithm import Resources
from armillary.jobs.queue import Demand
from armillary.pools.autoscale import Plan, plan, workers_wanted
from armillary.pools.pool import Pool, Scale, Start

SIZE = Resources(2, 100, 100, 0)
IDLE_AFTER = timedelta(minutes=5)


def pool(low=0, high=4, **scale):
    return Pool("default", "local", low, high, SIZE, Scale(idle_after=IDLE_AFTER, **scale))


def start(idle=None, state="live"):
    registered = state is not None
    return Start(
        uuid4(), "default", "local", "x", datetime(2026, 3, 1, tzinfo=UTC), uuid4() if registered else None, state,
        idle is not None, idle,
    )  # fmt: skip


def demand(waiting, running=0, cpu=1.0, memory=10):
    jobs = waiting + running
    return Demand(waiting, running, cpu * jobs, memory * jobs, 0)


def test_workers_follow_the_scarcest_resource_and_never_outnumber_jobs():
    assert workers_wanted(pool(), SIZE, demand(0)) == 0
    assert workers_wanted(pool(), SIZE, demand(1, cpu=0.1)) == 1
    assert workers_wanted(pool(), SIZE, demand(6)) == 3
    assert workers_wanted(pool(), SIZE, demand(6, memory=60)) == 4
    assert workers_wanted(pool(), SIZE, demand(1, cpu=64)) == 1
    assert workers_wanted(pool(low=2), SIZE, demand(0)) == 2


def test_a_pool_grows_by_what_is_missing_counting_those_on_their_way():
    found = plan(pool(), SIZE, demand(6), [start(state=None), start(state="draining")], 0)
    assert (found.start, found.drain) == (2, ())
    assert "6 jobs wait" in found.reason


def test_only_the_long_idle_leave_and_the_newest_first():
    old, new = start(IDLE_AFTER), start(IDLE_AFTER)
    assert plan(pool(low=1), SIZE, demand(0), [old, new], 0).drain == (new.worker_id,)
    assert plan(pool(), SIZE, demand(0), [start(timedelta(minutes=4)), start()], 0) == Plan()


def test_above_a_lowered_maximum_the_idle_leave_at_once():
    idle = start(timedelta(0))
    assert plan(pool(high=1), SIZE, demand(0), [start(), idle], 0).drain == (idle.worker_id,)


def test_the_cost_cap_stops_growth_but_keeps_the_minimum():
    capped = pool(low=1, cost_per_hour=1.0, max_cost_per_day=10.0)
    assert plan(capped, SIZE, demand(6), [start()], 10.0).start == 0
    assert "cap" in plan(capped, SIZE, demand(6), [start()], 10.0).reason
    assert plan(capped, SIZE, demand(6), [], 10.0).start > 0
    assert plan(capped, SIZE, demand(6), [start()], 9.0).start > 0


@given(
    st.integers(0, 3), st.integers(0, 5), st.integers(0, 50), st.integers(0, 9),
    st.lists(st.sampled_from([None, "live", "draining"]), max_size=8),
    st.lists(st.integers(0, 900), min_size=8, max_size=8),
)  # fmt: skip
def test_the_wished_number_stays_within_bounds_and_nobody_is_started_and_drained_at_once(
    low, extra, waiting, running, states, idle_seconds
):
    wished = pool(low=low, high=low + extra)
    starts = [start(timedelta(seconds=one), state) for state, one in zip(states, idle_seconds, strict=False)]
    found = plan(wished, SIZE, demand(waiting, running), starts, 0)
    staying = [one for one in starts if one.worker_state != "draining"]
    after = len(staying) + found.start - len(found.drain)
    assert not (found.start and found.drain)
    assert set(found.drain) <= {one.worker_id for one in staying}
    assert after >= low
    if found.start:
        assert after <= wished.max_workers
