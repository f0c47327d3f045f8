"""The watchdog: one server at a time runs the sweeps that are due, and keeps what they find on record."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.actor import system
from armillary.base import events, log, servers
from armillary.base.db import Database, Transaction
from armillary.base.settings import Settings
from armillary.base.storage import Store
from armillary.watchdog import store
from armillary.watchdog.finding import Changes, Finding, Known, compare
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.sweeps import all_sweeps

SINGLETON = "watchdog"
KEPT_FOR = timedelta(days=30)
MOST_KEPT = 10_000
SPARING = 20  # a sweep, which may have a long queue to count, takes a twentieth of the time at most
NEVER = (timedelta.max, timedelta(0))

_log = log.get("watchdog")


class Watch:
    """One server's part in it."""

    def __init__(
        self, database: Database, objects: Store, settings: Settings, sweeps: Sequence[Sweep] | None = None
    ) -> None:
        self._database = database
        self._view = View(database, objects, settings)
        self.sweeps = all_sweeps() if sweeps is None else sweeps

    async def round(self, server: UUID) -> int | None:
        """Run what is due; returns how many sweeps that were, None if another server does it."""
        async with self._database.transaction() as tx:
            epoch = await servers.hold(tx, SINGLETON, server)
            runs = await store.last_runs(tx) if epoch is not None else {}
        if epoch is None:
            return None
        due = [one for one in self.sweeps if is_due(one.every, *runs.get(one.name, NEVER))]
        for sweep in due:
            await self._run(sweep, server, epoch)
        return len(due)

    async def _run(self, sweep: Sweep, server: UUID, epoch: int) -> None:
        begun, error = time.monotonic(), ""
        found: Sequence[Finding] | None
        try:
            found = await sweep.find(self._view)
        except Exception as failure:  # noqa: BLE001  one sweep that fails must not blind the others
            error = str(failure) or type(failure).__name__
            _log.warning("sweep failed", sweep=sweep.name, reason=error)
            found = None
        async with self._database.transaction() as tx:
            # Another may have taken over while this looked.
            await servers.hold(tx, SINGLETON, server)
            await servers.check(tx, SINGLETON, epoch)
            if found is not None:
                await record(tx, sweep.name, found)
            await store.ran(tx, sweep.name, time.monotonic() - begun, error)


def is_due(every: timedelta, ago: timedelta, took: timedelta) -> bool:
    """Whether a sweep that ran so long ago, and took so long, runs again: one that takes long runs less often."""
    return ago >= max(every, SPARING * took)


async def record(tx: Transaction, sweep: str, found: Sequence[Finding]) -> Changes:
    """Make the open findings of a sweep what it has found now, each change with its event."""
    changes = compare(await store.open_of(tx, sweep), found)
    ids = await store.insert(tx, sweep, changes.opened) if changes.opened else []
    if changes.seen:
        await store.see(tx, changes.seen)
    if changes.closed:
        await store.close(tx, [one.id for one in changes.closed])
        await store.forget(tx, KEPT_FOR, MOST_KEPT)
    told = [_event("opened", sweep, id_, 1, one) for id_, one in zip(ids, changes.opened, strict=True)]
    told += [
        _event("changed", sweep, known.id, known.version + 1, one)
        for known, one in changes.seen
        if known.severity != one.severity
    ]
    told += [_event("closed", sweep, known.id, known.version + 1, known) for known in changes.closed]
    if told:
        await events.emit_many(tx, told)
    for kind, subjects in (("opened", changes.opened), ("closed", changes.closed)):
        for one in subjects:
            _log.info(f"finding {kind}", sweep=sweep, subject=one.subject, severity=one.severity, reason=one.reason)
    return changes


def _event(kind: str, sweep: str, finding: UUID, version: int, one: Finding | Known) -> dict[str, Any]:
    names = ("subject", "severity", "reason", "action", "remedy")
    return {
        "subject": f"finding:{finding}",
        "version": version,
        "kind": f"finding.{kind}",
        "actor": system("watchdog").account,
        "group": one.group,
        "detail": {"finding": str(finding), "sweep": sweep} | {name: getattr(one, name) for name in names},
    }
