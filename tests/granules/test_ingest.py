"""Commits: the same is the same, other content follows the policy, and nothing is half visible."""

import asyncio
from datetime import timedelta

import pytest

from armillary.base.errors import Conflict, UsageError
from armillary.granules import collect, find, ingest, store
from armillary.testing.catalogue import OWNER, Catalogue, square


@pytest.fixture
async def catalogue(database, tmp_path):
    made = await Catalogue.make(database, tmp_path / "store")
    await made.collections("strict")
    await made.collections("loose", on_change="revise")
    return made


async def test_the_same_content_again_is_the_same_granule(catalogue):
    first = await catalogue.granule("strict", "one", content=b"x")
    again = await catalogue.granule("strict", "one", content=b"x")
    assert (first.outcome, again.outcome, again.revision) == ("created", "same", 1)


async def test_other_content_is_refused_or_a_revision_as_the_collection_says(catalogue, database):
    await catalogue.granule("strict", "one", content=b"x")
    refusal = await catalogue.try_granule("strict", "one", content=b"y")
    assert isinstance(refusal, Conflict)
    assert "on_change: revise" in refusal.remedy
    await catalogue.granule("loose", "one", content=b"x")
    revised = await catalogue.granule("loose", "one", content=b"y")
    assert (revised.outcome, revised.revision) == ("revised", 2)
    async with database.transaction() as tx:
        revisions = await store.revisions(tx, "loose", "one", OWNER.scope)
        assert [(one.revision, one.is_current) for one in revisions] == [(2, True), (1, False)]
        assert (await find.get(tx, OWNER, "loose", "one")).revision == 2


async def test_ids_that_differ_by_case_alone_are_refused(catalogue):
    await catalogue.granule("strict", "One")
    assert isinstance(await catalogue.try_granule("strict", "oNE"), Conflict)


async def test_twenty_at_once_make_one_granule(catalogue, database):
    results = await asyncio.gather(*(catalogue.try_granule("strict", "one", content=b"x") for _ in range(20)))
    assert sorted(result.outcome for result in results) == ["created"] + ["same"] * 19
    async with database.transaction() as tx:
        assert await tx.value("select count(*) from event where kind = 'granule.committed'") == 1


async def test_what_is_refused_in_a_batch_leaves_the_others(catalogue, database):
    await catalogue.granule("strict", "old", content=b"x")
    await catalogue.granule("strict", "case", content=b"x")
    wanted = [("strict", "a", b"1"), ("strict", "old", b"y"), ("strict", "old", b"x"), ("strict", "CASE", b"z"),
              ("loose", "twice", b"1"), ("loose", "twice", b"2"), ("strict", "b", b"2")]  # fmt: skip
    commits = [await catalogue.uploaded(*one, None, {}) for one in wanted]
    prepared = await ingest.prepare(database, catalogue.store, commits)
    results = await ingest.commit_all(database, OWNER, prepared)
    outcomes = [type(one).__name__ if isinstance(one, Exception) else one.outcome for one in results]
    assert outcomes == ["created", "Conflict", "same", "Conflict", "created", "revised", "created"]
    async with database.transaction() as tx:
        assert await tx.value("select count(*) from granule where revision = 0") == 0


async def test_a_commit_repeated_after_its_answer_was_lost_changes_nothing(catalogue, database):
    commit = await catalogue.uploaded("strict", "one", b"x", None, {})
    prepared = await ingest.prepare(database, catalogue.store, [commit])
    first = await ingest.commit_all(database, OWNER, prepared)
    assert await ingest.commit_all(database, OWNER, prepared) == first


@pytest.mark.parametrize(
    ("geometry", "properties", "field"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}, {}, "geometry"),
        ({"type": "Point", "coordinates": [0, 95]}, {}, "geometry"),
        (None, {"datetime": "yesterday"}, "properties.datetime"),
        (None, {"datetime": "2026-01-01T00:00:00"}, "properties.datetime"),
        (None, {"start_datetime": "2026-01-02T00:00:00Z", "end_datetime": "2026-01-01T00:00:00Z"}, "properties"),
        (None, {"start_datetime": "2026-01-02T00:00:00Z"}, "properties"),
    ],
)
async def test_metadata_that_no_reader_should_meet_are_refused_by_field(catalogue, geometry, properties, field):
    refusal = await catalogue.try_granule("strict", "one", geometry=geometry, **properties)
    assert isinstance(refusal, UsageError)
    assert (refusal.field or "").startswith(field)
    assert refusal.remedy


async def test_bytes_that_are_short_or_missing_are_refused(catalogue, database):
    commit = await catalogue.uploaded("strict", "one", b"four", None, {})
    [key] = [key async for key, _ in catalogue.store.list("strict")]
    catalogue.store.path(key).write_bytes(b"thr")
    [refusal] = await ingest.prepare(database, catalogue.store, [commit])
    assert "has 3 bytes instead of 4" in str(refusal)
    catalogue.store.path(key).unlink()
    [refusal] = await ingest.prepare(database, catalogue.store, [commit])
    assert "is missing" in str(refusal)


async def test_an_upload_past_its_time_cannot_commit_and_its_bytes_go_later(catalogue, database, clock):
    commit = await catalogue.uploaded("strict", "one", b"x", None, {})
    clock.advance(timedelta(hours=2))
    prepared = await ingest.prepare(database, catalogue.store, [commit])
    [refusal] = await ingest.commit_all(database, OWNER, prepared)
    assert isinstance(refusal, Conflict)
    assert await collect.collect(database, catalogue.store) == 0  # abandoned first, deleted only after the grace
    assert len([key async for key, _ in catalogue.store.list()]) == 1
    clock.advance(timedelta(minutes=11))
    assert await collect.collect(database, catalogue.store) == 1
    assert [key async for key, _ in catalogue.store.list()] == []


async def test_a_footprint_is_catalogued_with_its_cells(catalogue, database):
    await catalogue.granule("strict", "one", geometry=square(10, 40))
    async with database.transaction() as tx:
        found = await find.get(tx, OWNER, "strict", "one")
        assert found.bbox == [10, 40, 11, 41]
        assert await tx.value("select cardinality(cells) > 0 from item")
