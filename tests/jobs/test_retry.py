import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.algorithms.algorithm import ClassPolicy, ErrorClass, Resources, RetryPolicy
from armillary.jobs.retry import LONGEST_DELAY_SECONDS, UNCOUNTED, NoRetry, Retry, decide

GRANTED = Resources(1, 1000, 1000, 60)
classes = st.sampled_from([one for one in ErrorClass if one is not ErrorClass.CANCELLED])
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 5),
    on=st.dictionaries(
        classes,
        st.builds(
            ClassPolicy,
            attempts=st.none() | st.integers(1, 5),
            delay_seconds=st.none() | st.floats(0, 60),
            grow_memory=st.floats(1, 4),
            grow_disk=st.floats(1, 4),
        ),
    ),
    delay_seconds=st.floats(0, 60),
)
ALL = {one: ClassPolicy() for one in ErrorClass}


@given(policies, st.lists(classes, max_size=30), st.floats(0, 1, exclude_max=True))
def test_a_job_fails_at_most_as_often_as_its_policy_allows_whatever_is_lost_between(policy, errors, jitter):
    failures, resources, counted = 0, GRANTED, []
    for attempt, error_class in enumerate(errors, 1):
        decision = decide(
            policy, error_class, attempt=attempt, failures=failures, resources=resources, jitter=jitter, earlier=counted
        )
        if error_class not in UNCOUNTED:
            counted.append(error_class)
        assert decision.failures == len(counted)
        own = policy.on.get(error_class, ClassPolicy()).attempts
        mine = [one for one in counted if own is None or one is error_class]
        if own is None:
            mine = [one for one in counted if policy.on.get(one, ClassPolicy()).attempts is None]
        allowed = own or policy.attempts
        if isinstance(decision, NoRetry):
            assert error_class not in UNCOUNTED
            assert error_class not in policy.on or len(mine) >= allowed
            return
        assert error_class in UNCOUNTED or len(mine) < allowed
        assert 0 <= decision.delay_seconds <= LONGEST_DELAY_SECONDS * 4 / 3
        assert decision.resources.memory_bytes >= resources.memory_bytes
        failures, resources = decision.failures, decision.resources


def test_a_lost_job_is_tried_again_at_once_but_one_that_is_lost_again_and_again_waits():
    def delay(attempt):
        decision = decide(RetryPolicy(), ErrorClass.LOST, attempt=attempt, failures=0, resources=GRANTED, jitter=0.5)
        assert isinstance(decision, Retry)
        return decision.delay_seconds

    assert [delay(attempt) for attempt in range(1, 8)] == [0, 0, 0, 1, 2, 4, 8]
    assert delay(100) == LONGEST_DELAY_SECONDS


def test_memory_grows_only_for_what_ran_out_of_it():
    policy = RetryPolicy(3, ALL | {ErrorClass.OUT_OF_MEMORY: ClassPolicy(grow_memory=1.5)}, 0)
    found = {
        one: decide(policy, one, attempt=1, failures=0, resources=GRANTED, jitter=0).resources.memory_bytes
        for one in (ErrorClass.OUT_OF_MEMORY, ErrorClass.INFRASTRUCTURE)
    }
    assert found == {ErrorClass.OUT_OF_MEMORY: 1500, ErrorClass.INFRASTRUCTURE: 1000}


def test_pauses_double_and_spread():
    policy = RetryPolicy(10, ALL, 10)

    def delay(failures, jitter):
        return decide(
            policy, ErrorClass.TIMED_OUT, attempt=failures + 1, failures=failures, resources=GRANTED, jitter=jitter
        ).delay_seconds

    assert [round(delay(n, 0.5)) for n in range(4)] == [10, 20, 40, 80]
    assert delay(0, 0) == pytest.approx(6.67, abs=0.01)
    assert delay(0, 0.999) == pytest.approx(13.33, abs=0.01)


def test_a_class_may_have_its_own_pause_growth_and_pool():
    special = ClassPolicy(attempts=2, delay_seconds=0, grow_disk=2, grow_time=3, pool="large")
    policy = RetryPolicy(1, {ErrorClass.OUT_OF_DISK: special})
    resources = Resources(1, 1000, 1000, 60, soft_time_seconds=50)
    found = decide(policy, ErrorClass.OUT_OF_DISK, attempt=1, failures=0, resources=resources, jitter=0.5)
    assert isinstance(found, Retry)
    assert (found.delay_seconds, found.pool) == (0, "large")
    assert found.resources == Resources(1, 1000, 2000, 180, soft_time_seconds=150)
    assert "failure 1 of 2 allowed" in found.reason
    last = decide(
        policy, ErrorClass.OUT_OF_DISK, attempt=2, failures=1, resources=resources, jitter=0.5,
        earlier=[ErrorClass.OUT_OF_DISK],
    )  # fmt: skip
    assert last.reason == "It failed so (out of disk) 2 of 2 times allowed."
