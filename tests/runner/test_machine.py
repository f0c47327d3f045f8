"""A worker tells how its machine is, seldom, and never at the cost of its heartbeat."""

from pathlib import Path

from armillary.runner.machine import EVERY_SECONDS, Machine


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


def test_it_is_measured_every_ten_seconds_at_most(tmp_path):
    clock = Clock()
    machine = Machine(tmp_path, lambda: 7, clock)
    found = machine.news()
    assert found["cache_bytes"] == 7
    assert 0 < found["memory_used_bytes"] <= found["memory_bytes"]
    assert 0 < found["work_disk_used_bytes"] <= found["work_disk_bytes"]
    assert machine.news() is None
    clock.seconds += EVERY_SECONDS
    again = machine.news()
    assert 0 <= again["core_min_ratio"] <= again["cpu_ratio"] <= again["core_max_ratio"] <= 1


def test_a_disk_that_is_gone_costs_the_measurement_and_not_the_heartbeat():
    clock = Clock()
    machine = Machine(Path("/nowhere/at/all"), lambda: 0, clock)
    assert machine.news() is None


def test_a_cache_that_cannot_be_read_is_no_reason_to_fall_silent(tmp_path):
    def broken():
        raise OSError("Input/output error")

    assert Machine(tmp_path, broken, Clock()).news() is None
