"""Every sweep: cause exactly its condition in a real database, see it named, mend it, see it closed."""

import math
import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest

from armillary.algorithms.algorithm import Resources
from armillary.algorithms.register import resolve
from armillary.base import servers
from armillary.base.ids import new_id
from armillary.base.settings import Settings
from armillary.granules import collect
from armillary.granules.upload import Wish, open_uploads
from armillary.jobs import pause
from armillary.jobs.bulk import run
from armillary.jobs.bulk.operation import Request, Verb
from armillary.jobs.job import AttemptOutcome, Report
from armillary.jobs.select import Selection
from armillary.pools import define, store
from armillary.pools import worker as workers
from armillary.testing.world import OWNER, TIME_TO_LIVE, World, algorithm
from armillary.watchdog.sweeps import all_sweeps, orphans
from armillary.watchdog.sweeps.orphans import Walk
from armillary.watchdog.watch import Watch

GIB = 2**30
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ROLES = ["web", "reactor", "pools", "watchdog"]


class Site:
    """An instance with one server, and its watchdog."""

    def __init__(self, world, clock):
        self.world, self.clock, self.server = world, clock, new_id()
        self.sweeps = {one.name: one for one in all_sweeps()}

    async def make(self):
        async with self.world.database.transaction() as tx:
            await servers.enter(tx, self.server, ROLES, "1")
            await servers.beat(tx, self.server, TIME_TO_LIVE, is_web=True)
        return self

    async def look(self, name):
        """Run one sweep, whenever it ran before; what it leaves open, by subject."""
        async with self.world.database.transaction() as tx:
            await servers.beat(tx, self.server, TIME_TO_LIVE, is_web=True)
            await tx.execute("delete from sweep")
        watch = Watch(self.world.database, self.world.store, Settings(), [self.sweeps[name]])
        assert await watch.round(self.server) == 1
        assert (await self.rows("select error from sweep"))[0]["error"] == ""
        found = await self.rows("select * from finding where closed_at is null and sweep = %s", name)
        return {row["subject"]: row for row in found}

    async def rows(self, sql, *params):
        async with self.world.database.transaction() as tx:
            return await tx.rows(sql, params)

    async def do(self, function, *arguments, **options):
        async with self.world.database.transaction() as tx:
            return await function(tx, *arguments, **options)

    async def beat(self, worker, free_bytes=500 * GIB, clock=None):
        """A heartbeat of a worker on a machine with a disk of 1,000 GiB."""
        measured = {"work_disk_used_bytes": 1000 * GIB - free_bytes, "work_disk_bytes": 1000 * GIB}
        clock = clock or self.clock()
        await self.do(workers.heartbeat, worker.worker_id, [], TIME_TO_LIVE, machine=measured, clock=clock)

    async def pool(self, name="fleet", **more):
        await self.do(define.put, OWNER, {"kind": "pool", "id": name, "provider": "none"} | more, 1)


@pytest.fixture
async def site(database, tmp_path, clock):
    world = await World(database, tmp_path).make()
    made = await Site(world, clock).make()
    for name in made.sweeps:
        assert await made.look(name) == {}, "a sound instance has no finding"
    return made


async def test_a_dead_worker_is_told_with_what_became_of_its_jobs(site):
    await site.world.submit(await site.world.granule("a"))
    worker, other = await site.world.worker(), await site.world.worker()
    await site.world.lease(worker)
    await site.do(workers.end, [worker.worker_id], "Its process has ended.")
    await site.do(workers.leave, other.worker_id, "It was drained.")
    finding = (await site.look("workers"))["pool:default"]
    assert finding["severity"] == "notice"
    assert finding["reason"] == "1 worker of pool default died within 10 min: node-1 (Its process has ended)."
    assert finding["action"] == "1 job in hand went back to the queue, uncounted."
    site.clock.advance(11 * MINUTE)
    assert await site.look("workers") == {}


async def test_workers_that_die_one_after_the_other_want_a_look(site):
    for number in range(5):
        worker = await site.world.worker()
        await site.do(workers.end, [worker.worker_id], "Its process has ended.")
        finding = (await site.look("workers"))["pool:default"]
        assert finding["severity"] == ("warning" if number == 4 else "notice")
    assert finding["reason"].startswith(
        "5 workers of pool default died within 10 min: node-1 (Its process has ended); "
    )
    assert finding["reason"].endswith("; and 2 more.")


async def test_a_silent_worker_that_nobody_buries_is_an_error(site):
    worker = await site.world.worker()
    site.clock.advance(TIME_TO_LIVE + 29 * SECOND)
    assert await site.look("workers") == {}
    site.clock.advance(2 * SECOND)
    finding = (await site.look("workers"))[f"worker:{worker.worker_id}"]
    assert finding["severity"] == "error"
    assert "not heard of for 46 s" in finding["reason"]
    await site.beat(worker)
    assert await site.look("workers") == {}


async def test_a_job_that_outlives_its_time_is_stuck(site):
    job = (await site.world.submit(await site.world.granule("a"))).job.id
    worker = await site.world.worker()
    (lease,) = await site.world.lease(worker)
    site.clock.advance(HOUR + 10 * MINUTE)
    assert await site.look("stuck") == {}
    site.clock.advance(SECOND)
    finding = (await site.look("stuck"))[f"job:{job}"]
    assert "has run for 70 min" in finding["reason"]
    assert "should have ended it after 60 min" in finding["reason"]
    assert f"`armillary job cancel {job}`" in finding["remedy"]
    await site.world.finish(worker, Report(job, lease.number, AttemptOutcome.CANCELLED))
    assert await site.look("stuck") == {}


async def test_a_job_that_waits_beside_an_idle_worker_is_stuck(site):
    await site.world.submit(await site.world.granule("a"))
    small = await site.world.worker(capacity=Resources(0.5, 8 * GIB, 8 * GIB, math.inf))
    site.clock.advance(6 * MINUTE)
    await site.beat(small)
    assert await site.look("stuck") == {}, "it is too small, so it has a reason to be idle"
    worker = await site.world.worker()
    assert await site.look("stuck") == {}, "it has not had the time"
    site.clock.advance(6 * MINUTE)
    finding = (await site.look("stuck"))["pool:default/stats"]
    assert finding["severity"] == "error"
    assert f"beside 1 idle worker that could run them: {worker.worker_id} on node-1" in finding["reason"]
    await site.world.lease(worker)
    assert await site.look("stuck") == {}


async def big(site, memory="64GiB", **more):
    await site.world.algorithm(algorithm("big", resources={"cpu": 1, "memory": memory, "disk": "1GiB", **more}))


async def test_a_job_larger_than_any_worker_is_named_with_the_pool_that_would_do(site):
    await big(site)
    await site.pool()
    await site.pool("large", worker={"cpu": 8, "memory": "128GiB", "disk": "1TiB"})
    await site.do(store.set_size, "fleet", Resources(4, 32 * GIB, 100 * GIB, math.inf))
    await site.do(store.set_size, "large", Resources(8, 128 * GIB, 1000 * GIB, math.inf))
    await site.world.worker("fleet")
    scene = await site.world.granule("a")
    job = (await site.world.submit(scene, algorithm="big", pool="fleet")).job.id
    await site.world.submit(scene, pool="fleet")
    finding = (await site.look("queues"))["pool:fleet/big"]
    assert finding["reason"] == (
        "1 job of big can never run in pool fleet: one needs 64.0 GiB of memory, the largest worker has 32.0 GiB."
    )
    command = proposed(finding)
    assert command["words"] == ["armillary", "job", "move", "large"]
    selection = Selection(where=command["--where"], pool=command["--pool"])
    moved = await site.do(run.perform, OWNER, Request(Verb.MOVE, selection, {"pool": "large"}))
    assert moved.jobs == 1
    site.clock.advance(SECOND)
    assert await site.look("queues") == {}
    assert (await site.world.job(job)).pool == "large"


def proposed(finding):
    """The command of a remedy, as a shell reads it: its words, and its options."""
    words = shlex.split(re.search("`(armillary [^`]+)`", finding["remedy"])[1])
    options = {one: words.pop(words.index(one) + 1) for one in words if one.startswith("--")}
    return options | {"words": [one for one in words if one not in options]}


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"cpu": 9}, "one needs 9 CPUs, the largest worker has 4"),
        ({"disk": "2TiB"}, "one needs 2.0 TiB of disk, the largest worker has 100.0 GiB"),
        ({"gpu": 2}, "one needs 2 GPUs, the largest worker has 0"),
        ({"time": "3h"}, "one may take 3.0 h, the largest worker has 60 min"),
    ],
)
async def test_whatever_is_lacking_is_named(site, needs, said):
    await big(site, "1GiB", **needs)
    await site.pool()
    await site.do(store.set_size, "fleet", Resources(4, 32 * GIB, 100 * GIB, 3600))
    await site.world.worker("fleet")
    await site.world.submit(await site.world.granule("a"), algorithm="big", pool="fleet")
    assert said in (await site.look("queues"))["pool:fleet/big"]["reason"]
    await site.do(store.set_size, "fleet", Resources(16, 32 * GIB, 4096 * GIB, math.inf, gpu=4))
    assert await site.look("queues") == {}


@pytest.mark.parametrize(
    ("more", "why", "wait"),
    [
        ({}, "it has no worker, and no provider that would start one", 31 * SECOND),
        ({"provider": "local", "workers": {"max": 0}}, "its definition allows no workers", 31 * SECOND),
        ({"provider": "local", "workers": {"max": 2}}, "no worker has come. sbatch says no", 10 * MINUTE + SECOND),
    ],
)
async def test_a_pool_without_workers_is_named_with_the_reason(site, more, why, wait):
    await site.pool(**more)
    await site.do(store.decided, "fleet", 1, "sbatch says no.")
    await site.world.submit(await site.world.granule("a"), pool="fleet")
    site.clock.advance(wait - 2 * SECOND)
    assert await site.look("queues") == {}
    site.clock.advance(2 * SECOND)
    finding = (await site.look("queues"))["pool:fleet"]
    assert why in finding["reason"]
    await site.world.worker("fleet")
    assert await site.look("queues") == {}


async def test_a_pool_of_quarantined_workers_says_so(site):
    worker = await site.world.worker()
    await site.do(store.set_quarantined, worker.worker_id, "Read-only file system.")
    await site.world.submit(await site.world.granule("a"))
    site.clock.advance(31 * SECOND)
    finding = (await site.look("queues"))["pool:default"]
    assert "all of its workers are quarantined (1)" in finding["reason"]


async def test_jobs_that_will_miss_their_deadline_are_forecast_by_what_lies_before_them(site):
    scene = await site.world.granule("a")
    for number in range(10):
        await site.world.submit(scene, parameters={"level": number})
    await site.world.submit(scene, parameters={"level": 10}, deadline=HOUR)
    await site.world.submit(scene, parameters={"level": 11}, deadline=HOUR, priority=5)
    await site.world.worker(capacity=Resources(1, 8 * GIB, 8 * GIB, math.inf))
    await site.do(store.set_size, "default", Resources(1, 8 * GIB, 8 * GIB, math.inf))
    assert await site.look("backlog") == {}, "nobody knows how long such jobs take"
    await site.rows("insert into pace (algorithm, seconds, jobs) values ('stats', 360, 9) returning 1")
    finding = (await site.look("backlog"))["pool:default"]
    assert finding["reason"] == (
        "1 waiting job of pool default will miss a deadline: the first are due at 2026-03-01T13:00Z and will be done at "
        "about 2026-03-01T13:12Z. 72 min of a worker's time come before, for 1 worker at most."
    )
    assert "it has 2 or more" in finding["remedy"]
    command = proposed(finding)
    selection = Selection(where=command["--where"], pool=command["--pool"])
    preview = await site.do(run.preview, OWNER, Request(Verb.PRIORITY, selection, {"priority": 100}))
    assert (command["words"], preview.jobs) == (["armillary", "job", "priority", "100"], 2)
    await site.world.worker(capacity=Resources(1, 8 * GIB, 8 * GIB, math.inf))
    assert await site.look("backlog") == {}


async def test_without_a_worker_nothing_is_ever_done(site):
    await site.world.submit(await site.world.granule("a"), deadline=HOUR)
    await site.rows("insert into pace (algorithm, seconds, jobs) values ('stats', 360, 9) returning 1")
    finding = (await site.look("backlog"))["pool:default"]
    assert "and will never be done" in finding["reason"]


async def test_what_is_set_apart_waits_for_somebody(site):
    worker = await site.world.worker()
    await site.do(store.set_quarantined, worker.worker_id, "Read-only file system.")
    async with site.world.database.transaction() as tx:
        found = await resolve(tx, OWNER, "stats")
        await pause.pause(tx, OWNER, found, "It fails everywhere.")
    open_ = await site.look("quarantine")
    assert set(open_) == {f"worker:{worker.worker_id}", "algorithm:stats/1.0.0"}
    assert "Read-only file system." in open_[f"worker:{worker.worker_id}"]["reason"]
    await site.do(store.release, worker.worker_id)
    await site.do(pause.resume, OWNER, found)
    assert await site.look("quarantine") == {}


@pytest.mark.parametrize(("free", "severity"), [(9 * GIB, "warning"), (GIB - 1, "error")])
async def test_a_workers_disk_that_is_nearly_full(site, free, severity):
    worker = await site.world.worker()
    await site.beat(worker, free)
    finding = (await site.look("disks"))["disk:node-1:pool default"]
    assert finding["severity"] == severity
    assert "free of 1000.0 GiB" in finding["reason"]
    await site.beat(worker)
    assert await site.look("disks") == {}


async def test_a_servers_disk_that_is_nearly_full(site):
    async def tell(free):
        disks = [{"path": "/data", "free_bytes": free, "size_bytes": 20 * GIB}]
        await site.do(servers.tell, site.server, {"disks": disks}, site.clock())

    await tell(2 * GIB)
    assert await site.look("disks") == {}, "a tenth of a small disk is enough"
    await tell(GIB)
    (finding,) = (await site.look("disks")).values()
    assert finding["severity"] == "warning"
    await tell(0)
    (again,) = (await site.look("disks")).values()
    assert (again["id"], again["severity"]) == (finding["id"], "error")
    await tell(10 * GIB)
    assert await site.look("disks") == {}
    kinds = await site.rows("select kind from event where kind like 'finding.%%' order by version")
    assert [row["kind"] for row in kinds] == ["finding.opened", "finding.changed", "finding.closed"]


async def test_a_clock_that_is_wrong(site):
    worker = await site.world.worker()
    await site.beat(worker, clock=site.clock() - 4 * SECOND)
    assert await site.look("clocks") == {}, "a heartbeat may be late"
    await site.beat(worker, clock=site.clock() + 42 * SECOND)
    finding = (await site.look("clocks"))["host:node-1"]
    assert "The clock of node-1 (workers of pool default) is 42 s ahead of the database's" in finding["reason"]
    await site.beat(worker)
    assert await site.look("clocks") == {}
    await site.do(servers.tell, site.server, {}, site.clock() - MINUTE)
    (finding,) = (await site.look("clocks")).values()
    assert "(a server) is 60 s behind the database's" in finding["reason"]


async def test_a_role_that_nobody_has(site):
    await site.rows("update server set roles = '{web,pools,watchdog}' returning 1")
    finding = (await site.look("loops"))["role:reactor"]
    assert "no rule fires" in finding["reason"]
    await site.rows("update server set roles = %s returning 1", ROLES)
    assert await site.look("loops") == {}


async def test_a_loop_that_fails_or_hangs(site):
    async def tell(**turn):
        ended = turn.pop("ended_at", site.clock())
        told = {"every_seconds": 1.0, "ended_at": ended.isoformat(), "seconds": 0.1, "error": "", "failing_since": None}
        await site.do(servers.tell, site.server, {"loops": {"pools": told | turn}}, site.clock())

    await tell(error="No such host.", failing_since=(site.clock() - 20 * SECOND).isoformat())
    assert await site.look("loops") == {}
    await tell(error="No such host.", failing_since=(site.clock() - 40 * SECOND).isoformat())
    (finding,) = (await site.look("loops")).values()
    assert "The loop pools of the server on" in finding["reason"]
    assert finding["reason"].endswith("fails since 2026-03-01T11:59:20Z: No such host.")
    await tell()
    assert await site.look("loops") == {}
    await tell(ended_at=site.clock() - 6 * MINUTE)
    (finding,) = (await site.look("loops")).values()
    assert "has not ended a turn for 6 min" in finding["reason"]


@pytest.mark.parametrize(("table", "columns", "values", "subject"), [
    ("wake", "consumer, subject", "'rules', 'granule:a/b'", "wakes:rules"),
    ("rule_wake", "rule, collection, granule", "'r', 'scene', 'b'", "wakes:rules' matching"),
])  # fmt: skip
async def test_work_that_nobody_takes_up(site, table, columns, values, subject):
    async with site.world.database.transaction() as tx:
        await tx.execute("set local session_replication_role = replica")
        await tx.execute(f"insert into {table} ({columns}) values ({values})")
    site.clock.advance(119 * SECOND)
    assert await site.look("loops") == {}
    site.clock.advance(2 * SECOND)
    assert set(await site.look("loops")) == {subject}
    await site.rows(f"delete from {table} returning 1")
    assert await site.look("loops") == {}


async def test_an_upload_that_was_given_up_until_its_bytes_are_gone(site):
    async with site.world.database.transaction() as tx:
        await open_uploads(tx, OWNER, [Wish("scene", "never")], "relay", HOUR)
    site.clock.advance(HOUR)
    await collect.collect(site.world.database, site.world.store)
    assert (await site.look("abandoned"))["store"]["severity"] == "notice"
    site.clock.advance(21 * MINUTE)
    overdue = (await site.look("abandoned"))["store"]
    assert overdue["severity"] == "warning"
    await collect.collect(site.world.database, site.world.store)
    assert await site.look("abandoned") == {}


async def test_bytes_that_belong_to_nothing(site, monkeypatch):
    for name in ("a", "b", "c"):
        await site.world.granule(name)
    stray = site.world.store.path(f"scene/a/{new_id()}/data.bin")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    kept = site.world.store.path("checkpoints/job/one")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"is written before its row")
    walk = Walk(step=2, rest_seconds=0)
    monkeypatch.setitem(site.sweeps, "orphans", orphans.Sweep("orphans", "", SECOND, walk.find))
    assert await site.look("orphans") == {}, "the walk has begun"
    await site.look("orphans")
    finding = (await site.look("orphans"))["store"]
    assert "1 object (5 B) of 5 in the store belong to no upload" in finding["reason"]
    stray.unlink()
    assert set(await site.look("orphans")) == {"store"}, "nothing new is known until the end of the next walk"
    await site.look("orphans")
    assert await site.look("orphans") == {}


def test_every_sweep_has_a_test_here():
    source = Path(__file__).read_text()
    assert [one.name for one in all_sweeps() if f'look("{one.name}")' not in source] == []
