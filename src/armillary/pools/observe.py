"""What an observer may ask of pools and workers; nothing here changes anything."""

from collections.abc import Sequence
from datetime import timedelta

from armillary.accounts.actor import system
from armillary.base.db import Transaction
from armillary.pools import store
from armillary.pools.pool import MachineSeen, PoolSeen, Seen, read


async def pools(tx: Transaction) -> list[PoolSeen]:
    """Every pool with its workers by state."""
    counts, idle = await store.counts(tx), await store.idle_counts(tx)
    return [
        PoolSeen(
            pool=read(row["spec"]),
            group=row["group"],
            workers=counts.get(row["id"], {}),
            idle=idle.get(row["id"], 0),
            size=store.read_size(row["size"]) if row["size"] else None,
            wanted=row["wanted"],
            why=row["why"],
        )
        for row in await store.visible(tx, system("watchdog").scope)
    ]


async def silent(tx: Transaction, time_to_live: timedelta, late: timedelta) -> list[Seen]:
    """Workers that should have been declared gone so long ago."""
    return await store.seen_silent(tx, time_to_live, late)


async def dead(tx: Transaction, within: timedelta) -> list[Seen]:
    """Workers that died lately."""
    return await store.seen_dead(tx, within)


async def quarantined(tx: Transaction) -> list[Seen]:
    """Workers that are set apart."""
    return await store.seen_quarantined(tx)


async def short_of_disk(tx: Transaction, below_bytes: int) -> list[MachineSeen]:
    """Machines whose disk, where jobs run, has less free than this."""
    return await store.seen_short_of_disk(tx, below_bytes)


async def off_clock(tx: Transaction, beyond: timedelta) -> list[MachineSeen]:
    """Machines whose clock differs from the database's by more than this."""
    return await store.seen_off_clock(tx, beyond.total_seconds())


async def idle(tx: Transaction, pools: Sequence[str], at_least: timedelta) -> list[Seen]:
    """Live workers of these pools that have been idle for so long, although nothing kept them from work."""
    return await store.seen_idle(tx, pools, at_least)
