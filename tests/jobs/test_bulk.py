import asyncio
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import ErrorClass
from armillary.base import events
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.jobs.bulk import run, store, undo
from armillary.jobs.bulk.operation import UNDOABLE, Request, Verb
from armillary.jobs.job import AttemptOutcome, JobState, Report
from armillary.jobs.select import Selection
from armillary.pools import define as pools
from armillary.testing.world import OWNER


@pytest.fixture
async def world(world):
    async with world.database.transaction() as tx:
        await pools.put(tx, OWNER, {"kind": "pool", "id": "large", "provider": "none"}, 1)
    world.scene = await world.granule("a")
    return world


async def submit(world, level, **more):
    return (await world.submit(world.scene, parameters={"level": level}, **more)).job.id


async def do(world, verb, where="true", actor=OWNER, limit=None, jobs=(), **arguments):
    request = Request(verb, Selection(jobs, where), arguments, limit=limit)
    async with world.database.transaction() as tx:
        before = await run.preview(tx, actor, request)
        done = await run.perform(tx, actor, request)
    assert before.jobs == done.jobs  # a preview is what happens
    return done


async def undone(world, operation, actor=OWNER):
    async with world.database.transaction() as tx:
        return await undo.undo(tx, actor, operation)


async def states(world, *jobs):
    return [(await world.job(job)).state for job in jobs]


async def everything(world):
    """All that may be undone about all jobs."""
    async with world.database.transaction() as tx:
        return await tx.rows(
            """select job.id, state, job.priority, job.pool, reason, queue.priority as p, queue.pool as q,
                      ready_at::text, is_held, waits
               from job left join job_queue as queue on queue.job_id = job.id order by job.id"""
        )


async def test_many_are_cancelled_at_once_what_runs_through_its_worker_and_what_needs_them_too(world):
    running, waiting, other = [await submit(world, n) for n in range(3)]
    after = await submit(world, 9, after=[waiting])
    worker = await world.worker()
    await world.lease(worker)
    done = await do(world, Verb.CANCEL, "parameters.level < 2")
    assert (done.jobs, done.actor, done.verb) == (2, "owner", "cancel")
    assert await states(world, running, waiting, other, after) == [
        JobState.RUNNING, JobState.CANCELLED, JobState.QUEUED, JobState.CANCELLED,
    ]  # fmt: skip
    assert (await world.job(running)).stop == "cancel"
    assert (await world.job(waiting)).reason == f"owner cancelled it (operation {done.id})."
    async with world.database.transaction() as tx:
        assert [event["kind"] for event in await events.history(tx, f"job:{waiting}")][-1] == "job.finished"
        assert [event["kind"] for event in await events.history(tx, f"job:{running}")][-1] == "job.cancelling"
        assert len(await store.jobs(tx, done.id, None, 10)) == 2
    assert (await do(world, Verb.CANCEL, "parameters.level < 2")).jobs == 0
    with pytest.raises(Conflict, match="cannot be undone"):
        await undone(world, done.id)


async def test_what_failed_is_retried_with_what_needs_it_but_beside_no_twin_and_not_without_its_needs(world):
    first, second = await submit(world, 1), await submit(world, 2)
    after, needy = await submit(world, 3, after=[first]), await submit(world, 4, after=[second])
    worker = await world.worker()
    for lease in await world.lease(worker, 2):
        await world.finish(worker, Report(lease.job_id, 1, AttemptOutcome.FAILED, ErrorClass.SCIENCE_ERROR))
    again = await submit(world, 2)  # does what `second` did
    done = await do(world, Verb.RETRY)
    assert done.jobs == 2
    assert await states(world, first, second, after, needy, again) == [
        JobState.QUEUED, JobState.FAILED, JobState.HELD, JobState.CANCELLED, JobState.QUEUED,
    ]  # fmt: skip
    assert (await world.job(first)).failures == 0


async def test_of_equal_jobs_that_failed_the_newest_is_retried(world):
    jobs = []
    for _ in range(3):
        jobs.append(await submit(world, 1))
        await do(world, Verb.CANCEL)
    assert (await do(world, Verb.RETRY)).jobs == 1
    assert (await world.job(jobs[-1])).state is JobState.QUEUED


async def test_purged_jobs_leave_their_history_and_nothing_that_waits(world):
    kept, gone = await submit(world, 1), await submit(world, 2)
    held = await submit(world, 3, after=[kept], on_failure="hold")
    worker = await world.worker()
    for lease in await world.lease(worker, 2):
        await world.finish(worker, Report(lease.job_id, 1, AttemptOutcome.FAILED, ErrorClass.SCIENCE_ERROR))
    assert (await do(world, Verb.PURGE)).jobs == 1
    with pytest.raises(NotFound):
        await world.job(gone)
    assert await states(world, kept, held) == [JobState.FAILED, JobState.HELD]
    assert len(await world.attempts(gone)) == 1
    async with world.database.transaction() as tx:
        assert [event["kind"] for event in await events.history(tx, f"job:{gone}")][-1] == "job.purged"
    assert await world.count("job_ledger") == 1


async def test_an_operation_reaches_no_job_of_another_group(world):
    job = await submit(world, 1)
    stranger = Actor("stranger", "owners2")
    async with world.database.transaction() as tx:
        await tx.execute("insert into user_group (id) values ('owners2')")
    done = await do(world, Verb.CANCEL, actor=stranger)
    assert done.jobs == 0
    assert await states(world, job) == [JobState.QUEUED]
    done = await do(world, Verb.HOLD)
    with pytest.raises(NotFound):
        await undone(world, done.id, stranger)


async def test_the_oldest_are_taken_where_a_limit_is_set_and_others_by_their_id(world):
    jobs = [await submit(world, n) for n in range(4)]
    assert (await do(world, Verb.HOLD, limit=2)).jobs == 2
    assert await states(world, *jobs) == [JobState.HELD] * 2 + [JobState.QUEUED] * 2
    assert (await do(world, Verb.MOVE, jobs=jobs[3:], pool="large")).jobs == 1
    assert (await world.job(jobs[3])).pool == "large"
    with pytest.raises(NotFound, match="no pool nowhere"):
        await do(world, Verb.MOVE, pool="nowhere")


async def test_what_is_leased_while_it_is_being_chosen_is_asked_once_more(world):
    """The lease commits while the operation waits for its row: a job that runs is not one whose state is queued."""
    job = await submit(world, 1)
    worker = await world.worker()
    async with world.database.transaction() as tx:
        await tx.rows("select from job_queue for update")
        cancelling = asyncio.create_task(do_one(world, Verb.CANCEL, "state = 'queued'"))
        while not await waits_for_lock(world):
            await asyncio.sleep(0.01)
        await tx.execute(
            "update job_queue set worker_id = %s, lease = 1, leased_at = armillary_now()", [worker.worker_id]
        )
        await tx.execute("update job set state = 'running', attempts = 1")
    assert (await cancelling).jobs == 0
    assert (await world.job(job)).stop is None


async def do_one(world, verb, where):
    async with world.database.transaction() as tx:
        return await run.perform(tx, OWNER, Request(verb, Selection((), where)))


async def waits_for_lock(world):
    async with world.database.transaction() as tx:
        return await tx.value("select exists (select from pg_locks where not granted)")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("stat = 'queued'", "There is no 'stat'"),
        ("state = ", "not CQL2"),
        ("CASEI(state) = 'queued'", "not asked with"),
        ("priority = 'high'", "compares"),
        ("S_INTERSECTS(geometry, POINT(1 1))", "There is no 'geometry'"),
    ],
)
async def test_what_is_not_understood_is_refused(world, where, words):
    with pytest.raises(UsageError, match=words):
        await do(world, Verb.CANCEL, where)


async def test_nothing_is_done_to_all_by_mistake(world):
    with pytest.raises(UsageError, match="No jobs are selected"):
        await do(world, Verb.CANCEL, None)
    with pytest.raises(UsageError, match="priority takes priority"):
        await do(world, Verb.PRIORITY)


@pytest.mark.parametrize(
    ("where", "levels"),
    [
        ("state = 'queued' and algorithm = 'stats' and version = '1.0.0'", [1, 2, 3]),
        ("parameters.level between 2 and 3 and priority >= 0", [2, 3]),
        ("memory_bytes > 1e9 and cpu = 1 and pool IN ('default', 'large')", [1, 2, 3]),
        ("created > TIMESTAMP('2020-01-01T00:00:00Z') and deadline is null and rule is null", [1, 2, 3]),
        ("reason like 'Queued%' and not (parameters.level = 2)", [1, 3]),
        ('"group" = \'owners\' and created_by = \'nobody\'', []),
    ],
)  # fmt: skip
async def test_jobs_are_asked_for_what_they_are(world, where, levels):
    for level in (1, 2, 3):
        await submit(world, level)
    await do(world, Verb.HOLD, where)
    async with world.database.transaction() as tx:
        rows = await tx.rows("select parameters from job where state = 'held' order by id")
    assert [row["parameters"]["level"] for row in rows] == levels


VERBS = st.sampled_from(
    [(Verb.HOLD, {}), (Verb.RELEASE, {}), (Verb.PRIORITY, {"priority": 7}), (Verb.MOVE, {"pool": "large"})]
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([0, 7])), min_size=1, max_size=5),
    operations=st.lists(VERBS, min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
)
async def test_operations_undone_from_the_last_to_the_first_leave_all_as_it_was(world, jobs, operations, seed):
    async with world.database.transaction() as tx:
        await tx.execute("delete from job")
    first = await submit(world, seed * 10 + 9)
    for n, (is_held, waits, priority) in enumerate(jobs):
        after = [first] if waits else []
        await submit(world, seed * 10 + n, hold=is_held, after=after, priority=priority, twins="again")
    before = await everything(world)
    done = [await do(world, verb, **arguments) for verb, arguments in operations]
    for one in reversed(done):
        assert (await undone(world, one.id)).restored == one.jobs
    assert await everything(world) == before


async def test_what_has_moved_on_is_left_as_it_is_by_an_undo(world, clock):
    runs, held, stays = [await submit(world, n) for n in range(3)]
    done = await do(world, Verb.PRIORITY, priority=5)
    worker = await world.worker()
    await world.lease(worker)
    await do(world, Verb.PRIORITY, jobs=[held], where=None, priority=9)
    clock.advance(timedelta(seconds=1))
    found = await undone(world, done.id)
    assert (found.jobs, found.restored, found.undone_by) == (3, 1, "owner")
    assert [(await world.job(job)).priority for job in (runs, held, stays)] == [5, 9, 0]
    with pytest.raises(Conflict, match="has undone it already"):
        await undone(world, done.id)


def test_every_verb_can_be_undone_or_says_what_to_do_instead():
    from armillary.jobs.bulk.operation import CONCERNS, INSTEAD

    assert set(INSTEAD) == set(Verb) - UNDOABLE
    assert set(CONCERNS) == set(Verb)
