"""Calls made at the same time travel together, and each gets its own answer."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from armillary.runner.batch import Batch


def test_what_comes_during_a_call_makes_up_the_next() -> None:
    sizes: list[int] = []
    first_is_under_way, go_on = threading.Event(), threading.Event()

    def double(numbers: Sequence[int]) -> list[int]:
        sizes.append(len(numbers))
        first_is_under_way.set()
        go_on.wait(10)
        return [2 * number for number in numbers]

    batch = Batch(double, 10)
    with ThreadPoolExecutor(25) as threads:
        first = threads.submit(batch, 0)
        first_is_under_way.wait(10)
        others = [threads.submit(batch, number) for number in range(1, 25)]
        while len(batch._waiting) < 24:
            pass
        go_on.set()
        assert [first.result(), *(other.result() for other in others)] == [2 * number for number in range(25)]
    assert sizes == [1, 10, 10, 4]


def test_an_answer_need_not_be_waited_for() -> None:
    go_on = threading.Event()

    def negate(numbers: Sequence[int]) -> list[int]:
        go_on.wait(10)
        return [-number for number in numbers]

    batch = Batch(negate, 10)
    answers = [batch.later(number) for number in range(3)]
    assert not any(answer.done() for answer in answers)
    go_on.set()
    assert [answer.result(10) for answer in answers] == [0, -1, -2]
    assert batch(3) == -3


def test_a_failure_reaches_everybody_in_the_batch_and_nobody_after() -> None:
    def fail_on_negative(numbers: Sequence[int]) -> list[int]:
        if min(numbers) < 0:
            raise ValueError("negative")
        return list(numbers)

    batch = Batch(fail_on_negative, 10)
    with pytest.raises(ValueError, match="negative"):
        batch(-1)
    assert batch(1) == 1
