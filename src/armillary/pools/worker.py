"""Workers: they register, lease in batches, say that they live, hear commands, drain and leave; the silent expire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.accounts.authenticate import check_pool_token, make_worker_token, revoke_worker_tokens
from armillary.accounts.permit import permit
from armillary.algorithms.algorithm import Resources
from armillary.base.db import Row, Transaction
from armillary.base.errors import NotAllowed, NotFound, UsageError
from armillary.base.ids import new_id
from armillary.base.servers import gap
from armillary.base.wakes import COMMANDS, QUEUE
from armillary.jobs import queue
from armillary.jobs.cost import Price
from armillary.jobs.finish import finish as finish_jobs
from armillary.jobs.job import Report, Result, Stop
from armillary.jobs.queue import Beat, Lease
from armillary.pools import define, judge, store
from armillary.pools.announce import announce
from armillary.pools.pool import PROTOCOLS, Arrival


@dataclass(frozen=True)
class Registered:
    """A new worker; the token is good for it and its pool alone."""

    worker: UUID
    epoch: int
    token: str


@dataclass(frozen=True)
class Commands:
    """What a worker is to do."""

    stop: Sequence[tuple[UUID, int, Stop]]
    gone: Sequence[tuple[UUID, int]]
    drain: bool


async def register(tx: Transaction, actor: Actor, pool: str, arrival: Arrival) -> Registered:
    """Take a worker into a pool. One that registers again has lost what it held before."""
    found = await define.row(tx, actor, pool)
    _may_register(actor, pool, found["group"], arrival)
    if actor.token is not None:
        await check_pool_token(tx, actor.token)
    worker = new_id()
    epoch = await store.insert_worker(tx, worker, pool, arrival)
    if arrival.start is not None:
        start = await store.lock_start(tx, arrival.start)
        if start is None or start["pool"] != pool:
            raise NotFound(f"Nothing was started as {arrival.start}.", "Exit; the pool starts another if it needs one.")
        if start["worker_id"]:
            await end(tx, [start["worker_id"]], "It registered anew.")
        await store.set_worker(tx, arrival.start, worker)
    row = {"id": worker, "pool": pool, "host": arrival.host, "version": 1}
    await announce(tx, "worker.registered", row, actor.account)
    return Registered(worker, epoch, await make_worker_token(tx, pool, worker, parent=actor.token))


def _may_register(actor: Actor, pool: str, group: str, arrival: Arrival) -> None:
    if actor.kind == "worker-start":
        if actor.pool != pool or actor.worker_id != arrival.start:
            raise NotAllowed(
                f"This token starts workers of pool {actor.pool} only.", "Use it for what it was made for."
            )
    else:
        permit(actor, "administer", group)
    if arrival.protocol not in PROTOCOLS:
        raise UsageError(
            f"The worker speaks protocol {arrival.protocol}; this server understands {PROTOCOLS[0]}.",
            "Install the same version of Armillary on both.",
            field="protocol",
        )


async def lease(
    tx: Transaction, worker: UUID, free: Resources, count: int, *, in_turn: bool = False
) -> tuple[list[Lease], bool] | None:
    """Jobs for the worker, and whether it is to take no more; None while it is kept from being given any.

    Its failures do so, or a job that it is kept free for.
    """
    # Held, it cannot be declared gone between this and the lease.
    row = await _alive(tx, worker)
    if row["state"] == "draining":
        return [], True
    if judge.is_barred(row):
        return None
    if row["is_on_trial"]:
        count = 1  # what it makes of one job tells more than anything it has said
    price = Price(row["price"], Resources(**row["capacity"], time_seconds=0))
    only = row["reserved_for"]
    leases = await queue.lease(tx, worker, row["host"], row["pool"], free, count, price, in_turn=in_turn, only=only)
    if only:
        if not leases:
            return None
        await store.end_reservation(tx, worker)
    await store.heard(tx, worker, is_idle=False if leases else None)
    return leases, False


async def heartbeat(
    tx: Transaction,
    worker: UUID,
    beats: Sequence[Beat],
    time_to_live: timedelta,
    silent_after: timedelta = timedelta(0),
    machine: Mapping[str, float] | None = None,
    clock: datetime | None = None,
) -> Commands:
    """The worker lives and runs these; what it is to do. `silent_after`: how long it may be silent, if longer than others.

    `machine`: what it has measured of the machine that it runs on, where it tells, and what time it is there.
    """
    row = await _alive(tx, worker)
    if machine:
        await store.put_machine(tx, worker, machine, clock)
    orders = await queue.beat(tx, worker, beats, forgotten_after=time_to_live)
    await store.heard(tx, worker, is_idle=not beats, silent_after=silent_after)
    return Commands(orders.stop, orders.gone, row["state"] == "draining")


async def hung_up(tx: Transaction, worker: UUID) -> None:
    """Its line was closed from its side: it has died, unless it beats soon."""
    await store.hung_up(tx, worker)


async def commands(tx: Transaction, worker: UUID) -> Commands:
    """What the worker is to do, without waiting."""
    row = await store.state(tx, worker)
    if row is None:
        raise _gone(worker)
    return Commands(await queue.orders(tx, worker), (), row["state"] == "draining")


async def commanded(tx: Transaction) -> frozenset[UUID]:
    """Workers that have something to do."""
    return frozenset([*await queue.ordered(tx), *await store.draining(tx)])


async def finish(tx: Transaction, actor: Actor, worker: UUID, reports: Sequence[Report]) -> list[Result]:
    """Record what the worker reports; each lease is its own fence, so a worker that is gone is refused one by one."""
    row = await store.hold(tx, worker)
    results = await finish_jobs(tx, actor, worker, row["host"] if row else "", reports)
    endings = [result.ending for result in results if result.ending]
    if row is not None and endings:
        await judge.follow(tx, worker, row, endings)
    await store.heard(tx, worker)
    return results


async def drain(tx: Transaction, worker: UUID, reason: str) -> None:
    """Let a worker finish what it has and take nothing new."""
    if await store.drain(tx, worker, reason):
        tx.wake(COMMANDS)
        tx.wake(QUEUE)


async def leave(tx: Transaction, worker: UUID, reason: str) -> None:
    """The worker goes in good order; what it still holds goes back."""
    if not await store.lock(tx, worker):
        return
    await queue.give_back_all(tx, worker, f"Its worker left: {reason}")
    await _mark_gone(tx, [worker], reason)


async def end(tx: Transaction, workers: Sequence[UUID], reason: str, *, died: bool = True) -> None:
    """These workers are dead, or were sent away: their leases are lost and their tokens void."""
    gone = await _mark_gone(tx, workers, reason)
    if died and gone:
        await store.set_lost(tx, gone, await queue.running(tx, gone))
    await queue.lose(tx, workers, f"Its worker was lost. {reason}")


async def expire(tx: Transaction, time_to_live: timedelta) -> list[UUID]:
    """Declare silent workers gone and free what they held.

    None expires until the control plane has been reachable for one whole time to live: after an outage of ours every
    worker looks silent.
    """
    silent = await store.silent(tx, time_to_live, gap(time_to_live))
    reasons = {
        True: "It hung up, and was not heard of any more.",
        False: f"It was not heard of for {time_to_live.total_seconds():g} s or longer.",
    }
    for has_hung_up, reason in reasons.items():
        if ended := [worker for worker, so in silent if so is has_hung_up]:
            await end(tx, ended, reason)
    # A lease that was given while its worker was being declared gone.
    left = await store.gone_among(tx, await queue.holders(tx))
    if left:
        await queue.lose(tx, left, "Its worker was lost.")
    return [worker for worker, _ in silent]


async def _mark_gone(tx: Transaction, workers: Sequence[UUID], reason: str) -> list[UUID]:
    gone = await store.mark_gone(tx, workers, reason)
    await store.forget_machines(tx, gone)
    for row in gone:
        await revoke_worker_tokens(tx, row["id"])
        await announce(tx, "worker.gone", row, "system:pools", reason)
    return [row["id"] for row in gone]


async def _alive(tx: Transaction, worker: UUID) -> Row:
    row = await store.hold(tx, worker)
    if row is None:
        raise _gone(worker)
    return row


def _gone(worker: UUID) -> NotFound:
    return NotFound(f"Worker {worker} is gone.", "Stop what it runs and register anew.")
