"""The health page: what is wrong comes first, and nothing that anybody wrote is markup there."""

from datetime import UTC, datetime, timedelta

import pytest

from armillary.base import servers
from armillary.base.ids import new_id
from armillary.base.settings import Settings
from armillary.pools import store
from armillary.portal import health
from armillary.testing.world import TIME_TO_LIVE
from armillary.watchdog.watch import Watch

ROLES = ["web", "reactor", "pools", "watchdog"]


@pytest.fixture
async def page(world, signed_in, clock):
    """The health page as the owner sees it, after all sweeps have looked, at a server that tells of itself."""
    server = new_id()
    async with world.database.transaction() as tx:
        await servers.enter(tx, server, ROLES, "1.2.3")
    async with signed_in(world.database, world.store) as client:

        async def look(error="", path="/status"):
            turn = {"every_seconds": 1.0, "ended_at": clock().isoformat(), "seconds": 0.5, "error": error}
            disks = [{"path": "/data", "free_bytes": 2**40, "size_bytes": 2**41}]
            told = {"loops": {"beat": turn | {"failing_since": clock().isoformat() if error else None}}, "disks": disks}
            async with world.database.transaction() as tx:
                await servers.beat(tx, server, TIME_TO_LIVE, is_web=True)
                await servers.tell(tx, server, told, clock() + timedelta(seconds=3))
            await Watch(world.database, world.store, Settings()).round(server)
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            assert "script" not in answer.headers["Content-Security-Policy"]
            return answer.text

        yield look


async def test_a_sound_instance_is_shown_as_such_with_all_its_parts(world, page):
    await world.worker()
    worker = await world.worker()
    for name in ("a", "b"):
        await world.submit(await world.granule(name))
    await world.lease(worker)
    text = await page()
    assert "<h1>All is well</h1>" in text
    assert "1.0 TiB free of 2.0 TiB" in text
    assert "clock 3.0 s ahead" in text
    assert "1 loop, none fails" in text
    assert "Queued; no equal job lives or has products." in text
    assert "pool</th>" in text
    assert '<b>default</b></td><td>none</td><td class="n">1</td><td class="n">1</td>' in text, "one is busy, one idle"


async def test_what_is_wrong_comes_first_and_is_no_markup(world, page):
    worker = await world.worker()
    async with world.database.transaction() as tx:
        await store.set_quarantined(tx, worker.worker_id, "<script>alert(1)</script>")
    text = await page(error="<b>No such host.</b>")
    assert "<h1>Somebody should look</h1>" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert f"<code>armillary worker release {worker.worker_id}</code>" in text
    assert "&lt;b&gt;No such host.&lt;/b&gt;" in text
    assert "<script" not in text
    assert "<details open>" in text


async def test_the_front_page_tells_what_is_wrong_too(world, page):
    worker = await world.worker()
    async with world.database.transaction() as tx:
        await store.set_quarantined(tx, worker.worker_id, "Read-only file system.")
    await page()
    assert f"<code>armillary worker release {worker.worker_id}</code>" in await page(path="/")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (0.4, "right"), (-0.4, "right"), (3.0, "3.0 s ahead"), (-90.0, "1 min 30 s behind")],
)
def test_a_clock_is_right_ahead_or_behind(seconds, shown):
    assert health._clock(seconds) == shown


def test_ages_are_told_from_the_servers_own_present():
    assert health.ago("2026-03-01T11:59:30Z", datetime(2026, 3, 1, 12, tzinfo=UTC)) == "30 s"
    assert health.ago(None, datetime(2026, 3, 1, 12, tzinfo=UTC)) == ""
