"""`/metrics` of a server on which jobs ran: what Prometheus reads there, who may, and that it stays cheap."""

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from armillary import app
from armillary.accounts import authenticate
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.metrics import tally
from armillary.metrics.metric import ALL, CURRENT, HOSTS
from armillary.pools import worker as workers
from armillary.testing.metrics import busy_world
from armillary.testing.world import TIME_TO_LIVE


@pytest.fixture
async def client(world, tmp_path):
    context = Context(world.database, Settings(home=tmp_path), world.store, Links(b"k" * 32), "i", lambda: "http://a")
    transport = httpx2.ASGITransport(app=app.build(context))
    async with httpx2.AsyncClient(transport=transport, base_url="http://a") as client:
        yield client


async def bearer(world, make):
    async with world.database.transaction() as tx:
        return {"Authorization": f"Bearer {await make(tx)}"}


async def metrics_token(tx):
    return await authenticate.make_metrics_token(tx, "owner")


async def owner(tx):
    return await authenticate.sign_in(tx, await authenticate.make_sign_in(tx))


async def scraped(world, client, **params):
    answer = await client.get("/metrics", params=params, headers=await bearer(world, metrics_token))
    assert answer.status_code == 200, answer.text
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


async def test_every_documented_metric_is_there_and_no_other(world, client):
    await busy_world(world)
    await client.get("/health")
    families = await scraped(world, client)
    ours = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in families.values()
        if family.name.startswith("armillary_")
    }
    assert set(ours) == {metric.name for metric in ALL}
    for metric in ALL:
        family = ours[metric.name]
        assert family.type == metric.kind
        assert family.documentation == metric.meaning
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name
    silent = {name for name, family in ours.items() if not family.samples}
    assert not silent, "the story has a series of each"
    assert {"process_resident_memory_bytes", "python_gc_objects_collected"} <= set(families)


async def test_requests_are_counted_by_route_and_not_by_path(world, client):
    for path in ("/api/jobs/1", "/api/jobs/2", "/nothing/here", "/nothing/there"):
        await client.get(path)
    family = (await scraped(world, client, part="server"))["armillary_http_request_duration_seconds"]
    counts = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert counts["/api/jobs/{job}", "401"] == 2
    assert counts["", "404"] == 2


async def test_the_token_of_the_metrics_reads_them_and_nothing_else(world, client):
    headers = await bearer(world, metrics_token)
    assert (await client.get("/metrics", headers=headers)).status_code == 200
    for path in ("/api", "/api/jobs", "/api/status", "/stac", "/", "/openapi.json"):
        assert (await client.get(path, headers=headers)).status_code == 403, path
    assert (await client.post("/api/metrics/token", headers=headers)).status_code == 403


async def test_the_owner_reads_them_and_a_new_token_ends_the_old_one(world, client):
    owners = await bearer(world, owner)
    assert (await client.get("/metrics", headers=owners)).status_code == 200
    first = await bearer(world, metrics_token)
    made = await client.post("/api/metrics/token", headers=owners)
    assert made.status_code == 201
    assert (await client.get("/metrics", headers=first)).status_code == 401
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    assert (await client.get("/metrics", headers=headers)).status_code == 200


async def test_each_part_alone(world, client):
    instance, server = await scraped(world, client, part="instance"), await scraped(world, client, part="server")
    assert not set(instance) & set(server)
    assert "armillary_jobs" in instance
    assert "armillary_http_request_duration_seconds" in server


async def test_a_machine_is_forgotten_with_its_last_worker(world):
    first, second = await world.worker(), await world.worker()
    async with world.database.transaction() as tx:
        for one in (first, second):
            await workers.heartbeat(tx, one.worker_id, [], TIME_TO_LIVE, machine={"load1": 1.5})
        await workers.leave(tx, first.worker_id, "done")
        assert await tx.value("select count(*) from machine") == 1
        await workers.leave(tx, second.worker_id, "done")
        assert await tx.value("select count(*) from machine") == 0


async def test_a_second_scrape_within_moments_asks_the_database_nothing(world, client):
    headers = await bearer(world, metrics_token)
    first = await client.get("/metrics?part=instance", headers=headers)
    await busy_world(world)
    async with world.database.transaction() as tx:
        await tally.count(tx)
    assert (await client.get("/metrics?part=instance", headers=headers)).content == first.content


def test_what_workers_tell_is_what_is_shown():
    from armillary.metrics.store import _HOST_FIELDS
    from armillary.pools.api import MachineWire
    from armillary.runner.machine import Machine

    told = set(MachineWire.model_fields) - {"clock"} | {"clock_ahead_seconds"}  # which the database tells from it
    assert set(_HOST_FIELDS.values()) == told
    assert set(_HOST_FIELDS) == {metric.name for metric in HOSTS}
    assert len({metric.name for metric in CURRENT}) == len(CURRENT)
    assert set(Machine(__import__("pathlib").Path("/"), lambda: 5).news()) <= set(MachineWire.model_fields)
