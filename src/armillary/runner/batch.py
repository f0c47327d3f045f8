"""Let calls that are made at the same time travel together."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batch(Generic[Q, A]):
    """Turns a call for many into a call for one: whatever comes while a batch is under way makes up the next."""

    def __init__(self, call: Callable[[Sequence[Q]], Sequence[A]], limit: int, pace_seconds: float = 0.0) -> None:
        """`pace_seconds`: a call waits this long after the last one, so that many small ones become few."""
        self._call = call
        self._limit = limit
        self._pace_seconds = pace_seconds
        self._next_at = 0.0
        self._lock = threading.Lock()
        self._waiting: list[tuple[Q, Future[A]]] = []
        self._is_under_way = False

    def __call__(self, question: Q) -> A:
        """Ask, and wait for the answer."""
        return self.later(question).result()

    def later(self, question: Q) -> "Future[A]":
        """Ask, and go on."""
        answer: Future[A] = Future()
        with self._lock:
            self._waiting.append((question, answer))
            begins = not self._is_under_way
            self._is_under_way = True
        if begins:
            threading.Thread(target=self._work, name="batch", daemon=True).start()
        return answer

    def _work(self) -> None:
        """Send batches until nothing waits."""
        while True:
            if (early := self._next_at - time.monotonic()) > 0:
                time.sleep(early)
            with self._lock:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                if not batch:
                    self._is_under_way = False
                    return
            self._next_at = time.monotonic() + self._pace_seconds
            self._send(batch)

    def _send(self, batch: "list[tuple[Q, Future[A]]]") -> None:
        try:
            answers = self._call([question for question, _ in batch])
        except BaseException as error:  # noqa: BLE001  (each who waits gets it, and raises it)
            for _, answer in batch:
                answer.set_exception(error)
            return
        for (_, answer), given in zip(batch, answers, strict=True):
            answer.set_result(given)
