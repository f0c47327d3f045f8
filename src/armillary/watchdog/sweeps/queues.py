"""Queues that nobody can serve: jobs larger than any worker of their pool, and pools that have no worker at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from armillary.algorithms.algorithm import Resources
from armillary.base.db import Transaction
from armillary.base.units import human_size
from armillary.jobs import observe as jobs
from armillary.jobs import queue
from armillary.jobs.observe import Unfit
from armillary.pools import observe as pools
from armillary.pools.pool import PoolSeen, serves
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import several, span

PATIENCE = timedelta(seconds=30)  # before a pool without any worker is worth a word, if nobody starts some
STARTING = timedelta(minutes=10)  # the same, while its provider is to start some


@dataclass(frozen=True)
class Queue:
    """One pool with what waits for it, and what of that is too large for its workers."""

    seen: PoolSeen
    waiting: int
    oldest: datetime | None
    unfit: Sequence[Unfit]

    @property
    def at_work(self) -> int:
        """Workers that take jobs."""
        return self.seen.workers.get("live", 0)


async def find(view: View) -> list[Finding]:
    """Look at every pool for which something waits."""
    async with view.database.transaction() as tx:
        now = await tx.value("select armillary_now()")
        queues = await look(tx)
    return decide(queues, now)


async def look(tx: Transaction) -> list[Queue]:
    """Every pool; the queue is searched only where something is larger than the workers."""
    demand, found = await queue.demand(tx), []
    for seen in await pools.pools(tx):
        wanted = demand.get(seen.pool.id, queue.Demand())
        oldest = min((one.oldest for one in wanted.algorithms if one.oldest), default=None)
        is_unfit = seen.size is not None and wanted.waiting and not serves(seen.size, wanted.largest)
        unfit = await jobs.unfit(tx, seen.pool.id, seen.size) if is_unfit and seen.size else []
        found.append(Queue(seen, wanted.waiting, oldest, unfit))
    return found


def decide(queues: Sequence[Queue], now: datetime) -> list[Finding]:
    """What no worker can ever run, and what no worker is there for."""
    found = [_too_large(one, unfit, queues) for one in queues for unfit in one.unfit]
    for one in queues:
        fitting = one.waiting - sum(unfit.jobs for unfit in one.unfit)
        patience = STARTING if one.seen.pool.provider and one.seen.pool.max_workers else PATIENCE
        if fitting > 0 and not one.at_work and one.oldest and now - one.oldest > patience:
            found.append(_nobody(one, fitting, now - one.oldest))
    return found


def _too_large(one: Queue, unfit: Unfit, queues: Sequence[Queue]) -> Finding:
    pool, size = one.seen.pool.id, one.seen.size
    assert size is not None
    lacks = _lacking(unfit.largest, size)
    larger = sorted(
        other.seen.pool.id for other in queues if other.seen.size and serves(other.seen.size, unfit.largest)
    )
    conditions = [f"algorithm = '{unfit.algorithm}'", "state = 'queued'", *(lack.condition for lack in lacks[:1])]
    where = " and ".join(filter(None, conditions))
    move = f'`armillary job move --pool {pool} --where "{where}" {larger[0] if larger else "POOL"}`'
    return Finding(
        subject=f"pool:{pool}/{unfit.algorithm}",
        severity="error",
        reason=f"{several(unfit.jobs, 'job')} of {unfit.algorithm} can never run in pool {pool}: "
        + "; ".join(f"{lack.needs}, the largest worker has {lack.has}" for lack in lacks)
        + ".",
        action="They wait, each with that reason.",
        remedy=f"{move} moves them" + (". " if larger else " to a pool with larger workers. ")
        + f"Or give pool {pool} larger workers.",
        group=one.seen.group,
    )  # fmt: skip


@dataclass(frozen=True)
class _Lack:
    needs: str
    has: str
    condition: str = ""  # of the jobs, in CQL2, where it has a word for that


def _lacking(needed: Resources, size: Resources) -> list[_Lack]:
    lacks = []
    if needed.cpu > size.cpu:
        lacks.append(_Lack(f"one needs {needed.cpu:g} CPUs", f"{size.cpu:g}", f"cpu > {size.cpu:g}"))
    for name, noun in (("memory_bytes", "memory"), ("disk_bytes", "disk")):
        wish, is_there = getattr(needed, name), getattr(size, name)
        if wish > is_there:
            lacks.append(_Lack(f"one needs {human_size(wish)} of {noun}", human_size(is_there), f"{name} > {is_there}"))
    if needed.gpu > size.gpu:
        lacks.append(_Lack(f"one needs {several(needed.gpu, 'GPU')}", str(size.gpu)))
    if needed.time_seconds > size.time_seconds:
        wish, lasts = (span(timedelta(seconds=one.time_seconds)) for one in (needed, size))
        lacks.append(_Lack(f"one may take {wish}", lasts))
    return lacks


def _nobody(one: Queue, waiting: int, waited: timedelta) -> Finding:
    pool = one.seen.pool
    others: Mapping[str, int] = {state: number for state, number in one.seen.workers.items() if number}
    if others.get("quarantined"):
        why = f"all of its workers are quarantined ({others['quarantined']})"
        remedy = f"`armillary worker list --pool {pool.id}` says why; mend it, then `armillary worker release WORKER`."
    elif pool.provider is None:
        why = "it has no worker, and no provider that would start one"
        remedy = (
            f"Start some: `armillary worker start --pool {pool.id} --url URL --token-file FILE` on a machine of yours."
        )
    elif pool.max_workers == 0:
        why = "its definition allows no workers"
        remedy = f"Raise workers.max of pool {pool.id}, then `armillary apply` it."
    else:
        why = f"no worker has come. {one.seen.why}".strip().rstrip(".")
        remedy = f"`armillary pool show {pool.id}` tells what its provider says."
    return Finding(
        subject=f"pool:{pool.id}",
        severity="error",
        reason=f"{several(waiting, 'job')} wait in pool {pool.id} for {span(waited)}, and {why}.",
        remedy=remedy,
        group=one.seen.group,
    )


SWEEP = Sweep("queues", "Jobs that no worker of their pool can ever run.", timedelta(seconds=15), find)
