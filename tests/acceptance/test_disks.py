"""A full disk at every stage: the reason is stored in words, nothing is lost, and what was asked succeeds once there is space."""

import re
from contextlib import ExitStack

import pytest

from armillary.base.errors import ArmillaryError
from armillary.client.ingest import ingest
from armillary.testing.disk import full, small_disk
from armillary.testing.instance import ALGORITHM, DEFINITIONS, RUN, Instance

MIB = 1 << 20
PLACES = {"database": "postgres", "store": "store", "cache": "workers/cache", "work": "workers/work"}
CONTENT = bytes(4 * MIB)
COLLECTIONS = DEFINITIONS.rpartition("---")[0]
ONCE = re.sub("retry:.*", "retry: {attempts: 1}", ALGORITHM)
COPY = RUN.replace('(out / "count.json")', '(out / "copy").write_bytes(file.read_bytes())\n(out / "count.json")')


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An instance each of whose parts has a disk of its own."""
    home = tmp_path_factory.mktemp("small")
    with ExitStack() as mounted:
        for place in PLACES.values():
            mounted.enter_context(small_disk(home / place, "256m"))
        made = Instance(home)
        made.start()
        made.apply(home / "definitions", algorithm=ONCE, run=COPY, definitions=COLLECTIONS)
        yield made
        made.close()


def refusals(instance, folder):
    """Ingest a folder; what was said of what was not taken."""
    try:
        with instance.client as client:
            return " ".join(str(outcome.problem) for outcome in ingest(client, [folder]) if outcome.problem)
    except ArmillaryError as error:
        return str(error)


@pytest.mark.parametrize(("place", "count"), [("store", 1), ("database", 60)])
def test_an_ingest_into_a_full_disk_says_so_and_succeeds_later(small, place, count):
    folder = small.home / f"in-{place}"
    folder.mkdir()
    for number in range(count):
        (folder / f"{place}-{number}.raw").write_bytes(CONTENT[: len(CONTENT) // count])
    with full(small.home / PLACES[place]):
        assert f"The {place}'s disk is full. Free some space" in refusals(small, folder)
    small.wait(lambda: refusals(small, folder) == "", "the second ingest")
    found = small.rows("select count(*) from item where collection = 'raw' and granule like %s", f"{place}-%")
    assert found == [{"count": count}]
    assert small.doctor() == []


@pytest.mark.parametrize(
    ("place", "leave_bytes", "error_class", "reason"),
    [
        ("cache", MIB, "out of disk", "The worker's disk is full"),
        ("work", MIB, "out of disk", "The worker's disk is full"),
        ("work", 6 * MIB, "out of disk", "No space left on device"),
        ("store", MIB, "infrastructure", "The store's disk is full"),
    ],
    ids=["cache", "work, staging in", "work, the program's own", "store"],
)
def test_a_job_on_a_full_disk_says_so_and_succeeds_later(small, place, leave_bytes, error_class, reason):
    name = f"job-{place}-{leave_bytes}"
    assert small.ingest(name, CONTENT + name.encode()).returncode == 0
    with full(small.home / PLACES[place], leave_bytes):
        job = small.ended(small.submit(name))
        [attempt] = job["attempts"]
        assert (attempt["outcome"], attempt["error_class"]) == ("failed", error_class)
        assert reason in attempt["reason"]
        assert reason in job["reason"]
        assert small.product(name) is None
    small.call("POST", f"/api/jobs/{job['id']}/retry", {})
    assert small.ended(job["id"])["state"] == "succeeded"
    assert small.product(name)["revision"] == 1
    assert small.doctor() == []
