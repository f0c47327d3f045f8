"""Wakes between servers, also when the line between them is cut."""

import contextlib

import psycopg
import pytest

from armillary.base.wakes import CHANNELS, QUEUE, TOKENS, WORK, Wakes

SOON_SECONDS = 20.0


@contextlib.asynccontextmanager
async def servers(dsn):
    """Two servers' wakes, both of them listening."""
    one, other = Wakes(dsn), Wakes(dsn)
    for wakes in one, other:
        await wakes.open()
        await wakes.wait(CHANNELS[-1], 0, SOON_SECONDS)
    try:
        yield one, other
    finally:
        await one.close()
        await other.close()


@pytest.mark.database
async def test_a_wake_is_heard_on_its_channel_by_the_other_server(database_dsn):
    async with servers(database_dsn) as (one, other):
        before, queue = other.count(WORK), other.count(QUEUE)
        one.wake(WORK)
        await other.wait(WORK, before, SOON_SECONDS)
        assert (other.count(WORK), other.count(QUEUE)) == (before + 1, queue)


@pytest.mark.database
@pytest.mark.parametrize("cut", ["listen", "notify"])
async def test_what_is_said_while_a_line_is_cut_is_heard_all_the_same(database_dsn, cut):
    """As the revocation of a token must be: on the word of it a server forgets whom it believed."""
    async with servers(database_dsn) as (one, other), await psycopg.AsyncConnection.connect(database_dsn) as connection:
        before = other.count(WORK)
        one.wake(WORK)
        await other.wait(WORK, before, SOON_SECONDS)

        before = other.count(TOKENS)
        found = await connection.execute(
            """select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and query like %s""",
            [cut + "%"],
        )
        assert (await found.fetchone())[0] >= 1
        one.wake(TOKENS)
        await other.wait(TOKENS, before, SOON_SECONDS)
        assert other.count(TOKENS) > before
