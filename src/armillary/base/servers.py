"""The servers of one database: that each lives, since when workers reach them, and what only one of them may do."""

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from armillary.base.db import Transaction, jsonb
from armillary.base.errors import Conflict

BEAT = timedelta(seconds=1)
LONGEST_GAP = timedelta(seconds=5)
SINGLETON_LASTS = timedelta(seconds=10)
SILENT = timedelta(seconds=10)  # a server that has not said for this long that it lives is not counted any more


@dataclass(frozen=True)
class Living:
    """A server that lives. `told`: its loops' turns, its disks, and by how many seconds its clock is ahead."""

    id: UUID
    host: str
    pid: int
    roles: Sequence[str]
    version: str
    started_at: datetime
    told: Mapping[str, Any]


async def enter(tx: Transaction, server: UUID, roles: list[str], version: str) -> None:
    """A server starts; what a killed one of this machine held need not be waited for."""
    await tx.execute(
        "insert into server (id, host, pid, roles, version) values (%s, %s, %s, %s, %s)",
        [server, socket.gethostname(), os.getpid(), roles, version],
    )
    await tx.execute("delete from server where beat_at < armillary_now() - interval '1 day'")
    neighbours = await tx.rows("select id, pid from server where host = %s", [socket.gethostname()])
    dead = [row["id"] for row in neighbours if not psutil.pid_exists(row["pid"])]
    # Were one alive after all, elsewhere under our name: `check` refuses its writes, so it steps back and nothing else.
    await tx.execute("update singleton set expires_at = '-infinity' where holder = any(%s)", [dead])


def gap(time_to_live: timedelta) -> timedelta:
    """No web server was heard of for this long: workers could not reach us, and had better not die of it."""
    return min(LONGEST_GAP, time_to_live / 2)


async def beat(tx: Transaction, server: UUID, time_to_live: timedelta, *, is_web: bool) -> None:
    """It lives; and if it serves workers, they can reach the control plane, without a gap since `reachable.since`."""
    await tx.execute("update server set beat_at = armillary_now() where id = %s", [server])
    if is_web:
        await tx.execute(
            """update reachable set beat_at = armillary_now(),
                   since = case when beat_at < armillary_now() - %s then armillary_now() else since end""",
            [gap(time_to_live)],
        )


async def tell(tx: Transaction, server: UUID, told: Mapping[str, Any], clock: datetime) -> None:
    """Keep what a server says of itself, and by how much its clock is ahead of the database's."""
    await tx.execute(
        """update server set told = %s || jsonb_build_object(
               'clock_ahead_seconds', extract(epoch from %s::timestamptz - armillary_now()))
           where id = %s""",
        [jsonb(told), clock, server],
    )


async def living(tx: Transaction) -> list[Living]:
    """Every server that lives, the eldest first."""
    return await tx.all(
        Living,
        """select id, host, pid, roles, version, started_at, told from server
           where beat_at > armillary_now() - %s order by started_at, id""",
        [SILENT],
    )


async def holder(tx: Transaction, name: str) -> UUID | None:
    """Which server does now what only one may do."""
    found: UUID | None = await tx.value(
        "select holder from singleton where name = %s and expires_at >= armillary_now()", [name]
    )
    return found


def disks(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """How full the disks of these folders are, each disk once."""
    found: dict[int, dict[str, Any]] = {}
    for folder in folders:
        usage = shutil.disk_usage(folder)
        found.setdefault(
            folder.stat().st_dev, {"path": str(folder), "free_bytes": usage.free, "size_bytes": usage.total}
        )
    return list(found.values())


async def leave(tx: Transaction, server: UUID) -> None:
    """A server stops in good order."""
    await tx.execute("delete from server where id = %s", [server])
    await tx.execute("update singleton set expires_at = '-infinity' where holder = %s", [server])


async def hold(tx: Transaction, name: str, server: UUID) -> int | None:
    """Take or keep what only one server may do; the epoch for `check`, or None while another holds it."""
    epoch: int | None = await tx.value(
        """insert into singleton (name, holder, epoch, expires_at) values (%(name)s, %(server)s, 1, armillary_now() + %(lasts)s)
           on conflict (name) do update set
               epoch = singleton.epoch + case when singleton.holder = excluded.holder then 0 else 1 end,
               holder = excluded.holder, expires_at = excluded.expires_at
           where singleton.holder = excluded.holder or singleton.expires_at < armillary_now()
           returning epoch""",
        {"name": name, "server": server, "lasts": SINGLETON_LASTS},
    )
    return epoch


async def check(tx: Transaction, name: str, epoch: int) -> None:
    """Refuse a write of whoever held the singleton before; the row stays locked until the write is committed."""
    held = await tx.value("select epoch from singleton where name = %s for share", [name])
    if held != epoch:
        raise Conflict(f"Another server has taken over {name!r}.", "Leave it to that one.")
