"""After an attempt that did not succeed: again? when? with what? Pure, so that every case is a line in a test."""

from collections.abc import Sequence
from dataclasses import dataclass

from armillary.algorithms.algorithm import ClassPolicy, ErrorClass, Resources, RetryPolicy

# Nobody's fault and no sign of a bad job: tried again however often, and never counted.
UNCOUNTED = frozenset({ErrorClass.LOST, ErrorClass.PREEMPTED})
UNCOUNTED_AT_ONCE = 3  # from the fourth loss of one job on there is a pause: it may be what kills its workers
LONGEST_DELAY_SECONDS = 600.0  # after losses


@dataclass(frozen=True)
class Retry:
    """Try again after a pause, with these resources, in this pool (none: where it is).

    `failures` is what has been counted so far.
    """

    delay_seconds: float
    resources: Resources
    failures: int
    reason: str
    pool: str | None = None


@dataclass(frozen=True)
class NoRetry:
    """It stays failed."""

    failures: int
    reason: str


def decide(
    policy: RetryPolicy,
    error_class: ErrorClass,
    *,
    attempt: int,
    failures: int,
    resources: Resources,
    jitter: float,
    earlier: Sequence[ErrorClass] | None = None,
) -> Retry | NoRetry:
    """What follows attempt number `attempt`; `failures` were counted before it, `jitter` is random in [0, 1).

    `earlier` are the classes of those failures, which count where a class has a budget of its own.
    """
    special = policy.on.get(error_class, ClassPolicy())
    if error_class in UNCOUNTED:
        losses = attempt - failures
        late = losses - UNCOUNTED_AT_ONCE
        delay = 0.0 if late <= 0 else _delay(1.0, LONGEST_DELAY_SECONDS, late, jitter)
        reason = f"Waits for attempt {attempt + 1}; being {error_class} is not counted."
        return Retry(delay, resources, failures, reason, special.pool)
    before = failures if earlier is None else sum(policy.shares_budget(error_class, one) for one in earlier)
    failures, same = failures + 1, before + 1
    if error_class not in policy.on:
        return NoRetry(failures, f"A failure of the class {error_class} is not tried again.")
    allowed = special.attempts or policy.attempts
    if same >= allowed:
        so = f" so ({error_class})" if special.attempts else ""
        return NoRetry(failures, f"It failed{so} {same} of {allowed} times allowed.")
    first = policy.delay_seconds if special.delay_seconds is None else special.delay_seconds
    reason = f"Waits for attempt {attempt + 1} after failure {same} of {allowed} allowed."
    return Retry(
        _delay(first, policy.longest_delay_seconds, same, jitter),
        resources.grown(special.grow_memory, special.grow_disk, special.grow_time),
        failures,
        reason,
        special.pool,
    )


def _delay(first_seconds: float, longest_seconds: float, times: int, jitter: float) -> float:
    """Twice as long each time, and spread by half, so that what failed together does not come back together."""
    return min(longest_seconds, first_seconds * 2.0 ** min(times - 1, 30)) * (1 + jitter) / 1.5
