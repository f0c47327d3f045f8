"""Is it the worker or the algorithm? Judge failures by how the same algorithms fare elsewhere. Pure.

A worker whose disk has become read-only fails every job at once, and so takes the next, and the next: without a judge it
empties the queue into failures. Here a worker that has failed `HANDFUL` different jobs in a row gets nothing more until
it was judged. If its failures are too many to be chance, given how often the same algorithms fail on other workers that do
well, the worker is set apart; if an algorithm fails wherever it is tried, the algorithm is paused; otherwise the worker is
tried with one job after a pause, during which it is judged again.

Workers that fail too bear no witness, however well they did before: what they share may be broken, as a disk that is full, and
to set them all apart would mend nothing. That others fail is not known at once, so nobody is set apart before it has failed
for `SETTLED`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.algorithms.algorithm import BLAMELESS, HANDFUL
from armillary.jobs.job import AttemptOutcome, Ending

CHANCE = 1e-5  # a streak less likely than this is no accident
SETTLED = timedelta(seconds=5)  # since the first failure of a streak
PAUSE_AFTER = 10  # different jobs that failed in a row everywhere, after which an algorithm is paused
REMEMBERED = timedelta(hours=1)  # counts are halved after this long, so that the past fades
LONGEST_TRIAL = timedelta(seconds=10)
ENOUGH = 100  # successes of an algorithm on a worker, after which more say nothing new
_TIMES = ("since", "failing_since")
MOST_KEPT = 20  # failures of a streak that are remembered, and algorithms of a record


@dataclass(frozen=True)
class Failure:
    """A job that failed on a worker."""

    job: UUID
    lease: int
    digest: str  # of its algorithm
    algorithm: str
    reason: str


@dataclass(frozen=True)
class Tally:
    """How often an algorithm went well and badly, lately."""

    succeeded: float = 0.0
    failed: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.succeeded + other.succeeded, self.failed + other.failed)

    @property
    def failure_rate(self) -> float:
        """The chance that a job fails, by Laplace's rule of succession."""
        return (self.failed + 1) / (self.succeeded + self.failed + 2)


@dataclass(frozen=True)
class Conduct:
    """How a worker has done: its failures since the last success, and each algorithm's tally."""

    streak: Sequence[Failure] = ()  # the last of each job
    record: Mapping[str, Tally] = field(default_factory=dict)
    since: datetime | None = None  # counts were halved
    failing_since: datetime | None = None

    @property
    def needs_judging(self) -> bool:
        """Whether it has failed so many different jobs that it gets nothing more for now."""
        return len(self.streak) >= HANDFUL

    def is_changed_by(self, endings: Sequence[Ending]) -> bool:
        """Whether these say anything new: a hundred more successes of what goes well do not."""
        return bool(self.streak) or any(
            ending.outcome is not AttemptOutcome.SUCCEEDED
            or self.record.get(ending.held.algorithm_digest, Tally()).succeeded < ENOUGH
            for ending in endings
        )


@dataclass(frozen=True)
class Quarantine:
    """Set the worker apart; the jobs of its streak go back without being counted."""

    reason: str


@dataclass(frozen=True)
class Pause:
    """Pause an algorithm: it fails everywhere."""

    digest: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """Nobody can tell yet: give it one more job, after a while."""

    after: timedelta


def follow(conduct: Conduct, endings: Sequence[Ending], now: datetime) -> Conduct:
    """A worker's conduct after these ends."""
    if conduct.since is None or now - conduct.since > REMEMBERED:
        faded = {name: Tally(one.succeeded / 2, one.failed / 2) for name, one in conduct.record.items()}
        conduct = replace(conduct, since=now, record=faded)
    streak, record = list(conduct.streak), dict(conduct.record)
    failing_since = conduct.failing_since if streak else None
    for ending in endings:
        digest = ending.held.algorithm_digest
        if ending.outcome is AttemptOutcome.SUCCEEDED:
            streak.clear()
            failing_since = None
            record[digest] = record.get(digest, Tally()) + Tally(succeeded=1)
        elif ending.outcome is AttemptOutcome.FAILED and ending.error_class not in BLAMELESS:
            held = ending.held
            streak = [failure for failure in streak if failure.job != held.job_id]
            streak.append(Failure(held.job_id, held.lease, digest, held.algorithm, ending.reason))
            record[digest] = record.get(digest, Tally()) + Tally(failed=1)
            failing_since = failing_since or now
    kept = dict(list(record.items())[-MOST_KEPT:])
    return replace(conduct, streak=streak[-MOST_KEPT:], record=kept, failing_since=failing_since)


def judge(
    streak: Sequence[Failure],
    witnesses: Mapping[str, Tally],
    elsewhere: Mapping[str, Tally],
    failing: Mapping[str, int],
    *,
    others: int,
    failing_for: timedelta,
) -> Quarantine | Pause | Trial:
    """What to make of a streak.

    `elsewhere` tallies each algorithm on the other workers, `witnesses` on those among them that do well now; `failing`
    counts the different jobs in the streaks of all workers; `others` is how many other workers of the pool live;
    `failing_for` is the time since the streak's first failure.
    """
    chance = 1.0
    for failure in streak:
        chance *= witnesses.get(failure.digest, Tally()).failure_rate
    known = all(witnesses.get(failure.digest, Tally()).succeeded > 0 for failure in streak)
    if known and chance < CHANCE and failing_for >= SETTLED:
        return Quarantine(
            f"{len(streak)} jobs in a row failed here that succeed elsewhere. The last: {streak[-1].reason}"
        )
    for digest in dict.fromkeys(failure.digest for failure in streak):
        tally = elsewhere.get(digest, Tally())
        tried_elsewhere = tally.failed > 0 or others == 0
        if failing.get(digest, 0) >= PAUSE_AFTER and tally.succeeded == 0 and tried_elsewhere:
            last = next(failure for failure in reversed(streak) if failure.digest == digest)
            return Pause(digest, f"{failing[digest]} jobs in a row failed wherever they ran. The last: {last.reason}")
    return Trial(min(LONGEST_TRIAL, timedelta(seconds=2.0 ** min(len(streak) - HANDFUL, 10))))


def to_json(conduct: Conduct) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Conduct as the columns `streak` and `record` hold it."""
    streak = [vars(failure) | {"job": str(failure.job)} for failure in conduct.streak]
    tallies = {name: [one.succeeded, one.failed] for name, one in conduct.record.items()}
    times = {name: at and at.isoformat() for name, at in vars(conduct).items() if name in _TIMES}
    return streak, times | {"tallies": tallies}


def from_json(streak: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Conduct:
    """The same the other way."""
    times = {name: datetime.fromisoformat(record[name]) for name in _TIMES if record.get(name)}
    return Conduct(
        [Failure(**one | {"job": UUID(one["job"])}) for one in map(dict, streak)],
        {name: Tally(*counts) for name, counts in record.get("tallies", {}).items()},
        **times,
    )
