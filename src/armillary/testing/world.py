"""A small world for tests of jobs and pools: an owner, a pool, two collections, granules with bytes, an algorithm, workers."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.accounts.authenticate import make_owner
from armillary.algorithms.algorithm import Resources
from armillary.algorithms.register import register
from armillary.base.db import Database
from armillary.base.storage import Store, object_key
from armillary.collections import define as collections
from armillary.granules import ingest, upload
from armillary.granules.granule import Asset, Commit, Draft, File, Reference
from armillary.jobs import find
from armillary.jobs.find import Job
from armillary.jobs.job import AttemptOutcome, JobRequest, Report, ReportedOutput, Result, Submission
from armillary.jobs.queue import Lease
from armillary.jobs.submit import submit
from armillary.pools import define as pools
from armillary.pools import worker as workers
from armillary.pools.pool import Arrival

OWNER = Actor("owner", "owners", is_owner=True)
CAPACITY = Resources(4, 8 * 2**30, 8 * 2**30, math.inf)
TIME_TO_LIVE = timedelta(seconds=15)


def algorithm(id: str = "stats", **more: Any) -> dict[str, Any]:  # noqa: A002
    """The document of an algorithm that makes one picture of one scene."""
    document: dict[str, Any] = {
        "kind": "algorithm",
        "id": id,
        "version": "1.0.0",
        "inputs": {"scene": {"collection": "scene"}, "others": {"collection": "scene", "many": True, "optional": True}},
        "parameters": {"level": {"type": "integer", "default": 1}},
        "outputs": {"picture": {"collection": "picture"}},
        "run": {"command": ["stats", "job.json"]},
        "environment": {"site": True},
        "resources": {"cpu": 1, "memory": "1GiB", "disk": "1GiB"},
        "retry": {"attempts": 2, "on": ["infrastructure"], "delay": "10s"},
    }
    return document | more


class World:
    """What such a test does, each step in a transaction of its own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.store = Store(str(folder / "store"))

    async def make(self) -> "World":
        """Make the owner, the pool, the collections and the algorithm."""
        async with self.database.transaction() as tx:
            await make_owner(tx)
            await pools.put(tx, OWNER, {"kind": "pool", "id": "default", "provider": "none"}, 1)
            for name in ("scene", "picture"):
                document = {"kind": "collection", "id": name, "title": name, "on_change": "revise"}
                await collections.put(tx, OWNER, document, 1)
            await register(tx, OWNER, algorithm(), None)
        return self

    async def algorithm(self, document: Mapping[str, Any]) -> None:
        """Register another."""
        async with self.database.transaction() as tx:
            await register(tx, OWNER, document, None)

    async def granule(self, name: str, content: bytes = b"scene", collection: str = "scene") -> Reference:
        """Ingest a granule of one file."""
        commit = await self.upload(OWNER, collection, name, content)
        (done,) = await ingest.commit_all(self.database, OWNER, await self.prepare([commit]))
        assert not isinstance(done, Exception), done
        return done.reference

    async def upload(
        self, actor: Actor, collection: str, name: str, content: bytes, lease: Lease | None = None
    ) -> Commit:
        """Put a granule's bytes into the store; its commit is not sent yet."""
        wish = upload.Wish(collection, name, lease.job_id if lease else None, lease.number if lease else None)
        async with self.database.transaction() as tx:
            (ticket,) = await upload.open_uploads(tx, actor, [wish], "relay", timedelta(hours=1))

        async def chunks() -> Any:
            yield content

        await self.store.write(object_key(ticket.prefix, "data.bin"), chunks())
        file = File("data.bin", len(content), hashlib.sha256(content).hexdigest())
        return Commit(ticket.id, Draft(), {"data": Asset("file", (file,))})

    async def prepare(self, commits: Sequence[Commit]) -> list[Any]:
        """Check commits against the store."""
        return await ingest.prepare(self.database, self.store, commits)

    async def submit(self, scene: Reference | None = None, actor: Actor = OWNER, **more: Any) -> Submission:
        """Submit the algorithm."""
        if scene is not None:
            more = {"inputs": {"scene": (scene,)}} | more
        async with self.database.transaction() as tx:
            return await submit(tx, actor, JobRequest(**{"algorithm": "stats"} | more))

    async def worker(self, pool: str = "default", capacity: Resources = CAPACITY) -> Actor:
        """Register a worker; returns it as the actor that its token makes."""
        async with self.database.transaction() as tx:
            registered = await workers.register(tx, OWNER, pool, Arrival("node-1", 1, 1, capacity))
        account = f"worker:{registered.worker}"
        return Actor(account, "owners", kind="worker", pool=pool, worker_id=registered.worker)

    async def lease(
        self, worker: Actor, count: int = 1, free: Resources = CAPACITY, *, in_turn: bool = False
    ) -> list[Lease]:
        """Lease jobs."""
        assert worker.worker_id
        async with self.database.transaction() as tx:
            found = await workers.lease(tx, worker.worker_id, free, count, in_turn=in_turn)
            return found[0] if found else []

    async def succeed(self, worker: Actor, lease: Lease, name: str = "picture", content: bytes = b"p") -> Report:
        """The report of a success with one picture, its bytes uploaded and nothing committed."""
        (prepared,) = await self.prepare([await self.upload(worker, "picture", name, content, lease)])
        return Report(
            lease.job_id, lease.number, AttemptOutcome.SUCCEEDED, outputs=[ReportedOutput("picture", prepared)]
        )

    async def finish(self, worker: Actor, *reports: Report) -> list[Result]:
        """Report."""
        assert worker.worker_id
        async with self.database.transaction() as tx:
            return await workers.finish(tx, worker, worker.worker_id, reports)

    async def job(self, job: UUID) -> Job:
        """How a job stands."""
        async with self.database.transaction() as tx:
            return await find.get(tx, OWNER, job)

    async def attempts(self, job: UUID) -> list[dict[str, Any]]:
        """Its attempts."""
        async with self.database.transaction() as tx:
            return await find.attempts(tx, job)

    async def count(self, table: str) -> int:
        """Rows of a table."""
        async with self.database.transaction() as tx:
            rows: int = await tx.value(f"select count(*) from {table}")  # noqa: S608
        return rows
