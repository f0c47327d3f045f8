"""A line between workers and their server that a test cuts, slows, holds and repeats: a small TCP proxy of our own."""

import contextlib
import random
import re
import socket
import threading
import time
from collections import deque

BLOCK_BYTES = 1 << 16
REPORT = re.compile(rb"POST \S*/api/workers/[^/ ]+/finish ")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
KEPT_REPORTS = 200


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Proxy:
    """Passes bytes on to `port` of this host, as well as its switches say; `url` is what clients are told."""

    def __init__(self, port: int) -> None:
        self.port = port  # of the server behind it
        self.delay_seconds = 0.0  # before each block
        self.is_refusing = False  # connections are closed at once
        self.is_deaf = False  # requests arrive, answers do not
        self.swallows_reports = False  # reports of ended jobs do not arrive; they are kept all the same
        self.reports: deque[bytes] = deque(maxlen=KEPT_REPORTS)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Close every connection, whatever it is in the middle of."""
        with self._lock:
            cut, self._open = self._open, set()
        for end in cut:
            _close(end)

    def replay(self, chance: random.Random, count: int = 3) -> int:
        """Deliver reports again that passed before, in any order; returns how many."""
        with self._lock:
            again = chance.sample(list(self.reports), min(count, len(self.reports)))
        for report in again:
            self.deliver(report)
        return len(again)

    def deliver(self, report: bytes) -> bytes:
        """Send one to the server; its answer, or nothing if the server is away."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
            line.sendall(report)
            return line.recv(BLOCK_BYTES)
        return b""

    def close(self) -> None:
        """Stop."""
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self.is_refusing:
                raise OSError("refusing")
            server = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        except OSError:
            _close(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()
        self._pump(client, server, True)

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        """One direction, to its end; then both are closed, as either side would."""
        requests = _Requests()
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                if is_request and (found := requests.feed(block)):
                    with self._lock:
                        self.reports.extend(found)
                if self.is_deaf and not is_request:
                    break
                if self.swallows_reports and is_request and requests.is_in_report:
                    break
                sink.sendall(block)
        for end in (source, sink):
            _close(end)
        with self._lock:
            self._open -= {source, sink}


class _Requests:
    """Finds whole reports in what a client sends over one connection."""

    def __init__(self) -> None:
        self._held = b""
        self.is_in_report = False
        self._is_lost = False  # bodies without a length: nothing more is looked for

    def feed(self, block: bytes) -> list[bytes]:
        found: list[bytes] = []
        if self._is_lost:
            return found
        self._held += block
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[: end + 4]
            length = LENGTH.search(head)
            if length is None and b"chunked" in head.lower():
                self._is_lost, self._held = True, b""
                break
            size = len(head) + (int(length[1]) if length else 0)
            self.is_in_report = REPORT.match(head) is not None
            if len(self._held) < size:
                break
            if self.is_in_report:
                found.append(self._held[:size])
            self._held = self._held[size:]
        return found


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
