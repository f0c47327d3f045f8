"""The spans of what happened within a window of the history."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from armillary.base.db import Row, Transaction
from armillary.base.history import Window
from armillary.traces import store
from armillary.traces.cause import Causes, granule
from armillary.traces.span import Span, Subject

PARTS = (("stage in", "stage_in_seconds"), ("run", "run_seconds"), ("stage out", "stage_out_seconds"))


async def spans(tx: Transaction, read: Window) -> list[Span]:
    """Everything that ended within the window."""
    committed, fired = await store.committed(tx, read), await store.fired(tx, read)
    attempted, finished = await store.attempted(tx, read), await store.finished(tx, read)
    delivered = await store.delivered(tx, read)
    causes = Causes()
    await causes.learn(
        tx,
        [
            *(granule(row) for row in committed),
            *(("firing", str(row["id"])) for row in fired),
            *(("job", str(row["job_id"])) for row in attempted),
            *(("job", str(row["id"])) for row in finished),
            *(("delivery", str(row["id"])) for row in delivered),
        ],
    )
    return [
        *(_of_granule(causes, row) for row in committed),
        *(_of_firing(causes, row) for row in fired),
        *(span for row in attempted for span in _of_attempt(causes, row)),
        *(_of_job(causes, row) for row in finished),
        *(_of_delivery(causes, row) for row in delivered),
    ]


def _of_granule(causes: Causes, row: Row) -> Span:
    subject = granule(row)
    verb = "ingest" if row["job_id"] is None else "publish"
    return Span(
        causes.trace(subject), subject, causes.parent(subject), f"{verb} {row['collection']}", row["begun_at"], row["created_at"],
        _named(row, "collection", "granule", "revision", "size_bytes", account="created_by"),
    )  # fmt: skip


def _of_firing(causes: Causes, row: Row) -> Span:
    subject = ("firing", str(row["id"]))
    return Span(
        causes.trace(subject), subject, causes.parent(subject), f"fire {row['rule']}", row["created_at"], row["at"],
        _named(row, "rule", "state", "reason", firing="id"),
        row["reason"] if row["state"] == "refused" else None, causes.links(subject),
    )  # fmt: skip


def _of_job(causes: Causes, row: Row) -> Span:
    subject = ("job", str(row["id"]))
    return Span(
        causes.trace(subject), subject, causes.parent(subject), f"job {row['algorithm']}", row["created_at"], row["at"],
        _named(row, "algorithm", "algorithm_version", "state", "error_class", "pool", "priority", "attempts", "group",
               job="id", account="created_by"),
        row["reason"] if row["state"] == "failed" else None, causes.links(subject),
    )  # fmt: skip


def _of_attempt(causes: Causes, row: Row) -> Iterator[Span]:
    """How long it waited, the attempt, and its parts as far as its worker could tell of them."""
    job = ("job", str(row["job_id"]))
    subject = ("attempt", str(row["job_id"]), str(row["number"]))
    trace = causes.trace(job)
    leased_at, ended_at = row["leased_at"], row["at"]
    yield Span(
        trace, (*subject, "wait"), job, "wait", min(row["waits_since"], leased_at), leased_at, _named(row, "pool")
    )
    yield Span(
        trace, subject, job, f"attempt {row['number']}", leased_at, ended_at,
        _named(row, "algorithm", "outcome", "error_class", "exit_code", "host", "pool", job="job_id", attempt="number",
               worker="worker_id"),
        None if row["outcome"] == "succeeded" else row["reason"] or row["outcome"],
    )  # fmt: skip
    for name, start, end in parts(row["usage"], leased_at, row["started_at"], ended_at):
        yield Span(trace, (*subject, name), subject, name, start, end)


def parts(
    usage: dict[str, Any], leased_at: datetime, started_at: datetime | None, ended_at: datetime
) -> list[tuple[str, datetime, datetime]]:
    """The parts of an attempt, placed by how long each took between its lease and its end by our clock.

    When it started is told by its worker's clock, which may differ from ours.
    """
    seconds = [usage.get(field) for _, field in PARTS]
    lengths = [timedelta(seconds=one) for one in seconds if isinstance(one, int | float) and 0 <= one < 1e9]
    if started_at is None or len(lengths) < len(PARTS):
        return []
    latest = max(leased_at, ended_at - sum(lengths, timedelta()))
    begin = min(max(started_at - lengths[0], leased_at), latest)
    found = []
    for (name, _), length in zip(PARTS, lengths, strict=True):
        end = min(begin + length, ended_at)
        found.append((name, begin, end))
        begin = end
    return [*found, ("finish", begin, ended_at)]


def _of_delivery(causes: Causes, row: Row) -> Span:
    whole = ("delivery", str(row["id"]))
    sending: Subject = (*whole, str(row["job_id"]))
    attributes = _named(row, "destination", "collection", "granule", "revision", "state", "reason", delivery="id")
    error = row["reason"] if row["state"] in ("failed", "rejected") else None
    if row["state"] in ("sent", "failed"):
        return Span(
            causes.trace(whole), sending, causes.parent(whole), f"deliver to {row['destination']}", row["created_at"], row["at"],
            attributes, error,
        )  # fmt: skip
    return Span(
        causes.trace(whole), (*sending, row["state"]), sending, f"answer of {row['destination']}",
        row["sent_at"] or row["created_at"], row["at"], attributes, error,
    )  # fmt: skip


def _named(row: Row, *names: str, **renamed: str) -> dict[str, Any]:
    """Attributes under the names of the API."""
    return {f"armillary.{name}": row[name] for name in names} | {
        f"armillary.{name}": row[column] for name, column in renamed.items()
    }
