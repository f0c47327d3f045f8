import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from armillary.algorithms.algorithm import ErrorClass
from armillary.base import events
from armillary.jobs import queue
from armillary.jobs.cancel import cancel
from armillary.jobs.job import AttemptOutcome, JobState, Report, ReportedOutput
from armillary.pools import define as pools
from armillary.testing.world import OWNER, algorithm

FAILED = AttemptOutcome.FAILED


@pytest.fixture
async def leased(world):
    scene, worker = await world.granule("a"), await world.worker()
    await world.submit(scene)
    (lease,) = await world.lease(worker)
    return scene, worker, lease


async def test_success_publishes_outputs_states_provenance_and_event_together(world, leased):
    _scene, worker, lease = leased
    report = await world.succeed(worker, lease)
    times = {"started_at": datetime(2026, 3, 1, 12, tzinfo=UTC), "ended_at": datetime(2026, 3, 1, 12, 5, tzinfo=UTC)}
    (result,) = await world.finish(
        worker, replace(report, exit_code=0, usage={"cpu_seconds": 3}, result={"n": 1}, **times)
    )
    assert result.outcome == "recorded"
    job = await world.job(lease.job_id)
    assert (job.state, job.result, job.reason, job.error_class) == (JobState.SUCCEEDED, {"n": 1}, "", None)
    (attempt,) = await world.attempts(lease.job_id)
    assert (attempt["outcome"], attempt["exit_code"], attempt["usage"]) == ("succeeded", 0, {"cpu_seconds": 3})
    assert (attempt["started_at"], attempt["ended_at"]) == tuple(times.values())
    async with world.database.transaction() as tx:
        outputs = await tx.rows("select output, collection, granule, revision from job_output")
        assert outputs == [{"output": "picture", "collection": "picture", "granule": "picture", "revision": 1}]
        assert await tx.value("select count(*) from job_queue") == 0
        assert await tx.value("select count(*) from generated") == await tx.value("select count(*) from used") == 1
        kinds = [event["kind"] for event in await events.history(tx, f"job:{lease.job_id}")]
        assert kinds == ["job.submitted", "job.finished"]
        # It delivers nothing, so nobody has to be told.
        assert await tx.value("select count(*) from wake where subject = %s", [f"job:{lease.job_id}"]) == 0


async def test_a_repeated_report_is_recorded_once(world, leased):
    _, worker, lease = leased
    report = await world.succeed(worker, lease)
    found = await asyncio.gather(*(world.finish(worker, report) for _ in range(4)))
    assert [result.outcome for (result,) in found] == ["recorded"] * 4
    (result,) = await world.finish(worker, Report(lease.job_id, lease.number, FAILED, ErrorClass.SCIENCE_ERROR))
    assert result.outcome == "recorded"
    assert (await world.job(lease.job_id)).state is JobState.SUCCEEDED
    assert await world.count("item where collection = 'picture'") == 1


async def test_a_late_report_is_refused_and_publishes_nothing(world, leased):
    _, worker, lease = leased
    report = await world.succeed(worker, lease, content=b"late")
    async with world.database.transaction() as tx:
        await queue.lose(tx, [worker.worker_id], "It was silent.")
    (result,) = await world.finish(worker, report)
    assert (result.outcome, "silent" in result.reason) == ("refused", True)
    other = await world.worker()
    (second,) = await world.lease(other)
    assert second.number == 2
    (result,) = await world.finish(worker, report)
    assert result.outcome == "refused"
    assert await world.count("item where collection = 'picture'") == 0
    (result,) = await world.finish(other, await world.succeed(other, second, content=b"second"))
    assert result.outcome == "recorded"
    assert [attempt["outcome"] for attempt in await world.attempts(lease.job_id)] == ["lost", "succeeded"]


async def test_somebody_elses_report_is_refused(world, leased):
    _, _worker, lease = leased
    stranger = await world.worker()
    report = Report(lease.job_id, lease.number, FAILED, ErrorClass.SCIENCE_ERROR)
    (result,) = await world.finish(stranger, report)
    assert result.outcome == "refused"
    assert (await world.job(lease.job_id)).state is JobState.RUNNING


async def test_one_bad_report_of_a_batch_leaves_the_others(world):
    scene, worker = await world.granule("a"), await world.worker()
    for level in range(3):
        await world.submit(scene, parameters={"level": level})
    leases = await world.lease(worker, count=3)
    good = [await world.succeed(worker, lease, f"picture-{number}") for number, lease in enumerate(leases)]
    results = await world.finish(worker, good[0], replace(good[1], outputs=[]), good[2])
    assert [result.outcome for result in results] == ["recorded", "problem", "recorded"]
    assert "no output 'picture'" in results[1].reason
    states = [(await world.job(lease.job_id)).state for lease in leases]
    assert states == [JobState.SUCCEEDED, JobState.FAILED, JobState.SUCCEEDED]
    (again,) = await world.finish(worker, replace(good[1], outputs=[]))
    assert (again.outcome, again.reason) == ("problem", results[1].reason)
    (again,) = await world.finish(worker, replace(good[1], outcome=FAILED, error_class=ErrorClass.SCIENCE_ERROR))
    assert again.outcome == "recorded"


@pytest.mark.parametrize("wrong", ["undeclared", "two", "none", "elsewhere", "another attempt's", "missing bytes"])
async def test_wrong_outputs_fail_the_attempt_with_the_reason_and_publish_nothing(world, leased, wrong):
    _, worker, lease = leased
    report = await world.succeed(worker, lease)
    (output,) = report.outputs
    match wrong:
        case "undeclared":
            outputs, words = [ReportedOutput("plot", output.commit)], "declares no output"
        case "two":
            outputs, words = [output, *(await world.succeed(worker, lease, "b")).outputs], "left 2 granules"
        case "none":
            outputs, words = [], "left no output"
        case "elsewhere":
            commit = await world.upload(worker, "scene", "x", b"x", lease)
            outputs, words = [ReportedOutput("picture", (await world.prepare([commit]))[0])], "uploaded to scene"
        case "another attempt's":
            commit = await world.upload(worker, "picture", "x", b"x")
            outputs, words = [ReportedOutput("picture", (await world.prepare([commit]))[0])], "not opened for this"
        case _:
            commit = await world.upload(worker, "picture", "x", b"x", lease)
            async for key, _size in world.store.list("picture/x"):
                await world.store.delete([key])
            outputs, words = [ReportedOutput("picture", (await world.prepare([commit]))[0])], "is missing"
    before = await world.count("item")
    (result,) = await world.finish(worker, replace(report, outputs=outputs))
    assert result.outcome == "problem"
    assert result.problem["detail"]
    job = await world.job(lease.job_id)
    assert words in job.reason
    # Bytes that did not arrive are worth another attempt, wrong products are not.
    expected = (JobState.QUEUED, "infrastructure") if wrong == "missing bytes" else (JobState.FAILED, "science error")
    assert (job.state, job.error_class) == expected
    assert await world.count("item") == before
    assert await world.count("activity") == 0


async def test_an_upload_that_expired_before_the_report_is_not_the_algorithms_fault(world, leased, clock):
    _, worker, lease = leased
    report = await world.succeed(worker, lease)
    clock.advance(timedelta(hours=2))
    (result,) = await world.finish(worker, report)
    job = await world.job(lease.job_id)
    assert (result.outcome, job.state, job.error_class) == ("problem", JobState.QUEUED, "infrastructure")
    assert "its time is over" in job.reason


async def test_failures_use_up_the_budget_and_losses_do_not(world, leased):
    _, worker, lease = leased
    job = lease.job_id
    for error_class in (None, ErrorClass.INFRASTRUCTURE):
        async with world.database.transaction() as tx:
            await tx.execute("update job_queue set ready_at = armillary_now() - interval '1 s'")
        if lease is None:
            (lease,) = await world.lease(worker)
        if error_class is None:
            await world.finish(worker, Report(job, lease.number, AttemptOutcome.PREEMPTED))
        else:
            await world.finish(worker, Report(job, lease.number, FAILED, error_class, "The disk was slow."))
        lease = None
    found = await world.job(job)
    assert (found.state, found.failures, found.attempts) == (JobState.QUEUED, 1, 2)
    assert "The disk was slow." in found.reason
    assert "attempt 3" in found.reason
    async with world.database.transaction() as tx:
        await tx.execute("update job_queue set ready_at = armillary_now() - interval '1 s'")
    (lease,) = await world.lease(worker)
    await world.finish(worker, Report(job, lease.number, FAILED, ErrorClass.INFRASTRUCTURE))
    found = await world.job(job)
    assert (found.state, found.failures, found.error_class) == (JobState.FAILED, 2, "infrastructure")


async def test_a_retry_waits_and_gets_more_memory_after_running_out(world, clock):
    retry = {"attempts": 3, "on": [], "grow_memory_on_oom": 1.5, "delay": "10s"}
    await world.algorithm(algorithm("hungry", retry=retry))
    worker = await world.worker()
    job = (await world.submit(await world.granule("a"), algorithm="hungry")).job.id
    (lease,) = await world.lease(worker)
    await world.finish(worker, Report(job, lease.number, FAILED, ErrorClass.OUT_OF_MEMORY, "It held 2 GiB."))
    assert await world.lease(worker) == []
    clock.advance(lease.leased_at - lease.leased_at + (await world.job(job)).ready_at - clock())
    (lease,) = await world.lease(worker)
    assert lease.resources.memory_bytes == 1.5 * 2**30
    assert [attempt["resources"]["memory_bytes"] for attempt in await world.attempts(job)] == [2**30, 1.5 * 2**30]


async def test_each_class_has_its_own_budget_and_place(world, clock):
    """Two that ran out of disk are two of two; the failure of another class between them is not one of theirs."""
    policies = {"infrastructure": None, "out of disk": {"attempts": 2, "grow_disk": 2, "pool": "large", "delay": "0s"}}
    await world.algorithm(algorithm("wide", retry={"attempts": 3, "on": policies}))
    async with world.database.transaction() as tx:
        await pools.put(tx, OWNER, {"kind": "pool", "id": "large", "provider": "none"}, 1)
    job = (await world.submit(await world.granule("a"), algorithm="wide")).job.id
    small, large = await world.worker(), await world.worker("large")
    for worker, failure in ((small, ErrorClass.OUT_OF_DISK), (large, ErrorClass.INFRASTRUCTURE)):
        (lease,) = await world.lease(worker)
        await world.finish(worker, Report(job, lease.number, FAILED, failure))
        clock.advance(timedelta(minutes=1))
    assert "failure 1 of 3 allowed" in (await world.job(job)).reason
    (lease,) = await world.lease(large)
    assert lease.resources.disk_bytes == 2 * 2**30
    await world.finish(large, Report(job, lease.number, FAILED, ErrorClass.OUT_OF_DISK))
    found = await world.job(job)
    assert (found.state, found.pool) == (JobState.FAILED, "large")
    assert found.reason.endswith("It failed so (out of disk) 2 of 2 times allowed.")


async def test_a_pool_that_is_not_there_keeps_nothing_from_being_tried_again(world):
    await world.algorithm(algorithm("lone", retry={"on": {"out of memory": {"pool": "nowhere", "delay": "0s"}}}))
    job = (await world.submit(await world.granule("a"), algorithm="lone")).job.id
    worker = await world.worker()
    (lease,) = await world.lease(worker)
    await world.finish(worker, Report(job, lease.number, FAILED, ErrorClass.OUT_OF_MEMORY))
    found = await world.job(job)
    assert (found.state, found.pool) == (JobState.QUEUED, "default")
    assert found.reason.endswith("It would move to pool nowhere, but there is none.")


async def test_a_cancelled_job_ends_as_cancelled_however_its_worker_reports(world, leased):
    _, worker, lease = leased
    async with world.database.transaction() as tx:
        assert await cancel(tx, OWNER, lease.job_id) is JobState.RUNNING
        assert await queue.orders(tx, worker.worker_id) == [(lease.job_id, 1, "cancel")]
    (result,) = await world.finish(worker, Report(lease.job_id, 1, FAILED, ErrorClass.INFRASTRUCTURE, "killed"))
    assert result.outcome == "recorded"
    assert (await world.job(lease.job_id)).state is JobState.CANCELLED
    assert (await world.attempts(lease.job_id))[0]["outcome"] == "cancelled"


async def test_a_success_that_was_faster_than_its_cancellation_counts(world, leased):
    _, worker, lease = leased
    report = await world.succeed(worker, lease)
    async with world.database.transaction() as tx:
        await cancel(tx, OWNER, lease.job_id)
    await world.finish(worker, report)
    assert (await world.job(lease.job_id)).state is JobState.SUCCEEDED


async def test_a_job_lost_while_being_cancelled_is_cancelled(world, leased):
    _, worker, lease = leased
    async with world.database.transaction() as tx:
        await cancel(tx, OWNER, lease.job_id)
        await queue.lose(tx, [worker.worker_id], "It was silent.")
    assert (await world.job(lease.job_id)).state is JobState.CANCELLED


async def test_the_same_product_again_is_the_same_and_keeps_its_first_maker(world):
    scene, worker = await world.granule("a"), await world.worker()
    for _ in range(2):
        await world.submit(scene, twins="again")
        (lease,) = await world.lease(worker)
        (result,) = await world.finish(worker, await world.succeed(worker, lease))
        assert result.outcome == "recorded"
    assert await world.count("item where collection = 'picture'") == 1
    assert await world.count("job_output") == 2
    assert await world.count("generated") == 1


async def test_attempts_are_never_rewritten(world, leased):
    _, worker, lease = leased
    await world.finish(worker, await world.succeed(worker, lease))
    for statement in ("update attempt set reason = 'x'", "delete from attempt"):
        with pytest.raises(Exception, match="never rewritten"):
            async with world.database.transaction() as tx:
                await tx.execute(statement)


async def test_a_lost_class_from_a_living_worker_is_infrastructure(world, leased):
    _, worker, lease = leased
    await world.finish(worker, Report(lease.job_id, 1, FAILED, ErrorClass.LOST, "?"))
    assert (await world.attempts(lease.job_id))[0]["error_class"] == "infrastructure"
