"""The collector: uploads that were never committed are first abandoned, then, once that is committed, their bytes go."""

from datetime import timedelta

from armillary.base.crash import crash_point
from armillary.base.db import Database
from armillary.base.storage import Store
from armillary.granules import store

GRACE = timedelta(minutes=10)  # a writer that had its ticket before has noticed by then
BATCH = 100


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
