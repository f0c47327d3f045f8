"""Walk up from a granule to its sources and down to its products, as far as the asker may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.base.db import Transaction
from armillary.base.errors import UsageError
from armillary.granules import find
from armillary.granules.granule import Reference
from armillary.provenance import store
from armillary.provenance.activity import Lineage, Node
from armillary.provenance.store import Direction

MAX_DEPTH = 20
MAX_NODES = 5000


@dataclass(frozen=True)
class Ancestry:
    """The jobs that a granule came to be by."""

    maker: UUID | None  # none for what was ingested
    products: int  # that the maker made
    jobs: Sequence[UUID]  # the maker's and those of everything that was used on the way, each once
    is_whole: bool


async def ancestry(tx: Transaction, actor: Actor, granule: Reference) -> Ancestry:
    """All jobs on the way from the sources to a granule, as far as the actor may see."""
    jobs = await store.ancestors(tx, actor.scope, granule, MAX_NODES + 1)
    maker = (await store.makers(tx, actor.scope, [granule])).get(granule)
    made = (await store.activities(tx, [maker]))[0].generated if maker else ()
    hidden = await store.hidden_makers(tx, actor.scope, jobs)
    return Ancestry(maker, len(made), jobs[:MAX_NODES], is_whole=len(jobs) <= MAX_NODES and not hidden)


async def lineage(tx: Transaction, actor: Actor, root: Reference, direction: Direction, depth: int = 5) -> Lineage:
    """What `root` was made from (up), or what was made from it (down), `depth` activities deep."""
    if not 0 <= depth <= MAX_DEPTH:
        raise UsageError(f"depth {depth} is out of range.", f"Choose 0 to {MAX_DEPTH}.", field="depth")
    # One step more than asked for tells whether there is more.
    rows = await store.walk(tx, actor.scope, root, direction, depth + 1, MAX_NODES + 1)
    nodes = [Node(Reference(row["collection"], row["granule"], row["revision"]), row["depth"]) for row in rows]
    shown = [node for node in nodes[:MAX_NODES] if node.depth <= depth]
    inner = [node.reference for node in shown if node.depth < depth]
    if direction == "up":
        jobs = list((await store.makers(tx, actor.scope, inner)).values())
    else:
        jobs = await store.users(tx, actor.scope, inner)
    activities = await store.activities(tx, list(set(jobs)))
    named = {root} | {node.reference for node in shown}
    named |= {reference for one in activities for _, reference in (*one.used, *one.generated)}
    return Lineage(root, shown, activities, is_cut=len(shown) < len(nodes), retired=await find.retired(tx, list(named)))
