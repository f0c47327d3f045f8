"""The seam to whatever starts workers: local processes, Slurm, Kubernetes. Three verbs; one conformance suite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from armillary.algorithms.algorithm import Resources


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


class PoolProvider(Protocol):
    """Starts workers and stops them; remembers nothing that the records do not hold."""

    async def start(self, request: StartRequest) -> str:
        """Start a worker that outlives this server; returns the reference by which `stop` and `check` know it."""
        ...

    async def stop(self, reference: str, *, force: bool = False) -> None:
        """Ask it to stop (it hands back what it runs), or kill it. One that is gone already is fine."""
        ...

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, str]:
        """Those that live, with their references: found by the start's own id where there is no reference."""
        ...
