"""How a worker asks."""

from armillary.runner.session import spread


def test_workers_that_began_at_once_do_not_ask_at_once_for_ever():
    drawn = [spread(40.0) for _ in range(100)]
    assert all(30.0 <= seconds <= 40.0 for seconds in drawn)
    assert max(drawn) - min(drawn) > 1.0
