"""A delivery is intended once, sent by a job, answered by the archive; every state has its reason."""

import pytest

from armillary.algorithms.register import register_builtin
from armillary.base.errors import Conflict, NotFound, UsageError
from armillary.deliveries import send, store
from armillary.deliveries.delivery import DeliveryState
from armillary.jobs.job import AttemptOutcome, ErrorClass, Report
from armillary.testing.world import OWNER

ARCHIVE = {
    "kind": "delivery", "id": "archive", "to": {"http": {"url": "https://archive.example/files"}},
    "notify": {"cnm": {"url": "https://archive.example/cnm", "provider": "HERE"}},
}  # fmt: skip


@pytest.fixture
async def product(world):
    """A granule, and a destination that answers."""
    async with world.database.transaction() as tx:
        await register_builtin(tx, send.ALGORITHM)
        await send.define(tx, OWNER, ARCHIVE, 1)
    return await world.granule("one")


async def intend(world, product):
    async with world.database.transaction() as tx:
        return await send.intend(tx, OWNER, "archive", product)


async def work(world, worker, outcome=AttemptOutcome.SUCCEEDED, **more):
    """Run the sending job and let its end be heard of."""
    (lease,) = await world.lease(worker)
    await world.finish(worker, Report(lease.job_id, lease.number, outcome, **more))
    await send.react(world.database)


async def found(world, delivery):
    async with world.database.transaction() as tx:
        return await send.get(tx, OWNER, delivery.id)


def answer(delivery, status="SUCCESS", **more):
    return {"identifier": str(delivery.id), "response": {"status": status, **more}}


async def receive(world, message):
    async with world.database.transaction() as tx:
        return await send.receipt(tx, OWNER, message)


async def test_a_revision_goes_to_a_destination_once_however_often_it_is_asked(world, product):
    first, second = await intend(world, product), await intend(world, product)
    assert (first.id, first.job_id) == (second.id, second.job_id)
    assert (first.state, first.reason) == (DeliveryState.INTENDED, "To be sent.")
    assert await world.count("job") == 1
    newer = await world.granule("one", b"other")
    assert (await intend(world, newer)).id != first.id


async def test_it_is_sent_when_its_job_succeeded_and_waits_for_the_answer(world, product):
    delivery, worker = await intend(world, product), await world.worker()
    await work(world, worker, result={"files": [{"name": "data.bin"}]})
    sent = await found(world, delivery)
    assert (sent.state, sent.sent["files"][0]["name"]) == (DeliveryState.SENT, "data.bin")
    async with world.database.transaction() as tx:
        (waiting,) = await store.unacknowledged(tx, OWNER.scope, 10)
    assert waiting["id"] == delivery.id
    acknowledged = await receive(world, answer(delivery))
    assert (acknowledged.state, acknowledged.reason) == (DeliveryState.ACKNOWLEDGED, "Accepted.")
    async with world.database.transaction() as tx:
        assert await store.unacknowledged(tx, OWNER.scope, 10) == []


async def test_an_answer_that_comes_with_the_sending_is_filed_with_it(world, product):
    delivery, worker = await intend(world, product), await world.worker()
    await work(world, worker, result={"receipt": answer(delivery)})
    assert (await found(world, delivery)).state == DeliveryState.ACKNOWLEDGED


async def test_an_answer_may_be_faster_than_our_own_job_and_may_come_twice(world, product):
    delivery, worker = await intend(world, product), await world.worker()
    (lease,) = await world.lease(worker)
    first = await receive(world, answer(delivery))
    again = await receive(world, answer(delivery, "FAILURE", errorMessage="late"))
    assert (first.state, again.state, again.version) == (DeliveryState.ACKNOWLEDGED,) * 2 + (first.version,)
    await world.finish(worker, Report(lease.job_id, lease.number, AttemptOutcome.SUCCEEDED))
    await send.react(world.database)
    assert (await found(world, delivery)).state == DeliveryState.ACKNOWLEDGED


async def test_a_refusal_is_kept_with_its_reason_and_may_be_sent_again(world, product):
    delivery, worker = await intend(world, product), await world.worker()
    await work(world, worker, result={"receipt": answer(delivery, "FAILURE", errorCode="VALIDATION_ERROR")})
    assert ((await found(world, delivery)).state, (await found(world, delivery)).reason) == (
        DeliveryState.REJECTED,
        "VALIDATION_ERROR",
    )
    again = await intend(world, product)
    assert (again.id, again.state, again.reason) == (delivery.id, DeliveryState.INTENDED, "To be sent again.")
    assert again.job_id != delivery.job_id


async def test_a_job_that_gave_up_is_a_failed_delivery_with_its_reason(world, product):
    delivery, worker = await intend(world, product), await world.worker()
    why = {"error_class": ErrorClass.SCIENCE_ERROR, "reason": "The archive speaks another protocol."}
    await work(world, worker, AttemptOutcome.FAILED, **why)
    failed = await found(world, delivery)
    assert failed.state == DeliveryState.FAILED
    assert "The archive speaks another protocol." in failed.reason
    assert (await intend(world, product)).state == DeliveryState.INTENDED


async def test_every_move_is_an_event_in_order(world, product):
    delivery, worker = await intend(world, product), await world.worker()
    await work(world, worker, result={})
    await receive(world, answer(delivery))
    async with world.database.transaction() as tx:
        events = await tx.rows(
            "select kind, version from event where subject = %s order by version", [f"delivery:{delivery.id}"]
        )
    assert [event["kind"] for event in events] == ["delivery.sent", "delivery.acknowledged"]


@pytest.mark.parametrize("identifier", ["nobody", "01991f3c-0000-7000-8000-000000000000"])
async def test_an_answer_to_nothing_is_refused(world, product, identifier):
    with pytest.raises(NotFound):
        await receive(world, {"identifier": identifier, "response": {"status": "SUCCESS"}})


async def test_a_destination_that_was_used_stays_on_record(world, product):
    await intend(world, product)
    async with world.database.transaction() as tx:
        with pytest.raises(Conflict, match="on record"):
            await send.remove(tx, OWNER, "archive")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"to": {}}, "to"),
        ({"to": {"directory": "relative"}}, "to.directory"),
        ({"to": {"s3": {"prefix": "x"}}}, "to.s3.bucket"),
        ({"to": {"s3": {"bucket": "b", "secret_key": "in the open"}}}, "to.s3.secret_key"),
        ({"to": {"http": {"url": "https://user:word@archive.example"}}}, "to.http.url"),
        ({"to": {"http": {"url": "https://archive.example", "tokn": 1}}}, "to.http.tokn"),
        ({"notify": {"mail": {}}}, "notify"),
        ({"notify": {"cnm": {"url": "https://archive.example"}}}, "notify.cnm.provider"),
        ({"layout": "{nothing}"}, "layout"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_is_wrong_with_a_destination_is_named_by_its_field(world, changes, field):
    async with world.database.transaction() as tx:
        with pytest.raises(UsageError) as refused:
            await send.define(tx, OWNER, ARCHIVE | changes, 1)
    assert refused.value.field == field
