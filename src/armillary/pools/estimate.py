"""What work would cost: how long work like it took, times its share of a worker, times the price of its pool."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Registered, Resources
from armillary.algorithms.register import resolve
from armillary.base.db import Transaction
from armillary.jobs import estimate as jobs
from armillary.jobs.cost import share
from armillary.jobs.estimate import History, known
from armillary.jobs.job import JobRequest
from armillary.pools import define
from armillary.pools.pool import read
from armillary.pools.reconcile import worker_size


@dataclass(frozen=True)
class Load:
    """So many jobs of one version of an algorithm in one pool."""

    algorithm: str
    version: str | None
    pool: str
    jobs: int


@dataclass(frozen=True)
class Estimate:
    """What one load would take and cost; the times are of one job, with all its attempts."""

    load: Load
    registered: Registered
    history: History | None
    price_per_hour: float  # of a whole worker
    size: Resources | None  # of a worker, if that is known

    @property
    def limit_seconds(self) -> float:
        """The longest that one attempt may take."""
        return self.registered.algorithm.resources.time_seconds

    @property
    def share(self) -> float:
        """Of a worker; a whole one where its size is not known."""
        return share(self.registered.algorithm.resources, self.size) if self.size else 1.0

    def cost(self, seconds: float) -> float | None:
        """What a job that takes so long costs, if its pool has a price."""
        return seconds / 3600 * self.share * self.price_per_hour if self.price_per_hour else None

    @property
    def basis(self) -> str:
        """On what it rests, in words."""
        algorithm = self.registered.algorithm
        said = known(self.history, algorithm.id, algorithm.version, self.limit_seconds, algorithm.retry.attempts)
        if not self.price_per_hour:
            return f"{said} Pool {self.load.pool} has no price (scale.cost_per_hour)."
        size = "" if self.size else f", counted whole as no worker of pool {self.load.pool} has said its size"
        return f"{said} {self.price_per_hour:g} an hour, of which it holds {self.share:.0%}{size}."


async def of_loads(tx: Transaction, actor: Actor, loads: Iterable[Load]) -> list[Estimate]:
    """An estimate for each."""
    return [await _estimate(tx, actor, load) for load in loads]


async def of_requests(
    tx: Transaction, actor: Actor, requests: Sequence[JobRequest]
) -> tuple[list[Any], list[Estimate]]:
    """What each submission would come to, and estimates of those that would run."""
    outcomes = await jobs.foresee(tx, actor, requests)
    counts: dict[tuple[str, str | None, str], int] = {}
    for request, outcome in zip(requests, outcomes, strict=True):
        key = request.algorithm, request.version, request.pool
        counts[key] = counts.get(key, 0) + (outcome.outcome == "submitted")
    loads = [Load(*key, count) for key, count in counts.items()]
    return outcomes, await of_loads(tx, actor, loads)


def total(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """All together: a sum that lacks something says so by being none."""
    runs = [one for one in estimates if one.load.jobs]
    return {
        "jobs": sum(one.load.jobs for one in runs),
        "seconds": _sum(one.load.jobs * one.history.mean_seconds if one.history else None for one in runs),
        "cost": _sum(_scaled(one, one.history.mean_seconds if one.history else None) for one in runs),
        "cost_p90": _sum(_scaled(one, one.history.p90_seconds if one.history else None) for one in runs),
        "cost_limit": _sum(_scaled(one, one.limit_seconds) for one in runs),
    }


def shown(estimate: Estimate) -> dict[str, Any]:
    """On the wire."""
    history = estimate.history
    seconds = (
        {"mean": history.mean_seconds, "median": history.median_seconds, "p90": history.p90_seconds} if history else {}
    ) | ({"limit": estimate.limit_seconds} if math.isfinite(estimate.limit_seconds) else {})
    return {
        "algorithm": estimate.registered.algorithm.id,
        "version": estimate.registered.algorithm.version,
        "pool": estimate.load.pool,
        "jobs": estimate.load.jobs,
        "runs": history.runs if history else 0,
        "price_per_hour": estimate.price_per_hour or None,
        "share": estimate.share,
        "seconds": seconds,
        "cost": {name: estimate.cost(value) for name, value in seconds.items()},
        "basis": estimate.basis,
    }


async def _estimate(tx: Transaction, actor: Actor, load: Load) -> Estimate:
    registered = await resolve(tx, actor, load.algorithm, load.version)
    pool = read((await define.row(tx, actor, load.pool))["spec"])
    size = await worker_size(tx, pool)
    return Estimate(load, registered, await jobs.history(tx, actor, registered), pool.scale.cost_per_hour, size)


def _scaled(estimate: Estimate, seconds: float | None) -> float | None:
    cost = estimate.cost(seconds) if seconds is not None and math.isfinite(seconds) else None
    return None if cost is None else estimate.load.jobs * cost


def _sum(parts: Iterable[float | None]) -> float | None:
    known_parts = list(parts)
    return None if None in known_parts else sum(part for part in known_parts if part is not None)
