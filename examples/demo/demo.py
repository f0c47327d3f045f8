"""The main job, watched: radar scenes in, an interferogram out though its worker dies, delivered and acknowledged.

Everything is done through the command line, as a person would; what is run is shown. A second run takes up what is there.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("ARMILLARY_DEMO_HOME", ROOT / ".demo"))
LANDING, ARCHIVE, DEFINITIONS = HOME / "landing", HOME / "archive", HOME / "definitions"
SIMULATE = ROOT / ".venvs" / "insar" / "bin" / "armillary-insar"
PATIENCE_SECONDS = 600.0
LOGS: list[Thread] = []  # that are being shown
STAGE = "\033[1m{}\033[0m" if sys.stdout.isatty() else "{}"


def main() -> None:
    """Tell the story."""
    began = time.monotonic()
    stages = Stages()
    with stages("simulate two radar scenes over a volcano that rises, their orbits and an elevation model"):
        made = make_samples()
    with stages("start Armillary and a small archive"):
        start_server()
        archive = start_archive()
    with stages("apply the algorithm's own folder, a delivery and a pool with a price"):
        apply_definitions(archive)
    with stages("ingest what landed"):
        armillary("ingest", str(LANDING))
    with stages("the rule fires on the pair; kill the job's worker once a checkpoint is saved"):
        killed = kill_a_worker()
    with stages("another worker goes on from the checkpoint"):
        jobs = wait_for("product", finished_jobs)
        for log in LOGS:
            log.join(PATIENCE_SECONDS)
    with stages("the archive refuses the first notification; the delivery is tried again"):
        deliveries = wait_for("acknowledgement", acknowledged)
    with stages("does everything agree? (armillary doctor --checksums)"):
        armillary("doctor", "--checksums")
    report(stages, jobs, deliveries, killed, made, time.monotonic() - began)


class Stages:
    """What took how long."""

    def __init__(self) -> None:
        self.times: list[tuple[str, float]] = []

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        """Announce a stage and time it."""
        print(STAGE.format(f"\n[{len(self.times) + 1}] {title}"), flush=True)
        began = time.monotonic()
        yield
        self.times.append((title, time.monotonic() - began))


def make_samples() -> bool:
    """A pair whose every phase is known, once; whether it was made now."""
    if (HOME / "landed").exists():
        print("    there already")
        return False
    shutil.rmtree(LANDING, ignore_errors=True)
    run([str(SIMULATE), "simulate", "--crop", str(LANDING)])
    shutil.move(LANDING / "truth", HOME / "truth")  # what the answer ought to be does not land
    (HOME / "landed").touch()
    return True


def start_server() -> None:
    """`armillary up`, in the background, at a free port."""
    if not answers():
        # Workers save checkpoints every three minutes; this job takes less than one.
        os.environ["ARMILLARY_CHECKPOINT"] = "1s"
        armillary("up", "--detach", "--port", "0")


def answers() -> bool:
    """Whether the demo's server is there already."""
    return subprocess.run(command("status", "--json"), capture_output=True, check=False).returncode == 0


def start_archive() -> str:
    """The small archive, which refuses the first notification; its URL."""
    record = HOME / "run" / "archive.json"
    if record.exists():
        known = json.loads(record.read_text())
        if Path(f"/proc/{known['pid']}").exists():
            return str(known["url"])
    program = str(ROOT / "examples" / "archive" / "archive.py")
    process = subprocess.Popen(
        [sys.executable, program, "--folder", str(ARCHIVE), "--refuse-first", "1"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    url = process.stdout.readline().strip()
    record.write_text(json.dumps({"pid": process.pid, "url": url}))
    print(f"    the archive listens at {url}")
    return url


def apply_definitions(archive: str) -> None:
    """The algorithm's own folder as it is, and the delivery with the archive's address; once is enough."""
    if finished_jobs():
        print("    in force already")
        return
    DEFINITIONS.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "examples" / "demo" / "delivery.yaml").read_text()
    (DEFINITIONS / "delivery.yaml").write_text(text.replace("ARCHIVE", archive))
    armillary("apply", str(ROOT / "algorithms" / "insar"))
    armillary("apply", str(DEFINITIONS))


def kill_a_worker() -> str | None:
    """SIGKILL the worker of the running job, with everything that it runs; None if all was done before."""
    if finished_jobs():
        print("    the product is there already: nothing to kill")
        return None
    job = str(wait_for("job", lambda: next(iter(jobs_of("insar")), None))["id"])
    follow_log(job)
    attempt = wait_for("attempt", lambda: job_details(job)["attempts"])[-1]
    worker = next(one for one in listed("worker", "list") if one["id"] == attempt["worker_id"])
    saved = HOME / "store" / "checkpoints" / job
    wait_for("saved checkpoint", lambda: saved.is_dir() and any(saved.iterdir()))
    # The worker first: one that lives to see its program die would report that.
    for pid in [worker["pid"], *descendants(worker["pid"])]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    print(f"    kill -9 {worker['pid']}: the worker that runs attempt {attempt['number']} of job {job}", flush=True)
    return job


def follow_log(job: str) -> None:
    """Show what the job says, attempt after attempt, while the story goes on."""
    print(f"    $ armillary job logs {job} --follow", flush=True)
    process = subprocess.Popen(
        command("job", "logs", job, "--follow"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def show() -> None:
        assert process.stdout
        for line in process.stdout:
            print(f"        {line.rstrip()}", flush=True)

    LOGS.append(Thread(target=show, daemon=True))
    LOGS[-1].start()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in (*descendants(int(child)), int(child))]


def finished_jobs() -> list[dict[str, Any]] | None:
    """The job of the algorithm, once it has succeeded."""
    jobs = jobs_of("insar")
    if failed := [job for job in jobs if job["state"] == "failed"]:
        sys.exit(f"The job has failed: {failed[0]['reason']}")
    return [job for job in jobs if job["state"] == "succeeded"] or None


def acknowledged() -> list[dict[str, Any]] | None:
    """The delivery, once the archive has acknowledged it."""
    found = listed("delivery", "list")
    return found if any(one["state"] == "acknowledged" for one in found) else None


def jobs_of(algorithm: str) -> list[dict[str, Any]]:
    """Jobs of an algorithm."""
    return listed("job", "list", "--algorithm", algorithm)


def job_details(job: str) -> dict[str, Any]:
    """A job with its attempts."""
    found: dict[str, Any] = json.loads(run(command("job", "show", job, "--json"), quiet=True))
    return found


def report(
    stages: Stages,
    jobs: list[dict[str, Any]],
    deliveries: list[dict[str, Any]],
    killed: str | None,
    made: bool,
    seconds: float,
) -> None:
    """What happened, when it began to take long, and how to go on."""
    print(STAGE.format("\nWhat happened"))
    for title, took in stages.times:
        print(f"  {took:6.1f} s  {title}")
    print(f"  {seconds:6.1f} s  in all\n")
    job = job_details(jobs[0]["id"])
    print(f"  job {job['id']}")
    print(f"  {'attempt':10}{'outcome':12}{'took s':>8}{'CPU s':>8}{'MiB':>8}{'cost':>10}")
    for attempt in job["attempts"]:
        print(row(attempt))
    print(f"  product {job['outputs'][0]['id']}")
    for one in deliveries:
        print(f"  delivery to {one['destination']}: {one['state']}: {one['granule']}")
    if killed:
        print(
            f"\n  Worker killed during job {killed}: its first attempt is lost, its second went on and published once."
        )
    if not made:
        print("\n  This home had been used before: what was there was taken up. `make clean` begins anew.")
    server = json.loads((HOME / "run" / "server.json").read_text())
    product = job["outputs"][0]
    print(STAGE.format("\nArmillary goes on running"))
    print(f"  sign in (once)   {server['sign_in']}")
    print(f"  the product      {server['url']}/granules/{product['collection']}/{product['id']}")
    print(f"  look again       .venv/bin/armillary --home {HOME} status")
    print(f"  stop             .venv/bin/armillary --home {HOME} down")


def row(attempt: dict[str, Any]) -> str:
    """An attempt's line of the table; its cost is that of its share of the worker, lost or not."""
    usage = attempt.get("usage") or {}
    began, ended = (datetime.fromisoformat(attempt[field]) for field in ("leased_at", "ended_at"))
    seconds = (ended - began).total_seconds()
    memory, cpu = usage.get("peak_memory_bytes", 0) / 2**20, usage.get("cpu_seconds", 0)
    cells = f"{seconds:8.1f}{cpu:8.1f}{memory:8.0f}{attempt['cost'] or 0:10.4f}"
    return f"  {attempt['number']:<10}{attempt['outcome']:12}{cells}"


def wait_for(what: str, question: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := question()):
        if time.monotonic() > deadline:
            armillary("status")
            sys.exit(
                f"There was no {what} within {PATIENCE_SECONDS:.0f} s; `armillary --home {HOME} job list` says more."
            )
        time.sleep(0.05)
    return answer


def listed(*arguments: str) -> list[dict[str, Any]]:
    """What a command lists, one JSON document a line."""
    return [json.loads(line) for line in run(command(*arguments, "--json"), quiet=True).splitlines()]


def armillary(*arguments: str) -> None:
    """Run a command as a person would, and show it."""
    print(f"    $ armillary {' '.join(arguments)}", flush=True)
    run(command(*arguments))


def command(*arguments: str) -> list[str]:
    """The command line of a call."""
    return [str(Path(sys.executable).with_name("armillary")), "--home", str(HOME), *arguments]


def run(arguments: list[str], *, quiet: bool = False) -> str:
    """Run it; its output is indented, or returned."""
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if not quiet or result.returncode:
        for line in (result.stdout + result.stderr).splitlines():
            print(f"    {line}")
    if result.returncode:
        sys.exit(f"`{' '.join(arguments)}` ended with {result.returncode}.")
    return result.stdout


if __name__ == "__main__":
    main()
