"""A backlog that will miss a deadline: what lies before the jobs that are due, at the pace that is known of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from armillary.base.clock import iso
from armillary.jobs import observe as jobs
from armillary.jobs.observe import Due, Line
from armillary.jobs.pace import known
from armillary.pools import observe as pools
from armillary.pools.autoscale import part
from armillary.pools.pool import PoolSeen
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import several, span


@dataclass(frozen=True)
class Forecast:
    """When jobs that are due will be done: `work` is what lies before them and in them, of one worker's time."""

    due: Due
    work: timedelta
    done_at: datetime | None  # none: never, as there is no worker


async def find(view: View) -> list[Finding]:
    """Look only at pools in which something has a deadline."""
    async with view.database.transaction() as tx:
        due = await jobs.due(tx)
        if not due:
            return []
        now = await tx.value("select armillary_now()")
        names = {one.pool for one in due}
        lines = await jobs.lines(tx, sorted(names))
        pace = await known(tx)
        seen = [one for one in await pools.pools(tx) if one.pool.id in names]
    return decide(seen, due, lines, pace, now)


def decide(
    seen: Sequence[PoolSeen], due: Sequence[Due], lines: Sequence[Line], pace: Mapping[str, float], now: datetime
) -> list[Finding]:
    """One finding for each pool in which something will be late."""
    found = []
    for one in seen:
        mine = [due_one for due_one in due if due_one.pool == one.pool.id]
        ahead = [line for line in lines if line.pool == one.pool.id]
        late = [
            forecast
            for forecast in forecasts(one, mine, ahead, pace, now)
            if forecast.done_at is None or forecast.done_at > forecast.due.deadline
        ]
        if late:
            found.append(_late(one, late, now))
    return found


def forecasts(
    seen: PoolSeen, due: Sequence[Due], lines: Sequence[Line], pace: Mapping[str, float], now: datetime
) -> list[Forecast]:
    """For each helping of jobs that are due: whatever has no lower priority comes first, of what runs half is left.

    Algorithms whose pace nobody knows yet count nothing: a forecast says the least that it will take.
    """
    workers = _workers(seen)
    found = []
    for one in due:
        shares = [line.share for line in lines if line.priority >= one.priority]
        seconds = sum(
            (share.waiting + share.running / 2) * part(seen.size, share) * pace.get(share.algorithm, 0.0)
            for share in shares
        )
        takes = max(seconds / workers, pace.get(one.algorithm, 0.0)) if workers else math.inf
        done_at = now + timedelta(seconds=takes) if math.isfinite(takes) else None
        found.append(Forecast(one, timedelta(seconds=seconds), done_at))
    return found


def _workers(seen: PoolSeen) -> int:
    """As many as there can be."""
    live = seen.workers.get("live", 0)
    return max(live, seen.pool.max_workers) if seen.pool.provider else live


def _late(seen: PoolSeen, late: Sequence[Forecast], now: datetime) -> Finding:
    pool, first = seen.pool, min(late, key=lambda one: one.due.deadline)
    number, workers = sum(one.due.jobs for one in late), _workers(seen)
    done = f"will be done at about {iso(first.done_at)[:16]}Z" if first.done_at else "will never be done"
    left = max(1.0, (first.due.deadline - now).total_seconds())
    needed = max(1, math.ceil(first.work.total_seconds() / left))
    more = (
        f"Raise workers.max of pool {pool.id} to {needed:,} or more, then `armillary apply` it"
        if pool.provider
        else f"Start workers, so that it has {needed:,} or more"
    )
    until = iso(max(one.due.deadline for one in late))
    return Finding(
        subject=f"pool:{pool.id}",
        severity="warning",
        reason=f"{several(number, 'waiting job')} of pool {pool.id} will miss a deadline: the first are due at "
        f"{iso(first.due.deadline)[:16]}Z and {done}. {span(first.work)} of a worker's time come before, "
        f"for {several(workers, 'worker')} at most.",
        remedy=f"{more}; or let them go first: `armillary job priority --pool {pool.id} "
        f"--where \"state = 'queued' and deadline <= TIMESTAMP('{until}')\" {min(1000, first.due.priority + 100)}`.",
        group=seen.group,
    )


SWEEP = Sweep("backlog", "Jobs that wait and will miss their deadline.", timedelta(seconds=30), find)
