"""Take one job, run it, report it."""

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.crash import crash_point
from armillary.base.errors import ArmillaryError, Conflict, NotFound, UsageError
from armillary.client.upload import GranuleSource
from armillary.runner import checkpoint, keep, stage_out, watch
from armillary.runner.cache import Cache
from armillary.runner.environment import Environments
from armillary.runner.failure import AttemptError, StoppedError
from armillary.runner.gpu import visible
from armillary.runner.jobfolder import JobFolders
from armillary.runner.lease import Lease
from armillary.runner.log import Log
from armillary.runner.progress import Progress
from armillary.runner.report import Made, Report
from armillary.runner.runtime import Command, Prepared, Runtimes, Usage, Why, choose
from armillary.runner.stage_in import Staged, Waiting, stage_in
from armillary.runner.turn import Turn
from armillary.runner.verdict import Verdict, clean, read_error, read_small_json, verdict
from armillary.runner.watch import Ended, Watch

CHECKPOINT_SECONDS = 180.0
GRACE_SECONDS = 30.0
LONG_SECONDS = 1.0
# How a program ends that got the SIGTERM which a batch system sends to all processes of a job at once.
TOLD = (-signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGKILL, 15)
WITH_ITS_WORKER = Verdict("preempted", ErrorClass.PREEMPTED, "Its worker was told to stop, and it was with it.")
# An attempt that ended so may be followed by one that goes on from what it saved.
WORTH_SAVING = (ErrorClass.PREEMPTED, ErrorClass.TIMED_OUT, ErrorClass.OUT_OF_MEMORY, ErrorClass.INFRASTRUCTURE)


class Sink(Protocol):
    """Where products and checkpoints go: to the server, or to a folder when there is none."""

    def send(self, lease: Lease, granules: Sequence[GranuleSource], /) -> list[dict[str, Any] | ArmillaryError]:
        """Send the bytes; for each granule the commit that will publish it."""

    def save_checkpoint(self, lease: Lease, packed: checkpoint.Packed, /) -> None:
        """Keep a checkpoint for the next attempt."""

    def keep_folder(self, lease: Lease, folder: keep.Folder, /) -> None:
        """Keep what an attempt left, for people to look at."""


@dataclass(frozen=True)
class Workplace:
    """What all jobs of a runner share."""

    folders: JobFolders
    cache: Cache
    environments: Environments
    runtimes: Runtimes
    threads: Executor
    sink: Sink
    grace_seconds: float = GRACE_SECONDS
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    sample_seconds: float = watch.SAMPLE_SECONDS
    disk_sample_seconds: float = watch.DISK_SAMPLE_SECONDS
    keep_folders: bool = False
    turn: Turn = field(default_factory=Turn)


@dataclass
class Orders:
    """What others may ask of an attempt while it runs, and what they may know of it."""

    log: Log = field(default_factory=Log)
    stop: Why | None = None
    why: str = ""  # it is stopped before it runs, where that is more than to make room
    devices: tuple[str, ...] = ()  # the GPUs that it may use
    started_at: datetime | None = None
    usage: Usage = field(default_factory=Usage)
    progress: dict[str, Any] | None = None
    was_told: Callable[[], bool] = lambda: False  # whether the worker itself is told to stop
    on_change: Callable[[], None] = lambda: None
    on_ended: Callable[[], None] = lambda: None

    def check(self) -> None:
        """Raise if the attempt is to stop."""
        if self.stop is not None:
            raise StoppedError


def run(lease: Lease, workplace: Workplace, orders: Orders) -> Report:
    """One attempt from its lease to its report; whatever goes wrong is in the report."""
    with workplace.turn:
        return _run(_Attempt(lease, workplace, orders), orders)


def _run(attempt: "_Attempt", orders: Orders) -> Report:
    try:
        attempt.stage_in()
        attempt.run()
        with attempt.in_no_haste():
            attempt.stage_out()
    except AttemptError as failure:
        attempt.report(attempt.judge(failure))
    except StoppedError:
        is_cancelled = orders.stop == "cancel"
        attempt.report(
            Verdict("cancelled", ErrorClass.CANCELLED, "It was cancelled before it ran.")
            if is_cancelled
            else Verdict("preempted", ErrorClass.PREEMPTED, orders.why or "Its worker had to make room before it ran.")
        )
    finally:
        attempt.keep()
        with attempt.in_no_haste():
            attempt.clean_up()
    return attempt.made


class _Attempt:
    """The steps of one attempt, and what they hand on."""

    def __init__(self, lease: Lease, workplace: Workplace, orders: Orders) -> None:
        self.lease = lease
        self.workplace = workplace
        self.orders = orders
        self.folder = workplace.folders.parent / lease.name
        self.made = Report(lease, Verdict("failed", ErrorClass.INFRASTRUCTURE, "It was not run."))
        self.timing = self.made.timing
        self.staged: Staged | None = None
        self.saved: checkpoint.Signature = ()
        self.command: Command | None = None

    def stage_in(self) -> None:
        """The folder, the inputs, the environment, and what an earlier attempt saved."""
        begun = time.monotonic()
        self.orders.check()
        workplace = self.workplace
        self.runtime = choose(self.lease, workplace.runtimes)
        self.prepared = workplace.environments.known(self.lease) or self._prepare()
        waiting = Waiting(workplace.threads, workplace.turn.left, self.orders.check)
        self.staged = stage_in(self.lease, self.folder, workplace.folders, workplace.cache, waiting)
        if self.lease.checkpoint is not None:
            with workplace.turn.left():
                checkpoint.restore(self.lease.checkpoint, self.folder, workplace.cache)
            self.saved = checkpoint.signature(self.folder)
        self.timing.stage_in_seconds = time.monotonic() - begun
        self.made = replace(self.made, transfers=self.staged.transfers, environment=self.prepared.record)
        self.orders.check()

    def run(self) -> None:
        """Start the program and see it to its end."""
        runtime = self.runtime
        command = runtime.command(self.lease, self.prepared, self.folder, self.workplace.grace_seconds)
        command = self.command = replace(command, environment={**command.environment, **visible(self.orders.devices)})
        crash_point("runner.before-start")
        try:
            ended = watch.run(command, runtime, self.orders.log, self._watch())
        except OSError as error:
            raise AttemptError(
                ErrorClass.SCIENCE_ERROR,
                f"{command.arguments[0]!r} cannot be started: {error.strerror}.",
                "Check run.command, and that its environment provides the program.",
            ) from error
        finally:
            self.orders.log.close()
            self.orders.on_ended()
        self.timing.run_seconds = ended.run_seconds
        self.made = replace(self.made, ended=ended)
        self._look_back(ended)

    def stage_out(self) -> None:
        """Check the outputs and send their bytes; they become visible with the report."""
        if self.made.verdict.outcome != "succeeded":
            return
        begun = time.monotonic()
        granules = stage_out.outputs(self.lease, self.folder)
        crash_point("runner.before-upload")
        sent = self._send(granules) if granules else []
        problem = next((one for one in sent if isinstance(one, ArmillaryError)), None)
        if problem is not None:
            raise _refused(problem)
        outputs = [
            Made(granule.output or "", one)
            for granule, one in zip(granules, sent, strict=True)
            if not isinstance(one, ArmillaryError)
        ]
        self.timing.stage_out_seconds = time.monotonic() - begun
        result = read_small_json(self.folder / "result.json")
        self.made = replace(self.made, outputs=outputs, result=result if isinstance(result, dict) else None)
        crash_point("runner.after-upload")

    def in_no_haste(self) -> AbstractContextManager[None]:
        """What follows a job that took its time may take its time as well."""
        is_long = self.timing.run_seconds > LONG_SECONDS
        return self.workplace.turn.left() if is_long else nullcontext()

    def judge(self, failure: AttemptError) -> Verdict:
        """What a failure before or after the program means.

        A batch system's SIGTERM may reach a shell's child first: then the shell ends with 0 and its outputs are missing.
        """
        if failure.error_class is ErrorClass.SCIENCE_ERROR and self.made.ended is not None:
            with self.workplace.turn.left():
                if self.orders.was_told():
                    return WITH_ITS_WORKER
        outcome: Any = "preempted" if failure.error_class is ErrorClass.PREEMPTED else "failed"
        return Verdict(outcome, failure.error_class, failure.reason, failure.remedy)

    def report(self, judged: Verdict) -> None:
        """Say how it ended."""
        self.made = replace(self.made, verdict=judged, outputs=())
        if judged.outcome == "failed":
            self.orders.log.note(f"{judged.error_class}: {judged.reason}")

    def keep(self) -> None:
        """Send what is to be looked at later. To fail at it changes nothing of how the attempt ended."""
        outcome = self.made.verdict.outcome
        if self.orders.stop == "gone" or (outcome == "succeeded" and "keep" not in self.lease.spec):
            return
        with suppress(OSError, ArmillaryError), self.workplace.turn.left():
            is_built_in = self.command is not None and self.prepared.is_built_in
            folder = keep.collect(self.folder, self.lease.spec, outcome, self.command, is_built_in=is_built_in)
            if folder is not None:
                self.workplace.sink.keep_folder(self.lease, folder)
                self.orders.log.note(f"Its folder is kept: `armillary job files {self.lease.job}`.")

    def clean_up(self) -> None:
        """Leave nothing of it on the disk; a folder is handed on where nothing can be at work in it any more."""
        if self.workplace.keep_folders:
            return
        ended = self.made.ended
        if self.made.verdict.outcome == "succeeded" and ended is not None and not ended.strays:
            self.workplace.folders.hand_on(self.folder)
        else:
            self.workplace.folders.remove(self.folder)

    def _prepare(self) -> Prepared:
        with self.workplace.turn.left():
            return self.workplace.environments.prepare(self.lease, self._say)

    def _say(self, text: str) -> None:
        """Tell of work before the program's own, which may take minutes."""
        self.orders.log.note(text)
        self.orders.progress = {"stage": "environment", "message": text}
        self.orders.on_change()

    def _send(self, granules: Sequence[GranuleSource]) -> list[dict[str, Any] | ArmillaryError]:
        if self.timing.run_seconds > LONG_SECONDS:  # it is not our turn
            return self.workplace.sink.send(self.lease, granules)
        with self.workplace.turn.left():
            return self.workplace.sink.send(self.lease, granules)

    def _watch(self) -> Watch:
        progress = Progress(self.folder / "progress.jsonl")
        saver = _Saver(self, time.monotonic() + self.workplace.checkpoint_seconds)

        def started(at: datetime) -> None:
            self.orders.started_at = at
            self.made.curve.begun = time.monotonic()
            self.orders.on_change()

        def sampled(usage: Usage) -> None:
            self.orders.usage = usage
            self.made.curve.add(usage)
            if (news := progress.read()) is not None:
                self.orders.progress = news
                self.orders.on_change()
            saver.look()

        return Watch(
            lambda: self.orders.stop,
            started,
            sampled,
            self.workplace.sample_seconds,
            self.workplace.disk_sample_seconds,
            self.workplace.turn.left,
        )

    def _look_back(self, ended: Ended) -> None:
        """Judge the end, and whether the inputs are what they were."""
        last = Progress(self.folder / "progress.jsonl").read()
        self.orders.progress = last or self.orders.progress
        log = self.orders.log
        said = read_error(self.folder)
        judged = verdict(ended, self.lease.limits, said, log.last_words(), log.tail_text())
        if ended.strays:
            log.note(f"{ended.strays} processes that it left running were killed")
        if judged.outcome == "failed" and ended.code in TOLD and self.orders.was_told():
            judged = WITH_ITS_WORKER
        changed = self._changed_inputs()
        self.report(judged) if judged.outcome != "succeeded" else None
        self.made = replace(self.made, verdict=judged)
        if judged.error_class in WORTH_SAVING and ended.stopped != "gone":
            with self.workplace.turn.left():
                self.save_checkpoint()
        if changed and judged.outcome == "succeeded":
            raise AttemptError(
                ErrorClass.SCIENCE_ERROR,
                f"It modified its inputs: {', '.join(changed)}.",
                "Inputs are shared and read only: let the algorithm copy what it wants to change.",
            )

    def _changed_inputs(self) -> list[str]:
        """Inputs whose bytes were changed; they leave the cache, so that nobody else gets them."""
        assert self.staged is not None
        changed = [taken for taken in self.staged.inputs if self.workplace.cache.is_changed(taken)]
        return [str(taken.path.relative_to(self.folder)) for taken in changed]

    def save_checkpoint(self) -> None:
        """Send what the algorithm has saved, if it is new. To fail at it costs the next attempt time, no more."""
        with suppress(OSError, ArmillaryError):
            packed = checkpoint.pack(self.folder, self.saved)
            if packed is not None:
                self.workplace.sink.save_checkpoint(self.lease, packed)
                self.saved = packed.signature
                packed.file.unlink()


class _Saver:
    """Saves checkpoints now and then, in a thread of its own, so that limits are watched meanwhile."""

    def __init__(self, attempt: _Attempt, first_at: float) -> None:
        self._attempt = attempt
        self._next = first_at
        self._saving: Any = None

    def look(self) -> None:
        if time.monotonic() < self._next or (self._saving is not None and not self._saving.done()):
            return
        self._next = time.monotonic() + self._attempt.workplace.checkpoint_seconds
        self._saving = self._attempt.workplace.threads.submit(self._attempt.save_checkpoint)


def _refused(problem: ArmillaryError) -> AttemptError:
    """Outputs that the server would not take: a wrong product is the algorithm's fault, all else is not."""
    is_wrong = isinstance(problem, UsageError) or (isinstance(problem, Conflict) and "lease" not in problem.message)
    is_late = problem.field == "upload"  # its ticket expired
    error_class = ErrorClass.SCIENCE_ERROR if is_wrong and not is_late else ErrorClass.INFRASTRUCTURE
    if isinstance(problem, NotFound) and "collection" in problem.message.lower():
        error_class = ErrorClass.SCIENCE_ERROR
    return AttemptError(error_class, f"Its outputs were not taken: {clean(problem.message)}", problem.remedy)
