"""Workers as jobs of IBM Spectrum LSF: `bsub`, `bjobs -o`, `bkill`.

Written after the documented formats (LSF command reference, 10.1); not run against a real LSF yet.
"""

import re
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
    "PEND": ("pending", ""),
    "PROV": ("pending", "Its host is being made ready."),
    "PSUSP": ("pending", "It is held."),
    "WAIT": ("pending", "It waits for the others of its chunk."),
    "RUN": ("running", ""),
    "USUSP": ("running", "It is suspended by its user."),
    "SSUSP": ("running", "It is suspended by LSF."),
    "UNKWN": ("running", "LSF does not hear of its host."),
    "DONE": ("ended", "Its LSF job has ended."),
    "EXIT": ("ended", "Its LSF job ended with a failure."),
    "ZOMBI": ("ended", "Its host was lost."),
}
LIST = ["bjobs", "-a", "-noheader", "-o", "job_name jobid stat exit_reason pend_reason delimiter='|'"]


@dataclass(frozen=True)
class Lsf(Single):
    """LSF's language."""

    options: tuple[str, ...]
    lines: tuple[str, ...]

    def submit(self, name: str, log: str, _count: int, size: Resources | None) -> tuple[list[str], list[str]]:
        """`-rn`: it is not run again by LSF."""
        return ["bsub", "-J", name, "-rn", "-o", f"{log}.log", *self.options, *_sized(size)], list(self.lines)

    def submitted(self, output: str, _count: int) -> list[str]:
        """`Job <1234> is submitted to queue <normal>.`"""
        match = re.search(r"Job <(\d+)> is submitted", output)
        if match is None:
            raise TransientError(f"bsub's answer is not understood: {output.strip()[:200]!r}.", "Run it by hand.")
        return [match[1]]

    def ask(self) -> list[str]:
        """All jobs of this user, those that ended lately (`-a`) included."""
        return LIST

    def listed(self, output: str) -> list[Listed]:
        """Name, id, state, why it ended, why it waits; `-` where there is nothing to say."""
        return [_listed(*line.split("|", 4)) for line in output.splitlines() if line.count("|") >= 4]

    def cancel(self, references: Sequence[str], *, force: bool) -> list[list[str]]:
        """`bkill` sends SIGINT, SIGTERM and SIGKILL with pauses; `-s TERM` leaves the pace to the runner."""
        if force:
            return [["bkill", "-s", "KILL", *references]]
        return [["bkill", "-stat", "pend", *references], ["bkill", "-s", "TERM", *references]]


def make(document: object, folder: Path) -> PoolProvider:
    """The provider that a pool's `lsf:` describes."""
    options = Options(document, "lsf")
    site = read_site(options, folder)
    words: list[str] = []
    for name, flag in (("queue", "-q"), ("project", "-P"), ("group", "-G"), ("service_class", "-sla")):
        if value := options.word(name):
            words += [flag, value]
    if site.walltime is not None:
        words += ["-W", f"{-(-int(site.walltime.total_seconds()) // 60)}"]
    lines = options.directives("#BSUB")
    sweep = read_sweep(options)
    options.end()
    return BatchProvider(Lsf(tuple(words), lines), site, sweep)


def _sized(size: Resources | None) -> list[str]:
    if size is None:
        return []
    words = ["-n", f"{-(-size.cpu // 1):.0f}", "-R", "span[hosts=1]", "-M", f"{-(-size.memory_bytes // 2**20)}MB"]
    return [*words, "-gpu", f"num={size.gpu}"] if size.gpu else words


def _listed(name: str, job: str, word: str, ended: str, pending: str) -> Listed:
    state, note = STATES.get(word.strip(), ("running", f"LSF calls it {word.strip()}."))
    reason = {"ended": ended, "pending": pending}.get(state, "-").strip()
    return Listed(name.strip(), job.strip(), state, f"{note} {reason}".strip() if reason != "-" else note)
