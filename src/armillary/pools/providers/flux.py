"""Workers as jobs of Flux: `flux batch`, `flux jobs --format`, `flux cancel`.

Written after the documented formats (flux-core's manual pages, 0.60 and newer); not run against a real Flux yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from armillary.algorithms.algorithm import Resources
from armillary.pools.batch import BatchProvider, Listed, Single, read_sweep
from armillary.pools.launch import read_site
from armillary.pools.options import Options
from armillary.pools.provider import PoolProvider, StartState

STATES: dict[str, tuple[StartState, str]] = {
    "DEPEND": ("pending", "It waits for another job."),
    "PRIORITY": ("pending", "Its priority is being found."),
    "SCHED": ("pending", "It waits for resources to be free."),
    "RUN": ("running", ""),
    "CLEANUP": ("ending", "It is ending."),
    "COMPLETED": ("ended", "Its Flux job has ended."),
    "FAILED": ("ended", "Its Flux job failed."),
    "CANCELED": ("ended", "Its Flux job was cancelled."),
    "TIMEOUT": ("ended", "Its Flux job reached its time limit."),
}
LIST = [
    "flux",
    "jobs",
    "-a",
    "--count=0",
    "--no-header",
    "--format={name}|{id}|{state}|{status}|{annotations.sched.reason_pending}",
]


@dataclass(frozen=True)
class Flux(Single):
    """Flux's language."""

    options: tuple[str, ...]
    lines: tuple[str, ...]

    def submit(self, name: str, log: str, _count: int, size: Resources | None) -> tuple[list[str], list[str]]:
        """The script runs once, on one node, in an instance of its own."""
        return ["flux", "batch", f"--job-name={name}", f"--output={log}.log", *self.options, *_sized(size)], list(
            self.lines
        )

    def submitted(self, output: str, _count: int) -> list[str]:
        """`ƒ2oLkDGqs` (or `f2oLkDGqs` where there is no UTF-8)."""
        return [output.strip().splitlines()[-1]]

    def ask(self) -> list[str]:
        """All jobs of this user, those that ended included."""
        return LIST

    def listed(self, output: str) -> list[Listed]:
        """Name, id, state, status (which tells one end from another), and what the scheduler says of one that waits."""
        return [_listed(*line.split("|", 4)) for line in output.splitlines() if line.count("|") >= 4]

    def cancel(self, references: Sequence[str], *, force: bool) -> list[list[str]]:
        """`flux cancel` ends what waits and sends SIGTERM, then SIGKILL after the kill time-out."""
        return [["flux", "job", "kill", "--signal=KILL", *references]] * force + [["flux", "cancel", *references]]


def make(document: object, folder: Path) -> PoolProvider:
    """The provider that a pool's `flux:` describes."""
    options = Options(document, "flux")
    site = read_site(options, folder)
    words = ["--nslots=1"]
    for name, flag in (("queue", "--queue"), ("bank", "--bank"), ("constraints", "--requires")):
        if value := options.word(name):
            words.append(f"{flag}={value}")
    if site.walltime is not None:
        words.append(f"--time-limit={int(site.walltime.total_seconds())}s")
    lines = options.directives("#flux:")
    sweep = read_sweep(options)
    options.end()
    return BatchProvider(Flux(tuple(words), lines), site, sweep)


def _sized(size: Resources | None) -> list[str]:
    if size is None:
        return []
    words = [f"--cores-per-slot={-(-size.cpu // 1):.0f}"]
    return [*words, f"--gpus-per-slot={size.gpu}"] if size.gpu else words


def _listed(name: str, job: str, state_word: str, status: str, reason: str) -> Listed:
    word = status if state_word == "INACTIVE" else state_word
    state, note = STATES.get(word, ("ended" if state_word == "INACTIVE" else "running", f"Flux calls it {word}."))
    is_told = state == "pending" and reason.strip()
    return Listed(name, job, state, f"{note} {reason.strip()}".strip() if is_told else note)
