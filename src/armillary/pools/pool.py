"""Pool and Worker: the fleet that is wished, and the programs that make it up. Pure types and the document's check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Literal
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.base import units
from armillary.base.errors import UsageError
from armillary.base.ids import check_name

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


@dataclass(frozen=True)
class Arrival:
    """What a worker says when it registers."""

    host: str
    pid: int | None
    protocol: int
    capacity: Resources
    start: UUID | None = None


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


def read(document: Mapping[str, Any]) -> Pool:
    """The pool that a document describes; `UsageError` names the field that is wrong."""
    _known(document, ["kind", "id", "title", "description", "provider", "workers", "worker", "scale"], "")
    provider = document.get("provider", "local")
    if provider not in ("local", "none"):
        raise UsageError(
            f"provider {provider!r} is not known.",
            "Choose local, or none for workers that you start.",
            field="provider",
        )
    low, high = _workers(_part(document, "workers"))
    return Pool(
        id=check_name(str(document.get("id", ""))),
        provider=None if provider == "none" else provider,
        min_workers=low,
        max_workers=high,
        worker=_size(_part(document, "worker")),
        scale=_scale(_part(document, "scale")),
    )


def default_document(idle_workers: int) -> dict[str, Any]:
    """The pool that a new instance has: local processes, as large as the machine."""
    workers = {"min": idle_workers, "max": max(1, idle_workers)}
    return {"kind": "pool", "id": "default", "title": "This machine", "provider": "local", "workers": workers}


def fits(size: Resources, job: Resources) -> bool:
    """Whether a worker of this size could ever run the job."""
    return job.cpu <= size.cpu and job.memory_bytes <= size.memory_bytes and job.disk_bytes <= size.disk_bytes


def _workers(part: Mapping[str, Any]) -> tuple[int, int]:
    _known(part, ["min", "max"], "workers")
    low = _whole(part.get("min", 0), "workers.min")
    high = _whole(part.get("max", max(1, low)), "workers.max")
    if low > high:
        raise UsageError(
            f"workers.min is {low}, more than workers.max ({high}).", "Exchange them.", field="workers.min"
        )
    return low, high


def _size(part: Mapping[str, Any]) -> Resources | None:
    _known(part, ["cpu", "memory", "disk"], "worker")
    if not part:
        return None
    for name in ("cpu", "memory", "disk"):
        if name not in part:
            raise UsageError(
                f"worker.{name} is missing.", "Give cpu, memory and disk, or none of them.", field=f"worker.{name}"
            )
    memory, disk = (units.size(part[name], f"worker.{name}") for name in ("memory", "disk"))
    return Resources(_positive(part["cpu"], "worker.cpu"), memory, disk, 0)


def _scale(part: Mapping[str, Any]) -> Scale:
    _known(part, ["idle_after", "drain_within", "cost_per_hour", "max_cost_per_day"], "scale")
    default = Scale()
    cap = part.get("max_cost_per_day")
    return Scale(
        idle_after=units.duration(str(part["idle_after"]), "scale.idle_after")
        if "idle_after" in part
        else default.idle_after,
        drain_within=units.duration(str(part["drain_within"]), "scale.drain_within")
        if "drain_within" in part
        else default.drain_within,
        cost_per_hour=_positive(part["cost_per_hour"], "scale.cost_per_hour") if "cost_per_hour" in part else 0.0,
        max_cost_per_day=None if cap is None else _positive(cap, "scale.max_cost_per_day"),
    )


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name) or {}
    if not isinstance(part, Mapping):
        raise UsageError(f"{name} is not a mapping.", f"Write {name}: {{…}}.", field=name)
    return part


def _known(part: Mapping[str, Any], keys: Sequence[str], field: str) -> None:
    for key in part:
        if key not in keys:
            path = f"{field}.{key}".lstrip(".")
            close = get_close_matches(str(key), keys, 1)
            remedy = f"Did you mean {close[0]}?" if close else f"Choose from: {', '.join(keys)}."
            raise UsageError(f"{path} is not known here.", remedy, field=path)


def _whole(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WORKERS:
        raise UsageError(f"{field} is {value!r}.", f"Write a whole number from 0 to {MAX_WORKERS}.", field=field)
    return value


def _positive(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise UsageError(f"{field} is {value!r}.", "Write a number, 0 or more.", field=field)
    return value
