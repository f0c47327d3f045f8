"""The seam to whatever starts workers: local processes, Slurm, SSH, Kubernetes. Three verbs; one conformance suite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from armillary.algorithms.algorithm import Resources

StartState = Literal["pending", "running", "ending", "ended"]


@dataclass(frozen=True)
class StartRequest:
    """Start one worker. The token registers it in its pool and is good for nothing else."""

    start: UUID
    pool: str
    url: str
    token: str
    size: Resources | None  # what it offers; none: what its machine has


@dataclass(frozen=True)
class Known:
    """A start that is on record. Without a reference the record was made and what followed is not known."""

    start: UUID
    reference: str | None


@dataclass(frozen=True)
class Found:
    """What a provider says of a start; `note` says why it is pending, or why it ended."""

    reference: str
    state: StartState = "running"
    note: str = ""


class PoolProvider(Protocol):
    """Starts workers and stops them; remembers nothing that the records do not hold."""

    async def start(self, requests: Sequence[StartRequest]) -> Mapping[UUID, str]:
        """Start workers that outlive this server; returns the references by which `stop` and `check` know them.

        Ids of what is started together follow one another (`consecutive`), so that one name is enough for all. Those
        that are missing from the answer were not started; where none was, it raises.
        """
        ...

    async def stop(self, references: Sequence[str], *, force: bool = False) -> None:
        """Ask them to stop (they hand back what they run), or kill them. One that is gone already is fine."""
        ...

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, Found]:
        """What there is of them: found by the start's own id where there is no reference.

        One that has ended may be missing, or be there as `ended` where it is known why.
        """
        ...


def consecutive(first: UUID, number: int) -> list[UUID]:
    """Ids for what is started together: one and those that follow it."""
    return [UUID(int=first.int + offset) for offset in range(number)]


def runs(requests: Sequence[StartRequest], longest: int) -> list[list[StartRequest]]:
    """Parts of at most `longest` whose ids follow one another."""
    parts: list[list[StartRequest]] = []
    for request in requests:
        if parts and len(parts[-1]) < longest and request.start.int == parts[-1][-1].start.int + 1:
            parts[-1].append(request)
        else:
            parts.append([request])
    return parts
