"""What a job used over time, as a curve of at most 300 points however long it runs."""

import time
from dataclasses import dataclass, field

from armillary.runner.runtime import Usage

MAX_POINTS = 300
COLUMNS = ("seconds", "cpu_seconds", "memory_bytes", "disk_bytes", "read_bytes", "written_bytes")
Point = tuple[float, float, int, int, int, int]


@dataclass
class Curve:
    """Grows with each sample; when it is full, every second point goes and samples count half as often."""

    points: list[Point] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    every: int = 1
    _seen: int = 0

    def add(self, usage: Usage) -> None:
        """Take a sample, if it is its turn."""
        self._seen += 1
        if self._seen % self.every:
            return
        seconds = round(time.monotonic() - self.begun, 2)
        self.points.append(
            (seconds, round(usage.cpu_seconds, 2), usage.memory_bytes, usage.disk_bytes, usage.read_bytes,
             usage.written_bytes)
        )  # fmt: skip
        if len(self.points) >= MAX_POINTS:
            self.points = self.points[1::2]
            self.every *= 2

    def wire(self) -> dict[str, list[float | int]]:
        """By column; nothing for a job too short to have one."""
        if len(self.points) < 2:
            return {}
        return {name: [point[place] for point in self.points] for place, name in enumerate(COLUMNS)}
