"""How long from the return of a granule's commit to the exec of its algorithm, with a million granules and many rules.

One warm idle worker. With 1, 100 and 1,000 rules: (a) one has the granule's collection, (b) 100 share the collection and
the filter of one accepts it, (c) all match, and each runs a job. The bound is the least that any such chain does after the
commit: two durable transactions (a firing with its job, a lease), one request over HTTP and the start of the same program,
one after the other, in the same run.
"""

import argparse
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import search
from harness import Instance, conclude, median, percentile, table, wait_until

from armillary.client.client import Client
from armillary.client.upload import AssetSource, GranuleSource, Uploader

QUICK = ("--granules", "2000", "--rules", "1", "5", "--rounds", "2")

SHARING = 100
WARM_ROUNDS = 3
PAUSE_SECONDS = 0.05  # between two granules, so that each finds the worker idle
PROGRAM = """\
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_REALTIME, &now);
    int log = open(LOG, O_WRONLY | O_APPEND | O_CREAT, 0666);
    int size = snprintf(line, sizeof line, "%lld%09ld\\n", (long long)now.tv_sec, now.tv_nsec);
    return write(log, line, size) == size ? 0 : 1;
}
"""
ALGORITHM = """\
kind: algorithm
id: stamp
version: 1.0.0
inputs: {one: {}}
outputs: {}
run: {command: [stamp]}
environment: {site: true}
resources: {cpu: 0.01, memory: 1MiB, disk: 1MiB, time: 1min}
"""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the commit's return to the first and to the last exec that the granule leads to."""

    first: float
    last: float


@dataclass(frozen=True)
class Steps:
    """Milliseconds between the moments that the database knows, and from the last of them to the exec."""

    to_firing: float
    to_lease: float
    to_exec: float


def main() -> None:
    """Fill a catalogue, time each set of rules, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--granules", type=int, default=1_000_000)
    parser.add_argument("--rules", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=40, help="granules timed for each set of rules")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as name:
        folder = Path(name)
        with Instance(folder / "home") as instance:
            search.fill(instance.dsn(), chosen.granules, random.Random(1))
            print(f"{chosen.granules:,} granules catalogued", flush=True)
            bench = Bench(instance, folder)
            measured = {"bound": [Latency(one, one) for one in bench.bound(chosen.rounds)]}
            steps = {}
            for rules in chosen.rules:
                for case in ("a", "b", "c") if rules > 1 else ("a",):
                    label = f"{rules:,} rules, ({case})" if rules > 1 else "1 rule"
                    # A granule that starts a thousand jobs keeps the worker busy for a while.
                    rounds = chosen.rounds if case != "c" else max(1, min(chosen.rounds, 1000 // rules))
                    measured[label], steps[label] = bench.case(case, rules, rounds)
            bench.close()
    report(measured, steps)


class Bench:
    """One instance with its algorithm, and what is timed on it."""

    def __init__(self, instance: Instance, folder: Path) -> None:
        self.instance = instance
        self.stamps = folder / "stamps"
        self.stamps.touch()
        self.folder = folder
        self.client: Client = instance.client()
        self.uploader = Uploader(self.client)
        self.connection = psycopg.connect(instance.dsn(), autocommit=True)
        self.numbers: Iterator[int] = iter(range(10**9))
        algorithm = folder / "stamp"
        algorithm.mkdir()
        (algorithm / "algorithm.yaml").write_text(ALGORITHM)
        self.program = algorithm / "stamp"
        make_program(self.program, self.stamps)
        instance.apply({"kind": "collection", "id": "arrivals"})
        instance.armillary("apply", str(algorithm))

    def close(self) -> None:
        """Let go of the connections."""
        self.uploader.close()
        self.client.close()
        self.connection.close()

    def case(self, case: str, rules: int, rounds: int) -> tuple[list[Latency], Steps]:
        """The latencies of some granules with these rules in force."""
        documents, matching = definitions(case, rules)
        self.instance.apply(*documents)
        for _ in range(WARM_ROUNDS if case != "c" else 1):
            self.one(matching)
        timed = [self.one(matching) for _ in range(rounds)]
        steps = self.steps(rounds * matching)
        self.connection.execute("delete from rule")
        return timed, steps

    def one(self, matching: int) -> Latency:
        """Commit one granule and wait for all of its jobs."""
        name = f"granule-{next(self.numbers)}"
        path = self.folder / name
        path.write_text(name)
        before = len(self.read_stamps())
        item = {"properties": {"which": 0}}
        (outcome,) = self.uploader.upload([GranuleSource("arrivals", name, (AssetSource("data", path),), item)])
        committed = time.time_ns()
        assert outcome.outcome == "created", outcome
        stamps = wait_until(lambda: self.complete(before + matching), f"{matching} jobs", 0.005)[before:]
        wait_until(self.is_idle, "the reports of the jobs", 0.01)
        time.sleep(PAUSE_SECONDS)
        return Latency((min(stamps) - committed) / 1e6, (max(stamps) - committed) / 1e6)

    def complete(self, count: int) -> list[int] | None:
        """All stamps, once there are as many."""
        stamps = self.read_stamps()
        return stamps if len(stamps) >= count else None

    def read_stamps(self) -> list[int]:
        """When each job's program began, in nanoseconds."""
        return [int(line) for line in self.stamps.read_text().splitlines()]

    def is_idle(self) -> bool:
        """Whether nothing is queued or leased."""
        row = self.connection.execute("select count(*) from job_queue").fetchone()
        return row is not None and row[0] == 0

    def steps(self, jobs: int) -> Steps:
        """The medians of the moments on the way, for the jobs of the granules just timed."""
        rows = self.connection.execute(
            """select extract(epoch from firing.created_at - item.created_at) * 1000,
                      extract(epoch from attempt.leased_at - firing.created_at) * 1000,
                      extract(epoch from attempt.leased_at) * 1e9
               from job join attempt on attempt.job_id = job.id
               join firing on firing.job_id = job.id
               join job_input on job_input.job_id = job.id
               join item on item.collection = job_input.collection and item.granule = job_input.granule
               order by job.id desc limit %s""",
            [jobs],
        ).fetchall()
        leased = sorted(float(row[2]) for row in rows)
        started = self.read_stamps()[-len(leased) :]
        to_exec = [(stamp - at) / 1e6 for stamp, at in zip(sorted(started), leased, strict=True)]
        return Steps(median([float(row[0]) for row in rows]), median([float(row[1]) for row in rows]), median(to_exec))

    def bound(self, rounds: int) -> list[float]:
        """Milliseconds of the bare sequence."""
        self.connection.execute("create table if not exists bare (id bigint)")
        times = []
        for _ in range(rounds + WARM_ROUNDS):
            before, began = len(self.read_stamps()), time.time_ns()
            self.connection.execute("insert into bare values (1)")
            self.connection.execute("insert into bare values (2)")
            self.client.is_healthy()
            subprocess.run([self.program], check=True)
            times.append((self.read_stamps()[before] - began) / 1e6)
        return times[WARM_ROUNDS:]


def definitions(case: str, rules: int) -> tuple[list[dict[str, Any]], int]:
    """The documents of a set of rules, and how many of them match the granule."""
    sharing = {"a": 1, "b": min(SHARING, rules), "c": rules}[case]
    documents: list[dict[str, Any]] = []
    for number in range(rules):
        collection = "arrivals" if number < sharing else f"other-{number}"
        if number >= sharing:
            documents.append({"kind": "collection", "id": collection})
        role = {"collection": collection} | ({"filter": f"which = {number}"} if case == "b" else {})
        # Rules that do the same work would share one job.
        then = {"run": "stamp", "twins": "again"}
        documents.append({"kind": "rule", "id": f"{case}-{rules}-{number}", "when": {"one": role}, "then": then})
    return documents, rules if case == "c" else 1


def make_program(path: Path, log: Path) -> None:
    """A static program that says when it began; a shell script where no compiler is."""
    if compiler := shutil.which("cc"):
        source = path.with_suffix(".c")
        source.write_text(PROGRAM.replace("LOG", f'"{log}"'))
        done = subprocess.run([compiler, "-Os", "-static", "-o", str(path), str(source)], check=False)
        source.unlink()
        if done.returncode == 0:
            return
    path.write_text(f"#!/bin/sh\ndate +%s%N >> '{log}'\n")
    path.chmod(0o755)


def report(measured: dict[str, list[Latency]], steps: dict[str, Steps]) -> None:
    """A table, and one line of JSON."""
    bound = median([one.first for one in measured["bound"]])
    rows, figures = [], {}
    for label, timed in measured.items():
        first, last = [one.first for one in timed], [one.last for one in timed]
        way = steps.get(label)
        parts = [f"{one:.1f}" for one in vars(way).values()] if way else ["", "", ""]
        rows.append(
            [label, f"{median(first):.1f}", f"{percentile(first, 0.95):.1f}", f"{median(first) / bound:.1f}",
             f"{median(last):.0f}", *parts]
        )  # fmt: skip
        figures[label] = {
            "median_ms": round(median(first), 2), "p95_ms": round(percentile(first, 0.95), 2),
            "of_bound": round(median(first) / bound, 2), "last_ms": round(median(last), 1),
        }  # fmt: skip
    table(["", "median ms", "p95 ms", "× bound", "last job ms", "→ firing", "→ lease", "→ exec"], rows)
    conclude(figures=figures)


if __name__ == "__main__":
    main()
