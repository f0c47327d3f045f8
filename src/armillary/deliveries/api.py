"""Deliveries over HTTP; destinations are defined through `/api/definitions`."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from armillary.accounts.api import SignedIn
from armillary.base.http import Web, Wire
from armillary.deliveries import send, store
from armillary.deliveries.delivery import Delivery
from armillary.granules import find
from armillary.granules.granule import Reference

router = APIRouter(prefix="/api/deliveries", tags=["deliveries"])


class DeliverWire(Wire):
    """Granules (collection/id) to send."""

    destination: str
    granules: list[str] = Field(max_length=1000)


@router.get("")
async def deliveries(
    web: Web, actor: SignedIn, state: str | None = None, granule: str | None = None, limit: int = 100
) -> dict[str, Any]:
    """Deliveries, newest first; of one granule (collection/id) if named."""
    key = _split(granule) if granule else None
    async with web.database.transaction() as tx:
        found = await store.listed(tx, actor.scope, state, key, min(limit, 1000))
    return {"deliveries": [_shown(delivery) for delivery in found]}


@router.get("/unacknowledged")
async def unacknowledged(web: Web, actor: SignedIn, limit: int = 100) -> dict[str, Any]:
    """What was sent and never acknowledged, the oldest first."""
    async with web.database.transaction() as tx:
        rows = await store.unacknowledged(tx, actor.scope, min(limit, 1000))
    return {"deliveries": [row | {"waited": row["waited"].total_seconds()} for row in rows]}


@router.post("", status_code=201)
async def deliver(web: Web, actor: SignedIn, body: DeliverWire) -> dict[str, Any]:
    """Send granules to a destination; one that is on its way or there already is not sent twice."""
    sent = []
    async with web.database.transaction() as tx:
        for name in body.granules:
            collection, granule = _split(name)
            found = await find.get(tx, actor, collection, granule)
            reference = Reference(found.collection, found.granule, found.revision)
            sent.append(await send.intend(tx, actor, body.destination, reference, cause={"account": actor.account}))
    return {"deliveries": [_shown(delivery) for delivery in sent]}


@router.post("/receipts")
async def receipt(web: Web, actor: SignedIn, body: dict[str, Any]) -> dict[str, Any]:
    """An archive's answer: a CNM-R message."""
    async with web.database.transaction() as tx:
        return _shown(await send.receipt(tx, actor, body))


@router.get("/{delivery}")
async def delivery(web: Web, actor: SignedIn, delivery: UUID) -> dict[str, Any]:
    """One delivery, with what was sent and what came back."""
    async with web.database.transaction() as tx:
        return _shown(await send.get(tx, actor, delivery))


def _split(name: str) -> tuple[str, str]:
    collection, _, granule = name.partition("/")
    return collection, granule


def _shown(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "destination": delivery.destination,
        "collection": delivery.collection,
        "granule": delivery.granule,
        "revision": delivery.revision,
        "state": delivery.state,
        "reason": delivery.reason,
        "job": delivery.job_id,
        "sent": delivery.sent,
        "receipt": delivery.receipt,
        "created": delivery.created_at,
        "sent_at": delivery.sent_at,
        "acknowledged_at": delivery.acknowledged_at,
    }
