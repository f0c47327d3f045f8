"""Undo an operation: what still is as it left it becomes what it was, and what has moved on stays."""

from uuid import UUID

import psycopg

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base.db import Transaction
from armillary.base.errors import Conflict, NotFound
from armillary.base.wakes import JOBS, QUEUE
from armillary.jobs.bulk import store
from armillary.jobs.bulk.operation import INSTEAD, UNDOABLE, Operation, Verb


async def undo(tx: Transaction, actor: Actor, operation: UUID) -> Operation:
    """Undo it once, as a whole, in one transaction."""
    await store.lock(tx, operation)
    found = await find(tx, actor, operation)
    permit(actor, "change", found.group)
    verb = Verb(found.verb)
    if verb not in UNDOABLE:
        raise Conflict(f"What {verb} did cannot be undone.", INSTEAD[verb])
    if found.undone_at:
        raise Conflict(f"{found.undone_by} has undone it already.", "See `armillary job operations`.")
    await store.keep_untouched(tx, operation, verb)
    try:
        async with tx.savepoint():
            restored = await store.restore(tx, operation, verb)
    except psycopg.errors.ForeignKeyViolation as error:
        raise Conflict("A pool that a job came from is no more.", "Move the jobs to another.") from error
    await store.announce(tx, operation, "job.restored", actor.account)
    await store.mark_undone(tx, operation, actor.account, restored)
    for channel in (QUEUE, JOBS):
        tx.wake(channel)
    return await store.get(tx, operation)


async def find(tx: Transaction, actor: Actor, operation: UUID) -> Operation:
    """One operation that the actor may see."""
    found = await store.get(tx, operation)
    scope = actor.scope
    if not (scope["all_groups"] or found.group in scope["groups"]):
        raise NotFound(f"There is no operation {operation}.", "`armillary job operations` shows those that are.")
    return found
