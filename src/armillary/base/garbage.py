"""Garbage in turns: Python's collector looks at what is new each second, and at all that lives so seldom that it costs little.

Left to itself it starts by the balance of what was made and freed, which says nothing where ten thousand polls are held and
replaced: once in a while it goes through millions of objects, and the server answers nobody for seconds.
"""

import gc
import time
from collections.abc import Callable

ALL_SECONDS = 60.0
ALL_SHARE = 0.002  # of the time is spent on looking at all, at most


class Garbage:
    """The collector of this process, which does nothing by itself from now on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all_due = clock() + ALL_SECONDS
        gc.disable()

    async def turn(self) -> None:
        """Free the cycles among what was made since the last turn, or among all when that is due."""
        begun = self._clock()
        if begun < self._all_due:
            gc.collect(0)
            return
        gc.collect()
        self._all_due = begun + max(ALL_SECONDS, (self._clock() - begun) / ALL_SHARE)
