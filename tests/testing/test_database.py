"""The databases and the clock that tests are given."""

from datetime import UTC, datetime, timedelta

from armillary.base.db import Database
from armillary.testing.database import Clock, DatabaseServer


async def test_a_database_is_migrated_and_empty(database: Database) -> None:
    async with database.transaction() as tx:
        assert await tx.value("select count(*) from migration") > 0
        assert await tx.value("select count(*) from granule") == 0
        await tx.execute("create table mine ()")


async def test_the_next_test_sees_nothing_of_it(database: Database) -> None:
    async with database.transaction() as tx:
        assert await tx.value("select to_regclass('mine')") is None


async def test_the_clock_stands_until_it_is_moved(database: Database, clock: Clock) -> None:
    async with database.transaction() as tx:
        assert await tx.value("select armillary_now()") == clock() == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert clock.advance(timedelta(days=400)) == datetime(2027, 4, 5, 12, tzinfo=UTC)
    async with database.transaction() as tx:
        assert await tx.value("select armillary_now()") == datetime(2027, 4, 5, 12, tzinfo=UTC)
        await tx.value("select armillary_emit('test:1', 1, 'test.happened', 'owner', 'owners', '{}')")
        assert await tx.value("select at from event") == datetime(2027, 4, 5, 12, tzinfo=UTC)


async def test_without_the_clock_time_passes(database: Database) -> None:
    async with database.transaction() as tx:
        first = await tx.value("select armillary_now()")
        assert await tx.value("select armillary_now()") > first


def test_two_databases_of_one_test_are_apart(database_server: DatabaseServer) -> None:
    with database_server.fresh() as first, database_server.fresh() as second:
        assert first != second
