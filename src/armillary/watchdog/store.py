"""The SQL of findings and of the sweeps' own runs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction
from armillary.base.ids import new_id
from armillary.watchdog.finding import Finding, Known

_KNOWN = 'id, sweep, subject, severity, reason, action, remedy, "group", version, opened_at, seen_at, closed_at'
_ORDER = "array_position(array['error', 'warning', 'notice'], severity)"


async def open_of(tx: Transaction, sweep: str) -> list[Known]:
    """The open findings of a sweep, locked."""
    return await tx.all(
        Known,
        f"select {_KNOWN} from finding where sweep = %s and closed_at is null order by subject for update",
        [sweep],
    )


async def insert(tx: Transaction, sweep: str, found: Sequence[Finding]) -> list[UUID]:
    """Open these; returns their ids."""
    ids = [new_id() for _ in found]
    await tx.execute_many(
        """insert into finding (id, sweep, subject, severity, reason, action, remedy, "group")
           values (%s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            (id_, sweep, one.subject, one.severity, one.reason, one.action, one.remedy, one.group)
            for id_, one in zip(ids, found, strict=True)
        ],
    )
    return ids


async def see(tx: Transaction, seen: Sequence[tuple[Known, Finding]]) -> None:
    """Locked findings are still so; one whose severity changed has another version."""
    await tx.execute_many(
        """update finding set seen_at = armillary_now(), severity = %s, reason = %s, action = %s, remedy = %s,
               version = version + case when severity = %s then 0 else 1 end
           where id = %s""",
        [(one.severity, one.reason, one.action, one.remedy, one.severity, known.id) for known, one in seen],
    )


async def close(tx: Transaction, ids: Sequence[UUID]) -> None:
    """Locked findings are gone."""
    await tx.execute(
        "update finding set closed_at = armillary_now(), version = version + 1 where id = any(%s)", [list(ids)]
    )


async def forget(tx: Transaction, kept_for: timedelta, most: int) -> int:
    """Delete closed findings that are old, or older than so many others."""
    return await tx.execute(
        """delete from finding where closed_at is not null and (closed_at < armillary_now() - %s or id in (
               select id from finding where closed_at is not null order by closed_at desc offset %s))""",
        [kept_for, most],
    )


async def find(tx: Transaction, scope: dict[str, Any], finding: UUID) -> Known | None:
    """One finding."""
    return await tx.one(Known, f"select {_KNOWN} from finding where id = %(id)s and {VISIBLE}", scope | {"id": finding})


async def open_all(tx: Transaction, scope: dict[str, Any]) -> list[Known]:
    """All that are open, the worst first and of those the eldest."""
    return await tx.all(
        Known,
        f"select {_KNOWN} from finding where closed_at is null and {VISIBLE} order by {_ORDER}, opened_at, id",
        scope,
    )


async def newest(
    tx: Transaction, scope: dict[str, Any], wanted: dict[str, Any], after: UUID | None, limit: int
) -> list[Known]:
    """Findings, newest first; `wanted` may name a sweep, a severity, a subject, and whether they are open."""
    return await tx.all(
        Known,
        f"""select {_KNOWN} from finding
            where (%(sweep)s::text is null or sweep = %(sweep)s)
                and (%(severity)s::text is null or severity = %(severity)s)
                and (%(subject)s::text is null or subject = %(subject)s)
                and (%(open)s::boolean is null or (closed_at is null) = %(open)s)
                and (%(after)s::uuid is null or id < %(after)s) and {VISIBLE}
            order by id desc limit %(limit)s""",
        scope | wanted | {"after": after, "limit": limit},
    )


async def counts(tx: Transaction) -> list[Row]:
    """Open findings by sweep and severity, those of which there are none included."""
    return await tx.rows("select sweep, severity, open from armillary_findings() order by sweep, severity")


# Sweeps --------------------------------------------------------------------------------------------------------


async def last_runs(tx: Transaction) -> dict[str, tuple[timedelta, timedelta]]:
    """How long ago each sweep ran, and how long it took."""
    rows = await tx.rows(
        "select name, armillary_now() - ran_at as ago, make_interval(secs => seconds) as took from sweep"
    )
    return {row["name"]: (row["ago"], row["took"]) for row in rows}


async def ran(tx: Transaction, sweep: str, seconds: float, error: str) -> None:
    """A sweep has run, or failed with this."""
    await tx.execute(
        """insert into sweep (name, seconds, error) values (%s, %s, %s)
           on conflict (name) do update set ran_at = armillary_now(), seconds = excluded.seconds,
               error = excluded.error""",
        [sweep, seconds, error],
    )


async def sweeps(tx: Transaction) -> dict[str, Row]:
    """When each sweep ran, how long it took and why it failed, if it did."""
    return {row["name"]: row for row in await tx.rows("select name, ran_at, seconds, error from sweep")}
