"""Providers that live in memory and pass the same suites as the real ones."""

from collections.abc import Mapping, Sequence
from itertools import count
from uuid import UUID

from armillary.base.errors import TransientError
from armillary.pools.provider import Found, Known, StartRequest, StartState


class MemoryProvider:
    """Workers that are entries of a dictionary; a test ends them as it likes."""

    def __init__(self) -> None:
        self.living: dict[str, StartRequest] = {}
        self.stopped: list[tuple[str, bool]] = []
        self.said: dict[str, tuple[StartState, str]] = {}  # state and note, where they are not plain running
        self.is_broken = False
        self.is_silent = False
        self.answers_late = False  # it starts what is wished, and nobody hears of it
        self._numbers = count(1)

    async def start(self, requests: Sequence[StartRequest]) -> Mapping[UUID, str]:
        """Remember them."""
        if self.is_broken:
            raise TransientError("There is no room.", "Try later.")
        started = {request.start: self._remember(request) for request in requests}
        if self.answers_late:
            raise TransientError("The controller did not answer in time.")
        return started

    async def stop(self, references: Sequence[str], *, force: bool = False) -> None:
        """Forget them."""
        for reference in references:
            self.stopped.append((reference, force))
            self.living.pop(reference, None)

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, Found]:
        """Those remembered, found by their start as well."""
        if self.is_silent:
            raise TransientError("The controller does not answer.", "Try later.")
        references = {request.start: reference for reference, request in self.living.items()}
        return {
            known.start: Found(references[known.start], *self.said.get(references[known.start], ("running", "")))
            for known in starts
            if known.start in references and known.reference in (None, references[known.start])
        }

    def _remember(self, request: StartRequest) -> str:
        reference = f"memory-{next(self._numbers)}"
        self.living[reference] = request
        return reference
