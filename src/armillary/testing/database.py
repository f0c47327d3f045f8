"""Real PostgreSQL databases for tests, a fresh one in milliseconds, and a clock that only the test moves.

Load it with `pytest_plugins = ["armillary.testing.database"]`. One embedded server serves a whole run, all its
parallel workers included, or the one that `ARMILLARY_TEST_DSN` names (a role that may create databases).
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from armillary.base import postgres
from armillary.base.db import Database
from armillary.base.migrate import migrate, migrations

DSN = "ARMILLARY_TEST_DSN"
HOME = "ARMILLARY_TEST_HOME"  # of the run's embedded server: set by its first process for the others
TEMPLATE_LOCK = 0x61726D7465  # the advisory lock of whoever makes the template
HOME_PREFIX = "armillary-test-run-"
_run = pytest.StashKey[tuple[Path, IO[str]]]()

# A test's data need not survive a power cut; all else is as in production.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "authentication_timeout": "1s",  # a connection abandoned while it was made holds up `drop database` this long
}


class DatabaseServer:
    """A PostgreSQL on which tests make databases of their own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.template = _template_name()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("select pg_advisory_lock(%s)", [TEMPLATE_LOCK])
            if not _exists(connection, self.template):
                self._make_template(connection)
        self._dropping = ThreadPoolExecutor(1)  # no test waits for the end of another's database

    @contextmanager
    def fresh(self, is_migrated: bool = True) -> Iterator[str]:
        """The DSN of a new database, migrated and otherwise empty, which is gone afterwards."""
        name = f"armillary_test_{uuid4().hex[:16]}"
        self._run(
            "create database {} template {} strategy file_copy", name, self.template if is_migrated else "template0"
        )
        try:
            yield make_conninfo(self.dsn, dbname=name)
        finally:
            self._dropping.submit(self._run, "drop database {} with (force)", name)

    def close(self) -> None:
        """Wait until all databases are gone."""
        self._dropping.shutdown()

    def _make_template(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        making = f"{self.template}_making"
        connection.execute(_statement("drop database if exists {} with (force)", making))
        connection.execute(_statement("create database {} template template0", making))
        # In a thread of its own, since this one may have a loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, migrate(make_conninfo(self.dsn, dbname=making))).result()
        connection.execute(_statement("alter database {} rename to {}", making, self.template))

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(_statement(statement, *names))


class Clock:
    """The time of one database, and of whoever is handed this as its clock: it stands until the test moves it."""

    def __init__(self, dsn: str, start: datetime) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("create table test_clock (at timestamptz not null)")
        self._connection.execute("insert into test_clock values (%s)", [start])
        self._connection.execute(
            """create or replace function armillary_now() returns timestamptz language sql volatile
               as 'select at from public.test_clock'"""
        )
        self.set(start)

    def __call__(self) -> datetime:
        """What time it is."""
        row = self._connection.execute("select at from test_clock").fetchone()
        assert row is not None
        at: datetime = row[0]
        return at.astimezone(UTC)

    def set(self, time: datetime) -> None:
        """Make it this time."""
        self._connection.execute("update test_clock set at = %s", [time])
        self._connection.execute("select armillary_partitions()")

    def advance(self, by: timedelta) -> datetime:
        """Let time pass; returns what time it is then."""
        self.set(self() + by)
        return self()

    def close(self) -> None:
        """Let go of the database, whose clock stands from now on."""
        self._connection.close()


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """The server on which this run makes its databases."""
    server = DatabaseServer(os.environ.get(DSN) or postgres.start(Path(os.environ[HOME]), SETTINGS).dsn)
    yield server
    server.close()


@pytest.fixture
def database_dsn(database_server: DatabaseServer) -> Iterator[str]:
    """The DSN of a fresh database."""
    with database_server.fresh() as dsn:
        yield dsn


@pytest_asyncio.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    """A fresh database, open."""
    opened = Database(database_dsn)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def clock(database_dsn: str) -> Iterator[Clock]:
    """The clock of `database`, standing at 1 March 2026, noon."""
    frozen = Clock(database_dsn, datetime(2026, 3, 1, 12, tzinfo=UTC))
    yield frozen
    frozen.close()


# The home of a run's server ---------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Name a home for the run's server, and remove what runs that were killed have left."""
    config.addinivalue_line("markers", "database: uses a database (every test that asks for one is marked so)")
    if hasattr(config, "workerinput") or os.environ.get(DSN):
        return
    _sweep()
    home = Path(tempfile.mkdtemp(prefix=HOME_PREFIX))
    owner = (home / "owner").open("w")
    fcntl.flock(owner, fcntl.LOCK_EX)
    config.stash[_run] = (home, owner)
    os.environ[HOME] = str(home)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what uses a database, so that it can be run again on another PostgreSQL."""
    if "database_server" in getattr(item, "fixturenames", ()):
        item.add_marker("database")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the run's server."""
    if _run in config.stash:
        home, owner = config.stash[_run]
        _remove(home)
        owner.close()


def _sweep() -> None:
    for owner in Path(tempfile.gettempdir()).glob(f"{HOME_PREFIX}*/owner"):
        with contextlib.suppress(OSError), owner.open() as file:  # in use, or another user's
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(owner.parent)


def _remove(home: Path) -> None:
    postgres.stop(home)
    shutil.rmtree(home, ignore_errors=True)


# Templates --------------------------------------------------------------------------------------------------


def _template_name() -> str:
    """One for each schema and month (a database has partitions for the months around its making)."""
    digest = hashlib.sha256(f"{datetime.now(UTC):%Y%m}".encode())
    for migration in migrations():
        digest.update(migration.sha256.encode())
    return f"armillary_template_{digest.hexdigest()[:12]}"


def _exists(connection: psycopg.Connection[tuple[object, ...]], name: str) -> bool:
    return connection.execute("select from pg_database where datname = %s", [name]).fetchone() is not None


def _statement(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))
