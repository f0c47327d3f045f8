"""What every pool provider promises. Subclass it, give it a `provider` fixture, and `wait_seconds` to be patient."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from armillary.pools.provider import Known, PoolProvider, StartRequest


class PoolProviderConformance:
    """A provider's three verbs, as the reconciler relies on them."""

    wait_seconds = 10.0

    @pytest.fixture
    def provider(self) -> PoolProvider:
        """The provider to test; what it starts must live until it is stopped."""
        raise NotImplementedError

    async def reborn(self, provider: PoolProvider) -> PoolProvider:
        """The provider as the next server would have it, which remembers nothing."""
        return provider

    def request(self) -> StartRequest:
        """A worker to start."""
        return StartRequest(uuid4(), "default", "http://127.0.0.1:1", "token", None)

    async def test_what_was_started_lives_until_it_is_stopped(self, provider: PoolProvider) -> None:
        request = self.request()
        reference = await provider.start(request)
        known = Known(request.start, reference)
        assert await provider.check([known]) == {request.start: reference}
        await provider.stop(reference, force=True)
        await self._until(lambda: self._is_gone(provider, known))

    async def test_stop_without_force_is_enough(self, provider: PoolProvider) -> None:
        request = self.request()
        known = Known(request.start, await provider.start(request))
        assert known.reference
        await provider.stop(known.reference)
        await self._until(lambda: self._is_gone(provider, known))

    async def test_stopping_twice_is_fine(self, provider: PoolProvider) -> None:
        request = self.request()
        reference = await provider.start(request)
        await provider.stop(reference, force=True)
        await self._until(lambda: self._is_gone(provider, Known(request.start, reference)))
        await provider.stop(reference, force=True)
        await provider.stop(reference)

    async def test_a_start_whose_reference_was_not_recorded_is_found(self, provider: PoolProvider) -> None:
        request = self.request()
        reference = await provider.start(request)
        successor = await self.reborn(provider)
        assert await successor.check([Known(request.start, None)]) == {request.start: reference}
        await successor.stop(reference, force=True)
        await self._until(lambda: self._is_gone(provider, Known(request.start, reference)))

    async def test_what_was_never_started_does_not_live(self, provider: PoolProvider) -> None:
        assert await provider.check([Known(uuid4(), None)]) == {}

    async def test_each_is_told_from_the_others(self, provider: PoolProvider) -> None:
        requests = [self.request() for _ in range(3)]
        known = [Known(request.start, await provider.start(request)) for request in requests]
        assert len({one.reference for one in known}) == 3
        assert known[1].reference
        await provider.stop(known[1].reference, force=True)
        await self._until(lambda: self._is_gone(provider, known[1]))
        assert set(await provider.check(known)) == {known[0].start, known[2].start}
        for one in (known[0], known[2]):
            assert one.reference
            await provider.stop(one.reference, force=True)

    async def _is_gone(self, provider: PoolProvider, known: Known) -> bool:
        return await provider.check([known]) == {}

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + self.wait_seconds
        while not await condition():
            assert time.monotonic() < deadline, f"It did not happen within {self.wait_seconds} s."
            await asyncio.sleep(0.02)
