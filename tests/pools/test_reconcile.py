import socket
from datetime import timedelta

import pytest

from armillary.accounts.authenticate import authenticate
from armillary.base import servers
from armillary.base.errors import Conflict
from armillary.base.ids import new_id
from armillary.base.settings import Settings
from armillary.jobs.job import JobState
from armillary.jobs.queue import Beat
from armillary.pools import define, store
from armillary.pools import worker as workers
from armillary.pools.fleet import Providers
from armillary.pools.pool import Arrival
from armillary.pools.provider import Found
from armillary.pools.reconcile import DOUBTED, LEFT_OVER, LONGEST_PAUSE, REGISTER_WITHIN, Reconciler
from armillary.testing.memory import MemoryProvider
from armillary.testing.world import CAPACITY, OWNER, TIME_TO_LIVE, algorithm

DOCUMENT = {
    "kind": "pool",
    "id": "fleet",
    "provider": "local",
    "workers": {"min": 0, "max": 3},
    "worker": {"cpu": 2, "memory": "8GiB", "disk": "8GiB"},
    "scale": {"idle_after": "60s", "drain_within": "10min", "preempt_after": "10min"},
}


class Fleet:
    """A pool with a provider in memory, whose workers do what a test says."""

    def __init__(self, world):
        self.world = world
        self.provider = MemoryProvider()
        self.reconciler = Reconciler(
            world.database, Providers(lambda *_: self.provider), Settings().pools, lambda: "http://127.0.0.1:7117"
        )

    async def put(self, **more):
        async with self.world.database.transaction() as tx:
            await define.put(tx, OWNER, DOCUMENT | more, 1)

    async def round(self):
        await self.reconciler.round()

    async def starts(self):
        async with self.world.database.transaction() as tx:
            return await store.starts(tx)

    async def submit(self, number, **more):
        scene = await self.world.granule("a")
        more = {"pool": "fleet", "twins": "again"} | more
        return [(await self.world.submit(scene, **more)).job.id for _ in range(number)]

    async def register(self):
        """Let all that were started register, as their runners would."""
        found = []
        for start in await self.starts():
            if start.worker_id is None and start.reference:
                request = self.provider.living[start.reference]
                async with self.world.database.transaction() as tx:
                    actor = await authenticate(tx, request.token)
                    arrival = Arrival("node", 1, 1, CAPACITY, start.id)
                    found.append((await workers.register(tx, actor, "fleet", arrival)).worker)
        return found


@pytest.fixture
async def fleet(world, clock):
    fleet = Fleet(world)
    fleet.clock = clock
    await fleet.put()
    return fleet


async def test_what_came_after_it_was_given_up_is_cancelled_by_its_name(fleet):
    await fleet.put(provider="ssh", ssh={"hosts": ["a"]}, workers={"min": 1, "max": 1})
    fleet.provider.answers_late = True
    await fleet.round()
    [reference] = fleet.provider.living
    assert await fleet.starts() == []
    assert fleet.provider.stopped == []
    await fleet.round()
    assert fleet.provider.stopped == [(reference, False)]
    async with fleet.world.database.transaction() as tx:
        [ended] = await store.ended_starts(tx, "fleet", 5)
    assert ended["reason"] == f"The controller did not answer in time. {LEFT_OVER}"
    await fleet.round()
    assert len(fleet.provider.stopped) == 1


async def test_what_came_too_late_to_be_looked_for_is_not_asked_about_for_ever(fleet):
    await fleet.put(provider="ssh", ssh={"hosts": ["a"]}, workers={"min": 1, "max": 1})
    fleet.provider.answers_late = True
    await fleet.round()
    await fleet.put(provider="ssh", ssh={"hosts": ["a"]}, workers={"min": 0, "max": 1})
    fleet.clock.advance(DOUBTED)
    await fleet.round()
    assert fleet.provider.stopped == []


async def test_a_pool_grows_with_its_work_and_only_to_its_maximum(fleet):
    await fleet.round()
    assert await fleet.starts() == []
    await fleet.submit(10)  # not known yet: each is taken to last a quarter of 10 minutes, and two share a worker
    await fleet.round()
    await fleet.round()
    assert len(fleet.provider.living) == 2
    await fleet.submit(20)
    await fleet.round()
    assert len(fleet.provider.living) == 3
    assert {request.url for request in fleet.provider.living.values()} == {"http://127.0.0.1:7117"}


async def test_idle_workers_are_drained_and_gone_ones_buried(fleet):
    await fleet.submit(1)
    await fleet.round()
    (worker,) = await fleet.register()
    async with fleet.world.database.transaction() as tx:
        ((lease,), _) = await workers.lease(tx, worker, CAPACITY, 1)
    await fleet.round()
    actor = type(OWNER)(f"worker:{worker}", "owners", kind="worker", pool="fleet", worker_id=worker)
    await fleet.world.finish(actor, await fleet.world.succeed(actor, lease))
    for seconds, is_draining in ((59, False), (2, True)):
        fleet.clock.advance(timedelta(seconds=seconds))
        async with fleet.world.database.transaction() as tx:
            await workers.heartbeat(tx, worker, [], TIME_TO_LIVE)
        await fleet.round()
        async with fleet.world.database.transaction() as tx:
            assert (await workers.commands(tx, worker)).drain is is_draining
        if not is_draining:
            fleet.clock.advance(timedelta(seconds=58))
    async with fleet.world.database.transaction() as tx:
        await workers.leave(tx, worker, "It was drained.")
    fleet.provider.living.clear()
    await fleet.round()
    assert await fleet.starts() == []


async def test_a_worker_whose_process_died_loses_its_job_at_once(fleet):
    (job,) = await fleet.submit(1)
    await fleet.round()
    (worker,) = await fleet.register()
    async with fleet.world.database.transaction() as tx:
        await workers.lease(tx, worker, CAPACITY, 1)
    fleet.provider.living.clear()
    await fleet.round()
    found = await fleet.world.job(job)
    assert (found.state, found.failures) == (JobState.QUEUED, 0)
    assert "process has ended" in found.reason
    assert len(fleet.provider.living) == 1  # its successor


async def test_after_a_crash_before_the_start_the_record_is_buried(fleet):
    async with fleet.world.database.transaction() as tx:
        await store.insert_starts(tx, [new_id()], "fleet", "local", {})
    await fleet.round()
    assert await fleet.starts() == []


async def test_after_a_crash_behind_the_start_the_worker_is_adopted(fleet, monkeypatch):
    await fleet.submit(1)
    monkeypatch.setattr("armillary.pools.reconcile.crash_point", _die_at("pools.before-reference"))
    with pytest.raises(ZeroDivisionError):
        await fleet.round()
    monkeypatch.undo()
    (start,) = await fleet.starts()
    assert start.reference is None
    await fleet.round()
    (start,) = await fleet.starts()
    assert start.reference in fleet.provider.living
    assert len(fleet.provider.living) == 1
    assert len(await fleet.register()) == 1


def _die_at(place):
    def crash_point(name):
        if name == place:
            raise ZeroDivisionError

    return crash_point


async def test_what_never_registers_is_killed(fleet):
    await fleet.submit(1)
    await fleet.round()
    (start,) = await fleet.starts()
    fleet.clock.advance(timedelta(seconds=61))
    await fleet.round()
    assert fleet.provider.stopped == [(start.reference, True)]


async def test_workers_that_end_at_once_are_not_started_without_end(fleet):
    await fleet.submit(1)
    begun = 0
    for _ in range(120):
        await fleet.round()
        begun += len(fleet.provider.living)
        fleet.provider.living.clear()
        fleet.clock.advance(timedelta(seconds=1))
    assert 4 <= begun <= 8


async def test_a_worker_that_registers_ends_the_waiting_for_those_that_did_not(fleet):
    await fleet.put(workers={"min": 1, "max": 1})
    for _ in range(6):
        await fleet.round()
        fleet.provider.living.clear()
        fleet.clock.advance(LONGEST_PAUSE)
    await fleet.round()
    assert len(await fleet.register()) == 1
    fleet.provider.living.clear()  # it did register, and is killed: another is started at once
    fleet.clock.advance(timedelta(seconds=1))
    await fleet.round()
    assert len(fleet.provider.living) == 1
    fleet.provider.living.clear()  # and this one never does: a short while
    await fleet.round()
    assert fleet.provider.living == {}
    fleet.clock.advance(timedelta(seconds=3))
    await fleet.round()
    assert len(fleet.provider.living) == 1


async def test_a_broken_provider_leaves_a_reason_and_is_tried_again(fleet):
    await fleet.submit(1)
    fleet.provider.is_broken = True
    await fleet.round()
    async with fleet.world.database.transaction() as tx:
        assert "no room" in await tx.value("select reason from worker_start")
    fleet.provider.is_broken = False
    fleet.clock.advance(timedelta(seconds=3))
    await fleet.round()
    assert len(fleet.provider.living) == 1


async def test_an_overdue_drain_preempts_and_stops(fleet):
    (job,) = await fleet.submit(1)
    await fleet.round()
    (worker,) = await fleet.register()
    async with fleet.world.database.transaction() as tx:
        await workers.lease(tx, worker, CAPACITY, 1)
        await workers.drain(tx, worker, "It was asked to.")
    for seconds, expected in ((599, []), (2, [(job, 1, "preempt")])):
        fleet.clock.advance(timedelta(seconds=seconds))
        async with fleet.world.database.transaction() as tx:
            await workers.heartbeat(tx, worker, [Beat(job, 1)], TIME_TO_LIVE)
        await fleet.round()
        async with fleet.world.database.transaction() as tx:
            assert list((await workers.commands(tx, worker)).stop) == expected
    assert [force for _, force in fleet.provider.stopped] == [False]


async def test_a_job_that_no_worker_could_run_says_so(fleet):
    large = algorithm("large", resources={"cpu": 64, "memory": "1GiB", "disk": "1GiB"})
    await fleet.world.algorithm(large)
    (job,) = await fleet.submit(1, algorithm="large")
    await fleet.round()
    assert "needs more than a worker of pool fleet has (2 CPUs" in (await fleet.world.job(job)).reason


async def test_a_server_that_was_overtaken_changes_nothing(fleet):
    await fleet.submit(1)
    first, second = new_id(), new_id()
    async with fleet.world.database.transaction() as tx:
        epoch = await servers.hold(tx, "pools", first)
    fleet.clock.advance(timedelta(minutes=1))
    async with fleet.world.database.transaction() as tx:
        assert await servers.hold(tx, "pools", second) == epoch + 1
    with pytest.raises(Conflict, match="taken over"):
        await fleet.reconciler.round(epoch)
    assert fleet.provider.living == {}


async def test_a_pool_without_a_provider_starts_nobody(fleet):
    await fleet.put(provider="none")
    await fleet.submit(5)
    await fleet.round()
    assert await fleet.starts() == []


async def test_a_server_that_stops_takes_its_workers_along(fleet):
    (job,) = await fleet.submit(1)
    await fleet.round()
    (worker,) = await fleet.register()
    async with fleet.world.database.transaction() as tx:
        await workers.lease(tx, worker, CAPACITY, 1)
    await fleet.reconciler.stop_all(timedelta(seconds=5))
    assert (await fleet.starts(), fleet.provider.living) == ([], {})
    assert [force for _, force in fleet.provider.stopped] == [False]
    assert (await fleet.world.job(job)).state is JobState.QUEUED


# Workers of other machines -------------------------------------------------------------------------------------------


async def started_on(fleet, host):
    """A start that a server of that machine has made."""
    start = new_id()
    async with fleet.world.database.transaction() as tx:
        await store.insert_starts(tx, [start], "fleet", "local", {})
        await store.set_found(tx, start, Found(f"{host}:7:1.00"))
    return start


async def serve(fleet, host):
    """A server of that machine says that it lives."""
    async with fleet.world.database.transaction() as tx:
        await tx.execute(
            """insert into server (id, host, pid, roles, version, beat_at) values (%s, %s, 1, '{pools}', '1', armillary_now())""",
            [new_id(), host],
        )


async def reasons(fleet):
    async with fleet.world.database.transaction() as tx:
        return {row["id"]: row["reason"] for row in await store.ended_starts(tx, "fleet", 9)}


async def test_a_worker_of_another_machine_is_left_to_the_server_there_and_counts(fleet):
    await fleet.put(workers={"min": 1, "max": 1})
    start = await started_on(fleet, "elsewhere")
    for _ in range(3):
        await serve(fleet, "elsewhere")
        await fleet.round()
        assert [one.id for one in await fleet.starts()] == [start]
        fleet.clock.advance(REGISTER_WITHIN)
    assert (fleet.provider.living, fleet.provider.stopped) == ({}, [])


async def test_where_no_server_is_left_a_worker_counts_as_long_as_it_is_heard_of(fleet):
    await fleet.put(workers={"min": 1, "max": 1})
    start = await started_on(fleet, "elsewhere")
    await fleet.round()
    assert [one.id for one in await fleet.starts()] == [start], "it may be about to register"
    fleet.clock.advance(REGISTER_WITHIN + timedelta(seconds=1))
    await fleet.round()
    assert await reasons(fleet) == {start: "It is not heard of, and no server runs on elsewhere."}
    fleet.clock.advance(LONGEST_PAUSE)
    await fleet.round()
    assert len(fleet.provider.living) == 1


async def test_a_server_buries_those_of_its_own_machine_without_holding_the_singleton(fleet):
    here, there = await started_on(fleet, socket.gethostname()), await started_on(fleet, "elsewhere")
    async with fleet.world.database.transaction() as tx:
        recorded = new_id()
        await store.insert_starts(tx, [recorded], "fleet", "local", {})  # another server is about to start it
    await fleet.reconciler.mind_host()
    assert set(await reasons(fleet)) == {here}
    assert {one.id for one in await fleet.starts()} == {there, recorded}
    await fleet.reconciler.stop_all(timedelta(seconds=5))
    assert {one.id for one in await fleet.starts()} == {there, recorded}


async def test_one_that_never_registers_is_ended_by_the_server_of_its_machine(fleet):
    await fleet.put(workers={"min": 1, "max": 1})
    await fleet.round()
    [reference] = fleet.provider.living
    await fleet.reconciler.mind_host()
    assert fleet.provider.stopped == []
    fleet.clock.advance(REGISTER_WITHIN + timedelta(seconds=1))
    await fleet.reconciler.mind_host()
    assert fleet.provider.stopped == [(reference, True)]
