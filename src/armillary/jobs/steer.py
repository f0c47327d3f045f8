"""Steer a job by hand: hold it, release it, move it in its queue, try it again."""

from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base import events
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.base.wakes import JOBS, QUEUE
from armillary.granules import find
from armillary.granules.granule import Reference, retired
from armillary.jobs import depend, store
from armillary.jobs.job import TRANSITIONS, JobState
from armillary.jobs.submit import PRIORITIES


async def hold(tx: Transaction, actor: Actor, job: UUID) -> JobState:
    """Keep a waiting job from running until it is released."""
    row = await locked(tx, actor, job)
    if row["state"] not in (JobState.QUEUED, JobState.HELD):
        raise Conflict(f"Job {job} is {row['state']}.", "Only what waits can be held.")
    reason = f"{actor.account} holds it."
    if row["state"] == JobState.HELD and not row["is_held"]:  # it waits for others; from now on for a release as well
        await store.set_reason(tx, job, reason, is_held=True)
        await announce(tx, actor, row, "job.held", JobState.HELD)
        return JobState.HELD
    return await _move(tx, actor, row, JobState.HELD, reason, "job.held")


async def release(tx: Transaction, actor: Actor, job: UUID, *, now: bool = False) -> JobState:
    """Let a held job run; `now` whether or not the jobs that it waits for have ended."""
    row = await locked(tx, actor, job)
    if row["state"] != JobState.HELD:
        raise Conflict(f"Job {job} is {row['state']}, not held.", "There is nothing to release.")
    if row["waits"] and not now:
        return await _let_wait(tx, actor, row)
    if row["waits"]:
        await store.waive(tx, job)
    tx.wake(QUEUE)
    without = " without waiting for others" if row["waits"] else ""
    return await _move(tx, actor, row, JobState.QUEUED, f"{actor.account} released it{without}.", "job.released")


async def _let_wait(tx: Transaction, actor: Actor, row: Row) -> JobState:
    """Nobody holds it any more, but it waits for others."""
    waits_for = [one["after_id"] for one in await store.dependencies(tx, row["id"]) if not one["is_met"]]
    reason = depend.waiting(waits_for)
    if not row["is_held"]:
        raise Conflict(f"Nobody holds job {row['id']}. {reason}", "`armillary job release --now` lets it run at once.")
    await store.set_reason(tx, row["id"], reason, is_held=False)
    await announce(tx, actor, row, "job.released", JobState.HELD)
    return JobState.HELD


async def again(tx: Transaction, actor: Actor, job: UUID) -> JobState:
    """Try a job again that failed or was cancelled, with a fresh budget; a job that waits after a failure, at once."""
    row = await locked(tx, actor, job)
    state = JobState(row["state"])
    if state is JobState.QUEUED:
        await store.set_state(tx, job, state, f"{actor.account} wants it tried at once.")
        await announce(tx, actor, row, "job.retried", state)
        tx.wake(QUEUE)
        return state
    if JobState.QUEUED not in TRANSITIONS[state] or state.is_live:
        raise Conflict(f"Job {job} is {state}.", "Only what failed or was cancelled is tried again.")
    await _refuse_retired(tx, job)
    waits_for = await depend.again(tx, job)
    if not await store.enqueue_again(tx, [job], f"{actor.account} wants it tried again."):
        raise Conflict(f"Another live job does the same work as {job}.", "Wait for that one.")
    tx.wake(QUEUE)
    state = JobState.HELD if waits_for else JobState.QUEUED
    await announce(tx, actor, row, "job.retried", state)
    return state


async def _refuse_retired(tx: Transaction, job: UUID) -> None:
    """What a job is tried again with must be there, now that nothing has kept it since the job ended."""
    inputs = [Reference(row["collection"], row["granule"], row["revision"]) for row in await store.inputs(tx, job)]
    for granule in (await find.at_revisions(tx, inputs)).values():
        if granule.retired_at:
            raise Conflict(retired(granule), "Submit a job with a newer revision.")


async def prioritise(tx: Transaction, actor: Actor, job: UUID, priority: int) -> JobState:
    """Move a waiting job within its queue; higher runs first."""
    row = await locked(tx, actor, job)
    state = JobState(row["state"])
    if priority not in PRIORITIES:
        raise UsageError(f"priority {priority} is out of range.", "Choose -1000 to 1000.", field="priority")
    if state not in (JobState.HELD, JobState.QUEUED):
        raise Conflict(f"Job {job} is {state}.", "Only what waits has a priority to change.")
    await store.set_priority(tx, job, priority)
    await announce(tx, actor, row, "job.prioritised", state)
    return state


async def locked(tx: Transaction, actor: Actor, job: UUID) -> Row:
    """The job, locked, if the actor may change it."""
    row = await store.lock(tx, job, actor.scope)
    if row is None:
        raise NotFound(f"There is no job {job}.", "`armillary job list` shows those that are.")
    permit(actor, "change", row["group"])
    return row


async def announce(tx: Transaction, actor: Actor, row: Row, kind: str, state: JobState) -> None:
    """Emit what was done to a locked job, whose version was raised."""
    await events.emit(
        tx,
        subject=f"job:{row['id']}",
        version=row["version"] + 1,
        kind=kind,
        actor=actor.account,
        group=row["group"],
        detail={
            "job": str(row["id"]),
            "algorithm": row["algorithm"],
            "version": row["algorithm_version"],
            "attempt": row["attempts"],
            "state": state,
            "cause": row["cause"],
        },
    )
    tx.wake(JOBS)


async def _move(tx: Transaction, actor: Actor, row: Row, to: JobState, reason: str, kind: str) -> JobState:
    state = JobState(row["state"])
    if state is to:
        return state
    if to not in TRANSITIONS[state]:
        raise Conflict(f"Job {row['id']} is {state} and cannot become {to}.", "See its state and reason.")
    await store.set_state(tx, row["id"], to, reason)
    await announce(tx, actor, row, kind, to)
    return to
