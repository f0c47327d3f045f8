"""Keep reader processes warm, give each call a limit, and replace a process that breaks it or crashes."""

import itertools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Reader = str | dict[str, Any]

MOST_ANSWER_BYTES = 16 * 1024**2
MOST_STDERR_LINES = 50


class ReadError(Exception):
    """A file that was not read, for the reason `kind`.

    "refused": the file is to blame; "failed": the reader is; "crashed" and "timeout": its process is gone.
    """

    def __init__(self, message: str, kind: str, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.detail = detail


class Readers:
    """A few reader processes, started when first needed and shared by any number of threads."""

    def __init__(
        self, workers: int = 1, timeout: timedelta = timedelta(seconds=60), memory_bytes: int | None = None
    ) -> None:
        self._timeout = timeout
        self._memory_bytes = memory_bytes
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)
        self._living: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False
        # Linux sees a process's parent in the thread that started it, and a worker dies with its parent: so one
        # thread that lasts starts them all.
        self._starter = ThreadPoolExecutor(1, "armillary-readers")

    def read(self, reader: Reader, path: Path, timeout: timedelta | None = None) -> dict[str, Any]:
        """The metadata of a file as a partial STAC item."""
        what = f"metadata reader {_name(reader)}"
        metadata: dict[str, Any] = self._call({"read": reader, "path": str(path)}, what, path, timeout)["metadata"]
        return metadata

    def browse(self, function: str, path: Path, out: Path, timeout: timedelta | None = None) -> Path:
        """A picture of a file, written to `out`."""
        request = {"browse": function, "path": str(path), "out": str(out)}
        return Path(self._call(request, f"picture maker {function}", path, timeout)["browse"])

    def close(self) -> None:
        """Stop every process; a call that is under way fails."""
        with self._lock:
            self._closed = True
            living = list(self._living)
        for worker in living:
            self._stop(worker)
        self._starter.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, request: dict[str, Any], what: str, path: Path, timeout: timedelta | None) -> dict[str, Any]:
        limit = timeout or self._timeout
        worker = self._slots.get()
        usable = False
        try:
            if worker is None or not worker.is_alive():
                worker = self._replaced(worker)
            answer = worker.ask(request, limit)
            usable = True
        except _LateError:
            seconds = f"{limit.total_seconds():g} s"
            raise ReadError(f"{what} took longer than {seconds} on {path.name} and was stopped", "timeout") from None
        except _GoneError as gone:
            detail = worker.last_words() if worker else ""
            raise ReadError(f"{what} crashed on {path.name} ({gone})", "crashed", detail) from None
        finally:
            # Also after an interrupt: the answer still to come would be taken for that of the next call.
            if not usable:
                self._stop(worker)
            self._slots.put(worker if usable else None)
        if "error" in answer:
            raise ReadError(**answer["error"])
        return answer

    def _replaced(self, worker: "_Worker | None") -> "_Worker":
        self._stop(worker)
        with self._lock:
            if self._closed:
                raise ReadError("the readers are closed", "failed")
            fresh = self._starter.submit(_Worker, self._memory_bytes).result()
            self._living.add(fresh)
        return fresh

    def _stop(self, worker: "_Worker | None") -> None:
        if worker is not None:
            worker.kill()
            with self._lock:
                self._living.discard(worker)


class _LateError(Exception):
    pass


class _GoneError(Exception):
    pass


class _Worker:
    """One process and the line protocol spoken with it."""

    def __init__(self, memory_bytes: int | None) -> None:
        limit = [] if memory_bytes is None else ["--memory-bytes", str(memory_bytes)]
        # -P: the folder that we happen to stand in is no place to import modules from.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "armillary_formats.worker", *limit],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "GDAL_NUM_THREADS": "1"},
            start_new_session=True,
            bufsize=0,
        )
        self._ending = threading.Lock()
        self._speaking = threading.Lock()
        self._calls = itertools.count(1)
        self._buffer = bytearray()
        self._stderr: deque[bytes] = deque(maxlen=MOST_STDERR_LINES)
        self._drain = threading.Thread(target=self._keep_stderr, daemon=True, name="armillary-reader-stderr")
        self._drain.start()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], limit: timedelta) -> dict[str, Any]:
        deadline = time.monotonic() + limit.total_seconds()
        call = next(self._calls)
        with self._speaking:
            if self._process.stdin is None or self._process.stdin.closed:
                raise _GoneError("it was stopped")
            self._send(json.dumps({"call": call, **request}).encode() + b"\n", deadline)
            line = self._line(deadline)
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise _GoneError("its answer was not JSON") from error
        if not isinstance(answer, dict) or answer.get("call") != call:
            raise _GoneError("its answer was for another call")
        return answer

    def kill(self) -> None:
        """End the process and the commands it started, and collect it."""
        with self._ending:
            if self._process.poll() is None:
                # The process leads its own session, so its group is it and its children, and nobody else.
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._drain.join(timeout=1)
        # Not under a call of another thread: the number of its pipe may be another file's by the time it reads. It ends now
        # that the process is gone, and comes here itself.
        if self._speaking.acquire(timeout=1):
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._speaking.release()

    def last_words(self) -> str:
        self._drain.join(timeout=0.5)
        return b"".join(self._stderr).decode(errors="replace")

    def _send(self, line: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        while line:
            self._wait(deadline, writing=descriptor)
            try:
                line = line[os.write(descriptor, line[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                raise _GoneError(self._reason()) from None

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while (end := self._buffer.find(b"\n")) < 0:
            self._wait(deadline, reading=descriptor)
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise _GoneError(self._reason())
            self._buffer += chunk
            if len(self._buffer) > MOST_ANSWER_BYTES:
                raise _GoneError(f"its answer was longer than {MOST_ANSWER_BYTES} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _wait(self, deadline: float, reading: int | None = None, writing: int | None = None) -> None:
        poll = select.poll()  # not select(), which fails on descriptors above 1023
        if reading is not None:
            poll.register(reading, select.POLLIN)
        if writing is not None:
            poll.register(writing, select.POLLOUT)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise _LateError

    def _reason(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if code >= 0:
            return f"it exited with code {code}"
        return signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"

    def _keep_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while chunk := stream.readline(4096):
                self._stderr.append(chunk)


def _name(reader: Reader) -> str:
    return reader if isinstance(reader, str) else str((reader.get("command") or ["?"])[0])
