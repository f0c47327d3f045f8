import asyncio

import pytest

from armillary.accounts.actor import Actor
from armillary.base.errors import NotAllowed, NotFound, UsageError
from armillary.granules.granule import Reference
from armillary.jobs.cancel import cancel
from armillary.jobs.job import CURRENT, JobRequest, JobState
from armillary.jobs.submit import submit_many
from armillary.testing.world import OWNER, algorithm


async def test_a_submission_is_a_queued_job_with_exact_inputs_and_its_event(world):
    await world.granule("a", b"old")
    scene = await world.granule("a", b"new")
    found = await world.submit(Reference("scene", "a", CURRENT), priority=3, cause={"rule": "r"})
    assert (found.outcome, found.job.state) == ("submitted", JobState.QUEUED)
    job = await world.job(found.job.id)
    assert (job.state, job.priority, job.parameters, job.cause) == (JobState.QUEUED, 3, {"level": 1}, {"rule": "r"})
    async with world.database.transaction() as tx:
        inputs = await tx.rows("select role, collection, granule, revision from job_input")
        events = await tx.rows("select kind, detail from event where subject = %s", [f"job:{job.id}"])
    assert inputs == [{"role": "scene", "collection": "scene", "granule": "a", "revision": 2}]
    assert scene.revision == 2
    assert [event["kind"] for event in events] == ["job.submitted"]
    assert events[0]["detail"]["algorithm"] == "stats"


async def test_the_same_work_is_shared_while_it_lives(world):
    scene = await world.granule("a")
    first = await world.submit(scene)
    again = await world.submit(scene, parameters={"level": 1}, priority=5, cause={"rule": "another"})
    other = await world.submit(scene, parameters={"level": 2})
    assert (again.outcome, again.job.id) == ("shared", first.job.id)
    assert "is queued" in again.reason
    assert other.outcome == "submitted"


async def test_many_submitters_at_once_make_one_job(world):
    scene = await world.granule("a")
    found = await asyncio.gather(*(world.submit(scene) for _ in range(8)))
    assert len({one.job.id for one in found}) == 1
    assert sorted(one.outcome for one in found) == ["shared"] * 7 + ["submitted"]


async def test_a_result_is_reused_unless_it_is_asked_again_or_gone(world):
    scene, worker = await world.granule("a"), await world.worker()
    first = await world.submit(scene)
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease))
    assert (await world.submit(scene)).outcome == "reused"
    assert (await world.submit(scene)).job.id == first.job.id
    again = await world.submit(scene, twins="again")
    assert again.outcome == "submitted"
    assert (await world.submit(scene, twins="again")).job.id != again.job.id
    async with world.database.transaction() as tx:
        await tx.execute("update job_output set revision = 99")  # a product that retention has removed
    once_more = await world.submit(scene)
    assert once_more.outcome == "submitted"
    assert (await world.submit(scene, twins="share")).job.id == once_more.job.id


async def test_a_failed_twin_is_no_reason_not_to_run(world):
    scene = await world.granule("a")
    first = await world.submit(scene)
    async with world.database.transaction() as tx:
        await cancel(tx, OWNER, first.job.id)
    assert (await world.submit(scene)).outcome == "submitted"


async def test_the_order_of_many_counts_only_where_it_is_declared(world):
    a, b = await world.granule("a"), await world.granule("b")
    one = await world.submit(a, inputs={"scene": (a,), "others": (a, b)})
    two = await world.submit(a, inputs={"scene": (a,), "others": (b, a)})
    assert two.job.id == one.job.id
    await world.algorithm(
        algorithm("ordered", inputs={"scenes": {"collection": "scene", "many": True, "ordered": True}}, outputs={})
    )
    one = await world.submit(algorithm="ordered", inputs={"scenes": (a, b)})
    two = await world.submit(algorithm="ordered", inputs={"scenes": (b, a)})
    assert two.job.id != one.job.id


async def test_groups_do_not_see_each_others_twins_or_granules(world):
    scene = await world.granule("a")
    await world.submit(scene)
    async with world.database.transaction() as tx:
        await tx.execute("insert into user_group (id) values ('ocean')")
        await tx.execute("update algorithm set \"group\" = 'ocean'")
    with pytest.raises(NotFound, match="no revision 1 of granule"):
        await world.submit(scene, actor=Actor("ann", "ocean"))
    # A system actor of that group may read, and still gets a job of its own group.
    found = await world.submit(scene, actor=Actor("rule:x", "ocean", kind="system"))
    assert found.outcome == "submitted"


async def test_a_held_job_waits_for_its_release(world):
    worker = await world.worker()
    found = await world.submit(await world.granule("a"), hold=True)
    assert found.job.state is JobState.HELD
    assert await world.lease(worker) == []


@pytest.mark.parametrize(
    ("more", "error", "field"),
    [
        ({"algorithm": "nothing"}, NotFound, "algorithm"),
        ({"version": "7"}, NotFound, "version"),
        ({"inputs": {}}, UsageError, "inputs.scene"),
        ({"inputs": {"scene": (Reference("scene", "a", 1), Reference("scene", "b", 1))}}, UsageError, "inputs.scene"),
        ({"inputs": {"scene": (Reference("scene", "missing", CURRENT),)}}, NotFound, "inputs.scene"),
        ({"inputs": {"scene": (Reference("scene", "a", 7),)}}, NotFound, "inputs.scene"),
        ({"inputs": {"scene": (Reference("picture", "p", 1),)}}, UsageError, "inputs.scene"),
        ({"inputs": {"scen": (Reference("scene", "a", 1),)}}, UsageError, "inputs.scen"),
        ({"parameters": {"level": "high"}}, UsageError, "parameters.level"),
        ({"parameters": {"depth": 1}}, UsageError, "parameters"),
        ({"pool": "nowhere"}, NotFound, "pool"),
        ({"priority": 5000}, UsageError, "priority"),
    ],
)
async def test_what_cannot_run_is_refused_and_leaves_nothing(world, more, error, field):
    scene = await world.granule("a")
    await world.granule("b")
    await world.granule("p", collection="picture")
    with pytest.raises(error) as caught:
        await world.submit(scene, **more)
    assert caught.value.field == field
    assert caught.value.remedy
    assert await world.count("job") == await world.count("job_queue") == 0


async def test_a_granule_named_twice_is_refused(world):
    scene = await world.granule("a")
    with pytest.raises(UsageError, match="twice"):
        await world.submit(scene, inputs={"scene": (scene,), "others": (scene, Reference("scene", "a", CURRENT))})


async def test_workers_submit_nothing(world):
    with pytest.raises(NotAllowed):
        await world.submit(await world.granule("a"), actor=await world.worker())


async def test_many_are_submitted_together_or_not_at_all(world):
    scene = await world.granule("a")
    good = [JobRequest("stats", inputs={"scene": (scene,)}, parameters={"level": level}) for level in (1, 2, 1)]
    async with world.database.transaction() as tx:
        found = await submit_many(tx, OWNER, good)
    assert [one.outcome for one in found] in (
        ["submitted", "submitted", "shared"],
        ["shared", "submitted", "submitted"],
    )
    assert found[0].job.id == found[2].job.id
    with pytest.raises(UsageError):
        async with world.database.transaction() as tx:
            await submit_many(
                tx, OWNER, [JobRequest("stats", inputs={"scene": (scene,)}, twins="again"), JobRequest("stats")]
            )
    assert await world.count("job") == 2
