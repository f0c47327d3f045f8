"""Lists of faults: a seed is a run, and a round leaves nothing out."""

from armillary.testing.faults import LASTING, ROUND, faults

POINTS = ["a.b", "c.d"]
ONE_ROUND = sum(ROUND.values()) + len(POINTS)


def test_a_seed_is_a_whole_run():
    assert faults(7, 100, POINTS) == faults(7, 100, POINTS)
    assert faults(7, 100, POINTS) != faults(8, 100, POINTS)
    assert faults(7, 100, POINTS)[:30] == faults(7, 30, POINTS)


def test_a_round_breaks_everything_there_is():
    found = {(fault.kind, fault.target) for fault in faults(7, ONE_ROUND, POINTS)}
    assert found == {*ROUND, ("crash", "a.b"), ("crash", "c.d")}


def test_what_lasts_is_over_some_time():
    for fault in faults(7, 500, POINTS):
        assert (fault.seconds > 0) == (fault.kind in (*LASTING, "jump"))
        assert fault.pause_seconds > 0
