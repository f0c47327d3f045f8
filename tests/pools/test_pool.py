import math
from datetime import timedelta

import pytest

from armillary.algorithms.algorithm import Resources
from armillary.base.errors import UsageError
from armillary.pools.pool import BEATS_PER_SECOND, default_document, fits, pulse, read

DOCUMENT = {
    "kind": "pool",
    "id": "default",
    "provider": "local",
    "workers": {"min": 0, "max": 4},
    "worker": {"cpu": 2, "memory": "8GiB", "disk": "50GiB"},
    "scale": {"drain_within": "30min", "idle_after": "5min", "cost_per_hour": 0.4, "max_cost_per_day": 50},
}


def test_a_whole_document_is_read():
    pool = read(DOCUMENT)
    assert (pool.id, pool.provider, pool.min_workers, pool.max_workers) == ("default", "local", 0, 4)
    assert pool.worker == Resources(2, 8 * 2**30, 50 * 2**30, math.inf)
    assert (pool.scale.idle_after.total_seconds(), pool.scale.max_cost_per_day) == (300, 50)


def test_the_first_pool_is_this_machine():
    pool = read(default_document(1))
    assert (pool.id, pool.provider, pool.min_workers, pool.max_workers, pool.worker) == ("default", "local", 1, 1, None)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"provider": "cloud"}, "provider"),
        ({"workers": {"min": 3, "max": 2}}, "workers.min"),
        ({"workers": {"max": -1}}, "workers.max"),
        ({"workers": {"maximum": 1}}, "workers.maximum"),
        ({"worker": {"cpu": 2}}, "worker.memory"),
        ({"worker": {"cpu": 2, "memory": "big", "disk": "1GiB"}}, "worker.memory"),
        ({"worker": {"cpu": 2, "memory": "1GiB", "disk": "1GiB", "gpu": 0.5}}, "worker.gpu"),
        ({"worker": 7}, "worker"),
        ({"scale": {"idle_after": "soon"}}, "scale.idle_after"),
        ({"scale": {"cost_per_hour": "cheap"}}, "scale.cost_per_hour"),
        ({"idle": 1}, "idle"),
        ({"id": "a/b"}, "id"),
    ],
)
def test_what_is_wrong_is_named(part, field):
    with pytest.raises(UsageError) as caught:
        read(DOCUMENT | part)
    assert caught.value.field == field


def test_a_worker_fits_a_job_in_every_respect():
    size = Resources(2, 10, 10, 0)
    assert fits(size, Resources(2, 10, 10, 999))
    assert not any(
        fits(size, job)
        for job in (Resources(3, 1, 1), Resources(1, 11, 1), Resources(1, 1, 11), Resources(1, 1, 1, gpu=1))
    )


@pytest.mark.parametrize("workers", [0, 1, 100, 1_000, 11_000, 100_000])
def test_a_fleet_of_any_size_beats_no_more_often_than_its_servers_bear(workers):
    heartbeat, time_to_live = timedelta(seconds=2), timedelta(seconds=15)
    told = pulse(workers, heartbeat, time_to_live)
    assert workers / told.every.total_seconds() <= BEATS_PER_SECOND
    assert told.every >= heartbeat
    assert told.silent_after >= time_to_live
    assert told.silent_after >= 3 * told.every
    if workers <= 100:
        assert (told.every, told.silent_after) == (heartbeat, time_to_live)
