"""What is said of an ended attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from armillary.base.clock import iso, utc_now
from armillary.runner.curve import Curve
from armillary.runner.lease import Lease
from armillary.runner.verdict import Verdict
from armillary.runner.watch import Ended

Json = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A product on its way: the output that it is, and the commit that publishes it."""

    output: str
    commit: Json


@dataclass
class Timing:
    """How long each part took."""

    stage_in_seconds: float = 0.0
    run_seconds: float = 0.0
    stage_out_seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """One attempt's end."""

    lease: Lease
    verdict: Verdict
    ended: Ended | None = None
    timing: Timing = field(default_factory=Timing)
    transfers: Sequence[Json] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    result: Json | None = None
    outputs: Sequence[Made] = ()
    began_at: datetime = field(default_factory=utc_now)
    curve: Curve = field(default_factory=Curve)

    def wire(self) -> Json:
        """As the server reads it."""
        verdict, ended = self.verdict, self.ended
        started, over = (ended.started_at, ended.ended_at) if ended else (self.began_at, utc_now())
        said: Json = {
            **self.lease.wire,
            "outcome": verdict.outcome,
            "started_at": iso(started),
            "ended_at": iso(over),
            "usage": self._usage(),
            "outputs": [{"output": made.output, "commit": made.commit} for made in self.outputs],
        }
        given = {
            "error_class": verdict.error_class.value if verdict.error_class else None,
            "reason": verdict.reason or None,
            "remedy": verdict.remedy or None,
            "exit_code": ended.code if ended else None,
            "result": self.result,
        }
        return said | {name: value for name, value in given.items() if value is not None}

    def _usage(self) -> Json:
        usage: Json = {
            "stage_in_seconds": round(self.timing.stage_in_seconds, 6),
            "run_seconds": round(self.timing.run_seconds, 6),
            "stage_out_seconds": round(self.timing.stage_out_seconds, 6),
            "transfers": list(self.transfers),
        }
        if self.environment:
            usage["environment"] = dict(self.environment)
        if self.ended:
            used = self.ended.usage
            usage |= {
                "cpu_seconds": round(used.cpu_seconds, 6),
                "peak_memory_bytes": used.peak_memory_bytes,
                "read_bytes": used.read_bytes,
                "written_bytes": used.written_bytes,
                "disk_bytes": used.disk_bytes,
            }
            if curve := self.curve.wire():
                usage["curve"] = curve
        return usage
