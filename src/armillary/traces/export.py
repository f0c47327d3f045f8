"""Send spans to an OpenTelemetry receiver, one server at a time, each at least once: nobody who makes history waits for it."""

from dataclasses import dataclass
from uuid import UUID

import httpx2

from armillary import __version__
from armillary.base import history, log, servers
from armillary.base.db import Database
from armillary.base.errors import UsageError
from armillary.base.settings import TraceSettings
from armillary.traces import build
from armillary.traces.span import Span, is_sampled, otlp

SINGLETON = READER = "traces"
MAX_EVENTS = 1000
TIMEOUT_SECONDS = 10.0
TRY_AGAIN = frozenset({429, 502, 503, 504})  # as OTLP says; anything else that is refused would be so again

_log = log.get("traces")


@dataclass
class Exporter:
    """Where spans go, and whether it could be reached last time."""

    settings: TraceSettings
    instance: str
    is_away: bool = False

    async def round(self, database: Database, server: UUID) -> bool:
        """Tell of what happened since the last round; whether there is more to tell at once."""
        async with database.transaction() as tx:
            epoch = await servers.hold(tx, SINGLETON, server)
        if epoch is None:
            return False
        async with database.transaction() as tx:
            read = await history.window(tx, READER, from_start=False, max_events=MAX_EVENTS)
            spans = [one for one in await build.spans(tx, read) if is_sampled(one.trace, self.settings.fraction)]
            if not spans:
                await history.advance(tx, READER, read)
                return read.is_full
        if not await self._send(spans):
            return False  # the history keeps it
        async with database.transaction() as tx:
            await servers.check(tx, SINGLETON, epoch)
            await history.advance(tx, READER, read)
        return read.is_full

    async def _send(self, spans: list[Span]) -> bool:
        """Whether these need not be sent again."""
        resource = {"service.name": "armillary", "service.version": __version__, "service.instance.id": self.instance}
        try:
            async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                answer = await client.post(
                    str(self.settings.endpoint), json=otlp(spans, resource), headers=self._headers()
                )
        except httpx2.HTTPError as error:
            return self._put_off(str(error) or type(error).__name__)
        if answer.status_code in TRY_AGAIN:
            return self._put_off(f"it answers {answer.status_code}")
        if not answer.is_success:
            _log.error(
                "spans refused and dropped", spans=len(spans), status=answer.status_code, answer=answer.text[:500]
            )
        elif self.is_away:
            _log.info("the receiver of traces is back")
        self.is_away = False
        return True

    def _put_off(self, reason: str) -> bool:
        if not self.is_away:
            _log.warning("traces wait for their receiver", endpoint=self.settings.endpoint, reason=reason)
        self.is_away = True
        return False

    def _headers(self) -> dict[str, str]:
        path = self.settings.token_file
        if path is None:
            return {}
        try:
            return {"Authorization": f"Bearer {path.read_text().strip()}"}
        except OSError as error:
            raise UsageError(
                f"traces.token_file cannot be read: {error}",
                "Name a file that this server may read.",
                field="traces.token_file",
            ) from error
