"""Do something to many jobs: choose and lock, change, announce and keep what they were, in one transaction."""

from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import psycopg

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base.db import Transaction
from armillary.base.errors import NotFound, TransientError
from armillary.base.ids import new_id
from armillary.base.wakes import COMMANDS, JOBS, QUEUE, WORK
from armillary.granules import find
from armillary.jobs import depend
from armillary.jobs.bulk import store
from armillary.jobs.bulk.operation import Operation, Preview, Request, Verb, check
from armillary.jobs.job import JobState
from armillary.jobs.select import condition

SAMPLE = 20


async def preview(tx: Transaction, actor: Actor, request: Request) -> Preview:
    """What `perform` would change now; nothing is, as the choice is made in a part that is taken back."""
    check(request)
    found = Preview(0, [], [])
    with suppress(psycopg.Rollback):
        async with tx.savepoint():
            operation = await _choose(tx, actor, request)
            counts = await store.counts(tx, operation)
            found = Preview(sum(row["jobs"] for row in counts), counts, await store.first(tx, operation, SAMPLE))
            raise psycopg.Rollback
    return found


async def perform(tx: Transaction, actor: Actor, request: Request) -> Operation:
    """Do it to every job that is selected and that it concerns; the operation is kept even if that is none."""
    check(request)
    permit(actor, "change", actor.group)
    operation = await _choose(tx, actor, request)
    said = f": {request.reason}" if request.reason else ""
    await _change(tx, operation, request, f"{actor.account} {_DONE[request.verb]} (operation {operation}{said}).")
    await store.announce(tx, operation, _KINDS[request.verb], actor.account)
    for channel in (COMMANDS, JOBS, QUEUE, WORK):
        tx.wake(channel)
    return await store.get(tx, operation)


async def _choose(tx: Transaction, actor: Actor, request: Request) -> UUID:
    """Record the operation and lock what it is about."""
    operation, chosen = new_id(), condition(request.selection)
    chosen = replace(chosen, params=chosen.params | {f"new_{name}": value for name, value in request.arguments.items()})
    await store.insert(tx, operation, request, actor)
    await store.choose(tx, operation, request.verb, chosen, actor.scope, request.limit)
    # Those that were locked by others have changed meanwhile: what is locked now is asked once more.
    await store.drop_changed(tx, operation, request.verb, chosen, actor.scope)
    if request.verb is Verb.RETRY:
        await store.drop_twins(tx, operation)
        await _drop_retired(tx, operation)
        await store.drop_needy(tx, operation)
    await store.count(tx, operation)
    return operation


async def _drop_retired(tx: Transaction, operation: UUID) -> None:
    """Leave out jobs whose inputs retention has retired since they ended."""
    inputs = await store.inputs(tx, operation)
    granules = await find.at_revisions(tx, list({reference for _job, reference in inputs}))
    retired = {reference for reference, granule in granules.items() if granule.retired_at}
    await store.drop(tx, operation, {job for job, reference in inputs if reference in retired})


async def _change(tx: Transaction, operation: UUID, request: Request, why: str) -> None:
    match request.verb:
        case Verb.CANCEL:
            await store.cancel(tx, operation, why)
            await depend.settle(tx, [(job, JobState.CANCELLED) for job in await store.awaited(tx, operation)])
        case Verb.RETRY:
            if not await store.retry(tx, operation, why):
                raise TransientError("An equal job was submitted meanwhile.", "Ask again.")
        case Verb.HOLD:
            await store.hold(tx, operation, why)
        case Verb.RELEASE:
            await store.release(tx, operation, why)
        case Verb.PRIORITY:
            await store.prioritise(tx, operation, request.arguments["priority"])
        case Verb.MOVE:
            await _move(tx, operation, request.arguments["pool"])
        case Verb.PURGE:
            await store.announce(tx, operation, "job.purged", "system:jobs")
            await store.purge(tx, operation)


async def _move(tx: Transaction, operation: UUID, pool: str) -> None:
    try:
        async with tx.savepoint():
            await store.move(tx, operation, pool)
    except psycopg.errors.ForeignKeyViolation as error:
        raise NotFound(
            f"There is no pool {pool}.", "`armillary pool list` shows those that are.", field="pool"
        ) from error


_DONE = {
    Verb.CANCEL: "cancelled it",
    Verb.RETRY: "wants it tried again",
    Verb.HOLD: "holds it",
    Verb.RELEASE: "released it",
    Verb.PRIORITY: "moved it in its queue",
    Verb.MOVE: "moved it",
    Verb.PURGE: "purged it",
}
_KINDS = {
    Verb.CANCEL: "job.finished",
    Verb.RETRY: "job.retried",
    Verb.HOLD: "job.held",
    Verb.RELEASE: "job.released",
    Verb.PRIORITY: "job.prioritised",
    Verb.MOVE: "job.moved",
    Verb.PURGE: "job.purged",
}
