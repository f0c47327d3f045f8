"""Run an algorithm that is a Python function without starting Python anew: forked from a parent that has imported its module.

There is one parent for each algorithm, environment and size of job (`forkserver.py`, run by the algorithm's own Python). A
job is a child of its own, or, where the algorithm says `reuse: true`, one child runs job after job, each in its own folder.
Until a parent has done its imports, and wherever it cannot, a job starts as any process does.
"""

import array
import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from armillary.runner.cgroup import SAMPLING, Enforcement
from armillary.runner.family import MARK, Child, Family, descendants
from armillary.runner.forkserver import MAX_BYTES
from armillary.runner.lease import Lease
from armillary.runner.process import ProcessRuntime, Running, limit
from armillary.runner.runtime import Command, End, Prepared, Program, Usage, Why

FORKSERVER = Path(__file__).with_name("forkserver.py")
MAX_PARENTS = 4
IDLE_SECONDS = 600.0
ANSWER_SECONDS = 60.0
ROOM_FOR_NAMES = 256  # how much longer than the runner's folder the name of a job's may be
OWN = ("HOME", "TMPDIR", MARK)  # variables that differ from job to job


@dataclass(frozen=True)
class Call(Command):
    """A function to call."""

    function: str = ""
    reuse: bool = False

    @property
    def key(self) -> str:
        """What a parent is good for."""
        shared = {name: value for name, value in self.environment.items() if name not in OWN}
        return json.dumps([self.arguments[0], self.function, shared, vars(self.limits)], sort_keys=True)


class FunctionRuntime:
    """Functions as children of parents that have imported them."""

    def __init__(self, family: Family, enforcement: Enforcement = SAMPLING, *, patience_seconds: float = 0.0) -> None:
        """`patience_seconds`: how long a job waits for the imports of its parent, rather than doing them itself."""
        self._family = family
        self._enforcement = enforcement
        self._cold = ProcessRuntime(family, enforcement)
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._parents: dict[str, _Parent] = {}

    def command(self, lease: Lease, prepared: Prepared, folder: Path, grace_seconds: float) -> Command:
        """The function, and the words that start it where there is no parent."""
        run = lease.spec["run"]
        cold = self._cold.command(lease, prepared, folder, grace_seconds)
        return Call(**vars(cold), function=run["python"], reuse=bool(run.get("reuse")))

    def start(self, command: Command, output: int) -> Program:
        """Fork it, or start it where that cannot be done yet."""
        assert isinstance(command, Call)
        parent = self._parent(command)
        try:
            if not parent.is_ready(self._patience_seconds):
                return self._cold.start(command, output)
            if command.reuse:
                server = parent.lend(command, output)
                return _Lent(command, parent, server, server.child.pid)
            request = {"folder": str(command.folder), "environment": dict(command.environment)}
            child = Child(self._family.adopt(lambda: parent.fork(request, output)))
        except _ParentGoneError:
            return self._cold.start(command, output)
        limit(child.pid, command.limits)
        return Running(command, self._family, child, child.pid, self._enforcement)

    def close(self) -> None:
        """End every parent, and the children that wait for a job."""
        with self._lock:
            parents, self._parents = list(self._parents.values()), {}
        for parent in parents:
            parent.close()

    def _parent(self, command: Call) -> "_Parent":
        with self._lock:
            parent = self._parents.pop(command.key, None) or _Parent(command, self._family)
            self._parents[command.key] = parent  # last used, last in order
            parent.used_at = time.monotonic()
            keys = list(self._parents)
            too_many = keys[: max(0, len(keys) - MAX_PARENTS)]
            idle = [key for key in keys if self._parents[key].used_at < parent.used_at - IDLE_SECONDS]
            gone = [self._parents.pop(key) for key in {*too_many, *idle}]
        for one in gone:
            one.close()
        return parent


class _ParentGoneError(Exception):
    """The parent has ended: its module does not bear being imported there."""


class _Parent:
    """One fork server, and the children that wait for a next job."""

    def __init__(self, command: Call, family: Family) -> None:
        self.family = family
        self.used_at = 0.0
        self._lock = threading.Lock()
        self._idle: list[_Server] = []
        self._is_ready = self._is_gone = False
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Below the runner's own folder, so that what a killed runner leaves is found by it.
        place = f"{command.folder.parent}/"
        environment = {
            **command.environment,
            "HOME": "/",
            "TMPDIR": "/",
            MARK: place.ljust(len(place) + ROOM_FOR_NAMES, "/"),
        }
        words = [command.arguments[0], str(FORKSERVER), str(theirs.fileno()), command.function]
        with theirs, Path(os.devnull).open("wb") as nowhere:
            self._process = family.start(words, Path("/"), environment, nowhere.fileno(), pass_fds=[theirs.fileno()])
        limit(self._process.pid, command.limits)

    def is_ready(self, patience_seconds: float) -> bool:
        """Whether it has done its imports."""
        with self._lock:
            if not self._is_ready and not self._is_gone and _can_read(self._line, patience_seconds):
                self._is_ready = self._receive().get("ready", False)
            return self._is_ready and not self._is_gone

    def fork(self, request: Mapping[str, Any], descriptor: int) -> int:
        """A child that does what is asked; its process id."""
        with self._lock:
            if self._is_gone:
                raise _ParentGoneError
            try:
                send(self._line, request, descriptor)
            except OSError as error:
                self._is_gone = True
                raise _ParentGoneError from error
            if not _can_read(self._line, ANSWER_SECONDS):
                self._is_gone = True
            return int(self._receive()["pid"])

    def lend(self, command: Call, output: int) -> "_Server":
        """A child that begins the job."""
        while True:
            with self._lock:
                server = self._idle.pop() if self._idle else None
            is_new = server is None
            server = server or self._make_server(command)
            try:
                send(server.line, {"folder": str(command.folder), "environment": dict(command.environment)}, output)
            except OSError as error:
                self.retire(server, command.folder, set())
                if is_new:
                    raise _ParentGoneError from error
                continue  # it died as it waited
            return server

    def give_back(self, server: "_Server") -> None:
        """It may have another job."""
        with self._lock:
            if not self._is_gone:
                self._idle.append(server)
                return
        self.retire(server, Path("/nowhere"), set())

    def retire(self, server: "_Server", folder: Path, seen: set[int]) -> tuple[int, int]:
        """End a child and whatever it left: its exit code, and how many processes that were."""
        server.line.close()
        seen |= set(descendants(server.child.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.child.pid, signal.SIGKILL)
        ending = os.pidfd_open(server.child.pid)
        _can_read(ending, ANSWER_SECONDS)  # what it leaves is ours from then on
        os.close(ending)
        strays = self.family.end_all(server.child.pid, folder, seen)
        code, _ = self.family.reap(server.child)
        return code, strays

    def close(self) -> None:
        """End it; jobs that run go on."""
        with self._lock:
            self._is_gone = True
            idle, self._idle = self._idle, []
        for server in idle:
            self.retire(server, Path("/nowhere"), set())
        self._line.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self.family.reap(self._process)

    def _make_server(self, command: Call) -> "_Server":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            child = Child(self.family.adopt(lambda: self.fork({"line": True}, theirs.fileno())))
        limit(child.pid, command.limits)
        return _Server(child, ours)

    def _receive(self) -> dict[str, Any]:
        try:
            data = b"" if self._is_gone else self._line.recv(MAX_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            self._is_gone = True
            raise _ParentGoneError
        said: dict[str, Any] = json.loads(data)
        return said


@dataclass
class _Server:
    """A child that runs one job after another."""

    child: Child
    line: socket.socket


@dataclass
class _Lent:
    """A job in a child that may run others after it."""

    command: Call
    parent: _Parent
    server: _Server
    pid: int
    seen: set[int] = field(default_factory=set)
    is_signalled: bool = False

    def ending(self) -> int:
        return os.dup(self.server.line.fileno())

    def measure(self, usage: Usage) -> Why | None:
        return Running(self.command, self.parent.family, self.server.child, self.pid, seen=self.seen).measure(usage)

    def signal(self, number: signal.Signals) -> None:
        self.is_signalled = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self, usage: Usage) -> End:
        said = self._said()
        if said is None:
            code, strays = self.parent.retire(self.server, self.command.folder, self.seen)
            return End(code, strays)
        usage.cpu_seconds = max(usage.cpu_seconds, said["cpu_seconds"])
        usage.peak_memory_bytes = max(usage.peak_memory_bytes, said["memory_bytes"])
        is_alone = not descendants(self.pid) and not self.parent.family.has_strays(self.command.folder, self.seen)
        if said["code"] == 0 and said["is_clean"] and is_alone and not self.is_signalled:
            self.parent.give_back(self.server)
            return End(0)
        # What failed, or left something running, may have left more behind than can be seen.
        _, strays = self.parent.retire(self.server, self.command.folder, self.seen)
        return End(said["code"], strays)

    def _said(self) -> dict[str, Any] | None:
        try:
            data = self.server.line.recv(MAX_BYTES)
        except ConnectionError:
            return None
        return json.loads(data) if data else None


def send(line: socket.socket, request: Mapping[str, Any], descriptor: int) -> None:
    """A request with a descriptor."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    line.sendmsg([json.dumps(request).encode()], rights)


def _can_read(line: socket.socket | int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
