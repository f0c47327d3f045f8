"""Workers as jobs of a real slurmctld and slurmd, by themselves and under a real server."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from armillary.algorithms.algorithm import Resources
from armillary.base.settings import Settings
from armillary.client import auth
from armillary.client.client import Client
from armillary.pools import define, shell, store
from armillary.pools.fleet import Providers
from armillary.pools.provider import Known
from armillary.pools.providers import slurm as provider_file
from armillary.pools.reconcile import LEFT_OVER, Reconciler
from armillary.testing.conformance.pool_provider import PoolProviderConformance
from armillary.testing.world import OWNER

TINY = Resources(0.5, 50 * 2**20, 2**20, 0)


class TestSlurmProvider(PoolProviderConformance):
    wait_seconds = 60.0
    size = TINY

    @pytest.fixture
    def provider(self, slurm, tmp_path, monkeypatch):
        monkeypatch.setenv("SLURM_CONF", str(slurm.config))
        self.folder = tmp_path / "pool"
        yield self.make()
        slurm.ask("scancel", "--user=root")

    def make(self, **options):
        command = ["sh", "-c", "umask; exec sleep 600", "worker"]
        return provider_file.make({"check_every": "0s", "command": command} | options, self.folder)

    async def reborn(self, provider):
        return self.make()

    async def start(self, provider):
        """Its program runs, which Slurm says somewhat early: a signal between is lost. A worker's server tells it as well."""
        known = await super().start(provider)
        log = self.folder / f"armillary-{known.start}.log"

        async def has_printed():
            return log.exists() and log.read_text() != ""

        await self.until(has_printed)
        return known

    async def test_several_are_one_array_and_their_tokens_are_files_for_their_owner_alone(self, slurm, provider):
        requests = self.requests(3)
        references = await provider.start(requests)
        (job,) = {reference.partition("_")[0] for reference in references.values()}
        assert sorted(references.values()) == [f"{job}_{index}" for index in range(3)]
        script = slurm.ask("scontrol", "write", "batch_script", f"{job}_0", "-")
        shown = slurm.ask("scontrol", "show", "job", job)
        for request in requests:
            file = self.folder / f"{request.start}.token"
            assert file.read_text() == f"{request.token}\n"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert str(request.start) in script
            assert request.token not in script + shown
        await provider.stop(list(references.values()), force=True)

    async def test_the_servers_environment_does_not_reach_the_job(self, slurm, provider, monkeypatch):
        monkeypatch.setenv("ARMILLARY_DATABASE__DSN", "postgresql://armillary:secret@db")
        provider = self.make(command=["sh", "-c", "env; exec sleep 600", "worker"])
        known = await self.start(provider)
        log = self.folder / f"armillary-{known.start}.log"

        async def has_started():
            return log.exists() and "SLURM_JOB_ID" in log.read_text()

        await self.until(has_started)
        assert "secret" not in log.read_text()
        await provider.stop([known.reference], force=True)

    async def test_why_one_is_pending_and_how_one_ended_is_said(self, slurm, provider):
        shut = self.make(partition="shut")
        (request,) = self.requests()
        reference = (await shut.start([request]))[request.start]
        known = Known(request.start, reference)

        async def is_explained():
            found = (await shut.check([known]))[request.start]
            return found.state == "pending" and "the partition is down (PartitionDown)" in found.note

        await self.until(is_explained)
        await shut.stop([reference])

        async def is_over():
            found = (await shut.check([known]))[request.start]
            return found.state == "ended" and found.note == "Its Slurm job was cancelled."

        await self.until(is_over)

    async def test_size_walltime_and_own_lines_reach_slurm(self, slurm, provider):
        (request,) = self.requests()
        request = type(request)(request.start, "p", request.url, "t", Resources(2, 300 * 2**20, 2**20, 0, gpu=1))
        mine = self.make(walltime="90s", lines=['--comment="for science"', "#SBATCH --nice=7"])
        reference = (await mine.start([request]))[request.start]
        shown = slurm.ask("scontrol", "show", "job", reference)
        for expected in ("TimeLimit=00:02:00", "NumCPUs=2", "Comment=for science", "Nice=7", "Requeue=0"):
            assert expected in shown
        assert re.search(r"gres:gpu:1|gres/gpu=1", shown)
        assert "300M" in shown
        await mine.stop([reference], force=True)


# Under a server ------------------------------------------------------------------------------------------------

COPY = 'mkdir -p outputs/out/made && echo "attempt $(grep -o "attempt.: [0-9]*" job.json)" > outputs/out/made/made.txt'
# Slurm tells every process to stop, and `sleep` may hear it before the shell does: that must not be the script's end.
RESUME = f"""
trap 'echo saved > checkpoint/state.new; mv checkpoint/state.new checkpoint/state; exit 15' TERM
mkdir -p checkpoint
if [ -f checkpoint/state ]; then {COPY}; exit 0; fi
echo up; while :; do sleep 300 & wait; done
"""


def _algorithm(name, code, **resources):
    wished = {"cpu": 0.5, "memory": "64MiB", "disk": "16MiB", "time": "2m"} | resources
    return {
        "kind": "algorithm", "id": name, "version": "1.0.0", "inputs": {}, "outputs": {"out": {"collection": "product"}},
        "run": {"command": ["sh", "-c", code]}, "environment": {"site": True}, "resources": wished,
    }  # fmt: skip


class Instance:
    """A server with a pool of Slurm pilots."""

    def __init__(self, slurm, home: Path) -> None:
        self.slurm, self.home = slurm, home
        self.processes: list[subprocess.Popen] = []
        self.start()
        found = auth.find(home=home, environment={})
        self.url, self.token = found.url, found.token
        self.client = Client(found.url, found.token)

    def start(self, port="0", **variables) -> None:
        (self.home / "run" / "server.json").unlink(missing_ok=True)
        words = [sys.executable, "-m", "armillary.serve", "--home", str(self.home), "--port", port]
        settings = {"ARMILLARY_POOLS__TIME_TO_LIVE": "5s", "ARMILLARY_POOLS__HEARTBEAT": "0.5s",
                    "ARMILLARY_POOLS__START_LOCAL": "false"}  # fmt: skip
        log = (self.home / "server.log").open("ab")
        environment = os.environ | settings | self.slurm.variables | variables
        self.processes.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        self.until(lambda: (self.home / "run" / "server.json").exists() or self.processes[-1].poll() is not None)

    def pool(self, workers=1, lasts="30m", **more) -> None:
        options = {"walltime": lasts, "check_every": "0s", "partition": "short", "folder": str(self.home / "shared")}
        options["command"] = [sys.executable, "-m", "armillary.runner.main", "--grace", "2s", "--drain", "1s"]
        document = {
            "kind": "pool", "id": "hpc", "provider": "slurm", "slurm": options | more,
            "workers": {"min": 0, "max": workers}, "worker": {"cpu": 1, "memory": "512MiB", "disk": "1GiB"},
            "scale": {"drain_within": "1s", "idle_after": "1h"},
        }  # fmt: skip
        self.client.apply([document])

    def until(self, question):
        deadline = time.monotonic() + 120
        while not (answer := question()):
            logs = [*self.home.glob("shared/*.log"), self.home / "server.log"]
            assert time.monotonic() < deadline, "\n".join(f"{log}: {log.read_text()[-2500:]}" for log in logs)
            time.sleep(0.05)
        return answer

    def submit(self, algorithm, **more):
        wished = {"algorithm": algorithm, "inputs": {}, "parameters": {}, "pool": "hpc", "twins": "again"}
        return str(self.client.submit(wished | more)["job"]["id"])

    def job(self, job):
        return self.client.job(job)

    def ended(self, job):
        return self.until(lambda: (found := self.job(job))["state"] in ("succeeded", "failed", "cancelled") and found)

    def printed(self, job, text):
        return self.until(lambda: text in self.client.job_log(job).data)

    def show(self):
        return self.client.call("GET", "/api/pools/hpc")

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        self.slurm.ask("scancel", "--user=root")
        # What a killed server leaves of its database.
        for process in psutil.process_iter():
            try:
                if str(self.home) in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGINT)
            except psutil.Error:
                continue


@pytest.fixture
def instance(slurm, tmp_path):
    instance = Instance(slurm, tmp_path)
    try:
        instance.client.apply(
            [
                {"kind": "collection", "id": "product", "on_change": "revise"},
                _algorithm("make", COPY),
                _algorithm("resume", RESUME),
                _algorithm("long", "true", time="10h"),
            ]
        )
        yield instance
    finally:
        instance.close()


def test_a_pool_of_pilots_runs_jobs_cancels_them_and_loses_none_to_scancel(instance, slurm):
    instance.pool(workers=2)
    made = instance.submit("make")
    assert instance.ended(made)["state"] == "succeeded"
    instance.until(lambda: "running" in [start["state"] for start in instance.show()["starts"]])
    assert instance.show()["wanted"] is not None
    assert list((instance.home / "shared").glob("*.token")) == []  # its worker has read and removed it

    cancelled = instance.submit("resume")
    instance.printed(cancelled, b"up")
    instance.client.act_on_job(cancelled, "cancel")
    assert instance.ended(cancelled)["state"] == "cancelled"

    # From outside: its worker hears SIGTERM, the job is stopped in good order, and goes on from its checkpoint elsewhere.
    resumed = instance.submit("resume")
    instance.printed(resumed, b"up")
    victim = instance.until(lambda: _reference(instance, _holder(instance, resumed)))
    slurm.ask("scancel", victim)
    ended = instance.ended(resumed)
    *stopped, last = [attempt["outcome"] for attempt in ended["attempts"]]
    # Given to a worker that hears only now that it is to go, it comes back once more.
    assert (set(stopped), last) == ({"preempted"}, "succeeded"), json.dumps(ended["attempts"])
    instance.until(lambda: victim not in [start["reference"] for start in instance.show()["starts"]])


def _reference(instance, worker):
    return next(start["reference"] for start in instance.show()["starts"] if start["worker"] == worker)


def _holder(instance, job):
    return instance.job(job)["attempts"][-1]["worker_id"]


LATE = """\
#!/bin/sh
{sbatch} "$@" > {folder}/said
exec sleep 60
"""


async def test_what_slurm_queued_though_sbatch_was_not_heard_is_cancelled_by_its_name(
    slurm, world, tmp_path, monkeypatch
):
    late = tmp_path / "sbatch"
    late.write_text(LATE.format(sbatch=shutil.which("sbatch"), folder=tmp_path))
    late.chmod(0o755)
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(shell, "PATIENCE_SECONDS", 3.0)
    options = {"check_every": "1h", "command": ["sh", "-c", "exec sleep 600", "worker"]}
    document = {"kind": "pool", "id": "late", "provider": "slurm", "slurm": options, "workers": {"min": 2, "max": 2}}
    async with world.database.transaction() as tx:
        await define.put(tx, OWNER, document, 1)
    providers = Providers(lambda _kind, _pool, given: provider_file.make(given, tmp_path / "pool"))
    reconciler = Reconciler(world.database, providers, Settings().pools, lambda: "http://127.0.0.1:7117")
    await reconciler.round()
    queued = (tmp_path / "said").read_text().strip()
    assert queued in slurm.queue(), "the controller has it, and we were not told"
    late.unlink()  # heard again, from here on
    async with world.database.transaction() as tx:
        assert await store.starts(tx) == []
        await define.put(tx, OWNER, document | {"workers": {"min": 0, "max": 2}}, 2)
    deadline = time.monotonic() + 60
    while queued in slurm.queue():
        assert time.monotonic() < deadline, slurm.queue()
        await reconciler.round()
    async with world.database.transaction() as tx:
        ended = await store.ended_starts(tx, "late", 5)
    assert [row["reason"].endswith(LEFT_OVER) for row in ended] == [True, True]
    assert list((tmp_path / "pool").glob("*.token")) == []


def test_a_server_that_dies_between_submission_and_record_finds_its_worker_again(instance, slurm):
    instance.pool()
    instance.processes[-1].terminate()
    instance.processes[-1].wait(60)
    port = instance.url.rpartition(":")[2]
    instance.start(port, ARMILLARY_CRASH="pools.before-reference")
    job = instance.submit("make")
    assert instance.processes[-1].wait(60) != 0
    assert slurm.queue().count("armillary-") == 1
    instance.start(port)
    assert instance.ended(job)["state"] == "succeeded"
    (start,) = instance.until(lambda: (found := instance.show()["starts"])[0]["reference"] and found)
    assert start["reference"] in slurm.queue()
    assert slurm.queue().count("armillary-") == 1


def test_a_walltime_is_respected(instance, slurm):
    instance.pool(lasts="20s", workers=1)
    long = instance.submit("long")
    resumed = instance.submit("resume")  # its limit of 2 minutes is more than is left
    reason = instance.until(lambda: "needs more than a worker" in (found := instance.job(resumed)["reason"]) and found)
    assert "0:00:20 of time" in reason
    assert "needs more" in instance.until(lambda: instance.job(long)["reason"])
    assert instance.job(resumed)["state"] == "queued"

    instance.client.apply([_algorithm("resumable", RESUME, resumable=True, time="10h") | {"version": "1.0.1"}])
    resumable = instance.submit("resumable")
    instance.printed(resumable, b"up")
    ended = instance.ended(resumable)
    first = ended["attempts"][0]
    assert (ended["state"], first["outcome"]) == ("succeeded", "preempted")
    workers = instance.client.call("GET", "/api/pools/hpc?gone=true")["workers"]
    assert any(worker["reason"] == "Its walltime ends." for worker in workers), json.dumps(workers)
