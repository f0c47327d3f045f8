"""Counting a queue seldom enough."""

from armillary.jobs import queue
from armillary.jobs.queue import Demand
from armillary.pools.census import AT_ONCE_SECONDS, SPARING, Census, due


async def test_a_long_count_is_good_for_a_while_and_a_short_one_is_made_anew(monkeypatch):
    now, took, counts = 100.0, 0.5, []

    async def demand(tx):
        nonlocal now
        now += took
        counts.append(Demand(waiting=len(counts)))
        return {"default": counts[-1]}

    monkeypatch.setattr(queue, "demand", demand)
    census = Census(lambda: now)
    assert await census.demand(None) == ({"default": counts[0]}, True)
    now += took * SPARING - 0.1
    assert await census.demand(None) == ({"default": counts[0]}, False)
    now, took = now + 0.2, AT_ONCE_SECONDS / 2
    assert await census.demand(None) == ({"default": counts[1]}, True)
    assert await census.demand(None) == ({"default": counts[2]}, True)


def test_a_count_takes_a_twentieth_of_the_time_at_most():
    for took in (0.06, 0.5, 3.0):
        assert took / (due(0.0, took) - 0.0) < 1 / SPARING
