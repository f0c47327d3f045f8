"""Firings: once per set, whoever arrives last; waiting, timing out, late, refused."""

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from armillary.base.errors import UsageError
from armillary.rules import define, fire, schedule
from armillary.rules.explain import explain
from armillary.rules.fire import Rules
from armillary.testing.catalogue import OWNER, square

START = datetime(2026, 1, 1, tzinfo=UTC)
PAIR = {
    "kind": "rule",
    "id": "pair",
    "when": {
        "reference": {"collection": "slc", "filter": "polarisation = 'VV'"},
        "secondary": {
            "collection": "slc",
            "same": ["track"],
            "before": {"role": "reference", "by": "P12D", "within": "PT1H"},
            "overlaps": {"role": "reference", "at_least": 0.8},
        },
        "elevation": {"collection": "dem", "covers": "reference", "many": True},
        "orbits": {
            "collection": "orbit", "spans": ["reference", "secondary"], "many": True, "wait": "PT3H", "then": "proceed",
        },
    },
    "then": {"run": "noop"},
}  # fmt: skip
INPUTS = {
    "reference": {}, "secondary": {}, "elevation": {"many": True}, "orbits": {"many": True, "optional": True},
}  # fmt: skip


def day(number, hour=0):
    return (START + timedelta(days=number, hours=hour)).isoformat()


async def scene(catalogue, name, number, west=10.0, track=52, **fields):
    times = {"start_datetime": day(number, 6), "end_datetime": day(number, 7)}
    return await catalogue.granule(
        "slc", name, geometry=square(west, 40), track=track, polarisation="VV", **times, **fields
    )


async def elevation(catalogue, name="dem", west=9.0, size=3.0):
    return await catalogue.granule("dem", name, geometry=square(west, 39, size))


async def orbit(catalogue, number):
    times = {"start_datetime": day(number), "end_datetime": day(number + 1)}
    return await catalogue.granule("orbit", f"orbit-{number}", **times)


async def firings(database, rule="pair"):
    async with database.transaction() as tx:
        return await tx.rows("select * from firing where rule = %s order by created_at", [rule])


@pytest.fixture
async def pair(catalogue):
    await catalogue.collections("slc", "dem", "orbit")
    await catalogue.algorithm(inputs=INPUTS)
    await catalogue.apply(PAIR)
    return catalogue


ARRIVALS = {
    "reference": lambda catalogue: scene(catalogue, "ref", 12),
    "secondary": lambda catalogue: scene(catalogue, "sec", 0),
    "elevation": elevation,
    "orbit of reference": lambda catalogue: orbit(catalogue, 12),
    "orbit of secondary": lambda catalogue: orbit(catalogue, 0),
}


@pytest.mark.parametrize("order", list(itertools.permutations(ARRIVALS))[::7])
async def test_whoever_arrives_last_completes_the_set_once(pair, database, react, order):
    for position, name in enumerate(order):
        assert not [one for one in await firings(database) if one["state"] == "submitted"], order[:position]
        await ARRIVALS[name](pair)
        await react()
    [firing] = await firings(database)
    assert (firing["state"], firing["missing"]) == ("submitted", [])
    async with database.transaction() as tx:
        inputs = await tx.rows("select role, granule from job_input where job_id = %s", [firing["job_id"]])
    assert {(row["role"], row["granule"]) for row in inputs} == {
        ("reference", "ref"), ("secondary", "sec"), ("elevation", "dem"), ("orbits", "orbit-0"), ("orbits", "orbit-12"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("why", "reference", "secondary"),
    [
        ("another track", {"number": 12}, {"number": 0, "track": 53}),
        ("eleven days apart", {"number": 11}, {"number": 0}),
        ("hardly overlapping", {"number": 12}, {"number": 0, "west": 10.5}),
        ("the wrong way round", {"number": 0}, {"number": 12, "west": 30.0}),
    ],
)
async def test_a_pair_that_breaks_a_relation_does_not_fire(pair, database, react, why, reference, secondary):
    await elevation(pair, size=40.0)
    await scene(pair, "ref", **reference)
    await scene(pair, "sec", **secondary)
    await react()
    assert await firings(database) == [], why


async def test_covering_is_by_the_union(pair, database, react):
    await scene(pair, "ref", 12)
    await scene(pair, "sec", 0)
    await orbit(pair, 0)
    await orbit(pair, 12)
    await elevation(pair, "west", 8.4, 2.2)
    await react()
    assert [one["state"] for one in await firings(database)] == ["waiting"]
    await elevation(pair, "east", 10.4, 2.2)
    await react()
    assert [one["state"] for one in await firings(database)] == ["submitted"]


async def test_an_awaited_role_is_given_up_at_its_time_and_what_comes_later_is_noted(pair, database, react, clock):
    await elevation(pair)
    await scene(pair, "ref", 12)
    await scene(pair, "sec", 0)
    await orbit(pair, 0)
    await react()
    [firing] = await firings(database)
    assert firing["state"] == "waiting"
    assert firing["reason"] == "Waits for orbits."
    clock.advance(timedelta(hours=2, minutes=59))
    await react()
    assert (await firings(database))[0]["state"] == "waiting"
    clock.advance(timedelta(minutes=2))
    await react()
    [firing] = await firings(database)
    assert (firing["state"], firing["missing"]) == ("submitted", ["orbits"])
    await orbit(pair, 12)
    await react()
    await react()
    [firing] = await firings(database)
    assert [late["granule"] for late in firing["late"]] == ["orbit/orbit-12"]


async def test_dropping_says_what_did_not_come(catalogue, database, react, clock):
    await catalogue.collections("a", "b")
    await catalogue.algorithm(inputs={"a": {}, "b": {"many": True}})
    rule = {
        "kind": "rule", "id": "pair", "then": {"run": "noop"},
        "when": {"a": {"collection": "a"}, "b": {"collection": "b", "many": True, "wait": "PT1H", "then": "drop"}},
    }  # fmt: skip
    await catalogue.apply(rule)
    await catalogue.granule("a", "one")
    await react()
    clock.advance(timedelta(hours=1))
    await react()
    [firing] = await firings(database)
    assert (firing["state"], firing["reason"]) == ("expired", "b did not come in time.")


async def test_ingesting_all_again_adds_nothing(pair, database, react):
    for _ in range(2):
        for arrive in ARRIVALS.values():
            await arrive(pair)
        await react()
    assert len(await firings(database)) == 1
    async with database.transaction() as tx:
        assert await tx.value("select count(*) from job") == 1


async def test_a_refused_submission_is_a_refused_firing_with_the_reason(catalogue, database, react):
    await catalogue.collections("a")
    await catalogue.algorithm(inputs={"a": {}}, parameters={"n": {"type": "integer"}})
    rule = {
        "kind": "rule",
        "id": "pair",
        "when": {"a": {"collection": "a"}},
        "then": {"run": "noop", "parameters": {"n": "x"}},
    }
    await catalogue.apply(rule)
    await catalogue.granule("a", "one")
    await react()
    [firing] = await firings(database)
    assert firing["state"] == "refused"
    assert "n" in firing["reason"]


async def test_a_rule_that_would_trigger_itself_is_refused_by_name(catalogue):
    await catalogue.collections("a", "b")
    await catalogue.algorithm(id="forth", inputs={"a": {}}, outputs={"b": {"collection": "b"}})
    await catalogue.algorithm(id="back", inputs={"b": {}}, outputs={"a": {"collection": "a"}})
    await catalogue.apply({"kind": "rule", "id": "forth", "when": {"a": {"collection": "a"}}, "then": {"run": "forth"}})
    with pytest.raises(UsageError, match="back → a → forth → b → back"):
        await catalogue.apply(
            {"kind": "rule", "id": "back", "when": {"b": {"collection": "b"}}, "then": {"run": "back"}}
        )


async def test_two_rules_share_one_job_and_each_firing_has_it(catalogue, database, react):
    await catalogue.collections("a")
    await catalogue.algorithm(inputs={"a": {}})
    for name in ("first", "second"):
        await catalogue.apply({"kind": "rule", "id": name, "when": {"a": {"collection": "a"}}, "then": {"run": "noop"}})
    await catalogue.granule("a", "one")
    await react()
    [first], [second] = await firings(database, "first"), await firings(database, "second")
    assert first["job_id"] == second["job_id"]
    first, second = sorted((first, second), key=lambda one: one["outcome"] == "shared")
    assert (first["outcome"], first["reason"]) == ("submitted", "Complete.")
    assert second["outcome"] == "shared"
    assert second["reason"] == (
        f"Complete. Job {first['job_id']} does the same work and is queued. So says twins: reuse."
    )
    async with database.transaction() as tx:
        told = await tx.rows("select detail from event where kind = 'firing.submitted' order by at")
    assert sorted(one["detail"]["outcome"] for one in told) == ["shared", "submitted"]


async def test_a_firing_whose_work_is_done_already_says_by_which_job(catalogue, database, react):
    await catalogue.collections("a")
    await catalogue.algorithm(inputs={"a": {}})
    rule = {"kind": "rule", "when": {"a": {"collection": "a"}}, "then": {"run": "noop"}}
    await catalogue.apply(rule | {"id": "first"})
    await catalogue.granule("a", "one")
    await react()
    async with database.transaction() as tx:
        await tx.execute("delete from job_queue")
        await tx.execute("set local session_replication_role = replica")
        await tx.execute("update job set state = 'succeeded'")
    await catalogue.apply(rule | {"id": "second"})
    async with database.transaction() as tx:
        await define.backfill(tx, OWNER, "second", dry_run=False)
    await react()
    [first], [second] = await firings(database, "first"), await firings(database, "second")
    assert (second["outcome"], second["job_id"]) == ("reused", first["job_id"])
    assert (
        f"Job {first['job_id']} did the same work and its products are here. So says twins: reuse." in second["reason"]
    )


async def test_a_rule_applied_backwards_fires_for_what_is_there(catalogue, database, react):
    await catalogue.collections("a")
    await catalogue.algorithm(inputs={"a": {}})
    await catalogue.granule("a", "one")
    await react()
    await catalogue.apply({"kind": "rule", "id": "pair", "when": {"a": {"collection": "a"}}, "then": {"run": "noop"}})
    await react()
    assert await firings(database) == []
    async with database.transaction() as tx:
        assert await define.backfill(tx, OWNER, "pair", dry_run=True) == 1
        await define.backfill(tx, OWNER, "pair", dry_run=False)
    await react()
    assert len(await firings(database)) == 1


async def test_a_scheduled_rule_fires_once_per_time_and_makes_up_for_missed_ones_once(catalogue, database, clock):
    await catalogue.collections("a")
    await catalogue.algorithm(inputs={"a": {"many": True}})
    rule = {
        "kind": "rule", "id": "pair", "schedule": "0 3 * * *", "then": {"run": "noop"},
        "when": {"a": {"collection": "a", "many": True, "last": "P1D"}},
    }  # fmt: skip
    await catalogue.apply(rule)
    await catalogue.granule("a", "one")
    rules = Rules()

    async def tick():
        async with database.transaction() as tx:
            return await schedule.tick(tx, rules)

    assert not await tick()
    clock.set(datetime(2026, 3, 2, 3, 0, 1, tzinfo=UTC))
    assert await tick()
    assert not await tick()
    assert [one["state"] for one in await firings(database)] == ["submitted"]
    clock.advance(timedelta(days=3))
    assert await tick()
    assert len(await firings(database)) == 2


async def test_explaining_says_which_relation_fails(pair, database, react):
    await scene(pair, "ref", 12)
    await scene(pair, "sec", 0, track=53)
    await react()
    async with database.transaction() as tx:
        explanation = await explain(tx, OWNER, "pair", "slc", "ref")
    assert "  secondary: no granule stands in the relations; 2 pass its own filter." in explanation.lines


async def test_many_sets_from_many_clients_fire_once_each_under_dying_reactors(catalogue, database):
    """Sets of two single and two many roles, in random order from 8 clients, before 3 reactors that stop at random."""
    sets, clients = 60, 8
    await catalogue.collections("a", "b", "c", "d")
    await catalogue.algorithm(inputs={"a": {}, "b": {}, "c": {"many": True}, "d": {"many": True}})
    many = {"many": True, "min": 2, "same": ["set"]}
    await catalogue.apply(
        {
            "kind": "rule", "id": "pair", "then": {"run": "noop"},
            "when": {
                "a": {"collection": "a"}, "b": {"collection": "b", "same": ["set"]},
                "c": {"collection": "c", **many}, "d": {"collection": "d", **many},
            },
        }
    )  # fmt: skip
    members = [("a", 1), ("b", 1), ("c", 2), ("d", 2)]
    arrivals = [
        (name, f"{number}-{n}", number) for number in range(sets) for name, count in members for n in range(count)
    ]
    random.Random(5).shuffle(arrivals)
    everything_arrived = asyncio.Event()

    async def client(share):
        for collection, name, number in share:
            await catalogue.granule(collection, name, set=number)

    async def reactor(seed):
        chance = random.Random(seed)
        rules = Rules()
        while True:
            work = asyncio.create_task(fire.react(database, rules))
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.02)
                work.cancel()  # as a kill would: its transaction is gone
            result = await asyncio.gather(work, return_exceptions=True)
            if everything_arrived.is_set() and result == [False]:
                return

    reactors = [asyncio.create_task(reactor(seed)) for seed in range(3)]
    for again in (False, True):
        await asyncio.gather(*(client(arrivals[n::clients]) for n in range(clients)))
        if again:
            everything_arrived.set()
    await asyncio.gather(*reactors)
    found = await firings(database)
    assert len(found) == sets
    assert {one["state"] for one in found} == {"submitted"}
    assert len({one["job_id"] for one in found}) == sets
