"""Workers as jobs of PBS Professional or OpenPBS: `qsub`, `qstat -f -F json`, `qdel`.

Written after the documented formats (PBS Professional Reference Guide); not run against a real PBS yet.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from armillary.algorithms.algorithm import Resources
from armillary.base.errors import TransientError
from armillary.pools.batch import BatchProvider, Listed, Single, read_sweep
from armillary.pools.launch import read_site
from armillary.pools.options import Options
from armillary.pools.provider import PoolProvider, StartState

STATES: dict[str, tuple[StartState, str]] = {
    "Q": ("pending", ""),
    "H": ("pending", "It is held."),
    "W": ("pending", "Its begin is in the future."),
    "T": ("pending", "It is being moved."),
    "M": ("ended", "It was moved to another server."),
    "B": ("running", ""),
    "R": ("running", ""),
    "S": ("running", "It is suspended."),
    "U": ("running", "It is suspended: its workstation is in use."),
    "E": ("ending", "It is ending."),
    "X": ("ended", "Its PBS job has ended."),
    "F": ("ended", "Its PBS job has ended."),
}


@dataclass(frozen=True)
class Pbs(Single):
    """PBS's language."""

    options: tuple[str, ...]
    lines: tuple[str, ...]

    def submit(self, name: str, log: str, _count: int, size: Resources | None) -> tuple[list[str], list[str]]:
        """`-r n`: it is not run again by PBS."""
        return ["qsub", "-N", name, "-r", "n", "-j", "oe", "-o", f"{log}.log", *self.options, *_sized(size)], list(
            self.lines
        )

    def submitted(self, output: str, _count: int) -> list[str]:
        """`1234.server`."""
        return [output.strip().splitlines()[-1]]

    def ask(self) -> list[str]:
        """All jobs, those that ended lately (`-x`) included."""
        return ["qstat", "-x", "-f", "-F", "json"]

    def listed(self, output: str) -> list[Listed]:
        """`Jobs`: id → attributes; `comment` says why a job waits or how it ended."""
        try:
            jobs = json.loads(output or "{}").get("Jobs", {})
        except ValueError as error:
            raise TransientError("qstat's answer is not JSON.", "Run qstat -x -f -F json by hand.") from error
        return [_listed(reference, job) for reference, job in jobs.items()]

    def cancel(self, references: Sequence[str], *, force: bool) -> list[list[str]]:
        """`qdel` ends what waits and sends SIGTERM, then SIGKILL after the server's kill delay; `-W force` at once."""
        return [["qdel", *(["-W", "force"] if force else []), *references]]


def make(document: object, folder: Path) -> PoolProvider:
    """The provider that a pool's `pbs:` describes."""
    options = Options(document, "pbs")
    site = read_site(options, folder)
    words: list[str] = []
    for name, flag in (("queue", "-q"), ("account", "-A"), ("project", "-P")):
        if value := options.word(name):
            words += [flag, value]
    if site.walltime is not None:
        words += ["-l", f"walltime={int(site.walltime.total_seconds())}"]
    lines = options.directives("#PBS")
    sweep = read_sweep(options)
    options.end()
    return BatchProvider(Pbs(tuple(words), lines), site, sweep)


def _sized(size: Resources | None) -> list[str]:
    if size is None:
        return []
    chunk = f"select=1:ncpus={-(-size.cpu // 1):.0f}:mem={-(-size.memory_bytes // 2**20)}mb"
    return ["-l", f"{chunk}:ngpus={size.gpu}" if size.gpu else chunk]


def _listed(reference: str, job: dict[str, str]) -> Listed:
    state, note = STATES.get(job.get("job_state", ""), ("running", f"PBS calls it {job.get('job_state')}."))
    comment = job.get("comment", "")
    return Listed(
        job.get("Job_Name", ""), reference, state, f"{note} {comment}".strip() if state != "running" else note
    )
