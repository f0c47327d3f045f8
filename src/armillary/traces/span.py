"""A span, its ids that follow from what it is about, and the JSON of OTLP. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCOPE = "armillary.traces"
INTERNAL, ERROR = 1, 2  # span kind and status code of OTLP
SAMPLED_BITS = 56  # of a trace's id, as in OpenTelemetry's probability sampling

Subject = tuple[str, ...]
"""What a span is about: ("job", id), ("granule", collection, id, revision) …"""


@dataclass(frozen=True)
class Span:
    """Something that took a while."""

    trace: UUID
    subject: Subject
    parent: Subject | None
    name: str
    start: datetime
    end: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    links: Sequence[tuple[UUID, Subject]] = ()

    @property
    def is_root(self) -> bool:
        """Whether its trace begins with it."""
        return self.parent is None


def span_id(subject: Subject) -> str:
    """The same for the same subject, whoever asks and whenever: parents need not be remembered."""
    return hashlib.sha256("\x1f".join(subject).encode()).hexdigest()[:16]


def is_sampled(trace: UUID, fraction: float) -> bool:
    """Whether a trace is among the fraction that is told of: all of its spans or none."""
    digest = hashlib.sha256(trace.bytes).digest()  # the ids hold a time, which is not random
    return int.from_bytes(digest[: SAMPLED_BITS // 8]) < fraction * (1 << SAMPLED_BITS)


def otlp(spans: Sequence[Span], resource: Mapping[str, Any]) -> dict[str, Any]:
    """An ExportTraceServiceRequest in OTLP's JSON encoding."""
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": SCOPE}, "spans": [_wire(span) for span in spans]}],
            }
        ]
    }


def _wire(span: Span) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "traceId": span.trace.hex,
        "spanId": span_id(span.subject),
        "name": span.name,
        "kind": INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(max(span.start, span.end)),
        "attributes": _attributes(span.attributes),
        "links": [{"traceId": trace.hex, "spanId": span_id(subject)} for trace, subject in span.links],
        "status": {} if span.error is None else {"code": ERROR, "message": span.error},
    }
    return wire | ({} if span.parent is None else {"parentSpanId": span_id(span.parent)})


def _nanoseconds(time: datetime) -> str:
    return str((time - EPOCH) // timedelta(microseconds=1) * 1000)


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}
