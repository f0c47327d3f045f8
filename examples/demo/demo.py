"""The main job, watched: scenes in, matched by a rule, processed while a worker dies, delivered and acknowledged.

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("ARMILLARY_DEMO_HOME", ROOT / ".demo"))
LANDING, ARCHIVE, DEFINITIONS = HOME / "landing", HOME / "archive", HOME / "definitions"
PATIENCE_SECONDS = 180.0
PACE_SECONDS = 4.0  # how long the algorithm takes, so that there is time to kill its worker
STAGE = "\033[1m{}\033[0m" if sys.stdout.isatty() else "{}"


def main() -> None:
    """Tell the story."""
    began = time.monotonic()
    stages = Stages()
    with stages("make two scenes, their orbits and an elevation model"):
        made = make_samples()
    with stages("start Armillary and a small archive"):
        start_server()
        archive = start_archive()
    with stages("apply collections, algorithm, rules and a delivery"):
        apply_definitions(archive)
    with stages("ingest what landed"):
        armillary("ingest", str(LANDING))
    with stages("a rule submits jobs; kill a worker in the middle of one"):
        killed = kill_a_worker()
    with stages("wait for the products"):
        jobs = wait_for("two products", finished_jobs)
    with stages("the archive refuses the first notification; the delivery is tried again"):
        deliveries = wait_for("two acknowledgements", acknowledged)
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
    """Small valid products of our own, once; whether they were made now."""
    if (LANDING / ".complete").exists():
        print("    there already")
        return False
    shutil.rmtree(LANDING, ignore_errors=True)
    run([sys.executable, "-m", "armillary_formats.samples", str(LANDING)])
    (LANDING / ".complete").touch()
    return True


def start_server() -> None:
    """`armillary up`, in the background, at a free port."""
    if not answers():
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
    """The algorithm's own folder, and the delivery with the archive's address."""
    DEFINITIONS.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "examples" / "demo" / "delivery.yaml").read_text()
    (DEFINITIONS / "delivery.yaml").write_text(text.replace("ARCHIVE", archive))
    folder = ROOT / "algorithms" / "browse"
    rules = (folder / "rules.yaml").read_text()
    # Slow the algorithm down a little, so that its worker can be killed on stage.
    (DEFINITIONS / "rules.yaml").write_text(
        rules.replace("then: {run: browse", f"then: {{parameters: {{pace_seconds: {PACE_SECONDS}}}, run: browse")
    )
    armillary("apply", str(folder))
    armillary("apply", str(DEFINITIONS))


def kill_a_worker() -> str | None:
    """SIGKILL the worker of a running job, with everything that it runs; None if all was done before."""
    if finished_jobs():
        print("    the products are there already: nothing to kill")
        return None
    job = wait_for("a running job", lambda: next(iter(jobs_of("browse", "running")), None))
    time.sleep(1.0)  # into the middle of it
    attempt = job_details(job["id"])["attempts"][-1]
    worker = next(one for one in listed("worker", "list") if one["id"] == attempt["worker_id"])
    print(f"    kill -9 worker {worker['pid']}, which runs attempt {attempt['number']} of job {job['id']}")
    for pid in [*descendants(worker["pid"]), worker["pid"]]:
        os.kill(pid, signal.SIGKILL)
    return str(job["id"])


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in (*descendants(int(child)), int(child))]


def finished_jobs() -> list[dict[str, Any]] | None:
    """The two jobs of the algorithm, once both have succeeded."""
    jobs = jobs_of("browse", "succeeded")
    return jobs if len(jobs) >= 2 else None


def acknowledged() -> list[dict[str, Any]] | None:
    """The deliveries, once the archive has acknowledged both."""
    found = listed("delivery", "list")
    return found if sum(one["state"] == "acknowledged" for one in found) >= 2 else None


def jobs_of(algorithm: str, state: str) -> list[dict[str, Any]]:
    """Jobs of an algorithm in a state."""
    return listed("job", "list", "--algorithm", algorithm, "--state", state)


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
    print(f"  {'job':38}{'attempts':34}{'CPU s':>7}{'MiB':>7}  product")
    for job in (job_details(one["id"]) for one in jobs):
        outcomes = ", ".join(f"{attempt['number']} {attempt['outcome']}" for attempt in job["attempts"])
        usage = job["attempts"][-1].get("usage") or {}
        product = job["outputs"][0]
        memory = usage.get("peak_memory_bytes", 0) / 2**20
        print(f"  {job['id']:38}{outcomes:34}{usage.get('cpu_seconds', 0):7.1f}{memory:7.0f}  {product['id']}")
    for one in deliveries:
        print(f"  delivery to {one['destination']}: {one['state']}: {one['granule']}")
    if killed:
        print(
            f"\n  Worker killed during job {killed}: its first attempt is lost, its second published the product, once."
        )
    if not made:
        print("\n  This home had been used before: what was there was taken up. `make clean` begins anew.")
    server = json.loads((HOME / "run" / "server.json").read_text())
    product = job_details(jobs[0]["id"])["outputs"][0]
    print(STAGE.format("\nArmillary goes on running"))
    print(f"  sign in (once)   {server['sign_in']}")
    print(f"  a product        {server['url']}/granules/{product['collection']}/{product['id']}")
    print(f"  look again       .venv/bin/armillary --home {HOME} status")
    print(f"  stop             .venv/bin/armillary --home {HOME} down")


def wait_for(what: str, question: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := question()):
        if time.monotonic() > deadline:
            armillary("status")
            sys.exit(
                f"There were no {what} within {PATIENCE_SECONDS:.0f} s; `armillary --home {HOME} job list` says more."
            )
        time.sleep(0.3)
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
