"""Bring a database to this version: each migration once, in order, all servers but one waiting."""

import hashlib
from dataclasses import dataclass
from importlib import resources

import psycopg

from armillary.base.errors import Conflict, TransientError
from armillary.base.ids import new_id

LOCK = 0x61726D696C  # 'armil': the advisory lock that one migrating server holds
LOCK_SECONDS = 30


@dataclass(frozen=True)
class Migration:
    """One SQL file, named by the date and time of its making."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    folder = resources.files("armillary.schema") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(file.name.removesuffix(".sql"), file.read_text()) for file in files]


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing; returns the names applied. A database newer than this version is refused."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await _lock(connection)
        known = await _applied(connection)
        wanted = migrations()
        _check(known, wanted)
        missing = [migration for migration in wanted if migration.name not in known]
        for migration in missing:
            await _apply(connection, migration)
        await connection.execute("select armillary_partitions()")
        await connection.execute("insert into instance (id) values (%s) on conflict do nothing", [new_id()])
        return [migration.name for migration in missing]


async def _lock(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    await connection.execute(f"set lock_timeout = '{LOCK_SECONDS}s'")
    try:
        await connection.execute("select pg_advisory_lock(%s)", [LOCK])
    except psycopg.errors.LockNotAvailable as error:
        raise TransientError(
            "Another server has been migrating the database for 30 s.", "Try again when it is done."
        ) from error


async def _applied(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> dict[str, str]:
    await connection.execute(
        """create table if not exists migration (
            name text primary key, sha256 text not null, applied_at timestamptz not null default clock_timestamp())"""
    )
    rows = await (await connection.execute("select name, sha256 from migration")).fetchall()
    return {str(name): str(sha256) for name, sha256 in rows}


def _check(known: dict[str, str], wanted: list[Migration]) -> None:
    by_name = {migration.name: migration for migration in wanted}
    for name, sha256 in known.items():
        if name not in by_name:
            raise Conflict(
                f"The database has migration {name}, which this version of Armillary does not know.",
                "Run the version that made it, or a newer one.",
            )
        if by_name[name].sha256 != sha256:
            raise Conflict(f"Migration {name} was changed after it had been applied.", "Restore the released file.")


async def _apply(connection: psycopg.AsyncConnection[tuple[object, ...]], migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text.encode())
        await connection.execute(
            "insert into migration (name, sha256) values (%s, %s)", [migration.name, migration.sha256]
        )
