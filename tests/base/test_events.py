"""Events leave work for those who want it: by their kind, and by what they say."""

from armillary.base import events
from armillary.base.wakes import WORK

EVENTS = [
    {"subject": f"job:{number}", "version": 1, "kind": kind, "actor": "owner", "group": "owners", "detail": detail}
    for number, (kind, detail) in enumerate(
        [
            ("job.finished", {"algorithm": "deliver", "state": "failed"}),
            ("job.finished", {"algorithm": "insar"}),
            ("job.submitted", {"algorithm": "deliver"}),
            ("granule.committed", {"collection": "scene"}),
        ]
    )
]


async def test_a_consumer_is_woken_by_the_kinds_and_details_that_matter_to_it(database):
    async with database.transaction() as tx:
        for event in EVENTS:
            await events.emit(tx, **event)
        assert [wake.subject for wake in await events.claim(tx, "deliveries")] == ["job:0"]
        assert [wake.subject for wake in await events.claim(tx, "rules")] == ["job:3"]


async def test_many_events_at_once_are_what_they_are_one_by_one(database):
    async with database.transaction() as tx:
        await events.emit_many(tx, EVENTS)
        for event in EVENTS:
            (kept,) = await events.history(tx, event["subject"])
            assert {name: kept[name] for name in ("version", "kind", "actor", "detail")} == {
                name: event[name] for name in ("version", "kind", "actor", "detail")
            }
        assert [wake.subject for wake in await events.claim(tx, "deliveries")] == ["job:0"]
        assert [wake.detail for wake in await events.claim(tx, "rules")] == [{"collection": "scene"}]


async def test_no_events_at_once_are_no_error(database):
    async with database.transaction() as tx:
        await events.emit_many(tx, [])
        assert await tx.value("select count(*) from event") == 0


async def test_nobody_looks_for_work_that_no_event_has_left(database):
    for event, is_work in zip(EVENTS, (True, False, False, True), strict=True):
        async with database.transaction() as tx:
            await events.emit_many(tx, [event])
            assert (WORK in tx.woken) == is_work
