"""Workers as processes of this machine, in sessions of their own: they outlive the server, and the next one adopts them."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import psutil

from armillary.algorithms.algorithm import Resources
from armillary.base.crash import crash_point
from armillary.base.errors import TransientError
from armillary.pools.provider import Known, StartRequest

RUNNER = (sys.executable, "-m", "armillary.runner.main")


class LocalProvider:
    """Starts `armillary-runner` here. A reference is host, process id and start time, so no other process is meant."""

    def __init__(self, home: Path, command: Sequence[str] = RUNNER) -> None:
        self._folder = home / "workers"
        self._command = command
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    async def start(self, request: StartRequest) -> str:
        """Start a process; its token goes through a pipe, where no other process can read it."""
        return await asyncio.to_thread(self._start, request)

    async def stop(self, reference: str, *, force: bool = False) -> None:
        """SIGTERM to the runner, or SIGKILL to all of its session."""
        process = _process(reference)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if force:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGTERM)

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, str]:
        """Those that live; ended children are reaped on the way."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]
        living = {known.start: known.reference for known in starts if known.reference and _process(known.reference)}
        unknown = [known.start for known in starts if known.reference is None]
        return living | (await asyncio.to_thread(_find, unknown) if unknown else {})

    def _start(self, request: StartRequest) -> str:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = self._folder / f"{request.start}.log"
        with log.open("ab") as output:
            try:
                child = subprocess.Popen(
                    [*self._command, *arguments(request, self._folder)],
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


def arguments(request: StartRequest, folder: Path) -> list[str]:
    """The runner's command line; the start's id in it makes the process findable without any record."""
    words = ["--url", request.url, "--pool", request.pool, "--start", str(request.start), "--token-file", "/dev/stdin"]
    # One cache for all workers of this machine: an object is fetched once however many want it.
    words += ["--work", str(folder / "work"), "--cache", str(folder / "cache")]
    if request.size is not None:
        words += ["--cpu", f"{request.size.cpu:g}", "--memory", str(request.size.memory_bytes)]
        words += ["--disk", str(request.size.disk_bytes)]
    return words


def machine() -> Resources:
    """What this machine has."""
    return Resources(os.cpu_count() or 1, psutil.virtual_memory().total, psutil.disk_usage("/").total, 0)


def _reference(process: psutil.Process) -> str:
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def _process(reference: str) -> psutil.Process | None:
    """The living process that a reference means; another with the same number is not it."""
    host, pid, created = reference.rsplit(":", 2)
    try:
        process = psutil.Process(int(pid))
        # The kernel's clock of boot may be corrected a little; a reused number is later by far.
        is_same = abs(process.create_time() - float(created)) < 1.0
        lives = host == socket.gethostname() and is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return process if lives else None


def _find(starts: Sequence[UUID]) -> dict[UUID, str]:
    """Processes that carry a start's id in their command line: the eldest is the runner, others are its children."""
    wanted = {str(start): start for start in starts}
    found: dict[UUID, psutil.Process] = {}
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
