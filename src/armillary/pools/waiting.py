"""Waiting for work: thousands of held polls cost one look at each pool's queue per wake, not one each."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from armillary.algorithms.algorithm import Resources
from armillary.base.wakes import POLL_SECONDS, QUEUE, Wakes
from armillary.pools.pool import fits

T = TypeVar("T")


class Waiting:
    """The held polls of one server."""

    def __init__(self, wakes: Wakes, clock: Callable[[], float] = time.monotonic) -> None:
        self._wakes = wakes
        self._clock = clock
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._empty: dict[str, tuple[int, Resources, float]] = {}

    async def until(
        self, pool: str, free: Resources, seconds: float, look: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        """What `look` finds, at once or after a wake; nothing if there is nothing within the time."""
        deadline = self._clock() + seconds
        while True:
            since = self._wakes.count(QUEUE)
            if not self._is_known_empty(pool, free, since):
                found = await self._look(pool, free, since, look)
                if found is not None:
                    return found
            left = deadline - self._clock()
            if left <= 0:
                return None
            await self._wakes.wait(QUEUE, since, min(POLL_SECONDS, left))

    async def _look(self, pool: str, free: Resources, since: int, look: Callable[[], Awaitable[T | None]]) -> T | None:
        # One at a time, in the order they came: what the first does not find, the next need not look for.
        async with self._turns[pool]:
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
        return count == since and fits(larger, free) and self._clock() - at < POLL_SECONDS
