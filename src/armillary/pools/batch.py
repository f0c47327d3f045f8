"""Workers as jobs of a batch system ("pilots"): one class for all of them, and a small language per system."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from armillary.algorithms.algorithm import Resources
from armillary.base.errors import ArmillaryError
from armillary.pools.launch import Site, drop_tokens, save_tokens, script
from armillary.pools.options import Options
from armillary.pools.provider import Found, Known, StartRequest, StartState, runs
from armillary.pools.shell import Shell

CHECK_EVERY = timedelta(seconds=10)  # administrators watch who asks their controller all the time
NAME = re.compile(r"armillary-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")


@dataclass(frozen=True)
class Listed:
    """A line of the system's list: our name for the job (and its place in an array), the system's, and how it is."""

    name: str
    reference: str
    state: StartState
    note: str = ""
    index: int = 0


def read_sweep(options: Options) -> float:
    """The option `check_every`: seconds between questions; 0 asks every time."""
    every = options.duration("check_every")
    return (CHECK_EVERY if every is None else every).total_seconds()


class System(Protocol):
    """A batch system's language: what to ask it, and how its answers read. Nothing here acts."""

    @property
    def shell_index(self) -> str:
        """The shell's word for a job's place in its array, from 0."""
        ...

    @property
    def largest_array(self) -> int:
        """How many workers one submission may start."""
        ...

    def submit(self, name: str, log: str, count: int, size: Resources | None, /) -> tuple[list[str], list[str]]:
        """The command that takes a script for so many workers by standard input, and lines that open the script."""
        ...

    def submitted(self, output: str, count: int, /) -> list[str]:
        """The references of what was submitted, in the order of the array."""
        ...

    def ask(self) -> list[str]:
        """One command that lists all jobs of ours."""
        ...

    def listed(self, output: str) -> list[Listed]:
        """Its answer."""
        ...

    def ended(self, references: Sequence[str], /) -> list[str]:
        """One command that says how jobs ended that are no longer listed; empty where the list remembers them itself."""
        ...

    def remembered(self, output: str, /) -> list[Listed]:
        """Its answer."""
        ...

    def cancel(self, references: Sequence[str], *, force: bool) -> list[list[str]]:
        """The commands that end jobs: those that wait at once, those that run by SIGTERM, or by force."""
        ...


class Single:
    """What is common to systems of which we ask one job at a time and whose list remembers what ended."""

    shell_index = "0"
    largest_array = 1

    def ended(self, _references: Sequence[str]) -> list[str]:
        """No question."""
        return []

    def remembered(self, _output: str) -> list[Listed]:
        """No answer."""
        return []


class BatchProvider:
    """The three verbs over a batch system. What it keeps in memory only spares the system questions."""

    def __init__(self, system: System, site: Site, sweep_seconds: float) -> None:
        self._system = system
        self._site = site
        self._shell = Shell(site.through)
        self._sweep_seconds = sweep_seconds
        self._turn = asyncio.Lock()
        self._swept_at = float("-inf")
        self._seen: dict[UUID, Found] = {}
        self._fresh: dict[UUID, Found] = {}  # submitted since the last sweep began
        self._sought: set[UUID] = set()  # those without a reference that the last sweep looked for by name

    async def start(self, requests: Sequence[StartRequest]) -> Mapping[UUID, str]:
        """Submit them, those whose ids follow one another as one array."""
        started: dict[UUID, str] = {}
        for part in runs(requests, self._system.largest_array):
            try:
                started |= await self._submit(part)
            except ArmillaryError:
                if not started:
                    raise
                break  # what is missing is tried again, and then it will be said
        return started

    async def stop(self, references: Sequence[str], *, force: bool = False) -> None:
        """Cancel; a job that is gone already makes no noise."""
        for command in self._system.cancel(references, force=force) if references else ():
            await self._shell.ask(command)
        self._swept_at = float("-inf")

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, Found]:
        """What the system's list says, one question for all, asked again only after a while."""
        async with self._turn:
            unnamed = {one.start for one in starts if one.reference is None}
            if unnamed - self._sought or time.monotonic() - self._swept_at > self._sweep_seconds:
                await self._sweep(starts)
                self._sought = unnamed
        return {one.start: self._seen[one.start] for one in starts if one.start in self._seen}

    async def _submit(self, part: Sequence[StartRequest]) -> dict[UUID, str]:
        name = f"armillary-{part[0].start}"
        words, lines = save_tokens(self._site, part)
        await self._shell.run(words, lines)
        command, head = self._system.submit(name, f"{self._site.folder}/{name}", len(part), part[0].size)
        try:
            output = await self._shell.run(command, script(self._site, part, self._system.shell_index, head))
        except ArmillaryError:
            words, lines = drop_tokens(self._site, part)
            await self._shell.ask(words, lines)
            raise
        references = self._system.submitted(output, len(part))
        started = {one.start: reference for one, reference in zip(part, references, strict=True)}
        for start, reference in started.items():
            self._fresh[start] = self._seen[start] = Found(reference, "pending", "It was submitted.")
        return started

    async def _sweep(self, starts: Sequence[Known]) -> None:
        fresh, self._fresh = self._fresh, {}
        try:
            seen = _by_start(self._system.listed(await self._shell.run(self._system.ask())))
            lost = {one.reference for one in starts if one.reference and one.start not in seen}
            question = self._system.ended(sorted(lost)) if lost else []
            if question:
                said = await self._shell.ask(question)  # a system that keeps no accounts refuses, and that is fine
                seen = _by_start(self._system.remembered(said.output)) | seen
        except ArmillaryError:
            self._fresh = fresh | self._fresh
            raise
        self._seen = seen | self._fresh
        self._swept_at = time.monotonic()


def _by_start(listed: Sequence[Listed]) -> dict[UUID, Found]:
    """Our jobs among those of the list: a job's name is the id of its array's first start."""
    found = {}
    for one in listed:
        if match := NAME.fullmatch(one.name):
            found[UUID(int=UUID(match[1]).int + one.index)] = Found(one.reference, one.state, one.note)
    return found
