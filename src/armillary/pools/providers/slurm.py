"""Workers as Slurm jobs: `sbatch` of pilots, several in one array; `squeue` and `sacct`, one call a sweep; `scancel`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from armillary.algorithms.algorithm import Resources
from armillary.pools.batch import BatchProvider, Listed, read_sweep
from armillary.pools.launch import read_site
from armillary.pools.options import Options
from armillary.pools.provider import PoolProvider, StartState

# Every state of squeue(1) and sacct(1): what it means for a worker, and what is said of it.
STATES: dict[str, tuple[StartState, str]] = {
    "PENDING": ("pending", ""),
    "CONFIGURING": ("pending", "Its nodes are being made ready."),
    "REQUEUED": ("pending", "It was put back into the queue."),
    "REQUEUE_FED": ("pending", "It was put back into the queue."),
    "REQUEUE_HOLD": ("pending", "It was put back into the queue and is held."),
    "RESV_DEL_HOLD": ("pending", "It is held: its reservation was deleted."),
    "SPECIAL_EXIT": ("pending", "It was put back into the queue after a special exit."),
    "RUNNING": ("running", ""),
    "RESIZING": ("running", ""),
    "SIGNALING": ("running", ""),
    "STAGE_OUT": ("running", ""),
    "STOPPED": ("running", "It is stopped by a signal."),
    "SUSPENDED": ("running", "It is suspended."),
    "COMPLETING": ("ending", "It is ending."),
    "COMPLETED": ("ended", "Its Slurm job has ended."),
    "BOOT_FAIL": ("ended", "Its node could not be started."),
    "CANCELLED": ("ended", "Its Slurm job was cancelled."),
    "DEADLINE": ("ended", "Its Slurm job could not end before its deadline."),
    "FAILED": ("ended", "Its Slurm job failed; its log says why."),
    "NODE_FAIL": ("ended", "Its node failed."),
    "OUT_OF_MEMORY": ("ended", "Its Slurm job ran out of memory."),
    "PREEMPTED": ("ended", "Its Slurm job was preempted by another."),
    "REVOKED": ("ended", "Its Slurm job went to another cluster."),
    "TIMEOUT": ("ended", "Its Slurm job reached its time limit."),
}
# The usual reasons of a pending job, in words; others are shown as Slurm names them.
REASONS = {
    "Priority": "jobs of higher priority are before it",
    "Resources": "it waits for resources to be free",
    "Dependency": "it waits for another job",
    "QOSMaxJobsPerUserLimit": "the user has as many jobs as the QOS allows",
    "AssocGrpCpuLimit": "the account uses as many CPUs as it may",
    "PartitionTimeLimit": "its walltime is longer than the partition allows",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "ReqNodeNotAvail": "a node that it needs is not available",
    "JobHeldUser": "it is held by its user",
    "JobHeldAdmin": "it is held by an administrator",
    "BeginTime": "its begin is in the future",
    "Licenses": "it waits for a licence",
}
LIST = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%j|%F|%K|%T|%r"]
ACCOUNTS = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobName,JobID,State,Reason"]


@dataclass(frozen=True)
class Slurm:
    """Slurm's language. Written for 20.11 and newer."""

    options: tuple[str, ...]  # of sbatch
    lines: tuple[str, ...]
    largest_array: int
    shell_index = "${SLURM_ARRAY_TASK_ID:-0}"

    def submit(self, name: str, log: str, count: int, size: Resources | None) -> tuple[list[str], list[str]]:
        """A script that is not run twice: what its worker held goes elsewhere, to a worker that the pool knows."""
        words = [
            "sbatch",
            "--parsable",
            f"--job-name={name}",
            "--no-requeue",
            *self.options,
            *_sized(size),
        ]
        if count == 1:
            return [*words, f"--output={log}.log"], list(self.lines)
        return [*words, f"--array=0-{count - 1}", f"--output={log}-%a.log"], list(self.lines)

    def submitted(self, output: str, count: int) -> list[str]:
        """`1234`, or `1234;cluster`."""
        job = output.strip().splitlines()[-1].partition(";")[0]
        return [job] if count == 1 else [f"{job}_{index}" for index in range(count)]

    def ask(self) -> list[str]:
        """All jobs of this user, those of the last minutes included, in a format of our own."""
        return LIST

    def listed(self, output: str) -> list[Listed]:
        """Name, job, place in the array (N/A if none), state and reason."""
        return [_listed(*line.split("|", 4)) for line in output.splitlines() if line.count("|") >= 4]

    def ended(self, references: Sequence[str]) -> list[str]:
        """What accounting knows."""
        return [*ACCOUNTS, f"--jobs={','.join(references)}"]

    def remembered(self, output: str) -> list[Listed]:
        """Name, `job` or `job_place`, state (`CANCELLED by 1000`) and reason."""
        lines = [line.split("|") for line in output.splitlines() if line.count("|") == 3]
        return [
            _listed(name, job.partition("_")[0], job.partition("_")[2] or "N/A", state.partition(" ")[0], reason)
            for name, job, state, reason in lines
        ]

    def cancel(self, references: Sequence[str], *, force: bool) -> list[list[str]]:
        """The runner alone hears SIGTERM: it stops what it runs in good order, which Slurm would not."""
        if force:
            # To what is pending, a signal would be the end of its whole array.
            return [
                ["scancel", "--quiet", "--state=RUNNING", "--full", "--signal=KILL", *references],
                ["scancel", "--quiet", *references],
            ]
        return [
            ["scancel", "--quiet", "--state=PENDING", *references],
            ["scancel", "--quiet", "--batch", "--signal=TERM", *references],
        ]


def make(document: object, folder: Path) -> PoolProvider:
    """The provider that a pool's `slurm:` describes."""
    options = Options(document, "slurm")
    site = read_site(options, folder)
    slurm = Slurm(
        tuple(_words(options, site.walltime)), options.directives("#SBATCH"), options.whole("per_array", 50, 1, 1000)
    )
    sweep = read_sweep(options)
    options.end()
    return BatchProvider(slurm, site, sweep)


def _words(options: Options, walltime: timedelta | None) -> list[str]:
    words = ["--nodes=1", "--ntasks=1"]
    names = {name: name for name in ("partition", "account", "qos", "reservation", "clusters")} | {
        "constraints": "constraint"
    }
    words += [f"--{flag}={value}" for name, flag in names.items() if (value := options.word(name))]
    if walltime is not None:
        # Rounded up: Slurm counts minutes. The worker itself goes by the walltime.
        words.append(f"--time={-(-int(walltime.total_seconds()) // 60)}")
    return words


def _sized(size: Resources | None) -> list[str]:
    if size is None:
        return []
    words = [f"--cpus-per-task={-(-size.cpu // 1):.0f}", f"--mem={-(-size.memory_bytes // 2**20)}M"]
    return [*words, f"--gres=gpu:{size.gpu}"] if size.gpu else words


def _listed(name: str, job: str, place: str, word: str, reason: str) -> Listed:
    state, note = STATES.get(word, ("running", f"Slurm calls it {word}."))
    if state == "pending" and reason not in ("None", ""):
        note = f"{note} Pending: {REASONS.get(reason, reason)} ({reason}).".strip()
    is_array = place.isdigit()
    return Listed(name, f"{job}_{place}" if is_array else job, state, note, int(place) if is_array else 0)
