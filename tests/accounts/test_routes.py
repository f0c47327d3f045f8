"""Every route of the application, found where it is mounted: nobody passes without a token, and another group sees nothing."""

import re

import httpx2
import pytest

from armillary import app
from armillary.accounts import authenticate, token
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.definitions import apply
from armillary.rules import fire
from armillary.rules.fire import Rules
from armillary.testing.world import OWNER, World
from armillary.watchdog import watch
from armillary.watchdog.finding import Finding

# Sign-in asks for a code; the style sheet is what its refusal looks like.
OPEN = {
    ("GET", "/health"): 200, ("GET", "/ready"): 200, ("GET", "/sign-in"): 422, ("GET", "/style.css"): 200,
    ("GET", "/favicon.ico"): 307,
}  # fmt: skip


def routes(application):
    """Each method of each path."""
    for mounted in application.routes:
        router = getattr(mounted, "original_router", None)
        for route in router.routes if router else [mounted]:
            for method in route.methods:
                yield method, route.path


ROUTES = sorted(routes(app.build(None)))


@pytest.fixture
async def world(database, tmp_path):
    return await World(database, tmp_path).make()


@pytest.fixture
async def ask(world, tmp_path):
    context = Context(
        world.database, Settings(home=tmp_path), world.store, Links(b"k" * 32), "instance", lambda: "http://armillary"
    )
    transport = httpx2.ASGITransport(app=app.build(context))
    async with httpx2.AsyncClient(transport=transport, base_url="http://armillary") as client:
        yield client.request


async def test_without_a_token_only_health_and_sign_in_answer(ask):
    answers = {}
    for method, path in ROUTES:
        filled = re.sub(r"\{[^}]+\}", "x", path)
        for headers in ({}, {"Authorization": "Bearer arm_wrong"}, {"Cookie": "armillary_session=arm_wrong"}):
            # A forged cookie that would change something is refused before it is looked up.
            wanted = 403 if "Cookie" in headers and method not in ("GET", "HEAD") else 401
            answer = await ask(method, filled, json={}, headers=headers)
            if answer.status_code != wanted:
                answers[method, path] = answer.status_code
    assert answers == OPEN


async def test_a_used_or_invented_sign_in_code_signs_nobody_in(ask):
    assert (await ask("GET", "/sign-in", params={"code": "arm_wrong"})).status_code == 401


async def stranger(tx):
    """A token of somebody in another group."""
    await tx.execute("insert into user_group (id, title) values ('others', 'Others')")
    await tx.execute("insert into account (id, \"group\", is_owner) values ('eve', 'others', false)")
    secret = token.make()
    await tx.execute("insert into token (hash, account, purpose) values (%s, 'eve', 'api')", [token.digest(secret)])
    return {"Authorization": f"Bearer {secret}"}


async def test_another_group_sees_and_changes_nothing(world, ask, tmp_path):
    scene = await world.granule("hidden-scene")
    worker = await world.worker()
    job = (await world.submit(scene)).job.id
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease, "hidden-picture"))
    async with world.database.transaction() as tx:
        await apply.apply(
            tx,
            OWNER,
            [
                {"kind": "delivery", "id": "hidden-archive", "to": {"directory": str(tmp_path / "archive")}},
                {
                    "kind": "rule",
                    "id": "hidden-rule",
                    "when": {"scene": {"collection": "scene"}},
                    "then": {"run": "stats"},
                },
            ],
        )
    await world.granule("hidden-other")
    while await fire.react(world.database, Rules()):
        pass
    async with world.database.transaction() as tx:
        await watch.record(tx, "stuck", [Finding(f"job:{job}", "warning", "hidden-reason")])
        finding = await tx.value("select id from finding")
        eve = await stranger(tx)
    names = {
        "collection": "scene", "granule": "hidden-scene", "item": "hidden-scene", "job": str(job), "number": "1", "pool": "default",
        "worker": str(worker.worker_id), "rule": "hidden-rule", "delivery": str(job), "upload_id": str(job),
        "kind": "rule", "id": "hidden-rule", "operation": str(job), "algorithm": "stats", "sha256": "0" * 64,
        "path:path": "data.bin", "key:path": await first_key(world), "token": str(job),
        "asset:path": "data",
        "finding": str(finding),
    }  # fmt: skip
    free = {"cpu": 1, "memory_bytes": 1, "disk_bytes": 1}
    bodies = {
        "/api/granules/known": {"collection": "scene", "granules": ["hidden-scene"]},
        "/stac/search": {"ids": ["hidden-scene"]},
        "/api/jobs": {"algorithm": "stats", "inputs": {"scene": ["scene/hidden-scene"]}},
        "/api/deliveries": {"destination": "hidden-archive", "granules": ["scene/hidden-scene"]},
        "/api/uploads": {"uploads": [{"collection": "scene", "granule": "new"}], "proof": None},
        "/api/definitions": {"documents": [{"kind": "collection", "id": "scene", "title": "Eve's"}]},
        "/api/jobs/{job}/priority": {"priority": 9},
        "/api/estimates": {"loads": [{"algorithm": "stats"}]},
        "/api/algorithms/{algorithm}/pause": {"reason": "x"},
        "/api/algorithms/{algorithm}/resume": {},
        "/api/pools/{pool}/drain": {"reason": "x"},
        "/api/pools/{pool}/workers": {"host": "h", "pid": 1, "protocol": 1, "capacity": free},
        "/api/workers/{worker}/lease": {"free": free, "count": 1, "wait_seconds": 0},
    }  # fmt: skip
    before = await world.count("event")
    seen, changed = await knock(ask, eve, names, bodies, ROUTES)
    assert seen == set()
    assert changed <= {("POST", "/stac/search"), ("POST", "/api/granules/known"), ("POST", "/api/uploads/abandon")}
    assert await world.count("event") == before
    shown, _ = await knock(ask, await owner(world), names, bodies, [one for one in ROUTES if one[0] == "GET"])
    assert len(shown) > 15, "the same questions of the owner's, who sees what was asked for"


async def knock(ask, headers, names, bodies, routes):
    """Which routes show something of what is hidden, and which would have changed something."""
    seen, changed = set(), set()
    for method, path in routes:
        filled = re.sub(r"\{([^}]+)\}", lambda match: names[match[1]], path)
        body = bodies.get(path, {}) if method != "GET" else None
        answer = await ask(method, filled, json=body, headers=headers)
        assert answer.status_code < 500, (method, path, answer.text)
        if answer.is_success and re.search(f"hidden|{names['job']}", answer.text):
            seen.add((method, path))
        if answer.is_success and method not in ("GET", "HEAD"):
            changed.add((method, path))
    return seen, changed


async def owner(world):
    async with world.database.transaction() as tx:
        secret = await authenticate.sign_in(tx, await authenticate.make_sign_in(tx))
    return {"Authorization": f"Bearer {secret}"}


async def first_key(world):
    async for key, _size in world.store.list():
        return key
    return None
