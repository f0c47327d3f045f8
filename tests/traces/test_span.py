"""What a span becomes on the wire, and where the parts of an attempt are placed."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from armillary.traces.build import parts
from armillary.traces.cause import Cause, Causes
from armillary.traces.span import Span, otlp, span_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USAGE = {"stage_in_seconds": 2.0, "run_seconds": 20.0, "stage_out_seconds": 1}


def after(seconds):
    return NOON + timedelta(seconds=seconds)


def test_a_span_is_as_otlp_has_it():
    values = {"a": 1, "b": "c", "d": None, "e": 0.5, "f": True}
    links = [(UUID(int=2), ("granule", "z"))]
    span = Span(UUID(int=1), ("job", "x"), ("firing", "y"), "job stats", NOON, after(1.5), values, "It failed.", links)
    (resource,) = otlp([span], {"service.name": "armillary"})["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    assert scope["spans"] == [
        {
            "traceId": "0" * 31 + "1",
            "spanId": span_id(("job", "x")),
            "parentSpanId": span_id(("firing", "y")),
            "name": "job stats",
            "kind": 1,
            "startTimeUnixNano": "1772366400000000000",
            "endTimeUnixNano": "1772366401500000000",
            "attributes": [
                {"key": "a", "value": {"intValue": "1"}},
                {"key": "b", "value": {"stringValue": "c"}},
                {"key": "e", "value": {"doubleValue": 0.5}},
                {"key": "f", "value": {"boolValue": True}},
            ],
            "links": [{"traceId": "0" * 31 + "2", "spanId": span_id(("granule", "z"))}],
            "status": {"code": 2, "message": "It failed."},
        }
    ]


def test_opentelemetrys_own_schema_reads_it():
    """Every field is one of the protocol's; its JSON has ids in hexadecimal where protobuf's has base64."""
    links = [(UUID(int=2), ("granule", "z"))]
    span = Span(
        UUID(int=1), ("job", "x"), ("firing", "y"), "job", NOON, after(1), {"a": 1, "b": 0.5, "c": True}, "Why.", links
    )

    def as_protobuf(value):
        if isinstance(value, list):
            return [as_protobuf(one) for one in value]
        if not isinstance(value, dict):
            return value
        ids = {"traceId", "spanId", "parentSpanId"}
        return {
            name: b64encode(bytes.fromhex(inner)).decode() if name in ids else as_protobuf(inner)
            for name, inner in value.items()
        }

    request = ParseDict(as_protobuf(otlp([span], {"service.name": "armillary"})), ExportTraceServiceRequest())
    read = request.resource_spans[0].scope_spans[0].spans[0]
    assert (read.name, read.trace_id, read.status.message) == ("job", UUID(int=1).bytes, "Why.")
    assert read.end_time_unix_nano - read.start_time_unix_nano == 10**9
    assert [one.key for one in read.attributes] == ["a", "b", "c"]
    assert read.links[0].span_id.hex() == span_id(("granule", "z"))


def test_ids_tell_subjects_apart():
    assert span_id(("a", "bc")) != span_id(("ab", "c"))
    assert len(span_id(("a",))) == 16


def test_parts_follow_each_other_from_lease_to_end():
    found = parts(USAGE, NOON, after(3), after(30))
    assert found == [
        ("stage in", after(1), after(3)),
        ("run", after(3), after(23)),
        ("stage out", after(23), after(24)),
        ("finish", after(24), after(30)),
    ]


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_worker_whose_clock_is_wrong_moves_no_part_out_of_its_attempt(skew, length):
    ended = after(length)
    found = parts(USAGE, NOON, after(skew), ended)
    assert [name for name, _, _ in found] == ["stage in", "run", "stage out", "finish"]
    times = [time for _, start, end in found for time in (start, end)]
    assert times == sorted(times)
    assert times[0] >= NOON
    assert times[-1] == ended


@pytest.mark.parametrize(
    "usage", [{}, {"run_seconds": "long"}, USAGE | {"run_seconds": None}, USAGE | {"run_seconds": -1}]
)
def test_what_a_worker_did_not_tell_is_not_made_up(usage):
    assert parts(usage, NOON, after(1), after(9)) == []
    assert parts(USAGE, NOON, None, after(9)) == []


def test_a_circle_of_causes_ends():
    """There is none in a database; a broken one must not stop the export."""
    first, second = ("job", str(UUID(int=1))), ("job", str(UUID(int=2)))
    causes = Causes({first: Cause(second), second: Cause(first)})
    assert causes.trace(first) in (UUID(int=1), UUID(int=2))
