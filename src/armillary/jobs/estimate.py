"""What work would take, from what work like it has taken; and what a submission would come to, without submitting it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Registered
from armillary.base.db import Transaction
from armillary.base.units import human_duration
from armillary.jobs import store
from armillary.jobs.job import JobRequest, Submission
from armillary.jobs.submit import submit_many

RUNS = 500  # the newest jobs of an algorithm that are looked at


@dataclass(frozen=True)
class History:
    """How long jobs of an algorithm took, all attempts of each together; of one version, or of all if that never ran."""

    runs: int
    is_of_version: bool
    mean_seconds: float
    median_seconds: float
    p90_seconds: float


async def history(tx: Transaction, actor: Actor, registered: Registered) -> History | None:
    """What is known of an algorithm from the newest of its successes that the actor may see."""
    row = await store.durations(tx, actor.scope, registered.algorithm.id, registered.digest, RUNS)
    return History(**row) if row else None


async def foresee(tx: Transaction, actor: Actor, requests: Sequence[JobRequest]) -> list[Submission]:
    """What each submission would come to: they are submitted in a part that is taken back."""
    found: list[Submission] = []
    with suppress(psycopg.Rollback):
        async with tx.savepoint():
            found = await submit_many(tx, actor, requests)
            raise psycopg.Rollback
    tx.woken.clear()  # nothing has come to be that anybody should look for
    return found


def known(history: History | None, name: str, version: str, limit_seconds: float, attempts: int) -> str:
    """On what an estimate rests, in words."""
    limit = f"It may take up to its limit of {human_duration(limit_seconds)} per attempt, {attempts} attempts at most."
    if history is None:
        return f"No run of {name} is known. {limit}"
    times = f"median {human_duration(history.median_seconds)}, 9 of 10 within {human_duration(history.p90_seconds)}"
    if history.is_of_version:
        return f"{_runs(history.runs)} of {name} {version}: {times}."
    return f"No run of {name} {version} is known; {_runs(history.runs)} of other versions: {times}. {limit}"


def _runs(runs: int) -> str:
    return "The last run" if runs == 1 else f"The last {runs} runs"
