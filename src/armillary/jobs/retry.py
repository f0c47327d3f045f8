"""After an attempt that did not succeed: again? when? with what? Pure, so that every case is a line in a test."""

from dataclasses import dataclass

from armillary.algorithms.algorithm import ErrorClass, Resources, RetryPolicy

# Nobody's fault and no sign of a bad job: tried again however often, and never counted.
UNCOUNTED = frozenset({ErrorClass.LOST, ErrorClass.PREEMPTED})
UNCOUNTED_AT_ONCE = 3  # from the fourth loss of one job on there is a pause: it may be what kills its workers
LONGEST_DELAY_SECONDS = 600.0


@dataclass(frozen=True)
class Retry:
    """Try again after a pause, with these resources; `failures` is what has been counted so far."""

    delay_seconds: float
    resources: Resources
    failures: int
    reason: str


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
) -> Retry | NoRetry:
    """What follows attempt number `attempt`; `failures` were counted before it, `jitter` is random in [0, 1)."""
    if error_class in UNCOUNTED:
        losses = attempt - failures
        delay = 0.0 if losses <= UNCOUNTED_AT_ONCE else _delay(1.0, losses - UNCOUNTED_AT_ONCE, jitter)
        return Retry(
            delay, resources, failures, f"Waits for attempt {attempt + 1}; being {error_class} is not counted."
        )
    failures += 1
    if error_class not in policy.on:
        return NoRetry(failures, f"A failure of the class {error_class} is not tried again.")
    if failures >= policy.attempts:
        return NoRetry(failures, f"It failed {failures} of {policy.attempts} times allowed.")
    if error_class is ErrorClass.OUT_OF_MEMORY:
        resources = resources.grown(policy.grow_memory_on_oom)
    delay = _delay(policy.delay_seconds, failures, jitter)
    reason = f"Waits for attempt {attempt + 1} after failure {failures} of {policy.attempts} allowed."
    return Retry(delay, resources, failures, reason)


def _delay(first_seconds: float, times: int, jitter: float) -> float:
    """Twice as long each time, and spread by half, so that what failed together does not come back together."""
    return min(LONGEST_DELAY_SECONDS, first_seconds * 2.0 ** min(times - 1, 30)) * (1 + jitter) / 1.5
