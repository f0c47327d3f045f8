"""Five workers, one of whose disks becomes read-only: a hundred jobs all succeed, and that worker is set apart by name."""

import subprocess
import sys
from pathlib import Path

from armillary.testing.disk import small_disk

JOBS = 100
FLEET = """\
kind: pool
id: fleet
provider: none
---
kind: algorithm
id: square
version: 1.0.0
inputs: {}
outputs: {}
parameters: {n: {type: integer}}
run: {command: [sh, -c, "sleep 0.1"]}
environment: {site: true}
resources: {cpu: 1, memory: 64MiB, disk: 1MiB, time: 1min}
retry: {attempts: 2, on: [infrastructure], delay: 0.1s}
"""


def start_worker(instance, work: Path) -> subprocess.Popen[bytes]:
    """A worker of the pool `fleet` with room for one job, as somebody would start it by hand."""
    command = [
        str(Path(sys.executable).with_name("armillary-runner")), "--url", instance.client.url, "--pool", "fleet",
        "--token-file", str(instance.home / "owner-token"), "--work", str(work), "--cache", str(work.parent / "cache"),
        "--cpu", "1", "--memory", "1GiB", "--disk", "16MiB",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_worker_with_a_read_only_disk_does_not_eat_the_queue(new_instance, tmp_path):
    instance = new_instance()
    definitions = instance.home / "fleet.yaml"
    definitions.write_text(FLEET)
    instance.armillary("apply", str(definitions))
    with small_disk(tmp_path / "broken", "32m") as broken:
        folders = [broken, *(tmp_path / f"work-{number}" for number in range(4))]
        workers = [start_worker(instance, folder) for folder in folders]
        try:
            instance.wait(lambda: len(fleet(instance)) == len(workers), "the registration of five workers")
            # What the worker has open cannot be made read-only under it: all that it will open is.
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(broken)], check=True)
            with instance.client as client:
                for number in range(JOBS):
                    client.submit({"algorithm": "square", "parameters": {"n": number}, "pool": "fleet"})
            instance.wait(lambda: len(jobs(instance, "succeeded")) == JOBS, "the end of a hundred jobs")
            apart = instance.wait(lambda: quarantined(instance), "the verdict on the worker")
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            subprocess.run(["umount", "-l", str(broken)], check=False)
    assert [one["pid"] for one in apart] == [workers[0].pid]
    assert "Read-only file system" in apart[0]["reason"]
    attempts = [attempt for job in jobs(instance, "succeeded") for attempt in details(instance, job)["attempts"]]
    failed = [attempt for attempt in attempts if attempt["outcome"] == "failed"]
    assert {attempt["worker_id"] for attempt in failed} == {apart[0]["id"]}
    assert len(failed) <= 8


def fleet(instance) -> list[dict]:
    """The workers of the pool."""
    return instance.get("/api/workers", pool="fleet")["workers"]


def quarantined(instance) -> list[dict]:
    """Those that were set apart."""
    return [one for one in fleet(instance) if one["state"] == "quarantined"]


def jobs(instance, state: str) -> list[dict]:
    """The jobs in a state."""
    return instance.get("/api/jobs", state=state, algorithm="square", limit=1000)["jobs"]


def details(instance, job: dict) -> dict:
    """A job with its attempts."""
    return instance.get(f"/api/jobs/{job['id']}")
