"""Follow a program to its end: its output, its limits, orders to stop it, and what it has used."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from armillary.base.clock import utc_now
from armillary.runner.log import Log
from armillary.runner.runtime import Command, Program, Runtime, Usage, Why

SAMPLE_SECONDS = 0.2
DISK_SAMPLE_SECONDS = 2.0
READ_BYTES = 1 << 16

# Whoever takes more than it may is not asked to take its time about it.
AT_ONCE: tuple[Why, ...] = ("memory", "disk", "gone")


@dataclass(frozen=True)
class Ended:
    """How it ended: the exit code, or the signal as a negative number; and why, if it was made to."""

    code: int
    stopped: Why | None
    strays: int
    started_at: datetime
    ended_at: datetime
    run_seconds: float
    usage: Usage


@dataclass
class Watch:
    """What is looked at while it runs: the order to stop, and who wants to know of each sample."""

    stop: Callable[[], Why | None] = lambda: None
    on_start: Callable[[datetime], None] = lambda _: None
    on_sample: Callable[[Usage], None] = lambda _: None
    sample_seconds: float = SAMPLE_SECONDS
    disk_sample_seconds: float = DISK_SAMPLE_SECONDS
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext


def run(command: Command, runtime: Runtime, log: Log, watch: Watch) -> Ended:
    """Start it, watch it to its end, and leave no process behind. `OSError` if it cannot be started."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.set_blocking(writing, True)
        program = runtime.start(command, writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        return _Running(command, program, log, watch, reading).to_its_end()
    finally:
        os.close(reading)


@dataclass
class _Running:
    command: Command
    program: Program
    log: Log
    watch: Watch
    reading: int
    begun: float = field(default_factory=time.monotonic)
    started_at: datetime = field(default_factory=utc_now)
    usage: Usage = field(default_factory=Usage)
    stopped: Why | None = None
    kill_at: float | None = None
    next_sample: float = 0.0
    next_disk_sample: float = 0.0

    def to_its_end(self) -> Ended:
        self.watch.on_start(self.started_at)
        self.next_sample = self.begun + self.watch.sample_seconds
        self.next_disk_sample = self.begun + min(self.watch.disk_sample_seconds, 1.0)
        descriptor = self.program.ending()
        try:
            with self.watch.waiting():
                self._follow(descriptor)
        finally:
            os.close(descriptor)
        ended_at, run_seconds = utc_now(), time.monotonic() - self.begun
        end = self.program.end(self.usage)
        self._read_output()
        if end.problem is not None and self.stopped is None:
            raise end.problem
        stopped = self.stopped or end.passed
        return Ended(end.code, stopped, end.strays, self.started_at, ended_at, run_seconds, self.usage)

    def _follow(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self.reading, select.POLLIN)
        while True:
            timeout = max(0.0, self.next_sample - time.monotonic())
            ready = dict(poll.poll(timeout * 1000))
            if self.reading in ready and not self._read_some():
                poll.unregister(self.reading)
            if descriptor in ready:
                return
            if time.monotonic() >= self.next_sample:
                self._sample()

    def _read_some(self) -> bool:
        """Take some of what was printed; false once nobody can print any more."""
        try:
            data = os.read(self.reading, READ_BYTES)
        except BlockingIOError:
            return True
        self.log.write(data)
        return bool(data)

    def _read_output(self) -> None:
        """What is still in the pipe; a process that escaped us may hold it open, so its end is not waited for."""
        while True:
            try:
                data = os.read(self.reading, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self.log.write(data)

    def _sample(self) -> None:
        now = time.monotonic()
        self.next_sample = now + self.watch.sample_seconds
        passed = self.program.measure(self.usage)
        if now >= self.next_disk_sample:
            self.usage.disk_bytes = disk_bytes(self.command.folder)
            # A large tree is looked at less often: at most a twentieth of the time goes there.
            self.next_disk_sample = now + max(self.watch.disk_sample_seconds, 20 * (time.monotonic() - now))
        self.watch.on_sample(self.usage)
        if self.stopped is None and (why := self.watch.stop() or passed or self._why_stop(now)):
            self._stop(why, now)
        elif self.kill_at is not None and now >= self.kill_at:
            self.program.signal(signal.SIGKILL)

    def _why_stop(self, now: float) -> Why | None:
        limits = self.command.limits
        if self.usage.peak_memory_bytes > limits.memory_bytes:
            return "memory"
        if self.usage.disk_bytes > limits.disk_bytes:
            return "disk"
        return "time" if now - self.begun > (limits.soft_time_seconds or limits.time_seconds) else None

    def _stop(self, why: Why, now: float) -> None:
        self.stopped = why
        at_once = why in AT_ONCE
        self.kill_at = now + (0 if at_once else self.command.grace_seconds)
        if why == "time" and self.command.limits.soft_time_seconds:
            self.kill_at = self.begun + self.command.limits.time_seconds
        self.program.signal(signal.SIGKILL if at_once else signal.SIGTERM)


def disk_bytes(folder: Path) -> int:
    """What a job has written below its folder: links to the cache's files are not its own."""
    total = 0
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink == 1:
                        total += status.st_blocks * 512
        except OSError:
            continue  # removed as we looked
    return total
