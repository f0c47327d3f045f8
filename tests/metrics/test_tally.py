"""Counters say what the history says, once, and cost by what is new."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from armillary.base.ids import new_id
from armillary.jobs.queue import lose
from armillary.metrics import scrape, store, tally
from armillary.metrics.metric import ALL, TALLIED
from armillary.testing.metrics import USAGE


async def counted(database):
    """Everything that was counted, as Prometheus reads it: {(series, labels…): value}."""
    async with database.transaction() as tx:
        tallies = await store.tallies(tx)
    text = scrape._text(tallies, {}).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def count(database):
    async with database.transaction() as tx:
        return await tally.count(tx)


async def one_job(world, name="one", usage=USAGE):
    """A job whose first attempt is lost and whose second makes a picture."""
    job = (await world.submit(await world.granule(name))).job.id
    worker = await world.worker()
    await world.lease(worker)
    async with world.database.transaction() as tx:
        await lose(tx, [worker.worker_id], "The power was cut.")
    other = await world.worker()
    (lease,) = await world.lease(other)
    await world.finish(
        other, replace(await world.succeed(other, lease, f"{name}-picture", b"12345"), usage=usage, exit_code=0)
    )
    return job


async def test_every_tallied_metric_counts_the_story_of_a_job(world):
    await one_job(world)
    await count(world.database)
    found = await counted(world.database)
    of_stats = ("algorithm", "stats")

    def attempts(outcome, error_class, code):
        key = [of_stats, ("error_class", error_class), ("exit_code", code), ("outcome", outcome), ("pool", "default")]
        return found["armillary_attempts_total", *key]

    assert attempts("lost", "lost", "") == 1
    assert attempts("succeeded", "", "0") == 1
    assert found["armillary_jobs_ended_total", of_stats, ("state", "succeeded")] == 1
    for name, total in (
        ("job_duration_seconds", None), ("job_wait_seconds", None), ("attempt_run_seconds", 20.0), ("attempt_cpu_seconds", 15.0),
        ("attempt_stage_in_seconds", 2.0), ("attempt_stage_out_seconds", 0.5), ("attempt_memory_bytes", 3 << 20),
        ("attempt_disk_bytes", 5000), ("attempt_input_bytes", (4 << 20) + 1000), ("input_transfer_bytes_per_second", 2 << 20),
        ("product_transfer_bytes_per_second", 10),
    ):  # fmt: skip
        assert found[f"armillary_{name}_count", of_stats] == 1, name
        assert total is None or found[f"armillary_{name}_sum", of_stats] == total, name
    assert found["armillary_attempt_duration_seconds_count", of_stats] == 2
    assert found["armillary_attempt_run_seconds_bucket", of_stats, ("le", "15.0")] == 0
    assert found["armillary_attempt_run_seconds_bucket", of_stats, ("le", "60.0")] == 1
    assert found["armillary_input_files_total", of_stats, ("source", "cache")] == 1
    assert found["armillary_input_bytes_total", of_stats, ("source", "fetched")] == 4 << 20
    assert found["armillary_product_bytes_sum", of_stats, ("collection", "picture")] == 5
    assert found["armillary_granules_total", ("collection", "scene")] == 1
    assert found["armillary_granule_bytes_total", ("collection", "picture")] == 5
    assert found["armillary_events_total", ("kind", "job.submitted")] == 1
    assert found["armillary_worker_events_total", ("kind", "registered"), ("pool", "default")] == 2


async def test_each_round_adds_what_is_new_and_no_more(world):
    for name in ("one", "two"):
        await one_job(world, name)
        await count(world.database)
        await count(world.database)
    found = await counted(world.database)
    assert found["armillary_jobs_ended_total", ("algorithm", "stats"), ("state", "succeeded")] == 2
    assert found["armillary_attempt_run_seconds_sum", ("algorithm", "stats")] == 40


async def test_a_round_that_fails_counts_nothing(world):
    await one_job(world)

    async def fail(tx):
        await tally.count(tx)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await world.database.retry(fail)
    await count(world.database)
    assert (await counted(world.database))["armillary_attempt_run_seconds_count", ("algorithm", "stats")] == 1


@pytest.mark.parametrize(
    "usage",
    [
        {"run_seconds": "long", "cpu_seconds": {}, "transfers": "none"},
        {"run_seconds": -1, "cpu_seconds": 10**400, "transfers": [{"bytes": 1}, {"bytes": "x", "seconds": 1}, 3, None]},
        {"cpu_seconds": None, "peak_memory_bytes": [1, 2], "transfers": {"bytes": -5, "seconds": 1}},
    ],
)
async def test_whatever_a_worker_says_of_itself_the_count_goes_on(world, usage):
    await one_job(world, usage=usage)
    await count(world.database)
    found = await counted(world.database)
    assert found["armillary_jobs_ended_total", ("algorithm", "stats"), ("state", "succeeded")] == 1
    assert not found.get(("armillary_attempt_cpu_seconds_count", ("algorithm", "stats")))


async def test_a_job_that_is_cancelled_as_it_waits_ends_without_an_attempt(world):
    from armillary.jobs import cancel
    from armillary.testing.world import OWNER

    job = (await world.submit(await world.granule("one"))).job.id
    async with world.database.transaction() as tx:
        await cancel.cancel(tx, OWNER, job)
    await count(world.database)
    found = await counted(world.database)
    assert found["armillary_jobs_ended_total", ("algorithm", "stats"), ("state", "cancelled")] == 1
    assert not any(name == "armillary_attempts_total" for name, *_ in found)


async def test_a_value_that_is_a_bound_belongs_to_its_bucket(world):
    await one_job(world, usage=USAGE | {"run_seconds": 15.0})
    await count(world.database)
    assert (await counted(world.database))[
        "armillary_attempt_run_seconds_bucket", ("algorithm", "stats"), ("le", "15.0")
    ] == 1


async def test_one_server_counts_and_another_takes_over_when_it_is_gone(clock, world):
    first, second = new_id(), new_id()
    await tally.add_up(world.database, first)
    await one_job(world)
    clock.advance(timedelta(seconds=1))
    await tally.add_up(world.database, second)
    assert not await counted(world.database)
    clock.advance(timedelta(minutes=1))
    await tally.add_up(world.database, second)
    assert (await counted(world.database))["armillary_attempt_run_seconds_count", ("algorithm", "stats")] == 1


def test_the_names_are_as_prometheus_wants_them():
    assert len({metric.name for metric in ALL}) == len(ALL)
    for metric in ALL:
        assert metric.name.startswith("armillary_"), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.bounds) == (metric.kind == "histogram"), metric.name
        assert list(metric.bounds) == sorted(set(metric.bounds)), metric.name
        assert metric.meaning.endswith("."), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_bytes", "_bytes_per_second")), metric.name
    assert {metric.name for metric in TALLIED} == set(store._SOURCES)
