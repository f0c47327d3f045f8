"""Make each pool's workers what is wished: adopt, bury, start, drain. What is on record is enough to go on after a crash."""

import asyncio
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from armillary.jobs.pace import known
from armillary.jobs.queue import Demand
from armillary.pools import judge, store, worker
from armillary.pools.autoscale import Plan, plan
from armillary.pools.census import Census
from armillary.pools.fleet import Look, Providers
from armillary.pools.hosts import host_of, is_judged_on, with_others
from armillary.pools.pool import Pool, Start, read, serves
from armillary.pools.provider import Found, StartRequest, StartState, consecutive
from armillary.pools.providers.local import machine
from armillary.pools.reserve import Reservations

SINGLETON = "pools"
REGISTER_WITHIN = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(minutes=5)
DOUBTED = timedelta(hours=1)  # for so long what was to be started and never answered is looked for
LEFT_OVER = "It came all the same, after it was given up, and was cancelled."

_log = log.get("pools")


@dataclass(frozen=True)
class Fleet:
    """One pool as it is found."""

    pool: Pool
    demand: Demand
    starts: Sequence[Start]
    size: Resources | None  # none: no worker has said yet how large it is
    cost_today: float
    pace: Mapping[str, float]
    may_start: bool  # false for a while after workers that ended before they registered
    problem: str = ""  # of its provider


@dataclass(frozen=True)
class Reconciler:
    """One round at a time, on the server that holds the singleton of this name (`epoch`)."""

    database: Database
    providers: Providers
    settings: PoolSettings
    url: Callable[[], str]
    census: Census = field(default_factory=Census)
    reservations: Reservations = field(default_factory=Reservations)

    async def round(self, epoch: int | None = None) -> None:
        """Look at everything once and change what is to be changed."""
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await worker.expire(tx, self.settings.time_to_live)
            await judge.judge(tx)
            await pause.hold_paused(tx)
            starts, doubtful = await store.starts(tx), await store.doubtful(tx, DOUBTED)
            served = {server.host for server in await servers.living(tx) if "pools" in server.roles}
        here = socket.gethostname()
        look = await self.providers.look([*(start for start in starts if is_judged_on(here, start)), *doubtful])
        look = with_others(look, starts, here, served, REGISTER_WITHIN)
        leftovers = left_over(doubtful, look)
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await settle(tx, starts, look)
            await store.note_leftovers(tx, [start.id for start in leftovers], LEFT_OVER)
            fleets = await self._fleets(tx, look.problems)
            plans = [decide(fleet) for fleet in fleets]
            for fleet, change in zip(fleets, plans, strict=True):
                await store.decided(tx, fleet.pool.id, change.wanted, change.reason)
            overdue = await _overdue(tx, fleets)
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await self.reservations.round(
                tx, {one.pool.id: one.size for one in fleets if one.demand.waiting and one.size}
            )
        await self._stop(leftovers, force=False)
        for start, force in overdue:
            await self._stop([start], force=force)
        for fleet, change in zip(fleets, plans, strict=True):
            await self._follow(fleet, change, epoch)

    async def _fleets(self, tx: Transaction, problems: Mapping[str, str]) -> list[Fleet]:
        demand, is_new = await self.census.demand(tx)
        starts, pace = await store.starts(tx), await known(tx)
        fleets = []
        for row in await store.visible(tx, system("pools").scope):
            pool = read(row["spec"])
            wanted = demand.get(pool.id, Demand())
            size = await worker_size(tx, pool)
            if size:
                await store.set_size(tx, pool.id, size)
            if size and is_new and not serves(size, wanted.largest):
                await queue.explain_unfit(tx, pool.id, size, _unfit(pool, size))
            hours = await store.hours_today(tx, pool.id) if pool.scale.cost_per_hour else 0.0
            mine = [start for start in starts if start.pool == pool.id]
            may_start = await store.may_start(tx, pool.id, LONGEST_PAUSE)
            cost = hours * pool.scale.cost_per_hour
            fleets.append(Fleet(pool, wanted, mine, size, cost, pace, may_start, problems.get(pool.id, "")))
        return fleets

    async def mind_host(self) -> None:
        """What only a server of this machine can do, whichever holds the singleton: bury, and end who never registers."""
        living = await self._bury()
        async with self.database.transaction() as tx:
            unregistered = set(await store.unregistered(tx, REGISTER_WITHIN))
        await self._stop([start for start in living if start.id in unregistered], force=True)

    async def stop_all(self, within: timedelta) -> None:
        """End the workers of this machine: they finish or hand back what they run, then go. Others wait for a server."""
        deadline = time.monotonic() + within.total_seconds()
        asked: set[UUID] = set()
        while starts := await self._bury():
            force = time.monotonic() > deadline
            # Once is enough: a runner may take a second signal for impatience.
            await self._stop([start for start in starts if force or start.id not in asked], force=force)
            asked |= {start.id for start in starts}
            await asyncio.sleep(0.1)

    async def _bury(self) -> list[Start]:
        """Record which of this machine's workers have ended; returns those that live."""
        here = socket.gethostname()
        async with self.database.transaction() as tx:
            starts = [one for one in await store.starts(tx) if one.provider == "local" and is_judged_on(here, one)]
        look = await self.providers.look(starts)
        # One whose host is not known yet may be about to be started by another server.
        known_here = [start for start in starts if host_of(start) or start.reference or start.id in look.found]
        async with self.database.transaction() as tx:
            await settle(tx, known_here, look)
        return [replace(start, reference=look.found[start.id].reference) for start in starts if start.id in look.found]

    async def _stop(self, starts: Sequence[Start], *, force: bool) -> None:
        for start in starts:
            if start.reference and is_judged_on(socket.gethostname(), start):
                try:
                    await self.providers.of_start(start).stop([start.reference], force=force)
                except ArmillaryError as error:
                    _log.warning("worker not stopped", pool=start.pool, reason=str(error))

    async def _follow(self, fleet: Fleet, change: Plan, epoch: int | None) -> None:
        pool = fleet.pool
        if change.start or change.drain or change.cancel:
            counts = {"start": change.start, "drain": len(change.drain), "cancel": len(change.cancel)}
            _log.info("pool changes", pool=pool.id, **counts, reason=change.reason)
        if change.drain:
            async with self.database.transaction() as tx:
                await _check(tx, epoch)
                for leaving in change.drain:
                    await worker.drain(tx, leaving, change.reason)
        await self._stop([start for start in fleet.starts if start.id in change.cancel], force=False)
        if change.start and fleet.may_start:
            try:
                await self._start(pool, change.start, epoch)
            except ArmillaryError as error:
                _log.warning("workers not started", pool=pool.id, reason=str(error))
                async with self.database.transaction() as tx:
                    await store.decided(tx, pool.id, change.wanted, f"{change.reason} {error}")

    async def _start(self, pool: Pool, number: int, epoch: int | None) -> None:
        """Record, start, record: a crash in between leaves starts that the next round finds or buries."""
        assert pool.provider is not None
        starts = consecutive(new_id(), number)
        async with self.database.transaction() as tx:
            await _check(tx, epoch)
            await store.insert_starts(tx, starts, pool.id, pool.provider, pool.options)
            tokens = [await make_worker_token(tx, pool.id, start, start=True) for start in starts]
        crash_point("pools.recorded")
        requests = [
            StartRequest(start, pool.id, self.url(), token, pool.worker)
            for start, token in zip(starts, tokens, strict=True)
        ]
        try:
            references = await self.providers.of_pool(pool).start(requests)
        except ArmillaryError as error:
            async with self.database.transaction() as tx:
                await _end_starts(tx, dict.fromkeys(starts, str(error)))
            raise
        crash_point("pools.before-reference")
        state: StartState = "running" if pool.provider == "local" else "pending"
        async with self.database.transaction() as tx:
            for start, reference in references.items():
                await store.set_found(tx, start, Found(reference, state))
            missing = [start for start in starts if start not in references]
            await _end_starts(tx, dict.fromkeys(missing, "Its provider did not start it."))


def decide(fleet: Fleet) -> Plan:
    """What to change about a pool."""
    if fleet.pool.provider is None:
        return Plan(reason="Its workers are started by others.")
    change = plan(fleet.pool, fleet.size, fleet.demand, fleet.starts, fleet.cost_today, fleet.pace)
    apart = sum(start.worker_state == "quarantined" for start in fleet.starts)
    if change.start and apart >= max(3, fleet.pool.max_workers):
        return replace(change, start=0, reason=f"{apart} of its workers are quarantined: more would go the same way.")
    if change.start and not fleet.may_start:
        return replace(
            change, start=0, reason=f"{change.reason} The last ended before they registered; it waits a while."
        )
    return replace(change, reason=f"{change.reason} {fleet.problem}".strip())


def left_over(doubtful: Sequence[Start], look: Look) -> list[Start]:
    """Of starts that were given up, those that their provider has all the same; their tokens are void, they only take room."""
    found = [(start, look.found[start.id]) for start in doubtful if start.id in look.found]
    return [replace(start, reference=one.reference) for start, one in found if one.state in ("pending", "running")]


async def settle(tx: Transaction, starts: Sequence[Start], look: Look) -> None:
    """Record what was found: adopt what lives, bury what is gone, with what it held."""
    gone: dict[UUID, str] = {}
    for start in starts:
        found = look.found.get(start.id)
        if found is not None and found.state != "ended":
            if found != Found(start.reference or "", start.state, start.note):
                await store.set_found(tx, start.id, found)
        elif start.id not in look.unknown:
            gone[start.id] = (found and found.note) or "Its process has ended."
    await _end_starts(tx, gone)
    for start in starts:
        if start.id in gone and start.worker_id and start.worker_state != "gone":
            await worker.end(tx, [start.worker_id], gone[start.id])


async def _end_starts(tx: Transaction, ended: Mapping[UUID, str]) -> None:
    if not ended:
        return
    await store.end_starts(tx, ended)
    for start in ended:
        await revoke_worker_tokens(tx, start)


async def worker_size(tx: Transaction, pool: Pool) -> Resources | None:
    """How large a worker of this pool is: as written, as its workers say, or (if they will be local) as we are."""
    lasts = pool.walltime.total_seconds() if pool.walltime else math.inf
    if pool.worker is not None:
        return replace(pool.worker, time_seconds=lasts)
    sizes = [one.capacity for one in await store.workers(tx, pool.id, limit=100)]
    if sizes:
        return replace(max(sizes, key=lambda size: (size.memory_bytes, size.cpu)), time_seconds=lasts)
    return machine() if pool.provider == "local" else None


def _unfit(pool: Pool, size: Resources) -> str:
    gpu = f", {size.gpu} GPUs" if size.gpu else ""
    lasts = f", and {pool.walltime} of time" if pool.walltime else ""
    return (
        f"It needs more than a worker of pool {pool.id} has ({size.cpu:g} CPUs, {human_size(size.memory_bytes)} of "
        f"memory, {human_size(size.disk_bytes)} of disk{gpu}{lasts}). Move it to a pool with larger workers."
    )


async def _overdue(tx: Transaction, fleets: Sequence[Fleet]) -> list[tuple[Start, bool]]:
    """What must be stopped from outside: starts that never registered, drains that took longer than the pool allows."""
    unregistered = set(await store.unregistered(tx, REGISTER_WITHIN))
    overdue = []
    for fleet in fleets:
        patience = fleet.pool.scale.preempt_after
        drains = set(await store.overdue_drains(tx, fleet.pool.id, patience)) if patience is not None else set()
        for start in fleet.starts:
            if start.id in unregistered:
                overdue.append((start, True))
            elif start.worker_id in drains:
                await queue.preempt(tx, start.worker_id)
                overdue.append((start, False))
    return overdue


async def _check(tx: Transaction, epoch: int | None) -> None:
    if epoch is not None:
        await servers.check(tx, SINGLETON, epoch)
