"""The workers' wire: from a submission to its product over HTTP alone, as a runner sees it."""

import asyncio
import base64
import hashlib
import json
import shutil
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import httpx2
import pytest

from armillary import app
from armillary.accounts.actor import Actor
from armillary.accounts.authenticate import make_sign_in, sign_in
from armillary.base.clock import iso, parse, utc_now
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.jobs import kept
from armillary.jobs.pace import Learner, known
from armillary.pools import observe
from armillary.runner.machine import Machine
from armillary.testing.world import algorithm
from armillary.watchdog import doctor

FREE = {"cpu": 4, "memory_bytes": 8 * 2**30, "disk_bytes": 8 * 2**30}


class Face:
    """The application and who asks it."""

    def __init__(self, world, application, token):
        self.world = world
        self.app = application
        self.token = token

    async def call(self, method, path, body=None, token=None, status=None, **more):
        transport = httpx2.ASGITransport(app=self.app)
        headers = {"Authorization": f"Bearer {token or self.token}"} | more.pop("headers", {})
        async with httpx2.AsyncClient(transport=transport, base_url="http://armillary") as client:
            answer = await client.request(method, path, json=body, headers=headers, **more)
        assert answer.status_code == status if status else answer.is_success, (answer.status_code, answer.text)
        return answer

    async def json(self, *args, **more):
        answer = await self.call(*args, **more)
        return answer.json() if answer.content else None

    async def worker(self, pool="default"):
        body = {"host": "node-1", "pid": 7, "protocol": 1, "capacity": FREE}
        return await self.json("POST", f"/api/pools/{pool}/workers", body)

    async def lease(self, worker, count=1, wait_seconds=0):
        body = {"free": FREE, "count": count, "wait_seconds": wait_seconds}
        return await self.json("POST", f"/api/workers/{worker['worker']}/lease", body, token=worker["token"])

    async def tell(self, worker, what, body, **more):
        return await self.json("POST", f"/api/workers/{worker['worker']}/{what}", body, token=worker["token"], **more)


@pytest.fixture
async def face(world):
    context = Context(world.database, Settings(), world.store, Links(b"k" * 32), "instance", lambda: "http://armillary")
    async with world.database.transaction() as tx:
        token = await sign_in(tx, await make_sign_in(tx))
    return Face(world, app.build(context), token)


async def submit(face, **more):
    await face.world.granule("a b", b"scene")
    body = {"algorithm": "stats", "inputs": {"scene": ["scene/a b"]}} | more
    return await face.json("POST", "/api/jobs", body, status=201)


async def upload(face, worker, lease, content=b"picture", name="picture"):
    wish = {"collection": "picture", "granule": name, "size_bytes": len(content), "job": lease["job"],
            "lease": lease["lease"], "output": "picture"}  # fmt: skip
    token = worker["token"]
    (ticket,) = (await face.json("POST", "/api/uploads", {"uploads": [wish]}, token=token))["uploads"]
    await face.call("PUT", f"/api/uploads/{ticket['id']}/files/data.bin", token=token, content=content)
    file = {"path": "data.bin", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assets = {"data": {"kind": "file", "media_type": "image/png", "roles": ["data"], "files": [file]}}
    commit = {"upload": ticket["id"], "item": {"geometry": None, "frame": "none", "properties": {}}, "assets": assets}
    return {"output": "picture", "commit": commit}


async def test_a_job_travels_from_submission_to_product(face):
    submitted = await submit(face, parameters={"level": 3})
    assert (submitted["outcome"], submitted["job"]["state"]) == ("submitted", "queued")
    job = submitted["job"]["id"]
    worker = await face.worker()
    assert (worker["heartbeat_seconds"], worker["lease_seconds"]) == (2, 15)

    (lease,) = (await face.lease(worker))["leases"]
    assert (lease["job"], lease["lease"], lease["parameters"]) == (job, 1, {"level": 3})
    assert lease["outputs"]["picture"]["collection"] == "picture"
    assert lease["resources"]["memory_bytes"] == 2**30
    assert (lease["bundle"], lease["environment"], lease["checkpoint"]) == (None, {"site": True}, None)
    (scene,) = lease["inputs"]["scene"]
    assert lease["inputs"]["others"] == []
    assert (scene["id"], scene["revision"], scene["item"]["id"]) == ("a b", 1, "a b")
    (file,) = scene["files"]
    fetched = await face.call("GET", file["href"], headers={"Authorization": ""})
    assert hashlib.sha256(fetched.content).hexdigest() == file["sha256"]

    running = {"job": job, "lease": 1, "progress": {"fraction": 0.5, "stage": "read"},
               "started_at": "2026-03-01T12:00:00Z"}  # fmt: skip
    orders = await face.tell(worker, "heartbeat", {"running": [running]})
    assert orders == {"stop": [], "gone": [], "drain": False, "heartbeat_seconds": 2.0}
    assert (await face.json("GET", f"/api/jobs/{job}"))["progress"] == {"fraction": 0.5, "stage": "read"}
    chunk = {"job": job, "lease": 1, "position": 0, "data": base64.b64encode(b"hello\n").decode()}
    assert await face.tell(worker, "logs", {"chunks": [chunk, chunk | {"lease": 2}]}) == {
        "refused": [{"job": job, "lease": 2}]
    }

    report = {"job": job, "lease": 1, "outcome": "succeeded", "exit_code": 0, "started_at": "2026-03-01T12:00:00Z",
              "ended_at": "2026-03-01T12:01:00Z", "usage": {"cpu_seconds": 1.5}, "result": {"mean": 2},
              "outputs": [await upload(face, worker, lease)]}  # fmt: skip
    for _ in range(2):
        (result,) = (await face.tell(worker, "finish", {"reports": [report]}))["results"]
        assert result["outcome"] == "recorded"
    found = await face.json("GET", f"/api/jobs/{job}")
    assert (found["state"], found["result"], found["attempts_made"]) == ("succeeded", {"mean": 2}, 1)
    assert found["attempts"][0]["usage"] == {"cpu_seconds": 1.5}
    assert found["inputs"] == [{"role": "scene", "collection": "scene", "id": "a b", "revision": 1}]
    assert found["outputs"] == [{"output": "picture", "collection": "picture", "id": "picture", "revision": 1}]
    assert [event["kind"] for event in found["events"]] == ["job.submitted", "job.finished"]
    lineage = await face.json("GET", "/api/provenance/picture/picture")
    assert lineage["activities"][0]["job"] == job
    assert "activity" in await face.json("GET", "/api/provenance/picture/picture/prov")
    log = await face.call("GET", f"/api/jobs/{job}/log?wait_seconds=20")
    assert (log.content, log.headers["armillary-next-offset"], log.headers["armillary-attempt"]) == (
        b"hello\n",
        "6",
        "1",
    )
    log = await face.call("GET", f"/api/jobs/{job}/log?offset=6&wait_seconds=20")
    assert (log.content, log.headers["armillary-log-ended"]) == (b"", "true")


async def test_a_held_lease_is_answered_as_soon_as_there_is_a_job(face):
    worker = await face.worker()
    held = asyncio.create_task(face.lease(worker, wait_seconds=30))
    await asyncio.sleep(0)
    job = (await submit(face))["job"]["id"]
    (lease,) = (await asyncio.wait_for(held, 20))["leases"]
    assert lease["job"] == job
    assert await face.lease(worker) == {"leases": [], "drain": False}


async def test_a_cancellation_reaches_the_held_commands(face):
    job = (await submit(face))["job"]["id"]
    worker = await face.worker()
    await face.lease(worker)
    held = asyncio.create_task(face.tell(worker, "commands", {"wait_seconds": 30}))
    await asyncio.sleep(0)
    assert (await face.json("POST", f"/api/jobs/{job}/cancel"))["state"] == "running"
    assert (await asyncio.wait_for(held, 20))["stop"] == [{"job": job, "lease": 1, "how": "cancel"}]
    await face.tell(worker, "finish", {"reports": [{"job": job, "lease": 1, "outcome": "cancelled"}]})
    assert (await face.json("GET", f"/api/jobs/{job}"))["state"] == "cancelled"
    assert (await face.json("POST", f"/api/jobs/{job}/retry"))["state"] == "queued"
    assert (await face.json("POST", f"/api/jobs/{job}/priority", {"priority": 9}))["priority"] == 9
    assert (await face.json("POST", f"/api/jobs/{job}/hold"))["state"] == "held"
    assert (await face.json("POST", f"/api/jobs/{job}/release"))["state"] == "queued"


async def test_a_followed_log_is_held_until_there_is_more(face):
    job = (await submit(face))["job"]["id"]
    worker = await face.worker()
    held = asyncio.create_task(face.call("GET", f"/api/jobs/{job}/log?wait_seconds=30"))
    await asyncio.sleep(0)
    await face.lease(worker)
    chunk = {"job": job, "lease": 1, "position": 0, "data": base64.b64encode(b"line\n").decode()}
    await face.tell(worker, "logs", {"chunks": [chunk]})
    answer = await asyncio.wait_for(held, 20)
    assert (answer.content, answer.headers["armillary-log-ended"]) == (b"line\n", "false")


async def test_a_checkpoint_travels_to_the_next_attempt(face):
    job = (await submit(face))["job"]["id"]
    worker = await face.worker()
    await face.lease(worker)
    for data in (b"first", b"second"):
        headers = {"Armillary-SHA256": hashlib.sha256(data).hexdigest()}
        path = f"/api/workers/{worker['worker']}/checkpoints/{job}/1"
        await face.call("PUT", path, token=worker["token"], content=data, headers=headers)
    refused = await face.call("PUT", path, token=worker["token"], content=b"other", headers=headers, status=422)
    assert "another SHA-256" in refused.json()["detail"]
    await face.call("PUT", path[:-1] + "2", token=worker["token"], content=data, headers=headers, status=409)
    await face.tell(worker, "finish", {"reports": [{"job": job, "lease": 1, "outcome": "preempted"}]})
    (lease,) = (await face.lease(worker))["leases"]
    assert (lease["lease"], lease["checkpoint"]["size"]) == (2, 6)
    assert (await face.call("GET", lease["checkpoint"]["href"])).content == b"second"
    assert len([key async for key, _ in face.world.store.list("checkpoints")]) == 1


async def test_what_a_failed_attempt_left_is_browsed_until_its_time_is_over(face, clock):
    job = (await submit(face))["job"]["id"]
    worker = await face.worker()
    await face.lease(worker)
    path = f"/api/workers/{worker['worker']}/folders/{job}/1"
    files = [{"path": "out/a b", "size": 5, "kept": True}, {"path": "big", "size": 9, "kept": False}]
    index = json.dumps({"files": files, "whole": True, "for_seconds": 3600}).encode() + b"\n"
    await face.call("GET", f"/api/jobs/{job}/files", status=404)
    await face.call("PUT", path[:-1] + "2", token=worker["token"], content=index + b"hello", status=409)
    await face.call("PUT", path, token=worker["token"], content=b"no index", status=422)
    await face.call("PUT", path, token=worker["token"], content=index + b"hello", status=204)
    await face.call("PUT", path, token=worker["token"], content=index + b"hello", status=409)
    await face.tell(worker, "finish", {"reports": [{"job": job, "lease": 1, "outcome": "failed"}]})
    found = await face.json("GET", f"/api/jobs/{job}/files")
    assert (found["attempt"], found["files"], found["whole"]) == (1, files, True)
    answer = await face.call("GET", f"/api/jobs/{job}/files/out/a%20b?attempt=1")
    assert (answer.content, answer.headers["x-content-type-options"]) == (b"hello", "nosniff")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b"
    await face.call("GET", f"/api/jobs/{job}/files/big", status=404)
    await face.call("GET", f"/api/jobs/{job}/files?attempt=2", status=404)

    assert await kept.collect(face.world.database, face.world.store) == 0
    clock.advance(timedelta(hours=2))
    await face.call("GET", f"/api/jobs/{job}/files", status=404)
    assert await kept.collect(face.world.database, face.world.store) == 1
    assert [key async for key, _ in face.world.store.list("kept")] == []
    assert await kept.collect(face.world.database, face.world.store) == 0


@pytest.mark.parametrize("sent", [b"hell", b"hello!"], ids=["too little", "too much"])
async def test_a_folder_that_is_not_what_was_announced_is_not_shown(face, sent):
    job = (await submit(face))["job"]["id"]
    worker = await face.worker()
    await face.lease(worker)
    index = {"files": [{"path": "a", "size": 5, "kept": True}], "whole": True, "for_seconds": 3600}
    path = f"/api/workers/{worker['worker']}/folders/{job}/1"
    content = json.dumps(index).encode() + b"\n" + sent
    await face.call("PUT", path, token=worker["token"], content=content, status=422)
    await face.call("GET", f"/api/jobs/{job}/files", status=404)


@pytest.mark.parametrize("point", ["kept.before-write", "kept.before-record", "kept.before-delete"])
async def test_a_server_that_dies_as_it_keeps_a_folder_leaves_nothing_for_good(face, point, clock, monkeypatch):
    class Killed(BaseException):
        pass

    def die(here):
        if here == point:
            raise Killed

    job = (await submit(face))["job"]["id"]
    worker = await face.worker()
    await face.lease(worker)

    async def sent():
        yield json.dumps({"files": [{"path": "a", "size": 5, "kept": True}], "whole": True, "for_seconds": 60}).encode()
        yield b"\nhello"

    async def keep_and_collect():
        await kept.save(face.world.database, face.world.store, UUID(worker["worker"]), UUID(job), 1, sent())
        clock.advance(timedelta(hours=1))
        await kept.collect(face.world.database, face.world.store)

    with monkeypatch.context() as dying:
        dying.setattr(kept, "crash_point", die)
        with pytest.raises(Killed):
            await keep_and_collect()
    clock.advance(timedelta(hours=1))
    assert await kept.collect(face.world.database, face.world.store) == 1
    assert [key async for key, _ in face.world.store.list("kept")] == []
    assert "kept" not in {one.check for one in (await doctor.examine(face.world.database, face.world.store)).flaws}


async def test_a_worker_acts_for_itself_alone(face):
    worker, other = await face.worker(), await face.worker()
    body = {"free": FREE, "count": 1, "wait_seconds": 0}
    for token in (face.token, other["token"]):
        await face.call("POST", f"/api/workers/{worker['worker']}/lease", body, token=token, status=403)
    await face.call("POST", "/api/jobs", {"algorithm": "stats"}, token=worker["token"], status=403)
    await face.tell(worker, "leave", {"reason": "done"})
    path = f"/api/workers/{worker['worker']}/heartbeat"
    answer = await face.call("POST", path, {"running": []}, token=worker["token"], status=404)
    assert "register anew" in answer.json()["remedy"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"algorithm": "stats", "inputs": {"scene": ["scene"]}}, "inputs.scene"),
        ({"algorithm": "stats", "inputs": {"scene": ["scene/none"]}}, "inputs.scene"),
        ({"algorithm": "stats", "twins": "maybe"}, "twins"),
        ({"algorithm": "stats", "colour": "red"}, "colour"),
        ({"algorithm": "none"}, "algorithm"),
    ],
)
async def test_bad_submissions_name_their_field(face, body, field):
    answer = await face.call(
        "POST", "/api/jobs", body, status=404 if field == "algorithm" or "none" in str(body) else 422
    )
    assert answer.json()["field"] == field


async def test_pools_workers_and_jobs_are_listed_in_pages(face):
    worker = await face.worker()
    for level in range(3):
        await submit(face, parameters={"level": level})
    await face.lease(worker)
    (pool,) = (await face.json("GET", "/api/pools"))["pools"]
    assert (pool["id"], pool["workers"], pool["waiting"], pool["running"]) == ("default", {"live": 1}, 2, 1)
    (shown,) = (await face.json("GET", "/api/pools/default"))["workers"]
    assert (shown["id"], shown["state"]) == (worker["worker"], "live")
    (listed,) = (await face.json("GET", "/api/workers?pool=default"))["workers"]
    assert (listed["running"], listed["host"]) == (1, "node-1")
    first = await face.json("GET", "/api/jobs?limit=2")
    rest = await face.json("GET", f"/api/jobs?limit=2&after={first['next']}")
    ids = [job["id"] for job in first["jobs"] + rest["jobs"]]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), rest["next"]) == (3, None)
    for query, number in (
        ("state=running", 1),
        ("state=queued", 2),
        ("state=failed", 0),
        ("algorithm=stats", 3),
        ("pool=x", 0),
    ):
        assert len((await face.json("GET", f"/api/jobs?{query}"))["jobs"]) == number
    await face.call("GET", "/api/jobs?state=odd", status=422)
    assert (await face.json("POST", "/api/pools/default/drain"))["workers"] == [worker["worker"]]
    assert (await face.lease(worker))["drain"] is True


async def test_algorithms_are_shown_with_their_versions_and_bundles(face):
    await face.world.algorithm(algorithm(version="1.10.0"))
    await face.world.algorithm(algorithm(version="1.9.0"))
    (one,) = (await face.json("GET", "/api/algorithms"))["algorithms"]
    assert (one["id"], one["version"]) == ("stats", "1.10.0")
    found = await face.json("GET", "/api/algorithms/stats?version=1.9")
    assert found["version"] == "1.9.0"
    assert [version["version"] for version in found["versions"]] == ["1.10.0", "1.9.0", "1.0.0"]
    assert found["parameters"]["properties"] == {"level": {"type": "integer", "default": 1}}
    await face.call("PUT", f"/api/bundles/{'0' * 64}", content=b"x", status=422)
    await face.call("GET", f"/api/bundles/{'0' * 64}", status=404)


async def test_a_pools_token_brings_workers_of_that_pool_until_it_is_revoked(face):
    made = await face.json("POST", "/api/pools/default/tokens", {"title": "the lab"}, status=201)
    body = {"host": "lab", "pid": 7, "protocol": 1, "capacity": FREE, "ends_in_seconds": 3600}
    worker = await face.json("POST", "/api/pools/default/workers", body, token=made["token"])
    await face.world.submit(await face.world.granule("a"))
    (lease,) = (await face.lease(worker))["leases"]

    (shown,) = (await face.json("GET", "/api/pools/default/tokens"))["tokens"]
    assert (shown["title"], shown["state"], shown["workers"], shown["made_by"]) == ("the lab", "in force", 1, "owner")
    assert made["token"] not in str(shown)

    # It is good for nothing else.
    async with face.world.database.transaction() as tx:
        await tx.execute("""insert into pool (id, spec, "group") values ('other', '{"id": "other"}', 'owners')""")
    await face.call("POST", "/api/pools/other/workers", body, token=made["token"], status=403)
    await face.call("POST", "/api/pools/default/tokens", {}, token=made["token"], status=403)

    answer = await face.json("DELETE", f"/api/pools/default/tokens/{made['id']}")
    assert answer["workers"] == [worker["worker"]]
    await face.call("POST", f"/api/workers/{worker['worker']}/heartbeat", {}, token=worker["token"], status=401)
    await face.call("POST", "/api/pools/default/workers", body, token=made["token"], status=401)
    job = await face.json("GET", f"/api/jobs/{lease['job']}")
    assert (job["state"], job["attempts"][0]["outcome"]) == ("queued", "lost")
    assert "token that it came with was revoked" in job["reason"]
    (shown,) = (await face.json("GET", "/api/pools/default/tokens"))["tokens"]
    assert (shown["state"], shown["workers"]) == ("revoked", 0)
    await face.call("DELETE", f"/api/pools/default/tokens/{made['id']}", status=404)


async def test_a_pools_token_expires(face, clock):
    made = await face.json("POST", "/api/pools/default/tokens", {"lasts_seconds": 60}, status=201)
    clock.advance(timedelta(seconds=61))
    body = {"host": "lab", "pid": 7, "protocol": 1, "capacity": FREE}
    await face.call("POST", "/api/pools/default/workers", body, token=made["token"], status=401)
    (shown,) = (await face.json("GET", "/api/pools/default/tokens"))["tokens"]
    assert shown["state"] == "expired"


async def test_a_worker_that_goes_by_itself_says_why_and_gets_nothing_new(face):
    worker = await face.worker()
    await face.world.submit(await face.world.granule("a"))
    answer = await face.tell(worker, "heartbeat", {"running": [], "leaving": "Its machine is taken away."})
    assert answer["drain"] is True
    assert (await face.lease(worker))["leases"] == []
    (shown,) = (await face.json("GET", "/api/pools/default"))["workers"]
    assert (shown["state"], shown["reason"]) == ("draining", "Its machine is taken away.")


async def test_a_heartbeat_tells_by_how_much_a_machines_clock_is_off(face, clock, tmp_path):
    worker = await face.worker()
    told = Machine(tmp_path, lambda: 0).news()
    assert abs(parse(told["clock"]) - utc_now()) < timedelta(minutes=1)
    ahead = iso(clock() + timedelta(seconds=42))
    await face.tell(worker, "heartbeat", {"running": [], "machine": told | {"clock": ahead}})
    async with face.world.database.transaction() as tx:
        (seen,) = await observe.off_clock(tx, timedelta(seconds=41))
        assert (seen.clock_ahead_seconds, seen.disk_size_bytes) == (42.0, shutil.disk_usage(tmp_path).total)
        assert await observe.off_clock(tx, timedelta(seconds=42)) == []


async def test_how_long_jobs_take_is_learned_from_those_that_succeed(face, clock):
    worker = await face.worker()
    learner = Learner()

    async def run(name, seconds):
        await face.world.submit(await face.world.granule(name))
        (lease,) = (await face.lease(worker))["leases"]
        clock.advance(timedelta(seconds=seconds))
        actor = Actor("worker:x", "owners", kind="worker", pool="default", worker_id=UUID(worker["worker"]))
        leased = (UUID(lease["job"]), lease["lease"])
        made = SimpleNamespace(job_id=leased[0], number=leased[1])
        await face.world.finish(actor, await face.world.succeed(actor, made, name=f"of {name}"))
        learner._next = 0.0
        await learner.learn(face.world.database, [leased, (leased[0], 99)])
        async with face.world.database.transaction() as tx:
            return (await known(tx))["stats"]

    assert await run("a", 10) == pytest.approx(10)
    assert await run("b", 30) == pytest.approx(20)
    assert await run("c", 20) == pytest.approx(20)
    assert await run("d", -3600) == pytest.approx(20), "the clock was set back: that says nothing"
