"""The HTTP face of jobs."""

import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from armillary.accounts.actor import Actor
from armillary.accounts.api import SignedIn
from armillary.algorithms.register import resolve
from armillary.base import clock, events, units
from armillary.base.clock import iso
from armillary.base.db import Row, Transaction
from armillary.base.errors import UsageError
from armillary.base.http import Web, Wire
from armillary.base.wakes import JOBS
from armillary.granules import find as granules
from armillary.granules.granule import Reference
from armillary.jobs import cancel as cancelling
from armillary.jobs import cost, find, kept, logs, pause, steer
from armillary.jobs.find import Job
from armillary.jobs.job import CURRENT, DEFAULT_POOL, JobRequest
from armillary.jobs.select import Selection
from armillary.jobs.submit import submit, submit_many

router = APIRouter(prefix="/api/jobs", tags=["jobs"])
pauses = APIRouter(prefix="/api", tags=["jobs"])

LONGEST_WAIT_SECONDS = 60.0


class GranuleWire(Wire):
    """A granule, the current revision unless another is named."""

    collection: str
    id: str
    revision: int = Field(CURRENT, ge=0)


class JobWire(Wire):
    """A submission."""

    algorithm: str
    version: str | None = None
    inputs: dict[str, list[str | GranuleWire]] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    pool: str = DEFAULT_POOL
    priority: int = 0
    twins: Literal["share", "reuse", "again"] = "reuse"
    hold: bool = False
    after: list[UUID] = Field(default_factory=list, max_length=1000)
    on_failure: Literal["cancel", "hold", "run"] = "cancel"
    deadline: str | None = None
    on_deadline: Literal["fail", "warn"] = "fail"

    def request(self, actor: Actor) -> JobRequest:
        """The same as a plain type."""
        return JobRequest(
            algorithm=self.algorithm,
            version=self.version,
            inputs={role: tuple(_reference(role, one) for one in granules) for role, granules in self.inputs.items()},
            parameters=self.parameters,
            pool=self.pool,
            priority=self.priority,
            twins=self.twins,
            hold=self.hold,
            after=tuple(self.after),
            on_failure=self.on_failure,
            deadline=_deadline(self.deadline),
            on_deadline=self.on_deadline,
            cause={"account": actor.account},
        )


class ReleaseWire(Wire):
    """Whether it waits for others no more."""

    now: bool = False


class JobsWire(Wire):
    """Submissions, all or none."""

    jobs: list[JobWire] = Field(min_length=1, max_length=1000)


class PriorityWire(Wire):
    """A place in the queue."""

    priority: int


@router.post("", status_code=201)
async def submit_job(web: Web, actor: SignedIn, body: JobWire) -> dict[str, Any]:
    """Ask for work; the answer says whether it is new, shared or reused, and why."""
    request = body.request(actor)

    async def work(tx: Transaction) -> dict[str, Any]:
        submission = await submit(tx, actor, request)
        job = await find.get(tx, actor, submission.job.id)
        return {"job": shown(job), "outcome": submission.outcome, "reason": submission.reason}

    return await web.database.retry(work)


@router.post("/batch", status_code=201)
async def submit_jobs(web: Web, actor: SignedIn, body: JobsWire) -> dict[str, Any]:
    """Ask for much work at once, all or none; the answers keep the order."""
    requests = [one.request(actor) for one in body.jobs]
    submissions = await web.database.retry(lambda tx: submit_many(tx, actor, requests))
    return {
        "jobs": [
            {"id": str(one.job.id), "state": one.job.state, "outcome": one.outcome, "reason": one.reason}
            for one in submissions
        ]
    }


@router.get("")
async def jobs(
    web: Web,
    actor: SignedIn,
    state: str | None = None,
    algorithm: str | None = None,
    pool: str | None = None,
    where: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: UUID | None = None,
) -> dict[str, Any]:
    """Jobs, newest first; `where` is a filter in CQL2."""
    wanted = Selection((), where, state, algorithm, pool)
    async with web.database.transaction() as tx:
        found = await find.newest(tx, actor, wanted, limit=limit, after=after)
    return {"jobs": [shown(job) for job in found], "next": str(found[-1].id) if len(found) == limit else None}


@router.get("/costs")
async def costs(
    web: Web,
    actor: SignedIn,
    by: Annotated[list[str], Query(max_length=6)],
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """What ended attempts cost, added up by day, group, account, algorithm, pool or rule; times are in UTC."""
    async with web.database.transaction() as tx:
        return {"costs": await cost.totals(tx, actor, by, since, until)}


@router.get("/costs/{collection}/{granule}")
async def cost_of_granule(
    web: Web, actor: SignedIn, collection: str, granule: str, revision: int | None = None
) -> dict[str, Any]:
    """What a granule cost: the job that made it, and the whole chain from its sources."""
    async with web.database.transaction() as tx:
        found = await granules.get(tx, actor, collection, granule, revision)
        product = await cost.product(tx, actor, Reference(found.collection, found.granule, found.revision))
    return asdict(product) | {"job": str(product.job) if product.job else None}


@router.get("/{job}")
async def job(web: Web, actor: SignedIn, job: UUID) -> dict[str, Any]:
    """One job with its attempts, inputs, outputs and events."""
    async with web.database.transaction() as tx:
        return await _whole(tx, actor, job)


@router.post("/{job}/cancel")
async def cancel(web: Web, actor: SignedIn, job: UUID) -> dict[str, Any]:
    """Cancel it; at once while it waits, through its worker while it runs."""
    async with web.database.transaction() as tx:
        await cancelling.cancel(tx, actor, job)
        return await _whole(tx, actor, job)


@router.post("/{job}/retry")
async def retry(web: Web, actor: SignedIn, job: UUID) -> dict[str, Any]:
    """Try again what failed or was cancelled, with a fresh budget."""
    async with web.database.transaction() as tx:
        await steer.again(tx, actor, job)
        return await _whole(tx, actor, job)


@router.post("/{job}/hold")
async def hold(web: Web, actor: SignedIn, job: UUID) -> dict[str, Any]:
    """Keep a waiting job from running."""
    async with web.database.transaction() as tx:
        await steer.hold(tx, actor, job)
        return await _whole(tx, actor, job)


@router.post("/{job}/release")
async def release(web: Web, actor: SignedIn, job: UUID, body: ReleaseWire | None = None) -> dict[str, Any]:
    """Let a held job run; `now` even if the jobs that it runs after have not ended."""
    async with web.database.transaction() as tx:
        await steer.release(tx, actor, job, now=body is not None and body.now)
        return await _whole(tx, actor, job)


@router.post("/{job}/priority")
async def priority(web: Web, actor: SignedIn, job: UUID, body: PriorityWire) -> dict[str, Any]:
    """Move a waiting job within its queue."""
    async with web.database.transaction() as tx:
        await steer.prioritise(tx, actor, job, body.priority)
        return await _whole(tx, actor, job)


@router.get("/{job}/log")
async def log(
    web: Web,
    actor: SignedIn,
    job: UUID,
    attempt: int | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    wait_seconds: Annotated[float, Query(ge=0)] = 0,
) -> Response:
    """What an attempt (the last, unless named) wrote from `offset` on; held until there is more, or it has ended."""
    deadline = time.monotonic() + min(wait_seconds, LONGEST_WAIT_SECONDS)
    while True:
        since = web.database.wakes.count(JOBS)
        async with web.database.transaction() as tx:
            found = await find.get(tx, actor, job)
            number = attempt or found.attempts
            part = await logs.read(tx, job, number, offset)
        has_ended = number < found.attempts or (number == found.attempts and found.worker_id is None)
        left = deadline - time.monotonic()
        # A job that waits for its first attempt has no log yet; one that is live may write more.
        if part.data or left <= 0 or (has_ended and number > 0) or not found.state.is_live:
            break
        await web.database.wakes.wait(JOBS, since, min(1.0, left))
    return Response(
        part.data,
        media_type="text/plain; charset=utf-8",
        headers={
            "Armillary-Next-Offset": str(part.next_offset),
            "Armillary-Log-Ended": str((has_ended or not found.state.is_live) and not part.data).lower(),
            "Armillary-Attempt": str(number),
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.get("/{job}/files")
async def files(web: Web, actor: SignedIn, job: UUID, attempt: int | None = None) -> dict[str, Any]:
    """What a failed attempt (the last that left something, unless named) had in its folder."""
    async with web.database.transaction() as tx:
        await find.get(tx, actor, job)
        row = await kept.find(tx, job, attempt)
    return {
        "job": str(job),
        "attempt": row["number"],
        "kept_at": iso(row["kept_at"]),
        "expires_at": iso(row["expires_at"]),
        "whole": row["is_whole"],
        "files": row["files"],
    }


@router.get("/{job}/files/{path:path}")
async def file(web: Web, actor: SignedIn, job: UUID, path: str, attempt: int | None = None) -> Response:
    """The bytes of one file that a failed attempt left."""
    async with web.database.transaction() as tx:
        await find.get(tx, actor, job)
        row = await kept.find(tx, job, attempt)
    place = kept.place(row, path)
    name = quote(path.rpartition("/")[2])
    headers = {
        "Content-Length": str(place.end - place.start),
        # What a job wrote is nobody's page.
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
    }
    if place.end == place.start:
        return Response(b"", media_type="application/octet-stream", headers=headers)
    return StreamingResponse(
        web.store.read(place.key, place.start, place.end), media_type="application/octet-stream", headers=headers
    )


def shown(job: Job) -> dict[str, Any]:
    """A job on the wire."""
    fields = dict(vars(job))
    return _plain({"attempts_made": fields.pop("attempts")} | fields)


async def _whole(tx: Transaction, actor: Actor, job: UUID) -> dict[str, Any]:
    found, tried = await find.get(tx, actor, job), await find.attempts(tx, job)
    return shown(found) | {
        "attempts": [_attempt(row) for row in tried],
        "cost": sum(row["cost"] or 0 for row in tried),
        "after": [_plain({"job": row.pop("after_id")} | row) for row in await find.dependencies(tx, job)],
        "inputs": [_granule(row, "role") for row in await find.inputs(tx, job)],
        "outputs": [_granule(row, "output") for row in await find.outputs(tx, job)],
        "events": [
            {"at": iso(row["at"]), "kind": row["kind"], "actor": row["actor"], "detail": row["detail"]}
            for row in await events.history(tx, f"job:{job}")
        ],
    }


def _attempt(row: Row) -> dict[str, Any]:
    return _plain({name: value for name, value in row.items() if name != "job_id"})


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: iso(value) if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value
        for name, value in fields.items()
    }


def _granule(row: Row, role: str) -> dict[str, Any]:
    return {role: row[role], "collection": row["collection"], "id": row["granule"], "revision": row["revision"]}


def _deadline(text: str | None) -> datetime | timedelta | None:
    """A time in RFC 3339, or a length of time from now."""
    if not text:
        return None
    try:
        return clock.parse(text) if text[:4].isdecimal() and "-" in text else units.duration(text, "deadline")
    except ValueError as error:
        raise UsageError(f"deadline: {error}.", "Write 2h, PT2H or 2026-03-01T12:00:00Z.", field="deadline") from error


def _reference(role: str, one: str | GranuleWire) -> Reference:
    if isinstance(one, GranuleWire):
        return Reference(one.collection, one.id, one.revision)
    collection, slash, granule = one.partition("/")
    if not slash or not collection or not granule:
        raise UsageError(f"{one!r} names no granule.", "Write collection/id.", field=f"inputs.{role}")
    return Reference(collection, granule, CURRENT)


# Pauses --------------------------------------------------------------------------------------------------------


class PauseWire(Wire):
    """Which version of an algorithm to pause or resume, and why."""

    version: str | None = None
    reason: str = Field("", max_length=1000)


@pauses.get("/pauses")
async def all_pauses(web: Web, actor: SignedIn) -> dict[str, Any]:
    """Algorithms that are paused, each with its reason."""
    async with web.database.transaction() as tx:
        rows = await pause.paused(tx, actor)
    return {"pauses": [row | {"paused_at": iso(row["paused_at"])} for row in rows]}


@pauses.post("/algorithms/{algorithm}/pause", status_code=204)
async def pause_algorithm(web: Web, actor: SignedIn, algorithm: str, body: PauseWire) -> None:
    """Hold the jobs of an algorithm's version, those to come included; what runs goes on."""
    async with web.database.transaction() as tx:
        found = await resolve(tx, actor, algorithm, body.version)
        await pause.pause(tx, actor, found, body.reason or f"{actor.account} paused it.")


@pauses.post("/algorithms/{algorithm}/resume")
async def resume_algorithm(web: Web, actor: SignedIn, algorithm: str, body: PauseWire) -> dict[str, Any]:
    """Let the jobs of a paused version run."""
    async with web.database.transaction() as tx:
        return {"released": await pause.resume(tx, actor, await resolve(tx, actor, algorithm, body.version))}


router.routes.extend(pauses.routes)  # one face, whatever its paths begin with
