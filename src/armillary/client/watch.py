"""Watch folders: ingest what arrives in them, once it is whole.

No state is kept: after a restart everything is looked at again, and what the catalogue has already is the same. A sweep finds
what notifications of the kernel miss (other hosts' writes on a network file system); they only make it come sooner.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from armillary.base.errors import TransientError
from armillary.client.client import Client
from armillary.client.find import Found, PathOutcome, Signature
from armillary.client.ingest import Ingest, Options, Progress

QUIET = timedelta(seconds=2)
SWEEP_SECONDS = 2.0


def watch(
    client: Client,
    folders: Sequence[Path],
    options: Options,
    progress: Progress,
    stop: threading.Event,
    *,
    sweep_seconds: float = SWEEP_SECONDS,
    trouble: Callable[[TransientError], None] = lambda _: None,
) -> None:
    """Sweep the folders until told to stop; a server that is away is waited for."""
    memory = Memory(progress, [folder.absolute() for folder in folders])
    options = replace(options, quiet=max(options.quiet, QUIET))
    with Ingest(client, options, memory) as ingest, Bell(folders, stop) as bell:
        while not stop.is_set():
            try:
                memory.remember_waiting(ingest.sweep(folders, memory.look))
            except TransientError as error:
                trouble(error)
            bell.wait(sweep_seconds)


class Memory:
    """What was dealt with and has not changed since is not looked at again, nor told of."""

    def __init__(self, progress: Progress, folders: Sequence[Path] = ()) -> None:
        self._progress = progress
        self._folders = set(folders)
        self._looked_at: dict[Path, Signature] = {}
        self._done: dict[Path, Signature] = {}
        self._waiting: dict[Path, Found] = {}
        self._told: dict[Path, str] = {}

    def look(self, found: Found) -> Found | None:
        """The earlier sight of one that is waited for, so that its quiet time goes on; nothing for one that is done."""
        if self._done.get(found.path) == found.signature:
            return None
        self._looked_at[found.path] = found.signature
        return self._waiting.pop(found.path, found)

    def remember_waiting(self, waiting: Sequence[Found]) -> None:
        """What the last sweep could not take yet."""
        self._waiting = {one.path: one for one in waiting}

    def found(self, path: Path, size_bytes: int) -> None:
        """Told at each sweep, which is no news."""

    def moved(self, granule: str, count: int) -> None:
        """Passed on."""
        self._progress.moved(granule, count)

    def waiting(self, path: Path, reason: str) -> None:
        """Told once."""
        if self._told.get(path) != reason:
            self._told[path] = reason
            self._progress.waiting(path, reason)

    def ended(self, outcome: PathOutcome) -> None:
        """Told once for each content; that a watched folder is empty is no news."""
        if outcome.path in self._folders and outcome.state == "skipped":
            return
        if outcome.path in self._looked_at:
            self._done[outcome.path] = self._looked_at.pop(outcome.path)
        elif self._told.get(outcome.path) == outcome.reason:
            return
        self._told[outcome.path] = outcome.reason
        self._progress.ended(outcome)


class Bell:
    """Rings when something is written, where the kernel and the package watchfiles tell; else after a while."""

    def __init__(self, folders: Sequence[Path], stop: threading.Event) -> None:
        self._stop = stop
        self._rung = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(list(folders),), daemon=True)

    def __enter__(self) -> "Bell":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def wait(self, seconds: float) -> None:
        """Until it rings, or so long."""
        if self._rung.wait(seconds) and not self._stop.is_set():
            # What has just begun to be written is not whole; and a burst is one ring.
            self._stop.wait(QUIET.total_seconds() / 4)
        self._rung.clear()

    def _listen(self, folders: list[Path]) -> None:
        try:
            watchfiles: Any = import_module("watchfiles")
        except ImportError:  # it is optional
            self._stop.wait()
        else:
            for _ in watchfiles.watch(*folders, stop_event=self._stop, watch_filter=None, raise_interrupt=False):
                self._rung.set()
        self._rung.set()
