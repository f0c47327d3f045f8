"""The queue: lease jobs to a worker, keep the leases, take them back. A lease is fenced by the job and its number."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.algorithms.algorithm import ErrorClass, Registered, Resources
from armillary.algorithms.register import by_digest
from armillary.base.db import Row, Transaction
from armillary.base.wakes import COMMANDS, JOBS, QUEUE
from armillary.granules import find
from armillary.granules.granule import Granule, Reference, retired
from armillary.jobs import depend, retry, store
from armillary.jobs.cost import Price
from armillary.jobs.job import AttemptOutcome, Ending, Held, JobState, Stop

MAX_LEASES = 200  # in one call
NOTHING = Resources(0, 0, 0, 0)
# How an attempt ends that was stopped at its job's deadline, whatever its worker says.
LATE: Mapping[str, Any] = {
    "outcome": AttemptOutcome.FAILED,
    "state": JobState.FAILED,
    "error_class": ErrorClass.TIMED_OUT,
    "job_reason": "Its deadline passed while it ran.",
}


@dataclass(frozen=True)
class LeasedInput:
    """A granule that the job reads."""

    role: str
    reference: Reference
    granule: Granule


@dataclass(frozen=True)
class Checkpoint:
    """What an earlier attempt left to go on from."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Waiting:
    """A job that could run now."""

    job: UUID
    needs: Resources


@dataclass(frozen=True)
class Lease:
    """The right, and all that is needed, to run a job."""

    job_id: UUID
    number: int
    leased_at: datetime
    registered: Registered
    parameters: dict[str, Any]
    inputs: Sequence[LeasedInput]
    resources: Resources
    checkpoint: Checkpoint | None
    group: str


@dataclass(frozen=True)
class Beat:
    """What a worker says of a job that it runs."""

    job_id: UUID
    lease: int
    progress: Mapping[str, Any] | None = None
    started_at: datetime | None = None


@dataclass(frozen=True)
class Orders:
    """What a worker is to do: stop these, and kill those that it no longer holds."""

    stop: Sequence[tuple[UUID, int, Stop]]
    gone: Sequence[tuple[UUID, int]]


@dataclass(frozen=True)
class Demand:
    """What a pool has to do now: jobs that wait or run, what they need in all, and the most that one waiting needs."""

    waiting: int = 0
    running: int = 0
    cpu: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    largest: Resources = NOTHING
    gpu: int = 0
    algorithms: tuple["Share", ...] = ()


@dataclass(frozen=True)
class Share:
    """The part of a pool's work that is of one algorithm; resources are the sums of all its jobs, as in `Demand`."""

    algorithm: str
    waiting: int
    running: int
    cpu: float
    memory_bytes: int
    disk_bytes: int
    gpu: int

    largest: Resources = NOTHING  # the most that one waiting needs
    oldest: datetime | None = None  # since when the one that waits longest could run

    @property
    def jobs(self) -> int:
        """Those that wait and those that run."""
        return self.waiting + self.running


async def lease(
    tx: Transaction,
    worker_id: UUID,
    host: str,
    pool: str,
    free: Resources,
    count: int,
    price: Price | None = None,
    *,
    in_turn: bool = False,
    only: UUID | None = None,
) -> list[Lease]:
    """Give the worker up to `count` jobs that together fit into what it has free; the caller has locked the worker.

    `in_turn`: each fits by itself, as the worker will run them one after another. `only`: this job, or none.
    """
    size = price.size if price else NOTHING
    costs = {"price": price and price.per_hour, "all_cpu": size.cpu, "all_gpu": size.gpu}
    costs |= {"all_memory": size.memory_bytes, "all_disk": size.disk_bytes}
    rows = await store.lease(
        tx, worker_id, host, pool, free, min(count, MAX_LEASES), costs | {"in_turn": in_turn, "only": only}
    )
    if not rows:
        return []
    tx.wake(JOBS)
    references = {Reference(*one[1:]) for row in rows for one in row["inputs"] or ()}
    granules = await find.at_revisions(tx, list(references)) if references else {}
    leases = []
    for row in rows:
        inputs = [(role, Reference(*rest)) for role, *rest in row["inputs"] or ()]
        if reason := _unreadable([reference for _, reference in inputs], granules):
            await _fail_unreadable(tx, row["id"], reason)
            continue
        leases.append(
            Lease(
                job_id=row["id"],
                number=row["lease"],
                leased_at=row["leased_at"],
                registered=await by_digest(tx, row["algorithm_digest"]),
                parameters=row["parameters"],
                inputs=[LeasedInput(role, reference, _needed(granules[reference])) for role, reference in inputs],
                resources=Resources(**row["resources"]),
                checkpoint=_checkpoint(row),
                group=row["group"],
            )
        )
    return leases


async def beat(tx: Transaction, worker_id: UUID, beats: Sequence[Beat], forgotten_after: timedelta) -> Orders:
    """Compare what a worker runs with what it holds.

    A lease that it does not know (the answer that gave it was lost) goes back after a while.
    """
    held = {(row["job_id"], row["lease"]): row for row in await store.leases_of(tx, worker_id)}
    said = {(one.job_id, one.lease) for one in beats}
    forgotten = [pair for pair, row in held.items() if pair not in said and row["age"] > forgotten_after]
    if forgotten:
        await give_back(tx, worker_id, forgotten, "Its worker never took it up.")
    news = [one for one in beats if (one.job_id, one.lease) in held and (one.progress is not None or one.started_at)]
    if news:
        await store.progress(tx, worker_id, [_news(one) for one in news])
        if any(one.progress is not None for one in news):
            tx.wake(JOBS)
    return Orders(
        stop=[(*pair, _order(row["stop"])) for pair, row in held.items() if row["stop"] and pair not in forgotten],
        gone=[pair for pair in said if pair not in held],
    )


async def orders(tx: Transaction, worker_id: UUID) -> list[tuple[UUID, int, Stop]]:
    """What a worker is asked to stop."""
    held = await store.leases_of(tx, worker_id)
    return [(row["job_id"], row["lease"], _order(row["stop"])) for row in held if row["stop"]]


async def ordered(tx: Transaction) -> list[UUID]:
    """Workers that are asked to stop something."""
    return await store.workers_to_stop(tx)


async def holds(tx: Transaction, worker_id: UUID, pairs: Sequence[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
    """Those of these leases that the worker holds, locked until the transaction ends."""
    found = await store.lock_leases(tx, [job for job, _ in pairs])
    return {pair for pair in pairs if is_holder(found.get(pair[0]), worker_id, pair[1])}


def is_holder(held: Held | None, worker_id: UUID, number: int) -> bool:
    """The fence: only the holder of the current number may report."""
    return held is not None and held.worker_id == worker_id and held.lease == number


async def give_back(tx: Transaction, worker_id: UUID, pairs: Sequence[tuple[UUID, int]], reason: str) -> int:
    """A worker hands leases back; nothing is counted against their jobs."""
    found = await store.lock_leases(tx, [job for job, _ in pairs])
    held = [found[job] for job, number in pairs if is_holder(found.get(job), worker_id, number)]
    return await _take_back(tx, held, ErrorClass.PREEMPTED, reason)


async def give_back_all(tx: Transaction, worker_id: UUID, reason: str) -> int:
    """A worker leaves and hands back what it holds."""
    held = await store.lock_leases_of(tx, [worker_id])
    return await _take_back(tx, list(held.values()), ErrorClass.PREEMPTED, reason)


async def lose(tx: Transaction, workers: Sequence[UUID], reason: str) -> int:
    """Take every lease from workers that are gone; their late reports will be refused."""
    held = await store.lock_leases_of(tx, workers)
    return await _take_back(tx, list(held.values()), ErrorClass.LOST, reason)


async def running(tx: Transaction, workers: Sequence[UUID]) -> dict[UUID, int]:
    """How many jobs each of these workers holds."""
    return await store.running(tx, workers)


async def holders(tx: Transaction) -> list[UUID]:
    """Workers that hold a lease."""
    return await store.holders(tx)


async def preempt(tx: Transaction, worker_id: UUID) -> None:
    """Ask a worker to give up what it runs; the jobs go on elsewhere, from their checkpoints."""
    if await store.preempt(tx, worker_id):
        tx.wake(COMMANDS)


async def demand(tx: Transaction) -> dict[str, Demand]:
    """What waits and what runs, per pool."""
    rows: dict[str, list[Row]] = {}
    for row in await store.demand(tx):
        rows.setdefault(row["pool"], []).append(row)
    return {pool: _demand(parts) for pool, parts in rows.items()}


def _demand(rows: Sequence[Row]) -> Demand:
    shares = tuple(_share(row) for row in rows)
    largest = {name: max(getattr(share.largest, name) for share in shares) for name in _LARGEST}
    names = ("waiting", "running", "cpu", "memory_bytes", "disk_bytes", "gpu")
    total = {name: sum(getattr(share, name) for share in shares) for name in names}
    return Demand(**total, largest=Resources(**largest), algorithms=shares)


def _share(row: Row) -> Share:
    names = ("algorithm", "waiting", "running", "cpu", "memory_bytes", "disk_bytes", "gpu", "oldest")
    largest = Resources(**{name: row[column] for name, column in _LARGEST.items()})
    return Share(**{name: row[name] for name in names}, largest=largest)


_LARGEST = {
    "cpu": "largest_cpu",
    "memory_bytes": "largest_memory_bytes",
    "disk_bytes": "largest_disk_bytes",
    "gpu": "largest_gpu",
    "time_seconds": "largest_seconds",
}


async def explain_unfit(tx: Transaction, pool: str, size: Resources, reason: str) -> None:
    """Give every waiting job that no worker of this size can run the reason why it waits."""
    if await store.explain_unfit(tx, pool, size, reason):
        tx.wake(JOBS)


async def first_waiting(tx: Transaction, pool: str, limit: int) -> list[Waiting]:
    """The first jobs of a pool's queue that could run now."""
    return [Waiting(row["job_id"], _needs(row)) for row in await store.first_waiting(tx, pool, limit)]


async def held(tx: Transaction, workers: Sequence[UUID]) -> dict[UUID, Resources]:
    """What the jobs of these workers hold of them together."""
    return {row["worker_id"]: _needs(row) for row in await store.held(tx, workers)}


async def explain_waiting(tx: Transaction, job: UUID, reason: str) -> bool:
    """Say why a job waits, and keep it from being leased before the transaction ends; false if it is being changed."""
    if not await store.lock_waiting(tx, job):
        return False
    await store.explain(tx, {job: reason})
    tx.wake(JOBS)
    return True


def _needs(row: Row) -> Resources:
    return Resources(row["cpu"], row["memory_bytes"], row["disk_bytes"], row["needs_seconds"], gpu=row["gpu"])


async def referred(tx: Transaction, references: Sequence[Reference]) -> set[Reference]:
    """Those revisions that a live job refers to: retention must leave them."""
    return await store.live_references(tx, references)


async def elsewhere(tx: Transaction, pool: str, wished: str | None) -> tuple[str | None, str]:
    """The pool where a job is tried again, if it is another that there is, and what is to be said of it."""
    if wished is None or wished == pool:
        return None, ""
    if await store.has_pool(tx, wished):
        return wished, f" It moves to pool {wished}."
    return None, f" It would move to pool {wished}, but there is none."


def _order(stop: Stop) -> Stop:
    """What a worker is told: that time is over is told it as a cancellation."""
    return "cancel" if stop == "deadline" else stop


async def _take_back(tx: Transaction, held: Sequence[Held], error_class: ErrorClass, reason: str) -> int:
    if not held:
        return 0
    endings = [await _interrupted(tx, one, error_class, reason) for one in held]
    await store.end(tx, endings)
    await depend.settle(tx, [(one.held.job_id, one.state) for one in endings if not one.state.is_live])
    for channel in (QUEUE, JOBS):
        tx.wake(channel)
    return len(held)


async def _interrupted(tx: Transaction, held: Held, error_class: ErrorClass, reason: str) -> Ending:
    """The end of an attempt that never finished: its job goes back, or is cancelled if that was asked."""
    outcome = AttemptOutcome.LOST if error_class is ErrorClass.LOST else AttemptOutcome.PREEMPTED
    if held.stop == "cancel":
        return Ending(held, outcome, JobState.CANCELLED, reason, "Cancelled; its worker did not answer any more.",
                      ErrorClass.CANCELLED, failures=held.failures)  # fmt: skip
    if held.stop == "deadline":
        return replace(Ending(held, outcome, JobState.FAILED, reason, "", failures=held.failures), **LATE)
    policy = (await by_digest(tx, held.algorithm_digest)).algorithm.retry
    decision = retry.decide(
        policy,
        error_class,
        attempt=held.lease,
        failures=held.failures,
        resources=held.resources,
        jitter=random.random(),
    )
    assert isinstance(decision, retry.Retry), "loss and preemption are always tried again"
    pool, moved = await elsewhere(tx, held.pool, decision.pool)
    return Ending(
        held,
        outcome,
        JobState.QUEUED,
        reason,
        f"{reason} {decision.reason}{moved}",
        error_class,
        failures=decision.failures,
        delay_seconds=decision.delay_seconds,
        resources=decision.resources,
        pool=pool,
    )


def _unreadable(inputs: Sequence[Reference], granules: Mapping[Reference, Granule]) -> str | None:
    """Why inputs cannot be read, if one cannot: a job that was tried again long after may find some gone."""
    for one in inputs:
        if one not in granules:
            return f"Its input {one} revision {one.revision} is no longer catalogued."
        if granules[one].discarded_at:
            return f"Its input is gone. {retired(granules[one])}"
    return None


def _needed(granule: Granule) -> Granule:
    """A revision that was retired in the moment of its job's submission is there for that job; the next sweep says so too."""
    return replace(granule, retired_at=None)


async def _fail_unreadable(tx: Transaction, job: UUID, reason: str) -> None:
    held = (await store.lock_leases(tx, [job]))[job]
    ending = Ending(
        held,
        AttemptOutcome.FAILED,
        JobState.FAILED,
        reason,
        reason,
        ErrorClass.INPUT_MISSING,
        failures=held.failures + 1,
    )
    await store.end(tx, [ending])
    await depend.settle(tx, [(job, JobState.FAILED)])


def _checkpoint(row: Row) -> Checkpoint | None:
    if row["checkpoint_key"] is None:
        return None
    return Checkpoint(row["checkpoint_key"], row["checkpoint_sha256"], row["checkpoint_size"])


def _news(one: Beat) -> dict[str, Any]:
    return {
        "job": str(one.job_id),
        "lease": one.lease,
        "progress": one.progress,
        "started_at": one.started_at.isoformat() if one.started_at else None,
    }
