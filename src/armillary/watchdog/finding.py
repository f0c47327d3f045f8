"""Finding: something that is not as it should be; and what becomes of those on record when a sweep looks again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal
from uuid import UUID

Severity = Literal["notice", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("notice", "warning", "error")
MOST = 200  # findings of one sweep; what is worse comes first


@dataclass(frozen=True)
class Finding:
    """What a sweep sees now.

    A notice was dealt with already; a warning wants a person to look; of an error something stands still or is lost.
    """

    subject: str
    severity: Severity
    reason: str
    action: str = ""  # what was done about it
    remedy: str = ""  # what a person can do, the command included
    group: str = "owners"


@dataclass(frozen=True)
class Known:
    """A finding on record; it is open until it is closed."""

    id: UUID
    sweep: str
    subject: str
    severity: Severity
    reason: str
    action: str
    remedy: str
    group: str
    version: int
    opened_at: datetime
    seen_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class Changes:
    """What to do about the open findings of a sweep."""

    opened: Sequence[Finding]
    seen: Sequence[tuple[Known, Finding]]
    closed: Sequence[Known]


def compare(known: Sequence[Known], found: Sequence[Finding]) -> Changes:
    """Open what is new, note what is seen again, close what is gone. One subject has one finding, the worst."""
    worst: dict[str, Finding] = {}
    for one in by_severity(found):
        worst.setdefault(one.subject, one)
    worst = dict(islice(worst.items(), MOST))
    before = {one.subject: one for one in known}
    return Changes(
        opened=[one for subject, one in worst.items() if subject not in before],
        seen=[(before[subject], one) for subject, one in worst.items() if subject in before],
        closed=[one for one in known if one.subject not in worst],
    )


def by_severity(found: Sequence[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(found, key=lambda one: (-SEVERITIES.index(one.severity), one.subject))
