"""Firing: one set of granules that a rule found, what it still waits for, and what to do with it. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from armillary.granules.granule import Granule
from armillary.jobs.job import Submission
from armillary.rules.match import Bound, is_complete
from armillary.rules.rule import Rule

Members = Mapping[str, Sequence[Granule]]


class FiringState(StrEnum):
    """Where a firing stands."""

    WAITING = "waiting"
    SUBMITTED = "submitted"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Firing:
    """As it is stored."""

    id: UUID
    rule: str
    rule_version: int
    key: str
    version: int
    state: str
    reason: str
    due_at: datetime | None
    job_id: UUID | None
    missing: list[str]
    late: list[Any]
    group: str
    created_at: datetime
    submitted_at: datetime | None
    outcome: str | None = None  # of the submission: submitted, shared or reused


@dataclass(frozen=True)
class Decision:
    """What to do with a firing now."""

    state: FiringState
    reason: str
    missing: tuple[str, ...] = ()
    due_at: datetime | None = None


def key(rule: Rule, bound: Bound) -> str:
    """What makes a firing of a rule this one: the granules bound to its single roles, nothing else."""
    names = [
        [name, granule.collection, granule.granule, *([granule.revision] if rule.again_on_revision else [])]
        for name, granule in sorted(bound.items())
        if rule.role(name).is_key
    ]
    return hashlib.sha256(json.dumps(names, ensure_ascii=False).encode()).hexdigest()


def decide(rule: Rule, bound: Bound, members: Members, created_at: datetime, now: datetime) -> Decision:
    """Submit, wait (and until when), or give up, from what is bound; arrival and time-out ask the same question."""
    missing = [role for role in rule.others if not is_complete(role, members.get(role.name, ()), bound)]
    expired = [role for role in missing if role.wait is not None and created_at + role.wait <= now]
    dropped = [role.name for role in expired if role.on_timeout == "drop"]
    names = tuple(role.name for role in missing)
    if dropped:
        return Decision(FiringState.EXPIRED, f"{_listed(dropped)} did not come in time.", names)
    # Optional without a wait means: whatever is there now.
    waiting = [role for role in missing if role not in expired and not (role.optional and role.wait is None)]
    if not waiting:
        without = f" without {_listed(names)}" if names else ""
        return Decision(
            FiringState.SUBMITTED, f"All that it needs is there{without}." if without else "Complete.", names
        )
    due = [created_at + role.wait for role in waiting if role.wait is not None]
    return Decision(
        FiringState.WAITING, f"Waits for {_listed([role.name for role in waiting])}.", names, min(due, default=None)
    )


def explained(decision: Decision, submission: Submission, twins: str) -> Decision:
    """The decision, with the reason why there is no job of its own where another does the work or did."""
    if submission.outcome == "submitted":
        return decision
    return replace(decision, reason=f"{decision.reason} {submission.reason} So says twins: {twins}.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
