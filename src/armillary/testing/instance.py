"""An instance in processes of its own, which a test drives by command line and HTTP alone and kills as a power cut would."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg
from psycopg.rows import dict_row

from armillary.base import postgres
from armillary.base.errors import ArmillaryError, TransientError
from armillary.client import auth
from armillary.client.client import Client
from armillary.testing.proxy import free_port

T = TypeVar("T")
Json = dict[str, Any]

PATIENCE_SECONDS = 300.0
QUICK = {"ARMILLARY_POOLS__TIME_TO_LIVE": "4s", "ARMILLARY_POOLS__HEARTBEAT": "0.5s"}

ALGORITHM = """\
kind: algorithm
id: count
version: 1.0.0
inputs: {one: {collection: raw}}
outputs: {counted: {collection: counted}}
parameters: {seconds: {type: number, default: 0}}
run: {command: [python, run.py]}
environment: {site: true}
resources: {cpu: 0.1, memory: 64MiB, disk: 10MiB, time: 5min}
retry: {attempts: 3, on: [infrastructure, lost], delay: 0.1s}
"""
RUN = """\
import json, pathlib, time
job = json.loads(pathlib.Path("job.json").read_text())
one = job["inputs"]["one"][0]
file = next(path for path in pathlib.Path(one["path"]).rglob("*") if path.is_file())
pathlib.Path("checkpoint").mkdir(exist_ok=True)
pathlib.Path("checkpoint/half").write_text("half")
print("counting", one["id"], flush=True)
time.sleep(job["parameters"]["seconds"] if job["attempt"] == 1 else 0)
out = pathlib.Path("outputs/counted") / f"{one['id']}-counted"
out.mkdir(parents=True)
(out / "count.json").write_text(json.dumps({"bytes": len(file.read_bytes())}))
print("counted", one["id"])
"""
DEFINITIONS = """\
kind: collection
id: raw
recognise: {name: "\\\\.raw$"}
---
kind: collection
id: counted
---
kind: rule
id: count-all
when: {one: {collection: raw}}
then: {run: count}
"""


class Instance:
    """One home, its server, and what a person does with it; further servers of its database have homes of their own."""

    def __init__(self, home: Path, *flags: str, program: str = "armillary.serve", **environment: str) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.flags = flags
        self.program = program
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ARMILLARY_")}
        self.environment = kept | QUICK | environment
        self.process: subprocess.Popen[bytes] | None = None
        self._port = free_port()  # the same after a restart, so that its workers find it again

    # The server ------------------------------------------------------------------------------------------------

    def start(self, *, must_live: bool = True) -> None:
        """Start the server and wait until it answers; one that may die as it starts is no surprise unless it `must_live`."""
        process = self.spawn()
        self.wait(lambda: self.announcement.exists() or process.poll() is not None, "an announcement")
        assert not must_live or process.poll() is None, self.log()

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start the server and wait for nothing."""
        self.announcement.unlink(missing_ok=True)
        port = () if "--port" in self.flags else ("--port", str(self._port))
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, "--home", str(self.home), *port, *self.flags],
                env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        return self.process

    def ensure(self) -> None:
        """Start it again if it died."""
        while not self.lives:
            self.start(must_live=False)

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Start it again whenever it dies, as a service manager would."""
        is_over = threading.Event()

        def keep() -> None:
            while not is_over.wait(0.1):
                self.ensure()

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            is_over.set()
            keeper.join()

    @property
    def lives(self) -> bool:
        """Whether the server runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As a power cut would."""
        if (process := self.process) is not None:  # there may be a next one in a moment
            process.kill()
            process.wait()

    def stop(self) -> None:
        """In good order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(90)

    def close(self) -> None:
        """Leave nothing running, whatever state it is in."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.ensure()
            self.stop()
        self.kill()
        for worker in self.workers():
            kill_session(worker)
        if "--dsn" not in self.flags:
            postgres.stop(self.home)

    def log(self) -> str:
        """The end of what the server said."""
        return (self.home / "server.log").read_text()[-3000:]

    # Its other processes ---------------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """The process ids of the runners that this home's server started."""
        folder = str(self.home / "workers" / "work")
        return [
            process.pid
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["cmdline"]
            and "armillary.runner.main" in process.info["cmdline"]
            and folder in process.info["cmdline"]
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def postgres(self) -> int | None:
        """The process id of the embedded PostgreSQL."""
        return postgres.is_running(self.home)

    def kill_postgres(self) -> None:
        """Kill the postmaster; its other processes notice and end."""
        if (pid := self.postgres()) is not None:
            os.kill(pid, signal.SIGKILL)

    def execute(self, sql: str, *params: object) -> None:
        """Change the database itself, past the server."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.encode(), params or None)

    @property
    def announcement(self) -> Path:
        """Where the server says that it answers."""
        return self.home / "run" / "server.json"

    @property
    def dsn(self) -> str:
        """How to reach its database."""
        return self.flags[self.flags.index("--dsn") + 1] if "--dsn" in self.flags else postgres.dsn(self.home)

    # What a person does ----------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """Signed in as the owner, once the server has said where it is."""
        self.wait(self.announcement.exists, "an announcement")
        found = auth.find(home=self.home, environment={})
        return Client(found.url, found.token, patience_seconds=5)

    def call(self, method: str, path: str, body: Json | None = None, **params: Any) -> Json:
        """One call as the owner."""
        with self.client as client:
            return dict(client.call(method, path, body=body, params=params))

    def get(self, path: str, **params: Any) -> Json:
        """GET as the owner."""
        return self.call("GET", path, **params)

    def armillary(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line."""
        command = [sys.executable, "-m", "armillary.cli.main", "--home", str(self.home), *map(str, arguments)]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=180)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def json(self, *arguments: object) -> Any:
        """A command's JSON document."""
        return json.loads(self.armillary(*arguments, "--json").stdout)

    def apply(self, folder: Path, **files: str) -> None:
        """Apply collections raw and counted, the algorithm count, and the rule between them; `files` change or add some."""
        algorithm = folder / "count"
        algorithm.mkdir(parents=True, exist_ok=True)
        texts = {"algorithm": ALGORITHM, "run": RUN, "definitions": DEFINITIONS} | files
        (algorithm / "algorithm.yaml").write_text(texts["algorithm"])
        (algorithm / "run.py").write_text(texts["run"])
        (folder / "definitions.yaml").write_text(texts["definitions"])
        self.armillary("apply", algorithm, folder / "definitions.yaml")

    def submit(self, granule: str, algorithm: str = "count", **parameters: object) -> str:
        """A job of a raw granule."""
        body = {"algorithm": algorithm, "inputs": {"one": [f"raw/{granule}"]}, "parameters": parameters}
        return str(self.call("POST", "/api/jobs", body)["job"]["id"])

    def ingest(self, name: str, content: bytes = b"x" * 1000) -> subprocess.CompletedProcess[str]:
        """Ingest one raw file by the command line."""
        file = self.home / f"{name}.raw"
        file.write_bytes(content)
        return self.armillary("ingest", file, check=False)

    # What is seen ----------------------------------------------------------------------------------------------

    def wait(self, question: Callable[[], T | None], what: str = "it", seconds: float = PATIENCE_SECONDS) -> T:
        """Ask until there is an answer; while the server is away there is none."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(TransientError):
                if answer := question():
                    return answer
            assert time.monotonic() < deadline, f"{what} did not happen: {self.log()}"
            time.sleep(0.1)

    def job(self, job: object) -> Json:
        """A job with its attempts."""
        return self.get(f"/api/jobs/{job}")

    def jobs_of(self, granule: str) -> list[Json]:
        """The jobs that a granule is an input of, with their attempts, the eldest first."""
        found = self.rows("select distinct job_id from job_input where granule = %s order by job_id", granule)
        return [self.job(row["job_id"]) for row in found]

    def rows(self, sql: str, *params: object) -> list[Json]:
        """What the database itself says, past the server."""
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(sql.encode(), params).fetchall()

    def runner_of(self, job: object) -> int:
        """The process id of the runner that has the job's newest lease."""
        [row] = self.rows(
            """select pid from worker join attempt on worker.id = attempt.worker_id
               where job_id = %s order by number desc limit 1""",
            job,
        )
        return int(row["pid"])

    def ended(self, job: object) -> Json:
        """The job, once it has ended."""

        def over() -> Json | None:
            found = self.job(job)
            return None if found["state"] in ("queued", "running") else found

        return self.wait(over, f"the end of job {job}")

    def product(self, granule: str) -> Json | None:
        """What was counted of a raw granule."""
        with self.client as client:
            try:
                return client.granule("counted", f"{granule}-counted")
            except TransientError:
                raise
            except ArmillaryError:
                return None

    def doctor(self) -> list[Json]:
        """What does not agree, every byte read again."""
        return list(self.get("/api/doctor", checksums=True)["findings"])


def attempts(job: Mapping[str, Any]) -> list[str]:
    """How the attempts of a job ended."""
    return [attempt["outcome"] for attempt in job["attempts"]]


def kill_session(pid: int) -> None:
    """Kill a runner with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
