"""Define a collection, find it, take it away."""

from collections.abc import Mapping
from typing import Any

import psycopg

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict, NotFound
from armillary.collections import store
from armillary.collections.collection import Collection, read


async def put(tx: Transaction, actor: Actor, document: Mapping[str, Any], version: int) -> None:
    """Make or replace the collection that the document describes."""
    collection = read(document)
    found = await store.find(tx, collection.id)
    permit(actor, "change", found["group"] if found else actor.group)
    try:
        async with tx.savepoint():
            await store.put(tx, collection.id, version, dict(document), actor.group)
    except psycopg.errors.UniqueViolation as error:
        raise Conflict(
            f"A collection whose id differs from {collection.id!r} only by case exists.",
            "Choose another id.",
            field="id",
        ) from error


async def remove(tx: Transaction, actor: Actor, collection: str) -> None:
    """Delete an empty collection."""
    found = await row(tx, actor, collection)
    permit(actor, "change", found["group"])
    try:
        async with tx.savepoint():
            await store.delete(tx, collection)
    except psycopg.errors.ForeignKeyViolation as error:
        raise Conflict(f"Collection {collection} has granules or uploads.", "Delete those first.") from error


async def get(tx: Transaction, actor: Actor, collection: str) -> Collection:
    """The collection; `NotFound` if the actor may not see it."""
    return read((await row(tx, actor, collection))["spec"])


async def row(tx: Transaction, actor: Actor, collection: str) -> Row:
    """The collection with its group and version."""
    found = await store.find(tx, collection)
    if found is None or not (actor.kind != "user" or actor.is_owner or actor.group == found["group"]):
        raise NotFound(f"There is no collection {collection!r}.", "`armillary collection list` shows those that are.")
    return found


async def visible(tx: Transaction, actor: Actor) -> list[Row]:
    """Every collection that the actor may see."""
    return await store.visible(tx, actor.scope)
