"""Define a pool, find it, take it away."""

from collections.abc import Mapping
from typing import Any

import psycopg

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict, NotFound
from armillary.pools import store
from armillary.pools.pool import Pool, read


async def put(tx: Transaction, actor: Actor, document: Mapping[str, Any], version: int) -> None:
    """Make or replace the pool that the document describes; the reconciler follows."""
    pool = read(document)
    found = await store.find(tx, pool.id)
    permit(actor, "change", found["group"] if found else actor.group)
    await store.put(tx, pool.id, version, dict(document), actor.group)


async def remove(tx: Transaction, actor: Actor, pool: str) -> None:
    """Delete a pool that has no live jobs and never had workers; others are emptied by `workers: {max: 0}`."""
    found = await row(tx, actor, pool)
    permit(actor, "change", found["group"])
    try:
        async with tx.savepoint():
            await store.delete(tx, pool)
    except psycopg.errors.ForeignKeyViolation as error:
        raise Conflict(
            f"Pool {pool} has live jobs or a history of workers.", "Set its workers to {min: 0, max: 0} instead."
        ) from error


async def get(tx: Transaction, actor: Actor, pool: str) -> Pool:
    """The pool; `NotFound` if the actor may not see it."""
    return read((await row(tx, actor, pool))["spec"])


async def row(tx: Transaction, actor: Actor, pool: str) -> Row:
    """The pool with its group and version."""
    found = await store.find(tx, pool)
    if found is None or not (actor.kind != "user" or actor.is_owner or actor.group == found["group"]):
        raise NotFound(f"There is no pool {pool}.", "`armillary pool list` shows those that are.")
    return found
