"""Pause an algorithm that fails everywhere, or that somebody wants to look at: its jobs are held until it is resumed."""

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.algorithms.algorithm import Registered
from armillary.base import events
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict
from armillary.base.wakes import JOBS, QUEUE
from armillary.jobs import store


async def pause(tx: Transaction, actor: Actor, registered: Registered, reason: str) -> bool:
    """Hold what waits and what will be submitted; what runs goes on. False if it was paused already."""
    permit(actor, "change", registered.group)
    version = await store.set_pause(tx, registered.digest, reason, actor.account)
    if version is None:
        return False
    await _announce(tx, actor, registered, version, "algorithm.paused", reason)
    await hold_paused(tx)
    return True


async def resume(tx: Transaction, actor: Actor, registered: Registered) -> int:
    """Let its jobs run again; returns how many were held."""
    permit(actor, "change", registered.group)
    version = await store.end_pause(tx, registered.digest)
    if version is None:
        raise Conflict(f"{registered.algorithm.id} {registered.algorithm.version} is not paused.")
    released = await store.release_paused(tx, registered.digest, f"{actor.account} resumed its algorithm.")
    await _announce(tx, actor, registered, version, "algorithm.resumed", f"{released} jobs were released.")
    tx.wake(QUEUE)
    tx.wake(JOBS)
    return released


async def hold_paused(tx: Transaction) -> int:
    """Hold jobs of paused algorithms that were submitted, or came back, since the last look."""
    held = await store.hold_paused(tx)
    if held:
        tx.wake(JOBS)
    return held


async def paused(tx: Transaction, actor: Actor) -> list[Row]:
    """Every pause that the actor may see: algorithm, version, reason, by whom and since when."""
    return await store.pauses(tx, actor.scope)


async def _announce(
    tx: Transaction, actor: Actor, registered: Registered, version: int, kind: str, reason: str
) -> None:
    algorithm = registered.algorithm
    await events.emit(
        tx,
        subject=f"pause:{registered.digest}",
        version=version,
        kind=kind,
        actor=actor.account,
        group=registered.group,
        detail={"algorithm": algorithm.id, "version": algorithm.version, "reason": reason},
    )
