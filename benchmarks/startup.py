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
    rows = [
        ["first start, s", f"{median(first):.2f}"],
        ["warm start, s", f"{median(warm):.2f}"],
        ["PostgreSQL alone, warm, s", f"{median(bare):.2f}"],
        *([f"idle, {kind}, MiB", f"{size / (1 << 20):.0f}"] for kind, size in memory.items()),
        ["idle, all, MiB", f"{sum(memory.values()) / (1 << 20):.0f}"],
        *([f"{name}, ms of CPU", f"{1000 * seconds:.0f}"] for name, seconds in programs.items()),
        ["installed, MiB", f"{installed('armillary') / (1 << 20):.0f}"],
    ]
    table(["", "median"], rows)
    conclude(
        first_start_s=round(median(first), 2), warm_start_s=round(median(warm), 2), postgres_s=round(median(bare), 2),
        idle_mib={kind: round(size / (1 << 20), 1) for kind, size in memory.items()},
        cpu_ms={name: round(1000 * seconds, 1) for name, seconds in programs.items()},
        installed_mib=round(installed("armillary") / (1 << 20), 1),
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
    """Bytes of the files of a distribution and of all that its server needs."""
    waiting, seen, total = [distribution], set(), 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or an extra that is not there
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            total += path.stat().st_size if path.is_file() else 0
        wanted = [one for one in found.requires or () if "extra ==" not in one or 'extra == "server"' in one]
        waiting += [name_of(one) for one in wanted]
    return total


def name_of(requirement: str) -> str:
    """The name that a requirement begins with."""
    end = next((at for at, letter in enumerate(requirement) if not (letter.isalnum() or letter in "-_.")), None)
    return requirement[:end]


if __name__ == "__main__":
    main()
