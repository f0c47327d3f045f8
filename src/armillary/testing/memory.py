"""Providers that live in memory and pass the same suites as the real ones."""

from collections.abc import Mapping, Sequence
from itertools import count
from uuid import UUID

from armillary.base.errors import TransientError
from armillary.pools.provider import Known, StartRequest


class MemoryProvider:
    """Workers that are entries of a dictionary; a test ends them as it likes."""

    def __init__(self) -> None:
        self.living: dict[str, StartRequest] = {}
        self.stopped: list[tuple[str, bool]] = []
        self.is_broken = False
        self._numbers = count(1)

    async def start(self, request: StartRequest) -> str:
        """Remember it."""
        if self.is_broken:
            raise TransientError("There is no room.", "Try later.")
        reference = f"memory-{next(self._numbers)}"
        self.living[reference] = request
        return reference

    async def stop(self, reference: str, *, force: bool = False) -> None:
        """Forget it."""
        self.stopped.append((reference, force))
        self.living.pop(reference, None)

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, str]:
        """Those remembered, found by their start as well."""
        references = {request.start: reference for reference, request in self.living.items()}
        return {
            known.start: references[known.start]
            for known in starts
            if known.start in references and known.reference in (None, references[known.start])
        }
