"""Run a program as a process in a session of its own, within its limits, until nothing of it is left."""

import contextlib
import logging
import os
import resource
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from armillary.runner.cgroup import SAMPLING, Enforcement, Group, group_name
from armillary.runner.environment import arguments, variables
from armillary.runner.family import Child, Family, cpu_seconds_of, pss_bytes, read_and_written_bytes
from armillary.runner.lease import Lease, Limits
from armillary.runner.runtime import Command, End, Prepared, Program, Usage, Why

log = logging.getLogger("armillary.runner")


class ProcessRuntime:
    """Programs as children of the runner."""

    def __init__(self, family: Family, enforcement: Enforcement = SAMPLING) -> None:
        """Memory is sampled unless control groups are given to keep it."""
        self._family = family
        self._enforcement = enforcement

    def command(self, lease: Lease, prepared: Prepared, folder: Path, grace_seconds: float) -> Command:
        """Its words, with the files of its bundle by their paths here, and an environment made anew."""
        words = arguments(lease, prepared)
        return Command(words, folder, variables(lease, prepared, folder), lease.limits, grace_seconds)

    def start(self, command: Command, output: int) -> Program:
        """Start it in the job's folder."""
        process = self._family.start(command.arguments, command.folder, command.environment, output)
        limit(process.pid, command.limits)
        return Running(command, self._family, process, process.pid, self._enforcement)


@dataclass
class Running:
    """A process that runs, with what it started."""

    command: Command
    family: Family
    process: "subprocess.Popen[bytes] | Child"
    pid: int
    enforcement: Enforcement = SAMPLING
    group: Group | None = None
    seen: set[int] = field(default_factory=set)

    def ending(self) -> int:
        return os.pidfd_open(self.pid)

    def measure(self, usage: Usage) -> Why | None:
        memory = self.family.memory(self.pid, self.command.folder, self.seen)
        held = memory.rss_bytes
        if held > self.command.limits.memory_bytes and len(memory.pids) > 1:
            held = sum(map(pss_bytes, memory.pids))  # pages that several share count once
        usage.hold(held)
        moved = [read_and_written_bytes(pid) for pid in memory.pids]
        cpu_seconds = sum(map(cpu_seconds_of, memory.pids))
        usage.raise_to(cpu_seconds, sum(read for read, _ in moved), sum(written for _, written in moved))
        self._gather(memory.pids)
        return "memory" if self.group is not None and self.group.has_passed_memory else None

    def _gather(self, pids: frozenset[int]) -> None:
        """Put what runs into a control group: at the first sample, as moving a process may take ten milliseconds."""
        if self.enforcement.way == "sampling":
            return
        try:
            if self.group is None:
                self.group = Group(self.enforcement, group_name(self.command.folder))
                self.group.make(self.command.limits)
            for pid in pids - set(self.group.pids()):
                self.group.add(pid)
        except OSError as error:
            log.warning("no control group", extra={"error": str(error)})
            self.enforcement = SAMPLING  # which goes on as before

    def signal(self, number: signal.Signals) -> None:
        # Its id is not anybody else's before it is reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self, usage: Usage) -> End:
        # The process is a zombie: its numbers can be read, and its id is nobody else's, until it is reaped.
        usage.raise_to(0.0, *read_and_written_bytes(self.pid))
        strays = self.family.end_all(self.pid, self.command.folder, self.seen)
        code, used = self.family.reap(self.process)
        usage.cpu_seconds = max(usage.cpu_seconds, used.ru_utime + used.ru_stime)
        usage.peak_memory_bytes = max(usage.peak_memory_bytes, used.ru_maxrss * 1024)
        has_passed = self.group is not None and self.group.has_passed_memory
        if has_passed:  # between two samples, so that none has seen it
            usage.peak_memory_bytes = max(usage.peak_memory_bytes, self.command.limits.memory_bytes)
        strays += self.group.remove() if self.group else 0
        return End(code, strays, "memory" if has_passed and code != 0 else None)


def limit(pid: int, limits: Limits) -> None:
    """Bounds that the kernel keeps between two samples; set from outside, so that starting stays cheap."""
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))
        data = 2 * limits.memory_bytes + (256 << 20)
        resource.prlimit(pid, resource.RLIMIT_DATA, (data, data))
