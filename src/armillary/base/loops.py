"""The loops of a server: each does its work again and again, and what it last did is kept for whoever wonders."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg

from armillary.base import log
from armillary.base.clock import iso, utc_now
from armillary.base.errors import ArmillaryError, TransientError
from armillary.base.wakes import POLL_SECONDS, WORK, Wakes

RETRY_SECONDS = 1.0

Work = Callable[[], Awaitable[Any]]

_log = log.get("server")


@dataclass(frozen=True)
class Turn:
    """A loop's last turn; times are of its machine."""

    every_seconds: float
    ended_at: str
    seconds: float = 0.0
    error: str = ""
    failing_since: str | None = None


class Loops:
    """What one server repeats. Nothing that a loop does ends it."""

    def __init__(self, wakes: Wakes) -> None:
        self._wakes = wakes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, Turn] = {}

    def add(self, name: str, work: Work, every_seconds: float = 0.0, *, wakes: bool = False) -> None:
        """Do it again and again: at once while there is work, on a wake, or after a while. Failures are logged."""
        self._turns[name] = Turn(POLL_SECONDS if wakes else every_seconds, iso(utc_now()))
        self._tasks[name] = asyncio.create_task(self._repeat(name, work, every_seconds, wakes), name=name)

    def told(self) -> dict[str, Any]:
        """The last turn of each, for JSON."""
        return {name: asdict(turn) for name, turn in self._turns.items()}

    def cancel(self, name: str) -> None:
        """End one where it is."""
        self._tasks[name].cancel()

    async def stop(self) -> None:
        """End all where they are."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _repeat(self, name: str, work: Work, every_seconds: float, wakes: bool) -> None:
        while True:
            since, begun = self._wakes.count(WORK), time.monotonic()
            try:
                busy = bool(await work()) and wakes
            except Exception as error:  # noqa: BLE001  a loop that ends would leave a server that looks alive and is not
                level = _log.warning if isinstance(error, TransientError) else _log.error
                known = isinstance(error, ArmillaryError | psycopg.Error)
                level("loop failed; it goes on", loop=name, reason=str(error), exc_info=None if known else error)
                self._note(name, begun, str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._note(name, begun, "")
            if wakes and not busy:
                await self._wakes.wait(WORK, since)
            elif not wakes:
                await asyncio.sleep(every_seconds)

    def _note(self, name: str, begun: float, error: str) -> None:
        now, before = iso(utc_now()), self._turns[name]
        since = (before.failing_since or now) if error else None
        self._turns[name] = replace(
            before, ended_at=now, seconds=time.monotonic() - begun, error=error, failing_since=since
        )


def turns(told: Mapping[str, Any]) -> dict[str, Turn]:
    """What `Loops.told` said, as it was read from the database."""
    return {name: Turn(**turn) for name, turn in told.items()}
