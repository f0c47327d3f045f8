"""The HTTP face of operations on many jobs."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from armillary.accounts.api import SignedIn
from armillary.base.clock import iso
from armillary.base.db import Transaction
from armillary.base.http import Web, Wire
from armillary.jobs.bulk import run, store
from armillary.jobs.bulk import undo as undoing
from armillary.jobs.bulk.operation import CONCERNS, UNDOABLE, Operation, Request, Verb
from armillary.jobs.select import Selection

router = APIRouter(prefix="/api/job-operations", tags=["jobs"])


class SelectionWire(Wire):
    """Which jobs: by id, by column, by a filter in CQL2; what fits all that is given."""

    jobs: list[UUID] = Field(default_factory=list, max_length=10_000)
    where: str | bool | dict[str, Any] | None = None
    state: str | None = None
    algorithm: str | None = None
    pool: str | None = None


class OperationWire(Wire):
    """What to do to them; `dry_run` only says what would be done."""

    verb: Verb
    selection: SelectionWire
    arguments: dict[str, Any] = Field(default_factory=dict)
    reason: str = Field("", max_length=2000)
    limit: int | None = Field(None, ge=1)
    dry_run: bool = False


@router.post("")
async def operate(web: Web, actor: SignedIn, body: OperationWire) -> dict[str, Any]:
    """Do something to many jobs in one transaction, or see what it would be."""
    chosen = body.selection.model_dump()
    # `where: true` means all, and is told apart from nothing.
    selection = Selection(**chosen | {"where": "true" if chosen["where"] is True else chosen["where"]})
    request = Request(body.verb, selection, body.arguments, body.reason, body.limit)
    if body.dry_run:
        async with web.database.transaction() as tx:
            found = await run.preview(tx, actor, request)
        return {"dry_run": True, "concerns": CONCERNS[body.verb], "jobs": found.jobs, "counts": found.counts,
                "sample": [row | {"id": str(row["id"])} for row in found.sample]}  # fmt: skip

    async def work(tx: Transaction) -> Operation:
        return await run.perform(tx, actor, request)

    return {"dry_run": False, "concerns": CONCERNS[body.verb]} | shown(await web.database.retry(work))


@router.get("")
async def operations(
    web: Web, actor: SignedIn, after: UUID | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """What was done to many jobs at once, newest first."""
    async with web.database.transaction() as tx:
        found = await store.newest(tx, actor.scope, after, limit)
    return {
        "operations": [shown(one) for one in found],
        "next": str(found[-1].id) if len(found) == limit else None,
    }


@router.get("/{operation}")
async def operation(web: Web, actor: SignedIn, operation: UUID) -> dict[str, Any]:
    """One operation."""
    async with web.database.transaction() as tx:
        return shown(await undoing.find(tx, actor, operation))


@router.get("/{operation}/jobs")
async def jobs(
    web: Web,
    actor: SignedIn,
    operation: UUID,
    after: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """The jobs that it changed, with what they were before."""
    async with web.database.transaction() as tx:
        await undoing.find(tx, actor, operation)
        rows = await store.jobs(tx, operation, after, limit)
    return {
        "jobs": [{"job": str(row["job_id"]), "former": row["former"]} for row in rows],
        "next": str(rows[-1]["job_id"]) if len(rows) == limit else None,
    }


@router.post("/{operation}/undo")
async def undo(web: Web, actor: SignedIn, operation: UUID) -> dict[str, Any]:
    """Make what still is as it left it what it was."""
    return shown(await web.database.retry(lambda tx: undoing.undo(tx, actor, operation)))


def shown(operation: Operation) -> dict[str, Any]:
    """An operation on the wire."""
    fields = dict(vars(operation)) | {"id": str(operation.id), "undoable": _is_undoable(operation)}
    return fields | {name: iso(fields[name]) for name in ("created_at", "undone_at") if fields[name]}


def _is_undoable(operation: Operation) -> bool:
    return operation.verb in UNDOABLE and operation.undone_at is None
