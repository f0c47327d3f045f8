"""The sweeps, one a module: each looks (thin), then decides (pure). A new one is added to `all_sweeps`."""

from armillary.watchdog.sweep import Sweep
from armillary.watchdog.sweeps import (
    abandoned,
    backlog,
    clocks,
    disks,
    loops,
    orphans,
    quarantine,
    queues,
    stuck,
    workers,
)


def all_sweeps() -> tuple[Sweep, ...]:
    """One of each, as a server needs them: that of the orphans remembers how far it has walked."""
    return (
        workers.SWEEP,
        stuck.SWEEP,
        queues.SWEEP,
        backlog.SWEEP,
        quarantine.SWEEP,
        disks.SWEEP,
        clocks.SWEEP,
        loops.SWEEP,
        abandoned.SWEEP,
        orphans.sweep(),
    )
