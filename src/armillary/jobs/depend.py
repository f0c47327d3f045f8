"""Jobs that run after others: they wait held, and the end of what they wait for lets them go on, in its own transaction.

No cycle can be: what a job runs after is named when it is submitted, so it was there before, and nothing is added later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from armillary.accounts.actor import Actor, system
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.base.wakes import JOBS, QUEUE, WORK
from armillary.jobs import store
from armillary.jobs.job import JobRequest, JobState, OnFailure

MAX_AFTER = 1000
UNSUCCESSFUL = (JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Dependency:
    """What a job runs after, and whether it has to wait for it any more."""

    after: UUID
    on_failure: OnFailure
    is_met: bool


async def look(tx: Transaction, actor: Actor, requests: Sequence[JobRequest]) -> dict[UUID, JobState]:
    """How the jobs stand that these are to run after. None of them ends before this transaction does."""
    named = sorted({job for request in requests for job in request.after})
    return await store.lock_states(tx, named, actor.scope) if named else {}


def dependencies(request: JobRequest, states: Mapping[UUID, JobState]) -> list[Dependency]:
    """What a request makes of the jobs that it names; refused if it could never run."""
    if len(request.after) > MAX_AFTER or len(set(request.after)) != len(request.after):
        raise UsageError(f"`after` names a job twice, or more than {MAX_AFTER}.", "Name each once.", field="after")
    for job in request.after:
        if job not in states:
            raise NotFound(f"There is no job {job}.", "`armillary job list` shows those that are.", field="after")
        if states[job] in UNSUCCESSFUL and request.on_failure == "cancel":
            raise Conflict(
                f"Job {job}, which it is to run after, has {_ended(states[job])}.",
                "Retry that job first, or submit with on_failure: hold or run.",
                field="after",
            )
    return [Dependency(job, request.on_failure, _is_met(states[job], request.on_failure)) for job in request.after]


def waiting(after: Sequence[UUID]) -> str:
    """Why a job waits for others."""
    first, *more = sorted(after)
    return f"Waits for job {first}" + (f" and {len(more)} more." if more else ".")


async def settle(tx: Transaction, ended: Sequence[tuple[UUID, JobState]]) -> None:
    """Let jobs go on, or cancel them, that waited for these, whose ends are part of this transaction; and so forth."""
    while ended:
        rows = await store.open_dependents(tx, ended)
        if not rows:
            return
        met = [row for row in rows if _is_met(row["state"], row["on_failure"])]
        stuck = {row["job_id"]: _stuck(row) for row in rows if row not in met and row["on_failure"] == "hold"}
        doomed = {row["job_id"]: _doomed(row) for row in rows if row not in met and row["on_failure"] == "cancel"}
        await store.meet(tx, [(row["job_id"], row["after_id"]) for row in met])
        await store.explain(tx, {job: reason for job, reason in stuck.items() if job not in doomed})
        ended = [(job, JobState.CANCELLED) for job in await store.cancel_waiting(tx, doomed)]
        for channel in (QUEUE, JOBS, WORK):
            tx.wake(channel)


async def again(tx: Transaction, job: UUID) -> list[UUID]:
    """What a job that is tried again has to wait for; refused while what it runs after has not succeeded itself."""
    links = [link for link in await store.dependencies(tx, job) if not link["is_met"]]
    states = await store.lock_states(tx, [link["after_id"] for link in links], system("jobs").scope) if links else {}
    failed = [
        one["after_id"] for one in links if states[one["after_id"]] in UNSUCCESSFUL and one["on_failure"] == "cancel"
    ]
    if failed:
        raise Conflict(
            f"Job {failed[0]}, which it runs after, has {_ended(states[failed[0]])}.", "Retry that one first."
        )
    met = [one["after_id"] for one in links if _is_met(states[one["after_id"]], one["on_failure"])]
    await store.meet(tx, [(job, after) for after in met])
    return [one["after_id"] for one in links if one["after_id"] not in met]


def _is_met(state: str, on_failure: str) -> bool:
    return state == JobState.SUCCEEDED or (state in UNSUCCESSFUL and on_failure == "run")


def _stuck(row: Row) -> str:
    return (
        f"Job {row['after_id']}, which it runs after, has {_ended(row['state'])}. Retry that one, or let this one go on with "
        "`armillary job release --now`."
    )


def _doomed(row: Row) -> str:
    return f"Cancelled: job {row['after_id']}, which it was to run after, has {_ended(row['state'])}."


def _ended(state: str) -> str:
    return "failed" if state == JobState.FAILED else "been cancelled"
