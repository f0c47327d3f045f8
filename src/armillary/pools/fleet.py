"""The providers of all pools, made once each, and asked side by side so that one that is slow holds up nobody."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from armillary.base.errors import ArmillaryError, UsageError
from armillary.pools.kinds import KINDS
from armillary.pools.pool import Pool, Start
from armillary.pools.provider import Found, Known, PoolProvider

LOOK_SECONDS = 5.0

MakeProvider = Callable[[str, str, Mapping[str, Any]], PoolProvider]


@dataclass(frozen=True)
class Look:
    """What was found: `unknown` are starts whose provider did not answer, which says nothing about them."""

    found: Mapping[UUID, Found]
    unknown: frozenset[UUID] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict)  # of pools


def maker(home: Path) -> MakeProvider:
    """Makes providers whose files lie in the home, a folder for each pool, unless their options say where."""

    def make(provider: str, pool: str, options: Mapping[str, Any]) -> PoolProvider:
        if provider not in KINDS:
            raise UsageError(f"There is no provider {provider} here.", "Install the version that has it.")
        folder = home / "workers" if provider == "local" else home / "workers" / pool
        return KINDS[provider](options, folder)

    return make


class Providers:
    """Providers by what they were asked to be: a start is looked after by the options it was started with."""

    def __init__(self, make: MakeProvider) -> None:
        self._make = make
        self._made: dict[tuple[str, str, str], PoolProvider] = {}
        self._looking: dict[int, tuple[asyncio.Task[Mapping[UUID, Found]], frozenset[UUID]]] = {}

    def of_pool(self, pool: Pool) -> PoolProvider:
        """The one that starts workers of a pool now."""
        assert pool.provider is not None
        return self._get(pool.provider, pool.id, pool.options)

    def of_start(self, start: Start) -> PoolProvider:
        """The one that started this."""
        return self._get(start.provider, start.pool, start.options)

    async def look(self, starts: Sequence[Start]) -> Look:
        """Ask all providers about what they have started."""
        groups: dict[int, tuple[PoolProvider, list[Start]]] = {}
        for start in starts:
            provider = self.of_start(start)
            groups.setdefault(id(provider), (provider, []))[1].append(start)
        answers = await asyncio.gather(*(self._ask(*group) for group in groups.values()))
        found: dict[UUID, Found] = {}
        unknown: set[UUID] = set()
        problems: dict[str, str] = {}
        for (_, asked), answer in zip(groups.values(), answers, strict=True):
            if isinstance(answer, str):
                unknown |= {start.id for start in asked}
                problems |= {start.pool: answer for start in asked}
            else:
                found |= answer[0]
                unknown |= {start.id for start in asked} - answer[1]
        return Look(found, frozenset(unknown), problems)

    async def _ask(
        self, provider: PoolProvider, starts: Sequence[Start]
    ) -> tuple[Mapping[UUID, Found], frozenset[UUID]] | str:
        """Its answer and about whom, or why there is none; one that takes long is heard in a later round."""
        task, about = self._looking.pop(id(provider), (None, frozenset()))
        if task is None:
            about = frozenset(start.id for start in starts)
            task = asyncio.ensure_future(provider.check([Known(start.id, start.reference) for start in starts]))
        done, _ = await asyncio.wait([task], timeout=LOOK_SECONDS)
        if not done:
            self._looking[id(provider)] = task, about
            return "Its provider has not answered yet."
        try:
            return task.result(), about
        except ArmillaryError as error:
            return str(error)

    def _get(self, provider: str, pool: str, options: Mapping[str, Any]) -> PoolProvider:
        key = (provider, pool, json.dumps(options, sort_keys=True))
        if key not in self._made:
            self._made[key] = self._make(provider, pool, options)
        return self._made[key]
