"""Dead workers: those that died lately, with what became of their jobs; and those that nobody has declared dead yet."""

from collections.abc import Sequence
from datetime import timedelta

from armillary.pools import observe
from armillary.pools.pool import Seen
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import listed, several, span

LATELY = timedelta(minutes=10)
MANY = 5  # so many are no accident: something kills them
LATE = timedelta(seconds=30)  # what the pools' reconciler has to declare a silent worker gone


async def find(view: View) -> list[Finding]:
    """Ask for both."""
    async with view.database.transaction() as tx:
        dead = await observe.dead(tx, LATELY)
        silent = await observe.silent(tx, view.settings.pools.time_to_live, LATE)
    return decide(dead, silent)


def decide(dead: Sequence[Seen], silent: Sequence[Seen]) -> list[Finding]:
    """One finding for the dead of each pool, however many died together; one for each that is silent."""
    found = [_dead([one for one in dead if one.pool == pool]) for pool in sorted({one.pool for one in dead})]
    found += [
        Finding(
            subject=f"worker:{one.id}",
            severity="error",
            reason=f"Worker {one.id} of pool {one.pool} on {one.host} was not heard of for {span(one.silent_for)}, and "
            "nobody has declared it gone: what it holds runs nowhere else.",
            remedy="Does a server with the roles web and pools run, and has it reached its database? See its log.",
            group=one.group,
        )
        for one in silent
    ]
    return found


def _dead(dead: Sequence[Seen]) -> Finding:
    pool, jobs = dead[0].pool, sum(one.lost_jobs or 0 for one in dead)
    hosts = listed([f"{one.host} ({one.reason.rstrip('.')})" for one in dead])
    return Finding(
        subject=f"pool:{pool}",
        severity="notice" if len(dead) < MANY else "warning",
        reason=f"{several(len(dead), 'worker')} of pool {pool} died within {span(LATELY)}: {hosts}.",
        action=f"{several(jobs, 'job')} in hand went back to the queue, uncounted." if jobs else "No job was in hand.",
        remedy=f"`armillary worker list --pool {pool} --all` shows each with its reason.",
        group=dead[0].group,
    )


SWEEP = Sweep("workers", "Workers that died, or fell silent.", timedelta(seconds=5), find)
