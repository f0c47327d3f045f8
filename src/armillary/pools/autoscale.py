"""How many workers should this pool have, and which may go? Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.jobs.queue import Demand
from armillary.pools.pool import Pool, Start


@dataclass(frozen=True)
class Plan:
    """What to change about a pool's workers, and why."""

    start: int = 0
    drain: tuple[UUID, ...] = ()  # workers
    reason: str = ""


def plan(pool: Pool, size: Resources, demand: Demand, starts: Sequence[Start], cost_today: float) -> Plan:
    """Grow at once when work waits; shrink by workers that have been idle for long enough."""
    staying = [start for start in starts if start.worker_state in (None, "live")]
    wanted = workers_wanted(pool, size, demand)
    if len(staying) < wanted:
        cap = pool.scale.max_cost_per_day
        if cap is not None and cost_today >= cap and len(staying) >= pool.min_workers:
            return Plan(reason=f"Costs of {cost_today:.2f} today have reached the cap of {cap:.2f}.")
        return Plan(start=wanted - len(staying), reason=f"{demand.waiting} jobs wait; {wanted} workers are wanted.")
    surplus = len(staying) - wanted
    # More than the pool may have (its document changed) need not idle first.
    patience = timedelta(0) if len(staying) > pool.max_workers else pool.scale.idle_after
    idle = [start for start in staying if start.is_idle and start.idle_for is not None and start.idle_for >= patience]
    # The newest go first: their caches are the emptiest.
    leaving = tuple(start.worker_id for start in reversed(idle) if start.worker_id)[:surplus]
    return Plan(drain=leaving, reason=f"{wanted} workers are wanted; these have nothing to do." if leaving else "")


def workers_wanted(pool: Pool, size: Resources, demand: Demand) -> int:
    """Enough to run all that waits and runs at once, and never more workers than jobs."""
    jobs = demand.waiting + demand.running
    shares = (
        _share(demand.cpu, size.cpu),
        _share(demand.memory_bytes, size.memory_bytes),
        _share(demand.disk_bytes, size.disk_bytes),
    )
    needed = min(jobs, max(math.ceil(share) for share in shares)) if jobs else 0
    return max(pool.min_workers, min(pool.max_workers, needed))


def _share(demand: float, size: float) -> float:
    return demand / size if size else 0.0
