"""Deadlines: a job that is not done by then fails with that reason, or only says so if that is what was asked for."""

from armillary.base.clock import iso
from armillary.base.db import Database, Row, Transaction
from armillary.base.wakes import COMMANDS, JOBS, WORK
from armillary.jobs import depend, store
from armillary.jobs.job import JobState

BATCH = 1000


async def sweep(database: Database) -> int:
    """Act on what is past its deadline; returns how many jobs that were."""
    return await database.retry(_sweep)


async def _sweep(tx: Transaction) -> int:
    late = await store.overdue(tx, BATCH)
    if not late:
        return 0
    warned = [row for row in late if row["on_deadline"] == "warn"]
    stopped = [row for row in late if row not in warned and row["worker_id"]]
    failed = [row for row in late if row not in warned and not row["worker_id"]]
    await store.warn_late(tx, {row["job_id"]: f"{_passed(row)} It goes on." for row in warned})
    await store.stop_late(tx, {row["job_id"]: f"{_passed(row)} Its worker is stopping it." for row in stopped})
    ended = await store.fail_late(tx, {row["job_id"]: f"{_passed(row)} It was {row['state']} then." for row in failed})
    await depend.settle(tx, [(job, JobState.FAILED) for job in ended])
    for channel in (COMMANDS, JOBS, WORK):
        tx.wake(channel)
    return len(late)


def _passed(row: Row) -> str:
    return f"Its deadline has passed ({iso(row['deadline_at'])})."
