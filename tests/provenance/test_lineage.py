import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prov.model import ProvDocument

from armillary.accounts.actor import Actor
from armillary.base.errors import UsageError
from armillary.granules.granule import Reference
from armillary.provenance.activity import Activity
from armillary.provenance.lineage import lineage
from armillary.provenance.prov_json import prov_json
from armillary.provenance.record import record
from armillary.testing.world import OWNER

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def granule(name, revision=1):
    return Reference("c", name, revision)


def activity(used, generated, group="owners"):
    return Activity(
        job_id=uuid4(), attempt=1, algorithm="mix", algorithm_version="1.0.0", algorithm_digest="d" * 64,
        parameters={"x": [1, {"ü": None}]}, host="node-1", group=group, agent="owner", started_at=NOON,
        ended_at=NOON + timedelta(seconds=90), used=[("in", granule(one)) for one in used],
        generated=[("out", granule(one)) for one in generated],
    )  # fmt: skip


@pytest.fixture
async def tx(world):
    async with world.database.transaction() as tx:
        yield tx


def names(found):
    return [(node.reference.id, node.depth) for node in found.nodes]


async def test_a_walk_goes_up_to_the_sources_and_down_to_the_products(tx):
    #  a ─┐                ┌─ e
    #     ├─ first ─ c ─┬─ second
    #  b ─┘             └─ third ─ f
    first, second, third = activity("ab", "c"), activity("c", "e"), activity("c", "f")
    await record(tx, [first, second, third])
    up = await lineage(tx, OWNER, granule("e"), "up")
    assert names(up) == [("e", 0), ("c", 1), ("a", 2), ("b", 2)]
    assert [one.job_id for one in up.activities] == sorted([first.job_id, second.job_id])
    down = await lineage(tx, OWNER, granule("a"), "down")
    assert names(down) == [("a", 0), ("c", 1), ("e", 2), ("f", 2)]
    assert {one.job_id for one in down.activities} == {first.job_id, second.job_id, third.job_id}
    assert not up.is_cut and not down.is_cut
    assert up.activities[0].duration_seconds == 90
    assert up.activities[0].parameters == {"x": [1, {"ü": None}]}


async def test_a_walk_stops_at_its_depth_and_says_that_there_is_more(tx):
    chain = [activity(str(number), str(number + 1)) for number in range(9)]
    await record(tx, chain)
    found = await lineage(tx, OWNER, granule("9"), "up", depth=2)
    assert (names(found), len(found.activities), found.is_cut) == ([("9", 0), ("8", 1), ("7", 2)], 2, True)
    found = await lineage(tx, OWNER, granule("9"), "up", depth=9)
    assert (len(found.nodes), len(found.activities), found.is_cut) == (10, 9, False)
    found = await lineage(tx, OWNER, granule("9"), "up", depth=0)
    assert (names(found), found.activities) == ([("9", 0)], [])
    for depth in (-1, 21):
        with pytest.raises(UsageError):
            await lineage(tx, OWNER, granule("9"), "up", depth)


async def test_a_diamond_is_walked_once(tx):
    await record(tx, [activity("a", "b"), activity("a", "c"), activity("bc", "d")])
    assert names(await lineage(tx, OWNER, granule("d"), "up")) == [("d", 0), ("b", 1), ("c", 1), ("a", 2)]


async def test_revisions_are_told_apart(tx):
    await record(tx, [activity("a", "b")])
    found = await lineage(tx, OWNER, granule("b", 2), "up")
    assert names(found) == [("b", 0)]


async def test_what_another_group_did_is_not_shown(tx):
    await tx.execute("insert into user_group (id) values ('ocean')")
    await record(tx, [activity("a", "b", "ocean"), activity("b", "c")])
    assert len((await lineage(tx, OWNER, granule("c"), "up")).activities) == 2
    found = await lineage(tx, Actor("ann", "owners"), granule("c"), "up")
    assert names(found) == [("c", 0), ("b", 1)]
    assert len(found.activities) == 1


async def test_the_export_is_prov_that_the_library_reads_back(tx):
    odd = activity(["a b.c", "größe/1"], ["p%q"])
    await record(tx, [odd])
    exported = prov_json(await lineage(tx, OWNER, granule("p%q"), "up"))
    assert len(exported["activity"]) == 1
    assert len(exported["used"]) == len(exported["wasDerivedFrom"]) == 2
    (entity,) = (one for name, one in exported["entity"].items() if name.endswith("p%25q.r1"))
    assert entity["armillary:id"] == "p%q"
    (agreed,) = exported["wasAssociatedWith"].values()
    assert agreed["prov:plan"] == "armillary:algorithm.mix.1.0.0"
    back = ProvDocument.deserialize(content=json.dumps(exported), format="json")
    assert len(back.get_records()) == sum(len(part) for name, part in exported.items() if name != "prefix")


async def test_finishing_a_job_records_its_inputs_and_products(world):
    scene, worker = await world.granule("a"), await world.worker()
    await world.submit(scene, parameters={"level": 7})
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease))
    async with world.database.transaction() as tx:
        found = await lineage(tx, OWNER, Reference("picture", "picture", 1), "up")
    assert [node.reference for node in found.nodes] == [Reference("picture", "picture", 1), scene]
    (made,) = found.activities
    assert (made.job_id, made.attempt, made.algorithm, made.host) == (lease.job_id, 1, "stats", "node-1")
    assert (made.parameters, made.used, made.generated) == (
        {"level": 7},
        [("scene", scene)],
        [("picture", Reference("picture", "picture", 1))],
    )
