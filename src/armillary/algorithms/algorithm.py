"""Algorithm: one version of something that can be run, what it takes, what it makes and what it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


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
    time_seconds: float = 3600.0

    def grown(self, factor: float) -> "Resources":
        """The same with more memory."""
        return replace(self, memory_bytes=round(self.memory_bytes * factor))


@dataclass(frozen=True)
class RetryPolicy:
    """Which failures are worth another attempt, and how often; preemption and loss always are, uncounted."""

    attempts: int = 3
    on: frozenset[ErrorClass] = frozenset({ErrorClass.INFRASTRUCTURE})
    grow_memory_on_oom: float = 1.0
    delay_seconds: float = 10.0


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
