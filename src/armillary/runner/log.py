"""What a job prints: its beginning goes out live, then only the end is kept, so that no job can fill a disk with words."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

HEAD_BYTES = 4 << 20
TAIL_BYTES = 1 << 20
CHUNK_BYTES = 256 << 10


@dataclass(frozen=True)
class Chunk:
    """A piece of the log as it will be kept."""

    position: int
    data: bytes


class Log:
    """One job's log; its process's thread writes, another sends."""

    def __init__(self, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._sent = 0  # bytes of the log as kept that have been acknowledged
        self._taken_in = 0  # bytes of the head so far
        self._tail = bytearray()
        self._dropped = 0
        self._last = bytearray()
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        """Take what the job printed."""
        with self._lock:
            self._last = (self._last + data)[-4096:]
            room = self._head_bytes - self._taken_in
            head, rest = data[:room], data[room:]
            self._unsent += head
            self._taken_in += len(head)
            self._tail += rest
            if len(self._tail) > 2 * self._tail_bytes:
                self._dropped += len(self._tail) - self._tail_bytes
                del self._tail[: -self._tail_bytes]
        self.on_write()

    def note(self, text: str) -> None:
        """Say something to whoever reads the log."""
        self.write(f"[armillary] {text}\n".encode())

    def close(self) -> None:
        """The job has ended: what was kept of the end follows the beginning."""
        with self._lock:
            excess = max(0, len(self._tail) - self._tail_bytes)
            self._dropped += excess
            del self._tail[:excess]
            if self._dropped:
                self._unsent += f"\n[armillary] {self._dropped} bytes are left out here\n".encode()
            self._unsent += self._tail
            self._tail.clear()

    def pending(self) -> Chunk | None:
        """The next piece to send."""
        with self._lock:
            return Chunk(self._sent, bytes(self._unsent[:CHUNK_BYTES])) if self._unsent else None

    def acknowledge(self, chunk: Chunk) -> None:
        """A piece has arrived."""
        with self._lock:
            del self._unsent[: len(chunk.data)]
            self._sent += len(chunk.data)

    def last_words(self) -> str:
        """The last line that says something, for the reason of a failure."""
        with self._lock:
            lines = self._last.decode(errors="replace").splitlines()
        said = (line.strip() for line in reversed(lines) if line.strip() and not line.startswith("[armillary]"))
        return "".join(letter if letter.isprintable() else "�" for letter in next(said, ""))[:500]

    def tail_text(self) -> str:
        """The last few kilobytes, to look for signs of what went wrong."""
        with self._lock:
            return self._last.decode(errors="replace")
