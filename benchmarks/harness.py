"""What the benchmarks share: an instance in processes of its own, what those cost, and how figures are shown."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from armillary.base import postgres
from armillary.client import auth
from armillary.client.client import Client

PATIENCE_SECONDS = 120.0


class Instance:
    """One home, started and stopped by the command line as its user would."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        # Modules are compiled once, as on any machine.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = kept | environment
        self.url = ""

    def __enter__(self) -> "Instance":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def armillary(self, *words: str) -> str:
        """Run a command to its end; what it printed."""
        command = [str(Path(sys.executable).with_name("armillary")), "--home", str(self.home), *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"armillary {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def start(self) -> None:
        """`armillary up --detach`: returns when it answers."""
        self.url = json.loads(self.armillary("up", "--detach", "--port", "0", "--json"))["url"]

    def stop(self) -> None:
        """`armillary down`."""
        self.armillary("down")

    def client(self) -> Client:
        """Signed in as the owner."""
        signed_in = auth.find(home=self.home, environment={})
        return Client(signed_in.url, signed_in.token)

    def dsn(self) -> str:
        """The embedded database, for what only SQL does in a reasonable time."""
        return postgres.start(self.home).dsn

    def apply(self, *documents: dict[str, Any]) -> None:
        """`armillary apply` of documents."""
        file = self.home.parent / "definitions.yaml"
        file.write_text("\n---\n".join(map(json.dumps, documents)))
        self.armillary("apply", str(file))

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Every process of this instance, by what it is: server, worker or PostgreSQL."""
        found: dict[str, list[psutil.Process]] = {"server": [], "worker": [], "PostgreSQL": []}
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if str(self.home) not in words:
                continue
            kind = "worker" if "armillary.runner" in words else "server" if "armillary.serve" in words else "PostgreSQL"
            family = [process, *process.children(recursive=True)] if kind == "PostgreSQL" else [process]
            found[kind] += [one for one in family if one not in found[kind]]
        return found


def wait_until(ready: Callable[[], Any], what: str, pause_seconds: float = 0.05) -> Any:
    """What `ready` gives once it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:g} s for {what}")
        time.sleep(pause_seconds)
    return answer


class Meter:
    """The CPU seconds of an instance by kind of process, and of ours, since the last reading."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._last: dict[str, float] = {}
        self.read()

    def read(self) -> dict[str, float]:
        """Seconds since the last reading. Jobs are the workers' children: they count once they have ended."""
        now = {"client": _spent(psutil.Process(), own=True) + _spent(psutil.Process(), own=False)}
        for kind, processes in self._instance.processes().items():
            now[kind] = sum(_spent(one, own=True) for one in processes)
            if kind == "worker":
                now["jobs"] = sum(_spent(one, own=False) for one in processes)
        since = {kind: seconds - self._last.get(kind, 0.0) for kind, seconds in now.items()}
        self._last = now
        return since


def _spent(process: psutil.Process, *, own: bool) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system if own else times.children_user + times.children_system)


def pss_bytes(processes: Sequence[psutil.Process]) -> int:
    """Their memory, pages that several share counted once."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def median(times: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(times)


def percentile(times: Sequence[float], share: float) -> float:
    """The time that `share` of them do not exceed."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows; the first column to the left, all others to the right."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    for row in [header, *rows]:
        words = [word.rjust(width) for word, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *words]).rstrip(), flush=True)


def conclude(**figures: Any) -> None:
    """One line of JSON, the last of every benchmark: the machine and the figures."""
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(machine | figures), flush=True)
