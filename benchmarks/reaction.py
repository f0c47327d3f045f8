"""How soon things reach whom they concern: a cancellation its job, a printed line its reader, a dead worker's job another.

Run `.venv/bin/python benchmarks/reaction.py [--times N]`. A real server with the default settings (a heartbeat each 2 s, a
worker silent for 15 s loses its jobs) and two real runners. Each figure stands beside the time of one call that
does nothing (GET /health) in the same run.
"""

import argparse
import json
import os
import signal
import statistics
import time
from collections.abc import Sequence
from typing import Any

import psutil
from instance import POOL, instance, register, until
from job_throughput import runner, started

from armillary.client.client import Client

QUICK = ["--times", "1", "--kills", "1"]
# It says which process it is, then what time it is, again and again.
TALK = "echo $$; while :; do date +%s%N; sleep 0.1; done"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--kills", type=int, default=2)
    chosen = parser.parse_args()
    figures: dict[str, list[float]] = {"a call": [], "log line": [], "cancel": [], "killed worker": []}
    with instance() as made, made.client() as client:
        register(made, "talk", {"command": ["sh", "-c", TALK]})
        environment = {"ARMILLARY_TOKEN": made.token}
        with started([runner(made), runner(made)], environment) as processes:
            for number in range(chosen.times):
                figures["a call"].append(seconds(client.is_healthy))
                said = talk(client, number)
                figures["log line"].append(said["line"])
                figures["cancel"].append(cancel(client, said))
            for number in range(chosen.kills):
                with started([runner(made)], environment) as others:
                    figures["killed worker"].append(kill(client, 1000 + number, [*processes, *others]))
    for name, found in figures.items():
        print(
            f"{name:16} median {statistics.median(found) * 1e3:8.0f} ms   worst {max(found) * 1e3:8.0f} ms   of {len(found)}"
        )
    print(json.dumps({"load": os.getloadavg()[0], "seconds": figures}))


def seconds(call: Any) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def talk(client: Client, number: int) -> dict[str, Any]:
    """Start a job and follow its log: its id, its process, and how old a line is when it is read."""
    job = client.submit({"algorithm": "talk", "pool": POOL, "parameters": {"n": number}})["job"]["id"]
    read, ages = b"", []
    while len(ages) < 10:
        part = client.job_log(job, offset=len(read), wait_seconds=30)
        lines = part.data.splitlines()
        if read and lines:
            ages.append(time.time() - int(lines[-1]) / 1e9)
        read += part.data
    return {"job": job, "pid": int(read.splitlines()[0]), "line": statistics.median(ages)}


def cancel(client: Client, said: dict[str, Any]) -> float:
    """Until the job's process is gone."""
    begun = time.perf_counter()
    client.act_on_job(said["job"], "cancel")
    until(lambda: not psutil.pid_exists(said["pid"]), 60, "the end of the job")
    return time.perf_counter() - begun


def kill(client: Client, number: int, runners: Sequence[Any]) -> float:
    """Kill the worker of a job, and wait until the job runs elsewhere."""
    said = talk(client, number)
    parents = [process.pid for process in psutil.Process(said["pid"]).parents()]
    (victim,) = [one for one in runners if one.pid in parents]
    begun = time.perf_counter()
    victim.send_signal(signal.SIGKILL)
    until(lambda: client.job(said["job"])["attempts"][-1]["number"] == 2, 120, "the second attempt")
    until(lambda: client.job(said["job"])["attempts"][-1]["started_at"], 120, "its start")
    passed = time.perf_counter() - begun
    client.act_on_job(said["job"], "cancel")
    return passed


if __name__ == "__main__":
    main()
