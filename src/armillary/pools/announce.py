"""Tell what became of a worker."""

from armillary.base import events
from armillary.base.db import Row, Transaction
from armillary.pools import store


async def announce(tx: Transaction, kind: str, worker: Row, account: str, reason: str = "") -> None:
    """Emit an event of a worker whose version was raised; `worker` holds id, pool, host and that version."""
    pool = await store.find(tx, worker["pool"])
    assert pool is not None
    await events.emit(
        tx,
        subject=f"worker:{worker['id']}",
        version=worker["version"],
        kind=kind,
        actor=account,
        group=pool["group"],
        detail={"worker": str(worker["id"]), "pool": worker["pool"], "host": worker["host"], "reason": reason},
    )
