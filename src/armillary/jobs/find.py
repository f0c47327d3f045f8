"""Find jobs, for other nouns and for the API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.base.db import Row, Transaction
from armillary.base.errors import NotFound
from armillary.jobs import store
from armillary.jobs.job import JobState
from armillary.jobs.select import Selection, condition

ALL = Selection()


@dataclass(frozen=True)
class Job:
    """A job as it stands; `ready_at` is when it may run next, null while it is held, runs or has ended."""

    id: UUID
    version: int
    algorithm: str
    algorithm_version: str
    algorithm_digest: str
    parameters: dict[str, Any]
    state: JobState
    reason: str
    error_class: str | None
    pool: str
    priority: int
    twins: str
    resources: dict[str, Any]
    failures: int
    attempts: int
    progress: dict[str, Any]
    result: dict[str, Any] | None
    cause: dict[str, Any]
    group: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    deadline_at: datetime | None
    on_deadline: str
    ready_at: datetime | None = None
    worker_id: UUID | None = None
    stop: str | None = None
    is_held: bool = False  # by somebody
    waits: int = 0  # for so many jobs


async def get(tx: Transaction, actor: Actor, job: UUID) -> Job:
    """One job; `NotFound` if the actor may not see it."""
    row = await store.job(tx, job, actor.scope)
    if row is None:
        raise NotFound(f"There is no job {job}.", "`armillary job list` shows those that are.")
    return _job(row)


async def newest(
    tx: Transaction, actor: Actor, wanted: Selection = ALL, *, limit: int = 100, after: UUID | None = None
) -> list[Job]:
    """Jobs that the actor may see, newest first; `after` is the last of the page before."""
    found = await store.jobs(tx, actor.scope, condition(wanted), wanted.state, after=after, limit=limit)
    return [_job(row) for row in found]


async def attempts(tx: Transaction, job: UUID) -> list[Row]:
    """Every attempt of a job that the caller may see, in order."""
    return await store.attempts(tx, job)


async def dependencies(tx: Transaction, job: UUID) -> list[Row]:
    """What it runs after."""
    return await store.dependencies(tx, job)


async def inputs(tx: Transaction, job: UUID) -> list[Row]:
    """What it works on."""
    return await store.inputs(tx, job)


async def outputs(tx: Transaction, job: UUID) -> list[Row]:
    """What it made."""
    return await store.outputs(tx, job)


def _job(row: Row) -> Job:
    return Job(**row | {"state": JobState(row["state"])})
