"""Tell how far a job is, a line of progress.jsonl at a time."""

import json
import time
from pathlib import Path


class Progress:
    """Counts steps of one size; `pace_seconds` spreads them over at least that long."""

    def __init__(self, folder: Path, steps: int, pace_seconds: float = 0.0) -> None:
        self._file = folder / "progress.jsonl"
        self._steps = max(1, steps)
        self._pause_seconds = pace_seconds / self._steps
        self._done = 0
        self._last_percent = -1

    def step(self, stage: str, message: str) -> None:
        """One step is done; a line is written for each whole percent."""
        self._done += 1
        if self._pause_seconds:
            time.sleep(self._pause_seconds)
        percent = 100 * self._done // self._steps
        if percent > self._last_percent:
            self._last_percent = percent
            self.say(min(1.0, self._done / self._steps), stage, message)

    def say(self, fraction: float, stage: str, message: str) -> None:
        """Write one line, whole, so that a reader never sees half of it."""
        line = json.dumps({"fraction": round(fraction, 4), "stage": stage, "message": message})
        with self._file.open("a") as out:
            out.write(line + "\n")
