"""Follow the event log without missing what is committed late: each event is in exactly one window of each reader.

An event's time is taken while its transaction runs, so nothing earlier than the start of the oldest transaction that is
still writing can yet appear: a window ends there. Readers lag by the age of that transaction, and that is all they pay.
Work that must happen is not found this way but claimed from rows (`events.claim`); this is for those who count and tell.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from armillary.base.db import Transaction

MAX_EVENTS = 5000
TIE = timedelta(microseconds=1)


@dataclass(frozen=True)
class Window:
    """A stretch of the log, its end excluded, to which nothing will be added any more."""

    since: datetime
    until: datetime
    is_full: bool  # there is more to read at once

    @property
    def params(self) -> dict[str, datetime]:
        """For the SQL that reads it."""
        return {"since": self.since, "until": self.until}


async def window(tx: Transaction, reader: str, *, from_start: bool, max_events: int = MAX_EVENTS) -> Window:
    """What a reader has not read yet, oldest first; its first window begins with the log, or now."""
    horizon = await _horizon(tx)  # before anything else: what is committed after it was taken is seen by what follows
    since: datetime = await tx.value(
        """with begun as (
               insert into history_reader (name, read_until)
               select %(reader)s, case when %(all)s then coalesce((select min(at) from event), %(horizon)s) else %(horizon)s end
               on conflict (name) do nothing returning read_until)
           select read_until from begun union all select read_until from history_reader where name = %(reader)s""",
        {"reader": reader, "all": from_start, "horizon": horizon},
    )
    last: datetime | None = await tx.value(
        "select at from event where at >= %s and at < %s order by at offset %s limit 1", [since, horizon, max_events]
    )
    if last is None:
        return Window(since, max(since, horizon), is_full=False)
    return Window(since, max(last, since + TIE), is_full=True)


async def advance(tx: Transaction, reader: str, read: Window) -> None:
    """The reader has read this."""
    await tx.execute("update history_reader set read_until = %s where name = %s", [read.until, reader])


async def forget(tx: Transaction, reader: str) -> None:
    """The reader is no more; should it come back it begins anew."""
    await tx.execute("delete from history_reader where name = %s", [reader])


async def _horizon(tx: Transaction) -> datetime:
    """Every event before this time is visible to the next statement, or never will be to any.

    A transaction without an id has written nothing: what it will write is later than now, which is asked first.
    """
    now: datetime = await tx.value("select armillary_now() from pg_stat_clear_snapshot()")
    begun: datetime | None = await tx.value(
        """select min(xact_start) from pg_stat_activity
           where datname = current_database() and pid <> pg_backend_pid() and backend_xid is not null"""
    )
    return now if begun is None else min(now, begun)
