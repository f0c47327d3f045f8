"""The client and the runner against the real server: what is uploaded is catalogued, what is run is published once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from armillary.base import postgres
from armillary.base.clock import parse
from armillary.client import auth
from armillary.client.client import Client
from armillary.client.transfer import Prover, Ticket, Transfer
from armillary.client.upload import AssetSource, GranuleSource, Uploader
from armillary.runner.session import BUSY_HELD_SECONDS
from armillary.testing.conformance.transfer import Place, TransferConformance

Json = dict[str, Any]
COPY = """
mkdir -p "outputs/out/$(ls inputs/scene)-copy"
cat inputs/scene/*/* > "outputs/out/$(ls inputs/scene)-copy/copy.txt"
echo "copied on attempt $(grep -o '"attempt": [0-9]*' job.json)"
"""


def _algorithm(id: str, code: str, **more: Any) -> Json:  # noqa: A002
    return {
        "kind": "algorithm",
        "id": id,
        "version": "1.0.0",
        "inputs": {"scene": {"collection": "scene"}},
        "outputs": {"out": {"collection": "product"}},
        "run": {"command": ["sh", "-c", code]},
        "environment": {"site": True},
        "resources": {"cpu": 0.5, "memory": "256MiB", "disk": "64MiB", "time": "2m"},
        "retry": {"attempts": 2, "on": ["infrastructure", "out of memory"], "delay": "0.1s"},
    } | more


class Instance:
    """A server of its own, with a pool that starts no workers: the test starts the runners."""

    def __init__(self, home: Path, time_to_live: str = "3s") -> None:
        self.home = home
        self.time_to_live = time_to_live
        self.process: subprocess.Popen[bytes] | None = None
        self.runners: list[subprocess.Popen[bytes]] = []
        self.start()
        found = auth.find(home=home, environment={})
        self.url, self.token = found.url, found.token
        self.client = Client(found.url, found.token)

    def start(self, port: str = "0") -> None:
        (self.home / "run" / "server.json").unlink(missing_ok=True)
        words = ["-m", "armillary.serve", "--home", str(self.home), "--port", port]
        settings = {"ARMILLARY_POOLS__TIME_TO_LIVE": self.time_to_live, "ARMILLARY_POOLS__HEARTBEAT": "0.5s"}
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen([sys.executable, *words], env=os.environ | settings, stdout=log, stderr=log)
        self.wait(lambda: (self.home / "run" / "server.json").exists(), self.process)

    def restart(self) -> None:
        """Kill the server, and start it on the same port."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.start(self.url.rpartition(":")[2])

    def wait(self, question: Callable[[], Any], alive: "subprocess.Popen[bytes] | None" = None) -> Any:
        deadline = time.monotonic() + 60
        while not (answer := question()):
            assert time.monotonic() < deadline, (self.home / "server.log").read_text()[-3000:]
            assert alive is None or alive.poll() is None, (self.home / "server.log").read_text()[-3000:]
            time.sleep(0.05)
        return answer

    def runner(self, *options: str, **variables: str) -> "subprocess.Popen[bytes]":
        words = [
            "-m",
            "armillary.runner.main",
            "--url",
            self.url,
            "--token-file",
            str(self.home / "owner-token"),
            "--pool",
            "test",
        ]
        words += ["--work", str(self.home / "work"), "--cache", str(self.home / "cache"), "--cpu", "2", "--grace", "1s"]
        words += ["--memory", "4GiB", "--disk", "4GiB"]
        log = (self.home / "runner.log").open("ab")
        runner = subprocess.Popen([sys.executable, *words, *options], env=os.environ | variables, stderr=log)
        self.runners.append(runner)
        return runner

    def upload(self, path: Path, name: str) -> str:
        """Put a scene into the catalogue."""
        item = {"geometry": {"type": "Point", "coordinates": [1, 2]}, "frame": "earth",
                "properties": {"datetime": "2026-03-01T12:00:00Z"}}  # fmt: skip
        kind: Any = "tree" if path.is_dir() else "file"
        with Uploader(self.client) as uploader:
            source = GranuleSource("scene", name, (AssetSource(path.name, path, kind),), item)
            (outcome,) = uploader.upload([source])
        assert outcome.problem is None, outcome.problem
        return str(outcome.outcome)

    def submit(self, algorithm: str, scene: str) -> str:
        answer = self.client.submit(
            {"algorithm": algorithm, "inputs": {"scene": [f"scene/{scene}"]}, "parameters": {}, "pool": "test"}
        )
        return str(answer["job"]["id"])

    def ended(self, job: str) -> Json:
        """The job, once it has ended."""
        return dict(
            self.wait(
                lambda: (found := self.client.job(job))["state"] in ("succeeded", "failed", "cancelled") and found
            )
        )

    def log(self, job: str, attempt: int | None = None) -> bytes:
        part = self.client.job_log(job, attempt=attempt)
        return part.data

    def end_runners(self) -> None:
        for runner in self.runners:
            if runner.poll() is None:
                runner.terminate()
        for runner in self.runners:
            runner.wait(30)
        self.runners.clear()

    def close(self) -> None:
        self.end_runners()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    instance = Instance(tmp_path_factory.mktemp("home"))
    try:
        instance.client.apply(
            [
                {"kind": "pool", "id": "test", "provider": "local", "workers": {"min": 0, "max": 0}},
                {"kind": "collection", "id": "scene", "on_change": "revise"},
                {"kind": "collection", "id": "product"},
                _algorithm("copy", COPY),
                _algorithm("slow", "echo up; sleep 3\n" + COPY),
                _algorithm("long", "echo up; sleep 100"),
                _algorithm("nothing", "true"),
                _algorithm("function", "", run={"python": "operator:not_"}, outputs={}),  # of a full job.json: 0
                _algorithm("reused", "", run={"python": "operator:not_", "reuse": True}, outputs={}),
                _algorithm("gated", f"echo up; while [ ! -e {instance.home}/gate ]; do sleep 0.05; done\n" + COPY),
                _algorithm("wide", COPY, resources={"cpu": 2, "memory": "256MiB", "disk": "64MiB", "time": "2m"}),
                _algorithm("greedy", "exec python -c 'a = bytearray(400 << 20); import time; time.sleep(100)'"),
            ]
        )
        yield instance
    finally:
        instance.close()


@pytest.fixture(autouse=True)
def _no_runner_outlives_its_test(instance: Instance) -> Iterator[None]:
    yield
    instance.end_runners()


@pytest.fixture
def scene(instance: Instance, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    name = f"scene of {request.node.name}"
    (tmp_path / "a file.txt").write_text(name)
    assert instance.upload(tmp_path / "a file.txt", name) == "created"
    return name


class TestTransfersOfTheServer(TransferConformance):
    """The way over the disk and the way through the server keep their promises."""

    @pytest.fixture(params=["file", "relay"])
    def place(self, request: pytest.FixtureRequest, instance: Instance) -> Place:
        proof = Prover(instance.client).proof() if request.param == "file" else None
        root = Path(instance.client.store()["file"]["root"])

        def ticket() -> Ticket:
            wish = {"collection": "scene", "granule": "under test", "size_bytes": 0}
            answer = instance.client.open_uploads([wish], proof)[0]
            assert answer["transfer"] == request.param
            return Ticket(answer["id"], answer["prefix"], answer["transfer"], answer.get("root"))

        def read(ticket: Ticket, path: str) -> bytes:
            from armillary.base.ids import key_segment

            return root.joinpath(ticket.prefix, *map(key_segment, path.split("/"))).read_bytes()

        return Place(Transfer.of(request.param, instance.client), ticket, read)


def test_what_was_uploaded_is_found_again_and_not_sent_twice(instance: Instance, tmp_path: Path) -> None:
    tree = tmp_path / "a scene.SAFE"
    (tree / "measurement").mkdir(parents=True)
    (tree / "measurement" / "ü 1.tiff").write_bytes(b"pixels")
    (tree / "manifest.safe").write_text("<xml/>")
    assert instance.upload(tree, "a tree") == "created"
    assert instance.upload(tree, "a tree") == "same"
    (tree / "manifest.safe").write_text("<abc/>")
    assert instance.upload(tree, "a tree") == "revised"
    found = instance.client.granule("scene", "a tree")
    assert found["revision"] == 2
    files = {file["path"]: file for file in found["files"]}
    path = "a scene.SAFE/measurement/ü 1.tiff"
    with (tmp_path / "again").open("wb") as stream:
        instance.client.download(files[path]["href"], stream, sha256=files[path]["sha256"], size=6)
    assert (tmp_path / "again").read_bytes() == b"pixels"


def test_a_job_is_run_and_its_product_published(instance: Instance, scene: str) -> None:
    instance.runner("--once")
    job = instance.ended(instance.submit("copy", scene))
    assert job["state"] == "succeeded", job
    product = instance.client.granule("product", f"{scene}-copy")
    assert product["item"]["geometry"] == {"type": "Point", "coordinates": [1, 2]}
    assert product["item"]["properties"]["datetime"] == "2026-03-01T12:00:00Z"
    assert instance.log(job["id"]).startswith(b"copied on attempt")


def test_a_failed_job_says_why(instance: Instance, scene: str) -> None:
    instance.runner("--once")
    job = instance.ended(instance.submit("nothing", scene))
    assert (job["state"], job["error_class"]) == ("failed", "science error")
    assert "left no output 'out'" in job["reason"]


def test_a_job_that_runs_out_of_memory_is_tried_again(instance: Instance, scene: str) -> None:
    instance.runner("--idle-exit", "3s")
    job = instance.ended(instance.submit("greedy", scene))
    assert [attempt["error_class"] for attempt in job["attempts"]] == ["out of memory", "out of memory"]


def test_functions_run_on_a_worker_and_leave_it_when_it_goes(instance: Instance) -> None:
    scenes = [f"scene {number} for functions" for number in range(6)]
    for name in scenes:
        (instance.home / "file.txt").write_text(name)
        instance.upload(instance.home / "file.txt", name)
    runner = instance.runner()
    for algorithm in ("function", "reused"):
        ended = [instance.ended(instance.submit(algorithm, name)) for name in scenes]
        assert [job["state"] for job in ended] == ["succeeded"] * 6, ended[0]
        assert {job["attempts"][0]["exit_code"] for job in ended} == {0}
    below = psutil.Process(runner.pid).children(recursive=True)
    instance.wait(lambda: any("forkserver.py" in " ".join(one.cmdline()) for one in below))
    instance.end_runners()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []


def test_what_needs_the_whole_worker_starts_as_soon_as_that_is_free(instance: Instance, scene: str) -> None:
    """Its poll is held, and says what was free while another job ran: the end of that job makes it ask anew."""
    instance.runner()
    narrow = instance.submit("gated", scene)
    instance.wait(lambda: instance.log(narrow) == b"up\n")
    wide = instance.submit("wide", scene)
    (instance.home / "gate").touch()
    first, second = instance.ended(narrow), instance.ended(wide)
    assert (first["state"], second["state"]) == ("succeeded", "succeeded")
    waited = parse(second["attempts"][0]["leased_at"]) - parse(first["attempts"][0]["ended_at"])
    assert waited.total_seconds() < BUSY_HELD_SECONDS / 2


def test_a_running_job_is_cancelled(instance: Instance, scene: str) -> None:
    instance.runner("--once")
    job = instance.submit("long", scene)
    instance.wait(lambda: instance.log(job) == b"up\n")
    instance.client.act_on_job(job, "cancel")
    assert instance.ended(job)["state"] == "cancelled"


def test_a_server_that_is_killed_and_comes_back_loses_no_running_job(instance: Instance, scene: str) -> None:
    instance.runner("--idle-exit", "5s")
    job = instance.submit("slow", scene)
    instance.wait(lambda: instance.log(job) == b"up\n")
    instance.restart()
    ended = instance.ended(job)
    assert ended["state"] == "succeeded"
    assert len(ended["attempts"]) == 1


@pytest.mark.parametrize(
    "point", ["runner.before-start", "runner.after-upload", "runner.before-finish", "runner.after-finish"]
)
def test_a_killed_runner_s_job_is_published_once_by_another(instance: Instance, scene: str, point: str) -> None:
    killed = instance.runner(ARMILLARY_CRASH=point)
    job = instance.submit("copy", scene)
    assert killed.wait(60) == -signal.SIGKILL
    instance.runner("--idle-exit", "8s")
    ended = instance.ended(job)
    assert ended["state"] == "succeeded", json.dumps(ended)
    outcomes = [attempt["outcome"] for attempt in ended["attempts"]]
    assert sorted(outcomes) == (["succeeded"] if point == "runner.after-finish" else ["lost", "succeeded"])
    assert instance.client.granule("product", f"{scene}-copy")["revision"] == 1


def test_a_killed_runner_is_told_by_its_line_before_its_silence_is_long(tmp_path: Path) -> None:
    patient = Instance(tmp_path, time_to_live="9s")
    try:
        long = _algorithm("long", "echo up; sleep 100", inputs={}, outputs={})
        patient.client.apply([{"kind": "pool", "id": "test", "provider": "none"}, long])
        killed = patient.runner()
        job = str(patient.client.submit({"algorithm": "long", "pool": "test"})["job"]["id"])
        patient.wait(lambda: patient.log(job) == b"up\n")
        patient.runner()
        patient.wait(lambda: len(patient.client.call("GET", "/api/pools/test")["workers"]) == 2)
        with psycopg.connect(postgres.dsn(patient.home), autocommit=True) as database:
            # No lease expires before.
            reached = "select since < now() - interval '9 s' from reachable"
            patient.wait(lambda: database.execute(reached).fetchone() == (True,))
        killed.kill()
        patient.wait(lambda: len(patient.client.job(job)["attempts"]) == 2)
        assert "hung up" in patient.client.job(job)["attempts"][0]["reason"]
    finally:
        patient.close()


def test_many_jobs_run_once_each(instance: Instance, scene: str) -> None:
    instance.client.apply([_algorithm(f"copy-{number}", COPY.replace("-copy", f"-{number}")) for number in range(40)])
    jobs = [instance.submit(f"copy-{number}", scene) for number in range(40)]
    instance.runner("--idle-exit", "3s")
    instance.runner("--idle-exit", "3s")
    ended = [instance.ended(job) for job in jobs]
    assert {job["state"] for job in ended} == {"succeeded"}
    assert [len(job["attempts"]) for job in ended] == [1] * 40
