"""What was set apart and waits for somebody to mend it: quarantined workers and paused algorithms."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from armillary.accounts.actor import system
from armillary.jobs import pause
from armillary.pools import observe
from armillary.pools.pool import Seen
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View


async def find(view: View) -> list[Finding]:
    """Ask for both."""
    async with view.database.transaction() as tx:
        return decide(await observe.quarantined(tx), await pause.paused(tx, system("watchdog")))


def decide(workers: Sequence[Seen], pauses: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """One each, with the command that takes it back."""
    found = [
        Finding(
            subject=f"worker:{one.id}",
            severity="warning",
            reason=f"Worker {one.id} of pool {one.pool} on {one.host} is quarantined: {one.reason}",
            action="It gets no work; what it failed went back to the queue, uncounted.",
            remedy=f"Mend what the reason says, then `armillary worker release {one.id}`.",
            group=one.group,
        )
        for one in workers
    ]
    found += [
        Finding(
            subject=f"algorithm:{one['algorithm']}/{one['version']}",
            severity="warning",
            reason=f"{one['algorithm']} {one['version']} is paused by {one['paused_by']}: {one['reason']}",
            action="Its jobs are held with that reason.",
            remedy=f"`armillary algorithm resume {one['algorithm']} --version {one['version']}` lets them run again.",
            group=one["group"],
        )
        for one in pauses
    ]
    return found


SWEEP = Sweep(
    "quarantine", "Workers and algorithms that are set apart until somebody mends them.", timedelta(seconds=10), find
)
