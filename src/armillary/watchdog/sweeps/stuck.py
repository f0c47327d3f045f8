"""Stuck jobs: those that run on although their time is over, and those that wait although a worker is free for them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from armillary.base.clock import iso
from armillary.jobs import observe as jobs
from armillary.jobs import queue
from armillary.jobs.observe import Overlong
from armillary.jobs.queue import Demand
from armillary.pools import observe as pools
from armillary.pools.pool import Seen, fits
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import several, span

LATE = timedelta(minutes=10)  # over its time: to fetch inputs and send products is not counted by its runner
WAITED = timedelta(minutes=5)
MOST = 100


async def find(view: View) -> list[Finding]:
    """Ask for both."""
    async with view.database.transaction() as tx:
        now = await tx.value("select armillary_now()")
        overlong = await jobs.overlong(tx, LATE, MOST)
        demand = await queue.demand(tx)
        waiting = {pool: one for pool, one in demand.items() if _long_ago(one, now)}
        idle = await pools.idle(tx, list(waiting), WAITED) if waiting else []
    return [_overlong(one) for one in overlong] + decide_waiting(waiting, idle, now)


def _overlong(one: Overlong) -> Finding:
    asked = f" It was asked to stop ({one.stop}) and has not." if one.stop else ""
    return Finding(
        subject=f"job:{one.id}",
        severity="warning",
        reason=f"Job {one.id} ({one.algorithm}) has run for {span(one.age)} on worker {one.worker_id}, which should have "
        f"ended it after {span(timedelta(seconds=one.time_seconds))}.{asked}",
        remedy=f"`armillary job cancel {one.id}`; if its worker does not obey, end the worker: its jobs go on elsewhere.",
        group=one.group,
    )


def decide_waiting(waiting: Mapping[str, Demand], idle: Sequence[Seen], now: datetime) -> list[Finding]:
    """Jobs of an algorithm that wait although a worker that could run the largest of them does nothing."""
    found = []
    for pool, demand in sorted(waiting.items()):
        for share in demand.algorithms:
            able = [one for one in idle if one.pool == pool and fits(one.capacity, share.largest)]
            if share.oldest is None or now - share.oldest < WAITED or not able:
                continue
            found.append(
                Finding(
                    subject=f"pool:{pool}/{share.algorithm}",
                    severity="error",
                    reason=f"{several(share.waiting, 'job')} of {share.algorithm} wait in pool {pool} since "
                    f"{iso(share.oldest)[:16]}Z beside {several(len(able), 'idle worker')} that could run them: "
                    f"{able[0].id} on {able[0].host}, for one.",
                    remedy=f"Look into that worker's log; `armillary pool drain {pool}` replaces the pool's workers.",
                    group=able[0].group,
                )
            )
    return found


def _long_ago(demand: Demand, now: datetime) -> bool:
    return any(share.oldest and now - share.oldest > WAITED for share in demand.algorithms)


SWEEP = Sweep("stuck", "Jobs that run past their time, or wait beside idle workers.", timedelta(seconds=30), find)
