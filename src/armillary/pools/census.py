"""Count what waits and runs, but not all the time: a long queue is counted more seldom."""

import time
from collections.abc import Callable, Mapping

from armillary.base.db import Transaction
from armillary.jobs import queue
from armillary.jobs.queue import Demand

SPARING = 20  # a count takes a twentieth of the time at most
AT_ONCE_SECONDS = 0.05  # what takes no longer is counted whenever somebody asks


class Census:
    """The last count of one server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = 0.0
        self._demand: Mapping[str, Demand] = {}

    async def demand(self, tx: Transaction) -> tuple[Mapping[str, Demand], bool]:
        """What each pool has to do, and whether that was counted just now."""
        begun = self._clock()
        if begun < self._due:
            return self._demand, False
        self._demand = await queue.demand(tx)
        self._due = due(begun, self._clock())
        return self._demand, True


def due(begun: float, ended: float) -> float:
    """When to count again after a count between these two."""
    took = ended - begun
    return ended + SPARING * took if took > AT_ONCE_SECONDS else ended
