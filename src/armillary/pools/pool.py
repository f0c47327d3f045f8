"""Pool and Worker: the fleet that is wished, and the programs that make it up. Pure types and the document's check."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.base import units
from armillary.base.errors import UsageError
from armillary.base.ids import check_name
from armillary.pools.kinds import KINDS
from armillary.pools.options import Options
from armillary.pools.provider import StartState

WorkerState = Literal["live", "draining", "quarantined", "gone"]
PROTOCOLS = (1,)  # this server's, and the one before once there is one
MAX_WORKERS = 100_000
BEATS_PER_SECOND = 100  # of all workers together, a tenth of a core; a larger fleet beats more slowly
MISSED_BEATS = 3


@dataclass(frozen=True)
class Pulse:
    """How often a worker says that it lives, and how long it may be silent."""

    every: timedelta
    silent_after: timedelta


def pulse(workers: int, heartbeat: timedelta, time_to_live: timedelta) -> Pulse:
    """What a worker of a fleet of so many is told; the settings hold up to two hundred."""
    every = max(heartbeat, timedelta(seconds=workers / BEATS_PER_SECOND))
    return Pulse(every, max(time_to_live, MISSED_BEATS * every))


@dataclass(frozen=True)
class Scale:
    """How the number of workers follows the work."""

    idle_after: timedelta = timedelta(minutes=5)
    drain_within: timedelta = timedelta(minutes=30)
    preempt_after: timedelta | None = None  # a worker that is to leave may go on with its jobs for so long; for ever
    cost_per_hour: float = 0.0  # of one worker, in the site's currency
    max_cost_per_day: float | None = None


@dataclass(frozen=True)
class Pool:
    """A fleet as it is wished. Without a provider its workers are started by others."""

    id: str
    provider: str | None
    min_workers: int = 0
    max_workers: int = 1
    worker: Resources | None = None  # the size of each; what the machine has if none
    scale: Scale = Scale()
    options: Mapping[str, Any] = field(default_factory=dict)  # the provider's own, which it has checked
    walltime: timedelta | None = None  # after which its provider ends a worker


@dataclass(frozen=True)
class Arrival:
    """What a worker says when it registers."""

    host: str
    pid: int | None
    protocol: int
    capacity: Resources
    start: UUID | None = None
    ends_in: timedelta | None = None  # its provider ends it then


@dataclass(frozen=True)
class Worker:
    """A registered worker, as the pool's reconciler sees it."""

    id: UUID
    pool: str
    host: str
    pid: int | None
    state: WorkerState
    reason: str
    capacity: Resources
    registered_at: datetime
    beat_at: datetime
    idle_since: datetime | None
    ended_at: datetime | None
    ends_at: datetime | None = None


@dataclass(frozen=True)
class Seen:
    """A worker as an observer sees it."""

    id: UUID
    pool: str
    group: str
    host: str
    state: WorkerState
    reason: str
    silent_for: timedelta
    idle_for: timedelta | None
    capacity: Resources
    lost_jobs: int | None = None  # what it held when it died


@dataclass(frozen=True)
class MachineSeen:
    """A machine of a pool's workers, as they told of it last."""

    pool: str
    group: str
    host: str
    clock_ahead_seconds: float  # of the database's
    disk_free_bytes: int  # where jobs run
    disk_size_bytes: int


@dataclass(frozen=True)
class PoolSeen:
    """A pool as an observer sees it: its workers by state, and how large they are, if that is known."""

    pool: Pool
    group: str
    workers: Mapping[WorkerState, int]
    idle: int = 0  # of those that live
    size: Resources | None = None
    wanted: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Start:
    """A worker that a provider was asked to start; `reference` is the provider's name for it, once it has one."""

    id: UUID
    pool: str
    provider: str
    reference: str | None
    started_at: datetime
    worker_id: UUID | None
    worker_state: WorkerState | None
    is_idle: bool
    idle_for: timedelta | None
    state: StartState = "running"
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    age: timedelta = timedelta(0)
    host: str = ""


def read(document: Mapping[str, Any]) -> Pool:
    """The pool that a document describes; `UsageError` names the field that is wrong."""
    provider = document.get("provider", "local")
    if provider not in (*KINDS, "none"):
        raise UsageError(
            f"provider {provider!r} is not known.",
            f"Choose from: {', '.join(KINDS)}; or none for workers that you start.",
            field="provider",
        )
    own = [provider] if provider != "none" else []
    _known(document, ["kind", "id", "title", "description", "provider", "workers", "worker", "scale", *own], "")
    low, high = _workers(Options(document.get("workers"), "workers"))
    size = _size(Options(document.get("worker"), "worker"))
    options = document.get(provider)
    if own:
        KINDS[provider](options, Path())
    walltime = (options or {}).get("walltime")
    return Pool(
        id=check_name(str(document.get("id", ""))),
        provider=provider if own else None,
        min_workers=low,
        max_workers=high,
        worker=size,
        scale=_scale(Options(document.get("scale"), "scale")),
        options=options or {},
        walltime=None if walltime is None else units.duration(str(walltime)),
    )


def default_document(idle_workers: int) -> dict[str, Any]:
    """The pool that a new instance has: local processes, as large as the machine."""
    workers = {"min": idle_workers, "max": max(1, idle_workers)}
    return {"kind": "pool", "id": "default", "title": "This machine", "provider": "local", "workers": workers}


def fits(size: Resources, job: Resources) -> bool:
    """Whether a worker of this size could ever run the job; time is another thing."""
    return (
        job.cpu <= size.cpu
        and job.memory_bytes <= size.memory_bytes
        and job.disk_bytes <= size.disk_bytes
        and job.gpu <= size.gpu
    )


def serves(size: Resources, largest: Resources) -> bool:
    """Whether such a worker can run the largest job of a queue, in the time that it has."""
    # The queue holds CPUs as single precision: 0.1 of a job is a little more than 0.1 of a worker.
    return fits(replace(size, cpu=size.cpu * 1.000001), largest) and largest.time_seconds <= size.time_seconds


def _workers(part: Options) -> tuple[int, int]:
    low = part.whole("min", 0, 0, MAX_WORKERS)
    high = part.whole("max", max(1, low), 0, MAX_WORKERS)
    part.end()
    if low > high:
        raise UsageError(
            f"workers.min is {low}, more than workers.max ({high}).", "Exchange them.", field="workers.min"
        )
    return low, high


def _size(part: Options) -> Resources | None:
    cpu, memory, disk = part.number("cpu", None), part.size("memory"), part.size("disk")
    gpu = part.whole("gpu", 0, 0, 64)
    part.end()
    if cpu is None and memory is None and disk is None and not gpu:
        return None
    for name, value in (("cpu", cpu), ("memory", memory), ("disk", disk)):
        if value is None:
            path = part.path(name)
            raise UsageError(f"{path} is missing.", "Give cpu, memory and disk, or none of them.", field=path)
    assert cpu is not None
    assert memory is not None
    assert disk is not None
    return Resources(cpu, memory, disk, math.inf, gpu=gpu)


def _scale(part: Options) -> Scale:
    default = Scale()
    idle_after, drain_within = part.duration("idle_after"), part.duration("drain_within")
    scale = Scale(
        idle_after=default.idle_after if idle_after is None else idle_after,
        drain_within=default.drain_within if drain_within is None else drain_within,
        preempt_after=part.duration("preempt_after"),
        cost_per_hour=part.number("cost_per_hour", 0.0) or 0.0,
        max_cost_per_day=part.number("max_cost_per_day", None),
    )
    part.end()
    return scale


def _known(document: Mapping[str, Any], keys: Sequence[str], field: str) -> None:
    for key in document:
        if key not in keys:
            path = f"{field}.{key}".lstrip(".")
            close = get_close_matches(str(key), keys, 1)
            remedy = f"Did you mean {close[0]}?" if close else f"Choose from: {', '.join(keys)}."
            raise UsageError(f"{path} is not known here.", remedy, field=path)
