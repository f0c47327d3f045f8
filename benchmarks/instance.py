"""A real server of Armillary for a benchmark: in a folder of its own, on a free port, stopped at the end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg

from armillary.base import postgres
from armillary.client.client import Client

POOL = "bench"
SIZE = {"cpu": 0.01, "memory": "32MiB", "disk": "32MiB", "time": "60s"}
CAPACITY = {"cpu": 100.0, "memory_bytes": 2**40, "disk_bytes": 2**40}


@dataclass
class Instance:
    """A running server and its database."""

    home: Path
    url: str
    token: str
    server: "subprocess.Popen[bytes]"
    postmaster: int

    def client(self) -> Client:
        """A line with the owner's token."""
        return Client(self.url, self.token)

    def query(self, sql: str, *params: Any) -> Any:
        """The first row of a query."""
        return self.connection.execute(sql, params).fetchone()  # type: ignore[arg-type]

    @cached_property
    def connection(self) -> "psycopg.Connection[Any]":
        """One for all questions: to connect costs more than to ask."""
        return psycopg.connect(postgres.dsn(self.home), autocommit=True)

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU that server and database have used so far."""
        return {"server": cpu_seconds(self.server.pid), "database": cpu_seconds(self.postmaster)}

    def worker_wire(self) -> dict[str, Any]:
        """What a worker of the benchmark says of itself."""
        return {"host": "bench", "pid": os.getpid(), "protocol": 1, "capacity": CAPACITY}


@contextlib.contextmanager
def instance(prefix: str = "armillary-bench-", parent: Path | None = None) -> Iterator[Instance]:
    """Start a server with an embedded PostgreSQL, and an algorithm `noop` for the pool `bench`."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
        home = Path(folder)
        environment = os.environ | {"ARMILLARY_POOLS__START_LOCAL": "false", "ARMILLARY_LOG__LEVEL": "warning"}
        words = [sys.executable, "-m", "armillary.serve", "--home", folder, "--port", "0"]
        with (home / "server.log").open("wb") as log:
            server = subprocess.Popen(words, env=environment, stderr=log, stdout=log)
        try:
            url = until(lambda: _url(home, server), 120, "the server")
            token = (home / "owner-token").read_text().strip()
            postmaster = int((next(home.rglob("postmaster.pid"))).read_text().splitlines()[0])
            made = Instance(home, url, token, server, postmaster)
            with made.client() as client:
                client.apply([{"kind": "pool", "id": POOL, "provider": "none"}])
            yield made
        finally:
            server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(60)
            server.kill()
            postgres.stop(home)


def register(made: Instance, name: str, run: dict[str, Any], files: dict[str, str] | None = None) -> None:
    """Register an algorithm without inputs or outputs, from a folder as a person would."""
    document = {"kind": "algorithm", "id": name, "version": "1.0.0", "environment": {"site": True}, "run": run,
                "parameters": {"n": {"type": "integer"}}, "resources": SIZE}  # fmt: skip
    folder = made.home / "algorithms" / name
    folder.mkdir(parents=True)
    (folder / "algorithm.yaml").write_text(json.dumps(document))
    for file, text in (files or {}).items():
        (folder / file).write_text(text)
    armillary = Path(sys.executable).with_name("armillary")
    environment = os.environ | {"ARMILLARY_URL": made.url, "ARMILLARY_TOKEN": made.token}
    subprocess.run([armillary, "--home", made.home, "apply", folder], env=environment, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU of a process and of all below it, ended ones included."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        times = process.cpu_times()
        own = times.user + times.system + times.children_user + times.children_system
        return own + sum(cpu_seconds(child.pid) for child in process.children())
    return 0.0


def until(condition: Callable[[], Any], seconds: float, what: str, pause: float = 0.02) -> Any:
    """Wait for a condition; loudly if it does not come."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError(f"{what} did not come within {seconds:g} s")


def _url(home: Path, server: "subprocess.Popen[bytes]") -> str:
    if server.poll() is not None:
        sys.exit((home / "server.log").read_text())
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads((home / "run" / "server.json").read_text())["url"])
    return ""
