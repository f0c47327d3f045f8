"""One job at a time does the runner's own short work; while it waits, for a process or for bytes, it is another's turn.

Python threads that all make system calls hand their one lock over at each of them: measured with jobs that do nothing,
two hundred switches between threads for each job, and a sixth of the jobs a second.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turn:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Let others have it while this job waits, or has much to do."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
