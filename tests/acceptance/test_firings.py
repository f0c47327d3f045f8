"""Many sets from many clients fire once each, before reactors that are killed every second and a database that is killed once."""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from armillary.base import postgres
from armillary.base.db import Database
from armillary.base.errors import TransientError
from armillary.base.migrate import migrate
from armillary.testing.catalogue import Catalogue

SETS = int(os.environ.get("ARMILLARY_CHAOS_SETS", "60"))
CLIENTS, REACTORS, KILL_EVERY_SECONDS = 8, 3, 1.0
MEMBERS = [("a", 1), ("b", 1), ("c", 2), ("d", 2)]
MANY = {"many": True, "min": 2, "same": ["set"]}
RULE = {
    "kind": "rule", "id": "sets", "then": {"run": "noop"},
    "when": {
        "a": {"collection": "a"}, "b": {"collection": "b", "same": ["set"]},
        "c": {"collection": "c", **MANY}, "d": {"collection": "d", **MANY},
    },
}  # fmt: skip


@pytest.fixture
def home(tmp_path_factory):
    made = tmp_path_factory.mktemp("database")
    yield made
    postgres.stop(made)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def catalogue(home, tmp_path):
    dsn = postgres.start(home).dsn
    await migrate(dsn)
    database = Database(dsn)
    await database.open()
    made = await Catalogue.make(database, tmp_path / "store")
    await made.collections("a", "b", "c", "d")
    await made.algorithm(inputs={"a": {}, "b": {}, "c": {"many": True}, "d": {"many": True}})
    await made.apply(RULE)
    yield made
    await database.close()


class Reactors:
    """Processes that fire rules; one that has done something is killed whenever its time has come, and another started."""

    def __init__(self, dsn, folder):
        self.dsn, self.folder, self.killed, self.numbers = dsn, folder, 0, itertools.count()
        self.ended = []  # what those said that ended by themselves
        self.processes = dict(self.start() for _ in range(REACTORS))

    def start(self):
        output = self.folder / f"reactor-{next(self.numbers)}"
        with output.open("w") as said:
            command = [sys.executable, "-m", "armillary.testing.reactor", self.dsn]
            return output, subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)

    def kill_one(self):
        """On a machine that is slow to start them, a reactor that has done nothing yet would never do anything."""
        for output, process in list(self.processes.items()):
            said, has_ended = output.read_text(), process.poll() is not None
            if has_ended:
                self.ended.append(said)
            if has_ended or "fired" in said:
                process.kill()
                process.wait()
                self.killed += not has_ended
                del self.processes[output]
                self.processes |= dict([self.start()])
                return

    async def kill_now_and_then(self):
        while True:
            await asyncio.sleep(KILL_EVERY_SECONDS)
            self.kill_one()

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


async def patiently(work):
    """Until the database is there."""
    while True:
        try:
            return await work()
        except (TransientError, psycopg.OperationalError):
            await asyncio.sleep(0.05)


async def arrive(catalogue, members):
    """Each member by one of the clients, in the order given."""
    left = iter(members)

    async def client():
        for name, number, which in left:
            await patiently(lambda n=name, s=number, w=which: catalogue.granule(n, f"{s}-{w}", set=s))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def until_quiet(catalogue, wanted):
    """No wake is left, and as many firings as wanted are decided; or none was for five minutes."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 300:
        async with catalogue.database.transaction() as tx:
            left = await tx.value("select (select count(*) from wake) + (select count(*) from rule_wake)")
            fired = await tx.value("select count(*) from firing where state = 'submitted'")
        if left == 0 and fired >= wanted:
            return
        if fired != seen:
            seen, since = fired, time.monotonic()
        await asyncio.sleep(0.1)


async def counts(catalogue):
    async with catalogue.database.transaction() as tx:
        rows = await tx.rows("select state, job_id from firing")
        jobs = await tx.value("select count(*) from job")
        inputs = await tx.value("select count(*) from job_input")
    return len(rows), {row["state"] for row in rows}, len({row["job_id"] for row in rows}), jobs, inputs


async def restart_database(home):
    os.kill(postgres.is_running(home), signal.SIGKILL)
    await asyncio.to_thread(postgres.start, home)


async def test_every_set_fires_once_whoever_dies(catalogue, home, tmp_path, capsys):
    members = [
        (name, number, which)
        for number, (name, count) in itertools.product(range(SETS), MEMBERS)
        for which in range(count)
    ]
    random.Random(5).shuffle(members)
    reactors = Reactors(catalogue.database.dsn, tmp_path)
    killing = asyncio.create_task(reactors.kill_now_and_then())
    wanted = (SETS, {"submitted"}, SETS, SETS, 6 * SETS)
    begun = time.monotonic()
    try:
        half = len(members) // 2
        await arrive(catalogue, members[:half])
        await asyncio.gather(restart_database(home), arrive(catalogue, members[half:]))
        await until_quiet(catalogue, SETS)
        seconds = time.monotonic() - begun
        assert await counts(catalogue) == wanted
        await arrive(catalogue, members)
        await until_quiet(catalogue, SETS)
        assert await counts(catalogue) == wanted
        assert reactors.killed > 0
        assert reactors.ended == [], "an outage is no reason to end"
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing
        reactors.close()
    with capsys.disabled():
        print(
            f"\n{SETS} sets of 6 granules fired once each in {seconds:.1f} s; killed: {reactors.killed} reactors, 1 database"
        )
