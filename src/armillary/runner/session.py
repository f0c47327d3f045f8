"""A worker's line to its server: registered once, and anew if the server no longer knows it."""

import base64
import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from armillary.base.crash import crash_point
from armillary.base.errors import ArmillaryError, NotAuthenticated, NotFound, TransientError
from armillary.client.client import PROTOCOL, Client
from armillary.client.upload import GranuleSource, Uploader
from armillary.runner.batch import Batch
from armillary.runner.checkpoint import Packed
from armillary.runner.fetch import Fetcher
from armillary.runner.keep import Folder
from armillary.runner.lease import Lease, Object
from armillary.runner.log import Log
from armillary.runner.report import Report
from armillary.runner.slots import Capacity

T = TypeVar("T")
Json = dict[str, Any]

HELD_SECONDS = 50.0
BUSY_HELD_SECONDS = 10.0  # a server that hears of a job's end answers at once; another one does not know
TRANSFER_PATIENCE_SECONDS = 1800.0  # a server that is away does not end what runs
MAX_REPORTS = 100
PACE_SECONDS = 0.025  # between calls that carry what ended meanwhile
MAX_GRANULES = 100
MAX_LOG_BYTES = 2 << 20
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 2.0


class GoneError(Exception):
    """The server no longer knows this worker: its leases are lost."""


@dataclass(frozen=True)
class Registration:
    """What a worker tells of itself."""

    pool: str
    capacity: Capacity
    start: str | None = None
    ends_in_seconds: float | None = None

    def wire(self) -> Json:
        """As the server reads it."""
        said: Json = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "protocol": PROTOCOL,
            "capacity": self.capacity.wire(),
        }
        if self.start:
            said["start"] = self.start
        if self.ends_in_seconds is not None:
            said["ends_in_seconds"] = self.ends_in_seconds
        return said


class Session:
    """One registration; calls end with `GoneError` when it no longer holds."""

    def __init__(self, url: str, answer: Json) -> None:
        self.worker = str(answer["worker"])
        self.heartbeat_seconds = float(answer["heartbeat_seconds"])
        self.is_gone = threading.Event()
        self._calls = Client(url, answer["token"], patience_seconds=0)
        self._bytes = Client(url, answer["token"], patience_seconds=TRANSFER_PATIENCE_SECONDS)
        self._uploader = Uploader(self._bytes)
        self._logs = threading.Lock()
        self.fetch = Fetcher(self._bytes)
        self.send = Batch(self._send, MAX_GRANULES, PACE_SECONDS)
        self.finish = Batch(self._finish, MAX_REPORTS, PACE_SECONDS)

    def close(self) -> None:
        """Let go of the connections."""
        self._uploader.close()
        self._calls.close()
        self._bytes.close()

    def lease(self, free: Json, count: int, *, in_turn: bool, is_busy: bool) -> Json:
        """Jobs to run; held until there are some, and not for long where what is free may soon be more."""
        seconds = spread(BUSY_HELD_SECONDS if is_busy else HELD_SECONDS)
        return self._ask(lambda: self._calls.lease(self.worker, free, count, seconds, in_turn=in_turn))

    def heartbeat(self, running: Sequence[Json], leaving: str = "", machine: Json | None = None) -> Json:
        """Say what runs, why this worker takes nothing new if it goes by itself, and how its machine is."""
        answer = self._ask(lambda: self._calls.heartbeat(self.worker, running, leaving, machine))
        self.heartbeat_seconds = float(answer.get("heartbeat_seconds", self.heartbeat_seconds))
        return answer

    def commands(self) -> Json:
        """Hear at once what shall stop."""
        return self._ask(lambda: self._calls.commands(self.worker, spread(HELD_SECONDS)))

    def leave(self, reason: str) -> None:
        """Say goodbye; a server that does not hear it will notice."""
        with contextlib.suppress(ArmillaryError, GoneError):
            self._ask(lambda: self._calls.leave(self.worker, reason))

    def send_logs(self, logs: Sequence[tuple[Lease, Log]]) -> None:
        """Send what jobs have printed; one call for all, and as many as that takes."""
        with self._logs:
            while chunks := _next_chunks(logs):
                crash_point("runner.before-log")
                self._ask(lambda chunks=chunks: self._calls.send_logs(self.worker, [wire for _, _, wire in chunks]))  # type: ignore[misc]
                for log, chunk, _ in chunks:
                    log.acknowledge(chunk)

    def save_checkpoint(self, lease: Lease, packed: Packed) -> None:
        """Keep a checkpoint for the next attempt."""
        self._bytes.put_checkpoint(self.worker, lease.job, lease.number, packed.file, packed.sha256)

    def keep_folder(self, lease: Lease, folder: Folder) -> None:
        """Keep what an attempt left; not for long where the server is away, as its report waits behind this."""
        self._calls.put_folder(self.worker, lease.job, lease.number, folder.size_bytes, folder.chunks)

    def send_many(self, granules: Sequence[GranuleSource]) -> list[Json | ArmillaryError]:
        """Send the products of one job."""
        return self._uploader.send(granules)

    def _send(self, granules: Sequence[GranuleSource]) -> Sequence[Json | ArmillaryError]:
        return self._uploader.send(granules)

    def _finish(self, ended: Sequence[tuple[Report, Log]]) -> Sequence[Json]:
        """Logs first, then the reports; said again until the server has answered."""
        patience = Patience()
        while True:
            try:
                self.send_logs([(report.lease, log) for report, log in ended])
                crash_point("runner.before-finish")
                results = self._ask(lambda: self._calls.finish(self.worker, [report.wire() for report, _ in ended]))
                crash_point("runner.after-finish")
                return results
            except TransientError:
                patience.wait(self.is_gone)
            except GoneError:
                return [{"outcome": "refused", "reason": "This worker is gone."} for _ in ended]

    def _ask(self, call: Callable[[], T]) -> T:
        if self.is_gone.is_set():
            raise GoneError
        try:
            return call()
        except (NotFound, NotAuthenticated) as error:
            self.is_gone.set()
            raise GoneError from error


def spread(seconds: float) -> float:
    """Up to a quarter less: thousands of workers that began at once, as after a restart, must not ask at once for ever."""
    return seconds * random.uniform(0.75, 1.0)


class Patience:
    """Longer and longer waits, with jitter, while a server is away."""

    def __init__(self) -> None:
        self._seconds = FIRST_WAIT_SECONDS

    def wait(self, until: threading.Event) -> None:
        """Wait a while, or until something happens."""
        until.wait(self._seconds * random.uniform(0.5, 1.5))
        self._seconds = min(2 * self._seconds, LONGEST_WAIT_SECONDS)


def register(url: str, token: str, registration: Registration, stop: threading.Event) -> Session | None:
    """Become a worker, however long the server takes to be there; None if `stop` was set first."""
    patience = Patience()
    with Client(url, token, patience_seconds=0) as client:
        while not stop.is_set():
            try:
                return Session(url, client.register_worker(registration.pool, registration.wire()))
            except TransientError:
                patience.wait(stop)
    return None


def _next_chunks(logs: Sequence[tuple[Lease, Log]]) -> list[tuple[Log, Any, Json]]:
    chunks, size = [], 0
    for lease, log in logs:
        chunk = log.pending()
        if chunk is None:
            continue
        data = base64.b64encode(chunk.data).decode()
        chunks.append((log, chunk, {**lease.wire, "position": chunk.position, "data": data}))
        size += len(data)
        if size > MAX_LOG_BYTES:
            break
    return chunks


def fetch_through(session: Callable[[], Session]) -> Callable[[Object, Any], str]:
    """Fetch through whatever session holds just then."""
    return lambda wanted, to: session().fetch(wanted, to)
