"""The collector: uploads that were never committed are first abandoned, then, once that is committed, their bytes go."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from armillary.base.crash import crash_point
from armillary.base.db import Database, Transaction
from armillary.base.storage import Store
from armillary.granules import store

GRACE = timedelta(minutes=10)  # a writer that had its ticket before has noticed by then
BATCH = 100


@dataclass(frozen=True)
class Abandoned:
    """Abandoned uploads whose bytes still stand, and how many of them should have been deleted by now."""

    waiting: int
    overdue: int


async def collect(database: Database, objects: Store, grace: timedelta = GRACE) -> int:
    """One round; returns how many uploads' bytes were deleted."""
    async with database.transaction() as tx:
        await store.abandon_expired(tx)
    crash_point("collect.abandoned")
    async with database.transaction() as tx:
        doomed = await store.abandoned(tx, grace, BATCH)
    for upload in doomed:
        await objects.delete([key async for key, _size in objects.list(upload["prefix"])])
    crash_point("collect.deleted")
    async with database.transaction() as tx:
        await store.mark_deleted(tx, [upload["id"] for upload in doomed])
    return len(doomed)


async def abandoned(tx: Transaction, late: timedelta) -> Abandoned:
    """What the collector has before it; `late`: how long after the grace its round should be over."""
    return Abandoned(**await store.abandoned_count(tx, GRACE + late))


async def strays(tx: Transaction, keys: Sequence[str]) -> list[str]:
    """Those of these keys of granules' files that belong to no upload; a row is there before the first byte is."""
    prefixes = {key: "/".join(key.split("/")[:3]) for key in keys}
    used = await store.prefixes_in_use(tx, list(set(prefixes.values())))
    return [key for key, prefix in prefixes.items() if prefix not in used]
