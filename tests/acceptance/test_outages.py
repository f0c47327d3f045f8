"""PostgreSQL or one of two servers is killed while jobs run: no attempt is lost by an outage of ours, and work goes on."""

import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from datetime import timedelta

import pytest

from armillary.base import postgres
from armillary.base.links import Links
from armillary.testing.instance import Instance, attempts, kill_session

OUTAGE_SECONDS = 6  # longer than the time to live of a worker and its heartbeats


@pytest.fixture
def database(tmp_path_factory):
    """The home of a PostgreSQL that no server of ours looks after."""
    home = tmp_path_factory.mktemp("database")
    postgres.start(home)
    yield home
    postgres.stop(home)
    shutil.rmtree(home, ignore_errors=True)


def running(instance, *names, seconds=OUTAGE_SECONDS + 3):
    """A job each, once all of them run, and the workers that run them."""
    for name in names:
        assert instance.ingest(name).returncode == 0
    jobs = [instance.submit(name, seconds=seconds) for name in names]
    instance.wait(lambda: all(instance.job(job)["state"] == "running" for job in jobs), "the start of the jobs")
    return jobs


def only_attempts(instance, jobs):
    """All attempts of these jobs, once they have ended."""
    return [attempts(instance.ended(job)) for job in jobs]


def test_an_outage_of_the_database_loses_no_running_job(tmp_path, database):
    instance = Instance(tmp_path / "home", "--dsn", postgres.dsn(database))
    instance.start()
    try:
        instance.apply(tmp_path / "definitions")
        jobs = running(instance, "one", "two", "three")
        workers = instance.workers()
        os.kill(postgres.is_running(database), signal.SIGKILL)
        time.sleep(OUTAGE_SECONDS)
        postgres.start(database)
        assert only_attempts(instance, jobs) == [["succeeded"]] * 3
        assert set(workers) <= set(instance.workers())
        assert instance.ingest("four").returncode == 0
        instance.wait(lambda: instance.product("four"), "a product of what came later")
        assert instance.doctor() == []
    finally:
        instance.close()


def test_a_killed_embedded_database_is_started_again_by_its_server(tmp_path):
    instance = Instance(tmp_path / "home")
    instance.start()
    try:
        instance.apply(tmp_path / "definitions")
        jobs = running(instance, "one", seconds=6)
        killed = instance.postgres()
        instance.kill_postgres()
        instance.wait(lambda: instance.postgres() not in (None, killed), "another PostgreSQL")
        assert only_attempts(instance, jobs) == [["succeeded"]]
        assert instance.doctor() == []
    finally:
        instance.close()


def test_of_two_servers_one_dies_and_the_other_goes_on(tmp_path, database):
    flags = ("--dsn", postgres.dsn(database), "--store", str(tmp_path / "store"))
    first, second = (Instance(tmp_path / name, *flags) for name in ("first", "second"))
    first.start()
    second.start()
    try:
        first.apply(tmp_path / "definitions")
        [job] = running(first, "one", seconds=6)
        assert {one["holder"] for one in first.rows("select holder from singleton where name = 'pools'")} == {
            server_of(first)
        }
        first.kill()
        assert second.ingest("two").returncode == 0
        second.wait(lambda: second.product("two"), "a product of what the other server ingested")
        lost = second.ended(job)
        assert attempts(lost) in (["lost", "succeeded"], ["succeeded"])  # its worker spoke to the first server alone
        assert second.product("one")["revision"] == 1
        assert second.rows("select holder from singleton where name = 'pools'") == [{"holder": server_of(second)}]
        assert [len(second.jobs_of(name)) for name in ("one", "two")] == [2, 1]
        assert second.rows("select count(*) from firing") == [{"count": 2}]
        assert second.doctor() == []
    finally:
        for worker in first.workers():  # they would wait for their server, and the other's stop for them
            kill_session(worker)
        second.close()
        first.close()


def test_a_link_of_one_server_is_good_at_the_other_and_a_home_of_before_keeps_its_links(tmp_path, database):
    flags = ("--dsn", postgres.dsn(database), "--store", str(tmp_path / "store"), "--role", "web")
    first, second = (Instance(tmp_path / name, *flags) for name in ("first", "second"))
    for instance, key in ((first, b"f" * 32), (second, b"s" * 32)):
        (instance.home / "secrets").mkdir()
        (instance.home / "secrets" / "links.key").write_bytes(key)
    try:
        first.start()
        first.apply(tmp_path / "definitions")
        assert first.ingest("one").returncode == 0
        second.start()
        assert (tmp_path / "store" / ".links.key").read_bytes() == b"f" * 32
        [path] = [file["href"] for file in first.get("/api/granules/raw/one")["files"]]
        bare = path.partition("?")[0]
        links = [path, second.get("/api/granules/raw/one")["files"][0]["href"]]
        for instance in (first, second):
            assert [fetched(instance, link) for link in links] == [b"x" * 1000] * 2
        for home, key in ((first, b"f" * 32), (second, b"s" * 32)):
            assert fetched(home, Links(key).sign(bare, timedelta(hours=1))) == b"x" * 1000
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetched(first, Links(b"s" * 32).sign(bare, timedelta(hours=1)))
        for instance in (first, second):
            said = (instance.home / "server.log").read_bytes()
            assert not any(secret in said for secret in (b"f" * 32, b"s" * 32, (b"f" * 32).hex().encode()))
    finally:
        second.close()
        first.close()


def fetched(instance, link):
    """What anybody gets for a link."""
    with instance.client as client, urllib.request.urlopen(f"{client.url}{link}") as answer:
        return answer.read()


def server_of(instance):
    [row] = instance.rows("select id from server where pid = %s", instance.process.pid)
    return row["id"]
