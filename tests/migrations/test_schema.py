"""The schema that all migrations amount to, and the way to it from every release with data in it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from armillary.base import postgres
from armillary.base.migrate import migrate
from armillary.testing.database import DatabaseServer

SCHEMA = Path(__file__).parents[2] / "src" / "armillary" / "schema" / "schema.sql"
RELEASED = sorted(Path(__file__).with_name("released").glob("*.dump"))


def schema_of(dsn: str) -> str:
    """The schema in pg_dump's words, without what depends on the month, the role or the moment."""
    text = subprocess.check_output(
        [
            postgres.binaries() / "pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--no-comments",
            "--exclude-table=*_20[0-9][0-9][0-1][0-9]", f"--dbname={dsn}",
        ],
        text=True,
    )  # fmt: skip
    text = re.sub(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{2,}", "\n\n", text).strip() + "\n"


@pytest.fixture
def migrated(database_server: DatabaseServer) -> Iterator[str]:
    with database_server.fresh() as dsn:
        with psycopg.connect(dsn) as connection:
            version = connection.info.server_version // 10_000
        if version != postgres.major_version():
            pytest.xfail(f"schema.sql is in the words of PostgreSQL {postgres.major_version()}, this is {version}")
        yield dsn


def test_schema_sql_is_what_the_migrations_make(migrated: str) -> None:
    found = schema_of(migrated)
    if os.environ.get("ARMILLARY_WRITE_SCHEMA"):
        SCHEMA.write_text(found)
    assert SCHEMA.read_text() == found, "write it anew: make schema"


async def test_every_release_migrates_with_its_data(database_server: DatabaseServer) -> None:
    with database_server.fresh() as dsn:
        wanted = schema_of(dsn)
    for release in RELEASED:
        with database_server.fresh(is_migrated=False) as dsn:
            program = str(postgres.binaries() / "pg_restore")
            subprocess.run([program, "--no-owner", "--exit-on-error", f"--dbname={dsn}", str(release)], check=True)
            before = rows_in(dsn)
            assert all(before), f"{release.name} lacks granules, jobs or events: it proves nothing"
            await migrate(dsn)
            assert schema_of(dsn) == wanted
            assert rows_in(dsn) == before


def rows_in(dsn: str) -> tuple[int, ...]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        counts = "select (select count(*) from granule), (select count(*) from job), (select count(*) from event)"
        row = connection.execute(counts).fetchone()
        assert row is not None
        return row
