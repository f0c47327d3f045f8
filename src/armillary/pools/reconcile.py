"""Make each pool's workers what is wished: adopt, bury, start, drain. What is on record is enough to go on after a crash."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from armillary.accounts.actor import system
from armillary.accounts.authenticate import make_worker_token, revoke_worker_tokens
from armillary.algorithms.algorithm import Resources
from armillary.base import log, servers
from armillary.base.crash import crash_point
from armillary.base.db import Database, Transaction
from armillary.base.errors import ArmillaryError
from armillary.base.ids import new_id
from armillary.base.settings import PoolSettings
from armillary.base.units import human_size
from armillary.jobs import pause, queue
from armillary.jobs.queue import Demand
from armillary.pools import judge, store, worker
from armillary.pools.autoscale import Plan, plan
from armillary.pools.pool import Pool, Start, fits, read
from armillary.pools.provider import Known, PoolProvider, StartRequest
from armillary.pools.providers.local import machine

SINGLETON = "pools"
REGISTER_WITHIN = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(minutes=5)

_log = log.get("pools")


@dataclass(frozen=True)
class Fleet:
    """One pool as it is found."""

    pool: Pool
    demand: Demand
    starts: Sequence[Start]
    size: Resources
    cost_today: float
    may_start: bool  # false for a while after workers that ended before they registered


@dataclass(frozen=True)
class Reconciler:
    """One round at a time, on the server that holds the singleton of this name (`epoch`)."""

    database: Database
    providers: Mapping[str, PoolProvider]
    settings: PoolSettings
    url: Callable[[], str]

    async def round(self, epoch: int | None = None) -> None:
        """Look at everything once and change what is to be changed."""
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await worker.expire(tx, self.settings.time_to_live)
            await judge.judge(tx)
            await pause.hold_paused(tx)
            starts = await store.starts(tx)
        living = await self._living(starts)
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await settle(tx, starts, living)
            fleets = await _fleets(tx)
            overdue = await _overdue(tx, fleets)
        for reference, provider, force in overdue:
            await self.providers[provider].stop(reference, force=force)
        for fleet in fleets:
            await self._follow(fleet, decide(fleet), epoch)

    async def stop_all(self, within: timedelta) -> None:
        """End the workers that were started here: they finish or hand back what they run, then go."""
        deadline = time.monotonic() + within.total_seconds()
        asked: set[str] = set()
        while starts := await self._bury():
            force = time.monotonic() > deadline
            for start in starts:
                # Once is enough: a runner may take a second signal for impatience.
                if start.reference and (force or start.reference not in asked):
                    asked.add(start.reference)
                    await self.providers[start.provider].stop(start.reference, force=force)
            await asyncio.sleep(0.1)

    async def _bury(self) -> list[Start]:
        """Record which of our starts have ended; returns those that live."""
        async with self.database.transaction() as tx:
            starts = [start for start in await store.starts(tx) if start.provider in self.providers]
        living = await self._living(starts)
        async with self.database.transaction() as tx:
            await settle(tx, starts, living)
        return [replace(start, reference=living[start.id]) for start in starts if start.id in living]

    async def _living(self, starts: Sequence[Start]) -> dict[UUID, str]:
        living: dict[UUID, str] = {}
        for name, provider in self.providers.items():
            living |= await provider.check(
                [Known(start.id, start.reference) for start in starts if start.provider == name]
            )
        # What another server's provider started is that server's to check.
        strangers = [start for start in starts if start.provider not in self.providers]
        return living | {start.id: start.reference or "" for start in strangers}

    async def _follow(self, fleet: Fleet, change: Plan, epoch: int | None) -> None:
        pool = fleet.pool
        if change.start or change.drain:
            _log.info("pool changes", pool=pool.id, start=change.start, drain=len(change.drain), reason=change.reason)
        if change.drain:
            async with self.database.transaction() as tx:
                await _check(tx, epoch)
                for leaving in change.drain:
                    await worker.drain(tx, leaving, change.reason)
        for _ in range(change.start):
            try:
                await self._start(pool, epoch)
            except ArmillaryError as error:
                _log.warning("worker not started", pool=pool.id, reason=str(error))
                return

    async def _start(self, pool: Pool, epoch: int | None) -> None:
        """Record, start, record: a crash in between leaves a start that the next round finds or buries."""
        assert pool.provider is not None
        start = new_id()
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await store.insert_start(tx, start, pool.id, pool.provider)
            token = await make_worker_token(tx, pool.id, start, start=True)
        crash_point("pools.recorded")
        request = StartRequest(start, pool.id, self.url(), token, pool.worker)
        try:
            reference = await self.providers[pool.provider].start(request)
        except ArmillaryError as error:
            async with self.database.transaction() as tx:
                await _end_starts(tx, [start], str(error))
            raise
        crash_point("pools.before-reference")
        async with self.database.transaction() as tx:
            await store.set_reference(tx, start, reference)


def decide(fleet: Fleet) -> Plan:
    """What to change about a pool."""
    if fleet.pool.provider is None:
        return Plan()
    apart = sum(start.worker_state == "quarantined" for start in fleet.starts)
    if apart >= max(3, fleet.pool.max_workers):
        return Plan(reason=f"{apart} of its workers are quarantined: more would go the same way.")
    change = plan(fleet.pool, fleet.size, fleet.demand, fleet.starts, fleet.cost_today)
    return change if fleet.may_start or not change.start else Plan(reason="Its last workers ended at once.")


async def settle(tx: Transaction, starts: Sequence[Start], living: Mapping[UUID, str]) -> None:
    """Record what was found: adopt what lives, bury what is gone, with what it held."""
    for start in starts:
        if start.id in living and start.reference is None:
            await store.set_reference(tx, start.id, living[start.id])
    gone = [start for start in starts if start.id not in living]
    await _end_starts(tx, [start.id for start in gone], "Its process has ended.")
    dead = [start.worker_id for start in gone if start.worker_id and start.worker_state != "gone"]
    if dead:
        await worker.end(tx, dead, "Its process has ended.")


async def _end_starts(tx: Transaction, starts: Sequence[UUID], reason: str) -> None:
    await store.end_starts(tx, starts, reason)
    for start in starts:
        await revoke_worker_tokens(tx, start)


async def _fleets(tx: Transaction) -> list[Fleet]:
    demand, starts = await queue.demand(tx), await store.starts(tx)
    fleets = []
    for row in await store.visible(tx, system("pools").scope):
        pool = read(row["spec"])
        wanted = demand.get(pool.id, Demand())
        size = await _size(tx, pool)
        if size and not fits(size, wanted.largest):
            await queue.explain_unfit(tx, pool.id, size, _unfit(pool, size))
        hours = await store.hours_today(tx, pool.id) if pool.scale.max_cost_per_day is not None else 0.0
        mine = [start for start in starts if start.pool == pool.id]
        may_start = await store.may_start(tx, pool.id, LONGEST_PAUSE)
        fleets.append(Fleet(pool, wanted, mine, size or machine(), hours * pool.scale.cost_per_hour, may_start))
    return fleets


async def _size(tx: Transaction, pool: Pool) -> Resources | None:
    """How large a worker of this pool is: as written, as its workers say, or (if they will be local) as we are."""
    if pool.worker is not None:
        return pool.worker
    sizes = [one.capacity for one in await store.workers(tx, pool.id, limit=100)]
    if sizes:
        return max(sizes, key=lambda size: (size.memory_bytes, size.cpu))
    return machine() if pool.provider == "local" else None


def _unfit(pool: Pool, size: Resources) -> str:
    return (
        f"It needs more than a worker of pool {pool.id} has ({size.cpu:g} CPUs, {human_size(size.memory_bytes)} of "
        f"memory, {human_size(size.disk_bytes)} of disk). Move it to a pool with larger workers."
    )


async def _overdue(tx: Transaction, fleets: Sequence[Fleet]) -> list[tuple[str, str, bool]]:
    """What must be stopped from outside: starts that never registered, drains that took too long."""
    unregistered = set(await store.unregistered(tx, REGISTER_WITHIN))
    overdue = []
    for fleet in fleets:
        drains = set(await store.overdue_drains(tx, fleet.pool.id, fleet.pool.scale.drain_within))
        for start in fleet.starts:
            if start.reference is None:
                continue
            if start.id in unregistered:
                overdue.append((start.reference, start.provider, True))
            elif start.worker_id in drains:
                await queue.preempt(tx, start.worker_id)
                overdue.append((start.reference, start.provider, False))
    return overdue


async def _check(tx: Transaction, epoch: int | None) -> None:
    if epoch is not None:
        await servers.check(tx, SINGLETON, epoch)
