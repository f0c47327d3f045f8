"""Retention: revisions beyond the newest that a collection keeps are retired, and after a grace their bytes are given up.

Whoever submits a job takes no lock against this. A revision that something came to refer to in the moment of its retirement is
found by the next round, which takes the retirement back; and bytes are given up only when no transaction is left that may have
read of the revision before. The row stays: it is history, and provenance leads to it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from armillary.accounts.actor import system
from armillary.base.crash import crash_point
from armillary.base.db import Database, Transaction
from armillary.collections import define
from armillary.collections.collection import Collection, read
from armillary.granules import store
from armillary.granules.granule import Reference

# Tells which of some revisions another noun still needs: those of live jobs, those bound to firings that wait.
Referred = Callable[[Transaction, Sequence[Reference]], Awaitable[set[Reference]]]
PAGE = 500


@dataclass
class Swept:
    """How many revisions one round retired, took back, and gave up the bytes of."""

    retired: int = 0
    recalled: int = 0
    discarded: int = 0


async def sweep(database: Database, referred: Sequence[Referred], grace: timedelta) -> Swept:
    """One round over all collections; the collector deletes the bytes that it gives up."""
    swept = Swept()
    await _each_page(database, lambda tx, after: _recall(tx, referred, after, swept))
    await _each_page(database, lambda tx, after: _discard(tx, referred, after, grace, swept))
    crash_point("retire.discarded")
    for collection in await _retaining(database):
        await _each_page(database, lambda tx, after, of=collection: _retire(tx, referred, of, after, swept))  # type: ignore[misc]
    crash_point("retire.retired")
    return swept


async def _retaining(database: Database) -> list[Collection]:
    async with database.transaction() as tx:
        found = [read(row["spec"]) for row in await define.visible(tx, system("retention"))]
    return [collection for collection in found if collection.keep_revisions is not None]


async def _each_page(database: Database, work: Callable[[Transaction, Reference], Awaitable[Reference | None]]) -> None:
    """A transaction for each page; `work` returns the last revision of its page, or nothing after the last page."""
    after: Reference | None = Reference("", "", 0)
    while after is not None:
        reached = after
        after = await database.retry(lambda tx, since=reached: work(tx, since))  # type: ignore[misc]


async def _recall(tx: Transaction, referred: Sequence[Referred], after: Reference, swept: Swept) -> Reference | None:
    """Take back retirements of what something refers to."""
    page = await store.retired(tx, after, PAGE)
    needed = await _needed(tx, referred, page)
    swept.recalled += await store.recall(tx, [one for one in page if one in needed])
    return page[-1] if page else None


async def _discard(
    tx: Transaction, referred: Sequence[Referred], after: Reference, grace: timedelta, swept: Swept
) -> Reference | None:
    """Give up the bytes of what has been retired for long enough: found first, so that what came since is seen."""
    page = await store.discardable(tx, after, grace, PAGE)
    needed = await _needed(tx, referred, page)
    swept.discarded += await store.discard(tx, [one for one in page if one not in needed])
    return page[-1] if page else None


async def _retire(
    tx: Transaction, referred: Sequence[Referred], collection: Collection, after: Reference, swept: Swept
) -> Reference | None:
    """Retire what is beyond the newest revisions that the collection keeps."""
    assert collection.keep_revisions is not None
    page = await store.surplus(tx, collection.id, collection.keep_revisions, after, PAGE)
    needed = await _needed(tx, referred, page)
    swept.retired += await store.retire(tx, [one for one in page if one not in needed])
    return page[-1] if page else None


async def _needed(tx: Transaction, referred: Sequence[Referred], page: Sequence[Reference]) -> set[Reference]:
    return {one for ask in referred for one in await ask(tx, page)} if page else set()
