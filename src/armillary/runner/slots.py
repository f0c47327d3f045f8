"""How much more may this worker take on? Decided from what it has, what runs, and how long jobs have been lately."""

from collections.abc import Sequence
from dataclasses import dataclass

from armillary.algorithms.algorithm import BLAMELESS, HANDFUL
from armillary.runner.lease import Limits
from armillary.runner.verdict import Verdict

MAX_AHEAD = 64
AHEAD_SECONDS = 0.25  # of work kept at hand, where jobs are so short that asking takes longer than running
SHORT_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How jobs have gone lately: how long one takes, and how many end in a second."""

    seconds: float
    per_second: float


@dataclass(frozen=True)
class Capacity:
    """What a worker has, or has left."""

    cpu: float
    memory_bytes: int
    disk_bytes: int
    gpu: int = 0

    def without(self, limits: Limits) -> "Capacity":
        """What is left beside a job."""
        return Capacity(
            self.cpu - limits.cpu,
            self.memory_bytes - limits.memory_bytes,
            self.disk_bytes - limits.disk_bytes,
            self.gpu - limits.gpu,
        )

    def beside(self, limits: Limits) -> "Capacity":
        """What there is when a job has ended."""
        return Capacity(
            self.cpu + limits.cpu,
            self.memory_bytes + limits.memory_bytes,
            self.disk_bytes + limits.disk_bytes,
            self.gpu + limits.gpu,
        )

    def fits(self, limits: Limits) -> bool:
        """Whether a job may start."""
        return (
            limits.cpu <= self.cpu + 1e-9
            and limits.memory_bytes <= self.memory_bytes
            and limits.disk_bytes <= self.disk_bytes
            and limits.gpu <= self.gpu
        )

    def wire(self) -> dict[str, float | int]:
        """As the server reads it."""
        return {
            "cpu": max(0.0, round(self.cpu, 3)),
            "memory_bytes": max(0, self.memory_bytes),
            "disk_bytes": max(0, self.disk_bytes),
            "gpu": max(0, self.gpu),
        }


class Devices:
    """The GPUs of a worker by the names that CUDA_VISIBLE_DEVICES takes: each belongs to one job at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._free = list(names)

    def take(self, number: int) -> tuple[str, ...]:
        """The first that are free; fewer if there are fewer, as when a job larger than its worker runs alone."""
        taken, self._free = self._free[:number], self._free[number:]
        return tuple(taken)

    def give_back(self, names: Sequence[str]) -> None:
        """A job has ended."""
        self._free = sorted([*self._free, *names])


@dataclass(frozen=True)
class Streak:
    """The different jobs that failed here since the last success, of those whose failure says anything about a worker."""

    jobs: frozenset[str] = frozenset()

    def after(self, job: str, verdict: Verdict) -> "Streak":
        """What one more end makes of it."""
        if verdict.outcome == "succeeded":
            return Streak()
        says_something = verdict.outcome == "failed" and verdict.error_class not in BLAMELESS
        return Streak(self.jobs | {job}) if says_something else self

    @property
    def is_long(self) -> bool:
        """Whether the server judges this worker by now: nothing is taken ahead until a job has gone well."""
        return len(self.jobs) >= HANDFUL


@dataclass(frozen=True)
class Wish:
    """How many jobs to ask for, none if `count` is 0; and how large they may be, together or each by itself (`in_turn`)."""

    count: int
    free: Capacity
    in_turn: bool = False


def wish(
    whole: Capacity, free: Capacity, waiting: int, unreported: int, pace: Pace | None, *, fails: bool = False
) -> Wish:
    """What to ask for. Short jobs are taken ahead of time, a fraction of a second of them; long ones never are.

    A worker on which everything `fails` asks for one job at a time: what it took would fail here, or be handed back.
    """
    if fails:
        return Wish(0 if waiting else min(1, wish(whole, free, waiting, unreported, None).count), free)
    ahead = _ahead(pace)
    if unreported > 4 * MAX_AHEAD or waiting > ahead // 2:
        return Wish(0, free)
    if ahead == 0:
        has_room = free.cpu > 0.009 and free.memory_bytes > 0 and free.disk_bytes > 0
        return Wish(MAX_AHEAD if has_room else 0, free)
    # What is taken ahead starts as soon as others end: each must fit into the empty worker, or it never could start here.
    return Wish(ahead - waiting + 1, whole, in_turn=True)


def _ahead(pace: Pace | None) -> int:
    if pace is None or pace.seconds > SHORT_SECONDS:
        return 0
    return min(MAX_AHEAD, int(AHEAD_SECONDS * pace.per_second))
