"""Run a program as a process in a session of its own, within its limits, until nothing of it is left."""

import contextlib
import os
import resource
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from armillary.runner.environment import arguments, variables
from armillary.runner.family import Child, Family, pss_bytes, read_and_written_bytes
from armillary.runner.lease import Lease, Limits
from armillary.runner.runtime import Command, End, Prepared, Program, Usage, Why


class ProcessRuntime:
    """Programs as children of the runner."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def command(self, lease: Lease, prepared: Prepared, folder: Path, grace_seconds: float) -> Command:
        """Its words, with the files of its bundle by their paths here, and an environment made anew."""
        words = arguments(lease, prepared)
        return Command(words, folder, variables(lease, prepared, folder), lease.limits, grace_seconds)

    def start(self, command: Command, output: int) -> Program:
        """Start it in the job's folder."""
        process = self._family.start(command.arguments, command.folder, command.environment, output)
        limit(process.pid, command.limits)
        return Running(command, self._family, process, process.pid)


@dataclass
class Running:
    """A process that runs, with what it started."""

    command: Command
    family: Family
    process: "subprocess.Popen[bytes] | Child"
    pid: int
    seen: set[int] = field(default_factory=set)

    def ending(self) -> int:
        return os.pidfd_open(self.pid)

    def measure(self, usage: Usage) -> Why | None:
        memory = self.family.memory(self.pid, self.command.folder, self.seen)
        held = memory.rss_bytes
        if held > self.command.limits.memory_bytes and len(memory.pids) > 1:
            held = sum(map(pss_bytes, memory.pids))  # pages that several share count once
        usage.peak_memory_bytes = max(usage.peak_memory_bytes, held)
        return None

    def signal(self, number: signal.Signals) -> None:
        # Its id is not anybody else's before it is reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self, usage: Usage) -> End:
        # The process is a zombie: its numbers can be read, and its id is nobody else's, until it is reaped.
        usage.read_bytes, usage.written_bytes = read_and_written_bytes(self.pid)
        strays = self.family.end_all(self.pid, self.command.folder, self.seen)
        code, used = self.family.reap(self.process)
        usage.cpu_seconds = max(usage.cpu_seconds, used.ru_utime + used.ru_stime)
        usage.peak_memory_bytes = max(usage.peak_memory_bytes, used.ru_maxrss * 1024)
        return End(code, strays)


def limit(pid: int, limits: Limits) -> None:
    """Bounds that the kernel keeps between two samples; set from outside, so that starting stays cheap."""
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))
        data = 2 * limits.memory_bytes + (256 << 20)
        resource.prlimit(pid, resource.RLIMIT_DATA, (data, data))
