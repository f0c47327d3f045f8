"""How many workers should this pool have, and which may go? Pure: the simulator and the server ask the same function."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.jobs.queue import Demand, Share
from armillary.pools.pool import Pool, Start

# What a job of an algorithm that never ended yet is taken to last, as a part of the time in which the queue is to drain.
UNKNOWN_PART = 0.25


@dataclass(frozen=True)
class Plan:
    """What to change about a pool's workers, and why."""

    start: int = 0
    drain: tuple[UUID, ...] = ()  # workers that finish what they run, and go
    cancel: tuple[UUID, ...] = ()  # starts that are still pending
    wanted: int = 0
    reason: str = ""


def plan(
    pool: Pool,
    size: Resources | None,
    demand: Demand,
    starts: Sequence[Start],
    cost_today: float,
    pace: Mapping[str, float],
) -> Plan:
    """Grow at once when work waits; shrink by workers that have been idle for long enough.

    `pace` is how many seconds a job of each algorithm takes. Only a day's budget that runs out, or a lowered maximum,
    makes a busy worker leave, and then it finishes what it runs.
    """
    staying = [start for start in starts if start.worker_state in (None, "live")]
    allowed = max(pool.min_workers, min(pool.max_workers, affordable(pool, cost_today)))
    needed, why = workers_needed(pool, size, demand, pace)
    wanted = max(pool.min_workers, min(allowed, needed))
    if wanted < min(needed, pool.max_workers):
        why += f" {cost_today:.2f} of {pool.scale.max_cost_per_day:.2f} are spent today, so {allowed} are allowed."
    elif needed > pool.max_workers:
        why += f" {pool.max_workers} are allowed."
    if len(staying) < wanted:
        return Plan(start=wanted - len(staying), wanted=wanted, reason=why)
    cancel, drain = _leaving(pool, staying, len(staying) - wanted, len(staying) - allowed)
    return Plan(drain=drain, cancel=cancel, wanted=wanted, reason=why)


def workers_needed(pool: Pool, size: Resources | None, demand: Demand, pace: Mapping[str, float]) -> tuple[int, str]:
    """Enough that what waits and runs ends within the target, never more than could run at once; and the reasoning."""
    target = max(1.0, pool.scale.drain_within.total_seconds())
    shares = [share for share in demand.algorithms if _fits(size, share)]
    if not any(share.jobs for share in shares):
        unfit = sum(share.waiting for share in demand.algorithms)
        return 0, f"{unfit} jobs wait that no worker is large enough for." if unfit else "Nothing waits."
    at_once = sum(share.jobs * part(size, share) for share in shares)
    # Of what runs, half is left to do on average.
    work = sum(
        (share.waiting + share.running / 2) * part(size, share) * pace.get(share.algorithm, UNKNOWN_PART * target)
        for share in shares
    )
    needed = max(1, min(math.ceil(at_once - 1e-9), math.ceil(work / target - 1e-9)))
    waiting, running = (sum(getattr(share, name) for share in shares) for name in ("waiting", "running"))
    return needed, (
        f"{waiting} jobs wait and {running} run: {_hours(work)} of a worker's time, "
        f"to be done within {_hours(target)}: {needed} workers."
    )


def affordable(pool: Pool, cost_today: float) -> int:
    """How many workers today's budget pays for as long as the queue may take to drain, an hour at the least."""
    cap, price = pool.scale.max_cost_per_day, pool.scale.cost_per_hour
    if cap is None or not price:
        return pool.max_workers
    hours = max(1.0, pool.scale.drain_within.total_seconds() / 3600)
    return max(0, int((cap - cost_today) / (price * hours) + 1e-9))


def _leaving(
    pool: Pool, staying: Sequence[Start], surplus: int, excess: int
) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    """Starts to cancel and workers to drain: those too many that are idle, and whoever it takes above what is allowed."""
    # The newest go first: their caches are the emptiest.
    newest = list(reversed(staying))
    pending = [one for one in newest if one.worker_id is None and one.state == "pending"]
    idle = [one for one in newest if one.worker_id is not None and one.is_idle]
    busy = [one for one in newest if one.worker_id is not None and not one.is_idle]
    leaving = [*pending, *idle, *busy][: max(0, excess)]
    patience = pool.scale.idle_after
    patient = [one for one in pending if one.age >= patience]
    patient += [one for one in idle if one.idle_for is not None and one.idle_for >= patience]
    leaving += [one for one in patient if one not in leaving][: max(0, surplus - len(leaving))]
    return (
        tuple(one.id for one in leaving if one.worker_id is None),
        tuple(one.worker_id for one in leaving if one.worker_id is not None),
    )


def part(size: Resources | None, share: Share) -> float:
    """The part of a worker that a job of this algorithm takes, as jobs of its size pack."""
    if size is None or not share.jobs:
        return 1.0
    whole = (size.cpu, size.memory_bytes, size.disk_bytes, size.gpu)
    taken = (share.cpu, share.memory_bytes, share.disk_bytes, share.gpu)
    largest = max(one / share.jobs / all_ for one, all_ in zip(taken, whole, strict=True) if all_)
    return 1 / max(1, math.floor(1 / largest + 1e-9)) if largest > 0 else 0.0


def _fits(size: Resources | None, share: Share) -> bool:
    if size is None or not share.jobs:
        return True
    whole = (size.cpu, size.memory_bytes, size.disk_bytes, size.gpu)
    taken = (share.cpu, share.memory_bytes, share.disk_bytes, share.gpu)
    # By the mean: a few that grew out of their worker must not hide the others.
    return all(one / share.jobs <= all_ * 1.000001 for one, all_ in zip(taken, whole, strict=True))


def _hours(seconds: float) -> str:
    text = str(timedelta(seconds=round(seconds)))
    return text if seconds >= 3600 else f"{seconds / 60:.1f} min"
