"""The seam of runtimes: what starts an algorithm's program, measures it, stops it, and leaves nothing of it behind.

`watch.py` follows any program to its end by these few verbs; limits, orders to stop, logs and progress are its, so that
they hold for processes, containers and whatever comes alike.
"""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from armillary.algorithms.algorithm import ErrorClass
from armillary.runner.failure import AttemptError
from armillary.runner.lease import Lease, Limits

Why = Literal["cancel", "preempt", "gone", "time", "memory", "disk"]
Kind = Literal["process", "function", "container"]
MAX_PROCESSES = 4096  # threads count too; no honest job comes near


@dataclass(frozen=True)
class Prepared:
    """All that starts a program: which Python, what is found first, and where the bundle is."""

    python: Path
    path: tuple[Path, ...]
    python_path: tuple[Path, ...]
    is_built_in: bool
    record: Mapping[str, Any]  # goes into the report
    bundle: Path | None = None


@dataclass(frozen=True)
class Command:
    """What to start, where and with what; words, variables and paths as the program will see them."""

    arguments: Sequence[str]
    folder: Path  # of the job, on this machine
    environment: Mapping[str, str]
    limits: Limits
    grace_seconds: float
    bundle: Path | None = None  # the algorithm's own files, on this machine
    image: Mapping[str, Any] = field(default_factory=dict)  # the spec's environment, where that is an image


@dataclass
class Usage:
    """What a job has used so far."""

    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    memory_bytes: int = 0  # now
    disk_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    def hold(self, memory_bytes: int) -> None:
        """It holds so much now."""
        self.memory_bytes = memory_bytes
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory_bytes)

    def raise_to(self, cpu_seconds: float, read_bytes: int, written_bytes: int) -> None:
        """It has used so much by now; what processes used that have gone since is not counted twice, nor lost."""
        self.cpu_seconds = max(self.cpu_seconds, cpu_seconds)
        self.read_bytes = max(self.read_bytes, read_bytes)
        self.written_bytes = max(self.written_bytes, written_bytes)


@dataclass(frozen=True)
class End:
    """How a program ended: its exit code, or the signal as a negative number; how many processes it left running."""

    code: int
    strays: int = 0
    passed: Why | None = None  # the limit that ended it, where not the runner but the kernel did
    problem: AttemptError | None = None  # it never came to run


class Program(Protocol):
    """A program that runs."""

    pid: int
    """Its first process, of this machine; nobody reaps it before `end` does."""

    def ending(self) -> int:
        """A new descriptor that can be read once the program has ended."""

    def measure(self, usage: Usage) -> Why | None:
        """Raise `usage` to what is used by now; the limit that the kernel says was passed, if one was."""

    def signal(self, number: signal.Signals) -> None:
        """Send it to all of the program; not an error if it has ended."""

    def end(self, usage: Usage) -> End:
        """It has ended: end what is left, and complete `usage`."""


class Runtime(Protocol):
    """A way to run programs; one object serves all jobs of a runner, from any thread."""

    def command(self, lease: Lease, prepared: Prepared, folder: Path, grace_seconds: float) -> Command:
        """What starts the lease's algorithm."""

    def start(self, command: Command, output: int) -> Program:
        """Start it, its output going to a descriptor; `OSError` if it cannot be started."""


Runtimes = Mapping[Kind, Runtime]


def kind_of(environment: Mapping[str, Any], run: Mapping[str, Any]) -> Kind:
    """The runtime that an algorithm needs."""
    if "image" in environment:
        return "container"
    return "function" if "python" in run else "process"


def choose(lease: Lease, runtimes: Runtimes) -> Runtime:
    """The runtime for a lease; `AttemptError` if this worker has none."""
    kind = kind_of(lease.environment, lease.spec["run"])
    if kind not in runtimes:
        raise AttemptError(
            ErrorClass.INFRASTRUCTURE,
            "This worker cannot run containers: it found neither podman nor docker nor apptainer.",
            "Install one on the worker's machine, or run the job in another pool.",
        )
    return runtimes[kind]
