from datetime import UTC, datetime, timedelta

import pytest

from armillary.base.errors import UsageError
from armillary.jobs import deadline, queue, steer
from armillary.jobs.job import AttemptOutcome, JobState, Report
from armillary.testing.world import OWNER

HOUR = timedelta(hours=1)


async def submit(world, level=1, **more):
    scene = await world.granule("a")
    return (await world.submit(scene, parameters={"level": level}, **more)).job.id


async def test_what_waits_past_its_deadline_fails_with_that_reason_and_takes_along_what_needs_it(world, clock):
    queued, held = await submit(world, 1, deadline=HOUR), await submit(world, 2, deadline=HOUR, hold=True)
    later = await submit(world, 3, deadline=2 * HOUR)
    after = await submit(world, 4, after=[queued])
    assert await deadline.sweep(world.database) == 0
    clock.advance(HOUR)
    assert await deadline.sweep(world.database) == 2
    for job, was in ((queued, "queued"), (held, "held")):
        found = await world.job(job)
        assert (found.state, found.error_class) == (JobState.FAILED, "timed out")
        assert found.reason == f"Its deadline has passed (2026-03-01T13:00:00Z). It was {was} then."
    assert (await world.job(later)).state is JobState.QUEUED
    assert (await world.job(after)).state is JobState.CANCELLED
    assert await deadline.sweep(world.database) == 0


@pytest.mark.parametrize("how", ["stopped", "lost", "succeeded"])
async def test_what_runs_past_its_deadline_is_stopped(world, clock, how):
    job = await submit(world, deadline=HOUR / 2)
    worker = await world.worker()
    (lease,) = await world.lease(worker)
    success = await world.succeed(worker, lease)
    clock.advance(HOUR / 2)
    await deadline.sweep(world.database)
    assert "is stopping it" in (await world.job(job)).reason
    async with world.database.transaction() as tx:
        assert await queue.orders(tx, worker.worker_id) == [(job, 1, "cancel")]
        if how == "lost":
            await queue.lose(tx, [worker.worker_id], "It was silent.")
    if how == "stopped":
        await world.finish(worker, Report(job, 1, AttemptOutcome.CANCELLED, reason="It was cancelled while it ran."))
    if how == "succeeded":
        await world.finish(worker, success)
    found = await world.job(job)
    if how == "succeeded":  # it was faster than the order to stop
        assert found.state is JobState.SUCCEEDED
        return
    (attempt,) = await world.attempts(job)
    assert (found.state, found.reason) == (JobState.FAILED, "Its deadline passed while it ran.")
    assert found.error_class == attempt["error_class"] == "timed out"


async def test_a_deadline_may_only_warn(world, clock):
    job = await submit(world, deadline=HOUR, on_deadline="warn")
    clock.advance(HOUR)
    assert await deadline.sweep(world.database) == 1
    assert await deadline.sweep(world.database) == 0
    found = await world.job(job)
    assert (found.state, found.reason) == (
        JobState.QUEUED, "Its deadline has passed (2026-03-01T13:00:00Z). It goes on.",
    )  # fmt: skip
    assert len(await world.lease(await world.worker())) == 1


async def test_a_late_job_that_is_tried_again_has_no_deadline_any_more(world, clock):
    job = await submit(world, deadline=HOUR)
    clock.advance(HOUR)
    await deadline.sweep(world.database)
    async with world.database.transaction() as tx:
        await steer.again(tx, OWNER, job)
    assert await deadline.sweep(world.database) == 0
    assert (await world.job(job)).state is JobState.QUEUED


async def test_a_deadline_lies_ahead(world, clock):
    with pytest.raises(UsageError, match=r"2026-03-01T11:00:00Z has passed"):
        await submit(world, deadline=datetime(2026, 3, 1, 11, tzinfo=UTC))
