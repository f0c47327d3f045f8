from uuid import uuid4

import pytest

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import ErrorClass
from armillary.base import events
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.jobs import steer
from armillary.jobs.cancel import cancel
from armillary.jobs.job import AttemptOutcome, JobState, Report
from armillary.testing.world import OWNER


@pytest.fixture
async def job(world):
    return (await world.submit(await world.granule("a"))).job.id


async def do(world, verb, *args, actor=OWNER):
    async with world.database.transaction() as tx:
        return await verb(tx, actor, *args)


async def test_what_waits_is_cancelled_at_once(world, job):
    assert await do(world, cancel, job) is JobState.CANCELLED
    assert await do(world, cancel, job) is JobState.CANCELLED
    assert "owner cancelled" in (await world.job(job)).reason
    assert await world.lease(await world.worker()) == []
    async with world.database.transaction() as tx:
        found = await events.history(tx, f"job:{job}")
    assert [(event["kind"], event["detail"]["state"]) for event in found] == [
        ("job.submitted", "queued"),
        ("job.finished", "cancelled"),
    ]


async def test_what_was_cancelled_is_tried_again_as_another_attempt_of_the_same_job(world, job):
    worker = await world.worker()
    await world.lease(worker)
    await world.finish(worker, Report(job, 1, AttemptOutcome.FAILED, ErrorClass.SCIENCE_ERROR, "NaN"))
    assert (await world.job(job)).state is JobState.FAILED
    assert await do(world, steer.again, job) is JobState.QUEUED
    assert (await world.job(job)).failures == 0
    (lease,) = await world.lease(worker)
    assert (lease.job_id, lease.number) == (job, 2)
    (result,) = await world.finish(worker, await world.succeed(worker, lease))
    assert result.outcome == "recorded"
    found = await world.job(job)
    assert (found.state, found.error_class) == (JobState.SUCCEEDED, None)


async def test_a_waiting_retry_can_be_had_at_once(world, job):
    worker = await world.worker()
    await world.lease(worker)
    await world.finish(worker, Report(job, 1, AttemptOutcome.FAILED, ErrorClass.INFRASTRUCTURE))
    assert await world.lease(worker) == []
    await do(world, steer.again, job)
    assert len(await world.lease(worker)) == 1


async def test_a_job_is_not_tried_again_beside_its_live_twin(world, job):
    await do(world, cancel, job)
    await world.submit(await world.granule("a"))
    with pytest.raises(Conflict, match="does the same work"):
        await do(world, steer.again, job)


async def test_hold_and_release(world, job):
    worker = await world.worker()
    assert await do(world, steer.hold, job) is JobState.HELD
    assert await world.lease(worker) == []
    assert await do(world, steer.release, job) is JobState.QUEUED
    assert len(await world.lease(worker)) == 1
    for verb in (steer.hold, steer.release):
        with pytest.raises(Conflict):
            await do(world, verb, job)


async def test_priority_moves_what_waits(world, job):
    second = (await world.submit(await world.granule("b"))).job.id
    await do(world, steer.prioritise, second, 7)
    worker = await world.worker()
    (lease,) = await world.lease(worker)
    assert lease.job_id == second
    with pytest.raises(UsageError):
        await do(world, steer.prioritise, job, 10**6)
    with pytest.raises(Conflict):
        await do(world, steer.prioritise, second, 1)


async def test_what_ended_well_stays_so(world, job):
    worker = await world.worker()
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease))
    for verb in (cancel, steer.again, steer.hold):
        with pytest.raises(Conflict):
            await do(world, verb, job)


async def test_another_groups_job_is_not_there(world, job):
    for verb in (cancel, steer.again, steer.hold, steer.release):
        with pytest.raises(NotFound):
            await do(world, verb, job, actor=Actor("ann", "ocean"))
    with pytest.raises(NotFound):
        await do(world, cancel, uuid4())
