"""What jobs cost: the share of a worker that an attempt held, over its time, at the price that held when it was leased."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Resources
from armillary.base.db import Row, Transaction
from armillary.base.errors import UsageError
from armillary.jobs import store

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
