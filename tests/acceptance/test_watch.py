"""Of two servers one watches; it is killed, and the other goes on with what the first had found."""

import json
import shutil

import pytest

from armillary.base import postgres
from armillary.testing.instance import Instance


@pytest.fixture
def pair(tmp_path, tmp_path_factory):
    """Two servers of one database."""
    home = tmp_path_factory.mktemp("database")
    postgres.start(home)
    flags = ("--dsn", postgres.dsn(home), "--store", str(tmp_path / "store"))
    none = {"ARMILLARY_POOLS__START_LOCAL": "false"}  # nothing runs here
    first, second = (Instance(tmp_path / name, *flags, **none) for name in ("first", "second"))
    try:
        for one in (first, second):
            one.start()
        yield first, second
    finally:
        first.kill()
        second.close()
        postgres.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def watching(instance):
    """The processes of the servers that watch now."""
    return [one["pid"] for one in instance.get("/api/health")["servers"] if one["is_watching"]]


def findings(instance, **params):
    return instance.get("/api/findings", sweep="quarantine", **params)["findings"]


def test_of_two_servers_one_watches_and_the_other_takes_over(pair, tmp_path):
    first, second = pair
    # The owner's token is in the home of whoever came first.
    (second.home / "owner-token").write_text((first.home / "owner-token").read_text())
    first.wait(lambda: watching(first) == [first.process.pid], "the first to watch")
    first.apply(tmp_path / "definitions")
    first.armillary("algorithm", "pause", "count", "--reason", "We look at it.")
    (found,) = first.wait(lambda: findings(first), "a finding of the first")
    assert found["reason"] == "count 1.0.0 is paused by owner: We look at it."
    assert "count 1.0.0 is paused" in first.armillary("status").stdout
    assert "armillary algorithm resume count --version 1.0.0" in first.armillary("finding", "show", found["id"]).stdout
    ran = {one["name"]: one["ran_at"] for one in first.get("/api/health")["sweeps"]}
    first.kill()
    second.wait(lambda: watching(second) == [second.process.pid], "the second to watch")
    second.armillary("algorithm", "resume", "count")
    second.wait(lambda: not findings(second), "the second to close it")
    (closed,) = findings(second, state="closed")
    assert (closed["id"], closed["opened_at"]) == (found["id"], found["opened_at"])
    events = [one["kind"] for one in second.get(f"/api/findings/{found['id']}")["events"]]
    assert events == ["finding.opened", "finding.closed"]
    listed = second.armillary("finding", "list", "--state", "closed", "--sweep", "quarantine", "--json").stdout
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [found["id"]]
    sweeps = {one["name"]: one for one in second.get("/api/health")["sweeps"]}
    assert all(sweeps[name]["ran_at"] >= ran[name] and not sweeps[name]["error"] for name in ran)
    assert "quarantine" in second.armillary("finding", "sweeps").stdout
