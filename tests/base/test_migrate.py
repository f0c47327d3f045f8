"""Migrations: each once, in order, whole or not at all."""

import asyncio
import re
from collections.abc import Iterator

import psycopg
import pytest

from armillary.base import migrate
from armillary.base.errors import Conflict, TransientError
from armillary.base.migrate import Migration
from armillary.testing.database import DatabaseServer

FIRST = Migration("20260101_0000_first", "create table first (a integer)")
SECOND = Migration("20260102_0000_second", "alter table first add b integer; create table second ()")


@pytest.fixture
def empty(database_server: DatabaseServer) -> Iterator[str]:
    """A database without a table."""
    with database_server.fresh(is_migrated=False) as dsn:
        yield dsn


def with_also(monkeypatch: pytest.MonkeyPatch, *more: Migration) -> None:
    """Let this version have more migrations than it has."""
    known = migrate.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: [*known, *more])


def ask(dsn: str, question: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        assert row is not None
        return row[0]


async def test_all_migrations_are_applied_in_order_and_then_none(empty: str) -> None:
    names = [migration.name for migration in migrate.migrations()]
    assert names == sorted(names)
    assert await migrate.migrate(empty) == names
    assert await migrate.migrate(empty) == []


async def test_only_what_is_missing_is_applied(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_also(monkeypatch, FIRST)
    assert await migrate.migrate(database_dsn) == [FIRST.name]
    monkeypatch.undo()
    with_also(monkeypatch, FIRST, SECOND)
    assert await migrate.migrate(database_dsn) == [SECOND.name]


async def test_of_servers_that_start_together_one_migrates_and_the_others_wait(empty: str) -> None:
    applied = await asyncio.gather(*(migrate.migrate(empty) for _ in range(5)))
    assert sorted(map(len, applied)) == [0, 0, 0, 0, len(migrate.migrations())]
    assert ask(empty, "select count(*) from instance") == 1


async def test_a_failing_migration_leaves_nothing_behind(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_also(monkeypatch, FIRST, Migration(SECOND.name, f"{SECOND.text}; select 1/0"))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate.migrate(database_dsn)
    assert ask(database_dsn, "select to_regclass('first') is not null and to_regclass('second') is null") is True
    monkeypatch.undo()
    with_also(monkeypatch, FIRST, SECOND)
    assert await migrate.migrate(database_dsn) == [SECOND.name]


async def test_a_newer_database_is_refused(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_also(monkeypatch, FIRST)
    await migrate.migrate(database_dsn)
    monkeypatch.undo()
    with pytest.raises(Conflict, match=f"{FIRST.name}.*newer one"):
        await migrate.migrate(database_dsn)


async def test_a_migration_that_was_changed_is_refused(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_also(monkeypatch, FIRST)
    await migrate.migrate(database_dsn)
    monkeypatch.undo()
    with_also(monkeypatch, Migration(FIRST.name, f"{FIRST.text} -- only a comment"))
    with pytest.raises(Conflict, match="was changed"):
        await migrate.migrate(database_dsn)


async def test_a_server_does_not_wait_for_ever(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.05)
    with psycopg.connect(database_dsn, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [migrate.LOCK])
        with pytest.raises(TransientError, match="Another server has been migrating"):
            await migrate.migrate(database_dsn)
    await migrate.migrate(database_dsn)


def test_migrations_are_named_by_date_time_and_subject() -> None:
    for migration in migrate.migrations():
        assert re.fullmatch(r"20\d{6}_\d{4}_[a-z0-9_]+", migration.name)
