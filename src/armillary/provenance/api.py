"""The HTTP face of provenance."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from armillary.accounts.api import SignedIn
from armillary.base.clock import iso
from armillary.base.http import Context, Web
from armillary.granules import find
from armillary.granules.granule import Reference
from armillary.provenance.activity import Activity, Lineage
from armillary.provenance.lineage import MAX_DEPTH, lineage
from armillary.provenance.prov_json import prov_json

router = APIRouter(prefix="/api/provenance", tags=["provenance"])

Depth = Annotated[int, Query(ge=0, le=MAX_DEPTH)]
Way = Literal["up", "down"]


@router.get("/{collection}/{granule}")
async def show(
    web: Web,
    actor: SignedIn,
    collection: str,
    granule: str,
    direction: Way = "up",
    depth: Depth = 5,
    revision: int | None = None,
) -> dict[str, Any]:
    """What a granule was made from, or what was made from it."""
    found = await _lineage(web, actor, collection, granule, revision, direction, depth)
    return {
        "root": _reference(found, found.root),
        "direction": direction,
        "granules": [_reference(found, node.reference) | {"depth": node.depth} for node in found.nodes],
        "activities": [_activity(found, activity) for activity in found.activities],
        "is_cut": found.is_cut,
    }


@router.get("/{collection}/{granule}/prov")
async def prov(
    web: Web,
    actor: SignedIn,
    collection: str,
    granule: str,
    direction: Way = "up",
    depth: Depth = 5,
    revision: int | None = None,
) -> dict[str, Any]:
    """The same as W3C PROV-JSON."""
    return prov_json(await _lineage(web, actor, collection, granule, revision, direction, depth))


async def _lineage(
    web: Context, actor: SignedIn, collection: str, granule: str, revision: int | None, direction: Way, depth: int
) -> Lineage:
    async with web.database.transaction() as tx:
        root = await find.get(tx, actor, collection, granule, revision)
        reference = Reference(root.collection, root.granule, root.revision)
        return await lineage(tx, actor, reference, direction, depth)


def _activity(found: Lineage, activity: Activity) -> dict[str, Any]:
    return {
        "job": str(activity.job_id),
        "attempt": activity.attempt,
        "algorithm": activity.algorithm,
        "algorithm_version": activity.algorithm_version,
        "algorithm_digest": activity.algorithm_digest,
        "parameters": activity.parameters,
        "host": activity.host,
        "agent": activity.agent,
        "started_at": iso(activity.started_at),
        "ended_at": iso(activity.ended_at),
        "duration_seconds": activity.duration_seconds,
        "used": [{"role": role} | _reference(found, one) for role, one in activity.used],
        "generated": [{"output": output} | _reference(found, one) for output, one in activity.generated],
    }


def _reference(found: Lineage, reference: Reference) -> dict[str, Any]:
    shown = {"collection": reference.collection, "granule": reference.id, "revision": reference.revision}
    return shown | ({"retired_at": iso(found.retired[reference])} if reference in found.retired else {})
