"""The pool of connections."""

import asyncio
import contextlib
from itertools import count

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from armillary.base.db import Database

REFUSALS = 6  # a pool that doubles its pauses would come again after half a minute; `open` waits half of that


async def pump(source, target):
    while data := await source.read(1 << 16):
        target.write(data)
    target.close()


async def test_a_database_that_refuses_again_and_again_is_soon_asked_once_more(database):
    place = conninfo_to_dict(database.dsn)
    socket = f"{place['host']}/.s.PGSQL.{place.get('port', 5432)}"
    numbers = count()

    async def answer(reader, writer):
        if next(numbers) < REFUSALS:
            writer.close()
            return
        there, back = await asyncio.open_unix_connection(socket)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as line:
        port = line.sockets[0].getsockname()[1]
        off = {"sslmode": "disable", "gssencmode": "disable"}
        away = Database(make_conninfo(database.dsn, host="127.0.0.1", port=port, **off))
        await away.open()
        async with away.transaction() as tx:
            assert await tx.value("select 1") == 1
        await away.close()
        assert next(numbers) > REFUSALS
