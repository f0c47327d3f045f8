"""Act on what `quarantine.py` decides: set workers apart, pause algorithms, take back what was counted wrongly."""

from collections.abc import Sequence
from uuid import UUID

from armillary.accounts.actor import Actor, system
from armillary.algorithms.register import by_digest
from armillary.base.db import Row, Transaction
from armillary.base.errors import Conflict
from armillary.base.wakes import QUEUE
from armillary.jobs.excuse import excuse
from armillary.jobs.job import AttemptOutcome, Ending
from armillary.jobs.pause import pause
from armillary.pools import quarantine, store
from armillary.pools.announce import announce

Tallies = dict[str, quarantine.Tally]


async def follow(tx: Transaction, worker: UUID, row: Row, endings: Sequence[Ending]) -> None:
    """Keep how the worker does; what fails on one that is set apart is not counted."""
    if row["state"] == "quarantined":
        failed = [(one.held.job_id, one.held.lease) for one in endings if one.outcome is AttemptOutcome.FAILED]
        await excuse(tx, system("pools"), failed, f"worker {worker} on {row['host']} is quarantined.")
        return
    if quarantine.from_json(row["streak"], row["record"]).is_changed_by(endings):
        row = await store.lock_conduct(tx, worker)  # others that hold the worker may have changed it meanwhile
        conduct = quarantine.follow(quarantine.from_json(row["streak"], row["record"]), endings, row["now"])
        await store.set_conduct(tx, worker, *quarantine.to_json(conduct), "infinity" if conduct.needs_judging else None)


async def judge(tx: Transaction) -> int:
    """Judge every worker that has failed a handful of jobs in a row; returns how many there were.

    Until one has done a job well it is judged again: others may have done meanwhile what it could not, and none need be tried.
    """
    waiting = await store.to_judge(tx)
    for row in waiting:
        await _judge(tx, row)
    return len(waiting)


async def _judge(tx: Transaction, row: Row) -> None:
    conduct = quarantine.from_json(row["streak"], row["record"])
    witnesses, elsewhere, failing = await _elsewhere(tx, row["id"], conduct)
    others = await store.live_others(tx, row["pool"], row["id"])
    failing_for = row["now"] - (conduct.failing_since or row["now"])
    verdict = quarantine.judge(conduct.streak, witnesses, elsewhere, failing, others=others, failing_for=failing_for)
    actor = system("pools")
    if isinstance(verdict, quarantine.Quarantine):
        changed = await store.set_quarantined(tx, row["id"], verdict.reason)
        await announce(tx, "worker.quarantined", changed, actor.account, verdict.reason)
        failures = [(failure.job, failure.lease) for failure in conduct.streak]
        await excuse(tx, actor, failures, f"worker {row['id']} on {row['host']} was quarantined.")
        tx.wake(QUEUE)
    elif isinstance(verdict, quarantine.Pause):
        await pause(tx, actor, await by_digest(tx, verdict.digest), verdict.reason)
        await store.forgive(tx, verdict.digest)
    elif row["pauses_until"] is None:
        streak, record = quarantine.to_json(conduct)
        await store.set_conduct(tx, row["id"], streak, record, row["now"] + verdict.after)


async def _elsewhere(
    tx: Transaction, worker: UUID, conduct: quarantine.Conduct
) -> tuple[Tallies, Tallies, dict[str, int]]:
    """How a worker's algorithms fare on those that do well now, on all others, and how many jobs of each fail everywhere."""
    digests = {failure.digest for failure in conduct.streak}
    witnesses, elsewhere = (dict.fromkeys(digests, quarantine.Tally()) for _ in range(2))
    failing: dict[str, set[UUID]] = {digest: set() for digest in digests}
    for row in await store.conducts(tx, list(digests)):
        one = quarantine.from_json(row["streak"], row["record"])
        for failure in one.streak:
            failing.get(failure.digest, set()).add(failure.job)
        if row["id"] == worker or row["state"] == "quarantined":
            continue
        does_well = row["state"] != "gone" and not one.streak
        for digest in digests & one.record.keys():
            elsewhere[digest] += one.record[digest]
            if does_well:
                witnesses[digest] += one.record[digest]
    return witnesses, elsewhere, {digest: len(jobs) for digest, jobs in failing.items()}


async def release(tx: Transaction, actor: Actor, worker: UUID) -> None:
    """Take a quarantined worker back."""
    changed = await store.release(tx, worker)
    if changed is None:
        raise Conflict(f"Worker {worker} is not quarantined.", "`armillary worker list` shows the state of each.")
    await announce(tx, "worker.released", changed, actor.account)
    tx.wake(QUEUE)


def is_barred(row: Row) -> bool:
    """Whether a worker is given nothing for now: it is set apart, or its failures are being judged."""
    return row["state"] == "quarantined" or bool(row["is_suspect"])
