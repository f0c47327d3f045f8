"""Activity: one job's successful attempt, with what it used and generated. Pure types, in the words of W3C PROV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from armillary.granules.granule import Reference


@dataclass(frozen=True)
class Activity:
    """What happened: by which algorithm, on which host, for whom, from what, making what."""

    job_id: UUID
    attempt: int
    algorithm: str
    algorithm_version: str
    algorithm_digest: str
    parameters: Mapping[str, Any]
    host: str
    group: str
    agent: str
    started_at: datetime
    ended_at: datetime
    used: Sequence[tuple[str, Reference]] = ()  # role, granule
    generated: Sequence[tuple[str, Reference]] = ()  # output, granule

    @property
    def duration_seconds(self) -> float:
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class Node:
    """A granule in a lineage, so many steps from where the walk began."""

    reference: Reference
    depth: int


@dataclass(frozen=True)
class Lineage:
    """A part of the graph: granules, and the activities between them. Nothing that the asker may not see is in it."""

    root: Reference
    nodes: Sequence[Node]
    activities: Sequence[Activity]
    is_cut: bool  # there is more beyond the depth asked for
    retired: Mapping[Reference, datetime]  # since when those are hidden that retention has retired
