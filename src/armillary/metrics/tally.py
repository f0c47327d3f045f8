"""Add up the history into counters, one server at a time: nothing that makes history waits for it or writes more."""

from uuid import UUID

from armillary.base import history, servers
from armillary.base.db import Database, Transaction
from armillary.metrics import store

SINGLETON = "tally"
READER = "metrics"


async def add_up(database: Database, server: UUID) -> bool:
    """Count what happened since the last round; whether there is more to count at once."""
    async with database.transaction() as tx:
        epoch = await servers.hold(tx, SINGLETON, server)
    if epoch is None:
        return False
    async with database.transaction() as tx:
        is_full = await count(tx)
        await servers.check(tx, SINGLETON, epoch)
    return is_full


async def count(tx: Transaction) -> bool:
    """One window of the history, and how far it goes: both or neither are written."""
    read = await history.window(tx, READER, from_start=True)
    await store.tally(tx, read)
    await history.advance(tx, READER, read)
    return read.is_full
