"""A story in which every metric gets a series: ingest, a rule, a lost attempt and its retry, a delivery, what still waits."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from armillary.algorithms.register import register_builtin
from armillary.base import servers
from armillary.base.clock import utc_now
from armillary.base.ids import new_id
from armillary.base.settings import Settings
from armillary.definitions import apply
from armillary.deliveries import send
from armillary.granules import upload
from armillary.jobs.job import AttemptOutcome, Report
from armillary.metrics import tally
from armillary.pools import worker as workers
from armillary.rules import fire
from armillary.rules.fire import Rules
from armillary.testing.world import OWNER, TIME_TO_LIVE, World
from armillary.watchdog.watch import Watch

USAGE: dict[str, Any] = {
    "run_seconds": 20.0, "stage_in_seconds": 2.0, "stage_out_seconds": 0.5, "cpu_seconds": 15.0,
    "peak_memory_bytes": 3 << 20, "disk_bytes": 5000, "transfers": [
        {"name": "a", "bytes": 4 << 20, "seconds": 2.0, "from": "http"},
        {"name": "b", "bytes": 1000, "seconds": 0.0, "from": "cache"},
    ],
}  # fmt: skip
MACHINE = {
    "cpu_ratio": 0.5, "core_min_ratio": 0.1, "core_max_ratio": 0.9, "load1": 1.5, "memory_used_bytes": 1, "memory_bytes": 2,
    "swap_used_bytes": 0, "swap_bytes": 0, "root_disk_used_bytes": 1, "root_disk_bytes": 2, "work_disk_used_bytes": 1,
    "work_disk_bytes": 2, "cache_bytes": 1, "disk_reads": 1, "disk_writes": 1, "disk_read_bytes": 1,
    "disk_written_bytes": 1, "network_received_bytes": 1, "network_sent_bytes": 1,
}  # fmt: skip


def definitions(archive: str) -> list[dict[str, Any]]:
    """A priced pool, a rule that runs `stats`, one that delivers its pictures, and one that waits for what never comes."""
    both = {
        "scene": {"collection": "scene"},
        "picture": {"collection": "picture", "many": True, "min": 9, "wait": "PT3H", "then": "proceed"},
    }
    return [
        {"kind": "pool", "id": "default", "provider": "none", "scale": {"cost_per_hour": 1.0}},
        {"kind": "delivery", "id": "archive", "to": {"directory": archive}},
        {"kind": "rule", "id": "make", "when": {"scene": {"collection": "scene"}}, "then": {"run": "stats"}},
        {"kind": "rule", "id": "send", "when": {"picture": {"collection": "picture"}}, "then": {"deliver": "archive"}},
        {"kind": "rule", "id": "wait", "when": both, "then": {"deliver": "archive", "role": "scene"}},
    ]


async def react(world: World) -> None:
    """Let rules and deliveries do what is due."""
    rules = Rules()
    while await fire.react(world.database, rules) or await send.react(world.database):
        pass


async def lost_and_retried(world: World, name: str = "scene-1") -> tuple[Any, Any]:
    """A granule, the job that a rule makes of it, an attempt that is lost and one that delivers; the job and its delivery's."""
    await world.granule(name)
    await react(world)
    first = await world.worker()
    (lost,) = await world.lease(first)
    async with world.database.transaction() as tx:
        await workers.end(tx, [first.worker_id], "The power was cut.")  # type: ignore[list-item]
        await tx.execute("update job_queue set ready_at = armillary_now()")
    second = await world.worker()
    (lease,) = await world.lease(second)
    made = await world.succeed(second, lease, f"{name}-picture", b"12345")
    await world.finish(second, replace(made, usage=USAGE, exit_code=0))
    await react(world)
    (sending,) = await world.lease(second)
    await world.finish(second, Report(sending.job_id, sending.number, AttemptOutcome.SUCCEEDED, usage=USAGE, result={}))
    await react(world)
    return lost.job_id, sending.job_id


async def busy_world(world: World, archive: str = "/nowhere") -> None:
    """That, counted; and something left of everything that can wait."""
    async with world.database.transaction() as tx:
        await register_builtin(tx, send.ALGORITHM)
        await apply.apply(tx, OWNER, definitions(archive))
        await tx.execute("update pool set wanted = 2")
        await tx.execute("insert into sweep (name, seconds) values ('disks', 0.1)")
        await servers.enter(tx, new_id(), ["web", "watchdog"], "1")
    await lost_and_retried(world)
    worker = await world.worker()
    async with world.database.transaction() as tx:
        assert worker.worker_id
        await workers.heartbeat(tx, worker.worker_id, [], TIME_TO_LIVE, machine=MACHINE, clock=utc_now())
        await upload.open_uploads(tx, OWNER, [upload.Wish("scene", "open", None, None)], "relay", timedelta(hours=1))
    picture = await world.granule("lonely", collection="picture")
    async with world.database.transaction() as tx:
        await send.intend(tx, OWNER, "archive", picture)
    while await _count(world):
        pass
    await world.granule("wakes")  # nobody reacts to it
    assert await Watch(world.database, world.store, Settings()).round(new_id())


async def _count(world: World) -> bool:
    async with world.database.transaction() as tx:
        return await tally.count(tx)
