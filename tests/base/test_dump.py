"""A database in a file, and back."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from armillary.base import dump
from armillary.base.errors import Conflict, TransientError
from armillary.testing.database import DatabaseServer


def rows(dsn: str, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()


def test_what_is_dumped_comes_back(database_server: DatabaseServer, database_dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "a dump"
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(
            "insert into user_group (id, title) values ('ocean', %s)", ["SET transaction_timeout = 0;\n☃"]
        )
    dump.dump(database_dsn, file)
    with database_server.fresh(is_migrated=False) as empty:
        dump.restore(empty, file)
        for question in ("select * from user_group", "select name from migration", "select id from instance"):
            assert rows(empty, question) == rows(database_dsn, question)


def test_a_dump_shows_one_moment(database_server: DatabaseServer, database_dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(database_dsn) as reader, psycopg.connect(database_dsn, autocommit=True) as writer:
        reader.execute("set transaction isolation level repeatable read")
        snapshot = reader.execute("select pg_export_snapshot()").fetchone()
        assert snapshot is not None
        writer.execute("insert into user_group (id) values ('too late')")
        dump.dump(database_dsn, tmp_path / "dump", snapshot[0])
    with database_server.fresh(is_migrated=False) as empty:
        dump.restore(empty, tmp_path / "dump")
        assert rows(empty, "select count(*) from user_group where id = 'too late'") == [(0,)]


def test_a_database_that_holds_something_is_not_restored_into(database_dsn: str, tmp_path: Path) -> None:
    dump.dump(database_dsn, tmp_path / "dump")
    with pytest.raises(Conflict, match="not empty"):
        dump.restore(database_dsn, tmp_path / "dump")


def test_half_a_dump_restores_nothing(database_server: DatabaseServer, database_dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "dump"
    dump.dump(database_dsn, file)
    file.write_bytes(file.read_bytes()[:-2000])
    with database_server.fresh(is_migrated=False) as empty:
        with pytest.raises(TransientError, match="failed"):
            dump.restore(empty, file)
        assert rows(empty, "select relname from pg_class where relnamespace = 'public'::regnamespace") == []


def test_an_older_server_is_restored_into_line_by_line(
    database_server: DatabaseServer, database_dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "dump"
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("insert into user_group (id, title) values ('ocean', 'SET transaction_timeout')")
    dump.dump(database_dsn, file)
    with database_server.fresh(is_migrated=False) as empty:
        dump._restore_into_older(empty, file)
        assert rows(empty, "select title from user_group where id = 'ocean'") == [("SET transaction_timeout",)]
    file.write_bytes(file.read_bytes()[:-2000])
    with database_server.fresh(is_migrated=False) as empty:
        with pytest.raises(TransientError, match="The restore failed"):
            dump._restore_into_older(empty, file)
        assert rows(empty, "select relname from pg_class where relnamespace = 'public'::regnamespace") == []


def test_a_password_is_not_among_the_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        assert isinstance(more["env"], dict)
        assert more["env"]["PGPASSWORD"] == "secret"
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    dump.dump("host=/nowhere password=secret", tmp_path / "dump")
    assert "secret" not in " ".join(seen[0])
