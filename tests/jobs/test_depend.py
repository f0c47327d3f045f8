import asyncio
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import ErrorClass
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.jobs import depend, steer
from armillary.jobs.cancel import cancel
from armillary.jobs.job import AttemptOutcome, JobRequest, JobState, Report
from armillary.testing.world import OWNER

SUCCEEDED, FAILED = AttemptOutcome.SUCCEEDED, AttemptOutcome.FAILED


async def do(world, verb, *args, **named):
    async with world.database.transaction() as tx:
        return await verb(tx, OWNER, *args, **named)


async def submit(world, level=1, **more):
    scene = await world.granule("a")
    return (await world.submit(scene, parameters={"level": level}, **more)).job.id


async def end(world, outcome, count=1):
    """Lease so many jobs and end them all."""
    worker = await world.worker()
    leases = await world.lease(worker, count)
    for lease in leases:
        report = Report(lease.job_id, lease.number, FAILED, ErrorClass.SCIENCE_ERROR, "NaN")
        if outcome is SUCCEEDED:
            report = await world.succeed(worker, lease, str(lease.job_id))
        await world.finish(worker, report)
    return [lease.job_id for lease in leases]


async def state(world, job):
    found = await world.job(job)
    return found.state, found.reason


async def test_a_job_waits_held_until_all_that_it_runs_after_has_succeeded(world):
    first, second = await submit(world, 1), await submit(world, 2)
    third = await submit(world, 3, after=[first, second])
    assert await state(world, third) == (JobState.HELD, f"Waits for job {first} and 1 more.")
    assert await end(world, SUCCEEDED) == [first]
    assert await state(world, third) == (JobState.HELD, "Waits for 1 more job.")
    assert await end(world, SUCCEEDED, 9) == [second]
    assert await state(world, third) == (JobState.QUEUED, "What it runs after has ended.")
    assert await end(world, SUCCEEDED) == [third]


async def test_those_that_end_at_once_release_what_waits_for_all_of_them(world):
    jobs = [await submit(world, level) for level in range(4)]
    last = await submit(world, 9, after=jobs)
    worker = await world.worker()
    reports = [await world.succeed(worker, lease, str(lease.job_id)) for lease in await world.lease(worker, 4)]
    await asyncio.gather(*(world.finish(worker, report) for report in reports))
    assert (await world.job(last)).state is JobState.QUEUED


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_what_runs_after_a_job_that_does_not_succeed_follows_its_policy(world, how):
    first = await submit(world, 1)
    policies = {policy: await submit(world, 2 + n, after=[first], on_failure=policy)
                for n, policy in enumerate(("cancel", "hold", "run"))}  # fmt: skip
    beyond = await submit(world, 9, after=[policies["cancel"]])
    if how == "failed":
        await end(world, FAILED)
    else:
        await do(world, cancel, first)
    words = "failed" if how == "failed" else "been cancelled"
    assert await state(world, policies["cancel"]) == (
        JobState.CANCELLED, f"Cancelled: job {first}, which it was to run after, has {words}.",
    )  # fmt: skip
    assert await state(world, beyond) == (
        JobState.CANCELLED, f"Cancelled: job {policies['cancel']}, which it was to run after, has been cancelled.",
    )  # fmt: skip
    held, reason = await state(world, policies["hold"])
    assert held is JobState.HELD and f"has {words}. Retry that one" in reason
    assert (await world.job(policies["run"])).state is JobState.QUEUED


async def test_what_is_held_by_a_failure_goes_on_when_that_job_is_retried_or_when_somebody_says_so(world):
    first = await submit(world, 1)
    second, third = [await submit(world, 2 + n, after=[first], on_failure="hold") for n in range(2)]
    await end(world, FAILED)
    await do(world, steer.release, second, now=True)
    assert await state(world, second) == (JobState.QUEUED, "owner released it without waiting for others.")
    await do(world, steer.again, first)
    await end(world, SUCCEEDED, 9)
    assert (await world.job(third)).state is JobState.QUEUED
    assert (await world.job(second)).state is JobState.SUCCEEDED


async def test_a_cancelled_dependent_is_retried_after_what_it_runs_after(world):
    first = await submit(world, 1)
    second = await submit(world, 2, after=[first])
    await end(world, FAILED)
    with pytest.raises(Conflict, match=f"{first}, which it runs after, has failed"):
        await do(world, steer.again, second)
    await do(world, steer.again, first)
    assert await do(world, steer.again, second) is JobState.HELD
    assert (await world.job(second)).reason == "owner wants it tried again. It waits for 1 it runs after."
    await end(world, SUCCEEDED)
    assert (await world.job(second)).state is JobState.QUEUED


async def test_holding_and_waiting_are_two_things(world):
    first = await submit(world, 1)
    second = await submit(world, 2, after=[first])
    with pytest.raises(Conflict, match="Nobody holds"):
        await do(world, steer.release, second)
    await do(world, steer.hold, second)
    assert (await world.job(second)).reason == "owner holds it."
    await do(world, steer.release, second)
    assert (await world.job(second)).reason == f"Waits for job {first}."
    await do(world, steer.hold, second)
    await end(world, SUCCEEDED)
    assert await state(world, second) == (JobState.HELD, "owner holds it.")
    await do(world, steer.release, second)
    assert (await world.job(second)).state is JobState.QUEUED


async def test_what_is_named_must_be_there_and_still_be_able_to_succeed(world):
    first = await submit(world, 1)
    with pytest.raises(NotFound, match="There is no job"):
        await submit(world, 2, after=[uuid4()])
    with pytest.raises(UsageError, match="names a job twice"):
        await submit(world, 2, after=[first, first])
    request = JobRequest("stats", after=[first])
    async with world.database.transaction() as tx:
        seen = await depend.look(tx, Actor("other", "others"), [request])
    with pytest.raises(NotFound):
        depend.dependencies(request, seen)
    await end(world, FAILED)
    with pytest.raises(Conflict, match="has failed"):
        await submit(world, 3, after=[first])
    assert (await world.job(await submit(world, 4, after=[first], on_failure="run"))).state is JobState.QUEUED
    assert (await world.job(await submit(world, 5, after=[first], on_failure="hold"))).state is JobState.HELD


async def test_what_has_succeeded_already_is_not_waited_for(world):
    first = await submit(world, 1)
    await end(world, SUCCEEDED)
    second = await submit(world, 2, after=[first])
    assert (await world.job(second)).state is JobState.QUEUED


@st.composite
def graphs(draw):
    """Jobs in an order: those that each runs after (by number), what happens if one fails, and whether it does itself."""
    return [
        (
            draw(st.lists(st.integers(0, number - 1), unique=True)) if number else [],
            draw(st.sampled_from(["cancel", "run"])),
            draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 7)))
    ]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs())
async def test_any_graph_runs_in_order_and_what_fails_takes_along_what_needs_it(world, graph):
    """Of any acyclic graph each job ends, none before what it runs after, and none succeeds whose need did not."""
    jobs, needs, policy, doomed = [], {}, {}, {}
    for number, (after, chosen, fails) in enumerate(graph):
        earlier = [jobs[one] for one in after]
        job = await submit(world, number, after=earlier, on_failure=chosen, twins="again")
        jobs.append(job)
        needs[job], policy[job], doomed[job] = set(earlier), chosen, fails
    ended = {}
    # Each time another worker: one that fails much is given nothing until it was judged.
    while leases := await world.lease(worker := await world.worker(), 2):
        for lease in leases:
            assert needs[lease.job_id] <= ended.keys() | {
                job for job in jobs if (await world.job(job)).state is JobState.CANCELLED
            }
            fails = doomed[lease.job_id]
            report = Report(lease.job_id, lease.number, FAILED, ErrorClass.SCIENCE_ERROR)
            if not fails:
                report = await world.succeed(worker, lease, str(lease.job_id))
            await world.finish(worker, report)
            ended[lease.job_id] = not fails
    for job in jobs:
        if policy[job] == "cancel" and any(not ended.get(one) for one in needs[job]):
            assert (await world.job(job)).state is JobState.CANCELLED
            assert job not in ended
        else:
            assert job in ended
    async with world.database.transaction() as tx:
        assert await tx.value("select count(*) from job_queue") == 0
