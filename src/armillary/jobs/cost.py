"""What jobs cost: the share of a worker that an attempt held, over its time, at the price that held when it was leased."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Resources
from armillary.base.db import Row, Transaction
from armillary.base.errors import UsageError
from armillary.granules.granule import Reference
from armillary.jobs import store
from armillary.provenance import lineage

# What costs can be added up by, with where it is in an attempt and its job, and in the ledger of purged jobs.
KEYS: Mapping[str, tuple[str, str]] = {
    "day": ("(attempt.ended_at at time zone 'UTC')::date", "day"),
    "group": ('job."group"', '"group"'),
    "account": ("job.created_by", "account"),
    "algorithm": ("job.algorithm", "algorithm"),
    "pool": ("attempt.pool", "pool"),
    "rule": ("coalesce(job.cause->>'rule', '')", "rule"),
}


@dataclass(frozen=True)
class Price:
    """What a worker of this size costs in an hour, in the site's currency; none where nobody has said."""

    per_hour: float | None
    size: Resources


@dataclass(frozen=True)
class Spent:
    """What some jobs took, attempts that failed included; without a cost where no attempt had a price."""

    jobs: int
    attempts: int
    seconds: float
    cost: float | None


@dataclass(frozen=True)
class Product:
    """What a granule cost: the job that made it, and that job with all that its inputs were made by, each counted once."""

    job: UUID | None  # none for what was ingested
    products: int  # that this job made
    own: Spent
    chain: Spent
    is_whole: bool  # nothing of the chain is hidden from the asker or beyond the limit


def share(wanted: Resources, size: Resources) -> float:
    """The part of a worker that a job holds: of what it holds most of, nobody else can have."""
    parts = (
        (wanted.cpu, size.cpu), (wanted.memory_bytes, size.memory_bytes), (wanted.disk_bytes, size.disk_bytes),
        (wanted.gpu, size.gpu),
    )  # fmt: skip
    return min(1.0, max((part / whole for part, whole in parts if whole), default=1.0))


async def product(tx: Transaction, actor: Actor, granule: Reference) -> Product:
    """What a granule that the actor may see cost."""
    ancestry = await lineage.ancestry(tx, actor, granule)
    spent = await store.spent(tx, ancestry.jobs)
    own = [row for row in spent if row["job_id"] == ancestry.maker]
    return Product(ancestry.maker, ancestry.products, _spent(own), _spent(spent), ancestry.is_whole)


def _spent(rows: Sequence[Row]) -> Spent:
    costs = [row["cost"] for row in rows if row["cost"] is not None]
    return Spent(
        len(rows),
        sum(row["attempts"] for row in rows),
        sum(row["seconds"] for row in rows),
        sum(costs) if costs else None,
    )


async def totals(
    tx: Transaction, actor: Actor, by: Sequence[str], since: datetime | None, until: datetime | None
) -> list[Row]:
    """Attempts that ended, their seconds and their cost, added up by these keys; purged jobs are in it."""
    unknown = [key for key in by if key not in KEYS]
    if unknown or not by or len(set(by)) != len(by):
        which = f"{unknown[0]!r} is no key." if unknown else "Keys are needed, each once."
        raise UsageError(f"by: {which}", f"Choose from: {', '.join(KEYS)}.", field="by")
    rows = await store.costs(tx, actor.scope, {key: KEYS[key] for key in by}, since, until)
    return [_plain(row) for row in rows]


def _plain(row: Row) -> dict[str, Any]:
    return {name: str(value) if name == "day" else value for name, value in row.items()}
