"""From ingest to delivery each product is one connected trace, whatever dies on the way: sent to a real receiver over HTTP."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from armillary.algorithms.algorithm import ErrorClass
from armillary.algorithms.register import register_builtin
from armillary.base.errors import Conflict
from armillary.base.ids import new_id
from armillary.base.settings import TraceSettings
from armillary.definitions import apply
from armillary.deliveries import send
from armillary.jobs.job import AttemptOutcome, Report
from armillary.testing.metrics import definitions, lost_and_retried, react
from armillary.testing.otlp import attributes, receiver
from armillary.testing.world import OWNER
from armillary.traces.export import Exporter
from armillary.traces.span import is_sampled


@pytest.fixture
def far():
    with receiver() as found:
        yield found


@pytest.fixture
async def told(world, far):
    """Sends what happened since the last call; the history before the first is not told."""
    exporter = Exporter(TraceSettings(endpoint=far.url), "an-instance")
    server = new_id()

    async def tell():
        while await exporter.round(world.database, server):
            pass
        return far.spans

    async with world.database.transaction() as tx:
        await register_builtin(tx, send.ALGORITHM)
    await world.granule("before")
    await react(world)
    await tell()
    async with world.database.transaction() as tx:
        await apply.apply(tx, OWNER, definitions("/nowhere"))
    return tell


def tree(spans):
    """Names by the path from the root."""
    by_id = {span["spanId"]: span for span in spans}

    def path(span):
        above = by_id[span["parentSpanId"]] if "parentSpanId" in span else None
        return [*(path(above) if above else []), span["name"]]

    return [" > ".join(path(span)) for span in spans]


MAKE = "ingest scene > fire make > job stats"
SEND = f"{MAKE} > attempt 2 > publish picture > fire send > deliver to archive"
WHOLE = [
    "ingest scene",
    "ingest scene > fire make",
    MAKE,
    f"{MAKE} > wait",
    f"{MAKE} > attempt 1",
    f"{MAKE} > wait",
    f"{MAKE} > attempt 2",
    f"{MAKE} > attempt 2 > publish picture",
    f"{MAKE} > attempt 2 > publish picture > fire send",
    SEND,
    f"{SEND} > job deliver",
    f"{SEND} > job deliver > wait",
    f"{SEND} > job deliver > attempt 1",
]


async def test_a_product_is_one_connected_trace_with_its_lost_attempt(world, told):
    job, _ = await lost_and_retried(world)
    spans = await told()
    assert len({span["traceId"] for span in spans}) == 1, "one trace"
    assert Counter(tree(spans)) == Counter(WHOLE), "each parent is there"
    assert len({span["spanId"] for span in spans}) == len(spans)
    (lost,) = [span for span in spans if span["name"] == "attempt 1" and attributes(span)["armillary.job"] == str(job)]
    assert lost["status"] == {"code": 2, "message": "Its worker was lost. The power was cut."}
    assert attributes(lost)["armillary.outcome"] == "lost"
    (retried,) = [span for span in spans if span["name"] == "attempt 2"]
    assert retried["status"] == {}
    assert int(lost["endTimeUnixNano"]) <= int(retried["startTimeUnixNano"])
    for span in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])


async def test_it_is_the_same_trace_when_told_piece_by_piece(world, told, far):
    """As each round knows only what ended since: nothing is remembered but how far the history was read."""
    for name in ("one", "two"):
        await world.granule(name)
        await told()
        await react(world)
        await told()
    worker = await world.worker()
    for lease in await world.lease(worker, 2):
        await world.finish(worker, await world.succeed(worker, lease, f"picture-{lease.job_id}"))
        await told()
        await react(world)
        await told()
    by_trace = Counter(span["traceId"] for span in far.spans)
    assert len(by_trace) == 2
    for trace in by_trace:
        paths = tree([span for span in far.spans if span["traceId"] == trace])
        assert f"{MAKE} > attempt 1 > publish picture > fire send" in paths


async def test_a_receiver_that_is_away_hears_all_of_it_later(world, told, far):
    await lost_and_retried(world)
    far.statuses = [503, 429, 502]
    for _ in range(3):
        assert await told() == []
    assert Counter(tree(await told())) == Counter(WHOLE)
    assert len(await told()) == len(WHOLE), "and once"


async def test_what_it_will_never_take_does_not_stop_the_rest(world, told, far):
    await world.granule("refused")
    far.statuses = [400]
    assert await told() == []
    await world.granule("taken")
    (span,) = await told()
    assert attributes(span)["armillary.granule"] == "taken"


async def test_a_server_that_was_overtaken_does_not_move_the_reader(world, far, clock):
    first, second = (Exporter(TraceSettings(endpoint=far.url), "i") for _ in range(2))
    ids = new_id(), new_id()
    await first.round(world.database, ids[0])
    await world.granule("one")
    clock.advance(timedelta(seconds=1))

    async def overtaken(spans):
        clock.advance(timedelta(minutes=1))
        await second.round(world.database, ids[1])
        return True

    first._send = overtaken
    with pytest.raises(Conflict):
        await first.round(world.database, ids[0])
    assert len(far.spans) == 1
    assert not await second.round(world.database, ids[1])


async def test_what_a_person_runs_is_a_trace_linked_to_its_inputs(world, told):
    scene = await world.granule("one", collection="picture")
    await told()
    spans = len(await told())
    await world.algorithm(
        {"kind": "algorithm", "id": "look", "version": "1", "inputs": {"picture": {"collection": "picture"}}, "outputs": {},
         "run": {"command": ["true"]}, "environment": {"site": True}}
    )  # fmt: skip
    job = (await world.submit(algorithm="look", inputs={"picture": (scene,)})).job.id
    worker = await world.worker()
    while leases := [one for one in await world.lease(worker) if one.job_id != job]:
        await world.finish(worker, *[failure(one) for one in leases])
    await world.finish(worker, failure_of(job))
    (span,) = [one for one in (await told())[spans:] if one["name"] == "job look"]
    assert span["traceId"] == job.hex
    assert "parentSpanId" not in span
    (ingest,) = [one for one in await told() if one["name"] == "ingest picture"]
    assert span["links"] == [{"traceId": ingest["traceId"], "spanId": ingest["spanId"]}]


def failure(lease):
    return failure_of(lease.job_id, lease.number)


def failure_of(job, number=1):
    return Report(job, number, AttemptOutcome.FAILED, error_class=ErrorClass.SCIENCE_ERROR)


async def test_a_token_is_read_anew_for_each_call_and_the_resource_is_named(world, far, tmp_path):
    token = tmp_path / "token"
    exporter = Exporter(TraceSettings(endpoint=far.url, token_file=token), "an-instance")
    server = new_id()
    token.write_text("one\n")
    await exporter.round(world.database, server)
    for secret in ("one", "two"):
        token.write_text(f"{secret}\n")
        await world.granule(secret)
        await exporter.round(world.database, server)
    assert [headers["Authorization"] for headers, _ in far.requests] == ["Bearer one", "Bearer two"]
    (resource,) = far.requests[0][1]["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": "armillary"}} in resource["resource"]["attributes"]


async def test_a_trace_is_sent_as_a_whole_or_not_at_all(world, far):
    exporter = Exporter(TraceSettings(endpoint=far.url, fraction=0.0), "i")
    await exporter.round(world.database, new_id())
    await world.granule("one")
    assert not await exporter.round(world.database, new_id())
    assert far.spans == []
    traces = [new_id() for _ in range(2000)]
    assert 800 < sum(is_sampled(trace, 0.5) for trace in traces) < 1200
    assert all(is_sampled(trace, 1.0) for trace in traces)
    assert {is_sampled(UUID(int=5), 0.3) for _ in range(3)} == {is_sampled(UUID(int=5), 0.3)}
