"""Which jobs are meant: a filter in CQL2 over what a job is, compiled to a condition in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from armillary.base.errors import UsageError
from armillary.granules import cql2
from armillary.granules.cql2 import Column, Queryables
from armillary.jobs.job import JobState

QUERYABLES = Queryables(
    {
        "id": Column("text", "job.id::text"),
        "state": Column("text", "job.state"),
        "reason": Column("text", "job.reason"),
        "error_class": Column("text", "job.error_class"),
        "algorithm": Column("text", "job.algorithm"),
        "version": Column("text", "job.algorithm_version"),
        "pool": Column("text", "job.pool"),
        "priority": Column("number", "job.priority"),
        "twins": Column("text", "job.twins"),
        "attempts": Column("number", "job.attempts"),
        "failures": Column("number", "job.failures"),
        "cpu": Column("number", "(job.resources->>'cpu')::numeric"),
        "memory_bytes": Column("number", "(job.resources->>'memory_bytes')::numeric"),
        "disk_bytes": Column("number", "(job.resources->>'disk_bytes')::numeric"),
        "group": Column("text", 'job."group"'),
        "created_by": Column("text", "job.created_by"),
        "rule": Column("text", "job.cause->>'rule'"),
        "created": Column("time", "job.created_at"),
        "started": Column("time", "job.started_at"),
        "ended": Column("time", "job.ended_at"),
        "deadline": Column("time", "job.deadline_at"),
    },
    "job.parameters",
    "parameters.",
)


@dataclass(frozen=True)
class Selection:
    """Jobs by their ids, their columns, a filter, or what fits all of these."""

    jobs: Sequence[UUID] = ()
    where: str | Mapping[str, Any] | None = None
    state: str | None = None
    algorithm: str | None = None
    pool: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return not (self.jobs or self.where or self.state or self.algorithm or self.pool)

    def document(self) -> dict[str, Any]:
        """As it is kept."""
        fields = {"jobs": [str(job) for job in self.jobs]} | {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in fields.items() if value}


_NAMES = ("where", "state", "algorithm", "pool")


@dataclass(frozen=True)
class Condition:
    """A condition on `job` with named parameters."""

    sql: str
    params: dict[str, Any]


def condition(selection: Selection) -> Condition:
    """The condition that the selected jobs satisfy; `UsageError` says what is not understood."""
    if selection.state is not None and selection.state not in set(JobState):
        raise UsageError(
            f"There is no state {selection.state!r}.", f"Choose from: {', '.join(JobState)}.", field="state"
        )
    parts = [f"job.{name} = %({name})s" for name in ("state", "algorithm", "pool") if getattr(selection, name)]
    params: dict[str, Any] = {name: getattr(selection, name) for name in ("state", "algorithm", "pool")}
    if selection.jobs:
        parts.append("job.id = any(%(jobs)s)")
        params["jobs"] = list(selection.jobs)
    if selection.where:
        compiled = cql2.to_sql(cql2.parse(selection.where, "where", QUERYABLES))
        if not compiled.is_exact:
            raise UsageError("Jobs are not asked with S_, CASEI or ACCENTI.", "Compare with = and LIKE.", field="where")
        parts.append(compiled.sql)
        params |= compiled.params
    return Condition(" and ".join(parts) or "true", params)
