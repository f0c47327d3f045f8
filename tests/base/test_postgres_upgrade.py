"""Data of an older PostgreSQL, brought to ours."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from armillary.base import postgres
from armillary.base.errors import Conflict, UsageError
from armillary.base.postgres_owner import give_to_owner, owner

OLD = Path("/usr/lib/postgresql/15/bin")


def says_what_the_new_does_not_know() -> bool:
    """From 15.19 on, PostgreSQL 15 dumps a column option that 18.6 refuses: such data wait for a newer 18."""
    new = postgres.binaries() / "postgres"
    return OLD.exists() and b"pg_attver" in (OLD / "pg_dump").read_bytes() and b"pg_attver" not in new.read_bytes()


pytestmark = pytest.mark.skipif(not OLD.exists(), reason="PostgreSQL 15 is not installed (Debian: postgresql-15)")
needs_older = pytest.mark.xfail(
    says_what_the_new_does_not_know(),
    reason="this PostgreSQL 15 is newer than what the embedded 18 can read",
    strict=True,
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose data were made by PostgreSQL 15, with a table in them, as after a power cut."""
    place = postgres.Place(tmp_path / "home")
    place.make()
    password = postgres._write_password(place)
    (tmp_path / "password").write_text(password)
    as_owner(OLD / "initdb", "-k", "-U", postgres.NAME, "--locale=C.UTF-8", "--encoding=UTF8", "--auth=scram-sha-256",
             f"--pwfile={tmp_path / 'password'}", "-D", place.data)  # fmt: skip
    run_old_server(place)
    yield place.home
    postgres.stop(place.home)
    shutil.rmtree(place.home)


def run_old_server(place: postgres.Place) -> None:
    """Make the database in a real server (single-user mode would number it among the system's own), and kill it."""
    folder = Path(tempfile.mkdtemp(prefix="armillary-", dir="/tmp"))
    give_to_owner(folder)
    settings = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    as_owner(OLD / "pg_ctl", "-D", place.data, "-w", "-l", place.log / "old.log", "-o", settings, "start")
    for database, statement in (
        ("postgres", "create database armillary"),
        ("armillary", "create table kept as select 42 as answer"),
    ):
        address = make_conninfo(host=str(folder), user=postgres.NAME, dbname=database, passfile=str(place.password))
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.encode())
    as_owner(OLD / "pg_ctl", "-D", place.data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def as_owner(*command: object, text: str = "") -> None:
    subprocess.run([*owner().prefix, *map(str, command)], input=text.encode(), check=True, stdout=subprocess.DEVNULL)


def answer(home: Path) -> object:
    with psycopg.connect(postgres.start(home).dsn) as connection:
        return connection.execute("select answer from kept").fetchone()


@needs_older
def test_an_upgrade_keeps_the_data_and_the_old_folder(home: Path) -> None:
    with pytest.raises(Conflict, match="armillary database upgrade"):
        postgres.start(home)
    kept = postgres.upgrade(home, OLD)
    assert (kept / "PG_VERSION").read_text() == "15\n"
    assert answer(home) == (42,)
    with pytest.raises(Conflict, match="runs in"):
        postgres.upgrade(home, OLD)
    postgres.stop(home)
    with pytest.raises(UsageError, match="already"):
        postgres.upgrade(home, OLD)


def test_programs_of_another_version_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the data are of 15"):
        postgres.upgrade(home, postgres.binaries())
    with pytest.raises(UsageError, match="holds no programs"):
        postgres.upgrade(home, tmp_path)


@needs_older
def test_an_upgrade_killed_between_its_last_two_steps_is_finished_by_the_next_start(home: Path) -> None:
    postgres.upgrade(home, OLD)
    place = postgres.Place(home)
    place.data.rename(place.upgraded)
    assert answer(home) == (42,)


@needs_older
def test_an_upgrade_killed_before_leaves_the_old_data_in_place(home: Path) -> None:
    place = postgres.Place(home)
    place.upgraded.mkdir()
    with pytest.raises(Conflict, match="armillary database upgrade"):
        postgres.start(home)
    assert not place.upgraded.exists()
    postgres.upgrade(home, OLD)
    assert answer(home) == (42,)
