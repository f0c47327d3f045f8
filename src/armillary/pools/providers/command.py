"""Workers started, stopped and looked for by commands of the site's own: for whatever has no provider here."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from armillary.base.errors import ArmillaryError, TransientError
from armillary.pools.launch import arguments
from armillary.pools.options import Options
from armillary.pools.provider import Found, Known, PoolProvider, StartRequest, StartState
from armillary.pools.shell import Shell

STATES: tuple[StartState, ...] = ("pending", "running", "ending", "ended")


@dataclass(frozen=True)
class CommandProvider:
    """Three commands.

    `start` gets the token by standard input and ARMILLARY_URL, _POOL, _START and _ARGUMENTS in its environment; it prints
    a reference of one line. `stop` gets references, one a line, and ARMILLARY_FORCE (0 or 1). `check` gets lines of start
    and reference (`-` if unknown) and prints a line for each that lives: start, reference, and if it likes a state
    (pending, running, ending, ended) and a note.
    """

    start_words: tuple[str, ...]
    stop_words: tuple[str, ...]
    check_words: tuple[str, ...]
    url: str = ""
    shell: Shell = field(default_factory=Shell)

    async def start(self, requests: Sequence[StartRequest]) -> Mapping[UUID, str]:
        """One command each, side by side."""
        answers = await asyncio.gather(*map(self._start, requests), return_exceptions=True)
        started = {
            request.start: answer for request, answer in zip(requests, answers, strict=True) if isinstance(answer, str)
        }
        wrong = next((answer for answer in answers if isinstance(answer, BaseException)), None)
        if wrong is not None and (not started or not isinstance(wrong, ArmillaryError)):
            raise wrong
        return started

    async def stop(self, references: Sequence[str], *, force: bool = False) -> None:
        """One command for all."""
        if references:
            lines = "".join(f"{reference}\n" for reference in references)
            await self.shell.run(self.stop_words, lines, {"ARMILLARY_FORCE": str(int(force))})

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, Found]:
        """One command for all."""
        if not starts:
            return {}
        asked = "".join(f"{one.start} {one.reference or '-'}\n" for one in starts)
        return _found(await self.shell.run(self.check_words, asked), {one.start for one in starts})

    async def _start(self, request: StartRequest) -> str:
        told = StartRequest(request.start, request.pool, self.url or request.url, "", request.size)
        variables = {
            "ARMILLARY_URL": told.url,
            "ARMILLARY_POOL": told.pool,
            "ARMILLARY_START": str(told.start),
            "ARMILLARY_ARGUMENTS": shlex.join([*arguments(told, told.size), "--start", str(told.start)]),
        }
        said = (await self.shell.run(self.start_words, f"{request.token}\n", variables)).strip()
        if not said or "\n" in said:
            raise TransientError(f"{self.start_words[0]} printed {said[:200]!r}.", "Let it print one reference.")
        return said


def make(document: object, _folder: Path) -> PoolProvider:
    """The provider that a pool's `command:` describes."""
    options = Options(document, "command")
    words = [options.words(name) for name in ("start", "stop", "check")]
    for name, given in zip(("start", "stop", "check"), words, strict=True):
        if not given:
            options.text(name, required=True)
    url = options.word("url").rstrip("/")
    options.end()
    return CommandProvider(words[0], words[1], words[2], url)


def _found(output: str, asked: set[UUID]) -> dict[UUID, Found]:
    found = {}
    for line in output.splitlines():
        start, reference, state, note = (*line.split(maxsplit=3), "", "", "", "")[:4]
        try:
            known = UUID(start)
        except ValueError as error:
            raise TransientError(f"The check command printed {line[:200]!r}.", "See docs/guides/pools.md.") from error
        if known in asked and reference:
            named = next((one for one in STATES if one == state), STATES[1])
            found[known] = Found(reference, named, note)
    return found
