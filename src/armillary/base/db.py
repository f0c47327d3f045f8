"""The database: a pool of connections, `transaction()`, and wakes that go out after each commit."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic_core import from_json, to_json

from armillary.base.errors import ArmillaryError, TransientError
from armillary.base.wakes import Wakes

Q = TypeVar("Q")
T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any]
Row = dict[str, Any]

# A pool by itself pauses twice as long after each failed try, up to minutes after the database is back.
_RECONNECT_SECONDS = 1.0

# A statement is prepared once a connection has run it five times (psycopg's default), and the database keeps its plan if that is as
# good as one for the values at hand: half of what a small transaction costs is parsing and planning. Where the plan hangs on
# how many rows are asked for, the number stands in the text, rounded up (`about`).
_OPTIONS = "-c timezone=UTC -c application_name=armillary"


def about(count: int) -> int:
    """A power of two, no less than `count`: a limit that is part of a statement's text, of which there are few."""
    return 1 << max(0, count - 1).bit_length()


def jsonb(value: Any) -> Jsonb:
    """A value for a jsonb column; ids and times in it become texts."""
    return Jsonb(value)


def _dumps(value: Any) -> str | bytes:
    # A third of the time that the standard library takes, but no deeper than some 200 levels.
    try:
        return to_json(value)
    except ValueError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _loads(data: str | bytes) -> Any:
    try:
        return from_json(data, cache_strings="keys")
    except ValueError:
        return json.loads(data)


set_json_dumps(_dumps)
set_json_loads(_loads)


class Transaction:
    """One open transaction; whoever opened it decides what is atomic."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.woken: set[str] = set()

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement; returns how many rows it touched."""
        return (await self.connection.execute(sql, params)).rowcount

    async def execute_many(self, sql: str, params: Iterable[Params]) -> None:
        """Run a statement for each set of parameters, in one round trip."""
        async with self.connection.cursor() as cursor:
            await cursor.executemany(sql, params)

    async def rows(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows, each a dictionary."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(sql, params)
            return await cursor.fetchall()

    async def row(self, sql: str, params: Params = ()) -> Row | None:
        """The first row, or nothing."""
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(sql, params)
            return await cursor.fetchone()

    async def all(self, cls: type[T], sql: str, params: Params = ()) -> list[T]:
        """All rows, each made into a `cls` by its column names."""
        async with self.connection.cursor(row_factory=class_row(cls)) as cursor:
            await cursor.execute(sql, params)
            return await cursor.fetchall()

    async def one(self, cls: type[T], sql: str, params: Params = ()) -> T | None:
        """The first row as a `cls`, or nothing."""
        async with self.connection.cursor(row_factory=class_row(cls)) as cursor:
            await cursor.execute(sql, params)
            return await cursor.fetchone()

    async def value(self, sql: str, params: Params = ()) -> Any:
        """The first column of the first row, or None."""
        async with self.connection.cursor() as cursor:
            await cursor.execute(sql, params)
            row = await cursor.fetchone()
            return None if row is None else row[0]

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that may fail and be undone alone."""
        async with self.connection.transaction():
            yield

    async def together(
        self, work: Callable[[Sequence[Q]], Awaitable[Sequence[T]]], wanted: Sequence[Q]
    ) -> list[T | ArmillaryError]:
        """An answer for each of `wanted`: all in one helping, or, where that is refused, in halves, so that one leaves
        the others."""
        if not wanted:
            return []
        try:
            async with self.savepoint():
                return [*await work(wanted)]
        except ArmillaryError as error:
            if len(wanted) == 1:
                return [error]
        half = len(wanted) // 2
        return await self.together(work, wanted[:half]) + await self.together(work, wanted[half:])

    def wake(self, channel: str) -> None:
        """Wake whoever waits on `channel`, here and on the other servers, once this has been committed."""
        self.woken.add(channel)


class Database:
    """The connections of one process."""

    def __init__(self, dsn: str, *, connections: int = 8) -> None:
        self.dsn = dsn
        self.wakes = Wakes(dsn)
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=30,
            reconnect_timeout=_RECONNECT_SECONDS,
            reconnect_failed=_try_again,
            kwargs={"autocommit": True, "options": _OPTIONS},
        )

    async def open(self) -> None:
        """Connect; `TransientError` if the database does not answer."""
        try:
            await self._pool.open(wait=True, timeout=15)
        except PoolTimeout as error:
            raise TransientError(
                "The database does not answer.", "Check that it runs and that its DSN is right."
            ) from error
        await self.wakes.open()

    async def close(self) -> None:
        """Let go of every connection."""
        await self.wakes.close()
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """All or nothing; wakes go out after the commit."""
        try:
            async with self._pool.connection() as connection:
                tx = Transaction(connection)
                async with connection.transaction():
                    yield tx
        except psycopg.errors.FeatureNotSupported as error:
            # A migration by another server changed what a prepared statement returns; the rollback has forgotten all of them.
            raise TransientError("The database was migrated meanwhile.", "The same request will work now.") from error
        except (psycopg.OperationalError, PoolTimeout) as error:
            if isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure):
                raise
            if isinstance(error, psycopg.errors.DiskFull):
                raise TransientError(
                    "The database's disk is full.", "Free some space, or give it a larger disk."
                ) from error
            await self._forget_broken_connections()
            raise TransientError(
                "The database did not answer.", "The same request will work once it is back."
            ) from error
        for channel in tx.woken:
            self.wakes.wake(channel)

    async def retry(self, work: Callable[[Transaction], Awaitable[T]], tries: int = 10) -> T:
        """Run `work` in a transaction of its own; again if it lost a deadlock."""
        for _ in range(tries - 1):
            try:
                async with self.transaction() as tx:
                    return await work(tx)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
        async with self.transaction() as tx:
            return await work(tx)

    def connections(self) -> dict[str, int]:
        """How many are busy and idle, and how many callers wait for one."""
        stats = self._pool.get_stats()
        idle = stats.get("pool_available", 0)
        return {"busy": stats.get("pool_size", 0) - idle, "idle": idle, "waiting": stats.get("requests_waiting", 0)}

    async def _forget_broken_connections(self) -> None:
        # After a restart of PostgreSQL every pooled connection is dead: find them all now, not one per request.
        try:
            await self._pool.check()
        except (psycopg.OperationalError, PoolTimeout):
            return


async def _try_again(pool: AsyncConnectionPool[Any]) -> None:
    """Whoever waits for a connection waits for the database and no longer, however long it was away."""
    await pool.check()
