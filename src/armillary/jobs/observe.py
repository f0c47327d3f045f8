"""What an observer may ask of the queue; nothing here changes anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Resources
from armillary.base.db import Transaction
from armillary.jobs import store
from armillary.jobs.queue import Share

MOST_DUE = 500
MOST_WAITING = 10_000  # of a longer queue the rest waits for the same reasons, or it does not matter yet
MOST_REASONS = 20


@dataclass(frozen=True)
class Overlong:
    """A job that still runs although its time is over; `stop` is what its worker was asked, if anything."""

    id: UUID
    algorithm: str
    pool: str
    group: str
    worker_id: UUID
    stop: str | None
    age: timedelta
    time_seconds: float


@dataclass(frozen=True)
class Unfit:
    """Waiting jobs of an algorithm that no worker of their pool is large enough for, and the most that one needs."""

    algorithm: str
    jobs: int
    oldest: datetime
    largest: Resources


@dataclass(frozen=True)
class Due:
    """Waiting jobs that are to be done by the same minute."""

    pool: str
    priority: int
    algorithm: str
    deadline: datetime
    jobs: int


@dataclass(frozen=True)
class Line:
    """The part of a pool's work that has one priority."""

    pool: str
    priority: int
    share: Share


async def overlong(tx: Transaction, late: timedelta, limit: int) -> list[Overlong]:
    """Jobs that still run so long after their time was over, the longest first."""
    return [Overlong(**row) for row in await store.overlong(tx, late, limit)]


async def unfit(tx: Transaction, pool: str, size: Resources) -> list[Unfit]:
    """What waits in a pool and is larger than its workers."""
    names = ("cpu", "memory_bytes", "disk_bytes", "gpu", "time_seconds")
    return [
        Unfit(row["algorithm"], row["jobs"], row["oldest"], Resources(**{name: row[name] for name in names}))
        for row in await store.unfit(tx, pool, size)
    ]


async def due(tx: Transaction) -> list[Due]:
    """Waiting jobs that have a deadline, those first that are due first."""
    return [Due(**row) for row in await store.due(tx, MOST_DUE)]


async def waiting_reasons(tx: Transaction, actor: Actor) -> list[dict[str, Any]]:
    """Why jobs wait: pool, algorithm, state, reason and how many, the most frequent first."""
    return await store.waiting_reasons(tx, actor.scope, MOST_WAITING, MOST_REASONS)


async def lines(tx: Transaction, pools: Sequence[str]) -> list[Line]:
    """What waits and runs in these pools, by priority."""
    return [Line(row.pop("pool"), row.pop("priority"), Share(**row)) for row in await store.lines(tx, pools)]
