"""Find granules, for other nouns: one, many by name or revision, or all that a compiled condition proposes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from armillary.accounts.actor import Actor
from armillary.base.db import Transaction
from armillary.base.errors import NotFound
from armillary.granules import store
from armillary.granules.granule import Granule, Reference


async def get(tx: Transaction, actor: Actor, collection: str, granule: str, revision: int | None = None) -> Granule:
    """One revision, the current one unless named; `NotFound` if the actor may not see it."""
    found = await store.find(tx, collection, granule, revision, actor.scope)
    if found is None:
        which = f" revision {revision} of" if revision else ""
        raise NotFound(f"There is no{which} granule {collection}/{granule}.", "Search with `armillary granule list`.")
    return found


async def current(tx: Transaction, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Granule]:
    """The current revisions of those that exist, whoever asks."""
    return {(found.collection, found.granule): found for found in await store.current(tx, keys)}


async def at_revisions(tx: Transaction, references: Sequence[Reference]) -> dict[Reference, Granule]:
    """Exactly these revisions, of those that exist, whoever asks."""
    keys = [(reference.collection, reference.id, reference.revision) for reference in references]
    return {
        Reference(found.collection, found.granule, found.revision): found
        for found in await store.at_revisions(tx, keys)
    }


async def retired(tx: Transaction, references: Sequence[Reference]) -> dict[Reference, datetime]:
    """Since when those of these revisions are hidden that retention has retired."""
    return await store.retired_since(tx, references)


async def proposed(tx: Transaction, condition: str, params: dict[str, Any], limit: int = 10_000) -> list[Granule]:
    """Granules that satisfy a condition on `item`, compiled by the caller, newest first."""
    return await store.proposed(tx, condition, params, limit)


async def count(tx: Transaction) -> int:
    """Granules catalogued."""
    return await store.count(tx)
