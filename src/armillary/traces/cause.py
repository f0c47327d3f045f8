"""To which trace something belongs: that of its cause, and so on up to what came from outside.

A granule that a job made belongs to its job, a job to its firing or delivery, a firing to the granule that came last of those
that it was given. Whatever has no cause begins a trace, whose id is its own (an upload's, a job's, a firing's); so all
servers, now and after any crash, find the same one without its having been written down anywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from armillary.base.db import Transaction
from armillary.traces import store
from armillary.traces.span import Subject

LONGEST_CHAIN = 64
APART_SECONDS = 86400.0  # a firing that comes later than this after its granules begins a trace of its own


def granule(row: dict[str, Any]) -> Subject:
    """The subject of a revision."""
    return ("granule", row["collection"], row["granule"], str(row["revision"]))


@dataclass(frozen=True)
class Cause:
    """What something follows from (`span` is the part of it that made it), or the trace that begins with it."""

    after: Subject | None
    span: Subject | None = None
    own: UUID | None = None
    links: tuple[Subject, ...] = ()


@dataclass
class Causes:
    """What is known of causes; asked level by level, so that a window takes a few statements however much is in it."""

    known: dict[Subject, Cause] = field(default_factory=dict)

    async def learn(self, tx: Transaction, subjects: Iterable[Subject]) -> None:
        """Find the causes of these, and theirs."""
        wanted = {subject for subject in subjects if subject not in self.known}
        for _ in range(LONGEST_CHAIN):
            if not wanted:
                return
            found = await _ask(tx, sorted(wanted))
            # What was purged or never was has no cause that could be found any more.
            self.known |= {subject: found.get(subject, Cause(None, own=_own(subject))) for subject in wanted}
            wanted = {
                other
                for subject in wanted
                for other in (self.known[subject].after, *self.known[subject].links)
                if other is not None and other not in self.known
            }

    def trace(self, subject: Subject) -> UUID:
        """The trace of something whose causes were learned."""
        for _ in range(LONGEST_CHAIN):
            cause = self.known.get(subject)
            if cause is None or cause.after is None:
                return (cause and cause.own) or _own(subject)
            subject = cause.after
        return _own(subject)

    def parent(self, subject: Subject) -> Subject | None:
        """The span under which its span hangs."""
        cause = self.known.get(subject)
        return None if cause is None else cause.span or cause.after

    def links(self, subject: Subject) -> list[tuple[UUID, Subject]]:
        """What else went into it, with the traces of those."""
        cause = self.known.get(subject)
        return [(self.trace(one), one) for one in cause.links] if cause else []


async def _ask(tx: Transaction, subjects: Sequence[Subject]) -> dict[Subject, Cause]:
    by_kind: dict[str, list[Subject]] = {}
    for subject in subjects:
        by_kind.setdefault(subject[0], []).append(subject)
    ids = {kind: [UUID(subject[1]) for subject in found] for kind, found in by_kind.items() if kind != "granule"}
    causes: dict[Subject, Cause] = {}
    if "granule" in by_kind:
        causes |= await _of_granules(tx, by_kind["granule"])
    if "firing" in ids:
        causes |= await _of_firings(tx, ids["firing"])
    if "job" in ids:
        causes |= await _of_jobs(tx, ids["job"])
    if "delivery" in ids:
        causes |= await _of_deliveries(tx, ids["delivery"])
    return causes


async def _of_granules(tx: Transaction, subjects: Sequence[Subject]) -> dict[Subject, Cause]:
    rows = await store.makers_of_granules(tx, [(one[1], one[2], int(one[3])) for one in subjects])
    return {
        granule(row): Cause(None, own=row["upload_id"])
        if row["job_id"] is None
        else Cause(("job", str(row["job_id"])), span=("attempt", str(row["job_id"]), str(row["lease"])))
        for row in rows
    }


async def _of_firings(tx: Transaction, firings: Sequence[UUID]) -> dict[Subject, Cause]:
    given: dict[UUID, list[dict[str, Any]]] = {}
    for row in await store.granules_of_firings(tx, firings):
        given.setdefault(row["id"], []).append(row)
    causes: dict[Subject, Cause] = {}
    for firing, rows in given.items():
        subject, (last, *others) = ("firing", str(firing)), rows
        if last["seconds_later"] > APART_SECONDS:
            causes[subject] = Cause(None, own=firing, links=tuple(map(granule, rows)))
        else:
            causes[subject] = Cause(granule(last), links=tuple(map(granule, others)))
    return causes


async def _of_jobs(tx: Transaction, jobs: Sequence[UUID]) -> dict[Subject, Cause]:
    causes: dict[Subject, Cause] = {}
    alone = []
    for row in await store.causes_of_jobs(tx, jobs):
        subject, cause = ("job", str(row["id"])), row["cause"]
        if "delivery" in cause:
            causes[subject] = Cause(
                ("delivery", cause["delivery"]), span=("delivery", cause["delivery"], str(row["id"]))
            )
        elif "firing" in cause:
            causes[subject] = Cause(("firing", cause["firing"]))
        else:
            alone.append(row["id"])
    inputs: dict[UUID, list[Subject]] = {job: [] for job in alone}
    for row in await store.inputs_of_jobs(tx, alone) if alone else []:
        inputs[row["job_id"]].append(granule(row))
    return causes | {("job", str(job)): Cause(None, own=job, links=tuple(read)) for job, read in inputs.items()}


async def _of_deliveries(tx: Transaction, deliveries: Sequence[UUID]) -> dict[Subject, Cause]:
    return {
        ("delivery", str(row["id"])): Cause(
            ("firing", row["cause"]["firing"]) if row["cause"] and "firing" in row["cause"] else granule(row)
        )
        for row in await store.jobs_of_deliveries(tx, deliveries)
    }


def _own(subject: Subject) -> UUID:
    return UUID(subject[1]) if subject[0] != "granule" else uuid5(NAMESPACE_OID, "\x1f".join(subject))
