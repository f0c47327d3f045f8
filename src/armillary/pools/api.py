"""The HTTP face of pools and of their workers. No database connection is held while a poll waits."""

import asyncio
import base64
import binascii
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, Field
from pydantic_core import to_json

from armillary.accounts.actor import Actor
from armillary.accounts.api import SignedIn
from armillary.accounts.permit import permit
from armillary.algorithms.algorithm import ErrorClass, Resources
from armillary.base.clock import iso
from armillary.base.db import Row, Transaction
from armillary.base.errors import ArmillaryError, NotAllowed, NotFound, TransientError, UsageError
from armillary.base.http import Context, Web, Wire
from armillary.base.links import file_path
from armillary.base.wakes import COMMANDS
from armillary.granules import ingest, stac
from armillary.granules.api import CommitWire, files
from armillary.jobs import checkpoints, kept, logs, queue
from armillary.jobs.api import JobWire
from armillary.jobs.job import DEFAULT_POOL, AttemptOutcome, Report, ReportedOutput, resources_json
from armillary.jobs.logs import Chunk
from armillary.jobs.pace import Learner
from armillary.jobs.queue import Beat, Lease, LeasedInput
from armillary.pools import define, estimate, judge, store, tokens
from armillary.pools import worker as workers
from armillary.pools.pool import Arrival, Pulse, Start, Worker, pulse, read
from armillary.pools.waiting import BARRED, Barred, Commanded, Waiting
from armillary.pools.worker import Commands

router = APIRouter(prefix="/api", tags=["pools"])

LONGEST_WAIT_SECONDS = 60.0
COUNT_SECONDS = 5.0
MAX_BATCH = 200
ENDED_SHOWN = 5


class FreeWire(Wire):
    """What a worker has."""

    cpu: float = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    disk_bytes: int = Field(ge=0)
    gpu: int = Field(0, ge=0)
    seconds_left: float | None = Field(None, ge=0)  # until its provider ends it; none: nobody will

    def resources(self) -> Resources:
        """The same as a plain type."""
        left = math.inf if self.seconds_left is None else self.seconds_left
        return Resources(self.cpu, self.memory_bytes, self.disk_bytes, left, gpu=self.gpu)


class ArrivalWire(Wire):
    """A worker that registers."""

    host: str = Field(max_length=255)
    pid: int | None = None
    start: UUID | None = None
    protocol: int
    capacity: FreeWire
    ends_in_seconds: float | None = Field(None, ge=0, le=10 * 366 * 86400)


class LeaseWire(Wire):
    """A worker that looks for work."""

    free: FreeWire
    count: int = Field(1, ge=1, le=MAX_BATCH)
    in_turn: bool = False  # they need not fit beside each other: short jobs, taken ahead
    wait_seconds: float = Field(0, ge=0)


class ProgressWire(Wire):
    """How far a job is."""

    fraction: float | None = None
    stage: str | None = Field(None, max_length=200)
    message: str | None = Field(None, max_length=2000)


class RunningWire(Wire):
    """A job that runs."""

    job: UUID
    lease: int
    progress: ProgressWire | None = None
    usage: dict[str, Any] | None = None
    started_at: datetime | None = None


class MachineWire(Wire):
    """How a worker's machine is: gauges of now, and counters (`disk_reads` to `network_sent_bytes`) since it was started."""

    clock: AwareDatetime | None = None  # what time it is there
    cpu_ratio: float | None = Field(None, ge=0)
    core_min_ratio: float | None = Field(None, ge=0)
    core_max_ratio: float | None = Field(None, ge=0)
    load1: float | None = Field(None, ge=0)
    memory_used_bytes: int | None = Field(None, ge=0)
    memory_bytes: int | None = Field(None, ge=0)
    swap_used_bytes: int | None = Field(None, ge=0)
    swap_bytes: int | None = Field(None, ge=0)
    root_disk_used_bytes: int | None = Field(None, ge=0)
    root_disk_bytes: int | None = Field(None, ge=0)
    work_disk_used_bytes: int | None = Field(None, ge=0)
    work_disk_bytes: int | None = Field(None, ge=0)
    cache_bytes: int | None = Field(None, ge=0)
    disk_reads: int | None = Field(None, ge=0)
    disk_writes: int | None = Field(None, ge=0)
    disk_read_bytes: int | None = Field(None, ge=0)
    disk_written_bytes: int | None = Field(None, ge=0)
    network_received_bytes: int | None = Field(None, ge=0)
    network_sent_bytes: int | None = Field(None, ge=0)


class BeatWire(Wire):
    """A heartbeat; `leaving` says why the worker takes nothing new, where that is not the server's wish."""

    leaving: str = Field("", max_length=2000)
    machine: MachineWire | None = None
    running: list[RunningWire] = Field(default_factory=list, max_length=10_000)


class WaitWire(Wire):
    """How long to hold the answer."""

    wait_seconds: float = Field(0, ge=0)


class ChunkWire(Wire):
    """A piece of a log."""

    job: UUID
    lease: int
    position: int = Field(ge=0)
    data: str


class ChunksWire(Wire):
    """Pieces of logs."""

    chunks: list[ChunkWire] = Field(max_length=1000)


class OutputWire(Wire):
    """A granule that a job made."""

    output: str
    commit: CommitWire


class ReportWire(Wire):
    """An attempt that ended."""

    job: UUID
    lease: int
    outcome: Literal["succeeded", "failed", "cancelled", "preempted"]
    error_class: ErrorClass | None = None
    reason: str | None = Field(None, max_length=10_000)
    remedy: str | None = Field(None, max_length=10_000)
    exit_code: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    outputs: list[OutputWire] = Field(default_factory=list)


class ReportsWire(Wire):
    """Attempts that ended; each is recorded or refused by itself."""

    reports: list[ReportWire] = Field(max_length=MAX_BATCH)


class TokenWire(Wire):
    """A pool's token to make."""

    title: str = Field("", max_length=200)
    lasts_seconds: float | None = Field(None, gt=0, le=100 * 366 * 86400)


class LeaveWire(Wire):
    """Why a worker goes."""

    reason: str = Field("", max_length=2000)


# Pools ---------------------------------------------------------------------------------------------------------


@router.get("/pools")
async def pools(web: Web, actor: SignedIn) -> dict[str, Any]:
    """Every pool with its workers and what waits for them."""
    async with web.database.transaction() as tx:
        rows = await store.visible(tx, actor.scope)
        counts = await store.counts(tx)
        demand = await queue.demand(tx)
    return {
        "pools": [
            {
                "id": row["id"],
                "spec": row["spec"],
                "group": row["group"],
                "workers": counts.get(row["id"], {}),
                "waiting": demand.get(row["id"], queue.Demand()).waiting,
                "running": demand.get(row["id"], queue.Demand()).running,
                **{name: row[name] for name in ("wanted", "why")},
            }
            for row in rows
        ],
        "next": None,
    }


@router.get("/pools/{pool}")
async def pool(web: Web, actor: SignedIn, pool: str, gone: bool = False) -> dict[str, Any]:
    """One pool with each of its workers; `gone` shows those of the past too."""
    async with web.database.transaction() as tx:
        row = await define.row(tx, actor, pool)
        found = await store.workers(tx, pool, with_gone=gone)
        demand = (await queue.demand(tx)).get(pool, queue.Demand())
        starts, ended = await store.starts(tx, pool), await store.ended_starts(tx, pool, ENDED_SHOWN)
        hours = await store.hours_today(tx, pool)
    price = read(row["spec"]).scale.cost_per_hour
    return {
        "id": row["id"],
        "spec": row["spec"],
        "group": row["group"],
        "waiting": demand.waiting,
        "running": demand.running,
        "wanted": row["wanted"],
        "why": row["why"],
        "decided_at": iso(row["decided_at"]) if row["decided_at"] else None,
        "hours_today": hours,
        "cost_today": hours * price,
        "workers": [_worker(worker) for worker in found],
        "starts": [_start(start) for start in starts],
        "ended": [_ended(start) for start in ended],
    }


class LoadWire(Wire):
    """So many jobs of an algorithm in a pool."""

    algorithm: str
    version: str | None = None
    pool: str = DEFAULT_POOL
    jobs: int = Field(1, ge=0)


class EstimateWire(Wire):
    """Submissions as they would be sent, or loads where only numbers are known."""

    jobs: list[JobWire] = Field(default_factory=list, max_length=1000)
    loads: list[LoadWire] = Field(default_factory=list, max_length=1000)


@router.post("/estimates")
async def estimates(web: Web, actor: SignedIn, body: EstimateWire) -> dict[str, Any]:
    """What work would take and cost, with the basis of that; nothing is submitted."""
    requests = [one.request(actor) for one in body.jobs]
    loads = [estimate.Load(one.algorithm, one.version, one.pool, one.jobs) for one in body.loads]

    async def work(tx: Transaction) -> dict[str, Any]:
        outcomes, found = await estimate.of_requests(tx, actor, requests) if requests else ([], [])
        found += await estimate.of_loads(tx, actor, loads)
        return {
            "jobs": [
                # One that would be new has no id that anybody could ask for.
                {"outcome": one.outcome, "reason": one.reason}
                | ({} if one.outcome == "submitted" else {"job": str(one.job.id)})
                for one in outcomes
            ],
            "estimates": [estimate.shown(one) for one in found],
            "total": estimate.total(found),
        }

    return await web.database.retry(work)


@router.post("/pools/{pool}/drain")
async def drain_pool(web: Web, actor: SignedIn, pool: str) -> dict[str, Any]:
    """Let all workers that a pool has now finish what they run and then go; the pool starts others as it needs them."""
    async with web.database.transaction() as tx:
        permit(actor, "change", (await define.row(tx, actor, pool))["group"])
        found = [worker for worker in await store.workers(tx, pool) if worker.state == "live"]
        for worker in found:
            await workers.drain(tx, worker.id, f"{actor.account} drains the pool.")
    return {"workers": [str(worker.id) for worker in found]}


@router.get("/pools/{pool}/tokens")
async def pool_tokens(web: Web, actor: SignedIn, pool: str) -> dict[str, Any]:
    """The tokens of a pool: by whom, until when, and how many workers came with each."""
    async with web.database.transaction() as tx:
        found = await tokens.those_of(tx, actor, pool)
    return {"tokens": [_token(row) for row in found], "next": None}


@router.post("/pools/{pool}/tokens", status_code=201)
async def make_token(web: Web, actor: SignedIn, pool: str, body: TokenWire) -> dict[str, Any]:
    """Make a token that registers workers of this pool; it is shown this once."""
    lasts = None if body.lasts_seconds is None else timedelta(seconds=body.lasts_seconds)
    async with web.database.transaction() as tx:
        made, secret = await tokens.make(tx, actor, pool, body.title, lasts)
    return {"id": str(made), "token": secret}


@router.delete("/pools/{pool}/tokens/{token}")
async def revoke_token(web: Web, actor: SignedIn, pool: str, token: UUID) -> dict[str, Any]:
    """Revoke a token: its workers are refused from now on, and what they ran goes on elsewhere."""
    async with web.database.transaction() as tx:
        ended = await tokens.revoke(tx, actor, pool, token)
    return {"workers": [str(worker) for worker in ended]}


@router.get("/workers")
async def all_workers(
    web: Web,
    actor: SignedIn,
    pool: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: UUID | None = None,
) -> dict[str, Any]:
    """Workers of all pools, those of the past too, newest first."""
    async with web.database.transaction() as tx:
        found = await store.newest_workers(tx, actor.scope, pool, after, limit)
        running = await queue.running(tx, [worker.id for worker in found])
    return {
        "workers": [_worker(worker) | {"running": running.get(worker.id, 0)} for worker in found],
        "next": str(found[-1].id) if len(found) == limit else None,
    }


@router.post("/pools/{pool}/workers/{worker}/drain", status_code=204)
async def drain(web: Web, actor: SignedIn, pool: str, worker: UUID, body: LeaveWire) -> None:
    """Let a worker finish what it runs and then go."""
    async with web.database.transaction() as tx:
        permit(actor, "change", (await define.row(tx, actor, pool))["group"])
        found = await store.state(tx, worker)
        if found is None or found["pool"] != pool:
            raise NotFound(f"Pool {pool} has no worker {worker}.", f"`armillary pool show {pool}` lists them.")
        await workers.drain(tx, worker, body.reason or f"{actor.account} drains it.")


@router.post("/workers/{worker}/release", status_code=204)
async def release(web: Web, actor: SignedIn, worker: UUID) -> None:
    """Take a quarantined worker back: its failures are forgotten and it is given work again."""
    async with web.database.transaction() as tx:
        found = await store.state(tx, worker)
        if found is None:
            raise NotFound(f"There is no worker {worker}.", "`armillary worker list` shows those that are.")
        permit(actor, "change", (await define.row(tx, actor, found["pool"]))["group"])
        await judge.release(tx, actor, worker)


# Workers -------------------------------------------------------------------------------------------------------


@router.post("/pools/{pool}/workers", status_code=201)
async def register(web: Web, actor: SignedIn, pool: str, body: ArrivalWire, request: Request) -> dict[str, Any]:
    """Become a worker of a pool."""
    ends_in = None if body.ends_in_seconds is None else timedelta(seconds=body.ends_in_seconds)
    arrival = Arrival(body.host, body.pid, body.protocol, body.capacity.resources(), body.start, ends_in)
    async with web.database.transaction() as tx:
        registered = await workers.register(tx, actor, pool, arrival)
    beats = await _pulse(request, web)
    return {
        "worker": str(registered.worker),
        "epoch": registered.epoch,
        "token": registered.token,
        "heartbeat_seconds": beats.every.total_seconds(),
        "lease_seconds": beats.silent_after.total_seconds(),
    }


@router.post("/workers/{worker}/lease")
async def lease(web: Web, actor: SignedIn, worker: UUID, body: LeaseWire, request: Request) -> Response:
    """Jobs to run; held until there is one."""
    pool = _own(actor, worker)
    free = body.free.resources()

    async def look() -> tuple[list[Lease], bool] | Barred | None:
        # A caller that has gone away must not be given work that nobody would hear of.
        if await request.is_disconnected():
            return [], False
        async with web.database.transaction() as tx:
            found = await workers.lease(tx, worker, free, body.count, in_turn=body.in_turn)
        if found is None:
            return BARRED
        leases, is_draining = found
        return (leases, is_draining) if leases or is_draining else None

    seconds = min(body.wait_seconds, LONGEST_WAIT_SECONDS)
    leases, is_draining = await _waiting(request, web).until(worker, pool, free, seconds, look) or ([], False)
    # Written here: to look through hundreds of leases for what may not be JSON takes longer than all else.
    sign = cache(partial(web.links.sign, expires=web.settings.store.link_expires))
    answer = {"leases": [_lease(web, lease, sign) for lease in leases], "drain": is_draining}
    return Response(to_json(answer), media_type="application/json")


@router.post("/workers/{worker}/heartbeat")
async def heartbeat(web: Web, actor: SignedIn, worker: UUID, body: BeatWire, request: Request) -> dict[str, Any]:
    """The worker lives; what it is to do, and when to say so again."""
    _own(actor, worker)
    told = await _pulse(request, web)
    beats = [Beat(one.job, one.lease, _progress(one), one.started_at) for one in body.running]
    async with web.database.transaction() as tx:
        if body.leaving:
            await workers.drain(tx, worker, body.leaving)
        commands = await workers.heartbeat(
            tx,
            worker,
            beats,
            max(web.settings.pools.time_to_live, told.silent_after),
            told.silent_after,
            body.machine.model_dump(exclude_none=True, exclude={"clock"}) if body.machine else None,
            body.machine.clock if body.machine else None,
        )
    return _commands(commands) | {"heartbeat_seconds": told.every.total_seconds()}


@router.post("/workers/{worker}/commands")
async def commands(web: Web, actor: SignedIn, worker: UUID, body: WaitWire, request: Request) -> dict[str, Any]:
    """What the worker is to do, held until there is something."""
    _own(actor, worker)
    async with _listening(request, web, worker):
        return _commands(await _held_commands(request, web, worker, min(body.wait_seconds, LONGEST_WAIT_SECONDS)))


async def _held_commands(request: Request, web: Context, worker: UUID, seconds: float) -> Commands:
    deadline = time.monotonic() + seconds
    while True:
        since = web.database.wakes.count(COMMANDS)
        async with web.database.transaction() as tx:
            found = await workers.commands(tx, worker)
        left = deadline - time.monotonic()
        if found.stop or found.drain or left <= 0:
            return found
        # A lost wake is caught by the heartbeat, which carries the same commands: no polling here.
        while left > 0:
            await web.database.wakes.wait(COMMANDS, since, left)
            since, left = web.database.wakes.count(COMMANDS), deadline - time.monotonic()
            if await _commanded(request, web, worker, since):
                break


@router.post("/workers/{worker}/logs")
async def append_logs(web: Web, actor: SignedIn, worker: UUID, body: ChunksWire) -> dict[str, Any]:
    """What jobs wrote."""
    _own(actor, worker)
    chunks = [Chunk(one.job, one.lease, one.position, _bytes(one.data)) for one in body.chunks]
    async with web.database.transaction() as tx:
        refused = await logs.append(tx, worker, chunks)
    return {"refused": [{"job": str(job), "lease": number} for job, number in refused]}


@router.post("/workers/{worker}/finish")
async def finish(web: Web, actor: SignedIn, worker: UUID, body: ReportsWire, request: Request) -> dict[str, Any]:
    """Attempts that ended: outputs, states, provenance and events in one transaction."""
    _own(actor, worker)
    commits = [output.commit.commit() for report in body.reports for output in report.outputs]
    prepared = iter(await ingest.prepare(web.database, web.store, commits) if commits else [])
    reports = [_report(report, [next(prepared) for _ in report.outputs]) for report in body.reports]
    results = await web.database.retry(lambda tx: workers.finish(tx, actor, worker, reports))
    _waiting(request, web).ask_anew(worker)
    await _learner(request).learn(
        web.database, [(one.job_id, one.lease) for one in results if one.outcome == "recorded"]
    )
    return {
        "results": [
            {
                "job": str(result.job_id),
                "lease": result.lease,
                "outcome": result.outcome,
                "reason": result.reason,
                **({"problem": result.problem} if result.problem else {}),
            }
            for result in results
        ]
    }


@router.put("/workers/{worker}/checkpoints/{job}/{number}", status_code=204)
async def checkpoint(
    web: Web,
    actor: SignedIn,
    worker: UUID,
    job: UUID,
    number: int,
    request: Request,
    armillary_sha256: Annotated[str, Header(alias="Armillary-SHA256")],
) -> None:
    """Files that the next attempt may take up, a tar as the raw body."""
    _own(actor, worker)
    await checkpoints.save(web.database, web.store, worker, job, number, armillary_sha256, request.stream())


@router.put("/workers/{worker}/folders/{job}/{number}", status_code=204)
async def keep_folder(web: Web, actor: SignedIn, worker: UUID, job: UUID, number: int, request: Request) -> None:
    """What a failed attempt left: a line of JSON, `{files: [{path, size, kept}], whole, for_seconds}`, then the bytes."""
    _own(actor, worker)
    await kept.save(web.database, web.store, worker, job, number, request.stream())


@router.post("/workers/{worker}/leave", status_code=204)
async def leave(web: Web, actor: SignedIn, worker: UUID, body: LeaveWire) -> None:
    """The worker goes; what it still holds goes back."""
    _own(actor, worker)
    async with web.database.transaction() as tx:
        await workers.leave(tx, worker, body.reason)


# Wire ----------------------------------------------------------------------------------------------------------


def _own(actor: Actor, worker: UUID) -> str:
    if actor.kind != "worker" or actor.worker_id != worker or actor.pool is None:
        raise NotAllowed(f"{actor.account} is not worker {worker}.", "Use the token that its registration gave.")
    return actor.pool


def _waiting(request: Request, web: Context) -> Waiting:
    state = request.app.state
    if not hasattr(state, "waiting"):
        state.waiting = Waiting(web.database.wakes)
    waiting: Waiting = state.waiting
    return waiting


@contextlib.asynccontextmanager
async def _listening(request: Request, web: Context, worker: UUID) -> AsyncIterator[None]:
    """Whoever dies hangs up, as its machine closes what it had open; who is frozen or cut off does not."""

    async def note() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        with contextlib.suppress(TransientError):
            async with web.database.transaction() as tx:
                await workers.hung_up(tx, worker)

    noting = asyncio.create_task(note())
    try:
        yield
    finally:
        noting.cancel()


async def _commanded(request: Request, web: Context, worker: UUID, count: int) -> bool:
    async def ask() -> frozenset[UUID]:
        async with web.database.transaction() as tx:
            return await workers.commanded(tx)

    state = request.app.state
    if not hasattr(state, "commanded"):
        state.commanded = Commanded()
    commanded: Commanded = state.commanded
    return await commanded.has(worker, count, ask)


async def _pulse(request: Request, web: Context) -> Pulse:
    """How often to beat; the size of the fleet is counted every few seconds."""
    state = request.app.state
    if getattr(state, "pulse_until", 0.0) < time.monotonic():
        state.pulse_until = time.monotonic() + COUNT_SECONDS
        async with web.database.transaction() as tx:
            number = await store.alive(tx)
        state.pulse = pulse(number, web.settings.pools.heartbeat, web.settings.pools.time_to_live)
    # The first to ask is still counting.
    found: Pulse = getattr(state, "pulse", pulse(0, web.settings.pools.heartbeat, web.settings.pools.time_to_live))
    return found


def _learner(request: Request) -> Learner:
    state = request.app.state
    if not hasattr(state, "learner"):
        state.learner = Learner()
    learner: Learner = state.learner
    return learner


def _lease(web: Context, lease: Lease, sign: Callable[[str], str]) -> dict[str, Any]:
    registered = lease.registered
    algorithm = registered.algorithm
    inputs: dict[str, list[dict[str, Any]]] = {role: [] for role in algorithm.inputs}
    for one in lease.inputs:
        inputs[one.role].append(_input(web, one))
    return {
        "job": str(lease.job_id),
        "lease": lease.number,
        "leased_at": iso(lease.leased_at),
        "algorithm": {
            "id": algorithm.id,
            "version": algorithm.version,
            "digest": registered.digest,
            "spec": algorithm.spec,
        },
        "bundle": registered.bundle_key
        and {
            "sha256": registered.bundle_sha256,
            "size": registered.bundle_size,
            "href": sign(file_path(registered.bundle_key)),
        },
        "environment": algorithm.environment,
        "parameters": lease.parameters,
        "inputs": inputs,
        "outputs": {
            name: {"collection": output.collection, "many": output.many, "optional": output.optional}
            for name, output in algorithm.outputs.items()
        },
        "resources": resources_json(lease.resources),
        "checkpoint": lease.checkpoint
        and {
            "sha256": lease.checkpoint.sha256,
            "size": lease.checkpoint.size_bytes,
            "href": sign(file_path(lease.checkpoint.key)),
        },
        "group": lease.group,
    }


def _input(web: Context, one: LeasedInput) -> dict[str, Any]:
    granule = one.granule
    return {
        "collection": granule.collection,
        "id": granule.granule,
        "revision": granule.revision,
        "item": stac.item(granule, web.url()),
        "files": [{name: file[name] for name in ("path", "size", "sha256", "href")} for file in files(web, granule)],
    }


def _report(wire: ReportWire, prepared: Sequence[ingest.Prepared | ArmillaryError]) -> Report:
    return Report(
        job_id=wire.job,
        lease=wire.lease,
        outcome=AttemptOutcome(wire.outcome),
        error_class=wire.error_class,
        reason=wire.reason or "",
        remedy=wire.remedy or "",
        exit_code=wire.exit_code,
        started_at=wire.started_at,
        ended_at=wire.ended_at,
        usage=wire.usage,
        result=wire.result,
        outputs=[ReportedOutput(output.output, commit) for output, commit in zip(wire.outputs, prepared, strict=True)],
    )


def _progress(one: RunningWire) -> dict[str, Any] | None:
    said = one.progress.model_dump(exclude_none=True) if one.progress else {}
    if one.usage:
        said["usage"] = one.usage
    return said or None


def _commands(commands: Commands) -> dict[str, Any]:
    return {
        "stop": [{"job": str(job), "lease": number, "how": how} for job, number, how in commands.stop],
        "gone": [{"job": str(job), "lease": number} for job, number in commands.gone],
        "drain": commands.drain,
    }


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "id": str(worker.id),
        "pool": worker.pool,
        "host": worker.host,
        "pid": worker.pid,
        "state": worker.state,
        "reason": worker.reason,
        "capacity": {
            "cpu": worker.capacity.cpu,
            "memory_bytes": worker.capacity.memory_bytes,
            "disk_bytes": worker.capacity.disk_bytes,
            "gpu": worker.capacity.gpu,
        },
        "registered_at": iso(worker.registered_at),
        "beat_at": iso(worker.beat_at),
        "idle_since": iso(worker.idle_since) if worker.idle_since else None,
        "ended_at": iso(worker.ended_at) if worker.ended_at else None,
        "ends_at": iso(worker.ends_at) if worker.ends_at else None,
    }


def _start(start: Start) -> dict[str, Any]:
    return {
        "id": str(start.id),
        "provider": start.provider,
        "reference": start.reference,
        "state": start.state,
        "note": start.note,
        "started_at": iso(start.started_at),
        "worker": str(start.worker_id) if start.worker_id else None,
    }


def _ended(row: Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "provider": row["provider"],
        "reference": row["reference"],
        "reason": row["reason"],
        "started_at": iso(row["started_at"]),
        "ended_at": iso(row["ended_at"]),
        "worker": str(row["worker_id"]) if row["worker_id"] else None,
    }


def _token(row: Row) -> dict[str, Any]:
    state = "revoked" if row["revoked_at"] else "expired" if row["is_expired"] else "in force"
    times = {name: iso(row[name]) if row[name] else None for name in ("created_at", "expires_at", "revoked_at")}
    return {
        "id": str(row["id"]),
        "state": state,
        **{name: row[name] for name in ("title", "made_by", "workers")},
        **times,
    }


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise UsageError("A chunk's data is not base64.", "Encode it.", field="chunks.data") from error
