"""The pool of connections."""

import asyncio
import contextlib
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from armillary.base.db import Database, about, jsonb
from armillary.base.errors import TransientError

REFUSALS = 6  # a pool that doubles its pauses would come again after half a minute; `open` waits half of that


async def pump(source, target):
    while data := await source.read(1 << 16):
        target.write(data)
    target.close()


async def test_a_database_that_refuses_again_and_again_is_soon_asked_once_more(database):
    place = conninfo_to_dict(database.dsn)
    socket = f"{place['host']}/.s.PGSQL.{place.get('port', 5432)}"
    numbers = count()

    async def answer(reader, writer):
        if next(numbers) < REFUSALS:
            writer.close()
            return
        there, back = await asyncio.open_unix_connection(socket)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as line:
        port = line.sockets[0].getsockname()[1]
        off = {"sslmode": "disable", "gssencmode": "disable"}
        away = Database(make_conninfo(database.dsn, host="127.0.0.1", port=port, **off))
        await away.open()
        async with away.transaction() as tx:
            assert await tx.value("select 1") == 1
        await away.close()
        assert next(numbers) > REFUSALS


def nested(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


# What jsonb holds: no zero character, and no number that is none; a large number comes back with all its digits.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(-1e15, 1e15) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(VALUES)
@example([-0.0, 5e-324, 0.1 + 0.2, 2**64, "\U0001f52d"])
async def test_what_is_kept_as_json_comes_back_as_it_was(database, value):
    async with database.transaction() as tx:
        assert await tx.value("select %s::jsonb", [jsonb(value)]) == value


async def test_what_is_nested_deeply_is_kept_too(database):
    async with database.transaction() as tx:
        assert await tx.value("select %s::jsonb", [jsonb(nested(600))]) == nested(600)


async def test_ids_and_times_are_kept_as_texts_that_the_database_reads(database):
    job, at = uuid4(), datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    async with database.transaction() as tx:
        row = await tx.row(
            "select * from jsonb_to_record(%s) as r (job uuid, at timestamptz)", [jsonb({"job": job, "at": at})]
        )
    assert row == {"job": job, "at": at}


async def test_a_statement_that_was_prepared_before_a_migration_works_again_after_one_refusal(database):
    async with database.transaction() as tx:
        await tx.execute("create table changing (a integer)")

    async def ask():
        async with database.transaction() as tx:
            return await tx.rows("select * from changing")

    for _ in range(12):
        await ask()
    other = Database(database.dsn)
    await other.open()
    async with other.transaction() as tx:
        await tx.execute("alter table changing add column b integer")
        await tx.execute("insert into changing values (1, 2)")
    await other.close()
    with pytest.raises(TransientError, match="migrated"):
        await ask()
    assert await ask() == [{"a": 1, "b": 2}]


@given(st.integers(0, 10_000))
def test_a_limit_in_a_text_cuts_nothing_off_and_takes_few_values(count):
    assert count <= about(count) < 2 * max(1, count)
    assert about(count).bit_count() == 1
