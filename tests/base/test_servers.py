"""Singletons and reachability."""

import subprocess
from datetime import timedelta

import pytest

from armillary.base import servers
from armillary.base.errors import Conflict
from armillary.base.ids import new_id


async def test_a_singleton_has_one_holder_until_it_falls_silent_and_the_old_ones_writes_are_refused(database, clock):
    first, second = new_id(), new_id()
    async with database.transaction() as tx:
        epoch = await servers.hold(tx, "sweep", first)
        assert await servers.hold(tx, "sweep", second) is None
        assert await servers.hold(tx, "sweep", first) == epoch
    clock.advance(timedelta(seconds=11))
    async with database.transaction() as tx:
        assert await servers.hold(tx, "sweep", second) == epoch + 1
        await servers.check(tx, "sweep", epoch + 1)
        with pytest.raises(Conflict):
            await servers.check(tx, "sweep", epoch)


async def test_what_a_killed_server_of_this_machine_held_is_free_once_another_starts(database, clock):
    with subprocess.Popen(["true"]) as process:
        pass
    dead, living, next_one = new_id(), new_id(), new_id()
    async with database.transaction() as tx:
        await servers.enter(tx, dead, ["pools"], "1")
        await tx.execute("update server set pid = %s where id = %s", [process.pid, dead])
        await servers.enter(tx, living, ["pools"], "1")
        epoch = await servers.hold(tx, "sweep", dead)
        assert await servers.hold(tx, "other", living)
        await servers.enter(tx, next_one, ["pools"], "1")
        assert await servers.hold(tx, "sweep", next_one) == epoch + 1
        assert await servers.hold(tx, "other", next_one) is None


@pytest.mark.parametrize(("time_to_live_seconds", "gap_seconds"), [(60, 5), (4, 2)])
async def test_reachability_begins_anew_after_a_gap_of_half_a_time_to_live_at_most(
    database, clock, time_to_live_seconds, gap_seconds
):
    server = new_id()

    async def since():
        async with database.transaction() as tx:
            await servers.beat(tx, server, timedelta(seconds=time_to_live_seconds), is_web=True)
            return await tx.value("select since from reachable")

    first = await since()
    clock.advance(timedelta(seconds=gap_seconds - 0.5))
    assert await since() == first
    clock.advance(timedelta(seconds=gap_seconds + 0.5))
    assert await since() == clock()
