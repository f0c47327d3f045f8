"""An instance in processes of its own, spoken to through the command line and HTTP alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from armillary.client import auth
from armillary.client.client import Client

PATIENCE_SECONDS = 120.0

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
time.sleep(job["parameters"]["seconds"])
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
    """One home, its server, and what a person does with it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {**os.environ, "ARMILLARY_POOLS__TIME_TO_LIVE": "3s", "ARMILLARY_POOLS__HEARTBEAT": "0.5s"}
        self.environment |= environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        (self.home / "run" / "server.json").unlink(missing_ok=True)
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "armillary.serve", "--home", str(self.home), "--port", "0"],
            env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.wait(lambda: (self.home / "run" / "server.json").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.home / "server.log").read_text()[-3000:]

    def ensure(self) -> None:
        """Start it again if it died."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """In good order."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    @property
    def client(self) -> Client:
        """Signed in as the owner."""
        found = auth.find(home=self.home)
        return Client(found.url, found.token)

    def get(self, path: str, **params: object) -> dict:
        """GET as the owner."""
        with self.client as client:
            return client.call("GET", path, params=params)

    def armillary(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line."""
        command = [str(Path(sys.executable).with_name("armillary")), "--home", str(self.home), *arguments]
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=120)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def json(self, *arguments: str) -> object:
        """A command's JSON document."""
        return json.loads(self.armillary(*arguments, "--json").stdout)

    def apply(self, folder: Path) -> None:
        """Collections raw and counted, the algorithm count, and the rule between them."""
        algorithm = folder / "count"
        algorithm.mkdir(parents=True)
        (algorithm / "algorithm.yaml").write_text(ALGORITHM)
        (algorithm / "run.py").write_text(RUN)
        (folder / "definitions.yaml").write_text(DEFINITIONS)
        self.armillary("apply", str(algorithm), str(folder / "definitions.yaml"))

    def wait(self, question, what: str = "it"):
        """Ask until there is an answer, keeping the server alive."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (answer := question()):
            assert time.monotonic() < deadline, f"{what} did not happen: {self.log()}"
            time.sleep(0.1)
        return answer

    def log(self) -> str:
        """The end of what the server said."""
        return (self.home / "server.log").read_text()[-3000:]

    def doctor(self) -> list[dict]:
        """What does not agree."""
        return self.get("/api/doctor", checksums=True)["findings"]


@pytest.fixture
def new_instance(tmp_path_factory):
    """Start an instance of a test's own, with lines of `config.yaml` and variables of its own."""
    made = []

    def start(config: str = "", **environment: str) -> Instance:
        home = tmp_path_factory.mktemp("instance")
        (home / "config.yaml").write_text(config)
        made.append(Instance(home, **environment))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.stop()
        shutil.rmtree(one.home, ignore_errors=True)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """A running instance; its own folder goes with it."""
    home = tmp_path_factory.mktemp("instance")
    made = Instance(home, ARMILLARY_CRASH=f"@{home / 'crash'}")
    made.start()
    made.apply(home / "definitions")
    yield made
    made.ensure()
    made.stop()
    shutil.rmtree(home, ignore_errors=True)
