"""How long requests take, counted beside the application: a few microseconds each, and no state but counters."""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics

from armillary.metrics.metric import REQUESTS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

GONE = "499"  # whoever asked went away before the answer began


class Requests:
    """ASGI middleware: the duration of each request by its route and status."""

    def __init__(self, application: Application, registry: CollectorRegistry) -> None:
        self._application = application
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each
        self._histogram = Histogram(
            REQUESTS.name, REQUESTS.meaning, REQUESTS.labels, buckets=REQUESTS.bounds, registry=registry
        )
        self._known: dict[tuple[str, str, str], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it."""
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        begun = time.perf_counter()
        status = GONE

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._application(scope, receive, sending)
        finally:
            self._observe(scope, status, time.perf_counter() - begun)

    def _observe(self, scope: Scope, status: str, seconds: float) -> None:
        # A path without a route is anybody's invention and would make a series of each.
        key = (scope["method"], getattr(scope.get("route"), "path", ""), status)
        series = self._known.get(key)
        if series is None:
            series = self._known[key] = self._histogram.labels(*key)
        series.observe(seconds)
