"""What work would cost, before it is submitted: learned from what ran, and nothing comes of asking."""

import math
from datetime import timedelta

import pytest

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Resources
from armillary.base.errors import NotFound
from armillary.granules.granule import Reference
from armillary.jobs.job import CURRENT, JobRequest
from armillary.pools import define as pools
from armillary.pools import estimate
from armillary.pools.estimate import Load
from armillary.testing.world import OWNER, algorithm

SIZE = Resources(4, 8 * 2**30, 8 * 2**30, math.inf)  # a job of 1 CPU holds a quarter of it


@pytest.fixture
async def priced(world, clock):
    await price(world, 8)
    return world


async def price(world, per_hour):
    document = {"kind": "pool", "id": "default", "provider": "none", "scale": {"cost_per_hour": per_hour}}
    async with world.database.transaction() as tx:
        await pools.put(tx, OWNER, document, 2)


async def ran(world, clock, *minutes, **more):
    """Jobs that succeeded after so long."""
    worker = await world.worker(capacity=SIZE)
    for number, took in enumerate(minutes):
        name = f"{took}-{number}-{'-'.join(more)}"
        await world.submit(await world.granule(name), **more)
        (lease,) = await world.lease(worker, free=SIZE)
        clock.advance(timedelta(minutes=took))
        await world.finish(worker, await world.succeed(worker, lease, name))
    async with world.database.transaction() as tx:
        await tx.execute("update worker set state = 'gone' where id = %s", [worker.worker_id])


async def asked(world, *requests, actor=OWNER):
    async with world.database.transaction() as tx:
        outcomes, found = await estimate.of_requests(tx, actor, requests)
    return outcomes, [estimate.shown(one) for one in found], estimate.total(found)


def wish(name="new", **more):
    return JobRequest("stats", inputs={"scene": (Reference("scene", name, CURRENT),)}, **more)


async def test_an_estimate_is_learned_from_what_ran_and_says_so(priced, clock):
    await ran(priced, clock, *range(10, 21))
    await priced.worker(capacity=SIZE)
    await priced.granule("new")
    events, jobs = await priced.count("event"), await priced.count("job")
    outcomes, [found], total = await asked(priced, wish())
    assert [one.outcome for one in outcomes] == ["submitted"]
    assert found["runs"] == 11
    assert found["seconds"] == {"mean": 900, "median": 900, "p90": pytest.approx(19 * 60), "limit": 3600}
    assert found["cost"]["median"] == pytest.approx(8 * 0.25 * 0.25)
    assert total == {"jobs": 1, "seconds": 900, "cost": pytest.approx(0.5), "cost_p90": pytest.approx(19 / 60 * 2),
                     "cost_limit": pytest.approx(2)}  # fmt: skip
    assert found["basis"] == (
        "The last 11 runs of stats 1.0.0: median 15 min 0 s, 9 of 10 within 19 min 0 s. 8 an hour, of which it holds 25%."
    )
    assert (await priced.count("event"), await priced.count("job")) == (events, jobs), "nothing came of asking"
    assert (await priced.submit(Reference("scene", "new", 1))).outcome == "submitted"


async def test_without_history_it_says_what_would_happen(priced):
    await priced.granule("new")
    _, [found], total = await asked(priced, wish())
    assert (found["runs"], found["seconds"], found["share"]) == (0, {"limit": 3600}, 1)
    assert total == {"jobs": 1, "seconds": None, "cost": None, "cost_p90": None, "cost_limit": 8}
    assert found["basis"] == (
        "No run of stats is known. It may take up to its limit of 1 h 0 min per attempt, 2 attempts at most. "
        "8 an hour, of which it holds 100%, counted whole as no worker of pool default has said its size."
    )


async def test_another_version_is_better_than_nothing_and_is_called_so(priced, clock):
    await ran(priced, clock, 10, 20)
    await priced.algorithm(algorithm(version="1.1.0"))
    await priced.granule("new")
    _, [found], _ = await asked(priced, wish())
    assert (found["version"], found["runs"], found["seconds"]["median"]) == ("1.1.0", 2, 900)
    assert found["basis"].startswith("No run of stats 1.1.0 is known; The last 2 runs of other versions: median 15 min")
    await ran(priced, clock, 30)
    _, [found], _ = await asked(priced, wish())
    assert (found["runs"], found["seconds"]["median"]) == (1, 1800)


async def test_what_is_shared_or_reused_costs_nothing_more(priced, clock):
    await ran(priced, clock, 10)
    await priced.granule("new")
    await priced.submit(Reference("scene", "new", 1))
    outcomes, found, total = await asked(priced, wish(), wish("10-0-"), wish("new", twins="again"))
    assert [one.outcome for one in outcomes] == ["shared", "reused", "submitted"]
    assert (total["jobs"], found[0]["jobs"]) == (1, 1)


async def test_failed_attempts_of_a_job_are_in_its_time(priced, clock):
    from armillary.algorithms.algorithm import ErrorClass
    from armillary.jobs.job import AttemptOutcome, Report

    worker = await priced.worker(capacity=SIZE)
    await priced.submit(await priced.granule("a"))
    (lease,) = await priced.lease(worker, free=SIZE)
    clock.advance(timedelta(minutes=5))
    await priced.finish(worker, Report(lease.job_id, 1, AttemptOutcome.FAILED, ErrorClass.INFRASTRUCTURE))
    clock.advance(timedelta(minutes=1))
    (lease,) = await priced.lease(worker, free=SIZE)
    clock.advance(timedelta(minutes=10))
    await priced.finish(worker, await priced.succeed(worker, lease))
    await priced.granule("new")
    _, [found], _ = await asked(priced, wish())
    assert (found["runs"], found["seconds"]["median"]) == (1, 15 * 60)


async def test_a_mistake_is_told_as_submitting_would(priced):
    with pytest.raises(NotFound, match="no granule scene/none"):
        await asked(priced, wish("none"))


async def test_a_pool_without_a_price_is_named_and_others_histories_are_not_told(world, clock):
    await ran(world, clock, 10)
    async with world.database.transaction() as tx:
        load = Load("stats", None, "default", 3)
        [mine] = await estimate.of_loads(tx, OWNER, [load])
        assert mine.history.runs == 1
        with pytest.raises(NotFound):
            await estimate.of_loads(tx, Actor("other", "others"), [load])
    assert estimate.total([mine]) == {"jobs": 3, "seconds": 1800, "cost": None, "cost_p90": None, "cost_limit": None}
    assert mine.basis.endswith("Pool default has no price (scale.cost_per_hour).")
