"""Algorithm: one version of something that can be run, what it takes, what it makes and what it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal


class ErrorClass(StrEnum):
    """Why an attempt failed; the class decides whether it is worth another."""

    INPUT_MISSING = "input missing"
    SCIENCE_ERROR = "science error"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_DISK = "out of disk"
    TIMED_OUT = "timed out"
    PREEMPTED = "preempted"
    LOST = "lost"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"


# What says nothing about the worker that it happened on: the job asked for too little, or it was stopped.
BLAMELESS = frozenset(
    {ErrorClass.OUT_OF_MEMORY, ErrorClass.TIMED_OUT, ErrorClass.PREEMPTED, ErrorClass.LOST, ErrorClass.CANCELLED}
)
HANDFUL = 3  # other failures of different jobs in a row, after which a worker is judged and takes nothing ahead

# What an algorithm may say by its exit code; any other code than 0 is a science error.
EXIT_CODES: Mapping[int, ErrorClass] = {
    10: ErrorClass.INPUT_MISSING,
    11: ErrorClass.SCIENCE_ERROR,
    12: ErrorClass.OUT_OF_MEMORY,
    13: ErrorClass.OUT_OF_DISK,
    14: ErrorClass.TIMED_OUT,
    15: ErrorClass.PREEMPTED,
    16: ErrorClass.INFRASTRUCTURE,
}


def class_of_exit(code: int) -> ErrorClass | None:
    """The error class that an exit code stands for; none for success."""
    return None if code == 0 else EXIT_CODES.get(code, ErrorClass.SCIENCE_ERROR)


@dataclass(frozen=True)
class Input:
    """A role that granules play in the job; one that names no collection takes any."""

    role: str
    collections: tuple[str, ...]
    many: bool = False
    optional: bool = False
    is_ordered: bool = False  # the order of `many` matters, so it counts in what makes two jobs the same


@dataclass(frozen=True)
class Output:
    """Granules that the job makes."""

    name: str
    collection: str
    many: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Resources:
    """What one attempt is granted."""

    cpu: float = 1.0
    memory_bytes: int = 2**30
    disk_bytes: int = 2**30
    time_seconds: float = 3600.0  # it is killed after so long
    soft_time_seconds: float | None = None  # it is asked to stop, and may save what it has, after so long
    gpu: int = 0
    resumable: bool = False  # it goes on from its checkpoint, so its worker may end before its time does

    def grown(self, memory: float = 1.0, disk: float = 1.0, time: float = 1.0) -> "Resources":
        """The same times these factors."""
        return replace(
            self,
            memory_bytes=round(self.memory_bytes * memory),
            disk_bytes=round(self.disk_bytes * disk),
            time_seconds=self.time_seconds * time,
            soft_time_seconds=self.soft_time_seconds * time if self.soft_time_seconds else None,
        )


@dataclass(frozen=True)
class ClassPolicy:
    """What follows a failure of one class; what is not said here is as for the others."""

    attempts: int | None = None  # a budget of its own
    delay_seconds: float | None = None
    grow_memory: float = 1.0
    grow_disk: float = 1.0
    grow_time: float = 1.0
    pool: str | None = None  # where it is tried again


@dataclass(frozen=True)
class RetryPolicy:
    """Which failures are worth another attempt, how often and how; preemption and loss always are, uncounted."""

    attempts: int = 3  # failures allowed, of all classes that have no budget of their own together
    on: Mapping[ErrorClass, ClassPolicy] = field(default_factory=lambda: {ErrorClass.INFRASTRUCTURE: ClassPolicy()})
    delay_seconds: float = 10.0
    longest_delay_seconds: float = 600.0

    def shares_budget(self, one: ErrorClass, other: ErrorClass) -> bool:
        """Whether failures of both classes are counted together."""
        own = [one_of for one_of, policy in self.on.items() if policy.attempts is not None]
        return one == other or (one not in own and other not in own)

    @property
    def has_budgets(self) -> bool:
        """Whether it matters of which classes earlier failures were."""
        return any(policy.attempts is not None for policy in self.on.values())


@dataclass(frozen=True)
class KeepPolicy:
    """Whether an attempt's folder is kept to be looked at, how long, and how much of it."""

    on: Literal["failure", "always", "never"] = "failure"
    for_seconds: float = 86400.0
    most_bytes: int = 64 * 2**20

    def applies(self, *, failed: bool) -> bool:
        """Whether an attempt that ended so is kept."""
        return self.on == "always" or (self.on == "failure" and failed)


@dataclass(frozen=True)
class Algorithm:
    """One checked version; `spec` is the document that people wrote."""

    id: str
    version: str
    title: str
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    parameters: Mapping[str, Any]  # JSON Schema properties
    resources: Resources
    retry: RetryPolicy
    environment: Mapping[str, Any]
    keep: KeepPolicy
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Registered:
    """An algorithm as it is stored; the digest identifies its document and bundle."""

    algorithm: Algorithm
    digest: str
    group: str
    bundle_sha256: str | None = None
    bundle_size: int | None = None
    bundle_key: str | None = None
    registered_by: str = ""


def version_key(version: str) -> list[int]:
    """Numbers to sort by: 1.10.0 comes after 1.9.0."""
    return [int(part) for part in version.split(".")]
