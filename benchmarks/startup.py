"""How long a start takes, what an idle instance holds, what `--help` costs, and how large the installation is.

A start is `armillary up` on an empty home, then again on the same; ready means that it answered. Memory is the
proportional set size of every process, PostgreSQL's and one warm worker's included, after a while without work. Beside
them: the bare interpreter, and the start of the embedded PostgreSQL alone.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from harness import Instance, conclude, median, pss_bytes, table, wait_until
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from armillary.base import postgres

QUICK = ("--idle", "1", "--rounds", "1")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds without work before memory is read")
    parser.add_argument("--rounds", type=int, default=5, help="of each start; the median counts")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as name:
        folder = Path(name)
        first = [start(folder / f"home-{n}") for n in range(chosen.rounds)]
        warm = [start(folder / "home-0") for _ in range(chosen.rounds)]
        bare = [start_postgres(folder / "home-0") for _ in range(chosen.rounds)]
        memory = idle(folder / "home-0", chosen.idle)
    python = [sys.executable, "-c", "pass"]
    programs = {
        "the bare interpreter": cpu_seconds(python, 10 * chosen.rounds),
        "armillary --help": cpu_seconds(
            [str(Path(sys.executable).with_name("armillary")), "--help"], 10 * chosen.rounds
        ),
        "import of the server": cpu_seconds([sys.executable, "-c", "import armillary.server"], 2 * chosen.rounds),
    }
    sizes = {name: installed(name) for name in ("armillary", "armillary[server]")}
    rows = [
        ["first start, s", f"{median(first):.2f}"],
        ["warm start, s", f"{median(warm):.2f}"],
        ["PostgreSQL alone, warm, s", f"{median(bare):.2f}"],
        *([f"idle, {kind}, MiB", f"{size / (1 << 20):.0f}"] for kind, size in memory.items()),
        ["idle, all, MiB", f"{sum(memory.values()) / (1 << 20):.0f}"],
        *([f"{name}, ms of CPU", f"{1000 * seconds:.0f}"] for name, seconds in programs.items()),
        *([f"installed, {name}, MiB", f"{bytes_ / (1 << 20):.0f}"] for name, bytes_ in sizes.items()),
    ]
    table(["", "median"], rows)
    conclude(
        first_start_s=round(median(first), 2), warm_start_s=round(median(warm), 2), postgres_s=round(median(bare), 2),
        idle_mib={kind: round(size / (1 << 20), 1) for kind, size in memory.items()},
        cpu_ms={name: round(1000 * seconds, 1) for name, seconds in programs.items()},
        installed_mib={name: round(bytes_ / (1 << 20), 1) for name, bytes_ in sizes.items()},
    )  # fmt: skip


def start(home: Path) -> float:
    """Seconds from `armillary up` to its answer; it is stopped again."""
    began = time.perf_counter()
    instance = Instance(home)
    instance.start()
    took = time.perf_counter() - began
    instance.stop()
    return took


def start_postgres(home: Path) -> float:
    """Seconds of the embedded PostgreSQL by itself: the part of a start that is not ours to make faster."""
    began = time.perf_counter()
    postgres.start(home)
    took = time.perf_counter() - began
    postgres.stop(home)
    return took


def idle(home: Path, seconds: float) -> dict[str, int]:
    """Bytes by kind of process, with one warm worker and nothing to do."""
    with Instance(home) as instance:
        wait_until(lambda: instance.processes()["worker"], "a warm worker")
        time.sleep(seconds)
        return {kind: pss_bytes(processes) for kind, processes in instance.processes().items()}


def cpu_seconds(command: Sequence[str], rounds: int) -> float:
    """The least CPU time of some runs: what others did meanwhile only adds to it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    spent = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def installed(distribution: str) -> int:
    """Bytes of the files of a distribution and of all that it needs, extras as in `armillary[server]` included."""
    waiting, seen, total = [Requirement(distribution)], set(), 0
    while waiting:
        wanted = waiting.pop()
        try:
            found = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError:
            continue  # for another platform
        extras = wanted.extras or {""}
        new = {(canonicalize_name(wanted.name), extra) for extra in {"", *extras}} - seen
        if not new:
            continue
        if not any(name == canonicalize_name(wanted.name) for name, _ in seen):
            total += sum(size(Path(str(found.locate_file(file)))) for file in found.files or ())
        seen |= new
        needs = map(Requirement, found.requires or ())
        waiting += [one for one in needs if not one.marker or any(one.marker.evaluate({"extra": x}) for x in extras)]
    return total


def size(path: Path) -> int:
    """Bytes of a file; of bytecode none, which is made when a module is used."""
    return path.stat().st_size if path.is_file() and path.suffix != ".pyc" else 0


if __name__ == "__main__":
    main()
