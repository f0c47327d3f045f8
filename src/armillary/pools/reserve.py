"""Keep a worker free for a job that smaller ones pass by, since room for it would come about by chance alone.

Jobs are packed in the order of the queue: what fits into a gap runs there, so a job as large as a worker would wait for as long as
smaller ones come. One that has been the first in its pool's queue for `PATIENCE` gets a worker that takes nothing else until
it fits; the others go on. One worker of a pool at a time is kept free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.base import log
from armillary.base.db import Transaction
from armillary.jobs import queue
from armillary.jobs.queue import NOTHING, Waiting
from armillary.pools import store
from armillary.pools.pool import serves

PATIENCE = timedelta(minutes=1)
LOOKED_AT = 100  # jobs of a queue, the first ones: what no worker could run does not hide what one could
_log = log.get("pools")


@dataclass(frozen=True)
class Room:
    """A worker, how large it is (its time is what it has left), and what its jobs hold of it."""

    worker: UUID
    host: str
    size: Resources
    used: Resources

    def lacks(self, job: Resources) -> float:
        """How much of it is to become free before the job fits: the largest share, of all that it has."""
        sizes = zip(_sizes(self.size), _sizes(self.used), _sizes(job), strict=True)
        return max(0.0, *((used + wanted) / size - 1 for size, used, wanted in sizes if size))


def _sizes(of: Resources) -> tuple[float, ...]:
    return of.cpu, of.memory_bytes, of.disk_bytes, of.gpu


def first_to_fit(waiting: Sequence[Waiting], size: Resources) -> UUID | None:
    """The first job that a worker of this size could run."""
    return next((one.job for one in waiting if serves(size, one.needs)), None)


def choose(rooms: Sequence[Room], job: Resources) -> Room | None:
    """The worker that has to empty the least of itself; nothing if none is large enough."""
    able = [room for room in rooms if serves(room.size, job)]
    return min(able, key=lambda room: (room.lacks(job), room.worker), default=None)


class Reservations:
    """Which job is the first in each pool's queue, and since when, as the server that minds the pools has seen it."""

    def __init__(self) -> None:
        self._firsts: Mapping[str, tuple[UUID, datetime]] = {}

    async def round(self, tx: Transaction, sizes: Mapping[str, Resources]) -> None:
        """Look at the queues of these pools, whose workers are so large."""
        served = await store.end_reservations(tx)
        now: datetime = await tx.value("select armillary_now()")
        firsts = {}
        for pool, size in sizes.items():
            waiting = await queue.first_waiting(tx, pool, LOOKED_AT)
            first = first_to_fit(waiting, size)
            if first is not None:
                before, since = self._firsts.get(pool, (first, now))
                firsts[pool] = first, since if before == first else now
                if now - firsts[pool][1] >= PATIENCE and pool not in served:
                    await _reserve(tx, pool, next(one for one in waiting if one.job == first))
        self._firsts = firsts


async def _reserve(tx: Transaction, pool: str, waiting: Waiting) -> None:
    live = await store.roomy(tx, pool)
    used = await queue.held(tx, [row["id"] for row in live])
    rooms = [Room(row["id"], row["host"], Resources(**row["size"]), used.get(row["id"], NOTHING)) for row in live]
    room = choose(rooms, waiting.needs)
    if room is None:
        return
    reason = f"Smaller jobs pass it by: worker {room.worker} on {room.host} takes nothing else until it fits."
    if await queue.explain_waiting(tx, waiting.job, reason):
        await store.reserve(tx, room.worker, waiting.job)
        _log.info("worker kept free", pool=pool, worker=str(room.worker), job=str(waiting.job))
