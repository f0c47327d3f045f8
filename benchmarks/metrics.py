"""What counting costs beside making what is counted, and whether it grows with what there is: history or queue.

Run `.venv/bin/python benchmarks/metrics.py`. It makes an embedded PostgreSQL of its own with fsync on. Jobs are leased and
finished in batches as workers do it; then their history is counted in one round after another, and `/metrics` is
rendered as a scrape would have it. The same again beside a long history and a long queue, which are copies of one job.
"""

import argparse
import asyncio
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Resources
from armillary.base import postgres
from armillary.base.db import Database
from armillary.base.migrate import migrate
from armillary.jobs.job import AttemptOutcome, JobRequest, Report
from armillary.jobs.submit import submit_many
from armillary.metrics import scrape, store, tally
from armillary.testing.metrics import USAGE
from armillary.testing.world import OWNER, World, algorithm

QUICK = ("--jobs", "50", "--many", "500")
BATCH = 50
FREE = Resources(1e6, 2**50, 2**50, math.inf)
COPY = """insert into {table} select (made).* from (
    select jsonb_populate_record({table}, {changes}) as made from {table}, numbers where {which}) as copies"""


def main() -> None:
    """Measure and print a table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000, help="that are made and counted for each figure")
    parser.add_argument("--many", type=int, default=1_000_000, help="jobs of history, and of queue")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as folder:
        dsn = postgres.start(Path(folder)).dsn
        try:
            figures = asyncio.run(measure(dsn, Path(folder), chosen.jobs, chosen.many))
        finally:
            postgres.stop(Path(folder))
    print(f"\n{'beside':36}{'a job, ms':>12}{'its count, ms':>16}{'share':>8}{'a scrape, ms':>14}")
    for name, (made, counted, scraped) in figures.items():
        print(f"{name:36}{made * 1e3:12.3f}{counted * 1e3:16.3f}{counted / made:8.1%}{scraped * 1e3:14.1f}")
    shown = {
        name: {"share": round(one[1] / one[0], 4), "scrape_ms": round(one[2] * 1e3, 1)} for name, one in figures.items()
    }
    print(json.dumps({"load": os.getloadavg()[0], "figures": shown}))


async def measure(dsn: str, folder: Path, jobs: int, many: int) -> dict[str, tuple[float, float, float]]:
    """Seconds that a job takes, that its counting takes, and that a scrape takes."""
    await migrate(dsn)
    database = Database(dsn, connections=4)
    await database.open()
    world = await World(database, folder).make()
    await world.algorithm(algorithm("noop", inputs={}, outputs={}, parameters={"n": {"type": "integer"}}))
    worker = await world.worker(capacity=FREE)
    numbers = iter(range(10**9))
    await _make(world, worker, numbers, BATCH)
    figures = {"nothing": await _figures(world, worker, numbers, jobs)}
    await _copy_history(database, many)
    while await _count(database):
        pass
    figures[f"{many:,} jobs of history"] = await _figures(world, worker, numbers, jobs)
    await _copy_queue(world, numbers, many)
    figures[f"and {many:,} of queue"] = await _figures(world, worker, numbers, jobs)
    await database.close()
    return figures


async def _figures(world: World, worker: Actor, numbers: Iterator[int], jobs: int) -> tuple[float, float, float]:
    while await _count(world.database):
        pass
    begun = time.perf_counter()
    await _make(world, worker, numbers, jobs)
    made = time.perf_counter()
    while await _count(world.database):
        pass
    counted = time.perf_counter()
    tries = []
    for _ in range(3):
        since = time.perf_counter()
        async with world.database.transaction() as tx:
            tallies, current = await store.tallies(tx), {**await store.current(tx), **await store.hosts(tx)}
        scrape._text(tallies, current)
        tries.append(time.perf_counter() - since)
    return (made - begun) / jobs, (counted - made) / jobs, min(tries)


async def _make(world: World, worker: Actor, numbers: Iterator[int], jobs: int) -> None:
    """Submit, lease and finish."""
    for _ in range(max(1, jobs // BATCH)):
        requests = [
            JobRequest(algorithm="noop", parameters={"n": next(numbers)}, twins="again", priority=9)
            for _ in range(BATCH)
        ]
        async with world.database.transaction() as tx:
            await submit_many(tx, OWNER, requests)
        leases = await world.lease(worker, BATCH, FREE)
        reports = [Report(one.job_id, one.number, AttemptOutcome.SUCCEEDED, usage=USAGE) for one in leases]
        await world.finish(worker, *reports)


async def _count(database: Database) -> bool:
    async with database.transaction() as tx:
        return await tally.count(tx)


async def _copy_history(database: Database, many: int) -> None:
    """Copies of a job that has ended: its row, its attempt, its event."""
    numbers = f"create table numbers as select gen_random_uuid() as id from generate_series(1, {many})"
    one = "(select id from job where state = 'succeeded' limit 1)"
    job = {
        "job": ("'id', numbers.id", f"job.id = {one}"),
        "attempt": ("'job_id', numbers.id", f"attempt.job_id = {one}"),
    }
    async with database.transaction() as tx:
        await tx.execute(numbers)
        for table, (change, which) in job.items():
            await tx.execute(COPY.format(table=table, changes=f"jsonb_build_object({change})", which=which))
        await tx.execute(
            f"""insert into event (subject, version, kind, actor, "group", detail)
                select 'job:' || numbers.id, 3, kind, actor, "group", detail || jsonb_build_object('job', numbers.id)
                from numbers, (select * from event where kind = 'job.finished' and subject = 'job:' || {one}) as told"""
        )
        await tx.execute("drop table numbers")
    await _analyze(database)


async def _copy_queue(world: World, numbers: Iterator[int], many: int) -> None:
    """Copies of a job that waits, behind those that are made."""
    async with world.database.transaction() as tx:
        (waits,) = await submit_many(
            tx, OWNER, [JobRequest(algorithm="noop", parameters={"n": next(numbers)}, twins="again", priority=0)]
        )
        await tx.execute(f"create table numbers as select gen_random_uuid() as id from generate_series(1, {many})")
        for table, column in (("job", "id"), ("job_queue", "job_id")):
            changes = f"jsonb_build_object('{column}', numbers.id)"
            which = f"{table}.{column} = '{waits.job.id}'"
            await tx.execute(COPY.format(table=table, changes=changes, which=which))
        await tx.execute("drop table numbers")
    await _analyze(world.database)


async def _analyze(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("analyze")


if __name__ == "__main__":
    main()
