"""Retention: old revisions go, and whatever meets them in the moment they go loses nothing."""

from datetime import timedelta

import httpx2
import psycopg
import pytest

from armillary import app
from armillary.accounts.actor import Actor
from armillary.accounts.authenticate import make_sign_in, sign_in
from armillary.base.errors import Conflict, UsageError
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.collections import define
from armillary.collections.collection import read
from armillary.granules import collect, find, retire, store
from armillary.granules.granule import Reference
from armillary.granules.stac import item
from armillary.jobs import queue, steer
from armillary.jobs.bulk import run as bulk
from armillary.jobs.bulk.operation import Request, Verb
from armillary.jobs.cancel import cancel
from armillary.jobs.job import CURRENT, AttemptOutcome, JobRequest, JobState
from armillary.jobs.select import Selection
from armillary.jobs.submit import submit
from armillary.rules import fire
from armillary.rules import store as rules
from armillary.testing.world import OWNER
from armillary.watchdog import doctor

GRACE = timedelta(hours=1)
REFERRED = (queue.referred, fire.referred)


@pytest.fixture
async def kept(world, clock):
    """The newest revision of a scene is kept, and the newest two of a picture."""
    async with world.database.transaction() as tx:
        for version, (name, count) in enumerate((("scene", 1), ("picture", 2)), 2):
            document = {"kind": "collection", "id": name, "on_change": "revise", "retain": {"revisions": count}}
            await define.put(tx, OWNER, document, version)
    return world


async def sweep(world):
    swept = await retire.sweep(world.database, REFERRED, GRACE)
    return swept.retired, swept.recalled, swept.discarded


async def revise(world, count, name="a", collection="scene"):
    return [await world.granule(name, f"{number}".encode(), collection) for number in range(count)]


async def standing(world, collection="scene", name="a"):
    """Which revisions are there, retired and gone."""
    async with world.database.transaction() as tx:
        found = await store.revisions(tx, collection, name, OWNER.scope)
    return {one.revision: "gone" if one.discarded_at else "retired" if one.retired_at else "there" for one in found}


async def swept_away(world, clock):
    """Retired, given up, collected."""
    await sweep(world)
    clock.advance(GRACE)
    await sweep(world)
    clock.advance(collect.GRACE)
    return await collect.collect(world.database, world.store)


async def findings(world):
    """What doctor says, apart from wakes: no reactor runs here."""
    found = (await doctor.examine(world.database, world.store, checksums=True)).flaws
    return [one for one in found if one.check != "wakes"]


def test_all_revisions_are_kept_unless_it_is_said_and_nonsense_is_refused():
    assert read({"id": "a"}).keep_revisions is None
    assert read({"id": "a", "retain": {"revisions": 3}}).keep_revisions == 3
    for retain in ({}, {"revisions": 0}, {"revisions": True}, {"days": 3}, 3):
        with pytest.raises(UsageError, match="retain"):
            read({"id": "a", "retain": retain})


async def test_the_newest_stay_and_the_others_go_with_their_bytes_while_their_history_stays(kept, clock):
    await revise(kept, 3)
    await revise(kept, 3, collection="picture")
    await revise(kept, 1, name="b")
    assert await sweep(kept) == (3, 0, 0)
    assert await standing(kept) == {3: "there", 2: "retired", 1: "retired"}
    assert await standing(kept, "picture") == {3: "there", 2: "there", 1: "retired"}
    assert await findings(kept) == []
    clock.advance(GRACE)
    assert await sweep(kept) == (0, 0, 3)
    assert await findings(kept) == []
    assert await collect.collect(kept.database, kept.store) == 0, "a reader that began before has its minutes"
    clock.advance(collect.GRACE)
    assert await collect.collect(kept.database, kept.store) == 3
    assert await findings(kept) == []
    assert len([key async for key, _ in kept.store.list()]) == 4
    assert await sweep(kept) == (0, 0, 0)
    assert await standing(kept) == {3: "there", 2: "gone", 1: "gone"}
    async with kept.database.transaction() as tx:
        told = await tx.rows("select kind, detail from event where kind like 'granule.%%ed' and detail ? 'revisions'")
        assert (await find.get(tx, OWNER, "scene", "a", 1)).retired_at == clock() - GRACE - collect.GRACE
    assert sorted((one["kind"], one["detail"]["collection"], one["detail"]["revisions"]) for one in told) == [
        ("granule.discarded", "picture", [1]), ("granule.discarded", "scene", [1, 2]),
        ("granule.retired", "picture", [1]), ("granule.retired", "scene", [1, 2]),
    ]  # fmt: skip


async def test_more_than_a_page_goes_in_one_round(kept, monkeypatch):
    monkeypatch.setattr(retire, "PAGE", 2)
    for name in "abcde":
        await revise(kept, 3, name)
    job = await kept.submit(Reference("scene", "a", 1))  # in front of all others, and needed
    assert await sweep(kept) == (9, 0, 0)
    assert await standing(kept) == {3: "there", 2: "retired", 1: "there"}
    async with kept.database.transaction() as tx:
        await cancel(tx, OWNER, job.job.id)
    assert await sweep(kept) == (1, 0, 0)


async def test_what_a_live_job_works_on_stays_until_it_has_ended(kept, clock):
    first, *_ = await revise(kept, 2)
    for hold in (False, True):
        submitted = await kept.submit(first, hold=hold, parameters={"level": int(hold)})
        assert await sweep(kept) == (0, 0, 0)
        async with kept.database.transaction() as tx:
            await cancel(tx, OWNER, submitted.job.id)
    worker = await kept.worker()
    submitted = await kept.submit(first)
    (lease,) = await kept.lease(worker)
    assert await sweep(kept) == (0, 0, 0)
    await kept.finish(worker, await kept.succeed(worker, lease))
    assert await sweep(kept) == (1, 0, 0)


# In the same moment --------------------------------------------------------------------------------------------------


async def test_a_job_submitted_in_the_moment_of_a_retirement_takes_it_back_and_runs(kept, clock):
    first, *_ = await revise(kept, 2)
    async with kept.database.transaction() as tx:
        submitted = await submit(tx, OWNER, JobRequest("stats", inputs={"scene": (first,)}))
        assert await sweep(kept) == (1, 0, 0), "the job is not committed: nobody can see it"
    assert await standing(kept) == {2: "there", 1: "retired"}
    worker = await kept.worker()
    (lease,) = await kept.lease(worker)
    assert (lease.job_id, lease.inputs[0].granule.revision) == (submitted.job.id, 1)
    assert item(lease.inputs[0].granule, "http://a")["assets"], "it runs at once, with all of its input"
    clock.advance(2 * GRACE)
    assert await sweep(kept) == (0, 1, 0)
    assert await standing(kept) == {2: "there", 1: "there"}
    assert await findings(kept) == []


async def test_bytes_stay_while_a_transaction_is_open_that_may_have_read_of_them_before(kept, clock, database_dsn):
    await revise(kept, 2)
    with psycopg.connect(database_dsn) as old:
        old.execute("select 1")  # begun before the retirement, and not over when the grace is
        # The frozen clock is behind or ahead of that transaction's: it must have begun before the grace was over.
        [begun] = old.execute("select xact_start from pg_stat_activity where pid = pg_backend_pid()").fetchone()
        clock.set(max(begun, clock()))
        assert await sweep(kept) == (1, 0, 0)
        clock.advance(2 * GRACE)
        assert await sweep(kept) == (0, 0, 0)
        old.commit()
        assert await sweep(kept) == (0, 0, 1)


async def test_a_firing_that_bound_a_revision_in_that_moment_still_gets_its_job(kept, clock):
    first, *_ = await revise(kept, 2)
    await sweep(kept)
    rule = Actor("rule:r", "owners", kind="system")
    with pytest.raises(Conflict, match="was retired"):
        await kept.submit(first)
    submitted = await kept.submit(first, actor=rule)
    clock.advance(2 * GRACE)
    assert await sweep(kept) == (0, 1, 0)
    assert (await kept.job(submitted.job.id)).state is JobState.QUEUED
    async with kept.database.transaction() as tx:
        await cancel(tx, OWNER, submitted.job.id)
    await swept_away(kept, clock)
    with pytest.raises(Conflict, match="was retired"):
        await kept.submit(first, actor=rule)


async def test_what_a_waiting_firing_has_bound_stays(kept):
    first, *_ = await revise(kept, 2)
    async with kept.database.transaction() as tx:
        document = {"kind": "rule", "id": "r", "when": {"scene": {"collection": "scene"}}, "then": {"run": "stats"}}
        await rules.put(tx, "r", 1, document, ["scene"], True, "owners", "owner")
        [firing] = await rules.insert_firings(tx, "r", 1, [(OWNER_FIRING, "key")], "owners")
        await rules.bind(tx, [(firing["id"], "scene", first.collection, first.id, first.revision)])
    assert await sweep(kept) == (0, 0, 0)
    async with kept.database.transaction() as tx:
        await tx.execute("update firing set state = 'expired'")
    assert await sweep(kept) == (1, 0, 0)


OWNER_FIRING = "01980000-0000-7000-8000-000000000001"


# What must not find them ---------------------------------------------------------------------------------------------


async def test_nothing_is_submitted_or_tried_again_with_a_retired_revision(kept):
    first, *_ = await revise(kept, 2)
    jobs = [await kept.submit(first), await kept.submit(Reference("scene", "a", CURRENT))]
    async with kept.database.transaction() as tx:
        for one in jobs:
            await cancel(tx, OWNER, one.job.id)
    await sweep(kept)
    with pytest.raises(Conflict, match=r"Revision 1 of scene/a was retired at 20\d\d-") as refusal:
        await kept.submit(first)
    assert refusal.value.field == "inputs.scene"
    with pytest.raises(Conflict, match="was retired"):
        async with kept.database.transaction() as tx:
            await steer.again(tx, OWNER, jobs[0].job.id)
    async with kept.database.transaction() as tx:
        done = await bulk.perform(tx, OWNER, Request(Verb.RETRY, Selection(where=True), {}))
    assert done.jobs == 1
    assert [(await kept.job(one.job.id)).state for one in jobs] == [JobState.CANCELLED, JobState.QUEUED]


async def test_a_product_that_was_retired_is_made_again(kept):
    scene, worker = await kept.granule("a"), await kept.worker()
    await kept.submit(scene)
    (lease,) = await kept.lease(worker)
    await kept.finish(worker, await kept.succeed(worker, lease))
    assert (await kept.submit(scene)).outcome == "reused"
    await revise(kept, 2, "picture", "picture")
    await sweep(kept)
    assert await standing(kept, "picture", "picture") == {3: "there", 2: "there", 1: "retired"}
    again = await kept.submit(scene)
    assert (again.outcome, again.reason) == ("submitted", "Queued; an equal job succeeded, but its products are gone.")


async def test_a_job_whose_input_is_gone_all_the_same_says_so(kept, clock):
    first, *_ = await revise(kept, 2)
    submitted = await kept.submit(first, hold=True)
    async with kept.database.transaction() as tx:
        await cancel(tx, OWNER, submitted.job.id)
    await swept_away(kept, clock)
    async with kept.database.transaction() as tx:  # as an operation's undoing brings a job back
        from armillary.jobs import store as jobs

        assert await jobs.enqueue_again(tx, [submitted.job.id], "again")
    assert await kept.lease(await kept.worker()) == []
    job = await kept.job(submitted.job.id)
    assert (job.state, job.error_class) == (JobState.FAILED, "input missing")
    assert job.reason.startswith("Its input is gone. Revision 1 of scene/a was retired at ")
    [attempt] = await kept.attempts(submitted.job.id)
    assert attempt["outcome"] == AttemptOutcome.FAILED


# What is seen of them ------------------------------------------------------------------------------------------------


async def test_a_link_works_through_the_grace_and_a_page_says_since_when_it_is_retired(kept, clock):
    await revise(kept, 2)
    async with kept.database.transaction() as tx:
        token = await sign_in(tx, await make_sign_in(tx))
    context = Context(kept.database, Settings(), kept.store, Links(b"k" * 32), "i", lambda: "http://armillary")
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx2.ASGITransport(app=app.build(context))
    async with httpx2.AsyncClient(transport=transport, base_url="http://armillary") as client:

        async def get(path, **more):
            return await client.get(path, **more)

        shown = (await get("/api/granules/scene/a?revision=1", headers=headers)).json()
        [file] = shown["files"]
        assert (shown["retired_at"], shown["item"]["assets"] != {}) == (None, True)
        await sweep(kept)
        shown = (await get("/api/granules/scene/a?revision=1", headers=headers)).json()
        assert (shown["files"], shown["item"]["assets"]) == ([], {})
        assert shown["retired_at"] == shown["item"]["properties"]["armillary:retired"]
        assert "retired at" in (await get("/granules/scene/a?revision=1", headers=headers)).text
        assert "retired" not in (await get("/granules/scene/a", headers=headers)).text
        found = (await get("/stac/search", headers=headers)).json()["features"]
        assert [one["properties"]["armillary:revision"] for one in found] == [2]
        clock.advance(GRACE)
        await sweep(kept)
        assert (await get(file["href"])).content == b"0"
        clock.advance(collect.GRACE)
        await collect.collect(kept.database, kept.store)
        gone = await get(file["href"])
        assert (gone.status_code, "was retired at" in gone.text) == (404, True)


async def test_provenance_leads_to_what_is_retired_and_says_so(kept, clock):
    first, worker = await kept.granule("a", b"first"), await kept.worker()
    await kept.submit(first)
    (lease,) = await kept.lease(worker)
    await kept.finish(worker, await kept.succeed(worker, lease))
    await kept.granule("a", b"second")
    await swept_away(kept, clock)
    from armillary.provenance.lineage import lineage
    from armillary.provenance.prov_json import prov_json

    async with kept.database.transaction() as tx:
        up = await lineage(tx, OWNER, Reference("picture", "picture", 1), "up")
        down = await lineage(tx, OWNER, first, "down")
    assert [node.reference for node in up.nodes] == [Reference("picture", "picture", 1), first]
    assert [node.reference for node in down.nodes] == [first, Reference("picture", "picture", 1)]
    assert set(up.retired) == {first}
    [invalidation] = prov_json(up)["wasInvalidatedBy"].values()
    assert invalidation["prov:entity"] == "armillary:granule.scene.a.r1"
