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
        answer: Future[A] = Future()
        with self._lock:
            self._waiting.append((question, answer))
            leads = not self._is_under_way
            self._is_under_way = True
        if leads:
            self._work(answer)
        return answer.result()

    def _work(self, own: "Future[A]") -> None:
        """Send batches until nothing waits; the thread that found nobody at work does it for all."""
        while True:
            if (early := self._next_at - time.monotonic()) > 0:
                time.sleep(early)
            with self._lock:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                if not batch:
                    self._is_under_way = False
                    return
                if own.done():
                    # This thread has its answer and a job to go on with: whoever waits first takes over.
                    self._waiting = batch + self._waiting
                    threading.Thread(target=self._work, args=(batch[0][1],), daemon=True).start()
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
