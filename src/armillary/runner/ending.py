"""When a worker is ended by others: at its walltime, or after a notice. It takes no more than it can finish before."""

import math
import time
from collections.abc import Callable


class Ending:
    """The end as it is known; it only ever comes nearer."""

    def __init__(
        self, seconds: float | None, reserve_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._at = math.inf if seconds is None else clock() + seconds
        self._reserve = reserve_seconds  # to stop a job, to save its checkpoint, and to say goodbye
        self.reason = "Its walltime ends."

    def come(self, seconds: float, reason: str) -> None:
        """It comes in so many seconds, if it was not to come sooner."""
        if self._clock() + seconds < self._at:
            self._at, self.reason = self._clock() + seconds, reason

    @property
    def seconds_left(self) -> float:
        """For jobs: until they would have to stop."""
        return max(0.0, self._at - self._clock() - self._reserve)

    def wire(self) -> dict[str, float]:
        """As the server reads it; nothing if nobody ends the worker."""
        return {} if math.isinf(self._at) else {"seconds_left": round(self.seconds_left, 1)}
