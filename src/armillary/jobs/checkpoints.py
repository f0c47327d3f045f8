"""Checkpoints: the files of a running attempt that the next one may take up, kept until the job has ended."""

from collections.abc import AsyncIterator
from uuid import UUID

from armillary.base.crash import crash_point
from armillary.base.db import Database
from armillary.base.errors import Conflict, UsageError
from armillary.base.ids import new_id
from armillary.base.storage import Store
from armillary.jobs import store


async def save(
    database: Database, objects: Store, worker: UUID, job: UUID, lease: int, sha256: str, chunks: AsyncIterator[bytes]
) -> None:
    """Store an archive and make it the job's checkpoint, if the lease still stands."""
    key = f"checkpoints/{job}/{new_id()}"
    written = await objects.write(key, chunks)
    if written.sha256 != sha256:
        await objects.delete([key])
        raise UsageError("The checkpoint arrived with another SHA-256.", "Send it again.", field="Armillary-SHA256")
    crash_point("checkpoint.before-record")
    async with database.transaction() as tx:
        saved, old = await store.save_checkpoint(tx, worker, job, lease, key, sha256, written.size_bytes)
    crash_point("checkpoint.after-record")
    await objects.delete([old] if saved and old else [] if saved else [key])
    if not saved:
        raise Conflict("This worker does not hold that lease any more.", "Stop the job.")


async def collect(database: Database, objects: Store, limit: int = 100) -> int:
    """Delete the checkpoints of jobs that have ended; returns how many."""
    async with database.transaction() as tx:
        keys = await store.drop_ended_checkpoints(tx, limit)
    crash_point("checkpoint.before-delete")
    await objects.delete(keys)
    return len(keys)
