"""Orphan bytes: objects in the store that belong to no upload, looked for by walking it slowly, again and again."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice

from armillary.base.units import human_size
from armillary.granules import collect
from armillary.watchdog.doctor import PREFIXES
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import listed, several

STEP = 5000  # objects looked at in one round
REST_SECONDS = 3600.0  # between two walks through the whole store
KEPT = 100


@dataclass(frozen=True)
class Seen:
    """What a walk has met so far."""

    objects: int = 0
    strays: int = 0
    stray_bytes: int = 0
    first: tuple[str, ...] = ()


class Walk:
    """Where the walk is; it is no loss if that is forgotten, since the next server begins anew."""

    def __init__(self, step: int = STEP, rest_seconds: float = REST_SECONDS) -> None:
        self._step = step
        self._rest_seconds = rest_seconds
        self._rest_until = 0.0
        self._at: AsyncIterator[tuple[str, int]] | None = None
        self._seen = Seen()

    async def find(self, view: View) -> list[Finding] | None:
        """Go a step; what was found is known at the end of the walk, and until then what is on record stands."""
        if self._at is None:
            if time.monotonic() < self._rest_until:
                return None
            self._at, self._seen = view.objects.list(), Seen()
        try:
            batch = [one async for one in _some(self._at, self._step)]
        except Exception:
            self._at = None  # the store did not answer: from the start, next time
            raise
        self._seen = await _look(view, self._seen, batch)
        if len(batch) == self._step:
            return None
        self._at, self._rest_until = None, time.monotonic() + self._rest_seconds
        return decide(self._seen)


def decide(seen: Seen) -> list[Finding]:
    """One finding for all: `armillary doctor` names each."""
    if not seen.strays:
        return []
    return [
        Finding(
            subject="store",
            severity="warning",
            reason=f"{several(seen.strays, 'object')} ({human_size(seen.stray_bytes)}) of {seen.objects:,} in the store "
            f"belong to no upload: {listed(seen.first)}.",
            action="Nothing was deleted: after a restore of an older backup these may be the only copies.",
            remedy="`armillary doctor` names each; delete those that nobody misses.",
        )
    ]


async def _some(objects: AsyncIterator[tuple[str, int]], number: int) -> AsyncIterator[tuple[str, int]]:
    for _ in range(number):
        try:
            yield await anext(objects)
        except StopAsyncIteration:
            return


async def _look(view: View, seen: Seen, batch: list[tuple[str, int]]) -> Seen:
    sizes = {key: size for key, size in batch if not key.startswith(PREFIXES)}
    async with view.database.transaction() as tx:
        strays = await collect.strays(tx, list(sizes))
    return replace(
        seen,
        objects=seen.objects + len(batch),
        strays=seen.strays + len(strays),
        stray_bytes=seen.stray_bytes + sum(sizes[key] for key in strays),
        first=tuple(islice((*seen.first, *strays), KEPT)),
    )


def sweep() -> Sweep:
    """A sweep with a walk of its own."""
    return Sweep("orphans", "Objects in the store that belong to nothing.", timedelta(seconds=60), Walk().find)
