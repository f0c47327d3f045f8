"""Full disks: of servers (database, store, cache) and of the machines that jobs run on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from armillary.base import servers
from armillary.base.servers import Living
from armillary.base.units import human_size
from armillary.pools import observe
from armillary.pools.pool import MachineSeen
from armillary.watchdog.finding import Finding, Severity
from armillary.watchdog.sweep import Sweep, View

FULL_BYTES = 1 << 30
LOW_BYTES = 10 << 30
LOW_PART = 0.1  # of a small disk, less than this is little; of a large one, LOW_BYTES is


@dataclass(frozen=True)
class Disk:
    """What one machine says of one disk; `use` is who needs it."""

    host: str
    use: str
    path: str
    free_bytes: int
    size_bytes: int
    group: str = "owners"


async def find(view: View) -> list[Finding]:
    """Read what servers and workers said last."""
    async with view.database.transaction() as tx:
        disks = of_servers(await servers.living(tx)) + of_workers(await observe.short_of_disk(tx, LOW_BYTES))
    return decide(disks)


def of_servers(living: Sequence[Living]) -> list[Disk]:
    """The disks of servers, each once."""
    found = {
        (one.host, disk["path"]): Disk(one.host, "server", disk["path"], disk["free_bytes"], disk["size_bytes"])
        for one in living
        for disk in one.told.get("disks", [])
    }
    return list(found.values())


def of_workers(seen: Sequence[MachineSeen]) -> list[Disk]:
    """The disks on which jobs run."""
    return [Disk(one.host, f"pool {one.pool}", "", one.disk_free_bytes, one.disk_size_bytes, one.group) for one in seen]


def severity(free_bytes: int, size_bytes: int) -> Severity | None:
    """How bad it is that a disk has so little left, if it is."""
    if free_bytes < FULL_BYTES:
        return "error"
    return "warning" if free_bytes < min(LOW_BYTES, LOW_PART * size_bytes) else None


def decide(disks: Sequence[Disk]) -> list[Finding]:
    """One finding for each disk that is nearly full."""
    return [
        _of_server(one, level) if one.use == "server" else _of_worker(one, level)
        for one in disks
        if (level := severity(one.free_bytes, one.size_bytes))
    ]


def _of_server(one: Disk, level: Severity) -> Finding:
    return Finding(
        subject=f"disk:{one.host}:{one.path}",
        severity=level,
        reason=f"The disk of {one.path} on {one.host} has {_left(one)}: when it is full, nothing can be written.",
        remedy=f"Free some space, or give it a larger disk: `df -h {one.path}` on {one.host}.",
    )


def _of_worker(one: Disk, level: Severity) -> Finding:
    return Finding(
        subject=f"disk:{one.host}:{one.use}",
        severity=level,
        reason=f"The disk of {one.host} on which jobs of {one.use} run has {_left(one)}.",
        action="Jobs that it is too small for go to other workers; one that fails what others can do is quarantined.",
        remedy=f"Free some space on {one.host}, or start its workers with a smaller --cache-size.",
        group=one.group,
    )


def _left(one: Disk) -> str:
    return f"{human_size(one.free_bytes)} free of {human_size(one.size_bytes)}"


SWEEP = Sweep("disks", "Disks of servers and workers that are nearly full.", timedelta(seconds=15), find)
