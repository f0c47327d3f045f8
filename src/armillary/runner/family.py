"""The processes of jobs: who belongs to which, what they use, and how to end every one of them.

The runner is the reaper of its descendants (`prctl(2)`, PR_SET_CHILD_SUBREAPER), so that a process which leaves its job's
group and session comes back to it as a child. It is known by the job's folder in its environment, which every descendant
inherits, or because it was seen below the job's first process. One that hides from both on purpose needs a container.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PR_SET_CHILD_SUBREAPER = 36
MARK = "ARMILLARY_JOB_FOLDER"
ROUNDS = 100


@dataclass(frozen=True)
class Memory:
    """What a job's processes hold now."""

    rss_bytes: int
    pids: frozenset[int]


@dataclass
class Child:
    """A process that another one forked for us; the runner, the reaper of orphans, is its parent now."""

    pid: int
    returncode: int | None = None


class Family:
    """All processes that one runner starts."""

    def __init__(self, *, is_whole: bool = False) -> None:
        """`is_whole`: nobody else in this process starts children, so whatever has ended may be reaped."""
        self._is_whole = is_whole
        self._lock = threading.Lock()
        self._firsts: set[int] = set()
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "this process cannot become the reaper of its descendants")

    def start(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        output: int,
        pass_fds: Sequence[int] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own; its output goes to a descriptor."""
        # Nobody may reap it before it is known here.
        with self._lock:
            process = subprocess.Popen(
                list(command), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, pass_fds=pass_fds,
            )  # fmt: skip
            self._firsts.add(process.pid)
        return process

    def adopt(self, fork: Callable[[], int]) -> int:
        """Have a process forked elsewhere that becomes our child; its id."""
        with self._lock:
            pid = fork()
            self._firsts.add(pid)
        return pid

    def help(self, command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> tuple[int, str]:
        """Run a program of the runner's own to its end: its exit code and what it printed."""
        with self._lock:
            process = subprocess.Popen(
                list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            self._firsts.add(process.pid)
        try:
            printed, _ = process.communicate(timeout=timeout_seconds)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        finally:
            self._firsts.discard(process.pid)
        return process.returncode, printed.decode(errors="replace")

    def reap(self, process: "subprocess.Popen[bytes] | Child") -> tuple[int, Any]:
        """Wait for a process that has ended: its status (negative for a signal) and what it used."""
        with self._lock:
            _, status, usage = os.wait4(process.pid, 0)
            self._firsts.discard(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage

    def end_all(self, first: int, folder: Path, seen: set[int]) -> int:
        """Kill what a job left running; how many processes that were. Its first process has ended, unreaped."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first, signal.SIGKILL)
        killed: set[int] = set()
        for _ in range(ROUNDS):
            left = self._strays(folder, seen)
            if not left:
                break
            for pid in left:
                killed.update(_kill_tree(pid))
                self._await_end(pid)
        self._reap_orphans(killed)
        return len(killed)

    def memory(self, first: int, folder: Path, seen: set[int]) -> Memory:
        """What a job's processes hold, strays included; `seen` gathers who was ever below the first."""
        pids = {first, *descendants(first)}
        for stray in self._strays(folder, seen):
            pids |= {stray, *descendants(stray)}
        seen |= pids - {first}
        return Memory(sum(_rss_bytes(pid) for pid in pids), frozenset(pids))

    def has_strays(self, folder: Path, seen: set[int]) -> bool:
        """Whether a job left processes running that came back to us."""
        return bool(self._strays(folder, seen))

    def _strays(self, folder: Path, seen: set[int]) -> list[int]:
        """Processes that came back to us and belong to this job."""
        mark = f"{MARK}={folder}".encode()
        with self._lock:
            orphans = [pid for pid in _own_children() if pid not in self._firsts]
        found = []
        for pid in orphans:
            if _is_zombie(pid):
                self._reap_orphans({pid} & seen)
            elif pid in seen or mark in _environment(pid):
                found.append(pid)
        return found

    def _reap_orphans(self, ours: set[int]) -> None:
        with self._lock:
            for pid in _own_children():
                if pid not in self._firsts and (self._is_whole or pid in ours):
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)

    def _await_end(self, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            select.select([descriptor], [], [], 1)
        finally:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_leftovers(folder: Path) -> int:
    """Kill whatever a dead runner's jobs below this folder left running."""
    killed = 0
    for process in psutil.process_iter():
        mark = next((one for one in _environment(process.pid) if one.startswith(f"{MARK}=".encode())), b"")
        if Path(os.fsdecode(mark.partition(b"=")[2])).is_relative_to(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
                killed += 1
    return killed


def descendants(pid: int) -> list[int]:
    """Everyone below a process."""
    found = []
    waiting = [pid]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


def read_and_written_bytes(pid: int) -> tuple[int, int]:
    """What went through a process's reads and writes, its ended children's included; works until it is reaped."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0, 0
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["wchar"])


def cpu_seconds_of(pid: int) -> float:
    """The processor time of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _own_children() -> list[int]:
    # Orphans are given to the first thread; what other threads started is known anyway.
    return _read_children(os.getpid(), os.getpid())


def _children(pid: int) -> list[int]:
    try:
        threads = [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [child for thread in threads for child in _read_children(pid, thread)]


def _read_children(pid: int, thread: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def pss_bytes(pid: int) -> int:
    """Memory with shared pages divided among their users; slower to ask for."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _kill_tree(pid: int) -> list[int]:
    pids = [pid, *descendants(pid)]
    for one in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    return pids
