import asyncio
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from armillary.accounts.actor import Actor
from armillary.accounts.authenticate import authenticate, make_worker_token
from armillary.base import servers
from armillary.base.errors import NotAllowed, NotAuthenticated, NotFound, TransientError, UsageError
from armillary.base.ids import new_id
from armillary.jobs.cancel import cancel
from armillary.jobs.job import AttemptOutcome, JobState, Report
from armillary.jobs.queue import Beat
from armillary.pools import store
from armillary.pools import worker as workers
from armillary.pools.pool import Arrival
from armillary.testing.world import CAPACITY, OWNER, TIME_TO_LIVE


async def do(world, verb, *args):
    async with world.database.transaction() as tx:
        return await verb(tx, *args)


async def reach(world, clock, seconds, beating=()):
    """Let time pass while the control plane is up and some workers beat."""
    server = new_id()
    for _ in range(seconds):
        clock.advance(timedelta(seconds=1))
        await do(world, lambda tx: servers.beat(tx, server, TIME_TO_LIVE, is_web=True))
        for worker in beating:
            await do(world, workers.heartbeat, worker.worker_id, [], TIME_TO_LIVE)


async def expire(world):
    return await do(world, workers.expire, TIME_TO_LIVE)


async def test_a_workers_token_is_for_it_and_its_pool_until_it_is_gone(world):
    async with world.database.transaction() as tx:
        found = await workers.register(tx, OWNER, "default", Arrival("node", 7, 1, CAPACITY))
        actor = await authenticate(tx, found.token)
    assert (actor.kind, actor.pool, actor.worker_id) == ("worker", "default", found.worker)
    await do(world, workers.leave, found.worker, "The day is over.")
    with pytest.raises(NotAuthenticated):
        await do(world, authenticate, found.token)
    for call in ((workers.heartbeat, [], TIME_TO_LIVE), (workers.lease, CAPACITY, 1), (workers.commands,)):
        with pytest.raises(NotFound, match="register anew"):
            await do(world, call[0], found.worker, *call[1:])


async def test_a_start_token_registers_what_it_was_made_for(world):
    start = uuid4()
    async with world.database.transaction() as tx:
        await store.insert_starts(tx, [start], "default", "local", {})
        actor = await authenticate(tx, await make_worker_token(tx, "default", start, start=True))
    with pytest.raises(NotAllowed):
        await do(world, workers.register, actor, "default", Arrival("node", 7, 1, CAPACITY, uuid4()))
    first = await do(world, workers.register, actor, "default", Arrival("node", 7, 1, CAPACITY, start))
    await world.submit(await world.granule("a"))
    leases, _ = await do(world, workers.lease, first.worker, CAPACITY, 1)
    # The same process again, after it was declared gone or lost its state: what it held is lost.
    second = await do(world, workers.register, actor, "default", Arrival("node", 7, 1, CAPACITY, start))
    assert second.epoch > first.epoch
    assert (await world.job(leases[0].job_id)).state is JobState.QUEUED
    assert (await world.attempts(leases[0].job_id))[0]["outcome"] == "lost"
    assert len((await do(world, workers.lease, second.worker, CAPACITY, 1))[0]) == 1


async def test_strangers_and_old_protocols_are_refused(world):
    with pytest.raises(UsageError, match="protocol 9"):
        await do(world, workers.register, OWNER, "default", Arrival("node", 7, 9, CAPACITY))
    with pytest.raises(NotFound):
        await do(world, workers.register, OWNER, "nowhere", Arrival("node", 7, 1, CAPACITY))
    with pytest.raises(NotFound):
        await do(world, workers.register, OWNER, "default", Arrival("node", 7, 1, CAPACITY, uuid4()))
    with pytest.raises(NotFound):
        await do(world, workers.register, Actor("ann", "ocean"), "default", Arrival("node", 7, 1, CAPACITY))


async def test_a_silent_worker_loses_its_job_and_a_beating_one_does_not(world, clock):
    silent, beating = await world.worker(), await world.worker()
    await world.submit(await world.granule("a"))
    (lease,) = await world.lease(silent)
    await reach(world, clock, 14, [beating])
    assert await expire(world) == []
    await reach(world, clock, 4, [beating])
    assert await expire(world) == [silent.worker_id]
    job = await world.job(lease.job_id)
    assert (job.state, job.failures) == (JobState.QUEUED, 0)
    assert "15 s" in job.reason
    (again,) = await world.lease(beating)
    assert (again.job_id, again.number) == (lease.job_id, 2)
    (result,) = await world.finish(silent, await world.succeed(silent, lease, content=b"from the dead"))
    assert result.outcome == "refused"
    assert await expire(world) == []


async def test_a_worker_of_a_large_fleet_may_be_silent_for_as_long_as_it_was_told(world, clock):
    slow, quick = await world.worker(), await world.worker()
    await do(world, workers.heartbeat, slow.worker_id, [], TIME_TO_LIVE, timedelta(seconds=60))
    await do(world, workers.heartbeat, quick.worker_id, [], TIME_TO_LIVE)
    await reach(world, clock, 59)
    assert await expire(world) == [quick.worker_id]
    await reach(world, clock, 3)
    assert await expire(world) == [slow.worker_id]


async def test_a_worker_that_hung_up_is_gone_unless_it_is_heard_of_soon(world, clock):
    dead, alive = await world.worker(), await world.worker()
    await reach(world, clock, 20, [dead, alive])
    await world.submit(await world.granule("a"))
    (lease,) = await world.lease(dead)
    await do(world, workers.hung_up, dead.worker_id)
    # What it had sent before is no sign of life.
    assert await world.lease(dead) == []
    await reach(world, clock, 6, [alive])
    assert await expire(world) == []
    await reach(world, clock, 1, [alive])
    assert await expire(world) == [dead.worker_id]
    assert "hung up" in (await world.job(lease.job_id)).reason


async def test_a_worker_that_lost_its_line_and_beats_is_alive(world, clock):
    worker, other = await world.worker(), await world.worker()
    await reach(world, clock, 20, [worker, other])
    await do(world, workers.hung_up, worker.worker_id)
    await reach(world, clock, 3, [other])
    await reach(world, clock, 1, [worker])
    await reach(world, clock, 10, [other])
    assert await expire(world) == []
    await reach(world, clock, 6, [other])
    assert await expire(world) == [worker.worker_id]  # silent for all of 15 s


async def test_nobody_is_gone_for_having_hung_up_when_all_lines_broke(world, clock):
    """As when a proxy is started anew: the first that is back says nothing about the others."""
    async with world.database.transaction() as tx:
        await tx.execute("""insert into pool (id, spec, "group") values ('other', '{"id": "other"}', 'owners')""")
    first, second, elsewhere = await world.worker(), await world.worker(), await world.worker(pool="other")
    await reach(world, clock, 20, [first, second, elsewhere])
    for worker in first, second:
        await do(world, workers.hung_up, worker.worker_id)
    await reach(world, clock, 10, [elsewhere])
    assert await expire(world) == []
    await reach(world, clock, 1, [first, elsewhere])
    assert await expire(world) == []
    await reach(world, clock, 5, [first, elsewhere])
    assert await expire(world) == [second.worker_id]


async def test_nobody_is_gone_for_having_hung_up_while_we_were_away(world, clock):
    worker, other = await world.worker(), await world.worker()
    await reach(world, clock, 20, [worker, other])
    await do(world, workers.hung_up, worker.worker_id)
    clock.advance(timedelta(minutes=1))
    await reach(world, clock, 10, [other])
    assert await expire(world) == []


async def test_no_lease_expires_until_we_have_been_reachable_for_a_whole_time_to_live(world, clock):
    worker = await world.worker()
    await world.submit(await world.granule("a"))
    await world.lease(worker)
    await reach(world, clock, 20, [worker])
    clock.advance(timedelta(hours=2))  # the control plane was down
    assert await expire(world) == []
    await reach(world, clock, 14)
    assert await expire(world) == []
    await do(world, workers.heartbeat, worker.worker_id, [], timedelta(days=1))
    await reach(world, clock, 14, [])
    assert await expire(world) == []
    await reach(world, clock, 3)
    assert await expire(world) == [worker.worker_id]


async def test_a_lease_given_to_a_worker_that_was_just_declared_gone_is_taken_back(world):
    worker = await world.worker()
    job = (await world.submit(await world.granule("a"))).job.id
    await world.lease(worker)
    async with world.database.transaction() as tx:
        await store.mark_gone(tx, [worker.worker_id], "in between")
    await expire(world)
    assert (await world.job(job)).state is JobState.QUEUED


async def test_a_draining_worker_takes_nothing_new_and_hears_of_it(world):
    worker = await world.worker()
    await world.submit(await world.granule("a"))
    (lease,) = await world.lease(worker)
    await world.submit(await world.granule("b"))
    await do(world, workers.drain, worker.worker_id, "It was asked to.")
    assert await do(world, workers.lease, worker.worker_id, CAPACITY, 1) == ([], True)
    beats = [Beat(lease.job_id, lease.number)]
    assert (await do(world, workers.heartbeat, worker.worker_id, beats, TIME_TO_LIVE)).drain
    assert (await do(world, workers.commands, worker.worker_id)).drain
    (result,) = await world.finish(worker, await world.succeed(worker, lease))
    assert result.outcome == "recorded"


async def test_a_worker_that_leaves_hands_back_what_it_holds(world):
    worker = await world.worker()
    job = (await world.submit(await world.granule("a"))).job.id
    await world.lease(worker)
    await do(world, workers.leave, worker.worker_id, "Its time is over.")
    await do(world, workers.leave, worker.worker_id, "Its time is over.")
    found = await world.job(job)
    assert (found.state, found.failures) == (JobState.QUEUED, 0)
    assert "Its time is over." in found.reason
    (result,) = await world.finish(worker, Report(job, 1, AttemptOutcome.SUCCEEDED))
    assert result.outcome == "refused"
    assert (await world.job(job)).state is JobState.QUEUED


async def test_a_heartbeat_carries_what_is_to_stop_and_what_is_not_held(world):
    worker = await world.worker()
    job = (await world.submit(await world.granule("a"))).job.id
    await world.lease(worker)
    await do(world, cancel, OWNER, job)
    found = await do(world, workers.heartbeat, worker.worker_id, [Beat(job, 1), Beat(job, 9)], TIME_TO_LIVE)
    assert list(found.stop) == [(job, 1, "cancel")]
    assert list(found.gone) == [(job, 9)]


async def test_idleness_is_counted_from_the_last_job(world, clock):
    worker = await world.worker()

    async def idle_since():
        async with world.database.transaction() as tx:
            return (await store.workers(tx, "default"))[0].idle_since

    assert await idle_since() == clock()
    await world.submit(await world.granule("a"))
    (lease,) = await world.lease(worker)
    assert await idle_since() is None
    await do(world, workers.heartbeat, worker.worker_id, [Beat(lease.job_id, 1)], TIME_TO_LIVE)
    assert await idle_since() is None
    await world.finish(worker, await world.succeed(worker, lease))
    since = clock.advance(timedelta(seconds=5))
    await do(world, workers.heartbeat, worker.worker_id, [], TIME_TO_LIVE)
    clock.advance(timedelta(seconds=5))
    await do(world, workers.heartbeat, worker.worker_id, [], TIME_TO_LIVE)
    assert await idle_since() == since


async def impatiently(tx, verb, *args):
    """Raises if a lock must be waited for."""
    await tx.execute("set local lock_timeout = '10ms'")
    await verb(tx, *args)


async def test_a_workers_calls_do_not_wait_for_each_other(world):
    """Leases and reports of one worker come at once; the row by which it is known must not put them in a line."""
    worker = await world.worker()
    await world.submit(await world.granule("a"))
    (first,) = await world.lease(worker)
    await world.submit(await world.granule("b"))
    report = await world.succeed(worker, first)
    async with world.database.transaction() as leasing, world.database.transaction() as reporting:
        for tx in (leasing, reporting):
            await tx.execute("set local lock_timeout = '5s'")
        leases, _ = await workers.lease(leasing, worker.worker_id, CAPACITY, 1)
        (result,) = await workers.finish(reporting, worker, worker.worker_id, [report])
        assert (len(leases), result.outcome) == (1, "recorded")
        async with world.database.transaction() as beating:
            await beating.execute("set local lock_timeout = '5s'")
            beats = [Beat(first.job_id, first.number)]
            await workers.heartbeat(beating, worker.worker_id, beats, TIME_TO_LIVE)


@pytest.mark.parametrize(
    "end",
    [
        lambda tx, worker: workers.end(tx, [worker], "Sent away."),
        lambda tx, worker: workers.leave(tx, worker, "It is over."),
        lambda tx, worker: workers.drain(tx, worker, "Not needed."),
    ],
    ids=["end", "leave", "drain"],
)
async def test_nothing_is_given_to_a_worker_that_goes_in_the_same_moment(world, end):
    worker = await world.worker()
    await world.submit(await world.granule("a"))
    async with world.database.transaction() as leasing:
        assert (await workers.lease(leasing, worker.worker_id, CAPACITY, 1))[0]
        with pytest.raises(TransientError) as waited:
            await do(world, impatiently, end, worker.worker_id)
        assert isinstance(waited.value.__cause__, psycopg.errors.LockNotAvailable)


async def test_of_successes_that_are_reported_at_once_all_count_for_their_worker(world):
    worker = await world.worker()
    for name in ("a", "b"):
        await world.submit(await world.granule(name))
    reports = [await world.succeed(worker, lease) for lease in await world.lease(worker, count=2)]
    async with world.database.transaction() as tx:
        first = asyncio.create_task(do(world, workers.finish, worker, worker.worker_id, reports[1:]))
        await workers.finish(tx, worker, worker.worker_id, reports[:1])
    assert [result.outcome for result in await first] == ["recorded"]
    async with world.database.transaction() as tx:
        record = await tx.value("select record from worker where id = %s", [worker.worker_id])
    assert list(record["tallies"].values()) == [[2, 0]]


async def test_expiry_and_heartbeat_race_for_one_row(world, clock):
    worker = await world.worker()
    await reach(world, clock, 20)
    await asyncio.gather(
        expire(world), do(world, workers.heartbeat, worker.worker_id, [], TIME_TO_LIVE), return_exceptions=True
    )
    async with world.database.transaction() as tx:
        row = await store.state(tx, worker.worker_id)
    if row is not None:
        assert await expire(world) == []
