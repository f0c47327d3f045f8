"""Job: one piece of work with its states, attempts and reasons. Pure types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from armillary.algorithms.algorithm import EXIT_CODES as EXIT_CODES
from armillary.algorithms.algorithm import ErrorClass as ErrorClass
from armillary.algorithms.algorithm import Resources
from armillary.granules.granule import Committed, Reference

Twins = Literal["share", "reuse", "again"]
Stop = Literal["cancel", "preempt", "deadline"]
OnFailure = Literal["cancel", "hold", "run"]
OnDeadline = Literal["fail", "warn"]
DEFAULT_POOL = "default"
CURRENT = 0  # a reference to this revision means the one that is current when the job is submitted


class JobState(StrEnum):
    """Where a job stands."""

    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_live(self) -> bool:
        """Whether something may still happen to it by itself or on release."""
        return self in (JobState.HELD, JobState.QUEUED, JobState.RUNNING)


# Which state may follow which; the database's table job_transition says the same, and a test compares them.
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.HELD: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.FAILED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED, JobState.HELD}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.HELD}),
    JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.HELD}),
}


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    PREEMPTED = "preempted"


@dataclass(frozen=True)
class JobRequest:
    """What is asked for. Inputs by role; a reference to revision `CURRENT` takes the current one.

    It waits for the jobs in `after`; `on_failure` says what becomes of it if one of them does not succeed. A deadline that is a
    length of time counts from the submission.
    """

    algorithm: str
    version: str | None = None
    inputs: Mapping[str, Sequence[Reference]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pool: str = DEFAULT_POOL
    priority: int = 0
    twins: Twins = "reuse"
    hold: bool = False
    after: Sequence[UUID] = ()
    on_failure: OnFailure = "cancel"
    deadline: datetime | timedelta | None = None
    on_deadline: OnDeadline = "fail"
    cause: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobKey:
    """A job that a submission made or found."""

    id: UUID
    state: JobState


@dataclass(frozen=True)
class Submission:
    """What became of a request, and why."""

    job: JobKey
    outcome: Literal["submitted", "shared", "reused"]
    reason: str


@dataclass(frozen=True)
class Held:
    """A live job that is leased: what its fence and its next step need."""

    job_id: UUID
    lease: int
    worker_id: UUID
    leased_at: datetime
    stop: Stop | None
    algorithm: str
    algorithm_version: str
    algorithm_digest: str
    parameters: dict[str, Any]
    resources: Resources
    failures: int
    pool: str
    group: str
    created_by: str
    cause: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a worker says of an attempt that ended."""

    job_id: UUID
    lease: int
    outcome: AttemptOutcome
    error_class: ErrorClass | None = None
    reason: str = ""
    remedy: str = ""
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    outputs: Sequence["ReportedOutput"] = ()


@dataclass(frozen=True)
class ReportedOutput:
    """One granule that the attempt made, as its commit (checked against the store before any transaction)."""

    output: str
    commit: Any  # granules.ingest.Prepared, or the ArmillaryError that preparing it met


@dataclass(frozen=True)
class MadeOutput:
    """One granule that was committed with the job's success."""

    output: str
    committed: Committed


@dataclass(frozen=True)
class Ending:
    """What is written of one attempt's end, and what its job becomes."""

    held: Held
    outcome: AttemptOutcome
    state: JobState
    reason: str  # of the attempt
    job_reason: str  # of the job's new state
    error_class: ErrorClass | None = None
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    failures: int = 0
    delay_seconds: float = 0.0  # until the next attempt, if there is one
    resources: Resources | None = None  # of the next attempt
    pool: str | None = None  # of the next attempt, if it is another
    outputs: Sequence[MadeOutput] = ()


@dataclass(frozen=True)
class Result:
    """What became of one report."""

    job_id: UUID
    lease: int
    outcome: Literal["recorded", "refused", "problem"]
    reason: str = ""
    problem: Mapping[str, Any] | None = None
    ending: Ending | None = None  # what was written, if it was this report that was recorded


def resources_json(resources: Resources) -> dict[str, Any]:
    """Resources as they are stored and sent."""
    return {
        "cpu": resources.cpu,
        "memory_bytes": resources.memory_bytes,
        "disk_bytes": resources.disk_bytes,
        "time_seconds": resources.time_seconds,
        "soft_time_seconds": resources.soft_time_seconds,
        "gpu": resources.gpu,
        "resumable": resources.resumable,
    }
