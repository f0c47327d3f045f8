"""Workers as processes of this machine, in sessions of their own: they outlive the server, and the next one adopts them."""

import asyncio
import contextlib
import math
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import psutil

from armillary.algorithms.algorithm import Resources
from armillary.base.crash import crash_point
from armillary.base.errors import TransientError
from armillary.pools.launch import RUNNER, arguments
from armillary.pools.options import Options
from armillary.pools.provider import Found, Known, PoolProvider, StartRequest

TOLERANCE_SECONDS = 1.5


class LocalProvider:
    """Starts `armillary-runner` here. A reference is host, process id and time of start, so no other process is meant."""

    def __init__(self, folder: Path, command: Sequence[str] = RUNNER) -> None:
        self._folder = folder
        self._command = command
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    async def start(self, requests: Sequence[StartRequest]) -> Mapping[UUID, str]:
        """Start processes; their tokens go through pipes, where no other process can read them."""
        started: dict[UUID, str] = {}
        for request in requests:
            try:
                started[request.start] = await asyncio.to_thread(self._start, request)
            except TransientError:
                if not started:
                    raise
                break
        return started

    async def stop(self, references: Sequence[str], *, force: bool = False) -> None:
        """SIGTERM to the runner, or SIGKILL to all of its session."""
        for process in filter(None, map(_process, references)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if force:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    os.kill(process.pid, signal.SIGTERM)

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, Found]:
        """Those that live; ended children are reaped on the way."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]
        living = {known.start: known.reference for known in starts if known.reference and _process(known.reference)}
        unknown = [known.start for known in starts if known.reference is None]
        living |= await asyncio.to_thread(_find, unknown) if unknown else {}
        return {start: Found(reference) for start, reference in living.items()}

    def _start(self, request: StartRequest) -> str:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = self._folder / f"{request.start}.log"
        with log.open("ab") as output:
            try:
                child = subprocess.Popen(
                    [*self._command, *words(request, self._folder)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd=self._folder,
                )
            except OSError as error:
                raise TransientError(f"A worker could not be started: {error}.", f"Check {self._folder}.") from error
        self._children[child.pid] = child
        crash_point("pools.started")
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(f"{request.token}\n".encode())
        try:
            return _reference(psutil.Process(child.pid))
        except psutil.NoSuchProcess as error:
            raise TransientError("A worker ended as it was started.", f"See {log}.") from error


def make(document: object, folder: Path) -> PoolProvider:
    """The provider of this machine; it has no options."""
    Options(document, "local").end()
    return LocalProvider(folder)


def words(request: StartRequest, folder: Path) -> list[str]:
    """The runner's command line."""
    # One cache for all workers of this machine: an object is fetched once however many want it.
    places = ["--work", str(folder / "work"), "--cache", str(folder / "cache")]
    return [*arguments(request, request.size), "--start", str(request.start), "--token-file", "/dev/stdin", *places]


def machine() -> Resources:
    """What this machine has."""
    return Resources(os.cpu_count() or 1, psutil.virtual_memory().total, psutil.disk_usage("/").total, math.inf)


def _reference(process: psutil.Process) -> str:
    return f"{socket.gethostname()}:{process.pid}:{_started_seconds(process):.2f}"


def _started_seconds(process: psutil.Process) -> float:
    """After boot, for a clock that is set must not make others of all processes; psutil adds the boot's time by that clock."""
    return process.create_time() - psutil.boot_time()


def _process(reference: str) -> psutil.Process | None:
    """The living process that a reference means; another with the same number is not it."""
    host, pid, started = reference.rsplit(":", 2)
    try:
        process = psutil.Process(int(pid))
        # The clock may be set between psutil's two looks at it; a reused number is later by far.
        is_same = abs(_started_seconds(process) - float(started)) < TOLERANCE_SECONDS
        lives = host == socket.gethostname() and is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return process if lives else None


def _find(starts: Sequence[UUID]) -> dict[UUID, str]:
    """Processes that carry a start's id in their command line: the eldest is the runner, others are its children."""
    wanted = {str(start): start for start in starts}
    found: dict[UUID, psutil.Process] = {}
    psutil.process_iter.cache_clear()  # it keeps processes by number, and a number may be another's by now
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            for word in words:
                start = wanted.get(word)
                if start and (start not in found or process.create_time() < found[start].create_time()):
                    found[start] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return {start: _reference(process) for start, process in found.items() if process.is_running()}
