"""A worker: it takes leases as capacity allows, runs them side by side, and outlives outages of its server."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.clock import iso
from armillary.base.crash import crash_point
from armillary.base.errors import ArmillaryError, TransientError
from armillary.client.upload import GranuleSource
from armillary.runner import checkpoint, keep
from armillary.runner.cache import Cache
from armillary.runner.ending import Ending
from armillary.runner.environment import Environments
from armillary.runner.equipment import Equipment
from armillary.runner.family import Family
from armillary.runner.function import FunctionRuntime
from armillary.runner.jobfolder import JobFolders
from armillary.runner.lease import Key, Lease, read_lease
from armillary.runner.machine import Machine
from armillary.runner.notice import Source, watch
from armillary.runner.report import Report
from armillary.runner.run import Orders, Workplace, run
from armillary.runner.runtime import Why
from armillary.runner.session import GoneError, Patience, Registration, Session, fetch_through, register, spread
from armillary.runner.slots import Devices, Pace, Streak, Wish, wish
from armillary.runner.verdict import Verdict

Json = dict[str, Any]
log = logging.getLogger("armillary.runner")

LOG_SECONDS = 0.25
OBEYING_SECONDS = 0.5
NEWS_SECONDS = 1.0  # how soon progress is told, at most
TOLD_SECONDS = 0.5
STALE_SECONDS = 5.0  # a lease that was taken ahead and cannot start by then goes back


@dataclass(frozen=True)
class Options:
    """How a worker is to behave."""

    url: str
    token: str
    registration: Registration
    folder: Path
    cache_folder: Path
    cache_bytes: int
    equipment: Equipment
    devices: tuple[str, ...] = ()
    ends_in_seconds: float | None = None
    notice: tuple[Source, float] | None = None
    once: bool = False
    idle_exit_seconds: float | None = None
    drain_seconds: float = 10.0
    grace_seconds: float = 30.0
    checkpoint_seconds: float = 180.0


@dataclass
class Running:
    """A lease that is held: it waits, runs, or is being reported."""

    lease: Lease
    session: Session
    orders: Orders
    taken_at: float = field(default_factory=time.monotonic)
    occupies: bool = False
    told: Json | None = None


class Worker:
    """One runner's state; its threads meet under one lock."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._capacity = options.registration.capacity
        self._changed = threading.Condition()
        self._draining = threading.Event()
        self._is_leaving = threading.Event()
        self._is_told_to_hurry = False
        self._ending = Ending(options.ends_in_seconds, 2 * options.grace_seconds)
        self._leaving = ""  # why it goes by itself, for the server to know
        self._refusal: ArmillaryError | None = None
        self._news = threading.Event()
        self._printed = threading.Event()
        self._held: dict[Key, Running] = {}
        self._waiting: deque[Running] = deque()
        self._free = self._capacity
        self._devices = Devices(options.devices)
        self._streak = Streak()
        self._ends: deque[tuple[float, float]] = deque(maxlen=64)  # when a job ended, and how long it took
        self._taken = 0
        self._idle_since = time.monotonic()
        self._registering = threading.Lock()
        self._session: Session | None = None
        self._jobs = ThreadPoolExecutor(512, thread_name_prefix="job")
        self._workplace = self._make_workplace()
        self._machine = Machine(options.folder, self._workplace.cache.size_bytes)

    def run(self) -> None:
        """Work until drained; returns when every report has been heard."""
        self._session = register(self._options.url, self._options.token, self._options.registration, self._is_leaving)
        if self._session is None:
            return
        for loop in (self._lease, self._beat, self._listen, self._ship_logs):
            threading.Thread(target=self._forever, args=(loop,), name=loop.__name__, daemon=True).start()
        if self._options.notice:
            arguments = (*self._options.notice, self._hear_notice, self._is_leaving)
            threading.Thread(target=watch, args=arguments, name="notice", daemon=True).start()
        self._until_drained()
        self._functions.close()
        if self._refusal is not None:
            raise self._refusal
        if self._session is not None:
            self._session.leave(self._leaving or "It was drained.")

    def drain(self) -> None:
        """Take nothing new; what runs may end in a while, then it is asked to stop. A second call asks at once."""
        if self._draining.is_set():
            self._stop_all("preempt")
        self._draining.set()
        with self._changed:
            self._changed.notify_all()

    def terminate(self) -> None:
        """SIGTERM: drain, and let nothing run longer than `drain_seconds` more."""
        self._is_told_to_hurry = True
        self._leaving = self._leaving or "It was told to stop."
        self.drain()

    def _hear_notice(self, seconds: float) -> None:
        """This machine is taken away soon: take nothing new, and hand back in time what cannot end before."""
        log.warning("told that this machine ends", extra={"seconds": seconds})
        self._ending.come(seconds, f"Its machine is taken away: it was given {seconds:.0f} s.")
        self._leave()

    def _was_told(self) -> bool:
        """Whether SIGTERM came, to us as well as to a program of ours: which of us it reaches first is chance."""
        self._draining.wait(TOLD_SECONDS)
        return self._is_told_to_hurry

    def _leave(self) -> None:
        self._leaving = self._leaving or self._ending.reason
        if not self._draining.is_set():
            self.drain()
        self._news.set()

    # Leases ----------------------------------------------------------------------------------------------------

    def _lease(self, session: Session) -> None:
        """Ask for as much as there is room for."""
        with self._changed:
            self._return_stale()
            asked = self._wish()
            is_busy = bool(self._held)
            if asked is None:
                self._changed.wait(1.0)
                return
        free = asked.free.wire() | self._ending.wire()
        answer = session.lease(free, asked.count, in_turn=asked.in_turn, is_busy=is_busy)
        crash_point("runner.after-lease")
        if answer["drain"]:
            self.drain()
        for wire in answer["leases"]:
            self._take(wire, session)

    def _wish(self) -> Wish | None:
        if self._draining.is_set() or (self._options.once and self._taken):
            return None
        unreported = sum(1 for one in self._held.values() if not one.occupies) - len(self._waiting)
        asked = wish(
            self._capacity, self._free, len(self._waiting), unreported, self._pace(), fails=self._streak.is_long
        )
        if self._options.once:
            asked = replace(asked, count=min(1, asked.count))
        return None if asked.count == 0 else asked

    def _pace(self) -> Pace | None:
        if len(self._ends) < 8:
            return None
        seconds = sum(took for _, took in self._ends) / len(self._ends)
        return Pace(seconds, len(self._ends) / max(0.001, time.monotonic() - self._ends[0][0]))

    def _take(self, wire: Json, session: Session) -> None:
        try:
            lease = read_lease(wire)
        except (ArmillaryError, KeyError, TypeError, ValueError) as error:
            log.error("lease not understood", extra={"job": wire.get("job"), "error": str(error)})
            return  # it is not in our heartbeats, so it goes back
        running = Running(lease, session, Orders(on_change=self._news.set, was_told=self._was_told))
        running.orders.log.on_write = self._printed.set
        with self._changed:
            if self._options.once and self._taken:
                return
            self._taken += 1
            self._held[lease.key] = running
            self._waiting.append(running)
            self._start_what_fits()

    def _start_what_fits(self) -> None:
        while self._waiting and (self._free.fits(self._waiting[0].lease.limits) or not self._is_occupied()):
            running = self._waiting.popleft()
            running.occupies = True
            self._free = self._free.without(running.lease.limits)
            running.orders.devices = self._devices.take(running.lease.limits.gpu)
            running.orders.on_ended = partial(self._vacate, running)
            self._jobs.submit(self._work, running)

    def _is_occupied(self) -> bool:
        return any(one.occupies for one in self._held.values())

    def _vacate(self, running: Running) -> None:
        """Its program has ended: another may start while its products are sent."""
        with self._changed:
            if not running.occupies:
                return
            running.occupies = False
            self._devices.give_back(running.orders.devices)
            self._free = self._free.beside(running.lease.limits)
            now = time.monotonic()
            self._ends.append((now, now - running.taken_at))
            self._start_what_fits()
            self._wake()

    def _return_stale(self) -> None:
        """Leases that were taken ahead of jobs that turned out to be long, or that came as we drain."""
        now = time.monotonic()
        is_over = self._draining.is_set()
        for running in list(self._waiting):
            if is_over or running.orders.stop or now - running.taken_at > STALE_SECONDS:
                self._hand_back(running)

    def _hand_back(self, running: Running, why: str = "") -> None:
        """A lease that waits is reported as one that did not run, which nothing is counted for."""
        self._waiting.remove(running)
        running.orders.stop, running.orders.why = running.orders.stop or "preempt", why
        self._jobs.submit(self._work, running)

    def _follow(self, lease: Lease, verdict: Verdict) -> None:
        """Keep how jobs go here; what was taken ahead of a streak of failures would be its next victims."""
        with self._changed:
            self._streak = self._streak.after(lease.job, verdict)
            if self._streak.is_long:
                why = f"{len(self._streak.jobs)} jobs in a row had failed on its worker, which handed it back."
                for waiting in list(self._waiting):
                    self._hand_back(waiting, why)

    # One job ---------------------------------------------------------------------------------------------------

    def _work(self, running: Running) -> None:
        if running.orders.started_at is None:
            running.taken_at = time.monotonic()
        try:
            report = run(running.lease, self._workplace, running.orders)
        except Exception as error:  # a fault of the runner's own must reach the job's page, not only our log
            log.exception("attempt broke the runner", extra=running.lease.wire)
            reason = f"The runner failed: {type(error).__name__}: {error}"
            report = Report(running.lease, Verdict("failed", ErrorClass.INFRASTRUCTURE, reason))
        self._follow(running.lease, report.verdict)
        self._vacate(running)
        self._report(running, report)

    def _report(self, running: Running, report: Report) -> None:
        """Tell the server, without waiting for it."""
        if running.orders.stop == "gone":
            self._forget(running)
            return
        running.session.finish.later((report, running.orders.log)).add_done_callback(partial(self._heard, running))

    def _heard(self, running: Running, answer: "Future[Json]") -> None:
        try:
            result = answer.result()
            if result["outcome"] != "recorded":
                log.warning("report not recorded", extra={**running.lease.wire, "reason": result.get("reason")})
        finally:
            self._forget(running)

    def _forget(self, running: Running) -> None:
        with self._changed:
            self._held.pop(running.lease.key, None)
            self._idle_since = time.monotonic()
            self._wake()

    def _wake(self) -> None:
        """Let the loops look that have something to do now: to wake them at each job's end takes as long as a short job."""
        if not self._held or self._draining.is_set() or self._wish() is not None:
            self._changed.notify_all()

    # What is said and heard --------------------------------------------------------------------------------------

    def _beat(self, session: Session) -> None:
        """Say what runs: regularly, and soon after there is news."""
        due = time.monotonic() + spread(session.heartbeat_seconds)
        self._obey(session.heartbeat(self._beats(session), self._leaving, self._machine.news()), session)
        time.sleep(min(NEWS_SECONDS, session.heartbeat_seconds))
        self._news.wait(max(0.0, due - time.monotonic()))
        self._news.clear()

    def _beats(self, session: Session) -> list[Json]:
        with self._changed:
            held = [one for one in self._held.values() if one.session is session]
        beats = []
        for one in held:
            beat = dict(one.lease.wire)
            orders = one.orders
            if orders.started_at is not None:
                beat["started_at"] = iso(orders.started_at)
                beat["usage"] = {
                    "peak_memory_bytes": orders.usage.peak_memory_bytes,
                    "disk_bytes": orders.usage.disk_bytes,
                }
            if orders.progress is not None and orders.progress != one.told:
                beat["progress"] = one.told = orders.progress
            beats.append(beat)
        return beats

    def _listen(self, session: Session) -> None:
        """Hear commands at once."""
        answer = session.commands()
        self._obey(answer, session)
        if any(answer.values()):
            time.sleep(OBEYING_SECONDS)  # it says so again until it is done

    def _obey(self, answer: Json, session: Session) -> None:
        if answer.get("drain") and not self._draining.is_set():
            self.drain()
        with self._changed:
            for one in answer.get("stop", []):
                self._stop((one["job"], one["lease"]), one["how"], session)
            for one in answer.get("gone", []):
                self._stop((one["job"], one["lease"]), "gone", session)
            self._return_stale()

    def _stop(self, key: Key, why: Why, session: Session) -> None:
        running = self._held.get(key)
        if running is not None and running.session is session and running.orders.stop != "gone":
            running.orders.stop = why

    def _stop_all(self, why: Why) -> None:
        with self._changed:
            for running in self._held.values():
                running.orders.stop = running.orders.stop or why
            self._return_stale()

    def _ship_logs(self, _: Session) -> None:
        """Send what jobs print, a few times a second."""
        self._printed.wait()
        time.sleep(LOG_SECONDS)
        self._printed.clear()
        with self._changed:
            held = list(self._held.values())
        for session in {one.session for one in held if not one.session.is_gone.is_set()}:
            try:
                session.send_logs([(one.lease, one.orders.log) for one in held if one.session is session])
            except TransientError:
                self._printed.set()
                raise

    # Staying alive -----------------------------------------------------------------------------------------------

    def _forever(self, loop: Callable[[Session], None]) -> None:
        """Repeat one loop's step; wait out outages; register anew when the server has forgotten us."""
        patience = Patience()
        while not self._is_leaving.is_set():
            session = self._session
            if session is None:
                return
            try:
                loop(session)
                patience = Patience()
            except TransientError:
                patience.wait(self._is_leaving)
            except GoneError:
                self._register_anew(session)
            except ArmillaryError as error:
                log.error("server refused", extra={"call": loop.__name__, "error": str(error)})
                patience.wait(self._is_leaving)
            except Exception:  # a loop that ends would leave a worker that looks alive and is not
                log.exception("loop failed", extra={"call": loop.__name__})
                patience.wait(self._is_leaving)

    def _register_anew(self, lost: Session) -> None:
        with self._registering:
            if self._session is not lost:
                return
            log.warning("worker is gone; registering anew", extra={"worker": lost.worker})
            with self._changed:
                for running in self._held.values():
                    running.orders.stop = "gone"
                self._return_stale()
            try:
                self._session = register(
                    self._options.url, self._options.token, self._options.registration, self._is_leaving
                )
            except ArmillaryError as refusal:  # its token was revoked, or its pool is gone: nothing is left to do here
                log.error("not taken back", extra={"error": str(refusal)})
                self._refusal, self._session = refusal, None
                self._draining.set()

    def _until_drained(self) -> None:
        deadline = None
        while True:
            if self._ending.seconds_left <= self._options.drain_seconds:
                self._is_told_to_hurry = True
                self._leave()
            with self._changed:
                self._changed.wait(0.25 if self._draining.is_set() else 1.0)
                self._drain_if_done()
                if not self._draining.is_set():
                    continue
                self._return_stale()
                if not self._held:
                    self._is_leaving.set()
                    return
            deadline = deadline or time.monotonic() + self._options.drain_seconds
            if self._is_told_to_hurry and time.monotonic() > deadline:
                self._stop_all("preempt")

    def _drain_if_done(self) -> None:
        if self._held:
            return
        limit = self._options.idle_exit_seconds
        is_done = self._options.once and self._taken > 0
        is_idle = limit is not None and time.monotonic() - self._idle_since > limit
        if is_done or is_idle:
            self._draining.set()

    def _make_workplace(self) -> Workplace:
        options = self._options
        family = Family(is_whole=True)
        self._functions = FunctionRuntime(family, options.equipment.enforcement)
        cache = Cache(options.cache_folder, options.cache_bytes, fetch_through(self._current))
        return Workplace(
            folders=JobFolders(options.folder),
            cache=cache,
            environments=Environments(
                options.cache_folder, cache, family, fetch_image=options.equipment.fetch_image(family)
            ),
            runtimes={**options.equipment.runtimes(family), "function": self._functions},
            threads=ThreadPoolExecutor(8, thread_name_prefix="fetch"),
            sink=_ServerSink(self._session_of),
            grace_seconds=options.grace_seconds,
            checkpoint_seconds=options.checkpoint_seconds,
        )

    def _current(self) -> Session:
        assert self._session is not None
        return self._session

    def _session_of(self, lease: Lease) -> Session:
        with self._changed:
            return self._held[lease.key].session


class _ServerSink:
    """Products and checkpoints go to the server that gave the lease."""

    def __init__(self, session_of: Callable[[Lease], Session]) -> None:
        self._session_of = session_of

    def send(self, lease: Lease, granules: Sequence[GranuleSource]) -> list[Json | ArmillaryError]:
        """Send the bytes of all its products."""
        session = self._session_of(lease)
        if len(granules) == 1:
            return [session.send(granules[0])]
        return session.send_many(granules)

    def save_checkpoint(self, lease: Lease, packed: checkpoint.Packed) -> None:
        """Keep a checkpoint."""
        self._session_of(lease).save_checkpoint(lease, packed)

    def keep_folder(self, lease: Lease, folder: keep.Folder) -> None:
        """Keep what an attempt left."""
        self._session_of(lease).keep_folder(lease, folder)
