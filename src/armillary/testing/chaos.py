"""Inject faults into a running instance under load: thin hands for what `faults` decides and `history` judges."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg

from armillary.base import postgres
from armillary.base.errors import ArmillaryError
from armillary.client import auth
from armillary.client.client import Client
from armillary.client.upload import AssetSource, GranuleSource, Uploader
from armillary.testing.disk import full, small_disk
from armillary.testing.faults import Fault
from armillary.testing.instance import Instance
from armillary.testing.proxy import Proxy, free_port

MOST_UNFINISHED = 12  # jobs: the load follows what the machine can do
CRASH_SECONDS = 15.0  # how long a crash point may take to be passed
PROGRESS_SECONDS = 15.0  # how long the work may take to go on at all after a fault
SETTLE_SECONDS = 300.0
# A thousand faults leave some ten thousand granules and their products, which must find room.
DISKS = {"database": "512m", "store": "256m", "cache": "64m", "work": "64m"}
STARTS = ("pools.", "runner.before-sweep")  # points that only a worker which is started passes

ALGORITHM = """\
kind: algorithm
id: count
version: 1.0.0
inputs: {one: {collection: raw}}
outputs: {counted: {collection: counted}}
run: {command: [sh, run.sh]}
environment: {site: true}
resources: {cpu: 0.1, memory: 64MiB, disk: 10MiB, time: 5min}
retry: {attempts: 100, on: [infrastructure, lost, out of disk, out of memory, timed out, science error], delay: 0.1s}
"""
RUN = """\
set -e
for folder in inputs/one/*; do
    name=$(basename "$folder")
    echo "counting $name"
    mkdir -p "outputs/counted/$name-counted"
    sleep 0.4
    cat "$folder"/* | wc -c > "outputs/counted/$name-counted/count"
done
"""
POOL = (
    "kind: pool\nid: default\nprovider: local\nworkers: {min: 2, max: 2}\nworker: {cpu: 2, memory: 2GiB, disk: 2GiB}\n"
)
DEFINITIONS = """\
kind: collection
id: raw
---
kind: collection
id: counted
---
kind: rule
id: count-all
when: {one: {collection: raw}}
then: {run: count}
---
"""
CLOCK = """\
create table chaos_clock (by interval not null);
insert into chaos_clock values ('0');
create or replace function armillary_now() returns timestamptz language sql volatile
    as 'select clock_timestamp() + by from public.chaos_clock';
"""


class Chaos:
    """A server for workers behind a line of ours, a reactor of its own, a database and disks, and a day's load."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.acknowledged: set[tuple[str, str]] = set()
        self.crash = folder / "crash"
        self.store = folder / "store"
        self._stack = ExitStack()
        self._is_over = threading.Event()
        self._thaws: list[threading.Thread] = []
        self._latest = 0.0
        self._shift = 0.0
        self._seen: int | None = None

    def __enter__(self) -> "Chaos":
        with ExitStack() as made:
            made.callback(self._close)
            self.disks = {"database": self.folder / "database" / "postgres", "store": self.store}
            self.disks |= {name: self.folder / "server" / "workers" / name for name in ("cache", "work")}
            for name, disk in self.disks.items():
                made.enter_context(small_disk(disk, DISKS[name]))
            self.dsn = postgres.start(self.folder / "database").dsn
            made.callback(postgres.stop, self.folder / "database")
            self._start()
            self._stack = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # Running -----------------------------------------------------------------------------------------------------

    def run(self, faults: list[Fault], tell: Callable[[str], None] = lambda _: None) -> None:
        """Inject one after the other under load, then let everything come to rest."""
        load = ThreadPoolExecutor(1).submit(self._load)
        for number, fault in enumerate(faults):
            tell(f"{number + 1:5} {fault}")
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                getattr(self, f"_{fault.kind}")(fault)
                self.done[fault.kind] += 1
            self._rest(fault.pause_seconds)
            self._until_progress()
        self._is_over.set()
        load.result(SETTLE_SECONDS)
        self.settle()

    def settle(self) -> None:
        """Undo what lasts, and wait until all that was asked is done."""
        for thaw in self._thaws:
            thaw.join()
        self._set_clock(self._latest)
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._unfinished() != 0:
            assert time.monotonic() < deadline, f"{self._unfinished()} are left: {self.server.log()}"
            self._rest(0.5)

    def stop(self) -> None:
        """The servers and their workers, in good order; the database stays."""
        self.reactor.stop()
        self.server.stop()

    def _start(self) -> None:
        self.proxy = Proxy(port := free_port())
        flags = ("--dsn", self.dsn, "--store", str(self.store))
        crash = {"ARMILLARY_CRASH": f"@{self.crash}"}
        web = ("--port", str(port), "--public-url", self.proxy.url, "--role", "web,pools,watchdog")
        self.server = Instance(self.folder / "server", *flags, *web, **crash)
        self.reactor = Instance(self.folder / "reactor", *flags, "--role", "reactor", **crash)
        self.server.start()
        self.reactor.spawn()
        algorithm = self.folder / "count"
        algorithm.mkdir()
        (algorithm / "algorithm.yaml").write_text(ALGORITHM)
        (algorithm / "run.sh").write_text(RUN)
        (self.folder / "definitions.yaml").write_text(DEFINITIONS + POOL)
        self.server.armillary("apply", algorithm, self.folder / "definitions.yaml")
        self.server.execute(CLOCK)

    def _close(self) -> None:
        self._is_over.set()
        if hasattr(self, "reactor"):
            self.reactor.kill()
            self.server.kill()
            for worker in self.server.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker, signal.SIGKILL)
            self.proxy.close()

    def _rest(self, seconds: float) -> None:
        """Let things go on, and start again what has died, as a service manager would."""
        end = time.monotonic() + seconds
        while True:
            self._revive()
            if time.monotonic() > end:
                return
            time.sleep(0.1)

    def _until_progress(self) -> None:
        """Until an attempt has begun or ended since this was last asked: faults at what stands still prove nothing."""
        end = time.monotonic() + PROGRESS_SECONDS
        while (seen := self._count("select count(*) + count(outcome) from attempt")) in (None, self._seen):
            if time.monotonic() > end:
                self.done["(no progress)"] += 1
                return
            self._rest(0.1)
        self._seen = seen

    def _revive(self) -> None:
        if postgres.is_running(self.folder / "database") is None:
            with contextlib.suppress(ArmillaryError):
                postgres.start(self.folder / "database")
        for instance in (self.server, self.reactor):
            if not instance.lives:
                instance.spawn()

    # The load ----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Granules one after the other, each said again until it is acknowledged."""
        number = 0
        content = self.folder / "content"
        while not self._is_over.is_set():
            if self._unfinished() < MOST_UNFINISHED:
                number += 1
                content.write_bytes(b"%d" % number * 100)
                self._ingest(f"g{number}", content)
            else:
                time.sleep(0.2)

    def _ingest(self, name: str, content: Path) -> None:
        while True:
            with contextlib.suppress(ArmillaryError, OSError):
                found = auth.find(home=self.server.home, environment={})
                with Client(f"http://127.0.0.1:{self.proxy.port}", found.token, patience_seconds=2) as client:
                    with Uploader(client) as uploader:
                        source = GranuleSource("raw", name, (AssetSource("content", content),))
                        [outcome] = uploader.upload([source])
                    if outcome.problem is None:
                        self.acknowledged.add(("raw", name))
                        return
            time.sleep(0.2)

    def _unfinished(self) -> int:
        """Jobs and wakes that are left; a database that is away has many."""
        found = self._count(
            """select (select count(*) from job where state in ('queued', 'running')) + (select count(*) from wake)
                      + (select count(*) from rule_wake)"""
        )
        return MOST_UNFINISHED if found is None else found

    def _count(self, sql: str) -> int | None:
        """A number from the database; None while it is away."""
        with contextlib.suppress(psycopg.Error):
            [row] = self.server.rows(f"select ({sql}) as count")
            return int(row["count"])
        return None

    # The faults --------------------------------------------------------------------------------------------------

    def _pids(self, target: str) -> list[int]:
        if target in ("server", "reactor"):
            process = getattr(self, target).process
            return [process.pid]
        if target == "postgres":
            pid = postgres.is_running(self.folder / "database")
            return [] if pid is None else [pid]
        runners = self.server.workers()
        if target == "runner":
            return [self.chance.choice(runners)] if runners else []
        jobs = [child.pid for runner in runners for child in psutil.Process(runner).children() if "sh" in child.name()]
        return [self.chance.choice(jobs)] if jobs else []

    def _kill(self, fault: Fault) -> None:
        for pid in self._pids(fault.target):
            os.kill(pid, signal.SIGKILL)
            if fault.target in ("server", "reactor"):
                getattr(self, fault.target).process.wait()

    def _freeze(self, fault: Fault) -> None:
        for pid in self._pids(fault.target):
            os.kill(pid, signal.SIGSTOP)
            self._later(fault.seconds, partial(os.kill, pid, signal.SIGCONT))

    def _crash(self, fault: Fault) -> None:
        """Whoever passes the point dies; one that nobody passes in time is no fault, and is not counted."""
        self.crash.write_text(fault.target)
        if fault.target.startswith(STARTS):
            self._kill(Fault("kill", "runner"))
        end = time.monotonic() + CRASH_SECONDS
        while self.crash.exists() and time.monotonic() < end:
            self._rest(0.05)
        if self.crash.exists():
            self.crash.unlink(missing_ok=True)
            self.done["crash, not passed"] += 1
            self.done["crash"] -= 1

    def _cut(self, _fault: Fault) -> None:
        self.proxy.cut()

    def _slow(self, fault: Fault) -> None:
        self._switch("delay_seconds", 0.2, 0.0, fault.seconds)

    def _refuse(self, fault: Fault) -> None:
        self._switch("is_refusing", True, False, fault.seconds)
        self.proxy.cut()

    def _deaf(self, fault: Fault) -> None:
        self._switch("is_deaf", True, False, fault.seconds)

    def _replay(self, _fault: Fault) -> None:
        self.proxy.replay(self.chance)

    def _fill(self, fault: Fault) -> None:
        with full(self.disks[fault.target]):
            self._rest(fault.seconds)

    def _jump(self, fault: Fault) -> None:
        self._set_clock(self._shift + (fault.seconds if fault.target == "forwards" else -fault.seconds))

    def _set_clock(self, shift: float) -> None:
        with contextlib.suppress(psycopg.Error):
            self.server.execute("update chaos_clock set by = make_interval(secs => %s)", shift)
            self._shift, self._latest = shift, max(shift, self._latest)

    def _switch(self, name: str, on: Any, off: Any, seconds: float) -> None:
        setattr(self.proxy, name, on)
        self._later(seconds, lambda: setattr(self.proxy, name, off))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        def run() -> None:
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                act()

        self._thaws = [thread for thread in self._thaws if thread.is_alive()]
        self._thaws.append(threading.Thread(target=run, daemon=True))
        self._thaws[-1].start()
