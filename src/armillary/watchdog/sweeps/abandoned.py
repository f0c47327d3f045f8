"""Abandoned uploads: bytes that were never committed, which the collector deletes, and whether it does."""

from datetime import timedelta

from armillary.granules import collect
from armillary.granules.collect import GRACE, Abandoned
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import several, span

LATE = timedelta(minutes=10)


async def find(view: View) -> list[Finding]:
    """Count them."""
    async with view.database.transaction() as tx:
        return decide(await collect.abandoned(tx, LATE))


def decide(abandoned: Abandoned) -> list[Finding]:
    """A notice while they wait for their time, a warning if that has passed."""
    if abandoned.overdue:
        return [
            Finding(
                subject="store",
                severity="warning",
                reason=f"The bytes of {several(abandoned.overdue, 'abandoned upload')} should have been deleted "
                f"{span(LATE)} ago or earlier, and were not.",
                remedy="Does the store refuse to delete? The log of the servers with the watchdog's role says so.",
            )
        ]
    if abandoned.waiting:
        return [
            Finding(
                subject="store",
                severity="notice",
                reason=f"{several(abandoned.waiting, 'abandoned upload')}: begun, and never committed.",
                action=f"Their bytes are deleted {span(GRACE)} after they were given up.",
            )
        ]
    return []


SWEEP = Sweep("abandoned", "Uploads that were given up, whose bytes are to be deleted.", timedelta(seconds=30), find)
