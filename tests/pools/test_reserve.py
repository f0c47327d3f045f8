"""A job as large as a worker is not passed by for ever: a worker is kept free for it, and one alone."""

import math
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms.algorithm import Resources
from armillary.base.settings import Settings
from armillary.jobs.cancel import cancel
from armillary.jobs.job import AttemptOutcome, JobState, Report
from armillary.jobs.queue import NOTHING, Waiting
from armillary.pools import worker as workers
from armillary.pools.fleet import Providers
from armillary.pools.pool import serves
from armillary.pools.reconcile import Reconciler
from armillary.pools.reserve import PATIENCE, Room, choose, first_to_fit
from armillary.testing.memory import MemoryProvider
from armillary.testing.world import CAPACITY, OWNER, algorithm

SIZES = st.builds(Resources, st.floats(0.5, 64), st.integers(1, 2**40), st.integers(1, 2**40), st.floats(1, 1e6))
ROOMS = st.lists(st.builds(Room, st.uuids(), st.just("node"), SIZES, SIZES | st.just(NOTHING)), max_size=6)
LARGE, HUGE = replace(CAPACITY, time_seconds=0), replace(CAPACITY, cpu=99, time_seconds=0)


@given(ROOMS, SIZES)
def test_the_worker_that_is_kept_free_can_run_the_job_and_lacks_least(rooms, job):
    chosen = choose(rooms, job)
    able = [room for room in rooms if serves(room.size, job)]
    assert (chosen is None) == (not able)
    if chosen:
        assert chosen in able
        assert chosen.lacks(job) == min(room.lacks(job) for room in able)


def test_a_worker_with_nothing_to_do_lacks_nothing():
    assert Room(uuid4(), "node", CAPACITY, NOTHING).lacks(LARGE) == 0
    assert Room(uuid4(), "node", CAPACITY, replace(NOTHING, cpu=1)).lacks(LARGE) == pytest.approx(1 / CAPACITY.cpu)


def test_what_no_worker_could_run_does_not_hide_what_one_could():
    first, second = Waiting(uuid4(), HUGE), Waiting(uuid4(), LARGE)
    assert first_to_fit([first, second], CAPACITY) == second.job
    assert first_to_fit([first], CAPACITY) is None


class Packed:
    """Workers full of small jobs, of which there is always one more."""

    def __init__(self, world, clock):
        self.world, self.clock = world, clock
        self.workers = []
        self.running = []
        self.reconciler = Reconciler(
            world.database, Providers(lambda *_: MemoryProvider()), Settings().pools, lambda: "http://127.0.0.1:7117"
        )

    async def submit(self, name="small"):
        return (await self.world.submit(algorithm=name, twins="again")).job.id

    async def fill(self):
        """Each worker takes what fits into what its jobs leave."""
        for worker in self.workers:
            used = sum(lease.resources.cpu for holder, lease in self.running if holder is worker)
            leases = await self.world.lease(worker, 8, replace(CAPACITY, cpu=CAPACITY.cpu - used))
            self.running += [(worker, lease) for lease in leases]

    async def turn(self, seconds=10):
        """The eldest job of each worker ends, small ones come, and all look for more; one round of the reconciler."""
        for worker in self.workers:
            ends = next((one for one in self.running if one[0] is worker), None)
            if ends:
                self.running.remove(ends)
                await self.world.finish(worker, Report(ends[1].job_id, ends[1].number, AttemptOutcome.SUCCEEDED))
                await self.submit()
        await self.fill()
        async with self.world.database.transaction() as tx:
            for worker in self.workers:
                await workers.heartbeat(tx, worker.worker_id, [], timedelta(minutes=10), timedelta(minutes=10))
        self.clock.advance(timedelta(seconds=seconds))
        await self.reconciler.round()

    async def kept_free(self):
        async with self.world.database.transaction() as tx:
            rows = await tx.rows("select id, reserved_for from worker where reserved_for is not null")
        return {row["id"]: row["reserved_for"] for row in rows}


@pytest.fixture
async def packed(clock, world):
    for name, cpu in (("small", 1), ("large", CAPACITY.cpu)):
        needs = {"cpu": cpu, "memory": "1GiB", "disk": "1GiB"}
        await world.algorithm(algorithm(name, inputs={}, outputs={}, resources=needs))
    packed = Packed(world, clock)
    packed.workers = [await world.worker() for _ in range(2)]
    for _ in range(10):
        await packed.submit()
    await packed.fill()
    return packed


PATIENT_TURNS = math.ceil(PATIENCE / timedelta(seconds=10)) + 1


async def test_a_large_job_is_run_though_small_ones_never_cease(packed):
    large = await packed.submit("large")
    for _ in range(PATIENT_TURNS + 1):
        assert await packed.kept_free() == {}
        await packed.turn()
        if await packed.kept_free():
            break
    ((worker, job),) = (await packed.kept_free()).items()
    assert job == large
    told = (await packed.world.job(large)).reason
    assert told == f"Smaller jobs pass it by: worker {worker} on node-1 takes nothing else until it fits."
    for _ in range(int(CAPACITY.cpu)):
        assert (await packed.world.job(large)).state is JobState.QUEUED
        await packed.turn()
    assert (await packed.world.job(large)).state is JobState.RUNNING
    assert await packed.kept_free() == {}
    holders = [holder.worker_id for holder, lease in packed.running if lease.job_id == large]
    assert holders == [worker]
    assert len(packed.running) == 1 + CAPACITY.cpu, "the other worker went on with small ones"


async def test_a_worker_is_free_again_when_the_job_is_cancelled_or_its_worker_leaves(packed):
    large = await packed.submit("large")
    for _ in range(PATIENT_TURNS + 1):
        await packed.turn()
    (first,) = await packed.kept_free()
    async with packed.world.database.transaction() as tx:
        await workers.leave(tx, first, "It is taken down.")
    packed.workers = [worker for worker in packed.workers if worker.worker_id != first]
    packed.running = [one for one in packed.running if one[0].worker_id != first]
    await packed.turn()
    (second,) = await packed.kept_free()
    assert second != first
    async with packed.world.database.transaction() as tx:
        await cancel(tx, OWNER, large)
    await packed.fill()
    assert len(packed.running) == CAPACITY.cpu, "at once, before the next round"
    await packed.turn()
    assert await packed.kept_free() == {}


async def test_a_queue_that_moves_keeps_nobody_free(packed):
    for _ in range(2 * PATIENT_TURNS):
        await packed.turn()
        assert await packed.kept_free() == {}
