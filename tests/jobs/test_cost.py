import math
from dataclasses import replace
from datetime import timedelta

import pytest

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import ErrorClass, Resources
from armillary.base.errors import UsageError
from armillary.granules.granule import Reference
from armillary.jobs import cost
from armillary.jobs.bulk import run
from armillary.jobs.bulk.operation import Request, Verb
from armillary.jobs.job import AttemptOutcome, Report
from armillary.jobs.select import Selection
from armillary.pools import define as pools
from armillary.testing.world import OWNER, algorithm

SIZE = Resources(4, 8 * 2**30, 8 * 2**30, math.inf)  # a job of 1 CPU holds a quarter of it


async def price(world, per_hour):
    document = {"kind": "pool", "id": "default", "provider": "none", "scale": {"cost_per_hour": per_hour}}
    async with world.database.transaction() as tx:
        await pools.put(tx, OWNER, document, 2)


async def totals(world, *by, actor=OWNER):
    async with world.database.transaction() as tx:
        return await cost.totals(tx, actor, by, None, None)


async def test_an_attempt_costs_its_share_of_the_worker_over_its_time_at_the_price_of_its_lease(world, clock):
    await price(world, 8)
    worker = await world.worker(capacity=SIZE)
    job = (await world.submit(await world.granule("a"))).job.id
    for number, failure in ((1, ErrorClass.INFRASTRUCTURE), (2, ErrorClass.SCIENCE_ERROR)):
        (lease,) = await world.lease(worker, free=SIZE)
        await price(world, 1000)  # a later price is of later leases
        clock.advance(timedelta(minutes=30))
        await world.finish(worker, Report(job, lease.number, AttemptOutcome.FAILED, failure))
        await price(world, 80)
        clock.advance(timedelta(minutes=1))
        assert number == lease.number
    first, second = await world.attempts(job)
    assert first["cost"] == pytest.approx(8 * 0.25 * 0.5)
    assert second["cost"] == pytest.approx(80 * 0.25 * 0.5)
    (row,) = await totals(world, "group", "day", "algorithm")
    assert row == {"group": "owners", "day": "2026-03-01", "algorithm": "stats", "attempts": 2,
                   "seconds": 3600, "cost": pytest.approx(11)}  # fmt: skip
    assert await totals(world, "group", actor=Actor("other", "others")) == []
    async with world.database.transaction() as tx:
        await run.perform(tx, OWNER, Request(Verb.PURGE, Selection((), "true")))
    assert await totals(world, "group", "day", "algorithm") == [row]  # what is purged has cost what it has


async def test_a_job_with_half_of_a_workers_gpus_costs_half_of_it(world, clock):
    await price(world, 8)
    size = replace(SIZE, gpu=2)
    await world.algorithm(algorithm("train", resources={"cpu": 1, "memory": "1GiB", "disk": "1GiB", "gpu": 1}))
    worker = await world.worker(capacity=size)
    job = (await world.submit(await world.granule("a"), algorithm="train")).job.id
    (lease,) = await world.lease(worker, free=size)
    clock.advance(timedelta(minutes=30))
    await world.finish(worker, await world.succeed(worker, lease))
    assert [one["cost"] for one in await world.attempts(job)] == [pytest.approx(8 * 0.5 * 0.5)]


async def test_what_has_no_price_costs_nothing_and_is_counted(world):
    worker = await world.worker(capacity=SIZE)
    await world.submit(await world.granule("a"))
    (lease,) = await world.lease(worker, free=SIZE)
    await world.finish(worker, await world.succeed(worker, lease))
    (row,) = await totals(world, "algorithm")
    assert (row["attempts"], row["cost"]) == (1, 0)


async def test_costs_are_added_up_by_what_there_is(world):
    for by in ([], ["colour"], ["day", "day"]):
        with pytest.raises(UsageError):
            await totals(world, *by)


async def made(world, clock, worker, name, minutes, **request):
    """A product of that name, made in so long."""
    await world.submit(**request)
    (lease,) = await world.lease(worker, free=SIZE)
    clock.advance(timedelta(minutes=minutes))
    await world.finish(worker, await world.succeed(worker, lease, name, name.encode()))
    return Reference("picture", name, 1)


async def product(world, granule, actor=OWNER):
    async with world.database.transaction() as tx:
        return await cost.product(tx, actor, granule)


async def test_a_product_costs_its_job_and_with_its_chain_each_job_before_it_once(world, clock):
    #  scene ── first ─┬─ left ──┬─ last
    #                  └─ right ─┘
    await price(world, 8)
    await world.algorithm(algorithm("join", inputs={"parts": {"collection": "picture", "many": True}}))
    scene, worker = await world.granule("a"), await world.worker(capacity=SIZE)
    first = await made(world, clock, worker, "first", 30, scene=scene)
    left = await made(world, clock, worker, "left", 30, algorithm="join", inputs={"parts": (first,)})
    right = await made(world, clock, worker, "right", 60, algorithm="join", inputs={"parts": (first, left)})
    last = await made(world, clock, worker, "last", 90, algorithm="join", inputs={"parts": (left, right)})
    found = await product(world, last)
    assert found.own == cost.Spent(1, 1, 90 * 60, pytest.approx(8 * 0.25 * 1.5))
    assert found.chain == cost.Spent(4, 4, 210 * 60, pytest.approx(8 * 0.25 * 3.5))
    assert (found.products, found.is_whole) == (1, True)
    assert (await product(world, first)).chain.jobs == 1
    ingested = await product(world, scene)
    assert (ingested.job, ingested.chain) == (None, cost.Spent(0, 0, 0, None))
    async with world.database.transaction() as tx:
        await run.perform(tx, OWNER, Request(Verb.PURGE, Selection((), "true")))
    assert await product(world, last) == found, "what is purged has cost what it has"


async def test_what_is_hidden_of_a_chain_is_not_told_but_that_there_is_some(world, clock):
    scene, worker = await world.granule("a"), await world.worker(capacity=SIZE)
    first = await made(world, clock, worker, "first", 30, scene=scene)
    await world.algorithm(algorithm("join", inputs={"parts": {"collection": "picture", "many": True}}))
    last = await made(world, clock, worker, "last", 10, algorithm="join", inputs={"parts": (first,)})
    async with world.database.transaction() as tx:
        await tx.execute("insert into user_group (id) values ('others')")
        await tx.execute("""update activity set "group" = 'others' where algorithm = 'stats'""")
    mine = await product(world, last, Actor("guest", "owners"))
    assert (mine.chain.jobs, mine.chain.cost, mine.is_whole) == (1, None, False)


def test_a_share_is_of_what_a_job_holds_most_of():
    size = Resources(4, 8, 16, math.inf)
    assert cost.share(Resources(1, 1, 1, 1), size) == 0.25
    assert cost.share(Resources(1, 4, 1, 1), size) == 0.5
    assert cost.share(Resources(9, 1, 1, 1), size) == 1
    assert cost.share(Resources(1, 1, 1, 1, gpu=1), replace(size, gpu=2)) == 0.5
    assert cost.share(Resources(1, 1, 1, 1), Resources(0, 0, 0, 0)) == 1
