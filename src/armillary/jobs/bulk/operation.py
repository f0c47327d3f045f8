"""Operation: what was done to many jobs at once, by whom, why, and to which. Pure types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from armillary.base.errors import UsageError
from armillary.base.ids import check_name
from armillary.jobs.select import Selection
from armillary.jobs.submit import PRIORITIES


class Verb(StrEnum):
    """What can be done to many jobs."""

    CANCEL = "cancel"
    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    PRIORITY = "priority"
    MOVE = "move"
    PURGE = "purge"


# Whom it concerns (the others of a selection are left as they are), and why no others.
CONCERNS: Mapping[Verb, str] = {
    Verb.CANCEL: "jobs that wait or run",
    Verb.RETRY: "jobs that failed or were cancelled, have no equal job that lives, and whose needs have not failed",
    Verb.HOLD: "jobs that wait and that nobody holds",
    Verb.RELEASE: "jobs that somebody holds",
    Verb.PRIORITY: "jobs that wait, with another priority",
    Verb.MOVE: "jobs that wait in another pool",
    Verb.PURGE: "jobs that have ended, that nothing waits for, and whose checkpoint is collected",
}
UNDOABLE = frozenset({Verb.HOLD, Verb.RELEASE, Verb.PRIORITY, Verb.MOVE})
INSTEAD: Mapping[Verb, str] = {
    Verb.CANCEL: "`armillary job retry` tries cancelled jobs again.",
    Verb.RETRY: "`armillary job cancel` stops them.",
    Verb.PURGE: "What was purged is gone.",
}


@dataclass(frozen=True)
class Request:
    """What is asked for; `limit` takes the oldest of those that it concerns."""

    verb: Verb
    selection: Selection
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    limit: int | None = None


@dataclass(frozen=True)
class Preview:
    """What an operation would change: how many jobs, of which algorithm and state, and the first of them."""

    jobs: int
    counts: list[dict[str, Any]]
    sample: list[dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """As it is kept."""

    id: UUID
    verb: str
    selection: dict[str, Any]
    arguments: dict[str, Any]
    reason: str
    actor: str
    group: str
    jobs: int
    created_at: datetime
    undone_at: datetime | None
    undone_by: str | None
    restored: int | None


def check(request: Request) -> None:
    """Refuse what cannot be meant."""
    if request.selection.is_empty:
        raise UsageError(
            "No jobs are selected.", "Write where: \"state = 'queued'\", or where: true for all.", field="where"
        )
    wanted = {Verb.PRIORITY: {"priority"}, Verb.MOVE: {"pool"}}.get(request.verb, set())
    if set(request.arguments) != wanted:
        named = ", ".join(sorted(wanted)) or "no arguments"
        raise UsageError(f"{request.verb} takes {named}.", "See `armillary job --help`.", field="arguments")
    if request.verb is Verb.PRIORITY and request.arguments["priority"] not in PRIORITIES:
        raise UsageError("The priority is out of range.", "Choose -1000 to 1000.", field="arguments.priority")
    if request.verb is Verb.MOVE:
        check_name(str(request.arguments["pool"]), "arguments.pool")
