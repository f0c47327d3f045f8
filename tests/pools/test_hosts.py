"""Whose word counts on a worker."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from armillary.pools.fleet import Look
from armillary.pools.hosts import host_of, is_judged_on, with_others
from armillary.pools.pool import Start
from armillary.pools.provider import Found

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = timedelta(minutes=1)


def start(reference="there:7:1.00", provider="local", **more):
    about = {"worker_id": None, "worker_state": None, "is_idle": False, "idle_for": None} | more
    return Start(uuid4(), "p", provider, reference, NOON, **about)


@pytest.mark.parametrize(
    ("about", "host"),
    [
        (start(), "there"),
        (start(None), ""),
        (start(None, host="there"), "there"),
        (start("4711"), ""),
        (start("user@node:7:0198-start", provider="ssh"), ""),
        (start("1234_5", provider="slurm", host="node"), ""),
    ],
)
def test_only_processes_of_a_machine_are_its_own(about, host):
    assert host_of(about) == host
    assert is_judged_on("here", about) is (host == "")
    assert is_judged_on(host, about)


@pytest.mark.parametrize(
    ("about", "served", "is_ended"),
    [
        (start(age=timedelta(hours=1)), {"there"}, False),
        (start(age=timedelta(hours=1)), {"here"}, True),
        (start(age=timedelta(0)), {"here"}, False),
        (start(worker_id=uuid4(), worker_state="live", age=timedelta(hours=1)), set(), False),
        (start(worker_id=uuid4(), worker_state="gone"), set(), True),
        (start(worker_id=uuid4(), worker_state="gone"), {"there"}, False),
    ],
)
def test_a_worker_elsewhere_is_given_up_when_neither_it_nor_a_server_there_is_heard_of(about, served, is_ended):
    mine = uuid4()
    look = Look({mine: Found("here:1:1.00")}, frozenset(), {"p": "slow"})
    seen = with_others(look, [about], "here", served, PATIENCE)
    assert seen.found[mine] == Found("here:1:1.00")
    assert (about.id in seen.unknown, about.id in seen.found) == (not is_ended, is_ended)
    assert seen.problems == {"p": "slow"}
