"""Readers of the event log see each event once, whatever the order in which transactions end."""

from datetime import timedelta

import psycopg
import pytest

from armillary.base import events, history

EMIT = "select armillary_emit(%s, 1, 'test.happened', 'someone', 'owners', '{}')"


async def emit(database, subject):
    async with database.transaction() as tx:
        await events.emit(tx, subject=subject, version=1, kind="test.happened", actor="someone", group="owners")


async def read(database, reader="test", max_events=100, from_start=True):
    """The subjects of one window, which is read then."""
    async with database.transaction() as tx:
        window = await history.window(tx, reader, from_start=from_start, max_events=max_events)
        rows = await tx.rows(
            "select subject from event where at >= %(since)s and at < %(until)s order by at", window.params
        )
        await history.advance(tx, reader, window)
    return [row["subject"] for row in rows], window.is_full


async def test_what_is_committed_late_is_read_once_it_is_there(database, database_dsn):
    """The trap of every cursor: an event that was written first and committed last."""
    await emit(database, "first")
    with psycopg.connect(database_dsn) as late:
        late.execute(EMIT, ["late"])
        await emit(database, "after it")
        assert (await read(database))[0] == ["first"], "nothing behind the open transaction is taken"
        assert (await read(database))[0] == []
        late.commit()
    assert (await read(database))[0] == ["late", "after it"]
    assert (await read(database))[0] == []


async def test_what_was_rolled_back_holds_nobody_up(database, database_dsn):
    with psycopg.connect(database_dsn) as failing:
        failing.execute(EMIT, ["never"])
        failing.rollback()
        await emit(database, "other")
        assert (await read(database))[0] == ["other"]


async def test_one_that_only_reads_holds_nobody_up(database, database_dsn):
    with psycopg.connect(database_dsn) as reader:
        reader.execute("select count(*) from event").fetchone()
        await emit(database, "first")
        assert (await read(database))[0] == ["first"]


@pytest.mark.parametrize("max_events", [1, 2, 3, 7])
async def test_a_long_log_is_read_in_parts(database, max_events):
    subjects = [f"number-{number}" for number in range(7)]
    for subject in subjects:
        await emit(database, subject)
    found, is_full = [], True
    while is_full:
        part, is_full = await read(database, max_events=max_events)
        assert len(part) <= max_events
        found += part
    assert found == subjects


async def test_events_of_one_moment_are_not_torn_apart_nor_an_endless_loop(database, clock):
    await read(database)
    for number in range(5):
        await emit(database, f"number-{number}")
    clock.advance(timedelta(seconds=1))
    found, _ = await read(database, max_events=2)
    assert len(found) == 5
    assert (await read(database)) == ([], False)


async def test_readers_are_independent_and_one_may_begin_now(database):
    await emit(database, "before")
    assert (await read(database, "late", from_start=False))[0] == []
    await emit(database, "after")
    assert (await read(database, "late", from_start=False))[0] == ["after"]
    assert (await read(database, "whole"))[0] == ["before", "after"]


async def test_a_reader_that_was_given_up_begins_anew(database):
    assert (await read(database, from_start=False))[0] == []
    await emit(database, "meanwhile")
    async with database.transaction() as tx:
        await history.forget(tx, "test")
    assert (await read(database, from_start=False))[0] == []
    await emit(database, "after")
    assert (await read(database, from_start=False))[0] == ["after"]
