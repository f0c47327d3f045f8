"""Cancel a job: at once while it waits, through its worker while it runs."""

from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.base.db import Transaction
from armillary.base.errors import Conflict
from armillary.base.wakes import COMMANDS
from armillary.jobs import depend, store
from armillary.jobs.job import JobState
from armillary.jobs.steer import announce, locked


async def cancel(tx: Transaction, actor: Actor, job: UUID) -> JobState:
    """Cancel; a running job ends as cancelled when its worker has stopped it, or is found dead."""
    row = await locked(tx, actor, job)
    state = JobState(row["state"])
    if state is JobState.CANCELLED or row["stop"] == "cancel":
        return state
    if not state.is_live:
        raise Conflict(f"Job {job} has {state} already.", "There is nothing to cancel.")
    if state is JobState.RUNNING:
        await store.set_stop(tx, job, f"{actor.account} cancelled it; its worker is stopping it.")
        await announce(tx, actor, row, "job.cancelling", state)
        tx.wake(COMMANDS)
        return state
    await store.set_state(tx, job, JobState.CANCELLED, f"{actor.account} cancelled it before it ran.")
    await announce(tx, actor, row, "job.finished", JobState.CANCELLED)
    await depend.settle(tx, [(job, JobState.CANCELLED)])
    return JobState.CANCELLED
