"""Clock skew: machines whose clock differs from the database's, which is the one that decides."""

from collections.abc import Sequence
from datetime import timedelta

from armillary.base import servers
from armillary.base.servers import Living
from armillary.pools import observe
from armillary.pools.pool import MachineSeen
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import listed, span

TOLERATED = timedelta(seconds=5)  # a heartbeat may be on its way for a while, and looks late by that


async def find(view: View) -> list[Finding]:
    """Read how far off servers and workers were when they were last heard of."""
    async with view.database.transaction() as tx:
        return decide(await observe.off_clock(tx, TOLERATED), await servers.living(tx))


def decide(machines: Sequence[MachineSeen], living: Sequence[Living]) -> list[Finding]:
    """One finding for each machine."""
    ahead = {one.host: timedelta(seconds=one.clock_ahead_seconds) for one in machines}
    users = {one.host: f"workers of pool {one.pool}" for one in machines}
    for server in living:
        skew = timedelta(seconds=server.told.get("clock_ahead_seconds", 0.0))
        if abs(skew) > TOLERATED:
            ahead[server.host] = skew
            users[server.host] = listed([*([users[server.host]] if server.host in users else []), "a server"])
    return [
        Finding(
            subject=f"host:{host}",
            severity="warning",
            reason=f"The clock of {host} ({users[host]}) is {span(skew)} {'ahead of' if skew > timedelta(0) else 'behind'} "
            "the database's: times in logs, products and signed links made there are off by that.",
            action="Leases, deadlines and retries are not affected: only the database's clock counts for them.",
            remedy=f"Let a time service set it: `timedatectl set-ntp true` on {host}.",
        )
        for host, skew in sorted(ahead.items())
    ]


SWEEP = Sweep("clocks", "Machines whose clock is wrong.", timedelta(seconds=15), find)
