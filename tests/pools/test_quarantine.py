"""Who is to blame: a worker that fails what others can do is set apart, an algorithm that fails everywhere is paused."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms.register import resolve
from armillary.base.errors import Conflict
from armillary.jobs.job import AttemptOutcome, ErrorClass, JobState, Report
from armillary.jobs.pause import hold_paused, paused, resume
from armillary.pools import judge as judging
from armillary.pools.quarantine import (
    HANDFUL,
    LONGEST_TRIAL,
    PAUSE_AFTER,
    SETTLED,
    Conduct,
    Failure,
    Pause,
    Quarantine,
    Tally,
    Trial,
    from_json,
    judge,
    to_json,
)
from armillary.testing.world import CAPACITY, OWNER

JOBS = 100
READ_ONLY = "The work folder cannot be written: Read-only file system."


def streak(count, digest="a"):
    return [Failure(uuid4(), 1, digest, "stats", READ_ONLY) for _ in range(count)]


@given(succeeded=st.integers(20, 10_000), failures=st.integers(4, 20))
def test_failing_what_succeeds_elsewhere_sets_a_worker_apart(succeeded, failures):
    verdict = judge(streak(failures), *2 * [{"a": Tally(succeeded, 0)}], {"a": failures}, others=4, failing_for=SETTLED)
    assert isinstance(verdict, Quarantine)
    assert READ_ONLY in verdict.reason


@given(succeeded=st.integers(0, 1000), failed=st.integers(0, 1000), failures=st.integers(HANDFUL, 20))
def test_a_streak_that_may_be_chance_blames_nobody(succeeded, failed, failures):
    tally = Tally(succeeded, failed)
    verdict = judge(streak(failures), *2 * [{"a": tally}], {"a": failures}, others=4, failing_for=SETTLED)
    if tally.failure_rate**failures >= 1e-5 or succeeded == 0:
        assert not isinstance(verdict, Quarantine)


@given(failures=st.integers(PAUSE_AFTER, 20), others=st.integers(0, 3))
def test_what_fails_everywhere_is_the_algorithms_fault(failures, others):
    elsewhere = {"a": Tally(0, 5 if others else 0)}
    assert isinstance(
        judge(streak(failures), {}, elsewhere, {"a": failures}, others=others, failing_for=SETTLED), Pause
    )


def test_nobody_is_blamed_before_others_had_time_to_fail_too():
    well = {"a": Tally(1000, 0)}
    soon = judge(streak(HANDFUL), well, well, {"a": HANDFUL}, others=4, failing_for=SETTLED - timedelta(milliseconds=1))
    assert soon == Trial(timedelta(seconds=1))


def test_nobody_is_blamed_while_nobody_else_has_tried():
    assert judge(streak(HANDFUL), {}, {}, {"a": HANDFUL}, others=4, failing_for=SETTLED) == Trial(timedelta(seconds=1))
    assert isinstance(judge(streak(PAUSE_AFTER), {}, {}, {"a": PAUSE_AFTER}, others=4, failing_for=SETTLED), Trial)


@given(
    st.lists(st.builds(Failure, st.uuids(), st.integers(1, 9), st.text(max_size=3), st.text(max_size=3), st.text())),
    st.dictionaries(st.text(max_size=3), st.builds(Tally, st.integers(0, 99), st.integers(0, 99))),
)
def test_conduct_is_the_same_after_a_journey_through_the_database(failures, record):
    conduct = Conduct(failures, record, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    assert from_json(*to_json(conduct)) == conduct


async def take_turns(world, workers, broken, clock):
    """Let workers take a job each, turn by turn, until all are done; one fails everything at once."""
    turns = 0
    while await world.count("job_queue"):
        turns += 1
        assert turns < 2 * JOBS, "it does not end"
        for worker in workers:
            for lease in await world.lease(worker, 1):
                report = Report(lease.job_id, lease.number, AttemptOutcome.SUCCEEDED)
                if worker in broken:
                    report = Report(
                        lease.job_id, lease.number, AttemptOutcome.FAILED, ErrorClass.INFRASTRUCTURE, READ_ONLY
                    )
                await world.finish(worker, report)
        await judge_all(world)
        clock.advance(timedelta(seconds=1))
    return turns


async def judge_all(world):
    async with world.database.transaction() as tx:
        await judging.judge(tx)
        await hold_paused(tx)


async def states(world):
    async with world.database.transaction() as tx:
        return {row["state"]: row["n"] for row in await tx.rows("select state, count(*) as n from job group by 1")}


@pytest.fixture
async def campaign(clock, world):
    """A hundred jobs of an algorithm without outputs that is tried twice."""
    from armillary.testing.world import algorithm

    await world.algorithm(algorithm("check", inputs={}, outputs={}, parameters={"n": {"type": "integer"}}))
    for number in range(JOBS):
        await world.submit(algorithm="check", parameters={"n": number})
    return world


async def test_a_worker_with_a_read_only_disk_eats_no_more_than_a_handful_of_a_hundred_jobs(campaign, clock):
    workers = [await campaign.worker() for _ in range(5)]
    await take_turns(campaign, workers, workers[2:3], clock)
    assert await states(campaign) == {"succeeded": JOBS}
    async with campaign.database.transaction() as tx:
        bad = await tx.rows("select id, reason from worker where state = 'quarantined'")
        failed = await tx.value("select count(*) from attempt where outcome = 'failed'")
        counted = await tx.value("select sum(failures) from job")
        events = await tx.rows("select detail from event where kind = 'worker.quarantined'")
    assert [row["id"] for row in bad] == [workers[2].worker_id]
    assert READ_ONLY in bad[0]["reason"]
    assert HANDFUL <= failed <= 2 * HANDFUL
    assert counted == 0
    assert events[0]["detail"]["worker"] == str(workers[2].worker_id)


async def test_a_worker_that_pauses_is_set_apart_once_others_have_done_what_it_could_not(campaign, clock):
    broken, *others = [await campaign.worker() for _ in range(3)]
    for lease in await campaign.lease(broken, HANDFUL):
        failed = AttemptOutcome.FAILED, ErrorClass.INFRASTRUCTURE, READ_ONLY
        await campaign.finish(broken, Report(lease.job_id, lease.number, *failed))
    await judge_all(campaign)
    assert await campaign.lease(broken) == [], "it pauses: nobody else has tried yet"
    for _ in range(JOBS // 4):
        for worker in others:
            (lease,) = await campaign.lease(worker, 1)
            await campaign.finish(worker, Report(lease.job_id, lease.number, AttemptOutcome.SUCCEEDED))
    clock.advance(SETTLED)
    await judge_all(campaign)
    async with campaign.database.transaction() as tx:
        apart = await tx.rows("select id from worker where state = 'quarantined'")
    assert [row["id"] for row in apart] == [broken.worker_id]


async def test_what_breaks_for_all_workers_at_once_blames_none_of_them(campaign, clock):
    at_once = 8
    roomy = replace(CAPACITY, cpu=at_once)
    workers = [await campaign.worker(capacity=roomy) for _ in range(2)]
    for _ in range(JOBS // 2 - 2 * at_once):
        for worker in workers:
            (lease,) = await campaign.lease(worker, 1)
            await campaign.finish(worker, Report(lease.job_id, lease.number, AttemptOutcome.SUCCEEDED))
    full = AttemptOutcome.FAILED, ErrorClass.INFRASTRUCTURE, "No space left on device"
    for worker in workers:
        leases = await campaign.lease(worker, at_once, roomy)
        assert len(leases) == at_once
        await campaign.finish(worker, *(Report(lease.job_id, lease.number, *full) for lease in leases))
    await judge_all(campaign)
    assert [await campaign.lease(worker) for worker in workers] == [[], []], "both pause"
    clock.advance(LONGEST_TRIAL)
    await judge_all(campaign)
    await take_turns(campaign, workers, [], clock)
    assert await states(campaign) == {"succeeded": JOBS}
    async with campaign.database.transaction() as tx:
        assert await tx.value("select count(*) from worker where state = 'quarantined'") == 0


async def test_an_algorithm_that_fails_everywhere_is_paused_and_no_worker_is_blamed(campaign, clock):
    workers = [await campaign.worker() for _ in range(3)]
    for _ in range(60):
        for worker in workers:
            for lease in await campaign.lease(worker, 1):
                failed = AttemptOutcome.FAILED, ErrorClass.SCIENCE_ERROR, "It divides by zero."
                await campaign.finish(worker, Report(lease.job_id, lease.number, *failed))
        await judge_all(campaign)
        clock.advance(timedelta(seconds=1))
    async with campaign.database.transaction() as tx:
        (pause,) = await paused(tx, OWNER)
        apart = await tx.value("select count(*) from worker where state = 'quarantined'")
        reason = await tx.value("select reason from job where state = 'held' limit 1")
    assert "It divides by zero." in pause["reason"] and apart == 0
    assert reason == f"Its algorithm is paused: {pause['reason']}"
    held = (await states(campaign))["held"]
    assert held >= JOBS - 4 * PAUSE_AFTER
    late = await campaign.submit(algorithm="check", parameters={"n": JOBS})
    await judge_all(campaign)
    assert (await campaign.job(late.job.id)).state is JobState.HELD
    async with campaign.database.transaction() as tx:
        assert await resume(tx, OWNER, await resolve(tx, OWNER, "check")) == held + 1
        with pytest.raises(Conflict, match="not paused"):
            await resume(tx, OWNER, await resolve(tx, OWNER, "check"))
    await take_turns(campaign, workers, [], clock)
    assert (await states(campaign))["succeeded"] == held + 1


async def test_bad_data_among_good_blames_nobody(campaign, clock):
    chance = random.Random(7)
    workers = [await campaign.worker() for _ in range(4)]
    bad = {number for number in range(JOBS) if chance.random() < 0.2}
    while await campaign.count("job_queue"):
        for worker in workers:
            for lease in await campaign.lease(worker, 1):
                outcome = (AttemptOutcome.SUCCEEDED,)
                if lease.parameters["n"] in bad:
                    outcome = AttemptOutcome.FAILED, ErrorClass.SCIENCE_ERROR, "No stars."
                await campaign.finish(worker, Report(lease.job_id, lease.number, *outcome))
        await judge_all(campaign)
        clock.advance(timedelta(seconds=1))
    assert await states(campaign) == {"succeeded": JOBS - len(bad), "failed": len(bad)}
    async with campaign.database.transaction() as tx:
        assert await tx.value("select count(*) from worker where state <> 'live'") == 0
        assert await paused(tx, OWNER) == []


async def test_a_released_worker_starts_anew(campaign, clock):
    workers = [await campaign.worker() for _ in range(3)]
    await take_turns(campaign, workers, workers[:1], clock)
    assert await campaign.lease(workers[0]) == []
    await campaign.submit(algorithm="check", parameters={"n": JOBS})
    async with campaign.database.transaction() as tx:
        await judging.release(tx, OWNER, workers[0].worker_id)
        with pytest.raises(Conflict, match="not quarantined"):
            await judging.release(tx, OWNER, workers[0].worker_id)
    assert len(await campaign.lease(workers[0])) == 1
