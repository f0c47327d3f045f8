"""Wakes: who waits for work hears of it in a millisecond, and polls once a second in case a wake was lost.

No NOTIFY runs inside a business transaction (it serialises commits): after a commit each server wakes its own waiters and
sends one coalesced, empty NOTIFY per channel, at most every 5 ms, from a connection of its own.
"""

import asyncio
import contextlib
from collections import defaultdict

import psycopg
from psycopg import sql

WORK = "armillary_work"  # wakes and rule wakes to claim
QUEUE = "armillary_queue"  # jobs to lease
COMMANDS = "armillary_commands"  # a worker is asked to stop or drain
JOBS = "armillary_jobs"  # a job's state, progress or log changed
TOKENS = "armillary_tokens"  # one was revoked
CHANNELS = (WORK, QUEUE, COMMANDS, JOBS, TOKENS)

COALESCE_SECONDS = 0.005
POLL_SECONDS = 1.0


class Wakes:
    """The waiters of one process and its line to the other servers."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._counts: dict[str, int] = defaultdict(int)
        self._changed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._outgoing: set[str] = set()
        self._to_send = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._own_pid: int | None = None

    async def open(self) -> None:
        """Listen to the other servers."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._send())]

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def count(self, channel: str) -> int:
        """How often the channel was woken: read it before looking for work, then `wait` from it."""
        return self._counts[channel]

    async def wait(self, channel: str, since: int, timeout_seconds: float = POLL_SECONDS) -> None:
        """Return once the channel was woken after `since`, or when it is time to poll."""
        if self._counts[channel] != since:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed[channel].wait(), timeout_seconds)

    def wake(self, channel: str) -> None:
        """Wake the waiters of this process now and those of the others within 5 ms."""
        self._wake_here(channel)
        self._outgoing.add(channel)
        self._to_send.set()

    def _wake_here(self, channel: str) -> None:
        self._counts[channel] += 1
        self._changed[channel].set()
        self._changed[channel] = asyncio.Event()

    async def _send(self) -> None:
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    self._own_pid = connection.info.backend_pid
                    while True:
                        await self._to_send.wait()
                        self._to_send.clear()
                        await self._notify(connection)
                        await asyncio.sleep(COALESCE_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _notify(self, connection: psycopg.AsyncConnection) -> None:
        channels, self._outgoing = self._outgoing, set()
        try:
            for channel in channels:
                await connection.execute(sql.SQL("notify {}").format(sql.Identifier(channel)))
        except psycopg.OperationalError:
            self._outgoing |= channels
            self._to_send.set()
            raise

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    for channel in CHANNELS:
                        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                    for channel in CHANNELS:  # what was said while nobody listened is lost
                        self._wake_here(channel)
                    async for notice in connection.notifies():
                        if notice.pid != self._own_pid:
                            self._wake_here(notice.channel)
            await asyncio.sleep(POLL_SECONDS)
