import asyncio
import math
from datetime import timedelta

import pytest

from armillary.algorithms.algorithm import Resources
from armillary.jobs import queue
from armillary.jobs.job import JobState
from armillary.jobs.queue import Beat
from armillary.testing.world import CAPACITY, algorithm


async def jobs(world, *priorities, **more):
    scene = await world.granule("a")
    return [(await world.submit(scene, twins="again", priority=priority, **more)).job.id for priority in priorities]


async def test_jobs_are_leased_by_priority_and_then_in_order(world):
    ids = await jobs(world, 0, 5, 0, 5)
    leases = await world.lease(await world.worker(), count=10)
    assert [lease.job_id for lease in leases] == [ids[1], ids[3], ids[0], ids[2]]
    assert {lease.number for lease in leases} == {1}
    assert (await world.job(ids[0])).state is JobState.RUNNING


async def test_a_lease_holds_all_that_is_needed_to_run(world):
    scene = await world.granule("a")
    await world.submit(scene, parameters={"level": 4})
    (lease,) = await world.lease(await world.worker())
    assert lease.registered.algorithm.id == "stats"
    assert lease.parameters == {"level": 4}
    assert [(one.role, one.reference, one.granule.assets["data"]["size"]) for one in lease.inputs] == [
        ("scene", scene, 5)
    ]
    assert lease.resources == Resources(1, 2**30, 2**30, 3600)
    assert lease.checkpoint is None


async def test_what_is_leased_fits_together_into_what_is_free(world):
    await jobs(world, *[0] * 6)
    worker = await world.worker()
    assert len(await world.lease(worker, count=10, free=Resources(2.5, 2**40, 2**40))) == 2
    assert len(await world.lease(worker, count=10, free=Resources(99, 2**30, 2**40))) == 1
    assert len(await world.lease(worker, count=10, free=Resources(99, 2**40, 2**30 - 1))) == 0
    assert len(await world.lease(worker, count=2)) == 2


async def test_jobs_that_will_run_in_turn_fit_each_by_itself(world):
    await world.algorithm(algorithm("large", resources={"cpu": 64, "memory": "1GiB", "disk": "1GiB"}))
    await jobs(world, 9, algorithm="large")
    small = await jobs(world, *[0] * 6)
    worker = await world.worker()
    leases = await world.lease(worker, count=5, free=Resources(2.5, 2**30, 2**30), in_turn=True)
    assert [lease.job_id for lease in leases] == small[:5]
    assert await world.lease(worker, count=5, free=Resources(0.5, 2**40, 2**40), in_turn=True) == []


@pytest.mark.parametrize("cpu", [0.01, 0.05, 0.1, 0.3, 0.7])
async def test_a_fraction_of_a_processor_fits_into_exactly_as_much(world, cpu):
    await world.algorithm(algorithm("small", resources={"cpu": cpu, "memory": "1MiB", "disk": "1MiB"}))
    await jobs(world, 0, algorithm="small")
    assert len(await world.lease(await world.worker(), free=Resources(cpu, 2**30, 2**30))) == 1


async def test_a_job_too_large_does_not_block_those_behind_it(world):
    await world.algorithm(algorithm("large", resources={"cpu": 64, "memory": "1GiB", "disk": "1GiB"}))
    (large,) = await jobs(world, 9, algorithm="large")
    (small,) = await jobs(world, 0)
    (lease,) = await world.lease(await world.worker(), count=10)
    assert lease.job_id == small
    async with world.database.transaction() as tx:
        await queue.explain_unfit(tx, "default", CAPACITY, "It needs 64 CPUs.")
    assert (await world.job(large)).reason == "It needs 64 CPUs."


async def test_a_worker_gets_the_gpus_it_has_and_no_job_that_outlasts_it(world):
    wishes = {
        "two-gpus": {"gpu": 2, "time": "1min"},
        "long": {"time": "10h"},
        "in-parts": {"time": "10h", "resumable": True},
    }
    for name, resources in wishes.items():
        await world.algorithm(algorithm(name, resources=resources))
    ids = {name: (await jobs(world, number, algorithm=name))[0] for number, name in enumerate(wishes)}
    worker = await world.worker()

    async def names(**free):
        leases = await world.lease(worker, 10, Resources(99, 2**40, 2**40, **{"time_seconds": math.inf} | free))
        return [name for lease in leases for name, job in ids.items() if job == lease.job_id]

    assert await names(gpu=1, time_seconds=3600.0) == ["in-parts"]
    assert await names(gpu=1) == ["long"]
    assert await names(gpu=2, time_seconds=60.0) == ["two-gpus"]


async def test_two_workers_never_get_the_same_job(world):
    ids = await jobs(world, *[0] * 12)
    workers = [await world.worker() for _ in range(4)]
    found = await asyncio.gather(*(world.lease(worker, count=4) for worker in workers))
    leased = [lease.job_id for leases in found for lease in leases]
    assert len(leased) == len(set(leased))
    assert set(leased) <= set(ids)


async def test_a_pool_leases_only_its_own_jobs(world):
    await jobs(world, 0)
    async with world.database.transaction() as tx:
        await tx.execute("""insert into pool (id, spec, "group") values ('other', '{"id": "other"}', 'owners')""")
    assert await world.lease(await world.worker("other")) == []


async def beat(world, worker, *beats):
    async with world.database.transaction() as tx:
        return await queue.beat(tx, worker.worker_id, beats, timedelta(seconds=15))


async def test_a_heartbeat_keeps_progress_and_names_what_is_not_held(world):
    (job,) = await jobs(world, 0)
    worker, stranger = await world.worker(), await world.worker()
    (lease,) = await world.lease(worker)
    orders = await beat(world, worker, Beat(job, lease.number, {"fraction": 0.5}))
    assert (list(orders.gone), list(orders.stop)) == ([], [])
    assert (await world.job(job)).progress == {"fraction": 0.5}
    orders = await beat(world, stranger, Beat(job, lease.number, {"fraction": 0.9}))
    assert list(orders.gone) == [(job, lease.number)]
    assert (await world.job(job)).progress == {"fraction": 0.5}


async def test_a_lease_whose_answer_was_lost_goes_back_without_being_counted(world, clock):
    (job,) = await jobs(world, 0)
    worker = await world.worker()
    await world.lease(worker)
    clock.advance(timedelta(seconds=14))
    await beat(world, worker)
    assert (await world.job(job)).state is JobState.RUNNING
    clock.advance(timedelta(seconds=2))
    await beat(world, worker)
    found = await world.job(job)
    assert (found.state, found.failures) == (JobState.QUEUED, 0)
    assert "never took it up" in found.reason
    (lease,) = await world.lease(worker)
    assert lease.number == 2


async def test_what_is_given_back_waits_again_and_other_peoples_leases_are_not_given_back(world):
    (job,) = await jobs(world, 0)
    worker, stranger = await world.worker(), await world.worker()
    (lease,) = await world.lease(worker)
    async with world.database.transaction() as tx:
        assert await queue.give_back(tx, stranger.worker_id, [(job, lease.number)], "no") == 0
        assert await queue.give_back(tx, worker.worker_id, [(job, 7)], "no") == 0
        assert await queue.holds(tx, worker.worker_id, [(job, 1), (job, 2)]) == {(job, 1)}
        assert await queue.give_back(tx, worker.worker_id, [(job, lease.number)], "It has to go.") == 1
    (attempt,) = await world.attempts(job)
    assert (attempt["outcome"], attempt["error_class"]) == ("preempted", "preempted")
    assert (await world.job(job)).state is JobState.QUEUED


async def test_what_a_live_job_reads_is_known_to_retention(world):
    scene = await world.granule("a")
    other = await world.granule("b")
    await world.submit(scene)
    async with world.database.transaction() as tx:
        assert await queue.referred(tx, [scene, other]) == {scene}
    worker = await world.worker()
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease))
    async with world.database.transaction() as tx:
        assert await queue.referred(tx, [scene, other]) == set()


async def test_a_job_whose_input_has_gone_fails_with_that_reason(world):
    (job,) = await jobs(world, 0)
    async with world.database.transaction() as tx:
        await tx.execute("update job_input set revision = 9")
    assert await world.lease(await world.worker()) == []
    found = await world.job(job)
    assert (found.state, found.error_class) == (JobState.FAILED, "input missing")
    assert "no longer catalogued" in found.reason


@pytest.mark.parametrize("priority", [1, 0])
async def test_demand_counts_what_could_run(world, priority):
    await jobs(world, priority, 0)
    await jobs(world, 0, hold=True)
    await world.lease(await world.worker())
    async with world.database.transaction() as tx:
        found = (await queue.demand(tx))["default"]
    assert (found.waiting, found.running, found.cpu, found.memory_bytes) == (1, 1, 2.0, 2 * 2**30)
    assert found.largest.cpu == 1
