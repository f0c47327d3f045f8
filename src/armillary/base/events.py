"""Events: what happened, written in the transaction that did it; and wakes: work that must follow, claimed row by row."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from armillary.base.db import Transaction, jsonb
from armillary.base.wakes import WORK

MAX_BACKOFF = timedelta(minutes=5)
MANY_TRIES = 5  # a wake that has failed so often will not be done by itself


@dataclass(frozen=True)
class Wake:
    """One piece of work that an event left for a consumer."""

    id: int
    consumer: str
    subject: str
    detail: dict[str, Any]
    tries: int


async def emit(
    tx: Transaction,
    *,
    subject: str,
    version: int,
    kind: str,
    actor: str,
    group: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record an event of `subject`; `version` was raised under the subject's lock in this transaction.

    Every consumer that subscribed to `kind` gets a wake in the same transaction.
    """
    await tx.execute(
        "select armillary_emit(%s, %s, %s, %s, %s, %s)",
        [subject, version, kind, actor, group, jsonb(detail or {})],
    )
    tx.wake(WORK)


async def emit_many(tx: Transaction, events: list[dict[str, Any]]) -> None:
    """`emit` for each, in one statement; the dictionaries hold its arguments."""
    columns = [[event[name] for event in events] for name in ("subject", "version", "kind", "actor", "group")]
    details = [jsonb(event.get("detail", {})) for event in events]
    if await tx.value("select armillary_emit_all(%s, %s::bigint[], %s, %s, %s, %s)", [*columns, details]):
        tx.wake(WORK)


async def claim(tx: Transaction, consumer: str, limit: int = 50) -> list[Wake]:
    """Take due wakes for this transaction, oldest first; `done` or `failed` decides each before it ends."""
    return await tx.all(
        Wake,
        """select id, consumer, subject, detail, tries from wake
           where consumer = %s and due_at <= armillary_now()
           order by due_at, id limit %s for update skip locked""",
        [consumer, limit],
    )


async def done(tx: Transaction, wakes: list[Wake]) -> None:
    """The work of these wakes is done in this transaction."""
    await tx.execute("delete from wake where id = any(%s)", [[wake.id for wake in wakes]])


async def failed(tx: Transaction, wake: Wake, reason: str) -> None:
    """Keep the wake with the reason; it comes again after a pause that doubles."""
    pause = min(timedelta(seconds=2**wake.tries), MAX_BACKOFF)
    await tx.execute(
        "update wake set tries = tries + 1, error = %s, due_at = armillary_now() + %s where id = %s",
        [reason, pause, wake.id],
    )


async def late(tx: Transaction, after: timedelta) -> dict[str, int]:
    """How many wakes of each consumer nobody has done for so long after they were due, or that fail again and again."""
    rows = await tx.rows(
        """select consumer, count(*) as number from wake
           where due_at < armillary_now() - %s or tries > %s group by consumer""",
        [after, MANY_TRIES],
    )
    return {row["consumer"]: row["number"] for row in rows}


async def history(tx: Transaction, subject: str, limit: int = 200) -> list[dict[str, Any]]:
    """The events of one subject, oldest first."""
    return await tx.rows(
        "select at, version, kind, actor, detail from event where subject = %s order by version limit %s",
        [subject, limit],
    )
