"""Waiting for work: thousands of held polls cost one look at each pool's queue per wake, not one each.

Those who wait stand in line, a line for each pool and for what they have free. A wake reaches the first of each line alone;
who finds work passes the turn on to the next. A worker whose job ends has more free than its held poll says: that is answered,
so that it asks anew. Likewise one look tells all who wait for commands whether there are any for them.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.base.wakes import POLL_SECONDS, QUEUE, Wakes
from armillary.pools.pool import fits

T = TypeVar("T")
Turn = asyncio.Future[None]


class Barred:
    """Whoever looked is given nothing for now: that it found nothing says nothing about the queue."""


BARRED = Barred()


@dataclass
class _Poll:
    """A worker's held poll, and whether the worker has more free by now."""

    turn: Turn | None = None
    is_outdated: bool = False


class Waiting:
    """The held polls of one server."""

    def __init__(self, wakes: Wakes, clock: Callable[[], float] = time.monotonic) -> None:
        self._wakes = wakes
        self._clock = clock
        self._looking: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._empty: dict[str, tuple[int, Resources, float]] = {}
        self._lines: dict[str, dict[Resources, deque[Turn]]] = defaultdict(dict)
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._polls: dict[UUID, _Poll] = {}

    async def until(
        self, worker: UUID, pool: str, free: Resources, seconds: float, look: Callable[[], Awaitable[T | Barred | None]]
    ) -> T | None:
        """What `look` finds, at once or after a wake; nothing if there is nothing within the time, or it is to ask anew."""
        poll = self._polls[worker] = _Poll()
        try:
            return await self._until(poll, pool, free, self._clock() + seconds, look)
        finally:
            if self._polls.get(worker) is poll:
                del self._polls[worker]

    def ask_anew(self, worker: UUID) -> None:
        """Answer what the worker has asked, if it waits: it has more free than it had."""
        poll = self._polls.get(worker)
        if poll is not None:
            poll.is_outdated = True
            if poll.turn is not None and not poll.turn.done():
                poll.turn.set_result(None)

    async def _until(
        self, poll: _Poll, pool: str, free: Resources, deadline: float, look: Callable[[], Awaitable[T | Barred | None]]
    ) -> T | None:
        while True:
            since = self._wakes.count(QUEUE)
            if not self._is_known_empty(pool, free, since):
                found = await self._look(pool, free, since, look)
                if found is not None:
                    self._call_next(pool, free)
                if isinstance(found, Barred):
                    # Out of the line: a turn that is called while it may not take any would be lost.
                    await asyncio.sleep(max(0.0, min(POLL_SECONDS, deadline - self._clock())))
                elif found is not None:
                    return found
            left = deadline - self._clock()
            if left <= 0 or poll.is_outdated:
                return None
            if self._wakes.count(QUEUE) == since and not await self._turn(poll, pool, free, left):
                return None

    async def _look(
        self, pool: str, free: Resources, since: int, look: Callable[[], Awaitable[T | Barred | None]]
    ) -> T | Barred | None:
        # One at a time, in the order they came: what the first does not find, the next need not look for.
        async with self._looking[pool]:
            if self._is_known_empty(pool, free, since):
                return None
            found = await look()
            if found is None:
                self._empty[pool] = since, free, self._clock()
            return found

    def _is_known_empty(self, pool: str, free: Resources, since: int) -> bool:
        """Whether somebody with as much free found nothing since the last wake, and it is not time to poll."""
        known = self._empty.get(pool)
        if known is None:
            return False
        count, larger, at = known
        is_larger = fits(larger, free) and free.time_seconds <= larger.time_seconds
        return count == since and is_larger and self._clock() - at < POLL_SECONDS

    # Lines -----------------------------------------------------------------------------------------------------

    async def _turn(self, poll: _Poll, pool: str, free: Resources, seconds: float) -> bool:
        """Wait to be called; false if nobody called in time, or to ask anew."""
        line = self._lines[pool].setdefault(free, deque())
        turn = poll.turn = asyncio.get_running_loop().create_future()
        line.append(turn)
        if pool not in self._watching:
            self._watching[pool] = asyncio.create_task(self._watch(pool))
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            # Called as it went: the call is for whoever stands next.
            if turn.done() and not turn.cancelled():
                self._call_next(pool, free)
            raise
        return not poll.is_outdated

    def _call_next(self, pool: str, free: Resources) -> None:
        line = self._lines[pool].get(free, deque())
        while line:
            turn = line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _watch(self, pool: str) -> None:
        """Call the first of each line after every wake, and once in a while; ends when nobody waits."""
        lines = self._lines[pool]
        while any(lines.values()):
            since = self._wakes.count(QUEUE)
            await self._wakes.wait(QUEUE, since, POLL_SECONDS)
            for free in list(lines):
                self._call_next(pool, free)
                if not lines[free]:
                    del lines[free]
        del self._watching[pool]


class Commanded:
    """Which workers have commands, asked once for all who wait for some."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._known: tuple[int, frozenset[UUID]] = -1, frozenset()

    async def has(self, worker: UUID, count: int, ask: Callable[[], Awaitable[frozenset[UUID]]]) -> bool:
        """Whether the worker had any when commands had been woken `count` times, or since."""
        async with self._asking:
            if self._known[0] < count:
                self._known = count, await ask()
            return worker in self._known[1]
