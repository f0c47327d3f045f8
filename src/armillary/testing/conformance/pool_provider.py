"""What every pool provider promises. Subclass it, give it a `provider` fixture, and `wait_seconds` to be patient."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID, uuid4

import pytest

from armillary.algorithms.algorithm import Resources
from armillary.pools.provider import Found, Known, PoolProvider, StartRequest, consecutive


class PoolProviderConformance:
    """A provider's three verbs, as the reconciler relies on them."""

    wait_seconds = 10.0
    size: Resources | None = None

    @pytest.fixture
    def provider(self) -> PoolProvider:
        """The provider to test; what it starts must live until it is stopped."""
        raise NotImplementedError

    async def reborn(self, provider: PoolProvider) -> PoolProvider:
        """The provider as the next server would have it, which remembers nothing."""
        return provider

    def requests(self, number: int = 1) -> list[StartRequest]:
        """Workers to start."""
        starts = consecutive(uuid4(), number)
        return [StartRequest(start, "default", "http://127.0.0.1:1", f"token-{start}", self.size) for start in starts]

    async def start(self, provider: PoolProvider) -> Known:
        """Start one, and wait until it is no longer pending."""
        (request,) = self.requests()
        references = await provider.start([request])
        assert set(references) == {request.start}
        known = Known(request.start, references[request.start])
        await self.until(lambda: self._is(provider, known, "running"))
        return known

    async def test_what_was_started_lives_until_it_is_stopped(self, provider: PoolProvider) -> None:
        known = await self.start(provider)
        assert known.reference
        assert (await provider.check([known]))[known.start].reference == known.reference
        await provider.stop([known.reference], force=True)
        await self.until(lambda: self._is_gone(provider, known))

    async def test_stop_without_force_is_enough(self, provider: PoolProvider) -> None:
        known = await self.start(provider)
        assert known.reference
        await provider.stop([known.reference])
        await self.until(lambda: self._is_gone(provider, known))

    async def test_stopping_twice_is_fine(self, provider: PoolProvider) -> None:
        known = await self.start(provider)
        assert known.reference
        await provider.stop([known.reference], force=True)
        await self.until(lambda: self._is_gone(provider, known))
        await provider.stop([known.reference], force=True)
        await provider.stop([known.reference])

    async def test_a_start_whose_reference_was_not_recorded_is_found(self, provider: PoolProvider) -> None:
        known = await self.start(provider)
        assert known.reference
        successor = await self.reborn(provider)
        found = await successor.check([Known(known.start, None)])
        assert found[known.start].reference == known.reference
        await successor.stop([known.reference], force=True)
        await self.until(lambda: self._is_gone(successor, known))

    async def test_what_was_never_started_does_not_live(self, provider: PoolProvider) -> None:
        assert await provider.check([Known(uuid4(), None)]) == {}
        assert await provider.check([]) == {}

    async def test_those_started_together_are_told_apart(self, provider: PoolProvider) -> None:
        requests = self.requests(3)
        references = await provider.start(requests)
        known = [Known(request.start, references[request.start]) for request in requests]
        assert len(set(references.values())) == 3
        assert set(await provider.check(known)) == set(references)
        successor = await self.reborn(provider)
        anonymous = await successor.check([Known(one.start, None) for one in known])
        assert {start: found.reference for start, found in anonymous.items()} == references
        await provider.stop([references[requests[1].start]], force=True)
        await self.until(lambda: self._is_gone(provider, known[1]))
        assert self._living(await provider.check(known)) == {requests[0].start, requests[2].start}
        await provider.stop([references[requests[0].start], references[requests[2].start]], force=True)
        for one in known:
            await self.until(lambda one=one: self._is_gone(provider, one))  # type: ignore[misc]

    @staticmethod
    def _living(found: Mapping[UUID, Found]) -> set[UUID]:
        return {start for start, one in found.items() if one.state in ("pending", "running")}

    async def _is(self, provider: PoolProvider, known: Known, state: str) -> bool:
        found = (await provider.check([known])).get(known.start)
        assert found is not None
        assert found.state != "ended", found.note
        return found.state == state

    async def _is_gone(self, provider: PoolProvider, known: Known) -> bool:
        found = (await provider.check([known])).get(known.start)
        return found is None or found.state == "ended"

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something to be so."""
        deadline = time.monotonic() + self.wait_seconds
        while not await condition():
            assert time.monotonic() < deadline, f"It did not happen within {self.wait_seconds} s."
            await asyncio.sleep(0.02)
