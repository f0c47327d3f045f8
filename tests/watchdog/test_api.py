"""What is told of findings and of the machinery's health over HTTP."""

from datetime import timedelta

import httpx2
import pytest

from armillary import app
from armillary.accounts import authenticate
from armillary.base import servers
from armillary.base.http import Context
from armillary.base.ids import new_id
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.testing.world import TIME_TO_LIVE
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweeps import all_sweeps
from armillary.watchdog.watch import Watch, record

SECOND = timedelta(seconds=1)


@pytest.fixture
async def ask(world, tmp_path, clock):
    """The owner's GET: the answer's status and JSON."""
    context = Context(
        world.database, Settings(home=tmp_path), world.store, Links(b"k" * 32), "instance", lambda: "http://armillary"
    )
    async with world.database.transaction() as tx:
        secret = await authenticate.sign_in(tx, await authenticate.make_sign_in(tx))
    headers = {"Authorization": f"Bearer {secret}"}
    transport = httpx2.ASGITransport(app=app.build(context))
    async with httpx2.AsyncClient(transport=transport, base_url="http://armillary", headers=headers) as client:

        async def get(path, **params):
            answer = await client.get(path, params=params)
            return answer.json() if answer.is_success else answer.status_code

        yield get


async def put(world, *found, sweep="stuck"):
    async with world.database.transaction() as tx:
        await record(tx, sweep, found)


async def test_findings_are_listed_newest_first_in_pages_and_by_what_is_asked_for(world, ask, clock):
    await put(world, *(Finding(f"job:{n}", "warning", "It is so.") for n in range(5)))
    clock.advance(SECOND)
    await put(world, Finding("job:4", "error", "Worse."), Finding("job:5", "notice", "New."))
    await put(world, Finding("pool:a", "error", "Large."), sweep="queues")

    async def subjects(**params):
        return [one["subject"] for one in (await ask("/api/findings", **params))["findings"]]

    assert await subjects() == ["pool:a", "job:5", "job:4"]
    assert await subjects(state="closed") == ["job:3", "job:2", "job:1", "job:0"]
    assert await subjects(sweep="stuck", severity="error") == ["job:4"]
    assert await subjects(state="all", subject="job:1") == ["job:1"]
    first = await ask("/api/findings", state="all", limit=5)
    rest = await ask("/api/findings", state="all", limit=5, after=first["next"])
    assert [len(first["findings"]), len(rest["findings"]), rest["next"]] == [5, 2, None]
    assert await ask("/api/findings", state="ajar") == 422


async def test_a_finding_is_shown_with_its_history(world, ask, clock):
    await put(world, Finding("job:1", "warning", "It is so.", "It waits.", "Look."))
    clock.advance(SECOND)
    await put(world)
    (listed,) = (await ask("/api/findings", state="closed"))["findings"]
    shown = await ask(f"/api/findings/{listed['id']}")
    assert {name: shown[name] for name in listed} == listed
    assert (shown["opened_at"], shown["closed_at"]) == ("2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z")
    assert [(one["at"], one["kind"]) for one in shown["events"]] == [
        ("2026-03-01T12:00:00Z", "finding.opened"), ("2026-03-01T12:00:01Z", "finding.closed")
    ]  # fmt: skip
    assert await ask(f"/api/findings/{new_id()}") == 404


async def test_health_tells_of_every_part(world, ask, clock):
    server = new_id()
    async with world.database.transaction() as tx:
        await servers.enter(tx, server, ["web", "watchdog"], "1.2")
        await servers.beat(tx, server, TIME_TO_LIVE, is_web=True)
        disks = [{"path": "/data", "free_bytes": 2**40, "size_bytes": 2**41}]
        turn = {
            "every_seconds": 1.0,
            "ended_at": "2026-03-01T12:00:00Z",
            "seconds": 0.5,
            "error": "",
            "failing_since": None,
        }
        await servers.tell(tx, server, {"disks": disks, "loops": {"beat": turn}}, clock() + SECOND)
    await world.worker()
    await world.submit(await world.granule("a"))
    await Watch(world.database, world.store, Settings()).round(server)
    health = await ask("/api/health")
    (told,) = health["servers"]
    assert (told["version"], told["is_watching"], told["clock_ahead_seconds"], told["disks"]) == (
        "1.2",
        True,
        1.0,
        disks,
    )
    assert told["loops"] == [{"name": "beat"} | turn]
    assert [(one["name"], one["ran_at"]) for one in health["sweeps"]] == [
        (one.name, "2026-03-01T12:00:00Z") for one in all_sweeps()
    ]
    (pool,) = health["pools"]
    assert (pool["workers"]["idle"], pool["waiting"], pool["waiting_since"]) == (1, 1, "2026-03-01T12:00:00Z")
    assert {one["subject"] for one in health["findings"]} == {"role:reactor", "role:pools"}
    assert health["database"]["connections"] >= 1
    status = await ask("/api/status")
    assert status["findings"] == health["findings"]
    assert status["problems"] == []
    clock.advance(11 * SECOND)
    assert "no server looks after the others" in (await ask("/api/status"))["problems"][0]["why"]


async def test_ready_says_whether_the_database_answers(world, ask):
    assert await ask("/ready") == {"status": "ok"}
    await world.database.close()
    assert await ask("/ready") == 503
    assert await ask("/health") == {"status": "ok"}
