"""A process that fires rules and does nothing else: `python -m armillary.testing.reactor DSN`, for tests that kill it."""

import asyncio
import contextlib
import sys

from armillary.base.db import Database
from armillary.base.errors import TransientError
from armillary.base.wakes import WORK
from armillary.rules import fire
from armillary.rules.fire import Rules

PAUSE_SECONDS = 0.1


async def react(dsn: str) -> None:
    """Fire what is due, without end; an outage of the database is waited out."""
    database, rules = await _open(dsn), Rules()
    while True:
        since = database.wakes.count(WORK)
        try:
            if await fire.react(database, rules):
                print("fired", flush=True)  # a test that kills us lets us do something first
            else:
                await database.wakes.wait(WORK, since)
        except TransientError:
            await asyncio.sleep(PAUSE_SECONDS)


async def _open(dsn: str) -> Database:
    while True:
        database = Database(dsn, connections=2)
        with contextlib.suppress(TransientError):
            await database.open()
            return database
        await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    asyncio.run(react(sys.argv[1]))
