"""How long jobs take, learned per algorithm from those that end: what the autoscaler multiplies its queue by."""

import time
from collections.abc import Sequence
from uuid import UUID

from armillary.base.db import Database, Transaction
from armillary.jobs import store

SAMPLE_SECONDS = 1.0  # one call of `finish` in so long is looked at: enough to learn from, and next to no cost
MEMORY = 100  # jobs whose mean counts; older ones fade


class Learner:
    """One server's samples."""

    def __init__(self) -> None:
        self._next = 0.0

    async def learn(self, database: Database, ended: Sequence[tuple[UUID, int]]) -> None:
        """Note how long these attempts (job and lease), which have succeeded, took from lease to end."""
        if not ended or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SAMPLE_SECONDS
        async with database.transaction() as tx:
            await store.learn_pace(tx, ended, MEMORY)


async def known(tx: Transaction) -> dict[str, float]:
    """Seconds that a job of each algorithm takes."""
    return await store.pace(tx)
