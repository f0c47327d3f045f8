"""What the queue costs: submissions, and claims with finishes, beside the least that plain SQL could do in the same run.

Run it with `.venv/bin/python benchmarks/job_queue.py`. It makes an embedded PostgreSQL of its own with fsync on. The bound is a
table of two columns, claimed by SKIP LOCKED and deleted: no attempt, no history, no fence, no event. Ours writes all of
them. Rates of one run on a shared machine are noise; the ratio beside them is the figure.
"""

import argparse
import asyncio
import json
import math
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import Resources
from armillary.base import postgres
from armillary.base.db import Database
from armillary.base.migrate import migrate
from armillary.jobs.job import AttemptOutcome, JobRequest, Report
from armillary.jobs.submit import submit_many
from armillary.pools import worker as workers
from armillary.testing.world import OWNER, World, algorithm

QUICK = ("--seconds", "0.1", "--queued", "100")

FREE = Resources(1e6, 2**50, 2**50, math.inf)
CLIENTS = 2
BATCH = 50

Work = Callable[[], Awaitable[int]]


def main() -> None:
    """Measure and print a table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    parser.add_argument(
        "--queued", type=int, nargs="*", default=[1_000, 100_000], help="jobs queued behind those claimed"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as folder:
        dsn = postgres.start(Path(folder)).dsn
        try:
            figures = asyncio.run(measure(dsn, Path(folder), chosen.seconds, chosen.queued))
        finally:
            postgres.stop(Path(folder))
    print(f"\n{'':44}{'a second':>10}{'of the bound':>14}")
    for name, (rate, bound) in figures.items():
        share = f"{rate / bound:14.0%}" if bound else ""
        print(f"{name:44}{rate:10,.0f}{share}")
    print(json.dumps({"load": os.getloadavg()[0], "rates": {name: round(rate) for name, (rate, _) in figures.items()}}))


async def measure(dsn: str, folder: Path, seconds: float, queued: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Each figure with the bound that stands beside it."""
    await migrate(dsn)
    database = Database(dsn, connections=CLIENTS + 2)
    await database.open()
    world = await World(database, folder).make()
    await world.algorithm(algorithm("noop", inputs={}, outputs={}, parameters={"n": {"type": "integer"}}))
    figures: dict[str, tuple[float, float]] = {}
    numbers = iter(range(10**9))
    for size in (1, BATCH):
        figures[f"bound: insert, {size} at once"] = (await rate(seconds, [inserter(database, size)]), 0.0)
        own = await rate(seconds, [submitter(database, numbers, size)])
        figures[f"submit, {size} at once"] = (own, figures[f"bound: insert, {size} at once"][0])
    for behind in queued:
        await fill(database, numbers, behind)
        for size in (1, BATCH):
            bound = await rate(seconds, [bound_claimer(database, size) for _ in range(CLIENTS)])
            figures[f"bound: claim and delete, {size} at once, {behind:,} queued"] = (bound, 0.0)
            claimers = [claimer(database, await worker(world), size) for _ in range(CLIENTS)]
            own = await rate(seconds, [refilled(database, numbers, behind, one) for one in claimers])
            figures[f"claim and finish, {size} at once, {behind:,} queued"] = (own, bound)
    await database.close()
    return figures


async def rate(seconds: float, works: Sequence[Work]) -> float:
    """How much all of `works`, side by side, get done a second."""
    for work in works:
        await work()  # plans and caches
    end = time.perf_counter() + seconds

    async def repeat(work: Work) -> int:
        done = 0
        while time.perf_counter() < end:
            done += await work()
        return done

    started = time.perf_counter()
    done = await asyncio.gather(*(repeat(work) for work in works))
    return sum(done) / (time.perf_counter() - started)


# Ours ----------------------------------------------------------------------------------------------------------


async def worker(world: World) -> Any:
    """A worker of the default pool."""
    return await world.worker(capacity=FREE)


def submitter(database: Database, numbers: Any, size: int) -> Work:
    """Submit jobs that differ."""

    async def work() -> int:
        requests = [JobRequest("noop", parameters={"n": next(numbers)}) for _ in range(size)]
        async with database.transaction() as tx:
            await submit_many(tx, OWNER, requests)
        return size

    return work


def claimer(database: Database, actor: Any, size: int) -> Work:
    """Lease and finish, a transaction each, as two HTTP calls would."""

    async def work() -> int:
        async with database.transaction() as tx:
            leases, _ = await workers.lease(tx, actor.worker_id, FREE, size) or ([], False)
        reports = [Report(one.job_id, one.number, AttemptOutcome.SUCCEEDED, exit_code=0) for one in leases]
        results = await database.retry(lambda tx: workers.finish(tx, actor, actor.worker_id, reports))
        assert all(result.outcome == "recorded" for result in results)
        return len(results)

    return work


def refilled(database: Database, numbers: Any, behind: int, work: Work) -> Work:
    """Stop the measurement loudly if the queue ran dry: a rate of nothing is no rate."""

    async def checked() -> int:
        done = await work()
        if not done:
            await fill(database, numbers, behind)
        return done

    return checked


async def fill(database: Database, numbers: Any, count: int) -> None:
    """Queue as many jobs."""
    submit = submitter(database, numbers, 500)
    for _ in range(max(1, count // 500)):
        await submit()
    async with database.transaction() as tx:
        await tx.execute(
            "create table if not exists bound_queue (id bigint generated always as identity primary key, worker int)"
        )
        await tx.execute("create index if not exists bound_waiting on bound_queue (id) where worker is null")
        await tx.execute("insert into bound_queue (worker) select null from generate_series(1, %s)", [count])


# The bound -----------------------------------------------------------------------------------------------------


def inserter(database: Database, size: int) -> Work:
    """Insert rows of the same size as a job's parameters, and nothing else."""

    async def work() -> int:
        async with database.transaction() as tx:
            await tx.execute(
                "create table if not exists bound_job (id bigint generated always as identity primary key, spec jsonb)"
            )
            await tx.execute("""insert into bound_job (spec) select '{"n": 1}' from generate_series(1, %s)""", [size])
        return size

    return work


def bound_claimer(database: Database, size: int) -> Work:
    """Claim, then delete: two transactions over one table."""

    async def work() -> int:
        async with database.transaction() as tx:
            rows = await tx.rows(
                """update bound_queue set worker = 1 where id in (
                       select id from bound_queue where worker is null order by id limit %s for update skip locked)
                   returning id""",
                [size],
            )
        async with database.transaction() as tx:
            await tx.execute("delete from bound_queue where id = any(%s)", [[row["id"] for row in rows]])
            if len(rows) < size:
                await tx.execute("insert into bound_queue (worker) select null from generate_series(1, 20000)")
        return len(rows)

    return work


if __name__ == "__main__":
    main()
