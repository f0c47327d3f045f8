"""Write a database into one file and read it back, with the embedded PostgreSQL's pg_dump and pg_restore."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from armillary.base.errors import Conflict, TransientError
from armillary.base.postgres import binaries, major_version
from armillary.base.postgres_owner import last_line


def dump(dsn: str, file: Path, snapshot: str | None = None) -> None:
    """Write one database, as it is at one moment, into `file`: pg_dump's own compressed format.

    With a `snapshot`, which an open transaction got from `pg_export_snapshot()`, what that one sees.
    """
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}"]
    _run_client("pg_dump", dsn, [*options, *([f"--snapshot={snapshot}"] if snapshot else [])])


def restore(dsn: str, file: Path) -> None:
    """Read a dump into an empty database, all or nothing."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        count = connection.execute(
            "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
        ).fetchone()
        version = connection.info.server_version // 10_000
    if count != (0,):
        raise Conflict("The database to restore into is not empty.", "Restore into a new one.")
    if version >= major_version():
        _run_client("pg_restore", dsn, ["--no-owner", "--no-privileges", "--single-transaction", str(file)])
    else:
        _restore_into_older(dsn, file)


def _run_client(tool: str, dsn: str, options: list[str]) -> None:
    address, environment = _address(dsn)
    command = [str(binaries() / tool), f"--dbname={address}", *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise TransientError(f"{tool} failed: {last_line(result.stderr)}", "Put it right and try again.")


def _address(dsn: str) -> tuple[str, dict[str, str]]:
    """The address without its password, which the environment carries: every user can read arguments."""
    parts: dict[str, Any] = dict(conninfo_to_dict(dsn))
    password = parts.pop("password", None)
    environment = dict(os.environ) | ({"PGPASSWORD": str(password)} if password else {})
    return make_conninfo(**parts), environment


def _restore_into_older(dsn: str, file: Path) -> None:
    """Restore into a server older than our pg_restore, without the one setting that it lacks."""
    address, environment = _address(dsn)
    read = [str(binaries() / "pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(file)]
    write = [
        str(binaries() / "psql"),
        "--no-psqlrc",
        "--quiet",
        "--single-transaction",
        "--set=ON_ERROR_STOP=1",
        address,
    ]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(read, stdout=subprocess.PIPE, stderr=said) as source,
        subprocess.Popen(write, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment) as sink,
    ):
        assert source.stdout is not None
        assert sink.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # psql stopped at an error, which it tells
            for number, line in enumerate(source.stdout):
                if number > 40 or not line.startswith(b"SET transaction_timeout"):
                    sink.stdin.write(line)
        if source.wait() != 0:
            sink.kill()  # before it sees an end of the text and commits half of it
        with contextlib.suppress(BrokenPipeError):
            sink.stdin.close()
        sink.wait()
        said.seek(0)
        if source.returncode or sink.returncode:
            raise TransientError(
                f"The restore failed: {last_line(said.read().decode())}", "Put it right and try again."
            )
