"""Findings open, are seen again, change and close; one server watches at a time; what is old is forgotten."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.base.errors import Conflict
from armillary.base.ids import new_id
from armillary.base.settings import Settings
from armillary.watchdog import store, watch
from armillary.watchdog.finding import SEVERITIES, Finding, Known, compare
from armillary.watchdog.sweep import Sweep
from armillary.watchdog.watch import Watch, record

SECOND = timedelta(seconds=1)


def finding(subject="pool:a", severity="warning", reason="It is so."):
    return Finding(subject, severity, reason)


def known(subject, clock="2026-03-01T12:00:00Z"):
    return Known(new_id(), "s", subject, "warning", "", "", "", "owners", 1, clock, clock, None)


@given(st.sets(st.integers(0, 9)), st.lists(st.tuples(st.integers(0, 9), st.sampled_from(SEVERITIES))))
def test_what_is_found_is_open_afterwards_and_nothing_else(before, found):
    changes = compare([known(str(n)) for n in before], [finding(str(n), severity) for n, severity in found])
    opened, closed = [one.subject for one in changes.opened], [one.subject for one in changes.closed]
    seen = [one.subject for _, one in changes.seen]
    assert sorted([*opened, *seen]) == sorted({str(n) for n, _ in found})
    assert set(opened).isdisjoint(map(str, before))
    assert {*seen, *closed} == set(map(str, before))
    for one in [*changes.opened, *(one for _, one in changes.seen)]:
        same = [severity for n, severity in found if str(n) == one.subject]
        assert one.severity == max(same, key=SEVERITIES.index)


class Watched:
    """A watchdog with one sweep, which finds what a test says."""

    def __init__(self, world, every=SECOND):
        self.world, self.now, self.looks = world, [], 0
        self.watch = Watch(world.database, world.store, Settings(), [Sweep("s", "", every, self.find)])

    async def find(self, view):
        self.looks += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    async def rows(self, sql="select * from finding order by id"):
        async with self.world.database.transaction() as tx:
            return await tx.rows(sql)


@pytest.fixture
def watched(world, clock):
    return Watched(world)


async def test_a_finding_opens_is_seen_again_changes_and_closes_each_with_an_event(watched, clock):
    server, times = new_id(), []
    for now in ([finding()], [finding(reason="More so.")], [finding(severity="error")], [], [finding()]):
        watched.now = now
        assert await watched.watch.round(server) == 1
        times.append(clock())
        clock.advance(SECOND)
    first, second = await watched.rows()
    assert (first["opened_at"], first["seen_at"], first["closed_at"]) == (times[0], times[2], times[3])
    assert (second["opened_at"], second["closed_at"]) == (times[4], None)
    events = await watched.rows(
        "select subject, version, kind, actor, detail from event where subject like 'finding:%%'"
    )
    mine = [one for one in events if one["subject"] == f"finding:{first['id']}"]
    assert [(one["version"], one["kind"]) for one in mine] == [
        (1, "finding.opened"), (2, "finding.changed"), (3, "finding.closed")
    ]  # fmt: skip
    assert mine[0]["actor"] == "system:watchdog"
    assert mine[0]["detail"]["reason"] == "It is so."
    assert len(events) == 4


async def test_a_sweep_runs_when_it_is_due_whoever_ran_it_last(world, clock):
    watched, server = Watched(world, every=10 * SECOND), new_id()
    assert [await watched.watch.round(server) for _ in range(2)] == [1, 0]
    clock.advance(11 * SECOND)
    assert await Watched(world, every=12 * SECOND).watch.round(new_id()) == 0
    assert await watched.watch.round(new_id()) is None, "another has just taken over"


async def test_a_sweep_that_takes_long_runs_less_often(watched, clock):
    server = new_id()
    await watched.watch.round(server)
    await watched.rows("update sweep set seconds = 3 returning 1")
    clock.advance(59 * SECOND)
    assert await watched.watch.round(server) == 0
    clock.advance(SECOND)
    assert await watched.watch.round(server) == 1


async def test_a_sweep_that_fails_leaves_what_is_on_record_and_does_not_blind_the_others(world, clock):
    watched, other = Watched(world), Watched(world)
    sweeps = [*watched.watch.sweeps, Sweep("other", "", SECOND, other.find)]
    both, server = Watch(world.database, world.store, Settings(), sweeps), new_id()
    watched.now = [finding()]
    await both.round(server)
    watched.now, other.now = ValueError("The store does not answer."), [finding("pool:b")]
    clock.advance(SECOND)
    assert await both.round(server) == 2
    rows = await watched.rows("select sweep, subject from finding where closed_at is null order by 1")
    assert [tuple(row.values()) for row in rows] == [("other", "pool:b"), ("s", "pool:a")]
    rows = await watched.rows("select name, error from sweep order by 1")
    assert [tuple(row.values()) for row in rows] == [("other", ""), ("s", "The store does not answer.")]


async def test_a_look_that_tells_nothing_new_changes_nothing(watched, clock):
    server = new_id()
    watched.now = [finding()]
    await watched.watch.round(server)
    watched.now = None
    clock.advance(SECOND)
    await watched.watch.round(server)
    (row,) = await watched.rows()
    assert row["closed_at"] is None


async def test_whoever_was_overtaken_while_it_looked_writes_nothing(watched, clock):
    slow, quick = new_id(), new_id()

    async def overtaken(view):
        clock.advance(timedelta(minutes=1))
        assert await other.watch.round(quick) == 1
        return [finding("pool:stale")]

    other = Watched(watched.world)
    watched.watch.sweeps = [Sweep("s", "", SECOND, overtaken)]
    with pytest.raises(Conflict, match="taken over"):
        await watched.watch.round(slow)
    assert await watched.rows() == []


async def test_counts_name_every_sweep_and_severity_those_without_a_finding_too(watched):
    watched.now = [finding("a"), finding("b"), finding("c", "error")]
    await watched.watch.round(new_id())
    async with watched.world.database.transaction() as tx:
        counts = await store.counts(tx)
    assert {(row["sweep"], row["severity"]): row["open"] for row in counts} == {
        ("s", "notice"): 0, ("s", "warning"): 2, ("s", "error"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("by", ["age", "number"])
async def test_closed_findings_are_forgotten(world, clock, by, monkeypatch):
    if by == "number":
        monkeypatch.setattr(watch, "MOST_KEPT", 2)
    for number in range(4):
        async with world.database.transaction() as tx:
            await record(tx, "s", [finding(f"pool:{number}")])
        clock.advance(SECOND if by == "number" else timedelta(days=20))
    async with world.database.transaction() as tx:
        kept = await tx.rows("select subject from finding order by id")
    assert [row["subject"] for row in kept] == ["pool:1", "pool:2", "pool:3"]


async def test_no_more_than_two_hundred_of_one_sweep_and_the_worst_of_them(watched):
    watched.now = [finding(str(n)) for n in range(300)] + [finding("z", "error")]
    await watched.watch.round(new_id())
    rows = await watched.rows()
    assert len(rows) == 200
    assert "z" in {row["subject"] for row in rows}
