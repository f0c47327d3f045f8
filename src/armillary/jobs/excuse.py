"""Excuse failures that were a worker's fault: their jobs go back to the queue, and their budget is as it was before."""

from collections.abc import Sequence
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.base.db import Row, Transaction
from armillary.base.wakes import QUEUE
from armillary.jobs import steer, store
from armillary.jobs.job import JobState


async def excuse(tx: Transaction, actor: Actor, failures: Sequence[tuple[UUID, int]], why: str) -> int:
    """Take back what these attempts (job and lease) counted; a job that has not been tried since runs again at once."""
    excused = 0
    for job, lease in sorted(failures):
        row = await store.lock(tx, job, actor.scope)
        if row is not None and await _excuse(tx, actor, row, lease, why):
            excused += 1
    if excused:
        tx.wake(QUEUE)
    return excused


async def _excuse(tx: Transaction, actor: Actor, row: Row, lease: int, why: str) -> bool:
    job, state, failures = row["id"], JobState(row["state"]), max(0, row["failures"] - 1)
    reason = f"Attempt {lease} is not counted: {why}"
    if row["attempts"] != lease or state not in (JobState.FAILED, JobState.QUEUED):
        if state.is_live:
            await store.set_failures(tx, job, failures)
        return state.is_live
    if state is JobState.FAILED:
        if not await store.enqueue_again(tx, [job], reason):
            return False  # another job does the same work now
    else:
        await store.set_state(tx, job, JobState.QUEUED, reason)
    await store.set_failures(tx, job, failures)
    await steer.announce(tx, actor, row, "job.excused", JobState.QUEUED)
    return True
