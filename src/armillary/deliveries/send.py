"""Intend a delivery, learn how its sending went, file the receipt. The sending itself is a job of a built-in algorithm."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg

from armillary.accounts.actor import Actor, system
from armillary.accounts.permit import permit
from armillary.base import events
from armillary.base.db import Database, Transaction
from armillary.base.errors import ArmillaryError, Conflict, NotFound
from armillary.base.ids import new_id
from armillary.deliveries import cnm, store
from armillary.deliveries.delivery import Delivery, DeliveryState, Destination, read
from armillary.granules.granule import Reference
from armillary.jobs import find as jobs
from armillary.jobs import submit

CONSUMER = "deliveries"
BATCH = 50

# The sender is an algorithm like any other: leased, retried by error class, logged, killed and taken up again.
ALGORITHM: Mapping[str, Any] = {
    "kind": "algorithm",
    "id": "deliver",
    "version": "1.0.0",
    "title": "Send a granule to a destination and check it there",
    "inputs": {"granule": {}},
    "parameters": {
        "delivery": {"type": "string"},
        "destination": {"type": "object"},
    },
    "outputs": {},
    "run": {"command": ["armillary-deliver", "job.json"]},
    "environment": {"site": True},
    "resources": {"cpu": 0.5, "memory": "512MiB", "disk": "1GiB", "time": "6h"},
    "retry": {"attempts": 5, "on": ["infrastructure", "timed out", "out of disk"], "delay": "2s"},
}


async def define(tx: Transaction, actor: Actor, document: Mapping[str, Any], version: int) -> None:
    """Make or replace a destination."""
    destination = read(document)
    found = await store.destination(tx, destination.id)
    permit(actor, "change", found["group"] if found else actor.group)
    await store.put_destination(tx, destination.id, version, dict(document), actor.group)


async def remove(tx: Transaction, actor: Actor, destination: str) -> None:
    """Delete a destination that nothing was ever sent to."""
    found = await store.destination(tx, destination)
    if found is None:
        raise NotFound(f"There is no delivery destination {destination!r}.")
    permit(actor, "change", found["group"])
    try:
        async with tx.savepoint():
            await store.delete_destination(tx, destination)
    except psycopg.errors.ForeignKeyViolation as error:
        raise Conflict(f"Deliveries to {destination} are on record.", "Keep it; disable its rules instead.") from error


async def intend(
    tx: Transaction, actor: Actor, destination: str, granule: Reference, cause: Mapping[str, Any] | None = None
) -> Delivery:
    """Send a revision to a destination: once, however often it is asked; a failed delivery is sent again."""
    found = await store.destination(tx, destination)
    if found is None:
        raise NotFound(f"There is no delivery destination {destination!r}.", "Apply one (kind: delivery).")
    permit(actor, "change", found["group"])
    values = {
        "id": new_id(),
        "destination": destination,
        "collection": granule.collection,
        "granule": granule.id,
        "revision": granule.revision,
        "group": found["group"],
        "created_by": actor.account,
    }
    await store.insert(tx, values)
    delivery = await store.of_granule(tx, destination, granule.collection, granule.id, granule.revision)
    assert delivery, "it was just inserted or was there"
    if delivery.job_id is None or delivery.state in (DeliveryState.FAILED, DeliveryState.REJECTED):
        await _submit(tx, actor, delivery, read(found["spec"]), cause or {})
    return await get(tx, actor, delivery.id)


async def react(database: Database) -> bool:
    """File the results of sending jobs that ended; whether there were any."""

    async def work(tx: Transaction) -> bool:
        wakes = await events.claim(tx, CONSUMER, BATCH)
        for wake in wakes:
            await job_finished(tx, UUID(wake.subject.partition(":")[2]))
        if wakes:
            await events.done(tx, wakes)
        return bool(wakes)

    return await database.retry(work)


async def job_finished(tx: Transaction, job_id: UUID) -> None:
    """A job ended; if it was sending something, so did that."""
    for delivery in await store.of_job(tx, job_id):
        job = await jobs.get(tx, system("deliveries"), job_id)
        if delivery.state != DeliveryState.INTENDED:
            continue  # the archive's answer was faster than our own job
        if job.state != "succeeded":
            await _move(tx, delivery, DeliveryState.FAILED, job.reason or f"Its job was {job.state}.")
            continue
        result = job.result or {}
        await _move(tx, delivery, DeliveryState.SENT, "Every file was read back at the far side.", sent=result)
        if result.get("receipt"):
            await _acknowledge(tx, delivery, result["receipt"])


async def receipt(tx: Transaction, actor: Actor, message: Mapping[str, Any]) -> Delivery:
    """File a CNM-R; the same again changes nothing."""
    identifier, _succeeded, _reason = cnm.read_response(message)
    try:
        delivery = await store.find(tx, UUID(identifier), lock=True)
    except ValueError:
        delivery = None
    if delivery is None:
        raise NotFound(f"No delivery has the identifier {identifier!r}.", "Send back the identifier of the CNM-S.")
    permit(actor, "change", delivery.group)
    await _acknowledge(tx, delivery, message)
    return await get(tx, actor, delivery.id)


async def get(tx: Transaction, actor: Actor, delivery: UUID) -> Delivery:
    """One delivery."""
    found = await store.find(tx, delivery)
    if found is None:
        raise NotFound(f"There is no delivery {delivery}.", "`armillary delivery list` shows those that are.")
    permit(actor, "see", found.group)
    return found


async def _submit(
    tx: Transaction, actor: Actor, delivery: Delivery, destination: Destination, cause: Mapping[str, Any]
) -> None:
    request = submit.JobRequest(
        algorithm=str(ALGORITHM["id"]),
        inputs={"granule": (Reference(delivery.collection, delivery.granule, delivery.revision),)},
        parameters={
            "delivery": str(delivery.id),
            "destination": {
                "id": destination.id,
                "kind": destination.kind,
                "to": dict(destination.to),
                "notify": destination.notify,
                "layout": destination.layout,
            },
        },
        pool=destination.pool,
        priority=destination.priority,
        twins="again",
        cause={**cause, "delivery": str(delivery.id)},
    )
    submission = await submit.submit(tx, actor, request)
    await store.set_job(tx, delivery.id, submission.job.id)
    if delivery.state != DeliveryState.INTENDED:
        await _move(tx, delivery, DeliveryState.INTENDED, "To be sent again.")


async def _acknowledge(tx: Transaction, delivery: Delivery, message: Mapping[str, Any]) -> None:
    try:
        _identifier, succeeded, reason = cnm.read_response(message)
    except ArmillaryError as error:
        await _move(
            tx, delivery, DeliveryState.SENT, f"The archive's answer was not understood: {error}", receipt=message
        )
        return
    if delivery.state in (DeliveryState.ACKNOWLEDGED, DeliveryState.REJECTED):
        return
    state = DeliveryState.ACKNOWLEDGED if succeeded else DeliveryState.REJECTED
    await _move(
        tx, delivery, state, reason or ("Accepted." if succeeded else "Refused without a reason."), receipt=message
    )


async def _move(
    tx: Transaction, delivery: Delivery, state: DeliveryState, reason: str, sent: Any = None, receipt: Any = None
) -> None:
    version = await store.set_state(tx, delivery.id, state, reason, sent, receipt)
    await events.emit(
        tx,
        subject=f"delivery:{delivery.id}",
        version=version,
        kind=f"delivery.{state}",
        actor="system:deliveries",
        group=delivery.group,
        detail={
            "destination": delivery.destination,
            "granule": f"{delivery.collection}/{delivery.granule}",
            "reason": reason,
        },
    )
