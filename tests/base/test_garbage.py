"""Cycles are freed in turns: new ones at once, old ones when it is time to look at all."""

import gc
import itertools
import weakref

import pytest

from armillary.base.garbage import ALL_SECONDS, ALL_SHARE, Garbage


class Cycle:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self):
        self.itself = self


def cycle():
    """Watch one that nobody holds."""
    return weakref.ref(Cycle())


@pytest.fixture(autouse=True)
def collected():
    gc.collect()
    yield
    gc.enable()


async def test_new_cycles_are_freed_at_each_turn_and_not_before():
    garbage = Garbage(itertools.count().__next__)
    made = cycle()
    kept = [[] for _ in range(10_000)]
    assert made() is not None
    await garbage.turn()
    assert made() is None
    assert len(kept) == 10_000


async def test_a_cycle_of_old_objects_is_freed_when_all_are_looked_at():
    now = [0.0]
    garbage = Garbage(lambda: now[0])
    made = Cycle()
    watched = weakref.ref(made)
    await garbage.turn()
    del made
    await garbage.turn()
    assert watched() is not None
    now[0] = ALL_SECONDS
    await garbage.turn()
    assert watched() is None


async def test_what_takes_long_is_done_seldom():
    times = iter([0.0, ALL_SECONDS, ALL_SECONDS + 2])
    garbage = Garbage(lambda: next(times, ALL_SECONDS + 2 / ALL_SHARE - 1))
    await garbage.turn()
    made = Cycle()
    watched = weakref.ref(made)
    await garbage.turn()
    del made
    await garbage.turn()
    assert watched() is not None
    times = iter([ALL_SECONDS + 2 / ALL_SHARE])
    await garbage.turn()
    assert watched() is None
